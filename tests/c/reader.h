/* What tests of requests with a lead share: a reader that keeps texts apart, token by token, as perigee.h tells it
 * to. */
#ifndef PG_READER_H
#define PG_READER_H

#include "check.h"

#include <math.h>
#include <perigee.h>

#define MODEL "examples/models/perigee-voices.q8_0.gguf"

enum { READER_TOKENS = 600, READER_TEXT = 1024 };

typedef struct reader {
    int32_t id, attempt, n; /* rewinds so far, tokens kept */
    int32_t token[READER_TOKENS], n_text[READER_TOKENS], ending;
    char text[READER_TOKENS][READER_TEXT];
    pg_logprob logprob[READER_TOKENS][4];
    char rest[READER_TEXT], why[256];
    int32_t n_rest, stale; /* text without a token; events of older attempts */
    int32_t kind, finish, dropped;
    pg_event last;
} reader;

static inline void reader_begin(reader *r, int32_t id)
{
    memset(r, 0, sizeof *r);
    r->id = id;
}

static inline void reader_take(reader *r, const pg_event *ev)
{
    if (r->kind) CHECK(0, "request %d: an event after its end", r->id);
    if (ev->kind != PG_EVENT_TEXT) {
        r->kind = ev->kind;
        r->finish = ev->finish;
        r->last = *ev;
        if (ev->kind == PG_EVENT_FAIL) snprintf(r->why, sizeof r->why, "%.*s", ev->n_text, ev->text);
    } else if (ev->attempt != r->attempt) {
        CHECK(ev->attempt < r->attempt, "request %d: attempt %d after %d rewinds", r->id, ev->attempt, r->attempt);
        r->stale++;
    } else if (ev->token < 0) {
        memcpy(r->rest, ev->text, (size_t)ev->n_text);
        r->n_rest = ev->n_text;
        r->ending = ev->finish;
    } else if (r->n < READER_TOKENS && ev->n_text <= READER_TEXT) {
        r->token[r->n] = ev->token;
        r->n_text[r->n] = ev->n_text;
        memcpy(r->text[r->n], ev->text, (size_t)ev->n_text);
        memset(r->logprob[r->n], 0, sizeof r->logprob[r->n]);
        for (int i = 0; i < ev->n_logprobs && i < 4; i++) r->logprob[r->n][i] = ev->logprobs[i];
        r->ending = ev->finish;
        r->n++;
    }
}

/* Hand what has come to its readers; returns how many events. */
static inline int reader_poll(pg_engine *e, int32_t timeout_ms, reader *const *list, int n)
{
    pg_event ev[32];
    const int got = pg_poll(e, timeout_ms, ev, 32, NULL);
    for (int i = 0; i < got; i++)
        for (int k = 0; k < n; k++)
            if (list[k]->id == ev[i].id) reader_take(list[k], &ev[i]);
    return got;
}

/* Until it has n tokens, or has ended; nothing is acknowledged. */
static inline void reader_await(pg_engine *e, reader *r, int n)
{
    while (r->n < n && !r->kind)
        if (reader_poll(e, CHECK_WAIT_MS, &r, 1) <= 0) break;
}

/* To the end, acknowledging all that comes. */
static inline void reader_finish(pg_engine *e, reader *r)
{
    while (!r->kind) {
        pg_acknowledge(e, r->id, r->n);
        if (reader_poll(e, CHECK_WAIT_MS, &r, 1) <= 0) break;
    }
}

static inline int reader_rewind(pg_engine *e, reader *r, int keep, int32_t ban)
{
    pg_error err = { 0 };
    const int rc = pg_rewind(e, r->id, keep, ban, &err);
    if (rc < 0) return rc;
    r->dropped += r->n - keep;
    r->n = keep;
    r->attempt++;
    r->ending = r->n_rest = 0;
    return rc;
}

static inline pg_request reader_request(pg_engine *e, const char *prompt, int32_t *ids, int max)
{
    pg_request q;
    pg_request_init(e, &q);
    q.prompt = ids;
    q.n_prompt = pg_encode(pg_engine_tokenizer(e), prompt, strlen(prompt), 0, ids, max, NULL);
    q.has_seed = q.ignore_eos = 1;
    q.seed_low = 5;
    q.lead = 8;
    return q;
}

static inline void reader_submit(pg_engine *e, const pg_request *q, reader *r)
{
    pg_error err = { 0 };
    int32_t id = -1;
    CHECK(pg_submit(e, q, &id, &err) == PG_OK, "%s", err.text);
    reader_begin(r, id);
}

#endif
