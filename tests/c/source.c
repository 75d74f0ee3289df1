/* engine/load: what was written into a GGUF file comes out again: typed keys, arrays, tensors; and what can be
 * done with their memory. */
#include "check.h"

#include "../../engine/load/source.h"
#include "gguf_write.h"

#include <fcntl.h>
#include <sys/mman.h>

static pg_source *open_ok(const char *path, int use_mmap)
{
    pg_error err = { 0 };
    pg_source *s = NULL;
    CHECK(pg_source_open(path, use_mmap, &s, &err) == PG_OK && s, "%s: %s", path, err.text);
    return s;
}

static int same_text(pg_text text, const char *want)
{
    return text.n == strlen(want) && memcmp(text.data, want, text.n) == 0;
}

/* ---- typed keys ---- */

static void write_scalars(gguf *g)
{
    static const uint32_t kind[] = { G_U8, G_I8, G_U16, G_I16, G_U32, G_I32, G_U64, G_I64 };
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        char name[16];
        snprintf(name, sizeof name, "int.%zu", i);
        key_int(g, name, kind[i], 100);
        snprintf(name, sizeof name, "minus.%zu", i);
        key_int(g, name, kind[i], (uint64_t)-3);
    }
    double wide = 2.5, huge = 1e300;
    uint64_t bits;
    memcpy(&bits, &wide, 8);
    key_int(g, "f64", G_F64, bits);
    memcpy(&bits, &huge, 8);
    key_int(g, "f64.huge", G_F64, bits);
    key_int(g, "f32", G_F32, 0x3fc00000);
    key_int(g, "nan", G_F32, 0x7fc00000);
    key_int(g, "inf", G_F32, 0xff800000);
    key_int(g, "yes", G_BOOL, 1);
    key_int(g, "no", G_BOOL, 0);
    key_text(g, "text", "gr\xc3\xbc\xc3\x9f");
    key_text(g, "text.empty", "");
}

static void write_arrays(gguf *g)
{
    key_array(g, "ints", G_U16, 3);
    for (int i = 0; i < 3; i++) put_int(&g->keys, (uint64_t)(7 * i), 2);
    key_array(g, "bools", G_BOOL, 2);
    put_int(&g->keys, 1, 2);
    key_array(g, "floats", G_F32, 2);
    put_u32(&g->keys, 0x3f800000);
    put_u32(&g->keys, 0x7f800000);
    key_array(g, "none", G_STRING, 0);
    key_array(g, "none.int", G_I64, 0);
    key_array(g, "texts", G_STRING, 1000);
    for (int i = 0; i < 1000; i++) {
        char text[300];
        snprintf(text, sizeof text, "%d:%*s", i, i % 200, "");
        put_text(&g->keys, text);
    }
}

