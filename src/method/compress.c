/* Palettizing a model from its weights alone: kmeans, uniform, unique.
 *
 * The unit of work is a few consecutive groups of one weight. Units of all weights are shared by
 * the threads, the largest first; each writes to places of its own, so the result is the same in
 * any order. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cluster/scalar.h"
#include "format/format.h"
#include "method/options.h"
#include "method/plan.h"
#include "method/report.h"
#include "method/vectors.h"
#include "palette/pack.h"

/* One weight on its way. */
typedef struct target {
    settings settings;
    plan plan;
    bool wanted;   /* to be palettized; may turn false when its values are seen */
    size_t source; /* the weight whose palette it shares; itself if none */
    grid grid;
    unsigned nbits;
    size_t outer, channels, inner; /* elements before, along and after the channel axis */
    size_t group_elements;         /* of all outer parts together */
    size_t group_indices;          /* the same, or fewer where an index stands for a vector */
    palette *palette;
    uint8_t *indices; /* unpacked, where groups interleave (outer > 1) */
    double *group_error, *group_peak;
    unsigned *group_distinct;
    size_t units_left;
    double error, peak; /* over all groups; error is NaN if a value was not finite */
} target;

typedef struct unit {
    size_t weight;
    uint64_t first, count; /* groups */
    uint64_t elements;
} unit;

typedef struct thread_state {
    scalar_workspace clustering;
    unsigned char *values; /* a gathered group */
    size_t values_size;
    uint8_t *indices; /* of the groups of a unit */
    size_t indices_size;
} thread_state;

typedef struct compression {
    pal_model *model;
    const pal_options *options;
    target *targets; /* one for each weight */
    unit *units;
    size_t unit_count, unit_capacity;
    thread_state *threads;
    int thread_count;
    pal_progress progress;
    void *user;
    uint64_t done, total;
    bool counting; /* the first of two passes of mode unique: distinct values only */
} compression;

static size_t element_size(const target *t)
{
    return t->grid == GRID_FLOAT32 ? 4 : 2;
}

/* ---------------------------------------------------------------- planning */

static palette_form form_of(const target *t, unsigned nbits)
{
    return (palette_form){
        .nbits = nbits,
        .grouped = t->settings.granularity == GRANULARITY_PER_GROUPED_CHANNEL,
        .vectors = t->settings.cluster_dim > 1,
    };
}

/* Whether two weights with the same values and groups would get the same palette. */
static bool same_method(const settings *a, const settings *b)
{
    return a->nbits == b->nbits && a->mode == b->mode && a->cluster_dim == b->cluster_dim;
}

static pal_status target_init(compression *c, size_t i, size_t *eligible_of)
{
    target *t = &c->targets[i];
    const pal_weight *info = &c->model->weights[i].info;
    bool none;
    options_for(c->options, info, &t->settings, &none);
    plan_weight(c->model, i, &t->settings, none, &t->plan);
    t->wanted = !*t->plan.reason;
    t->source = i;
    if (!t->wanted)
        return PAL_OK;
    t->nbits = t->settings.nbits;
    palette_form form = form_of(t, t->nbits);
    pal_status status = c->model->format->can_express(c->model, i, &form);
    if (status)
        return status;

    size_t same = c->model->weights[i].same_as;
    if (eligible_of[same] != SIZE_MAX) {
        const target *other = &c->targets[eligible_of[same]];
        if (other->plan.axis == t->plan.axis && other->plan.groups == t->plan.groups &&
            same_method(&other->settings, &t->settings)) {
            t->source = eligible_of[same];
            return PAL_OK;
        }
    } else {
        eligible_of[same] = i;
    }
    t->grid = info->dtype == PAL_FLOAT16    ? GRID_FLOAT16
              : info->dtype == PAL_BFLOAT16 ? GRID_BFLOAT16
                                            : GRID_FLOAT32;
    t->outer = t->inner = 1;
    t->channels = info->shape[t->plan.axis];
    for (size_t d = 0; d < info->rank; d++) {
        if (d < t->plan.axis)
            t->outer *= info->shape[d];
        else if (d > t->plan.axis)
            t->inner *= info->shape[d];
    }
    if (t->plan.groups == 1 && t->settings.cluster_dim == 1) { /* the tensor in one piece */
        t->inner = info->elements;
        t->outer = t->channels = 1;
    }
    t->group_elements = info->elements / t->plan.groups;
    t->group_indices = t->group_elements / t->settings.cluster_dim;
    t->group_error = mem_zeroed(t->plan.groups, sizeof *t->group_error);
    t->group_peak = mem_zeroed(t->plan.groups, sizeof *t->group_peak);
    t->group_distinct = mem_zeroed(t->plan.groups, sizeof *t->group_distinct);
    if (!t->group_error || !t->group_peak || !t->group_distinct)
        return fail_memory("planning");
    return PAL_OK;
}

