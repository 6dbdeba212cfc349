#include "method/train/answers.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

pal_status answers_new(uint64_t samples, size_t width, size_t batch, answers *out)
{
    *out = (answers){.samples = samples, .width = width};
    if (!width || samples > ANSWERS_MOST_BYTES / sizeof(float) / width)
        return PAL_OK;
    out->values = mem_zeroed((size_t)samples * width, sizeof *out->values);
    out->known = mem_zeroed((size_t)samples, sizeof *out->known);
    out->batch = mem_array(batch * width, sizeof *out->batch);
    if (out->values && out->known && out->batch)
        return PAL_OK;
    answers_free(out);
    return fail_memory("training");
}

void answers_free(answers *answers)
{
    free(answers->values);
    free(answers->known);
    free(answers->batch);
    *answers = (struct answers){0};
}

const float *answers_find(answers *answers, const uint64_t *samples, size_t count)
{
    if (!answers->values)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (!answers->known[samples[i]])
            return NULL;
        memcpy(answers->batch + i * answers->width, answers->values + samples[i] * answers->width,
               answers->width * sizeof *answers->batch);
    }
    return answers->batch;
}

void answers_keep(answers *answers, const uint64_t *samples, size_t count, const float *values)
{
    for (size_t i = 0; answers->values && i < count; i++) {
        memcpy(answers->values + samples[i] * answers->width, values + i * answers->width,
               answers->width * sizeof *values);
        answers->known[samples[i]] = 1;
    }
}
