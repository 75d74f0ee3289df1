/* The GGUF writer: what it writes is read back as it was, byte by byte where the format says so; a file is whole or not
 * there; errors are words. */
#include "../../engine/quant/write.h"
#include "check.h"
#include "gguf_write.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

static char *folder;

static int count_files(void)
{
    DIR *d = opendir(folder);
    int n = 0;
    for (const struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] != '.';
    if (d) closedir(d);
    return n;
}

static pg_text text(const char *s)
{
    return (pg_text){ s, strlen(s) };
}

/* A file with a key of every kind, and tensors of odd sizes. */
static const char *make_source(void)
{
    gguf g = gguf_model();
    key_int(&g, "general.alignment", G_U32, 32);
    key_int(&g, "split.count", G_U16, 1);
    key_int(&g, "a.u8", G_U8, 200);
    key_int(&g, "a.i64", G_I64, (uint64_t)-5);
    key_int(&g, "a.bool", G_BOOL, 1);
    key_int(&g, "a.f64", G_F64, 0x3ff8000000000000u);
    key_text(&g, "a.text", "some \x01 text");
    key_text(&g, "a.empty", "");
    key_array(&g, "a.numbers", G_I16, 3);
    for (int i = 0; i < 3; i++) put_int(&g.keys, (uint64_t)(i - 1), 2);
    key_array(&g, "a.texts", G_STRING, 2);
    put_text(&g.keys, "one");
    put_text(&g.keys, "");
    key_array(&g, "a.nothing", G_STRING, 0);
    key_int(&g, "a.dropped", G_U32, 1);
    bytes b = gguf_bytes(&g);
    return scratch_write(folder, "in.gguf", &b);
}

static int add_tensors(pg_writer *w, const pg_source *s, pg_error *err)
{
    for (int i = 0; i < pg_source_n_tensor(s); i++) {
        const pg_source_tensor *t = pg_source_tensor_at(s, i);
        pg_writer_tensor(w, t->name, 0, t->view.shape, t->view.stride[3]);
    }
    return pg_writer_begin(w, err);
}

/* Bytes from the first tensor's infos on, compared with a file put together by hand. */
static void check_bytes(void)
{
    gguf g = { .version = 3, .align = 64 };
    key_int(&g, "general.alignment", G_U32, 64);
    key_int(&g, "n", G_U32, 7);
    key_text(&g, "t", "abc");
    key_array(&g, "list", G_STRING, 2);
    put_text(&g.keys, "x");
    put_text(&g.keys, "yz");
    info(&g, "first", 2, (uint64_t[]){ 5, 3 }, 0, 0);
    info(&g, "second", 1, (uint64_t[]){ 1 }, 99, 64);
    put(&g.data, "123456789012345678901234567890123456789012345678901234567890", 60);
    put_zeros(&g.data, 4);
    put(&g.data, "last", 4);
    put_zeros(&g.data, 60);
    bytes expected = gguf_bytes(&g);

    pg_error err = { 0 };
    pg_writer *w = NULL;
    const char *path = scratch_path(folder, "bytes.gguf");
    CHECK(pg_writer_open(path, 64, &w, &err) == PG_OK, "%s", err.text);
    pg_writer_u32(w, "n", 7);
    pg_writer_text(w, "t", text("abc"));
    pg_writer_texts(w, "list", (pg_text[]){ text("x"), text("yz") }, 2);
    pg_writer_tensor(w, text("first"), 0, (int64_t[]){ 5, 3, 1, 1 }, 60);
    pg_writer_tensor(w, text("second"), 99, (int64_t[]){ 1, 1, 1, 1 }, 4);
    CHECK(pg_writer_begin(w, &err) == PG_OK, "%s", err.text);
    CHECK(access(path, F_OK) != 0, "the name is there before the file is whole");
    CHECK(pg_writer_data(w, "123456789012345678901234567890123456789012345", 45, &err) == PG_OK, "%s", err.text);
    CHECK(pg_writer_data(w, "678901234567890last", 19, &err) == PG_OK, "%s", err.text);
    CHECK(pg_writer_finish(w, &err) == PG_OK, "%s", err.text);

    FILE *f = fopen(path, "rb");
    char *found = malloc(expected.n + 1);
    const size_t n = f && found ? fread(found, 1, expected.n + 1, f) : 0;
    CHECK(n == expected.n && memcmp(found, expected.data, n) == 0, "%zu bytes, expected %zu", n, expected.n);
    if (f) fclose(f);
    free(found);
    free(expected.data);
    CHECK(count_files() == 2, "a file is left behind");
    scratch_remove(folder, "bytes.gguf");
}

static void check_same_key(const pg_source *a, const pg_source *b, const char *name)
{
    pg_text x = { "", 0 }, y = { "", 1 };
    for (int i = 0; i < pg_source_n_key(a); i++)
        if (pg_source_key_name(a, i).n == strlen(name) && !memcmp(pg_source_key_name(a, i).data, name, strlen(name)))
            x = pg_source_key_stored(a, i);
    for (int i = 0; i < pg_source_n_key(b); i++)
        if (pg_source_key_name(b, i).n == strlen(name) && !memcmp(pg_source_key_name(b, i).data, name, strlen(name)))
            y = pg_source_key_stored(b, i);
    CHECK(x.n > 12 && x.n == y.n && !memcmp(x.data, y.data, x.n), "key %s", name);
}

