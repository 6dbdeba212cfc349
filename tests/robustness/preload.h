/* What the libraries for LD_PRELOAD share. Each defines preload_begin() and preload_end(); they are
 * called right before main() and at exit. */
#ifndef PRELOAD_H
#define PRELOAD_H

#include <stdbool.h>

void preload_begin(void);
void preload_end(void);

/* The number in an environment variable; 0 if it is not set. */
unsigned long preload_number(const char *name);
/* Writes a number to the file named by FAIL_COUNT_FILE, if that is set, by system calls only. */
void preload_report(unsigned long number);

#endif
