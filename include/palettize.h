/* SPDX-License-Identifier: Apache-2.0
 *
 * palettize: palettization of neural-network weights.
 *
 * Palettizing a weight tensor replaces its values by 2^nbits shared values, the look-up table
 * (LUT), and an nbits-wide index for each weight. This library reads a trained model file, picks
 * the best LUT for each weight, and writes the same kind of file back for the stock runtime.
 *
 * The shortest use, with the defaults of every option but the bit width:
 *
 *     pal_model *model = NULL;
 *     pal_options *options = NULL;
 *     if (pal_model_open("in.mlpackage", &model) || pal_options_new(&options) ||
 *         pal_options_set(options, "nbits", "4") ||
 *         pal_compress(model, options, NULL, NULL, NULL) ||
 *         pal_model_save(model, "out.mlpackage", NULL))
 *         fprintf(stderr, "%s\n", pal_error_message());
 *     pal_options_free(options);
 *     pal_model_free(model);
 *
 * Conventions, true of every function here unless it says otherwise:
 *
 * Errors. A function that can fail returns a pal_status; PAL_OK is 0. What went wrong, in one line
 * that names the file, the place and the reason, is in pal_error_message() of the same thread.
 * After a failure every output argument is NULL or untouched; a model that a failed call was
 * changing is as it was before.
 *
 * Ownership. A pointer returned through a `**out` argument belongs to the caller, who gives it back
 * with the matching _free function (which accepts NULL). A `const` pointer belongs to the object it
 * came from and lives as long as that object, or until the next call that changes it.
 *
 * Threads. Different objects may be used in different threads at once. One object must not be
 * used by two threads at once. What is written does not depend on the number of threads, to the
 * last bit, but for what training gives (pal_trainer) and, of models so large that there is memory
 * for one replica only, sensitivities. Outputs of running models, and scores, may differ in their
 * last digits: a long sum that threads share is taken in another order.
 *
 * Memory. Failed allocations are reported as PAL_ERROR_MEMORY; nothing exits or aborts.
 *
 * Numbers. float16 and bfloat16 values are passed as uint16_t bit patterns, in the machine's byte
 * order. Hosts are little-endian, as the file formats are.
 */
#ifndef PALETTIZE_H
#define PALETTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Before every function that the library exports. */
#if defined(__GNUC__)
#define PAL_API __attribute__((visibility("default")))
#else
#define PAL_API
#endif

/* The version that this header belongs to; pal_version() tells that of the library. */
#define PAL_VERSION_MAJOR 0
#define PAL_VERSION_MINOR 1 /* the same major and minor version: programs need no change */
#define PAL_VERSION_PATCH 0 /* repairs alone */

/* The version of the library that is running, as "0.1.0". */
PAL_API const char *pal_version(void);

/* ---------------------------------------------------------------- statuses and messages */

typedef enum pal_status {
    PAL_OK = 0,
    PAL_ERROR_ARGUMENT,    /* a value that the caller passed is out of range or makes no sense */
    PAL_ERROR_MEMORY,      /* an allocation failed */
    PAL_ERROR_IO,          /* the operating system refused to read or write a file */
    PAL_ERROR_FORMAT,      /* an input file is damaged or is not what it claims to be */
    PAL_ERROR_UNSUPPORTED, /* the input is sound, but the format or this version can't do that */
    PAL_ERROR_VALUE,       /* weights that cannot be clustered: NaN or infinite */
    PAL_ERROR_CANCELLED,   /* the progress callback asked to stop */
} pal_status;

/* The message of the last failure in this thread; "" when there was none. The text lives until the
 * next failing call in the same thread. */
PAL_API const char *pal_error_message(void);

/* A short English name of a status: "out of memory". Never NULL. */
PAL_API const char *pal_status_name(pal_status status);

/* Called while long work goes on: `done` of `total` units (weights' elements, samples, steps),
 * `what` names what was just finished. Calls come from one thread at a time, not always the same
 * one. `done` never decreases within a stage; methods of several stages (that cluster several
 * times, or measure first) begin again in each, with the total of that. Return false to cancel: the
 * work stops soon with PAL_ERROR_CANCELLED. */
typedef bool (*pal_progress)(void *user, uint64_t done, uint64_t total, const char *what);

/* ---------------------------------------------------------------- options */

/* How to compress. The options have the names, defaults and meanings of those of coremltools'
 * OpPalettizerConfig, where that has them; pal_option_get() lists them, and the command line is
 * made from that list. */
typedef struct pal_options pal_options;

/* What kind of value an option takes. */
typedef enum pal_option_type {
    PAL_OPTION_INTEGER, /* decimal, within [minimum, maximum] */
    PAL_OPTION_CHOICE,  /* one of the words in `choices` */
    PAL_OPTION_TABLE,   /* the path of a .npy file, or a list of numbers: "[-1, 0, 0.5, 1]" */
} pal_option_type;

