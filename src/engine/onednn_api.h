/* Both versions of oneDNN's C interface behind one spelling; for the onednn*.c files only.
 *
 * Version 2 describes memory by a struct that is passed around by pointer, version 3 by an opaque
 * pointer that is cloned and destroyed. Here both are a layout that holds one; md() is what either
 * version's functions take. */
#ifndef PAL_ENGINE_ONEDNN_API_H
#define PAL_ENGINE_ONEDNN_API_H

#include <dnnl.h>

#include "engine/onednn.h"

#define ONEDNN_3 (DNNL_VERSION_MAJOR >= 3)

#if ONEDNN_3
typedef const_dnnl_memory_desc_t const_md;
#else
typedef const dnnl_memory_desc_t *const_md;
#endif

struct layout {
    dnnl_memory_desc_t md;
};

static inline const_md layout_md(const layout *layout)
{
#if ONEDNN_3
    return layout ? layout->md : NULL;
#else
    return layout ? &layout->md : NULL;
#endif
}

/* The CPU, and an in-order stream on it: one for the process, made at the first use. */
pal_status onednn_processor(dnnl_engine_t *engine, dnnl_stream_t *stream);

/* The message for a failed call; PAL_OK for success. `what` as in "convolution". */
pal_status onednn_check(dnnl_status_t status, const char *what);

/* A float tensor with the given strides; strides NULL: row-major. */
pal_status layout_new_strided(size_t rank, const int64_t *shape, const int64_t *strides,
                              layout **out);
/* A float tensor in whatever layout a primitive likes best. */
pal_status layout_new_any(size_t rank, const int64_t *shape, layout **out);
layout *layout_new_from(const_md md);

/* Row-major in the shape that it was made for. */
bool layout_is_row_major(const layout *layout);

#endif
