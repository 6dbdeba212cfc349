#include "method/replicas.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "engine/engine.h"

/* What all replicas together may take. */
#define MEMORY ((size_t)2 << 30)

struct replicas {
    gradients **list;
    size_t count;
    int inner; /* threads of each */
};

void replicas_free(replicas *it)
{
    for (size_t i = 0; it && i < it->count; i++)
        gradients_free(it->list[i]);
    if (it)
        free(it->list);
    free(it);
}

size_t replicas_count(const replicas *replicas)
{
    return replicas->count;
}

gradients *replicas_get(const replicas *replicas, size_t i)
{
    return replicas->list[i];
}

static pal_status add(replicas *it, const graph *source, gradient_options options, int threads)
{
    const int before = engine_set_threads(threads);
    options.threads = threads;
    pal_status status = gradients_new(source, &options, &it->list[it->count]);
    engine_set_threads(before);
    it->count += !status;
    return status;
}

static pal_status fill(replicas *it, const graph *source, const gradient_options *options,
                       int threads)
{
    pal_status status = add(it, source, *options, 1);
    if (status || threads < 2)
        return status;
    const plan *plan = gradients_plan(it->list[0]);
    const size_t each = plan_activation_bytes(plan) + plan_constant_bytes(plan) + 1;
    size_t count = MEMORY / each < (size_t)threads ? MEMORY / each : (size_t)threads;
    if (count < 2) {
        gradients_free(it->list[0]);
        it->count = 0;
        it->inner = threads;
        return add(it, source, *options, threads);
    }
    while (!status && it->count < count)
        status = add(it, source, *options, 1);
    return status;
}

pal_status replicas_new(const graph *source, const gradient_options *options, int threads,
                        replicas **out)
{
    replicas *it = mem_zeroed(1, sizeof *it);
    if (it)
        it->list = mem_zeroed(threads > 1 ? (size_t)threads : 1, sizeof *it->list);
    if (!it || !it->list) {
        free(it);
        return fail_memory("replicas of a model");
    }
    it->inner = 1;
    pal_status status = fill(it, source, options, threads);
    if (status) {
        replicas_free(it);
        return status;
    }
    *out = it;
    return PAL_OK;
}

typedef struct running {
    const replicas *replicas;
    pal_status (*run)(void *user, size_t i);
    void *user;
} running;

static pal_status run_one(void *user, int thread, size_t i)
{
    const running *r = user;
    const int before = engine_set_threads(r->replicas->inner);
    pal_status status = r->run(r->user, i);
    engine_set_threads(before);
    (void)thread;
    return status;
}

pal_status replicas_run(const replicas *replicas, size_t count,
                        pal_status (*run)(void *user, size_t i), void *user)
{
    running r = {replicas, run, user};
    parallel_job job = {.user = &r, .item = run_one};
    return parallel_run(&job, count, (int)count);
}
