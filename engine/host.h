/* host: what this machine and this process may use. */
#ifndef PG_HOST_H
#define PG_HOST_H

int pg_host_threads(void);   /* PERIGEE_THREADS where it says a number above 0, else cores in the affinity mask, less if
                                a cgroup grants fewer; >= 1 */
double pg_host_memory(void); /* bytes that a process may still take without swapping; 0: unknown */
double pg_host_free(void);   /* bytes of it that hold nothing, not even parts of files in the system's cache */

#endif
