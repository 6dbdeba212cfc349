/* cmocka, and what the tests share: a scratch folder, files in it, models and their values. */
#ifndef PAL_TESTS_TESTING_H
#define PAL_TESTS_TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#undef fail /* the library has a function of that name */

#include "palettize.h"
#include "random.h"

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        pal_status status_ = (call);                                                               \
        if (status_)                                                                               \
            print_error("%s: %s\n", #call, pal_error_message());                                   \
        assert_int_equal(status_, PAL_OK);                                                         \
    } while (0)

/* The call fails with this status, and the message has the text in it. */
#define assert_fails(call, status, text)                                                           \
    do {                                                                                           \
        assert_int_equal(call, status);                                                            \
        if (!strstr(pal_error_message(), text))                                                    \
            print_error("%s: %s\n", #call, pal_error_message());                                   \
        assert_non_null(strstr(pal_error_message(), text));                                        \
    } while (0)

/* ---------------------------------------------------------------- files */

/* A scratch folder, for cmocka_run_group_tests(). */
extern char directory[];
int make_directory(void **state);
int remove_directory(void **state);
/* Zeroed memory that lives until the folder is removed. */
void *keep_memory(size_t size);
/* "directory/name", in such memory; folders above it are made. */
const char *in(const char *name);

void write_data(const char *path, const void *data, size_t size);
void write_text(const char *path, const char *text);
bool same_files(const char *a, const char *b);
void assert_same_files(const char *a, const char *b);

/* ---------------------------------------------------------------- models */

/* From names and values, NULL at the end. */
pal_options *options_with(const char *const *pairs);
/* Opens, compresses with these options, saves. */
void compress(const char *from, const char *to, const char *const *pairs);
void decompress(const char *from, const char *to);
/* The dense values of weight i of an open model, in fresh memory. */
void *dense_values(const pal_model *model, size_t i);
/* What was saved is what the report says; returns how many weights were compressed. */
size_t assert_reported(const pal_report *report, const pal_model *saved);
/* Which weight has that name; it must be there. */
size_t find_weight(const pal_model *model, const char *name);

#endif
