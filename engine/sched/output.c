/* output.c: from drawn tokens to events. Text is released as soon as it can no longer become part of a stop string;
 * nothing is sent and then withdrawn.
 *
 * The held text is the longest suffix that is a proper prefix of some stop string, so a stop string that spans tokens is
 * always found, and the text ends before the first one that appears. */
#include "sched.h"

#include <string.h>

static void push_text(pg_engine *e, pg_task *t, int32_t token, const char *text, int32_t n, const pg_logprob *logprobs,
                      int n_logprobs)
{
    if (token < 0 && !n) return;
    const pg_event ev = { .id = t->id,
                          .kind = PG_EVENT_TEXT,
                          .token = token,
                          .text = text,
                          .n_text = n,
                          .logprobs = logprobs,
                          .n_logprobs = n_logprobs };
    pg_ring_push(&t->ring, &ev);
    e->published = 1;
}

static void push_done(pg_engine *e, pg_task *t, int finish)
{
    const double now = pg_now_ms(), start = t->t_start ? t->t_start : now, first = t->t_first ? t->t_first : now;
    const pg_event ev = { .id = t->id,
                          .kind = PG_EVENT_DONE,
                          .token = -1,
                          .finish = finish,
                          .n_prompt = t->n_prompt,
                          .n_completion = t->n_token - t->n_prompt,
                          .queue_ms = (float)(start - t->t_submit),
                          .prefill_ms = (float)(first - start),
                          .decode_ms = (float)(now - first),
                          .seed_low = (uint32_t)t->seed,
                          .seed_high = (uint32_t)(t->seed >> 32),
                          .experts_used = t->n_expert_seen,
                          .experts_all = e->model->n_moe_layer * e->model->h.n_expert };
    pg_ring_push(&t->ring, &ev);
    e->published = 1;
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

void pg_output_end(pg_engine *e, pg_task *t, int finish)
{
    push_text(e, t, -1, t->held, t->n_held, NULL, 0);
    t->n_held = 0;
    push_done(e, t, finish);
}

void pg_output_fail(pg_engine *e, pg_task *t, int code, const char *message)
{
    int n = (int)strlen(message);
    if ((uint32_t)n > t->ring.text_most) n = (int)t->ring.text_most;
    const pg_event ev = {
        .id = t->id, .kind = PG_EVENT_FAIL, .token = -1, .finish = code, .text = message, .n_text = n
    };
    pg_ring_push(&t->ring, &ev);
    e->published = 1;
    t->finished = 1;
}

void pg_output_token(pg_engine *e, pg_task *t, int32_t token, const pg_logprob *logprobs, int n_logprobs)
{
    const int new_tokens = t->n_token + 1 - t->n_prompt, max = t->how.max_new;
    if (!t->t_first) t->t_first = pg_now_ms();
    t->token[t->n_token++] = token;
    if (!t->how.ignore_eos && pg_token_is_eog(e->tokenizer, token)) {
        push_text(e, t, token, t->held, t->n_held, logprobs, n_logprobs);
        t->n_held = 0;
        push_done(e, t, PG_FINISH_STOP);
        return;
    }
    const char *text = "";
    int32_t n = 0;
    pg_detok_next(t->detok, token, &text, &n, NULL);
    hold(t, text, n);
    const int stop = find_stop(t);
    const int release = stop >= 0 ? stop : t->n_held - open_suffix(t);
    push_text(e, t, token, t->held, release, logprobs, n_logprobs);
    t->n_held -= release;
    memmove(t->held, t->held + release, (size_t)t->n_held);
    if (stop >= 0) {
        t->n_held = 0;
        push_done(e, t, PG_FINISH_STOP);
    } else if (t->guided.guide && pg_guided_is_over(&t->guided, t->token + t->n_prompt, new_tokens)) {
        pg_output_end(e, t, PG_FINISH_STOP);
    } else if ((max > 0 && new_tokens >= max) || t->n_token >= t->cap) {
        pg_output_end(e, t, PG_FINISH_LENGTH);
    }
}
