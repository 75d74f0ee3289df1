/* draw.c: what the sampled rows of a step become: a token, ln p or a copy of the logits. Rows are drawn on all lanes at
 * once, each into places of its own; what came of them goes to the requests afterwards, one by one, for events and
 * texts are the engine thread's. */
#include "sched.h"

#include <math.h>
#include <string.h>

/* Which experts served this row: a set of (layer, expert) pairs for each request, each with the token that brought it
 * in, so that tokens which are taken back take theirs along. */
static void count_experts(const pg_engine *e, pg_task *t, int row)
{
    const int32_t token = t->n_token - t->n_prompt + 1;
    const int E = e->model->h.n_expert, X = e->model->h.n_used;
    for (int i = 0; i < e->plan.n_pick; i++) {
        const int32_t *pick =
            (const int32_t *)e->backend->ops->read(e->backend, e->plan.pick[i]) + (int64_t)row * 2 * X;
        for (int x = 0; x < X; x++) {
            int32_t *first = &t->expert_seen[i * E + pick[x]];
            t->n_expert_seen += !*first;
            if (!*first) *first = token;
        }
    }
}

/* Where the bans of the token to be drawn begin; they are the last ones. */
static int32_t first_ban(const pg_task *t)
{
    int32_t i = t->n_ban;
    while (i > 0 && t->ban_place[i - 1] == t->n_token - t->n_prompt) i--;
    return i;
}

static void look_at_row(const pg_engine *e, pg_task *t, int pos, const float *logits)
{
    const int V = e->model->h.n_vocab;
    if (t->logits)
        memcpy(t->logits + (int64_t)pos * V, logits, (size_t)V * sizeof *logits);
    else if (pos + 1 < t->n_token)
        t->logprobs[pos] = pg_logprob_of(logits, V, t->token[pos + 1]);
}

/* Sampled row s. A request has one of them at most, so nobody else changes what belongs to it. */
static void draw_row(void *engine, int s, int lane)
{
    const pg_engine *e = engine;
    const int row = e->sampled[s];
    pg_task *t = e->running[e->sampled_task[s]];
    const float *logits =
        (const float *)e->backend->ops->read(e->backend, e->plan.logits) + (int64_t)s * e->model->h.n_vocab;
    if (t->looking) {
        look_at_row(e, t, e->row_pos[row], logits);
        return;
    }
    const int32_t from = first_ban(t);
    const pg_draw draw = { .logits = logits,
                           .how = &t->how,
                           .history = t->token,
                           .n_history = t->n_token,
                           .seed = t->seed,
                           .position = t->n_token,
                           .attempt = t->attempt,
                           .ban = t->ban ? &t->ban[from] : NULL,
                           .n_ban = t->n_ban - from,
                           .logprobs = t->how.logprobs > 0 ? e->top + (int64_t)s * PG_MAX_LOGPROBS : NULL };
    count_experts(e, t, row);
    e->drawn[s] = pg_sample(e->sampler[lane], &draw);
}

/* Nothing could be drawn from sampled row s. */
static const char *why_none(const pg_engine *e, int s)
{
    const int V = e->model->h.n_vocab;
    const float *logits = (const float *)e->backend->ops->read(e->backend, e->plan.logits) + (int64_t)s * V;
    for (int i = 0; i < V; i++)
        if (isfinite(logits[i])) return "every token is banned here: lift a ban, by logit_bias or by pg_rewind";
    return "no logit is a finite number: the model's weights are damaged, or its numbers overflow";
}

void pg_draw_rows(pg_engine *e)
{
    for (int r = 0; r < e->rows.n; r++) e->running[e->row_task[r]]->n_done++;
    e->backend->ops->spread(e->backend, draw_row, e, e->rows.n_sampled);
    const int V = e->model->h.n_vocab;
    for (int s = 0; s < e->rows.n_sampled; s++) {
        pg_task *t = e->running[e->sampled_task[s]];
        if (t->looking) continue;
        if (e->drawn[s] < 0)
            pg_output_fail(e, t, e->drawn[s], why_none(e, s));
        else
            pg_output_token(e, t, e->drawn[s], e->top + (int64_t)s * PG_MAX_LOGPROBS,
                            t->how.logprobs > V ? V : t->how.logprobs);
    }
}
