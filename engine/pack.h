/* pack: from a model whose views point into files to one that can be multiplied by.
 *
 * The order of calls: plan (sizes are known then, no memory is taken but for tables), run, free. */
#ifndef PG_PACK_H
#define PG_PACK_H

#include "model.h"

typedef struct pg_pack pg_pack;

/* Decide how the weights of an open model are loaded, into m->pack. exact: for precision "f32", nothing is packed.
 * PG_EMEMORY: no memory for the tables. */
int pg_pack_plan(pg_model *m, int exact, pg_error *err);

/* Bytes of weights once they are loaded: in memory of the engine's own (packed or converted), and used where the file
 * is mapped or was read to. */
double pg_pack_own(const pg_model *m);
double pg_pack_stored(const pg_model *m);

/* How weights are loaded: locked into memory (mlock) where they are used; read past the system's cache of files, which
 * without it happens only to files that are large and not in that cache. */
enum { PG_PACK_LOCK = 1, PG_PACK_DIRECT = 2 };

/* Bring every weight into memory, packed or as stored, and let the model's views point there; telling done and total
 * bytes now and then. how: PG_PACK_* added up. see returns < 0 to stop (that is returned); it is called by one thread
 * at a time. After an error the model is good for nothing but being closed.
 * Errors: PG_EMEMORY, PG_EIO (the file became shorter). */
int pg_pack_run(pg_model *m, int n_thread, int how, int (*see)(void *ud, double done, double total), void *ud,
                pg_error *err);

/* The memory and the tables; NULL is fine. */
void pg_pack_free(pg_pack *p);

#endif
