/* sched: the engine thread. Admit, batch, run, sample, publish, again.
 *
 * Everything in pg_engine that the thread owns is marked; callers reach it through the submit queue (a list under a lock)
 * and the event rings. The round-robin here is plain: whoever fits is admitted by priority, every generating request
 * gets a row each step, prompts share the rest.
 * Source: iteration-level scheduling, Yu et al., Orca, OSDI 2022. */
#ifndef PG_SCHED_H
#define PG_SCHED_H

#include "../../kernels/backend.h"
#include "../kv/seq.h"
#include "../plan/plan.h"
#include "../token/token.h"
#include "guide.h"
#include "queue.h"
#include "sampler.h"
#include "seen.h"

#include <pthread.h>
#include <sys/types.h>

enum { PG_MAX_STOP = 16, PG_MAX_STOP_BYTES = 256, PG_MAX_LOGPROBS = 33 };
enum {
    PG_MAX_BANS = 64,
    PG_MAX_BANS_ALL = 256,
    PG_MAX_ASKED = 16
}; /* tokens at one place, in all; rewinds that wait */

/* What the reader of a request with a lead has asked for; rewind.c. */
typedef struct pg_asked {
    int32_t keep[PG_MAX_ASKED], ban[PG_MAX_ASKED]; /* rewinds that the thread has not seen yet */
    int32_t n_rewind;
    int32_t seen;           /* tokens acknowledged */
    int32_t attempt, given; /* as the reader sees it: rewinds so far, tokens handed out */
} pg_asked;

/* One request or one pg_logits / pg_score call on its way. Made and freed by callers' threads, changed by the engine
 * thread in between, except for the fields marked so. */
typedef struct pg_task {
    int32_t id;
    pg_request how; /* bias and stop point into this task's memory */
    pg_bias *bias;
    char *stop_text;
    const char *stop[PG_MAX_STOP];
    int32_t stop_len[PG_MAX_STOP];
    uint64_t seed;
    int32_t *token; /* [cap] prompt, then what was generated */
    int32_t n_token, n_prompt, cap;
    int32_t n_done; /* positions that the cache holds */
    pg_seq seq;
    pg_detok *detok;
    char *held; /* text that may still become a stop string */
    int32_t n_held, held_cap;
    pg_guided guided; /* what its text may be */
    pg_ring ring;
    int32_t *expert_seen; /* [MoE layers, experts] the first generated token that it served, from 1; 0: none */
    int32_t n_expert_seen;
    int32_t attempt, n_dropped; /* how often it was rewound; tokens that were taken back */
    int32_t n_seen;             /* generated tokens that the reader has acknowledged */
    int32_t ending;             /* PG_FINISH_*: its newest token ended it, and DONE waits for the reader; 0: none did */
    int32_t stopped;            /* generated tokens when a policy stopped it: its newest is its last; 0: none did */
    int32_t *ban;               /* [PG_MAX_BANS_ALL] tokens (-1: none), or NULL without a lead */
    int32_t *ban_place;         /* as which generated token, from 0, each must not come; ascending */
    int32_t n_ban;
    pg_asked asked;                                /* under the engine's lock */
    double t_submit, t_start, t_first, t_deadline; /* ms, monotonic; 0: not yet, none */
    _Atomic int cancelled;                         /* set by any thread */
    _Atomic int finished;                          /* engine thread: DONE or FAIL was pushed; rewind.c reads it too */
    int gone;                                      /* reader: DONE or FAIL was handed out */
    _Atomic int left;                              /* engine thread: it knows the task no more */
    pg_policy *policy; /* counted: its own, or a default that it keeps; NULL: whichever the engine has. Engine thread */
    int32_t tenant;    /* number, 0: none */

    int looking; /* 1: pg_logits or pg_score, no ring, no sampling */
    int32_t chunk, first_decode;
    float *logits;        /* [n, V] out, or NULL */
    float *logprobs;      /* [n - 1] out, or NULL */
    int result;           /* of a looking task, when over */
    int over;             /* under the engine's lock */
    struct pg_task *next; /* in the submit queue */
} pg_task;

