/* Tokenizers that are refused, with the right code and a message that names the file and the key at fault; and what is
 * odd but harmless, which must open. */
#include "check.h"

#include "token_make.h"

#include <math.h>

static char *tmp;
static char logged[1000];

static void keep_line(int32_t level, const char *line, void *ud)
{
    (void)ud;
    if (level <= PG_LOG_WARN) snprintf(logged, sizeof logged, "%s", line);
}

static void expect(int line, const char *path, int code, const char *need)
{
    pg_error err = { 0 };
    pg_tokenizer *t = NULL;
    int rc = pg_tokenizer_open(path, &t, &err);
    CHECK(rc == code && !t, "line %d: code %d (%s), expected %d", line, rc, err.text, code);
    CHECK(strstr(err.text, "bad.") && strstr(err.text, need), "line %d: '%s' does not mention bad. and '%s'", line,
          err.text, need);
    CHECK(pg_tokenizer_open(path, &t, NULL) == code, "line %d: without an error to fill", line);
    if (rc >= 0) pg_tokenizer_close(t);
}

static void refuse_gguf(int line, gguf g, int code, const char *need)
{
    bytes b = gguf_bytes(&g);
    expect(line, scratch_write(tmp, "bad.gguf", &b), code, need);
    scratch_remove(tmp, "bad.gguf");
}
#define REFUSE(g, code, need) refuse_gguf(__LINE__, g, code, need)

static gguf with_int(vocab v, int without, const char *key, uint32_t type, uint64_t value)
{
    gguf g = vocab_keys(&v, without);
    key_int(&g, key, type, value);
    return g;
}

static gguf with_merge(const char *merge)
{
    vocab v = vocab_bpe();
    vocab_merge(&v, merge);
    return vocab_keys(&v, 0);
}

static gguf with_token(const char *text, int type)
{
    vocab v = vocab_bpe();
    vocab_add(&v, text, type, 0);
    return vocab_keys(&v, 0);
}

static gguf of_model(const char *model)
{
    vocab v = vocab_bpe();
    v.model = model;
    return vocab_keys(&v, 0);
}

static gguf bpe_without(int without)
{
    vocab v = vocab_bpe();
    return vocab_keys(&v, without);
}

static void test_gguf_vocabulary(void)
{
    REFUSE(of_model(NULL), PG_ENOTFOUND, KEY("model"));
    REFUSE(of_model("none"), PG_ENOTFOUND, KEY("model"));
    REFUSE(of_model("bert"), PG_EUNSUPPORTED, KEY("model"));
    REFUSE(bpe_without(NO_TOKENS), PG_EFORMAT, KEY("tokens"));
    REFUSE(bpe_without(NO_MERGES), PG_EFORMAT, KEY("merges"));
    vocab none = { .model = "gpt2", .pre = "gpt-2" };
    vocab_merge(&none, "a b");
    REFUSE(vocab_keys(&none, 0), PG_EFORMAT, KEY("tokens"));
    vocab unscored = vocab_spm();
    REFUSE(vocab_keys(&unscored, NO_SCORES), PG_EFORMAT, KEY("scores"));
    vocab nan_score = vocab_spm();
    nan_score.score[4] = NAN;
    REFUSE(vocab_keys(&nan_score, 0), PG_EFORMAT, KEY("scores"));

    gguf g = bpe_without(NO_TYPES);
    key_array(&g, KEY("token_type"), G_I32, 3);
    put_zeros(&g.keys, 12);
    REFUSE(g, PG_EFORMAT, KEY("token_type"));
    vocab spm = vocab_spm();
    g = vocab_keys(&spm, NO_SCORES);
    key_array(&g, KEY("scores"), G_F32, 600);
    put_zeros(&g.keys, 2400);
    REFUSE(g, PG_EFORMAT, KEY("scores"));
    g = bpe_without(NO_TOKENS);
    key_array(&g, KEY("tokens"), G_I32, 267);
    put_zeros(&g.keys, 4 * 267);
    REFUSE(g, PG_EFORMAT, KEY("tokens"));

    REFUSE(with_token("odd", 7), PG_EFORMAT, KEY("token_type"));
    REFUSE(with_token("odd", -1), PG_EFORMAT, KEY("token_type"));
    REFUSE(with_token("", 1), PG_EFORMAT, KEY("tokens"));
    static char longest[65538];
    memset(longest, 'x', sizeof longest - 1);
    REFUSE(with_token(longest, 1), PG_EFORMAT, KEY("tokens"));
}

