/* write: a GGUF file, version 3.
 *
 * Lives here: the container's layout on the way out, the file on the disk and its name.
 * Not here: what is written and how it was made (quantize.c).
 * Why so: keys and infos are collected in memory, since the header counts them; payloads pass through untouched.
 * Source: the GGUF specification (ggml, docs/gguf.md). */
#include "write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TYPE_U32 = 4, TYPE_STRING = 8, TYPE_ARRAY = 9 };

#define CHUNK ((size_t)64 << 20) /* bytes of one write */

typedef struct buffer {
    char *data;
    size_t n, room;
} buffer;

struct pg_writer {
    char *path, *part; /* the file's name, and the one that it grows under */
    int fd;
    uint32_t alignment;
    buffer keys, infos;
    uint64_t n_key, n_tensor;
    int64_t *size; /* [n_tensor] bytes of the payloads */
    size_t size_room;
    uint64_t offset; /* of the next info's payload */
    uint64_t at;     /* tensor whose payload comes next */
    int64_t got;     /* bytes of it that have come */
    int code;        /* first error of keys and infos */
};

/* ---- collecting ---- */

static void put(pg_writer *w, buffer *b, const void *data, size_t n)
{
    if (w->code < 0) return;
    if (n > b->room - b->n) {
        size_t room = b->room < (size_t)1 << 16 ? (size_t)1 << 16 : b->room;
        while (room - b->n < n && room <= SIZE_MAX / 2) room *= 2;
        char *more = room - b->n < n ? NULL : realloc(b->data, room);
        if (!more) {
            w->code = PG_EMEMORY;
            return;
        }
        b->data = more;
        b->room = room;
    }
    if (n > 0) memcpy(b->data + b->n, data, n);
    b->n += n;
}

static void put_int(pg_writer *w, buffer *b, uint64_t v, int width)
{
    uint8_t little[8];
    for (int i = 0; i < width; i++) little[i] = (uint8_t)(v >> 8 * i);
    put(w, b, little, (size_t)width);
}

static void put_text(pg_writer *w, buffer *b, pg_text text)
{
    put_int(w, b, text.n, 8);
    put(w, b, text.data, text.n);
}

static void put_key(pg_writer *w, const char *name, int type)
{
    put_text(w, &w->keys, (pg_text){ name, strlen(name) });
    put_int(w, &w->keys, (uint64_t)type, 4);
    w->n_key++;
}

void pg_writer_u32(pg_writer *w, const char *name, uint32_t value)
{
    put_key(w, name, TYPE_U32);
    put_int(w, &w->keys, value, 4);
}

void pg_writer_text(pg_writer *w, const char *name, pg_text value)
{
    put_key(w, name, TYPE_STRING);
    put_text(w, &w->keys, value);
}

void pg_writer_texts(pg_writer *w, const char *name, const pg_text *value, int64_t n)
{
    put_key(w, name, TYPE_ARRAY);
    put_int(w, &w->keys, TYPE_STRING, 4);
    put_int(w, &w->keys, (uint64_t)n, 8);
    for (int64_t i = 0; i < n; i++) put_text(w, &w->keys, value[i]);
}

static int is_named(pg_text name, const char *other)
{
    return name.n == strlen(other) && memcmp(name.data, other, name.n) == 0;
}

static int is_left_out(pg_text name, const char *const *but, int n_but)
{
    if (is_named(name, "general.alignment") || (name.n > 6 && memcmp(name.data, "split.", 6) == 0)) return 1;
    for (int i = 0; i < n_but; i++)
        if (is_named(name, but[i])) return 1;
    return 0;
}

void pg_writer_copy_keys(pg_writer *w, const pg_source *s, const char *const *but, int n_but)
{
    for (int i = 0; i < pg_source_n_key(s); i++) {
        if (is_left_out(pg_source_key_name(s, i), but, n_but)) continue;
        const pg_text stored = pg_source_key_stored(s, i);
        put(w, &w->keys, stored.data, stored.n);
        w->n_key++;
    }
}

