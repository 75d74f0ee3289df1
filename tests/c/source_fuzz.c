/* engine/load under mutation: valid files with random damage, the same ones every run. Whatever the damage, opening
 * neither crashes nor fails without a message, and all keys and tensors of an accepted file can be read.
 * Most useful when built with sanitizers. */
#include "check.h"

#include <fcntl.h>

#include "../../engine/load/reader.h"
#include "gguf_write.h"

static unsigned long long state = 20240611;
static unsigned long long checksum; /* keeps the reads from being optimised away */

static size_t below(size_t n)
{
    return n ? check_rand(&state) % n : 0;
}

/* ---- seeds ---- */

static bytes seed_gguf(void)
{
    gguf g = gguf_model();
    key_int(&g, "general.alignment", G_U32, 32);
    for (uint32_t kind = G_U8; kind <= G_F64; kind++) {
        char name[32];
        snprintf(name, sizeof name, "scalar.%u", kind);
        if (kind != G_STRING && kind != G_ARRAY) key_int(&g, name, kind, 1);
        snprintf(name, sizeof name, "array.%u", kind);
        if (kind == G_STRING || kind == G_ARRAY) continue;
        key_array(&g, name, kind, 5);
        put_zeros(&g.keys, 5 * (size_t[]){ 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 }[kind]);
    }
    key_array(&g, "tokenizer.ggml.tokens", G_STRING, 340);
    for (int i = 0; i < 340; i++) {
        char text[32];
        snprintf(text, sizeof text, "token%d", i);
        put_text(&g.keys, text);
    }
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof name, "blk.%d.weight", i);
        tensor_f32(&g, name, 8, 1, (float)i);
    }
    info(&g, "blocks", 3, (uint64_t[]){ 64, 2, 2 }, 8, g.data.n);
    put_zeros(&g.data, 288);
    return gguf_bytes(&g);
}

static bytes seed_safetensors(void)
{
    static const char *const dtype[] = { "F32", "BF16", "U8", "I64" };
    static const size_t width[] = { 4, 2, 1, 8 };
    bytes header = { 0 };
    size_t at = 0;
    put(&header, "{\"__metadata__\":{\"format\":\"pt\"}", 31);
    for (size_t i = 0; i < 24; i++) {
        char text[200];
        size_t n = width[i % 4] * (i + 1) * 3;
        int len = snprintf(text, sizeof text,
                           ",\"layers.%zu.weight\":{\"dtype\":\"%s\",\"shape\":[%zu,3],\"data_offsets\":[%zu,%zu]}", i,
                           dtype[i % 4], i + 1, at, at + n);
        put(&header, text, (size_t)len);
        at += n;
    }
    put(&header, "}", 2); /* with its terminator */
    bytes b = safetensors_bytes((const char *)header.data, at);
    free(header.data);
    return b;
}

/* ---- damage ---- */

static void insert(bytes *b, size_t at, const void *data, size_t n)
{
    bytes tail = { 0 };
    put(&tail, b->data + at, b->n - at);
    b->n = at;
    put(b, data, n);
    put(b, tail.data, tail.n);
    free(tail.data);
}

/* Numbers on both sides of every limit that a reader may have. */
static uint64_t interesting(size_t size)
{
    static const uint64_t number[] = { 0,          1,          2,          8,          9,          31,
                                       32,         63,         64,         0x7f,       0xff,       0x7fff,
                                       0xffff,     1ull << 30, 0x7fffffff, 1ull << 31, 0xffffffff, 1ull << 32,
                                       1ull << 61, 1ull << 62, 1ull << 63, INT64_MAX,  UINT64_MAX, UINT64_MAX - 7 };
    size_t pick = below(sizeof number / sizeof *number + 3);
    if (pick < sizeof number / sizeof *number) return number[pick];
    return size + below(64) - 32;
}

static void damage(bytes *b, size_t focus)
{
    size_t span = below(2) ? focus : b->n, at = below(span < b->n ? span : b->n);
    switch (below(9)) {
    case 0:
    case 1: b->data[at] = (unsigned char)check_rand(&state); break;
    case 2: b->data[at] ^= (unsigned char)(1u << below(8)); break;
    case 3:
    case 4: {
        uint64_t v = interesting(b->n);
        size_t n = below(2) ? 4 : 8;
        for (size_t i = 0; i < n && at + i < b->n; i++) b->data[at + i] = (unsigned char)(v >> 8 * i);
        break;
    }
    case 5: b->n = at; break;
    case 6: {
        unsigned char copy[64];
        size_t n = below(sizeof copy), from = below(b->n);
        if (n > b->n - from) n = b->n - from;
        memcpy(copy, b->data + from, n);
        insert(b, at, copy, n);
        break;
    }
    case 7: {
        size_t n = below(64);
        if (n > b->n - at) n = b->n - at;
        memmove(b->data + at, b->data + at + n, b->n - at - n);
        b->n -= n;
        break;
    }
    default: { /* texts: another digit or sign of JSON */
        static const char sign[] = "0123456789{}[],:\"-.e\\ ";
        while (at < b->n && (b->data[at] < '0' || b->data[at] > '9')) at++;
        if (at < b->n) b->data[at] = (unsigned char)sign[below(below(3) ? 10 : sizeof sign - 1)];
    }
    }
}

