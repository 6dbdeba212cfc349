/* The operators. Each says its inputs (a trailing ? marks one that may be left out: GRAPH_NONE, or
 * beyond input_count), its outputs and its attributes. Where nothing else is said, meaning is that
 * of the ONNX operator of the same name at opset 21 (https://onnx.ai/onnx/operators/); negative
 * axes count from the end. Lowering brings older opsets and Core ML (coremltools' MIL operators) to
 * this.
 *
 * x is the data; F float, I integer, B bool, T any of them. Layout is channels first: N, C, then
 * the spatial dimensions. */
#ifndef PAL_GRAPH_OPS_H
#define PAL_GRAPH_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "palettize.h"

typedef enum graph_op {
    /* ---- products with weights */
    OP_CONV, /* x F [N,C,...], w F [O,C/groups,...], bias? F [O]; window. 1 to 3 spatial */
    OP_CONV_TRANSPOSE, /* x F [N,C,...], w F [C,O/groups,...], bias? F [O]; window */
    OP_MATMUL,         /* a F, b F, bias? F (broadcast to the result); matmul. NumPy's matmul, after
                          transposing the last two dimensions of a or b as told, times alpha */
    OP_EINSUM,         /* any number of F; equation */
    OP_ATTENTION,      /* q F [...,L,E], k F [...,S,E], v F [...,S,V], mask? F (added) or B (true:
                          taken part) broadcast to [...,L,S]; attention. Scaled dot product */
    OP_LSTM,           /* x F, w F, r F, b? F, sequence_lens? I, initial_h? F, initial_c? F,
                          p? F -> y, y_h, y_c; recurrent */
    OP_GRU, /* x F, w F, r F, b? F, sequence_lens? I, initial_h? F -> y, y_h; recurrent */
    OP_RNN, /* as OP_GRU, with one gate */

    /* ---- normalisation: scale and shift are per channel (layer and RMS: broadcast to x) */
    OP_BATCH_NORM,    /* x F, scale F, shift F, mean F, variance F; norm.epsilon */
    OP_INSTANCE_NORM, /* x F, scale? F [C], shift? F [C]; norm.epsilon */
    OP_GROUP_NORM,    /* x F, scale? F [C], shift? F [C]; norm.epsilon, norm.groups */
    OP_LAYER_NORM,    /* x F, scale? F, shift? F; norm.epsilon, norm.axes -> y, mean?, 1/sigma? */
    OP_RMS_NORM,      /* x F, scale? F; norm.epsilon, norm.axes: x / sqrt(mean(x^2) + epsilon) */
    OP_LP_NORM, /* x F; norm.p (1 or 2), norm.axes, norm.epsilon: x / max(|x|_p, epsilon), zeros
                   stay. All three: resolve_norm_axes() */
    OP_LRN,     /* x F; lrn */

    /* ---- element by element */
    OP_UNARY,   /* x T; unary */
    OP_BINARY,  /* a T, b T, broadcast; binary. Comparisons give B, the logical ones take B */
    OP_CLIP,    /* x T, lowest? T [], highest? T [] */
    OP_PRELU,   /* x F, slope F broadcast to x */
    OP_SELECT,  /* condition B, a T, b T, broadcast (ONNX: Where) */
    OP_CAST,    /* x T; cast: to the graph_type of a file's type, with its range (uint8 wraps) */
    OP_DROPOUT, /* x F; dropout: the identity unless training -> y, mask? B */

    /* ---- along axes */
    OP_SOFTMAX,  /* x F; softmax.axis, softmax.logarithm */
    OP_REDUCE,   /* x T, axes? I; reduce */
    OP_ARGMAX,   /* x T; argmax -> I */
    OP_CUMSUM,   /* x T, axis I []; cumsum */
    OP_TOPK,     /* x T, k I [1]; topk -> values T, indices I */
    OP_POOL,     /* x F; window, pool -> y F, indices? I (maximum) */
    OP_RESIZE,   /* x F, roi? F, scales? F, sizes? I; resize */
    OP_ONE_HOT,  /* indices T, depth T, values T [off, on]; one_hot.axis */
    OP_NON_ZERO, /* x T -> I; of constants only */

    /* ---- moving elements */
    OP_RESHAPE,   /* x T, shape I; reshape.allow_zero. -1 and 0 as in ONNX */
    OP_SQUEEZE,   /* x T, axes? I */
    OP_UNSQUEEZE, /* x T, axes I */
    OP_FLATTEN,   /* x T; flatten.axis -> rank 2 */
    OP_TRANSPOSE, /* x T; transpose.perm (absent, count 0: reversed), none negative */
    OP_EXPAND,    /* x T, shape I: broadcast both ways, as ONNX's Expand */
    OP_TILE,      /* x T, repeats I */
    OP_CONCAT,    /* any number of T; concat.axis */
    OP_SPLIT,     /* x T, sizes? I; split.axis (without sizes: equal parts, the last smaller) */
    OP_SLICE,     /* x T, starts I, ends I, axes? I, steps? I */
    OP_PAD,       /* x T, pads I, value? T [], axes? I; pad. Negative pads crop */
    OP_GATHER,    /* x T, indices I; gather.axis */
    OP_GATHER_ELEMENTS,  /* x T, indices I; gather.axis */
    OP_GATHER_ND,        /* x T, indices I; gather.batch_dims */
    OP_SCATTER_ELEMENTS, /* x T, indices I, updates T; scatter */
    OP_SCATTER_ND,       /* x T, indices I, updates T; scatter */
    OP_DEPTH_TO_SPACE,   /* x T [N,C,H,W]; blocks */
    OP_SPACE_TO_DEPTH,   /* x T [N,C,H,W]; blocks */
    OP_TRILU,            /* x T, k? I []; trilu */
    OP_REVERSE_SEQUENCE, /* x T, sequence_lens I; sequence */

    /* ---- shapes and constants */
    OP_IDENTITY,          /* x T */
    OP_SHAPE,             /* x T; shape -> I */
    OP_SIZE,              /* x T -> I [] */
    OP_CONSTANT_OF_SHAPE, /* shape I, value T [] or [1] */
    OP_RANGE,             /* start T [], limit T [], delta T [] */
    OP_IF,                /* condition B []; branches. The condition must turn out constant */

    GRAPH_OP_COUNT
} graph_op;

