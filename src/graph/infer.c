/* Types by a table of signatures, shapes by the families' functions; and what these share. */
#include "graph/infer.h"

#include <stdio.h>
#include <string.h>

#include "graph/inference.h"

/* ---------------------------------------------------------------- the table */

/* One letter for each input: F, I, B; T, which is one of these and the same wherever it stands; A,
 * any. A small letter: may be left out. +: any number of the one before. */
static const struct operator
{
    const char *name, *inputs, *outputs;
    infer_shapes shapes;
}
operators[GRAPH_OP_COUNT] = {
    [OP_CONV] = {"Conv", "FFf", "F", infer_conv},
    [OP_CONV_TRANSPOSE] = {"ConvTranspose", "FFf", "F", infer_conv_transpose},
    [OP_MATMUL] = {"MatMul", "FFf", "F", infer_matmul},
    [OP_EINSUM] = {"Einsum", "F+", "F", infer_einsum},
    [OP_ATTENTION] = {"Attention", "FFFa", "F", infer_attention},
    [OP_LSTM] = {"LSTM", "FFFfifff", "FFF", infer_recurrent},
    [OP_GRU] = {"GRU", "FFFfif", "FF", infer_recurrent},
    [OP_RNN] = {"RNN", "FFFfif", "FF", infer_recurrent},

    [OP_BATCH_NORM] = {"BatchNorm", "FFFFF", "F", infer_channel_norm},
    [OP_INSTANCE_NORM] = {"InstanceNorm", "Fff", "F", infer_channel_norm},
    [OP_GROUP_NORM] = {"GroupNorm", "Fff", "F", infer_channel_norm},
    [OP_LAYER_NORM] = {"LayerNorm", "Fff", "FFF", infer_axes_norm},
    [OP_RMS_NORM] = {"RMSNorm", "Ff", "F", infer_axes_norm},
    [OP_LP_NORM] = {"LpNorm", "F", "F", infer_axes_norm},
    [OP_LRN] = {"LRN", "F", "F", infer_lrn},

    [OP_UNARY] = {"Unary", "T", "T", infer_elementwise},
    [OP_BINARY] = {"Binary", "TT", "T", infer_elementwise},
    [OP_CLIP] = {"Clip", "Ttt", "T", infer_clip},
    [OP_PRELU] = {"PRelu", "FF", "F", infer_prelu},
    [OP_SELECT] = {"Select", "BTT", "T", infer_elementwise},
    [OP_CAST] = {"Cast", "A", "F", infer_elementwise},
    [OP_DROPOUT] = {"Dropout", "F", "FB", infer_elementwise},

    [OP_SOFTMAX] = {"Softmax", "F", "F", infer_softmax},
    [OP_REDUCE] = {"Reduce", "Ti", "T", infer_reduce},
    [OP_ARGMAX] = {"ArgMax", "A", "I", infer_argmax},
    [OP_CUMSUM] = {"CumSum", "TI", "T", infer_cumsum},
    [OP_TOPK] = {"TopK", "TI", "TI", infer_topk},
    [OP_POOL] = {"Pool", "F", "FI", infer_pool},
    [OP_RESIZE] = {"Resize", "Fffi", "F", infer_resize},
    [OP_ONE_HOT] = {"OneHot", "AAT", "T", infer_one_hot},
    [OP_NON_ZERO] = {"NonZero", "A", "I", infer_non_zero},

    [OP_RESHAPE] = {"Reshape", "TI", "T", infer_reshape},
    [OP_SQUEEZE] = {"Squeeze", "Ti", "T", infer_squeeze},
    [OP_UNSQUEEZE] = {"Unsqueeze", "TI", "T", infer_unsqueeze},
    [OP_FLATTEN] = {"Flatten", "T", "T", infer_flatten},
    [OP_TRANSPOSE] = {"Transpose", "T", "T", infer_transpose},
    [OP_EXPAND] = {"Expand", "TI", "T", infer_expand},
    [OP_TILE] = {"Tile", "TI", "T", infer_tile},
    [OP_CONCAT] = {"Concat", "T+", "T", infer_concat},
    [OP_SPLIT] = {"Split", "Ti", "T+", infer_split},
    [OP_SLICE] = {"Slice", "TIIii", "T", infer_slice},
    [OP_PAD] = {"Pad", "TIti", "T", infer_pad},
    [OP_GATHER] = {"Gather", "TI", "T", infer_gather},
    [OP_GATHER_ELEMENTS] = {"GatherElements", "TI", "T", infer_gather_elements},
    [OP_GATHER_ND] = {"GatherND", "TI", "T", infer_gather_nd},
    [OP_SCATTER_ELEMENTS] = {"ScatterElements", "TIT", "T", infer_scatter_elements},
    [OP_SCATTER_ND] = {"ScatterND", "TIT", "T", infer_scatter_nd},
    [OP_DEPTH_TO_SPACE] = {"DepthToSpace", "T", "T", infer_depth_to_space},
    [OP_SPACE_TO_DEPTH] = {"SpaceToDepth", "T", "T", infer_space_to_depth},
    [OP_TRILU] = {"Trilu", "Ti", "T", infer_trilu},
    [OP_REVERSE_SEQUENCE] = {"ReverseSequence", "TI", "T", infer_reverse},

    [OP_IDENTITY] = {"Identity", "T", "T", infer_elementwise},
    [OP_SHAPE] = {"Shape", "A", "I", infer_shape},
    [OP_SIZE] = {"Size", "A", "I", infer_size},
    [OP_CONSTANT_OF_SHAPE] = {"ConstantOfShape", "IT", "T", infer_constant_of_shape},
    [OP_RANGE] = {"Range", "TTT", "T", infer_range},
    [OP_IF] = {"If", "B", "", NULL},
};

