/* What every tokenizer has, whichever file it comes from.
 *
 * Lives here: life and death, the parts that follow from others, the small public questions.
 * Not here: opening by path (open.c), the two kinds of files (from_gguf.c, from_json.c), encoding, decoding.
 * Why so: both readers only fill in data; all tables that make encoding fast are built once, here, and never change. */
#include "tokenizer.h"

#include "utf8.h"

/* Control tokens that end a generation, by their text, whatever the file says. */
static const char *const end_texts[] = {
    "<|eot_id|>",    "<|im_end|>",
    "<|end|>",       "<|return|>",
    "<|call|>",      "<|flush|>",
    "<|calls|>",     "<end_of_turn>",
    "<|endoftext|>", "<|end_of_text|>",
    "</s>",          "<|eom_id|>",
    "<EOT>",         "_<EOT>",
    "<|eom|>",       "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "<|EOT|>",       "<end_of_utterance>",
    "[EOT]",         "[EOS]",
};

pg_tokenizer *pg_tokenizer_new(pg_error *err)
{
    pg_tokenizer *t = calloc(1, sizeof *t);
    if (!t) {
        pg_fail(err, PG_EMEMORY, "not enough memory for a tokenizer");
        return NULL;
    }
    pg_tokenizer_info *info = &t->info;
    info->bos = info->eos = info->eot = info->unk = info->pad = -1;
    t->unknown = -1;
    for (int b = 0; b < 256; b++) t->byte_id[b] = -1;
    return t;
}

void pg_tokenizer_close(pg_tokenizer *t)
{
    if (!t) return;
    pg_vocab_free(&t->vocab);
    free(t->merges.slot);
    pg_specials_free(&t->first);
    pg_specials_free(&t->later);
    pg_normals_free(&t->normals);
    pg_steps_free(&t->steps);
    free(t->before.data);
    free(t->after.data);
    free(t->ends.data);
    free(t->eog);
    pg_tokenizer_free_templates(t);
    free(t->plain.data);
    free(t->plain_at);
    free(t);
}

static int32_t find_control(const pg_tokenizer *t, const char *text)
{
    int32_t id = pg_vocab_find(&t->vocab, text, strlen(text));
    return id >= 0 && id < t->vocab.n && t->vocab.type[id] == PG_TYPE_CONTROL ? id : -1;
}

/* The set of tokens that end a generation. */
static int mark_ends(pg_tokenizer *t, pg_error *err)
{
    t->eog = calloc((size_t)t->vocab.n, sizeof *t->eog);
    if (!t->eog) return pg_fail(err, PG_EMEMORY, "not enough memory for the vocabulary");
    for (size_t i = 0; i < t->ends.n; i++) t->eog[t->ends.data[i]] = true;
    for (size_t i = 0; i < sizeof end_texts / sizeof *end_texts; i++) {
        int32_t id = find_control(t, end_texts[i]);
        if (id >= 0) t->eog[id] = true;
    }
    /* In the harmony format <|end|> closes a message, after which the model goes on with the next one. */
    int32_t end = find_control(t, "<|end|>");
    if (end >= 0 && find_control(t, "<|return|>") >= 0 && find_control(t, "<|call|>") >= 0) t->eog[end] = false;
    return PG_OK;
}

/* Symbols of the characters that texts are mostly made of, so that they need no hashing. */
static void find_symbols(pg_tokenizer *t, const char *what)
{
    int missing = 0;
    for (uint32_t c = 0; c < PG_SYMBOLS; c++) {
        char text[4];
        t->symbol[c] = pg_vocab_find(&t->vocab, text, pg_utf8_write(text, c));
        missing += t->symbol[c] < 0 && pg_point_to_byte(c) >= 0;
    }
    if (t->byte_level && missing)
        pg_log(PG_LOG_WARN, "%s: the vocabulary lacks the tokens of %d of the 256 bytes; text with them loses them",
               what, missing);
}

/* Begin and end tokens, where the files have not listed them. */
static int put_around(pg_tokenizer *t, const char *what, pg_error *err)
{
    pg_tokenizer_info *info = &t->info;
    if (t->before.n == 0 && info->bos >= 0 && !pg_ids_add(&t->before, info->bos))
        return pg_fail(err, PG_EMEMORY, "not enough memory for a tokenizer");
    if (t->after.n == 0 && info->eos >= 0 && !pg_ids_add(&t->after, info->eos))
        return pg_fail(err, PG_EMEMORY, "not enough memory for a tokenizer");
    if ((info->add_bos && t->before.n == 0) || (info->add_eos && t->after.n == 0))
        pg_log(PG_LOG_WARN, "%s: asks for a begin or end token but names none", what);
    info->add_bos = info->add_bos && t->before.n > 0;
    info->add_eos = info->add_eos && t->after.n > 0;
    return PG_OK;
}

int pg_tokenizer_finish(pg_tokenizer *t, const char *what, pg_error *err)
{
    t->info.n_vocab = t->vocab.n;
    find_symbols(t, what);
    pg_vocab_bytes(&t->vocab, t->byte_id);
    for (int32_t id = 0; t->vocab.score && id < t->vocab.n; id++)
        if (t->vocab.score[id] < t->worst) t->worst = t->vocab.score[id];
    int rc = pg_specials_index(&t->first, err);
    if (rc >= 0) rc = pg_specials_index(&t->later, err);
    if (rc >= 0) rc = put_around(t, what, err);
    if (rc >= 0) rc = mark_ends(t, err);
    return rc < 0 ? rc : pg_tokenizer_spell_out(t, err);
}

int pg_tokenizer_describe(pg_tokenizer *t, pg_tokenizer_info *out)
{
    if (!t || !out) return PG_EINVAL;
    *out = t->info;
    return PG_OK;
}

int pg_token_is_eog(pg_tokenizer *t, int32_t id)
{
    return t && id >= 0 && id < t->vocab.n && t->eog[id];
}

const char *pg_token_text(pg_tokenizer *t, int32_t id)
{
    return t && id >= 0 && id < t->vocab.n ? pg_vocab_text(&t->vocab, id) : NULL;
}

int32_t pg_tokenizer_longest(const pg_tokenizer *t)
{
    return (int32_t)t->plain_longest;
}

pg_token_kind pg_token_spell(const pg_tokenizer *t, int32_t id, const char **s, size_t *n)
{
    *s = t->plain.data + t->plain_at[id];
    *n = t->plain_at[id + 1] - t->plain_at[id];
    if (t->eog[id]) return PG_TOKEN_END;
    return pg_token_is_hidden(t, id) || t->vocab.type[id] == PG_TYPE_UNUSED ? PG_TOKEN_SILENT : PG_TOKEN_TEXT;
}

int32_t pg_token_count(const pg_tokenizer *t)
{
    return t->vocab.n;
}

int32_t pg_token_find(const pg_tokenizer *t, const char *s, size_t n)
{
    const int32_t id = pg_vocab_find(&t->vocab, s, n);
    return id < t->vocab.n ? id : -1;
}
