/* Texts of requests that are taken back at random, among others that are not: characters in pieces and stop strings
 * across tokens, on the bundled model. Tokens are drawn from a few, single bytes among them, and the text of each is
 * compared with what a plain decoder says that sees the whole list: what had been released after token i may only
 * depend on tokens 1 to i. Acknowledging, rewinding, cancelling and slow reading come in any order. */
#include "reader.h"

enum { FEW = 12, AT_ONCE = 12 };

static int32_t few[FEW], n_few;

/* Tokens whose bytes are these: parts of a character of three bytes, of one of four, and letters of the stop
 * strings. */
static void find_few(pg_engine *e)
{
    static const char *const wanted[] = {
        "\xE2", "\x82", "\xAC", "\xF0", "\x9F", "a", "b", "c", "ab", " a", "the", "\n"
    };
    pg_tokenizer_info info;
    pg_tokenizer *t = pg_engine_tokenizer(e);
    pg_tokenizer_describe(t, &info);
    for (size_t w = 0; w < sizeof wanted / sizeof *wanted; w++)
        for (int32_t id = 0; id < info.n_vocab; id++) {
            char text[64];
            const int n = pg_decode(t, (int32_t[]){ 1, id }, 2, 0, text, sizeof text, NULL);
            if (n != (int)strlen(wanted[w]) || memcmp(text, wanted[w], (size_t)n)) continue;
            few[n_few++] = id;
            break;
        }
}

static const char *const stops[] = { "abcab", "ca\xE2\x82\xAC", "aaaa", "b the" };
enum { N_STOP = 4 };

/* Bytes of the text of tokens [n] that are released after the last of them, and whether a stop string ended it. */
static int released(pg_engine *e, const int32_t *token, int n, char *out, int *stopped)
{
    static char text[8 * READER_TOKENS];
    pg_detok *d;
    int length = 0, end;
    pg_detok_open(pg_engine_tokenizer(e), 0, &d, NULL);
    for (int i = -1; i < n; i++) { /* what goes before makes a leading space stay */
        const char *piece;
        int32_t k;
        pg_detok_next(d, i < 0 ? few[5] : token[i], &piece, &k, NULL);
        if (i < 0) continue;
        memcpy(text + length, piece, (size_t)k);
        length += k;
    }
    pg_detok_close(d);
    *stopped = 0;
    end = length;
    for (int s = 0; s < N_STOP; s++) {
        const char *at = memmem(text, (size_t)length, stops[s], strlen(stops[s]));
        if (at && at - text < end) end = (int)(at - text), *stopped = 1;
    }
    for (int from = *stopped ? end : 0; from < end; from++) { /* the first place where a stop string may have begun */
        int open = 0;
        for (int s = 0; s < N_STOP; s++)
            open |= end - from < (int)strlen(stops[s]) && !memcmp(text + from, stops[s], (size_t)(end - from));
        if (open) end = from;
    }
    memcpy(out, text, (size_t)end);
    return end;
}

/* All that is left after the end: the texts are what a plain decoder gives. */
static void check_text(pg_engine *e, const reader *r, int max)
{
    static char got[8 * READER_TOKENS], want[8 * READER_TOKENS];
    int n_got = 0, stopped = 0;
    for (int i = 0; i < r->n; i++) {
        memcpy(got + n_got, r->text[i], (size_t)r->n_text[i]);
        n_got += r->n_text[i];
        const int n = released(e, r->token, i + 1, want, &stopped);
        if (i + 1 == max && !stopped) continue; /* what is held comes with the last one: below */
        CHECK(n == n_got && !memcmp(got, want, (size_t)n), "request %d, token %d of %d: %d bytes released, not %d",
              r->id, i, r->n, n_got, n);
        CHECK(!stopped || i + 1 == r->n, "request %d went on behind a stop string", r->id);
    }
    if (r->finish == PG_FINISH_STOP) CHECK(stopped, "request %d stopped without a stop string", r->id);
}

