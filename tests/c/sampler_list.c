/* Draws from a list of a row's best against draws from the whole row: whatever a list answers, token and logprobs, is bit for
 * bit what the row says; and it answers nearly always where it should. */
#include "check.h"

#include "../../engine/sched/sampler.h"
#include "../../kernels/sample/sample.h"

#include <math.h>

enum { MAX_V = 20000, HISTORY = 32 };

static float logits[MAX_V];
static int32_t history[HISTORY];
static uint64_t mask[MAX_V / 64 + 1];
static pg_bias bias[4];
static int32_t ban[3];

static int below(unsigned long long *s, int n)
{
    return (int)(check_rand(s) % (unsigned)n);
}

static float pick(unsigned long long *s, float off, float low, float high)
{
    return below(s, 2) ? off : low + (high - low) * (float)below(s, 1024) / 1024;
}

static pg_request plain(void)
{
    return (pg_request){ .temperature = 1, .top_p = 1, .typical_p = 1, .repeat_penalty = 1, .repeat_last_n = 64 };
}

/* Like what models give: a few far ahead of many. */
static void make_row(unsigned long long *s, int V, unsigned kind)
{
    for (int i = 0; i < V; i++) {
        float x = 0;
        for (int k = 0; k < 4; k++) x += 2.2f * check_uniform(s);
        if (!below(s, 300)) x += 9 + 4 * check_uniform(s);
        if (kind == 1) x = roundf(4 * x) / 4; /* many ties */
        if (kind == 2 && !below(s, 5)) x = below(s, 2) ? NAN : -INFINITY;
        if (kind == 3 && below(s, 60)) x = -INFINITY;
        if (kind == 4 && !below(s, V)) x = below(s, 3) ? INFINITY : NAN;
        logits[i] = x;
    }
}

static pg_request random_request(unsigned long long *s, int V)
{
    pg_request how = plain();
    how.temperature = below(s, 6) ? pick(s, 1, 0.1f, 2) : 0;
    how.top_k = below(s, 2) ? below(s, 300) : below(s, 8) - 1;
    how.top_p = pick(s, 1, 0, 1);
    how.min_p = pick(s, 0, 0, 1) * pick(s, 1, 0, 1);
    how.typical_p = below(s, 3) ? 1 : pick(s, 1, 0, 1);
    how.repeat_penalty = below(s, 3) ? 1 : pick(s, 1, 0.8f, 2);
    how.frequency_penalty = below(s, 3) ? 0 : pick(s, 0, -0.3f, 1);
    how.presence_penalty = below(s, 3) ? 0 : pick(s, 0, -0.3f, 1);
    how.repeat_last_n = below(s, 40) - 5;
    how.n_bias = below(s, 3) ? 0 : below(s, 4);
    how.bias = bias;
    how.logprobs = below(s, 3) ? 0 : 1 + below(s, 33);
    for (int i = 0; i < how.n_bias; i++) {
        bias[i] = (pg_bias){ below(s, V), 4 * check_uniform(s) };
        if (!below(s, 4)) bias[i].bias = below(s, 3) ? -INFINITY : INFINITY;
    }
    return how;
}

/* One of the tokens that a row is about, or any. */
static int32_t token_of(unsigned long long *s, int V, const pg_best *best)
{
    return best->n && below(s, 2) ? best->id[below(s, best->n)] : below(s, V + 2) - 1;
}

static void make_changes(unsigned long long *s, int V, const pg_best *best, pg_request *how, pg_draw *d, int run)
{
    for (int i = 0; i < HISTORY; i++) history[i] = token_of(s, V, best);
    for (int i = 0; i < 3; i++) ban[i] = token_of(s, V, best);
    for (int i = 0; i < how->n_bias; i++)
        if (below(s, 2)) bias[i].token = token_of(s, V, best);
    for (int i = 0; i <= V / 64; i++) mask[i] = (uint64_t)check_rand(s) << 33 ^ check_rand(s);
    if (run % 8 == 0) memset(mask, 0xff, sizeof mask / 2);
    d->history = history;
    d->n_history = below(s, HISTORY + 1);
    d->mask = run % 3 == 1 ? mask : NULL;
    d->ban = ban;
    d->n_ban = run % 4;
}

