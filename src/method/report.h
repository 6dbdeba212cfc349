/* What a method did with each weight. */
#ifndef PAL_METHOD_REPORT_H
#define PAL_METHOD_REPORT_H

#include "base/memory.h"
#include "format/format.h"

struct pal_report {
    pal_report_entry *entries;
    size_t count;
    const char **notes;
    size_t note_count, note_capacity;
    mem_arena texts;
};

/* One entry for each weight of the model, all skipped, with sizes as they are now. */
pal_status report_new(const pal_model *model, pal_report **out);
pal_status report_set_reason(pal_report *report, size_t i, const char *reason);
/* A line on the whole. */
pal_status report_add_note(pal_report *report, const char *text);
/* Takes storage, nbits, num_luts and bytes from the model, after its weights were replaced. */
void report_update(pal_report *report, const pal_model *model);

#endif
