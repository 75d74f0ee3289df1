/* Merging: byte-pair encoding and its relative, SentencePiece's BPE.
 *
 * Lives here: turning one piece into symbols and joining them, best pair first.
 * Not here: what a piece is (split.c), Unigram (unigram.c).
 * Why so: both models repeat "join the best pair, the leftmost of equals"; they differ in what makes a pair good: the
 * rank of its merge, or the score of the token it becomes. Pairs wait in a heap, and a pair whose halves have changed
 * meanwhile is known by its size, so a piece of n symbols takes O(n log n) however long it is.
 * Sources: Sennrich et al., Neural Machine Translation of Rare Words with Subword Units, 2016; Kudo and Richardson,
 * SentencePiece, 2018. */
#include "tokenizer.h"

#include "utf8.h"

enum {
    NOTHING = -1, /* a character that no token and no merge knows */
    UNKNOWN = -2, /* the same, but there is an unknown token for it */
    FALLBACK = -3 /* FALLBACK - id: a byte, written as token id; it joins nothing */
};
#define END UINT32_MAX

/* A symbol in its place. size 0: it has been joined to the one before. */
struct pg_link {
    int32_t symbol;
    uint32_t from, size; /* bytes of the piece */
    uint32_t prev, next;
};

struct pg_pair {
    uint64_t order; /* smaller comes first: how good the pair is << 32 | where its left half begins */
    uint32_t left, size;
    int32_t whole;
};

