/* Resizing: extents and scales, as ONNX's Resize derives one from the other. */
#include <math.h>
#include <string.h>

#include "graph/inference.h"

/* One scale for all axes that are resized, where their proportions stay. */
static void keep_aspect(const graph_node *node, const graph_value *x, const bool *resized,
                        resize_geometry *out)
{
    const bool larger = node->attributes.resize.aspect == ASPECT_NOT_SMALLER;
    float common = larger ? 0 : INFINITY;
    for (size_t d = 0; d < x->rank; d++)
        if (resized[d])
            common = larger ? fmaxf(common, out->scale[d]) : fminf(common, out->scale[d]);
    for (size_t d = 0; d < x->rank; d++)
        if (resized[d]) {
            out->scale[d] = common;
            out->extent[d] = (int64_t)floor((double)common * (double)x->shape[d] + 0.5);
        }
}

/* Where the numbers of a list belong: all axes, or those named. */
static pal_status axes_of(const graph_node *node, size_t rank, size_t *axes, size_t *count)
{
    const size_t named = node->attributes.resize.axis_count;
    *count = named ? named : rank;
    if (named > PAL_MAX_RANK)
        return infer_fail(node, "too many axes");
    for (size_t i = 0; i < *count; i++) {
        axes[i] = i;
        if (!named)
            continue;
        pal_status status = resolve_axis(node, node->attributes.resize.axes[i], rank, &axes[i]);
        if (status)
            return status;
    }
    return PAL_OK;
}

pal_status resolve_resize(const graph_node *node, const graph_value *const *inputs,
                          resize_geometry *out)
{
    const graph_value *x = inputs[0], *scaled = infer_input(node, inputs, 2);
    const graph_value *sized = infer_input(node, inputs, 3);
    float scales[PAL_MAX_RANK], roi[2 * PAL_MAX_RANK];
    int64_t sizes[PAL_MAX_RANK];
    size_t axes[PAL_MAX_RANK], count, found, roi_count = 0;
    bool resized[PAL_MAX_RANK] = {0};
    const bool crop = node->attributes.resize.coordinates == COORDINATE_TF_CROP_AND_RESIZE;
    pal_status status = axes_of(node, x->rank, axes, &count);
    if (!status)
        status = infer_floats(node, "list of scales", scaled, scales, PAL_MAX_RANK, &found);
    if (!status && sized)
        status = infer_ints(node, "list of sizes", sized, sizes, PAL_MAX_RANK, &found);
    if (!status && crop)
        status = infer_floats(node, "region", infer_input(node, inputs, 1), roi, 2 * PAL_MAX_RANK,
                              &roi_count);
    if (status)
        return status;
    if (!scaled && !sized)
        return infer_fail(node, "neither scales nor sizes are given");
    if (found != count || (crop && roi_count != 2 * count))
        return infer_fail(node, "%zu numbers for %zu axes", found, count);
    for (size_t d = 0; d < x->rank; d++) {
        out->extent[d] = x->shape[d];
        out->scale[d] = 1;
        out->roi_begin[d] = 0;
        out->roi_end[d] = 1;
    }
    for (size_t i = 0; i < count; i++) {
        const size_t d = axes[i];
        resized[d] = true;
        if (crop) {
            out->roi_begin[d] = roi[i];
            out->roi_end[d] = roi[count + i];
        }
        if (sized) {
            out->extent[d] = sizes[i];
            out->scale[d] = x->shape[d] ? (float)((double)sizes[i] / (double)x->shape[d]) : 1;
        } else {
            /* In the scale's precision: 0.7 as a float is below 7/10, and 20 times it is 14. */
            const float part = crop ? out->roi_end[d] - out->roi_begin[d] : 1;
            const float length = floorf((float)x->shape[d] * part * scales[i]);
            if (!(scales[i] > 0) || !(length >= 0 && length <= (float)INFER_MAX_EXTENT))
                return infer_fail(node, "scale %g", (double)scales[i]);
            out->scale[d] = scales[i];
            out->extent[d] = (int64_t)length;
        }
        if (out->extent[d] < 0 || (x->shape[d] == 0 && out->extent[d] > 0))
            return infer_fail(node, "extent %lld from %lld", (long long)out->extent[d],
                              (long long)x->shape[d]);
    }
    if (sized && node->attributes.resize.aspect != ASPECT_STRETCH)
        keep_aspect(node, x, resized, out);
    return PAL_OK;
}

pal_status infer_resize(const graph_node *node, const graph_value *const *inputs,
                        graph_value *outputs)
{
    resize_geometry geometry;
    pal_status status = resolve_resize(node, inputs, &geometry);
    return status ? status : infer_set(node, &outputs[0], inputs[0]->rank, geometry.extent);
}
