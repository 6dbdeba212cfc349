/* What the formats do alike with their lists of weights. */
#ifndef PAL_FORMAT_WEIGHTS_H
#define PAL_FORMAT_WEIGHTS_H

#include "base/memory.h"
#include "format/format.h"

/* Whether tensors of this type may be weights. */
bool dtype_is_float(pal_dtype dtype);

/* Palettes and dense buffers (scratch memory) that belong to an open model. Start from {0}. */
typedef struct holdings {
    palette **palettes;
    size_t palette_count, palette_capacity;
    void **buffers;
    size_t buffer_count, buffer_capacity;
} holdings;

void holdings_free(holdings *held);
/* Makes room, so that the calls below cannot fail. */
bool holdings_reserve(holdings *held, size_t more);
/* Takes over, unless it is held already. */
void holdings_keep_palette(holdings *held, palette *palette);
void holdings_keep_buffer(holdings *held, void *buffer);
bool holdings_has_buffer(const holdings *held, const void *buffer);
/* Lets go of the pages of all of it. A hint, for those who write it out: what they come to next is
 * read again. */
void holdings_release(const holdings *held);

/* Brings a weight's dense pointer, same_as and info up to date with what has replaced it, and takes
 * that over; room must have been made. */
void weight_replaced(pal_model *model, holdings *held, const replacement *r);

/* Bytes of text that need not end with 0. */
typedef struct text_span {
    const void *text;
    size_t length;
} text_span;

/* Notes that an operator uses the weight, its output channels on `axis` and in `groups`: the first
 * one gives op and channel_axis, a later one on another axis leaves -1. */
pal_status weight_used(model_weight *weight, mem_arena *texts, text_span op, text_span name,
                       int axis, uint64_t groups);

/* Sets same_as of weights whose values are the same memory, in the same shape and type. `data`
 * gives that memory, or NULL for a weight that shares with none. */
pal_status weights_find_shared(pal_model *model,
                               const void *(*data)(const pal_model *model, size_t weight));

#endif
