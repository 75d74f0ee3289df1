/* engine/load/safetensors.c and folder.c: what a folder may hold, and malformed ones, each refused with the right code
 * and a message that names the file and the tensor or key at fault. */
#include "check.h"

#include "../../engine/load/source.h"
#include "gguf_write.h"

static char *tmp;

#define NEED(...)         \
    (const char *const[]) \
    {                     \
        __VA_ARGS__, NULL \
    }
#define INDEX "model.safetensors.index.json"

/* Remove what the tests below write. */
static void clear(void)
{
    static const char *const name[] = {
        "config.json", "model.safetensors", INDEX,      "a.safetensors",  "b.safetensors", "w.gguf",
        "part.gguf",   "pytorch_model.bin", "model.pt", "tokenizer.json", "x.pth"
    };
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) scratch_remove(tmp, name[i]);
    for (int i = 1; i <= 3; i++) {
        char part[64];
        snprintf(part, sizeof part, "model-%05d-of-00002.safetensors", i);
        scratch_remove(tmp, part);
        snprintf(part, sizeof part, "model-%05d-of-00003.safetensors", i);
        scratch_remove(tmp, part);
    }
}

static void write_config(const char *text)
{
    scratch_text(tmp, "config.json", text);
}

static void write_tensors(const char *name, const char *header, size_t n)
{
    bytes b = safetensors_bytes(header, n);
    scratch_write(tmp, name, &b);
}

static void expect_refused(int line, const char *path, int code, const char *const *need)
{
    pg_error err = { 0 };
    pg_source *s = NULL;
    int rc = pg_source_open(path, 1, &s, &err);
    CHECK(rc == code && err.code == code && !s, "line %d: code %d (%s), expected %d", line, rc, err.text, code);
    for (; need[0]; need++)
        CHECK(strstr(err.text, need[0]), "line %d: '%s' does not mention '%s'", line, err.text, need[0]);
    pg_source_close(s);
}

static pg_source *expect_opened(int line, const char *path)
{
    pg_error err = { 0 };
    pg_source *s = NULL;
    CHECK(pg_source_open(path, line & 1, &s, &err) == PG_OK && s, "line %d: %s", line, err.text);
    return s;
}

/* A folder whose model.safetensors has this header and n bytes of data. */
static void refuse_header(int line, const char *header, size_t n, int code, const char *const *need)
{
    write_tensors("model.safetensors", header, n);
    expect_refused(line, tmp, code, need);
}

#define REFUSE(header, n, code, ...) refuse_header(__LINE__, header, n, code, NEED("model.safetensors: ", __VA_ARGS__))
#define REFUSE_FOLDER(code, ...) expect_refused(__LINE__, tmp, code, NEED(__VA_ARGS__))
#define TENSOR(name, dtype, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void test_header(void)
{
    write_config("{}");
    bytes b = { 0 };
    scratch_write(tmp, "model.safetensors", &b);
    REFUSE_FOLDER(PG_EFORMAT, "model.safetensors: ", "empty");
    put(&b, "\2\0\0\0\0\0\0", 7);
    scratch_write(tmp, "model.safetensors", &b);
    REFUSE_FOLDER(PG_EFORMAT, "model.safetensors: ", "7 bytes");
    static const uint64_t length[] = { 3, 1ull << 63, UINT64_MAX, UINT64_MAX - 7 };
    for (size_t i = 0; i < sizeof length / sizeof *length; i++) {
        put_u64(&b, length[i]);
        put(&b, "{}", 2);
        scratch_write(tmp, "model.safetensors", &b);
        REFUSE_FOLDER(PG_EFORMAT, "model.safetensors: ", "header");
    }
    put_u64(&b, (100 << 20) + 1);
    const char *path = scratch_write(tmp, "model.safetensors", &b);
    CHECK(truncate(path, 101 << 20) == 0, "%s", path); /* a hole: takes no room */
    REFUSE_FOLDER(PG_EFORMAT, "model.safetensors: ", "100 MiB");
    put(&b, "PK\3\4 pickled, and renamed", 24);
    scratch_write(tmp, "model.safetensors", &b);
    REFUSE_FOLDER(PG_EUNSUPPORTED, "model.safetensors: ", "pickle");
    put(&b, "version https://git-lfs.github.com/spec/v1", 42);
    scratch_write(tmp, "model.safetensors", &b);
    REFUSE_FOLDER(PG_EFORMAT, "model.safetensors: ", "git lfs pull");

    REFUSE("", 0, PG_EFORMAT, "line 1");
    REFUSE("[]", 0, PG_EFORMAT, "object");
    REFUSE("{\"a\":", 0, PG_EFORMAT, "line 1");
    REFUSE("{" TENSOR("a", "U8", "[2]", "0", "2") "," TENSOR("a", "U8", "[2]", "0", "2") "}", 2, PG_EFORMAT,
           "duplicate");
    REFUSE("{\"a\":3}", 0, PG_EFORMAT, "'a'", "object");
    REFUSE("{\"__metadata__\":3}", 0, PG_EFORMAT, "__metadata__");
    REFUSE("{\"__metadata__\":{\"a\":1}}", 0, PG_EFORMAT, "__metadata__");
    REFUSE("{\"__metadata__\":{\"a\":[[[[[[[[]]]]]]]]}}", 0, PG_EFORMAT, "deeper than 8");
    REFUSE("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"more\":[[[[[[[[[1]]]]]]]]]}}", 1,
           PG_EFORMAT, "deeper than 8");
    clear();
}

