/* Running a plan in parts: up to a step once, and from there as often as something behind it
 * changes. */
#ifndef PAL_ENGINE_PLAN_CUT_H
#define PAL_ENGINE_PLAN_CUT_H

#include "engine/plan.h"

/* The place before a step, and what lies in memory there that is needed behind it. */
typedef struct plan_cut {
    size_t step;
    buffer **alive;
    size_t count, bytes;
} plan_cut;

/* The first step forward that reads a variable (plan_variable()); the count of steps forward if
 * none does. */
size_t plan_first_reader(const plan *plan, size_t value);

/* Only for plans whose variables and constants alone are there before the first step. */
pal_status plan_cut_new(const plan *plan, size_t step, plan_cut *cut);
void plan_cut_free(plan_cut *cut);

/* To and from `bytes` of memory. */
void plan_cut_keep(const plan_cut *cut, unsigned char *to);
void plan_cut_restore(const plan_cut *cut, const unsigned char *from);

#endif
