#include "engine/ops/channels.h"

#include "engine/onednn.h"

/* What a part holds, so that it stays in the first cache while it is looked at several times. */
#define PART_ELEMENTS 4096

bool channel_view_of(const buffer *buffer, channel_view *out)
{
    layout_physical physical;
    if (buffer->rank < 2 ||
        !layout_describe(buffer->layout, buffer->rank, buffer->shape, &physical))
        return false;
    *out = (channel_view){1, 1, 1, 1, buffer->shape[1]};
    /* Batch, blocks of channels, positions, channels: in this order, any may be missing. */
    enum { BATCH, BLOCKS, POSITIONS, WIDTH } stage = BATCH;
    for (size_t i = 0; i < physical.rank; i++) {
        const int64_t extent = physical.extent[i];
        const size_t of = physical.of[i];
        if (extent == 1)
            continue;
        if (of == 0 && stage == BATCH && out->batch == 1) {
            out->batch = extent;
        } else if (of == 1 && stage == BATCH) {
            out->blocks = extent;
            stage = BLOCKS;
        } else if (of == 1 && stage != WIDTH) {
            out->width = extent;
            stage = WIDTH;
        } else if (of > 1 && stage != WIDTH) {
            out->spatial *= extent;
            stage = POSITIONS;
        } else {
            return false;
        }
    }
    if (out->spatial == 1) { /* then blocks are as good as one wide row */
        out->width *= out->blocks;
        out->blocks = 1;
    }
    return true;
}

pal_status channel_buffer(plan *plan, size_t value, buffer **out, channel_view *view)
{
    pal_status status = plan_buffer(plan, value, out);
    if (status || channel_view_of(*out, view))
        return status;
    status = plan_buffer_in(plan, value, NULL, out);
    if (!status && !channel_view_of(*out, view))
        status = fail(PAL_ERROR_UNSUPPORTED, "a tensor without channels");
    return status;
}

channel_parts channel_parts_of(const channel_view *view)
{
    channel_parts parts = {.each = view->width < PART_ELEMENTS ? PART_ELEMENTS / view->width : 1};
    parts.per_plane = (view->spatial + parts.each - 1) / parts.each;
    parts.count = view->batch * view->blocks * parts.per_plane;
    return parts;
}
