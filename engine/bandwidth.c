/* bandwidth.c: pg_measure_bandwidth: sizes and checks; the reading itself is the kernels' (kernels/stream). */
#include "../kernels/backend.h"
#include "host.h"
#include "status.h"

#include <stdlib.h>

/* 2 GiB is beyond every cache; a quarter of what is free leaves the page cache alone. */
static double default_bytes(void)
{
    const double most = 2.0 * (1 << 30), room = pg_host_memory() / 4;
    return room <= 0 ? most / 8 : room < most ? room : most;
}

int pg_measure_bandwidth(int32_t threads, double bytes, double seconds, double *rate, pg_error *err)
{
    const double room = pg_host_memory();
    if (!rate) return pg_fail(err, PG_EINVAL, "pg_measure_bandwidth needs a place for its answer");
    if (threads < 0 || threads > 1024)
        return pg_fail(err, PG_EINVAL, "threads is %d, expected 0 (all cores) to 1024", threads);
    if (!(bytes >= 0 && bytes < 0x1p53)) return pg_fail(err, PG_EINVAL, "bytes is %g, expected 0 or more", bytes);
    if (!(seconds >= 0 && seconds <= 3600))
        return pg_fail(err, PG_EINVAL, "seconds is %g, expected 0 (one) to 3600", seconds);
    if (bytes == 0) bytes = default_bytes();
    if (room > 0 && bytes > room)
        return pg_fail(err, PG_EMEMORY, "%.3g GB to read do not fit into the %.3g GB that are free", bytes * 1e-9,
                       room * 1e-9);
    if (!threads) threads = pg_host_threads();
    *rate = pg_cpu_bandwidth(threads, (int64_t)bytes, seconds > 0 ? seconds : 1, getenv("PERIGEE_ISA"));
    if (*rate <= 0)
        return pg_fail(err, PG_EMEMORY, "no memory for %.3g GB to read, or %d threads could not be started",
                       bytes * 1e-9, threads);
    return PG_OK;
}