const char *graph_op_name(graph_op op)
{
    return (unsigned)op < GRAPH_OP_COUNT ? operators[op].name : "unknown operator";
}

/* ---------------------------------------------------------------- failing */

pal_status infer_fail(const graph_node *node, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return graph_node_failed(node, fail(PAL_ERROR_FORMAT, "%s", text));
}

/* ---------------------------------------------------------------- types */

static const char *type_name(graph_type type)
{
    return type == GRAPH_FLOAT ? "float" : type == GRAPH_INT ? "integer" : "boolean";
}

static bool letter_type(char letter, graph_type *type)
{
    *type = letter == 'F' ? GRAPH_FLOAT : letter == 'I' ? GRAPH_INT : GRAPH_BOOL;
    return letter == 'F' || letter == 'I' || letter == 'B';
}

typedef struct common_type {
    bool known;
    graph_type type;
} common_type;

static pal_status check_input(const graph_node *node, size_t i, const graph_value *input,
                              char letter, common_type *common)
{
    const bool optional = letter >= 'a';
    const char upper = (char)(optional ? letter - 'a' + 'A' : letter);
    graph_type wanted;
    if (!input)
        return optional ? PAL_OK : infer_fail(node, "input %zu is missing", i);
    if (letter_type(upper, &wanted)) {
        if (input->type != wanted)
            return infer_fail(node, "input %zu is %s, not %s", i, type_name(input->type),
                              type_name(wanted));
    } else if (upper == 'T') {
        if (common->known && common->type != input->type)
            return infer_fail(node, "input %zu is %s, another %s", i, type_name(input->type),
                              type_name(common->type));
        *common = (common_type){true, input->type};
    }
    return PAL_OK;
}

/* What a kind of operator takes beyond its signature. */
static bool unary_takes(unary_kind kind, graph_type type)
{
    switch (kind) {
    case UNARY_NOT: return type == GRAPH_BOOL;
    case UNARY_RELU:
    case UNARY_CLIP:
    case UNARY_LINEAR:
    case UNARY_ABS:
    case UNARY_NEG:
    case UNARY_SIGN:
    case UNARY_SQUARE: return type != GRAPH_BOOL;
    default: return type == GRAPH_FLOAT;
    }
}