static void check_copy(const char *in)
{
    static const char *const but[] = { "a.dropped" };
    pg_error err = { 0 };
    pg_source *s = NULL, *again = NULL;
    pg_writer *w = NULL;
    const char *path = scratch_path(folder, "out.gguf");
    CHECK(pg_source_open(in, 1, &s, &err) == PG_OK, "%s", err.text);
    CHECK(pg_writer_open(path, 32, &w, &err) == PG_OK, "%s", err.text);
    pg_writer_copy_keys(w, s, but, 1);
    CHECK(add_tensors(w, s, &err) == PG_OK, "%s", err.text);
    for (int i = 0; i < pg_source_n_tensor(s); i++) {
        const pg_tensor *t = &pg_source_tensor_at(s, i)->view;
        CHECK(pg_writer_data(w, t->data, (size_t)t->stride[3], &err) == PG_OK, "%s", err.text);
    }
    CHECK(pg_writer_finish(w, &err) == PG_OK, "%s", err.text);
    CHECK(pg_source_open(path, 1, &again, &err) == PG_OK, "%s", err.text);
    CHECK(pg_source_n_key(again) == pg_source_n_key(s) - 3, "%d keys of %d", pg_source_n_key(again),
          pg_source_n_key(s));
    static const char *const names[] = { "general.architecture",
                                         "test.block_count",
                                         "a.u8",
                                         "a.i64",
                                         "a.bool",
                                         "a.f64",
                                         "a.text",
                                         "a.empty",
                                         "a.numbers",
                                         "a.texts",
                                         "a.nothing" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_same_key(s, again, names[i]);
    for (int i = 0; i < pg_source_n_tensor(s); i++) {
        const pg_source_tensor *a = pg_source_tensor_at(s, i), *b = pg_source_tensor_at(again, i);
        CHECK(a->name.n == b->name.n && !memcmp(a->name.data, b->name.data, a->name.n), "name of tensor %d", i);
        CHECK(!memcmp(a->view.data, b->view.data, (size_t)a->view.stride[3]), "bytes of tensor %d", i);
    }
    pg_source_close(again);
    pg_source_close(s);
    scratch_remove(folder, "out.gguf");
}

/* ---- what fails ---- */

static pg_writer *small(pg_error *err)
{
    pg_writer *w = NULL;
    CHECK(pg_writer_open(scratch_path(folder, "bad.gguf"), 32, &w, err) == PG_OK, "%s", err->text);
    pg_writer_tensor(w, text("x"), 0, (int64_t[]){ 256, 1, 1, 1 }, 1024);
    return w;
}

static void check_refusals(void)
{
    char data[2048] = { 0 };
    pg_error err = { 0 };
    pg_writer *w = small(&err);
    CHECK(pg_writer_begin(w, &err) == PG_OK, "%s", err.text);
    CHECK(pg_writer_data(w, data, 1000, &err) == PG_OK, "%s", err.text);
    CHECK(pg_writer_finish(w, &err) == PG_EINVAL && strstr(err.text, "missing"), "%s", err.text);
    CHECK(count_files() == 1, "a file is left behind");

    w = small(&err);
    CHECK(pg_writer_begin(w, &err) == PG_OK, "%s", err.text);
    CHECK(pg_writer_data(w, data, 1025, &err) == PG_EINVAL && strstr(err.text, "more bytes"), "%s", err.text);
    pg_writer_cancel(w);
    CHECK(count_files() == 1, "a file is left behind");

    w = small(&err);
    pg_writer_tensor(w, text("y"), 0, (int64_t[]){ 1, 1, 1, 1 }, INT64_MAX);
    CHECK(pg_writer_begin(w, &err) == PG_ELIMIT, "%s", err.text);
    pg_writer_cancel(w);

    w = NULL;
    CHECK(pg_writer_open("", 32, &w, &err) == PG_EINVAL && !w, "%s", err.text);
    CHECK(pg_writer_open(folder, 32, &w, &err) == PG_EINVAL && strstr(err.text, "regular"), "%s", err.text);
    CHECK(pg_writer_open(scratch_path(folder, "no/such.gguf"), 32, &w, &err) == PG_ENOTFOUND, "%s", err.text);
    CHECK(pg_writer_open(scratch_path(folder, "bad.gguf"), 33, &w, &err) == PG_EINVAL, "%s", err.text);
    pg_writer_cancel(NULL);
    CHECK(count_files() == 1, "a file is left behind");
}

/* A limit on file sizes stands for a full disk: the file that was there stays as it was. */
static void check_full(void)
{
    pg_error err = { 0 };
    struct rlimit old, low = { 512, 512 };
    scratch_text(folder, "bad.gguf", "before");
    getrlimit(RLIMIT_FSIZE, &old);
    low.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    pg_writer *w = small(&err);
    CHECK(pg_writer_begin(w, &err) == PG_EIO && strstr(err.text, "bad.gguf"), "%s", err.text);
    pg_writer_cancel(w);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(count_files() == 2, "a file is left behind");
    FILE *f = fopen(scratch_path(folder, "bad.gguf"), "rb");
    char back[16] = "";
    CHECK(f && fread(back, 1, sizeof back, f) == 6 && !memcmp(back, "before", 6), "the old file is gone");
    if (f) fclose(f);
    scratch_remove(folder, "bad.gguf");
}

int main(void)
{
    folder = scratch_new();
    const char *in = make_source();
    check_bytes();
    check_copy(in);
    check_refusals();
    check_full();
    scratch_remove(folder, "in.gguf");
    scratch_free(folder);
    return check_done("write");
}
