/* Unigram: a piece becomes the tokens whose scores (log probabilities) have the highest sum.
 *
 * Lives here: the search for that sum. Not here: what a piece is (split.c).
 * Why so: the best way to reach each character needs only the best ways to reach those before it (Viterbi).
 * Source: Kudo, Subword Regularization, 2018; unknown characters cost 10 more than the worst token, as in
 * SentencePiece. */
#include "tokenizer.h"

#include "utf8.h"

#define UNKNOWN_COST 10.0

/* The best way to reach a place in the piece. */
struct pg_hop {
    double score;
    size_t from; /* where its last token begins; SIZE_MAX: the place is not reached */
    int32_t id;  /* -1: an unknown character */
};

static void reach(pg_hop *to, size_t from, double score, int32_t id)
{
    if (to->from == SIZE_MAX || score > to->score) *to = (pg_hop){ score, from, id };
}

static size_t character(const char *s, size_t n)
{
    uint32_t point;
    size_t size = pg_utf8_read(s, n, &point);
    return size ? size : 1;
}

static void search(const pg_tokenizer *t, pg_hop *hop, const char *s, size_t n, double unknown)
{
    for (size_t i = 0, size; i < n; i += size) {
        size = character(s + i, n - i);
        bool single = false;
        for (size_t to = i + size; to - i <= t->vocab.longest; to += character(s + to, n - to)) {
            int32_t id = pg_vocab_plain(&t->vocab, s + i, to - i);
            if (id >= 0) {
                reach(&hop[to], i, hop[i].score + t->vocab.score[id], id);
                single |= to == i + size;
            }
            if (to == n) break;
        }
        if (!single) reach(&hop[i + size], i, hop[i].score + unknown, -1);
    }
}

/* Unknown characters in a row: the tokens of their bytes, or one unknown token. */
static bool emit_unknown(const pg_tokenizer *t, pg_work *w, const char *s, size_t n)
{
    bool all = t->byte_fallback, fine = true;
    for (size_t i = 0; all && i < n; i++) all = t->byte_id[(unsigned char)s[i]] >= 0;
    if (!all) return t->unknown < 0 || pg_ids_add(&w->ids, t->unknown);
    for (size_t i = 0; fine && i < n; i++) fine = pg_ids_add(&w->ids, t->byte_id[(unsigned char)s[i]]);
    return fine;
}

/* Turn the way back from the end into the way there: hop[i].from becomes where the token that begins at i ends. */
static void reverse(pg_hop *hop, size_t n)
{
    size_t to = n, next = SIZE_MAX;
    int32_t id = -1;
    for (;;) {
        pg_hop here = hop[to];
        hop[to].from = next;
        hop[to].id = id;
        if (to == 0) return;
        next = to;
        id = here.id;
        to = here.from;
    }
}

int pg_unigram_encode(const pg_tokenizer *t, pg_work *w, const char *s, size_t n, pg_error *err)
{
    void *data = w->hop;
    bool fine = pg_grow(&data, 0, &w->hop_room, n + 1, sizeof *w->hop);
    w->hop = data;
    for (size_t i = 0; fine && i <= n; i++) w->hop[i] = (pg_hop){ 0, i ? SIZE_MAX : 0, -1 };
    if (fine) {
        search(t, w->hop, s, n, t->worst - UNKNOWN_COST);
        reverse(w->hop, n);
    }
    for (size_t i = 0, to; fine && i < n; i = to) {
        to = w->hop[i].from;
        if (w->hop[i].id >= 0) {
            fine = pg_ids_add(&w->ids, w->hop[i].id);
            continue;
        }
        while (to < n && w->hop[to].id < 0) to = w->hop[to].from;
        fine = emit_unknown(t, w, s + i, to - i);
    }
    return fine ? PG_OK : pg_fail(err, PG_EMEMORY, "not enough memory to encode a piece of %zu bytes", n);
}
