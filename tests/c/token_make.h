/* Small vocabularies made by hand, for the tests of engine/token. */
#ifndef PG_TOKEN_MAKE_H
#define PG_TOKEN_MAKE_H

#include "../../engine/token/utf8.h"
#include "gguf_write.h"
#include "perigee.h"

#define KEY(name) "tokenizer.ggml." name

/* Texts, their types and their scores; put into a file by vocab_write. */
typedef struct vocab {
    const char *model, *pre;
    bytes tokens, merges;
    int32_t type[600];
    float score[600];
    uint32_t n, n_merges;
} vocab;

static inline void vocab_add(vocab *v, const char *text, int32_t type, float score)
{
    put_text(&v->tokens, text);
    v->type[v->n] = type;
    v->score[v->n++] = score;
}

static inline void vocab_merge(vocab *v, const char *text)
{
    put_text(&v->merges, text);
    v->n_merges++;
}

/* Byte b as a byte-level vocabulary writes it. */
static inline const char *byte_text(unsigned b)
{
    static char text[4][5];
    static int turn;
    char *s = text[turn++ & 3];
    s[pg_utf8_write(s, pg_byte_to_point(b))] = 0;
    return s;
}

/* 256 bytes (ids 0 to 255), "he" 256, "ll" 257, "hell" 258, "hello" 259, " hello" 260, "aa" 261, "aaaa" 262,
 * control <s> 263, </s> 264, <|im_end|> 265, user-defined <tool> 266. */
static inline vocab vocab_bpe(void)
{
    static const char *const whole[] = { "he", "ll", "hell", "hello", "\u0120hello", "aa", "aaaa" };
    static const char *const merge[] = { "h e", "l l", "he ll", "hell o", "\u0120 hello", "a a", "aa aa" };
    vocab v = { .model = "gpt2", .pre = "gpt-2" };
    for (unsigned b = 0; b < 256; b++) vocab_add(&v, byte_text(b), 1, 0);
    for (int i = 0; i < 7; i++) {
        vocab_add(&v, whole[i], 1, 0);
        vocab_merge(&v, merge[i]);
    }
    vocab_add(&v, "<s>", 3, 0);
    vocab_add(&v, "</s>", 3, 0);
    vocab_add(&v, "<|im_end|>", 3, 0);
    vocab_add(&v, "<tool>", 4, 0);
    return v;
}

/* unk 0, <s> 1, </s> 2, the bytes 3 to 258, the mark 259, a 260, b 261, aa 262, aaaa 263, mark a 264, user-defined
 * <tool> 265. "b" has no way to join. */
static inline vocab vocab_spm(void)
{
    vocab v = { .model = "llama" };
    vocab_add(&v, "<unk>", 2, 0);
    vocab_add(&v, "<s>", 3, 0);
    vocab_add(&v, "</s>", 3, 0);
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        vocab_add(&v, text, 6, 0);
    }
    vocab_add(&v, "\u2581", 1, -6);
    vocab_add(&v, "a", 1, -5);
    vocab_add(&v, "b", 1, -5);
    vocab_add(&v, "aa", 1, -2);
    vocab_add(&v, "aaaa", 1, -3);
    vocab_add(&v, "\u2581a", 1, -4);
    vocab_add(&v, "<tool>", 4, 0);
    return v;
}

enum { NO_TOKENS = 1, NO_TYPES = 2, NO_SCORES = 4, NO_MERGES = 8 };

/* The keys of a vocabulary, less those in `without`. */
static inline gguf vocab_keys(vocab *v, int without)
{
    gguf g = gguf_new();
    g.bare = 1;
    key_text(&g, "general.architecture", "test");
    if (v->model) key_text(&g, KEY("model"), v->model);
    if (v->pre) key_text(&g, KEY("pre"), v->pre);
    if (!(without & NO_TOKENS)) {
        key_array(&g, KEY("tokens"), G_STRING, v->n);
        put(&g.keys, v->tokens.data, v->tokens.n);
    }
    if (!(without & NO_TYPES)) {
        key_array(&g, KEY("token_type"), G_I32, v->n);
        for (uint32_t i = 0; i < v->n; i++) put_u32(&g.keys, (uint32_t)v->type[i]);
    }
    if (!(without & NO_SCORES)) {
        key_array(&g, KEY("scores"), G_F32, v->n);
        put(&g.keys, v->score, v->n * sizeof *v->score);
    }
    if (!(without & NO_MERGES) && v->n_merges) {
        key_array(&g, KEY("merges"), G_STRING, v->n_merges);
        put(&g.keys, v->merges.data, v->merges.n);
    }
    free(v->tokens.data);
    free(v->merges.data);
    *v = (vocab){ 0 };
    return g;
}

/* The tokenizer of a file, which is removed again; NULL and *err. */
static inline pg_tokenizer *open_bytes(const char *folder, bytes b, pg_error *err)
{
    pg_tokenizer *t = NULL;
    const char *path = scratch_write(folder, "vocab.gguf", &b);
    if (pg_tokenizer_open(path, &t, err) < 0) t = NULL;
    scratch_remove(folder, "vocab.gguf");
    return t;
}

#endif
