/* Requests that wait for their readers and are taken back by them, on the bundled model: how far they run, what comes
 * again and what must not, ends that wait, and texts against a plain decoder that sees all tokens at once. */
#include "reader.h"

static const char PROMPT[] = "Once upon a time there was a little fox who";

/* ---- how far it runs --------------------------------------------------------------------------------------------- */

static void test_lead(pg_engine *e)
{
    static reader r;
    reader *list[] = { &r };
    int32_t ids[64];
    pg_request q = reader_request(e, PROMPT, ids, 64);
    q.lead = 4;
    q.max_new = 10;
    reader_submit(e, &q, &r);
    CHECK(pg_acknowledge(e, r.id, 1) == PG_EINVAL && pg_rewind(e, r.id, 1, -1, NULL) == PG_EINVAL,
          "before anything came");
    CHECK(pg_acknowledge(e, r.id, 0) == PG_OK && pg_acknowledge(e, r.id, -1) == PG_EINVAL, "nothing, and less");
    reader_await(e, &r, 4);
    CHECK(reader_poll(e, 60, list, 1) == 0 && r.n == 4, "%d tokens with a lead of 4", r.n);
    CHECK(pg_acknowledge(e, r.id, 5) == PG_EINVAL, "more than there are");
    CHECK(pg_acknowledge(e, r.id, 3) == PG_OK && pg_acknowledge(e, r.id, 1) == PG_OK, "acknowledge");
    reader_await(e, &r, 7);
    CHECK(reader_poll(e, 60, list, 1) == 0 && r.n == 7 && !r.ending, "%d tokens, 3 of them seen", r.n);
    CHECK(pg_acknowledge(e, r.id, 7) == PG_OK, "acknowledge");
    reader_await(e, &r, 10);
    CHECK(reader_poll(e, 60, list, 1) == 0 && !r.kind && r.ending == PG_FINISH_LENGTH, "the end waits");
    CHECK(pg_acknowledge(e, r.id, 9) == PG_OK && reader_poll(e, 60, list, 1) == 0, "for the last one");
    reader_finish(e, &r);
    CHECK(r.kind == PG_EVENT_DONE && r.finish == PG_FINISH_LENGTH && r.last.n_completion == 10 && !r.last.n_dropped,
          "%d tokens", r.last.n_completion);
    pg_error err = { 0 };
    CHECK(pg_rewind(e, r.id, 0, -1, &err) == PG_ENOTFOUND && strstr(err.text, "has ended"), "%s", err.text);
    CHECK(pg_acknowledge(e, r.id, 1) == PG_ENOTFOUND && pg_acknowledge(e, 1 << 30, 0) == PG_ENOTFOUND,
          "no such request");
    q.lead = 0;
    q.max_new = 400; /* more than fit into its ring: it cannot end while nobody reads */
    reader_submit(e, &q, &r);
    CHECK(pg_rewind(e, r.id, 0, -1, &err) == PG_EINVAL && strstr(err.text, "with a lead"), "%s", err.text);
    reader_finish(e, &r);
    CHECK(r.n == 400 && r.finish == PG_FINISH_LENGTH, "without a lead: %d tokens", r.n);
    q.lead = -1;
    int32_t id;
    CHECK(pg_submit(e, &q, &id, &err) == PG_EINVAL && strstr(err.text, "lead"), "%s", err.text);
}

/* ---- what comes again -------------------------------------------------------------------------------------------- */

