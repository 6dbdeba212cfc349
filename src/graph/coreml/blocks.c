/* Between space, depth and batch. */
#include "graph/coreml/lowering.h"

/* depth_to_space keeps the block's place outermost in the channels, pixel_shuffle innermost. */
static void lower_depth_to_space(lowering *low, int column_row_depth)
{
    const size_t x = mil_need(low, "x");
    const op_attributes attributes = {
        .blocks = {.size =
                       mil_param_int(low, column_row_depth ? "upscale_factor" : "block_size", 0),
                   .column_row_depth = column_row_depth != 0}};
    mil_give(low, 0, mil_emit(low, OP_DEPTH_TO_SPACE, &attributes, VALUES(x)));
}

static size_t space_to_depth(lowering *low, const char *size)
{
    const size_t x = mil_need(low, "x");
    const op_attributes attributes = {.blocks = {.size = mil_param_int(low, size, 0)}};
    return mil_emit(low, OP_SPACE_TO_DEPTH, &attributes, VALUES(x));
}

static void lower_space_to_depth(lowering *low, int kind)
{
    (void)kind;
    mil_give(low, 0, space_to_depth(low, "block_size"));
}

/* As space_to_depth, with the channels in another order: the block's place innermost. */
static void lower_pixel_unshuffle(lowering *low, int kind)
{
    (void)kind;
    const int64_t factor = mil_param_int(low, "downscale_factor", 0);
    const size_t blocks = space_to_depth(low, "downscale_factor");
    if (factor < 1 || factor > INT16_MAX) {
        mil_fail(low, PAL_ERROR_FORMAT, "a factor of %lld", (long long)factor);
        return;
    }
    const size_t parts[] = {mil_emit_shape(low, blocks, 0, 1),
                            mil_const_ints(low, INTS(factor * factor, -1)),
                            mil_emit_shape(low, blocks, 2, 4)};
    const size_t apart =
        mil_emit(low, OP_RESHAPE, NULL, VALUES(blocks, mil_emit_concat(low, parts, 3, 0)));
    const size_t turned = mil_emit_transpose(low, apart, INTS(0, 2, 1, 3, 4));
    mil_give(
        low, 0,
        mil_emit(low, OP_RESHAPE, NULL, VALUES(turned, mil_emit_shape(low, blocks, 0, INT64_MAX))));
}

/* ---------------------------------------------------------------- batches */

typedef struct block_numbers {
    int64_t block[2], edges[4]; /* pads or crops: before and after, of either dimension */
    int64_t channels, extents[2];
} block_numbers;

static bool read_blocks(lowering *low, const char *edges, block_numbers *out)
{
    const mil_type type = mil_type_of(low, "x");
    const size_t counts[2] = {mil_param_ints(low, "block_shape", out->block, 2),
                              mil_param_ints(low, edges, out->edges, 4)};
    if (type.rank != 4 || counts[0] != 2 || counts[1] != 4) {
        mil_fail(low, PAL_ERROR_FORMAT, "blocks of an input of %zu dimensions", type.rank);
        return false;
    }
    out->channels = mil_dimension_of(low, &type, 1);
    for (int i = 0; i < 2; i++) {
        out->extents[i] = mil_dimension_of(low, &type, i + 2);
        if (out->block[i] < 1 || out->block[i] > INT32_MAX || out->edges[2 * i] < 0 ||
            out->edges[2 * i + 1] < 0)
            mil_fail(low, PAL_ERROR_FORMAT, "a block or edge of impossible size");
    }
    return !low->status;
}

/* N C (H b) (W c) -> (b c N) C H W */
static void lower_space_to_batch(lowering *low, int kind)
{
    (void)kind;
    block_numbers n;
    const size_t x = mil_need(low, "x");
    if (!read_blocks(low, "paddings", &n))
        return;
    const int64_t *e = n.edges;
    const int64_t height = n.extents[0] + e[0] + e[1], width = n.extents[1] + e[2] + e[3];
    if (height % n.block[0] || width % n.block[1]) {
        mil_fail(low, PAL_ERROR_FORMAT, "blocks that do not divide the padded image");
        return;
    }
    const int64_t rows = height / n.block[0], columns = width / n.block[1];
    const size_t padded = mil_emit(low, OP_PAD, &(op_attributes){.pad = {PAD_CONSTANT}},
                                   VALUES(x, mil_const_ints(low, INTS(e[0], e[2], e[1], e[3])),
                                          GRAPH_NONE, mil_const_ints(low, INTS(2, 3))));
    const size_t cut =
        mil_emit_reshape(low, padded, INTS(-1, n.channels, rows, n.block[0], columns, n.block[1]));
    const size_t turned = mil_emit_transpose(low, cut, INTS(3, 5, 0, 1, 2, 4));
    mil_give(low, 0, mil_emit_reshape(low, turned, INTS(-1, n.channels, rows, columns)));
}

/* (b c N) C H W -> N C (H b) (W c) */
static void lower_batch_to_space(lowering *low, int kind)
{
    (void)kind;
    block_numbers n;
    const size_t x = mil_need(low, "x");
    if (!read_blocks(low, "crops", &n))
        return;
    const int64_t *e = n.edges;
    const size_t cut = mil_emit_reshape(
        low, x, INTS(n.block[0], n.block[1], -1, n.channels, n.extents[0], n.extents[1]));
    const size_t turned = mil_emit_transpose(low, cut, INTS(2, 3, 4, 0, 5, 1));
    const size_t image = mil_emit_reshape(
        low, turned, INTS(-1, n.channels, n.extents[0] * n.block[0], n.extents[1] * n.block[1]));
    const int64_t ends[2] = {e[1] ? -e[1] : INT64_MAX, e[3] ? -e[3] : INT64_MAX};
    mil_give(low, 0,
             mil_emit_slice(low, image, (const int64_t[]){e[0], e[2]}, ends,
                            (const int64_t[]){2, 3}, NULL, 2));
}

const mil_operator mil_block_operators[] = {
    {"depth_to_space", lower_depth_to_space, 0},
    {"pixel_shuffle", lower_depth_to_space, 1},
    {"space_to_depth", lower_space_to_depth, 0},
    {"pixel_unshuffle", lower_pixel_unshuffle, 0},
    {"space_to_batch", lower_space_to_batch, 0},
    {"batch_to_space", lower_batch_to_space, 0},
    {NULL, NULL, 0},
};
