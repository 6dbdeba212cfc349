#include "graph/lower.h"

#include <string.h>

#include "format/format.h"

pal_status graph_lower(pal_model *model, graph **out)
{
    graph *graph;
    pal_status status = graph_new(&graph);
    if (status)
        return status;
    if (model->format == &format_onnx)
        status = graph_lower_onnx(model, graph);
    else if (model->format == &format_coreml)
        status = graph_lower_coreml(model, graph);
    else
        status =
            fail(PAL_ERROR_UNSUPPORTED, "a %s file holds weights, but not what computes with them",
                 model->format->name);
    if (!status && graph->output_count == 0)
        status = fail(PAL_ERROR_FORMAT, "the model has no output");
    if (status) {
        graph_free(graph);
        return status;
    }
    *out = graph;
    return PAL_OK;
}