static bool binary_takes(binary_kind kind, graph_type type)
{
    if (kind >= BINARY_AND)
        return type == GRAPH_BOOL;
    if (kind >= BINARY_BIT_AND && kind <= BINARY_SHIFT_RIGHT)
        return type == GRAPH_INT;
    return type != GRAPH_BOOL || kind == BINARY_EQUAL || kind == BINARY_NOT_EQUAL;
}

static bool reduce_takes(reduce_kind kind, graph_type type)
{
    return type != GRAPH_BOOL || kind == REDUCE_MAX || kind == REDUCE_MIN;
}

static bool kind_takes(const graph_node *node, graph_type type)
{
    switch (node->op) {
    case OP_UNARY: return unary_takes(node->attributes.unary.kind, type);
    case OP_BINARY: return binary_takes(node->attributes.binary.kind, type);
    case OP_REDUCE: return reduce_takes(node->attributes.reduce.kind, type);
    case OP_CLIP:
    case OP_CUMSUM:
    case OP_TOPK:
    case OP_RANGE: return type != GRAPH_BOOL;
    default: return true;
    }
}

static graph_type type_of_dtype(pal_dtype dtype)
{
    switch (dtype) {
    case PAL_FLOAT16:
    case PAL_FLOAT32:
    case PAL_BFLOAT16:
    case PAL_FLOAT64:
    case PAL_FLOAT8E4M3FN:
    case PAL_FLOAT8E5M2: return GRAPH_FLOAT;
    default: return GRAPH_INT;
    }
}

/* The type of the first output, where it is not what the signature says. */
static graph_type result_type(const graph_node *node, graph_type type)
{
    switch (node->op) {
    case OP_UNARY: {
        const unary_kind kind = node->attributes.unary.kind;
        return kind == UNARY_IS_NAN || kind == UNARY_IS_INF ? GRAPH_BOOL : type;
    }
    case OP_BINARY: return node->attributes.binary.kind >= BINARY_EQUAL ? GRAPH_BOOL : type;
    case OP_CAST: return type_of_dtype(node->attributes.cast.to);
    default: return type;
    }
}

pal_status graph_infer_types(const graph_node *node, const graph_value *const *inputs,
                             graph_value *outputs)
{
    const struct operator* op = & operators[node->op];
    const char *letter = op->inputs;
    common_type common = {false, GRAPH_FLOAT};
    pal_status status = PAL_OK;
    size_t i = 0;
    for (; !status && (*letter || i < node->input_count); i++) {
        if (!*letter)
            return infer_fail(node, "%zu inputs, more than it takes", node->input_count);
        status = check_input(node, i, infer_input(node, inputs, i), *letter, &common);
        if (letter[1] != '+')
            letter++;
        else if (i + 1 >= node->input_count)
            letter += 2;
    }
    if (!status && common.known && !kind_takes(node, common.type))
        status = infer_fail(node, "it is not defined for %s numbers", type_name(common.type));
    letter = op->outputs;
    for (i = 0; !status && node->op != OP_IF && i < node->output_count; i++) {
        if (!*letter)
            return infer_fail(node, "%zu outputs, more than it gives", node->output_count);
        if (!letter_type(*letter, &outputs[i].type))
            outputs[i].type = common.type;
        if (letter[1] != '+')
            letter++;
    }
    if (!status && node->op != OP_IF && node->output_count == 0)
        status = infer_fail(node, "it has no outputs");
    if (!status && node->output_count)
        outputs[0].type = result_type(node, outputs[0].type);
    return status;
}

/* ---------------------------------------------------------------- shapes */

pal_status graph_infer(const graph_node *node, const graph_value *const *inputs,
                       graph_value *outputs)
{
    if ((unsigned)node->op >= GRAPH_OP_COUNT || !operators[node->op].shapes)
        return graph_node_failed(node,
                                 fail(PAL_ERROR_UNSUPPORTED, "its condition is not constant"));
    pal_status status = graph_infer_types(node, inputs, outputs);
    return status ? status : operators[node->op].shapes(node, inputs, outputs);
}

