/* Valid models taken apart, so that a test can put them together again with one thing changed (a GGUF file as spans of
 * its bytes, a Hugging Face folder as a copy), and what the engine is expected to say about the result. Not here:
 * writing GGUF fields (gguf_write.h). The files taken apart are golden ones and trusted. */
#ifndef PG_MODEL_EDIT_H
#define PG_MODEL_EDIT_H

#include "golden.h"
#include "gguf_write.h"

/* A whole file; exits the program when it cannot be read. */
static inline bytes read_whole(const char *path)
{
    bytes b = { 0 };
    char part[65536];
    FILE *f = fopen(path, "rb");
    if (!f) perror(path), exit(1);
    for (size_t n; (n = fread(part, 1, sizeof part, f)) > 0;) put(&b, part, n);
    fclose(f);
    return b;
}

/* ---- GGUF ---- */

typedef struct gguf_span {
    char name[96];
    size_t from, value, to; /* the whole entry, what follows the name (of a key: its type), the end */
    uint32_t type;          /* of a key's value, or of a tensor's elements */
    size_t data, n_data;    /* a tensor's payload with its padding */
} gguf_span;

typedef struct gguf_parts {
    bytes file;
    gguf_span key[128], tensor[128];
    size_t n_key, n_tensor, meta; /* meta: bytes before the padding in front of the payload */
} gguf_parts;

static inline uint64_t get_int(const bytes *b, size_t at, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)b->data[at + i] << 8 * i;
    return v;
}

static inline size_t skip_name(const bytes *b, size_t at, char name[96])
{
    const size_t n = (size_t)get_int(b, at, 8);
    snprintf(name, 96, "%.*s", (int)n, (const char *)b->data + at + 8);
    return at + 8 + n;
}

