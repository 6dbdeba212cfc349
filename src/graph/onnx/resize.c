/* Resize in all its versions, and Upsample, which came before it. */
#include "graph/onnx/lowering.h"

static void read_modes(lowering *low, op_attributes *to)
{
    static const char *const modes[] = {"nearest", "linear", "cubic", "bilinear", NULL};
    static const char *const places[] = {
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel",   "align_corners",
        "asymmetric", "tf_crop_and_resize",   "tf_half_pixel_for_nn", NULL};
    static const char *const roundings[] = {"round_prefer_floor", "round_prefer_ceil", "floor",
                                            "ceil", NULL};
    static const char *const aspects[] = {"stretch", "not_larger", "not_smaller", NULL};
    const int mode = attribute_choice(low, "mode", 0, modes);
    to->resize.mode = mode == 3 ? RESIZE_LINEAR : mode;
    to->resize.coordinates = attribute_choice(low, "coordinate_transformation_mode", 0, places);
    to->resize.nearest = attribute_choice(low, "nearest_mode", 0, roundings);
    to->resize.aspect = attribute_choice(low, "keep_aspect_ratio_policy", 0, aspects);
    to->resize.cubic_a = attribute_float(low, "cubic_coeff_a", -0.75F);
    to->resize.extrapolation = attribute_float(low, "extrapolation_value", 0);
    to->resize.exclude_outside = attribute_int(low, "exclude_outside", 0) != 0;
    to->resize.antialias = attribute_int(low, "antialias", 0) != 0;
    const size_t count = attribute_ints(low, "axes", to->resize.axes, PAL_MAX_RANK);
    to->resize.axis_count = count == NONE ? 0 : count;
}

/* An input that is there but empty is not given. */
static size_t given(lowering *low, size_t i)
{
    const size_t value = want(low, i);
    const graph_tensor *constant = value == GRAPH_NONE ? NULL : low->graph->values[value].constant;
    return constant && constant->elements == 0 ? GRAPH_NONE : value;
}

static void lower_resize(lowering *low, int kind)
{
    (void)kind;
    op_attributes attributes = {0};
    const bool old = low->opset < 11; /* x and scales only; corners at the origin */
    read_modes(low, &attributes);
    if (old) { /* the specification is silent on rounding: as onnxruntime does */
        attributes.resize.coordinates = COORDINATE_ASYMMETRIC;
        attributes.resize.nearest = NEAREST_BY_SCALE;
    }
    give(low, 0,
         emit(low, OP_RESIZE, &attributes,
              VALUES(need(low, 0), old ? GRAPH_NONE : given(low, 1),
                     old ? need(low, 1) : given(low, 2), old ? GRAPH_NONE : given(low, 3))));
}

static void lower_upsample(lowering *low, int kind)
{
    (void)kind;
    op_attributes attributes = {0};
    float scales[PAL_MAX_RANK];
    const size_t count = attribute_floats(low, "scales", scales, PAL_MAX_RANK);
    size_t by = GRAPH_NONE;
    read_modes(low, &attributes);
    attributes.resize.coordinates = COORDINATE_ASYMMETRIC;
    attributes.resize.nearest = NEAREST_FLOOR;
    if (count == NONE) {
        by = need(low, 1);
    } else {
        const int64_t extent = (int64_t)count;
        graph_tensor *tensor = graph_add_tensor(low->graph, GRAPH_FLOAT, 1, &extent);
        if (tensor)
            __builtin_memcpy(tensor->owned, scales, count * sizeof *scales);
        by = graph_add_constant(low->graph, "", tensor);
        if (by == GRAPH_NONE)
            low_failed(low, PAL_ERROR_MEMORY);
    }
    give(low, 0, emit(low, OP_RESIZE, &attributes, VALUES(need(low, 0), GRAPH_NONE, by)));
}

const onnx_operator resize_operators[] = {
    {"Resize", lower_resize, 0},
    {"Upsample", lower_upsample, 0},
    {0},
};
