#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/onednn_api.h"

/* ---------------------------------------------------------------- the processor */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static dnnl_engine_t processor;
static dnnl_stream_t order;
static dnnl_status_t opened;

static void open_processor(void)
{
    opened = dnnl_engine_create(&processor, dnnl_cpu, 0);
    if (opened == dnnl_success)
        opened = dnnl_stream_create(&order, processor, dnnl_stream_default_flags);
}

pal_status onednn_processor(dnnl_engine_t *engine, dnnl_stream_t *stream)
{
    pthread_once(&once, open_processor);
    *engine = processor;
    *stream = order;
    return onednn_check(opened, "starting oneDNN");
}

pal_status onednn_check(dnnl_status_t status, const char *what)
{
    switch (status) {
    case dnnl_success: return PAL_OK;
    case dnnl_out_of_memory: return fail_memory(what);
    case dnnl_unimplemented:
        return fail(PAL_ERROR_UNSUPPORTED, "oneDNN does not implement this %s", what);
    default: return fail(PAL_ERROR_UNSUPPORTED, "oneDNN: error %d, %s", (int)status, what);
    }
}

/* ---------------------------------------------------------------- layouts */

static layout *new_layout(void)
{
    layout *l = mem_zeroed(1, sizeof *l);
    if (!l)
        fail_memory("for a layout");
    return l;
}

static pal_status new_layout_from(dnnl_status_t status, layout *l, layout **out)
{
    *out = NULL;
    if (!l)
        return PAL_ERROR_MEMORY;
    if (status) {
        free(l);
        return onednn_check(status, "layout");
    }
    *out = l;
    return PAL_OK;
}

/* oneDNN knows no tensors without dimensions. */
static size_t dims_of(size_t rank, const int64_t *shape, dnnl_dims_t dims)
{
    if (!rank) {
        dims[0] = 1;
        return 1;
    }
    for (size_t i = 0; i < rank && i < DNNL_MAX_NDIMS; i++)
        dims[i] = shape[i];
    return rank;
}

pal_status layout_new_strided(size_t rank, const int64_t *shape, const int64_t *strides,
                              layout **out)
{
    dnnl_dims_t dims, steps;
    *out = NULL;
    if (rank > DNNL_MAX_NDIMS)
        return fail(PAL_ERROR_UNSUPPORTED, "a tensor of %zu dimensions", rank);
    size_t n = dims_of(rank, shape, dims);
    int64_t stride = 1;
    for (size_t i = n; i-- > 0;) {
        steps[i] = strides ? strides[i] : stride;
        stride *= dims[i] > 0 ? dims[i] : 1;
    }
    layout *l = new_layout();
#if ONEDNN_3
    dnnl_status_t status =
        l ? dnnl_memory_desc_create_with_strides(&l->md, (int)n, dims, dnnl_f32, steps)
          : dnnl_out_of_memory;
#else
    dnnl_status_t status =
        l ? dnnl_memory_desc_init_by_strides(&l->md, (int)n, dims, dnnl_f32, steps)
          : dnnl_out_of_memory;
#endif
    return new_layout_from(status, l, out);
}

static pal_status new_tagged(size_t rank, const int64_t *shape, dnnl_format_tag_t tag, layout **out)
{
    dnnl_dims_t dims;
    *out = NULL;
    if (rank > DNNL_MAX_NDIMS)
        return fail(PAL_ERROR_UNSUPPORTED, "a tensor of %zu dimensions", rank);
    size_t n = dims_of(rank, shape, dims);
    layout *l = new_layout();
#if ONEDNN_3
    dnnl_status_t status = l ? dnnl_memory_desc_create_with_tag(&l->md, (int)n, dims, dnnl_f32, tag)
                             : dnnl_out_of_memory;
#else
    dnnl_status_t status =
        l ? dnnl_memory_desc_init_by_tag(&l->md, (int)n, dims, dnnl_f32, tag) : dnnl_out_of_memory;
#endif
    return new_layout_from(status, l, out);
}

pal_status layout_new_any(size_t rank, const int64_t *shape, layout **out)
{
    return new_tagged(rank, shape, dnnl_format_tag_any, out);
}

