/* What the tests of interrupted writing write: an output of each kind, and what may be in its place
 * before. */
#ifndef TARGETS_H
#define TARGETS_H

#include "harness.h"

enum target_state { NOTHING, OLD_OUTPUT, IN_PLACE, TARGET_STATES };

typedef struct target {
    const char *title;
    const char *name;                  /* of the output */
    const char *folder;                /* in which it is written */
    const char *output;                /* there */
    const char *source;                /* the input, except where it is the output */
    const char *threshold;             /* the command's --weight-threshold */
    const char *before[TARGET_STATES]; /* what the folder holds before, in folders of their own */
} target;

enum { TARGETS = 5 };

/* Makes all of it. `samples` is a folder of make_samples. */
void targets_make(const char *command, const char *seeds, const char *samples,
                  target targets[TARGETS]);
/* The command that writes the output. */
invocation target_compress(const target *target, const char *command, enum target_state state);
/* Puts the folder into that state. */
void target_reset(const target *target, enum target_state state);
/* A number for the whole output, the data that an ONNX model refers to included; 0 if there is
 * none. */
uint64_t target_hash(const target *target);
/* Removes what is neither the output nor its data nor was there before, and counts it. */
size_t target_strangers(const target *target, enum target_state state);

#endif