uint64_t graph_elements(const graph_value *value)
{
    uint64_t elements = 1;
    for (size_t d = 0; d < value->rank; d++)
        elements *= (uint64_t)value->shape[d];
    return elements;
}

pal_status infer_set(const graph_node *node, graph_value *out, size_t rank, const int64_t *shape)
{
    uint64_t elements = 1;
    if (rank > PAL_MAX_RANK)
        return graph_node_failed(
            node, fail(PAL_ERROR_UNSUPPORTED, "its result has %zu dimensions", rank));
    /* Extents of a value without elements are bounded too: some are added and multiplied. */
    for (size_t d = 0; d < rank; d++) {
        if (shape[d] < 0)
            return infer_fail(node, "its result has a negative extent");
        if (shape[d] > INFER_MAX_EXTENT)
            return infer_fail(node, "its result is too large");
        if (shape[d] && elements)
            elements = elements > INFER_MAX_ELEMENTS / (uint64_t)shape[d]
                           ? INFER_MAX_ELEMENTS + 1
                           : elements * (uint64_t)shape[d];
        else
            elements = 0;
    }
    if (elements > INFER_MAX_ELEMENTS)
        return infer_fail(node, "its result is too large");
    out->rank = rank;
    if (rank)
        memmove(out->shape, shape, rank * sizeof *shape);
    return PAL_OK;
}

pal_status infer_same(const graph_node *node, graph_value *out, const graph_value *x)
{
    return infer_set(node, out, x->rank, x->shape);
}

pal_status infer_expect(const graph_node *node, const char *what, const graph_value *value,
                        size_t rank, const int64_t *shape)
{
    if (!value)
        return PAL_OK;
    if (value->rank != rank)
        return infer_fail(node, "its %s has %zu dimensions instead of %zu", what, value->rank,
                          rank);
    for (size_t d = 0; d < rank; d++)
        if (value->shape[d] != shape[d])
            return infer_fail(node, "its %s has extent %lld in dimension %zu instead of %lld", what,
                              (long long)value->shape[d], d, (long long)shape[d]);
    return PAL_OK;
}

pal_status infer_expect_vector(const graph_node *node, const char *what, const graph_value *value,
                               int64_t extent)
{
    return infer_expect(node, what, value, 1, &extent);
}

/* ---------------------------------------------------------------- constants */

static pal_status check_constant(const graph_node *node, const char *what, const graph_value *value,
                                 graph_type type, size_t most)
{
    if (!value->constant)
        return graph_node_failed(node, fail(PAL_ERROR_UNSUPPORTED,
                                            "its %s depends on the model's input, so shapes cannot "
                                            "be known before it runs",
                                            what));
    if (value->constant->type != type || value->constant->rank > 1)
        return infer_fail(node, "its %s is no list of numbers", what);
    if (value->constant->elements > most)
        return infer_fail(node, "its %s has %llu numbers, more than %zu", what,
                          (unsigned long long)value->constant->elements, most);
    return PAL_OK;
}

pal_status infer_ints(const graph_node *node, const char *what, const graph_value *value,
                      int64_t *numbers, size_t most, size_t *count)
{
    *count = 0;
    if (!value)
        return PAL_OK;
    pal_status status = check_constant(node, what, value, GRAPH_INT, most);
    if (status)
        return status;
    *count = (size_t)value->constant->elements;
    if (*count)
        memcpy(numbers, value->constant->data, *count * sizeof *numbers);
    return PAL_OK;
}

pal_status infer_floats(const graph_node *node, const char *what, const graph_value *value,
                        float *numbers, size_t most, size_t *count)
{
    *count = 0;
    if (!value)
        return PAL_OK;
    pal_status status = check_constant(node, what, value, GRAPH_FLOAT, most);
    if (status)
        return status;
    *count = (size_t)value->constant->elements;
    if (*count)
        memcpy(numbers, value->constant->data, *count * sizeof *numbers);
    return PAL_OK;
}

