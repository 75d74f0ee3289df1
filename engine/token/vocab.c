/* The table behind a vocabulary.
 *
 * Lives here: texts in one block, open-addressing hashes for text -> symbol and pair -> merge.
 * Not here: what a text means (decode.c), how pairs are chosen (bpe.c), where texts come from (from_gguf.c ...).
 * Why so: a vocabulary of 150 000 tokens and as many merges must be ready in a tenth of a second, so nothing here
 * allocates for each text, and merging compares numbers, never strings. */
#include "vocab.h"

#include <stdio.h>
#include <sys/random.h>

#define FREE (-1)

void pg_vocab_free(pg_vocab *v)
{
    free(v->at);
    free(v->type);
    free(v->score);
    free(v->text.data);
    free(v->slot);
}

static uint64_t mix(uint64_t h)
{
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

static uint64_t hash_text(const char *s, size_t n, uint64_t seed)
{
    uint64_t h = seed ^ n, word;
    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&word, s, 8);
        h = mix(h ^ word);
    }
    word = 0;
    for (size_t i = 0; i < n; i++) word |= (uint64_t)(unsigned char)s[i] << 8 * i;
    return mix(mix(h ^ word));
}

static bool append_text(pg_vocab *v, const char *s, size_t n)
{
    void *at = v->at;
    bool fine = pg_grow(&at, v->at ? (size_t)v->n_symbol + 1 : 0, &v->at_room, 2, sizeof *v->at);
    v->at = at;
    if (!fine || !pg_buf_room(&v->text, n + 1)) return false;
    v->at[v->n_symbol++] = v->text.n;
    pg_buf_add(&v->text, s, n);
    pg_buf_add(&v->text, "", 1);
    v->at[v->n_symbol] = v->text.n;
    return true;
}

int pg_vocab_push(pg_vocab *v, const char *s, size_t n, int type, pg_error *err)
{
    if (v->n == PG_VOCAB_MAX) return pg_fail(err, PG_ELIMIT, "a vocabulary has at most %d tokens", PG_VOCAB_MAX);
    void *types = v->type;
    bool fine = pg_grow(&types, (size_t)v->n, &v->type_room, 1, 1);
    v->type = types;
    if (!fine || !append_text(v, s, n)) return pg_fail(err, PG_EMEMORY, "not enough memory for the vocabulary");
    v->type[v->n++] = (uint8_t)type;
    if (n > v->longest) v->longest = n;
    return PG_OK;
}

/* Where a text is or would be. */
static uint32_t place(const pg_vocab *v, const char *s, size_t n)
{
    uint32_t i = (uint32_t)hash_text(s, n, v->seed) & v->mask;
    for (; v->slot[i] != FREE; i = (i + 1) & v->mask) {
        int32_t symbol = v->slot[i];
        if (pg_vocab_size(v, symbol) == n && memcmp(pg_vocab_text(v, symbol), s, n) == 0) break;
    }
    return i;
}

static int rehash(pg_vocab *v, pg_error *err)
{
    uint32_t n_slot = 64;
    while (n_slot / 2 < (uint32_t)v->n_symbol + 1) n_slot *= 2;
    int32_t *slot = malloc(n_slot * sizeof *slot);
    if (!slot) return pg_fail(err, PG_EMEMORY, "not enough memory for the vocabulary");
    free(v->slot);
    v->slot = slot;
    v->mask = n_slot - 1;
    for (uint32_t i = 0; i < n_slot; i++) slot[i] = FREE;
    for (int32_t id = 0; id < v->n_symbol; id++) {
        size_t n = pg_vocab_size(v, id);
        uint32_t i = n ? place(v, pg_vocab_text(v, id), n) : 0;
        if (n && slot[i] == FREE) slot[i] = id;
    }
    return PG_OK;
}

