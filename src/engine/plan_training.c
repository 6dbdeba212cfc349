/* What training adds to a plan: numbers that are drawn, and statistics of batches. */
#include "base/draw.h"
#include "engine/plan_state.h"

void plan_set_run(plan *plan, uint64_t number)
{
    plan->run = number;
}

uint64_t plan_draw_key(const plan *plan, const graph_node *node)
{
    const uint64_t number = (uint64_t)(node - plan->graph->main.nodes);
    return draw(draw(draw(plan->options.seed, 0), plan->run), number);
}

pal_status plan_keep_statistics(plan *plan, const graph_node *node, buffer *mean, buffer *variance,
                                uint64_t count)
{
    if (!mem_grow((void **)&plan->statistics, &plan->statistics_capacity,
                  plan->statistics_count + 1, sizeof *plan->statistics))
        return fail_memory("a plan");
    mean->pinned = variance->pinned = true;
    plan->statistics[plan->statistics_count++] = (kept_statistics){node, mean, variance, count};
    return PAL_OK;
}

void plan_kept_statistics(const plan *plan, const graph_node *node, buffer *statistics[2])
{
    for (size_t i = 0; i < plan->statistics_count; i++)
        if (plan->statistics[i].node == node) {
            statistics[0] = plan->statistics[i].mean;
            statistics[1] = plan->statistics[i].variance;
        }
}

size_t plan_batch_norm_count(const plan *plan)
{
    return plan->statistics_count;
}

batch_statistics plan_batch_statistics(const plan *plan, size_t i)
{
    const kept_statistics *kept = &plan->statistics[i];
    return (batch_statistics){.running_mean = kept->node->inputs[3],
                              .running_variance = kept->node->inputs[4],
                              .channels = kept->mean->elements,
                              .count = kept->count,
                              .mean = kept->mean->data,
                              .variance = kept->variance->data};
}