static pal_status target_allocate(compression *c, size_t i)
{
    target *t = &c->targets[i];
    const pal_weight *info = &c->model->weights[i].info;
    if (!t->wanted || t->source != i)
        return PAL_OK;
    pal_status status = palette_new(t->nbits, info->dtype, info->rank, info->shape, t->plan.axis,
                                    t->plan.groups, t->settings.cluster_dim, &t->palette);
    if (!status && t->outer > 1 && t->plan.groups > 1 &&
        !(t->indices = mem_array(t->group_indices * t->plan.groups, 1)))
        status = fail_memory("planning");
    return status;
}

/* Groups that one unit takes: together they begin and end at whole bytes of packed indices, and are
 * enough work to be worth handing out. */
static uint64_t groups_per_unit(const target *t)
{
    enum { WORTHWHILE = 32768 };
    uint64_t count = WORTHWHILE / t->group_elements + 1;
    if (t->group_indices % 8)
        count = (count + 7) / 8 * 8;
    return count;
}

static int larger_unit_first(const void *a, const void *b)
{
    const unit *x = a, *y = b;
    if (x->elements != y->elements)
        return x->elements > y->elements ? -1 : 1;
    if (x->weight != y->weight)
        return x->weight < y->weight ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

static pal_status make_units(compression *c)
{
    c->unit_count = 0;
    c->done = c->total = 0;
    for (size_t i = 0; i < c->model->weight_count; i++) {
        target *t = &c->targets[i];
        if (!t->wanted || t->source != i || (c->counting && t->settings.mode != MODE_UNIQUE))
            continue;
        const uint64_t most = groups_per_unit(t);
        t->units_left = 0;
        for (uint64_t first = 0; first < t->plan.groups; first += most) {
            uint64_t count = t->plan.groups - first < most ? t->plan.groups - first : most;
            if (!mem_grow((void **)&c->units, &c->unit_capacity, c->unit_count + 1,
                          sizeof *c->units))
                return fail_memory("planning");
            c->units[c->unit_count++] = (unit){i, first, count, count * t->group_elements};
            c->total += count * t->group_elements;
            t->units_left++;
        }
    }
    if (c->unit_count)
        qsort(c->units, c->unit_count, sizeof *c->units, larger_unit_first);
    return PAL_OK;
}

/* ---------------------------------------------------------------- one group */

static bool buffer_reserve(void **buffer, size_t *size, size_t needed)
{
    if (needed <= *size)
        return true;
    free(*buffer);
    *buffer = mem_array(needed, 1);
    *size = *buffer ? needed : 0;
    return *buffer != NULL;
}

/* The values of a group in one piece: in place, or gathered. NULL when out of memory. */
static const void *group_values(const compression *c, const unit *unit, uint64_t group,
                                thread_state *thread)
{
    const target *t = &c->targets[unit->weight];
    const unsigned char *dense = c->model->weights[unit->weight].dense;
    const size_t size = element_size(t);
    const size_t row = t->group_elements / t->outer * size;
    if (t->outer == 1)
        return dense + group * row;
    if (!buffer_reserve((void **)&thread->values, &thread->values_size, t->outer * row))
        return NULL;
    for (size_t o = 0; o < t->outer; o++)
        memcpy(thread->values + o * row, dense + (o * t->plan.groups + group) * row, row);
    return thread->values;
}

static pal_status choose_lut(scalar_workspace *clustering, mode mode, unsigned size,
                             scalar_lut *lut)
{
    switch (mode) {
    case MODE_UNIFORM: return scalar_lut_uniform(clustering, size, lut);
    case MODE_UNIQUE: return scalar_lut_unique(clustering, size, lut);
    default: return scalar_lut_kmeans(clustering, size, lut);
    }
}

static void store_lut(const target *t, uint64_t group, const scalar_lut *lut)
{
    const uint64_t first = group << t->nbits;
    for (unsigned i = 0; i < lut->size; i++) {
        switch (t->grid) {
        case GRID_FLOAT16:
            ((uint16_t *)t->palette->lut)[first + i] = f16_from_double(lut->centroid[i]);
            break;
        case GRID_BFLOAT16:
            ((uint16_t *)t->palette->lut)[first + i] = bf16_from_double(lut->centroid[i]);
            break;
        case GRID_FLOAT32: ((float *)t->palette->lut)[first + i] = (float)lut->centroid[i]; break;
        }
    }
}

/* Packs the indices of a whole tensor piece by piece, without ever holding them unpacked. */
static void pack_tensor(const target *t, const scalar_workspace *clustering, const void *values)
{
    enum { PIECE = 4096 };
    uint8_t indices[PIECE];
    for (size_t done = 0; done < t->group_elements; done += PIECE) {
        size_t n = t->group_elements - done < PIECE ? t->group_elements - done : PIECE;
        scalar_indices(clustering, (const unsigned char *)values + done * element_size(t), n,
                       indices);
        pack_indices(indices, n, t->nbits, (uint8_t *)t->palette->indices + done / 8 * t->nbits);
    }
}

/* Puts the indices of one group where they belong among the interleaved ones. */
static void scatter_indices(const target *t, uint64_t group, const uint8_t *indices)
{
    const size_t row = t->group_indices / t->outer;
    for (size_t o = 0; o < t->outer; o++)
        memcpy(t->indices + (o * t->plan.groups + group) * row, indices + o * row, row);
}

/* The indices of one group of a unit. */
static uint8_t *group_place(const target *t, const unit *unit, uint64_t group, thread_state *thread)
{
    return thread->indices + (group - unit->first) * t->group_indices;
}

static pal_status cluster_vectors(compression *c, const unit *unit, uint64_t group,
                                  thread_state *thread)
{
    target *t = &c->targets[unit->weight];
    const size_t count = t->channels / t->plan.groups, dim = t->settings.cluster_dim;
    const vector_group values = {
        .dense = c->model->weights[unit->weight].dense,
        .grid = t->grid,
        .outer = t->outer,
        .channels = t->channels,
        .inner = t->inner,
        .first = group * count,
        .count = count,
        .dim = dim,
    };
    unsigned char *lut = (unsigned char *)t->palette->lut;
    uint8_t *indices = group_place(t, unit, group, thread);
    pal_status status = vectors_cluster(&values, t->nbits, c->thread_count,
                                        lut + (group * dim << t->nbits) * element_size(t), indices,
                                        &t->group_error[group], &t->group_peak[group]);
    if (status == PAL_ERROR_VALUE) {
        t->group_error[group] = NAN; /* the weight will be skipped */
        return PAL_OK;
    }
    if (!status && t->indices)
        scatter_indices(t, group, indices);
    return status;
}

static pal_status cluster_scalars(compression *c, const unit *unit, uint64_t group,
                                  thread_state *thread)
{
    target *t = &c->targets[unit->weight];
    const void *values = group_values(c, unit, group, thread);
    if (!values)
        return fail_memory("gathering a group");
    pal_status status = scalar_bins(&thread->clustering, t->grid, values, NULL, t->group_elements);
    if (status == PAL_ERROR_VALUE) {
        t->group_error[group] = NAN; /* the weight will be skipped */
        return PAL_OK;
    }
    if (status)
        return status;
    if (c->counting) {
        size_t distinct = thread->clustering.bins.count;
        t->group_distinct[group] = distinct < UINT32_MAX ? (unsigned)distinct : UINT32_MAX;
        return PAL_OK;
    }
    scalar_lut lut;
    status = choose_lut(&thread->clustering, t->settings.mode, 1u << t->nbits, &lut);
    if (status)
        return status;
    store_lut(t, group, &lut);
    t->group_error[group] = lut.squared_error;
    t->group_peak[group] = scalar_peak(&thread->clustering);
    if (t->plan.groups == 1) {
        pack_tensor(t, &thread->clustering, values);
        return PAL_OK;
    }
    uint8_t *indices = group_place(t, unit, group, thread);
    scalar_indices(&thread->clustering, values, t->group_elements, indices);
    if (t->indices)
        scatter_indices(t, group, indices);
    return PAL_OK;
}

/* ---------------------------------------------------------------- units in threads */

static pal_status run_unit(void *user, int thread_number, size_t i)
{
    compression *c = user;
    const unit *unit = &c->units[i];
    const target *t = &c->targets[unit->weight];
    thread_state *thread = &c->threads[thread_number];
    const bool vectors = t->settings.cluster_dim > 1;
    const bool packs = (t->plan.groups > 1 || vectors) && !c->counting;
    const size_t indices = unit->count * t->group_indices;
    if (packs && !buffer_reserve((void **)&thread->indices, &thread->indices_size, indices))
        return fail_memory("clustering weights");
    pal_status status = PAL_OK;
    for (uint64_t g = unit->first; !status && g < unit->first + unit->count; g++)
        status =
            vectors ? cluster_vectors(c, unit, g, thread) : cluster_scalars(c, unit, g, thread);
    if (!status && packs && !t->indices)
        pack_indices(thread->indices, indices, t->nbits,
                     (uint8_t *)t->palette->indices +
                         unit->first * t->group_indices * t->nbits / 8);
    return status ? fail_context(status, "%s", c->model->weights[unit->weight].info.name) : PAL_OK;
}

static bool unit_done(void *user, size_t i)
{
    compression *c = user;
    const unit *unit = &c->units[i];
    target *t = &c->targets[unit->weight];
    const model_weight *weight = &c->model->weights[unit->weight];
    if (--t->units_left == 0) {
        if (t->indices && !c->counting) {
            pack_indices(t->indices, t->group_indices * t->plan.groups, t->nbits,
                         (uint8_t *)t->palette->indices);
            free(t->indices);
            t->indices = NULL;
        }
        if (t->palette)
            palette_release(t->palette);
        c->model->format->release(c->model, unit->weight);
    }
    c->done += unit->elements;
    return c->counting || !c->progress ||
           c->progress(c->user, c->done, c->total, weight->info.name);
}

static pal_status run_units(compression *c)
{
    const int wanted = options_threads(c->options);
    const int threads = wanted ? wanted : parallel_processors();
    c->thread_count = threads;
    c->threads = mem_zeroed((size_t)threads, sizeof *c->threads);
    if (!c->threads)
        return fail_memory("clustering weights");
    parallel_job job = {.user = c, .item = run_unit, .done = unit_done};
    pal_status status = parallel_run(&job, c->unit_count, threads);
    for (int i = 0; i < threads; i++) {
        scalar_workspace_free(&c->threads[i].clustering);
        free(c->threads[i].values);
        free(c->threads[i].indices);
    }
    free(c->threads);
    c->threads = NULL;
    return status;
}

/* ---------------------------------------------------------------- before and after */

static void skip_target(target *t, const char *reason)
{
    t->wanted = false;
    snprintf(t->plan.reason, sizeof t->plan.reason, "%s", reason);
}

static float value_at(grid grid, const void *values, uint64_t i)
{
    switch (grid) {
    case GRID_FLOAT16: return f16_to_float(((const uint16_t *)values)[i]);
    case GRID_BFLOAT16: return bf16_to_float(((const uint16_t *)values)[i]);
    case GRID_FLOAT32: break;
    }
    return ((const float *)values)[i];
}

/* Why a weight whose values cannot be clustered is skipped. */
static void skip_not_finite(compression *c, size_t i)
{
    target *t = &c->targets[i];
    const model_weight *weight = &c->model->weights[i];
    char reason[sizeof t->plan.reason] = "it has a value that is not finite";
    for (uint64_t e = 0; e < weight->info.elements; e++) {
        double value = (double)value_at(t->grid, weight->dense, e);
        if (!isfinite(value)) {
            snprintf(reason, sizeof reason, "element %llu is %s", (unsigned long long)e,
                     isnan(value) ? "NaN"
                     : value > 0  ? "infinite"
                                  : "minus infinity");
            break;
        }
    }
    skip_target(t, reason);
}

/* Mode unique: the fewest bits that hold the distinct values of every group. */
static void choose_bits(compression *c, size_t i)
{
    static const unsigned widths[] = {1, 2, 3, 4, 6, 8};
    target *t = &c->targets[i];
    unsigned distinct = 0;
    for (uint64_t g = 0; g < t->plan.groups; g++) {
        if (isnan(t->group_error[g])) {
            skip_not_finite(c, i);
            return;
        }
        if (t->group_distinct[g] > distinct)
            distinct = t->group_distinct[g];
    }
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        palette_form form = form_of(t, widths[w]);
        if (distinct <= 1u << widths[w] && !c->model->format->can_express(c->model, i, &form)) {
            t->nbits = widths[w];
            return;
        }
    }
    char reason[64];
    snprintf(reason, sizeof reason, "%u distinct values, more than 256", distinct);
    skip_target(t, reason);
}

