/* Running the command and looking at what it left behind. */
#define _GNU_SOURCE
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned long failures;

void check_failed(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    if (failures++ > 30)
        return;
    fprintf(stderr, "%s:%d: ", file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

static void give_up(const char *what)
{
    perror(what);
    exit(2);
}

bool is_full(void)
{
    const char *full = getenv("PALETTIZE_FULL");
    return full && *full && strcmp(full, "0") != 0;
}

/* ---------------------------------------------------------------- files */

static char scratch_path[256];

const char *scratch(void)
{
    const char *folder = getenv("TMPDIR");
    if (*scratch_path)
        return scratch_path;
    if (!folder || !*folder)
        folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(scratch_path, sizeof scratch_path, "%s/palettize-robustness-XXXXXX", folder);
    if (!mkdtemp(scratch_path))
        give_up(scratch_path);
    return scratch_path;
}

int checks_finish(void)
{
    if (*scratch_path)
        tree_remove(scratch_path);
    if (failures)
        fprintf(stderr, "%lu checks failed\n", failures);
    return failures ? 1 : 0;
}

static char *join(const char *folder, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", folder, name) < 0)
        give_up("join");
    return path;
}

const char *in_scratch(const char *name)
{
    static char *paths[64];
    static int count;
    char *path = join(scratch(), name);
    for (int i = 0; i < count; i++) {
        if (strcmp(paths[i], path) == 0) {
            free(path);
            return paths[i];
        }
    }
    if (count == 64)
        give_up("too many names");
    return paths[count++] = path;
}

void make_folder(const char *path)
{
    if (mkdir(path, 0777) < 0)
        give_up(path);
}

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

/* Calls visit for each entry, in the order of names. */
static void for_each(const char *folder, void (*visit)(const char *, const char *, void *),
                     void *user)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, not_dots, alphasort);
    for (int i = 0; i < count; i++) {
        char *path = join(folder, entries[i]->d_name);
        visit(path, entries[i]->d_name, user);
        free(path);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

static void remove_entry(const char *path, const char *name, void *user)
{
    (void)name, (void)user;
    tree_remove(path);
}

void tree_remove(const char *path)
{
    struct stat info;
    if (lstat(path, &info) < 0)
        return;
    if (S_ISDIR(info.st_mode)) {
        for_each(path, remove_entry, NULL);
        rmdir(path);
    } else {
        unlink(path);
    }
}

static bool copy_bytes(const char *from, const char *to)
{
    static char buffer[1 << 16];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    bool ok = in >= 0 && out >= 0;
    for (ssize_t n; ok && (n = read(in, buffer, sizeof buffer)) > 0;)
        ok = write(out, buffer, (size_t)n) == n;
    if (in >= 0)
        close(in);
    return (out < 0 || close(out) == 0) && ok;
}

typedef struct copying {
    const char *to;
    bool ok;
} copying;

static void copy_entry(const char *path, const char *name, void *user)
{
    copying *above = user;
    char *to = join(above->to, name);
    above->ok = above->ok && tree_fits(path, to);
    free(to);
}

bool tree_fits(const char *from, const char *to)
{
    struct stat info;
    copying copying = {to, true};
    if (stat(from, &info) < 0)
        give_up(from);
    if (!S_ISDIR(info.st_mode))
        return copy_bytes(from, to);
    if (mkdir(to, 0777) < 0 && errno != EEXIST)
        return false;
    for_each(from, copy_entry, &copying);
    return copying.ok;
}

void tree_copy(const char *from, const char *to)
{
    if (!tree_fits(from, to))
        give_up(to);
}

static void hash_bytes(uint64_t *hash, const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        *hash = (*hash ^ ((const unsigned char *)data)[i]) * UINT64_C(1099511628211);
}

static void hash_entry(const char *path, const char *name, void *user)
{
    uint64_t below = tree_hash(path);
    hash_bytes(user, name, strlen(name) + 1);
    hash_bytes(user, &below, sizeof below);
}

uint64_t tree_hash(const char *path)
{
    static char buffer[1 << 16];
    struct stat info;
    uint64_t hash = UINT64_C(14695981039346656037);
    if (lstat(path, &info) < 0)
        return 0;
    if (S_ISDIR(info.st_mode)) {
        for_each(path, hash_entry, &hash);
    } else {
        int fd = open(path, O_RDONLY);
        for (ssize_t n; fd >= 0 && (n = read(fd, buffer, sizeof buffer)) > 0;)
            hash_bytes(&hash, buffer, (size_t)n);
        if (fd >= 0)
            close(fd);
    }
    return hash | 1;
}

typedef struct strangers {
    const char *known;
    size_t count;
} strangers;

static void remove_stranger(const char *path, const char *name, void *user)
{
    strangers *s = user;
    if (strcmp(name, s->known) == 0)
        return;
    tree_remove(path);
    s->count++;
}

size_t remove_strangers(const char *folder, const char *name)
{
    strangers s = {name, 0};
    for_each(folder, remove_stranger, &s);
    return s.count;
}

/* ---------------------------------------------------------------- running */

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void become(const invocation *invocation, int out, int err)
{
    int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    for (size_t i = 0; i < 8 && invocation->environment[i]; i++)
        putenv((char *)invocation->environment[i]);
    if (invocation->file_limit) {
        struct rlimit limit = {(rlim_t)invocation->file_limit, (rlim_t)invocation->file_limit};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    execv(invocation->arguments[0], (char *const *)invocation->arguments);
    perror(invocation->arguments[0]);
    _exit(127);
}

/* Reads both ends until they are closed, and kills the child when its time has come. */
static void listen_to(pid_t child, const int *ends, long kill_after, outcome *outcome)
{
    struct pollfd polls[2] = {{.fd = ends[0], .events = POLLIN}, {.fd = ends[1], .events = POLLIN}};
    char *texts[2] = {outcome->out, outcome->err};
    size_t used[2] = {0, 0}, room[2] = {sizeof outcome->out - 1, sizeof outcome->err - 1};
    if (kill_after) {
        struct timespec pause = {kill_after / 1000000, kill_after % 1000000 * 1000};
        nanosleep(&pause, NULL);
        kill(child, SIGKILL);
    }
    for (int open_ends = 2; open_ends;) {
        char dropped[4096];
        if (poll(polls, 2, -1) < 0 && errno != EINTR)
            give_up("poll");
        for (int i = 0; i < 2; i++) {
            if (polls[i].fd < 0 || !polls[i].revents)
                continue;
            bool full = used[i] == room[i];
            ssize_t n = read(polls[i].fd, full ? dropped : texts[i] + used[i],
                             full ? sizeof dropped : room[i] - used[i]);
            if (n > 0 && !full)
                used[i] += (size_t)n;
            if (n == 0) {
                polls[i].fd = -1;
                open_ends--;
            }
        }
    }
    outcome->out[used[0]] = outcome->err[used[1]] = 0;
}

void run(const invocation *invocation, outcome *outcome)
{
    int out[2], err[2], status;
    if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        give_up("pipe");
    double started = now();
    pid_t child = fork();
    if (child < 0)
        give_up("fork");
    if (child == 0)
        become(invocation, out[1], err[1]);
    close(out[1]);
    close(err[1]);
    listen_to(child, (int[2]){out[0], err[0]}, invocation->kill_after, outcome);
    close(out[0]);
    close(err[0]);
    waitpid(child, &status, 0);
    outcome->seconds = now() - started;
    outcome->code = WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

void run_well(const invocation *invocation, outcome *outcome)
{
    run(invocation, outcome);
    CHECK(outcome->code == 0, "%s %s: exit code %d: %s", invocation->arguments[0],
          invocation->arguments[1], outcome->code, outcome->err);
}

bool is_one_line(const char *text)
{
    const char *end = strchr(text, '\n');
    return end && end > text && !end[1];
}

void strike_measured(char *text)
{
    static const char *const before[] = {"\"seconds\": ", ", ratio ", "\"peak_bytes\": "};
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        char *at = strstr(text, before[i]);
        char *end = at ? at + strcspn(at, "\n") : NULL;
        if (at)
            memmove(at, end, strlen(end) + 1);
    }
}