static void test_gguf_merges(void)
{
    static const char *const bad[] = { "ab", "", " ", "a", "a ", " a", "a b c", "a  b", "a b " };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) REFUSE(with_merge(bad[i]), PG_EFORMAT, KEY("merges") "[7]");
    gguf g = bpe_without(NO_MERGES);
    key_array(&g, KEY("merges"), G_U32, 1);
    put_u32(&g.keys, 0);
    REFUSE(g, PG_EFORMAT, KEY("merges"));
}

static void test_gguf_ids(void)
{
    static const char *const key[] = { KEY("bos_token_id"),     KEY("eos_token_id"),     KEY("eot_token_id"),
                                       KEY("eom_token_id"),     KEY("unknown_token_id"), KEY("seperator_token_id"),
                                       KEY("padding_token_id"), KEY("cls_token_id"),     KEY("mask_token_id"),
                                       KEY("fim_pre_token_id"), KEY("fim_suf_token_id"), KEY("fim_mid_token_id"),
                                       KEY("fim_pad_token_id"), KEY("fim_rep_token_id"), KEY("fim_sep_token_id"),
                                       KEY("prefix_token_id"),  KEY("suffix_token_id"),  KEY("middle_token_id") };
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        REFUSE(with_int(vocab_bpe(), 0, key[i], G_U32, 267), PG_EFORMAT, key[i]);
        REFUSE(with_int(vocab_bpe(), 0, key[i], G_I32, 0xffffffffu), PG_EFORMAT, key[i]);
        REFUSE(with_int(vocab_spm(), 0, key[i], G_U64, 1ull << 40), PG_EFORMAT, key[i]);
    }
    REFUSE(with_int(vocab_bpe(), 0, KEY("add_bos_token"), G_U32, 1), PG_EFORMAT, KEY("add_bos_token"));
    REFUSE(with_int(vocab_bpe(), 0, KEY("add_eos_token"), G_U32, 1), PG_EFORMAT, KEY("add_eos_token"));
    REFUSE(with_int(vocab_spm(), 0, KEY("add_space_prefix"), G_U8, 1), PG_EFORMAT, KEY("add_space_prefix"));
    gguf g = bpe_without(0);
    key_text(&g, KEY("bos_token_id"), "1");
    REFUSE(g, PG_EFORMAT, KEY("bos_token_id"));
    g = bpe_without(0);
    key_int(&g, "tokenizer.chat_template", G_U32, 1);
    REFUSE(g, PG_EFORMAT, "tokenizer.chat_template");
}

/* ---- what must open ---- */

static int32_t encode_one(pg_tokenizer *t, const char *text, int32_t out[16])
{
    return pg_encode(t, text, strlen(text), PG_ENCODE_NO_BOS, out, 16, NULL);
}

static pg_tokenizer *open_gguf(int line, gguf g)
{
    pg_error err = { 0 };
    pg_tokenizer *t = open_bytes(tmp, gguf_bytes(&g), &err);
    CHECK(t != NULL, "line %d: %s", line, err.text);
    if (!t) exit(check_done("token_refuse"));
    return t;
}

