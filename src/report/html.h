/* Writing HTML: text is escaped, numbers are as people read them. Failures stick to the file. */
#ifndef PAL_REPORT_HTML_H
#define PAL_REPORT_HTML_H

#include "base/file.h"

/* Markup of our own, never text from elsewhere: html_format() takes no %s but for such. */
void html_put(file_writer *out, const char *markup);
void html_format(file_writer *out, const char *format, ...) PAL_PRINTF(2, 3);

/* Text as content or as an attribute's value in double quotes. What is not UTF-8, and control
 * characters, become U+FFFD. */
void html_text(file_writer *out, const char *text);
/* The same, isolated from its neighbours' direction of writing; a long one may break anywhere. */
void html_name(file_writer *out, const char *text);

/* "7.04 MiB" */
void html_bytes(file_writer *out, double bytes);
/* At most `digits` digits after the point, without zeros at the end; "n/a" for NAN. */
void html_number(file_writer *out, double value, int digits);
/* With just so many digits after the point. */
void html_decimals(file_writer *out, double value, int digits);
/* Three significant digits, or as 1.2e-05 where that is shorter. */
void html_short(file_writer *out, double value);
/* "0.31 s", "4 min 12 s" */
void html_seconds(file_writer *out, double seconds);

#endif