typedef enum unary_kind {
    /* alpha, beta where named */
    UNARY_RELU,
    UNARY_LEAKY_RELU,       /* x < 0: alpha x */
    UNARY_ELU,              /* x < 0: alpha (e^x - 1) */
    UNARY_SELU,             /* beta (x or alpha (e^x - 1)) */
    UNARY_CELU,             /* max(0,x) + min(0, alpha (e^(x/alpha) - 1)) */
    UNARY_CLIP,             /* to [alpha, beta]: relu6 and constant bounds */
    UNARY_THRESHOLDED_RELU, /* x > alpha: x, else 0 */
    UNARY_SIGMOID,
    UNARY_HARD_SIGMOID, /* clip(alpha x + beta, 0, 1) */
    UNARY_TANH,
    UNARY_SCALED_TANH, /* alpha tanh(beta x) */
    UNARY_SOFTPLUS,    /* ln(e^x + 1) */
    UNARY_SOFTSIGN,
    UNARY_HARD_SWISH,     /* x clip(x/6 + 1/2, 0, 1) */
    UNARY_SWISH,          /* x sigmoid(alpha x) */
    UNARY_MISH,           /* x tanh(softplus(x)) */
    UNARY_GELU,           /* by erf */
    UNARY_GELU_TANH,      /* by tanh */
    UNARY_GELU_SIGMOID,   /* x sigmoid(1.702 x) */
    UNARY_HARDMAX_SHRINK, /* ONNX Shrink: x < -alpha: x + beta; x > alpha: x - beta; else 0 */
    UNARY_LINEAR,         /* alpha x + beta */
    UNARY_ABS,
    UNARY_NEG,
    UNARY_SIGN,
    UNARY_EXP,
    UNARY_EXPM1,
    UNARY_LOG, /* of x + alpha */
    UNARY_SQRT,
    UNARY_RSQRT,      /* 1 / sqrt(x + alpha) */
    UNARY_RECIPROCAL, /* 1 / (x + alpha) */
    UNARY_SQUARE,
    UNARY_ERF,
    UNARY_FLOOR,
    UNARY_CEIL,
    UNARY_ROUND, /* halves to even */
    UNARY_SIN,
    UNARY_COS,
    UNARY_TAN,
    UNARY_ASIN,
    UNARY_ACOS,
    UNARY_ATAN,
    UNARY_SINH,
    UNARY_COSH,
    UNARY_ASINH,
    UNARY_ACOSH,
    UNARY_ATANH,
    UNARY_NOT,    /* B */
    UNARY_IS_NAN, /* gives B */
    UNARY_IS_INF, /* gives B; alpha != 0: positive ones count, beta != 0: negative ones */
    UNARY_KIND_COUNT
} unary_kind;

