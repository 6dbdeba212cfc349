#include "cli.h"

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

void watch_interrupts(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

double now_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

void progress_start(progress *progress, bool quiet)
{
    *progress = (struct progress){
        .visible = !quiet && isatty(STDERR_FILENO),
        .started = now_seconds(),
    };
}

/* How many characters a line of the terminal takes. */
static size_t line_width(void)
{
#ifdef TIOCGWINSZ
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
#endif
    return 80;
}

/* Cuts UTF-8 to so many bytes, and not within a character: each takes as many bytes as columns, or
 * more. */
static void cut(char *text, size_t size)
{
    if (strlen(text) <= size)
        return;
    while (size > 0 && ((unsigned char)text[size] & 0xc0) == 0x80)
        size--;
    text[size] = 0;
}

bool progress_update(void *user, uint64_t done, uint64_t total, const char *what)
{
    enum { WIDTH = 30 };
    static const double first = 0.4, interval = 0.1; /* seconds */
    progress *progress = user;
    double now = now_seconds(), spent = now - progress->started;
    if (progress->visible && total && spent >= first && now - progress->updated >= interval) {
        double fraction = (double)done / (double)total;
        double left = fraction > 0 ? spent * (1 - fraction) / fraction : 0;
        char line[512];
        int full = (int)(fraction * WIDTH);
        snprintf(line, sizeof line, "[%.*s%*s] %3.0f %%  %.0f s left  %s", full,
                 "##############################", WIDTH - full, "", 100 * fraction, left, what);
        for (char *c = line; *c; c++)
            *c = (unsigned char)*c < 32 || *c == 127 ? '?' : *c;
        const size_t room = line_width() - 1; /* what wraps would not be cleared */
        cut(line, room < sizeof line - 4 ? room : sizeof line - 4);
        fprintf(stderr, "\r\033[K%s", line);
        fflush(stderr);
        progress->updated = now;
        progress->drawn = true;
    }
    return !interrupted;
}

void progress_stop(progress *progress)
{
    if (progress->drawn)
        fprintf(stderr, "\r\033[K");
    progress->drawn = false;
}