int pg_vocab_index(pg_vocab *v, const char *what, pg_error *err)
{
    if (v->n == 0) return pg_fail(err, PG_EFORMAT, "%s: the vocabulary is empty, expected at least one token", what);
    for (int32_t id = 0; id < v->n; id++) {
        size_t n = pg_vocab_size(v, id);
        if (n > PG_TOKEN_TEXT_MAX)
            return pg_fail(err, PG_EFORMAT, "%s: token %d has %zu bytes, expected at most %d", what, id, n,
                           PG_TOKEN_TEXT_MAX);
        if (n == 0 && v->type[id] != PG_TYPE_CONTROL && v->type[id] != PG_TYPE_UNUSED)
            return pg_fail(err, PG_EFORMAT, "%s: token %d has no text; only control and unused tokens may be empty",
                           what, id);
    }
    if (getrandom(&v->seed, sizeof v->seed, GRND_NONBLOCK) < 0) v->seed = (uintptr_t)v;
    return rehash(v, err);
}

int32_t pg_vocab_find(const pg_vocab *v, const char *s, size_t n)
{
    return n ? v->slot[place(v, s, n)] : -1;
}

int32_t pg_vocab_plain(const pg_vocab *v, const char *s, size_t n)
{
    int32_t id = n <= v->longest ? pg_vocab_find(v, s, n) : -1;
    return pg_vocab_is_plain(v, id) ? id : -1;
}

void pg_vocab_bytes(const pg_vocab *v, int32_t id[256])
{
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        int n = snprintf(text, sizeof text, "<0x%02X>", b);
        id[b] = pg_vocab_find(v, text, (size_t)n);
        if (id[b] >= v->n) id[b] = -1;
    }
}

/* The symbol of a text, which becomes one when it is none yet. */
static int32_t intern(pg_vocab *v, const char *s, size_t n, pg_error *err)
{
    uint32_t i = place(v, s, n);
    if (v->slot[i] != FREE) return v->slot[i];
    if (v->n_symbol == INT32_MAX / 4) return pg_fail(err, PG_ELIMIT, "too many merges");
    if (!append_text(v, s, n)) return pg_fail(err, PG_EMEMORY, "not enough memory for the merges");
    v->slot[i] = v->n_symbol - 1;
    if ((uint32_t)v->n_symbol >= v->mask / 2) {
        int rc = rehash(v, err);
        if (rc < 0) return rc;
    }
    return v->n_symbol - 1;
}

int pg_merges_begin(pg_merges *m, const pg_vocab *v, int64_t n, pg_error *err)
{
    if (n > INT32_MAX / 8) return pg_fail(err, PG_ELIMIT, "too many merges");
    uint32_t n_slot = 64;
    while (n_slot / 2 < n) n_slot *= 2;
    m->slot = malloc(n_slot * sizeof *m->slot);
    if (!m->slot) return pg_fail(err, PG_EMEMORY, "not enough memory for the merges");
    for (uint32_t i = 0; i < n_slot; i++) m->slot[i].whole = FREE;
    m->mask = n_slot - 1;
    m->n = 0;
    m->seed = v->seed;
    return PG_OK;
}

static pg_merge *merge_place(const pg_merges *m, uint64_t pair)
{
    uint32_t i = (uint32_t)mix(mix(pair ^ m->seed)) & m->mask;
    while (m->slot[i].whole != FREE && m->slot[i].pair != pair) i = (i + 1) & m->mask;
    return &m->slot[i];
}

int pg_merges_add(pg_merges *m, pg_vocab *v, const char *left, size_t n_left, const char *right, size_t n_right,
                  pg_error *err)
{
    char near[128], *whole = near;
    size_t n = n_left + n_right;
    if (n > sizeof near && !(whole = malloc(n))) return pg_fail(err, PG_EMEMORY, "not enough memory for the merges");
    memcpy(whole, left, n_left);
    memcpy(whole + n_left, right, n_right);
    int32_t a = intern(v, left, n_left, err), b = a < 0 ? a : intern(v, right, n_right, err);
    int32_t ab = b < 0 ? b : intern(v, whole, n, err);
    if (whole != near) free(whole);
    if (ab < 0) return ab;
    uint64_t pair = (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
    pg_merge *merge = merge_place(m, pair);
    if (merge->whole == FREE) *merge = (pg_merge){ pair, m->n, ab };
    m->n++;
    return PG_OK;
}

const pg_merge *pg_merges_find(const pg_merges *m, int32_t left, int32_t right)
{
    const pg_merge *merge = merge_place(m, (uint64_t)(uint32_t)left << 32 | (uint32_t)right);
    return merge->whole == FREE ? NULL : merge;
}
