/* order.c: see order.h. One pass finds the largest logit of every block of 32. A bound that k of those reach leaves few
 * others to look at again, and each of these finds its place by counting the larger ones: no step of it is a branch
 * that a processor would guess wrong. Where k is no small part of the row a radix sort does it, ten times quicker than
 * comparing at a vocabulary's size, after its first digit has shown what can be left out.
 * Source of the radix sort: Knuth, TAOCP volume 3, section 5.2.5. */
#include "order.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#if defined __SSE__
#include <xmmintrin.h>
#endif

enum { BLOCK = 32 };

int pg_order_open(pg_order *o, int32_t n_vocab)
{
    const size_t n = (size_t)n_vocab, blocks = (n + BLOCK - 1) / BLOCK;
    *o = (pg_order){ .n_vocab = n_vocab, .n_block = (int32_t)blocks, .largest = -INFINITY };
    o->top = calloc(blocks, sizeof *o->top);
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

/* ---- the largest ------------------------------------------------------------------------------------------------ */

typedef float four __attribute__((vector_size(16)));
typedef int32_t four_bits __attribute__((vector_size(16)));

static inline four load(const float *x)
{
    four v;
    memcpy(&v, x, sizeof v);
    return v;
}

/* The larger of each two; b where a is NaN. One instruction, which compilers do not see in the comparison below. */
static inline four larger(four a, four b)
{
#if defined __SSE__
    return (four)_mm_max_ps((__m128)a, (__m128)b);
#else
    const four_bits first = a > b;
    return (four)((first & (four_bits)a) | (~first & (four_bits)b));
#endif
}

static inline float block_top(const float *x)
{
    const four none = { -INFINITY, -INFINITY, -INFINITY, -INFINITY };
    four a = none, b = none;
    for (int i = 0; i < BLOCK; i += 8) {
        a = larger(load(x + i), a);
        b = larger(load(x + i + 4), b);
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
    return o->largest = top;
}

int32_t pg_order_first(const pg_order *o)
{
    const float top = o->largest;
    int32_t b = 0;
    while (o->top[b] != top) b++;
    int32_t i = b * BLOCK;
    while (o->row[i] != top) i++;
    return i;
}

/* ---- heaps ------------------------------------------------------------------------------------------------------ */

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

/* ---- a few ------------------------------------------------------------------------------------------------------ */

/* How many of n numbers are not below x. */
static int32_t count_reaching(const float *number, int32_t n, float x)
{
    const four bound = { x, x, x, x };
    four_bits minus = { 0 };
    int32_t i = 0, count = 0;
    for (; i + 4 <= n; i += 4) minus += load(number + i) >= bound;
    for (; i < n; i++) count += number[i] >= x;
    return count - (minus[0] + minus[1] + minus[2] + minus[3]);
}

/* How many are above it. */
static int32_t count_above(const float *number, int32_t n, float x)
{
    const four bound = { x, x, x, x };
    four_bits minus = { 0 };
    int32_t i = 0, count = 0;
    for (; i + 4 <= n; i += 4) minus += load(number + i) > bound;
    for (; i < n; i++) count += number[i] > x;
    return count - (minus[0] + minus[1] + minus[2] + minus[3]);
}

/* A number that k logits reach and few others do, for k block tops reach it and at best a quarter more: sought downwards
 * from the largest in growing steps, then between the last two. Where that fails, one that all logits above -inf reach. */
static float bound_of(const pg_order *o, int32_t k)
{
    float low = o->largest, high = low, step = 1;
    int32_t n;
    do {
        if (step > 0x1p20f) return -FLT_MAX;
        high = low;
        low = o->largest - step;
        step *= 2;
        n = count_reaching(o->top, o->n_block, low);
    } while (n < k);
    for (int i = 0; i < 8 && n > k + k / 4; i++) {
        const float middle = low + (high - low) / 2;
        const int32_t reaching = count_reaching(o->top, o->n_block, middle);
        if (reaching < k) {
            high = middle;
        } else {
            low = middle;
            n = reaching;
        }
    }
    return low > -FLT_MAX ? low : -FLT_MAX;
}

/* Ids of the logits that reach a bound above -inf, ascending, into id[n_vocab]. */
static int32_t list_reaching(const pg_order *o, float bound, int32_t *id)
{
    int32_t *block = (int32_t *)o->best, n_block = 0, n = 0;
    for (int32_t b = 0; b < o->n_block; b++) {
        block[n_block] = b;
        n_block += o->top[b] >= bound;
    }
    for (int32_t j = 0; j < n_block; j++) {
        const int32_t at = block[j] * BLOCK, end = at + BLOCK < o->n_vocab ? at + BLOCK : o->n_vocab;
        for (int32_t i = at; i < end; i++) {
            id[n] = i;
            n += o->row[i] >= bound;
        }
    }
    return n;
}

enum { PLACED = 192 }; /* candidates up to which counting is quicker than a heap */

/* Each candidate goes behind the larger ones; equal ones follow each other as their ids do. */
static void place_all(pg_order *o, const int32_t *id, int32_t n)
{
    float x[PLACED];
    for (int32_t i = 0; i < n; i++) x[i] = o->row[id[i]];
    memset(o->best, 0, (size_t)n * sizeof *o->best); /* no number's rank */
    for (int32_t i = 0; i < n; i++) {
        int32_t at = count_above(x, n, x[i]);
        while (o->best[at]) at++;
        o->best[at] = pg_rank_of(x[i], id[i]);
    }
}

/* The k best of any number of candidates. */
static int32_t select_from(pg_order *o, const int32_t *id, int32_t n, int32_t k)
{
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++) {
        const uint64_t rank = pg_rank_of(o->row[id[i]], id[i]);
        if (m < k) {
            o->best[m++] = rank;
            if (m == k) pg_heap_make(o->best, k);
        } else if (rank < o->best[0]) {
            o->best[0] = rank;
            sift(o->best, k, 0);
        }
    }
    if (m < k) pg_heap_make(o->best, m);
    for (int32_t left = m; left > 1;) {
        const uint64_t worst = pg_heap_pop(o->best, &left);
        o->best[left] = worst;
    }
    return m;
}

static int32_t take_few(pg_order *o, int32_t k)
{
    int32_t *id = (int32_t *)o->spare;
    const int32_t n = list_reaching(o, bound_of(o, k), id);
    if (n > PLACED) return select_from(o, id, n, k);
    place_all(o, id, n);
    return n < k ? n : k;
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
        if (o->row[i] > -INFINITY) o->best[n++] = pg_rank_of(o->row[i], i);
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
