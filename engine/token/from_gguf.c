/* A tokenizer from the keys of a GGUF file.
 *
 * Lives here: tokenizer.ggml.* with their defaults and checks.
 * Not here: the bytes of the file (load/), the expressions behind tokenizer.ggml.pre (pre.c).
 * Source: the key list of the GGUF document; defaults are those of llama.cpp. */
#include "tokenizer.h"

#include <stdio.h>

#define KEY(name) "tokenizer.ggml." name
#define MARK "\u2581" /* stands for a space in SentencePiece's vocabularies */

/* What reading an array of texts needs. */
typedef struct reader {
    pg_source *s;
    pg_tokenizer *t;
    pg_error *err;
} reader;

static int see_token(void *ud, int64_t i, pg_text text)
{
    reader *r = ud;
    int64_t type = PG_TYPE_NORMAL;
    if (pg_source_key(r->s, KEY("token_type")) != PG_KEY_NONE) {
        int rc = pg_source_int_at(r->s, KEY("token_type"), i, 0, PG_TYPE_LAST, &type, r->err);
        if (rc < 0) return rc;
    }
    return pg_vocab_push(&r->t->vocab, text.data, text.n, (int)type, r->err);
}

/* An array that has one element for each token, when it is there at all. */
static int check_count(pg_source *s, const char *key, int64_t n, pg_error *err)
{
    if (pg_source_key(s, key) == PG_KEY_NONE || pg_source_count(s, key) == n) return PG_OK;
    return pg_fail(err, PG_EFORMAT, "%s: %s has %lld elements, expected %lld as in " KEY("tokens"), pg_source_path(s),
                   key, (long long)pg_source_count(s, key), (long long)n);
}

static int read_scores(pg_source *s, pg_tokenizer *t, pg_error *err)
{
    const char *path = pg_source_path(s);
    if (pg_source_key(s, KEY("scores")) == PG_KEY_NONE)
        return pg_fail(err, PG_EFORMAT, "%s: " KEY("scores") " is missing; a vocabulary of model 'llama' needs it",
                       path);
    t->vocab.score = malloc((size_t)t->vocab.n * sizeof *t->vocab.score);
    if (!t->vocab.score) return pg_fail(err, PG_EMEMORY, "%s: not enough memory for the vocabulary", path);
    int rc = 0;
    for (int32_t id = 0; rc >= 0 && id < t->vocab.n; id++)
        rc = pg_source_float_at(s, KEY("scores"), id, &t->vocab.score[id], err);
    return rc;
}

static int read_vocabulary(pg_source *s, pg_tokenizer *t, pg_error *err)
{
    if (pg_source_key(s, KEY("tokens")) == PG_KEY_NONE)
        return pg_fail(err, PG_EFORMAT, "%s: " KEY("tokens") " is missing", pg_source_path(s));
    int64_t n = pg_source_count(s, KEY("tokens"));
    if (n > PG_VOCAB_MAX)
        return pg_fail(err, PG_ELIMIT, "%s: " KEY("tokens") " has %lld elements, expected at most %d",
                       pg_source_path(s), (long long)n, PG_VOCAB_MAX);
    int rc = check_count(s, KEY("scores"), n, err);
    if (rc >= 0) rc = check_count(s, KEY("token_type"), n, err);
    reader r = { s, t, err };
    if (rc >= 0) rc = pg_source_each_text(s, KEY("tokens"), see_token, &r, err);
    char what[300];
    snprintf(what, sizeof what, "%.250s: " KEY("tokens"), pg_source_path(s));
    if (rc >= 0) rc = pg_vocab_index(&t->vocab, what, err);
    return rc < 0 || t->model != PG_MODEL_SPM ? rc : read_scores(s, t, err);
}

static int see_merge(void *ud, int64_t i, pg_text text)
{
    reader *r = ud;
    const char *space = text.n > 1 ? memchr(text.data + 1, ' ', text.n - 1) : NULL;
    size_t left = space ? (size_t)(space - text.data) : 0, right = space ? text.n - left - 1 : 0;
    if (right == 0 || memchr(space + 1, ' ', right))
        return pg_fail(
            r->err, PG_EFORMAT, "%s: " KEY("merges") "[%lld] is '%.*s', expected two texts with one space between",
            pg_source_path(r->s), (long long)i, (int)(text.n < PG_TOKEN_CLIP ? text.n : PG_TOKEN_CLIP), text.data);
    return pg_merges_add(&r->t->merges, &r->t->vocab, text.data, left, space + 1, right, r->err);
}

static int read_merges(pg_source *s, pg_tokenizer *t, pg_error *err)
{
    if (pg_source_key(s, KEY("merges")) == PG_KEY_NONE)
        return pg_fail(err, PG_EFORMAT, "%s: " KEY("merges") " is missing; a vocabulary of model 'gpt2' needs it",
                       pg_source_path(s));
    reader r = { s, t, err };
    int rc = pg_merges_begin(&t->merges, &t->vocab, pg_source_count(s, KEY("merges")), err);
    return rc < 0 ? rc : pg_source_each_text(s, KEY("merges"), see_merge, &r, err);
}

