/* pg_encode: text to ids.
 *
 * Lives here: the order in which the parts of a tokenizer see a text, and what stands before and after it.
 * Not here: the parts (special.c, normal.c, split.c, bpe.c, unigram.c).
 * Why so: everything that changes while encoding is in a pg_work of the call, so a tokenizer may be used by any number
 * of threads at once. */
#include "tokenizer.h"

/* Bytes of text in one call: every count that depends on it fits 32 bits. */
#define TEXT_MAX ((size_t)1 << 29)

static void free_work(pg_work *w)
{
    pg_match_free(&w->match);
    pg_normal_work_free(&w->normal);
    pg_segments_free(&w->first);
    pg_segments_free(&w->later);
    pg_pieces_free(&w->pieces);
    free(w->link);
    free(w->heap);
    free(w->hop);
    free(w->ids.data);
}

static int add_id(pg_work *w, int32_t id, pg_error *err)
{
    return pg_ids_add(&w->ids, id) ? PG_OK : pg_fail(err, PG_EMEMORY, "not enough memory to encode");
}

static int encode_plain(const pg_tokenizer *t, pg_work *w, const char *s, size_t n, bool at_start, pg_error *err)
{
    int rc = pg_split(&t->steps, &w->match, &w->pieces, s, n, at_start, err);
    for (size_t i = 0; rc >= 0 && i < w->pieces.n; i++) {
        const char *piece = w->pieces.text.data + w->pieces.piece[i].from;
        size_t size = w->pieces.piece[i].to - w->pieces.piece[i].from;
        rc = t->model == PG_MODEL_UNIGRAM ? pg_unigram_encode(t, w, piece, size, err)
                                          : pg_bpe_encode(t, w, piece, size, err);
    }
    return rc;
}

/* A stretch of text without the special tokens that are matched in it as it is written. */
static int encode_raw(const pg_tokenizer *t, pg_work *w, const char *s, size_t n, bool control, bool at_start,
                      pg_error *err)
{
    int rc = pg_normalize(&t->normals, &w->match, &w->normal, &s, &n, err);
    if (rc < 0 || n == 0) return rc;
    rc = pg_partition(&t->later, s, n, control, &w->later, err);
    for (size_t i = 0; rc >= 0 && i < w->later.n; i++) {
        const pg_segment *part = &w->later.data[i];
        rc = part->id >= 0
                 ? add_id(w, part->id, err)
                 : encode_plain(t, w, s + part->from, part->to - part->from, at_start && part->from == 0, err);
    }
    return rc;
}

static int encode_text(const pg_tokenizer *t, pg_work *w, const char *s, size_t n, bool control, pg_error *err)
{
    int rc = n ? pg_partition(&t->first, s, n, control, &w->first, err) : PG_OK;
    for (size_t i = 0; rc >= 0 && i < w->first.n; i++) {
        const pg_segment *part = &w->first.data[i];
        rc = part->id >= 0 ? add_id(w, part->id, err)
                           : encode_raw(t, w, s + part->from, part->to - part->from, control, part->from == 0, err);
    }
    return rc;
}

/* What stands before the text, in *before: nothing when control tokens in the text already say it. */
static int begin_tokens(const pg_tokenizer *t, const pg_ids *text, int32_t flags, pg_ids *before, pg_error *err)
{
    *before = (pg_ids){ 0 };
    if (flags & PG_ENCODE_NO_BOS || !(flags & PG_ENCODE_BOS || t->info.add_bos)) return PG_OK;
    if (t->before.n == 0) return pg_fail(err, PG_EINVAL, "this tokenizer has no begin token");
    const pg_ids *begin = &t->before;
    bool said = flags & PG_ENCODE_SPECIAL && text->n >= begin->n &&
                memcmp(text->data, begin->data, begin->n * sizeof *begin->data) == 0;
    if (!said) *before = *begin;
    return PG_OK;
}

static void hand_out(const pg_ids *from, int32_t *ids, size_t max, size_t *n)
{
    for (size_t i = 0; i < from->n; i++, ++*n)
        if (*n < max) ids[*n] = from->data[i];
}

int pg_encode(pg_tokenizer *t, const char *text, size_t n, int32_t flags, int32_t *ids, int32_t max, pg_error *err)
{
    const int32_t both = PG_ENCODE_BOS | PG_ENCODE_NO_BOS;
    if (!t || (!text && n) || (!ids && max) || max < 0)
        return pg_fail(err, PG_EINVAL, "pg_encode: a tokenizer, a text and room for ids are needed");
    if (flags & ~(PG_ENCODE_SPECIAL | both) || (flags & both) == both)
        return pg_fail(err, PG_EINVAL, "pg_encode: flags %d are not a combination of PG_ENCODE_*", flags);
    if (n > TEXT_MAX) return pg_fail(err, PG_ELIMIT, "a text of %zu bytes; one call encodes at most %zu", n, TEXT_MAX);
    pg_work w = { 0 };
    pg_ids before, after = { 0 };
    int rc = encode_text(t, &w, text, n, flags & PG_ENCODE_SPECIAL, err);
    if (rc >= 0) rc = begin_tokens(t, &w.ids, flags, &before, err);
    if (rc >= 0) {
        size_t count = 0;
        if (t->info.add_eos && !(flags & PG_ENCODE_NO_BOS)) after = t->after;
        hand_out(&before, ids, (size_t)max, &count);
        hand_out(&w.ids, ids, (size_t)max, &count);
        hand_out(&after, ids, (size_t)max, &count);
        rc = count <= INT32_MAX ? (int)count : pg_fail(err, PG_ELIMIT, "the text has too many tokens");
    }
    free_work(&w);
    return rc;
}