static bool push(pg_work *w, pg_pair pair)
{
    void *data = w->heap;
    bool fine = pg_grow(&data, w->n_heap, &w->heap_room, 1, sizeof *w->heap);
    w->heap = data;
    if (!fine) return false;
    size_t i = w->n_heap++;
    for (; i > 0 && w->heap[(i - 1) / 2].order > pair.order; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = pair;
    return true;
}

static pg_pair pop(pg_work *w)
{
    pg_pair best = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0, n = w->n_heap;
    for (size_t next; (next = 2 * i + 1) < n; i = next) {
        if (next + 1 < n && w->heap[next + 1].order < w->heap[next].order) next++;
        if (w->heap[next].order >= last.order) break;
        w->heap[i] = w->heap[next];
    }
    w->heap[i] = last;
    return best;
}

/* A number that is smaller the higher the score is. */
static uint32_t score_order(double score)
{
    float f = (float)score + 0.0f; /* so that -0 equals 0 */
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
}

/* Put the pair that begins at `left` on the heap if it can be joined. */
static bool offer(const pg_tokenizer *t, pg_work *w, const char *s, uint32_t left)
{
    const pg_link *a = &w->link[left];
    if (a->next == END) return true;
    const pg_link *b = &w->link[a->next];
    uint32_t order;
    int32_t whole;
    if (t->model == PG_MODEL_SPM) {
        whole = pg_vocab_plain(&t->vocab, s + a->from, (size_t)a->size + b->size);
        if (whole < 0) return true;
        order = score_order(t->vocab.score[whole]);
    } else {
        const pg_merge *merge =
            a->symbol < 0 || b->symbol < 0 ? NULL : pg_merges_find(&t->merges, a->symbol, b->symbol);
        if (!merge) return true;
        whole = merge->whole;
        order = merge->rank;
    }
    return push(w, (pg_pair){ (uint64_t)order << 32 | a->from, left, a->size + b->size, whole });
}

static bool add_link(pg_work *w, int32_t symbol, size_t from, size_t size)
{
    void *data = w->link;
    bool fine = pg_grow(&data, w->n_link, &w->link_room, 1, sizeof *w->link);
    w->link = data;
    if (!fine) return false;
    uint32_t i = (uint32_t)w->n_link++;
    w->link[i] = (pg_link){ symbol, (uint32_t)from, (uint32_t)size, i ? i - 1 : END, END };
    if (i) w->link[i - 1].next = i;
    return true;
}

/* One character that no merge knows. */
static bool add_unknown(const pg_tokenizer *t, pg_work *w, const char *s, size_t from, size_t size)
{
    bool all = t->byte_fallback;
    for (size_t i = 0; all && i < size; i++) all = t->byte_id[(unsigned char)s[from + i]] >= 0;
    if (!all) return add_link(w, t->unknown >= 0 ? UNKNOWN : NOTHING, from, size);
    for (size_t i = 0; i < size; i++)
        if (!add_link(w, FALLBACK - t->byte_id[(unsigned char)s[from + i]], from + i, 1)) return false;
    return true;
}

static int32_t symbol_of(const pg_tokenizer *t, const char *s, size_t size, uint32_t point)
{
    return size && point < PG_SYMBOLS ? t->symbol[point] : pg_vocab_find(&t->vocab, s, size ? size : 1);
}

/* The piece as symbols, one for each character. SPM keeps unknown characters whole until the end: they may yet join. */
static bool spell(const pg_tokenizer *t, pg_work *w, const char *s, size_t n)
{
    w->n_link = 0;
    for (size_t i = 0, size; i < n; i += size) {
        uint32_t point = 0;
        size = pg_utf8_read(s + i, n - i, &point);
        int32_t symbol = symbol_of(t, s + i, size, point);
        if (size == 0) size = 1;
        bool fine =
            symbol >= 0 || t->model == PG_MODEL_SPM ? add_link(w, symbol, i, size) : add_unknown(t, w, s, i, size);
        if (!fine) return false;
    }
    return true;
}

static bool merge(const pg_tokenizer *t, pg_work *w, const char *s)
{
    w->n_heap = 0;
    for (uint32_t i = 0; i + 1 < w->n_link; i++)
        if (!offer(t, w, s, i)) return false;
    while (w->n_heap > 0) {
        pg_pair pair = pop(w);
        pg_link *a = &w->link[pair.left];
        if (a->size == 0 || a->next == END || a->size + w->link[a->next].size != pair.size) continue;
        pg_link *b = &w->link[a->next];
        a->symbol = pair.whole;
        a->size = pair.size;
        a->next = b->next;
        b->size = 0;
        if (a->next != END) w->link[a->next].prev = pair.left;
        if (!offer(t, w, s, pair.left)) return false;
        if (a->prev != END && !offer(t, w, s, a->prev)) return false;
    }
    return true;
}

/* The ids of a stretch that merging has left without a token. */
static bool emit_characters(const pg_tokenizer *t, pg_work *w, const char *s, size_t n)
{
    bool fine = true;
    for (size_t i = 0, size; fine && i < n; i += size) {
        uint32_t point;
        size = pg_utf8_read(s + i, n - i, &point);
        if (size == 0) size = 1;
        int32_t id = pg_vocab_plain(&t->vocab, s + i, size);
        if (id >= 0) {
            fine = pg_ids_add(&w->ids, id);
            continue;
        }
        if (t->model != PG_MODEL_SPM) continue; /* no sound vocabulary lacks a character that its merges have */
        for (size_t k = 0; fine && k < size; k++) {
            id = t->byte_id[(unsigned char)s[i + k]];
            if (id < 0) id = t->unknown;
            fine = id < 0 || pg_ids_add(&w->ids, id);
        }
    }
    return fine;
}

static bool emit_all(const pg_tokenizer *t, pg_work *w, const char *s)
{
    bool fine = true, fused = false;
    for (uint32_t i = w->n_link ? 0 : END; fine && i != END; i = w->link[i].next) {
        const pg_link *link = &w->link[i];
        bool unknown = link->symbol == UNKNOWN;
        if (link->symbol <= FALLBACK)
            fine = pg_ids_add(&w->ids, FALLBACK - link->symbol);
        else if (unknown)
            fine = fused || pg_ids_add(&w->ids, t->unknown);
        else if (link->symbol >= 0 || t->model == PG_MODEL_SPM)
            fine = link->symbol >= 0 && pg_vocab_is_plain(&t->vocab, link->symbol)
                       ? pg_ids_add(&w->ids, link->symbol)
                       : emit_characters(t, w, s + link->from, link->size);
        fused = unknown && t->fuse_unk;
    }
    return fine;
}

int pg_bpe_encode(const pg_tokenizer *t, pg_work *w, const char *s, size_t n, pg_error *err)
{
    if (n > INT32_MAX) return pg_fail(err, PG_ELIMIT, "a piece of %zu bytes is too long to encode", n);
    int32_t id = t->ignore_merges ? pg_vocab_plain(&t->vocab, s, n) : -1;
    bool fine = id >= 0 ? pg_ids_add(&w->ids, id) : spell(t, w, s, n) && merge(t, w, s) && emit_all(t, w, s);
    return fine ? PG_OK : pg_fail(err, PG_EMEMORY, "not enough memory to encode a piece of %zu bytes", n);
}
