/* Threads and their places: groups shared by threads, or the pieces of one group. */
#ifndef PAL_CLUSTER_DKM_TEAM_H
#define PAL_CLUSTER_DKM_TEAM_H

#include "cluster/dkm/layer.h"

/* Calls work() for each group: of many groups each by one thread, of few each by all. Room in all
 * places is made before the first call. Returns the failure of the first group that failed. */
pal_status team_groups(const dkm *d, dkm_workspace *workspace, int threads,
                       pal_status (*work)(void *user, const team *team, size_t group), void *user);

#endif
