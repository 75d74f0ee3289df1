/* GGUF, versions 2 and 3: one file.
 *
 * Lives here: the container's layout and every check that needs no knowledge of models.
 * Not here: what keys and tensors mean (arch/, token/), models in several files (parts.c).
 * Why so: all reads go through one cursor that compares with what is left, never with a sum; counts are bounded by the
 * bytes that could hold them before anything is allocated; after open no offset in a value is trusted again.
 * Source: the GGUF specification (ggml, docs/gguf.md). */
#include "reader.h"

#include <stdio.h>
#include <string.h>

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, N_KIND };

/* Bytes of a value; of a string its length field, the least it can be. */
static const size_t width[N_KIND] = { 1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8 };

enum { HEADER = 24, MAX_COUNT = 1 << 30, MAX_STRING = 1 << 30, MAX_KEY = 65535, MAX_NAME = 63 };

static uint64_t little(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* ---- values ---- */

pg_text pg_gguf_string(const uint8_t **p)
{
    pg_text text = { (const char *)*p + 8, (size_t)little(*p, 8) };
    *p += 8 + text.n;
    return text;
}

static void whole(pg_item *out, int64_t v)
{
    out->type = PG_KEY_INT;
    out->i = v;
    out->f = (double)v;
}

static void number(int kind, const uint8_t *p, pg_item *out)
{
    uint64_t raw = little(p, width[kind]);
    switch (kind) {
    case I8: whole(out, (int8_t)raw); break;
    case I16: whole(out, (int16_t)raw); break;
    case I32: whole(out, (int32_t)raw); break;
    case BOOL:
        out->type = PG_KEY_BOOL;
        out->i = (int64_t)raw;
        break;
    case F32:
        out->type = PG_KEY_FLOAT;
        out->f = pg_f32_from_bits((uint32_t)raw);
        break;
    case F64:
        out->type = PG_KEY_FLOAT;
        memcpy(&out->f, &raw, sizeof out->f);
        break;
    default:
        whole(out, (int64_t)raw);
        out->huge = kind == U64 && raw > INT64_MAX;
        if (out->huge) out->f = (double)raw;
    }
}

void pg_gguf_item(const pg_key *key, int64_t i, pg_item *out)
{
    *out = (pg_item){ .type = PG_KEY_NONE };
    if (key->kind != STRING) {
        number(key->kind, key->data + width[key->kind] * (size_t)(i < 0 ? 0 : i), out);
        return;
    }
    out->type = PG_KEY_STRING;
    out->text = (pg_text){ (const char *)key->data, (size_t)key->count };
    if (i < 0) return;
    const uint8_t *p = key->data + key->marks[i / PG_MARK];
    for (int64_t k = i - i % PG_MARK; k <= i; k++) out->text = pg_gguf_string(&p);
}

pg_text pg_gguf_stored(const pg_key *key)
{
    const uint8_t *begin = (const uint8_t *)key->name.data - 8, *end = key->data;
    if (key->kind != STRING)
        end += width[key->kind] * (size_t)(key->type == PG_KEY_ARRAY ? key->count : 1);
    else if (key->type == PG_KEY_STRING)
        end += key->count;
    else
        for (int64_t i = 0; i < key->count; i++) (void)pg_gguf_string(&end);
    return (pg_text){ (const char *)begin, (size_t)(end - begin) };
}

/* ---- cursor ---- */

typedef struct reader {
    const pg_file *file;
    size_t pos;
    char what[240]; /* "key 'x'", "tensor 'x'": for messages */
    pg_error *err;
} reader;

static size_t left(const reader *r)
{
    return r->file->size - r->pos;
}

#define REFUSE(r, code, ...) refuse_at(r, pg_fail((r)->err, code, __VA_ARGS__))

static int refuse_at(const reader *r, int code)
{
    return pg_fail_at(r->err, code, "%s: %s", r->file->label, r->what);
}

/* The next n bytes, or NULL with a message. */
static const uint8_t *take(reader *r, uint64_t n)
{
    if (n > left(r)) {
        REFUSE(r, PG_EFORMAT, "the file ends here: %llu bytes expected, %zu left", (unsigned long long)n, left(r));
        return NULL;
    }
    const uint8_t *p = r->file->data + r->pos;
    r->pos += (size_t)n;
    return p;
}

static int take_int(reader *r, size_t n, uint64_t *out)
{
    const uint8_t *p = take(r, n);
    if (!p) return PG_EFORMAT;
    *out = little(p, n);
    return PG_OK;
}

static int take_string(reader *r, uint64_t max, pg_text *out)
{
    uint64_t n = 0;
    if (take_int(r, 8, &n) < 0) return PG_EFORMAT;
    if (n > max)
        return REFUSE(r, PG_EFORMAT, "a string of %llu bytes, expected at most %llu", (unsigned long long)n,
                      (unsigned long long)max);
    const uint8_t *p = take(r, n);
    if (!p) return PG_EFORMAT;
    *out = (pg_text){ (const char *)p, (size_t)n };
    return PG_OK;
}

/* ---- header and keys ---- */

typedef struct counts {
    uint64_t tensors, keys;
} counts;

static int read_header(reader *r, counts *n)
{
    const pg_file *file = r->file;
    if (file->size < 4 || memcmp(file->data, "GGUF", 4) != 0) {
        int code = PG_EFORMAT;
        const char *guess = pg_file_guess(file, &code);
        return pg_fail(r->err, code, "%s: not a GGUF file%s", file->label, guess);
    }
    snprintf(r->what, sizeof r->what, "header");
    uint64_t version = 0;
    r->pos = 4;
    if (take_int(r, 4, &version) < 0 || take_int(r, 8, &n->tensors) < 0 || take_int(r, 8, &n->keys) < 0)
        return PG_EFORMAT;
    if (version != 0 && (version & 0xffff) == 0)
        return REFUSE(r, PG_EUNSUPPORTED, "the file is big-endian; expected little-endian, version 2 or 3");
    if (version != 2 && version != 3)
        return REFUSE(r, version ? PG_EUNSUPPORTED : PG_EFORMAT, "version %llu, expected 2 or 3",
                      (unsigned long long)version);
    size_t rest = file->size - HEADER;
    if (n->tensors > INT32_MAX || n->tensors > rest / 25)
        return REFUSE(r, PG_EFORMAT, "n_tensors is %llu, more than the file could hold",
                      (unsigned long long)n->tensors);
    if (n->keys > INT32_MAX || n->keys > rest / 13)
        return REFUSE(r, PG_EFORMAT, "n_kv is %llu, more than the file could hold", (unsigned long long)n->keys);
    return PG_OK;
}

static int read_strings(reader *r, pg_source *s, pg_key *key)
{
    uint64_t *marks = pg_source_keep(s, sizeof *marks * (size_t)((key->count + PG_MARK - 1) / PG_MARK + 1));
    if (!marks) return REFUSE(r, PG_EMEMORY, "not enough memory for %lld strings", (long long)key->count);
    key->marks = marks;
    for (int64_t i = 0; i < key->count; i++) {
        if (i % PG_MARK == 0) marks[i / PG_MARK] = r->pos - (size_t)(key->data - r->file->data);
        pg_text text;
        if (take_string(r, MAX_STRING, &text) < 0) return PG_EFORMAT;
    }
    return PG_OK;
}

static int check_bools(reader *r, const uint8_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (p[i] > 1) return REFUSE(r, PG_EFORMAT, "the bool is stored as %d, expected 0 or 1", p[i]);
    return PG_OK;
}

static int read_array(reader *r, pg_source *s, pg_key *key)
{
    uint64_t kind = 0, count = 0;
    if (take_int(r, 4, &kind) < 0 || take_int(r, 8, &count) < 0) return PG_EFORMAT;
    if (kind == ARRAY) return REFUSE(r, PG_EUNSUPPORTED, "an array of arrays; expected plain elements");
    if (kind >= N_KIND)
        return REFUSE(r, PG_EFORMAT, "unknown element type %llu, expected 0 to 12", (unsigned long long)kind);
    if (count > MAX_COUNT || count > left(r) / width[kind])
        return REFUSE(r, PG_EFORMAT, "an array of %llu elements, more than the file could hold",
                      (unsigned long long)count);
    key->type = PG_KEY_ARRAY;
    key->kind = (int)kind;
    key->count = (int64_t)count;
    key->data = r->file->data + r->pos;
    if (kind == STRING) return read_strings(r, s, key);
    const uint8_t *p = take(r, count * width[kind]);
    if (!p) return PG_EFORMAT;
    return kind == BOOL ? check_bools(r, p, key->count) : PG_OK;
}

static int read_value(reader *r, pg_source *s, pg_key *key)
{
    uint64_t kind = 0;
    if (take_int(r, 4, &kind) < 0) return PG_EFORMAT;
    if (kind >= N_KIND)
        return REFUSE(r, PG_EFORMAT, "unknown value type %llu, expected 0 to 12", (unsigned long long)kind);
    if (kind == ARRAY) return read_array(r, s, key);
    key->kind = (int)kind;
    if (kind == STRING) {
        pg_text text;
        if (take_string(r, MAX_STRING, &text) < 0) return PG_EFORMAT;
        key->type = PG_KEY_STRING;
        key->data = (const uint8_t *)text.data;
        key->count = (int64_t)text.n;
        return PG_OK;
    }
    key->data = take(r, width[kind]);
    if (!key->data) return PG_EFORMAT;
    key->type = kind == F32 || kind == F64 ? PG_KEY_FLOAT : kind == BOOL ? PG_KEY_BOOL : PG_KEY_INT;
    return kind == BOOL ? check_bools(r, key->data, 1) : PG_OK;
}

static int read_keys(reader *r, pg_source *s, uint64_t n)
{
    for (uint64_t k = 0; k < n; k++) {
        pg_key key = { 0 };
        snprintf(r->what, sizeof r->what, "key number %llu", (unsigned long long)k);
        if (take_string(r, MAX_KEY, &key.name) < 0) return PG_EFORMAT;
        if (key.name.n == 0) return REFUSE(r, PG_EFORMAT, "its name is empty");
        snprintf(r->what, sizeof r->what, "key '%.*s'", PG_CLIP(key.name));
        for (size_t i = 0; i < key.name.n; i++)
            if (key.name.data[i] < 0x20 || key.name.data[i] > 0x7e)
                return REFUSE(r, PG_EFORMAT, "its name must be printable ASCII");
        int rc = read_value(r, s, &key);
        if (rc == PG_OK) rc = pg_source_add_key(s, r->file, &key, r->err);
        if (rc < 0) return rc;
    }
    return PG_OK;
}

static int read_alignment(const pg_source *keys, reader *r, size_t *out)
{
    *out = 32;
    int i = pg_source_key_index(keys, "general.alignment");
    if (i < 0) return PG_OK;
    snprintf(r->what, sizeof r->what, "key 'general.alignment'");
    if (keys->key[i].type != PG_KEY_INT || keys->key[i].kind != U32)
        return REFUSE(r, PG_EFORMAT, "must be stored as a u32");
    uint64_t v = little(keys->key[i].data, 4);
    if (v < 8 || v > 1 << 20 || (v & (v - 1)) != 0)
        return REFUSE(r, PG_EFORMAT, "%llu, expected a power of two from 8 to 1048576", (unsigned long long)v);
    *out = (size_t)v;
    return PG_OK;
}

/* Whether tensors may be packed: *out 1 when a key says so. In a model of several parts it is the first that does. */
static int read_packing(const pg_source *keys, const pg_source *s, reader *r, int *out)
{
    int i = pg_source_key_index(keys, PG_PACK_KEY);
    if (i < 0 && (i = pg_source_key_index(keys = s, PG_PACK_KEY)) < 0) return PG_OK;
    snprintf(r->what, sizeof r->what, "key '" PG_PACK_KEY "'");
    if (keys->key[i].type != PG_KEY_INT || keys->key[i].kind != U32)
        return REFUSE(r, PG_EFORMAT, "must be stored as a u32");
    const uint64_t v = little(keys->key[i].data, 4);
    if (v != PG_PACK_VERSION)
        return REFUSE(r, PG_EUNSUPPORTED,
                      "%llu, expected %d: made by another version of perigee; make it again with perigee quantize "
                      "--pack",
                      (unsigned long long)v, PG_PACK_VERSION);
    *out = 1;
    return PG_OK;
}

/* ---- tensors ---- */

/* What the keys say about the tensors of a file. */
typedef struct layout {
    size_t align;
    int packed; /* some may be */
} layout;

static const char *type_name(uint64_t id)
{
    static const char *const name[] = {
        [0] = "F32",     [1] = "F16",    [2] = "Q4_0",     [3] = "Q4_1",    [6] = "Q5_0",     [7] = "Q5_1",
        [8] = "Q8_0",    [9] = "Q8_1",   [10] = "Q2_K",    [11] = "Q3_K",   [12] = "Q4_K",    [13] = "Q5_K",
        [14] = "Q6_K",   [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S",
        [20] = "IQ4_NL", [21] = "IQ3_S", [22] = "IQ2_S",   [23] = "IQ4_XS", [24] = "I8",      [25] = "I16",
        [26] = "I32",    [27] = "I64",   [28] = "F64",     [29] = "IQ1_M",  [30] = "BF16",    [34] = "TQ1_0",
        [35] = "TQ2_0",  [39] = "MXFP4",
    };
    return id < sizeof name / sizeof *name ? name[id] : NULL;
}

/* A type id that is one of ours. */
static int check_packed(reader *r, const layout *l, uint64_t id, pg_dtype dtype)
{
    const uint64_t of = id - PG_PACK_TYPE;
    if (dtype == PG_DTYPE_NONE || !pg_dtype_is_quant(dtype))
        return REFUSE(r, PG_EUNSUPPORTED, "its type %llu is packed %s (%llu), which no version of perigee writes",
                      (unsigned long long)id, type_name(of) ? type_name(of) : "weights", (unsigned long long)of);
    if (!l->packed)
        return REFUSE(r, PG_EFORMAT,
                      "its type %llu is packed %s, but the key '" PG_PACK_KEY "' is missing: make the file again with "
                      "perigee quantize --pack",
                      (unsigned long long)id, type_name(of));
    if (l->align < PG_PACK_ALIGN)
        return REFUSE(r, PG_EFORMAT, "is packed, and the key 'general.alignment' is %zu, expected at least %d",
                      l->align, PG_PACK_ALIGN);
    return PG_OK;
}

static int read_type(reader *r, const layout *l, pg_dtype *out, int *packed)
{
    uint64_t id = 0;
    if (take_int(r, 4, &id) < 0) return PG_EFORMAT;
    *packed = id >> 16 == PG_PACK_TYPE >> 16;
    *out = pg_dtype_from_gguf((uint32_t)(*packed ? id - PG_PACK_TYPE : id));
    if (*packed) return check_packed(r, l, id, *out);
    if (*out != PG_DTYPE_NONE) return PG_OK;
    if (type_name(id))
        return REFUSE(r, PG_EUNSUPPORTED, "its type %s (%llu) is not supported; use a file in another quantisation",
                      type_name(id), (unsigned long long)id);
    return REFUSE(r, PG_EUNSUPPORTED, "its type %llu is %s", (unsigned long long)id,
                  id < 40 ? "one that GGUF no longer has" : "unknown");
}

static int read_name(reader *r, uint64_t k, pg_text *name)
{
    snprintf(r->what, sizeof r->what, "name of tensor number %llu", (unsigned long long)k);
    if (take_string(r, MAX_NAME, name) < 0) return PG_EFORMAT;
    if (name->n == 0) return REFUSE(r, PG_EFORMAT, "it is empty");
    if (memchr(name->data, 0, name->n)) return REFUSE(r, PG_EFORMAT, "'%.*s' holds a NUL", PG_CLIP(*name));
    snprintf(r->what, sizeof r->what, "tensor '%.*s'", PG_CLIP(*name));
    return PG_OK;
}

/* One tensor info. *sum is where its payload must begin, then where the next one must. */
static int read_tensor(reader *r, pg_source *s, uint64_t k, const layout *l, size_t *sum, pg_file *file)
{
    pg_text name;
    pg_tensor view;
    pg_dtype dtype;
    int packed = 0;
    const size_t align = l->align;
    uint64_t n_dims = 0, dim[4] = { 0 }, offset = 0;
    size_t bytes = 0;
    char what[sizeof r->what + 208];
    if (read_name(r, k, &name) < 0 || take_int(r, 4, &n_dims) < 0) return PG_EFORMAT;
    if (n_dims < 1 || n_dims > 4)
        return REFUSE(r, PG_EFORMAT, "n_dims is %llu, expected 1 to 4", (unsigned long long)n_dims);
    for (uint64_t i = 0; i < n_dims; i++)
        if (take_int(r, 8, &dim[i]) < 0) return PG_EFORMAT;
    int rc = read_type(r, l, &dtype, &packed);
    if (rc < 0) return rc;
    if (take_int(r, 8, &offset) < 0) return PG_EFORMAT;
    snprintf(what, sizeof what, "%s: %s", file->label, r->what);
    rc = pg_shape_check(&view, dtype, packed, dim, (int)n_dims, &bytes, what, r->err);
    if (rc < 0) return rc;
    if (offset % align != 0)
        return REFUSE(r, PG_EFORMAT, "offset %llu is not a multiple of the alignment %zu", (unsigned long long)offset,
                      align);
    if (offset != *sum)
        return REFUSE(r, PG_EFORMAT,
                      "offset %llu, expected %zu: payloads must follow each other without gap or overlap",
                      (unsigned long long)offset, *sum);
    size_t end = 0;
    if (__builtin_add_overflow(*sum, bytes, &end) || end > PTRDIFF_MAX - (align - 1))
        return REFUSE(r, PG_EFORMAT, "payloads of more bytes than can be addressed");
    *sum = (end + align - 1) / align * align;
    return pg_source_add_tensor(s, file, name, &view, r->err);
}

/* Point the tensors from `first` on at their payloads, which follow the infos. */
static int place(reader *r, pg_source *s, int first, size_t align)
{
    if (first == s->n_tensor) return PG_OK; /* a vocabulary may end without the padding */
    size_t pad = (align - r->pos % align) % align, offset = 0;
    snprintf(r->what, sizeof r->what, "padding before the tensors");
    if (!take(r, pad)) return PG_EFORMAT;
    for (int i = first; i < s->n_tensor; i++) {
        pg_tensor *view = &s->tensor[i].view;
        size_t bytes = (size_t)(view->stride[3] * view->shape[3]);
        snprintf(r->what, sizeof r->what, "tensor '%.*s'", PG_CLIP(s->tensor[i].name));
        if (offset > left(r) || bytes > left(r) - offset)
            return REFUSE(r, PG_EFORMAT, "the file is truncated: %zu bytes at %zu expected, but it has %zu in all",
                          bytes, r->pos + offset, r->file->size);
        view->data = r->file->data + r->pos + offset;
        offset = (offset + bytes + align - 1) / align * align;
    }
    return PG_OK;
}

int pg_gguf_read(pg_source *s, pg_source *keys, pg_file *file, pg_error *err)
{
    reader r = { .file = file, .err = err };
    counts n = { 0 };
    layout l = { 0 };
    size_t sum = 0;
    int first = s->n_tensor, rc = read_header(&r, &n);
    if (rc == PG_OK) rc = read_keys(&r, keys, n.keys);
    if (rc == PG_OK) rc = read_alignment(keys, &r, &l.align);
    if (rc == PG_OK) rc = read_packing(keys, s, &r, &l.packed);
    for (uint64_t k = 0; rc == PG_OK && k < n.tensors; k++) rc = read_tensor(&r, s, k, &l, &sum, file);
    return rc == PG_OK ? place(&r, s, first, l.align) : rc;
}