static void check_scalars(const pg_source *s)
{
    pg_error err;
    int64_t v;
    double f;
    int b;
    pg_text text;
    for (int i = 0; i < 8; i++) {
        char name[24];
        snprintf(name, sizeof name, "int.%d", i);
        CHECK(pg_source_int(s, name, 0, 100, &v, &err) == 1 && v == 100, "%s", name);
        CHECK(pg_source_float(s, name, &f, &err) == 1 && f == 100, "%s", name);
        CHECK(pg_source_int(s, name, 0, 99, &v, &err) == PG_EFORMAT && strstr(err.text, name) &&
                  strstr(err.text, "100"),
              "%s", err.text);
        CHECK(pg_source_bool(s, name, &b, &err) == PG_EFORMAT, "%s", name);
        snprintf(name, sizeof name, "minus.%d", i);
        int64_t want[] = { 253, -3, 65533, -3, 4294967293, -3, 0, -3 };
        int rc = pg_source_int(s, name, INT64_MIN, INT64_MAX, &v, &err);
        CHECK(i == 6 ? rc == PG_EFORMAT : rc == 1 && v == want[i], "%s: %lld", name, (long long)v);
    }
    CHECK(pg_source_float(s, "minus.6", &f, &err) == 1 && f == 18446744073709551613.0, "%g", f);
    CHECK(pg_source_float(s, "f64", &f, &err) == 1 && f == 2.5, "%g", f);
    CHECK(pg_source_float(s, "f64.huge", &f, &err) == 1 && f == 1e300, "%g", f);
    CHECK(pg_source_float(s, "f32", &f, &err) == 1 && f == 1.5, "%g", f);
    CHECK(pg_source_float(s, "nan", &f, &err) == PG_EFORMAT && strstr(err.text, "'nan'"), "%s", err.text);
    CHECK(pg_source_float(s, "inf", &f, &err) == PG_EFORMAT && strstr(err.text, "finite"), "%s", err.text);
    CHECK(pg_source_int(s, "f32", 0, 9, &v, &err) == PG_EFORMAT && strstr(err.text, "1.5"), "%s", err.text);
    CHECK(pg_source_bool(s, "yes", &b, &err) == 1 && b == 1, "yes");
    CHECK(pg_source_bool(s, "no", &b, &err) == 1 && b == 0, "no");
    CHECK(pg_source_int(s, "yes", 0, 1, &v, &err) == PG_EFORMAT && strstr(err.text, "true"), "%s", err.text);
    CHECK(pg_source_text(s, "text", &text, &err) == 1 && same_text(text, "gr\xc3\xbc\xc3\x9f"), "text");
    CHECK(pg_source_text(s, "text.empty", &text, &err) == 1 && text.n == 0, "text.empty");
    CHECK(pg_source_text(s, "f32", &text, &err) == PG_EFORMAT, "f32 is no text");
    v = 42;
    CHECK(pg_source_int(s, "absent", 0, 9, &v, &err) == 0 && v == 42, "absent");
    f = 42;
    b = 42;
    text.n = 42;
    CHECK(pg_source_float(s, "absent", &f, &err) == 0 && f == 42, "absent");
    CHECK(pg_source_bool(s, "absent", &b, &err) == 0 && b == 42, "absent");
    CHECK(pg_source_text(s, "absent", &text, &err) == 0 && text.n == 42, "absent");
    CHECK(pg_source_int(s, "minus.6", 0, INT64_MAX, &v, &err) == PG_EFORMAT &&
              strstr(err.text, "but is 18446744073709551"),
          "%s", err.text);
    CHECK(pg_source_int(s, "text", 0, 9, &v, &err) == PG_EFORMAT && strstr(err.text, "the string 'gr"), "%s", err.text);
    CHECK(pg_source_key(s, "absent") == PG_KEY_NONE && pg_source_key(s, "int.6") == PG_KEY_INT &&
              pg_source_key(s, "f64") == PG_KEY_FLOAT && pg_source_key(s, "yes") == PG_KEY_BOOL &&
              pg_source_key(s, "text") == PG_KEY_STRING && pg_source_key(s, "texts") == PG_KEY_ARRAY,
          "types");
}

static int count_texts(void *ud, int64_t i, pg_text text)
{
    char want[300];
    int64_t *seen = ud;
    snprintf(want, sizeof want, "%d:%*s", (int)i, (int)(i % 200), "");
    if (!same_text(text, want) || i != *seen) return PG_EINVAL;
    ++*seen;
    return 1; /* above 0 goes on */
}

static int stop_at_ten(void *ud, int64_t i, pg_text text)
{
    (void)text;
    ++*(int64_t *)ud;
    return i == 10 ? PG_ECANCELLED : PG_OK;
}

