/* What scoring and comparing share. */
#ifndef PAL_METHOD_SCORING_H
#define PAL_METHOD_SCORING_H

#include "base/status.h"

/* The output of the last run that is scored: the named one, or the first of numbers. */
pal_status score_output(const pal_session *session, const char *name, const pal_tensor **out);

#endif
