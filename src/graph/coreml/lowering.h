/* Lowering of ML Programs: what the files of this folder share.
 *
 *   program.c      the walk: functions, pipelines, blocks, inputs and outputs
 *   operators.c    every operator by its name; the report on those that are unknown
 *   scope.c        names and their types
 *   constant.c     constants as tensors of the graph
 *   constexpr.c    compressed constants, decoded
 *   parameter.c    the inputs of an operation: values, numbers, texts
 *   emit.c         nodes of the graph
 *
 * and one file for each family of operators, each with a table at its end: activation.c,
 * elementwise.c, product.c, window.c (convolutions and pools), norm.c, reduction.c, resize.c,
 * crop_resize.c, shaping.c (reshape, transpose, ...), slicing.c, joining.c (concat, split, pad),
 * gathering.c, scattering.c, filling.c, blocks.c (depth to space, ...), recurrent.c,
 * quantization.c, control.c.
 *
 * What each operator means is from coremltools' documentation of MIL; where that leaves a question
 * open, from what its tests expect of Core ML.
 *
 * Errors stick: the first failure goes to lowering.status, with its message. Every function here
 * then does nothing more and gives GRAPH_NONE, NULL or a default; so an operator's function is
 * written straight through, and the walk looks at the status after it. */
#ifndef PAL_GRAPH_COREML_LOWERING_H
#define PAL_GRAPH_COREML_LOWERING_H

#include "format/coreml/coreml.h"
#include "graph/graph.h"

/* ---------------------------------------------------------------- values (scope.c) */

typedef struct mil_type {
    bool is_tensor;  /* of numbers; otherwise text, a list, a dictionary, a state */
    bool is_bool;    /* which pal_dtype has no name for */
    pal_dtype dtype; /* PAL_DTYPE_OTHER if is_bool */
    graph_type type;
    size_t rank;
    int64_t shape[PAL_MAX_RANK]; /* GRAPH_FREE where open */
} mil_type;

/* What a name of the program, or a value given in place, stands for. */
typedef struct mil_value {
    ProtobufCBinaryData name;
    uint32_t hash;
    struct mil_value *below;    /* an earlier name in the same bucket */
    struct mil_value *previous; /* the name that came into scope before */
    mil_type type;
    size_t value; /* in the graph; GRAPH_NONE: a constant that nobody has used, or no tensor */
    /* Of constants: the value itself, or the constexpr operation that gives it as `output`. */
    const Coreml__Value *literal;
    const Coreml__Operation *constexpr;
    size_t output;
    size_t weight; /* of the model, that this is; GRAPH_NONE */
} mil_value;

enum { SCOPE_BUCKETS = 4096 };

typedef struct lowering {
    pal_model *model;
    coreml *state;
    graph *graph;
    mem_arena arena; /* names and types, for as long as lowering takes */
    pal_status status;
    int opset;
    mil_value *buckets[SCOPE_BUCKETS];
    mil_value *newest;
    struct weight_entry *weights; /* by operation */
    int depth;                    /* of the block */
    /* The operation at hand. */
    graph_branch *branch;
    const Coreml__Operation *operation;
    const char *name, *type;
} lowering;

/* PAL_OK, or PAL_ERROR_UNSUPPORTED for a tensor of unknown rank. */
pal_status mil_type_read(const Coreml__ValueType *type, mil_type *out);

/* Brings a name into scope; it hides an older one. */
mil_value *mil_scope_add(lowering *low, ProtobufCBinaryData name, const Coreml__ValueType *type);
mil_value *mil_scope_find(lowering *low, ProtobufCBinaryData name);
/* Takes out all that came after `mark`, an earlier low->newest. */
void mil_scope_leave(lowering *low, mil_value *mark);

/* Fails in the name of the operation at hand, unless something failed before. */
void mil_fail(lowering *low, pal_status status, const char *format, ...) PAL_PRINTF(3, 4);
/* The same for a failure whose message is set already. */
void mil_failed(lowering *low, pal_status status);

/* ---------------------------------------------------------------- constants */

/* The value in the graph, made on first use. GRAPH_NONE for NULL. */
size_t mil_use(lowering *low, mil_value *value);

/* A constant as the file has it. Where it is computed, *owned receives scratch memory. Fails if the
 * value is none. */
void mil_constant_read(lowering *low, const mil_value *value, tensor *out, void **owned);
/* What a constexpr operation gives as its output `output`. */
void mil_constexpr_read(lowering *low, const Coreml__Operation *operation, size_t output,
                        tensor *out, void **owned, int depth);
/* The palette of a weight decoded, if it has one and it can be read; otherwise false. */
bool mil_constexpr_read_weight(lowering *low, size_t weight, tensor *out, void **owned);
/* Element i as a number; of types below a byte, from its packed place. */
float mil_tensor_float(const tensor *t, uint64_t i);
int64_t mil_tensor_int(const tensor *t, uint64_t i);
/* The weight of the model that an operation defines; GRAPH_NONE if it defines none. */
size_t mil_weight_of(const lowering *low, const Coreml__Operation *operation);
pal_status mil_weights_index(lowering *low);

/* ---------------------------------------------------------------- the operation's inputs */

/* NULL if it is not given. */
mil_value *mil_input(lowering *low, const char *key);
/* Of an input that takes several values. */
size_t mil_count(lowering *low, const char *key);
mil_value *mil_input_at(lowering *low, const char *key, size_t i);

