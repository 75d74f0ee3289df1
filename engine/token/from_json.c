/* A tokenizer from tokenizer.json.
 *
 * Lives here: the model, its vocabulary and the added tokens.
 * Not here: normalizer, pre_tokenizer and decoder (json_pipeline.c); what a default encode adds, names of special tokens
 * (json_config.c).
 * Why so: the file is a program of sorts for Hugging Face's `tokenizers`. What is known is mapped to the parts that GGUF
 * files fill in as well; anything else is refused by its name, for a tokenizer that is nearly right is wrong.
 * Source: the file format as written by `tokenizers` 0.23. */
#include "tokenizer.h"

#include <math.h>
#include <stdio.h>

/* The vocabulary as it is collected: ids come in any order. */
typedef struct entry {
    const char *text; /* NULL: no token has this id */
    size_t n;
    double score;
    uint8_t type;
} entry;

typedef struct collection {
    const char *what;
    entry *entry;
    int64_t n; /* ids are below */
    bool byte_fallback;
    pg_error *err;
} collection;

static int get_bool(const json_t *object, const char *key, const char *what, bool *out, pg_error *err)
{
    json_t *value;
    int rc = pg_json_get(object, key, JSON_TRUE, what, &value, err);
    if (rc > 0) *out = json_is_true(value);
    return rc;
}