/* One special id; *id keeps its default when the key is absent, and is -1 when that default does not exist. */
static int read_id(pg_source *s, const pg_tokenizer *t, const char *key, int32_t *id, pg_error *err)
{
    int64_t value = *id < t->vocab.n ? *id : -1;
    int rc = pg_source_int(s, key, 0, t->vocab.n - 1, &value, err);
    *id = (int32_t)value;
    return rc;
}

static int add_end(pg_tokenizer *t, int32_t id, pg_error *err)
{
    return id < 0 || pg_ids_add(&t->ends, id) ? PG_OK : pg_fail(err, PG_EMEMORY, "not enough memory for a tokenizer");
}

static int read_specials(pg_source *s, pg_tokenizer *t, pg_error *err)
{
    static const char *const checked[] = { KEY("seperator_token_id"), KEY("cls_token_id"),     KEY("mask_token_id"),
                                           KEY("fim_pre_token_id"),   KEY("fim_suf_token_id"), KEY("fim_mid_token_id"),
                                           KEY("prefix_token_id"),    KEY("suffix_token_id"),  KEY("middle_token_id") };
    static const char *const ending[] = { KEY("eom_token_id"), KEY("fim_pad_token_id"), KEY("fim_rep_token_id"),
                                          KEY("fim_sep_token_id") };
    pg_tokenizer_info *info = &t->info;
    bool spm = t->model == PG_MODEL_SPM;
    info->bos = spm ? 1 : 11;
    info->eos = spm ? 2 : 11;
    info->unk = spm ? 0 : -1;
    int rc = read_id(s, t, KEY("bos_token_id"), &info->bos, err);
    if (rc >= 0) rc = read_id(s, t, KEY("eos_token_id"), &info->eos, err);
    /* The default is a guess: an ordinary token that it happens to hit must not end every generation. */
    if (rc > 0 || (rc == 0 && info->eos >= 0 && pg_token_is_hidden(t, info->eos))) rc = add_end(t, info->eos, err);
    if (rc >= 0) rc = read_id(s, t, KEY("eot_token_id"), &info->eot, err);
    if (rc >= 0) rc = add_end(t, info->eot, err);
    if (rc >= 0) rc = read_id(s, t, KEY("unknown_token_id"), &info->unk, err);
    if (rc >= 0) rc = read_id(s, t, KEY("padding_token_id"), &info->pad, err);
    for (size_t i = 0; rc >= 0 && i < sizeof ending / sizeof *ending; i++) {
        int32_t id = -1;
        rc = read_id(s, t, ending[i], &id, err);
        if (rc >= 0) rc = add_end(t, id, err);
    }
    for (size_t i = 0; rc >= 0 && i < sizeof checked / sizeof *checked; i++) {
        int32_t id = -1;
        rc = read_id(s, t, checked[i], &id, err);
    }
    return rc;
}

static int read_flags(pg_source *s, pg_tokenizer *t, bool add_bos, int *add_space, pg_error *err)
{
    int bos = add_bos, eos = 0;
    int rc = pg_source_bool(s, KEY("add_bos_token"), &bos, err);
    if (rc >= 0) rc = pg_source_bool(s, KEY("add_eos_token"), &eos, err);
    if (rc >= 0) rc = pg_source_bool(s, KEY("add_space_prefix"), add_space, err);
    t->info.add_bos = bos;
    t->info.add_eos = eos;
    return rc;
}

static int add_normal(pg_tokenizer *t, pg_normal_kind kind, const char *find, const char *text, pg_error *err)
{
    pg_normal *step = pg_normals_add(&t->normals, err);
    if (!step) return PG_EMEMORY;
    step->kind = kind;
    if (!pg_buf_put(&step->find, find) || !pg_buf_put(&step->text, text))
        return pg_fail(err, PG_EMEMORY, "not enough memory for the normalizer");
    return PG_OK;
}

static int make_spm(pg_source *s, pg_tokenizer *t, pg_error *err)
{
    int add_space = 1;
    int rc = read_flags(s, t, true, &add_space, err);
    if (rc >= 0 && add_space) rc = add_normal(t, PG_NORMAL_PREPEND, "", MARK, err);
    if (rc >= 0) rc = add_normal(t, PG_NORMAL_REPLACE, " ", MARK, err);
    t->byte_fallback = true;
    t->unknown = t->info.unk;
    t->drop_space = add_space;
    strcpy(t->mark, MARK);
    snprintf(t->info.kind, sizeof t->info.kind, "spm");
    return rc;
}

