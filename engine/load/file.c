/* Files in memory.
 *
 * Lives here: mapping or reading a whole file, bringing parts of it into memory, locking them and giving them back,
 * reading past the system's cache, guessing what a wrong file is. Not here: what the bytes mean.
 * Why so: weights are read-only and shared between processes when mapped; memory of our own (use_mmap 0) can have huge
 * pages and is not taken away by whoever writes to the file. */
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)16 << 20) /* bytes of one read */

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14; older kernels refuse it */
#endif

const char *pg_label(const char *path)
{
    size_t n = strlen(path), most = 200;
    if (n <= most) return path;
    const char *label = path + n - most;
    while (((unsigned char)*label & 0xc0) == 0x80) label++;
    return label;
}

char *pg_path_join(const char *folder, const char *name)
{
    size_t n = strlen(folder), m = strlen(name);
    char *path = malloc(n + m + 2);
    if (!path) return NULL;
    memcpy(path, folder, n);
    if (n > 0 && folder[n - 1] != '/') path[n++] = '/';
    memcpy(path + n, name, m + 1);
    return path;
}

int pg_file_errno(const char *path, int errnum, pg_error *err)
{
    int code = errnum == ENOENT || errnum == ENOTDIR ? PG_ENOTFOUND : errnum == ENOMEM ? PG_EMEMORY : PG_EIO;
    return pg_fail(err, code, "%s: %s", pg_label(path), strerror(errnum));
}

static int read_all(const pg_file *file, int fd, uint8_t *memory, pg_error *err)
{
    for (size_t done = 0; done < file->size;) {
        size_t left = file->size - done;
        ssize_t n = pread(fd, memory + done, left < CHUNK ? left : CHUNK, (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return pg_file_errno(file->path, errno, err);
        if (n == 0) return pg_fail(err, PG_EIO, "%s: became shorter while it was read", file->label);
        done += (size_t)n;
    }
    return PG_OK;
}

static int map(pg_file *file, int fd, int use_mmap, pg_error *err)
{
    if (use_mmap) {
        void *memory = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (memory == MAP_FAILED) return pg_file_errno(file->path, errno, err);
        file->data = memory;
        return PG_OK;
    }
    void *memory = mmap(NULL, file->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return pg_fail(err, PG_EMEMORY, "%s: no memory for its %zu bytes; with use_mmap they need not be copied",
                       file->label, file->size);
    file->data = memory;
    (void)madvise(memory, file->size, MADV_HUGEPAGE);
    int rc = read_all(file, fd, memory, err);
    if (rc == PG_OK) (void)mprotect(memory, file->size, PROT_READ);
    return rc;
}

static int load(pg_file *file, int use_mmap, pg_error *err)
{
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make us wait */
    if (fd < 0) return pg_file_errno(file->path, errno, err);
    struct stat st;
    int rc = PG_OK;
    if (fstat(fd, &st) != 0)
        rc = pg_file_errno(file->path, errno, err);
    else if (!S_ISREG(st.st_mode))
        rc = pg_fail(err, PG_EFORMAT, "%s: is not a regular file", file->label);
    else if (st.st_size == 0)
        file->data = (const uint8_t *)"";
    else if ((file->size = (size_t)st.st_size) > PTRDIFF_MAX)
        rc = pg_fail(err, PG_ELIMIT, "%s: is larger than this machine can address", file->label);
    else
        rc = map(file, fd, use_mmap, err);
    if (rc == PG_OK && use_mmap)
        file->fd = fd;
    else
        close(fd);
    return rc;
}

int pg_file_open(pg_source *s, char *path, pg_file **out, pg_error *err)
{
    pg_file *file = path ? calloc(1, sizeof *file) : NULL;
    pg_file **more = s->file;
    if (file && s->n_file == s->file_room) {
        more = realloc(s->file, sizeof *more * (size_t)(2 * s->file_room + 4));
        if (more) {
            s->file = more;
            s->file_room = 2 * s->file_room + 4;
        }
    }
    if (!file || !more) {
        free(file);
        free(path);
        return pg_fail(err, PG_EMEMORY, "%s: not enough memory to open it", s->label);
    }
    file->path = path;
    file->label = pg_label(path);
    file->fd = -1;
    s->file[s->n_file++] = file;
    int rc = load(file, s->use_mmap, err);
    if (rc < 0)
        pg_file_free(s->file[--s->n_file]);
    else
        *out = file;
    return rc;
}

void pg_file_free(pg_file *file)
{
    if (file->size > 0 && file->data) munmap((void *)(uintptr_t)file->data, file->size);
    if (file->fd >= 0) close(file->fd);
    free(file->path);
    free(file);
}

const char *pg_file_guess(const pg_file *file, int *code)
{
    static const char pointer[] = "version https://git-lfs";
    if (file->size == 0) return ": the file is empty";
    if (file->size >= sizeof pointer && memcmp(file->data, pointer, sizeof pointer - 1) == 0)
        return ": it is a Git LFS pointer, the content was not downloaded (git lfs pull)";
    if (file->size >= 4 && memcmp(file->data, "GGUF", 4) == 0) return ": it is a GGUF file";
    if (file->size >= 4 && (memcmp(file->data, "PK\3\4", 4) == 0 || memcmp(file->data, "\x80\2", 2) == 0)) {
        *code = PG_EUNSUPPORTED;
        return ": it looks like a pickle, which can run code and is never read; convert it to safetensors or GGUF";
    }
    if (file->size >= 9 && file->data[8] == '{') return ": it looks like safetensors, open its folder";
    return "";
}

/* Bring n bytes from p into memory. The kernel's own walk reports a file that became shorter as EFAULT, where a read
 * through the mapping would end the process. */
static int touch(const pg_file *file, const uint8_t *p, size_t n, pg_error *err)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), before = (uintptr_t)p % page;
    void *begin = (void *)((uintptr_t)p - before);
    if (madvise(begin, n + before, MADV_POPULATE_READ) == 0) return PG_OK;
    if (errno == ENOMEM) return pg_fail(err, PG_EMEMORY, "%s: not enough memory to hold its tensors", file->label);
    if (errno == EFAULT || errno == EHWPOISON)
        return pg_fail(err, PG_EIO, "%s: cannot be read; was it changed since it was opened?", file->label);
    (void)madvise(begin, n + before, MADV_WILLNEED);
    for (size_t i = 0; i < n; i += page) (void)*(const volatile uint8_t *)(p + i);
    (void)*(const volatile uint8_t *)(p + n - 1);
    return PG_OK;
}

int pg_source_lock(const pg_source *s, const void *p, size_t n, pg_error *err)
{
    if (mlock2(p, n, MLOCK_ONFAULT) == 0) return PG_OK;
    struct rlimit limit = { 0 };
    const int why = errno;
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    return pg_fail(err, PG_EMEMORY,
                   "%s: the system refuses to lock it into memory (%s); raise the limit (ulimit -l, now %.0f KiB) or "
                   "open without use_mlock",
                   s->label, strerror(why), (double)limit.rlim_cur / 1024);
}

/* The file that holds address p; NULL: none of them. */
static const pg_file *holder(const pg_source *s, const void *p)
{
    for (int i = 0; i < s->n_file; i++)
        if ((uintptr_t)p - (uintptr_t)s->file[i]->data < s->file[i]->size) return s->file[i];
    return NULL;
}

int pg_source_touch(const pg_source *s, const void *p, size_t n, pg_error *err)
{
    const pg_file *file = s->use_mmap && n > 0 ? holder(s, p) : NULL;
    return file ? touch(file, p, n, err) : PG_OK;
}

void pg_source_ahead(const pg_source *s, const void *p, size_t n)
{
    const size_t before = (uintptr_t)p % (size_t)sysconf(_SC_PAGESIZE);
    if (s->use_mmap && n > 0 && holder(s, p)) (void)madvise((void *)((uintptr_t)p - before), n + before, MADV_WILLNEED);
}

int pg_source_is_mapped(const pg_source *s, const void *p)
{
    return s->use_mmap && holder(s, p) != NULL;
}

int pg_source_is_cached(const pg_source *s, const void *p)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char there = 1;
    return !pg_source_is_mapped(s, p) || mincore((void *)((uintptr_t)p / page * page), page, &there) != 0 ||
           (there & 1);
}