/* Members that would change the result and that nothing here knows how to honour. */
static int refuse_extras(const json_t *model, const char *what, pg_error *err)
{
    static const char *const text[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    for (size_t i = 0; i < 2; i++) {
        const json_t *value = json_object_get(model, text[i]);
        if (value && !json_is_null(value) && !(json_is_string(value) && json_string_length(value) == 0))
            return pg_fail(err, PG_EUNSUPPORTED, "%s: model.%s is not supported, expected null", what, text[i]);
    }
    const json_t *dropout = json_object_get(model, "dropout");
    if (dropout && !json_is_null(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
        return pg_fail(err, PG_EUNSUPPORTED, "%s: model.dropout is not supported, expected null", what);
    return PG_OK;
}

/* "<0x0A>" and the like. */
static bool is_byte_text(const char *s, size_t n)
{
    return n == 6 && memcmp(s, "<0x", 3) == 0 && strspn(s + 3, "0123456789ABCDEF") >= 2 && s[5] == '>';
}

static int check_id(const collection *c, const json_t *id, const char *key, pg_error *err)
{
    if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < PG_VOCAB_MAX) return PG_OK;
    return pg_fail(err, PG_EFORMAT, "%s: %.100s: expected an id from 0 to %d", c->what, key, PG_VOCAB_MAX - 1);
}

/* The number of ids: one more than the largest. */
static int count_ids(collection *c, json_t *vocab, const json_t *added)
{
    const char *key;
    json_t *id;
    size_t i;
    json_t *token;
    json_object_foreach(vocab, key, id)
    {
        int rc = check_id(c, id, "model.vocab", c->err);
        if (rc < 0) return rc;
        if (json_integer_value(id) >= c->n) c->n = json_integer_value(id) + 1;
    }
    json_array_foreach(added, i, token)
    {
        id = json_object_get(token, "id");
        int rc = check_id(c, id, "added_tokens", c->err);
        if (rc < 0) return rc;
        if (json_integer_value(id) >= c->n) c->n = json_integer_value(id) + 1;
    }
    /* Holes are filled with empty tokens, so a stray id must not make them the bulk of the vocabulary. */
    size_t there = json_object_size(vocab) + json_array_size(added);
    if ((size_t)c->n > 8 * there + 65536)
        return pg_fail(c->err, PG_EFORMAT, "%s: model.vocab: ids up to %lld for %zu tokens", c->what,
                       (long long)c->n - 1, there);
    return PG_OK;
}

static int collect_bpe(collection *c, json_t *vocab, const json_t *added)
{
    int rc = count_ids(c, vocab, added);
    if (rc < 0) return rc;
    c->entry = calloc((size_t)c->n + 1, sizeof *c->entry);
    if (!c->entry) return pg_fail(c->err, PG_EMEMORY, "%s: not enough memory for the vocabulary", c->what);
    const char *key;
    json_t *id;
    json_object_foreach(vocab, key, id)
    {
        entry *e = &c->entry[json_integer_value(id)];
        if (e->text)
            return pg_fail(c->err, PG_EFORMAT, "%s: model.vocab: id %lld belongs to '%.60s' and to '%.60s'", c->what,
                           (long long)json_integer_value(id), e->text, key);
        *e = (entry){ key, strlen(key), 0, PG_TYPE_NORMAL };
    }
    return PG_OK;
}

static int collect_unigram(collection *c, const json_t *vocab, const json_t *added)
{
    json_t *none = json_object();
    c->n = (int64_t)json_array_size(vocab);
    int rc = none ? count_ids(c, none, added) : pg_fail(c->err, PG_EMEMORY, "not enough memory for the vocabulary");
    json_decref(none);
    if (rc < 0) return rc;
    c->entry = calloc((size_t)c->n + 1, sizeof *c->entry);
    if (!c->entry) return pg_fail(c->err, PG_EMEMORY, "%s: not enough memory for the vocabulary", c->what);
    size_t i;
    json_t *pair;
    json_array_foreach(vocab, i, pair)
    {
        const json_t *text = json_array_get(pair, 0), *score = json_array_get(pair, 1);
        if (!json_is_string(text) || !json_is_number(score) || !isfinite(json_number_value(score)))
            return pg_fail(c->err, PG_EFORMAT, "%s: model.vocab[%zu]: expected a text and a finite score", c->what, i);
        c->entry[i] =
            (entry){ json_string_value(text), json_string_length(text), json_number_value(score), PG_TYPE_NORMAL };
    }
    return PG_OK;
}

/* Added tokens have their own text, even where the model's vocabulary has another for the id. */
static int collect_added(collection *c, const json_t *added)
{
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token)
    {
        char what[300];
        json_t *content;
        bool special = false;
        snprintf(what, sizeof what, "%.250s: added_tokens[%zu]", c->what, i);
        int rc = pg_json_get(token, "content", JSON_STRING, what, &content, c->err);
        if (rc == 0) rc = pg_fail(c->err, PG_EFORMAT, "%s: 'content' is missing", what);
        if (rc > 0) rc = get_bool(token, "special", what, &special, c->err);
        if (rc < 0) return rc;
        entry *e = &c->entry[json_integer_value(json_object_get(token, "id"))];
        *e = (entry){ json_string_value(content), json_string_length(content), e->score,
                      special ? PG_TYPE_CONTROL : PG_TYPE_USER };
        if (e->n == 0) e->type = PG_TYPE_UNUSED;
    }
    return PG_OK;
}

static int push_all(const collection *c, pg_tokenizer *t)
{
    if (t->model == PG_MODEL_UNIGRAM) {
        t->vocab.score = calloc((size_t)c->n + 1, sizeof *t->vocab.score);
        if (!t->vocab.score) return pg_fail(c->err, PG_EMEMORY, "%s: not enough memory for the vocabulary", c->what);
    }
    for (int64_t id = 0; id < c->n; id++) {
        const entry *e = &c->entry[id];
        int type = e->text ? e->type : PG_TYPE_UNUSED;
        if (c->byte_fallback && type == PG_TYPE_NORMAL && is_byte_text(e->text, e->n)) type = PG_TYPE_BYTE;
        int rc = pg_vocab_push(&t->vocab, e->text ? e->text : "", e->n, type, c->err);
        if (rc < 0) return rc;
        if (t->vocab.score) t->vocab.score[id] = e->score;
    }
    char what[300];
    snprintf(what, sizeof what, "%.250s: model.vocab", c->what);
    return pg_vocab_index(&t->vocab, what, c->err);
}

static int read_vocabulary(const json_t *model, const json_t *added, const char *what, pg_tokenizer *t, pg_error *err)
{
    bool unigram = t->model == PG_MODEL_UNIGRAM;
    json_t *vocab;
    int rc = pg_json_get(model, "vocab", unigram ? JSON_ARRAY : JSON_OBJECT, what, &vocab, err);
    if (rc == 0) return pg_fail(err, PG_EFORMAT, "%s: model.vocab is missing", what);
    if (rc < 0) return rc;
    collection c = { .what = what, .byte_fallback = t->byte_fallback, .err = err };
    rc = unigram ? collect_unigram(&c, vocab, added) : collect_bpe(&c, vocab, added);
    if (rc >= 0) rc = collect_added(&c, added);
    if (rc >= 0) rc = push_all(&c, t);
    free(c.entry);
    return rc;
}

/* A merge is "a b" or ["a", "b"]. */
static int read_merge(const json_t *merge, pg_tokenizer *t, pg_error *err)
{
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    const char *s = json_string_value(merge);
    size_t n = json_string_length(merge);
    if (json_array_size(merge) == 2 && json_string_length(left) && json_string_length(right))
        return pg_merges_add(&t->merges, &t->vocab, json_string_value(left), json_string_length(left),
                             json_string_value(right), json_string_length(right), err);
    const char *space = s && n > 2 ? memchr(s + 1, ' ', n - 2) : NULL;
    if (!space || memchr(space + 1, ' ', n - (size_t)(space - s) - 1)) return PG_EFORMAT;
    return pg_merges_add(&t->merges, &t->vocab, s, (size_t)(space - s), space + 1, n - (size_t)(space - s) - 1, err);
}

static int read_merges(const json_t *model, const char *what, pg_tokenizer *t, pg_error *err)
{
    json_t *merges, *merge;
    size_t i;
    int rc = pg_json_get(model, "merges", JSON_ARRAY, what, &merges, err);
    if (rc == 0) return pg_fail(err, PG_EFORMAT, "%s: model.merges is missing", what);
    if (rc > 0) rc = pg_merges_begin(&t->merges, &t->vocab, (int64_t)json_array_size(merges), err);
    if (rc < 0) return rc;
    json_array_foreach(merges, i, merge)
    {
        rc = read_merge(merge, t, err);
        if (rc == PG_EFORMAT)
            return pg_fail(err, rc, "%s: model.merges[%zu]: expected two texts, as \"a b\" or [\"a\", \"b\"]", what, i);
        if (rc < 0) return rc;
    }
    return PG_OK;
}

static int read_unknown(const json_t *model, const char *what, pg_tokenizer *t, pg_error *err)
{
    json_t *value;
    int rc = pg_json_get(model, t->model == PG_MODEL_BPE ? "unk_token" : "unk_id",
                         t->model == PG_MODEL_BPE ? JSON_STRING : JSON_INTEGER, what, &value, err);
    if (rc <= 0) return rc;
    json_int_t id = t->model == PG_MODEL_BPE
                        ? pg_vocab_find(&t->vocab, json_string_value(value), json_string_length(value))
                        : json_integer_value(value);
    if (id < 0 || id >= t->vocab.n)
        return pg_fail(err, PG_EFORMAT, "%s: the unknown token of the model is not in its vocabulary", what);
    t->unknown = t->info.unk = (int32_t)id;
    return PG_OK;
}

static int read_model(const json_t *model, const json_t *added, const char *what, pg_tokenizer *t, pg_error *err)
{
    json_t *value;
    int rc = pg_json_get(model, "type", JSON_STRING, what, &value, err);
    if (rc < 0) return rc;
    const char *type = rc ? json_string_value(value) : "BPE"; /* files of before 2021 leave it out */
    if (strcmp(type, "BPE") != 0 && strcmp(type, "Unigram") != 0)
        return pg_fail(err, PG_EUNSUPPORTED, "%s: model.type '%.60s' is not supported, expected BPE or Unigram", what,
                       type);
    bool bpe = type[0] == 'B';
    t->model = bpe ? PG_MODEL_BPE : PG_MODEL_UNIGRAM;
    snprintf(t->info.kind, sizeof t->info.kind, bpe ? "bpe json" : "unigram json");
    rc = refuse_extras(model, what, err);
    if (rc >= 0) rc = get_bool(model, "byte_fallback", what, &t->byte_fallback, err);
    if (rc >= 0) rc = get_bool(model, "ignore_merges", what, &t->ignore_merges, err);
    if (rc >= 0) rc = get_bool(model, "fuse_unk", what, &t->fuse_unk, err);
    if (rc >= 0) rc = read_vocabulary(model, added, what, t, err);
    if (rc >= 0 && bpe) rc = read_merges(model, what, t, err);
    return rc < 0 ? rc : read_unknown(model, what, t, err);
}

/* A token that is looked for in normalised text is itself normalised first. */
static int normalize_special(pg_tokenizer *t, pg_special *special, pg_error *err)
{
    pg_match match = { 0 };
    pg_normal_work work = { 0 };
    const char *s = special->text;
    int rc = pg_normalize(&t->normals, &match, &work, &s, &special->n, err);
    if (rc >= 0 && s != special->text) {
        special->own = malloc(special->n + 1);
        if (special->own && special->n) memcpy(special->own, s, special->n);
        if (!special->own) rc = pg_fail(err, PG_EMEMORY, "not enough memory for the special tokens");
        special->text = special->own;
    }
    pg_match_free(&match);
    pg_normal_work_free(&work);
    return rc;
}

static int read_added(const json_t *added, const char *what, pg_tokenizer *t, pg_error *err)
{
    size_t i;
    json_t *token;
    json_array_foreach(added, i, token)
    {
        int32_t id = (int32_t)json_integer_value(json_object_get(token, "id"));
        bool control = t->vocab.type[id] == PG_TYPE_CONTROL, normalized = !control;
        pg_special special = {
            .id = id, .text = pg_vocab_text(&t->vocab, id), .n = pg_vocab_size(&t->vocab, id), .always = !control
        };
        int rc = get_bool(token, "normalized", what, &normalized, err);
        if (rc >= 0) rc = get_bool(token, "lstrip", what, &special.lstrip, err);
        if (rc >= 0) rc = get_bool(token, "rstrip", what, &special.rstrip, err);
        if (rc >= 0) rc = get_bool(token, "single_word", what, &special.single_word, err);
        if (rc >= 0 && normalized) rc = normalize_special(t, &special, err);
        if (rc >= 0) rc = pg_specials_add(normalized ? &t->later : &t->first, &special, err);
        if (rc < 0) {
            free(special.own);
            return rc;
        }
    }
    return PG_OK;
}

int pg_tokenizer_from_json(const pg_companions *files, pg_text json, const char *what, pg_tokenizer *t, pg_error *err)
{
    json_t *root = pg_json_parse(json.data, json.n, what, err), *model, *added = NULL;
    if (!root) return err ? err->code : PG_EFORMAT;
    int rc = pg_json_get(root, "model", JSON_OBJECT, what, &model, err);
    if (rc == 0) rc = pg_fail(err, PG_EFORMAT, "%s: 'model' is missing, expected a tokenizer.json", what);
    if (rc > 0) rc = pg_json_get(root, "added_tokens", JSON_ARRAY, what, &added, err);
    if (rc >= 0) rc = read_model(model, added, what, t, err);
    if (rc >= 0) rc = pg_tokenizer_read_pipeline(root, what, t, err);
    if (rc >= 0) rc = read_added(added, what, t, err);
    if (rc >= 0) rc = pg_tokenizer_configure(root, files, what, t, err);
    json_decref(root);
    return rc < 0 ? rc : pg_tokenizer_finish(t, what, err);
}
