/* Encoding and decoding: how pre-tokenizers split, what holds for every text, begin tokens and control tokens, threads,
 * and the time that the worst texts take. Needs no golden folder. */
#include "check.h"

#include <pthread.h>
#include <time.h>

#include "../../engine/token/split.h"
#include "../../engine/token/token.h"
#include "token_make.h"

static char *tmp;
static pg_tokenizer *bpe, *spm;

static int32_t *ids_room(size_t n)
{
    int32_t *ids = malloc(n * sizeof *ids);
    if (!ids) abort();
    return ids;
}

/* ---- splits ---------------------------------------------------------------------------------------------------------- */

#define S1 "Hello, world! I'm 12345 y.o."
#define S2 "  foo\n\n  bar\t baz  "
#define S3 "It'S \u6211\u7231\u5317\u4eac 3.14 na\u00efve"
#define S4 "x_y += 1;\r\n//C"
#define CN "\u6211\u7231\u5317\u4eac"
#define NAIVE "na\u00efve"

/* What each pre-tokenizer makes of S1 to S4, | between pieces; made with another regex engine. */
static const struct {
    const char *name, *split[4];
} splits[] = {
    { "gpt-2",
      { "Hello|,| world|!| I|'m| 12345| y|.|o|.", " | foo|\n\n | bar|\t| baz|  ", "It|'|S| " CN "| 3|.|14| " NAIVE,
        "x|_|y| +=| 1|;|\r|\n|//|C" } },
    { "starcoder",
      { "Hello|,| world|!| I|'m| |1|2|3|4|5| y|.|o|.", " | foo|\n\n | bar|\t| baz|  ",
        "It|'|S| " CN "| |3|.|1|4| " NAIVE, "x|_|y| +=| |1|;|\r|\n|//|C" } },
    { "llama3",
      { "Hello|,| world|!| I|'m| |123|45| y|.o|.", " | foo|\n\n| | bar|\t| baz|  ", "It|'S| " CN "| |3|.|14| " NAIVE,
        "x|_y| +=| |1|;\r\n|//|C" } },
    { "qwen2",
      { "Hello|,| world|!| I|'m| |1|2|3|4|5| y|.o|.", " | foo|\n\n| | bar|\t| baz|  ",
        "It|'S| " CN "| |3|.|1|4| " NAIVE, "x|_y| +=| |1|;\r\n|//|C" } },
    { "deepseek-llm",
      { "Hello|,| world|!| I|'|m| |12345| y|.|o|.", " | foo|\n|\n| | bar|\t| baz|  ",
        "It|'|S| |" CN "| |3|.|14| na|\u00ef|ve", "x|_|y| +=| |1|;|\r|\n|//|C" } },
    { "deepseek-coder",
      { "Hello|,| world|!| I|'|m| |1|2|3|4|5| y|.|o|.", " | foo|\n|\n| | bar|\t| baz|  ",
        "It|'|S| |" CN "| |3|.|1|4| " NAIVE, "x|_|y| += |1|;|\r|\n|//|C" } },
    { "deepseek-v3",
      { "Hello|,| world|!| I|'m| |123|45| y|.o|.", " | foo|\n\n| | bar|\t| baz|  ", "It|'S| |" CN "| |3|.|14| " NAIVE,
        "x|_y| +=| |1|;\r\n|//|C" } },
    { "gpt-4o",
      { "Hello|,| world|!| I'm| |123|45| y|.o|.", " | foo|\n\n| | bar|\t| baz|  ", "It'S| " CN "| |3|.|14| " NAIVE,
        "x|_y| +=| |1|;\r\n//|C" } },
    /* white space is the White_Space property, contractions are ASCII */
    { "llama-bpe", { "123|4", " |\xc2\x85x", "'\u017fx", " \u180e|b" } },
};

static const char *const split_texts[] = { S1, S2, S3, S4 };
static const char *const more_texts[] = { "1234", " \xc2\x85x", "'\u017fx", " \u180eb" };