static pal_status prepare(compression *c)
{
    const size_t count = c->model->weight_count;
    size_t *eligible_of = mem_array(count, sizeof *eligible_of);
    if (!eligible_of)
        return fail_memory("planning");
    pal_status status = PAL_OK;
    for (size_t i = 0; i < count; i++)
        eligible_of[i] = SIZE_MAX;
    for (size_t i = 0; !status && i < count; i++)
        status = target_init(c, i, eligible_of);
    free(eligible_of);
    bool unique = false;
    for (size_t i = 0; !status && i < count; i++)
        unique = unique || (c->targets[i].wanted && c->targets[i].settings.mode == MODE_UNIQUE);
    if (!status && unique) {
        c->counting = true;
        status = make_units(c);
        if (!status)
            status = run_units(c);
        c->counting = false;
        for (size_t i = 0; !status && i < count; i++)
            if (c->targets[i].wanted && c->targets[i].source == i &&
                c->targets[i].settings.mode == MODE_UNIQUE)
                choose_bits(c, i);
    }
    for (size_t i = 0; !status && i < count; i++)
        status = target_allocate(c, i);
    return status ? status : make_units(c);
}

/* Sums up the groups in their order, and drops weights with values that are not finite. */
static void finish_target(compression *c, size_t i)
{
    target *t = &c->targets[i];
    for (uint64_t g = 0; g < t->plan.groups; g++) {
        t->error += t->group_error[g];
        t->peak = fmax(t->peak, t->group_peak[g]);
    }
    if (isnan(t->error))
        skip_not_finite(c, i);
}