struct pg_engine {
    /* fixed once open */
    pg_model *model;
    pg_tokenizer *tokenizer;
    pg_backend *backend;
    pg_plan plan;
    pg_info info;
    pg_request defaults;
    int32_t context, queue_cap, max_running;
    pid_t pid;
    pg_guides guides; /* has a lock of its own */
    int event_fd;
    _Atomic int signalled; /* 1: event_fd is readable, or will be in a moment; sched.c says who sets it when */
    pthread_t thread;
    int has_thread;

    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t work, over;
    pg_task *queue_head, *queue_tail;
    pg_task **task; /* [2 * queue_cap] requests that the reader has not finished with */
    int32_t n_task, last_id;
    int32_t n_looking;
    const pg_watch *watch; /* who wants to see activations from the next step on; the backend's is the thread's own */
    int stop, wake;        /* wake: somebody changed something that the thread should look at */
    pg_stats stats;
    char fault[512]; /* the device has failed: what it said; "": it works. Written by the thread */

    pthread_mutex_t poll_lock; /* one reader at a time */
    pthread_mutex_t look_lock; /* pg_logits: one at a time */
    float *look_logits;        /* what it returned last */

    struct pg_hook_state *hooks; /* engine/hook/hook.h says which part is whose */

    /* the engine thread's own */
    pg_pages pages;
    pg_prefix prefix;
    pg_sampler **sampler;         /* [info.threads] one for each lane that draws */
    pg_task **waiting, **running; /* [queue_cap + looking] */
    double cached_tokens;
    int32_t n_waiting, n_running, turn;
    int32_t *row_token, *row_pos, *row_seq, *row_task, *sampled, *sampled_task; /* rows of the step, by max_rows */
    const int32_t **row_pages;
    pg_rows rows;
    int32_t *drawn;           /* by max_sampled: the token, or PG_E* */
    pg_logprob *top;          /* [max_sampled, PG_MAX_LOGPROBS] */
    const float **logits;     /* [max_sampled] rows that are in the host's memory, or NULL */
    const float **brought;    /* [max_sampled] those that came last */
    int32_t *wanted;          /* [max_sampled] their numbers */
    pg_seen seen;             /* what experts did; seen.h says what of it is whose */
    int published;            /* events pushed since the last signal */
    double t_signal, step_ms; /* when the last signal was given, how long the last step took */
};

/* sched.c */
void *pg_sched_run(void *engine);
double pg_now_ms(void);
void pg_signal_reader(pg_engine *e);

/* engine.c: PG_EINVAL in a process that did not open this engine; queue a task and wake the thread. */
int pg_engine_check(const pg_engine *e, pg_error *err);
void pg_engine_queue(pg_engine *e, pg_task *t);
void pg_engine_wake(pg_engine *e); /* under the lock: let the thread look at what has changed */

/* engine.c: show activations to `to` from the next step on, if so far they were shown to `from` (NULL: nobody); returns 1
 * when the thread has taken notice, so that `from` is shown no more, or 0. */
int pg_engine_watch(pg_engine *e, const pg_watch *from, const pg_watch *to);

/* open.c: the steps of opening. An engine with nothing in it; everything but its thread; its thread. pg_close takes any. */
int pg_options_check(const pg_options *o, pg_error *err);
pg_engine *pg_engine_new(void);
int pg_engine_build(pg_engine *e, const char *path, const pg_options *o, pg_error *err);
int pg_engine_start(pg_engine *e, pg_error *err);

/* task.c: a task for a request, or for pg_logits and pg_score (ids checked by the caller); NULL and *err. */
pg_task *pg_task_open(pg_engine *e, const pg_request *req, pg_error *err);
pg_task *pg_task_open_looking(pg_engine *e, const int32_t *ids, int32_t n, pg_error *err);
void pg_task_close(pg_task *t);

/* batch.c: choose the rows of the next step; 0 when nobody can run. */
int pg_batch_fill(pg_engine *e);

/* rewind.c: one more token may be drawn, as far as its reader is; under the lock, do what readers have asked for. */
int pg_rewind_has_lead(const pg_task *t);
void pg_rewind_obey(pg_engine *e);

/* draw.c: turn the step's sampled rows into tokens, or into what pg_logits and pg_score asked for. */
void pg_draw_rows(pg_engine *e);

/* output.c: a token was drawn for a task; publishes text and the end. The end of a request with a lead waits, as
 * t->ending, for pg_output_done. Replay makes the text's state, and t->ending, what they were after the newest
 * token. */
void pg_output_token(pg_engine *e, pg_task *t, int32_t token, const pg_logprob *logprobs, int n_logprobs);
void pg_output_end(pg_engine *e, pg_task *t, int finish);
void pg_output_stop(pg_engine *e, pg_task *t); /* its newest token is its last, whatever the token itself says */
void pg_output_done(pg_engine *e, pg_task *t, int finish);
void pg_output_replay(pg_engine *e, pg_task *t);
void pg_output_fail(pg_engine *e, pg_task *t, int code, const char *message);

#endif
