#include "format/weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/scratch.h"

bool dtype_is_float(pal_dtype dtype)
{
    return dtype == PAL_FLOAT16 || dtype == PAL_FLOAT32 || dtype == PAL_BFLOAT16 ||
           dtype == PAL_FLOAT64 || dtype == PAL_FLOAT8E4M3FN || dtype == PAL_FLOAT8E5M2;
}

/* ---------------------------------------------------------------- holdings */

void holdings_free(holdings *held)
{
    for (size_t i = 0; i < held->palette_count; i++)
        palette_free(held->palettes[i]);
    for (size_t i = 0; i < held->buffer_count; i++)
        scratch_free(held->buffers[i]);
    free(held->palettes);
    free(held->buffers);
    *held = (holdings){0};
}

bool holdings_reserve(holdings *held, size_t more)
{
    return mem_grow((void **)&held->palettes, &held->palette_capacity, held->palette_count + more,
                    sizeof *held->palettes) &&
           mem_grow((void **)&held->buffers, &held->buffer_capacity, held->buffer_count + more,
                    sizeof *held->buffers);
}

/* The latest come first, because weights that share something follow each other. */
static bool contains(void *const *list, size_t count, const void *pointer)
{
    for (size_t i = count; i-- > 0;)
        if (list[i] == pointer)
            return true;
    return false;
}

static void keep(void **list, size_t *count, void *pointer)
{
    if (!contains(list, *count, pointer))
        list[(*count)++] = pointer;
}

bool holdings_has_buffer(const holdings *held, const void *buffer)
{
    return contains(held->buffers, held->buffer_count, buffer);
}

void holdings_keep_palette(holdings *held, palette *palette)
{
    keep((void **)held->palettes, &held->palette_count, palette);
}

void holdings_keep_buffer(holdings *held, void *buffer)
{
    keep(held->buffers, &held->buffer_count, buffer);
}

void holdings_release(const holdings *held)
{
    for (size_t i = 0; i < held->palette_count; i++)
        palette_release(held->palettes[i]);
    for (size_t i = 0; i < held->buffer_count; i++)
        scratch_release(held->buffers[i]);
}

/* ---------------------------------------------------------------- replacing */

void weight_replaced(pal_model *model, holdings *held, const replacement *r)
{
    model_weight *weight = &model->weights[r->weight];
    pal_weight *info = &weight->info;
    weight->same_as = r->weight;
    weight->dense = r->dense;
    weight->pruned = (pruned_values){0};
    if (r->palette) {
        holdings_keep_palette(held, r->palette);
        info->storage = r->palette->mask ? PAL_STORAGE_PALETTIZED_SPARSE : PAL_STORAGE_PALETTIZED;
        info->nbits = r->palette->nbits;
        info->num_luts = palette_num_luts(r->palette);
        info->bytes = palette_bytes(r->palette);
    } else {
        holdings_keep_buffer(held, r->dense);
        info->storage = PAL_STORAGE_DENSE;
        info->nbits = pal_dtype_bits(info->dtype);
        info->num_luts = 0;
        info->bytes = info->elements * info->nbits / 8;
    }
}

/* ---------------------------------------------------------------- uses */

/* Room for one more use: the list doubles when their number is a power of two. */
static bool uses_reserve(model_weight *weight, mem_arena *texts)
{
    const size_t count = weight->info.consumers;
    if (count & (count - 1))
        return true;
    weight_use *larger = arena_alloc(texts, (count ? 2 * count : 1) * sizeof *larger);
    if (!larger)
        return false;
    if (count)
        memcpy(larger, weight->uses, count * sizeof *larger);
    weight->uses = larger;
    return true;
}

pal_status weight_used(model_weight *weight, mem_arena *texts, text_span op, text_span name,
                       int axis, uint64_t groups)
{
    pal_weight *info = &weight->info;
    weight_use use = {arena_copy(texts, op.text, op.length),
                      arena_copy(texts, name.text, name.length)};
    if (!use.op || !use.name || !uses_reserve(weight, texts))
        return fail_memory("reading a model");
    if (groups > weight->op_groups)
        weight->op_groups = groups;
    weight->uses[info->consumers] = use;
    if (info->consumers++ == 0) {
        info->op = use.op;
        info->channel_axis = axis;
    } else if (info->channel_axis != axis) {
        info->channel_axis = -1;
    }
    return PAL_OK;
}

/* ---------------------------------------------------------------- sharing */

typedef struct stored {
    const void *data;
    size_t weight;
} stored;

static int by_data(const void *a, const void *b)
{
    const stored *x = a, *y = b;
    if (x->data != y->data)
        return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return (x->weight > y->weight) - (x->weight < y->weight);
}

pal_status weights_find_shared(pal_model *model,
                               const void *(*data)(const pal_model *model, size_t weight))
{
    stored *list = mem_array(model->weight_count, sizeof *list);
    if (!list)
        return fail_memory("reading a model");
    size_t count = 0;
    for (size_t i = 0; i < model->weight_count; i++)
        if (data(model, i))
            list[count++] = (stored){data(model, i), i};
    if (count)
        qsort(list, count, sizeof *list, by_data);
    for (size_t i = 1; i < count; i++) {
        const pal_weight *before = &model->weights[list[i - 1].weight].info;
        model_weight *weight = &model->weights[list[i].weight];
        if (list[i].data == list[i - 1].data && weight->info.dtype == before->dtype &&
            weight->info.rank == before->rank &&
            memcmp(weight->info.shape, before->shape, sizeof before->shape) == 0)
            weight->same_as = model->weights[list[i - 1].weight].same_as;
    }
    free(list);
    return PAL_OK;
}