typedef enum binary_kind {
    BINARY_ADD,
    BINARY_SUB,
    BINARY_MUL,
    BINARY_DIV,       /* integers: towards zero */
    BINARY_FLOOR_DIV, /* towards minus infinity */
    BINARY_MOD,       /* sign of the divisor */
    BINARY_FMOD,      /* sign of the dividend */
    BINARY_POW,
    BINARY_MIN,
    BINARY_MAX,
    BINARY_BIT_AND,
    BINARY_BIT_OR,
    BINARY_BIT_XOR,
    BINARY_SHIFT_LEFT,  /* by 64 and more, or less than 0: 0 */
    BINARY_SHIFT_RIGHT, /* of the sign too; by 64 and more, or less than 0: 0 or -1 */
    BINARY_EQUAL,       /* the first that gives B */
    BINARY_NOT_EQUAL,
    BINARY_LESS,
    BINARY_LESS_EQUAL,
    BINARY_GREATER,
    BINARY_GREATER_EQUAL,
    BINARY_AND,
    BINARY_OR,
    BINARY_XOR,
    BINARY_KIND_COUNT
} binary_kind;

typedef enum reduce_kind {
    REDUCE_SUM,
    REDUCE_MEAN,
    REDUCE_MAX,
    REDUCE_MIN,
    REDUCE_PRODUCT,
    REDUCE_L1,
    REDUCE_L2,
    REDUCE_SUM_SQUARE,
    REDUCE_LOG_SUM,
    REDUCE_LOG_SUM_EXP,
} reduce_kind;

#define GRAPH_MAX_SPATIAL 3

typedef enum pad_rule {
    PAD_EXPLICIT,
    PAD_VALID,
    PAD_SAME_UPPER, /* the odd one at the end */
    PAD_SAME_LOWER,
} pad_rule;

/* Of convolutions and pools; entries beyond the spatial rank are ignored. An extent of 0 in kernel
 * means: as the weight says (convolutions). */
typedef struct window {
    int64_t kernel[GRAPH_MAX_SPATIAL], stride[GRAPH_MAX_SPATIAL], dilation[GRAPH_MAX_SPATIAL];
    pad_rule rule;
    int64_t pad_begin[GRAPH_MAX_SPATIAL], pad_end[GRAPH_MAX_SPATIAL];
    int64_t groups;                            /* convolutions */
    int64_t output_padding[GRAPH_MAX_SPATIAL]; /* transposed convolutions */
    int64_t output_shape[GRAPH_MAX_SPATIAL];   /* transposed convolutions; 0: not given */
    size_t spatial; /* for how many dimensions the file gives numbers; 0: for none, or as many as
                       there are */
} window;

