/* Recurrent layers. MIL keeps the gates' weights side by side like the graph, in another order, and
 * both directions' states side by side. A layer that runs in reverse gives its results in the order
 * in which it computed them, so here it runs forwards on its input turned around; only the second
 * half of a layer in both directions is aligned with the input. */
#include <string.h>

#include "graph/coreml/lowering.h"

/* The graph's gates by their place among MIL's. */
static const size_t lstm_gates[] = {0, 2, 1, 3};  /* input, forget, output, cell -> i o f c */
static const size_t lstm_peepholes[] = {0, 2, 1}; /* input, forget, output -> i o f */
static const size_t gru_gates[] = {2, 0, 1};      /* reset, output, update -> z r h */
static const size_t rnn_gates[] = {0};

typedef struct layer {
    size_t directions;
    int64_t hidden;
    const size_t *gates;
    size_t gate_count;
    bool sequence; /* all steps are wanted, not the last alone */
} layer;

/* ---------------------------------------------------------------- attributes */

static void set_activation(lowering *low, const char *key, int otherwise, op_attributes *attributes,
                           size_t i, const layer *it)
{
    static const char *const names[] = {"tanh",         "sigmoid", "relu",        "hard_sigmoid",
                                        "sigmoid_hard", "linear",  "scaled_tanh", NULL};
    /* With Core ML's numbers; those of scaled_tanh are 1 here. */
    static const struct {
        unary_kind kind;
        float alpha, beta;
    } kinds[] = {{UNARY_TANH, 0, 0},
                 {UNARY_SIGMOID, 0, 0},
                 {UNARY_RELU, 0, 0},
                 {UNARY_HARD_SIGMOID, 0.2f, 0.5f},
                 {UNARY_HARD_SIGMOID, 0.2f, 0.5f},
                 {UNARY_LINEAR, 1, 0},
                 {UNARY_TANH, 0, 0}};
    const int choice = mil_param_choice(low, key, otherwise, names);
    for (size_t d = 0, n = it->directions == 2 ? 3 : 0; d < it->directions; d++) {
        attributes->recurrent.activations[i + d * n] = kinds[choice].kind;
        attributes->recurrent.alphas[i + d * n] = kinds[choice].alpha;
        attributes->recurrent.betas[i + d * n] = kinds[choice].beta;
    }
}

/* Reads the layer's form; gives its input, turned around where it runs in reverse. */
static size_t read_layer(lowering *low, const size_t *gates, size_t gate_count, layer *out)
{
    static const char *const names[] = {"forward", "reverse", "bidirectional", NULL};
    const int direction = mil_param_choice(low, "direction", 0, names);
    const mil_type weight = mil_type_of(low, "weight_hh");
    *out = (layer){.directions = direction == 2 ? 2 : 1,
                   .hidden = mil_dimension_of(low, &weight, -1),
                   .gates = gates,
                   .gate_count = gate_count,
                   .sequence = mil_param_bool(low, "output_sequence", false)};
    if (out->hidden > INT32_MAX / 8)
        mil_fail(low, PAL_ERROR_FORMAT, "%lld hidden units", (long long)out->hidden);
    if (mil_is_given(low, "clip"))
        mil_fail(low, PAL_ERROR_UNSUPPORTED, "a cell state that is clipped");
    const size_t x = mil_need(low, "x");
    const int64_t start = INT64_MAX, end = INT64_MIN, axis = 0, step = -1;
    return direction == 1 ? mil_emit_slice(low, x, &start, &end, &axis, &step, 1) : x;
}

/* ---------------------------------------------------------------- weights */

/* The rows of each gate in the graph's order. */
static size_t reorder(lowering *low, size_t value, const size_t *gates, size_t count)
{
    enum { MOST = 4 };
    const op_attributes rows = {.split = {0}};
    size_t parts[MOST], ordered[MOST];
    if (value == GRAPH_NONE || count == 1 || count > MOST)
        return value;
    mil_emit_all(low, OP_SPLIT, &rows, VALUES(value), parts, count);
    for (size_t i = 0; i < count; i++)
        ordered[i] = parts[gates[i]];
    return mil_emit_concat(low, ordered, count, 0);
}

