#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* An object or array that lost a member for want of memory is not written. */
static bool incomplete;

void json_put(json_t *object, const char *key, json_t *value)
{
    incomplete = json_object_set_new(object, key, value) || incomplete;
}

void json_append(json_t *array, json_t *value)
{
    incomplete = json_array_append_new(array, value) || incomplete;
}

/* A string from a file: bytes that are no UTF-8 become question marks. */
static json_t *text(const char *from)
{
    json_t *string = json_string(from);
    char *ascii = string ? NULL : strdup(from);
    if (ascii) {
        for (char *c = ascii; *c; c++)
            *c = (unsigned char)*c < 128 ? *c : '?';
        string = json_string(ascii);
        free(ascii);
    }
    return string;
}

json_t *json_finite(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

bool json_complete(void)
{
    return !incomplete;
}

void json_put_text(json_t *object, const char *key, const char *from)
{
    json_put(object, key, text(from));
}

static json_t *shape_of(const pal_weight *weight)
{
    json_t *shape = json_array();
    for (size_t d = 0; d < weight->rank; d++)
        json_append(shape, json_integer((json_int_t)weight->shape[d]));
    return shape;
}

static json_t *from_weight(const pal_weight *weight)
{
    json_t *object = json_object();
    json_put_text(object, "name", weight->name);
    json_put_text(object, "function", weight->function);
    json_put_text(object, "op", weight->op);
    json_put(object, "shape", shape_of(weight));
    json_put(object, "dtype", json_string(pal_dtype_name(weight->dtype)));
    json_put(object, "storage", json_string(pal_storage_name(weight->storage)));
    json_put(object, "nbits", json_integer(weight->nbits));
    json_put(object, "num_luts", json_integer((json_int_t)weight->num_luts));
    json_put(object, "bytes", json_integer((json_int_t)weight->bytes));
    return object;
}

static const char *status_name(pal_weight_status status)
{
    switch (status) {
    case PAL_WEIGHT_COMPRESSED: return "compressed";
    case PAL_WEIGHT_DECOMPRESSED: return "decompressed";
    case PAL_WEIGHT_ADJUSTED: return "adjusted";
    case PAL_WEIGHT_SKIPPED: break;
    }
    return "skipped";
}

json_t *json_from_report(const pal_report *report, const totals *totals)
{
    json_t *object = json_object(), *weights = json_array(), *notes = json_array();
    double after = (double)totals->bytes_after;
    json_put(object, "ratio", json_real(after > 0 ? (double)totals->bytes_before / after : 0));
    json_put(object, "bytes_before", json_integer((json_int_t)totals->bytes_before));
    json_put(object, "bytes_after", json_integer((json_int_t)totals->bytes_after));
    json_put(object, "seconds", json_real(totals->seconds));
    for (size_t i = 0; i < pal_report_count(report); i++) {
        const pal_report_entry *entry = pal_report_get(report, i);
        bool measured = entry->status == PAL_WEIGHT_COMPRESSED;
        json_t *weight = from_weight(&entry->weight);
        json_put(weight, "bytes_before", json_integer((json_int_t)entry->bytes_before));
        json_put(weight, "group_size", json_integer((json_int_t)entry->group_size));
        json_put(weight, "mse", measured ? json_real(entry->mse) : json_null());
        json_put(weight, "psnr",
                 measured && isfinite(entry->psnr) ? json_real(entry->psnr) : json_null());
        json_put(weight, "status", json_string(status_name(entry->status)));
        json_put_text(weight, "reason", entry->reason);
        json_append(weights, weight);
    }
    for (size_t i = 0; pal_report_note(report, i); i++)
        json_append(notes, text(pal_report_note(report, i)));
    json_put(object, "notes", notes);
    json_put(object, "weights", weights);
    return object;
}

json_t *json_from_model(pal_model *model, const pal_options *options)
{
    json_t *object = json_object(), *weights = json_array();
    uint64_t elements = 0, bytes = 0;
    json_put(object, "format", json_string(pal_model_format(model)));
    json_put_text(object, "description", pal_model_description(model));
    json_put(object, "bytes", json_integer((json_int_t)pal_model_bytes(model)));
    for (size_t i = 0; i < pal_model_weight_count(model); i++) {
        const pal_weight *info = pal_model_weight(model, i);
        const char *reason = pal_model_skip_reason(model, i, options);
        json_t *weight = from_weight(info);
        json_put(weight, "consumers", json_integer((json_int_t)info->consumers));
        json_put(weight, "channel_axis", json_integer(info->channel_axis));
        json_put(weight, "status", json_string(reason ? "skipped" : "compressible"));
        json_put_text(weight, "reason", reason ? reason : "");
        json_append(weights, weight);
        elements += info->elements;
        bytes += info->bytes;
    }
    json_put(object, "weights", weights);
    json_put(object, "weight_elements", json_integer((json_int_t)elements));
    json_put(object, "weight_bytes", json_integer((json_int_t)bytes));
    return object;
}

json_t *json_from_score(const pal_score *score, uint64_t peak_bytes)
{
    json_t *object = json_object();
    json_put(object, "samples", json_integer((json_int_t)score->samples));
    json_put(object, "nan_samples", json_integer((json_int_t)score->nan_samples));
    json_put(object, "top1", score->labelled ? json_real(score->top1) : json_null());
    json_put(object, "top5", score->labelled ? json_real(score->top5) : json_null());
    json_put(object, "agreement",
             score->compared && score->classes ? json_real(score->agreement) : json_null());
    json_put(object, "psnr", score->compared ? json_finite(score->psnr) : json_null());
    json_put(object, "kl_divergence",
             score->compared && score->classes ? json_finite(score->kl_divergence) : json_null());
    json_put(object, "seconds", json_real(score->seconds));
    json_put(object, "samples_per_second",
             json_real(score->seconds > 0 ? (double)score->samples / score->seconds : 0));
    json_put(object, "peak_bytes", json_integer((json_int_t)peak_bytes));
    json_put(object, "one_by_one", json_boolean(score->one_by_one));
    return object;
}

json_t *json_from_comparison(const pal_comparison *comparison)
{
    json_t *object = json_object(), *layers = json_array();
    for (size_t i = 0; i < pal_comparison_count(comparison); i++) {
        const pal_layer_error *layer = pal_comparison_get(comparison, i);
        json_t *entry = json_object();
        json_put_text(entry, "name", layer->name);
        json_put_text(entry, "op", layer->op);
        json_put(entry, "relative", json_finite(layer->relative));
        json_put(entry, "snr", json_finite(layer->snr));
        json_put(entry, "psnr", json_finite(layer->psnr));
        json_put(entry, "own", json_finite(layer->own));
        json_append(layers, entry);
    }
    json_put(object, "layers", layers);
    return object;
}

int json_write(json_t *json, const char *path)
{
    const size_t flags = JSON_INDENT(2);
    int failed;
    if (!json || incomplete) {
        fprintf(stderr, "palettize: out of memory writing JSON\n");
        json_decref(json);
        return EXIT_BAD_INPUT;
    }
    if (strcmp(path, "-") == 0) {
        failed = json_dumpf(json, stdout, flags);
        putchar('\n');
    } else {
        failed = json_dump_file(json, path, flags);
    }
    json_decref(json);
    if (failed) {
        say_error("%s: cannot write: %s", path, strerror(errno));
        return EXIT_BAD_INPUT;
    }
    return 0;
}
