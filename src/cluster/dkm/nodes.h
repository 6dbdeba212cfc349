/* The weights of a group spread over evenly spaced nodes, and read off them again.
 *
 * A weight at the part t of the way from node u to u + 1 counts as 1 - t of a weight at u and t of
 * one at u + 1, so that sums over weights of any function that is linear between nodes are exact,
 * those of weights and of the number of weights among them. What is read off is linear between
 * nodes in the same way. Places are whole numbers of 2^-15 steps and gradients of 2^-40 of the
 * largest or less, so that sums are of integers, and their order does not matter. */
#ifndef PAL_CLUSTER_DKM_NODES_H
#define PAL_CLUSTER_DKM_NODES_H

#include "cluster/dkm/layer.h"

/* Whether the groups of this layer are looked at by nodes in this mode, and if so, at most how many
 * intervals between them; otherwise 0. */
size_t nodes_most(const dkm_config *config, dkm_mode mode);

/* How many are enough of those for attention at this temperature between these centroids, and
 * values in a range of this width: so many that it is nearly linear from one to the next. */
size_t nodes_enough(const dkm_config *config, double tau, const double *centroids, double range);

/* Chooses nodes for values from low to high. */
void nodes_place(nodes *n, double low, double high, size_t most);

/* The interval that a value is in, and the mean of the values in one. */
size_t nodes_interval(const nodes *n, float value);
double nodes_mean(const nodes *n, size_t interval);

/* Counts the weights of a group: number, way, mass, alive. With gradients of the outputs (`out` not
 * NULL, `peak` the largest magnitude times its scale) incoming too. */
void nodes_count(const team *team, const dkm *d, size_t group, const float *weights,
                 const float *out, double peak);

/* Writes the outputs of all weights: between n->output, times their scales. */
void nodes_read_outputs(const team *team, const dkm *d, size_t group, const float *weights,
                        float *palettized);
/* The gradient of all weights: that of their outputs times the slope of n->output, and the slope of
 * n->by_mass. */
void nodes_read_gradients(const team *team, const dkm *d, size_t group, const float *weights,
                          const float *out, float *gradient);

/* The least and the greatest of a group's elements; false if one is not finite. */
bool scan_range(const team *team, const dkm *d, size_t group, const float *tensor, scaling scaling,
                double *low, double *high);
/* How many doubles of lead->pieces that takes. */
size_t scan_pieces(const dkm_config *config);

#endif