static void test_splits(void)
{
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        const pg_pre *pre = pg_pre_find(splits[i].name, strlen(splits[i].name));
        pg_steps steps = { 0 };
        pg_match match = { 0 };
        pg_pieces pieces = { 0 };
        CHECK(pre != NULL, "%s is not known", splits[i].name);
        for (int k = 0; pre && pre->pattern[k]; k++)
            CHECK(pg_steps_split(&steps, pre->pattern[k], NULL) == PG_OK, "%s: expression %d", splits[i].name, k);
        for (int k = 0; k < 4; k++) {
            const char *text = strcmp(splits[i].name, "llama-bpe") ? split_texts[k] : more_texts[k];
            char got[200] = "";
            CHECK(pg_split(&steps, &match, &pieces, text, strlen(text), true, NULL) == PG_OK, "%s", splits[i].name);
            for (size_t p = 0; p < pieces.n; p++) {
                if (p) strcat(got, "|");
                strncat(got, pieces.text.data + pieces.piece[p].from, pieces.piece[p].to - pieces.piece[p].from);
            }
            CHECK(strcmp(got, splits[i].split[k]) == 0, "%s: '%s', expected '%s'", splits[i].name, got,
                  splits[i].split[k]);
        }
        pg_pieces_free(&pieces);
        pg_match_free(&match);
        pg_steps_free(&steps);
    }
}

/* Every pre-tokenizer that files may name: joined, its pieces are the text. */
static void test_pieces_join(void)
{
    static const char *const name[] = { "default",   "qwen35",       "tekken",         "jina-v2-code", "llama-bpe",
                                        "joyai-llm", "deepseek-llm", "deepseek-coder", "gpt-4o",       "refact" };
    unsigned long long seed = 7;
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        const pg_pre *pre = pg_pre_find(name[i], strlen(name[i]));
        pg_steps steps = { 0 };
        pg_match match = { 0 };
        pg_pieces p = { 0 };
        int fine = pre != NULL;
        for (int k = 0; fine && pre->pattern[k]; k++) fine = pg_steps_split(&steps, pre->pattern[k], NULL) == PG_OK;
        for (int round = 0; fine && round < 200; round++) {
            char text[120];
            size_t n = 0, at = 0;
            while (n < 100)
                n += pg_utf8_write(text + n,
                                   check_rand(&seed) % 3 ? check_rand(&seed) % 0x250 : check_rand(&seed) % 0xd800);
            if (round % 4 == 0) text[check_rand(&seed) % n] = (char)check_rand(&seed); /* may be no UTF-8 any more */
            fine = pg_split(&steps, &match, &p, text, n, true, NULL) == PG_OK;
            for (size_t k = 0; fine && k < p.n; at = p.piece[k++].to) fine = p.piece[k].from == at;
            fine = fine && at == n && memcmp(p.text.data, text, n) == 0;
        }
        CHECK(fine, "%s: pieces do not join to the text", name[i]);
        pg_pieces_free(&p);
        pg_match_free(&match);
        pg_steps_free(&steps);
    }
}

/* ---- round trips ----------------------------------------------------------------------------------------------------- */

static int comes_back(pg_tokenizer *t, const char *text, size_t n)
{
    int32_t ids[600];
    char back[700];
    int n_ids = pg_encode(t, text, n, PG_ENCODE_NO_BOS, ids, 600, NULL);
    if (n_ids < 0 || n_ids > 600) return 0;
    int n_back = pg_decode(t, ids, n_ids, 1, back, sizeof back, NULL);
    if (n_back != (int)n || memcmp(back, text, n) != 0) return 0;
    /* the stream gives the same bytes, and never a part of a character */
    pg_detok *d = NULL;
    size_t at = 0;
    int fine = pg_detok_open(t, 1, &d, NULL) == PG_OK;
    for (int i = 0; fine && i <= n_ids; i++) {
        const char *piece;
        int32_t size;
        if (i < n_ids)
            fine = pg_detok_next(d, ids[i], &piece, &size, NULL) == PG_OK;
        else
            fine = pg_detok_rest(d, &piece, &size) == PG_OK;
        fine = fine && at + (size_t)size <= n && memcmp(text + at, piece, (size_t)size) == 0;
        at += fine ? (size_t)size : 0;
        if (fine && i < n_ids && pg_utf8_bad(text, n) == n && at < n) fine = ((unsigned char)text[at] & 0xc0) != 0x80;
    }
    pg_detok_close(d);
    return fine && at == n;
}

static void test_round_trips(void)
{
    unsigned long long seed = 1;
    int bad[4] = { 0 };
    for (int round = 0; round < 2000; round++) {
        char text[160];
        size_t n = 0, want = check_rand(&seed) % 100;
        while (n < want) {
            uint32_t c = check_rand(&seed) % (check_rand(&seed) % 2 ? 0x80 : 0x110000);
            if (c < 0xd800 || c > 0xdfff) n += pg_utf8_write(text + n, c);
        }
        bad[0] += !comes_back(bpe, text, n);
        bad[1] += !comes_back(spm, text, n);
        for (size_t i = 0; i < n; i++) text[i] = (char)check_rand(&seed);
        bad[2] += !comes_back(bpe, text, n);
        bad[3] += !comes_back(spm, text, n);
    }
    for (int i = 0; i < 4; i++)
        CHECK(bad[i] == 0, "%s, %s: %d of 2000 random texts do not come back", i % 2 ? "spm" : "bpe",
              i < 2 ? "characters" : "bytes", bad[i]);
}

