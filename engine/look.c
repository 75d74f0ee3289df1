/* look.c: pg_logits and pg_score: one sequence computed beside whatever else runs, the caller waiting. */
#include "sched/sched.h"

#include <stdlib.h>

static int check_ids(const pg_engine *e, const int32_t *ids, int32_t n, pg_error *err)
{
    if (!ids || n < 1) return pg_fail(err, PG_EINVAL, "the list of token ids is empty");
    if (n > e->context)
        return pg_fail(err, PG_ELIMIT, "%d tokens do not fit the context of %d: open the engine with a larger context",
                       n, e->context);
    for (int32_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= e->model->h.n_vocab)
            return pg_fail(err, PG_EINVAL, "token %d is %d, outside the vocabulary of %d", i, ids[i],
                           e->model->h.n_vocab);
    return PG_OK;
}

/* Queue the task and wait until it is over. */
static int await(pg_engine *e, pg_task *t, pg_error *err)
{
    pthread_mutex_lock(&e->lock);
    if (e->n_looking >= e->queue_cap) {
        pthread_mutex_unlock(&e->lock);
        return pg_fail(err, PG_EFULL, "%d calls like this one wait already: try again later", e->queue_cap);
    }
    e->n_looking++;
    t->id = ++e->last_id;
    pg_engine_queue(e, t);
    while (!t->over) pthread_cond_wait(&e->over, &e->lock);
    e->n_looking--;
    pthread_mutex_unlock(&e->lock);
    if (t->result == PG_EDEVICE) return pg_fail(err, PG_EDEVICE, "%s", e->fault); /* never changes again */
    return t->result < 0 ? pg_fail(err, t->result, "the engine was closed") : PG_OK;
}

static int look(pg_engine *e, const int32_t *ids, int32_t n, int32_t chunk, int32_t decode, float *logits,
                float *logprobs, pg_error *err)
{
    pg_error why = { 0 };
    pg_task *t = pg_task_open_looking(e, ids, n, &why);
    if (!t) {
        if (err) *err = why;
        return why.code;
    }
    t->chunk = chunk;
    t->first_decode = decode < 0 || decode > n ? n : decode;
    t->logits = logits;
    t->logprobs = logprobs;
    const int rc = await(e, t, err);
    pg_task_close(t);
    return rc;
}

int pg_logits(pg_engine *e, const int32_t *ids, int32_t n, int32_t chunk, int32_t decode, const float **logits,
              int32_t *n_vocab, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0 || (rc = check_ids(e, ids, n, err)) < 0) return rc;
    if (!logits || !n_vocab || chunk < 0 || decode < 0)
        return pg_fail(err, PG_EINVAL, "pg_logits: chunk or decode is below 0, or there is no place for the answer");
    pthread_mutex_lock(&e->look_lock);
    free(e->look_logits);
    e->look_logits = malloc((size_t)n * (size_t)e->model->h.n_vocab * sizeof(float));
    if (!e->look_logits)
        rc = pg_fail(err, PG_EMEMORY, "no memory for logits of %d x %d", n, e->model->h.n_vocab);
    else
        rc = look(e, ids, n, chunk, decode, e->look_logits, NULL, err);
    *logits = e->look_logits;
    *n_vocab = e->model->h.n_vocab;
    pthread_mutex_unlock(&e->look_lock);
    return rc;
}

int pg_score(pg_engine *e, const int32_t *ids, int32_t n, float *logprobs, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0 || (rc = check_ids(e, ids, n, err)) < 0) return rc;
    if (n < 2) return pg_fail(err, PG_EINVAL, "a score needs at least two tokens");
    if (!logprobs) return pg_fail(err, PG_EINVAL, "pg_score needs room for %d numbers", n - 1);
    return look(e, ids, n, 0, n, NULL, logprobs, err);
}
