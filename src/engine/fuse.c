#include "engine/fuse.h"

pal_status graph_fuse(graph *graph)
{
    (void)graph;
    return PAL_OK;
}
