#include "report/html.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void html_put(file_writer *out, const char *markup)
{
    writer_write(out, markup, strlen(markup));
}

void html_format(file_writer *out, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    html_put(out, text);
}

/* ---------------------------------------------------------------- text */

/* The bytes of the character that begins here; 0 where it is none of UTF-8, or a control character,
 * which no HTML may hold. */
static size_t character(const unsigned char *c)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    const size_t n = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : 4;
    if (n < 2)
        return n == 1 && (c[0] >= 0x20 || c[0] == '\n' || c[0] == '\t') && c[0] != 0x7f;
    uint32_t code = c[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((c[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (c[i] & 0x3fu);
    }
    const bool surrogate = code >= 0xd800 && code < 0xe000;
    const bool none = (code & 0xfffe) == 0xfffe || (code >= 0xfdd0 && code < 0xfdf0);
    return c[0] > 0xf4 || code < least[n] || code > 0x10ffff || code < 0xa0 || surrogate || none
               ? 0
               : n;
}

void html_text(file_writer *out, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c;) {
        const size_t n = character(c);
        switch (*c) {
        case '&': html_put(out, "&amp;"); break;
        case '<': html_put(out, "&lt;"); break;
        case '>': html_put(out, "&gt;"); break;
        case '"': html_put(out, "&quot;"); break;
        case '\'': html_put(out, "&#39;"); break;
        default:
            if (n)
                writer_write(out, c, n);
            else
                html_put(out, "\xef\xbf\xbd");
        }
        c += n ? n : 1;
    }
}

void html_name(file_writer *out, const char *text)
{
    html_put(out, "<bdi class=\"name\">");
    html_text(out, text);
    html_put(out, "</bdi>");
}

/* ---------------------------------------------------------------- numbers */

void html_bytes(file_writer *out, double bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    while (bytes >= 1023.95 && unit + 1 < sizeof units / sizeof *units) {
        bytes /= 1024;
        unit++;
    }
    const int digits = unit == 0 || bytes >= 100 ? 0 : bytes >= 10 ? 1 : 2;
    html_format(out, "%.*f&nbsp;%s", digits, bytes, units[unit]);
}

/* Numbers that are none. */
static bool put_special(file_writer *out, double value)
{
    if (isfinite(value))
        return false;
    html_put(out, isnan(value) ? "n/a" : value > 0 ? "&infin;" : "&minus;&infin;");
    return true;
}

void html_decimals(file_writer *out, double value, int digits)
{
    if (!put_special(out, value))
        html_format(out, "%.*f", digits, value);
}

void html_number(file_writer *out, double value, int digits)
{
    char text[64];
    if (put_special(out, value))
        return;
    snprintf(text, sizeof text, "%.*f", digits, value);
    if (strchr(text, '.')) {
        size_t end = strlen(text);
        while (text[end - 1] == '0')
            end--;
        text[text[end - 1] == '.' ? end - 1 : end] = 0;
    }
    html_put(out, strcmp(text, "-0") == 0 ? "0" : text);
}

void html_short(file_writer *out, double value)
{
    if (!put_special(out, value))
        html_format(out, "%.3g", value);
}

void html_seconds(file_writer *out, double seconds)
{
    if (seconds >= 3600)
        html_format(out, "%.0f&nbsp;h %.0f&nbsp;min", floor(seconds / 3600),
                    floor(fmod(seconds, 3600) / 60));
    else if (seconds >= 60)
        html_format(out, "%.0f&nbsp;min %.0f&nbsp;s", floor(seconds / 60),
                    floor(fmod(seconds, 60)));
    else
        html_format(out, "%.*f&nbsp;s", seconds < 10 ? 2 : 1, seconds);
}