static size_t zeros(lowering *low, int64_t extent)
{
    return mil_emit_filled(low, mil_const_ints(low, &extent, 1), 0);
}

/* One of each direction, stacked. */
static size_t stacked(lowering *low, size_t *values, size_t directions)
{
    const int64_t first = 0;
    for (size_t d = 0; d < directions; d++)
        values[d] = mil_emit_unsqueeze(low, values[d], &first, 1);
    return directions == 1 ? values[0] : mil_emit_concat(low, values, directions, 0);
}

static size_t weights(lowering *low, const layer *it, const char *const keys[2])
{
    size_t values[2];
    for (size_t d = 0; d < it->directions; d++)
        values[d] = reorder(low, mil_need(low, keys[d]), it->gates, it->gate_count);
    return stacked(low, values, it->directions);
}

/* Peepholes: as weights, but they may be left out. */
static size_t peepholes(lowering *low, const layer *it)
{
    static const char *const keys[2] = {"peephole", "peephole_back"};
    size_t values[2];
    bool any = false;
    for (size_t d = 0; d < it->directions; d++) {
        values[d] = reorder(low, mil_want(low, keys[d]), lstm_peepholes, 3);
        any = any || values[d] != GRAPH_NONE;
    }
    for (size_t d = 0; any && d < it->directions; d++)
        if (values[d] == GRAPH_NONE)
            values[d] = zeros(low, 3 * it->hidden);
    return any ? stacked(low, values, it->directions) : GRAPH_NONE;
}

/* For each direction the bias on the input and that on the state. */
static size_t biases(lowering *low, const layer *it, const char *const input[2],
                     const char *const state[2])
{
    size_t values[2];
    bool any = false;
    for (size_t d = 0; d < it->directions; d++)
        any = any || mil_want(low, input[d]) != GRAPH_NONE || mil_want(low, state[d]) != GRAPH_NONE;
    if (!any)
        return GRAPH_NONE;
    for (size_t d = 0; d < it->directions; d++) {
        size_t parts[2] = {mil_want(low, input[d]), mil_want(low, state[d])};
        for (int p = 0; p < 2; p++)
            parts[p] = parts[p] == GRAPH_NONE ? zeros(low, (int64_t)it->gate_count * it->hidden)
                                              : reorder(low, parts[p], it->gates, it->gate_count);
        values[d] = mil_emit_concat(low, parts, 2, 0);
    }
    return stacked(low, values, it->directions);
}

/* ---------------------------------------------------------------- states and results */

/* [batch, directions H] -> [directions, batch, H] */
static size_t state_in(lowering *low, const layer *it, const char *key)
{
    const size_t value = mil_need(low, key);
    const int64_t first = 0;
    if (it->directions == 1)
        return mil_emit_unsqueeze(low, value, &first, 1);
    return mil_emit_transpose(low, mil_emit_reshape(low, value, INTS(0, 2, it->hidden)),
                              INTS(1, 0, 2));
}

/* [directions, batch, H] -> [batch, directions H] */
static size_t state_out(lowering *low, const layer *it, size_t value)
{
    if (it->directions == 1)
        return mil_emit(low, OP_SQUEEZE, NULL, VALUES(value, mil_const_ints(low, INTS(0))));
    return mil_emit_reshape(low, mil_emit_transpose(low, value, INTS(1, 0, 2)),
                            INTS(0, 2 * it->hidden));
}

/* [steps, directions, batch, H] -> [steps, batch, directions H], or the last state as one step. */
static void give_results(lowering *low, const layer *it, const size_t *results, size_t count)
{
    const size_t last = state_out(low, it, results[1]);
    const int64_t first = 0;
    if (it->sequence)
        mil_give(low, 0,
                 mil_emit_reshape(low, mil_emit_transpose(low, results[0], INTS(0, 2, 1, 3)),
                                  INTS(0, 0, (int64_t)it->directions * it->hidden)));
    else
        mil_give(low, 0, mil_emit_unsqueeze(low, last, &first, 1));
    mil_give(low, 1, last);
    if (count > 2)
        mil_give(low, 2, state_out(low, it, results[2]));
}