layout *layout_new_from(const_md md)
{
    layout *l = new_layout();
    if (!l)
        return NULL;
#if ONEDNN_3
    if (dnnl_memory_desc_clone(&l->md, md)) {
        free(l);
        fail_memory("for a layout");
        return NULL;
    }
#else
    l->md = *md;
#endif
    return l;
}

layout *layout_copy(const layout *layout)
{
    return layout_new_from(layout_md(layout));
}

void layout_free(layout *layout)
{
    if (!layout)
        return;
#if ONEDNN_3
    dnnl_memory_desc_destroy(layout->md);
#endif
    free(layout);
}

bool layout_equal(const layout *a, const layout *b)
{
    if (a == b || !a || !b)
        return a == b;
    return dnnl_memory_desc_equal(layout_md(a), layout_md(b));
}

size_t layout_bytes(const layout *layout)
{
    return dnnl_memory_desc_get_size(layout_md(layout));
}

bool layout_is_plain(const layout *given, size_t rank, const int64_t *shape)
{
    if (!given)
        return true;
    layout_physical physical;
    if (!layout_describe(given, rank, shape, &physical))
        return false;
    /* Dimensions of extent 1 may stand anywhere. */
    size_t last = 0;
    int64_t elements = 1, stored = 1;
    for (size_t i = 0; i < physical.rank; i++) {
        stored *= physical.extent[i];
        if (physical.extent[i] == 1)
            continue;
        if (physical.of[i] < last || physical.extent[i] != shape[physical.of[i]])
            return false;
        last = physical.of[i];
    }
    for (size_t i = 0; i < rank; i++)
        elements *= shape[i];
    return elements == stored;
}

/* The shape that a layout was made for. */
static size_t shape_of(const layout *layout, const int64_t **shape)
{
#if ONEDNN_3
    int rank = 0;
    const dnnl_dims_t *dims = NULL;
    dnnl_memory_desc_query(layout->md, dnnl_query_ndims_s32, &rank);
    dnnl_memory_desc_query(layout->md, dnnl_query_dims, &dims);
    *shape = *dims;
    return (size_t)rank;
#else
    *shape = layout->md.dims;
    return (size_t)layout->md.ndims;
#endif
}

/* ---------------------------------------------------------------- what a layout looks like */

/* The parts of a blocked description that both versions have. */
typedef struct blocking {
    size_t rank, blocks;
    const int64_t *padded, *strides, *block, *block_of;
} blocking;

static bool blocking_of(const layout *layout, blocking *b)
{
#if ONEDNN_3
    int rank, blocks;
    dnnl_format_kind_t kind;
    const dnnl_dims_t *padded, *strides, *block, *of;
    if (dnnl_memory_desc_query(layout->md, dnnl_query_format_kind, &kind) || kind != dnnl_blocked ||
        dnnl_memory_desc_query(layout->md, dnnl_query_ndims_s32, &rank) ||
        dnnl_memory_desc_query(layout->md, dnnl_query_padded_dims, &padded) ||
        dnnl_memory_desc_query(layout->md, dnnl_query_strides, &strides) ||
        dnnl_memory_desc_query(layout->md, dnnl_query_inner_nblks_s32, &blocks) ||
        dnnl_memory_desc_query(layout->md, dnnl_query_inner_blks, &block) ||
        dnnl_memory_desc_query(layout->md, dnnl_query_inner_idxs, &of))
        return false;
    *b = (blocking){(size_t)rank, (size_t)blocks, *padded, *strides, *block, *of};
#else
    const dnnl_memory_desc_t *md = &layout->md;
    if (md->format_kind != dnnl_blocked || md->offset0)
        return false;
    const dnnl_blocking_desc_t *d = &md->format_desc.blocking;
    *b = (blocking){(size_t)md->ndims, (size_t)d->inner_nblks, md->padded_dims,
                    d->strides,        d->inner_blks,          d->inner_idxs};
#endif
    return true;
}

static void describe_plain(size_t rank, const int64_t *shape, layout_physical *out)
{
    out->rank = rank;
    for (size_t i = 0; i < rank; i++) {
        out->extent[i] = shape[i];
        out->of[i] = i;
    }
}