static void test_stream(void)
{
    pg_detok *d;
    const char *text;
    int32_t n;
    pg_detok_open(spm, 0, &d, NULL);
    CHECK(pg_detok_next(d, 264, &text, &n, NULL) == PG_OK && n == 1 && text[0] == 'a', "the first space is dropped");
    CHECK(pg_detok_next(d, 264, &text, &n, NULL) == PG_OK && n == 2 && text[0] == ' ', "and no other");
    CHECK(pg_detok_next(d, 3 + 0xe2, &text, &n, NULL) == PG_OK && n == 0, "a lead byte is held back");
    CHECK(pg_detok_next(d, 999, &text, &n, NULL) == PG_EINVAL && n == 0, "an id out of range");
    CHECK(pg_detok_next(d, 3 + 0x82, &text, &n, NULL) == PG_OK && n == 0, "and what may continue it");
    CHECK(pg_detok_rest(d, &text, &n) == PG_OK && n == 2 && !memcmp(text, "\xe2\x82", 2), "the rest: %d bytes", n);
    CHECK(pg_detok_next(d, 264, &text, &n, NULL) == PG_OK && n == 1, "after the rest a text begins");
    pg_detok_rest(d, &text, &n);
    pg_detok_resume(d);
    CHECK(pg_detok_next(d, 264, &text, &n, NULL) == PG_OK && n == 2, "or goes on, when told so");
    CHECK(pg_detok_next(d, 1, &text, &n, NULL) == PG_OK && n == 0, "control tokens do not appear");
    pg_detok_close(d);
    CHECK(pg_tokenizer_longest(bpe) == 10, "the longest token has 10 bytes, not %d", pg_tokenizer_longest(bpe));
}

/* ---- begin, end, special tokens -------------------------------------------------------------------------------------- */

static void expect_ids(int line, pg_tokenizer *t, const char *text, int32_t flags, const int32_t *want)
{
    int32_t got[32];
    pg_error err = { 0 };
    int n = pg_encode(t, text, strlen(text), flags, got, 32, &err), n_want = 0;
    while (want[n_want] >= 0) n_want++;
    CHECK(n == n_want && memcmp(got, want, sizeof *got * (size_t)n_want) == 0, "line %d: %d ids %s, first %d", line, n,
          err.text, n > 0 ? got[0] : -1);
}
#define IDS(t, text, flags, ...) expect_ids(__LINE__, t, text, flags, (const int32_t[]){ __VA_ARGS__, -1 })

static void test_special(void)
{
    IDS(bpe, "hello hello", 0, 263, 259, 260);
    IDS(bpe, "hello", PG_ENCODE_NO_BOS, 259);
    IDS(bpe, "hello", PG_ENCODE_BOS, 263, 259);
    IDS(bpe, "", 0, 263);
    IDS(bpe, "a<tool>a", PG_ENCODE_NO_BOS, 'a', 266, 'a');
    IDS(bpe, "<s>", PG_ENCODE_NO_BOS, '<', 's', '>');
    IDS(bpe, "<s>", 0, 263, '<', 's', '>');
    IDS(bpe, "<s>a", PG_ENCODE_SPECIAL, 263, 'a');
    IDS(bpe, "<s>a", PG_ENCODE_SPECIAL | PG_ENCODE_BOS, 263, 'a');
    IDS(bpe, "a<s>", PG_ENCODE_SPECIAL, 263, 'a', 263);
    IDS(bpe, "a<|im_end|></s>", PG_ENCODE_SPECIAL | PG_ENCODE_NO_BOS, 'a', 265, 264);
    IDS(spm, "a", 0, 1, 264);
    IDS(spm, "", 0, 1);
    IDS(spm, " a", PG_ENCODE_NO_BOS, 259, 264);
    IDS(spm, "aaaaa", PG_ENCODE_NO_BOS, 259, 263, 260); /* aa scores higher than mark a */
    IDS(spm, "a<tool>a", PG_ENCODE_NO_BOS, 264, 265, 264);
    IDS(spm, "a</s>", PG_ENCODE_SPECIAL | PG_ENCODE_NO_BOS, 264, 2);
    IDS(spm, "\xff", PG_ENCODE_NO_BOS, 259, 3 + 0xff);
    CHECK(pg_token_is_eog(bpe, 264) && pg_token_is_eog(bpe, 265) && !pg_token_is_eog(bpe, 263), "ends of a generation");
    CHECK(!pg_token_is_eog(bpe, -1) && !pg_token_is_eog(bpe, 267) && !pg_token_text(bpe, 267), "ids out of range");
    CHECK(pg_chat_template(bpe) && !strcmp(pg_chat_template(bpe), "{{ x }}") && !pg_chat_template(spm), "template");
    const char *named = pg_chat_template_named(bpe, "tool_use"), *name = pg_chat_template_name(bpe, 0);
    CHECK(named && !strcmp(named, "{{ y }}") && name && !strcmp(name, "tool_use"), "the template by name");
    CHECK(!pg_chat_template_named(bpe, "rag") && !pg_chat_template_name(bpe, 1) && !pg_chat_template_name(bpe, -1) &&
              !pg_chat_template_named(spm, "tool_use"),
          "templates that are not there");
}

