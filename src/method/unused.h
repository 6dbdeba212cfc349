/* What a configuration says and nothing follows from: mostly slips of the pen. */
#ifndef PAL_METHOD_UNUSED_H
#define PAL_METHOD_UNUSED_H

#include "method/options.h"
#include "method/report.h"

/* Adds a note for each key of the options that covers no weight of the model, with the name that is
 * most like it, and for each group_size that is set where there are no groups. */
pal_status unused_note(const pal_options *options, const pal_model *model, pal_report *report);

#endif
