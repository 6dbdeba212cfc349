/* A model on its way to being palettized: what the files of this folder share.
 *
 *   compress.c  the order of things, and the report
 *   solve.c     palettes that other methods have found
 *   target.c    one weight: how it is cut into groups; bits; its palette
 *   units.c     the groups of all weights, shared by threads
 *   scalars.c   clusters one group of single values
 *   vectors.c   clusters one group of vectors
 *   scales.c    per-channel scales, and values divided by them
 *   outliers.c  chooses the values that are kept exactly
 *
 * A weight's stored values are a row of runs: one for each part of the dimensions before the
 * channel axis and each group, those of a group lying apart where there are such dimensions. Of a
 * pruned weight only the values that are not zero are stored, and runs differ in length. */
#ifndef PAL_METHOD_COMPRESSION_H
#define PAL_METHOD_COMPRESSION_H

#include "cluster/scalar.h"
#include "format/format.h"
#include "method/options.h"
#include "method/plan.h"
#include "method/report.h"
#include "method/sensitivity.h"

/* One weight. */
typedef struct target {
    settings settings;
    plan plan;
    bool wanted;        /* to be palettized; may turn false when its values are seen */
    bool channel_scale; /* its palette has a scale for each channel: target_scale_channels() */
    bool solved;        /* its palette is there already: another method than clustering found it */
    size_t source;      /* the weight whose palette it shares; itself if none */
    void *dense;      /* not wanted: values that are to take the place of its own, in scratch memory
                         and of its type, with the remark saying why; or NULL */
    char remark[160]; /* what is worth knowing of what the method did, beside the plan's; "" */
    grid grid;
    unsigned nbits;
    const void *values;            /* as stored */
    uint64_t stored;               /* so many */
    bool weighted;                 /* values count differently: */
    const float *importance;       /* of each stored value, while clustering; NULL: all the same */
    float *own_importance;         /* the same where it is not as it was measured; scratch memory */
    uint64_t outliers;             /* elements that are kept exactly, once they are chosen: */
    uint32_t *outlier_places;      /* which, ascending */
    size_t outer, channels, inner; /* elements before, along and after the channel axis */
    size_t group_elements;         /* of all outer parts together, zeros included */
    size_t group_indices;          /* the same, or fewer where an index stands for a vector */
    uint64_t *run_first; /* pruned: the first value of each run, and the end of the last */
    palette *palette;
    uint8_t *indices; /* unpacked, where those of a group do not lie together at whole bytes */
    double scale_peak;
    double *group_error, *group_peak;
    unsigned *group_distinct;
    size_t units_left;
    double error, peak; /* over all groups; error is NaN if a value was not finite */
} target;

/* A few consecutive groups of one weight: the unit of work. */
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
    float *importance; /* of a gathered group */
    size_t importance_size;
} thread_state;

typedef struct compression {
    pal_model *model;
    const pal_options *options;
    const pal_sensitivity *sensitivity; /* NULL: all values count the same */
    double outliers;                    /* the part of each weight that is kept exactly */
    target *targets;                    /* one for each weight */
    unit *units;
    size_t unit_count, unit_capacity;
    thread_state *threads;
    int thread_count;
    pal_progress progress;
    void *user;
    uint64_t done, total;
    bool clustered;
    pal_status (*note)(const void *of, pal_report *report); /* adds what the method has to say on
                                                               the whole; NULL: nothing */
    const void *note_of;
    bool counting; /* the first of two passes of mode unique: distinct values only */
} compression;

/* ---------------------------------------------------------------- compress.c */

/* Plans every weight and makes room for its palette; model, options and, if wanted, sensitivity,
 * progress and user are set. After success either compression_end() or compression_abandon() must
 * follow. What was refused stays as it was. */
pal_status compression_begin(compression *c);
/* Clusters what is not solved yet, so that every palette is there; it can still be replaced.
 * compression_end() does so too, where this was not called. */
pal_status compression_cluster(compression *c);
/* Hands everything over to the model, and makes the report. Frees what c holds, also on failure. */
pal_status compression_end(compression *c, pal_report **report);
void compression_abandon(compression *c);

/* ---------------------------------------------------------------- solve.c */

/* The weight's values as they are stored now, as float32, row-major; t->stored of them. */
void target_values(const target *t, float *values);
/* Gives a weight that is wanted, and its own source, the palette that a method has found.
 *
 *   lut      [groups, 2^nbits, cluster_dim]; rounded to what the table can hold. Of integer tables
 *            the scale (and offset) of each group follow from its least and greatest entry.
 *   scale    where the palette has scales: as many, replacing what is there; NULL keeps that
 *   indices  one for each index of the palette, row-major over its index shape (pruned: for the
 *            stored values in their order)
 *
 * Its error is that of the values as they will be read. */