static pg_tokenizer *open_bpe(const char *const *control, const char *id_key)
{
    vocab v = vocab_bpe();
    for (int i = 0; control[i]; i++) vocab_add(&v, control[i], 3, 0);
    gguf g = vocab_keys(&v, 0);
    if (id_key) key_int(&g, id_key, G_U32, 7);
    pg_error err = { 0 };
    pg_tokenizer *t = open_bytes(tmp, gguf_bytes(&g), &err);
    CHECK(t != NULL, "%s", err.text);
    if (!t) exit(check_done("token"));
    return t;
}

static void test_ends(void)
{
    static const char *const key[] = { KEY("eos_token_id"),     KEY("eot_token_id"),     KEY("eom_token_id"),
                                       KEY("fim_pad_token_id"), KEY("fim_rep_token_id"), KEY("fim_sep_token_id") };
    static const char *const none[] = { NULL }, *const end[] = { "<|end|>", NULL },
                             *const harmony[] = { "<|end|>", "<|return|>", "<|call|>", NULL };
    for (size_t i = 0; i < sizeof key / sizeof *key; i++) {
        pg_tokenizer *t = open_bpe(none, key[i]);
        CHECK(pg_token_is_eog(t, 7) && !pg_token_is_eog(t, 11), "%s ends a generation", key[i]);
        pg_tokenizer_close(t);
    }
    pg_tokenizer *t = open_bpe(end, NULL);
    CHECK(pg_token_is_eog(t, 267), "<|end|> ends a generation");
    pg_tokenizer_close(t);
    t = open_bpe(harmony, NULL);
    CHECK(!pg_token_is_eog(t, 267) && pg_token_is_eog(t, 268) && pg_token_is_eog(t, 269), "but not in harmony");
    pg_tokenizer_close(t);
}

static void test_arguments(void)
{
    int32_t ids[3] = { -5, -5, -5 };
    char text[4] = "####";
    pg_error err;
    CHECK(pg_encode(bpe, "abcd", 4, PG_ENCODE_NO_BOS, ids, 2, &err) == 4 && ids[1] == 'b' && ids[2] == -5,
          "filled to max");
    CHECK(pg_encode(bpe, "abcd", 4, 0, NULL, 0, &err) == 5, "counted only");
    CHECK(pg_encode(bpe, "a", 1, 8, ids, 3, &err) == PG_EINVAL, "an unknown flag");
    CHECK(pg_encode(bpe, "a", 1, PG_ENCODE_BOS | PG_ENCODE_NO_BOS, ids, 3, &err) == PG_EINVAL, "both flags");
    CHECK(pg_encode(NULL, "a", 1, 0, ids, 3, &err) == PG_EINVAL &&
              pg_encode(bpe, NULL, 1, 0, ids, 3, &err) == PG_EINVAL &&
              pg_encode(bpe, "a", 1, 0, ids, -1, &err) == PG_EINVAL,
          "missing arguments");
    CHECK(pg_encode(bpe, NULL, 0, PG_ENCODE_NO_BOS, ids, 3, &err) == 0, "no text");
    CHECK(pg_decode(bpe, (int32_t[]){ 259 }, 1, 0, text, 2, &err) == 5 && !memcmp(text, "he##", 4), "filled to max");
    CHECK(pg_decode(bpe, (int32_t[]){ 267 }, 1, 0, text, 2, &err) == PG_EINVAL && strstr(err.text, "267"),
          "out of range");
    CHECK(pg_decode(bpe, (int32_t[]){ -1 }, 1, 0, text, 2, &err) == PG_EINVAL, "negative");
    CHECK(pg_decode(bpe, (int32_t[]){ 263 }, 1, 0, text, 4, &err) == 0, "a control token is hidden");
    CHECK(pg_decode(bpe, (int32_t[]){ 263 }, 1, 1, text, 4, &err) == 3, "or shown");
}