/* The declaration of an option. */
typedef struct pal_option {
    const char *name;          /* "group_size"; on the command line --group-size */
    pal_option_type type;      /* what `choices`, `minimum` and `maximum` mean follows from it */
    const char *default_value; /* NULL: unset by default */
    int64_t minimum;           /* integers: the least */
    int64_t maximum;           /* integers: the greatest */
    const char *choices;       /* choices, and integers limited to a list: words separated by "|" */
    const char *argument;      /* placeholder in usage lines: "N" */
    const char *help;          /* one or more sentences */
} pal_option;

/* The i-th option, or NULL past the last. */
PAL_API const pal_option *pal_option_get(size_t i);

/* All options at their defaults. */
PAL_API pal_status pal_options_new(pal_options **out);
/* Gives options back. */
PAL_API void pal_options_free(pal_options *options);

/* Sets an option from text, as a user would write it. A dash in `name` counts as an underscore, and
 * in choices capital letters as small ones. PAL_ERROR_ARGUMENT names the option and the values it
 * takes. A file that the value names is read here, once. */
PAL_API pal_status pal_options_set(pal_options *options, const char *name, const char *value);

/* The effective value of an option as text, NULL where it is unset or there is no such option. */
PAL_API const char *pal_options_value(const pal_options *options, const char *name);

/* Checks that the options agree with each other (pal_compress does so too): kmeans and uniform need
 * nbits; unique and custom find their own and take none; custom needs a lut. */
PAL_API pal_status pal_options_check(const pal_options *options);

/* Reads a configuration file (YAML) with the layout of coremltools' OptimizationConfig:
 *
 *     global_config: {nbits: 4}
 *     op_type_configs:
 *       linear: {nbits: 8, granularity: per_grouped_channel}
 *       gather: null                       # left alone
 *     op_name_configs:
 *       classifier_weight: {mode: unique}
 *       "layers_[0-9]+_.*": {nbits: 2, group_size: 8, granularity: per_grouped_channel}
 *
 * For each weight the first that applies holds: its name in op_name_configs; the first key there
 * that is a POSIX extended regular expression matching the whole name (byte by byte; back
 * references and what would take very much memory are refused); the name of the operator that uses
 * it in op_name_configs; that operator's type in op_type_configs; global_config. Where several
 * operators use the weight and come to different options in this way, it is left alone, with that
 * reason. Each entry stands alone: an option that it does not name has its default. Without
 * global_config, what nothing else covers is left alone. pal_options_set() afterwards changes
 * global_config only. Errors name file, line and key. */
PAL_API pal_status pal_options_load(pal_options *options, const char *path);

/* The effective configuration as YAML that pal_options_load() reads back to the same, in fresh
 * memory that is given back with pal_free(). */
PAL_API pal_status pal_options_text(const pal_options *options, char **out);
/* Gives back memory that the library handed out where no other function does; NULL is allowed. */
PAL_API void pal_free(void *memory);

/* ---------------------------------------------------------------- models and their weights */

/* An open model file. The file is mapped, not copied, and must not be changed by others while it is
 * open. */
typedef struct pal_model pal_model;

/* The type of a tensor's elements. */
typedef enum pal_dtype {
    PAL_DTYPE_OTHER = 0, /* a type that this library stores but does not compute with */
    PAL_FLOAT16,
    PAL_FLOAT32,
    PAL_BFLOAT16,
    PAL_FLOAT64,
    PAL_FLOAT8E4M3FN,
    PAL_FLOAT8E5M2,
    PAL_INT4,
    PAL_INT8,
    PAL_INT16,
    PAL_INT32,
    PAL_INT64,
    PAL_UINT1,
    PAL_UINT2,
    PAL_UINT3,
    PAL_UINT4,
    PAL_UINT6,
    PAL_UINT8,
    PAL_UINT16,
    PAL_UINT32,
    PAL_UINT64,
} pal_dtype;

/* "float16", "uint4", ...; never NULL. */
PAL_API const char *pal_dtype_name(pal_dtype dtype);

/* Bits that one element takes in a file; 0 for PAL_DTYPE_OTHER. */
PAL_API unsigned pal_dtype_bits(pal_dtype dtype);

/* No tensor has more dimensions. */
#define PAL_MAX_RANK 16

/* How a weight is stored in the file at hand. */
typedef enum pal_storage {
    PAL_STORAGE_DENSE,
    PAL_STORAGE_PALETTIZED,
    PAL_STORAGE_QUANTIZED,
    PAL_STORAGE_SPARSE,
    PAL_STORAGE_OTHER,             /* compressed in a way that this version does not know */
    PAL_STORAGE_PALETTIZED_SPARSE, /* zeros are left out, and the rest is palettized */
} pal_storage;

/* "dense", "palettized", ...; never NULL. */
PAL_API const char *pal_storage_name(pal_storage storage);

