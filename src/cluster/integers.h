/* Integer look-up tables: entries of int8 or uint8 with a scale, and for uint8 an offset, for each
 * table. An entry e stands for (e - offset) * scale, computed in float32 and rounded to the type of
 * the weights.
 *
 * Which scale is best depends on how its multiples happen to lie, so a few dozen are tried, from
 * the one that just covers the table down to one that clips a quarter of it. For the most promising
 * ones the clustering is done again with centroids that are multiples of the scale. */
#ifndef PAL_CLUSTER_INTEGERS_H
#define PAL_CLUSTER_INTEGERS_H

#include "cluster/scalar.h"

enum { INTEGER_SCALES = 36 };

typedef struct integer_scale {
    double scale; /* > 0, a value of the weights' grid */
    int offset;
} integer_scale;

/* The scales worth trying for values from `low` to `high`: the first is coremltools' choice for
 * int8, and for uint8 as well. `integers` is GRID_INT8 or GRID_UINT8, `grid` that of the weights.
 */
void integer_scales(grid integers, grid grid, double low, double high,
                    integer_scale scales[INTEGER_SCALES]);

/* The entry nearest to a value, of those that do not stand for infinity. */
int integer_entry(grid integers, grid grid, integer_scale scale, double value);

/* What an entry stands for. */
double integer_value(grid grid, integer_scale scale, int entry);

/* Whether an entry that was rounded came out no farther away than that explains: half a unit, and
 * half a last bit of the weights' type. */
static inline bool integer_is_near(double rounded, double value, double scale)
{
    double distance = rounded - value;
    return distance <= 0.75 * scale && -distance <= 0.75 * scale;
}

/* Makes an integer table of `lut`, which one of the scalar_lut_ functions has filled for the same
 * bins. `fixed`: its entries are given, and are only rounded; otherwise the clustering may move. */
pal_status scalar_lut_integers(scalar_workspace *workspace, grid integers, bool fixed,
                               scalar_lut *lut);

#endif
