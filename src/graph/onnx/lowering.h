/* Lowering of ONNX models: what the files of this folder share.
 *
 *   model.c      the walk: graphs, functions, inputs and outputs
 *   operators.c  every operator by its name; the report on those that are unknown
 *   names.c      which value a name stands for
 *   constant.c   tensors of the file as tensors of the graph
 *   attribute.c  the attributes of a node
 *   emit.c       nodes of the graph
 *
 * and one file for each family of operators, each with a table at its end.
 *
 * Operators mean what https://onnx.ai/onnx/operators/ says of the version that the model imports.
 *
 * Errors stick: the first failure goes to lowering.status, with its message. Every function here
 * then does nothing more and gives GRAPH_NONE, NULL or a default; so an operator's function is
 * written straight through, and the walk looks at the status after it. */
#ifndef PAL_GRAPH_ONNX_LOWERING_H
#define PAL_GRAPH_ONNX_LOWERING_H

#include "format/onnx/onnx.h"
#include "graph/graph.h"

enum { NAME_BUCKETS = 4096 };

/* A name in sight. */
typedef struct onnx_name {
    ProtobufCBinaryData name;
    uint32_t hash;
    size_t below; /* the next in the bucket, or NONE */
    size_t value;
} onnx_name;

/* A function of the model that is being inlined: where its attributes come from. */
typedef struct call {
    const Onnx__Node *node;
    const Onnx__Function *function;
    const struct call *outer;
} call;

typedef struct lowering {
    pal_model *model;
    onnx *state;
    graph *graph;
    pal_status status;
    int64_t opset;
    onnx_name *names;
    size_t name_count, name_capacity, first_name; /* names before first_name are out of sight */
    size_t buckets[NAME_BUCKETS];
    pal_dtype *dtypes; /* by value: the file's type, as far as it is known */
    size_t dtype_capacity;
    int depth; /* of graphs and functions */
    const call *call;
    /* The node at hand. */
    graph_branch *branch;
    const Onnx__Node *node;
    const char *name, *type;
} lowering;

/* Fails in the name of the node at hand, unless something failed before. */
void low_fail(lowering *low, pal_status status, const char *format, ...) PAL_PRINTF(3, 4);
/* The same for a failure whose message is set already. */
void low_failed(lowering *low, pal_status status);

/* ---------------------------------------------------------------- names.c */

void names_start(lowering *low);
void names_add(lowering *low, ProtobufCBinaryData name, size_t value);
/* GRAPH_NONE if there is none. */
size_t names_find(const lowering *low, ProtobufCBinaryData name);
/* Forgets what was added after there were `count`. */
void names_leave(lowering *low, size_t count);

/* ---------------------------------------------------------------- constant.c */

/* A constant of the graph for a tensor of the file. */
size_t constant_value(lowering *low, const Onnx__Tensor *tensor, ProtobufCBinaryData name);
/* The constant for a weight of the model, as it is now. */
size_t weight_value(lowering *low, size_t weight);
/* The weight with this name that is defined in this graph, or NONE. */
size_t weight_named(const lowering *low, const Onnx__Graph *graph, ProtobufCBinaryData name);
/* What a type of the file is computed in; false for what is no number. */
bool type_of_dtype(int32_t onnx_type, graph_type *type, pal_dtype *dtype);

/* ---------------------------------------------------------------- attribute.c */

/* NULL if it is not given. Attributes of a function's nodes may refer to those of its call. */
const Onnx__Attribute *attribute(const lowering *low, const char *name);
int64_t attribute_int(const lowering *low, const char *name, int64_t otherwise);
float attribute_float(const lowering *low, const char *name, float otherwise);
/* At most `most` numbers; how many. NONE if it is not given. */
size_t attribute_ints(lowering *low, const char *name, int64_t *numbers, size_t most);
size_t attribute_floats(lowering *low, const char *name, float *numbers, size_t most);
/* Whether it is given as this text. */
bool attribute_is(const lowering *low, const char *name, const char *text);
/* Index into the choices, which end with NULL; fails on anything else. */
int attribute_choice(lowering *low, const char *name, int otherwise, const char *const *choices);

/* The window of a convolution or a pool. */
window read_window(lowering *low);

/* ---------------------------------------------------------------- emit.c */

#define VALUES(...)                                                                                \
    (const size_t[]){__VA_ARGS__}, sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t)

