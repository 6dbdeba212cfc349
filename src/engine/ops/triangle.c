/* The upper or lower triangle of matrices; the rest becomes zero. */
#include <string.h>

#include "engine/ops/back.h"
#include "engine/ops/ops.h"

typedef struct triangle {
    bool upper;
    int64_t rows, columns;
    size_t element;
} triangle;

static pal_status run(const step *step)
{
    const triangle *it = step->state;
    const unsigned char *from = step->reads[0]->data;
    unsigned char *to = step->writes[0]->data;
    const size_t row_bytes = (size_t)it->columns * it->element;
    int64_t k = 0;
    if (step->reads[1])
        memcpy(&k, step->reads[1]->data, sizeof k);
    /* Beyond the matrix it makes no difference how far. */
    const int64_t most = it->rows + it->columns;
    k = k > most ? most : k < -most ? -most : k;
    const int64_t rows = row_bytes ? (int64_t)(step->reads[0]->elements / (size_t)it->columns) : 0;
    for (int64_t row = 0; row < rows; row++) {
        int64_t edge = row % it->rows + k + (it->upper ? 0 : 1); /* columns before it: lower */
        edge = edge < 0 ? 0 : edge > it->columns ? it->columns : edge;
        const size_t low = (size_t)edge * it->element;
        if (it->upper) {
            memset(to, 0, low);
            memcpy(to + low, from + low, row_bytes - low);
        } else {
            memcpy(to, from, low);
            memset(to + low, 0, row_bytes - low);
        }
        from += row_bytes;
        to += row_bytes;
    }
    return PAL_OK;
}

static triangle *triangle_new(plan *plan, const graph_node *node)
{
    const graph_value *x = plan_input(plan, node, 0);
    triangle *it = plan_alloc(plan, sizeof *it);
    if (it)
        *it = (triangle){node->attributes.trilu.upper, x->shape[x->rank - 2], x->shape[x->rank - 1],
                         graph_type_size(x->type)};
    return it;
}

static pal_status forward(plan *plan, const graph_node *node)
{
    triangle *it = triangle_new(plan, node);
    return it ? plan_simple(plan, node, "triangle", run, it, NULL) : PAL_ERROR_MEMORY;
}

/* What became zero has no gradient. */
static pal_status backward(plan *plan, const graph_node *node)
{
    triangle *it = triangle_new(plan, node);
    const size_t k = node->input_count > 1 ? node->inputs[1] : GRAPH_NONE;
    return it ? back_source(plan, node, "triangle", run, it, &k, 1) : PAL_ERROR_MEMORY;
}

const op_kernel kernel_trilu = {forward, backward};
