/* draw.c: what the sampled rows of a step become: a token, ln p or a copy of the logits. Rows are drawn on all lanes at
 * once, each into places of its own; what came of them goes to the requests afterwards, one by one, for events and
 * texts are the engine thread's. */
#include "sched.h"

#include <string.h>

/* Which experts served this row: a set of (layer, expert) pairs for each request. */
static void count_experts(const pg_engine *e, pg_task *t, int row)
{
    const int E = e->model->h.n_expert, X = e->model->h.n_used;
    for (int i = 0; i < e->plan.n_pick; i++) {
        const int32_t *pick =
            (const int32_t *)e->backend->ops->read(e->backend, e->plan.pick[i]) + (int64_t)row * 2 * X;
        for (int x = 0; x < X; x++) {
            const int bit = i * E + pick[x];
            t->n_expert_seen += !(t->expert_seen[bit / 8] >> bit % 8 & 1);
            t->expert_seen[bit / 8] |= (unsigned char)(1 << bit % 8);
        }
    }
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
    const pg_draw draw = { .logits = logits,
                           .how = &t->how,
                           .history = t->token,
                           .n_history = t->n_token,
                           .seed = t->seed,
                           .position = t->n_token,
                           .mask = t->guided.guide ? t->guided.mask : NULL,
                           .logprobs = t->how.logprobs > 0 ? e->top + (int64_t)s * PG_MAX_LOGPROBS : NULL };
    count_experts(e, t, row);
    e->drawn[s] = t->guided.result < 0 ? t->guided.result : pg_sample(e->sampler[lane], &draw);
}

/* Masks before lanes: those of one grammar are made by one thread. */
static void look_at_grammars(pg_engine *e)
{
    for (int s = 0; s < e->rows.n_sampled; s++) {
        pg_task *t = e->running[e->sampled_task[s]];
        if (t->guided.guide) pg_guided_look(&t->guided, t->token + t->n_prompt, t->n_token - t->n_prompt);
    }
}

static void fail(pg_engine *e, pg_task *t, int code)
{
    const char *why = "no logit is a finite number: the model's weights are damaged, or its numbers overflow";
    if (t->guided.guide && code == PG_ELIMIT)
        why = "the text fits the grammar in more ways than can be followed: make the grammar less ambiguous";
    else if (t->guided.guide)
        why = "no token of the vocabulary fits the grammar here, or none that fits has a finite logit";
    pg_output_fail(e, t, code, why);
}

void pg_draw_rows(pg_engine *e)
{
    for (int r = 0; r < e->rows.n; r++) e->running[e->row_task[r]]->n_done++;
    look_at_grammars(e);
    e->backend->ops->spread(e->backend, draw_row, e, e->rows.n_sampled);
    const int V = e->model->h.n_vocab;
    for (int s = 0; s < e->rows.n_sampled; s++) {
        pg_task *t = e->running[e->sampled_task[s]];
        if (t->looking) continue;
        if (e->drawn[s] < 0)
            fail(e, t, e->drawn[s]);
        else
            pg_output_token(e, t, e->drawn[s], e->top + (int64_t)s * PG_MAX_LOGPROBS,
                            t->how.logprobs > V ? V : t->how.logprobs);
    }
}