/* One weight: a constant of floating type that the model holds. */
typedef struct pal_weight {
    const char *name;     /* the value's name in the file, unique within its function */
    const char *function; /* the function that holds it: "main" in most files */
    const char *op;       /* type of the operator that uses it ("conv"), the first if several; "" */
    size_t consumers;     /* how many operators use it */
    pal_dtype dtype;      /* of the dense values */
    size_t rank;          /* how many dimensions */
    uint64_t shape[PAL_MAX_RANK]; /* of the dense values, outermost dimension first */
    uint64_t elements;            /* the product of `shape` */
    int channel_axis;             /* output-channel axis by its consumers; -1 where they disagree */
    pal_storage storage;          /* in the file, or in memory after compressing */
    unsigned nbits;               /* index width if palettized, else bits of an element */
    uint64_t num_luts;            /* look-up tables if palettized, else 0 */
    uint64_t bytes;               /* that its values (indices and tables) take in the file now */
} pal_weight;

/* Opens a Core ML package (.mlpackage holding an ML Program of iOS15 or later, or a pipeline of
 * them), an ONNX model (.onnx, with its files of external data beside it; palettizing needs opset
 * 11), a safetensors file, or a folder of such as the Hugging Face libraries write it (with a
 * model.safetensors, or a model.safetensors.index.json and its files). The kind of file is found
 * from its content. */
PAL_API pal_status pal_model_open(const char *path, pal_model **out);
/* Closes a model; what came from it is gone, and changes that were not saved are lost. */
PAL_API void pal_model_free(pal_model *model);

/* "coreml", "onnx" or "safetensors". Never NULL. */
PAL_API const char *pal_model_format(const pal_model *model);

/* What the file says of itself, for people: "ML Program, iOS16 (CoreML6)". Never NULL. */
PAL_API const char *pal_model_description(const pal_model *model);

/* Bytes of the file or package as it was opened. */
PAL_API uint64_t pal_model_bytes(const pal_model *model);

/* Weights in the order of the file; a weight that several operators share appears once. */
PAL_API size_t pal_model_weight_count(const pal_model *model);
/* The i-th weight, NULL past the last. */
PAL_API const pal_weight *pal_model_weight(const pal_model *model, size_t i);

/* Whether pal_compress would palettize the i-th weight under these options (NULL: the defaults).
 * Returns NULL if so, otherwise the reason, in words that complete "skipped: ...". The text lives
 * until the next call on this model. */
PAL_API const char *pal_model_skip_reason(pal_model *model, size_t i, const pal_options *options);

/* Into how many bins values are sorted. */
#define PAL_HISTOGRAM_BINS 64

/* How many values lie in which part of their range. */
typedef struct pal_histogram {
    double low;  /* bins divide the range from here evenly: the least value, but not farther than
                    five standard deviations from the mean */
    double high; /* to here: the greatest value, with the same bound */
    uint64_t counts[PAL_HISTOGRAM_BINS]; /* from low to high */
    uint64_t below;                      /* values less than low */
    uint64_t above;                      /* values greater than high */
} pal_histogram;

/* Counts the values of the i-th weight as it is now: of a pruned one those that are stored, of a
 * large one a quarter of a million, in runs spread evenly. PAL_ERROR_UNSUPPORTED for a weight that
 * is not stored as floats of 16 or 32 bits; PAL_ERROR_VALUE where no value is finite. */
PAL_API pal_status pal_model_histogram(const pal_model *model, size_t i, pal_histogram *out);

/* The entries of a palettized weight's look-up tables, as the values that they stand for: table
 * after table, `*count` in all, in fresh memory that is given back with pal_free(). `*scaled` tells
 * whether a scale for each channel multiplies them yet. */
PAL_API pal_status pal_model_luts(const pal_model *model, size_t i, float **values, size_t *count,
                                  bool *scaled);

/* Writes the model with all its changes. `path` may be the file that the model was opened from.
 * The new file appears complete or not at all: it is written beside its final place, flushed to
 * disk, and renamed; what stood there before stays until then. An existing directory that is no
 * model package is never replaced. If `bytes` is not NULL it receives the size written. */
PAL_API pal_status pal_model_save(pal_model *model, const char *path, uint64_t *bytes);

/* Whether pal_model_save() could begin to write there: that the place exists, lets files be made,
 * and holds nothing that would not be replaced. Nothing is left behind, and what is there stays as
 * it is. To be asked before long work. */
PAL_API pal_status pal_model_check_destination(const pal_model *model, const char *path);

/* ---------------------------------------------------------------- compressing */

/* What became of each weight. */
typedef struct pal_report pal_report;

/* Which of the possible things that was. */
typedef enum pal_weight_status {
    PAL_WEIGHT_COMPRESSED,
    PAL_WEIGHT_SKIPPED,      /* left as it was; the reason says why */
    PAL_WEIGHT_DECOMPRESSED, /* by pal_decompress */
    PAL_WEIGHT_ADJUSTED,     /* it stays dense, with other values; the reason says why */
} pal_weight_status;

/* What became of one weight. */
typedef struct pal_report_entry {
    pal_weight weight; /* as it was before; storage, nbits, num_luts and bytes as they are now */
    pal_weight_status status; /* group_size, mse and psnr are set if PAL_WEIGHT_COMPRESSED */
    const char *reason;       /* why it was skipped, or a remark on how it was compressed; "" */
    uint64_t bytes_before;    /* of its values in the file */
    uint64_t group_size;      /* channels that share a LUT; 0: the whole tensor */
    double mse;               /* mean over the elements of (w - palettized w)^2; 0 where skipped */
    double psnr;              /* dB: 10 log10(max |w|^2 / mse); infinity where mse is 0 */
} pal_report_entry;

