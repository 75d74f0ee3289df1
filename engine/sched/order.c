/* order.c: see order.h. One pass finds the largest logit of every block of 32. The k-th largest of those is a bound that
 * k logits reach, so few others are looked at again; a bounded heap orders them. Where k is no small part of the row a
 * radix sort does it, ten times quicker than comparing at a vocabulary's size, after its first digit has shown what can
 * be left out.
 * Source of the radix sort: Knuth, TAOCP volume 3, section 5.2.5. */
#include "order.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 32 };

int pg_order_open(pg_order *o, int32_t n_vocab)
{
    const size_t n = (size_t)n_vocab;
    *o = (pg_order){ .n_vocab = n_vocab, .n_block = (int32_t)((n + BLOCK - 1) / BLOCK) };
    o->top = calloc((size_t)o->n_block, sizeof *o->top);
    o->best = calloc(n, sizeof *o->best);
    o->spare = calloc(n, sizeof *o->spare);
    if (o->top && o->best && o->spare) return 0;
    pg_order_close(o);
    return -1;
}

void pg_order_close(pg_order *o)
{
    free(o->top);
    free(o->best);
    free(o->spare);
    *o = (pg_order){ 0 };
}

/* Smaller is better: a larger logit, then a lower id. Adding 0 turns -0 into +0, which must tie. */
static inline uint64_t rank_of(float logit, int32_t id)
{
    const float x = logit + 0.0f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = bits >> 31 ? bits : ~bits & 0x7FFFFFFFu;
    return (uint64_t)bits << 32 | (uint32_t)id;
}

/* ---- the largest ------------------------------------------------------------------------------------------------ */

typedef float four __attribute__((vector_size(16)));
typedef int32_t four_bits __attribute__((vector_size(16)));

/* The larger of each two; b where a is NaN. */
static inline four larger(four a, four b)
{
    const four_bits first = a > b;
    return (four)((first & (four_bits)a) | (~first & (four_bits)b));
}

static float block_top(const float *x)
{
    const four none = { -INFINITY, -INFINITY, -INFINITY, -INFINITY };
    four a = none, b = none, v[2];
    for (int i = 0; i < BLOCK; i += 8) {
        memcpy(v, x + i, sizeof v);
        a = larger(v[0], a);
        b = larger(v[1], b);
    }
    a = larger(a, b);
    const float c = a[0] > a[1] ? a[0] : a[1], d = a[2] > a[3] ? a[2] : a[3];
    return c > d ? c : d;
}

float pg_order_top(const float *x, int32_t n)
{
    float top = -INFINITY;
    int32_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        const float t = block_top(x + i);
        top = t > top ? t : top;
    }
    for (; i < n; i++) top = x[i] > top ? x[i] : top;
    return top;
}

float pg_order_look(pg_order *o, const float *row)
{
    float top = -INFINITY;
    o->row = row;
    for (int32_t b = 0; b < o->n_block; b++) {
        const int32_t at = b * BLOCK, left = o->n_vocab - at;
        o->top[b] = left >= BLOCK ? block_top(row + at) : pg_order_top(row + at, left);
        top = o->top[b] > top ? o->top[b] : top;
    }
    return top;
}

int32_t pg_order_first(const pg_order *o, float top)
{
    int32_t b = 0;
    while (o->top[b] != top) b++;
    int32_t i = b * BLOCK;
    while (o->row[i] != top) i++;
    return i;
}

/* ---- a few ------------------------------------------------------------------------------------------------------ */

/* Put heap[at] where it belongs below; the largest word is on top. */
static void sift(uint64_t *heap, int32_t n, int32_t at)
{
    const uint64_t x = heap[at];
    for (;;) {
        int64_t child = 2 * (int64_t)at + 1;
        if (child >= n) break;
        if (child + 1 < n && heap[child + 1] > heap[child]) child++;
        if (heap[child] <= x) break;
        heap[at] = heap[child];
        at = (int32_t)child;
    }
    heap[at] = x;
}

void pg_heap_make(uint64_t *heap, int32_t n)
{
    for (int32_t i = n / 2; i-- > 0;) sift(heap, n, i);
}

