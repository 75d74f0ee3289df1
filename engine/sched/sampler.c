/* sampler: bias, penalties, truncation, temperature and the draw, for one row of logits.
 *
 * Here: everything between a row of logits and a token id. Not here: who is sampled when (sched), the checks on a
 * request's fields (submit), grammars and policies.
 *
 * Candidates are 64-bit words, a rank of the logit above the token id, so that one integer comparison is the order
 * "larger logit first, then lower id" and no sort can disagree with another. A small top-k is a bounded heap; a full
 * order is a radix sort, ten times quicker than comparing at a vocabulary's size. Probabilities that a truncation
 * looks at are those of the un-tempered distribution, renormalised over what the steps before it left; temperature
 * comes after all of them. Every truncation keeps at least one candidate.
 * Sources: as in sampler.h; radix sort: Knuth, TAOCP volume 3, section 5.2.5. */
#include "sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct pg_sampler {
    int32_t n_vocab;
    float *logit;    /* [n_vocab] after bias and penalties */
    int32_t *count;  /* [n_vocab] all zero between uses */
    uint64_t *order; /* [n_vocab] the candidates, best first */
    uint64_t *spare; /* [n_vocab] */
    double *weight;  /* [n_vocab] of order[i], relative to the best */
};

pg_sampler *pg_sampler_open(int32_t n_vocab)
{
    if (n_vocab < 1) return NULL;
    pg_sampler *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    size_t n = (size_t)n_vocab;
    s->n_vocab = n_vocab;
    s->logit = calloc(n, sizeof *s->logit);
    s->count = calloc(n, sizeof *s->count);
    s->order = calloc(n, sizeof *s->order);
    s->spare = calloc(n, sizeof *s->spare);
    s->weight = calloc(n, sizeof *s->weight);
    if (s->logit && s->count && s->order && s->spare && s->weight) return s;
    pg_sampler_close(s);
    return NULL;
}

void pg_sampler_close(pg_sampler *s)
{
    if (!s) return;
    free(s->logit);
    free(s->count);
    free(s->order);
    free(s->spare);
    free(s->weight);
    free(s);
}

/* ---- noise ------------------------------------------------------------------------------------------------------ */