bool layout_describe(const layout *layout, size_t rank, const int64_t *shape, layout_physical *out)
{
    if (!layout) {
        describe_plain(rank, shape, out);
        return true;
    }
    blocking b;
    if (!blocking_of(layout, &b) || b.rank != rank || b.rank + b.blocks > LAYOUT_MAX_PHYSICAL)
        return false;
    int64_t strides[LAYOUT_MAX_PHYSICAL];
    out->rank = 0;
    /* The outer parts, sorted by stride; of equal strides (an extent of 1) in their order. */
    for (size_t d = 0; d < rank; d++) {
        int64_t extent = b.padded[d];
        for (size_t i = 0; i < b.blocks; i++)
            if (b.block_of[i] == (int64_t)d)
                extent /= b.block[i];
        size_t at = out->rank++;
        for (; at > 0 && (strides[at - 1] < b.strides[d] ||
                          (strides[at - 1] == b.strides[d] && out->extent[at - 1] == 1));
             at--) {
            strides[at] = strides[at - 1];
            out->extent[at] = out->extent[at - 1];
            out->of[at] = out->of[at - 1];
        }
        strides[at] = b.strides[d];
        out->extent[at] = extent;
        out->of[at] = d;
    }
    for (size_t i = 0; i < b.blocks; i++) {
        strides[out->rank] = 0;
        out->extent[out->rank] = b.block[i];
        out->of[out->rank++] = (size_t)b.block_of[i];
    }
    int64_t stride = 1;
    for (size_t i = out->rank; i-- > 0;) {
        if (i < rank && out->extent[i] != 1 && strides[i] != stride)
            return false;
        stride *= out->extent[i];
    }
    return true;
}

/* nCw16c and its kin, by rank and block. */
static dnnl_format_tag_t channel_blocks(size_t rank, int64_t block)
{
    static const dnnl_format_tag_t tags[3][3] = {
        {dnnl_nCw4c, dnnl_nCw8c, dnnl_nCw16c},
        {dnnl_nChw4c, dnnl_nChw8c, dnnl_nChw16c},
        {dnnl_nCdhw4c, dnnl_nCdhw8c, dnnl_nCdhw16c},
    };
    size_t i = block == 4 ? 0 : block == 8 ? 1 : block == 16 ? 2 : 3;
    return rank < 3 || rank > 5 || i > 2 ? dnnl_format_tag_undef : tags[rank - 3][i];
}

pal_status layout_like(const layout *like, size_t rank, const int64_t *shape, layout **out)
{
    *out = NULL;
    blocking b;
    if (!like)
        return PAL_OK;
    if (!blocking_of(like, &b) || b.rank != rank || b.blocks > 1 ||
        (b.blocks == 1 && b.block_of[0] != 1))
        return fail(PAL_ERROR_UNSUPPORTED, "a layout that has no like");
    layout *made;
    pal_status status;
    const int64_t *own;
    shape_of(like, &own);
    /* A single channel in the place of several is one that is broadcast, which needs no block;
     * where `like` has one as well, it is the first of a padded block. */
    if (b.blocks && (shape[1] != 1 || own[1] == 1)) {
        dnnl_format_tag_t tag = channel_blocks(rank, b.block[0]);
        if (tag == dnnl_format_tag_undef)
            return fail(PAL_ERROR_UNSUPPORTED, "a layout that has no like");
        status = new_tagged(rank, shape, tag, &made);
    } else {
        /* The order of dimensions that `like` has, without its blocks. */
        int64_t strides[DNNL_MAX_NDIMS];
        for (size_t d = 0; d < rank; d++) {
            strides[d] = 1;
            for (size_t e = 0; e < rank; e++) {
                bool inside =
                    b.strides[e] < b.strides[d] || (b.strides[e] == b.strides[d] && e > d);
                if (inside && shape[e] > 0)
                    strides[d] *= shape[e];
            }
        }
        status = layout_new_strided(rank, shape, strides, &made);
    }
    if (status)
        return status;
    if (layout_is_plain(made, rank, shape)) {
        layout_free(made);
        made = NULL;
    }
    *out = made;
    return PAL_OK;
}