void pg_source_drop(const void *p, size_t n)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t begin = ((uintptr_t)p + page - 1) / page * page, end = ((uintptr_t)p + n) / page * page;
    if (begin < end) (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void pg_source_forget(const pg_source *s, const void *p, size_t n)
{
    const pg_file *file = s->use_mmap && n > 0 ? holder(s, p) : NULL;
    if (file) (void)posix_fadvise(file->fd, (off_t)((const uint8_t *)p - file->data), (off_t)n, POSIX_FADV_DONTNEED);
}

int pg_source_direct(const pg_source *s)
{
    if (!s->use_mmap) return 0;
    for (int i = 0; i < s->n_file; i++) {
        const int flags = fcntl(s->file[i]->fd, F_GETFL);
        if (flags < 0 || fcntl(s->file[i]->fd, F_SETFL, flags | O_DIRECT) != 0) return 0;
    }
    return 1;
}

const void *pg_source_read(const pg_source *s, const void *p, size_t n, void *buffer)
{
    const pg_file *file = s->use_mmap ? holder(s, p) : NULL;
    if (!file) return NULL;
    const size_t at = (size_t)((const uint8_t *)p - file->data), before = at % PG_READ_ALIGN;
    const size_t all = (before + n + PG_READ_ALIGN - 1) / PG_READ_ALIGN * PG_READ_ALIGN;
    for (size_t done = 0; done < before + n;) {
        const ssize_t got = pread(file->fd, (char *)buffer + done, all - done, (off_t)(at - before + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0 || (done + (size_t)got < before + n && got % PG_READ_ALIGN != 0)) return NULL;
        done += (size_t)got;
    }
    return (char *)buffer + before;
}
