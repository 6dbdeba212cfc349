/* From JSON to what the page shows; strings stay in the JSON, everything else in a keeper. */
#ifndef PAL_CLI_REPORT_JSON_H
#define PAL_CLI_REPORT_JSON_H

#include "cli.h"
#include "report/page.h"

/* Memory that is given back all at once. */
typedef struct keeper {
    void **blocks;
    size_t count;
} keeper;

/* Zeroed; NULL when there is none. */
void *keep(keeper *memory, size_t count, size_t size);
void keeper_free(keeper *memory);

/* NAN and "" where there is no such member, or of another type. */
double json_number_of(const json_t *object, const char *key);
const char *json_text_of(const json_t *object, const char *key);

/* False when out of memory. `path` is where the JSON came from, for runs that name no model. */
bool run_from_json(keeper *memory, const json_t *json, const char *path, page_run *run);
/* Of what eval has written; not known if it is no object. */
page_score score_from_json(const json_t *json);

#endif