void pg_philox(uint64_t key, uint64_t counter_low, uint64_t counter_high, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)counter_low, c1 = (uint32_t)(counter_low >> 32);
    uint32_t c2 = (uint32_t)counter_high, c3 = (uint32_t)(counter_high >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* In [0, 1), a multiple of 2^-53. */
static double uniform(uint64_t seed, int32_t position, int32_t attempt)
{
    uint32_t r[4];
    pg_philox(seed, (uint32_t)position, (uint32_t)attempt, r);
    return ((double)(r[0] >> 5) * 67108864.0 + (double)(r[1] >> 6)) * 0x1p-53;
}

/* ---- order ------------------------------------------------------------------------------------------------------ */

/* Smaller is better: a larger logit, then a lower id. Adding 0 turns -0 into +0, which must tie. */
static uint64_t rank_of(float logit, int32_t id)
{
    float x = logit + 0.0f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = bits >> 31 ? bits : ~bits & 0x7FFFFFFFu;
    return (uint64_t)bits << 32 | (uint32_t)id;
}

static int32_t id_of(uint64_t rank)
{
    return (int32_t)(uint32_t)rank;
}

/* Put heap[at] where it belongs below; the largest word is on top. */
static void sift(uint64_t *heap, int32_t n, int32_t at)
{
    uint64_t x = heap[at];
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

static void heapify(uint64_t *heap, int32_t n)
{
    for (int32_t i = n / 2; i-- > 0;) sift(heap, n, i);
}

static uint64_t pop(uint64_t *heap, int32_t *n)
{
    uint64_t top = heap[0];
    heap[0] = heap[--*n];
    sift(heap, *n, 0);
    return top;
}

/* The k best of logit[n] that are above -inf (or all, when `floor` is false) and not `skip`, best first, to out[k];
 * NaN counts as -inf. Returns how many there are. */
static int32_t select_best(const float *logit, int32_t n, int32_t k, bool floor, int32_t skip, uint64_t *out)
{
    int32_t m = 0;
    for (int32_t i = 0; i < n; i++) {
        float x = logit[i] > -INFINITY ? logit[i] : -INFINITY;
        if (i == skip || (floor && x == -INFINITY)) continue;
        uint64_t rank = rank_of(x, i);
        if (m < k) {
            out[m++] = rank;
            if (m == k) heapify(out, m);
        } else if (rank < out[0]) {
            out[0] = rank;
            sift(out, k, 0);
        }
    }
    if (m < k) heapify(out, m);
    for (int32_t left = m; left > 1;) {
        uint64_t worst = pop(out, &left);
        out[left] = worst;
    }
    return m;
}

enum { DIGIT = 11, DIGITS = 3, BUCKETS = 1 << DIGIT };

/* All candidates above -inf, best first, to s->order. Ids arrive ascending and each pass is stable, so only the upper
 * half of a word needs sorting. */
static int32_t sort_all(pg_sampler *s)
{
    uint32_t start[DIGITS][BUCKETS] = { { 0 } };
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_vocab; i++) {
        if (s->logit[i] == -INFINITY) continue;
        uint64_t rank = rank_of(s->logit[i], i);
        for (int d = 0; d < DIGITS; d++) start[d][rank >> (32 + DIGIT * d) & (BUCKETS - 1)]++;
        s->order[n++] = rank;
    }
    for (int d = 0; d < DIGITS; d++) {
        uint32_t sum = 0;
        for (int b = 0; b < BUCKETS; b++) {
            uint32_t count = start[d][b];
            start[d][b] = sum;
            sum += count;
        }
        for (int32_t i = 0; i < n; i++) {
            uint64_t rank = s->order[i];
            s->spare[start[d][rank >> (32 + DIGIT * d) & (BUCKETS - 1)]++] = rank;
        }
        uint64_t *swap = s->order;
        s->order = s->spare;
        s->spare = swap;
    }
    return n;
}

/* ---- logits ----------------------------------------------------------------------------------------------------- */

/* Copy the row, NaN as -inf; false when no logit is finite. */
static bool take_row(pg_sampler *s, const float *logits)
{
    bool finite = false;
    for (int32_t i = 0; i < s->n_vocab; i++) {
        float x = logits[i];
        finite |= x - x == 0;
        s->logit[i] = x > -INFINITY ? x : -INFINITY;
    }
    return finite;
}

static void add_bias(pg_sampler *s, const pg_request *how)
{
    for (int32_t i = 0; i < how->n_bias; i++) {
        int32_t t = how->bias[i].token;
        if (t < 0 || t >= s->n_vocab) continue;
        float x = s->logit[t] + how->bias[i].bias;
        s->logit[t] = x > -INFINITY ? x : -INFINITY; /* a ban beats a +inf: their sum is NaN */
    }
}

/* Each token of the window is counted in a first walk, changed once and its count cleared in a second. */
static void penalise(pg_sampler *s, const pg_draw *draw)
{
    const pg_request *how = draw->how;
    if (how->repeat_penalty == 1 && how->frequency_penalty == 0 && how->presence_penalty == 0) return;
    if (draw->n_history < 1) return;
    int32_t n = draw->n_history;
    if (how->repeat_last_n >= 0 && how->repeat_last_n < n) n = how->repeat_last_n;
    const int32_t *window = draw->history + (draw->n_history - n);
    for (int32_t i = 0; i < n; i++)
        if (window[i] >= 0 && window[i] < s->n_vocab) s->count[window[i]]++;
    for (int32_t i = 0; i < n; i++) {
        int32_t t = window[i];
        if (t < 0 || t >= s->n_vocab || s->count[t] == 0) continue;
        float x = s->logit[t];
        x = x <= 0 ? x * how->repeat_penalty : x / how->repeat_penalty;
        x -= (float)s->count[t] * how->frequency_penalty + how->presence_penalty;
        s->logit[t] = x > -INFINITY ? x : -INFINITY;
        s->count[t] = 0;
    }
}

/* The first of the largest logits, -1 when all are -inf. A +inf is certainty: then its holders share the row evenly
 * and all others leave it, so that no later step subtracts infinities. */
static int32_t find_best(pg_sampler *s)
{
    int32_t best = -1;
    float max = -INFINITY;
    for (int32_t i = 0; i < s->n_vocab; i++)
        if (s->logit[i] > max) {
            max = s->logit[i];
            best = i;
        }
    if (max == INFINITY)
        for (int32_t i = 0; i < s->n_vocab; i++) s->logit[i] = s->logit[i] == INFINITY ? 0 : -INFINITY;
    return best;
}

/* ---- truncation ------------------------------------------------------------------------------------------------- */

/* weight[i] = exp((logit of order[i] - best logit) / temperature); returns their sum. */
static double weigh(pg_sampler *s, int32_t n, double temperature)
{
    double top = s->logit[id_of(s->order[0])], sum = 0;
    for (int32_t i = 0; i < n; i++) {
        s->weight[i] = exp((s->logit[id_of(s->order[i])] - top) / temperature);
        sum += s->weight[i];
    }
    return sum;
}

/* Keep those whose surprise -ln p is closest to the entropy, until they hold more than `mass`. Distances are compared
 * in f32: two that differ by rounding alone are a tie, which the better candidate wins. */
static int32_t keep_typical(pg_sampler *s, int32_t n, double mass)
{
    double sum = weigh(s, n, 1), log_sum = log(sum), entropy = log_sum;
    double top = s->logit[id_of(s->order[0])];
    for (int32_t i = 0; i < n; i++) entropy -= s->weight[i] / sum * (s->logit[id_of(s->order[i])] - top);
    for (int32_t i = 0; i < n; i++) {
        float far = (float)fabs(log_sum - (s->logit[id_of(s->order[i])] - top) - entropy);
        uint32_t bits;
        memcpy(&bits, &far, sizeof bits);
        s->spare[i] = ~((uint64_t)bits << 32 | (uint32_t)i); /* inverted: the heap has the largest word on top */
    }
    heapify(s->spare, n);
    double held = 0;
    int32_t left = n, m = 0;
    do {
        int32_t i = id_of(~pop(s->spare, &left));
        s->count[i] = 1;
        held += s->weight[i];
    } while (left > 0 && held <= mass * sum);
    for (int32_t i = 0; i < n; i++) {
        if (s->count[i]) s->order[m++] = s->order[i];
        s->count[i] = 0;
    }
    return m;
}

/* The smallest prefix that holds at least `mass`; weights as weigh left them. */
static int32_t keep_top_p(const pg_sampler *s, int32_t n, double mass, double sum)
{
    double held = s->weight[0];
    int32_t m = 1;
    while (m < n && held < mass * sum) held += s->weight[m++];
    return m;
}

/* Those at least `share` times as likely as the best, whose weight is 1. */
static int32_t keep_min_p(const pg_sampler *s, int32_t n, double share)
{
    int32_t m = 1;
    while (m < n && s->weight[m] >= share) m++;
    return m;
}

/* Fill s->order with what may be drawn; returns how many. */
static int32_t truncate_row(pg_sampler *s, const pg_request *how)
{
    /* A heap pays while few of the row pass through it. */
    bool few = how->top_k > 0 && how->top_k <= s->n_vocab / 16 + 64;
    int32_t k = how->top_k < s->n_vocab ? how->top_k : s->n_vocab;
    int32_t n = few ? select_best(s->logit, s->n_vocab, k, true, -1, s->order) : sort_all(s);
    if (how->top_k > 0 && n > how->top_k) n = how->top_k;
    if (how->typical_p < 1) n = keep_typical(s, n, how->typical_p);
    if (how->top_p < 1 || how->min_p > 0) {
        double sum = weigh(s, n, 1);
        if (how->top_p < 1) n = keep_top_p(s, n, how->top_p, sum);
        if (how->min_p > 0) n = keep_min_p(s, n, how->min_p);
    }
    return n;
}

/* ---- log-probabilities ------------------------------------------------------------------------------------------ */

/* What turns a logit into ln p. The largest logit and the rest stay apart: their sum may swallow the rest. */
typedef struct total {
    float top;
    double log_sum; /* ln sum exp(logit - top); beside a +inf, as in find_best, ln of how many there are */
} total;

static total total_of(const float *logits, int32_t n)
{
    total t = { -INFINITY, 0 };
    for (int32_t i = 0; i < n; i++)
        if (logits[i] > t.top) t.top = logits[i];
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        if (logits[i] == t.top) {
            sum += 1; /* the difference of two infinities is none */
        } else if (logits[i] > -INFINITY) {
            sum += exp((double)logits[i] - t.top);
        }
    }
    t.log_sum = log(sum);
    return t;
}

