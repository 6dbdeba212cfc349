/* The public functions about models: finding the format and passing calls on to it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "format/format.h"

/* The first that takes a file has it. ONNX comes last, for of a file that is not called so it can
 * only look at three bytes, which are those of many a safetensors header's length. */
static const format *const formats[] = {&format_coreml, &format_safetensors, &format_onnx};

static pal_status find_format(const char *path, const format **found)
{
    struct stat info;
    if (stat(path, &info) < 0)
        return fail(PAL_ERROR_IO, "%s: cannot open: %s", path, strerror(errno));
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (formats[i]->probe(path)) {
            *found = formats[i];
            return PAL_OK;
        }
    }
    return fail(PAL_ERROR_FORMAT,
                "%s: not a model of a known kind (a Core ML .mlpackage is a directory with a "
                "Manifest.json; an ONNX model is a file .onnx; a checkpoint folder has a "
                "model.safetensors or its index)",
                path);
}

pal_status pal_model_open(const char *path, pal_model **out)
{
    const format *format = NULL;
    if (!path || !out)
        return fail(PAL_ERROR_ARGUMENT, "pal_model_open: no path");
    pal_status status = find_format(path, &format);
    if (status)
        return status;
    pal_model *model = mem_zeroed(1, sizeof *model);
    if (!model)
        return fail_memory("opening a model");
    model->format = format;
    model->path = strdup(path);
    status = model->path ? path_total_bytes(path, &model->bytes) : fail_memory("opening a model");
    if (!status)
        status = format->open(model);
    if (status) {
        pal_model_free(model);
        return status;
    }
    *out = model;
    return PAL_OK;
}

void pal_model_free(pal_model *model)
{
    if (!model)
        return;
    if (model->state)
        model->format->close(model);
    free(model->weights);
    free(model->path);
    free(model);
}

const char *pal_model_format(const pal_model *model)
{
    return model->format->name;
}

const char *pal_model_description(const pal_model *model)
{
    return model->description;
}

uint64_t pal_model_bytes(const pal_model *model)
{
    return model->bytes;
}

size_t pal_model_weight_count(const pal_model *model)
{
    return model->weight_count;
}

const pal_weight *pal_model_weight(const pal_model *model, size_t i)
{
    return i < model->weight_count ? &model->weights[i].info : NULL;
}

pal_status pal_model_save(pal_model *model, const char *path, uint64_t *bytes)
{
    if (!model || !path || !*path)
        return fail(PAL_ERROR_ARGUMENT, "pal_model_save: no model or no path");
    uint64_t written = 0;
    pal_status status = model->format->save(model, path, &written);
    if (!status && bytes)
        *bytes = written;
    /* What could not be written may have been a temporary, of which the caller knows nothing. */
    if (status && !strstr(pal_error_message(), path))
        fail_context(status, "%s", path);
    return status;
}

pal_status pal_model_check_destination(const pal_model *model, const char *path)
{
    if (!model || !path || !*path)
        return fail(PAL_ERROR_ARGUMENT, "pal_model_check_destination: no model or no path");
    return model->format->check_destination(model, path);
}

const char *pal_storage_name(pal_storage storage)
{
    switch (storage) {
    case PAL_STORAGE_DENSE: return "dense";
    case PAL_STORAGE_PALETTIZED: return "palettized";
    case PAL_STORAGE_QUANTIZED: return "quantized";
    case PAL_STORAGE_SPARSE: return "sparse";
    case PAL_STORAGE_PALETTIZED_SPARSE: return "sparse, palettized";
    case PAL_STORAGE_OTHER: return "compressed";
    }
    return "compressed";
}