static int grow_sizes(pg_writer *w)
{
    if (w->n_tensor < w->size_room) return 1;
    const size_t room = 2 * w->size_room + 256;
    int64_t *more = realloc(w->size, sizeof *more * room);
    if (!more) return 0;
    w->size = more;
    w->size_room = room;
    return 1;
}

static uint64_t padded(const pg_writer *w, uint64_t n)
{
    return (n + w->alignment - 1) / w->alignment * w->alignment;
}

void pg_writer_tensor(pg_writer *w, pg_text name, uint32_t type, const int64_t *shape, int64_t bytes)
{
    int n_dim = 4;
    while (n_dim > 1 && shape[n_dim - 1] == 1) n_dim--;
    if (w->code == PG_OK && !grow_sizes(w)) w->code = PG_EMEMORY;
    if (w->code == PG_OK && (bytes < 0 || bytes > INT64_MAX / 2 - (int64_t)w->offset)) w->code = PG_ELIMIT;
    if (w->code < 0) return;
    put_text(w, &w->infos, name);
    put_int(w, &w->infos, (uint64_t)n_dim, 4);
    for (int i = 0; i < n_dim; i++) put_int(w, &w->infos, (uint64_t)shape[i], 8);
    put_int(w, &w->infos, type, 4);
    put_int(w, &w->infos, w->offset, 8);
    w->size[w->n_tensor++] = bytes;
    w->offset = padded(w, w->offset + (uint64_t)bytes);
}

/* ---- the disk ---- */

static int fail_errno(const pg_writer *w, int errnum, pg_error *err)
{
    const int code = errnum == ENOENT || errnum == ENOTDIR ? PG_ENOTFOUND : errnum == EISDIR ? PG_EINVAL : PG_EIO;
    return pg_fail(err, code, "writing %s: %s%s", w->path, strerror(errnum),
                   errnum == ENOSPC || errnum == EDQUOT ? "; make room or write to another disk" : "");
}

/* A new file beside the path, with the permissions that any new file has. */
static int create_part(pg_writer *w, pg_error *err)
{
    const size_t room = strlen(w->path) + 48;
    struct stat st;
    if (stat(w->path, &st) == 0 && !S_ISREG(st.st_mode))
        return pg_fail(err, PG_EINVAL, "writing %s: it exists and is not a regular file", w->path);
    w->part = malloc(room);
    if (!w->part) return pg_fail(err, PG_EMEMORY, "writing %s: not enough memory", w->path);
    for (int turn = 0; turn < 100; turn++) {
        snprintf(w->part, room, "%s.%ld-%d.part", w->path, (long)getpid(), turn);
        w->fd = open(w->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0) return PG_OK;
        if (errno != EEXIST) break;
    }
    const int errnum = errno;
    free(w->part); /* not ours */
    w->part = NULL;
    return fail_errno(w, errnum, err);
}

int pg_writer_open(const char *path, uint32_t alignment, pg_writer **out, pg_error *err)
{
    *out = NULL;
    if (!path || !path[0]) return pg_fail(err, PG_EINVAL, "the path of the file to write is empty");
    if (alignment < 8 || alignment > 1 << 20 || (alignment & (alignment - 1)) != 0)
        return pg_fail(err, PG_EINVAL, "writing %s: alignment %u, expected a power of two from 8 to 1048576", path,
                       (unsigned)alignment);
    pg_writer *w = calloc(1, sizeof *w);
    if (w) *w = (pg_writer){ .path = strdup(path), .fd = -1, .alignment = alignment };
    int rc = !w || !w->path ? pg_fail(err, PG_EMEMORY, "writing %s: not enough memory", path) : create_part(w, err);
    if (rc < 0) {
        pg_writer_cancel(w);
        return rc;
    }
    if (alignment != 32) pg_writer_u32(w, "general.alignment", alignment);
    *out = w;
    return PG_OK;
}