static void test_tensors(void)
{
    write_config("{}");
    REFUSE("{\"a\":{\"shape\":[2],\"data_offsets\":[0,2]}}", 2, PG_EFORMAT, "'a'", "'dtype' is missing");
    REFUSE("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,2]}}", 2, PG_EFORMAT, "'a'", "'shape' is missing");
    REFUSE("{\"a\":{\"dtype\":\"U8\",\"shape\":[2]}}", 2, PG_EFORMAT, "'a'", "'data_offsets' is missing");
    REFUSE("{\"a\":{\"dtype\":8,\"shape\":[2],\"data_offsets\":[0,2]}}", 2, PG_EFORMAT, "'a'",
           "'dtype' must be a string");
    REFUSE("{" TENSOR("a", "U8", "2", "0", "2") "}", 2, PG_EFORMAT, "'a'", "'shape' must be an array");
    REFUSE("{" TENSOR("a", "U8", "[2.0]", "0", "2") "}", 2, PG_EFORMAT, "'a'", "'shape'", "whole numbers");
    REFUSE("{" TENSOR("a", "U8", "[-2]", "0", "2") "}", 2, PG_EFORMAT, "'a'", "'shape'", "whole numbers");
    REFUSE("{" TENSOR("a", "U8", "[\"2\"]", "0", "2") "}", 2, PG_EFORMAT, "'a'", "'shape'", "whole numbers");
    REFUSE("{" TENSOR("a", "U8", "[2]", "-1", "1") "}", 2, PG_EFORMAT, "'a'", "'data_offsets'", "whole numbers");
    REFUSE("{" TENSOR("a", "U8", "[2]", "0", "18446744073709551618") "}", 2, PG_EFORMAT, "'a'", "'data_offsets'");
    REFUSE("{" TENSOR("a", "U8", "[2]", "0", "2,2") "}", 2, PG_EFORMAT, "'a'", "'data_offsets'");
    REFUSE("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2]}}", 2, PG_EFORMAT, "'a'", "'data_offsets'");
    REFUSE("{" TENSOR("a", "U8", "[2]", "2", "0") "}", 2, PG_EFORMAT, "'a'", "begin <= end");
    REFUSE("{" TENSOR("a", "U8", "[0]", "0", "0") "}", 0, PG_EFORMAT, "'a'", "dimension 0 is 0");
    REFUSE("{" TENSOR("a", "U8", "[1,1,1,1,2]", "0", "2") "}", 2, PG_EUNSUPPORTED, "'a'", "5 dimensions");
    REFUSE("{" TENSOR("a", "U8", "[3]", "0", "2") "}", 2, PG_EFORMAT, "'a'", "expected 3");
    REFUSE("{" TENSOR("a", "F32", "[1]", "0", "2") "}", 2, PG_EFORMAT, "'a'", "expected 4");
    REFUSE("{" TENSOR("a", "U8", "[4294967296,4294967296]", "0", "2") "}", 2, PG_EFORMAT, "'a'", "dimensions");
    REFUSE("{" TENSOR("a", "F64", "[2305843009213693952]", "0", "0") "}", 0, PG_EFORMAT, "'a'", "addressed");
    REFUSE("{" TENSOR("a", "U8", "[3]", "0", "3") "}", 2, PG_EFORMAT, "'a'", "truncated");
    REFUSE("{" TENSOR("a", "U8", "[2]", "9223372036854775805", "9223372036854775807") "}", 2, PG_EFORMAT, "'a'",
           "truncated");
    static const char *const dtype[] = { "F8_E5M2", "U16", "U32", "U64", "F4", "C64", "f32", "", "Q8_0" };
    for (size_t i = 0; i < sizeof dtype / sizeof *dtype; i++) {
        char header[200];
        snprintf(header, sizeof header, "{\"a.b\":{\"dtype\":\"%s\",\"shape\":[1],\"data_offsets\":[0,4]}}", dtype[i]);
        REFUSE(header, 4, PG_EUNSUPPORTED, "'a.b'", "dtype", dtype[i]);
    }
    REFUSE("{" TENSOR("a", "U8", "[3]", "0", "3") "," TENSOR("b", "U8", "[2]", "2", "4") "}", 4, PG_EFORMAT, "'b'",
           "overlap");
    REFUSE("{" TENSOR("a", "U8", "[2]", "0", "2") "," TENSOR("b", "U8", "[2]", "0", "2") "}", 2, PG_EFORMAT, "overlap");
    REFUSE("{" TENSOR("b", "U8", "[2]", "3", "5") "," TENSOR("a", "U8", "[2]", "0", "2") "}", 5, PG_EFORMAT, "'b'",
           "hole");
    REFUSE("{" TENSOR("a", "U8", "[2]", "1", "3") "}", 3, PG_EFORMAT, "'a'", "hole");
    REFUSE("{" TENSOR("a", "U8", "[2]", "0", "2") "}", 3, PG_EFORMAT, "end at byte 2", "has 3");
    REFUSE("{}", 1, PG_EFORMAT, "end at byte 0");
    REFUSE("{" TENSOR("a", "U16", "[1]", "0", "2") "," TENSOR("b", "U8", "[2]", "2", "4") "}", 4, PG_EUNSUPPORTED,
           "'a'");
    clear();
}

