#include "data/source.h"

#include <stdlib.h>

#include "base/memory.h"

pal_status source_fail(const source *source, uint64_t i, pal_status status)
{
    char name[512];
    source->kind->name(source, i, name, sizeof name);
    return fail_context(status, "%s", name);
}

pal_status source_set_label(source *source, uint64_t i, int64_t label)
{
    if (!source->labels) {
        source->labels = source->count <= SIZE_MAX
                             ? mem_array((size_t)source->count, sizeof *source->labels)
                             : NULL;
        if (!source->labels)
            return fail_memory("reading labels");
    }
    if (label < 0 || label > INT32_MAX)
        return source_fail(source, i,
                           fail(PAL_ERROR_VALUE, "label %lld is not between 0 and %d",
                                (long long)label, INT32_MAX));
    source->labels[i] = label;
    if (source->class_count <= (size_t)label)
        source->class_count = (size_t)label + 1;
    return PAL_OK;
}

void source_free(source *source)
{
    if (!source)
        return;
    source->kind->close(source);
    if (source->class_names)
        for (size_t i = 0; i < source->class_count; i++)
            free(source->class_names[i]);
    free(source->class_names);
    free(source->labels);
    free(source);
}
