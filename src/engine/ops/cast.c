/* Casts between what values are computed in: float, int64_t, bool. The file's type matters where it
 * is a narrower integer: the value wraps to its range, as NumPy's astype does. Casts from one
 * floating type to another keep the float32 value. */
#include <math.h>
#include <string.h>

#include "engine/ops/ops.h"

typedef struct casting {
    graph_type from, to;
    pal_dtype dtype;
} casting;

static int64_t wrap(int64_t value, pal_dtype dtype)
{
    switch (dtype) {
    case PAL_INT4: return ((value & 15) ^ 8) - 8;
    case PAL_INT8: return (int8_t)(uint8_t)value;
    case PAL_INT16: return (int16_t)(uint16_t)value;
    case PAL_INT32: return (int32_t)(uint32_t)value;
    case PAL_UINT4: return value & 15;
    case PAL_UINT8: return (uint8_t)value;
    case PAL_UINT16: return (uint16_t)value;
    case PAL_UINT32: return (uint32_t)value;
    default: return value;
    }
}

/* Towards zero; what no int64_t can hold becomes the nearest that one can, NaN the lowest. */
static int64_t truncated(float value)
{
    if (!(value >= -0x1p63F))
        return INT64_MIN;
    return value >= 0x1p63F ? INT64_MAX : (int64_t)value;
}

static pal_status run(const step *step)
{
    const casting *it = step->state;
    const void *from = step->reads[0]->data;
    void *to = step->writes[0]->data;
    const uint64_t count = step->writes[0]->elements;
    for (uint64_t i = 0; i < count; i++) {
        const float f = it->from == GRAPH_FLOAT ? ((const float *)from)[i] : 0;
        const int64_t n = it->from == GRAPH_INT    ? ((const int64_t *)from)[i]
                          : it->from == GRAPH_BOOL ? ((const uint8_t *)from)[i]
                                                   : 0;
        if (it->to == GRAPH_FLOAT)
            ((float *)to)[i] = it->from == GRAPH_FLOAT ? f : (float)n;
        else if (it->to == GRAPH_INT)
            ((int64_t *)to)[i] = wrap(it->from == GRAPH_FLOAT ? truncated(f) : n, it->dtype);
        else
            ((uint8_t *)to)[i] = it->from == GRAPH_FLOAT ? f != 0 : n != 0;
    }
    return PAL_OK;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    casting *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return PAL_ERROR_MEMORY;
    *it = (casting){plan_input(plan, node, 0)->type, plan_output(plan, node, 0)->type,
                    node->attributes.cast.to};
    return plan_simple(plan, node, "cast", run, it, NULL);
}

/* Only between floating types is there a gradient: the value is the same. */
static pal_status backward(plan *plan, const graph_node *node)
{
    buffer *gradient;
    pal_status status = plan_gradient(plan, node->outputs[0], &gradient);
    return status ? status : plan_add_gradient(plan, node->inputs[0], gradient);
}

const op_kernel kernel_cast = {forward, backward};