/* ---------------------------------------------------------------- axes */

pal_status resolve_axis(const graph_node *node, int64_t axis, size_t rank, size_t *out)
{
    const int64_t n = (int64_t)rank;
    if (axis < -n || axis >= n)
        return infer_fail(node, "axis %lld of a value of %zu dimensions", (long long)axis, rank);
    *out = (size_t)(axis < 0 ? axis + n : axis);
    return PAL_OK;
}

pal_status resolve_axes(const graph_node *node, const graph_value *axes, size_t rank,
                        bool flags[PAL_MAX_RANK])
{
    int64_t numbers[PAL_MAX_RANK];
    size_t count, axis = 0;
    memset(flags, 0, PAL_MAX_RANK * sizeof *flags);
    pal_status status = infer_ints(node, "list of axes", axes, numbers, PAL_MAX_RANK, &count);
    for (size_t i = 0; !status && i < count; i++) {
        status = resolve_axis(node, numbers[i], rank, &axis);
        if (!status && flags[axis])
            status = infer_fail(node, "axis %zu twice", axis);
        if (!status)
            flags[axis] = true;
    }
    return status;
}

pal_status resolve_norm_axes(const graph_node *node, size_t rank, bool flags[PAL_MAX_RANK])
{
    const size_t count = node->attributes.norm.axis_count;
    const int64_t *axes = node->attributes.norm.axes;
    size_t axis = 0;
    memset(flags, 0, PAL_MAX_RANK * sizeof *flags);
    if (count > PAL_MAX_RANK)
        return infer_fail(node, "too many axes");
    for (size_t i = 0; i < (count ? count : 1); i++) {
        pal_status status = resolve_axis(node, axes[i], rank, &axis);
        if (status)
            return status;
        if (flags[axis])
            return infer_fail(node, "axis %zu twice", axis);
        flags[axis] = true;
    }
    for (axis++; !count && axis < rank; axis++)
        flags[axis] = true;
    return PAL_OK;
}

/* ---------------------------------------------------------------- broadcasting */

bool infer_broadcast(size_t a_rank, const int64_t *a, size_t b_rank, const int64_t *b, size_t *rank,
                     int64_t *shape)
{
    int64_t result[PAL_MAX_RANK];
    const size_t most = a_rank > b_rank ? a_rank : b_rank;
    for (size_t i = 1; i <= most; i++) {
        const int64_t x = i <= a_rank ? a[a_rank - i] : 1, y = i <= b_rank ? b[b_rank - i] : 1;
        if (x != y && x != 1 && y != 1)
            return false;
        result[most - i] = x == 1 ? y : x;
    }
    *rank = most;
    memcpy(shape, result, most * sizeof *shape);
    return true;
}

bool infer_fits(const graph_value *small, size_t rank, const int64_t *shape)
{
    if (small->rank > rank)
        return false;
    for (size_t i = 1; i <= small->rank; i++)
        if (small->shape[small->rank - i] != 1 && small->shape[small->rank - i] != shape[rank - i])
            return false;
    return true;
}

/* "[2,3]", or as much of it as there is room for. */
static const char *shape_text(const graph_value *value, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "[");
    for (size_t d = 0; d < value->rank && used < size; d++)
        used += (size_t)snprintf(text + used, size - used, d ? ",%lld" : "%lld",
                                 (long long)value->shape[d]);
    if (used < size)
        snprintf(text + used, size - used, "]");
    return text;
}

pal_status resolve_broadcast(const graph_node *node, const graph_value *a, const graph_value *b,
                             size_t *rank, int64_t shape[PAL_MAX_RANK])
{
    char x[120], y[120];
    if (infer_broadcast(a->rank, a->shape, b->rank, b->shape, rank, shape))
        return PAL_OK;
    return infer_fail(node, "shapes %s and %s do not broadcast", shape_text(a, x, sizeof x),
                      shape_text(b, y, sizeof y));
}
