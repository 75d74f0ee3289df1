/* sampler: against numbers worked out by hand, published Philox vectors, and a second, plain implementation below that
 * sorts the whole row with qsort and works on normalised probabilities. */
#include "check.h"

#include "../../engine/sched/sampler.h"

#include <math.h>
#include <stdbool.h>

enum { MAX_V = 5000 };

static pg_request plain(void)
{
    return (pg_request){ .temperature = 1, .top_p = 1, .typical_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
}

/* ---- a plain sampler ---------------------------------------------------------------------------------------------- */

typedef struct cand {
    double logit, p;
    float far;
    int32_t id;
} cand;

static int by_logit(const void *a, const void *b)
{
    const cand *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static int by_distance(const void *a, const void *b)
{
    const cand *x = a, *y = b;
    return x->far != y->far ? (x->far < y->far ? -1 : 1) : by_logit(a, b);
}

static void normalise(cand *c, int n)
{
    double sum = 0, top = c[0].logit;
    for (int i = 1; i < n; i++) top = fmax(top, c[i].logit);
    for (int i = 0; i < n; i++) sum += c[i].p = exp(c[i].logit - top);
    for (int i = 0; i < n; i++) c[i].p /= sum;
}

static float clean(float x)
{
    return isnan(x) ? -INFINITY : x;
}

/* Logit of token t after bias and penalties, counting its occurrences the slow way. */
static float adjusted(const pg_draw *d, int32_t t)
{
    const pg_request *h = d->how;
    float x = clean(d->logits[t]);
    for (int i = 0; i < h->n_bias; i++)
        if (h->bias[i].token == t) x = clean(x + h->bias[i].bias);
    int seen = 0;
    for (int i = 0; i < d->n_history; i++)
        if (d->history[i] == t && (h->repeat_last_n < 0 || i >= d->n_history - h->repeat_last_n)) seen++;
    if (!seen) return x;
    float y = x > 0 ? x / h->repeat_penalty : x * h->repeat_penalty;
    return clean(y - ((float)seen * h->frequency_penalty + h->presence_penalty));
}

/* Fill c with what may be drawn, in order, with the final probabilities; returns how many. */
static int plain_candidates(const pg_draw *d, int V, cand *c)
{
    const pg_request *h = d->how;
    int n = 0, m;
    bool certain = false;
    for (int t = 0; t < V; t++) certain |= adjusted(d, t) == INFINITY;
    for (int t = 0; t < V; t++) {
        float x = adjusted(d, t);
        if (certain ? x == INFINITY : x > -INFINITY) c[n++] = (cand){ .logit = certain ? 0 : x, .id = t };
    }
    if (n == 0) return 0;
    qsort(c, (size_t)n, sizeof *c, by_logit);
    if (h->temperature <= 0) return 1;
    if (h->top_k > 0 && n > h->top_k) n = h->top_k;
    if (h->typical_p < 1) {
        normalise(c, n);
        double entropy = 0, sum = 0;
        for (int i = 0; i < n; i++)
            if (c[i].p > 0) entropy -= c[i].p * log(c[i].p);
        for (int i = 0; i < n; i++) c[i].far = (float)fabs(-log(c[i].p) - entropy);
        qsort(c, (size_t)n, sizeof *c, by_distance);
        for (m = 0; m < n && sum <= h->typical_p; m++) sum += c[m].p;
        n = m;
        qsort(c, (size_t)n, sizeof *c, by_logit);
    }
    if (h->top_p < 1) {
        double sum = 0;
        normalise(c, n);
        for (m = 0; m < n && (m == 0 || sum < h->top_p); m++) sum += c[m].p;
        n = m;
    }
    if (h->min_p > 0) {
        normalise(c, n);
        for (m = 1; m < n && c[m].p >= h->min_p * c[0].p; m++) continue;
        n = m;
    }
    for (int i = 0; i < n; i++) c[i].logit /= h->temperature;
    normalise(c, n);
    return n;
}

static int32_t plain_sample(const pg_draw *d, int V)
{
    static cand c[MAX_V];
    int n = plain_candidates(d, V, c);
    if (n == 0) return PG_EINVAL;
    if (d->how->temperature <= 0) return c[0].id;
    uint32_t r[4];
    pg_philox(d->seed, (uint64_t)d->position, (uint64_t)d->attempt, r);
    double u = ldexp((double)(r[0] >> 5), -27) + ldexp((double)(r[1] >> 6), -53), sum = 0;
    for (int i = 0; i < n; i++)
        if ((sum += c[i].p) > u) return c[i].id;
    return c[n - 1].id;
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void philox(void)
{
    static const struct {
        uint64_t key, low, high;
        uint32_t out[4];
    } known[] = {
        { 0, 0, 0, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { UINT64_MAX, UINT64_MAX, UINT64_MAX, { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { 0x299f31d0a4093822,
          0x85a308d3243f6a88,
          0x0370734413198a2e,
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        pg_philox(known[i].key, known[i].low, known[i].high, out);
        CHECK(!memcmp(out, known[i].out, sizeof out), "vector %zu: %08x %08x %08x %08x", i, out[0], out[1], out[2],
              out[3]);
    }
}

/* Which ids ever come up in 400 draws, as a bit set; and how often id 0 does. */
static unsigned support(pg_sampler *s, const float *logits, const pg_request *how)
{
    unsigned set = 0;
    for (int i = 0; i < 400; i++) {
        pg_draw d = { .logits = logits, .how = how, .seed = 7, .position = i };
        int32_t t = pg_sample(s, &d);
        if (t >= 0 && t < 31) set |= 1u << t;
    }
    return set;
}

static void worked_numbers(void)
{
    static const float logits[4] = { 2, 1, 0, -1 };
    static const double p[4] = { 0.643914, 0.236883, 0.087144, 0.032059 };
    pg_sampler *s = pg_sampler_open(4);
    for (int i = 0; i < 4; i++)
        CHECK(fabs(exp(pg_logprob_of(logits, 4, i)) - p[i]) < 1e-6, "p[%d] = %g", i, exp(pg_logprob_of(logits, 4, i)));
    pg_request how = plain();
    CHECK(support(s, logits, &how) == 15, "nothing truncated: %x", support(s, logits, &how));
    how.top_p = 0.9f;
    CHECK(support(s, logits, &how) == 7, "top-p 0.9: %x", support(s, logits, &how));
    how.top_p = 0;
    CHECK(support(s, logits, &how) == 1, "top-p 0: %x", support(s, logits, &how));
    how = plain(), how.min_p = 0.1f;
    CHECK(support(s, logits, &how) == 7, "min-p 0.1: %x", support(s, logits, &how));
    how.min_p = 0.2f;
    CHECK(support(s, logits, &how) == 3, "min-p 0.2: %x", support(s, logits, &how));
    how.min_p = 2;
    CHECK(support(s, logits, &how) == 1, "min-p 2 keeps one: %x", support(s, logits, &how));
    how = plain(), how.top_k = 2;
    CHECK(support(s, logits, &how) == 3, "top-k 2: %x", support(s, logits, &how));
    how.top_k = INT32_MAX;
    CHECK(support(s, logits, &how) == 15, "huge top-k: %x", support(s, logits, &how));
    /* H = 0.944703; surprises 0.440189, 1.440189, 2.440189, 3.440189: id 1 is 0.4955 away, id 0 0.5045 */
    how = plain(), how.typical_p = 0.2f;
    CHECK(support(s, logits, &how) == 2, "typical 0.2: %x", support(s, logits, &how));
    how.typical_p = 0.3f;
    CHECK(support(s, logits, &how) == 3, "typical 0.3: %x", support(s, logits, &how));
    how.typical_p = -1;
    CHECK(support(s, logits, &how) == 2, "typical -1 keeps one: %x", support(s, logits, &how));
    how = plain(), how.temperature = 1e-30f;
    CHECK(support(s, logits, &how) == 1, "tiny temperature: %x", support(s, logits, &how));
    pg_sampler_close(s);
}

static void penalties(void)
{
    /* 2 / 1.1 = 1.818182 falls below 1.82 and stays above 1.81; -1 * 1.1 = -1.1 between -1.11 and -1.09 */
    static const int32_t history[] = { 0, 3, 99, -5, 0 };
    pg_sampler *s = pg_sampler_open(5);
    pg_request how = plain();
    how.temperature = 0, how.repeat_penalty = 1.1f;
    float up[5] = { 2, 1.81f, 0, -1, 0 };
    pg_draw d = { .logits = up, .how = &how, .history = history, .n_history = 5 };
    CHECK(pg_sample(s, &d) == 0, "%d", pg_sample(s, &d));
    up[1] = 1.82f;
    CHECK(pg_sample(s, &d) == 1, "%d", pg_sample(s, &d));
    float low[5] = { -9, -1.09f, -9, -1, -9 };
    d.logits = low;
    CHECK(pg_sample(s, &d) == 1, "%d", pg_sample(s, &d));
    low[1] = -1.11f;
    CHECK(pg_sample(s, &d) == 3, "%d", pg_sample(s, &d));
    low[1] = -1.09f, how.repeat_last_n = 1;
    CHECK(pg_sample(s, &d) == 3, "only the last token is looked at: %d", pg_sample(s, &d));
    low[1] = -1.09f, how.repeat_last_n = -1;
    CHECK(pg_sample(s, &d) == 1, "all tokens are looked at: %d", pg_sample(s, &d));
    how = plain(), how.temperature = 0, how.frequency_penalty = 0.5f, how.presence_penalty = 0.25f;
    float twice[5] = { 2, 0.74f, 0, 0, 0 }; /* 2 - 2 * 0.5 - 0.25 = 0.75 */
    d.logits = twice;
    CHECK(pg_sample(s, &d) == 0, "%d", pg_sample(s, &d));
    twice[1] = 0.76f;
    CHECK(pg_sample(s, &d) == 1, "%d", pg_sample(s, &d));
    d.n_history = 0, d.history = NULL;
    CHECK(pg_sample(s, &d) == 0, "%d", pg_sample(s, &d));
    pg_sampler_close(s);
}

static void odd_rows(void)
{
    pg_request greedy = plain(), how = plain();
    greedy.temperature = 0;
    pg_sampler *s = pg_sampler_open(4);
    float tie[4] = { 1, 3, 3, -0.0f }, zero[4] = { -1, -0.0f, 0, -1 }, nan[4] = { NAN, NAN, -5, NAN };
    float none[4] = { NAN, -INFINITY, NAN, -INFINITY }, inf[4] = { 0, INFINITY, 1, INFINITY };
    pg_draw d = { .logits = tie, .how = &greedy };
    CHECK(pg_sample(s, &d) == 1, "a tie goes to the lower id");
    how.top_k = 1, d.how = &how;
    for (int i = 0; i < 50; i++) {
        d.position = i;
        CHECK(pg_sample(s, &d) == 1, "top-k 1 at a tie keeps the lower id");
    }
    how.top_k = 0;
    CHECK(support(s, nan, &how) == 4, "NaN is never drawn");
    CHECK(support(s, inf, &how) == 10, "+inf logits share the row: %x", support(s, inf, &how));
    how.top_k = 1;
    CHECK(support(s, zero, &how) == 2, "-0 ties with 0");
    d.logits = none;
    CHECK(pg_sample(s, &d) == PG_EINVAL, "nothing finite");
    float nowhere[4] = { -INFINITY, INFINITY, INFINITY, NAN };
    d.logits = nowhere;
    CHECK(pg_sample(s, &d) == PG_EINVAL, "nothing finite");
    CHECK(pg_logprob_of(inf, 4, 1) == (float)-log(2) && pg_logprob_of(inf, 4, 0) == -INFINITY, "ln p beside +inf");
    CHECK(pg_logprob_of(nan, 4, 2) == 0 && pg_logprob_of(nan, 4, 0) == -INFINITY, "ln p beside NaN");
    pg_sampler_close(s);
    s = pg_sampler_open(1);
    float only = -3, lost = NAN;
    how = plain(), how.top_k = 40, how.top_p = 0.5f, how.typical_p = 0.5f, how.min_p = 0.5f;
    d = (pg_draw){ .logits = &only, .how = &how };
    CHECK(pg_sample(s, &d) == 0, "a vocabulary of one");
    d.logits = &lost;
    CHECK(pg_sample(s, &d) == PG_EINVAL, "a vocabulary of one NaN");
    pg_sampler_close(s);
    CHECK(pg_sampler_open(0) == NULL && pg_sampler_open(-1) == NULL, "no vocabulary");
    pg_sampler_close(NULL);
}

static void biases(void)
{
    float logits[5] = { 5, 4, 3, -INFINITY, NAN };
    pg_bias ban[] = { { 0, -INFINITY }, { 1, -2 }, { 7, 1 }, { -1, 1 } },
            all[] = { { 0, -INFINITY }, { 1, -INFINITY }, { 2, -INFINITY } };
    pg_bias force[] = { { 2, INFINITY } }, lost[] = { { 3, INFINITY }, { 4, INFINITY } },
            both[] = { { 0, INFINITY }, { 0, -INFINITY } };
    pg_request how = plain();
    pg_sampler *s = pg_sampler_open(5);
    how.bias = ban, how.n_bias = 4;
    CHECK(support(s, logits, &how) == 6, "a banned token is never drawn: %x", support(s, logits, &how));
    pg_draw d = { .logits = logits, .how = &how };
    how.temperature = 0;
    CHECK(pg_sample(s, &d) == 2, "4 - 2 < 3");
    how.bias = all, how.n_bias = 3;
    CHECK(pg_sample(s, &d) == PG_EINVAL, "everything is banned");
    how = plain(), how.bias = force, how.n_bias = 1;
    CHECK(support(s, logits, &how) == 4, "+inf decides: %x", support(s, logits, &how));
    how.bias = lost, how.n_bias = 2;
    CHECK(support(s, logits, &how) == 7, "+inf does not lift a -inf or a NaN: %x", support(s, logits, &how));
    how.bias = both;
    CHECK(support(s, logits, &how) == 6, "a ban beats +inf: %x", support(s, logits, &how));
    pg_sampler_close(s);
}

static void logprobs(void)
{
    static const float logits[4] = { 2, 1, NAN, 2 };
    pg_logprob out[6];
    pg_request how = plain();
    pg_bias force = { 1, INFINITY };
    how.temperature = 0, how.logprobs = 6, how.bias = &force, how.n_bias = 1;
    pg_sampler *s = pg_sampler_open(4);
    pg_draw d = { .logits = logits, .how = &how, .logprobs = out };
    CHECK(pg_sample(s, &d) == 1, "the bias decides");
    static const int32_t ids[6] = { 1, 0, 3, 2, -1, -1 };
    double z = log(2 * exp(2) + exp(1)), want[6] = { 1 - z, 2 - z, 2 - z, -INFINITY, -INFINITY, -INFINITY };
    for (int i = 0; i < 6; i++)
        CHECK(out[i].token == ids[i] && (out[i].logprob == want[i] || fabs(out[i].logprob - want[i]) < 1e-6),
              "place %d: token %d, %g", i, out[i].token, (double)out[i].logprob);
    how.logprobs = 1, out[1].token = 77;
    CHECK(pg_sample(s, &d) == 1 && out[0].token == 1 && out[1].token == 77, "one is asked, one is written");
    float far[4] = { 3e38f, -3e38f, 0, 3e38f };
    CHECK(fabs(pg_logprob_of(far, 4, 0) + log(2)) < 1e-6, "no overflow: %g", (double)pg_logprob_of(far, 4, 0));
    pg_sampler_close(s);
}

/* Frequencies of 20000 draws against the plain candidates' probabilities. The limit is passed by chance once in
 * 10^5, and as the draws are fixed the test either always passes or never. */
static void chi_square(const char *what, const pg_request *how, unsigned long long rng)
{
    enum { V = 24, N = 20000 };
    float logits[V];
    static cand c[V];
    double seen[V] = { 0 }, chi = 0;
    for (int i = 0; i < V; i++) logits[i] = 2.5f * check_uniform(&rng);
    pg_sampler *s = pg_sampler_open(V);
    for (int i = 0; i < N; i++) {
        pg_draw d = { .logits = logits, .how = how, .seed = 99, .position = i / 4, .attempt = i % 4 };
        int32_t t = pg_sample(s, &d);
        if (t >= 0 && t < V) seen[t]++;
    }
    pg_draw d = { .logits = logits, .how = how };
    int n = plain_candidates(&d, V, c), df = -1;
    double rest_p = 0, rest = 0, drawn = 0;
    for (int i = 0; i < n; i++) {
        drawn += seen[c[i].id];
        if (c[i].p * N < 5) {
            rest_p += c[i].p, rest += seen[c[i].id];
            continue;
        }
        chi += pow(seen[c[i].id] - c[i].p * N, 2) / (c[i].p * N), df++;
    }
    if (rest_p * N >= 5) chi += pow(rest - rest_p * N, 2) / (rest_p * N), df++;
    /* Wilson and Hilferty: the cube root of chi / df is nearly normal. */
    double limit = df > 0 ? df * pow(1 - 2 / (9.0 * df) + 4.265 * sqrt(2 / (9.0 * df)), 3) : 0;
    CHECK(drawn == N, "%s: %g draws fell outside of the candidates", what, N - drawn);
    CHECK(df > 2 && chi < limit, "%s: chi square %g with %d degrees, limit %g", what, chi, df, limit);
    pg_sampler_close(s);
}

static void frequencies(void)
{
    pg_request how = plain();
    chi_square("plain", &how, 1);
    how.temperature = 0.7f, how.top_k = 9;
    chi_square("top-k", &how, 2);
    how = plain(), how.temperature = 1.6f, how.top_p = 0.85f;
    chi_square("top-p", &how, 3);
    how = plain(), how.typical_p = 0.7f, how.min_p = 0.02f;
    chi_square("typical, min-p", &how, 4);
}

static float pick(unsigned long long *rng, float off, float low, float high)
{
    if (check_rand(rng) % 2) return off;
    return low + (high - low) * (float)(check_rand(rng) % 1024) / 1024;
}

static pg_request random_request(unsigned long long *rng, int V, pg_bias *bias)
{
    pg_request how = plain();
    how.temperature = check_rand(rng) % 6 ? pick(rng, 1, 0.1f, 2) : 0;
    how.top_k = check_rand(rng) % 2 ? (int)(check_rand(rng) % (unsigned)(V + 3)) : (int)(check_rand(rng) % 8) - 1;
    how.top_p = pick(rng, 1, 0, 1);
    how.min_p = pick(rng, 0, 0, 1) * pick(rng, 1, 0, 1);
    how.typical_p = pick(rng, 1, 0, 1);
    how.repeat_penalty = pick(rng, 1, 0.5f, 2);
    how.frequency_penalty = pick(rng, 0, -1, 1);
    how.presence_penalty = pick(rng, 0, -1, 1);
    how.repeat_last_n = (int)(check_rand(rng) % 40) - 5;
    how.n_bias = check_rand(rng) % 3 ? 0 : (int)(check_rand(rng) % 4);
    how.bias = bias;
    for (int i = 0; i < how.n_bias; i++) {
        bias[i] = (pg_bias){ (int)(check_rand(rng) % (unsigned)V), 4 * check_uniform(rng) };
        if (check_rand(rng) % 4 == 0) bias[i].bias = check_rand(rng) % 3 ? -INFINITY : INFINITY;
    }
    return how;
}

/* Any row and any settings: the same token as the plain sampler's, the inputs untouched, the same when asked again. */
static void any_settings(void)
{
    static float logits[MAX_V], copy[MAX_V];
    static const int sizes[] = { 1, 2, 3, 7, 40, 300, 2047, MAX_V };
    unsigned long long rng = 20240607;
    for (int size = 0; size < 8; size++) {
        int V = sizes[size], wrong = 0, changed = 0, unsteady = 0, runs = V > 400 ? 150 : 3000;
        pg_sampler *s = pg_sampler_open(V), *other = pg_sampler_open(V);
        for (int run = 0; run < runs; run++) {
            unsigned kind = check_rand(&rng) % 4;
            for (int i = 0; i < V; i++) {
                logits[i] = 6 * check_uniform(&rng);
                if (kind == 0) logits[i] = roundf(logits[i]); /* many ties */
                if (kind == 1 && check_rand(&rng) % 5 == 0) logits[i] = check_rand(&rng) % 2 ? NAN : -INFINITY;
                if (kind == 2) logits[i] *= 40; /* most weights vanish */
            }
            int32_t history[32];
            for (int i = 0; i < 32; i++) history[i] = (int)(check_rand(&rng) % (unsigned)(V + 2)) - 1;
            pg_bias bias[4];
            pg_request how = random_request(&rng, V, bias);
            pg_draw d = { logits,  &how, history, (int)(check_rand(&rng) % 33), check_rand(&rng), run,
                          run % 3, NULL, NULL };
            memcpy(copy, logits, sizeof copy);
            int32_t got = pg_sample(s, &d), again = pg_sample(run % 2 ? s : other, &d), want = plain_sample(&d, V);
            bool finite = false;
            for (int i = 0; i < V; i++) finite |= isfinite(logits[i]) != 0;
            if (!finite) want = PG_EINVAL;
            wrong += got != want;
            if (got != want && wrong == 1)
                fprintf(stderr, "V %d run %d: %d, plain %d; T %g k %d p %g min %g typ %g\n", V, run, got, want,
                        (double)how.temperature, how.top_k, (double)how.top_p, (double)how.min_p,
                        (double)how.typical_p);
            unsteady += got != again;
            changed += memcmp(copy, logits, sizeof copy) != 0;
        }
        CHECK(wrong == 0, "V = %d: %d of %d draws differ from the plain sampler's", V, wrong, runs);
        CHECK(unsteady == 0, "V = %d: %d draws differ when repeated", V, unsteady);
        CHECK(changed == 0, "V = %d: the row of logits was changed", V);
        pg_sampler_close(s);
        pg_sampler_close(other);
    }
}

/* Large rows that nothing cuts, flat and steep: as many candidates as it takes are found, and no others. */
static void uncut_rows(void)
{
    static float logits[MAX_V];
    unsigned long long rng = 7;
    pg_sampler *s = pg_sampler_open(MAX_V);
    int wrong = 0;
    for (int run = 0; run < 120; run++) {
        for (int i = 0; i < MAX_V; i++) logits[i] = (float)(1 + run % 6 * 3) * check_uniform(&rng);
        pg_request how = plain();
        how.temperature = run % 2 ? 0.7f : 1.5f;
        if (run % 3 == 1) how.top_p = 0.1f + 0.2f * (float)(run % 5);
        if (run % 3 == 2) how.min_p = 0.3f / (float)(1 << run % 20);
        pg_draw d = { .logits = logits, .how = &how, .seed = 3, .position = run };
        wrong += pg_sample(s, &d) != plain_sample(&d, MAX_V);
    }
    CHECK(wrong == 0, "%d of 120 draws differ from the plain sampler's", wrong);
    pg_sampler_close(s);
}

/* Seed, position and attempt each matter. */
static void noise_depends_on(void)
{
    float logits[64] = { 0 };
    pg_request how = plain();
    pg_sampler *s = pg_sampler_open(64);
    int same[3] = { 0 };
    for (int i = 0; i < 1000; i++) {
        pg_draw d = { .logits = logits, .how = &how, .seed = 5, .position = i }, e = d;
        int32_t t = pg_sample(s, &d);
        e.seed = 5 + ((uint64_t)1 << 40), same[0] += pg_sample(s, &e) == t;
        e = d, e.position += 1000, same[1] += pg_sample(s, &e) == t;
        e = d, e.attempt = 1, same[2] += pg_sample(s, &e) == t;
    }
    for (int i = 0; i < 3; i++) CHECK(same[i] > 0 && same[i] < 50, "about 1000/64 agree by chance: %d", same[i]);
    pg_sampler_close(s);
}

int main(void)
{
    philox();
    worked_numbers();
    penalties();
    odd_rows();
    biases();
    logprobs();
    frequencies();
    any_settings();
    uncut_rows();
    noise_depends_on();
    return check_done("sampler");
}
