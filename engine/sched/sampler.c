/* sampler: bias, penalties, truncation, temperature and the draw, for one row of logits.
 *
 * Here: everything between a row of logits and a token id. Not here: who is sampled when (sched), the checks on a
 * request's fields (submit), finding the best of a row (order), what a row weighs in all (softmax), what a
 * grammar lets through, policies.
 *
 * Probabilities that a truncation looks at are those of the un-tempered distribution, renormalised over what the steps
 * before it left; temperature comes after all of them. Every truncation keeps at least one candidate. A row that nothing
 * has cut yet is not sorted as a whole: its candidates are taken in order until they hold the mass that is asked for.
 * Sources: as in sampler.h. */
#include "sampler.h"
#include "order.h"
#include "rest.h"
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
    /* Of a row of which only the best are known; NULL: all of it is. */
    const pg_best *list;
    int32_t n_known; /* of the row's candidates, the first in order, which are in order.best */
    pg_rest rest;    /* the others */
    bool lacks;      /* something hung on what is not known */
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

/* Tokens that the grammar refuses leave the row, whatever bias they were given. */
static void apply_mask(pg_sampler *s, const uint64_t *mask)
{
    for (int32_t at = 0; at < s->n_vocab; at += 64) {
        const int32_t n = s->n_vocab - at < 64 ? s->n_vocab - at : 64;
        const uint64_t all = n < 64 ? (1ull << n) - 1 : UINT64_MAX, in = mask[at / 64] & all;
        float *row = s->logit + at, kept[64];
        int k = 0;
        if (__builtin_popcountll(in) > n / 2) {
            for (uint64_t out = all & ~in; out; out &= out - 1) row[__builtin_ctzll(out)] = -INFINITY;
            continue;
        }
        for (uint64_t on = in; on; on &= on - 1) kept[k++] = row[__builtin_ctzll(on)];
        for (int32_t i = 0; i < n; i++) row[i] = -INFINITY;
        k = 0;
        for (uint64_t on = in; on; on &= on - 1) row[__builtin_ctzll(on)] = kept[k++];
    }
}

/* Tokens of the window that penalties look back on. */
static const int32_t *window_of(const pg_draw *draw, int32_t *n)
{
    const int32_t last = draw->how->repeat_last_n;
    *n = last >= 0 && last < draw->n_history ? last : draw->n_history;
    return draw->history + (draw->n_history - *n);
}

