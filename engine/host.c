/* host.c: affinity, cgroup v2 limits and free memory, read from where Linux shows them. */
#include "host.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

/* First line of a small file, or "". */
static const char *line_of(const char *path, char *line, int size)
{
    FILE *f = fopen(path, "re");
    *line = 0;
    if (f && !fgets(line, size, f)) *line = 0;
    if (f) fclose(f);
    return line;
}

static int cores(void)
{
    cpu_set_t set;
    char line[128];
    double quota, period;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    if (sscanf(line_of("/sys/fs/cgroup/cpu.max", line, sizeof line), "%lf %lf", &quota, &period) == 2 && period > 0) {
        const int granted = (int)ceil(quota / period);
        if (granted >= 1 && granted < n) n = granted;
    }
    return n < 1 ? 1 : n;
}

int pg_host_threads(void)
{
    const char *wanted = getenv("PERIGEE_THREADS");
    const int n = wanted ? atoi(wanted) : 0;
    return n > 0 ? n : cores();
}

/* The limit of the cgroup and what it has of it, in bytes; 0: none. */
static int granted(double *limit, double *used)
{
    char line[128];
    return sscanf(line_of("/sys/fs/cgroup/memory.max", line, sizeof line), "%lf", limit) == 1 &&
           sscanf(line_of("/sys/fs/cgroup/memory.current", line, sizeof line), "%lf", used) == 1;
}

double pg_host_memory(void)
{
    char line[128];
    double free_kb = 0, limit, used;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lf", &free_kb) == 1) break;
    if (f) fclose(f);
    double bytes = free_kb * 1024;
    if (granted(&limit, &used)) {
        /* the page cache counts as used there, but gives way: only the limit itself is firm */
        if (limit < bytes || bytes == 0) bytes = limit;
    }
    return bytes;
}

double pg_host_free(void)
{
    struct sysinfo info;
    double limit, used;
    const double bytes = sysinfo(&info) == 0 ? (double)info.freeram * info.mem_unit : 0;
    return granted(&limit, &used) && limit - used < bytes ? limit - used : bytes;
}