static void test_accepted(void)
{
    write_config("{}");
    write_tensors(
        "model.safetensors",
        "{\"__metadata__\":{\"format\":\"pt\"}," TENSOR("m", "BF16", "[2,3]", "8", "20") "," TENSOR("four", "I8", "[2,1,2,2]", "0", "8") "," TENSOR("s", "F32", "[]", "20", "24") "," TENSOR(
            "f8", "F8_E4M3", "[1]", "24",
            "25") "," TENSOR("e8", "F8_E8M0", "[1]", "25",
                             "26") "," TENSOR("bool", "BOOL", "[2]", "26",
                                              "28") "," TENSOR("f64", "F64", "[1]", "28",
                                                               "36") "," TENSOR("i64", "I64", "[1]", "36",
                                                                                "44") "," TENSOR("f16", "F16", "[1]",
                                                                                                 "44",
                                                                                                 "46") "," TENSOR("i16",
                                                                                                                  "I16",
                                                                                                                  "[1]",
                                                                                                                  "46",
                                                                                                                  "48") "," TENSOR("i32",
                                                                                                                                   "I32",
                                                                                                                                   "[1]",
                                                                                                                                   "48",
                                                                                                                                   "52") "," TENSOR("gr\\u00fc\\u00df",
                                                                                                                                                    "U8",
                                                                                                                                                    "[1]",
                                                                                                                                                    "52",
                                                                                                                                                    "53") "}       ",
        53);
    static const struct {
        const char *name;
        pg_dtype dtype;
        int64_t shape[4];
        unsigned char first;
    } want[] = { { "m", PG_BF16, { 3, 2, 1, 1 }, 8 },   { "four", PG_I8, { 2, 2, 1, 2 }, 0 },
                 { "s", PG_F32, { 1, 1, 1, 1 }, 20 },   { "f8", PG_FP8, { 1, 1, 1, 1 }, 24 },
                 { "e8", PG_E8M0, { 1, 1, 1, 1 }, 25 }, { "bool", PG_U8, { 2, 1, 1, 1 }, 26 },
                 { "f64", PG_F64, { 1, 1, 1, 1 }, 28 }, { "i64", PG_I64, { 1, 1, 1, 1 }, 36 },
                 { "f16", PG_F16, { 1, 1, 1, 1 }, 44 }, { "i16", PG_I16, { 1, 1, 1, 1 }, 46 },
                 { "i32", PG_I32, { 1, 1, 1, 1 }, 48 }, { "gr\xc3\xbc\xc3\x9f", PG_U8, { 1, 1, 1, 1 }, 52 } };
    for (int use_mmap = 0; use_mmap < 2; use_mmap++) {
        pg_source *s = expect_opened(use_mmap, tmp);
        if (!s) continue;
        CHECK(pg_source_n_tensor(s) == 12 && pg_source_bytes(s) == 53, "%d tensors", pg_source_n_tensor(s));
        CHECK(pg_source_dialect(s) == PG_DIALECT_HF && strcmp(pg_source_path(s), tmp) == 0, "%s", pg_source_path(s));
        for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
            const pg_source_tensor *t = pg_source_find(s, want[i].name);
            CHECK(t && t->view.dtype == want[i].dtype && !t->view.scale &&
                      memcmp(t->view.shape, want[i].shape, sizeof want[i].shape) == 0 &&
                      *(const unsigned char *)t->view.data == want[i].first,
                  "%s", want[i].name);
        }
        const pg_source_tensor *t = pg_source_find(s, "m");
        CHECK(t && t->view.stride[0] == 2 && t->view.stride[1] == 6 && t->view.stride[2] == 12, "strides of m");
        pg_source_close(s);
    }
    write_tensors("model.safetensors", "{}", 0);
    pg_source_close(expect_opened(__LINE__, tmp));
    clear();
}

