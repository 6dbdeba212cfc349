/* Resizing of images: the last two dimensions, or as many as are told.
 *
 * Where grid points lie in the input, for n input and m output points (Core ML calls these sampling
 * modes):
 *     STRICT_ALIGN_CORNERS   i (n - 1) / (m - 1), 0 for m = 1
 *     ALIGN_CORNERS          the same, but (n - 1) / 2 for m = 1
 *     DEFAULT                i n / m
 *     UNALIGN_CORNERS        (i + 1/2) n / m - 1/2
 *     OFFSET_CORNERS         (i + 1/2) max(1, n - 1) / m
 * and not beyond [0, n - 1]. Nearest neighbours are those of (i + 1/2) n / m - 1/2, halves going
 * up, in both modes that have nothing to do with corners. */
#include <math.h>
#include <string.h>

#include "graph/coreml/lowering.h"

enum {
    SAMPLE_STRICT_ALIGN,
    SAMPLE_ALIGN,
    SAMPLE_DEFAULT,
    SAMPLE_UNALIGN,
    SAMPLE_OFFSET,
};

static const char *const sampling_modes[] = {"STRICT_ALIGN_CORNERS", "ALIGN_CORNERS",  "DEFAULT",
                                             "UNALIGN_CORNERS",      "OFFSET_CORNERS", NULL};

/* One axis or several that are resized alike. roi: what OP_RESIZE takes, or GRAPH_NONE. */
static size_t emit_resize(lowering *low, size_t x, op_attributes attributes, size_t roi,
                          size_t scales, size_t sizes, const int64_t *axes, size_t count)
{
    attributes.resize.axis_count = count;
    memcpy(attributes.resize.axes, axes, count * sizeof *axes);
    return mil_emit(low, OP_RESIZE, &attributes, VALUES(x, roi, scales, sizes));
}

static op_attributes nearest_neighbour(int sampling)
{
    const bool corners = sampling == SAMPLE_STRICT_ALIGN || sampling == SAMPLE_ALIGN;
    return (op_attributes){
        .resize = {.mode = RESIZE_NEAREST,
                   .coordinates = corners ? COORDINATE_ALIGN_CORNERS : COORDINATE_HALF_PIXEL,
                   .nearest = NEAREST_ROUND_PREFER_CEIL}};
}

static op_attributes linear(int sampling)
{
    op_attributes attributes = {.resize = {.mode = RESIZE_LINEAR}};
    switch (sampling) {
    case SAMPLE_UNALIGN: attributes.resize.coordinates = COORDINATE_HALF_PIXEL; break;
    case SAMPLE_OFFSET: attributes.resize.coordinates = COORDINATE_TF_CROP_AND_RESIZE; break;
    case SAMPLE_DEFAULT: attributes.resize.coordinates = COORDINATE_ASYMMETRIC; break;
    default: attributes.resize.coordinates = COORDINATE_ALIGN_CORNERS; break;
    }
    return attributes;
}

/* OFFSET_CORNERS as a crop: from 1/2m to 1 - 1/2m of the way from the first point to the last. */
static size_t offset_roi(lowering *low, int64_t extent)
{
    const int64_t shape = 2;
    graph_tensor *tensor =
        low->status ? NULL : graph_add_tensor(low->graph, GRAPH_FLOAT, 1, &shape);
    if (!tensor) {
        mil_failed(low, PAL_ERROR_MEMORY);
        return GRAPH_NONE;
    }
    ((float *)tensor->owned)[0] = 0.5f / (float)extent;
    ((float *)tensor->owned)[1] = 1 - 0.5f / (float)extent;
    const size_t value = graph_add_constant(low->graph, "", tensor);
    if (value == GRAPH_NONE)
        mil_failed(low, PAL_ERROR_MEMORY);
    return value;
}

