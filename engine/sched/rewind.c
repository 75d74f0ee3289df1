/* rewind.c: requests with a lead: what their readers ask for, and how it is done.
 *
 * Readers leave what they want in the task, under the engine's lock; the engine thread does it between two steps, under
 * the same lock, so that nobody sees it half done. Each side counts for itself: what the reader may name
 * (`asked.given`) is what it was handed out of the attempt that it asked for last, and that is never more than the
 * thread has.
 *
 * Going back costs no memory: the pages stay the sequence's own, positions behind the last kept token are computed and
 * written again. Text, ends and all other state that tokens leave behind is made anew from the kept ones
 * (pg_output_replay); that a policy ended the request cannot be, and is kept beside them. Noise is counted by the number of
 * rewinds, not by how often a place was drawn, since the latter depends on how far the thread had run ahead. */
#include "sched.h"

#include <string.h>

/* ---- the reader's side ------------------------------------------------------------------------------------------- */

_Static_assert(PG_MAX_BANS == 64 && PG_MAX_BANS_ALL == 256 && PG_MAX_ASKED == 16, "perigee.h says so");

/* The task of a request with a lead that has not ended, or NULL, *rc and *err. Under the lock; ids ascend there. */
static pg_task *find_task(pg_engine *e, int32_t id, int *rc, pg_error *err)
{
    int low = 0, high = e->n_task;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (e->task[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    pg_task *t = low < e->n_task && e->task[low]->id == id ? e->task[low] : NULL;
    if (!t || t->gone || t->finished)
        *rc = pg_fail(err, PG_ENOTFOUND, "request %d has ended, or never was", id);
    else if (!t->how.lead)
        *rc = pg_fail(err, PG_EINVAL, "request %d does not wait for its reader: submit it with a lead", id);
    else
        return t;
    return NULL;
}

static int is_given(const pg_task *t, int32_t n, pg_error *err)
{
    if (n >= 0 && n <= t->asked.given) return PG_OK;
    return pg_fail(err, PG_EINVAL, "request %d has handed out %d tokens: expected 0 to %d of them, not %d", t->id,
                   t->asked.given, t->asked.given, n);
}

int pg_acknowledge(pg_engine *e, int32_t id, int32_t n)
{
    int rc = pg_engine_check(e, NULL);
    if (rc < 0) return rc;
    pthread_mutex_lock(&e->lock);
    pg_task *t = find_task(e, id, &rc, NULL);
    if (t) rc = is_given(t, n, NULL);
    if (rc >= 0 && n > t->asked.seen) {
        t->asked.seen = n;
        pg_engine_wake(e);
    }
    pthread_mutex_unlock(&e->lock);
    return rc;
}

static int ask(pg_task *t, int32_t keep, int32_t ban, pg_error *err)
{
    pg_asked *a = &t->asked;
    const int rc = is_given(t, keep, err);
    if (rc < 0) return rc;
    if (a->n_rewind == PG_MAX_ASKED)
        return pg_fail(err, PG_EFULL, "%d rewinds of request %d wait already: poll, then try again", a->n_rewind,
                       t->id);
    a->keep[a->n_rewind] = keep;
    a->ban[a->n_rewind++] = ban;
    a->attempt++;
    a->given = a->seen = keep;
    return PG_OK;
}

int pg_rewind(pg_engine *e, int32_t id, int32_t keep, int32_t ban, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (ban < -1 || ban >= e->model->h.n_vocab)
        return pg_fail(err, PG_EINVAL, "token %d cannot be banned: expected -1 (none) to %d", ban,
                       e->model->h.n_vocab - 1);
    pthread_mutex_lock(&e->lock);
    pg_task *t = find_task(e, id, &rc, err);
    if (t && (rc = ask(t, keep, ban, err)) >= 0) pg_engine_wake(e);
    pthread_mutex_unlock(&e->lock);
    return rc;
}

/* ---- the engine thread's side ------------------------------------------------------------------------------------ */

static int32_t generated(const pg_task *t)
{
    return t->n_token - t->n_prompt;
}

int pg_rewind_has_lead(const pg_task *t)
{
    return !t->how.lead || (!t->ending && !t->stopped && generated(t) - t->n_seen < t->how.lead);
}

/* Bans behind `keep` go with the tokens before them; those of the earliest place make room. 0: too many
 * at this place. */
static int add_ban(pg_task *t, int32_t keep, int32_t token)
{
    int32_t here = 0, first = 0;
    while (t->n_ban > 0 && t->ban_place[t->n_ban - 1] > keep) t->n_ban--;
    while (here < t->n_ban && t->ban_place[t->n_ban - 1 - here] == keep) here++;
    if (here == PG_MAX_BANS) return 0;
    if (t->n_ban == PG_MAX_BANS_ALL)
        while (t->ban_place[first] == t->ban_place[0]) first++;
    t->n_ban -= first;
    memmove(t->ban, t->ban + first, (size_t)t->n_ban * sizeof *t->ban);
    memmove(t->ban_place, t->ban_place + first, (size_t)t->n_ban * sizeof *t->ban_place);
    t->ban[t->n_ban] = token;
    t->ban_place[t->n_ban++] = keep;
    return 1;
}

static void forget_experts(const pg_engine *e, pg_task *t, int32_t keep)
{
    const int pairs = e->model->n_moe_layer * e->model->h.n_expert;
    for (int i = 0; i < pairs; i++)
        if (t->expert_seen[i] > keep) {
            t->expert_seen[i] = 0;
            t->n_expert_seen--;
        }
}

static void go_back(pg_engine *e, pg_task *t, int32_t keep, int32_t ban)
{
    t->attempt++;
    t->n_dropped += generated(t) - keep;
    if (keep < t->stopped) t->stopped = 0;
    t->n_token = t->n_prompt + keep;
    if (t->n_done >= t->n_token) t->n_done = t->n_token - 1; /* the row whose logits are drawn from is computed anew */
    forget_experts(e, t, keep);
    pg_output_replay(e, t);
    if (!add_ban(t, keep, ban))
        pg_output_fail(e, t, PG_ELIMIT, "more than 64 rewinds met at one place: nothing that comes there is accepted");
}

void pg_rewind_obey(pg_engine *e)
{
    for (int i = 0; i < e->n_running; i++) {
        pg_task *t = e->running[i];
        if (!t->how.lead) continue;
        for (int r = 0; r < t->asked.n_rewind && !t->finished; r++) go_back(e, t, t->asked.keep[r], t->asked.ban[r]);
        t->asked.n_rewind = 0;
        t->n_seen = t->asked.seen;
        /* The text that its end released was in an event of an older attempt, which the reader throws away. */
        if (t->stopped && pg_ring_room(&t->ring, 2)) pg_output_stop(e, t);
        if (t->ending && !t->finished && t->n_seen >= generated(t)) pg_output_done(e, t, t->ending);
    }
}
