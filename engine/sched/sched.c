/* sched.c: the engine thread's loop. Locks are held to take new requests and to publish counters, never during a step;
 * a step allocates nothing. */
#include "../hook/hook.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double pg_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- admitting --------------------------------------------------------------------------------------------------------- */

/* Pages for the whole life of a task are set aside when it starts, so a running task never lacks one. */
static int pages_needed(const pg_engine *e, const pg_task *t)
{
    int64_t tokens = t->n_token;
    if (!t->looking) tokens = t->how.max_new > 0 ? (int64_t)t->n_prompt + t->how.max_new : e->context;
    if (tokens > t->cap) tokens = t->cap;
    return (int)((tokens + PG_PAGE_TOKENS - 1) / PG_PAGE_TOKENS);
}

/* Prompts share pages when their experts are chosen alike: under policies that look at nothing but a row, and stay. */
static uint64_t key_of(const pg_engine *e, const pg_task *t)
{
    const pg_policy *p = t->policy ? t->policy : e->hooks->policy;
    if (t->looking || pg_policy_changes(p)) return PG_KEY_ALONE;
    return p && p->uses & PG_USES_ROUTE ? p->serial : 0;
}

/* What is computed under another policy than the pages before it were fits no key: neither finds nor shares any more. */
static void check_keys(pg_engine *e)
{
    for (int i = 0; i < e->n_running; i++) {
        pg_task *t = e->running[i];
        if (t->seq.scope.key != key_of(e, t)) t->seq.scope.key = PG_KEY_ALONE;
    }
}

static int admit(pg_engine *e, pg_task *t)
{
    t->seq.scope.key = key_of(e, t);
    if (e->n_running >= e->max_running || !pg_seq_begin(&t->seq, &e->prefix, t->token, t->n_prompt, pages_needed(e, t)))
        return 0;
    t->n_done = t->seq.n_cached;
    e->cached_tokens += t->seq.n_cached;
    t->t_start = pg_now_ms();
    e->running[e->n_running++] = t;
    return 1;
}

/* Larger priority first, then the older one; looking tasks before requests, since somebody waits in a call. */
static int goes_before(const pg_task *a, const pg_task *b)
{
    if (a->looking != b->looking) return a->looking;
    return a->how.priority != b->how.priority ? a->how.priority > b->how.priority : a->id < b->id;
}

static void insert_waiting(pg_engine *e, pg_task *t)
{
    int i = e->n_waiting++;
    for (; i > 0 && goes_before(t, e->waiting[i - 1]); i--) e->waiting[i] = e->waiting[i - 1];
    e->waiting[i] = t;
}

/* In order: nobody overtakes who does not fit yet, but whom a policy lets wait lets the others pass. */
static void admit_all(pg_engine *e)
{
    int kept = 0, full = 0;
    e->hooks->asked_to_wait = 0;
    for (int i = 0; i < e->n_waiting; i++) {
        pg_task *t = e->waiting[i];
        const int verdict = full ? 0 : pg_hook_admit(e, t);
        if (verdict < 0) t->left = 1;
        if (verdict < 0 || (verdict > 0 && admit(e, t))) continue;
        full |= verdict > 0;
        e->waiting[kept++] = t;
    }
    e->n_waiting = kept;
}

/* ---- ending ------------------------------------------------------------------------------------------------------------- */

static void leave(pg_engine *e, int i) /* running[i] is over: its pages are free again */
{
    pg_task *t = e->running[i];
    pg_seq_end(&t->seq, &e->prefix);
    e->n_running--;
    memmove(e->running + i, e->running + i + 1, (size_t)(e->n_running - i) * sizeof(*e->running));
    t->left = 1;
}

static void end_looking(pg_engine *e, pg_task *t, int result)
{
    pthread_mutex_lock(&e->lock);
    t->result = result;
    t->over = 1;
    pthread_cond_broadcast(&e->over);
    pthread_mutex_unlock(&e->lock);
}