static void check_arrays(const pg_source *s)
{
    pg_error err;
    int64_t v, seen = 0;
    double f;
    pg_text text;
    CHECK(pg_source_count(s, "ints") == 3 && pg_source_count(s, "absent") == 0 && pg_source_count(s, "f32") == 0,
          "count");
    CHECK(pg_source_int_at(s, "ints", 2, 0, 99, &v, &err) == 1 && v == 14, "ints[2]");
    CHECK(pg_source_int_at(s, "ints", 2, 0, 13, &v, &err) == PG_EFORMAT && strstr(err.text, "'ints'[2]"), "%s",
          err.text);
    CHECK(pg_source_int_at(s, "ints", 3, 0, 99, &v, &err) == PG_EFORMAT && strstr(err.text, "3 elements"), "%s",
          err.text);
    CHECK(pg_source_int_at(s, "ints", -1, 0, 99, &v, &err) == PG_EINVAL, "ints[-1]");
    CHECK(pg_source_int_at(s, "absent", 0, 0, 99, &v, &err) == 0, "absent");
    CHECK(pg_source_int_at(s, "int.0", 0, 0, 100, &v, &err) == PG_EFORMAT && strstr(err.text, "an array"), "%s",
          err.text);
    CHECK(pg_source_text_at(s, "text", 0, &text, &err) == PG_EFORMAT && strstr(err.text, "an array"), "%s", err.text);
    CHECK(pg_source_float_at(s, "floats", 2, &f, &err) == PG_EFORMAT &&
              pg_source_float_at(s, "absent", 0, &f, &err) == 0,
          "%s", err.text);
    CHECK(pg_source_int(s, "ints", 0, 99, &v, &err) == PG_EFORMAT && strstr(err.text, "an array"), "%s", err.text);
    CHECK(pg_source_int_at(s, "bools", 0, 0, 1, &v, &err) == 1 && v == 1, "bools[0]");
    CHECK(pg_source_int_at(s, "bools", 1, 0, 1, &v, &err) == 1 && v == 0, "bools[1]");
    CHECK(pg_source_float_at(s, "floats", 0, &f, &err) == 1 && f == 1, "floats[0]");
    CHECK(pg_source_float_at(s, "floats", 1, &f, &err) == PG_EFORMAT && strstr(err.text, "'floats'[1]"), "%s",
          err.text);
    CHECK(pg_source_float_at(s, "ints", 1, &f, &err) == 1 && f == 7, "ints[1]");
    CHECK(pg_source_key(s, "none") == PG_KEY_ARRAY && pg_source_count(s, "none") == 0, "none");
    for (int64_t i = 0; i < 1000; i++) {
        int64_t at = i * 37 % 1000;
        char want[300];
        snprintf(want, sizeof want, "%d:%*s", (int)at, (int)(at % 200), "");
        CHECK(pg_source_text_at(s, "texts", at, &text, &err) == 1 && same_text(text, want), "texts[%d]", (int)at);
    }
    CHECK(pg_source_text_at(s, "texts", 1000, &text, &err) == PG_EFORMAT, "texts[1000]");
    CHECK(pg_source_text_at(s, "ints", 0, &text, &err) == PG_EFORMAT, "ints are no texts");
    CHECK(pg_source_each_text(s, "texts", count_texts, &seen, &err) == PG_OK && seen == 1000, "%d", (int)seen);
    seen = 0;
    CHECK(pg_source_each_text(s, "texts", stop_at_ten, &seen, &err) == PG_ECANCELLED && seen == 11, "%d", (int)seen);
    CHECK(pg_source_each_text(s, "none", stop_at_ten, &seen, &err) == PG_OK && seen == 11, "empty");
    CHECK(pg_source_each_text(s, "ints", stop_at_ten, &seen, &err) == PG_EFORMAT && strstr(err.text, "'ints'"), "%s",
          err.text);
    CHECK(pg_source_each_text(s, "absent", stop_at_ten, &seen, &err) == PG_ENOTFOUND, "%s", err.text);
}

/* ---- what GGUF files may be ---- */

/* What the memory of tensors can be asked for, and that their bytes are none the worse for it. */
static void check_memory(pg_source *s, int use_mmap)
{
    const float elsewhere = 1;
    for (int i = 0; i < pg_source_n_tensor(s); i++) {
        const pg_tensor *t = &pg_source_tensor_at(s, i)->view;
        const size_t n = (size_t)(t->stride[3] * t->shape[3]);
        pg_error err = { 0 };
        void *before = malloc(n);
        memcpy(before, t->data, n);
        CHECK(pg_source_is_mapped(s, t->data) == use_mmap, "mapped");
        pg_source_ahead(s, t->data, n);
        CHECK(pg_source_touch(s, t->data, n, &err) == PG_OK, "%s", err.text);
        CHECK(pg_source_is_cached(s, t->data), "not there after it was touched");
        const int rc = pg_source_lock(s, t->data, n, &err);
        CHECK(rc == PG_OK || (rc == PG_EMEMORY && strstr(err.text, "ulimit -l")), "%s", err.text);
        pg_source_drop(t->data, n);
        pg_source_forget(s, t->data, n);
        CHECK(!memcmp(before, t->data, n), "the bytes of tensor %d changed", i);
        free(before);
    }
    CHECK(!pg_source_is_mapped(s, &elsewhere) && pg_source_is_cached(s, &elsewhere), "memory of our own");
    CHECK(pg_source_touch(s, &elsewhere, sizeof elsewhere, NULL) == PG_OK, "memory of our own");
}

