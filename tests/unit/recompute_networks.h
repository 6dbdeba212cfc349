/* Networks in which the way back has much to compute again, for tests. */
#ifndef PAL_TESTS_RECOMPUTE_NETWORKS_H
#define PAL_TESTS_RECOMPUTE_NETWORKS_H

#include "engine_graphs.h"

#include "engine/gradient.h"

static inline size_t weight_of(bench *b, size_t rank, const int64_t *shape, float scale)
{
    const size_t value = any_of(b, true, rank, shape);
    float *numbers = value_of(b, value)->constant->owned;
    for (uint64_t i = 0; i < value_of(b, value)->constant->elements; i++)
        numbers[i] *= scale;
    return value;
}

static inline size_t drop(bench *b, size_t x)
{
    const op_attributes a = {.dropout = {0.2F}};
    return add(b, OP_DROPOUT, &a, 1, &x);
}

static inline size_t reshape(bench *b, size_t x, size_t rank, const int64_t *shape)
{
    return add(b, OP_RESHAPE, NULL, 2, (const size_t[]){x, graph_add_ints(b->graph, shape, rank)});
}

/* x times a new weight, plus a bias. */
static inline size_t product(bench *b, size_t x, int64_t to)
{
    const op_attributes a = {.matmul = {.alpha = 1}};
    const graph_value *v = value_of(b, x);
    const int64_t from = v->shape[v->rank - 1];
    const size_t w = weight_of(b, 2, (const int64_t[]){from, to}, 1 / sqrtf((float)from));
    const size_t y = add(b, OP_MATMUL, &a, 2, (const size_t[]){x, w});
    return binary(b, BINARY_ADD, y, weight_of(b, 1, &to, 0.1F));
}

/* The same with a bias for each row, which is added by a step of its own, in place: x is of rank 3,
 * and the product sees all its rows as those of one matrix. */
static inline size_t product_by_rows(bench *b, size_t x, int64_t to)
{
    const op_attributes a = {.matmul = {.alpha = 1}};
    const int64_t rows = value_of(b, x)->shape[1], from = value_of(b, x)->shape[2];
    const size_t w = weight_of(b, 2, (const int64_t[]){from, to}, 1 / sqrtf((float)from));
    const size_t bias = weight_of(b, 2, (const int64_t[]){rows, 1}, 0.1F);
    return add(b, OP_MATMUL, &a, 3, (const size_t[]){x, w, bias});
}

/* ---------------------------------------------------------------- convolutions */

