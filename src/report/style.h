/* How the page looks, and the little that it does. */
#ifndef PAL_REPORT_STYLE_H
#define PAL_REPORT_STYLE_H

extern const char *const page_style;  /* CSS */
extern const char *const page_script; /* JavaScript: the page is complete without it */

#endif