static void test_config(void)
{
    write_tensors("model.safetensors", "{}", 0);
    write_config("{\"n\": 3, \"x\": 2.5, \"whole\": 2, \"yes\": true, \"s\": \"t\\u0000u\", \"nil\": null, \"list\": "
                 "[1, 2.5, true,"
                 " \"a\", null, {}], \"o\": {\"p\": {\"q\": 7}, \"r\": [], \"none\": null}, \"empty\": {}, \"\": 1,"
                 " \"big\": 1000000000000000000000, \"names\": [\"a\", \"bc\"]}");
    pg_source *s = expect_opened(__LINE__, tmp);
    if (!s) return;
    pg_error err;
    int64_t v = 0;
    double f = 0;
    int b = 0;
    pg_text text;
    CHECK(pg_source_int(s, "n", 0, 9, &v, &err) == 1 && v == 3, "n");
    CHECK(pg_source_int(s, "n", 4, 9, &v, &err) == PG_EFORMAT && strstr(err.text, "config.json: key 'n'"), "%s",
          err.text);
    CHECK(pg_source_int(s, "x", 0, 9, &v, &err) == PG_EFORMAT && strstr(err.text, "2.5"), "%s", err.text);
    CHECK(pg_source_float(s, "x", &f, &err) == 1 && f == 2.5 && pg_source_float(s, "whole", &f, &err) == 1 && f == 2,
          "x");
    CHECK(pg_source_bool(s, "yes", &b, &err) == 1 && b == 1 && pg_source_bool(s, "n", &b, &err) == PG_EFORMAT, "yes");
    CHECK(pg_source_text(s, "s", &text, &err) == 1 && text.n == 3 && memcmp(text.data, "t\0u", 3) == 0, "s");
    CHECK(pg_source_int(s, "nil", 0, 9, &v, &err) == 0 && pg_source_key(s, "nil") == PG_KEY_NONE, "nil");
    CHECK(pg_source_int(s, "o.p.q", 0, 9, &v, &err) == 1 && v == 7, "o.p.q");
    CHECK(pg_source_key(s, "o.r") == PG_KEY_ARRAY && pg_source_count(s, "o.r") == 0, "o.r");
    CHECK(pg_source_key(s, "o") == PG_KEY_NONE && pg_source_key(s, "empty") == PG_KEY_NONE, "objects");
    CHECK(pg_source_key(s, "big") == PG_KEY_FLOAT && pg_source_float(s, "big", &f, &err) == 1 && f == 1e21, "big");
    CHECK(pg_source_count(s, "list") == 6 && pg_source_int_at(s, "list", 0, 0, 9, &v, &err) == 1 && v == 1, "list[0]");
    CHECK(pg_source_float_at(s, "list", 1, &f, &err) == 1 && f == 2.5, "list[1]");
    CHECK(pg_source_int_at(s, "list", 2, 0, 1, &v, &err) == 1 && v == 1, "list[2]");
    CHECK(pg_source_text_at(s, "list", 3, &text, &err) == 1 && text.n == 1, "list[3]");
    CHECK(pg_source_int_at(s, "list", 4, 0, 1, &v, &err) == PG_EFORMAT && strstr(err.text, "'list'[4]"), "%s",
          err.text);
    CHECK(pg_source_int_at(s, "list", 5, 0, 1, &v, &err) == PG_EFORMAT, "list[5]");
    CHECK(pg_source_text_at(s, "names", 1, &text, &err) == 1 && text.n == 2, "names[1]");
    pg_source_close(s);

    write_config("{\"a\": 1,}");
    REFUSE_FOLDER(PG_EFORMAT, "config.json: line 1");
    write_config("[1]");
    REFUSE_FOLDER(PG_EFORMAT, "config.json: ", "object");
    write_config("{\"a\": {\"b\": 1}, \"a.b\": 2}");
    REFUSE_FOLDER(PG_EFORMAT, "config.json: key 'a.b'", "twice");
    char deep[512] = "";
    for (int i = 0; i < 40; i++) strcat(deep, "{\"a\":");
    strcat(deep, "1");
    for (int i = 0; i < 40; i++) strcat(deep, "}");
    write_config(deep);
    REFUSE_FOLDER(PG_EFORMAT, "config.json: ", "too deep");
    clear();
}

