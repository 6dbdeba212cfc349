/* Limits of one iteration of the fuzzer: time by an alarm, memory by the hooks of the address
 * sanitizer, and a note of the iteration when the process dies. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "fuzz.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif

static char note[1024]; /* ready to be written by a signal handler */
static size_t note_size;
static unsigned limit_seconds; /* of the processor's time */

/* So much longer an iteration may take by the clock, on a machine that has other work too. */
enum { PATIENCE = 12 };

static void write_note(void)
{
    ssize_t written = write(STDERR_FILENO, note, note_size);
    (void)written;
}

#ifdef HAVE_ASAN
/* Declared here because not every compiler ships the header. */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *memory);
void __sanitizer_set_death_callback(void (*callback)(void));

/* A request of more than this fails, and the library must report that. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:max_allocation_size_mb=512:detect_leaks=1:"
           "quarantine_size_mb=16:malloc_context_size=8";
}

const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return "abort_on_error=1:print_stacktrace=1";
}

static atomic_size_t live, peak;
static _Thread_local bool ignoring;

static void add_live(size_t size)
{
    size_t now = atomic_fetch_add(&live, size) + size, most = atomic_load(&peak);
    while (now > most && !atomic_compare_exchange_weak(&peak, &most, now))
        continue;
}

static void on_malloc(const volatile void *memory, size_t size)
{
    (void)memory;
    if (!ignoring)
        add_live(size);
}

static void on_free(const volatile void *memory)
{
    if (memory && !ignoring)
        atomic_fetch_sub(&live, __sanitizer_get_allocated_size(memory));
}
#endif

static void on_signal(int number)
{
    static const char hang[] = "fuzz: an iteration takes too long\n";
    ssize_t written = 0;
    const bool late = number == SIGALRM || number == SIGPROF;
    if (late)
        written = write(STDERR_FILENO, hang, sizeof hang - 1);
    (void)written;
    write_note();
    signal(number, SIG_DFL);
    if (late)
        signal(SIGABRT, SIG_DFL);
    raise(late ? SIGABRT : number);
}

void limits_install(unsigned seconds)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    limit_seconds = seconds;
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGPROF, &action, NULL);
    sigaction(SIGABRT, &action, NULL);
#ifdef HAVE_ASAN
    __sanitizer_set_death_callback(write_note);
    __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
#else
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
#endif
}

#ifdef HAVE_ASAN
static size_t before;
#endif

static void set_timers(unsigned seconds)
{
    setitimer(ITIMER_PROF, &(struct itimerval){.it_value = {.tv_sec = seconds}}, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {.tv_sec = PATIENCE * seconds}}, NULL);
}

void limits_begin(uint64_t seed, uint64_t iteration, const char *input)
{
    int n = snprintf(note, sizeof note, "fuzz: in iteration %llu of seed %llu; the input is %s\n",
                     (unsigned long long)iteration, (unsigned long long)seed, input);
    note_size = n < 0 ? 0 : (size_t)n < sizeof note ? (size_t)n : sizeof note - 1;
#ifdef HAVE_ASAN
    before = atomic_load(&live);
    atomic_store(&peak, before);
#endif
    set_timers(limit_seconds);
}

size_t limits_end(void)
{
    set_timers(0);
#ifdef HAVE_ASAN
    return atomic_load(&peak) - before;
#else
    return 0;
#endif
}

void limits_ignore(bool ignore)
{
#ifdef HAVE_ASAN
    ignoring = ignore;
#else
    (void)ignore;
#endif
}

void limits_count(ptrdiff_t bytes)
{
#ifdef HAVE_ASAN
    if (bytes > 0)
        add_live((size_t)bytes);
    else
        atomic_fetch_sub(&live, (size_t)-bytes);
#else
    (void)bytes;
#endif
}

bool limits_count_memory(void)
{
#ifdef HAVE_ASAN
    return true;
#else
    return false;
#endif
}
