/* Sequences of different lengths in one batch: their beginnings reversed, the rest left. */
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/ops.h"

typedef struct reversal {
    bool batch_first;
    int64_t batch, time;
    size_t inner; /* bytes */
} reversal;

static pal_status run(const step *step)
{
    const reversal *it = step->state;
    const int64_t *lengths = step->reads[1]->data;
    const unsigned char *from = step->reads[0]->data;
    unsigned char *to = step->writes[0]->data;
    for (int64_t b = 0; b < it->batch; b++) {
        if (lengths[b] < 0 || lengths[b] > it->time)
            return fail(PAL_ERROR_VALUE, "length %lld of a sequence of at most %lld",
                        (long long)lengths[b], (long long)it->time);
        for (int64_t t = 0; t < it->time; t++) {
            const int64_t source = t < lengths[b] ? lengths[b] - 1 - t : t;
            const int64_t at = it->batch_first ? b * it->time + t : t * it->batch + b;
            const int64_t other = it->batch_first ? b * it->time + source : source * it->batch + b;
            memcpy(to + (size_t)at * it->inner, from + (size_t)other * it->inner, it->inner);
        }
    }
    return PAL_OK;
}

static reversal *reversal_new(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    reversal *it = plan_alloc(plan, sizeof *it);
    if (!it)
        return NULL;
    it->batch_first = node->attributes.sequence.batch_axis == 0;
    it->batch = x->shape[it->batch_first ? 0 : 1];
    it->time = x->shape[it->batch_first ? 1 : 0];
    it->inner = graph_type_size(x->type);
    for (size_t d = 2; d < x->rank; d++)
        it->inner *= (size_t)x->shape[d];
    return it;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    reversal *it = reversal_new(plan, node);
    return it ? plan_simple(plan, node, "reverse sequence", run, it, NULL) : PAL_ERROR_MEMORY;
}

/* Reversed once more. */
static pal_status backward(plan *plan, const graph_node *node)
{
    reversal *it = reversal_new(plan, node);
    return it ? back_source(plan, node, "reverse sequence", run, it, &node->inputs[1], 1)
              : PAL_ERROR_MEMORY;
}

const op_kernel kernel_reverse_sequence = {forward, backward};
