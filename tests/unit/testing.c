#include "testing.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "format/format.h"

/* ---------------------------------------------------------------- files */

char directory[] = "/tmp/palettize-test-XXXXXX";

static struct kept {
    struct kept *next;
    _Alignas(max_align_t) unsigned char memory[];
} * kept;

void *keep_memory(size_t size)
{
    struct kept *made = calloc(1, sizeof *made + size);
    assert_non_null(made);
    made->next = kept;
    kept = made;
    return made->memory;
}

int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

int remove_directory(void **state)
{
    (void)state;
    path_remove(directory);
    for (struct kept *next; kept; kept = next) {
        next = kept->next;
        free(kept);
    }
    return access(directory, F_OK) == 0 ? -1 : 0;
}

const char *in(const char *name)
{
    char *path = keep_memory(sizeof directory + strlen(name) + 1);
    sprintf(path, "%s/%s", directory, name);
    for (char *slash = path + sizeof directory; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        mkdir(path, 0777);
        *slash = '/';
    }
    return path;
}

void write_data(const char *path, const void *data, size_t size)
{
    file_writer writer;
    assert_ok(writer_open(&writer, path));
    writer_write(&writer, data, size);
    assert_ok(writer_close(&writer));
}

void write_text(const char *path, const char *text)
{
    write_data(path, text, strlen(text));
}

bool same_files(const char *a, const char *b)
{
    file_map x, y;
    assert_ok(file_map_open(a, &x));
    assert_ok(file_map_open(b, &y));
    bool same = x.size == y.size && (x.size == 0 || memcmp(x.data, y.data, x.size) == 0);
    file_map_close(&x);
    file_map_close(&y);
    return same;
}

void assert_same_files(const char *a, const char *b)
{
    if (!same_files(a, b))
        print_error("%s and %s differ\n", a, b);
    assert_true(same_files(a, b));
}

/* ---------------------------------------------------------------- models */

pal_options *options_with(const char *const *pairs)
{
    pal_options *options;
    assert_ok(pal_options_new(&options));
    for (; *pairs; pairs += 2)
        assert_ok(pal_options_set(options, pairs[0], pairs[1]));
    return options;
}

void compress(const char *from, const char *to, const char *const *pairs)
{
    pal_model *model;
    pal_options *options = options_with(pairs);
    assert_ok(pal_model_open(from, &model));
    assert_ok(pal_compress(model, options, NULL, NULL, NULL));
    assert_ok(pal_model_save(model, to, NULL));
    pal_model_free(model);
    pal_options_free(options);
}

void decompress(const char *from, const char *to)
{
    pal_model *model;
    assert_ok(pal_model_open(from, &model));
    assert_ok(pal_decompress(model, NULL, NULL, NULL));
    assert_ok(pal_model_save(model, to, NULL));
    pal_model_free(model);
}

void *dense_values(const pal_model *model, size_t i)
{
    const model_weight *weight = &model->weights[i];
    size_t bytes = weight->info.elements * pal_dtype_bits(weight->info.dtype) / 8;
    void *values = malloc(bytes);
    assert_non_null(values);
    if (weight->info.storage == PAL_STORAGE_DENSE) {
        memcpy(values, weight->dense, bytes);
    } else {
        palette *palette;
        assert_ok(model->format->read_palette(model, i, &palette));
        assert_ok(palette_decode(palette, values));
        palette_free(palette);
    }
    return values;
}

size_t assert_reported(const pal_report *report, const pal_model *saved)
{
    size_t compressed = 0;
    assert_int_equal(pal_report_count(report), pal_model_weight_count(saved));
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        const pal_weight *weight = pal_model_weight(saved, i);
        assert_string_equal(entry->weight.name, weight->name);
        assert_string_equal(entry->weight.function, weight->function);
        assert_int_equal(entry->weight.storage, weight->storage);
        assert_int_equal(entry->weight.nbits, weight->nbits);
        assert_int_equal(entry->weight.num_luts, weight->num_luts);
        assert_int_equal(entry->weight.bytes, weight->bytes);
        assert_int_equal(entry->weight.channel_axis, weight->channel_axis);
        assert_memory_equal(entry->weight.shape, weight->shape, sizeof weight->shape);
        assert_true(entry->status == PAL_WEIGHT_COMPRESSED || *entry->reason);
        compressed += entry->status == PAL_WEIGHT_COMPRESSED;
    }
    return compressed;
}

size_t find_weight(const pal_model *model, const char *name)
{
    size_t i = 0;
    while (i < pal_model_weight_count(model) && strcmp(pal_model_weight(model, i)->name, name) != 0)
        i++;
    assert_true(i < pal_model_weight_count(model));
    return i;
}
