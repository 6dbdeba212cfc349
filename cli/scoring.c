/* What the commands that run models on data share. */
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli.h"

void wait_briefly(char **argv)
{
    char program[4096];
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") ||
        setenv("GOMP_SPINCOUNT", "1000", 0))
        return;
    const ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    if (size <= 0)
        return; /* no Linux: all goes on as it is, as it does if this fails */
    program[size] = 0;
    execv(program, argv);
}

int open_data(const arguments *arguments, pal_data **data, pal_score_options *options)
{
    long batch = 0, threads = 0;
    int code = flag_number(arguments, "batch", 1, &batch);
    if (!code)
        code = flag_number(arguments, "threads", 1, &threads);
    if (code)
        return code;
    *options = (pal_score_options){.batch = (size_t)batch,
                                   .threads = (int)(threads > 1024 ? 1024 : threads),
                                   .output = flag_value(arguments, "output")};
    const pal_status status =
        pal_data_open(flag_value(arguments, "data"), arguments->data_options, data);
    return status ? report_failure(status) : 0;
}

/* Of this program alone: the maximum that getrusage() knows on Linux outlives execve(), and so may
 * be that of whoever started the program. */
static uint64_t high_water_mark(void)
{
    unsigned long long kilobytes = 0;
    char line[256];
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %llu kB", &kilobytes) == 1)
            break;
    if (status)
        fclose(status);
    return kilobytes * 1024;
}

uint64_t peak_bytes(void)
{
    struct rusage usage;
    const uint64_t own = high_water_mark();
    if (own)
        return own;
    if (getrusage(RUSAGE_SELF, &usage))
        return 0;
#ifdef __APPLE__
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}