static const char *const one = "{" TENSOR("a", "U8", "[2]", "0", "2") "}";
static const char *const two = "{" TENSOR("b", "U8", "[3]", "0", "3") "}";

static void test_shards(void)
{
    write_config("{}");
    write_tensors("a.safetensors", one, 2);
    write_tensors("b.safetensors", two, 3);
    scratch_text(tmp, INDEX,
                 "{\"metadata\":{\"total_size\":5},\"weight_map\":{\"a\":\"a.safetensors\",\"b\":\"b.safetensors\"}}");
    pg_source *s = expect_opened(__LINE__, tmp);
    CHECK(s && pg_source_n_tensor(s) == 2 && pg_source_find(s, "b")->view.shape[0] == 3, "two shards");
    pg_source_close(s);
    pg_source_close(expect_opened(__LINE__, scratch_path(tmp, INDEX)));
    pg_source_close(expect_opened(__LINE__, scratch_path(tmp, "b.safetensors")));

    static const struct {
        const char *index;
        int code;
        const char *need;
    } table[] = {
        { "{\"weight_map\":{\"a\":\"b.safetensors\"}}", PG_EFORMAT, "tensor 'a': 'weight_map' says" },
        { "{\"weight_map\":{\"a\":\"a.safetensors\",\"b\":\"a.safetensors\"}}", PG_EFORMAT, "tensor 'b'" },
        { "{\"weight_map\":{\"a\":\"a.safetensors\",\"c\":\"a.safetensors\"}}", PG_EFORMAT, "tensor 'c'" },
        { "{\"weight_map\":{\"a\":\"none.safetensors\"}}", PG_ENOTFOUND, "none.safetensors" },
        { "{\"weight_map\":{\"a\":\"../a.safetensors\"}}", PG_EFORMAT, "same folder" },
        { "{\"weight_map\":{\"a\":\"/etc/a.safetensors\"}}", PG_EFORMAT, "same folder" },
        { "{\"weight_map\":{\"a\":\"..\"}}", PG_EFORMAT, "same folder" },
        { "{\"weight_map\":{\"a\":\"\"}}", PG_EFORMAT, "same folder" },
        { "{\"weight_map\":{\"a\":\"config.json\"}}", PG_EFORMAT, "same folder" },
        { "{\"weight_map\":{\"a\":\"pytorch_model.bin\"}}", PG_EFORMAT, "same folder" },
        { "{\"weight_map\":{\"a\":\"a.safetensors\\u0000x\"}}", PG_EFORMAT, "tensor 'a'" },
        { "{\"weight_map\":{\"a\":3}}", PG_EFORMAT, "tensor 'a'" },
        { "{\"weight_map\":[]}", PG_EFORMAT, "weight_map" },
        { "{\"metadata\":{}}", PG_EFORMAT, "weight_map" },
        { "[]", PG_EFORMAT, "weight_map" },
        { "{", PG_EFORMAT, "line 1" },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        scratch_text(tmp, INDEX, table[i].index);
        REFUSE_FOLDER(table[i].code, INDEX ": ", table[i].need);
    }
    write_tensors("a.safetensors", "{" TENSOR("a", "U8", "[2]", "0", "2") "," TENSOR("c", "U8", "[2]", "2", "4") "}",
                  4);
    scratch_text(tmp, INDEX, "{\"weight_map\":{\"a\":\"a.safetensors\",\"c\":\"a.safetensors\"}}");
    s = expect_opened(__LINE__, tmp);
    CHECK(s && pg_source_n_tensor(s) == 2 && pg_source_find(s, "c"), "two tensors in one shard");
    pg_source_close(s);

    write_tensors("b.safetensors", one, 2); /* the same tensor in two shards */
    scratch_text(tmp, INDEX, "{\"weight_map\":{\"a\":\"a.safetensors\",\"b\":\"b.safetensors\"}}");
    REFUSE_FOLDER(PG_EFORMAT, "b.safetensors: tensor 'a' appears twice");
    clear();
}