static inline size_t convolution(bench *b, size_t x, int64_t to, int64_t side)
{
    op_attributes a = {.window = {.stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
    const int64_t from = value_of(b, x)->shape[1];
    for (int i = 0; i < 2; i++)
        a.window.pad_begin[i] = a.window.pad_end[i] = side / 2;
    const size_t w = weight_of(b, 4, (const int64_t[]){to, from, side, side},
                               1 / (float)side / sqrtf((float)from));
    return add(b, OP_CONV, &a, 2, (const size_t[]){x, w});
}

static inline size_t norm(bench *b, size_t x)
{
    const op_attributes a = {.norm = {.epsilon = 1e-3F}};
    const int64_t channels = value_of(b, x)->shape[1];
    size_t inputs[5] = {x};
    for (size_t i = 1; i < 5; i++) {
        inputs[i] = weight_of(b, 1, &channels, 0.2F);
        float *numbers = value_of(b, inputs[i])->constant->owned;
        for (int64_t c = 0; c < channels; c++)
            numbers[c] = i == 1 || i == 4 ? 1 + fabsf(numbers[c]) : numbers[c];
    }
    return add(b, OP_BATCH_NORM, &a, 5, inputs);
}

static inline size_t pool(bench *b, size_t x, int kind, bool global)
{
    op_attributes a = {.window = {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}}};
    a.pool.kind = kind;
    a.pool.global = global;
    return add(b, OP_POOL, &a, 1, &x);
}

/* Residual blocks with batch norms, some of them gated by a mean over the image; pools, dropout. */
static inline size_t residual_network(bench *b, int64_t batch, int64_t side)
{
    const int64_t channels = 16;
    size_t x = any_of(b, false, 4, (const int64_t[]){batch, 3, side, side});
    x = unary(b, UNARY_RELU, 0, 0, norm(b, convolution(b, x, channels, 3)));
    for (int block = 0; block < 8; block++) {
        size_t y = norm(b, convolution(b, x, channels, 3));
        y = block % 2 ? unary(b, UNARY_HARD_SWISH, 0, 0, y) : unary(b, UNARY_RELU, 0, 0, y);
        if (block % 3 == 2) {
            const size_t mean = pool(b, y, POOL_AVERAGE, true);
            y = binary(b, BINARY_MUL, y,
                       unary(b, UNARY_SIGMOID, 0, 0, convolution(b, mean, channels, 1)));
        }
        y = norm(b, convolution(b, y, channels, 3));
        x = unary(b, UNARY_RELU, 0, 0, binary(b, BINARY_ADD, y, x));
        if (block == 5)
            x = pool(b, x, POOL_MAX, false);
        if (block % 4 == 1)
            x = drop(b, x);
    }
    x = pool(b, x, POOL_AVERAGE, true);
    return product(b, reshape(b, x, 2, (const int64_t[]){batch, channels}), 10);
}

/* ---------------------------------------------------------------- sequences */

static inline size_t layer_norm(bench *b, size_t x)
{
    const op_attributes a = {.norm = {.epsilon = 1e-2F, .axes = {-1}}};
    const graph_value *v = value_of(b, x);
    const int64_t width = v->shape[v->rank - 1];
    const size_t scale = weight_of(b, 1, &width, 1), shift = weight_of(b, 1, &width, 0.1F);
    return add(b, OP_LAYER_NORM, &a, 3, (const size_t[]){x, scale, shift});
}

/* Layers of attention and of two products, each beside a sum. */
static inline size_t attention_network(bench *b, int64_t batch, int64_t length)
{
    const int64_t width = 24;
    const op_attributes a = {.attention = {.causal = true}};
    size_t x = any_of(b, false, 3, (const int64_t[]){batch, length, width});
    for (int layer = 0; layer < 5; layer++) {
        const size_t y = layer_norm(b, x);
        size_t heads[3];
        for (int i = 0; i < 3; i++)
            heads[i] =
                reshape(b, product(b, y, width), 4, (const int64_t[]){batch, 1, length, width});
        const size_t mixed = reshape(b, add(b, OP_ATTENTION, &a, 3, heads), 3,
                                     (const int64_t[]){batch, length, width});
        x = binary(b, BINARY_ADD, x, product(b, mixed, width));
        const size_t wide =
            unary(b, UNARY_GELU, 0, 0, product_by_rows(b, layer_norm(b, x), 2 * width));
        x = binary(b, BINARY_ADD, x, drop(b, product(b, wide, width)));
    }
    return product(b, x, 10);
}

/* LSTMs one above the other, with norms and dropout between them. */
static inline size_t recurrent_network(bench *b, int64_t length, int64_t batch)
{
    const int64_t width = 8;
    op_attributes a = {.recurrent = {.hidden_size = width}};
    for (int i = 0; i < 3; i++)
        a.recurrent.activations[i] = i ? UNARY_TANH : UNARY_SIGMOID;
    size_t x = any_of(b, false, 3, (const int64_t[]){length, batch, width});
    for (int layer = 0; layer < 6; layer++) {
        const size_t w = weight_of(b, 3, (const int64_t[]){1, 4 * width, width}, 0.4F);
        const size_t r = weight_of(b, 3, (const int64_t[]){1, 4 * width, width}, 0.4F);
        size_t y = add(b, OP_LSTM, &a, 3, (const size_t[]){x, w, r});
        y = reshape(b, y, 3, (const int64_t[]){length, batch, width});
        x = drop(b, layer_norm(b, y));
    }
    return product(b, x, 10);
}

/* ---------------------------------------------------------------- many operands */

/* More parts beside each other than a step has room for among its reads. */
static inline size_t joined_network(bench *b, int64_t batch)
{
    enum { PARTS = 11 };
    const int64_t width = 16;
    size_t x = any_of(b, false, 2, (const int64_t[]){batch, width}), parts[PARTS];
    for (int layer = 0; layer < 6; layer++) {
        for (size_t i = 0; i < PARTS; i++)
            parts[i] = unary(b, UNARY_TANH, 0, 0, product(b, x, width));
        graph_node *node =
            graph_add_node(b->graph, &b->graph->main, OP_CONCAT, "node", "Concat", PARTS, 1);
        assert_non_null(node);
        node->attributes.concat.axis = 1;
        memcpy(node->inputs, parts, sizeof parts);
        node->outputs[0] = graph_add_value(b->graph, "result", GRAPH_FLOAT);
        graph_value *joined = &b->graph->values[node->outputs[0]];
        joined->rank = 2;
        joined->shape[0] = batch;
        joined->shape[1] = PARTS * width;
        x = drop(b, product(b, node->outputs[0], width));
    }
    return x;
}

/* One of four of them. */
static inline size_t network_of(bench *b, int network)
{
    return network == 0   ? residual_network(b, 4, 12)
           : network == 1 ? attention_network(b, 3, 16)
           : network == 2 ? recurrent_network(b, 12, 4)
                          : joined_network(b, 64);
}

/* ---------------------------------------------------------------- training */

/* Makes a graph of one input ready for training all of its weights. */
static inline pal_status train_graph(const graph *graph, const int64_t shape[PAL_MAX_RANK],
                                     const bool *all, size_t count, recompute_kind recompute,
                                     gradients **out)
{
    return gradients_new(graph,
                         &(gradient_options){.shapes = (const int64_t(*)[PAL_MAX_RANK])shape,
                                             .weights = all,
                                             .weight_count = count,
                                             .threads = 2,
                                             .training = true,
                                             .weights_change = true,
                                             .seed = 7,
                                             .recompute = recompute},
                         out);
}

/* The same where every constant is a weight. */
static inline pal_status train_network(bench *b, size_t result, recompute_kind recompute,
                                       gradients **out)
{
    enum { MOST = 400 };
    static bool all[MOST];
    size_t count = 0;
    for (size_t v = 0; v < b->graph->value_count; v++)
        if (value_of(b, v)->constant && value_of(b, v)->type == GRAPH_FLOAT)
            b->graph->values[v].weight = count++;
    assert_true(count <= MOST);
    memset(all, true, sizeof all);
    b->graph->main.outputs = &result;
    b->graph->output_count = 1;
    return train_graph(b->graph, value_of(b, b->graph->inputs[0].value)->shape, all, count,
                       recompute, out);
}

#endif