static int is_late(const pg_task *t, double now)
{
    return t->t_deadline > 0 && now >= t->t_deadline;
}

/* Requests that were cancelled or whose time has come end here, running or waiting; under the lock, so that what a
 * reader asked for before its request ended has been done. */
static void end_early(pg_engine *e, double now)
{
    for (int list = 0; list < 2; list++)
        for (int i = (list ? e->n_running : e->n_waiting) - 1; i >= 0; i--) {
            pg_task *t = list ? e->running[i] : e->waiting[i];
            const int late = is_late(t, now);
            if (t->looking || t->finished || (!late && !atomic_load(&t->cancelled))) continue;
            pg_output_end(e, t, late ? PG_FINISH_DEADLINE : PG_FINISH_CANCELLED);
            if (list) {
                leave(e, i);
            } else {
                memmove(e->waiting + i, e->waiting + i + 1, (size_t)(--e->n_waiting - i) * sizeof(*e->waiting));
                t->left = 1;
            }
        }
}

static void drop_finished(pg_engine *e)
{
    for (int i = e->n_running - 1; i >= 0; i--) {
        pg_task *t = e->running[i];
        if (t->looking && t->n_done == t->n_token) {
            leave(e, i);
            end_looking(e, t, PG_OK);
        } else if (t->finished) {
            leave(e, i);
        }
    }
}

/* ---- a step ------------------------------------------------------------------------------------------------------------- */

static void count_step(pg_engine *e, double ms)
{
    int generated = 0;
    for (int s = 0; s < e->rows.n_sampled; s++) generated += !e->running[e->sampled_task[s]]->looking;
    pthread_mutex_lock(&e->lock);
    e->stats.steps++;
    e->stats.prompt_tokens += e->rows.n_prefill;
    e->stats.generated_tokens += generated;
    e->stats.busy_seconds += ms * 1e-3;
    e->stats.last_seconds = ms * 1e-3;
    *(e->rows.n_prefill ? &e->stats.prefill_seconds : &e->stats.decode_seconds) += ms * 1e-3;
    pthread_mutex_unlock(&e->lock);
}

static void share_prompts(pg_engine *e)
{
    for (int i = 0; i < e->n_running; i++) {
        pg_task *t = e->running[i];
        pg_seq_share(&t->seq, &e->prefix, t->token, t->n_prompt, t->n_done);
    }
}

/* The device has failed: nobody gets any further, neither those that are here nor those that still come. */
static void give_up(pg_engine *e)
{
    pthread_mutex_lock(&e->lock);
    snprintf(e->fault, sizeof e->fault, "%s", e->backend->fault);
    pthread_mutex_unlock(&e->lock);
    for (int list = 0; list < 2; list++)
        for (int i = (list ? e->n_running : e->n_waiting) - 1; i >= 0; i--) {
            pg_task *t = list ? e->running[i] : e->waiting[i];
            const int looking = t->looking; /* once it has left it may be gone */
            if (!looking && !t->finished) pg_output_fail(e, t, PG_EDEVICE, e->fault);
            if (list)
                leave(e, i);
            else
                t->left = 1;
            if (looking) end_looking(e, t, PG_EDEVICE);
        }
    e->n_waiting = 0;
}

static void step(pg_engine *e, double begin)
{
    pg_hook_begin(e);
    if (e->backend->ops->run(e->backend, &e->rows, &e->pages.kv)) {
        give_up(e);
        return;
    }
    pg_seen_step(e);
    pg_hook_end(e);
    pg_draw_rows(e);
    if (e->rows.n_prefill) share_prompts(e);
    e->step_ms = pg_now_ms() - begin;
    count_step(e, e->step_ms);
    drop_finished(e);
}

/* ---- the loop -------------------------------------------------------------------------------------------------------------- */

/* Make event_fd readable. `signalled` saves the system call while it is: the reader empties event_fd, then clears the
 * flag, then looks at the rings; so whoever finds the flag set has pushed before that look. Any thread. */