static int argmax(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* Greedy, with token k banned: the second most likely comes, and all that follows is what the model says of the tokens
 * as they stand now, computed by pg_logits in the same classes. */
static void test_second_best(pg_engine *e, int k)
{
    static reader r;
    int32_t ids[128];
    pg_error err = { 0 };
    pg_request q = reader_request(e, PROMPT, ids, 64);
    q.temperature = 0;
    q.repeat_penalty = 1;
    q.logprobs = 4;
    q.max_new = 40;
    reader_submit(e, &q, &r);
    while (r.n <= k) pg_acknowledge(e, r.id, r.n), reader_await(e, &r, r.n + 1);
    const pg_logprob first = r.logprob[k][0], second = r.logprob[k][1], third = r.logprob[k][2];
    CHECK(pg_rewind(e, r.id, k, 8192, &err) == PG_EINVAL && strstr(err.text, "8192"), "%s", err.text);
    CHECK(reader_rewind(e, &r, k, first.token) == PG_OK, "rewind to %d", k);
    reader_await(e, &r, k + 1);
    CHECK(r.token[k] == second.token && r.logprob[k][0].logprob == second.logprob &&
              r.logprob[k][1].token == first.token,
          "place %d: %d came, not %d", k, r.token[k], second.token);
    CHECK(reader_rewind(e, &r, k, second.token) == PG_OK, "and again");
    reader_finish(e, &r);
    CHECK(r.token[k] == third.token, "bans add up: %d came, not %d", r.token[k], third.token);
    CHECK(r.n == 40 && r.last.n_completion == 40 && r.last.n_dropped >= 2, "%d tokens, %d dropped", r.n,
          r.last.n_dropped);
    const float *logits;
    int32_t V;
    memcpy(ids + q.n_prompt, r.token, 40 * sizeof *ids);
    CHECK(pg_logits(e, ids, q.n_prompt + 40, 0, q.n_prompt, &logits, &V, &err) >= 0, "%s", err.text);
    for (int i = 0; i < 40; i++) {
        const float *row = logits + (size_t)(q.n_prompt + i - 1) * (size_t)V;
        const int best = argmax(row, V);
        CHECK(r.token[i] == best || i == k, "token %d after a rewind to %d: %d, by pg_logits %d", i, k, r.token[i],
              best);
        double sum = 0;
        for (int v = 0; v < V; v++) sum += exp((double)row[v] - row[best]);
        const double ln = (double)row[r.token[i]] - row[best] - log(sum);
        CHECK(fabs(ln - r.logprob[i][0].logprob) < 1e-6, "ln p of token %d: %g, by pg_logits %g", i,
              (double)r.logprob[i][0].logprob, ln);
    }
}

/* A ban outlives rewinds to later places and goes with the tokens before it; one may come before the first token. */
static void test_bans(pg_engine *e)
{
    static reader r;
    int32_t ids[64];
    pg_request q = reader_request(e, PROMPT, ids, 64);
    q.temperature = 0;
    q.repeat_penalty = 1;
    q.logprobs = 4;
    reader_submit(e, &q, &r);
    reader_await(e, &r, 6);
    const int32_t first = r.token[0], third = r.token[3];
    pg_logprob top[4];
    memcpy(top, r.logprob[3], sizeof top);
    CHECK(reader_rewind(e, &r, 3, top[0].token) == PG_OK, "ban the best");
    reader_await(e, &r, 6);
    CHECK(reader_rewind(e, &r, 5, r.token[5]) == PG_OK, "go back to a later place");
    reader_await(e, &r, 6);
    CHECK(reader_rewind(e, &r, 3, top[1].token) == PG_OK, "ban the second");
    reader_await(e, &r, 4);
    CHECK(r.token[3] == top[2].token, "%d came, not the third of that place", r.token[3]);
    CHECK(reader_rewind(e, &r, 2, -1) == PG_OK, "the tokens before it go");
    reader_await(e, &r, 4);
    CHECK(r.token[3] == third, "%d came, not what had come first", r.token[3]);
    pg_cancel(e, r.id, NULL);
    reader_finish(e, &r);
    reader_submit(e, &q, &r);
    CHECK(reader_rewind(e, &r, 0, first) == PG_OK, "before anything came");
    reader_await(e, &r, 1);
    CHECK(r.token[0] != first, "a banned token came first");
    pg_cancel(e, r.id, NULL);
    reader_finish(e, &r);
}

/* Greedy, taken back anywhere and any number of times without a ban: nothing of the result tells. */
static void test_no_trace(pg_engine *e)
{
    static reader plain, r;
    int32_t ids[64];
    unsigned long long rng = 77;
    const char *stops[] = { "fox was", "zz" };
    pg_request q = reader_request(e, PROMPT, ids, 64);
    q.temperature = 0;
    q.logprobs = 4;
    q.max_new = 120;
    q.stop = stops;
    q.n_stop = 2;
    q.lead = 0;
    reader_submit(e, &q, &plain);
    reader_finish(e, &plain);
    for (int run = 0; run < 6; run++) {
        int rewinds = 0;
        q.lead = 1 + run * run * 3;
        reader_submit(e, &q, &r);
        while (!r.kind) {
            if (rewinds < 25 && r.n && check_rand(&rng) % 3 == 0) {
                CHECK(reader_rewind(e, &r, (int)(check_rand(&rng) % (unsigned)(r.n + 1)), -1) == PG_OK, "rewind");
                rewinds++;
            }
            pg_acknowledge(e, r.id, r.n);
            reader *one = &r;
            if (reader_poll(e, CHECK_WAIT_MS, &one, 1) <= 0) break;
        }
        CHECK(r.n == plain.n && !memcmp(r.token, plain.token, (size_t)r.n * sizeof *r.token) &&
                  r.finish == plain.finish,
              "run %d: %d tokens, plainly %d", run, r.n, plain.n);
        CHECK(!memcmp(r.n_text, plain.n_text, (size_t)r.n * sizeof *r.n_text) &&
                  !memcmp(r.text, plain.text, sizeof *r.text * (size_t)r.n),
              "run %d: other texts", run);
        CHECK(!memcmp(r.logprob, plain.logprob, sizeof *r.logprob * (size_t)r.n), "run %d: other logprobs", run);
        CHECK(r.last.experts_used == plain.last.experts_used && r.last.n_completion == plain.last.n_completion,
              "run %d: %d experts, plainly %d", run, r.last.experts_used, plain.last.experts_used);
        CHECK(r.last.n_dropped >= r.dropped && r.last.n_dropped <= r.dropped + rewinds * q.lead,
              "run %d: %d dropped, of which %d had been seen", run, r.last.n_dropped, r.dropped);
    }
}

/* Experts that served only what was taken back are not counted: sixty tokens and back to two, against three in all. */
static void test_experts(pg_engine *e)
{
    static reader plain, r;
    int32_t ids[64];
    pg_request q = reader_request(e, PROMPT, ids, 64);
    q.temperature = 0;
    q.lead = 1;
    reader_submit(e, &q, &r);
    while (r.n < 60) pg_acknowledge(e, r.id, r.n), reader_await(e, &r, r.n + 1);
    CHECK(reader_rewind(e, &r, 2, -1) == PG_OK, "rewind");
    reader_await(e, &r, 3);
    pg_cancel(e, r.id, NULL);
    reader_finish(e, &r);
    q.max_new = 3;
    reader_submit(e, &q, &plain);
    reader_finish(e, &plain);
    CHECK(r.last.n_completion == 3 && r.last.experts_used == plain.last.experts_used && plain.last.experts_used > 0,
          "%d experts for %d tokens, plainly %d", r.last.experts_used, r.last.n_completion, plain.last.experts_used);
}

/* The same rewinds give the same tokens, however far the engine had run ahead and whoever else is there. */
static int script(pg_engine *e, pg_request *q, int32_t lead, reader *r)
{
    static const int at[] = { 5, 9, 9, 30, 31, 12 }, keep[] = { 5, 2, 8, 0, 30, 11 };
    q->lead = lead;
    reader_submit(e, q, r);
    for (int i = 0; i < 6; i++) {
        while (r->n < at[i] && !r->kind) pg_acknowledge(e, r->id, r->n), reader_await(e, r, r->n + 1);
        CHECK(reader_rewind(e, r, keep[i], i % 2 ? r->token[keep[i]] : -1) == PG_OK, "rewind %d", i);
    }
    reader_finish(e, r);
    return r->n;
}

static void test_repeats(pg_engine *e)
{
    static reader a, b, other;
    int32_t ids[64], more[64];
    pg_request q = reader_request(e, PROMPT, ids, 64), n = reader_request(e, "Deep in the wood", more, 64);
    q.temperature = 1.2f;
    q.max_new = 60;
    script(e, &q, 1, &a);
    n.max_new = 300;
    n.lead = 0;
    reader_submit(e, &n, &other);
    script(e, &q, 100, &b);
    CHECK(a.n == 60 && b.n == 60 && !memcmp(a.token, b.token, 60 * sizeof *a.token), "a lead of 1 and one of 100");
    reader_finish(e, &other);
    q.lead = 0;
    reader_submit(e, &q, &b);
    reader_finish(e, &b);
    CHECK(memcmp(a.token, b.token, 60 * sizeof *a.token) != 0, "rewinding to 0 draws anew");
}

/* ---- ends -------------------------------------------------------------------------------------------------------- */

static void test_ends(pg_engine *e)
{
    static reader r;
    reader *list[] = { &r };
    int32_t ids[64];
    pg_info info;
    pg_engine_info(e, &info, NULL);
    pg_request q = reader_request(e, PROMPT, ids, 64);
    pg_bias end = { info.eos, INFINITY };
    q.bias = &end;
    q.n_bias = 1;
    q.ignore_eos = 0;
    q.max_new = 6;
    reader_submit(e, &q, &r);
    reader_await(e, &r, 1);
    CHECK(reader_poll(e, 40, list, 1) == 0 && r.ending == PG_FINISH_STOP && r.token[0] == info.eos,
          "an end token waits");
    CHECK(reader_rewind(e, &r, 1, -1) == PG_OK, "kept: it ends all the same");
    reader_poll(e, CHECK_WAIT_MS, list, 1);
    CHECK(r.kind == PG_EVENT_DONE && r.finish == PG_FINISH_STOP && r.last.n_completion == 1 && r.last.attempt == 1,
          "end");
    reader_submit(e, &q, &r);
    for (int i = 0; i < 6; i++) { /* banned at each place where it comes */
        reader_await(e, &r, i + 1);
        CHECK(r.token[i] == info.eos && reader_rewind(e, &r, i, info.eos) == PG_OK, "place %d", i);
        reader_await(e, &r, i + 1);
        CHECK(r.token[i] != info.eos, "place %d: a banned end token came", i);
    }
    reader_finish(e, &r);
    CHECK(r.finish == PG_FINISH_LENGTH && r.n == 6 && r.last.n_dropped == 6, "%d tokens, %d dropped", r.n,
          r.last.n_dropped);
    q.n_bias = 0;
    q.max_new = 9;
    reader_submit(e, &q, &r);
    q.ignore_eos = 1;
    for (int i = 0; i < 3; i++) {
        while (r.n < 9) pg_acknowledge(e, r.id, r.n), reader_await(e, &r, r.n + 1);
        CHECK(r.ending == PG_FINISH_LENGTH && reader_rewind(e, &r, 8 - i, r.token[8 - i]) == PG_OK,
              "taken back at its length");
    }
    CHECK(pg_cancel(e, r.id, NULL) == PG_OK, "cancel");
    while (!r.kind && reader_poll(e, CHECK_WAIT_MS, list, 1) > 0) continue;
    CHECK(r.finish == PG_FINISH_CANCELLED, "finish %d", r.finish);
    q.lead = 2;
    q.deadline_ms = 40;
    reader_submit(e, &q, &r);
    while (!r.kind && reader_poll(e, CHECK_WAIT_MS, list, 1) > 0) continue;
    CHECK(r.finish == PG_FINISH_DEADLINE && r.n <= 2, "late while it waits: finish %d, %d tokens", r.finish, r.n);
}

static int stop_after(void *ud, pg_token_view *v, pg_error *err)
{
    (void)err;
    v->stop = v->n_new == *(_Atomic int *)ud;
    return 0;
}

/* A policy's end outlives a rewind that keeps its token, with the text that it released; without the token it goes. */
static void test_stopped(pg_engine *e)
{
    static reader plain, r;
    reader *list[] = { &r };
    int32_t ids[64];
    _Atomic int after = 5;
    const pg_hooks h = { .token = stop_after, .ud = &after };
    pg_policy *p = NULL;
    CHECK(pg_policy_new(e, "stops", 1, 0, &p, NULL) == PG_OK && pg_policy_hooks(p, &h, NULL) == PG_OK, "hooks");
    char stop[READER_TEXT + 2] = "";
    const char *stops[] = { stop };
    pg_request q = reader_request(e, PROMPT, ids, 64);
    q.temperature = 0;
    q.max_new = 8;
    reader_submit(e, &q, &plain);
    reader_finish(e, &plain);
    snprintf(stop, sizeof stop, "%.*s|", plain.n_text[4], plain.text[4]); /* so that the fifth token's text is held */
    q.stop = stops;
    q.n_stop = 1;
    q.policy = p;
    for (int way = 0; way < 3; way++) {
        reader_submit(e, &q, &r);
        while (!r.ending && reader_poll(e, CHECK_WAIT_MS, list, 1) > 0) continue;
        CHECK(r.n == 5 && r.ending == PG_FINISH_STOP && r.n_text[4] == 0, "%d tokens, ending %d", r.n, r.ending);
        if (way == 1) /* what is kept is acknowledged, so it ends; until then it may be asked again */
            for (int i = 0, rc = PG_OK; i < 12 && rc == PG_OK; i++) {
                rc = reader_rewind(e, &r, 5, -1);
                CHECK(rc == PG_OK || (i > 0 && rc == PG_ENOTFOUND), "rewind %d: %d", i, rc);
            }
        if (way == 2) {
            after = 0; /* while the engine's thread has nothing to ask it about */
            CHECK(reader_rewind(e, &r, 3, -1) == PG_OK, "take it back");
        }
        reader_finish(e, &r);
        CHECK(r.kind == PG_EVENT_DONE && r.n == (way == 2 ? 8 : 5), "way %d: %d tokens", way, r.n);
        CHECK(r.finish == (way == 2 ? PG_FINISH_LENGTH : PG_FINISH_STOP), "way %d: finish %d", way, r.finish);
        CHECK(!memcmp(r.token, plain.token, (size_t)r.n * sizeof *r.token), "way %d: other tokens", way);
        if (way < 2)
            CHECK(r.n_rest == plain.n_text[4] && !memcmp(r.rest, plain.text[4], (size_t)r.n_rest),
                  "way %d: %d bytes for the end, not %d", way, r.n_rest, plain.n_text[4]);
    }
    pg_policy_drop(p);
}

static void test_too_many(pg_engine *e)
{
    static reader r;
    int32_t ids[64];
    static pg_bias all[8192];
    pg_request q = reader_request(e, PROMPT, ids, 64);
    for (int i = 0; i < 8192; i++) all[i] = (pg_bias){ i, i == 300 || i == 400 ? 0 : -INFINITY };
    q.bias = all;
    q.n_bias = 8192;
    reader_submit(e, &q, &r);
    reader_await(e, &r, 3);
    CHECK(reader_rewind(e, &r, 2, 300) == PG_OK, "ban");
    reader_await(e, &r, 3);
    CHECK(r.token[2] == 400 && reader_rewind(e, &r, 2, 400) == PG_OK, "ban the other");
    reader_finish(e, &r);
    CHECK(r.kind == PG_EVENT_FAIL && r.finish == PG_EINVAL && strstr(r.why, "every token is banned"), "%s", r.why);
    q.n_bias = 0;
    reader_submit(e, &q, &r);
    int rc = PG_OK, n = 0, full = 0;
    for (; !r.kind && n < 70 && rc != PG_ENOTFOUND; n += rc == PG_OK, full += rc == PG_EFULL) {
        rc = reader_rewind(e, &r, 0, -1);
        if (rc == PG_EFULL || n % 20 == 0) reader_await(e, &r, 1);
    }
    reader_finish(e, &r);
    CHECK(r.kind == PG_EVENT_FAIL && r.finish == PG_ELIMIT && strstr(r.why, "rewinds") && n > 64, "%d rewinds, %s", n,
          r.why);
    reader_submit(e, &q, &r); /* but any number of them at other places, whose bans do not pile up */
    for (int i = 0; i < 300; i++) {
        while (r.n < i + 1 && !r.kind) pg_acknowledge(e, r.id, r.n), reader_await(e, &r, r.n + 1);
        CHECK(reader_rewind(e, &r, i, r.token[i]) == PG_OK, "place %d", i);
    }
    pg_cancel(e, r.id, NULL);
    reader_finish(e, &r);
    CHECK(r.kind == PG_EVENT_DONE && r.finish == PG_FINISH_CANCELLED && r.last.n_completion >= 299, "300 places");
}

int main(void)
{
    pg_engine *e = NULL;
    pg_options o;
    pg_error err = { 0 };
    pg_stats s;
    pg_options_init(&o);
    CHECK(pg_open(MODEL, &o, &e, &err) == PG_OK, "%s", err.text);
    if (!e) return check_done("rewind");
    test_lead(e);
    test_second_best(e, 0);
    test_second_best(e, 1);
    test_second_best(e, 23);
    test_bans(e);
    test_no_trace(e);
    test_experts(e);
    test_repeats(e);
    test_ends(e);
    test_stopped(e);
    test_too_many(e);
    CHECK(pg_engine_stats(e, &s, NULL) == PG_OK && s.running + s.waiting <= 1, "%d still run", s.running);
    pg_close(e);
    return check_done("rewind");
}