/* Linear interpolation is separable: each axis by itself, where its extent decides how. */
static size_t linear_axis(lowering *low, size_t x, int sampling, int64_t axis, int64_t extent)
{
    if (extent < 1) {
        mil_fail(low, PAL_ERROR_FORMAT, "a result of extent %lld", (long long)extent);
        return GRAPH_NONE;
    }
    const bool middle = sampling == SAMPLE_ALIGN && extent == 1;
    const size_t roi = sampling == SAMPLE_OFFSET ? offset_roi(low, extent) : GRAPH_NONE;
    return emit_resize(low, x, linear(middle ? SAMPLE_UNALIGN : sampling), roi, GRAPH_NONE,
                       mil_const_ints(low, &extent, 1), &axis, 1);
}

static size_t resize_to(lowering *low, size_t x, bool nearest, int sampling, const int64_t *axes,
                        const int64_t *extents, size_t count)
{
    bool by_axis = sampling == SAMPLE_OFFSET;
    for (size_t i = 0; i < count; i++)
        by_axis = by_axis || (sampling == SAMPLE_ALIGN && extents[i] == 1);
    if (nearest && sampling == SAMPLE_OFFSET)
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "nearest neighbours with OFFSET_CORNERS");
    if (count == 0)
        return x;
    if (nearest || !by_axis)
        return emit_resize(low, x, nearest ? nearest_neighbour(sampling) : linear(sampling),
                           GRAPH_NONE, GRAPH_NONE, mil_const_ints(low, extents, count), axes,
                           count);
    for (size_t i = 0; i < count; i++)
        x = linear_axis(low, x, sampling, axes[i], extents[i]);
    return x;
}

static bool last_axes(lowering *low, int64_t axes[2])
{
    const size_t rank = mil_type_of(low, "x").rank;
    if (rank < 3)
        mil_fail(low, PAL_ERROR_FORMAT, "an image of %zu dimensions", rank);
    axes[0] = (int64_t)rank - 2;
    axes[1] = (int64_t)rank - 1;
    return !low->status;
}

/* ---------------------------------------------------------------- to a size */

static void lower_resize_image(lowering *low, int nearest)
{
    const size_t x = mil_need(low, "x");
    const int64_t extents[2] = {mil_param_int(low, "target_size_height", 1),
                                mil_param_int(low, "target_size_width", 1)};
    const int sampling = mil_param_choice(low, "sampling_mode", SAMPLE_DEFAULT, sampling_modes);
    int64_t axes[2];
    if (last_axes(low, axes))
        mil_give(low, 0, resize_to(low, x, nearest != 0, sampling, axes, extents, 2));
}

/* The last `dims` numbers of a computed shape; those that are 0 leave x as it is. */
static size_t computed_sizes(lowering *low, size_t x, size_t shape, int64_t dims, size_t rank)
{
    const int64_t start = -dims, end = INT64_MAX, axis = 0;
    const size_t wanted = mil_emit_slice(low, shape, &start, &end, &axis, NULL, 1);
    const size_t own = mil_emit_shape(low, x, (int64_t)rank - dims, INT64_MAX);
    const size_t zero = mil_emit_binary(low, BINARY_EQUAL, wanted, mil_const_int(low, 0));
    return mil_emit(low, OP_SELECT, NULL, VALUES(zero, own, wanted));
}

static size_t resize_computed(lowering *low, size_t x, bool nearest, int sampling, int64_t dims,
                              size_t rank)
{
    int64_t axes[PAL_MAX_RANK];
    if (sampling == SAMPLE_OFFSET || sampling == SAMPLE_ALIGN)
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "its sampling mode, for a size that is computed");
    for (int64_t i = 0; i < dims; i++)
        axes[i] = (int64_t)rank - dims + i;
    return emit_resize(low, x, nearest ? nearest_neighbour(sampling) : linear(sampling), GRAPH_NONE,
                       GRAPH_NONE, computed_sizes(low, x, mil_need(low, "shape"), dims, rank), axes,
                       (size_t)dims);
}

