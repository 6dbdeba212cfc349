/* Core ML packages: what the files of this folder share.
 *
 *   package.c   the directory: manifest, open, close
 *   files.c     its weight files
 *   save.c      writing it
 *   visit.c     a walk over all Values
 *   blob.c      weight.bin, MIL Blob storage version 2
 *   types.c     names and numbers of data types and opsets
 *   program.c   finds the weights and their consumers in an ML Program
 *   value.c     reads tensors out of Values, and makes new ones
 *   chain.c     finds the operations that together make a palettized weight
 *   lut.c       reads them
 *   emit.c      makes them
 *   constexpr.c replaces operations
 *
 * Facts are from Apple's published specification (MIL.proto, Model.proto) and from the operator
 * documentation in coremltools. */
#ifndef PAL_FORMAT_COREML_COREML_H
#define PAL_FORMAT_COREML_COREML_H

#include "base/file.h"
#include "base/memory.h"
#include "base/scratch.h"
#include "coreml.pb-c.h"
#include "format/format.h"
#include "format/protobuf.h"
#include "format/weights.h"

/* ---------------------------------------------------------------- types.c */

/* DataType of MIL.proto. */
enum {
    MIL_BOOL = 1,
    MIL_STRING = 2,
    MIL_INT32 = 23,
    MIL_UINT8 = 31,
    MIL_UINT32 = 33,
};

pal_dtype mil_to_dtype(int32_t mil);
int32_t mil_from_dtype(pal_dtype dtype);

/* The version of the operator set, by its number in "CoreML8". */
enum {
    OPSET_IOS16 = 6,
    OPSET_IOS17 = 7,
    OPSET_IOS18 = 8,
    OPSET_IOS26 = 9,
};

/* 8 for "CoreML8"; 0 if the text is not of this form. */
int opset_number(ProtobufCBinaryData text);
/* "iOS18 (CoreML8)"; the text lives in `buffer`. */
const char *opset_name(int number, char buffer[32]);

/* ---------------------------------------------------------------- blob.c */

/* Types of blobs, and the place of one in its file. */
int32_t blob_type_from_dtype(pal_dtype dtype);

typedef struct blob {
    pal_dtype dtype;
    const unsigned char *data;
    uint64_t bytes;
} blob;

/* The blob whose 64-byte metadata lies at `offset`; every number in it is checked. */
pal_status blob_read(const char *path, const file_map *map, uint64_t offset, blob *out);

/* Writing: begin, then any number of blobs, then end. */
void blob_file_begin(file_writer *writer);
/* Appends a blob and returns the offset of its metadata. */
uint64_t blob_file_append(file_writer *writer, pal_dtype dtype, const void *data, uint64_t bytes,
                          uint64_t elements);
/* Appends a blob read from another file, as it is. */
uint64_t blob_file_copy(file_writer *writer, const file_map *map, uint64_t old, const blob *blob);
void blob_file_end(file_writer *writer, uint32_t count);

/* ---------------------------------------------------------------- the state of an open package */

typedef struct weight_file {
    char *name; /* as in the model: "@model_path/weights/weight.bin" */
    char *path; /* where it lies */
    file_map map;
} weight_file;

/* Data that a Value will refer to once the package is saved. The Value's offset is PENDING + the
 * index of this. */
typedef struct pending_blob {
    pal_dtype dtype;
    const void *data;
    uint64_t bytes, elements;
    uint64_t written_at; /* while saving; 0: not yet */
} pending_blob;

#define PENDING (UINT64_C(1) << 63)

/* The operations of one block that make a palettized weight: constexpr_lut_to_dense alone, or with
 * others around it.
 *
 *   an integer table      blockwise_shift_scale (the table) -> lut_to_dense
 *     from iOS26 on       lut_to_dense (integers) -> blockwise_shift_scale
 *   per-channel scale     blockwise_shift_scale (a table for each scale) -> lut_to_dense
 *     from iOS26 on       lut_to_dense -> blockwise_shift_scale
 *   a pruned weight       lut_to_sparse -> sparse_to_dense; the table as above
 *
 * Both orders may come together. Which of them is written when is coremltools' choice; all are
 * read. */
typedef struct lut_chain {
    const Coreml__Operation *result;  /* the one whose output is the weight */
    const Coreml__Operation *look_up; /* constexpr_lut_to_dense or _sparse; NULL: not palettized */
    const Coreml__Operation *table_scale; /* that makes its table, or NULL */
    const Coreml__Operation *scale;       /* that scales what was looked up, or NULL */
    bool sparse;
} lut_chain;

/* Where a weight is defined. */
typedef struct weight_place {
    Coreml__Block *block;
    size_t operation;
    lut_chain chain; /* its operations; they stay the same but for what replaces the weight */
    int opset;
    const char *function;
} weight_place;

typedef struct coreml {
    const char *package; /* path, of the model */
    char *model_item;    /* of model.mlmodel inside the package: "Data/com.apple..." */
    char *model_path;
    mem_arena parsed, edits; /* the file's messages; new ones and names */
    Coreml__Model *root;
    weight_file *files;
    size_t file_count, file_capacity;
    weight_place *places; /* one for each weight */
    size_t place_capacity;
    pending_blob *pending;
    size_t pending_count, pending_capacity;
    holdings held;
} coreml;

/* ---------------------------------------------------------------- package.c, files.c, save.c */

/* Whether the path is a directory with a manifest. */
bool coreml_probe(const char *path);

/* How the names of weight files begin: the directory that the model lies in. */
#define COREML_MODEL_PATH "@model_path/"