/* 1: answered, 0: the row is needed, -1: answered wrongly. */
static int compare(pg_sampler *s, pg_draw *d, const pg_best *best)
{
    pg_logprob all[33], few[33];
    d->logits = logits;
    d->logprobs = all;
    const int32_t want = pg_sample(s, d);
    d->logits = NULL;
    d->best = best;
    d->logprobs = few;
    const int32_t got = pg_sample(s, d);
    if (got == PG_SAMPLE_ROW) return 0;
    if (got != want) return -1;
    for (int i = 0; i < d->how->logprobs; i++)
        if (all[i].token != few[i].token || all[i].logprob != few[i].logprob) return -1;
    return 1;
}

static void make_list(unsigned long long *s, int V, int k, float *value, int32_t *id, pg_best *best)
{
    pg_best_ref(logits, V, k, value, id, best);
    best->sum *= 1 + 1e-14 * (double)check_uniform(s); /* as in another order */
}

static void any_settings(void)
{
    static const int sizes[] = { 1, 2, 40, 300, 2047, 5000 };
    static float value[PG_BEST];
    static int32_t id[PG_BEST];
    unsigned long long rng = 977;
    int answered = 0, runs = 0;
    for (int size = 0; size < 6; size++) {
        const int V = sizes[size], n = V > 400 ? 500 : 2000;
        pg_sampler *s = pg_sampler_open(V);
        int wrong = 0;
        for (int run = 0; run < n; run++, runs++) {
            const unsigned long long from = rng;
            pg_best best;
            make_row(&rng, V, (unsigned)below(&rng, 6));
            make_list(&rng, V, below(&rng, 2) ? PG_BEST : 1 + below(&rng, below(&rng, 2) ? PG_BEST : 5), value, id,
                      &best);
            pg_request how = random_request(&rng, V);
            pg_draw d = { .how = &how, .seed = check_rand(&rng), .position = run, .attempt = run % 3 };
            make_changes(&rng, V, &best, &how, &d, run);
            const int rc = compare(s, &d, &best);
            answered += rc > 0;
            wrong += rc < 0;
            if (rc < 0 && wrong == 1) fprintf(stderr, "V %d, run %d, rng %llu\n", V, run, from);
        }
        CHECK(wrong == 0, "V = %d: %d of %d lists give something else than the row", V, wrong, n);
        pg_sampler_close(s);
    }
    CHECK(answered > runs / 3, "lists answer only %d of %d", answered, runs);
}

/* What people ask for. least: percent of the draws that a list must answer. */
static void usual(const char *what, const pg_request *how, int masked, int least)
{
    enum { RUNS = 120 };
    static float value[PG_BEST];
    static int32_t id[PG_BEST];
    unsigned long long rng = 5;
    int answered = 0, wrong = 0;
    pg_sampler *s = pg_sampler_open(MAX_V);
    for (int run = 0; run < RUNS; run++) {
        pg_best best;
        if (run % 30 == 0) make_row(&rng, MAX_V, 0);
        make_list(&rng, MAX_V, PG_BEST, value, id, &best);
        for (int i = 0; i < HISTORY; i++) history[i] = token_of(&rng, MAX_V, &best);
        for (int i = 0; i <= MAX_V / 64; i++) mask[i] = (uint64_t)check_rand(&rng) << 33 ^ check_rand(&rng);
        pg_draw d = { .how = how, .seed = check_rand(&rng), .history = history, .n_history = HISTORY };
        if (masked) d.mask = mask;
        const int rc = compare(s, &d, &best);
        answered += rc > 0;
        wrong += rc < 0;
    }
    CHECK(wrong == 0 && answered * 100 >= RUNS * least, "%s: %d of %d draws answered, %d wrongly", what, answered, RUNS,
          wrong);
    pg_sampler_close(s);
}

int main(void)
{
    pg_request how = plain();
    any_settings();
    usual("temperature 1", &how, 0, 80); /* a row's tail has a share of its own */
    how.temperature = 0, how.logprobs = 20;
    usual("greedy, with logprobs", &how, 0, 98);
    usual("greedy under a grammar", &how, 1, 98);
    how = plain(), how.temperature = 0.7f, how.top_p = 0.8f;
    usual("top-p", &how, 0, 95);
    how.top_k = 40, how.min_p = 0.05f;
    usual("top-k, top-p, min-p", &how, 0, 100);
    how.repeat_penalty = 1.1f, how.frequency_penalty = 0.2f;
    usual("with penalties", &how, 0, 95);
    usual("with penalties, under a grammar", &how, 1, 90);
    how = plain(), how.temperature = 0.6f;
    usual("temperature 0.6", &how, 0, 90);
    return check_done("sampler_list");
}
