/* hook: where policies meet the step: which rows have which policy, its stages called, what they left checked, and what
 * they did wrong reported. Swaps happen between steps, in the engine thread; all memory is there from the opening on. */
#ifndef PG_HOOK_H
#define PG_HOOK_H

#include "../sched/sched.h"
#include "policy.h"

enum { PG_REPORTS = 64, PG_NAMES = 256, PG_TENANTS = 65536 };

/* Neighbouring rows under one policy. */
typedef struct pg_hook_run {
    pg_policy *policy;
    int32_t first, n;
    int failed; /* a stage failed in this step: its rows are routed as ever until the next one */
} pg_hook_run;

enum { PG_STEPS_POLICIES = 64, PG_STEPS_STAGES = 64 }; /* of a step that data can tell */

/* What the policies of a step do, as data; data.c. */
typedef struct pg_hook_data {
    pg_steering all;
    pg_policy *policy[PG_STEPS_POLICIES];
    pg_steer_stage stage[PG_STEPS_STAGES];
    float knob[PG_STEPS_STAGES][PG_KNOBS_MOST];
    int32_t first[PG_STEPS_POLICIES + 1];
    int32_t *of_row; /* [T] */
} pg_hook_data;

struct pg_hook_state {
    /* fixed once open */
    int32_t n_expert, n_used, most, n_moe, n_vocab;
    int32_t *moe; /* [n_layer] number among the layers with experts, or -1 */

    /* under the engine's lock */
    pg_policy *wanted; /* the default from the next step on, when routed; counted */
    int routed, changed;
    pg_report *report; /* [PG_REPORTS] ring */
    double n_report;
    char **tenant;    /* [cap_tenant] names by number - 1 */
    int32_t *by_name; /* [cap_tenant] their numbers - 1, sorted by name */
    int32_t n_tenant, cap_tenant;

    /* names: added under the lock, read by anybody below the count */
    char (*knob)[PG_MAX_NAME + 1]; /* [PG_NAMES] */
    _Atomic uint32_t *knob_bits;   /* [PG_NAMES] value */
    unsigned char *knob_set;       /* [PG_NAMES] by pg_knob_set: defaults no longer count; under the lock */
    _Atomic int32_t n_knob;

    /* the engine thread's */
    pg_policy *policy; /* the default; counted */
    pg_policy *dead;   /* list of those whose last count went, to be freed outside the lock */
    pg_hook hook;
    pg_steer steer;
    int32_t n_row;
    pg_hook_row *row;               /* [T] */
    pg_hook_run *run;               /* [T] */
    int32_t n_run, uses;            /* of this step */
    int asked_to_wait;              /* a request would have started, had a policy not said wait */
    unsigned char *steered, *fault; /* [T] */
    float *plain, *choose;          /* [T, E] */
    int32_t *top;                   /* [T] */
    float *cumulative, *capacity;   /* [T] */
    float *load;                    /* [n_moe, E] */
    pg_hook_data data;
    int32_t layer;            /* whose faults are not collected yet, or -1 */
    float knob_now[PG_NAMES]; /* values in this step */
    float *scores;            /* [max_running, V] edited copies of logits */
    float **edited;           /* [S] the copy of a sampled row, or NULL */
    float **view_scores;      /* [max_running], and their rows */
    pg_hook_row *view_row;
    int32_t *view_sampled; /* [max_running] which sampled rows they are */
    pg_report *fresh;      /* [PG_REPORTS] of this step, to be published under the lock */
    int32_t n_fresh;
    double steered_rows, faulty_rows; /* of this step */
};

/* hook.c. Opening takes memory for the plan's rows: 0, or -1: none. */
int pg_hook_open(pg_engine *e);
void pg_hook_close(pg_engine *e);

/* Under which policy t's rows go in this step, borrowed; NULL: none. */
pg_policy *pg_hook_policy(const pg_engine *e, const pg_task *t);

/* Between steps. swap: under the lock, policies as they are to be from now on, 1: some may be others than before; bury:
 * what that left over, outside of it; publish: under the lock, counters and reports. */
int pg_hook_swap(pg_engine *e);
void pg_hook_bury(pg_engine *e);
void pg_hook_publish(pg_engine *e);

/* Around the run of a step: who has which policy; what came of it. */
void pg_hook_begin(pg_engine *e);
void pg_hook_end(pg_engine *e);

/* logits.c: fills edited, for the sampled rows of the step. */
void pg_hook_logits(pg_engine *e);

/* A token was drawn for t, at the row that it has in this step: 1 to end the request. */
int pg_hook_token(pg_engine *e, pg_task *t, int32_t row, int32_t token);

/* May t start? 1: yes, 0: not yet, -1: it has failed. */
int pg_hook_admit(pg_engine *e, pg_task *t);

/* route.c: the stages of a run of rows at one layer. */
void pg_hook_route(pg_engine *e, pg_hook_run *run, const pg_router *r, int32_t layer, float *score);

/* data.c: the routing of the step's runs as data, or NULL when code has to be called for it. */
const pg_steering *pg_hook_as_data(pg_engine *e);
int pg_hook_has_code(const pg_policy *p); /* it routes by somebody else's code, in part at least */

/* names.c: something went wrong, count times. */
void pg_hook_report(pg_engine *e, const pg_policy *p, int32_t layer, double count, int unhooked, const char *text);

/* A stage failed, in this layer (-1: in none): it is not called again, and why is reported. */
void pg_hook_unhook(pg_engine *e, const pg_policy *p, pg_stage *s, int32_t layer, const pg_error *why);

/* names.c. Number of a tenant (0: none), PG_ELIMIT, PG_EMEMORY; of a knob, declared with a default, or PG_ELIMIT. */
int pg_tenant_number(pg_engine *e, const char *name, pg_error *err);
int pg_knob_declare(pg_engine *e, const char *name, float value, pg_error *err);

#endif
