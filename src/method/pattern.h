/* Regular expressions in a configuration: POSIX extended ones that match whole names, byte by byte.
 *
 * The C library's own are no use here. They take gigabytes for "((a{1,255}){1,255}){1,255}", hours
 * for some anchors, and glibc's says "no match" when it is out of memory. This one compiles into a
 * program of limited length and runs it on all states at once: matching allocates nothing, cannot
 * fail, and takes time in proportion to the name. */
#ifndef PAL_METHOD_PATTERN_H
#define PAL_METHOD_PATTERN_H

#include <stdbool.h>

#include "base/status.h"

typedef struct pattern pattern;

/* Compiles `text`, which must live as long as the pattern. *out is NULL if it is no regular
 * expression, as many a name is. What all the patterns of a configuration may take together is
 * limited: `spent` is kept by the caller, and 0 at first. */
pal_status pattern_new(const char *text, size_t *spent, pattern **out);
void pattern_free(pattern *pattern);
bool pattern_matches(const pattern *pattern, const char *name);

#endif