/* How many entries there are: one for each weight of the model, in its order. */
PAL_API size_t pal_report_count(const pal_report *report);
/* The i-th entry, NULL past the last. */
PAL_API const pal_report_entry *pal_report_get(const pal_report *report, size_t i);
/* The i-th line on the whole: what the method worked with, and what its steps gave. NULL past the
 * last; there may be none. */
PAL_API const char *pal_report_note(const pal_report *report, size_t i);
/* Gives a report back. */
PAL_API void pal_report_free(pal_report *report);

/* Palettizes every weight that the options allow, in memory; pal_model_save() then writes the
 * result. `progress` and `report` may be NULL. If any option needs a newer version of the format
 * than the model has (Core ML: 3 bit, several LUTs, vectors, integer LUTs and scales need iOS18),
 * PAL_ERROR_UNSUPPORTED names both and nothing is changed. Pruned weights of Core ML packages from
 * iOS18 on are palettized as well; their zeros stay. */
PAL_API pal_status pal_compress(pal_model *model, const pal_options *options, pal_progress progress,
                                void *user, pal_report **report);

/* Turns every palettized weight, by whichever tool it was made, back into dense values, exactly
 * those that the runtime would compute. Weights compressed in other ways stay as they are and are
 * reported as skipped. */
PAL_API pal_status pal_decompress(pal_model *model, pal_progress progress, void *user,
                                  pal_report **report);

/* ---------------------------------------------------------------- running a model */

/* A model made ready to compute its outputs, on the processor, in float32 whatever type the file
 * stores. Palettized weights are decompressed, so that results are those of the compressed file. */
typedef struct pal_session pal_session;

#define PAL_ANY (-1) /* a dimension that the model leaves open */

/* Values row-major, outermost dimension first: PAL_FLOAT32 (float), PAL_INT64 (int64_t) or
 * PAL_UINT8 (a byte of 0 or 1, for booleans). */
typedef struct pal_tensor {
    const char *name;            /* in the model; NULL: told by its place */
    pal_dtype dtype;             /* one of the three */
    size_t rank;                 /* how many dimensions */
    int64_t shape[PAL_MAX_RANK]; /* outermost first; PAL_ANY only where a model describes itself */
    const void *data;            /* NULL where a model describes itself */
} pal_tensor;

/* The model must outlive the session and stay unchanged meanwhile. threads: 0 for all processors.
 * PAL_ERROR_UNSUPPORTED lists every operator of the model that this version cannot compute.
 *
 * The threads are OpenMP's. GNU's let threads that wait spin for milliseconds, which is slow where
 * other processes want the processors too: then set GOMP_SPINCOUNT=1000 in the environment before
 * the process starts, as the command does. */
PAL_API pal_status pal_session_open(pal_model *model, int threads, pal_session **out);
/* Gives a session back, with its outputs. */
PAL_API void pal_session_free(pal_session *session);

/* What the model takes; data is NULL, open dimensions are PAL_ANY. NULL past the last. */
PAL_API const pal_tensor *pal_session_input(const pal_session *session, size_t i);

/* Computes all outputs. `inputs` are the model's, by name in any order, or in the model's order
 * where they have no names (NULL). Their shapes must fit the model's; but where the model fixes the
 * first dimension of its inputs (Core ML packages mostly say 1), a multiple of it runs as well, as
 * that many samples at once. Shapes may change from run to run; the first run of a shape plans it.
 * PAL_ERROR_ARGUMENT where an input is missing, or has elements but no data. */
PAL_API pal_status pal_session_run(pal_session *session, const pal_tensor *inputs, size_t count);

/* The i-th output of the last run, NULL past the last or before a run. Valid until the next run. */
PAL_API const pal_tensor *pal_session_output(const pal_session *session, size_t i);

/* ---------------------------------------------------------------- data */

/* How samples become what a model takes: the mean to subtract, the size to bring images to, which
 * part of the data. As with compression, options have names; the command line is made from their
 * list. */
typedef struct pal_data_options pal_data_options;

/* The declaration of an option for data. */
typedef struct pal_data_option {
    const char *name;          /* "shuffle_seed"; on the command line --shuffle-seed */
    const char *argument;      /* placeholder in usage lines: "N" */
    const char *default_value; /* NULL: unset by default */
    const char *help;          /* one or more sentences */
} pal_data_option;

/* The i-th option, or NULL past the last. */
PAL_API const pal_data_option *pal_data_option_get(size_t i);

/* All options at their defaults. */
PAL_API pal_status pal_data_options_new(pal_data_options **out);
/* Gives options back. */
PAL_API void pal_data_options_free(pal_data_options *options);

/* Sets an option from text, as a user would write it: "mean", "0.485 0.456 0.406". A dash in `name`
 * counts as an underscore. PAL_ERROR_ARGUMENT names the option and what it takes. */
PAL_API pal_status pal_data_options_set(pal_data_options *options, const char *name,
                                        const char *value);