/* ---- reading all there is ---- */

static int see_text(void *ud, int64_t i, pg_text text)
{
    (void)ud;
    for (size_t k = 0; k < text.n; k++) checksum += (unsigned char)text.data[k] + (unsigned long long)i;
    return PG_OK;
}

static void read_key(const pg_source *s, const char *name)
{
    int64_t v = 0, n = pg_source_count(s, name);
    double f = 0;
    int b = 0;
    pg_text text;
    pg_error err;
    int found = pg_source_int(s, name, INT64_MIN, INT64_MAX, &v, &err) == 1;
    found += pg_source_float(s, name, &f, &err) == 1;
    found += pg_source_bool(s, name, &b, &err) == 1;
    if (pg_source_text(s, name, &text, &err) == 1) found += 1 + see_text(NULL, 0, text);
    checksum += (unsigned long long)v + (unsigned long long)found;
    (void)pg_source_each_text(s, name, see_text, NULL, &err);
    for (int64_t i = 0; i < n; i += 1 + n / 50) {
        if (pg_source_text_at(s, name, i, &text, &err) == 1) see_text(NULL, i, text);
        found = pg_source_int_at(s, name, i, INT64_MIN, INT64_MAX, &v, &err) + pg_source_float_at(s, name, i, &f, &err);
        checksum += (unsigned long long)v + (unsigned long long)(found != 0);
    }
}

static void read_all(pg_source *s)
{
    for (int i = 0; i < s->n_key; i++) {
        char *name = strndup(s->key[i].name.data, s->key[i].name.n);
        CHECK(name && pg_source_key(s, name) == s->key[i].type, "key %d cannot be found", i);
        if (name) read_key(s, name);
        free(name);
    }
    for (int i = 0; i < pg_source_n_tensor(s); i++) {
        const pg_source_tensor *t = pg_source_tensor_at(s, i);
        char *name = strndup(t->name.data, t->name.n);
        CHECK(name && pg_source_find(s, name) == t, "tensor %d cannot be found", i);
        free(name);
        size_t n = (size_t)(t->view.stride[3] * t->view.shape[3]);
        for (size_t k = 0; k < n; k++) checksum += ((const unsigned char *)t->view.data)[k];
        CHECK(pg_source_touch(s, t->view.data, n, NULL) == PG_OK, "tensor %d cannot be touched", i);
    }
}

/* ---- runs ---- */

static void write_at(int fd, const bytes *b)
{
    if (pwrite(fd, b->data, b->n, 0) != (ssize_t)b->n || ftruncate(fd, (off_t)b->n) != 0) abort();
}

/* Damage the seed again and again in the file at path and open what `model` names. focus: bytes where damage matters
 * most. */
static void fuzz(const char *path, const char *model, const bytes *seed, size_t focus, int rounds)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), accepted = 0, silent = 0;
    if (fd < 0) abort();
    for (int round = 0; round < rounds; round++) {
        bytes b = { 0 };
        put(&b, seed->data, seed->n);
        for (size_t n = round == 0 ? 0 : 1 + below(3); n > 0 && b.n > 0; n--) damage(&b, focus);
        write_at(fd, &b);
        pg_source *s = NULL;
        pg_error err = { 0 };
        int rc = pg_source_open(model, 1, &s, &err);
        silent += rc < 0 && (err.code != rc || !err.text[0] || s || !strstr(err.text, strrchr(path, '/') + 1));
        if (rc < 0 && silent == 1) fprintf(stderr, "round %d: code %d, message '%s'\n", round, rc, err.text);
        CHECK(rc == PG_OK || round > 0, "the seed itself: %s", err.text);
        if (s) read_all(s);
        accepted += s != NULL;
        pg_source_close(s);
        free(b.data);
    }
    close(fd);
    CHECK(silent == 0, "%s: %d refusals without a proper message", path, silent);
    CHECK(accepted > rounds / 100 && accepted < rounds, "%s: %d of %d accepted", path, accepted, rounds);
    printf("%s: %d of %d mutations accepted\n", strrchr(path, '/') + 1, accepted, rounds);
}

int main(void)
{
    char *tmp = scratch_new();
    bytes seed = seed_gguf();
    CHECK(seed.n > 10000 && seed.n < 20000, "%zu bytes", seed.n);
    fuzz(scratch_path(tmp, "m.gguf"), scratch_path(tmp, "m.gguf"), &seed, seed.n * 3 / 4, 20000);
    free(seed.data);
    scratch_remove(tmp, "m.gguf");

    scratch_text(tmp, "config.json", "{\"a\": [1, 2]}");
    seed = seed_safetensors();
    fuzz(scratch_path(tmp, "model.safetensors"), tmp, &seed, 2200, 8000);
    free(seed.data);
    scratch_remove(tmp, "model.safetensors");

    scratch_remove(tmp, "config.json");
    scratch_free(tmp);
    return check_done("source_fuzz") | (checksum == 0);
}
