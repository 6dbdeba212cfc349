/* The only door to oneDNN: layouts, reorders and primitives, over its C interface of version 2
 * (Debian 12 has 2.6) and of version 3. No other file includes dnnl.h.
 *
 * A layout says how the elements of a float tensor lie in memory. Row-major is no layout: wherever
 * one is handed out, NULL means row-major, so that comparing with NULL is all that others need.
 * Layouts that a primitive chose belong to the primitive; primitives are freed with the steps that
 * run them, and no buffer is looked at after that.
 *
 * oneDNN asks OpenMP for the number of threads both when a primitive is made and when it runs: call
 * omp_set_num_threads() before planning, and let it be the same when the plan runs. */
#ifndef PAL_ENGINE_ONEDNN_H
#define PAL_ENGINE_ONEDNN_H

#include "engine/plan.h"

/* ---------------------------------------------------------------- layouts */

/* NULL when out of memory, with the message set. */
layout *layout_new_plain(size_t rank, const int64_t *shape);
layout *layout_copy(const layout *layout);
/* Accepts NULL. */
void layout_free(layout *layout);

/* NULL is equal to NULL and to nothing else. */
bool layout_equal(const layout *a, const layout *b);
/* The memory that a tensor takes in this layout, padding included. */
size_t layout_bytes(const layout *layout);
/* Row-major without padding, of this shape. True for NULL. */
bool layout_is_plain(const layout *layout, size_t rank, const int64_t *shape);

/* A layout as a row-major tensor of more dimensions, outermost first: `of` is the dimension of the
 * tensor that each stems from. nChw16c of [2,20,7,7] is [2,2,7,7,16] of [0,1,2,3,1]. The product
 * of the extents is layout_bytes() / 4; where it exceeds the tensor's elements there is padding,
 * which holds zeros. */
#define LAYOUT_MAX_PHYSICAL 16
typedef struct layout_physical {
    size_t rank;
    int64_t extent[LAYOUT_MAX_PHYSICAL];
    size_t of[LAYOUT_MAX_PHYSICAL];
} layout_physical;

/* False for layouts that are no such thing (gaps between rows). NULL as layout: row-major. */
bool layout_describe(const layout *layout, size_t rank, const int64_t *shape, layout_physical *out);

/* The layout that blocks and orders dimensions as `like` does, for another shape of its rank. A
 * dimension of extent 1 is not padded to a block: what broadcasts along `like` stays small. NULL
 * in *out if that is row-major. */
pal_status layout_like(const layout *like, size_t rank, const int64_t *shape, layout **out);

/* ---------------------------------------------------------------- reorders */

/* Copies the elements of a float buffer into another layout (NULL: row-major). The state is freed
 * with onednn_reorder_free, which suits step.release. */
pal_status onednn_reorder_new(const buffer *from, const layout *to, void **state);
pal_status onednn_reorder_run(void *state, const buffer *from, const buffer *to);
void onednn_reorder_free(void *state);

#endif
