#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local status_message last;

/* Names from a file may hold anything; a message is one line, and safe for a terminal. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 32 || *text == 127)
            *text = '?';
}

pal_status fail(pal_status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last.text, sizeof last.text, format, arguments);
    va_end(arguments);
    make_printable(last.text);
    return status;
}

pal_status fail_memory(const char *what)
{
    return fail(PAL_ERROR_MEMORY, "out of memory %s", what);
}

pal_status fail_context(pal_status status, const char *format, ...)
{
    status_message old = last;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last.text, sizeof last.text, format, arguments);
    va_end(arguments);
    make_printable(last.text);
    strncat(last.text, ": ", sizeof last.text - 1 - strlen(last.text));
    strncat(last.text, old.text, sizeof last.text - 1 - strlen(last.text));
    return status;
}

void status_message_take(status_message *message)
{
    *message = last;
}

void status_message_put(const status_message *message)
{
    last = *message;
}

const char *pal_error_message(void)
{
    return last.text;
}

const char *pal_status_name(pal_status status)
{
    switch (status) {
    case PAL_OK: return "success";
    case PAL_ERROR_ARGUMENT: return "invalid argument";
    case PAL_ERROR_MEMORY: return "out of memory";
    case PAL_ERROR_IO: return "input/output error";
    case PAL_ERROR_FORMAT: return "damaged file";
    case PAL_ERROR_UNSUPPORTED: return "not supported";
    case PAL_ERROR_VALUE: return "values that cannot be clustered";
    case PAL_ERROR_CANCELLED: return "cancelled";
    }
    return "unknown status";
}

#define STRINGIFY_(x) #x
#define STRINGIFY(x)  STRINGIFY_(x)

const char *pal_version(void)
{
    return STRINGIFY(PAL_VERSION_MAJOR) "." STRINGIFY(PAL_VERSION_MINOR) "." STRINGIFY(
        PAL_VERSION_PATCH);
}
