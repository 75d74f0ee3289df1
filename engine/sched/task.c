/* task.c: a request becomes a task: everything it will ever need is checked, copied and allocated here, in the caller's
 * thread, so that the engine thread allocates nothing. */
#include "../hook/hook.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static int check_request(const pg_engine *e, const pg_request *r, pg_error *err)
{
    if (!r->prompt || r->n_prompt < 1)
        return pg_fail(err, PG_EINVAL, "the prompt is empty: it needs at least one token");
    if (r->n_prompt >= e->context)
        return pg_fail(err, PG_ELIMIT,
                       "the prompt has %d tokens and the context holds %d, one of them to generate: shorten the "
                       "prompt or open the engine with a larger context",
                       r->n_prompt, e->context);
    for (int32_t i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= e->model->h.n_vocab)
            return pg_fail(err, PG_EINVAL, "prompt token %d is %d, outside the vocabulary of %d", i, r->prompt[i],
                           e->model->h.n_vocab);
    if (r->max_new < 0)
        return pg_fail(err, PG_EINVAL, "max_new is %d: expected 0 (until the context is full) or more", r->max_new);
    if (r->chunk < 0) return pg_fail(err, PG_EINVAL, "chunk is %d: expected 0 (the engine's choice) or more", r->chunk);
    if (isnan(r->temperature) || isnan(r->top_p) || isnan(r->min_p) || isnan(r->typical_p) ||
        isnan(r->presence_penalty) || isnan(r->frequency_penalty) || isnan(r->deadline_ms))
        return pg_fail(err, PG_EINVAL, "a sampling option or the deadline is not a number");
    if (!(r->repeat_penalty > 0))
        return pg_fail(err, PG_EINVAL, "repeat_penalty is %g: expected a number above 0", (double)r->repeat_penalty);
    if (r->logprobs < 0 || r->logprobs > PG_MAX_LOGPROBS)
        return pg_fail(err, PG_EINVAL, "logprobs is %d: expected 0 to %d", r->logprobs, PG_MAX_LOGPROBS);
    if (r->lead < 0) return pg_fail(err, PG_EINVAL, "lead is %d: expected 0 (it does not wait) or more", r->lead);
    if (r->cache_salt && strnlen(r->cache_salt, PG_SALT_BYTES + 1) > PG_SALT_BYTES)
        return pg_fail(err, PG_EINVAL, "cache_salt is longer than %d bytes", PG_SALT_BYTES);
    if (r->n_stop < 0 || r->n_stop > PG_MAX_STOP)
        return pg_fail(err, PG_EINVAL, "%d stop strings: at most %d", r->n_stop, PG_MAX_STOP);
    for (int32_t i = 0; i < r->n_stop; i++) {
        const size_t n = r->stop[i] ? strnlen(r->stop[i], PG_MAX_STOP_BYTES + 1) : 0;
        if (n < 1 || n > PG_MAX_STOP_BYTES)
            return pg_fail(err, PG_EINVAL, "stop string %d has %zu bytes: expected 1 to %d", i + 1, n,
                           PG_MAX_STOP_BYTES);
    }
    if (r->policy && r->policy->engine != e)
        return pg_fail(err, PG_EINVAL, "policy %s is another engine's", r->policy->name);
    if (r->n_bias < 0 || r->n_bias > e->model->h.n_vocab)
        return pg_fail(err, PG_EINVAL, "%d logit biases for %d tokens", r->n_bias, e->model->h.n_vocab);
    for (int32_t i = 0; i < r->n_bias; i++)
        if (r->bias[i].token < 0 || r->bias[i].token >= e->model->h.n_vocab || isnan(r->bias[i].bias))
            return pg_fail(err, PG_EINVAL,
                           "logit bias %d: token %d is outside the vocabulary of %d, or its bias is not a number", i,
                           r->bias[i].token, e->model->h.n_vocab);
    return PG_OK;
}

static int copy_request(pg_task *t, const pg_request *r)
{
    size_t text = 0;
    t->how = *r;
    t->how.prompt = NULL;
    for (int i = 0; i < r->n_stop; i++) text += strlen(r->stop[i]) + 1;
    t->bias = malloc(((size_t)r->n_bias + 1) * sizeof *t->bias);
    t->stop_text = malloc(text + 1);
    if (!t->bias || !t->stop_text) return 0;
    if (r->n_bias) memcpy(t->bias, r->bias, (size_t)r->n_bias * sizeof *t->bias);
    t->how.bias = t->bias;
    char *at = t->stop_text;
    for (int i = 0; i < r->n_stop; i++) {
        t->stop_len[i] = (int32_t)strlen(r->stop[i]);
        t->stop[i] = memcpy(at, r->stop[i], (size_t)t->stop_len[i] + 1);
        at += t->stop_len[i] + 1;
    }
    t->how.stop = t->stop;
    t->how.cache_salt = NULL;
    t->seq.scope.salt = r->cache_salt ? pg_salt_new(r->cache_salt) : NULL;
    return !r->cache_salt || t->seq.scope.salt;
}

