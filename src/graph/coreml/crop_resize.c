/* Patches of an image, each cut out along a box and resized linearly. Interpolation is linear in
 * the image, so a patch is P = A x B^T: row i of A has what grid point i takes of each row of the
 * image, max(0, 1 - |g_i - row|), and B the same of columns. Grid points of a box from a to b, for
 * m of them:
 *     STRICT_ALIGN_CORNERS   a + i (b - a) / (m - 1), a for m = 1
 *     ALIGN_CORNERS          the same, but (a + b) / 2 for m = 1
 *     DEFAULT                a + i (b - a + 1) / m
 *     OFFSET_CORNERS         a + (i + 1/2) max(1, b - a) / m
 * What points outside the image take is the pad value; before iOS16, which has none, the nearest
 * point inside. */
#include "graph/coreml/lowering.h"

enum {
    SAMPLE_STRICT_ALIGN,
    SAMPLE_ALIGN,
    SAMPLE_DEFAULT,
    SAMPLE_OFFSET,
};

/* One axis of the image: its extent, and the number of grid points. */
typedef struct axis_of_image {
    int64_t extent, points;
} axis_of_image;

static size_t number(lowering *low, double value)
{
    return mil_const_like(low, GRAPH_NONE, value);
}

static size_t add(lowering *low, size_t a, size_t b)
{
    return mil_emit_binary(low, BINARY_ADD, a, b);
}

static size_t multiply(lowering *low, size_t a, size_t b)
{
    return mil_emit_binary(low, BINARY_MUL, a, b);
}

static size_t subtract(lowering *low, size_t a, size_t b)
{
    return mil_emit_binary(low, BINARY_SUB, a, b);
}

/* first, first + step, ... as floats */
static size_t ramp(lowering *low, int64_t count, double first, double step)
{
    const size_t whole = mil_emit_range(low, mil_const_int(low, count));
    return mil_emit_unary(low, UNARY_LINEAR, (float)step, (float)first,
                          mil_emit_cast(low, whole, PAL_FLOAT32));
}

/* Column k of the boxes [N, 4], as [N, 1]. */
static size_t coordinate(lowering *low, size_t boxes, int64_t k)
{
    const int64_t end = k + 1, axis = 1;
    return mil_emit_slice(low, boxes, &k, &end, &axis, NULL, 1);
}

/* The grid points [N, m] of boxes from a to b, both [N, 1]. */
static size_t grid_points(lowering *low, size_t a, size_t b, int sampling, int64_t points)
{
    const double m = (double)points;
    const size_t length = subtract(low, b, a);
    switch (sampling) {
    case SAMPLE_DEFAULT:
        return add(low, a,
                   multiply(low, add(low, length, number(low, 1)), ramp(low, points, 0, 1 / m)));
    case SAMPLE_OFFSET:
        return add(low, a,
                   multiply(low, mil_emit_binary(low, BINARY_MAX, length, number(low, 1)),
                            ramp(low, points, 0.5 / m, 1 / m)));
    default:
        if (points == 1)
            return sampling == SAMPLE_ALIGN ? add(low, a, multiply(low, length, number(low, 0.5)))
                                            : a;
        return add(low, a, multiply(low, length, ramp(low, points, 0, 1 / (m - 1))));
    }
}

/* What each grid point takes of each element of the axis: [N, m, extent]. */
static size_t shares(lowering *low, size_t points, const axis_of_image *axis)
{
    const int64_t last = -1;
    const size_t distance =
        subtract(low, mil_emit_unsqueeze(low, points, &last, 1), ramp(low, axis->extent, 0, 1));
    const size_t away = mil_emit_unary(low, UNARY_ABS, 0, 0, distance);
    return mil_emit_unary(low, UNARY_RELU, 0, 0, mil_emit_unary(low, UNARY_LINEAR, -1, 1, away));
}

/* Whether grid points [N, m] lie in the image, but for what rounding adds: B. */
static size_t inside(lowering *low, size_t points, const axis_of_image *axis)
{
    const double slack = 1e-6 * (double)axis->extent;
    const size_t start = number(low, -slack);
    const size_t end = number(low, (double)(axis->extent - 1) + slack);
    return mil_emit_binary(low, BINARY_AND,
                           mil_emit_binary(low, BINARY_GREATER_EQUAL, points, start),
                           mil_emit_binary(low, BINARY_LESS_EQUAL, points, end));
}

/* Boxes [N, 4] as height and width, from and to: points[0] of rows, points[1] of columns. */
static void read_grid(lowering *low, size_t boxes, const axis_of_image axes[2], size_t points[2])
{
    static const char *const samplings[] = {"STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT",
                                            "OFFSET_CORNERS", NULL};
    static const char *const layouts[] = {"CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST",
                                          "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST",
                                          NULL};
    const int sampling = mil_param_choice(low, "sampling_mode", SAMPLE_DEFAULT, samplings);
    const int layout = mil_param_choice(low, "box_coordinate_mode", 0, layouts);
    const bool normalised = mil_param_bool(low, "normalized_coordinates", false);
    const float scale = mil_param_float(low, "spatial_scale", 1);
    for (int i = 0; i < 2; i++) {
        const int64_t place = layout % 2 ? 1 - i : i;
        const double unit = (double)scale * (normalised ? (double)(axes[i].extent - 1) : 1);
        size_t a = multiply(low, coordinate(low, boxes, place), number(low, unit));
        size_t b = multiply(low, coordinate(low, boxes, place + 2), number(low, unit));
        if (layout >= 2) { /* a centre and a size */
            const size_t half = multiply(low, b, number(low, 0.5));
            b = add(low, a, half);
            a = subtract(low, a, half);
        }
        points[i] = grid_points(low, a, b, sampling, axes[i].points);
    }
}