static int make_bpe(pg_source *s, pg_tokenizer *t, pg_error *err)
{
    static const char fallback[] = "default";
    pg_text name = { fallback, sizeof fallback - 1 };
    int rc = pg_source_text(s, KEY("pre"), &name, err), add_space = 0;
    if (rc < 0) return rc;
    const pg_pre *base = pg_pre_find(fallback, sizeof fallback - 1), *pre = pg_pre_find(name.data, name.n);
    int clip = (int)(name.n < 20 ? name.n : 20);
    if (rc == 0)
        pg_log(PG_LOG_WARN, "%s: " KEY("pre") " is missing; the rules of 'default' are used", pg_source_path(s));
    else if (!pre || (pre->pattern == base->pattern && pre != base))
        pg_log(PG_LOG_WARN, "%s: " KEY("pre") " '%.*s' is not known; the rules of 'default' are used, ids may differ",
               pg_source_path(s), clip, name.data);
    if (!pre) pre = base;
    rc = read_flags(s, t, pre->add_bos, &add_space, err);
    if (rc >= 0) rc = read_merges(s, t, err);
    if (rc >= 0 && add_space && !pg_steps_add(&t->steps, PG_STEP_SPACE, err)) rc = PG_EMEMORY;
    for (size_t i = 0; rc >= 0 && pre->pattern[i]; i++) rc = pg_steps_split(&t->steps, pre->pattern[i], err);
    if (rc >= 0 && !pg_steps_add(&t->steps, PG_STEP_BYTES, err)) rc = PG_EMEMORY;
    t->byte_level = true;
    t->ignore_merges = pre->ignore_merges;
    snprintf(t->info.kind, sizeof t->info.kind, "bpe %.*s", clip, name.data);
    return rc;
}

/* Control, unknown and user-defined tokens are looked for in every text. */
static int collect_specials(pg_tokenizer *t, pg_error *err)
{
    int rc = PG_OK;
    t->first.by_length = true;
    for (int32_t id = 0; rc >= 0 && id < t->vocab.n; id++) {
        int type = t->vocab.type[id];
        pg_special special = { .id = id,
                               .text = pg_vocab_text(&t->vocab, id),
                               .n = pg_vocab_size(&t->vocab, id),
                               .always = type == PG_TYPE_USER };
        if (type == PG_TYPE_CONTROL || type == PG_TYPE_UNKNOWN || type == PG_TYPE_USER)
            rc = pg_specials_add(&t->first, &special, err);
    }
    return rc;
}

/* tokenizer.chat_template, and tokenizer.chat_template.NAME. */
static int read_templates(pg_source *s, pg_tokenizer *t, pg_error *err)
{
    static const char prefix[] = "tokenizer.chat_template.";
    const size_t n = sizeof prefix - 1;
    pg_text chat;
    int rc = pg_source_text(s, "tokenizer.chat_template", &chat, err);
    if (rc > 0) rc = pg_tokenizer_set_template(t, chat.data, chat.n, err);
    for (int i = 0; rc >= 0 && i < pg_source_n_key(s); i++) {
        pg_text key = pg_source_key_name(s, i);
        char name[128];
        if (key.n <= n || key.n >= sizeof name || memcmp(key.data, prefix, n) != 0) continue;
        memcpy(name, key.data, key.n);
        name[key.n] = 0;
        rc = pg_source_text(s, name, &chat, err);
        if (rc > 0) rc = pg_tokenizer_add_template(t, (pg_text){ key.data + n, key.n - n }, chat, err);
    }
    return rc < 0 ? rc : PG_OK;
}

int pg_tokenizer_from_gguf(pg_source *s, pg_tokenizer *t, pg_error *err)
{
    pg_text model;
    int rc = pg_source_text(s, KEY("model"), &model, err);
    if (rc < 0) return rc;
    if (rc == 0 || (model.n == 4 && memcmp(model.data, "none", 4) == 0))
        return pg_fail(err, PG_ENOTFOUND, "%s: no tokenizer: " KEY("model") " is %s", pg_source_path(s),
                       rc ? "'none'" : "missing");
    bool spm = model.n == 5 && memcmp(model.data, "llama", 5) == 0;
    if (!spm && !(model.n == 4 && memcmp(model.data, "gpt2", 4) == 0))
        return pg_fail(err, PG_EUNSUPPORTED, "%s: " KEY("model") " is '%.*s', expected 'gpt2' or 'llama'",
                       pg_source_path(s), (int)(model.n < PG_TOKEN_CLIP ? model.n : PG_TOKEN_CLIP), model.data);
    t->model = spm ? PG_MODEL_SPM : PG_MODEL_BPE;
    rc = read_vocabulary(s, t, err);
    if (rc >= 0) rc = read_specials(s, t, err);
    if (rc >= 0) rc = spm ? make_spm(s, t, err) : make_bpe(s, t, err);
    if (rc >= 0) rc = collect_specials(t, err);
    if (rc >= 0) rc = read_templates(s, t, err);
    return rc < 0 ? rc : pg_tokenizer_finish(t, pg_source_path(s), err);
}