static uint64_t draw_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed) seed = (uint64_t)(pg_now_ms() * 1e6);
    return seed;
}

static int take_memory(pg_engine *e, pg_task *t)
{
    const size_t pairs = (size_t)e->model->n_moe_layer * (size_t)e->model->h.n_expert;
    t->token = malloc((size_t)t->cap * sizeof *t->token);
    t->seq.page = malloc(((size_t)t->cap / PG_PAGE_TOKENS + 1) * sizeof *t->seq.page);
    if (t->looking) return t->token && t->seq.page;
    t->expert_seen = calloc(pairs + 1, sizeof *t->expert_seen);
    t->held_cap = PG_MAX_STOP_BYTES + pg_tokenizer_longest(e->tokenizer) + 16;
    t->held = malloc((size_t)t->held_cap);
    if (t->how.lead) t->ban = malloc(2 * PG_MAX_BANS_ALL * sizeof *t->ban);
    t->ban_place = t->ban ? t->ban + PG_MAX_BANS_ALL : NULL;
    return t->token && t->seq.page && t->expert_seen && t->held && (t->ban || !t->how.lead) &&
           !pg_ring_open(&t->ring, (uint32_t)t->held_cap, t->how.logprobs);
}

static pg_task *open_task(pg_engine *e, const pg_request *req, int looking, pg_error *err)
{
    pg_task *t = calloc(1, sizeof *t);
    int fine = t != NULL;
    if (fine) {
        t->looking = looking;
        t->cap = looking ? req->n_prompt : e->context;
        fine = copy_request(t, req) && take_memory(e, t) &&
               (looking || pg_detok_open(e->tokenizer, req->special, &t->detok, NULL) >= 0);
    }
    if (!fine) {
        pg_task_close(t);
        pg_fail(err, PG_EMEMORY, "no memory for another request");
        return NULL;
    }
    if (t->detok) pg_detok_resume(t->detok);
    memcpy(t->token, req->prompt, (size_t)req->n_prompt * sizeof *t->token);
    t->n_token = t->n_prompt = req->n_prompt;
    t->t_submit = pg_now_ms();
    return t;
}

pg_task *pg_task_open(pg_engine *e, const pg_request *req, pg_error *err)
{
    const int tenant = check_request(e, req, err) < 0 ? -1 : pg_tenant_number(e, req->tenant, err);
    pg_task *t = tenant < 0 ? NULL : open_task(e, req, 0, err);
    if (!t) return NULL;
    t->tenant = tenant;
    if (req->grammar &&
        pg_guided_open(&e->guides, req->grammar, e->tokenizer, e->model->h.n_vocab, &t->guided, err) < 0) {
        pg_task_close(t);
        return NULL;
    }
    t->seed = req->has_seed ? (uint64_t)req->seed_high << 32 | req->seed_low : draw_seed();
    t->chunk = req->chunk;
    t->policy = pg_policy_take(req->policy);
    pg_policy_seal(t->policy);
    t->t_deadline = req->deadline_ms > 0 ? t->t_submit + req->deadline_ms : 0;
    return t;
}

pg_task *pg_task_open_looking(pg_engine *e, const int32_t *ids, int32_t n, pg_error *err)
{
    pg_task *t = open_task(e, &(pg_request){ .prompt = ids, .n_prompt = n }, 1, err);
    if (t) t->seq.scope.key = PG_KEY_ALONE; /* it wants the logits of all positions */
    return t;
}

void pg_task_close(pg_task *t)
{
    if (!t) return;
    pg_policy_drop(t->policy);
    pg_guided_close(&t->guided);
    pg_detok_close(t->detok);
    pg_ring_close(&t->ring);
    free(t->bias);
    free(t->stop_text);
    free(t->token);
    free(t->seq.page);
    free(t->ban);
    pg_salt_drop(t->seq.scope.salt);
    free(t->held);
    free(t->expert_seen);
    free(t);
}
