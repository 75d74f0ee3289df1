/* policy: what a pg_policy is inside: a counted list of stages in declared order, immutable once it is in use.
 *
 * Lives here: stages, their making and checking. Not here: when they run and on which rows (hook.h).
 * Why so: whoever runs an old version holds a count, so replacing one is a change of pointers between two steps. A stage
 * that is another policy is a pointer as well, which the engine thread alone moves to a live successor. */
#ifndef PG_POLICY_H
#define PG_POLICY_H

#include "../../kernels/backend.h"
#include "../../kernels/policy/program.h"
#include "../include/perigee.h"

#include <stdatomic.h>

enum { PG_MAX_STAGE = 16, PG_MAX_NESTED = 4, PG_MAX_NAME = 63 };

/* Points that a policy uses, itself or through those it includes. */
enum { PG_USES_ROUTE = 1, PG_USES_LOGITS = 2, PG_USES_TOKEN = 4, PG_USES_ADMIT = 8, PG_USES_LOAD = 16 };

/* A verified program. */
typedef struct pg_stage_program {
    int32_t point, n, n_vector, n_knob;
    int32_t knob[PG_KNOBS_MOST]; /* its numbers to the engine's */
    float *scratch;
    pg_instr code[PG_PROGRAM_MOST];
} pg_stage_program;

enum { PG_STAGE_KNOBS, PG_STAGE_PROGRAM, PG_STAGE_HOOKS, PG_STAGE_POLICY };

typedef struct pg_stage {
    int kind;
    int unhooked; /* the engine thread's: never called again */
    union {
        pg_layer_knobs *layer; /* [n_layer] */
        pg_stage_program *program;
        pg_hooks hooks;
        pg_policy *policy; /* counted */
    } as;
} pg_stage;

struct pg_policy {
    pg_engine *engine; /* for adding stages; not looked at afterwards, for a policy may outlive it */
    char name[PG_MAX_NAME + 1];
    int32_t version, live, depth, n_layer;
    uint64_t serial; /* from 1, no two policies of a process have the same */
    _Atomic int32_t count;
    _Atomic int sealed;
    int uses; /* PG_USES_* */
    int told; /* the engine thread's: that it runs on the host was reported */
    int32_t n_stage;
    pg_stage stage[PG_MAX_STAGE];
    pg_policy *successor; /* counted; under the engine's lock */
    pg_policy *next;      /* among those to be freed */
};

/* Take a count away; 1: it was the last, and pg_policy_free is due. */
int pg_policy_release(pg_policy *p);
void pg_policy_free(pg_policy *p);
void pg_policy_seal(pg_policy *p);

/* 1: what it makes of a row does not depend on the row and its router logits alone, but on knobs of programs, on load, on
 * the batch, on somebody else's code, or it may be replaced in flight. NULL: no policy, which does not. */
int pg_policy_changes(const pg_policy *p);

/* A stage to fill in; NULL and *err when there may be none. pg_policy_added makes it part of the policy. */
pg_stage *pg_policy_stage(pg_policy *p, int *rc, pg_error *err);
void pg_policy_added(pg_policy *p, int kind, int uses);

/* knobs.c: free what it made. */
void pg_knobs_free(pg_layer_knobs *layer, int32_t n_layer);

/* program.c: check code that may say anything, and translate it. n_knob: knobs it may name. Sets *uses to PG_USES_*. */
int pg_program_verify(const pg_program *program, pg_stage_program *out, int *uses, pg_error *err);

#endif