/* Samples, with labels or without. */
typedef struct pal_data pal_data;

/* Opens a folder of images (JPEG, PNG; each subfolder is a class, in the byte order of names), the
 * same in a .tar, IDX files (MNIST's format, gzipped or not), an .npz with arrays named as the
 * model's inputs and, if there are labels, `labels`, or a single image. options may be NULL. */
PAL_API pal_status pal_data_open(const char *path, const pal_data_options *options, pal_data **out);
/* Gives data back. */
PAL_API void pal_data_free(pal_data *data);

/* How many samples there are, after split and limit. */
PAL_API uint64_t pal_data_count(const pal_data *data);
/* -1 where there are no labels. */
PAL_API int64_t pal_data_label(const pal_data *data, uint64_t i);
/* NULL where classes have no names. */
PAL_API const char *pal_data_class_name(const pal_data *data, size_t label);

/* Reads sample i as one sample of a model's inputs, described as pal_session_input() does: the
 * first dimension of each is the batch's and not looked at. values[k] receives input k. Dimensions
 * that are PAL_ANY there are as the data has them and come back in inputs[k].shape; if any is, call
 * with values NULL first, to learn how much room is needed. */
PAL_API pal_status pal_data_read(const pal_data *data, uint64_t i, pal_tensor *inputs, size_t count,
                                 void *const *values);

/* ---------------------------------------------------------------- scoring a model */

/* How good a model is on data, or how near to another. */
typedef struct pal_score {
    uint64_t samples;     /* that were run */
    uint64_t nan_samples; /* whose output holds NaN: top1 counts them as wrong, and psnr is NaN */
    bool labelled;        /* the data has labels: top1 and top5 are set */
    double top1;          /* percent of samples whose label is the largest output */
    double top5;          /* percent of samples whose label is among the 5 largest */
    bool compared;        /* there was a reference: psnr is set */
    double psnr;      /* dB, of the output against the reference's: 10 log10(peak^2 / mse), peak its
                         largest magnitude; infinity where equal */
    bool classes;     /* and the output holds scores of classes: these are set */
    double agreement; /* percent of places where both have their largest score at the same class */
    double kl_divergence; /* mean over places of KL(reference || model), in nats; softmax of scores
                             that are no probabilities yet */
    double seconds;       /* from the first sample to the last, reading the data included */
    bool one_by_one;      /* the model could not be run in batches */
} pal_score;

/* How models are run to be scored or compared. */
typedef struct pal_score_options {
    size_t batch;       /* samples at once; 0: 32 */
    int threads;        /* 0: all processors */
    const char *output; /* the output that is scored; NULL: the model's first */
} pal_score_options;

/* Runs the model on all samples. reference may be NULL: another model with the same inputs, mostly
 * the one before compression, so that no labels are needed. options and progress may be NULL;
 * progress counts samples. */
PAL_API pal_status pal_evaluate(pal_model *model, pal_model *reference, const pal_data *data,
                                const pal_score_options *options, pal_progress progress, void *user,
                                pal_score *score);

/* Where in a network the error arises: what an operator with weights gives in one model and in the
 * other, on the same samples. */
typedef struct pal_layer_error {
    const char *name; /* of the value, the same in both models */
    const char *op;   /* type of the operator in the second model */
    double relative;  /* |a - b| / |b| over all elements, in the Euclidean norm */
    double snr;       /* dB: -20 log10(relative) */
    double psnr;      /* dB, peak the largest magnitude in b */
    double own; /* the same as `relative`, for this operator alone: with the weights of a, on what
                   b gives it */
} pal_layer_error;

/* The errors of all layers. */
typedef struct pal_comparison pal_comparison;

/* Compares a with b (mostly: compressed and original), layer after layer in the order of
 * evaluation. Fails if they have no layer of a common name. */
PAL_API pal_status pal_compare(pal_model *a, pal_model *b, const pal_data *data,
                               const pal_score_options *options, pal_progress progress, void *user,
                               pal_comparison **out);
/* How many layers were compared. */
PAL_API size_t pal_comparison_count(const pal_comparison *comparison);
/* The i-th in the order of evaluation, NULL past the last. */
PAL_API const pal_layer_error *pal_comparison_get(const pal_comparison *comparison, size_t i);
/* Gives a comparison back. */
PAL_API void pal_comparison_free(pal_comparison *comparison);

/* ---------------------------------------------------------------- sensitivities of weights */

/* What an error in each element of each weight costs: the mean over samples of the squared gradient
 * of the loss, an estimate of the diagonal of the Fisher information (SqueezeLLM, arXiv
 * 2306.07629). Only ratios within a weight matter. */
typedef struct pal_sensitivity pal_sensitivity;

/* How sensitivities are measured. */
typedef struct pal_sensitivity_options {
    size_t batch;       /* samples at once; 0: 8. Their gradients are kept apart in any case */
    int threads;        /* 0: all processors */
    uint64_t seed;      /* of the labels that are drawn where the data has none */
    const char *output; /* the output that the loss is of; NULL: the model's first */
} pal_sensitivity_options;