static void submit(pg_engine *e, pg_request *q, reader *r, unsigned long long *rng)
{
    q->lead = check_rand(rng) % 4 ? 1 + (int)(check_rand(rng) % 40) : 0;
    q->seed_low = check_rand(rng);
    q->max_new = 1 + (int)(check_rand(rng) % 90);
    q->deadline_ms = check_rand(rng) % 10 ? 0 : 30;
    q->priority = (int)(check_rand(rng) % 3);
    reader_submit(e, q, r);
}

/* Something that a reader may do. */
static void act(pg_engine *e, reader *r, const pg_request *q, unsigned long long *rng)
{
    const unsigned what = check_rand(rng) % 16;
    const int some = (int)(check_rand(rng) % (unsigned)(r->n + 1));
    int rc = PG_OK;
    if (what < 9)
        rc = pg_acknowledge(e, r->id, r->n);
    else if (what < 11)
        rc = pg_acknowledge(e, r->id, some);
    else if (what < 15)
        rc = r->attempt < 12 ? reader_rewind(e, r, some, what % 2 ? few[check_rand(rng) % (unsigned)n_few] : -1) : rc;
    else if (check_rand(rng) % 20 == 0)
        rc = pg_cancel(e, r->id, NULL);
    CHECK(rc == PG_OK || rc == PG_ENOTFOUND || rc == PG_EFULL || (!q->lead && rc == PG_EINVAL), "%d: code %d", what,
          rc);
}

static void test_crowd(pg_engine *e, int total)
{
    static reader pool[AT_ONCE];
    static pg_request how[AT_ONCE];
    static pg_bias bias[FEW];
    reader *list[AT_ONCE];
    int32_t ids[64];
    unsigned long long rng = 4242;
    int done = 0, sent = 0, rewound = 0, failed = 0;
    pg_request q = reader_request(e, "Say it in letters:", ids, 64);
    for (int i = 0; i < n_few; i++) bias[i] = (pg_bias){ few[i], INFINITY };
    q.bias = bias;
    q.n_bias = n_few;
    q.temperature = 1;
    q.stop = stops;
    q.n_stop = N_STOP;
    for (int i = 0; i < AT_ONCE; i++) list[i] = &pool[i];
    while (done < total) {
        for (int i = 0; i < AT_ONCE && sent < total; i++)
            if (!pool[i].id || pool[i].kind) how[i] = q, submit(e, &how[i], &pool[i], &rng), sent++;
        reader_poll(e, 2, list, AT_ONCE);
        for (int i = 0; i < AT_ONCE; i++) {
            reader *r = &pool[i];
            if (!r->id) continue;
            if (!r->kind) {
                act(e, r, &how[i], &rng);
            } else {
                done++;
                rewound += r->attempt > 0;
                failed += r->kind == PG_EVENT_FAIL;
                if (r->kind == PG_EVENT_DONE) check_text(e, r, how[i].max_new);
                CHECK(r->kind == PG_EVENT_FAIL || r->last.n_completion >= r->n, "%d tokens of %d", r->last.n_completion,
                      r->n);
                CHECK(r->kind == PG_EVENT_FAIL || r->last.n_dropped >= r->dropped || r->last.attempt < r->attempt,
                      "%d dropped of %d", r->last.n_dropped, r->dropped);
                r->id = 0;
                r->kind = 0;
            }
        }
    }
    CHECK(rewound > total / 3 && failed < total / 4, "%d of %d were rewound, %d failed", rewound, total, failed);
}

int main(void)
{
    pg_engine *e = NULL;
    pg_options o;
    pg_error err = { 0 };
    pg_stats s;
    pg_options_init(&o);
    o.kv_tokens = 600; /* some have to wait for pages */
    o.context = 200;
    CHECK(pg_open(MODEL, &o, &e, &err) == PG_OK, "%s", err.text);
    if (!e) return check_done("rewind_text");
    find_few(e);
    CHECK(n_few >= 10, "%d of the tokens that make pieces of characters", n_few);
    test_crowd(e, 300);
    do {
        reader_poll(e, 10, NULL, 0);
        pg_engine_stats(e, &s, NULL);
    } while (s.running);
    CHECK(s.kv_pages_used == 0 && s.waiting == 0, "%d pages are still held", s.kv_pages_used);
    pg_close(e);
    return check_done("rewind_text");
}