void pg_signal_reader(pg_engine *e)
{
    const uint64_t one = 1;
    if (atomic_exchange(&e->signalled, 1)) return;
    while (write(e->event_fd, &one, sizeof one) < 0 && errno == EINTR) continue;
}

/* Waking a reader costs it and a lane the time of a small model's step. So after one signal the next waits for this long,
 * in which more events may come; less, when the next step would end too late to give it. */
static const double HOLD_MS = 2, ASK_MS = 10;

static void signal_soon(pg_engine *e, double now, int idle)
{
    if (!e->published) return;
    if (!idle && !e->rows.n_prefill && now + e->step_ms < e->t_signal + HOLD_MS) return;
    e->published = 0;
    e->t_signal = now;
    pg_signal_reader(e);
}

static void show_counts(pg_engine *e) /* under the lock */
{
    e->stats.waiting = e->n_waiting;
    e->stats.running = e->n_running;
    e->stats.kv_pages_used = e->pages.n_page - pg_prefix_room(&e->prefix);
    e->stats.kv_pages_cached = e->prefix.n_idle;
    e->stats.cached_tokens = e->cached_tokens;
}

/* Take what was submitted or asked for. Nothing to run: wait for work, at most until the next deadline. Returns 0 to
 * stop. */
static int take_work(pg_engine *e, int idle, double *now)
{
    pthread_mutex_lock(&e->lock);
    show_counts(e);
    pg_hook_publish(e);
    if (idle && !e->stop && !e->queue_head && !e->wake) {
        double next = 0;
        for (int i = 0; i < e->n_waiting + e->n_running; i++) {
            const pg_task *t = i < e->n_waiting ? e->waiting[i] : e->running[i - e->n_waiting];
            if (t->t_deadline > 0 && (next == 0 || t->t_deadline < next)) next = t->t_deadline;
        }
        const double again = pg_now_ms() + ASK_MS; /* whom a policy lets wait is asked for again, step or not */
        if (e->hooks->asked_to_wait && (next == 0 || next > again)) next = again;
        if (next == 0) {
            pthread_cond_wait(&e->work, &e->lock);
        } else {
            const struct timespec at = { (time_t)(next * 1e-3), (long)(fmod(next, 1e3) * 1e6) };
            pthread_cond_timedwait(&e->work, &e->lock, &at);
        }
    } /* woken: submit, cancel or a reader that made room has something for the batch to look at */
    e->wake = 0;
    if (e->backend->watch != e->watch || e->seen.tracing != e->seen.tracer) {
        e->backend->watch = e->watch;
        e->seen.tracing = e->seen.tracer;
        pthread_cond_broadcast(&e->over);
    }
    if (pg_hook_swap(e)) check_keys(e);
    pg_task *t = e->queue_head;
    e->queue_head = e->queue_tail = NULL;
    const int stop = e->stop;
    while (t && !stop) {
        pg_task *next = t->next;
        insert_waiting(e, t);
        t = next;
    }
    *now = pg_now_ms();
    pg_rewind_obey(e);
    end_early(e, *now);
    pthread_mutex_unlock(&e->lock);
    pg_hook_bury(e);
    return !stop;
}

void *pg_sched_run(void *engine)
{
    pg_engine *e = engine;
    double now;
    int idle = 1;
    while (take_work(e, idle, &now)) {
        if (e->fault[0]) give_up(e);
        drop_finished(e);
        admit_all(e);
        idle = !pg_batch_fill(e);
        signal_soon(e, now, idle);
        if (!idle) step(e, now);
    }
    for (int i = 0; i < e->n_waiting + e->n_running; i++) { /* closing: callers inside pg_logits must not hang */
        pg_task *t = i < e->n_waiting ? e->waiting[i] : e->running[i - e->n_waiting];
        if (t->looking) end_looking(e, t, PG_ECANCELLED);
    }
    return NULL;
}