/* The i-th input, or GRAPH_NONE where it is left out; need() fails then. */
size_t want(const lowering *low, size_t i);
size_t need(lowering *low, size_t i);
size_t input_count(const lowering *low);
/* Whether the i-th output is asked for. */
bool has_output(const lowering *low, size_t i);
/* The i-th output of the node is this value. */
void give(lowering *low, size_t i, size_t value);

/* A node with one result, which it gives. Inputs may be GRAPH_NONE. attributes: NULL for none. */
size_t emit(lowering *low, graph_op op, const op_attributes *attributes, const size_t *inputs,
            size_t count);
/* The same with several results; those not asked for are GRAPH_NONE before. */
void emit_all(lowering *low, graph_op op, const op_attributes *attributes, const size_t *inputs,
              size_t count, size_t *results, size_t result_count);

graph_type value_type(const lowering *low, size_t value);
pal_dtype value_dtype(const lowering *low, size_t value);
void set_dtype(lowering *low, size_t value, pal_dtype dtype);

size_t const_int(lowering *low, int64_t number);
size_t const_ints(lowering *low, const int64_t *numbers, size_t count);
size_t const_float(lowering *low, float number);
/* A number in the type that a value has. */
size_t const_like(lowering *low, size_t value, double number);

size_t emit_unary(lowering *low, unary_kind kind, float alpha, float beta, size_t x);
size_t emit_binary(lowering *low, binary_kind kind, size_t a, size_t b);
size_t emit_cast(lowering *low, size_t x, pal_dtype to);
/* What was computed in 64 bits, in those of its type in the file: integers wrap there. */
size_t emit_wrapped(lowering *low, size_t x);
size_t emit_reduce(lowering *low, reduce_kind kind, size_t x, size_t axes, bool keep);
size_t emit_reshape(lowering *low, size_t x, size_t shape);
size_t emit_unsqueeze(lowering *low, size_t x, int64_t axis);
/* The extents [start, end) of x, as a vector of integers; end INT64_MAX: all. */
size_t emit_shape(lowering *low, size_t x, int64_t start, int64_t end);
/* One extent, as a vector of one integer, or as a single number. */
size_t emit_extent(lowering *low, size_t x, int64_t axis);
size_t emit_length(lowering *low, size_t x, int64_t axis);
/* x with ones behind its dimensions, so that it broadcasts to `to` from an axis on. */
size_t emit_from_axis(lowering *low, size_t x, size_t to, int64_t axis);
/* 0, 1, ..., below a single number. */
size_t emit_count(lowering *low, size_t end);
/* Vectors end to end. */
size_t emit_join(lowering *low, const size_t *vectors, size_t count);
/* A value of this shape (a vector) that is this single number everywhere. */
size_t emit_filled(lowering *low, size_t shape, size_t number);
size_t emit_select(lowering *low, size_t condition, size_t a, size_t b);
size_t emit_gather(lowering *low, size_t x, size_t indices, int64_t axis);
/* x from `start` to `end` along an axis: values, vectors of one integer. */
size_t emit_slice(lowering *low, size_t x, size_t start, size_t end, int64_t axis);
size_t emit_transpose(lowering *low, size_t x, const int64_t *perm, size_t count);
size_t emit_matmul(lowering *low, size_t a, size_t b, bool transpose_b);

/* ---------------------------------------------------------------- operators */

typedef struct onnx_operator {
    const char *type;
    void (*lower)(lowering *low, int kind);
    int kind; /* which of several that one function lowers */
} onnx_operator;

/* The families' tables, each ending with a type of NULL. */
extern const onnx_operator elementwise_operators[], activation_operators[], product_operators[],
    window_operators[], norm_operators[], reduction_operators[], shaping_operators[],
    indexing_operators[], resize_operators[], recurrent_operators[], quantization_operators[],
    constant_operators[], contributed_operators[];

/* NULL if it is unknown. */
const onnx_operator *operator_find(const Onnx__Node *node);
/* The function of the model that a node calls, or NULL. */
const Onnx__Function *function_find(const lowering *low, const Onnx__Node *node);
/* Fails with a list of all nodes of the model whose operators are unknown. */
pal_status operators_check(const lowering *low);

/* Lowers the graph in an attribute into a branch with `outputs` outputs. */
void lower_branch(lowering *low, const Onnx__Graph *message, graph_branch *branch, size_t outputs);

#endif