static void test_parts(void)
{
    write_config("{}");
    write_tensors("model-00001-of-00002.safetensors", one, 2);
    REFUSE_FOLDER(PG_ENOTFOUND, "model-00002-of-00002.safetensors");
    write_tensors("model-00002-of-00002.safetensors", two, 3);
    pg_source *s = expect_opened(__LINE__, tmp);
    CHECK(s && pg_source_n_tensor(s) == 2 && pg_source_find(s, "a") && pg_source_find(s, "b"), "two parts");
    pg_source_close(s);
    write_tensors("model-00003-of-00003.safetensors", "{}", 0);
    REFUSE_FOLDER(PG_EFORMAT, tmp, "disagree");
    scratch_remove(tmp, "model-00003-of-00003.safetensors");
    write_tensors("model-00002-of-00002.safetensors", one, 2);
    REFUSE_FOLDER(PG_EFORMAT, "model-00002-of-00002.safetensors: tensor 'a' appears twice");
    write_tensors("model.safetensors", two, 3); /* a whole file goes before parts */
    s = expect_opened(__LINE__, tmp);
    CHECK(s && pg_source_n_tensor(s) == 1 && pg_source_find(s, "b"), "one file");
    pg_source_close(s);
    clear();
}

static void test_folders(void)
{
    REFUSE_FOLDER(PG_ENOTFOUND, tmp, "no config.json");
    scratch_text(tmp, "w.gguf", "x");
    REFUSE_FOLDER(PG_ENOTFOUND, tmp, "no config.json", "open the file w.gguf");
    scratch_text(tmp, "part.gguf", "x");
    REFUSE_FOLDER(PG_ENOTFOUND, "open the file part.gguf");
    write_tensors("model.safetensors", one, 2);
    expect_refused(__LINE__, scratch_path(tmp, "model.safetensors"), PG_ENOTFOUND, NEED("no config.json"));
    scratch_remove(tmp, "model.safetensors");
    write_config("{}");
    REFUSE_FOLDER(PG_ENOTFOUND, tmp, "no *.safetensors");
    expect_refused(__LINE__, scratch_path(tmp, "config.json"), PG_ENOTFOUND, NEED("no *.safetensors"));
    static const char *const pickle[] = { "pytorch_model.bin", "model.pt", "x.pth" };
    for (size_t i = 0; i < sizeof pickle / sizeof *pickle; i++) {
        scratch_text(tmp, pickle[i], "\x80\2");
        REFUSE_FOLDER(PG_EUNSUPPORTED, tmp, "pickle", "convert");
        scratch_remove(tmp, pickle[i]);
    }
    write_tensors("a.safetensors", one, 2);
    REFUSE_FOLDER(PG_ENOTFOUND, tmp, "model.safetensors.index.json");
    clear();

    write_config("{}");
    write_tensors("model.safetensors", one, 2);
    scratch_text(tmp, "tokenizer.json", "{}");
    char slash[600];
    snprintf(slash, sizeof slash, "%s/", tmp);
    pg_source *s = expect_opened(__LINE__, slash);
    pg_error err;
    pg_text text = { 0 };
    CHECK(s && pg_source_file(s, "tokenizer.json", &text, &err) == 1 && text.n == 2, "%s", err.text);
    CHECK(s && pg_source_file(s, "config.json", &text, &err) == 1 && text.n == 2, "%s", err.text);
    pg_text again = { 0 };
    CHECK(s && pg_source_file(s, "config.json", &again, &err) == 1 && again.data == text.data, "mapped once");
    CHECK(s && pg_source_file(s, "json", &text, &err) == 0, "only whole names");
    static const char *const bad[] = { "", ".", "..", "../x", "a/b", "/etc/passwd" };
    for (size_t i = 0; s && i < sizeof bad / sizeof *bad; i++)
        CHECK(pg_source_file(s, bad[i], &text, &err) == PG_EINVAL, "'%s'", bad[i]);
    pg_source_close(s);
    clear();
}