static size_t resize_known(lowering *low, size_t x, bool nearest, int sampling, int64_t dims,
                           size_t rank)
{
    const mil_type type = mil_type_of(low, "x");
    int64_t shape[PAL_MAX_RANK], axes[PAL_MAX_RANK], extents[PAL_MAX_RANK];
    const size_t given = mil_param_ints(low, "shape", shape, PAL_MAX_RANK);
    size_t count = 0;
    if ((int64_t)given < dims)
        mil_fail(low, PAL_ERROR_FORMAT, "a shape of %zu numbers for %lld dimensions", given,
                 (long long)dims);
    for (int64_t i = 0; !low->status && i < dims; i++) {
        int64_t extent = shape[(int64_t)given - dims + i];
        if (extent == 0 && sampling != SAMPLE_OFFSET)
            continue;
        if (extent == 0) /* the only mode that moves points between equal extents */
            extent = mil_dimension_of(low, &type, (int64_t)rank - dims + i);
        axes[count] = (int64_t)rank - dims + i;
        extents[count++] = extent;
    }
    return low->status ? GRAPH_NONE : resize_to(low, x, nearest, sampling, axes, extents, count);
}

static void lower_resize(lowering *low, int kind)
{
    static const char *const interpolations[] = {"LINEAR", "NEAREST_NEIGHBOR", NULL};
    (void)kind;
    size_t x = mil_need(low, "x");
    const size_t rank = mil_type_of(low, "x").rank;
    const int64_t dims = mil_param_int(low, "resized_dims", 0);
    const bool nearest = mil_param_choice(low, "interpolation_mode", 0, interpolations) == 1;
    const int sampling = mil_param_choice(low, "sampling_mode", SAMPLE_DEFAULT, sampling_modes);
    const bool integers = mil_value_type(low, x) == GRAPH_INT;
    if (dims < 1 || dims > (int64_t)rank) {
        mil_fail(low, PAL_ERROR_FORMAT, "%lld of %zu dimensions", (long long)dims, rank);
        return;
    }
    if (integers)
        x = mil_emit_cast(low, x, PAL_FLOAT32);
    x = mil_is_constant(low, "shape") ? resize_known(low, x, nearest, sampling, dims, rank)
                                      : resize_computed(low, x, nearest, sampling, dims, rank);
    mil_give(low, 0, integers ? mil_emit_cast(low, x, PAL_INT32) : x);
}

/* ---------------------------------------------------------------- by factors */

static size_t factors(lowering *low, float height, float width)
{
    const int64_t shape = 2;
    graph_tensor *tensor =
        low->status ? NULL : graph_add_tensor(low->graph, GRAPH_FLOAT, 1, &shape);
    const size_t value = graph_add_constant(low->graph, "", tensor);
    if (value == GRAPH_NONE) {
        mil_failed(low, PAL_ERROR_MEMORY);
        return GRAPH_NONE;
    }
    ((float *)tensor->owned)[0] = height;
    ((float *)tensor->owned)[1] = width;
    return value;
}

/* What a factor makes of the axes' extents, 0 for those that are open. The product is a float32, as
 * the factor is: 1.4 as a float is below 7/5, and 5 times it is 7. Files that were written with
 * NumPy 1 have the product of doubles, 6; what they declare tells. */
static void scaled_extents(lowering *low, const int64_t axes[2], const float factors[2],
                           int64_t extents[2])
{
    const mil_type from = mil_type_of(low, "x"), to = mil_type_of_output(low, 0);
    for (int i = 0; i < 2 && !low->status; i++) {
        const int64_t extent = from.shape[axes[i]];
        const int64_t declared = to.rank == from.rank ? to.shape[axes[i]] : GRAPH_FREE;
        const double wide = floor((double)extent * (double)factors[i]);
        const float scaled = floorf((float)extent * factors[i]);
        extents[i] = 0;
        if (!(factors[i] > 0) || (extent > 0 && !(scaled >= 1 && scaled < 0x1p31F)))
            mil_fail(low, PAL_ERROR_FORMAT, "a factor of %g", (double)factors[i]);
        else if (extent > 0)
            extents[i] = declared > 0 && (double)declared == wide ? declared : (int64_t)scaled;
    }
}

