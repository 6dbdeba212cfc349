/* Which weights will be palettized, and how each is cut into groups. */
#ifndef PAL_METHOD_PLAN_H
#define PAL_METHOD_PLAN_H

#include "format/format.h"
#include "method/options.h"

typedef struct plan {
    char reason[160];    /* why it is skipped; "" if it is not */
    char remark[160];    /* what is worth knowing if it is not skipped; "" */
    size_t axis;         /* channels */
    uint64_t groups;     /* look-up tables */
    uint64_t group_size; /* channels in a group; 0 under per_tensor */
} plan;

/* Needs no look at the values. `refusal` is why the configuration leaves the weight alone, or "".
 */
void plan_weight(const pal_model *model, size_t weight, const settings *settings,
                 const char *refusal, plan *out);

#endif