/* The patches of images [N or 1, ..., C, H, W] along boxes [N, 4]: with `between` dimensions of 1
 * after the first. */
static size_t cut_out(lowering *low, size_t images, size_t boxes, size_t between)
{
    const mil_type type = mil_type_of(low, "x");
    const axis_of_image axes[2] = {
        {mil_dimension_of(low, &type, 2), mil_param_int(low, "target_height", 1)},
        {mil_dimension_of(low, &type, 3), mil_param_int(low, "target_width", 1)}};
    size_t points[2];
    if (axes[0].points < 1 || axes[1].points < 1) {
        mil_fail(low, PAL_ERROR_FORMAT, "patches without extent");
        return GRAPH_NONE;
    }
    read_grid(low, boxes, axes, points);
    const bool clamped = low->opset < OPSET_IOS16;
    size_t parts[2], within[2];
    const int64_t ones[] = {1, 2}; /* for the channels, and the images if they are apart */
    for (int i = 0; i < 2; i++) {
        if (clamped)
            points[i] = mil_emit_unary(low, UNARY_CLIP, 0, (float)(axes[i].extent - 1), points[i]);
        parts[i] = mil_emit_unsqueeze(low, shares(low, points[i], &axes[i]), ones, between);
        within[i] = inside(low, points[i], &axes[i]);
    }
    const size_t rows = mil_emit(low, OP_MATMUL, &(op_attributes){.matmul = {.alpha = 1}},
                                 VALUES(parts[0], images));
    const size_t patches =
        mil_emit(low, OP_MATMUL, &(op_attributes){.matmul = {.transpose_b = true, .alpha = 1}},
                 VALUES(rows, parts[1]));
    if (clamped)
        return patches;
    const int64_t columns[] = {1, 2, 3}, lines[] = {1, 2};
    int64_t last = -1;
    /* [N, 1 (, 1), m, 1] and [N, 1 (, 1), 1, m] */
    const size_t high =
        mil_emit_unsqueeze(low, mil_emit_unsqueeze(low, within[0], lines, between), &last, 1);
    const size_t wide = mil_emit_unsqueeze(low, within[1], columns, between + 1);
    const size_t both = mil_emit_binary(low, BINARY_AND, high, wide);
    return mil_emit(
        low, OP_SELECT, NULL,
        VALUES(both, patches, number(low, (double)mil_param_float(low, "pad_value", 0))));
}

/* iOS17: a box for one image each. */
static void lower_boxes(lowering *low)
{
    const size_t x = mil_need(low, "x"), boxes = mil_need(low, "boxes"),
                 given = mil_want(low, "box_indices");
    const size_t indices =
        given != GRAPH_NONE
            ? given
            : mil_emit_range(low, mil_emit_reshape(low, mil_emit_shape(low, boxes, 0, 1), NULL, 0));
    const size_t floats =
        mil_value_type(low, boxes) == GRAPH_FLOAT ? boxes : mil_emit_cast(low, boxes, PAL_FLOAT32);
    mil_give(low, 0, cut_out(low, mil_emit_gather(low, x, indices, 0), floats, 1));
}

/* Before: boxes [N, 1, 4, 1, 1] for all images, or [N, 1, 5, 1, 1] with the image's index first. */
static void lower_regions(lowering *low)
{
    const mil_type type = mil_type_of(low, "roi");
    const size_t x = mil_need(low, "x"), roi = mil_need(low, "roi");
    const int64_t width = mil_dimension_of(low, &type, 2), first = 0;
    if (type.rank != 5 || (width != 4 && width != 5)) {
        mil_fail(low, PAL_ERROR_FORMAT, "regions that are not N x 1 x 4 x 1 x 1");
        return;
    }
    const size_t rows = mil_emit_reshape(low, roi, INTS(-1, width));
    size_t images, boxes = rows;
    if (width == 4) {
        images = mil_emit_unsqueeze(low, x, &first, 1);
    } else {
        const int64_t start = 1, end = 5, axis = 1;
        const size_t index = mil_emit_reshape(low, coordinate(low, rows, 0), INTS(-1));
        boxes = mil_emit_slice(low, rows, &start, &end, &axis, NULL, 1);
        images = mil_emit_unsqueeze(
            low, mil_emit_gather(low, x, mil_emit_cast(low, index, PAL_INT32), 0), INTS(1));
    }
    mil_give(low, 0, cut_out(low, images, boxes, 2));
}

static void lower_crop_resize(lowering *low, int kind)
{
    (void)kind;
    if (mil_type_of(low, "x").rank != 4)
        mil_fail(low, PAL_ERROR_FORMAT, "images of %zu dimensions", mil_type_of(low, "x").rank);
    else if (low->opset >= OPSET_IOS17)
        lower_boxes(low);
    else
        lower_regions(low);
}

const mil_operator mil_crop_resize_operators[] = {
    {"crop_resize", lower_crop_resize, 0},
    {NULL, NULL, 0},
};
