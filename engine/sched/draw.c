/* draw.c: what the sampled rows of a step become: a token, ln p or a copy of the logits. Rows are drawn on all lanes at
 * once, each into places of its own; what came of them goes to the requests afterwards, one by one, for events and
 * texts are the engine thread's.
 * Where rows are far from the host, a list of the best of each is there at once, and draws begin with that; rows that are
 * needed as a whole are brought: before the draws those that somebody looks at or edits, after them those whose list
 * did not decide. */
#include "../hook/hook.h"

#include <math.h>
#include <string.h>

/* Which experts served this row: a set of (layer, expert) pairs for each request, each with the token that brought it
 * in, so that tokens which are taken back take theirs along. */
static void count_experts(const pg_engine *e, pg_task *t, int row)
{
    const int32_t token = t->n_token - t->n_prompt + 1;
    const int E = e->model->h.n_expert, most = pg_router_most(E, e->model->h.n_used);
    for (int i = 0; i < e->plan.n_pick; i++) {
        const int32_t *pick =
            (const int32_t *)e->backend->ops->read(e->backend, e->plan.pick[i]) + (int64_t)row * 2 * most;
        for (int x = 0; x < most && pick[x] >= 0; x++) {
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

/* ---- rows at hand ---------------------------------------------------------------------------------------------------- */

/* The sampled rows named in e->wanted come into the host's memory. */
static void bring_rows(pg_engine *e, int32_t n)
{
    const pg_backend_ops *ops = e->backend->ops;
    const void **at = (const void **)e->brought;
    if (n) ops->fetch(e->backend, e->plan.logits, e->wanted, n, at);
    for (int32_t i = 0; i < n; i++) e->logits[e->wanted[i]] = at[i];
}

/* Must sampled row s be there as a whole before anything is drawn? */
static int is_wanted(const pg_engine *e, int s)
{
    const pg_task *t = e->running[e->sampled_task[s]];
    const pg_policy *p = t->looking ? NULL : pg_hook_policy(e, t);
    return t->looking || (p && p->uses & PG_USES_LOGITS);
}

static void look_for_rows(pg_engine *e)
{
    const pg_backend_ops *ops = e->backend->ops;
    const int n_sampled = e->rows.n_sampled;
    int32_t n = 0;
    if (!ops->fetch || !ops->best) {
        const float *all = n_sampled ? ops->read(e->backend, e->plan.logits) : NULL;
        for (int s = 0; s < n_sampled; s++) e->logits[s] = all + (int64_t)s * e->model->h.n_vocab;
        return;
    }
    for (int s = 0; s < n_sampled; s++) {
        e->logits[s] = NULL;
        if (is_wanted(e, s)) e->wanted[n++] = s;
    }
    bring_rows(e, n);
}

/* ---- drawing --------------------------------------------------------------------------------------------------------- */

/* Sampled row s. A request has one of them at most, so nobody else changes what belongs to it. */
static void draw_token(const pg_engine *e, int s, int lane)
{
    const pg_task *t = e->running[e->sampled_task[s]];
    const int32_t from = first_ban(t);
    const float *edited = e->hooks->edited[s];
    pg_best best;
    pg_draw draw = { .logits = edited ? edited : e->logits[s],
                     .plain = e->logits[s],
                     .how = &t->how,
                     .history = t->token,
                     .n_history = t->n_token,
                     .seed = t->seed,
                     .position = t->n_token,
                     .attempt = t->attempt,
                     .ban = t->ban ? &t->ban[from] : NULL,
                     .n_ban = t->n_ban - from,
                     .mask = t->guided.guide ? t->guided.mask : NULL,
                     .logprobs = t->how.logprobs > 0 ? e->top + (int64_t)s * PG_MAX_LOGPROBS : NULL };
    if (!draw.logits) {
        e->backend->ops->best(e->backend, s, &best);
        draw.best = &best;
    }
    e->drawn[s] = t->guided.result < 0 ? t->guided.result : pg_sample(e->sampler[lane], &draw);
}

static void draw_row(void *engine, int s, int lane)
{
    const pg_engine *e = engine;
    const int row = e->sampled[s];
    pg_task *t = e->running[e->sampled_task[s]];
    if (t->looking) {
        look_at_row(e, t, e->row_pos[row], e->logits[s]);
        return;
    }
    count_experts(e, t, row);
    draw_token(e, s, lane);
}

static void draw_again(void *engine, int i, int lane)
{
    const pg_engine *e = engine;
    draw_token(e, e->wanted[i], lane);
}

/* Rows whose list did not decide, or of which it must be said why nothing can be drawn. */
static void draw_whole_rows(pg_engine *e)
{
    int32_t n = 0;
    for (int s = 0; s < e->rows.n_sampled; s++)
        if (!e->logits[s] && e->drawn[s] < 0) e->wanted[n++] = s;
    bring_rows(e, n);
    if (n) e->backend->ops->spread(e->backend, draw_again, e, n);
}

/* Masks before lanes: those of one grammar are made by one thread. */
static void look_at_grammars(pg_engine *e)
{
    for (int s = 0; s < e->rows.n_sampled; s++) {
        pg_task *t = e->running[e->sampled_task[s]];
        if (t->guided.guide) pg_guided_look(&t->guided, t->token + t->n_prompt, t->n_token - t->n_prompt);
    }
}

/* Nothing could be drawn from sampled row s. */
static const char *why_none(const pg_engine *e, const pg_task *t, int s)
{
    const int V = e->model->h.n_vocab;
    const float *logits = e->logits[s];
    if (e->drawn[s] == PG_ELIMIT)
        return "the text fits the grammar in more ways than can be followed: make the grammar less ambiguous";
    for (int i = 0; i < V; i++) {
        if (!isfinite(logits[i])) continue;
        return t->guided.guide ? "no token fits the grammar here, or all that fit are banned"
                               : "every token is banned here: lift a ban, by logit_bias or by pg_rewind";
    }
    return "no logit is a finite number: the model's weights are damaged, or its numbers overflow";
}

static void output(pg_engine *e, pg_task *t, int s)
{
    const int V = e->model->h.n_vocab, stop = pg_hook_token(e, t, e->sampled[s], e->drawn[s]);
    pg_output_token(e, t, e->drawn[s], e->top + (int64_t)s * PG_MAX_LOGPROBS,
                    t->how.logprobs > V ? V : t->how.logprobs);
    if (stop) pg_output_stop(e, t);
}

void pg_draw_rows(pg_engine *e)
{
    for (int r = 0; r < e->rows.n; r++) e->running[e->row_task[r]]->n_done++;
    look_for_rows(e);
    pg_hook_logits(e);
    look_at_grammars(e);
    e->backend->ops->spread(e->backend, draw_row, e, e->rows.n_sampled);
    draw_whole_rows(e);
    for (int s = 0; s < e->rows.n_sampled; s++) {
        pg_task *t = e->running[e->sampled_task[s]];
        if (t->looking) continue;
        if (e->drawn[s] < 0)
            pg_output_fail(e, t, e->drawn[s], why_none(e, t, s));
        else
            output(e, t, s);
    }
}
