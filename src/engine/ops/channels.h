/* Activations seen by channel, in any layout that keeps a channel's elements in strides.
 *
 * Element (n, block, s, c) lies at ((n blocks + block) spatial + s) width + c and belongs to
 * channel block width + c. Row-major: a block for each channel, width 1. Channels last: one block
 * as wide as there are channels. Blocks of channels: as wide as a block; the last may have padding.
 */
#ifndef PAL_ENGINE_OPS_CHANNELS_H
#define PAL_ENGINE_OPS_CHANNELS_H

#include "engine/plan.h"

typedef struct channel_view {
    int64_t batch, blocks, spatial, width;
    int64_t channels; /* without padding */
} channel_view;

/* False for a layout that is no such thing. */
bool channel_view_of(const buffer *buffer, channel_view *out);
/* A value in a layout that is one, best as it was made. */
pal_status channel_buffer(plan *plan, size_t value, buffer **out, channel_view *view);

/* Work for threads, in an order that does not depend on them: parts of `rows` rows of `width`
 * elements of one sample and one block, rows being positions. */
typedef struct channel_parts {
    int64_t each; /* positions of a part; the last of a plane may have less */
    int64_t per_plane, count;
} channel_parts;

channel_parts channel_parts_of(const channel_view *view);

typedef struct channel_part {
    int64_t block, offset, rows;
} channel_part;

static inline channel_part channel_part_at(const channel_view *view, const channel_parts *parts,
                                           int64_t i)
{
    const int64_t plane = i / parts->per_plane, first = i % parts->per_plane * parts->each;
    return (channel_part){
        .block = plane % view->blocks,
        .offset = (plane * view->spatial + first) * view->width,
        .rows = first + parts->each < view->spatial ? parts->each : view->spatial - first,
    };
}

#endif
