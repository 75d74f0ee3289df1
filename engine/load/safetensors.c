/* safetensors: one file of tensors.
 *
 * Lives here: the container: its header, dtypes, ranges. Not here: folders, shards and config.json (folder.c).
 * Why so: the ranges of all tensors must tile the buffer exactly, which leaves no room for overlaps or hidden bytes.
 * Source: format section of the safetensors README (Hugging Face). */
#include "reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER = 100 << 20, MAX_DEPTH = 8 };

typedef struct range {
    uint64_t begin, end;
    const char *name;
} range;

typedef struct reader {
    pg_source *s;
    pg_file *file;
    const uint8_t *buffer;
    size_t n; /* of the buffer */
    range *range;
    size_t n_range;
    pg_error *err;
} reader;

static pg_dtype dtype_of(const char *name)
{
    static const struct {
        const char *name;
        pg_dtype dtype;
    } table[] = {
        { "F32", PG_F32 },      { "F16", PG_F16 }, { "BF16", PG_BF16 }, { "F8_E4M3", PG_FP8 },
        { "F64", PG_F64 },      { "I8", PG_I8 },   { "U8", PG_U8 },     { "BOOL", PG_U8 },
        { "F8_E8M0", PG_E8M0 }, { "I16", PG_I16 }, { "I32", PG_I32 },   { "I64", PG_I64 },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0) return table[i].dtype;
    return PG_DTYPE_NONE;
}

static int too_deep(const json_t *value, int depth)
{
    if (!json_is_object(value) && !json_is_array(value)) return 0;
    if (depth == 0) return 1;
    const char *key;
    json_t *member;
    size_t i;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        if (too_deep(member, depth - 1)) return 1;
    }
    json_array_foreach(value, i, member)
    {
        if (too_deep(member, depth - 1)) return 1;
    }
    return 0;
}

/* Array `key` of whole numbers >= 0 into out[max]; how many there are, which may be more than max. */
static int read_numbers(const json_t *info, const char *key, uint64_t *out, int max, const char *what, pg_error *err)
{
    json_t *list = NULL;
    int rc = pg_json_get(info, key, JSON_ARRAY, what, &list, err);
    if (rc < 0) return rc;
    if (rc == 0) return pg_fail(err, PG_EFORMAT, "%s: '%s' is missing", what, key);
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return pg_fail(err, PG_EFORMAT, "%s: '%s' must hold whole numbers of at least 0", what, key);
        if (i < (size_t)max) out[i] = (uint64_t)json_integer_value(v);
    }
    return n < INT32_MAX ? (int)n : INT32_MAX;
}

static int read_dtype(const json_t *info, const char *what, pg_dtype *out, pg_error *err)
{
    json_t *dtype = NULL;
    int rc = pg_json_get(info, "dtype", JSON_STRING, what, &dtype, err);
    if (rc < 0) return rc;
    if (rc == 0) return pg_fail(err, PG_EFORMAT, "%s: 'dtype' is missing", what);
    *out = dtype_of(json_string_value(dtype));
    if (*out == PG_DTYPE_NONE)
        return pg_fail(err, PG_EUNSUPPORTED, "%s: its dtype '%.40s' is not supported", what, json_string_value(dtype));
    return PG_OK;
}

/* The shape, turned round: PyTorch names the contiguous dimension last. */
static int read_shape(const json_t *info, const char *what, pg_dtype dtype, pg_tensor *view, size_t *bytes,
                      pg_error *err)
{
    uint64_t dim[4] = { 1 }, storage[4] = { 1 };
    int n = read_numbers(info, "shape", dim, 4, what, err);
    if (n < 0) return n;
    if (n > 4) return pg_fail(err, PG_EUNSUPPORTED, "%s: has %d dimensions, expected at most 4", what, n);
    for (int i = 0; i < n; i++) storage[i] = dim[n - 1 - i];
    return pg_shape_check(view, dtype, 0, storage, n > 0 ? n : 1, bytes, what, err);
}

