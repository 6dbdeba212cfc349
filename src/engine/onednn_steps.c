/* Primitives as steps of a plan, and their running. */
#include <stdlib.h>
#include <string.h>

#include "engine/onednn_primitive.h"

/* Whether the primitive writes what stands in a role. */
static bool gives(const onednn_primitive *p, size_t role)
{
    if (p->way == WAY_TO_SOURCE)
        return role == ONEDNN_SRC;
    if (p->way == WAY_TO_WEIGHTS)
        return role == ONEDNN_WEIGHTS || role == ONEDNN_BIAS;
    return role >= ONEDNN_DST;
}

/* Buffers are looked for in the step, so that another step may run the same on others. */
typedef struct primitive_run {
    onednn_primitive *primitive;
    enum place { NOWHERE, IN_READS, IN_WRITES, IN_SCRATCH } places[ONEDNN_ROLE_COUNT];
    unsigned char numbers[ONEDNN_ROLE_COUNT]; /* among the step's reads, or writes */
} primitive_run;

static void release_run(void *state)
{
    primitive_run *run = state;
    onednn_primitive_free(run->primitive);
    free(run);
}

static int argument_number(const onednn_primitive *p, size_t role)
{
    return role >= ONEDNN_OPERAND && role < ONEDNN_OPERAND + ONEDNN_MAX_POSTS
               ? p->operands[role - ONEDNN_OPERAND]
               : onednn_argument(p->way, role);
}

pal_status onednn_execute(onednn_primitive *p, void *const data[ONEDNN_ROLE_COUNT])
{
    dnnl_exec_arg_t arguments[ONEDNN_ROLE_COUNT];
    int count = 0;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    pal_status status = onednn_processor(&engine, &stream);
    dnnl_status_t failed = dnnl_success;
    for (size_t role = 0; !status && !failed && role < ONEDNN_ROLE_COUNT; role++) {
        if (!p->memories[role])
            continue;
        if (p->handles[role] != data[role])
            failed = dnnl_memory_set_data_handle(p->memories[role], data[role]);
        p->handles[role] = data[role];
        arguments[count++] = (dnnl_exec_arg_t){argument_number(p, role), p->memories[role]};
    }
    if (!status && !failed)
        failed = dnnl_primitive_execute(p->primitive, stream, count, arguments);
    return status ? status : onednn_check(failed, "primitive");
}

static const buffer *in_role(const step *step, size_t role)
{
    const primitive_run *run = step->state;
    switch (run->places[role]) {
    case IN_READS: return step->reads[run->numbers[role]];
    case IN_WRITES: return step->writes[run->numbers[role]];
    case IN_SCRATCH: return step->scratch;
    case NOWHERE: break;
    }
    return NULL;
}

static pal_status run_primitive(const step *step)
{
    const primitive_run *run = step->state;
    void *data[ONEDNN_ROLE_COUNT] = {0};
    /* ONEDNN_SUM: what is added has to be where the result will be. It is, if the plan let the
     * result take its memory. */
    const buffer *dst = in_role(step, ONEDNN_DST), *before = in_role(step, ONEDNN_BEFORE);
    if (run->primitive->sums && before->data != dst->data)
        memcpy(dst->data, before->data, dst->bytes);
    for (size_t role = 0; role < ONEDNN_ROLE_COUNT; role++) {
        const buffer *buffer = in_role(step, role);
        data[role] = buffer ? buffer->data : NULL;
    }
    return onednn_execute(run->primitive, data);
}

/* What the plan is to know of a step: reads, writes, scratch. What a sum adds comes first. */
static pal_status list_buffers(plan *plan, step *s, primitive_run *run, buffer *const *roles)
{
    const onednn_primitive *p = run->primitive;
    size_t reads = 0, writes = 0;
    for (size_t role = 0; role < ONEDNN_ROLE_COUNT; role++) {
        const bool wanted = p->memories[role] || (role == ONEDNN_BEFORE && p->sums);
        if (!wanted || role == ONEDNN_SCRATCH)
            continue;
        if (!roles[role])
            return fail(PAL_ERROR_UNSUPPORTED, "a primitive lacks its operand %zu", role);
        if (reads == STEP_MAX_BUFFERS || writes == STEP_MAX_BUFFERS)
            return fail(PAL_ERROR_UNSUPPORTED, "too many operands");
        const bool given = gives(p, role);
        run->places[role] = given ? IN_WRITES : IN_READS;
        run->numbers[role] = (unsigned char)(given ? writes : reads);
        *(given ? &s->writes[writes++] : &s->reads[reads++]) = roles[role];
    }
    s->in_place = p->sums;
    const size_t bytes = onednn_bytes(p, ONEDNN_SCRATCH);
    if (!bytes)
        return PAL_OK;
    run->places[ONEDNN_SCRATCH] = IN_SCRATCH;
    return plan_new_temporary(plan, GRAPH_FLOAT, 1, &(int64_t){(int64_t)((bytes + 3) / 4)}, NULL, 0,
                              &s->scratch);
}

pal_status onednn_add_step(plan *plan, const graph_node *node, const char *what,
                           onednn_primitive *primitive, buffer *const roles[ONEDNN_ROLE_COUNT],
                           step **added)
{
    primitive_run *run = mem_zeroed(1, sizeof *run);
    if (!run) {
        onednn_primitive_free(primitive);
        return fail_memory("for a step");
    }
    run->primitive = primitive;
    step *s = plan_add_step(plan, node, what, run_primitive, run, release_run);
    if (!s)
        return PAL_ERROR_MEMORY;
    if (added)
        *added = s;
    return list_buffers(plan, s, run, roles);
}