/* Measures them on all samples of the data, for the weights that pal_compress() would palettize
 * under `options`. The loss: of scores of classes [N, classes] the cross entropy with the label or,
 * where the data has none, with a label drawn from the model's own probabilities (the true Fisher
 * information); of a language model [N, length, classes] the same for each next token of its input;
 * of a single number for each sample that number. settings and progress may be NULL; progress
 * counts samples. PAL_ERROR_VALUE, naming the sample, if the loss is not finite. */
PAL_API pal_status pal_sensitivity_measure(pal_model *model, const pal_data *data,
                                           const pal_options *options,
                                           const pal_sensitivity_options *settings,
                                           pal_progress progress, void *user,
                                           pal_sensitivity **out);

/* Reads a safetensors file (or folder) with a tensor for each weight that was measured, of the
 * weight's name and shape, in any floating type. A tensor that has another shape than the model's
 * weight, a value that is negative or not finite, or no tensor in common: PAL_ERROR_FORMAT. Weights
 * of the model that it lacks are clustered without it, and the report says so. */
PAL_API pal_status pal_sensitivity_load(const char *path, const pal_model *model,
                                        pal_sensitivity **out);
/* Writes them as float32. */
PAL_API pal_status pal_sensitivity_save(const pal_sensitivity *sensitivity, const char *path);
/* Gives sensitivities back. */
PAL_API void pal_sensitivity_free(pal_sensitivity *sensitivity);

/* The same as pal_compress, but tables minimise the sum of sensitivity times squared error (mode
 * kmeans; the others do not look at it). sensitivity may be NULL. */
PAL_API pal_status pal_compress_sensitive(pal_model *model, const pal_options *options,
                                          const pal_sensitivity *sensitivity, pal_progress progress,
                                          void *user, pal_report **report);

/* ---------------------------------------------------------------- methods that use data */

/* Which method chooses the tables, and how. As with compression, options have names; the command
 * line is made from their list. */
typedef struct pal_method_options pal_method_options;

/* The declaration of an option of methods. */
typedef struct pal_method_option {
    const char *name;          /* "load_sensitivity"; on the command line --load-sensitivity */
    const char *argument;      /* placeholder in usage lines: "N" */
    const char *default_value; /* NULL: unset by default */
    const char *choices;       /* words separated by "|", or NULL */
    const char *help;          /* one or more sentences */
} pal_method_option;

/* The i-th option, or NULL past the last. */
PAL_API const pal_method_option *pal_method_option_get(size_t i);

/* All options at their defaults. */
PAL_API pal_status pal_method_options_new(pal_method_options **out);
/* Gives options back. */
PAL_API void pal_method_options_free(pal_method_options *options);

/* Sets an option from text, as a user would write it. A dash in `name` counts as an underscore.
 * PAL_ERROR_ARGUMENT names the option and what it takes. */
PAL_API pal_status pal_method_options_set(pal_method_options *options, const char *name,
                                          const char *value);

/* The value of an option as it was set or by default, NULL where it is unset or there is none. */
PAL_API const char *pal_method_options_value(const pal_method_options *options, const char *name);
/* Whether pal_method_options_set() has set it. */
PAL_API bool pal_method_options_given(const pal_method_options *options, const char *name);
/* Whether the method that is set looks at an option. */
PAL_API bool pal_method_options_uses(const pal_method_options *options, const char *name);

/* Opens the samples that a method is to have: as pal_data_open() does, with the number and the seed
 * of the method's options in the place of limit and shuffle_seed where those are not set. Methods
 * that hold samples back take the first `samples` of them to learn from. */
PAL_API pal_status pal_method_data_open(const char *path, const pal_data_options *data_options,
                                        const pal_method_options *method, pal_data **out);

/* Palettizes every weight that `options` allow by the method that `method` (NULL: kmeans) names,
 * with what it learns from the data; in memory, as pal_compress() does. data may be NULL where the
 * method can do without; of data that is not shuffled, the samples are drawn by the seed. */
PAL_API pal_status pal_compress_method(pal_model *model, const pal_options *options,
                                       const pal_method_options *method, const pal_data *data,
                                       pal_progress progress, void *user, pal_report **report);

/* The samples of the data that this method keeps away from its training, to score what comes of it
 * on samples that it has not seen. The same each time. NULL in *out where there are none. `data`
 * must outlive them. */
PAL_API pal_status pal_method_held_back(const pal_data *data, const pal_method_options *method,
                                        pal_data **out);

/* ---------------------------------------------------------------- training, step by step */

/* What pal_compress_method() does by method dkm, for callers that want to see each step: weights
 * and tables are trained together (Differentiable K-Means, arXiv 2108.12659).
 *
 *     pal_trainer_new(model, options, method, data, &trainer);          prepare
 *     do pal_trainer_step(trainer, &training); while (!training.done);
 *     pal_trainer_finish(trainer, &report);                             palettize the model
 *     pal_trainer_free(trainer);
 *     pal_model_save(model, "out.onnx", NULL);
 *
 * The same seed, data and options give the same bytes on the same machine with the same number of
 * threads, also if the run was interrupted and went on from a checkpoint (options checkpoint and
 * resume). At another number of threads sums of gradients are taken in another order. */