/* Pages that are dropped come back from a mapped file; a file that became shorter is an error, not the end. */
static void test_large(const char *tmp)
{
    enum { N = 1 << 22 }; /* more than the large pages that the system may keep files in */
    gguf g = gguf_new();
    tensor_f32(&g, "large", N, 1, 0);
    bytes b = gguf_bytes(&g);
    const char *path = scratch_write(tmp, "a.gguf", &b);
    pg_source *s = open_ok(path, 1);
    const pg_source_tensor *t = s ? pg_source_find(s, "large") : NULL;
    if (!t) return;
    pg_error err = { 0 };
    const float *f = t->view.data;
    for (int round = 0; round < 2; round++) {
        int wrong = 0;
        CHECK(pg_source_touch(s, f, N * sizeof *f, &err) == PG_OK, "%s", err.text);
        for (int i = 0; i < N; i++) wrong += f[i] != (float)i;
        CHECK(!wrong, "%d numbers changed", wrong);
        pg_source_drop(f, N * sizeof *f);
    }
    const int fd = open(path, O_RDONLY);
    if (fd >= 0) (void)fsync(fd); /* what is not on the disk yet cannot be forgotten */
    close(fd);
    pg_source_forget(s, f, N * sizeof *f);
    if (pg_source_is_cached(s, f + N / 2)) printf("the system keeps what it is to forget: the case did not run\n");
    char *buffer = aligned_alloc(PG_READ_ALIGN, (N + 2 * PG_READ_ALIGN) * sizeof *f);
    static const int piece[][2] = { { 0, N }, { 1, 1 }, { 1023, 5000 }, { N - 3, 3 }, { 4000, 1 << 15 } };
    const int direct = pg_source_direct(s);
    if (!direct) printf("files cannot be read past the cache here: these cases did not run\n");
    for (size_t i = 0; direct && i < sizeof piece / sizeof *piece; i++) {
        const size_t n = (size_t)piece[i][1] * sizeof *f;
        const void *there = pg_source_read(s, f + piece[i][0], n, buffer);
        CHECK(there && !memcmp(there, f + piece[i][0], n), "%d numbers from %d differ", piece[i][1], piece[i][0]);
    }
    CHECK(!pg_source_read(s, buffer, 4, buffer), "memory of our own is not read from a file");
    if (madvise((void *)((uintptr_t)f / 4096 * 4096), 4096, 22) != 0) { /* MADV_POPULATE_READ, Linux 5.14 */
        printf("the system cannot tell of missing pages: the case of a shorter file did not run\n");
    } else {
        if (truncate(path, N) != 0) perror(path);
        const int rc = pg_source_touch(s, f, N * sizeof *f, &err);
        CHECK(rc == PG_EIO && strstr(err.text, "a.gguf: cannot be read"), "%d %s", rc, err.text);
        CHECK(!direct || !pg_source_read(s, f, N * sizeof *f, buffer), "read beyond the end");
    }
    free(buffer);
    pg_source_close(s);
    scratch_remove(tmp, "a.gguf");
}

static void test_gguf(const char *tmp)
{
    for (int use_mmap = 0; use_mmap < 2; use_mmap++)
        for (uint32_t version = 2; version <= 3; version++) {
            gguf g = gguf_model();
            g.version = version;
            write_scalars(&g);
            write_arrays(&g);
            bytes b = gguf_bytes(&g);
            pg_source *s = open_ok(scratch_write(tmp, "a.gguf", &b), use_mmap);
            if (!s) continue;
            CHECK(pg_source_dialect(s) == PG_DIALECT_GGUF && pg_source_n_tensor(s) == 2, "what it is");
            CHECK(strcmp(pg_source_path(s), scratch_path(tmp, "a.gguf")) == 0, "%s", pg_source_path(s));
            CHECK(pg_source_bytes(s) == 4 * 8 * 3 + 4 * 5, "%g", pg_source_bytes(s));
            const pg_source_tensor *t = pg_source_find(s, "second.weight");
            float f = 0;
            CHECK(t && t == pg_source_tensor_at(s, 1) && t->view.shape[0] == 5 && t->view.stride[1] == 20, "second");
            if (t) memcpy(&f, (const char *)t->view.data + 16, 4);
            CHECK(f == 104, "%g", (double)f);
            CHECK(!pg_source_find(s, "third.weight") && !pg_source_tensor_at(s, 2) && !pg_source_tensor_at(s, -1),
                  "third");
            check_scalars(s);
            check_arrays(s);
            check_memory(s, use_mmap);
            pg_text text;
            pg_error err;
            CHECK(pg_source_file(s, "tokenizer.json", &text, &err) == 0, "GGUF has no files beside it");
            pg_source_close(s);
        }
    scratch_remove(tmp, "a.gguf");
}

