/* The inner loops: which centroids can be nearest to a vector of a tile, which one is, and sums
 * over a tile. */
#ifndef PAL_CLUSTER_VECTOR_NEAREST_H
#define PAL_CLUSTER_VECTOR_NEAREST_H

#include "cluster/vector/tiles.h"

enum {
    MOST_SITES = 256,
    SITE_GROUP = 4,
    NOT_ONE = MOST_SITES,
    SUM_LANES = TILE / 4,
    WORTH_THREADS = 1 << 20, /* distances that are worth waking threads for */
};

/* Centroids as the loops read them. Rows: the components of a centroid, row_stride() apart; rows up
 * to a multiple of SITE_GROUP are infinitely far. Columns: the same turned, for loops over
 * centroids, and half the squared lengths as the last column. */
typedef struct sites {
    unsigned k;
    size_t dim;
    float *rows;    /* MOST_SITES x row_stride(dim) */
    float *columns; /* (dim + 1) x MOST_SITES */
} sites;

static inline size_t row_stride(size_t dim)
{
    return (dim + 3) / 4 * 4;
}

pal_status sites_init(sites *s, size_t dim);
void sites_free(sites *s);
void sites_set(sites *s, unsigned k, const float *centroids);

/* Those of the centroids that `which` names. */
void sites_part(const sites *s, const uint8_t *which, unsigned m, sites *part);

/* Which centroids can be nearest to a point of the box: those that are not farther than centroid
 * `anchor` from the whole box (Pelleg and Moore 1999; Kanungo et al. 2002, section 2). `except` is
 * left out; NOT_ONE leaves out none. Their numbers go to `which`, ascending, their rows to `rows`,
 * both padded as above. Returns how many they are. */
unsigned sites_near(const sites *s, const float *box, unsigned anchor, unsigned except,
                    uint8_t *which, float *rows);

/* For each vector of the tile: the least squared distance to one of m rows, and the number of the
 * first row that has it, which is the row's place in `which`. */
void tile_nearest(const float *values, size_t dim, const float *rows, const uint8_t *which,
                  unsigned m, float *distance, uint8_t *nearest);

/* For each vector of the tile: its squared distance to `point`, or the one it had where that is
 * lower. Returns the sum of the distances times the weights; *most: the largest distance. */
double tile_lower(const float *values, const float *weights, size_t dim, const float *point,
                  const float *distance, float *lowered, float *most);

/* The sum of the distances of the tile's vectors times their weights. */
double tile_error(const float *weights, const float *distance);

/* Adds what the tile's vectors of each of k clusters amount to: weighted sums of the components,
 * then weights, then numbers of those with a weight above 0; k x (dim + 2) x SUM_LANES partial
 * sums. They have single precision, so only those of a few tiles should be taken together. */
void tile_sums(const float *values, const float *weights, size_t dim, const uint8_t *index,
               unsigned k, float *sums);

/* Adds to sums[r] what the SUM_LANES numbers of row r add up to, and makes these 0. */
void lanes_fold(float *lanes, size_t rows, double *sums);

/* Seen from `origin`: adds to sums[0 .. dim] the weighted sums and the weight of the tile's vectors
 * with a x > b. */
void tile_beyond(const float *values, const float *weights, size_t dim, const float *origin,
                 const float *a, float b, double *sums);

#endif