static int read_tensor(reader *r, const char *key, const json_t *info)
{
    char what[360];
    snprintf(what, sizeof what, "%s: tensor '%.100s'", r->file->label, key);
    pg_tensor view;
    pg_dtype dtype;
    size_t bytes = 0;
    uint64_t at[2] = { 0 };
    int rc = read_dtype(info, what, &dtype, r->err);
    if (rc == PG_OK) rc = read_shape(info, what, dtype, &view, &bytes, r->err);
    if (rc < 0) return rc;
    int n = read_numbers(info, "data_offsets", at, 2, what, r->err);
    if (n < 0) return n;
    if (n != 2 || at[0] > at[1])
        return pg_fail(r->err, PG_EFORMAT, "%s: 'data_offsets' must be [begin, end] with begin <= end", what);
    if (at[1] > r->n)
        return pg_fail(r->err, PG_EFORMAT, "%s: ends at byte %llu of the data, but there are only %zu: truncated?",
                       what, (unsigned long long)at[1], r->n);
    if (at[1] - at[0] != bytes)
        return pg_fail(r->err, PG_EFORMAT, "%s: has %llu bytes, expected %zu for its shape and dtype", what,
                       (unsigned long long)(at[1] - at[0]), bytes);
    view.data = r->buffer + at[0];
    size_t len = strlen(key);
    char *name = pg_source_keep(r->s, len + 1);
    if (!name) return pg_fail(r->err, PG_EMEMORY, "%s: not enough memory for its tensors", r->file->label);
    memcpy(name, key, len + 1);
    r->range[r->n_range++] = (range){ at[0], at[1], name };
    return pg_source_add_tensor(r->s, r->file, (pg_text){ name, len }, &view, r->err);
}

static int check_metadata(const reader *r, const json_t *metadata)
{
    const char *key;
    json_t *value;
    int ok = json_is_object(metadata);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
    {
        ok = ok && json_is_string(value);
    }
    return ok ? PG_OK : pg_fail(r->err, PG_EFORMAT, "%s: '__metadata__' must be an object of strings", r->file->label);
}

static int by_begin(const void *a, const void *b)
{
    const range *x = a, *y = b;
    return x->begin != y->begin ? (x->begin < y->begin ? -1 : 1) : (x->end > y->end) - (x->end < y->end);
}

/* Every byte of the buffer belongs to exactly one tensor. */
static int check_tiling(const reader *r)
{
    uint64_t end = 0;
    qsort(r->range, r->n_range, sizeof *r->range, by_begin);
    for (size_t i = 0; i < r->n_range; i++) {
        const range *x = &r->range[i];
        if (x->begin != end)
            return pg_fail(r->err, PG_EFORMAT, "%s: tensor '%.100s' begins at byte %llu of the data, expected %llu: %s",
                           r->file->label, x->name, (unsigned long long)x->begin, (unsigned long long)end,
                           x->begin < end ? "tensors overlap" : "there is a hole before it");
        end = x->end;
    }
    if (end != r->n)
        return pg_fail(r->err, PG_EFORMAT, "%s: the tensors end at byte %llu of the data, but it has %zu",
                       r->file->label, (unsigned long long)end, r->n);
    return PG_OK;
}

static int read_header(reader *r, const json_t *root)
{
    if (!json_is_object(root))
        return pg_fail(r->err, PG_EFORMAT, "%s: its header must be a JSON object", r->file->label);
    if (too_deep(root, MAX_DEPTH))
        return pg_fail(r->err, PG_EFORMAT, "%s: its header is nested deeper than %d", r->file->label, MAX_DEPTH);
    r->range = malloc(sizeof *r->range * (json_object_size(root) + 1));
    if (!r->range) return pg_fail(r->err, PG_EMEMORY, "%s: not enough memory for its tensors", r->file->label);
    const char *key;
    json_t *value;
    int rc = PG_OK;
    json_object_foreach((json_t *)(uintptr_t)root, key, value)
    {
        rc = strcmp(key, "__metadata__") == 0 ? check_metadata(r, value) : read_tensor(r, key, value);
        if (rc < 0) break;
    }
    if (rc == PG_OK) rc = check_tiling(r);
    free(r->range);
    return rc;
}

int pg_safetensors_read(pg_source *s, pg_file *file, pg_error *err)
{
    uint64_t n = 0;
    int code = PG_EFORMAT;
    if (file->size < 8) {
        const char *guess = pg_file_guess(file, &code);
        return pg_fail(err, code, "%s: not a safetensors file: %zu bytes%s", file->label, file->size, guess);
    }
    for (int i = 0; i < 8; i++) n |= (uint64_t)file->data[i] << 8 * i;
    if (n > file->size - 8 || n > MAX_HEADER) {
        const char *guess = pg_file_guess(file, &code);
        return pg_fail(err, code, "%s: not a safetensors file: a header of %llu bytes is more than %s%s", file->label,
                       (unsigned long long)n, n > MAX_HEADER ? "the limit of 100 MiB" : "the file has", guess);
    }
    json_t *root = pg_json_parse((const char *)file->data + 8, (size_t)n, file->label, err);
    if (!root) return err ? err->code : PG_EFORMAT;
    const size_t begin = 8 + (size_t)n;
    reader r = { .s = s, .file = file, .buffer = file->data + begin, .n = file->size - begin, .err = err };
    int rc = read_header(&r, root);
    json_decref(root);
    return rc;
}