/* Each token of the window is counted in a first walk, changed once and its count cleared in a second. */
static void penalise(pg_sampler *s, const pg_draw *draw)
{
    const pg_request *how = draw->how;
    int32_t n;
    const int32_t *window = window_of(draw, &n);
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

/* Look at the row that is drawn from: the model's own, or a copy with bias, bans, mask and penalties. Returns its
 * largest logit. */
static float look_at(pg_sampler *s, const pg_draw *draw)
{
    const bool penalised = is_penalised(draw);
    if (draw->how->n_bias < 1 && draw->n_ban < 1 && !draw->mask && !penalised)
        return pg_order_look(&s->order, draw->logits);
    memcpy(s->logit, draw->logits, (size_t)s->n_vocab * sizeof *s->logit);
    add_bias(s, draw->how);
    add_bans(s, draw);
    if (draw->mask) apply_mask(s, draw->mask);
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

/* ---- a row of which only the best are known ---------------------------------------------------------------------- */

/* Put NaN for what is not known of the tokens that bias, bans and penalties touch, and the list's own logits on top. */
static void mark_unknown(pg_sampler *s, const pg_draw *draw, bool penalised)
{
    int32_t n = 0;
    const int32_t *window = penalised ? window_of(draw, &n) : NULL;
    for (int32_t i = 0; i < n; i++)
        if (window[i] >= 0 && window[i] < s->n_vocab) s->logit[window[i]] = NAN;
    for (int32_t i = 0; i < draw->how->n_bias; i++)
        if (draw->how->bias[i].token >= 0 && draw->how->bias[i].token < s->n_vocab)
            s->logit[draw->how->bias[i].token] = NAN;
    for (int32_t i = 0; i < s->list->n; i++) s->logit[s->list->id[i]] = s->list->value[i];
}

static bool is_unknown(const pg_sampler *s, int32_t t)
{
    return t >= 0 && t < s->n_vocab && isnan(s->logit[t]);
}

/* Might a token that is not in the list get into it? Who is not in a list of all has no logit that a bias could raise. */
static bool may_rise(const pg_sampler *s, const pg_draw *draw, bool penalised)
{
    const pg_request *how = draw->how;
    int32_t n = 0;
    const bool lowers = how->repeat_penalty >= 1 && how->frequency_penalty >= 0 && how->presence_penalty >= 0;
    const int32_t *window = penalised && !lowers ? window_of(draw, &n) : NULL;
    if (s->list->all) return false;
    for (int32_t i = 0; i < how->n_bias; i++)
        if (!(how->bias[i].bias <= 0) && is_unknown(s, how->bias[i].token)) return true;
    for (int32_t i = 0; i < n; i++)
        if (is_unknown(s, window[i])) return true;
    return false;
}

/* Into order.best those of the list, as they are now, that are still ahead of everybody who is not in it. Returns how
 * many; in *dropped the weight of the others, relative to the list's best. */
static int32_t keep_ahead(pg_sampler *s, const uint64_t *mask, bool changed, double *dropped)
{
    const pg_best *b = s->list;
    const uint64_t last = pg_rank_of(b->value[b->n - 1], b->id[b->n - 1]);
    uint64_t *best = s->order.best;
    int32_t m = 0;
    for (int32_t i = 0; i < b->n; i++) {
        const int32_t t = b->id[i];
        const float x = changed ? s->logit[t] : b->value[i];
        const uint64_t rank = pg_rank_of(x, t);
        if (!(x > -INFINITY) || (mask && !(mask[t / 64] >> t % 64 & 1))) continue;
        if (!b->all && rank > last) {
            *dropped += exp((double)x - (double)b->value[0]);
            continue;
        }
        int32_t at = m++;
        for (; at > 0 && best[at - 1] > rank; at--) best[at] = best[at - 1];
        best[at] = rank;
    }
    return m;
}

/* What those weigh that are not in order.best. touched: some of them may be less than they were. */
static void weigh_rest(pg_sampler *s, double dropped, bool touched)
{
    const pg_best *b = s->list;
    const double top = (double)pg_rank_logit(s->order.best[0]), scale = exp((double)b->value[0] - top);
    double others = b->sum;
    for (int32_t i = 0; i < b->n; i++) others -= exp((double)b->value[i] - (double)b->value[0]);
    if (b->all || others < 0) others = 0;
    const double doubt = b->all ? 0 : b->sum * 2e-6; /* the sum is of f32 terms */
    s->rest.low = touched ? scale * dropped : scale * (dropped + (others > doubt ? others - doubt : 0));
    s->rest.high = scale * (dropped + others + doubt);
    s->rest.each = b->all ? 0 : scale * exp((double)b->value[b->n - 1] - (double)b->value[0]);
    s->rest.n = b->all ? 0 : (double)(s->n_vocab - s->n_known);
}

/* The same as look_at for a list. False: it does not even say which token is the best. */
static bool look_at_list(pg_sampler *s, const pg_draw *draw)
{
    const bool penalised = is_penalised(draw), changed = draw->how->n_bias > 0 || draw->n_ban > 0 || penalised;
    double dropped = 0;
    s->list = draw->best;
    s->lacks = false;
    if (s->list->n < 1 || !isfinite(s->list->value[0])) return false;
    if (changed) {
        mark_unknown(s, draw, penalised);
        if (may_rise(s, draw, penalised)) return false;
        add_bias(s, draw->how);
        add_bans(s, draw);
        if (penalised) penalise(s, draw);
    }
    s->n_known = keep_ahead(s, draw->mask, changed, &dropped);
    if (s->n_known < 1 || pg_rank_logit(s->order.best[0]) == INFINITY) return false;
    weigh_rest(s, dropped, changed || draw->mask);
    return true;
}

/* Do those at hand hold less than this share of the row? or_same: no more. Where that hangs on what is not known the answer
 * does not matter. */
static bool holds_less(pg_sampler *s, double held, double share, pg_span sum, bool or_same)
{
    const bool low = or_same ? held <= share * sum.low : held < share * sum.low;
    const bool high = or_same ? held <= share * sum.high : held < share * sum.high;
    s->lacks |= low != high;
    return low;
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
    if (s->list) {
        const int32_t n = asked < s->n_known ? asked : s->n_known;
        s->lacks |= asked > n && !s->list->all && !open;
        return (pool){ n, n, open };
    }
    return (pool){ pg_order_take(&s->order, asked), asked, open };
}

static bool has_more(const pg_sampler *s, const pool *p)
{
    if (s->list) return p->open && (p->n < s->n_known || !s->list->all);
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
static pg_span weigh_all(pg_sampler *s, const pool *p, double temperature)
{
    if (s->list && p->open) return pg_rest_span(&s->rest, weigh(s, s->n_known, temperature), temperature);
    double sum = weigh(s, p->n, temperature);
    if (has_more(s, p))
        sum = pg_softmax_sum(s->order.row, s->n_vocab, pg_rank_logit(s->order.best[0]), (float)temperature);
    return (pg_span){ sum, sum };
}

/* More candidates and their weights, when those at hand hold too little; false when there are no more. A pool that holds
 * not even half of what is asked for becomes the whole row, whose sum is then taken anew, candidate by candidate. */
static bool widen(pg_sampler *s, pool *p, double temperature, bool few, pg_span *sum)
{
    if (!has_more(s, p)) return false;
    if (s->list) {
        const int32_t n = p->n;
        *p = take(s, s->n_known, true);
        weigh(s, p->n, temperature);
        s->lacks |= p->n == n;
        return p->n > n;
    }
    *p = take(s, few || p->asked > s->n_vocab / MORE ? s->n_vocab : p->asked * MORE, true);
    const double held = weigh(s, p->n, temperature);
    if (!has_more(s, p)) *sum = (pg_span){ held, held };
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
    pg_span sum = weigh_all(s, p, 1);
    double held = s->weight[0];
    int32_t m = 1;
    while (holds_less(s, held, mass, sum, false)) {
        if (m < p->n)
            held += s->weight[m++];
        else if (!widen(s, p, 1, held < mass * sum.low / 2, &sum))
            break;
    }
    p->n = m;
    p->open = false;
}

/* Those at least `share` times as likely as the best, whose weight is 1; weights are there. */
static void keep_min_p(pg_sampler *s, pool *p, double share)
{
    int32_t m = 1;
    pg_span sum;
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
        s->lacks |= s->list && how->typical_p < 1 && !s->list->all;
    }
    if (how->typical_p < 1) p = (pool){ .n = keep_typical(s, p.n, how->typical_p) };
    if (how->top_p < 1) keep_top_p(s, &p, how->top_p);
    if (how->min_p > 0) {
        if (!(how->top_p < 1)) weigh(s, p.n, 1);
        keep_min_p(s, &p, how->min_p);
    }
    return p;
}

static pg_logprob known_logprob(pg_sampler *s, int32_t i)
{
    const pg_best *b = s->list;
    pg_logprob y = { .token = b->id[i] };
    s->lacks |= !pg_rest_ln((double)b->value[i] - (double)b->value[0], b->sum, &y.logprob);
    return y;
}

/* The same as list_logprobs, from a list, which must know all that is asked for, to the bit. */
static void list_known_logprobs(pg_sampler *s, const pg_draw *draw, int32_t chosen)
{
    const pg_best *b = s->list;
    pg_logprob *out = draw->logprobs, *end = out + draw->how->logprobs;
    int32_t at = 0;
    while (b->id[at] != chosen) at++;
    *out++ = known_logprob(s, at);
    for (int32_t i = 0; i < b->n && out < end; i++)
        if (i != at) *out++ = known_logprob(s, i);
    s->lacks |= out < end;
}

/* The chosen token, then the best of the others; places beyond the vocabulary get token -1. */
static void list_logprobs(pg_sampler *s, const pg_draw *draw, int32_t chosen)
{
    const float *plain = draw->plain ? draw->plain : draw->logits;
    const pg_softmax_total all = pg_softmax_of(plain, s->n_vocab);
    pg_logprob *out = draw->logprobs, *end = out + draw->how->logprobs;
    *out++ = (pg_logprob){ chosen, pg_softmax_ln(plain[chosen], all) };
    if (out == end) return;
    if (s->order.row != plain) pg_order_look(&s->order, plain);
    const int32_t n = take(s, draw->how->logprobs, false).n; /* one too many, for the chosen one may be among them */
    for (int32_t i = 0; i < n && out < end; i++) {
        const int32_t t = pg_rank_id(s->order.best[i]);
        if (t != chosen) *out++ = (pg_logprob){ t, pg_softmax_ln(plain[t], all) };
    }
    for (int32_t t = 0; t < s->n_vocab && out < end; t++) /* those without any probability, by id */
        if (!(plain[t] > -INFINITY) && t != chosen) *out++ = (pg_logprob){ t, -INFINITY };
    while (out < end) *out++ = (pg_logprob){ -1, -INFINITY };
}

/* ---- the draw --------------------------------------------------------------------------------------------------- */

static int32_t draw_one(pg_sampler *s, const pg_draw *draw)
{
    const double temperature = draw->how->temperature, u = pg_uniform(draw->seed, draw->position, draw->attempt);
    pool p = truncate_row(s, draw->how);
    pg_span sum = weigh_all(s, &p, temperature);
    double held = s->weight[0];
    int32_t i = 0;
    while (holds_less(s, held, u, sum, true)) {
        if (i + 1 < p.n)
            held += s->weight[++i];
        else if (!widen(s, &p, temperature, held < u * sum.low / 2, &sum))
            break;
    }
    return pg_rank_id(s->order.best[i]);
}

static int32_t sample_list(pg_sampler *s, const pg_draw *draw)
{
    if (!look_at_list(s, draw)) return PG_SAMPLE_ROW;
    const int32_t token = draw->how->temperature > 0 ? draw_one(s, draw) : pg_rank_id(s->order.best[0]);
    if (!s->lacks && draw->logprobs && draw->how->logprobs > 0) list_known_logprobs(s, draw, token);
    return s->lacks ? PG_SAMPLE_ROW : token;
}

int32_t pg_sample(pg_sampler *s, const pg_draw *draw)
{
    s->list = NULL;
    if (!draw->logits) return sample_list(s, draw);
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
