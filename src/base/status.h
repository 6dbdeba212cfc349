/* Statuses and the thread's last message.
 *
 * Every function that can fail returns a pal_status; the one that notices the failure says why with
 * fail(), the ones above pass the status on and may put context before the message with
 * fail_context(). */
#ifndef PAL_BASE_STATUS_H
#define PAL_BASE_STATUS_H

#include "palettize.h"

#define PAL_PRINTF(text, first) __attribute__((format(printf, text, first)))

/* Sets the thread's message and returns `status`, so that a failure is one statement:
 *     return fail(PAL_ERROR_FORMAT, "%s: no header", path); */
pal_status fail(pal_status status, const char *format, ...) PAL_PRINTF(2, 3);

/* Out of memory while doing `what`. Allocates nothing. */
pal_status fail_memory(const char *what);

/* Puts "<context>: " before the thread's message; returns `status`. */
pal_status fail_context(pal_status status, const char *format, ...) PAL_PRINTF(2, 3);

/* A message that moves from a worker thread to the thread that called the library. */
typedef struct status_message {
    char text[1024];
} status_message;

void status_message_take(status_message *message);
void status_message_put(const status_message *message);

#endif
