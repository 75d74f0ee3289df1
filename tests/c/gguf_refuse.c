/* engine/load/gguf.c and parts.c on malformed files: each is refused with the right code and a message that names the
 * file and the key or tensor at fault. */
#include "refuse.h"

static bytes text_bytes(const char *text, size_t n)
{
    bytes b = { 0 };
    put(&b, text, n);
    return b;
}

static void test_header(void)
{
    REFUSE_BYTES(text_bytes("", 0), PG_EFORMAT, "not a GGUF file", "empty");
    REFUSE_BYTES(text_bytes("GGU", 3), PG_EFORMAT, "not a GGUF file");
    REFUSE_BYTES(text_bytes("GGUF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 23), PG_EFORMAT, "header", "ends");
    REFUSE_BYTES(text_bytes("GGUX\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24), PG_EFORMAT, "not a GGUF file");
    REFUSE_BYTES(text_bytes("PK\3\4 and so on", 14), PG_EUNSUPPORTED, "pickle", "convert");
    REFUSE_BYTES(text_bytes("\x80\2}q\1.", 6), PG_EUNSUPPORTED, "pickle", "convert");
    REFUSE_BYTES(text_bytes("version https://git-lfs.github.com/spec/v1\noid", 46), PG_EFORMAT, "git lfs pull");
    REFUSE_BYTES(text_bytes("\x10\0\0\0\0\0\0\0{\"a\":", 13), PG_EFORMAT, "safetensors");

    static const struct {
        uint32_t version;
        int code;
        const char *need;
    } table[] = { { 0, PG_EFORMAT, "version 0" },
                  { 1, PG_EUNSUPPORTED, "version 1" },
                  { 4, PG_EUNSUPPORTED, "version 4" },
                  { 0x03000000, PG_EUNSUPPORTED, "big-endian" },
                  { 0x00020000, PG_EUNSUPPORTED, "big-endian" } };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        gguf g = gguf_model();
        g.version = table[i].version;
        REFUSE(g, table[i].code, "header", table[i].need, "2 or 3");
    }

    static const uint64_t count[] = { 1ull << 63, UINT64_MAX, 1ull << 32, 1ull << 31, 1000 };
    for (size_t i = 0; i < sizeof count / sizeof *count; i++) {
        gguf g = gguf_model();
        g.n_key = count[i];
        REFUSE(g, PG_EFORMAT, "n_kv");
        g = gguf_model();
        g.n_tensor = count[i];
        REFUSE(g, PG_EFORMAT, "n_tensors");
    }
    gguf g = gguf_model(); /* fits the floor of bytes, yet there are not as many */
    g.n_key++;
    REFUSE(g, PG_EFORMAT, "name of tensor");
    g = gguf_model();
    g.n_tensor++;
    REFUSE(g, PG_EFORMAT, "tensor number 2");
}

static void test_key_names(void)
{
    static const uint64_t length[] = { 0, 65536, UINT64_MAX, 1ull << 63, UINT64_MAX - 7 };
    for (size_t i = 0; i < sizeof length / sizeof *length; i++) {
        gguf g = gguf_model();
        put_u64(&g.keys, length[i]);
        put_u32(&g.keys, G_U8);
        put_zeros(&g.keys, 70000);
        g.n_key++;
        REFUSE(g, PG_EFORMAT, "key number 2");
    }
    gguf g = gguf_model();
    put_u64(&g.keys, 60000);
    put_zeros(&g.keys, 100);
    g.n_key++;
    REFUSE(g, PG_EFORMAT, "key number 2", "ends");
    g = gguf_model();
    key_int(&g, "tab\there", G_U8, 1);
    REFUSE(g, PG_EFORMAT, "'tab\\x09here'", "printable ASCII");
    g = gguf_model();
    key_int(&g, "caf\xc3\xa9", G_U8, 1);
    REFUSE(g, PG_EFORMAT, "printable ASCII");
    g = gguf_model();
    key_int(&g, "test.block_count", G_U8, 1);
    REFUSE(g, PG_EFORMAT, "'test.block_count'", "twice");
}

static void test_values(void)
{
    static const uint32_t kind[] = { 13, 255, UINT32_MAX };
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        gguf g = gguf_model();
        key_head(&g, "a.key", kind[i]);
        REFUSE(g, PG_EFORMAT, "'a.key'", "value type");
        g = gguf_model();
        key_array(&g, "a.key", kind[i], 0);
        REFUSE(g, PG_EFORMAT, "'a.key'", "element type");
    }
    gguf g = gguf_model();
    key_int(&g, "a.key", G_BOOL, 2);
    REFUSE(g, PG_EFORMAT, "'a.key'", "0 or 1");
    g = gguf_model();
    key_array(&g, "a.key", G_BOOL, 3);
    put_int(&g.keys, 0xff0001, 3);
    REFUSE(g, PG_EFORMAT, "'a.key'", "0 or 1");
    g = gguf_model();
    key_array(&g, "a.key", G_ARRAY, 1);
    REFUSE(g, PG_EUNSUPPORTED, "'a.key'", "array of arrays");

    /* counts whose bytes wrap to something small, or that exceed the file by one */
    static const struct {
        uint32_t kind;
        uint64_t count;
    } array[] = { { G_U32, 1ull << 62 },        { G_U64, 1ull << 61 },         { G_U64, (1ull << 61) + 1 },
                  { G_STRING, 1ull << 61 },     { G_STRING, UINT64_MAX },      { G_U8, UINT64_MAX },
                  { G_U8, (1ull << 30) + 1 },   { G_F64, UINT64_MAX / 8 + 1 }, { G_STRING, 1000 },
                  { G_U16, 0x8000000000000000 } };
    for (size_t i = 0; i < sizeof array / sizeof *array; i++) {
        g = gguf_model();
        key_array(&g, "a.key", array[i].kind, array[i].count);
        REFUSE(g, PG_EFORMAT, "'a.key'", "elements");
    }
    static const uint64_t length[] = { UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 8, 1ull << 63, 1ull << 31, 100000 };
    for (size_t i = 0; i < sizeof length / sizeof *length; i++) {
        g = gguf_model();
        key_head(&g, "a.key", G_STRING);
        put_u64(&g.keys, length[i]);
        REFUSE(g, PG_EFORMAT, "'a.key'");
        g = gguf_model();
        key_array(&g, "a.key", G_STRING, 2);
        put_text(&g.keys, "fine");
        put_u64(&g.keys, length[i]);
        REFUSE(g, PG_EFORMAT, "'a.key'");
    }
    g = gguf_new(); /* the file ends inside a value */
    key_head(&g, "a.key", G_U64);
    put_u32(&g.keys, 7);
    g.bare = 1;
    REFUSE(g, PG_EFORMAT, "'a.key'", "ends");
}

static void test_alignment(void)
{
    static const uint32_t align[] = { 0, 1, 3, 4, 48, 1u << 21, 1u << 31, UINT32_MAX };
    for (size_t i = 0; i < sizeof align / sizeof *align; i++) {
        gguf g = gguf_model();
        key_int(&g, "general.alignment", G_U32, align[i]);
        REFUSE(g, PG_EFORMAT, "'general.alignment'", "power of two");
    }
    gguf g = gguf_model();
    key_text(&g, "general.alignment", "32");
    REFUSE(g, PG_EFORMAT, "'general.alignment'", "u32");
    g = gguf_model();
    key_int(&g, "general.alignment", G_U64, 32);
    REFUSE(g, PG_EFORMAT, "'general.alignment'", "u32");
    g = gguf_model();
    key_array(&g, "general.alignment", G_U32, 1);
    put_u32(&g.keys, 32);
    REFUSE(g, PG_EFORMAT, "'general.alignment'", "u32");
}

/* A model with one more tensor behind its two good ones, whose payloads end at byte END. */
#define END 128
#define REFUSE_INFO(name, n_dims, dim, type, offset, code, ...) \
    do {                                                        \
        gguf g_ = gguf_model();                                 \
        info(&g_, name, n_dims, dim, type, offset);             \
        put_zeros(&g_.data, 4096);                              \
        REFUSE(g_, code, __VA_ARGS__);                          \
    } while (0)

static void test_tensors(void)
{
    char name[80];
    memset(name, 'n', sizeof name);
    name[64] = 0;
    REFUSE_INFO(name, 1, DIM(8), 0, END, PG_EFORMAT, "tensor number 2", "63");
    name[63] = 0;
    gguf g = gguf_model();
    info(&g, name, 1, DIM(8), 0, END);
    put_zeros(&g.data, 32);
    bytes b = gguf_bytes(&g);
    pg_source *s = NULL;
    pg_error err;
    CHECK(pg_source_open(scratch_write(tmp, "bad.gguf", &b), 1, &s, &err) == PG_OK, "63 bytes: %s", err.text);
    CHECK(s && pg_source_find(s, name), "63 bytes");
    pg_source_close(s);

    REFUSE_INFO("", 1, DIM(8), 0, END, PG_EFORMAT, "tensor number 2", "empty");
    REFUSE_INFO("first.weight", 1, DIM(8), 0, END, PG_EFORMAT, "'first.weight'", "twice");
    g = gguf_model();
    info(&g, "a-nul", 1, DIM(8), 0, END);
    g.infos.data[g.infos.n - 29 + 1 + 1] = 0; /* the name's last but one byte: 4 + 8 + 4 + 8 bytes follow it */
    put_zeros(&g.data, 32);
    REFUSE(g, PG_EFORMAT, "tensor number 2", "NUL");

    static const uint32_t n_dims[] = { 0, 5, 8, UINT32_MAX };
    for (size_t i = 0; i < sizeof n_dims / sizeof *n_dims; i++)
        REFUSE_INFO("third", n_dims[i], DIM(1, 1, 1, 1, 1, 1, 1, 1), 0, END, PG_EFORMAT, "'third'", "n_dims");

    REFUSE_INFO("third", 1, DIM(0), 0, END, PG_EFORMAT, "'third'", "dimension 0 is 0");
    REFUSE_INFO("third", 3, DIM(4, 4, 0), 0, END, PG_EFORMAT, "'third'", "dimension 2 is 0");
    REFUSE_INFO("third", 2, DIM(1ull << 32, 1ull << 32), 0, END, PG_EFORMAT, "'third'", "dimensions");
    REFUSE_INFO("third", 2, DIM(1ull << 32, 1ull << 31), 0, END, PG_EFORMAT, "'third'", "dimensions");
    REFUSE_INFO("third", 1, DIM(1ull << 63), 0, END, PG_EFORMAT, "'third'", "dimensions");
    REFUSE_INFO("third", 4, DIM(3, 1ull << 62, 3, 1ull << 62), 0, END, PG_EFORMAT, "'third'", "dimensions");
    REFUSE_INFO("third", 2, DIM(1ull << 31, 1ull << 31), 0, END, PG_EFORMAT, "'third'", "addressed");
    REFUSE_INFO("third", 1, DIM(INT64_MAX), 0, END, PG_EFORMAT, "'third'", "addressed");
    REFUSE_INFO("third", 1, DIM(INT64_MAX / 4), 0, END, PG_EFORMAT, "'third'",
                "addressed"); /* only its padding wraps */
    REFUSE_INFO("third", 1, DIM(INT64_MAX), 24, END, PG_EFORMAT, "'third'", "addressed");
    REFUSE_INFO("third", 2, DIM(33, 2), 8, END, PG_EFORMAT, "'third'", "multiple of 32");
    REFUSE_INFO("third", 2, DIM(128, 2), 12, END, PG_EFORMAT, "'third'", "multiple of 256");

    static const struct {
        uint32_t id;
        const char *need;
    } type[] = { { 9, "Q8_1 (9)" },
                 { 15, "Q8_K (15)" },
                 { 19, "IQ1_S (19)" },
                 { 29, "IQ1_M (29)" },
                 { 34, "TQ1_0 (34)" },
                 { 35, "TQ2_0 (35)" },
                 { 4, "4 is one that GGUF no longer has" },
                 { 5, "type 5 " },
                 { 31, "no longer has" },
                 { 36, "no longer" },
                 { 38, "no longer" },
                 { 40, "40 is unknown" },
                 { 97, "97 is unknown" },
                 { 0x10000, "unknown" },
                 { UINT32_MAX, "unknown" } };
    for (size_t i = 0; i < sizeof type / sizeof *type; i++)
        REFUSE_INFO("third", 1, DIM(256), type[i].id, END, PG_EUNSUPPORTED, "'third'", type[i].need);
}

static void test_offsets(void)
{
    REFUSE_INFO("third", 1, DIM(8), 0, END + 1, PG_EFORMAT, "'third'", "multiple of the alignment 32");
    REFUSE_INFO("third", 1, DIM(8), 0, 0, PG_EFORMAT, "'third'", "expected 128");
    REFUSE_INFO("third", 1, DIM(8), 0, END - 32, PG_EFORMAT, "'third'", "expected 128");
    REFUSE_INFO("third", 1, DIM(8), 0, END + 32, PG_EFORMAT, "'third'", "expected 128");
    REFUSE_INFO("third", 1, DIM(8), 0, UINT64_MAX - 31, PG_EFORMAT, "'third'", "expected 128");
    REFUSE_INFO("third", 1, DIM(8), 0, 1ull << 63, PG_EFORMAT, "'third'", "expected 128");
    REFUSE_INFO("third", 1, DIM(100000), 0, END, PG_EFORMAT, "'third'", "truncated");
    REFUSE_INFO("third", 2, DIM(1ull << 29, 1ull << 29), 0, END, PG_EFORMAT, "'third'", "truncated");

    gguf g = gguf_new(); /* only its padding wraps */
    info(&g, "third", 1, DIM(INT64_MAX / 4), 0, 0);
    REFUSE(g, PG_EFORMAT, "'third'", "addressed");
    g = gguf_model(); /* two that fit alone, not together */
    info(&g, "third", 1, DIM(1ull << 60), 0, END);
    info(&g, "fourth", 1, DIM(1ull << 60), 0, END + (1ull << 62));
    REFUSE(g, PG_EFORMAT, "'fourth'", "addressed");

    for (size_t cut = 1; cut < 5; cut++) { /* inside the data, the infos, the keys, the header */
        static const size_t keep[] = { 0, 330, 180, 90, 10 };
        g = gguf_model();
        bytes b = gguf_bytes(&g);
        CHECK(b.n > 320, "%zu bytes", b.n);
        b.n = keep[cut];
        REFUSE_BYTES(b, PG_EFORMAT,
                     cut == 1   ? "'second.weight'"
                     : cut == 2 ? "tensor 'second.weight': the file ends"
                     : cut == 3 ? "key number 1: the file ends"
                                : "header: the file ends");
    }
}

/* Every file cut short anywhere is refused: the last byte that matters is the last one of the last payload. */
static void test_every_cut(void)
{
    gguf g = gguf_model();
    bytes b = gguf_bytes(&g);
    size_t whole = b.n - 12;
    const char *path = scratch_write(tmp, "bad.gguf", &b);
    for (size_t n = whole + 1; n-- > 0;) {
        pg_error err = { 0 };
        pg_source *s = NULL;
        if (truncate(path, (off_t)n) != 0) perror(path);
        int rc = pg_source_open(path, 1, &s, &err);
        CHECK(n == whole ? rc == PG_OK : rc == PG_EFORMAT && strstr(err.text, "bad.gguf: "), "%zu bytes: %d %s", n, rc,
              err.text);
        pg_source_close(s);
    }
    scratch_remove(tmp, "bad.gguf");
}

/* ---- parts ---- */

/* Part `no` (from 0) of `count`, written under the name of part `named`. */
typedef struct part {
    int no, count, total, named, of;
    const char *tensor;
} part;

static void write_part(part p)
{
    char name[64], tensor[32];
    gguf g = gguf_new();
    if (p.no == 0) key_text(&g, "general.architecture", "test");
    if (p.count > 0) {
        key_int(&g, "split.no", G_U16, (uint64_t)p.no);
        key_int(&g, "split.count", G_U16, (uint64_t)p.count);
        key_int(&g, "split.tensors.count", G_I32, (uint64_t)p.total);
    }
    snprintf(tensor, sizeof tensor, "part%d.weight", p.no);
    tensor_f32(&g, p.tensor ? p.tensor : tensor, 4, 1, (float)p.no);
    bytes b = gguf_bytes(&g);
    snprintf(name, sizeof name, "m-%05d-of-%05d.gguf", p.named, p.of);
    scratch_write(tmp, name, &b);
}

static void remove_parts(void)
{
    for (int i = 0; i <= 4; i++)
        for (int of = 2; of <= 4; of++) {
            char name[64];
            snprintf(name, sizeof name, "m-%05d-of-%05d.gguf", i, of);
            scratch_remove(tmp, name);
        }
}

static void write_three(void)
{
    for (int i = 0; i < 3; i++) write_part((part){ i, 3, 3, i + 1, 3, NULL });
}

#define REFUSE_PART(name, code, ...) expect_refused(__LINE__, scratch_path(tmp, name), code, NEED(__VA_ARGS__))

static void test_parts(void)
{
    pg_source *s = NULL;
    pg_error err;
    write_three();
    for (int i = 1; i <= 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "m-%05d-of-00003.gguf", i);
        CHECK(pg_source_open(scratch_path(tmp, name), 1, &s, &err) == PG_OK, "%s", err.text);
        const pg_source_tensor *t = s ? pg_source_find(s, "part2.weight") : NULL;
        float f = 0;
        if (t) memcpy(&f, t->view.data, 4);
        CHECK(f == 2 && pg_source_n_tensor(s) == 3, "%g", (double)f);
        CHECK(s && pg_source_key(s, "general.architecture") == PG_KEY_STRING, "keys are those of the first part");
        pg_source_close(s);
    }
    scratch_remove(tmp, "m-00003-of-00003.gguf");
    REFUSE_PART("m-00001-of-00003.gguf", PG_ENOTFOUND, "part 3 of 3", "m-00003-of-00003.gguf");
    scratch_remove(tmp, "m-00001-of-00003.gguf");
    REFUSE_PART("m-00002-of-00003.gguf", PG_ENOTFOUND, "first part", "m-00001-of-00003.gguf");

    write_three();
    write_part((part){ 1, 4, 3, 2, 3, NULL }); /* disagrees on how many */
    REFUSE_PART("m-00001-of-00003.gguf", PG_EFORMAT, "m-00002-of-00003.gguf", "'split.count'");
    write_part((part){ 2, 3, 3, 2, 3, NULL }); /* part 3 twice */
    REFUSE_PART("m-00001-of-00003.gguf", PG_EFORMAT, "m-00002-of-00003.gguf", "'split.no'");
    write_part((part){ 1, 0, 3, 2, 3, NULL }); /* no part at all */
    REFUSE_PART("m-00001-of-00003.gguf", PG_EFORMAT, "m-00002-of-00003.gguf", "'split.no'");
    write_part((part){ 1, 3, 3, 2, 3, "part0.weight" }); /* a tensor in two parts */
    REFUSE_PART("m-00001-of-00003.gguf", PG_EFORMAT, "m-00002-of-00003.gguf", "'part0.weight'", "twice");
    write_part((part){ 1, 3, 3, 2, 3, NULL });
    write_part((part){ 0, 3, 4, 1, 3, NULL }); /* total */
    REFUSE_PART("m-00001-of-00003.gguf", PG_EFORMAT, "'split.tensors.count'", "3 tensors");
    write_part((part){ 0, 2, 3, 1, 3, NULL });
    REFUSE_PART("m-00001-of-00003.gguf", PG_EFORMAT, "'split.count'", "-00001-of-00002.gguf");
    write_part((part){ 0, 0, 3, 1, 3, NULL }); /* the first one does not know that it is a part */
    REFUSE_PART("m-00002-of-00003.gguf", PG_EFORMAT, "m-00001-of-00003.gguf", "'split.count'");
    write_part((part){ 0, 3, 3, 1, 3, NULL });
    bytes b = { 0 };
    put(&b, "GGUF", 4);
    scratch_write(tmp, "m-00003-of-00003.gguf", &b);
    REFUSE_PART("m-00001-of-00003.gguf", PG_EFORMAT, "m-00003-of-00003.gguf", "header");
    remove_parts();
}

static void test_part_keys(void)
{
    gguf g = gguf_model();
    key_int(&g, "split.count", G_U16, 2);
    REFUSE(g, PG_EFORMAT, "'split.no'", "missing");
    g = gguf_model();
    key_int(&g, "split.no", G_U16, 0);
    key_int(&g, "split.count", G_U16, 2);
    REFUSE(g, PG_EFORMAT, "'split.count'", "-00001-of-00002.gguf");
    g = gguf_model();
    key_int(&g, "split.no", G_U16, 2);
    key_int(&g, "split.count", G_U16, 2);
    REFUSE(g, PG_EFORMAT, "'split.no'", "from 0 to 1");
    g = gguf_model();
    key_text(&g, "split.count", "2");
    REFUSE(g, PG_EFORMAT, "'split.count'", "integer");
    g = gguf_model();
    key_int(&g, "split.count", G_I32, (uint64_t)-1);
    REFUSE(g, PG_EFORMAT, "'split.count'", "integer");
}

static void test_paths(void)
{
    pg_source *s = NULL;
    pg_error err;
    expect_refused(__LINE__, scratch_path(tmp, "none.gguf"), PG_ENOTFOUND, NEED("none.gguf"));
    CHECK(pg_source_open("", 1, &s, &err) == PG_EINVAL && !s, "%s", err.text);
    CHECK(pg_source_open(NULL, 1, &s, NULL) == PG_EINVAL && !s, "no path, no error");
    if (mkfifo(scratch_path(tmp, "pipe.gguf"), 0600) == 0)
        expect_refused(__LINE__, scratch_path(tmp, "pipe.gguf"), PG_EFORMAT, NEED("pipe.gguf", "regular file"));
    scratch_remove(tmp, "pipe.gguf");
    bytes b = text_bytes("x", 1); /* a long name is cut from the left, so that its end stays */
    char name[256];
    memset(name, 'x', 250);
    strcpy(name + 245, ".gguf");
    expect_refused(__LINE__, scratch_write(tmp, name, &b), PG_EFORMAT, NEED("xxx.gguf: not a GGUF file"));
    scratch_remove(tmp, name);
}

int main(void)
{
    tmp = scratch_new();
    test_header();
    test_key_names();
    test_values();
    test_alignment();
    test_tensors();
    test_offsets();
    test_every_cut();
    test_parts();
    test_part_keys();
    test_paths();
    scratch_free(tmp);
    return check_done("gguf_refuse");
}
