/* GGUF models, in one file or in several parts.
 *
 * Lives here: finding the other parts of a model by name, and checking that they are parts of the same one.
 * Not here: the container itself (gguf.c).
 * Why so: only the first part carries the model's keys, so whichever part was named, the first is opened first.
 * Source: naming and split.* keys of llama.cpp's gguf-split. */
#include "reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUFFIX = 20 }; /* bytes of "-00001-of-00003.gguf" */

/* What a part says about itself. */
typedef struct part {
    int64_t no, count, tensors; /* count 0: not a part; tensors -1: not told */
} part;

static int five_digits(const char *s, int64_t *out)
{
    *out = 0;
    for (int i = 0; i < 5; i++) {
        if (s[i] < '0' || s[i] > '9') return 0;
        *out = 10 * *out + (s[i] - '0');
    }
    return 1;
}

/* Whether the path ends like a part's; index counts from 1 as in the name. */
static int parse_name(const char *path, int64_t *index, int64_t *count)
{
    size_t n = strlen(path);
    const char *s = path + n - SUFFIX;
    return n > SUFFIX && s[0] == '-' && five_digits(s + 1, index) && memcmp(s + 6, "-of-", 4) == 0 &&
           five_digits(s + 10, count) && strcmp(s + 15, ".gguf") == 0;
}

/* The path of another part; malloc'd, NULL: no memory. */
static char *sibling(const char *path, int64_t index, int64_t count)
{
    size_t n = strlen(path) - SUFFIX;
    char *other = malloc(n + SUFFIX + 32);
    if (!other) return NULL;
    memcpy(other, path, n);
    snprintf(other + n, SUFFIX + 32, "-%05d-of-%05d.gguf", (int)index, (int)count);
    return other;
}

/* The split keys as they are in `keys`, with messages that name the file they came from. */
static int read_split(pg_source *keys, const pg_file *file, part *out, pg_error *err)
{
    keys->label = file->label;
    *out = (part){ .tensors = -1 };
    int rc = pg_source_int(keys, "split.count", 0, 99999, &out->count, err);
    if (rc < 0 || out->count <= 1) return rc < 0 ? rc : PG_OK;
    rc = pg_source_int(keys, "split.no", 0, out->count - 1, &out->no, err);
    if (rc == 0) return pg_fail(err, PG_EFORMAT, "%s: key 'split.no' is missing", file->label);
    if (rc > 0) rc = pg_source_int(keys, "split.tensors.count", 0, INT32_MAX, &out->tensors, err);
    if (rc < 0) return rc;
    int64_t index = 0, count = 0;
    if (!parse_name(file->path, &index, &count) || index != out->no + 1 || count != out->count)
        return pg_fail(err, PG_EFORMAT,
                       "%s: keys 'split.no' and 'split.count' say part %lld of %lld, so its name must end in "
                       "-%05lld-of-%05lld.gguf",
                       file->label, (long long)out->no + 1, (long long)out->count, (long long)out->no + 1,
                       (long long)out->count);
    return PG_OK;
}

static int open_first(pg_source *s, const char *path, part *out, pg_error *err)
{
    pg_file *file = NULL;
    int rc = pg_source_set_path(s, path, err);
    if (rc == PG_OK) rc = pg_file_open(s, strdup(path), &file, err);
    if (rc == PG_OK) rc = pg_gguf_read(s, s, file, err);
    return rc == PG_OK ? read_split(s, file, out, err) : rc;
}

/* Tensors of part `index` into s; its keys are looked at and forgotten. */
static int open_further(pg_source *s, int64_t index, const part *first, pg_error *err)
{
    pg_file *file = NULL;
    part here;
    pg_source keys = { .key_index.seed = s->key_index.seed, .label = "" };
    int rc = pg_file_open(s, sibling(s->path, index, first->count), &file, err);
    if (rc == PG_ENOTFOUND)
        return pg_fail_at(err, PG_ENOTFOUND, "part %lld of %lld is missing", (long long)index, (long long)first->count);
    if (rc == PG_OK) rc = pg_gguf_read(s, &keys, file, err);
    if (rc == PG_OK) rc = read_split(&keys, file, &here, err);
    if (rc == PG_OK && (here.no != index - 1 || here.count != first->count))
        rc = pg_fail(err, PG_EFORMAT, "%s: keys 'split.no' and 'split.count' must say part %lld of %lld", file->label,
                     (long long)index, (long long)first->count);
    pg_source_reset(&keys);
    return rc;
}

int pg_gguf_open(pg_source *s, const char *path, pg_error *err)
{
    part first;
    int rc = open_first(s, path, &first, err);
    if (rc == PG_OK && first.no > 0) {
        int64_t count = first.count;
        char *other = sibling(path, 1, first.count);
        pg_source_reset(s);
        rc = other ? open_first(s, other, &first, err)
                   : pg_fail(err, PG_EMEMORY, "%s: not enough memory to open it", pg_label(path));
        free(other);
        if (rc == PG_ENOTFOUND) pg_fail_at(err, rc, "the first part of the model is missing");
        if (rc == PG_OK && first.count != count)
            rc = pg_fail(err, PG_EFORMAT, "%s: key 'split.count' must be %lld as in its other parts", s->label,
                         (long long)count);
    }
    for (int64_t i = 2; rc == PG_OK && i <= first.count; i++) rc = open_further(s, i, &first, err);
    if (rc == PG_OK && first.tensors >= 0 && first.count > 1 && first.tensors != s->n_tensor)
        return pg_fail(err, PG_EFORMAT, "%s: key 'split.tensors.count' is %lld, but the parts hold %d tensors",
                       s->label, (long long)first.tensors, s->n_tensor);
    return rc;
}