static inline size_t skip_value(const bytes *b, size_t at, uint32_t type)
{
    static const size_t width[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    if (type == G_STRING) return at + 8 + (size_t)get_int(b, at, 8);
    if (type != G_ARRAY) return at + width[type];
    const uint32_t of = (uint32_t)get_int(b, at, 4);
    uint64_t n = get_int(b, at + 4, 8);
    for (at += 12; n > 0; n--) at = skip_value(b, at, of);
    return at;
}

static inline gguf_parts *gguf_open(const char *path)
{
    gguf_parts *p = calloc(1, sizeof *p);
    if (!p) abort();
    p->file = read_whole(path);
    const bytes *b = &p->file;
    p->n_tensor = (size_t)get_int(b, 8, 8);
    p->n_key = (size_t)get_int(b, 16, 8);
    size_t at = 24;
    if (p->n_key > 128 || p->n_tensor > 128) abort();
    for (size_t i = 0; i < p->n_key; i++) {
        gguf_span *k = &p->key[i];
        k->from = at;
        k->value = skip_name(b, at, k->name);
        k->type = (uint32_t)get_int(b, k->value, 4);
        k->to = at = skip_value(b, k->value + 4, k->type);
    }
    for (size_t i = 0; i < p->n_tensor; i++) {
        gguf_span *t = &p->tensor[i];
        t->from = at;
        t->value = skip_name(b, at, t->name);
        t->to = at = t->value + 4 + 8 * (size_t)get_int(b, t->value, 4) + 12;
        t->type = (uint32_t)get_int(b, at - 12, 4);
        t->data = (size_t)get_int(b, at - 8, 8);
    }
    p->meta = at;
    size_t align = 32;
    for (size_t i = 0; i < p->n_key; i++)
        if (!strcmp(p->key[i].name, "general.alignment")) align = (size_t)get_int(b, p->key[i].value + 4, 4);
    const size_t start = (at + align - 1) / align * align;
    for (size_t i = 0; i < p->n_tensor; i++) {
        gguf_span *t = &p->tensor[i];
        t->data += start;
        t->n_data = (i + 1 < p->n_tensor ? p->tensor[i + 1].data + start : b->n) - t->data;
    }
    return p;
}

static inline void gguf_close(gguf_parts *p)
{
    free(p->file.data);
    free(p);
}

/* A writer that holds all keys and tensors but the one of this name; what a test appends takes its place. */
static inline void gguf_take(gguf *g, const gguf_parts *p, const char *without, const char *without_too)
{
    const unsigned char *file = p->file.data;
    for (size_t i = 0; i < p->n_key; i++) {
        const gguf_span *k = &p->key[i];
        if (!strcmp(k->name, without) || !strcmp(k->name, without_too)) continue;
        if (!strcmp(k->name, "general.alignment")) g->align = (size_t)get_int(&p->file, k->value + 4, 4);
        put(&g->keys, file + k->from, k->to - k->from);
        g->n_key++;
    }
    for (size_t i = 0; i < p->n_tensor; i++) {
        const gguf_span *t = &p->tensor[i];
        if (!strcmp(t->name, without) || !strcmp(t->name, without_too)) continue;
        put(&g->infos, file + t->from, t->to - 8 - t->from);
        put_u64(&g->infos, g->data.n);
        put(&g->data, file + t->data, t->n_data);
        put_zeros(&g->data, (g->align - g->data.n % g->align) % g->align);
        g->n_tensor++;
    }
}

/* A tensor of zeros; types: f32, q8_0, i8, i16, i32. */
static inline void tensor_zeros(gguf *g, const char *name, uint32_t type, uint32_t n_dims, const uint64_t *dim)
{
    const uint64_t block = type == 8 ? 32 : 1, size = type == 8 ? 34 : type == 24 ? 1 : type == 25 ? 2 : 4;
    uint64_t n = 1;
    info(g, name, n_dims, dim, type, g->data.n);
    for (uint32_t i = 0; i < n_dims; i++) n *= dim[i];
    put_zeros(&g->data, (size_t)(n / block * size));
    put_zeros(&g->data, (g->align - g->data.n % g->align) % g->align);
}

/* ---- Hugging Face ---- */

static const char *const folder_files[] = { "config.json", "generation_config.json", "model.safetensors",
                                            "tokenizer.json", "tokenizer_config.json" };
enum { FOLDER_FILES = sizeof folder_files / sizeof *folder_files };

/* Copy a small checkpoint into a folder; 0 when there is none. */
static inline int folder_copy(const char *from, const char *to)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/config.json", from);
    if (access(path, R_OK) != 0) return 0;
    for (int i = 0; i < FOLDER_FILES; i++) {
        snprintf(path, sizeof path, "%s/%s", from, folder_files[i]);
        bytes b = read_whole(path);
        scratch_write(to, folder_files[i], &b);
    }
    return 1;
}

static inline void folder_remove(const char *folder)
{
    for (int i = 0; i < FOLDER_FILES; i++) scratch_remove(folder, folder_files[i]);
}

/* A safetensors file without one tensor, or with it as zeros of another shape (a JSON text) and format. */
static inline bytes safetensors_edit(const bytes *file, const char *name, const char *shape, const char *dtype)
{
    const size_t n = (size_t)get_int(file, 0, 8);
    json_t *header = json_loadb((const char *)file->data + 8, n, 0, NULL), *made = json_object(), *entry;
    const char *key;
    bytes data = { 0 }, out = { 0 };
    if (!header || !json_object_get(header, name)) abort();
    json_object_foreach(header, key, entry)
    {
        if (!strcmp(key, name) || !strcmp(key, "__metadata__")) continue;
        json_t *at = json_object_get(entry, "data_offsets");
        const size_t begin = (size_t)json_integer_value(json_array_get(at, 0));
        const size_t end = (size_t)json_integer_value(json_array_get(at, 1));
        json_object_set_new(made, key,
                            json_pack("{s:O,s:O,s:[I,I]}", "dtype", json_object_get(entry, "dtype"), "shape",
                                      json_object_get(entry, "shape"), "data_offsets", (json_int_t)data.n,
                                      (json_int_t)(data.n + end - begin)));
        put(&data, file->data + 8 + n + begin, end - begin);
    }
    if (shape) {
        json_t *dims = json_loads(shape, 0, NULL);
        size_t n_zero = strchr(dtype, '8') ? 1 : strstr(dtype, "16") ? 2 : 4;
        for (size_t i = 0; i < json_array_size(dims); i++)
            n_zero *= (size_t)json_integer_value(json_array_get(dims, i));
        json_object_set_new(made, name,
                            json_pack("{s:s,s:o,s:[I,I]}", "dtype", dtype, "shape", dims, "data_offsets",
                                      (json_int_t)data.n, (json_int_t)(data.n + n_zero)));
        put_zeros(&data, n_zero);
    }
    char *text = json_dumps(made, JSON_COMPACT);
    put_text(&out, text);
    put(&out, data.data, data.n);
    free(text);
    free(data.data);
    json_decref(header);
    json_decref(made);
    return out;
}