/* ---------------------------------------------------------------- the layers */

static const char *const input_weights[2] = {"weight_ih", "weight_ih_back"};
static const char *const state_weights[2] = {"weight_hh", "weight_hh_back"};
static const char *const input_bias[2] = {"bias", "bias_back"};
static const char *const no_bias[2] = {"", ""};

static op_attributes attributes_of(const layer *it)
{
    return (op_attributes){
        .recurrent = {.direction = it->directions == 2 ? DIRECTION_BOTH : DIRECTION_FORWARD,
                      .hidden_size = it->hidden}};
}

static void lower_lstm(lowering *low, int kind)
{
    (void)kind;
    layer it;
    const size_t x = read_layer(low, lstm_gates, 4, &it);
    op_attributes attributes = attributes_of(&it);
    set_activation(low, "recurrent_activation", 1, &attributes, 0, &it);
    set_activation(low, "cell_activation", 0, &attributes, 1, &it);
    set_activation(low, "activation", 0, &attributes, 2, &it);
    const size_t w = weights(low, &it, input_weights), r = weights(low, &it, state_weights);
    const size_t b = biases(low, &it, input_bias, no_bias), p = peepholes(low, &it);
    const size_t h = state_in(low, &it, "initial_h"), c = state_in(low, &it, "initial_c");
    size_t results[3];
    mil_emit_all(low, OP_LSTM, &attributes, VALUES(x, w, r, b, GRAPH_NONE, h, c, p), results, 3);
    give_results(low, &it, results, 3);
}

static void lower_gru(lowering *low, int kind)
{
    static const char *const own_input_bias[2] = {"input_bias", ""};
    static const char *const own_state_bias[2] = {"bias", ""};
    (void)kind;
    layer it;
    const size_t x = read_layer(low, gru_gates, 3, &it);
    op_attributes attributes = attributes_of(&it);
    set_activation(low, "recurrent_activation", 1, &attributes, 0, &it);
    set_activation(low, "activation", 0, &attributes, 1, &it);
    if (it.directions == 2)
        mil_fail(low, PAL_ERROR_FORMAT, "it runs in both directions");
    attributes.recurrent.linear_before_reset = mil_param_bool(low, "reset_after", false);
    const size_t w = weights(low, &it, input_weights), r = weights(low, &it, state_weights);
    const size_t b = biases(low, &it, own_input_bias, own_state_bias);
    const size_t h = state_in(low, &it, "initial_h");
    size_t results[2];
    mil_emit_all(low, OP_GRU, &attributes, VALUES(x, w, r, b, GRAPH_NONE, h), results, 2);
    give_results(low, &it, results, 2);
}

static void lower_rnn(lowering *low, int kind)
{
    (void)kind;
    layer it;
    const size_t x = read_layer(low, rnn_gates, 1, &it);
    op_attributes attributes = attributes_of(&it);
    set_activation(low, "activation", 0, &attributes, 0, &it);
    if (it.directions == 2)
        mil_fail(low, PAL_ERROR_FORMAT, "it runs in both directions");
    const size_t w = weights(low, &it, input_weights), r = weights(low, &it, state_weights);
    const size_t b = biases(low, &it, input_bias, no_bias), h = state_in(low, &it, "initial_h");
    size_t results[2];
    mil_emit_all(low, OP_RNN, &attributes, VALUES(x, w, r, b, GRAPH_NONE, h), results, 2);
    give_results(low, &it, results, 2);
}

const mil_operator mil_recurrent_operators[] = {
    {"lstm", lower_lstm, 0},
    {"gru", lower_gru, 0},
    {"rnn", lower_rnn, 0},
    {NULL, NULL, 0},
};