pal_status compression_solve(compression *c, size_t i, const float *lut, const float *scale,
                             const uint8_t *indices);
/* The same for scales alone. */
pal_status compression_rescale(compression *c, size_t i, const float *scale);
/* The error of the palette that a weight has, as a reader will see it, outliers included. */
pal_status target_measure(const compression *c, size_t i);
/* Other values for a weight that stays dense (a bias, the statistics of a batch norm), rounded to
 * its type; `why` is for the report. PAL_ERROR_UNSUPPORTED if the format cannot replace it. */
pal_status compression_adjust(compression *c, size_t i, const float *values, const char *why);
/* Those values, where there are any. */
bool compression_adjusted(const compression *c, size_t i, float *values);

/* ---------------------------------------------------------------- target.c */

/* Plans weight i. eligible_of[j] is the first weight with the values of weight j that is to be
 * palettized, or SIZE_MAX; it is brought up to date. */
pal_status target_init(compression *c, size_t i, size_t *eligible_of);
/* Mode unique, after counting: the fewest bits that hold the distinct values of every group. */
void target_choose_bits(compression *c, size_t i);
/* Makes room for the results, once the number of bits is known. */
pal_status target_allocate(compression *c, size_t i);
/* Gives a palette that is there a scale of 1 for each channel. PAL_ERROR_UNSUPPORTED if the format
 * cannot express that, or the weight has scales of the other kind; it then stays as it is. */
pal_status target_scale_channels(compression *c, size_t i);
/* Whether the format can express that; nothing changes. */
pal_status target_can_scale_channels(const compression *c, size_t i);
/* Remarks that the sensitivity of its values is not known. */
void target_remark_unknown(target *target);
/* Sums up the groups in their order, and drops a weight with a value that is not finite. */
void target_finish(compression *c, size_t i);
void target_free(target *target);

/* The integer entries that the weight's tables are to have, GRID_INT8 or GRID_UINT8; otherwise its
 * own grid. */
grid target_lut_grid(const target *target);

/* Which of the stored values a group has in outer part o. */
static inline uint64_t run_begin(const target *t, uint64_t group, size_t o)
{
    const uint64_t run = o * t->plan.groups + group;
    return t->run_first ? t->run_first[run] : run * (t->group_elements / t->outer);
}

static inline uint64_t run_length(const target *t, uint64_t group, size_t o)
{
    const uint64_t run = o * t->plan.groups + group;
    return t->run_first ? t->run_first[run + 1] - t->run_first[run] : t->group_elements / t->outer;
}

/* ---------------------------------------------------------------- units.c */

pal_status units_make(compression *c);
pal_status units_run(compression *c);

bool buffer_reserve(void **buffer, size_t *size, size_t needed);
/* Where the indices of one group of a unit are to be put. */
uint8_t *group_place(const target *t, const unit *unit, uint64_t group, thread_state *thread);

/* ---------------------------------------------------------------- scalars.c, vectors.c */

/* Clusters one group: its table, its indices, its error and peak. A group with a value that is not
 * finite has the error NaN, and the weight will be skipped. While counting, only how many distinct
 * values the group has. */
pal_status scalars_cluster(compression *c, const unit *unit, uint64_t group, thread_state *thread);
pal_status vectors_cluster(compression *c, const unit *unit, uint64_t group, thread_state *thread);

/* ---------------------------------------------------------------- outliers.c */

/* After clustering: chooses the values of a weight whose errors cost most, which are to be kept
 * exactly, and makes sure that they do not count when it is clustered again. */
pal_status outliers_choose(compression *c, size_t i);

/* ---------------------------------------------------------------- scales.c */

/* Fills the palette's scale. */
void scales_find(target *target);

/* A walk over the values of one group, in the order [outer, channels, inner], with the scale of
 * each. */
typedef struct scaled_walk {
    const target *target;
    size_t first, count; /* channels */
    size_t o, c, i;      /* where it stands */
    const void *dense;
    const void *scale; /* NULL: 1 */
} scaled_walk;

scaled_walk scaled_walk_begin(const target *target, uint64_t group);
/* The next values, at most `most`; 0 at the end. importance (may be NULL) receives that of the
 * values, 1 where all count the same. */
size_t scaled_walk_next(scaled_walk *walk, size_t most, float *values, float *scales,
                        float *importance);

/* A table entry times a scale, as the palette's reader computes it: in float32, rounded to the
 * weight's type. */
static inline float scaled_value(grid grid, float entry, float scale)
{
    return grid_stored(grid, (double)(entry * scale));
}

#endif