/* Length of the model's directory in model_item, with its slash; 0 at the top. */
size_t coreml_model_directory(const coreml *state);

/* Opens a weight file once, by the name that a Value gives it. */
pal_status coreml_weight_file(coreml *state, ProtobufCBinaryData name, weight_file **out);

pal_status coreml_check_destination(const pal_model *model, const char *path);
pal_status coreml_save(pal_model *model, const char *path, uint64_t *bytes);

/* ---------------------------------------------------------------- visit.c */

/* Calls visit for every ML Program: one, or those of a pipeline's models, in their order. */
typedef pal_status (*program_visit)(void *user, Coreml__Program *program);
pal_status coreml_visit_programs(Coreml__Model *model, program_visit visit, void *user);

/* Calls visit for every Value in the model, those in lists and nested blocks included, always in
 * the same order. */
typedef pal_status (*value_visit)(void *user, Coreml__Value *value);
pal_status coreml_visit_values(Coreml__Model *model, value_visit visit, void *user);

/* ---------------------------------------------------------------- program.c */

/* Fills model->weights and state->places. */
pal_status coreml_find_weights(pal_model *model);

/* ---------------------------------------------------------------- value.c */

/* A tensor inside a Value. */
typedef struct tensor {
    pal_dtype dtype;
    size_t rank;
    uint64_t shape[PAL_MAX_RANK];
    uint64_t elements, bytes;
    const void *data; /* packed, if of less than a byte for each element */
    bool in_file;     /* rather than in the model's own text */
} tensor;

/* Type and shape only. PAL_ERROR_FORMAT for an overflowing shape; false in *known for anything but
 * a tensor of fixed shape and of a type we know. */
pal_status value_type_read(const Coreml__ValueType *type, tensor *out, bool *known);
/* The whole tensor; `what` names it in messages. Its data lie in the file or in the parsed model.
 */
pal_status value_read(coreml *state, const Coreml__Value *value, const char *what, tensor *out);

/* A Value that holds this tensor: in the weight file `file` if given and the tensor has at least 10
 * elements, otherwise in place. The data must live as long as the state. NULL when out of memory.
 */
Coreml__Value *value_make(coreml *state, const weight_file *file, const tensor *tensor);
Coreml__ValueType *value_type_make(coreml *state, const tensor *tensor);

/* An attribute of an operation, or NULL. */
Coreml__Value *operation_attribute(const Coreml__Operation *operation, const char *key);
/* The only binding of an input, or NULL if it has none or several. */
Coreml__Binding *operation_input(const Coreml__Operation *operation, const char *key);
/* The value of a parameter given in place, as an attribute or as an input; NULL otherwise. */
Coreml__Value *operation_parameter(const Coreml__Operation *operation, const char *key);

/* The first text of an operation's attribute, or of length 0. */
text_span operation_text(const Coreml__Operation *operation, const char *key);
/* What operators call it: its name, or that of its first output. */
text_span operation_name(const Coreml__Operation *operation);

/* ---------------------------------------------------------------- chain.c */

/* What a walk knows of a name: which output of which operation of the same block it is now. */
typedef struct value_definition {
    const Coreml__Operation *operation; /* NULL: of none */
    size_t output;
    const Coreml__Operation *table_scale; /* what coreml_table_scale() said of the operation */
} value_definition;

typedef value_definition (*find_definition)(const void *user, ProtobufCBinaryData name);

/* If the operation looks up in a table that another one scales, that one; else NULL. */
const Coreml__Operation *coreml_table_scale(const Coreml__Operation *operation,
                                            find_definition find, const void *user);
/* The chain that ends with this operation, by what names stand for where it is; its look_up is NULL
 * if the operation does not make a palettized weight in one of the ways above. */
lut_chain coreml_find_chain(const Coreml__Operation *operation, find_definition find,
                            const void *user);
/* How the weight is stored whose operations these are. */
pal_storage coreml_storage(const lut_chain *chain);
/* nbits of a table with so many entries; 0 if they are not a power of two. */
unsigned coreml_table_bits(uint64_t entries);
/* Fills nbits, num_luts and bytes of a compressed weight's info from its operations. */
pal_status coreml_describe_constexpr(const coreml *state, const lut_chain *chain, pal_weight *info);

/* ---------------------------------------------------------------- lut.c */

extern const char LUT_TO_DENSE[], LUT_TO_SPARSE[], SPARSE_TO_DENSE[], SHIFT_SCALE[];

pal_status coreml_read_palette(const pal_model *model, size_t weight, palette **out);

/* ---------------------------------------------------------------- emit.c */

enum { MAX_EMITTED = 3 };

/* Operations in the order in which they have to stand; the last one takes the place of an old one,
 * whose outputs it has. */
typedef struct emitted {
    Coreml__Operation *operation[MAX_EMITTED];
    size_t count;
    lut_chain chain; /* what they are */
} emitted;

/* Operations that make the palettized weight. PAL_ERROR_MEMORY is the only failure. */
pal_status coreml_emit_palette(coreml *state, const Coreml__Operation *old, int opset,
                               const weight_file *file, palette *palette, emitted *out);
/* A constant. */
pal_status coreml_emit_dense(coreml *state, const Coreml__Operation *old, const weight_file *file,
                             const pal_weight *info, const void *dense, emitted *out);

/* ---------------------------------------------------------------- constexpr.c */

pal_status coreml_can_express(const pal_model *model, size_t weight, const palette_form *form);
pal_status coreml_replace(pal_model *model, const replacement *list, size_t count);

#endif