/* The input's value in the graph: required, or GRAPH_NONE where it is not given. */
size_t mil_need(lowering *low, const char *key);
size_t mil_want(lowering *low, const char *key);

/* The declared type of an input; of rank 0 where it is not given. */
mil_type mil_type_of(lowering *low, const char *key);
mil_type mil_type_of_output(lowering *low, size_t i);
/* A dimension of it; fails if it is open. */
int64_t mil_dimension_of(lowering *low, const mil_type *type, int64_t axis);

/* Constant parameters. The defaults hold where they are not given. */
bool mil_is_given(lowering *low, const char *key);
bool mil_is_constant(lowering *low, const char *key);
int64_t mil_param_int(lowering *low, const char *key, int64_t otherwise);
float mil_param_float(lowering *low, const char *key, float otherwise);
bool mil_param_bool(lowering *low, const char *key, bool otherwise);
/* Index into the choices, which end with NULL; letters' case does not count. */
int mil_param_choice(lowering *low, const char *key, int otherwise, const char *const *choices);
const char *mil_param_text(lowering *low, const char *key, const char *otherwise);
/* All numbers; how many. At most `most`. 0 where it is not given. */
size_t mil_param_ints(lowering *low, const char *key, int64_t *numbers, size_t most);
/* An axis within [0, rank). */
size_t mil_param_axis(lowering *low, const char *key, int64_t otherwise, size_t rank);
size_t mil_make_axis(lowering *low, int64_t axis, size_t rank);

/* ---------------------------------------------------------------- nodes of the graph */

#define VALUES(...)                                                                                \
    (const size_t[]){__VA_ARGS__}, sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t)
#define INTS(...)                                                                                  \
    (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)

/* A node with one result, which it gives. Inputs may be GRAPH_NONE. attributes: NULL for none. */
size_t mil_emit(lowering *low, graph_op op, const op_attributes *attributes, const size_t *inputs,
                size_t count);
/* The same with several results. */
void mil_emit_all(lowering *low, graph_op op, const op_attributes *attributes, const size_t *inputs,
                  size_t count, size_t *results, size_t result_count);
/* The operation's i-th output is this value. */
void mil_give(lowering *low, size_t i, size_t value);

graph_type mil_value_type(const lowering *low, size_t value);
size_t mil_const_int(lowering *low, int64_t number);
size_t mil_const_ints(lowering *low, const int64_t *numbers, size_t count);
/* A number in the type that a value has; a float for GRAPH_NONE. */
size_t mil_const_like(lowering *low, size_t value, double number);

size_t mil_emit_unary(lowering *low, unary_kind kind, float alpha, float beta, size_t x);
/* Brings both to one type first. */
size_t mil_emit_binary(lowering *low, binary_kind kind, size_t a, size_t b);
size_t mil_emit_cast(lowering *low, size_t x, pal_dtype to);
void mil_bring_together(lowering *low, size_t *a, size_t *b);
size_t mil_emit_reshape(lowering *low, size_t x, const int64_t *shape, size_t count);
size_t mil_emit_transpose(lowering *low, size_t x, const int64_t *perm, size_t count);
size_t mil_emit_unsqueeze(lowering *low, size_t x, const int64_t *axes, size_t count);
size_t mil_emit_concat(lowering *low, const size_t *values, size_t count, int64_t axis);
/* starts to ends of these axes, by steps (NULL: 1). */
size_t mil_emit_slice(lowering *low, size_t x, const int64_t *starts, const int64_t *ends,
                      const int64_t *axes, const int64_t *steps, size_t count);
size_t mil_emit_gather(lowering *low, size_t x, size_t indices, int64_t axis);
/* The extents [start, end) of x, as a vector of integers. */
size_t mil_emit_shape(lowering *low, size_t x, int64_t start, int64_t end);

/* Large tables are computed in the graph, not made here: a file could ask for any size. A tensor of
 * this shape filled with a number, and 0 to count - 1, where count is a value of rank 0. */
size_t mil_emit_filled(lowering *low, size_t shape, float number);
size_t mil_emit_range(lowering *low, size_t count);

/* ---------------------------------------------------------------- operators */

typedef struct mil_operator {
    const char *type;
    void (*lower)(lowering *low, int kind);
    int kind; /* which of several that one function lowers */
} mil_operator;

/* The families' tables, each ending with a type of NULL. */
extern const mil_operator mil_activation_operators[], mil_elementwise_operators[],
    mil_product_operators[], mil_window_operators[], mil_norm_operators[],
    mil_reduction_operators[], mil_resize_operators[], mil_crop_resize_operators[],
    mil_shaping_operators[], mil_slicing_operators[], mil_joining_operators[],
    mil_gathering_operators[], mil_scattering_operators[], mil_filling_operators[],
    mil_block_operators[], mil_recurrent_operators[], mil_quantization_operators[],
    mil_control_operators[];

/* NULL if it is unknown. */
const mil_operator *mil_operator_find(ProtobufCBinaryData type);
/* Fails with a list of all operators of the block, and of blocks within, that are unknown. */
pal_status mil_operators_check(const lowering *low, const Coreml__Block *const *blocks,
                               size_t count);

/* Lowers a block into a branch whose outputs it sets; for conditions. */
void mil_lower_branch(lowering *low, const Coreml__Block *block, graph_branch *branch,
                      size_t outputs);

/* The slice of x that slice_by_index and slice_update describe, with or without the axes that they
 * take one element of. */
size_t mil_emit_slice_by_index(lowering *low, size_t x, size_t rank, bool squeeze);

#endif
