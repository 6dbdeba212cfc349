#include "method/train/samples.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "data/shuffle.h"

pal_status samples_split(const pal_data *data, double part, uint64_t seed, pal_data **training,
                         pal_data **held_back)
{
    const uint64_t count = pal_data_count(data);
    const uint64_t held = (uint64_t)llround(part * (double)count);
    uint64_t *order = mem_array((size_t)count, sizeof *order);
    pal_data *back = NULL;
    if (!order)
        return fail_memory("training");
    for (uint64_t i = 0; i < count; i++)
        order[i] = i;
    shuffle_numbers(order, count, seed, UINT64_MAX);
    pal_status status = held < count
                            ? PAL_OK
                            : fail(PAL_ERROR_ARGUMENT, "validation: no sample is left to train on");
    if (!status && held)
        status = data_select(data, order, held, seed, &back);
    if (!status && training)
        status = data_select(data, order + held, count - held, seed, training);
    free(order);
    if (status || !held_back)
        pal_data_free(back);
    else
        *held_back = back;
    return status;
}
