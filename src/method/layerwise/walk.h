/* A walk through a network, node after node, with the activations of all calibration samples at
 * hand: those of the network as it was, and those of the network as far as it is compressed.
 *
 * Samples are cut into chunks. A run of nodes is evaluated on each chunk from the values that are
 * alive there, by a plan of its own; values go when their last consumer has run. So every node runs
 * once, from a cached boundary, whatever is decided between nodes. Each plan works in a single
 * thread, and chunks do not depend on the number of threads: so results do not either. */
#ifndef PAL_METHOD_LAYERWISE_WALK_H
#define PAL_METHOD_LAYERWISE_WALK_H

#include "engine/plan.h"
#include "engine/session.h"
#include "method/feed.h"

typedef enum network { NETWORK_FLOAT, NETWORK_COMPRESSED } network;

/* Samples of a chunk, unless the model fixes more. */
enum { WALK_MOST_BATCH = 16 };

/* For walk_run(). */
enum { RUN_FLOAT = 1, RUN_COMPRESSED = 2, RUN_BOTH = 3 };

typedef struct walk {
    pal_session *session; /* for what it knows of inputs; it never runs */
    graph *graph;         /* for one chunk; weights are not folded into anything */
    int threads, threads_before;
    uint64_t samples;   /* that count */
    uint64_t held_back; /* those behind them, which run along, so that outputs can be looked at */
    size_t batch;
    size_t chunks;     /* of samples that count */
    size_t all_chunks; /* and behind them those of samples held back */
    void **live[2];    /* by chunk and value; of the compressed network NULL where it is the
                          same */
    const graph_tensor *
        *instead;  /* by value: constants of the compressed network; NULL: the same */
    bool *differs; /* by value: computed, and another one in the compressed network */
    size_t *uses;  /* by value: consumers that have not run yet */
    bool mapped;   /* activations are too many for memory */
} walk;

/* The data's first `samples` count; behind them are those held back. On failure nothing is left to
 * close. */
pal_status walk_open(pal_model *model, const pal_data *data, uint64_t samples, uint64_t held_back,
                     int threads, walk *walk);
void walk_close(walk *walk);

/* The compressed network has these values in the place of a constant. */
pal_status walk_replace(walk *walk, size_t value, float **values);

/* Evaluates nodes first .. first + count - 1. `last`: they have run for good, and what nobody else
 * needs goes. */
pal_status walk_run(walk *walk, size_t first, size_t count, int networks, bool last);

/* A value in a chunk; what is computed is there between its producer's run and its last
 * consumer's. */
float *walk_values(const walk *walk, network network, size_t chunk, size_t value);
/* Of the chunk's samples those that are samples; the others repeat the last. */
size_t walk_count(const walk *walk, size_t chunk);
/* That it is not needed soon. */
void walk_rest(const walk *walk, size_t chunk, size_t value);

#endif
