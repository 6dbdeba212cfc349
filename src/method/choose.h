/* Which of several palettes each weight gets: those with which the whole model stays nearest to
 * what it was, on samples.
 *
 * What an error in one weight costs depends on the errors in all others: they add up or cancel each
 * other, which no measure of single weights tells. So the model is run. First each candidate is
 * tried for all weights at once; then, from the best on, weights change one after the other to the
 * candidate with which the model comes out nearest. Where there are too many weights for the work
 * that is allowed, several that follow each other change together. */
#ifndef PAL_METHOD_CHOOSE_H
#define PAL_METHOD_CHOOSE_H

#include "method/compression.h"

typedef struct choose_options {
    const pal_data *data;
    const char *output; /* that is compared; NULL: the model's first */
    size_t batch;
    int threads;
    uint64_t sweeps; /* over all weights; 0: one candidate for all of them */
    bool statistics; /* will follow: no sweeps where most of the work goes to batch norms, which
                        then make up for what sweeps would */
    double enough;   /* no sweep where one candidate for all is this near (judge.h) */
    pal_progress progress;
    void *user;
} choose_options;

/* `candidates`: compressions of one model under the same options, all clustered. What is chosen
 * ends up in the first of them. */
pal_status choose_palettes(compression *candidates, size_t count, const choose_options *options);

#endif
