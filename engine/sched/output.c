/* output.c: from drawn tokens to events. Text is released as soon as it can no longer become part of a stop string;
 * nothing is sent and then withdrawn.
 *
 * The held text is the longest suffix that is a proper prefix of some stop string, so a stop string that spans tokens is
 * always found, and the text ends before the first one that appears. */
#include "sched.h"

#include <string.h>

static void push(pg_engine *e, pg_task *t, pg_event ev)
{
    ev.id = t->id;
    ev.attempt = t->attempt;
    pg_ring_push(&t->ring, &ev);
    e->published = 1;
}

void pg_output_done(pg_engine *e, pg_task *t, int finish)
{
    const double now = pg_now_ms(), start = t->t_start ? t->t_start : now, first = t->t_first ? t->t_first : now;
    const pg_event ev = { .kind = PG_EVENT_DONE,
                          .token = -1,
                          .finish = finish,
                          .n_prompt = t->n_prompt,
                          .n_cached = t->seq.n_cached,
                          .n_completion = t->n_token - t->n_prompt,
                          .n_dropped = t->n_dropped,
                          .queue_ms = (float)(start - t->t_submit),
                          .prefill_ms = (float)(first - start),
                          .decode_ms = (float)(now - first),
                          .seed_low = (uint32_t)t->seed,
                          .seed_high = (uint32_t)(t->seed >> 32),
                          .experts_used = t->n_expert_seen,
                          .experts_all = e->model->n_moe_layer * e->model->h.n_expert };
    push(e, t, ev);
    t->finished = 1;
}

/* Where the first stop string begins in the held text, or -1; the longest held suffix that may still become one. */
static int find_stop(const pg_task *t)
{
    int best = -1;
    for (int s = 0; s < t->how.n_stop; s++) {
        const char *at = memmem(t->held, (size_t)t->n_held, t->stop[s], (size_t)t->stop_len[s]);
        if (at && (best < 0 || at - t->held < best)) best = (int)(at - t->held);
    }
    return best;
}

static int open_suffix(const pg_task *t)
{
    int longest = 0;
    for (int s = 0; s < t->how.n_stop; s++) {
        int n = t->stop_len[s] - 1 < t->n_held ? t->stop_len[s] - 1 : t->n_held;
        for (; n > longest; n--)
            if (!memcmp(t->held + t->n_held - n, t->stop[s], (size_t)n)) longest = n;
    }
    return longest;
}

static void hold(pg_task *t, const char *text, int32_t n)
{
    if (n > t->held_cap - t->n_held) n = t->held_cap - t->n_held; /* cannot be: held_cap covers any token */
    memcpy(t->held + t->n_held, text, (size_t)n);
    t->n_held += n;
}

/* What the newest token of t does to the state that goes from token to token: its text joins what is held. Nothing else
 * changes that state, so pg_output_replay, which starts it anew and lets tokens pass here again, restores it.
 * Returns the bytes of the held text that are released now; *finish: PG_FINISH_* when the request ends here, or 0. */
static int32_t follow(pg_engine *e, pg_task *t, int *finish)
{
    const int32_t token = t->token[t->n_token - 1], new_tokens = t->n_token - t->n_prompt, max = t->how.max_new;
    const char *text = "";
    int32_t n = 0;
    *finish = PG_FINISH_STOP;
    if (!t->how.ignore_eos && pg_token_is_eog(e->tokenizer, token)) return t->n_held;
    pg_detok_next(t->detok, token, &text, &n, NULL);
    hold(t, text, n);
    const int stop = find_stop(t);
    if (stop >= 0) return stop;
    if (t->guided.guide && pg_guided_is_over(&t->guided, t->token + t->n_prompt, new_tokens)) return t->n_held;
    *finish = (max > 0 && new_tokens >= max) || t->n_token >= t->cap ? PG_FINISH_LENGTH : 0;
    return *finish ? t->n_held : t->n_held - open_suffix(t);
}

/* The released text has been copied or is not wanted; at the end nothing is held any more. */
static void let_go(pg_task *t, int32_t n, int finish)
{
    t->n_held -= n;
    memmove(t->held, t->held + n, (size_t)t->n_held);
    if (finish) t->n_held = 0;
    t->ending = finish;
}

void pg_output_token(pg_engine *e, pg_task *t, int32_t token, const pg_logprob *logprobs, int n_logprobs)
{
    if (!t->t_first) t->t_first = pg_now_ms();
    t->token[t->n_token++] = token;
    int finish;
    const int32_t n = follow(e, t, &finish);
    push(e, t,
         (pg_event){ .kind = PG_EVENT_TEXT,
                     .token = token,
                     .text = t->held,
                     .n_text = n,
                     .logprobs = logprobs,
                     .n_logprobs = n_logprobs,
                     .finish = finish });
    let_go(t, n, finish);
    if (finish && !t->how.lead) pg_output_done(e, t, finish);
}

void pg_output_replay(pg_engine *e, pg_task *t)
{
    const int32_t end = t->n_token;
    const char *rest;
    int32_t n_rest;
    pg_detok_rest(t->detok, &rest, &n_rest);
    pg_detok_resume(t->detok);
    t->n_held = t->ending = 0;
    pg_guided_reset(&t->guided);
    for (t->n_token = t->n_prompt; t->n_token < end;) {
        int finish;
        t->n_token++;
        const int32_t n = follow(e, t, &finish);
        let_go(t, n, finish);
    }
}

void pg_output_end(pg_engine *e, pg_task *t, int finish)
{
    if (t->n_held) push(e, t, (pg_event){ .kind = PG_EVENT_TEXT, .token = -1, .text = t->held, .n_text = t->n_held });
    t->n_held = 0;
    pg_output_done(e, t, finish);
}

void pg_output_stop(pg_engine *e, pg_task *t)
{
    if (t->finished || t->ending) return;
    t->stopped = t->n_token - t->n_prompt;
    push(e, t,
         (pg_event){
             .kind = PG_EVENT_TEXT, .token = -1, .text = t->held, .n_text = t->n_held, .finish = PG_FINISH_STOP });
    let_go(t, t->n_held, PG_FINISH_STOP);
    if (!t->how.lead) pg_output_done(e, t, PG_FINISH_STOP);
}

void pg_output_fail(pg_engine *e, pg_task *t, int code, const char *message)
{
    int n = (int)strlen(message);
    if ((uint32_t)n > t->ring.text_most) n = (int)t->ring.text_most;
    push(e, t, (pg_event){ .kind = PG_EVENT_FAIL, .token = -1, .finish = code, .text = message, .n_text = n });
    t->finished = 1;
}
