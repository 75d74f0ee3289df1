/* sampler: bias, penalties, truncation, temperature and the draw, for one row of logits.
 *
 * Here: everything between a row of logits and a token id. Not here: who is sampled when (sched), the checks on a
 * request's fields (submit), finding the best of a row (order), what a row weighs in all (softmax), grammars and
 * policies.
 *
 * Probabilities that a truncation looks at are those of the un-tempered distribution, renormalised over what the steps
 * before it left; temperature comes after all of them. Every truncation keeps at least one candidate. A row that nothing
 * has cut yet is not sorted as a whole: its candidates are taken in order until they hold the mass that is asked for.
 * Sources: as in sampler.h. */
#include "sampler.h"
#include "order.h"
#include "softmax.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct pg_sampler {
    int32_t n_vocab;
    float *logit;   /* [n_vocab] the row, once bias, penalties or certainty have changed it */
    int32_t *count; /* [n_vocab] all zero between uses */
    uint64_t *heap; /* [n_vocab] */
    double *weight; /* [n_vocab] of the candidates in order, relative to the best */
    pg_order order;
};

pg_sampler *pg_sampler_open(int32_t n_vocab)
{
    if (n_vocab < 1) return NULL;
    pg_sampler *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    const size_t n = (size_t)n_vocab;
    s->n_vocab = n_vocab;
    s->logit = calloc(n, sizeof *s->logit);
    s->count = calloc(n, sizeof *s->count);
    s->heap = calloc(n, sizeof *s->heap);
    s->weight = calloc(n, sizeof *s->weight);
    if (!pg_order_open(&s->order, n_vocab) && s->logit && s->count && s->heap && s->weight) return s;
    pg_sampler_close(s);
    return NULL;
}