/* Nearest: the source of point i is i / factor, rounded down. The extents follow from the factors
 * in float32; one that is smaller by a bit gives what comes of doubles. */
static void lower_upsample_nearest(lowering *low, int kind)
{
    (void)kind;
    const op_attributes attributes = {.resize = {.mode = RESIZE_NEAREST,
                                                 .coordinates = COORDINATE_ASYMMETRIC,
                                                 .nearest = NEAREST_FLOOR}};
    const size_t x = mil_need(low, "x");
    const mil_type type = mil_type_of(low, "x");
    float scales[2] = {mil_param_float(low, "scale_factor_height", 1),
                       mil_param_float(low, "scale_factor_width", 1)};
    int64_t axes[2], extents[2] = {0};
    if (!last_axes(low, axes))
        return;
    scaled_extents(low, axes, scales, extents);
    for (int i = 0; i < 2 && !low->status; i++)
        while (extents[i] && floorf((float)type.shape[axes[i]] * scales[i]) > (float)extents[i])
            scales[i] = nextafterf(scales[i], 0);
    mil_give(low, 0,
             emit_resize(low, x, attributes, GRAPH_NONE, factors(low, scales[0], scales[1]),
                         GRAPH_NONE, axes, 2));
}

/* Linear: the factor that counts is that of the extents, after rounding; where an extent is open,
 * the one given. */
static void lower_upsample_bilinear(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    const float scales[2] = {mil_param_float(low, "scale_factor_height", 1),
                             mil_param_float(low, "scale_factor_width", 1)};
    const bool align = mil_param_bool(low, "align_corners", true);
    const bool half = mil_param_bool(low, "half_pixel_centers", !align);
    const op_attributes attributes = linear(align  ? SAMPLE_STRICT_ALIGN
                                            : half ? SAMPLE_UNALIGN
                                                   : SAMPLE_DEFAULT);
    int64_t axes[2], extents[2] = {0};
    if (!last_axes(low, axes))
        return;
    scaled_extents(low, axes, scales, extents);
    const bool known = extents[0] && extents[1];
    mil_give(low, 0,
             emit_resize(low, x, attributes, GRAPH_NONE,
                         known ? GRAPH_NONE : factors(low, scales[0], scales[1]),
                         known ? mil_const_ints(low, extents, 2) : GRAPH_NONE, axes, 2));
}

/* ---------------------------------------------------------------- cropping */

static void lower_crop(lowering *low, int kind)
{
    (void)kind;
    const size_t x = mil_need(low, "x");
    int64_t axes[2], amounts[2][2], starts[2], ends[2];
    const size_t counts[2] = {mil_param_ints(low, "crop_height", amounts[0], 2),
                              mil_param_ints(low, "crop_width", amounts[1], 2)};
    if (!last_axes(low, axes))
        return;
    for (int i = 0; i < 2; i++) {
        if (counts[i] != 2 || amounts[i][0] < 0 || amounts[i][1] < 0) {
            mil_fail(low, PAL_ERROR_FORMAT, "its amounts to crop are no two numbers");
            return;
        }
        starts[i] = amounts[i][0];
        ends[i] = amounts[i][1] ? -amounts[i][1] : INT64_MAX;
    }
    mil_give(low, 0, mil_emit_slice(low, x, starts, ends, axes, NULL, 2));
}

const mil_operator mil_resize_operators[] = {
    {"resize_bilinear", lower_resize_image, 0},
    {"resize_nearest_neighbor", lower_resize_image, 1},
    {"resize", lower_resize, 0},
    {"upsample_nearest_neighbor", lower_upsample_nearest, 0},
    {"upsample_bilinear", lower_upsample_bilinear, 0},
    {"crop", lower_crop, 0},
    {NULL, NULL, 0},
};
