#include "engine/fuse.h"

pal_status graph_fuse(graph *graph)
{
    return graph_drop_dead(graph);
}
