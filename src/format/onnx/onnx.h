/* ONNX models: what the files of this folder share.
 *
 *   model.c   the file: probe, open, close, replace, save
 *   wire.c    protobuf's wire format without a copy of the numbers
 *   tensor.c  reads tensors, those in external files included, and makes new ones
 *   scope.c   names of values and where they are defined
 *   graph.c   finds the weights of all graphs, and their consumers
 *   recipe.c  the operators that turn a palette into a dense tensor
 *   match.c   recognises these operators in a file
 *   emit.c    writes them into a graph
 *   external.c  moves external data into one file
 *   replaced.c  data files of the model that a saved one takes the place of
 *
 * A palettized weight is not kept as operators. Opening a file takes them out of the graph and
 * keeps the palette; saving makes them anew. In between the model is never edited, so replacing
 * weights cannot fail halfway.
 *
 * Facts are from the published ONNX specification. */
#ifndef PAL_FORMAT_ONNX_ONNX_H
#define PAL_FORMAT_ONNX_ONNX_H

#include <sys/types.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/scratch.h"
#include "format/format.h"
#include "format/onnx/wire.h"
#include "format/protobuf.h"
#include "format/weights.h"

enum {
    FIRST_OPSET = 11,          /* the first in which a palette can be expressed */
    FIRST_BFLOAT16_OPSET = 13, /* in which Gather and Reshape take bfloat16 */
    FIRST_CONSTANT_IR = 4,     /* before, each initializer is an input of the graph too */
};

static const size_t NONE = SIZE_MAX;

/* AttributeProto.AttributeType. */
enum {
    ATTRIBUTE_INT = 2,
    ATTRIBUTE_TENSOR = 4,
    ATTRIBUTE_INTS = 7,
};

/* TensorProto.DataLocation. */
enum { LOCATION_EXTERNAL = 1 };

typedef struct external_file {
    char *location; /* as in the model */
    char *path;
    file_map map;
} external_file;

/* A graph: the model's, or the body of a control-flow operator. */
typedef struct onnx_graph {
    Onnx__Graph *message;
    const char *function;                /* for pal_weight */
    bool *node_dropped, *tensor_dropped; /* parts of palettized weights, not of the model; arena */
} onnx_graph;

/* Where a weight is defined, and what it is now. */
typedef struct weight_place {
    size_t graph;
    ProtobufCBinaryData name;
    size_t initializer;     /* its place among the graph's initializers, or NONE */
    size_t input;           /* among its inputs, or NONE */
    size_t node;            /* the Constant that holds it, or NONE */
    bool in_recipe;         /* what the file has there are its indices */
    Onnx__Tensor *tensor;   /* as it was in the file: of its values, or of its indices */
    const void *source;     /* its values in the mapped file */
    const palette *palette; /* NULL: dense */
    bool changed;           /* dense, but no longer as in the file */
} weight_place;

typedef struct onnx {
    const char *path; /* of the model */
    file_map map;
    mem_arena parsed, edits; /* the file's messages; names, graphs, copies of small data */
    Onnx__Model *root;
    int64_t opset;
    uint64_t external_bytes; /* of all files below */
    uint64_t match_work;     /* spent so far, see match.c */
    external_file *files;
    size_t file_count, file_capacity;
    onnx_graph *graphs;
    size_t graph_count, graph_capacity;
    weight_place *places; /* one for each weight */
    size_t place_capacity;
    holdings held; /* with the palettes read from the file, and aligned copies of what it has */
    dev_t device;  /* and inode: which file it was when it was opened */
    ino_t inode;
} onnx;

/* An operator of ONNX's own domain, of this type. */
static inline bool node_is(const Onnx__Node *node, const char *type)
{
    return protobuf_equal(node->op_type, type) &&
           (node->domain.len == 0 || protobuf_equal(node->domain, "ai.onnx"));
}

/* ---------------------------------------------------------------- model.c */

/* Reads the file at state->path: its map, its messages and their root. */
pal_status onnx_read(onnx *state);

/* ---------------------------------------------------------------- tensor.c */

typedef struct tensor {
    pal_dtype dtype;
    size_t rank;
    uint64_t shape[PAL_MAX_RANK];
    uint64_t elements, bytes;
    const void *data; /* in the file or in memory, not always aligned; NULL: in a form not read */
    uint32_t zeros;   /* of `bytes`, those at the end that are 0 and not in `data` */
} tensor;

pal_dtype onnx_to_dtype(int32_t type);
int32_t onnx_from_dtype(pal_dtype dtype);

/* Type and shape: false in *known for a type that is not a number's, or for too high a rank.
 * PAL_ERROR_FORMAT for an impossible shape. */
pal_status tensor_type_read(const onnx *state, const Onnx__Tensor *message, tensor *out,
                            bool *known);
/* The whole tensor, for one whose type is known. */
pal_status tensor_read(onnx *state, const Onnx__Tensor *message, tensor *out);
/* Where external data lie. */
pal_status tensor_external(onnx *state, const Onnx__Tensor *message, const file_map **map,
                           const uint8_t **data, uint64_t *length);
/* Calls visit for every tensor below a message, always in the same order. */
typedef pal_status (*tensor_visit)(void *user, Onnx__Tensor *tensor);
pal_status tensor_visit_all(ProtobufCMessage *message, tensor_visit visit, void *user);

/* A message in the arena whose content are the tensor's data where they lie. NULL when out of
 * memory. */
Onnx__Tensor *tensor_make(mem_arena *arena, const tensor *tensor, const char *name);