void layout_clear_padding(const layout *layout, float *data)
{
    const int64_t *shape;
    layout_physical physical;
    const size_t rank = shape_of(layout, &shape);
    if (!layout_describe(layout, rank, shape, &physical) || physical.rank != rank + 1 ||
        physical.of[rank] != 1)
        return;
    const int64_t block = physical.extent[rank], used = shape[1] % block;
    if (!used)
        return;
    /* How many blocks lie before, in, and after the dimension of blocks of channels. */
    int64_t before = 1, channels = 0, after = 1;
    for (size_t i = 0; i < rank; i++) {
        if (physical.of[i] == 1)
            channels = physical.extent[i];
        else if (!channels)
            before *= physical.extent[i];
        else
            after *= physical.extent[i];
    }
    for (int64_t i = 0; i < before; i++)
        for (int64_t j = 0; j < after; j++) {
            float *tail = data + (((i + 1) * channels - 1) * after + j) * block;
            memset(tail + used, 0, (size_t)(block - used) * sizeof *tail);
        }
}

/* ---------------------------------------------------------------- reorders */

bool layout_is_row_major(const layout *layout)
{
    const int64_t *shape;
    size_t rank = shape_of(layout, &shape);
    return layout_is_plain(layout, rank, shape);
}

/* Either side of a reorder: `given`, or where it is NULL row-major in the other side's shape, or in
 * the buffer's. */
static pal_status side_of_reorder(const layout *given, const layout *other, const buffer *buffer,
                                  layout **out)
{
    if (given) {
        *out = layout_copy(given);
        return *out ? PAL_OK : PAL_ERROR_MEMORY;
    }
    const int64_t *shape = buffer->shape;
    size_t rank = other ? shape_of(other, &shape) : buffer->rank;
    return layout_new_strided(rank, shape, NULL, out);
}

typedef struct reorder {
    dnnl_primitive_t primitive;
    dnnl_memory_t from, to;
} reorder;

void onednn_reorder_free(void *state)
{
    reorder *r = state;
    if (!r)
        return;
    dnnl_primitive_destroy(r->primitive);
    dnnl_memory_destroy(r->from);
    dnnl_memory_destroy(r->to);
    free(r);
}

static pal_status reorder_make(reorder *r, const layout *from, const layout *to)
{
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t description = NULL;
    pal_status status = onednn_processor(&engine, &stream);
    if (status)
        return status;
    dnnl_status_t made = dnnl_reorder_primitive_desc_create(&description, layout_md(from), engine,
                                                            layout_md(to), engine, NULL);
    if (!made)
        made = dnnl_primitive_create(&r->primitive, description);
    if (!made)
        made = dnnl_memory_create(&r->from, layout_md(from), engine, DNNL_MEMORY_NONE);
    if (!made)
        made = dnnl_memory_create(&r->to, layout_md(to), engine, DNNL_MEMORY_NONE);
    dnnl_primitive_desc_destroy(description);
    return onednn_check(made, "reorder");
}

pal_status onednn_reorder_new(const buffer *from, const layout *to, void **state)
{
    *state = NULL;
    layout *source = NULL, *target = NULL;
    reorder *r = mem_zeroed(1, sizeof *r);
    pal_status status =
        r ? side_of_reorder(from->layout, to, from, &source) : fail_memory("for a reorder");
    if (!status)
        status = side_of_reorder(to, from->layout, from, &target);
    if (!status)
        status = reorder_make(r, source, target);
    layout_free(source);
    layout_free(target);
    if (status)
        onednn_reorder_free(r);
    else
        *state = r;
    return status;
}

pal_status onednn_reorder_run(void *state, const buffer *from, const buffer *to)
{
    const reorder *r = state;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    pal_status status = onednn_processor(&engine, &stream);
    if (status)
        return status;
    dnnl_status_t run = dnnl_memory_set_data_handle(r->from, from->data);
    if (!run)
        run = dnnl_memory_set_data_handle(r->to, to->data);
    if (!run) {
        const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, r->from}, {DNNL_ARG_TO, r->to}};
        run = dnnl_primitive_execute(r->primitive, stream, 2, arguments);
    }
    if (!run)
        run = dnnl_stream_wait(stream);
    return onednn_check(run, "reorder");
}