static void test_gguf_variants(const char *tmp)
{
    gguf g = gguf_model(); /* the last payload may lack its padding */
    bytes b = gguf_bytes(&g);
    b.n -= 12;
    pg_source_close(open_ok(scratch_write(tmp, "a.gguf", &b), 1));

    g = gguf_new(); /* a vocabulary ends without padding */
    key_text(&g, "general.architecture", "test");
    g.bare = 1;
    b = gguf_bytes(&g);
    CHECK(b.n % 32 != 0, "%zu bytes", b.n);
    pg_source *s = open_ok(scratch_write(tmp, "a.gguf", &b), 1);
    CHECK(s && pg_source_n_tensor(s) == 0 && !pg_source_find(s, "x") && pg_source_tensor_at(s, 0) == NULL,
          "no tensors");
    pg_source_close(s);

    g = gguf_new(); /* nothing at all is a GGUF file too */
    b = gguf_bytes(&g);
    s = open_ok(scratch_write(tmp, "a.gguf", &b), 0);
    CHECK(s && pg_source_key(s, "general.architecture") == PG_KEY_NONE, "no keys");
    pg_source_close(s);

    g = gguf_new(); /* packed: each matrix has whole panels, and the next tensor begins behind them */
    g.align = 128;
    key_int(&g, "general.alignment", G_U32, 128);
    key_int(&g, PG_PACK_KEY, G_U32, 1);
    info(&g, "panels", 3, (uint64_t[]){ 64, 17, 3 }, PG_PACK_TYPE + 8, 0);
    put_zeros(&g.data, 3 * 32 * 68);
    tensor_f32(&g, "b", 3, 1, 9);
    b = gguf_bytes(&g);
    for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
        bytes copy = { 0 };
        put(&copy, b.data, b.n);
        pg_source *packed = open_ok(scratch_write(tmp, "a.gguf", &copy), use_mmap);
        const pg_source_tensor *t = packed ? pg_source_find(packed, "panels") : NULL;
        CHECK(t && t->view.packed && t->view.dtype == PG_Q8_0 && t->view.shape[1] == 17 && t->view.shape[2] == 3 &&
                  t->view.stride[1] == 68 && t->view.stride[2] == 32 * 68 && t->view.stride[3] == 3 * 32 * 68,
              "panels");
        CHECK(t && (uintptr_t)t->view.data % 64 == 0, "panels begin at %p", t ? t->view.data : NULL);
        CHECK(packed && pg_source_bytes(packed) == 3 * 32 * 68 + 12, "%g", pg_source_bytes(packed));
        t = packed ? pg_source_find(packed, "b") : NULL;
        float f = 0;
        if (t) memcpy(&f, t->view.data, 4);
        CHECK(f == 9 && !t->view.packed, "%g behind the panels", (double)f);
        pg_source_close(packed);
    }
    free(b.data);

    for (size_t align = 8; align <= 1024; align *= 2) {
        g = gguf_new();
        g.align = align;
        key_int(&g, "general.alignment", G_U32, align);
        tensor_f32(&g, "a", 3, 1, 5);
        tensor_f32(&g, "b", 3, 1, 9);
        b = gguf_bytes(&g);
        s = open_ok(scratch_write(tmp, "a.gguf", &b), 1);
        const pg_source_tensor *t = s ? pg_source_find(s, "b") : NULL;
        float f = 0;
        if (t) memcpy(&f, t->view.data, 4);
        CHECK(f == 9, "alignment %zu: %g", align, (double)f);
        pg_source_close(s);
    }

    g = gguf_new(); /* 4 dimensions; 4 blocks of q8_0 */
    info(&g, "four", 4, (uint64_t[]){ 2, 3, 4, 5 }, 0, 0);
    info(&g, "blocks", 2, (uint64_t[]){ 64, 2 }, 8, 480);
    put_zeros(&g.data, 480 + 4 * 34);
    b = gguf_bytes(&g);
    s = open_ok(scratch_write(tmp, "a.gguf", &b), 1);
    const pg_source_tensor *t = s ? pg_source_find(s, "four") : NULL;
    CHECK(t && t->view.stride[3] == 96 && t->view.shape[3] == 5 && t->view.stride[2] == 24, "four");
    t = s ? pg_source_find(s, "blocks") : NULL;
    CHECK(t && t->view.stride[0] == 34 && t->view.stride[1] == 68 && t->view.shape[2] == 1, "blocks");
    pg_source_close(s);
    scratch_remove(tmp, "a.gguf");
}

int main(void)
{
    char *tmp = scratch_new();
    test_gguf(tmp);
    test_large(tmp);
    test_gguf_variants(tmp);
    scratch_free(tmp);
    return check_done("source");
}