typedef struct op_attributes {
    union {
        window window; /* OP_CONV, OP_CONV_TRANSPOSE, OP_POOL */
        struct {
            bool transpose_a, transpose_b;
            float alpha;
        } matmul;
        struct {
            const char *equation;
        } einsum;
        struct {
            float scale; /* 0: 1 / sqrt(E) */
            bool causal;
            bool heads_inside; /* q, k, v and the result are [B,L,H,E] rather than [B,H,L,E]: what
                                  fusing with transpositions leaves */
        } attention;
        struct {
            enum { DIRECTION_FORWARD, DIRECTION_REVERSE, DIRECTION_BOTH } direction;
            int64_t hidden_size;
            unary_kind activations[6]; /* for each direction: ONNX's f, g, h */
            float alphas[6], betas[6];
            float clip; /* 0: none */
            bool linear_before_reset, input_forget;
            bool batch_first; /* ONNX's layout = 1 */
        } recurrent;
        struct {
            float epsilon;
            int64_t groups, p;
            size_t axis_count; /* 0: every axis from axes[0] to the last */
            int64_t axes[PAL_MAX_RANK];
        } norm;
        struct {
            float alpha, beta, bias;
            int64_t size;
        } lrn;
        struct {
            unary_kind kind;
            float alpha, beta;
        } unary;
        struct {
            binary_kind kind;
        } binary;
        struct {
            pal_dtype to;
        } cast;
        struct {
            float ratio;
        } dropout;
        struct {
            int64_t axis;
            bool logarithm;
        } softmax;
        struct {
            reduce_kind kind;
            bool keep_dims;
            bool empty_is_none; /* ONNX's noop_with_empty_axes */
        } reduce;
        struct {
            int64_t axis;
            bool minimum, keep_dims, last; /* last: of equal ones the last */
        } argmax;
        struct {
            bool exclusive, reverse;
        } cumsum;
        struct {
            int64_t axis;
            bool smallest, unsorted;
        } topk;
        struct {
            int64_t axis;
        } one_hot, flatten, concat, split;
        struct {
            bool allow_zero; /* 0 is an extent of 0, not "as the input" */
        } reshape;
        struct {
            size_t count;
            int64_t perm[PAL_MAX_RANK];
        } transpose;
        struct {
            enum { PAD_CONSTANT, PAD_REFLECT, PAD_EDGE, PAD_WRAP } mode;
        } pad;
        struct {
            int64_t axis, batch_dims;
        } gather;
        struct {
            int64_t axis;
            enum { SCATTER_REPLACE, SCATTER_ADD, SCATTER_MUL, SCATTER_MIN, SCATTER_MAX } reduction;
        } scatter;
        struct {
            int64_t size;
            bool column_row_depth; /* ONNX's CRD */
        } blocks;
        struct {
            bool upper;
        } trilu;
        struct {
            int64_t batch_axis, time_axis;
        } sequence;
        struct {
            int64_t start, end; /* end: INT64_MAX for all */
        } shape;
        struct {
            enum { RESIZE_NEAREST, RESIZE_LINEAR, RESIZE_CUBIC } mode;
            enum {
                COORDINATE_HALF_PIXEL,
                COORDINATE_HALF_PIXEL_SYMMETRIC,
                COORDINATE_PYTORCH_HALF_PIXEL,
                COORDINATE_ALIGN_CORNERS,
                COORDINATE_ASYMMETRIC,
                COORDINATE_TF_CROP_AND_RESIZE,
                COORDINATE_TF_HALF_PIXEL_FOR_NN,
            } coordinates;
            enum {
                NEAREST_ROUND_PREFER_FLOOR,
                NEAREST_ROUND_PREFER_CEIL,
                NEAREST_FLOOR,
                NEAREST_CEIL,
                NEAREST_BY_SCALE, /* floor, but ceil along an axis that shrinks */
            } nearest;
            float cubic_a, extrapolation;
            bool exclude_outside, antialias;
            enum { ASPECT_STRETCH, ASPECT_NOT_LARGER, ASPECT_NOT_SMALLER } aspect;
            size_t axis_count; /* 0: all */
            int64_t axes[PAL_MAX_RANK];
        } resize;
    };
    /* OP_POOL, beside its window */
    struct {
        enum { POOL_MAX, POOL_AVERAGE, POOL_LP } kind;
        bool global;       /* over all spatial dimensions; the window is ignored */
        bool ceil;         /* round the output's extent up */
        bool include_pads; /* averages count padding */
        int64_t p;         /* POOL_LP */
        bool column_major; /* of the indices (ONNX's storage_order) */
    } pool;
} op_attributes;

/* "Conv", ...; never NULL. */
const char *graph_op_name(graph_op op);

#endif
