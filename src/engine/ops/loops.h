/* Loops over elements: every function of one and of two operands, for each type. */
#ifndef PAL_ENGINE_OPS_LOOPS_H
#define PAL_ENGINE_OPS_LOOPS_H

#include "graph/graph.h"

/* y[i] = f(x[i]). y may be x where both types have the same size. */
typedef void (*unary_loop)(int64_t count, const void *x, void *y, float alpha, float beta);
/* NULL if there is no such function of this type. *result (may be NULL): the type of y. */
unary_loop find_unary_loop(unary_kind kind, graph_type type, graph_type *result);

/* PRELU as a function of two operands. */
#define BINARY_PRELU ((binary_kind)BINARY_KIND_COUNT)

/* y[r][c] = f(a[r][c], b[r][c]): y row-major, a and b by strides (in elements). */
typedef void (*binary_loop)(int64_t rows, int64_t columns, void *y, const void *a, int64_t a_row,
                            int64_t a_column, const void *b, int64_t b_row, int64_t b_column);
binary_loop find_binary_loop(binary_kind kind, graph_type type, graph_type *result);

#define BROADCAST_MAX_RANK 20

/* Up to three operands broadcast to a result: the result's extents in the order of memory, and for
 * each operand how far it moves, in elements; 0 where it is broadcast. */
typedef struct broadcast {
    size_t rank, operands;
    int64_t extent[BROADCAST_MAX_RANK], stride[3][BROADCAST_MAX_RANK];
} broadcast;

/* Merges dimensions that continue each other; afterwards the rank is 2 or more. */
void broadcast_simplify(broadcast *broadcast);

/* Runs f over all elements, with OpenMP's threads. Sizes are of an element. */
void broadcast_binary(const broadcast *broadcast, binary_loop f, void *y, size_t y_size,
                      const void *a, const void *b, size_t size);
/* y = condition ? a : b, elements of 1, 4 or 8 bytes. */
void broadcast_select(const broadcast *broadcast, void *y, const unsigned char *condition,
                      const void *a, const void *b, size_t size);
/* y = f(x) over so many elements, with OpenMP's threads. */
void run_unary(unary_loop f, int64_t count, const void *x, size_t x_size, void *y, size_t y_size,
               float alpha, float beta);

#endif
