/* write: a GGUF file, key by key and tensor by tensor.
 *
 * The order of calls: open; keys; the infos of all tensors; begin; the bytes of each tensor in the order of the infos;
 * finish. The file grows under another name beside its own and gets its own name only when it is whole and on the disk,
 * so nobody ever sees half of one. Keys and infos cannot fail by themselves: begin reports the first error of theirs.
 * Threads: one at a time for each writer. */
#ifndef PG_WRITE_H
#define PG_WRITE_H

#include "../load/source.h"

typedef struct pg_writer pg_writer;

/* Begin a file. alignment: of every tensor's first byte, a power of two from 8 to 1 MiB; one other than 32 is written
 * as key general.alignment. Errors: PG_ENOTFOUND (no such folder), PG_EINVAL (path is a folder), PG_EMEMORY, PG_EIO. */
int pg_writer_open(const char *path, uint32_t alignment, pg_writer **out, pg_error *err);

/* Give the file up: nothing of it remains. NULL is fine. */
void pg_writer_cancel(pg_writer *w);

/* All keys of a GGUF source, but for general.alignment, split.* and the n_but names in `but`. */
void pg_writer_copy_keys(pg_writer *w, const pg_source *s, const char *const *but, int n_but);
void pg_writer_u32(pg_writer *w, const char *name, uint32_t value);
void pg_writer_text(pg_writer *w, const char *name, pg_text value);
void pg_writer_texts(pg_writer *w, const char *name, const pg_text *value, int64_t n);

/* The info of one tensor. type: ggml type id. shape[4] in storage order; dimensions of 1 at its end are not stored.
 * bytes: of its payload, which may be more than type and shape say (packed panels). Names: 1 to 63 bytes, all
 * different (not checked). */
void pg_writer_tensor(pg_writer *w, pg_text name, uint32_t type, const int64_t *shape, int64_t bytes);

/* Write what has been told so far. PG_EIO with the system's words when the disk is full, PG_EMEMORY, PG_ELIMIT. */
int pg_writer_begin(pg_writer *w, pg_error *err);

/* The next n bytes of the tensors' payloads, in pieces as they come; the padding between tensors is the writer's. */
int pg_writer_data(pg_writer *w, const void *data, size_t n, pg_error *err);

/* Wait until all is on the disk and give the file its name, in the place of a file that has it. Frees the writer; after
 * an error nothing remains. PG_EINVAL when bytes of a tensor are missing. */
int pg_writer_finish(pg_writer *w, pg_error *err);

#endif