typedef struct pal_trainer pal_trainer;

typedef struct pal_training {
    uint64_t step, steps, epoch;  /* steps made, and in all (fewer once option enough ends them);
                                     the epoch of this one, from 0 */
    double loss;                  /* of the soft network, on this step's samples */
    double lr, tau;               /* learning rate; temperature (see option tau) */
    double gradient_norm;         /* before clipping */
    double seconds, seconds_left; /* since pal_trainer_new() */
    double samples_per_second;
    bool validated; /* the epoch ended, and these are of the hard network on held-back samples: */
    double validation_loss;
    double validation_top1; /* percent; NaN without labels */
    bool done;
} pal_training;

/* Everything given must outlive the trainer and stay unchanged; the model changes with
 * pal_trainer_finish(). */
PAL_API pal_status pal_trainer_new(pal_model *model, const pal_options *options,
                                   const pal_method_options *method, const pal_data *data,
                                   pal_trainer **out);
/* One step, and at the end of an epoch scoring and a checkpoint. Where all steps are made it does
 * nothing. PAL_ERROR_VALUE, with advice, if the loss or a gradient is not finite; the last
 * checkpoint stays. */
PAL_API pal_status pal_trainer_step(pal_trainer *trainer, pal_training *out);
/* Palettizes the model in memory with the best tables and weights so far, by the score on what is
 * held back: those after an epoch, those now, or those that training began with. Call it once;
 * `report` may be NULL. */
PAL_API pal_status pal_trainer_finish(pal_trainer *trainer, pal_report **report);
/* After how many steps the best was found; 0: it is what training began with. */
PAL_API uint64_t pal_trainer_best_step(const pal_trainer *trainer);
PAL_API void pal_trainer_free(pal_trainer *trainer);

/* ---------------------------------------------------------------- clustering plain buffers */

/* Optimal weighted k-means in one dimension (the formulation of Gronlund et al., arXiv 1701.07204).
 *
 * Finds the k centroids, each a value that the type can hold, that minimise
 *     sum_i importance_i * (values_i - nearest centroid)^2
 * over all choices of k such centroids: the global optimum of what can be stored, not merely a
 * rounded real-valued one. Deterministic.
 *
 *   values        n finite values; n >= 1
 *   importance    n weights >= 0 and finite, or NULL for all ones. Values of importance 0 still get
 *                 a nearby centroid, at a vanishing influence on the others; where all are 0,
 *                 centroids are those of equal ones.
 *   k             1..256
 *   centroids     receives k values in ascending order; if fewer than k suffice for zero error, the
 *                 last one is repeated
 *   indices       receives n indices of the nearest centroids (of two equally near, the lower), or
 *                 NULL
 *   squared_error receives the sum above, or NULL
 *
 * PAL_ERROR_VALUE, naming the first offending index, if a value or importance is not finite or an
 * importance is negative. Memory: O(distinct values) for 16-bit types; O(n) for float32. One
 * thread. */
PAL_API pal_status pal_kmeans_f16(const uint16_t *values, const float *importance, size_t n,
                                  unsigned k, uint16_t *centroids, uint8_t *indices,
                                  double *squared_error);
/* The same of bfloat16 values. */
PAL_API pal_status pal_kmeans_bf16(const uint16_t *values, const float *importance, size_t n,
                                   unsigned k, uint16_t *centroids, uint8_t *indices,
                                   double *squared_error);
/* The same of float32 values. */
PAL_API pal_status pal_kmeans_f32(const float *values, const float *importance, size_t n,
                                  unsigned k, float *centroids, uint8_t *indices,
                                  double *squared_error);

/* ---------------------------------------------------------------- differentiable k-means */

/* A layer for the training loops of others: the weights of a tensor are replaced by soft mixtures
 * of a few centroids, which move with them, and the gradient of the loss is led back through all of
 * that to the weights (DKM, arXiv 2108.12659). docs/dkm.md has the formulas. For each tensor:
 *
 *     pal_dkm_config config = pal_dkm_defaults(n, 16);
 *     pal_dkm_new(&config, &dkm);
 *     pal_dkm_start(dkm, weights, NULL);
 *     each step:
 *         pal_dkm_forward(dkm, weights, palettized);     the network computes with `palettized`
 *         ... the loss and its gradient ...
 *         pal_dkm_backward(dkm, weights, gradient, gradient);
 *         ... the optimizer changes the weights ...
 *     pal_dkm_finish(dkm, weights, palettized, indices); and pal_dkm_table() for the tables
 *
 * Between calls it keeps the centroids and what the backward pass needs of each iteration, some
 * numbers for each centroid; a call takes a few megabytes more while it lasts, however many weights
 * there are. Numbers are the weights' float32; sums are in double. */
typedef struct pal_dkm pal_dkm;