void pg_writer_cancel(pg_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) close(w->fd);
    if (w->part) unlink(w->part);
    free(w->path);
    free(w->part);
    free(w->keys.data);
    free(w->infos.data);
    free(w->size);
    free(w);
}

static int write_all(pg_writer *w, const char *data, size_t n, pg_error *err)
{
    while (n > 0) {
        const ssize_t done = write(w->fd, data, n < CHUNK ? n : CHUNK);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return fail_errno(w, errno, err);
        data += done;
        n -= (size_t)done;
    }
    return PG_OK;
}

static int write_padding(pg_writer *w, uint64_t n, pg_error *err)
{
    static const char zeros[4096];
    int rc = PG_OK;
    for (uint64_t left = padded(w, n) - n; rc == PG_OK && left > 0;) {
        const size_t part = left < sizeof zeros ? (size_t)left : sizeof zeros;
        rc = write_all(w, zeros, part, err);
        left -= part;
    }
    return rc;
}

int pg_writer_begin(pg_writer *w, pg_error *err)
{
    buffer head = { 0 };
    put(w, &head, "GGUF", 4);
    put_int(w, &head, 3, 4);
    put_int(w, &head, w->n_tensor, 8);
    put_int(w, &head, w->n_key, 8);
    int rc = w->code == PG_EMEMORY  ? pg_fail(err, PG_EMEMORY, "writing %s: not enough memory for its keys", w->path)
             : w->code == PG_ELIMIT ? pg_fail(err, PG_ELIMIT, "writing %s: more bytes than a file can hold", w->path)
                                    : PG_OK;
    const uint64_t n = head.n + w->keys.n + w->infos.n;
    /* Ask for all the room at once: better no than after an hour. Not every file system can answer. */
    if (rc == PG_OK && fallocate(w->fd, 0, 0, (off_t)(padded(w, n) + w->offset)) != 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS && errno != EINTR)
        rc = fail_errno(w, errno, err);
    if (rc == PG_OK) rc = write_all(w, head.data, head.n, err);
    if (rc == PG_OK) rc = write_all(w, w->keys.data, w->keys.n, err);
    if (rc == PG_OK) rc = write_all(w, w->infos.data, w->infos.n, err);
    if (rc == PG_OK) rc = write_padding(w, n, err);
    free(head.data);
    return rc;
}

int pg_writer_data(pg_writer *w, const void *data, size_t n, pg_error *err)
{
    const char *from = data;
    while (n > 0) {
        if (w->at >= w->n_tensor)
            return pg_fail(err, PG_EINVAL, "writing %s: more bytes than its tensors have", w->path);
        const size_t left = (size_t)(w->size[w->at] - w->got), part = n < left ? n : left;
        int rc = write_all(w, from, part, err);
        if (rc == PG_OK && part == left) rc = write_padding(w, (uint64_t)w->size[w->at], err);
        if (rc < 0) return rc;
        w->got = part == left ? 0 : w->got + (int64_t)part;
        w->at += part == left;
        from += part;
        n -= part;
    }
    return PG_OK;
}

/* The new name must survive a crash too: it is in the folder. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
    const int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        (void)fsync(fd); /* some file systems refuse this for folders; the file itself is safe */
        close(fd);
    }
    free(folder);
}

static int finish(pg_writer *w, pg_error *err)
{
    if (w->at < w->n_tensor)
        return pg_fail(err, PG_EINVAL, "writing %s: bytes of tensor number %llu are missing", w->path,
                       (unsigned long long)w->at);
    if (fsync(w->fd) != 0 && errno != EINVAL) return fail_errno(w, errno, err);
    const int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0) return fail_errno(w, errno, err);
    if (rename(w->part, w->path) != 0) return fail_errno(w, errno, err);
    free(w->part);
    w->part = NULL;
    sync_folder(w->path);
    return PG_OK;
}

int pg_writer_finish(pg_writer *w, pg_error *err)
{
    const int rc = finish(w, err);
    pg_writer_cancel(w);
    return rc;
}