uint64_t pg_heap_pop(uint64_t *heap, int32_t *n)
{
    const uint64_t top = heap[0];
    heap[0] = heap[--*n];
    sift(heap, *n, 0);
    return top;
}

/* Keep the k best of all that were offered; heap[0] is the worst of them once there are k. */
static inline void offer(uint64_t *heap, int32_t *n, int32_t k, uint64_t rank)
{
    if (*n < k) {
        heap[(*n)++] = rank;
        if (*n == k) pg_heap_make(heap, k);
    } else if (rank < heap[0]) {
        heap[0] = rank;
        sift(heap, k, 0);
    }
}

/* A number that k logits reach at least, -inf where blocks are too few to tell. */
static float bound_of(pg_order *o, int32_t k)
{
    if (k > o->n_block) return -INFINITY;
    int32_t n = 0;
    for (int32_t b = 0; b < o->n_block; b++) offer(o->best, &n, k, rank_of(o->top[b], b));
    return pg_rank_logit(o->best[0]);
}

static int32_t take_few(pg_order *o, int32_t k)
{
    const float bound = bound_of(o, k);
    int32_t n = 0;
    for (int32_t b = 0; b < o->n_block; b++) {
        if (o->top[b] < bound || o->top[b] == -INFINITY) continue;
        const int32_t end = (b + 1) * BLOCK < o->n_vocab ? (b + 1) * BLOCK : o->n_vocab;
        for (int32_t i = b * BLOCK; i < end; i++)
            if (o->row[i] >= bound && o->row[i] > -INFINITY) offer(o->best, &n, k, rank_of(o->row[i], i));
    }
    if (n < k) pg_heap_make(o->best, n);
    for (int32_t left = n; left > 1;) {
        const uint64_t worst = pg_heap_pop(o->best, &left);
        o->best[left] = worst;
    }
    return n;
}

/* ---- many ------------------------------------------------------------------------------------------------------- */

enum { DIGIT = 11, DIGITS = 3, BUCKETS = 1 << DIGIT };

static inline unsigned digit_of(uint64_t rank, int d)
{
    return (unsigned)(rank >> (32 + DIGIT * d)) & (BUCKETS - 1);
}

/* Ranks of all logits above -inf, by id, into o->best. */
static int32_t list_ranks(pg_order *o)
{
    int32_t n = 0;
    for (int32_t i = 0; i < o->n_vocab; i++)
        if (o->row[i] > -INFINITY) o->best[n++] = rank_of(o->row[i], i);
    return n;
}

/* Leave out those of n whose highest digit says that k others are better. */
static int32_t drop_worst(pg_order *o, int32_t n, int32_t k)
{
    uint32_t count[BUCKETS] = { 0 };
    for (int32_t i = 0; i < n; i++) count[digit_of(o->best[i], DIGITS - 1)]++;
    unsigned last = 0;
    for (int64_t sum = count[0]; sum < k; sum += count[last]) last++;
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++)
        if (digit_of(o->best[i], DIGITS - 1) <= last) o->best[m++] = o->best[i];
    return m;
}

/* Ids arrive ascending and each pass is stable, so only the upper half of a word needs sorting. */
static int32_t take_many(pg_order *o, int32_t k)
{
    uint32_t start[DIGITS][BUCKETS] = { { 0 } };
    int32_t n = list_ranks(o);
    if (n > k) n = drop_worst(o, n, k);
    for (int32_t i = 0; i < n; i++)
        for (int d = 0; d < DIGITS; d++) start[d][digit_of(o->best[i], d)]++;
    for (int d = 0; d < DIGITS; d++) {
        uint32_t sum = 0;
        for (int b = 0; b < BUCKETS; b++) {
            const uint32_t count = start[d][b];
            start[d][b] = sum;
            sum += count;
        }
        for (int32_t i = 0; i < n; i++) o->spare[start[d][digit_of(o->best[i], d)]++] = o->best[i];
        uint64_t *swap = o->best;
        o->best = o->spare;
        o->spare = swap;
    }
    return n < k ? n : k;
}

int32_t pg_order_take(pg_order *o, int32_t k)
{
    return k <= o->n_block / 4 + 64 ? take_few(o, k) : take_many(o, k);
}