static void test_gguf_odd(void)
{
    int32_t ids[16];
    pg_tokenizer *t = open_gguf(__LINE__, with_merge("nobody knows"));
    CHECK(encode_one(t, "hello", ids) == 1 && ids[0] == 259, "merges of unknown texts change nothing");
    CHECK(encode_one(t, "nobody", ids) == 6, "and join nothing");
    pg_tokenizer_close(t);

    t = open_gguf(__LINE__, with_merge("x y")); /* what it makes is no token */
    CHECK(encode_one(t, "xy", ids) == 2 && ids[0] == 'x' && ids[1] == 'y', "split again: %d %d", ids[0], ids[1]);
    pg_tokenizer_close(t);

    t = open_gguf(__LINE__, with_token("hello", 1));
    CHECK(encode_one(t, "hello", ids) == 1 && ids[0] == 259, "of equal texts the lowest id is found");
    CHECK(strcmp(pg_token_text(t, 267), "hello") == 0, "and the other keeps its text");
    pg_tokenizer_close(t);

    t = open_gguf(__LINE__, with_token("", 3));
    CHECK(strcmp(pg_token_text(t, 267), "") == 0 && encode_one(t, "hello", ids) == 1, "an empty control token");
    pg_tokenizer_close(t);

    pg_log_set(keep_line, NULL, PG_LOG_WARN);
    vocab v = vocab_bpe();
    v.pre = "of-next-year";
    t = open_gguf(__LINE__, vocab_keys(&v, 0));
    CHECK(strstr(logged, "of-next-year"), "an unknown pre is worth a warning, got '%s'", logged);
    CHECK(encode_one(t, "x1234", ids) == 5, "rules of default");
    pg_tokenizer_close(t);
    logged[0] = 0;
    v = vocab_bpe();
    v.pre = NULL;
    pg_tokenizer_close(open_gguf(__LINE__, vocab_keys(&v, 0)));
    CHECK(strstr(logged, KEY("pre")), "a missing pre is worth a warning, got '%s'", logged);
    logged[0] = 0;
    v = (vocab){ .model = "gpt2", .pre = "gpt-2" };
    vocab_add(&v, "a", 1, 0);
    vocab_merge(&v, "a a");
    t = open_gguf(__LINE__, vocab_keys(&v, NO_TYPES));
    CHECK(strstr(logged, "255 of the 256 bytes"), "missing bytes are worth a warning, got '%s'", logged);
    CHECK(encode_one(t, "aab", ids) == 2, "what has no token is left out");
    pg_tokenizer_info info;
    pg_tokenizer_describe(t, &info);
    CHECK(info.bos == -1 && info.eos == -1, "defaults beyond the vocabulary are none: %d %d", info.bos, info.eos);
    pg_tokenizer_close(t);
    pg_log_set(NULL, NULL, 0);
}

/* ---- paths ---- */

static void test_paths(void)
{
    pg_tokenizer *t = NULL;
    pg_error err;
    CHECK(pg_tokenizer_open(NULL, &t, &err) == PG_EINVAL, "no path");
    CHECK(pg_tokenizer_open("/nonexistent/file", &t, &err) == PG_ENOTFOUND, "no file: %s", err.text);
    CHECK(pg_tokenizer_open("/dev/null", &t, &err) == PG_EFORMAT, "a device: %s", err.text);
    CHECK(pg_tokenizer_open(tmp, &t, &err) == PG_ENOTFOUND && strstr(err.text, "tokenizer.json"), "an empty folder: %s",
          err.text);
    scratch_text(tmp, "bad.gguf", "GGUF");
    expect(__LINE__, scratch_path(tmp, "bad.gguf"), PG_EFORMAT, "");
    scratch_remove(tmp, "bad.gguf");
    scratch_text(tmp, "bad.json", "");
    expect(__LINE__, scratch_path(tmp, "bad.json"), PG_EFORMAT, "");
    scratch_remove(tmp, "bad.json");
}

int main(void)
{
    tmp = scratch_new();
    test_gguf_vocabulary();
    test_gguf_merges();
    test_gguf_ids();
    test_gguf_odd();
    test_paths();
    scratch_free(tmp);
    return check_done("token_refuse");
}
