/* Small files for the tests of engine/load: bytes put together by hand, so that every field can be wrong. */
#ifndef PG_GGUF_WRITE_H
#define PG_GGUF_WRITE_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct bytes {
    unsigned char *data;
    size_t n, room;
} bytes;

static inline void put(bytes *b, const void *data, size_t n)
{
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n) + 256;
        b->data = realloc(b->data, b->room);
        if (!b->data) abort();
    }
    if (n) memcpy(b->data + b->n, data, n);
    b->n += n;
}

static inline void put_int(bytes *b, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++) put(b, &(unsigned char){ (unsigned char)(v >> 8 * i) }, 1);
}

static inline void put_u32(bytes *b, uint32_t v)
{
    put_int(b, v, 4);
}
static inline void put_u64(bytes *b, uint64_t v)
{
    put_int(b, v, 8);
}
static inline void put_text(bytes *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static inline void put_zeros(bytes *b, size_t n)
{
    for (size_t i = 0; i < n; i++) put_int(b, 0, 1);
}

/* A GGUF file in pieces; gguf_bytes puts them together. A field that a test overrides is written as it is. */
typedef struct gguf {
    uint32_t version;
    uint64_t n_tensor, n_key;
    size_t align;
    bytes keys, infos, data;
    int bare; /* no padding between infos and data, no data */
} gguf;

enum { G_U8, G_I8, G_U16, G_I16, G_U32, G_I32, G_F32, G_BOOL, G_STRING, G_ARRAY, G_U64, G_I64, G_F64 };

static inline void key_head(gguf *g, const char *name, uint32_t type)
{
    put_text(&g->keys, name);
    put_u32(&g->keys, type);
    g->n_key++;
}

static inline void key_int(gguf *g, const char *name, uint32_t type, uint64_t v)
{
    static const size_t width[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    key_head(g, name, type);
    put_int(&g->keys, v, width[type]);
}

static inline void key_text(gguf *g, const char *name, const char *text)
{
    key_head(g, name, G_STRING);
    put_text(&g->keys, text);
}

static inline void key_array(gguf *g, const char *name, uint32_t type, uint64_t count)
{
    key_head(g, name, G_ARRAY);
    put_u32(&g->keys, type);
    put_u64(&g->keys, count);
}

static inline void info(gguf *g, const char *name, uint32_t n_dims, const uint64_t *dim, uint32_t type, uint64_t offset)
{
    put_text(&g->infos, name);
    put_u32(&g->infos, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 8; i++) put_u64(&g->infos, dim[i]);
    put_u32(&g->infos, type);
    put_u64(&g->infos, offset);
    g->n_tensor++;
}

/* An F32 matrix {a, b} with payload value + index, padded. */
static inline void tensor_f32(gguf *g, const char *name, uint64_t a, uint64_t b, float value)
{
    info(g, name, 2, (uint64_t[]){ a, b }, 0, g->data.n);
    for (uint64_t i = 0; i < a * b; i++) {
        float f = value + (float)i;
        put(&g->data, &f, 4);
    }
    while (g->data.n % g->align) put_int(&g->data, 0, 1);
}

static inline gguf gguf_new(void)
{
    return (gguf){ .version = 3, .align = 32 };
}

/* The same with what every model has. */
static inline gguf gguf_model(void)
{
    gguf g = gguf_new();
    key_text(&g, "general.architecture", "test");
    key_int(&g, "test.block_count", G_U32, 2);
    tensor_f32(&g, "first.weight", 8, 3, 1);
    tensor_f32(&g, "second.weight", 5, 1, 100);
    return g;
}

static inline bytes gguf_bytes(gguf *g)
{
    bytes b = { 0 };
    put(&b, "GGUF", 4);
    put_u32(&b, g->version);
    put_u64(&b, g->n_tensor);
    put_u64(&b, g->n_key);
    put(&b, g->keys.data, g->keys.n);
    put(&b, g->infos.data, g->infos.n);
    while (!g->bare && b.n % g->align) put_int(&b, 0, 1);
    if (!g->bare) put(&b, g->data.data, g->data.n);
    free(g->keys.data);
    free(g->infos.data);
    free(g->data.data);
    *g = gguf_new();
    return b;
}

/* A safetensors file: header length, header, n bytes of data that count up. */
static inline bytes safetensors_bytes(const char *header, size_t n)
{
    bytes b = { 0 };
    put_text(&b, header);
    for (size_t i = 0; i < n; i++) put_int(&b, i, 1);
    return b;
}

/* ---- a folder that goes away ---- */

static inline char *scratch_new(void)
{
    const char *tmp = getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/perigee-test-XXXXXX", tmp && strlen(tmp) < 400 ? tmp : "/tmp");
    char *made = mkdtemp(path);
    if (!made) {
        perror(path);
        exit(1);
    }
    return strdup(made);
}

/* Path of a file in the folder; good until the fourth call after it. */
static inline const char *scratch_path(const char *folder, const char *name)
{
    static char path[4][1024];
    static int turn;
    char *p = path[turn++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

/* Write a file and free its bytes. */
static inline const char *scratch_write(const char *folder, const char *name, bytes *b)
{
    const char *path = scratch_path(folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b->data ? b->data : (unsigned char *)"", 1, b->n, f) != b->n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
    free(b->data);
    *b = (bytes){ 0 };
    return path;
}

static inline const char *scratch_text(const char *folder, const char *name, const char *text)
{
    bytes b = { 0 };
    put(&b, text, strlen(text));
    return scratch_write(folder, name, &b);
}

/* Remove a file that may be there. */
static inline void scratch_remove(const char *folder, const char *name)
{
    (void)unlink(scratch_path(folder, name));
}

static inline void scratch_free(char *folder)
{
    if (rmdir(folder) != 0) fprintf(stderr, "%s: left behind: %s\n", folder, strerror(errno));
    free(folder);
}

#endif
