/* What the page shows of one run. `number` makes identifiers unique in a page of several. */
#ifndef PAL_REPORT_SECTIONS_H
#define PAL_REPORT_SECTIONS_H

#include "base/file.h"
#include "report/page.h"

enum { SHOWN_AT_FIRST = 24 }; /* layers and pictures; the rest behind a switch; style.c knows it */

/* run.c: sizes, what it cost, how it was made; then layers.c and training. */
pal_status show_run(file_writer *out, const page_run *run, size_t number);
/* layers.c */
pal_status show_layers(file_writer *out, const page_run *run, size_t number);

/* "4 bit", or "2 to 8 bit" */
void show_bits(file_writer *out, const page_run *run);
/* Mean over the palettized weights in which something was lost; NAN if there are none. */
double mean_psnr(const page_run *run);

#endif