static pal_status fill_report(const compression *c, pal_report *report)
{
    pal_status status = PAL_OK;
    for (size_t i = 0; !status && i < report->count; i++) {
        const target *t = &c->targets[i], *source = &c->targets[t->source];
        pal_report_entry *entry = &report->entries[i];
        if (!source->wanted || !t->wanted) {
            status = report_set_reason(report, i, t->wanted ? source->plan.reason : t->plan.reason);
            continue;
        }
        entry->status = PAL_WEIGHT_COMPRESSED;
        entry->group_size = t->plan.group_size;
        entry->mse = source->error / (double)entry->weight.elements;
        entry->psnr =
            entry->mse > 0 ? 10 * log10(source->peak * source->peak / entry->mse) : INFINITY;
        if (*t->plan.remark)
            status = report_set_reason(report, i, t->plan.remark);
    }
    return status;
}

/* Hands the palettes over to the model. */
static pal_status apply(compression *c)
{
    const size_t count = c->model->weight_count;
    replacement *list = mem_zeroed(count, sizeof *list);
    size_t n = 0;
    if (!list)
        return fail_memory("replacing weights");
    for (size_t i = 0; i < count; i++)
        if (c->targets[i].wanted && c->targets[c->targets[i].source].wanted)
            list[n++] = (replacement){i, c->targets[c->targets[i].source].palette, NULL};
    pal_status status = c->model->format->replace(c->model, list, n);
    for (size_t i = 0; !status && i < count; i++)
        if (c->targets[i].wanted)
            c->targets[i].palette = NULL;
    free(list);
    return status;
}

