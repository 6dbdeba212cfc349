/* Which operators of ONNX are computed, for tests that hold the documentation to it. */
#ifndef PAL_GRAPH_ONNX_LISTING_H
#define PAL_GRAPH_ONNX_LISTING_H

#include <stddef.h>

/* The i-th operator, with its domain ("" for ONNX's own); NULL after the last. */
const char *onnx_operator_listed(size_t i, const char **domain);

#endif
