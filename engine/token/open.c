/* Opening a tokenizer by path or from a source.
 *
 * Lives here: telling the kinds of files apart, finding the files beside a tokenizer.json.
 * Not here: what is in them. A folder is read without load/, because a tokenizer alone needs no weights beside it. */
#include "tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

enum { FILE_MAX = PG_JSON_MAX }; /* bytes */

/* A folder, and what has been read of it. */
typedef struct folder {
    const char *path;
    size_t n; /* bytes of path that name the folder, with its last slash */
    struct kept {
        struct kept *next;
        size_t n;
        char data[];
    } * kept;
} folder;

static int system_error(const char *path, int why, pg_error *err)
{
    int code = why == ENOENT || why == ENOTDIR ? PG_ENOTFOUND : why == ENOMEM ? PG_EMEMORY : PG_EIO;
    return pg_fail(err, code, "%s: %s", path, strerror(why));
}

/* The bytes of a file into memory of the folder: 1, 0 when it does not exist, PG_E*. */
static int read_file(folder *f, const char *path, pg_text *out, pg_error *err)
{
    struct stat st;
    if (stat(path, &st) < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : system_error(path, errno, err);
    if (!S_ISREG(st.st_mode)) return pg_fail(err, PG_EFORMAT, "%s: expected a file", path);
    if (st.st_size > FILE_MAX)
        return pg_fail(err, PG_ELIMIT, "%s: %lld bytes, expected at most %d", path, (long long)st.st_size, FILE_MAX);
    size_t n = (size_t)st.st_size;
    struct kept *kept = malloc(sizeof *kept + n + 1);
    FILE *file = kept ? fopen(path, "rb") : NULL;
    if (!file) {
        int why = kept ? errno : ENOMEM;
        free(kept);
        return system_error(path, why, err);
    }
    errno = 0;
    kept->n = fread(kept->data, 1, n, file);
    int why = ferror(file) ? (errno ? errno : EIO) : 0;
    fclose(file);
    kept->next = f->kept;
    f->kept = kept;
    *out = (pg_text){ kept->data, kept->n };
    return why ? system_error(path, why, err) : 1;
}

static void free_folder(folder *f)
{
    while (f->kept) {
        struct kept *next = f->kept->next;
        free(f->kept);
        f->kept = next;
    }
}

static int get_beside(void *ud, const char *name, pg_text *out, pg_error *err)
{
    folder *f = ud;
    char path[4096];
    if (f->n == 0) return 0;
    int n = snprintf(path, sizeof path, "%.*s%s", (int)f->n, f->path, name);
    if (n < 0 || (size_t)n >= sizeof path) return pg_fail(err, PG_EINVAL, "%s: the path is too long", f->path);
    return read_file(f, path, out, err);
}

static int get_from_source(void *ud, const char *name, pg_text *out, pg_error *err)
{
    return pg_source_file(ud, name, out, err);
}

/* Finish what `rc` is the outcome of. */
static int hand_over(int rc, pg_tokenizer *t, pg_tokenizer **out)
{
    if (rc < 0)
        pg_tokenizer_close(t);
    else
        *out = t;
    return rc < 0 ? rc : PG_OK;
}

int pg_tokenizer_from_source(pg_source *s, pg_tokenizer **out, pg_error *err)
{
    pg_error own;
    if (!err) err = &own;
    pg_tokenizer *t = pg_tokenizer_new(err);
    if (!t) return PG_EMEMORY;
    if (pg_source_dialect(s) == PG_DIALECT_GGUF) return hand_over(pg_tokenizer_from_gguf(s, t, err), t, out);
    pg_companions files = { get_from_source, s };
    pg_text json;
    char what[300];
    snprintf(what, sizeof what, "%.250s/tokenizer.json", pg_source_path(s));
    int rc = pg_source_file(s, "tokenizer.json", &json, err);
    if (rc == 0) rc = pg_fail(err, PG_ENOTFOUND, "%s: no tokenizer: the file does not exist", what);
    if (rc > 0) rc = pg_tokenizer_from_json(&files, json, what, t, err);
    return hand_over(rc, t, out);
}

static int open_gguf(const char *path, pg_tokenizer **out, pg_error *err)
{
    pg_source *s;
    int rc = pg_source_open(path, 1, &s, err);
    if (rc < 0) return rc;
    rc = pg_tokenizer_from_source(s, out, err);
    pg_source_close(s);
    return rc;
}

/* f->path[0 .. f->n] is where companions are looked for. */
static int open_json(folder *f, const char *path, pg_tokenizer **out, pg_error *err)
{
    pg_text json;
    pg_companions files = { get_beside, f };
    pg_tokenizer *t = pg_tokenizer_new(err);
    int rc = t ? read_file(f, path, &json, err) : PG_EMEMORY;
    if (rc == 0) rc = pg_fail(err, PG_ENOTFOUND, "%s: the file does not exist", path);
    if (rc > 0) rc = pg_tokenizer_from_json(&files, json, path, t, err);
    free_folder(f);
    return hand_over(rc, t, out);
}

static int open_folder(const char *path, pg_tokenizer **out, pg_error *err)
{
    char base[4096], json[4096 + 16];
    int n = snprintf(base, sizeof base, "%s%s", path, path[0] && path[strlen(path) - 1] == '/' ? "" : "/");
    if (n < 0 || (size_t)n >= sizeof base) return pg_fail(err, PG_EINVAL, "%s: the path is too long", path);
    snprintf(json, sizeof json, "%stokenizer.json", base);
    folder f = { .path = base, .n = (size_t)n };
    return open_json(&f, json, out, err);
}

static int is_gguf(const char *path, pg_error *err)
{
    char magic[4];
    FILE *file = fopen(path, "rb");
    if (!file) return system_error(path, errno, err);
    size_t n = fread(magic, 1, sizeof magic, file);
    fclose(file);
    return n == sizeof magic && memcmp(magic, "GGUF", 4) == 0;
}

int pg_tokenizer_open(const char *path, pg_tokenizer **out, pg_error *err)
{
    pg_error own;
    struct stat st;
    if (!err) err = &own;
    if (!path || !out) return pg_fail(err, PG_EINVAL, "pg_tokenizer_open: a path is needed");
    if (stat(path, &st) < 0) return system_error(path, errno, err);
    if (S_ISDIR(st.st_mode)) return open_folder(path, out, err);
    if (!S_ISREG(st.st_mode)) return pg_fail(err, PG_EFORMAT, "%s: expected a file or a folder", path);
    int rc = is_gguf(path, err);
    if (rc != 0) return rc < 0 ? rc : open_gguf(path, out, err);
    /* Under its usual name the file has its companions beside it; under any other it stands alone. */
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    bool usual = strcmp(name, "tokenizer.json") == 0;
    folder f = { .path = slash ? path : "./", .n = !usual ? 0 : slash ? (size_t)(slash - path) + 1 : 2 };
    return open_json(&f, path, out, err);
}
