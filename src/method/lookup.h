/* A look-up table that a user brings: the data form of coremltools' lut_function. */
#ifndef PAL_METHOD_LOOKUP_H
#define PAL_METHOD_LOOKUP_H

#include "base/status.h"

/* Start from {0}, which is no table. */
typedef struct user_table {
    char *text;     /* as it was given */
    double *values; /* finite */
    size_t count;
    size_t dim; /* of vectors, where the table has two dimensions; otherwise 0 */
} user_table;

enum { USER_TABLE_MOST = 256 * 64 }; /* values: 8 bit, the longest vectors */

/* Reads a table from what a user wrote: a list of numbers in brackets, in which lists of the same
 * length stand for vectors, or the path of a .npy file of one or two dimensions. */
pal_status user_table_read(const char *text, user_table *out);
void user_table_free(user_table *table);

/* Whether both hold the same values. */
bool user_table_equal(const user_table *a, const user_table *b);

#endif
