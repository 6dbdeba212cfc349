/* Options of the methods that look at more than the weights: which method, how much data, how long
 * to train. The table in method_options.c declares each once, for the library, the command line and
 * the documentation. */
#ifndef PAL_METHOD_METHOD_OPTIONS_H
#define PAL_METHOD_METHOD_OPTIONS_H

#include "base/status.h"
#include "method/train/recipe.h"

typedef enum method {
    METHOD_KMEANS,
    METHOD_SENSITIVE,
    METHOD_LAYERWISE,
    METHOD_DKM,
} method;

typedef enum correct {
    CORRECT_AUTO,
    CORRECT_ON,
    CORRECT_OFF,
    CORRECT_SCALE,
} correct;

/* The options as values. Texts are "" where unset. */
typedef struct method_settings {
    method method;
    uint64_t samples; /* 0: all that the data has */
    uint64_t seed;
    uint64_t held_back;
    uint64_t batch; /* 0: the method's own */
    correct correct;
    double
        enough; /* a distance from the float network, as judge.h has it, that is as good as none */
    char output[256];
    double shrinkage; /* looked at where it was given */
    uint64_t sweeps;
    double outliers; /* a part of each weight */
    char save_sensitivity[4096], load_sensitivity[4096];
    recipe recipe; /* of method dkm */
} method_settings;

enum { METHOD_MAX_OPTIONS = 64 };

struct pal_method_options {
    method_settings settings;
    char *text[METHOD_MAX_OPTIONS]; /* as they were set; NULL: not */
};

#endif
