/* LSTM, GRU and RNN. */
#include "graph/onnx/lowering.h"

/* What a function is called, and its parameters where the file does not give them. */
static const struct {
    const char *name;
    unary_kind kind;
    float alpha, beta;
} functions[] = {
    {"Sigmoid", UNARY_SIGMOID, 0, 0},
    {"Tanh", UNARY_TANH, 0, 0},
    {"Relu", UNARY_RELU, 0, 0},
    {"Affine", UNARY_LINEAR, 1, 0},
    {"LeakyRelu", UNARY_LEAKY_RELU, 0.01F, 0},
    {"ThresholdedRelu", UNARY_THRESHOLDED_RELU, 1, 0},
    {"ScaledTanh", UNARY_SCALED_TANH, 1, 1},
    {"HardSigmoid", UNARY_HARD_SIGMOID, 0.2F, 0.5F},
    {"Elu", UNARY_ELU, 1, 0},
    {"Softsign", UNARY_SOFTSIGN, 0, 0},
    {"Softplus", UNARY_SOFTPLUS, 0, 0},
};

enum { FUNCTIONS = sizeof functions / sizeof *functions };

static bool same_letters(ProtobufCBinaryData text, const char *name)
{
    size_t i = 0;
    for (; i < text.len && name[i]; i++)
        if ((text.data[i] | 32) != (name[i] | 32))
            return false;
    return i == text.len && !name[i];
}

/* Functions for each direction, `each` of them, at most three. */
static void read_functions(lowering *low, op_attributes *to, size_t each, size_t directions)
{
    static const unary_kind usual[3] = {UNARY_SIGMOID, UNARY_TANH, UNARY_TANH};
    const Onnx__Attribute *given = attribute(low, "activations");
    float alphas[6], betas[6];
    const size_t alpha_count = attribute_floats(low, "activation_alpha", alphas, 6);
    const size_t beta_count = attribute_floats(low, "activation_beta", betas, 6);
    size_t alpha = 0, beta = 0;
    if (given && given->n_strings != each * directions) {
        low_fail(low, PAL_ERROR_FORMAT, "it names %zu functions, not %zu", given->n_strings,
                 each * directions);
        return;
    }
    for (size_t d = 0; d < directions; d++)
        for (size_t f = 0; f < each; f++) {
            const size_t at = 3 * d + f;
            to->recurrent.activations[at] = each == 1 ? UNARY_TANH : usual[f];
            if (!given)
                continue;
            size_t which = 0;
            while (which < FUNCTIONS &&
                   !same_letters(given->strings[d * each + f], functions[which].name))
                which++;
            if (which == FUNCTIONS) {
                low_fail(low, PAL_ERROR_UNSUPPORTED, "its function %zu", d * each + f + 1);
                return;
            }
            to->recurrent.activations[at] = functions[which].kind;
            to->recurrent.alphas[at] = functions[which].alpha;
            to->recurrent.betas[at] = functions[which].beta;
            /* Parameters are listed one after another for the functions that have any. */
            if (functions[which].alpha != 0 && alpha_count != NONE && alpha < alpha_count)
                to->recurrent.alphas[at] = alphas[alpha++];
            if ((functions[which].beta != 0 || functions[which].kind == UNARY_LINEAR) &&
                beta_count != NONE && beta < beta_count)
                to->recurrent.betas[at] = betas[beta++];
        }
}

static void lower_recurrent(lowering *low, int kind)
{
    static const char *const names[] = {"forward", "reverse", "bidirectional", NULL};
    op_attributes attributes = {0};
    const int direction = attribute_choice(low, "direction", 0, names);
    const size_t functions_each = kind == OP_LSTM ? 3 : kind == OP_GRU ? 2 : 1;
    const size_t most = kind == OP_LSTM ? 8 : 6;
    size_t inputs[8], results[3], outputs = 1;
    attributes.recurrent.direction = direction;
    attributes.recurrent.hidden_size = attribute_int(low, "hidden_size", 0);
    attributes.recurrent.clip = attribute_float(low, "clip", 0);
    attributes.recurrent.linear_before_reset = attribute_int(low, "linear_before_reset", 0) != 0;
    attributes.recurrent.input_forget = attribute_int(low, "input_forget", 0) != 0;
    attributes.recurrent.batch_first = attribute_int(low, "layout", 0) != 0;
    read_functions(low, &attributes, functions_each, direction == 2 ? 2 : 1);
    for (size_t i = 0; i < most; i++)
        inputs[i] = i < 3 ? need(low, i) : want(low, i);
    for (size_t i = 1; i < (kind == OP_LSTM ? 3 : 2); i++)
        outputs = has_output(low, i) ? i + 1 : outputs;
    emit_all(low, (graph_op)kind, &attributes, inputs, most, results, outputs);
    for (size_t i = 0; i < outputs; i++)
        give(low, i, results[i]);
}

const onnx_operator recurrent_operators[] = {
    {"LSTM", lower_recurrent, OP_LSTM},
    {"GRU", lower_recurrent, OP_GRU},
    {"RNN", lower_recurrent, OP_RNN},
    {0},
};