/* ---- threads, time --------------------------------------------------------------------------------------------------- */

static void *encode_often(void *ud)
{
    static const char text[] = "hello hello <tool> a1b2 \xff\xe4\xbd\xa0 aaaaaaa";
    int32_t first[64], again[64];
    pg_tokenizer *t = ud;
    int n = pg_encode(t, text, sizeof text - 1, PG_ENCODE_SPECIAL, first, 64, NULL);
    for (int i = 0; i < 2000; i++) {
        char back[64];
        int m = pg_encode(t, text, sizeof text - 1, PG_ENCODE_SPECIAL, again, 64, NULL);
        if (m != n || memcmp(first, again, sizeof *first * (size_t)n) != 0) return NULL;
        if (pg_decode(t, again, m, 1, back, sizeof back, NULL) <= 0) return NULL;
    }
    return ud;
}

static void test_threads(void)
{
    for (int which = 0; which < 2; which++) {
        pthread_t thread[2];
        pg_tokenizer *t = which ? spm : bpe;
        for (int i = 0; i < 2; i++)
            if (pthread_create(&thread[i], NULL, encode_often, t) != 0) abort();
        for (int i = 0; i < 2; i++) {
            void *fine = NULL;
            pthread_join(thread[i], &fine);
            CHECK(fine == t, "two threads at once get different answers");
        }
    }
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void test_time(void)
{
    enum { N = 1 << 20 };
    /* unit: what 1 MiB is made of; last: what stands at its end */
    static const struct {
        const char *unit, *last;
    } worst[] = { { "a", "" },   { " ", "1" }, { " ", "\1" }, { "aA", "" }, { "<too", "" }, { "\xcc\x81\xcc\xa3", "" },
                  { "\xff", "" } };
    char *text = malloc(N + 8);
    int32_t *ids = ids_room(2 * N + 8);
    if (!text) abort();
    for (size_t i = 0; i < sizeof worst / sizeof *worst; i++)
        for (int which = 0; which < 2; which++) {
            size_t unit = strlen(worst[i].unit), n = 0;
            for (; n + unit <= N; n += unit) memcpy(text + n, worst[i].unit, unit);
            memcpy(text + n, worst[i].last, strlen(worst[i].last));
            n += strlen(worst[i].last);
            double begin = seconds();
            int got = pg_encode(which ? spm : bpe, text, n, PG_ENCODE_SPECIAL, ids, 2 * N, NULL);
            /* ten times what it takes on a slow machine with sanitizers; quadratic time would be hours */
            CHECK(got > 0 && seconds() - begin < 60, "1 MiB of '%s': %d ids in %.1f s", worst[i].unit, got,
                  seconds() - begin);
        }
    free(text);
    free(ids);
}

int main(void)
{
    pg_error err = { 0 };
    tmp = scratch_new();
    vocab v = vocab_bpe();
    gguf g = vocab_keys(&v, 0);
    key_int(&g, KEY("bos_token_id"), G_U32, 263);
    key_int(&g, KEY("eos_token_id"), G_U32, 264);
    key_int(&g, KEY("add_bos_token"), G_BOOL, 1);
    key_text(&g, "tokenizer.chat_template", "{{ x }}");
    key_text(&g, "tokenizer.chat_template.tool_use", "{{ y }}");
    bpe = open_bytes(tmp, gguf_bytes(&g), &err);
    v = vocab_spm();
    g = vocab_keys(&v, 0);
    if (bpe) spm = open_bytes(tmp, gguf_bytes(&g), &err);
    CHECK(bpe && spm, "%s", err.text);
    test_splits();
    test_pieces_join();
    if (bpe && spm) {
        test_round_trips();
        test_stream();
        test_special();
        test_ends();
        test_arguments();
        test_threads();
        test_time();
    }
    pg_tokenizer_close(bpe);
    pg_tokenizer_close(spm);
    scratch_free(tmp);
    return check_done("token");
}