/* Folders and holes where files are expected. */
static void test_odd_files(void)
{
    pg_error err;
    pg_text text;
    (void)mkdir(scratch_path(tmp, "config.json"), 0700);
    REFUSE_FOLDER(PG_EFORMAT, "config.json: ", "regular file");
    (void)rmdir(scratch_path(tmp, "config.json"));
    write_config("{}");
    (void)mkdir(scratch_path(tmp, INDEX), 0700);
    REFUSE_FOLDER(PG_EFORMAT, INDEX ": ", "regular file");
    (void)rmdir(scratch_path(tmp, INDEX));
    write_tensors("model.safetensors", one, 2);
    (void)mkdir(scratch_path(tmp, "tokenizer.json"), 0700);
    pg_source *s = NULL;
    CHECK(pg_source_open(tmp, 1, &s, &err) == PG_OK, "%s", err.text);
    CHECK(s && pg_source_file(s, "tokenizer.json", &text, &err) == PG_EFORMAT && strstr(err.text, "regular file"), "%s",
          err.text);
    (void)rmdir(scratch_path(tmp, "tokenizer.json"));
    const char *path = scratch_text(tmp, "tokenizer.json", "{}");
    CHECK(truncate(path, (512 << 20) + 1) == 0, "%s", path); /* a hole: takes no room */
    CHECK(s && pg_source_file(s, "tokenizer.json", &text, &err) == PG_ELIMIT && strstr(err.text, "tokenizer.json"),
          "%s", err.text);
    pg_source_close(s);
    clear();
}

int main(void)
{
    tmp = scratch_new();
    test_header();
    test_tensors();
    test_accepted();
    test_config();
    test_shards();
    test_parts();
    test_folders();
    test_odd_files();
    scratch_free(tmp);
    return check_done("safetensors_refuse");
}