static void compression_free(compression *c)
{
    for (size_t i = 0; c->targets && i < c->model->weight_count; i++) {
        palette_free(c->targets[i].palette);
        free(c->targets[i].indices);
        free(c->targets[i].group_error);
        free(c->targets[i].group_peak);
        free(c->targets[i].group_distinct);
    }
    free(c->targets);
    free(c->units);
}

pal_status pal_compress(pal_model *model, const pal_options *options, pal_progress progress,
                        void *user, pal_report **out)
{
    if (!model)
        return fail(PAL_ERROR_ARGUMENT, "pal_compress: no model");
    compression c = {.model = model, .options = options, .progress = progress, .user = user};
    pal_report *report = NULL;
    pal_status status = pal_options_check(options);
    if (status)
        return status;
    c.targets = mem_zeroed(model->weight_count, sizeof *c.targets);
    status = c.targets ? prepare(&c) : fail_memory("planning");
    if (!status)
        status = run_units(&c);
    for (size_t i = 0; !status && i < model->weight_count; i++)
        if (c.targets[i].wanted && c.targets[i].source == i)
            finish_target(&c, i);
    if (!status)
        status = report_new(model, &report);
    if (!status)
        status = fill_report(&c, report);
    if (!status)
        status = apply(&c);
    if (!status)
        report_update(report, model);
    compression_free(&c);
    if (status || !out)
        pal_report_free(report);
    else
        *out = report;
    return status;
}