/* The same values at an address that suits their type, which live as long as the state; NULL when
 * out of memory. */
const void *tensor_align(onnx *state, const tensor *tensor);

/* The attribute of that name, or NULL. */
const Onnx__Attribute *node_attribute(const Onnx__Node *node, const char *name);
/* The tensor that a Constant holds, or NULL. */
Onnx__Tensor *node_constant(const Onnx__Node *node);

/* ---------------------------------------------------------------- scope.c */

/* What defines a value. */
typedef struct definition {
    ProtobufCBinaryData name;
    uint32_t hash;
    size_t below; /* the definition in the same bucket that this one came on top of */
    size_t graph;
    size_t initializer;     /* NONE if none */
    size_t node;            /* NONE if none */
    size_t weight;          /* once it is listed as one; NONE */
    size_t input;           /* its place among the graph's inputs; NONE */
    bool wanted;            /* what is not part of a palettized weight uses it */
    const palette *palette; /* that it was recognised to compute, and the tensor of its indices */
    Onnx__Tensor *indices;
} definition;

/* Names that can be seen from a graph: its own and those of the graphs around it. Leaving a graph
 * removes its names again. */
typedef struct scope {
    definition *definitions;
    size_t count, capacity;
    size_t buckets[4096];
} scope;

void scope_init(scope *scope);
void scope_free(scope *scope);
bool scope_push(scope *scope, const definition *definition); /* false: out of memory */
void scope_pop(scope *scope, size_t count);
definition *scope_find(const scope *scope, ProtobufCBinaryData name);

/* ---------------------------------------------------------------- graph.c */

/* Fills model->weights, state->places and state->graphs. */
pal_status onnx_find_weights(pal_model *model);

/* ---------------------------------------------------------------- recipe.c */

enum { MAX_STEPS = 56, MAX_DIMENSIONS = 2 * PAL_MAX_RANK + 1 };

/* One value on the way from a palette to its dense tensor: a constant, or an operator. */
typedef struct step {
    const char *operator; /* NULL: a constant */
    bool shared;          /* the same in several palettes */
    tensor constant;
    size_t inputs[3]; /* earlier steps */
    size_t input_count;
    const char *attribute; /* NULL: none */
    int64_t integers[MAX_DIMENSIONS];
    size_t integer_count;
    bool is_list; /* the attribute is a list, even of one */
} step;

/* The last step is the dense tensor. */
typedef struct recipe {
    step steps[MAX_STEPS];
    size_t count;
    size_t indices; /* the step that holds the packed indices */
} recipe;

/* The recipe's small constants are in the arena, the others where the palette has them.
 * PAL_ERROR_UNSUPPORTED, with the reason, for what these operators cannot express. */
pal_status recipe_make(const palette *palette, mem_arena *arena, recipe *out);

/* ---------------------------------------------------------------- match.c */

/* Whether the node at `node` of a graph ends a recipe: then its palette, in which data may point
 * into the file, and the graph's parts of it marked as dropped; otherwise NULL. `initializer` and
 * `tensor` receive the place of the indices. */
pal_status match_palette(onnx *state, const scope *scope, size_t graph, size_t node,
                         palette **found, size_t *initializer, Onnx__Tensor **indices);

/* Every value of a recipe but the last has a name that begins with "pal", digits if needed to be
 * unique, and a dot. The length of that in a name, or 0. */
size_t match_prefix(ProtobufCBinaryData name);

/* ---------------------------------------------------------------- emit.c */

/* Lists of a graph as they were, while the model is edited for saving. */
typedef struct kept_graph {
    Onnx__Graph *message, lists;
} kept_graph;

typedef struct kept_tensor {
    Onnx__Tensor *message, content;
} kept_tensor;

/* Data for the file of external data. */
typedef struct external_piece {
    const void *data;
    uint64_t length, offset;
    uint32_t zeros;
} external_piece;

typedef struct emission {
    mem_arena arena;
    kept_graph *graphs;
    size_t graph_count;
    kept_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    external_piece *pieces;
    size_t piece_count, piece_capacity;
    size_t *piece_of; /* a hash table: 1 + a piece's number, or 0 */
    size_t slot_count;
    uint64_t external_bytes;
} emission;

/* Edits the messages of the model into what is to be saved. onnx_restore() undoes all of it, and is
 * called in any case. */
pal_status onnx_emit(pal_model *model, emission *emission);
void onnx_restore(emission *emission);

/* ---------------------------------------------------------------- external.c */

/* Moves what was in external files, and new data of some size, into one external file, which shall
 * be named `location`; the text may still change, but not its length. */
pal_status onnx_emit_external(onnx *state, emission *emission, ProtobufCBinaryData location);

/* ---------------------------------------------------------------- replaced.c */

/* How the name of a file of external data ends: a dot, so many digits of a hash, and this. */
enum { DATA_DIGITS = 16 };
extern const char DATA_SUFFIX[];

/* Paths of data files. */
typedef struct replaced_data {
    char **paths;
    size_t count, capacity;
} replaced_data;

/* Lists the data files that saving once wrote for the model that is at `final` now, less those that
 * the model to be saved is read from, unless it is the very same file: under another name it needs
 * them still. (A copy of a model that shares its data with it is not known.) replaced_data_free()
 * in any case. */
pal_status replaced_data_list(const onnx *state, const char *final, replaced_data *out);
void replaced_data_remove(const replaced_data *list, const char *except);
void replaced_data_free(replaced_data *list);

#endif