static float log_share(float logit, total t)
{
    if (!(logit > -INFINITY)) return -INFINITY;
    double below = logit == t.top ? 0 : (double)logit - t.top;
    return (float)(below - t.log_sum);
}

float pg_logprob_of(const float *logits, int32_t n_vocab, int32_t token)
{
    return log_share(logits[token], total_of(logits, n_vocab));
}

/* The chosen token, then the best of the others; places beyond the vocabulary get token -1. */
static void list_logprobs(pg_sampler *s, const pg_draw *draw, int32_t chosen)
{
    int32_t n = draw->how->logprobs;
    total all = total_of(draw->logits, s->n_vocab);
    draw->logprobs[0] = (pg_logprob){ chosen, log_share(draw->logits[chosen], all) };
    int32_t k = n - 1 < s->n_vocab ? n - 1 : s->n_vocab;
    int32_t others = k > 0 ? select_best(draw->logits, s->n_vocab, k, false, chosen, s->order) : 0;
    for (int32_t i = 0; i < n - 1; i++) {
        int32_t t = i < others ? id_of(s->order[i]) : -1;
        draw->logprobs[1 + i] = (pg_logprob){ t, t < 0 ? -INFINITY : log_share(draw->logits[t], all) };
    }
}

/* ---- the draw --------------------------------------------------------------------------------------------------- */

static int32_t draw_one(pg_sampler *s, const pg_draw *draw)
{
    int32_t n = truncate_row(s, draw->how);
    double sum = weigh(s, n, draw->how->temperature);
    double target = uniform(draw->seed, draw->position, draw->attempt) * sum;
    int32_t i = 0;
    for (double held = s->weight[0]; i < n - 1 && held <= target; held += s->weight[i]) i++;
    return id_of(s->order[i]);
}

int32_t pg_sample(pg_sampler *s, const pg_draw *draw)
{
    if (!take_row(s, draw->logits)) return PG_EINVAL;
    add_bias(s, draw->how);
    penalise(s, draw);
    int32_t token = find_best(s);
    if (token < 0) return PG_EINVAL;
    if (draw->how->temperature > 0) token = draw_one(s, draw);
    if (draw->logprobs && draw->how->logprobs > 0) list_logprobs(s, draw, token);
    return token;
}