void pg_sampler_close(pg_sampler *s)
{
    if (!s) return;
    pg_order_close(&s->order);
    free(s->logit);
    free(s->count);
    free(s->heap);
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

/* ---- logits ----------------------------------------------------------------------------------------------------- */

static bool has_finite(const float *x, int32_t n)
{
    int32_t i = 0;
    while (i < n && !isfinite(x[i])) i++;
    return i < n;
}

static bool is_penalised(const pg_draw *draw)
{
    const pg_request *how = draw->how;
    return draw->n_history > 0 &&
           (how->repeat_penalty != 1 || how->frequency_penalty != 0 || how->presence_penalty != 0);
}

static void add_bias(pg_sampler *s, const pg_request *how)
{
    for (int32_t i = 0; i < how->n_bias; i++) {
        const int32_t t = how->bias[i].token;
        if (t >= 0 && t < s->n_vocab) s->logit[t] += how->bias[i].bias; /* a ban beats a +inf: their sum is NaN */
    }
}

static void add_bans(pg_sampler *s, const pg_draw *draw)
{
    for (int32_t i = 0; i < draw->n_ban; i++)
        if (draw->ban[i] >= 0 && draw->ban[i] < s->n_vocab) s->logit[draw->ban[i]] = -INFINITY;
}

/* Each token of the window is counted in a first walk, changed once and its count cleared in a second. */
static void penalise(pg_sampler *s, const pg_draw *draw)
{
    const pg_request *how = draw->how;
    int32_t n = draw->n_history;
    if (how->repeat_last_n >= 0 && how->repeat_last_n < n) n = how->repeat_last_n;
    const int32_t *window = draw->history + (draw->n_history - n);
    for (int32_t i = 0; i < n; i++)
        if (window[i] >= 0 && window[i] < s->n_vocab) s->count[window[i]]++;
    for (int32_t i = 0; i < n; i++) {
        const int32_t t = window[i];
        if (t < 0 || t >= s->n_vocab || s->count[t] == 0) continue;
        const float x = s->logit[t];
        s->logit[t] = (x <= 0 ? x * how->repeat_penalty : x / how->repeat_penalty) -
                      ((float)s->count[t] * how->frequency_penalty + how->presence_penalty);
        s->count[t] = 0;
    }
}

/* Look at the row that is drawn from: the model's own, or a copy with bias, bans and penalties. Returns its largest
 * logit. */
static float look_at(pg_sampler *s, const pg_draw *draw)
{
    const bool penalised = is_penalised(draw);
    if (draw->how->n_bias < 1 && draw->n_ban < 1 && !penalised) return pg_order_look(&s->order, draw->logits);
    memcpy(s->logit, draw->logits, (size_t)s->n_vocab * sizeof *s->logit);
    add_bias(s, draw->how);
    add_bans(s, draw);
    if (penalised) penalise(s, draw);
    return pg_order_look(&s->order, s->logit);
}

/* A +inf is certainty: its holders share the row evenly and all others leave it, so that no later step subtracts
 * infinities. */
static void share_evenly(pg_sampler *s)
{
    const float *row = s->order.row;
    for (int32_t i = 0; i < s->n_vocab; i++) s->logit[i] = row[i] == INFINITY ? 0 : -INFINITY;
    pg_order_look(&s->order, s->logit);
}

/* ---- candidates ------------------------------------------------------------------------------------------------- */

/* What may be drawn: the first n of the order. */
typedef struct pool {
    int32_t n, asked; /* candidates at hand; how many the order was asked for */
    bool open;        /* nothing has cut the row: there may be more */
} pool;

enum { FIRST = 64, MORE = 8 }; /* candidates to begin with where nothing says how many; how many times more next */

static pool take(pg_sampler *s, int32_t asked, bool open)
{
    if (asked > s->n_vocab) asked = s->n_vocab;
    return (pool){ pg_order_take(&s->order, asked), asked, open };
}

static bool has_more(const pg_sampler *s, const pool *p)
{
    return p->open && p->n == p->asked && p->asked < s->n_vocab;
}

/* weight[i] = exp((logit of candidate i - best logit) / temperature); returns their sum. */
static double weigh(pg_sampler *s, int32_t n, double temperature)
{
    const uint64_t *best = s->order.best;
    const double top = (double)pg_rank_logit(best[0]);
    double sum = 0;
    for (int32_t i = 0; i < n; i++) {
        s->weight[i] = exp(((double)pg_rank_logit(best[i]) - top) / temperature);
        sum += s->weight[i];
    }
    return sum;
}

/* The same, and the sum of all that may be drawn, at hand or not. */
static double weigh_all(pg_sampler *s, const pool *p, double temperature)
{
    const double sum = weigh(s, p->n, temperature);
    if (!has_more(s, p)) return sum;
    return pg_softmax_sum(s->order.row, s->n_vocab, pg_rank_logit(s->order.best[0]), (float)temperature);
}

/* More candidates and their weights, when those at hand hold too little; false when there are no more. A pool that holds
 * not even half of what is asked for becomes the whole row, whose sum is then taken anew, candidate by candidate. */
static bool widen(pg_sampler *s, pool *p, double temperature, bool few, double *sum)
{
    if (!has_more(s, p)) return false;
    *p = take(s, few || p->asked > s->n_vocab / MORE ? s->n_vocab : p->asked * MORE, true);
    const double held = weigh(s, p->n, temperature);
    if (!has_more(s, p)) *sum = held;
    return true;
}

/* Keep those whose surprise -ln p is closest to the entropy, until they hold more than `mass`. Distances are compared
 * in f32: two that differ by rounding alone are a tie, which the better candidate wins. */
static int32_t keep_typical(pg_sampler *s, int32_t n, double mass)
{
    uint64_t *best = s->order.best;
    const double sum = weigh(s, n, 1), log_sum = log(sum), top = (double)pg_rank_logit(best[0]);
    double entropy = log_sum;
    for (int32_t i = 0; i < n; i++) entropy -= s->weight[i] / sum * ((double)pg_rank_logit(best[i]) - top);
    for (int32_t i = 0; i < n; i++) {
        const float far = (float)fabs(log_sum - ((double)pg_rank_logit(best[i]) - top) - entropy);
        uint32_t bits;
        memcpy(&bits, &far, sizeof bits);
        s->heap[i] = ~((uint64_t)bits << 32 | (uint32_t)i); /* inverted: the heap has the largest word on top */
    }
    pg_heap_make(s->heap, n);
    double held = 0;
    int32_t left = n, m = 0;
    do {
        const int32_t i = pg_rank_id(~pg_heap_pop(s->heap, &left));
        s->count[i] = 1;
        held += s->weight[i];
    } while (left > 0 && held <= mass * sum);
    for (int32_t i = 0; i < n; i++) {
        if (s->count[i]) best[m++] = best[i];
        s->count[i] = 0;
    }
    return m;
}

/* The smallest prefix that holds at least `mass`. */
static void keep_top_p(pg_sampler *s, pool *p, double mass)
{
    double sum = weigh_all(s, p, 1), held = s->weight[0];
    int32_t m = 1;
    while (held < mass * sum) {
        if (m < p->n)
            held += s->weight[m++];
        else if (!widen(s, p, 1, held < mass * sum / 2, &sum))
            break;
    }
    p->n = m;
    p->open = false;
}

/* Those at least `share` times as likely as the best, whose weight is 1; weights are there. */
static void keep_min_p(pg_sampler *s, pool *p, double share)
{
    int32_t m = 1;
    double sum;
    do {
        while (m < p->n && s->weight[m] >= share) m++;
    } while (m == p->n && widen(s, p, 1, false, &sum));
    p->n = m;
    p->open = false;
}

static pool truncate_row(pg_sampler *s, const pg_request *how)
{
    pool p;
    if (how->top_k > 0 && how->top_k < s->n_vocab) {
        p = take(s, how->top_k, false);
    } else {
        p = take(s, how->typical_p < 1 ? s->n_vocab : FIRST, true);
    }
    if (how->typical_p < 1) p = (pool){ .n = keep_typical(s, p.n, how->typical_p) };
    if (how->top_p < 1) keep_top_p(s, &p, how->top_p);
    if (how->min_p > 0) {
        if (!(how->top_p < 1)) weigh(s, p.n, 1);
        keep_min_p(s, &p, how->min_p);
    }
    return p;
}

/* The chosen token, then the best of the others; places beyond the vocabulary get token -1. */
static void list_logprobs(pg_sampler *s, const pg_draw *draw, int32_t chosen)
{
    const pg_softmax_total all = pg_softmax_of(draw->logits, s->n_vocab);
    pg_logprob *out = draw->logprobs, *end = out + draw->how->logprobs;
    *out++ = (pg_logprob){ chosen, pg_softmax_ln(draw->logits[chosen], all) };
    if (out == end) return;
    if (s->order.row != draw->logits) pg_order_look(&s->order, draw->logits);
    const int32_t n = take(s, draw->how->logprobs, false).n; /* one too many, for the chosen one may be among them */
    for (int32_t i = 0; i < n && out < end; i++) {
        const int32_t t = pg_rank_id(s->order.best[i]);
        if (t != chosen) *out++ = (pg_logprob){ t, pg_softmax_ln(draw->logits[t], all) };
    }
    for (int32_t t = 0; t < s->n_vocab && out < end; t++) /* those without any probability, by id */
        if (!(draw->logits[t] > -INFINITY) && t != chosen) *out++ = (pg_logprob){ t, -INFINITY };
    while (out < end) *out++ = (pg_logprob){ -1, -INFINITY };
}

/* ---- the draw --------------------------------------------------------------------------------------------------- */

static int32_t draw_one(pg_sampler *s, const pg_draw *draw)
{
    const double temperature = draw->how->temperature, u = uniform(draw->seed, draw->position, draw->attempt);
    pool p = truncate_row(s, draw->how);
    double sum = weigh_all(s, &p, temperature), held = s->weight[0];
    int32_t i = 0;
    while (held <= u * sum) {
        if (i + 1 < p.n)
            held += s->weight[++i];
        else if (!widen(s, &p, temperature, held < u * sum / 2, &sum))
            break;
    }
    return pg_rank_id(s->order.best[i]);
}

int32_t pg_sample(pg_sampler *s, const pg_draw *draw)
{
    if (!has_finite(draw->logits, s->n_vocab)) return PG_EINVAL;
    const float top = look_at(s, draw);
    if (top == -INFINITY) return PG_EINVAL;
    int32_t token = pg_order_first(&s->order);
    if (draw->how->temperature > 0) {
        if (top == INFINITY) share_evenly(s);
        token = draw_one(s, draw);
    }
    if (draw->logprobs && draw->how->logprobs > 0) list_logprobs(s, draw, token);
    return token;
}