typedef enum pal_dkm_mode {
    PAL_DKM_SOFT, /* attention softmax(-distance^2 / tau) */
    PAL_DKM_HARD, /* the nearest centroid, moved to the mean of its weights at each step; gradients
                     pass straight through to the weights */
    PAL_DKM_MEAN, /* the same, but gradients pass through those means: the weights of a centroid
                     share theirs evenly */
} pal_dkm_mode;

typedef struct pal_dkm_config {
    /* The weights are [outer, groups, channels, inner], innermost last; the groups have tables of
     * their own. One table for all: [1, 1, n, 1]. Groups of 8 along the first axis of a weight
     * [64, 3, 3, 3]: [1, 8, 8, 27]. */
    size_t outer, groups, channels, inner;
    unsigned cluster_dim; /* values of a centroid, of neighbouring channels; divides `channels` */
    unsigned clusters;    /* in a table: 2^nbits; 1 to 256 */
    pal_dkm_mode mode;
    double tau;             /* temperature */
    bool relative_tau;      /* in units of the variance of the group's values */
    unsigned iterations;    /* of k-means in a forward pass, at most; 1 to 100 */
    double epsilon;         /* and no more when the summed squared distances to the nearest
                               centroids change by no more than this */
    double zero_threshold;  /* attention is at least this; 0 to 1e-3 */
    bool enforce_zero;      /* the centroid nearest to 0 is kept there, */
    double prune_threshold; /* and squared distances to it are reduced by this */
    bool repair;            /* centroids that no weight needs are moved to wide clusters */
    pal_dtype weight_dtype; /* as which the weights are to be stored: PAL_FLOAT32, PAL_FLOAT16 or
                               PAL_BFLOAT16 */
    pal_dtype lut_dtype; /* the same, PAL_INT8 or PAL_UINT8: what centroids are rounded to in each
                            iteration (but not to float32); gradients take no notice */
    /* Weights are divided by scales, and palettized ones multiplied: outer position o, channel c
     * (of all groups) and inner position i have scale[o * scale_outer + c * scale_channel + i *
     * scale_inner] > 0. NULL: none. Copied. */
    const float *scale;
    size_t scale_outer, scale_channel, scale_inner;
    size_t nodes; /* see docs/dkm.md: a power of two from 16 to 65,536, 0 for one that fits the
                     number of weights, SIZE_MAX to look at each weight by itself */
    int threads;  /* 0: all processors */
} pal_dkm_config;

/* coremltools' defaults: tau, epsilon 1e-4, 3 iterations, thresholds 1e-7, one table, float32; and
 * repair. */
PAL_API pal_dkm_config pal_dkm_defaults(size_t n, unsigned clusters);

/* PAL_ERROR_ARGUMENT names what is out of range. */
PAL_API pal_status pal_dkm_new(const pal_dkm_config *config, pal_dkm **out);
PAL_API void pal_dkm_free(pal_dkm *dkm);

/* Centroids to begin with, by k-means of the weights: for single values the optimum (to the
 * 65,536th part of their range, where there are many). importance, one for each weight, may be
 * NULL. */
PAL_API pal_status pal_dkm_start(pal_dkm *dkm, const float *weights, const float *importance);

/* The centroids, [groups, clusters, cluster_dim], of weights divided by scales: all that has to be
 * saved for a run to go on as if it had not been interrupted, or what others have found to begin
 * with. The pointer lives until the next call on this layer. */
PAL_API const double *pal_dkm_centroids(const pal_dkm *dkm);
PAL_API pal_status pal_dkm_set_centroids(pal_dkm *dkm, const double *centroids);

/* For schedules; in effect from the next forward pass on. */
PAL_API pal_status pal_dkm_set_tau(pal_dkm *dkm, double tau);
PAL_API pal_status pal_dkm_set_mode(pal_dkm *dkm, pal_dkm_mode mode);

/* Moves the centroids and writes the palettized weights (or not: NULL). PAL_ERROR_VALUE, naming the
 * first weight that is not finite; then nothing has changed. */
PAL_API pal_status pal_dkm_forward(pal_dkm *dkm, const float *weights, float *palettized);

/* The gradient of the weights from that of the palettized weights, through all iterations of the
 * last forward pass, whose weights must be given again. The gradients may be the same buffer. A
 * gradient that is not finite: PAL_ERROR_VALUE, and nothing is written. */
PAL_API pal_status pal_dkm_backward(pal_dkm *dkm, const float *weights, const float *gradient,
                                    float *weight_gradient);

/* The result: of each weight its nearest centroid as it will be stored, times its scale (may be the
 * weights; NULL: not wanted), and its index. Indices are of one group after the other, each in the
 * order [outer, channels / cluster_dim, inner]. */
PAL_API pal_status pal_dkm_finish(const pal_dkm *dkm, const float *weights, float *palettized,
                                  uint8_t *indices);

/* The table of a group as it will be stored: clusters x cluster_dim values. An integer entry stands
 * for (entry - offset) * scale. Each of the last three may be NULL; entries are set only where the
 * type is one of integers. */
PAL_API pal_status pal_dkm_table(const pal_dkm *dkm, size_t group, float *values, int *entries,
                                 double *scale, int *offset);

#ifdef __cplusplus
}
#endif
#endif
