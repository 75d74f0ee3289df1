/* device: which devices an engine computes on, and its weights on the way there. */
#ifndef PG_DEVICE_H
#define PG_DEVICE_H

#include "sched/sched.h"

/* Whether `device` is a name at all: PG_OK, PG_EINVAL. Looks at no device. */
int pg_device_check(const char *device, pg_error *err);

/* The backend of a device, or of several, that is not the CPU, for n_lane host threads. PG_EDEVICE: what is
 * missing, and what to do. */
int pg_device_open(const char *device, int n_lane, pg_backend **out, pg_error *err);

/* It has memory of its own, which weights are copied to. */
static inline int pg_device_is_own(const pg_backend *b)
{
    return b->ops->load != NULL;
}

/* Copy the weights of a prepared plan there; see as for pg_pack_run. PG_ECANCELLED, PG_EIO, PG_EDEVICE. */
int pg_device_load(pg_engine *e, int (*see)(void *ud, double done, double total), void *ud, pg_error *err);

#endif
