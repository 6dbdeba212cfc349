/* The steps forward cut into segments, of which the way back keeps only what leaves them. */
#ifndef PAL_ENGINE_PLAN_SEGMENTS_H
#define PAL_ENGINE_PLAN_SEGMENTS_H

#include "engine/plan_state.h"

/* A buffer with memory of its own, as the steps forward see it. */
typedef struct forward_life {
    size_t begin, written; /* the first and the last step that writes it; SIZE_MAX: none does */
    size_t end;            /* the last that reads or writes it */
    bool needed;           /* a step backward reads it */
    bool stays;            /* it is not to be computed again, or cannot be */
    bool costly;           /* to compute */
    bool unstable;         /* steps find it in different states: nothing that reads it can be run
                              again */
} forward_life;

typedef struct segments {
    const plan *plan;
    size_t buffer_count, step_count; /* when this was made; steps: those forward */
    forward_life *lives;             /* by number of the buffer */
    bool *may_begin;                 /* by step: a segment may begin with it */
    size_t *gradients; /* by step: bytes that are alive while its operator's way back runs, but for
                          what steps forward gave */
    size_t *end_of;    /* by step: where its segment ends, exclusive */
    struct segment_lists *lists;
} segments;

pal_status segments_new(const plan *plan, segments *out);
void segments_free(segments *segments);

/* Cuts such that what is kept takes the least memory and, as far as one can tell beforehand, no
 * segment's way back finds more than `limit` bytes alive. `lean`: only what is costly will be held
 * for the whole way back of a segment. *fits: whether there are such cuts; if not, those of before
 * are left. */
pal_status segments_cut(segments *segments, size_t limit, bool lean, bool *fits);

/* Whether a buffer with memory of its own is given up when its segment ends. The last segment's
 * are not, as its way back comes at once. */
bool segments_drop(const segments *segments, const buffer *root);

#endif
