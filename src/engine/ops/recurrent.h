/* What both ways of recurrent layers share. */
#ifndef PAL_ENGINE_OPS_RECURRENT_H
#define PAL_ENGINE_OPS_RECURRENT_H

#include "engine/ops/walk.h"
#include "engine/plan.h"

typedef enum cell { CELL_LSTM, CELL_GRU, CELL_RNN } cell;

typedef struct recurrence {
    cell cell;
    op_attributes attributes;
    int64_t time, batch, input, hidden, gates, directions;
} recurrence;

pal_status recurrence_new(plan *plan, const graph_node *node, recurrence **out);

float recurrent_function(unary_kind kind, float alpha, float beta, float x);

/* Where y keeps a sample's state of a time step, and where the first or last state is. */
int64_t recurrent_output_place(const recurrence *it, size_t direction, int64_t t, int64_t b);
int64_t recurrent_state_place(const recurrence *it, size_t direction, int64_t b);

/* recurrent_back.c */
pal_status recurrent_back(plan *plan, const graph_node *node);

#endif
