/* Centroids as the table of a file will have them. */
#ifndef PAL_CLUSTER_DKM_TABLE_H
#define PAL_CLUSTER_DKM_TABLE_H

#include "cluster/dkm/layer.h"

/* Whether centroids are rounded at all while iterations go on: not to float32. */
static inline bool table_rounds(const dkm_config *c)
{
    return c->table != GRID_FLOAT32;
}

/* Rounds a table (clusters x dim). lut, if not NULL, receives entries, scale and offset. */
void table_round(const dkm_config *c, const double *centroids, double *rounded, dkm_lut *lut);

/* Makes the centroid nearest to 0 exactly that, and returns which it is. */
int table_keep_zero(const dkm_config *c, double *centroids);

#endif
