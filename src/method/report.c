#include "method/report.h"

#include <stdlib.h>
#include <string.h>

/* Names are copied, because a report may outlive its model. */
static pal_status copy_names(pal_report *report, pal_weight *weight)
{
    const char **names[] = {&weight->name, &weight->function, &weight->op};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        *names[i] = arena_copy(&report->texts, *names[i], strlen(*names[i]));
        if (!*names[i])
            return fail_memory("making a report");
    }
    return PAL_OK;
}

pal_status report_new(const pal_model *model, pal_report **out)
{
    pal_report *report = mem_zeroed(1, sizeof *report);
    if (!report)
        return fail_memory("making a report");
    arena_init(&report->texts, SIZE_MAX);
    report->entries = mem_zeroed(model->weight_count, sizeof *report->entries);
    pal_status status = report->entries ? PAL_OK : fail_memory("making a report");
    for (size_t i = 0; !status && i < model->weight_count; i++) {
        pal_report_entry *entry = &report->entries[i];
        entry->weight = model->weights[i].info;
        entry->status = PAL_WEIGHT_SKIPPED;
        entry->reason = "";
        entry->bytes_before = entry->weight.bytes;
        status = copy_names(report, &entry->weight);
        report->count++;
    }
    if (status) {
        pal_report_free(report);
        return status;
    }
    *out = report;
    return PAL_OK;
}

pal_status report_set_reason(pal_report *report, size_t i, const char *reason)
{
    char *copy = arena_copy(&report->texts, reason, strlen(reason));
    if (!copy)
        return fail_memory("making a report");
    report->entries[i].reason = copy;
    return PAL_OK;
}

pal_status report_add_note(pal_report *report, const char *text)
{
    const char *copy = arena_copy(&report->texts, text, strlen(text));
    if (!copy || !mem_grow((void **)&report->notes, &report->note_capacity, report->note_count + 1,
                           sizeof *report->notes))
        return fail_memory("making a report");
    report->notes[report->note_count++] = copy;
    return PAL_OK;
}

const char *pal_report_note(const pal_report *report, size_t i)
{
    return i < report->note_count ? report->notes[i] : NULL;
}

void report_update(pal_report *report, const pal_model *model)
{
    for (size_t i = 0; i < report->count; i++) {
        pal_weight *to = &report->entries[i].weight;
        const pal_weight *from = &model->weights[i].info;
        to->storage = from->storage;
        to->nbits = from->nbits;
        to->num_luts = from->num_luts;
        to->bytes = from->bytes;
    }
}

size_t pal_report_count(const pal_report *report)
{
    return report->count;
}

const pal_report_entry *pal_report_get(const pal_report *report, size_t i)
{
    return i < report->count ? &report->entries[i] : NULL;
}

void pal_report_free(pal_report *report)
{
    if (!report)
        return;
    arena_free(&report->texts);
    free(report->notes);
    free(report->entries);
    free(report);
}
