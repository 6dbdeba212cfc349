/* Conditions, and operators that hand values on. */
#include "graph/coreml/lowering.h"

static void lower_identity(lowering *low, int kind)
{
    (void)kind;
    mil_give(low, 0, mil_need(low, "x"));
}

static void lower_select(lowering *low, int kind)
{
    (void)kind;
    size_t condition = mil_need(low, "cond"), a = mil_need(low, "a"), b = mil_need(low, "b");
    mil_bring_together(low, &a, &b);
    mil_give(low, 0, mil_emit(low, OP_SELECT, NULL, VALUES(condition, a, b)));
}

/* The branches' values become those of the condition: they are computed where it is. */
static void lower_cond(lowering *low, int kind)
{
    (void)kind;
    const Coreml__Operation *operation = low->operation;
    const size_t outputs = operation->n_outputs, condition = mil_need(low, "pred");
    graph_branch *const outer = low->branch;
    if (low->status)
        return;
    if (operation->n_blocks != 2 || !outputs) {
        mil_fail(low, PAL_ERROR_FORMAT, "a condition with %zu branches", operation->n_blocks);
        return;
    }
    graph_branch *branches = arena_zeroed(&low->graph->arena, 2 * sizeof *branches);
    if (!branches) {
        mil_failed(low, fail_memory("a graph's nodes"));
        return;
    }
    size_t *results = arena_zeroed(&low->arena, outputs * sizeof *results);
    if (!results) {
        mil_failed(low, fail_memory("a graph's nodes"));
        return;
    }
    mil_emit_all(low, OP_IF, NULL, VALUES(condition), results, outputs);
    if (low->status)
        return;
    outer->nodes[outer->node_count - 1].branches = branches;
    for (size_t b = 0; b < 2; b++)
        mil_lower_branch(low, operation->blocks[b], &branches[b], outputs);
    for (size_t i = 0; !low->status && i < outputs; i++) {
        low->graph->values[results[i]].type = mil_value_type(low, branches[0].outputs[i]);
        mil_give(low, i, results[i]);
    }
}

/* A classifier's label is for people; what it is computed from is the output here. */
static void lower_classify(lowering *low, int kind)
{
    (void)kind;
    const size_t probabilities = mil_need(low, "probabilities");
    if (low->status)
        return;
    if (low->operation->n_outputs != 2) {
        mil_fail(low, PAL_ERROR_FORMAT, "a classifier without a label and probabilities");
        return;
    }
    mil_scope_add(low, low->operation->outputs[0]->name, low->operation->outputs[0]->type);
    mil_give(low, 1, probabilities);
}

const mil_operator mil_control_operators[] = {
    {"identity", lower_identity, 0},
    {"select", lower_select, 0},
    {"cond", lower_cond, 0},
    {"classify", lower_classify, 0},
    {NULL, NULL, 0},
};