/* Set what stands at a path with dots to a JSON value, or remove it (value NULL). */
static inline void config_set(json_t *config, const char *path, const char *value)
{
    const char *dot = strchr(path, '.');
    if (dot) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(dot - path), path);
        config_set(json_object_get(config, name), dot + 1, value);
    } else if (value) {
        json_object_set_new(config, path, json_loads(value, JSON_DECODE_ANY, NULL));
    } else {
        json_object_del(config, path);
    }
}

/* ---- what the engine says ---- */

enum { PROBE = 100 }; /* ids that a model may be asked about */

/* Logits of the first ids of the probe, chunk of them a step; free them. NULL: err says why. */
typedef struct answer {
    float *logits;
    size_t n;
    pg_error err;
} answer;

static inline answer answer_of(const char *path, int32_t n_id, int32_t chunk)
{
    answer a = { 0 };
    const float *l;
    int32_t V, ids[PROBE];
    pg_engine *e = golden_open(path, "f32", 1, &a.err);
    for (int i = 0; i < PROBE; i++) ids[i] = 3 + (i * 37 + 11) % 290;
    if (e && pg_logits(e, ids, n_id, chunk, n_id, &l, &V, &a.err) >= 0) {
        a.n = (size_t)n_id * (size_t)V;
        a.logits = malloc(a.n * sizeof *l);
        if (a.logits) memcpy(a.logits, l, a.n * sizeof *l);
    }
    pg_close(e);
    return a;
}

static inline int answers_agree(const answer *a, const answer *b)
{
    return a->logits && b->logits && a->n == b->n && !memcmp(a->logits, b->logits, a->n * sizeof *a->logits);
}

/* A code of failure and two texts that the message holds, or PG_OK and whether the logits stay the same. */
typedef struct expected {
    int code;
    const char *says, *also; /* also: may be NULL */
    int same;
} expected;

/* Both doors must refuse alike, in a message that begins with the path. */
static inline void expect_refusal(const char *path, const char *label, const expected *x)
{
    const char *also = x->also ? x->also : "";
    for (int open = 0; open < 2; open++) {
        pg_error err = { 0 };
        pg_info info;
        pg_engine *e = open ? golden_open(path, "f32", 1, &err) : NULL;
        const int rc = open ? (e ? PG_OK : err.code) : pg_describe(path, &info, &err);
        CHECK(rc == x->code && err.code == rc, "%s: %s: %d, expected %d: %s", label, open ? "open" : "describe", rc,
              x->code, err.text);
        CHECK(strstr(err.text, x->says) && strstr(err.text, also), "%s: \"%s\" does not say \"%s\" and \"%s\"", label,
              err.text, x->says, also);
        CHECK(!strncmp(err.text, path, strlen(path)), "%s: \"%s\" does not begin with the path", label, err.text);
        pg_close(e);
    }
}

/* label: what was done to the model at path; base: the answer before it was changed. */
static inline void expect(const char *path, const char *label, const expected *x, const answer *base)
{
    pg_error err = { 0 };
    pg_info info;
    if (x->code != PG_OK) {
        expect_refusal(path, label, x);
        return;
    }
    CHECK(pg_describe(path, &info, &err) == PG_OK, "%s: %s", label, err.text);
    answer a = answer_of(path, 3, 0);
    CHECK(a.logits, "%s: %s", label, a.err.text);
    if (a.logits && x->same) CHECK(answers_agree(&a, base), "%s: the logits differ", label);
    free(a.logits);
}

#endif
