/* steer.cuh: steering as device memory, and what it does to a row's scores before ROUTE chooses.
 *
 * A HOOK op launches nothing when its steering is data: the ROUTE op that follows carries the stages out on each row that it
 * has in shared memory anyway, so knobs cost a row of additions and no launch. Stages stand in slots, which change only when
 * a policy does; a table that is brought along between steps says which rows have which stages.
 * Where somebody on the host steers (hook_cuda.cu) the table's place is taken by arrays, as pg_steer has them. */
#ifndef PG_STEER_CUH
#define PG_STEER_CUH

#include "../cuda/cuda.cuh"
#include "../policy/program_cuda.cuh"
#include "choose.cuh"

enum { PG_STEER_STAGES = 64 }; /* of a step, and policies; slots as well */
enum { PG_STEER_TASKS = 512 }; /* rows that are steered at once: each has vectors for programs */

/* Knobs of one HOOK op in a slot; [E] of choose follow. */
typedef struct pg_steer_knobs {
    int32_t top; /* these as in pg_layer_knobs */
    float cumulative, temperature, capacity;
    int32_t chooses, rest[3];
} pg_steer_knobs;

typedef struct pg_steer_table {
    int32_t first[PG_STEER_STAGES + 1]; /* by policy */
    int32_t slot[PG_STEER_STAGES];      /* by stage */
    int32_t n_code[PG_STEER_STAGES];    /* 0: knobs */
    float knob[PG_STEER_STAGES][PG_KNOBS_MOST];
} pg_steer_table;

/* What a launch gets of it; pointers into device memory. */
typedef struct pg_steer_view {
    int hook, layer; /* number among the HOOK ops; the model's own */
    /* data */
    const pg_steer_table *table;
    const int32_t *policy; /* [T] */
    const char *slot;
    int64_t slot_bytes;
    const float *load;     /* [E] */
    float *vectors;        /* [PG_STEER_TASKS, PG_PROGRAM_VECTORS, E] */
    volatile int32_t *any; /* the host's memory: set when a row had a fault */
    /* arrays */
    const unsigned char *steered;
    const float *plain, *choose, *cumulative, *capacity; /* capacity: or NULL */
    const int32_t *top;
    /* out, and between launches */
    unsigned char *fault; /* [T] */
    int32_t *state;       /* [T] of rows with a capacity, route_cuda.cu */
    int32_t *asked;       /* [T] */
    float *limit;         /* [T] their capacities */
} pg_steer_view;

enum { PG_BY_NOBODY, PG_BY_TABLE, PG_BY_ARRAYS };

/* How a row is steered, beside what is in its choice's x and choose. */
typedef struct pg_steer_row {
    int32_t top;
    float cumulative, capacity;
} pg_steer_row;

/* The backend's part of it; hook_cuda.cu. */
struct pg_cuda_steer {
    int by, with_limits;                       /* of this step, PG_BY_* */
    pg_steer_view view;                        /* as the HOOK op before left it */
    int32_t n_expert, max_rows, n_hook, n_row; /* n_row: of this step */
    const pg_op **hook;                        /* [n_hook] */
    char *device, *host;                       /* all memory there is; host: pinned */
    /* device */
    pg_steer_table *table;
    int32_t *policy;
    char *slot;
    float *load;          /* [n_hook, E] */
    unsigned char *fault; /* [n_hook, T] */
    unsigned char *steered;
    float *plain, *choose, *cumulative, *capacity;
    int32_t *top;
    /* pinned: what the device has, and room for what comes and goes */
    pg_steer_table *table_now;
    int32_t *policy_now;
    char *slot_room;
    float *load_room, *score; /* score: [T, E] */
    unsigned char *fault_now; /* [n_hook, T] */
    int32_t *any;
    /* slots */
    uint64_t id[PG_STEER_STAGES]; /* 0: empty */
    uint64_t used[PG_STEER_STAGES], step;
    /* where the host steers: the layer before */
    const pg_steer *told;
    int told_hook;
    double waited, bytes; /* in this step */
};

/* ---- a row's stages ------------------------------------------------------------------------------------------------ */

/* Who is out stays out, or a ban and a force would be no number. */
PG_HD float pg_steer_add(float choose, float more)
{
    return choose == -INFINITY || more == -INFINITY ? -INFINITY : choose + more;
}

/* To a whole number, anything that is out of range to 0, which no row may have. */
PG_HD int32_t pg_steer_top(float x, int32_t n_expert)
{
    return x > 0.5f && x < (float)n_expert + 0.5f ? (int32_t)(x + 0.5f) : 0;
}

__device__ __forceinline__ void pg_steer_by_knobs(const pg_choice &c, const pg_steer_knobs *k, pg_steer_row &row,
                                                  int lane)
{
    const float *more = reinterpret_cast<const float *>(k + 1);
    if (k->top) row.top = k->top;
    if (k->cumulative > 0) row.cumulative = k->cumulative;
    if (k->capacity > 0) row.capacity = k->capacity;
    for (int e = lane; k->temperature > 0 && e < c.r.n_expert; e += 32) c.x[e] /= k->temperature;
    for (int e = lane; k->chooses && e < c.r.n_expert; e += 32) c.choose[e] = pg_steer_add(c.choose[e], more[e]);
}

/* The row's place in a program. task: whose vectors it may use. */
__device__ __forceinline__ void pg_steer_by_program(const pg_choice &c, const pg_steer_view &v, int stage,
                                                    int row_number, const pg_cuda_step *step, int task,
                                                    pg_steer_row &row, int lane)
{
    const int E = c.r.n_expert;
    pg_machine m;
    m.row.n = E;
    m.row.scores = c.x;
    m.row.choose = c.choose;
    m.row.load = v.load;
    m.row.top = (float)row.top;
    m.row.cumulative = row.cumulative;
    m.row.layer = (float)v.layer;
    m.row.position = (float)step->pos[row_number];
    m.row.prompt = (float)(row_number < step->n_prefill);
    m.row.n_used = (float)c.r.n_used;
    m.row.sigmoid = c.r.score == PG_SCORE_SIGMOID;
    m.row.knob = v.table->knob[stage];
    m.v = v.vectors + (int64_t)task * PG_PROGRAM_VECTORS * E;
    m.lane = lane;
    pg_program_run_warp(m, reinterpret_cast<const pg_instr *>(v.slot + v.slot_bytes * v.table->slot[stage]),
                        v.table->n_code[stage]);
    row.top = pg_steer_top(m.row.top, E);
    row.cumulative = m.row.cumulative;
}

/* Load a row and do what its policy says; false: nobody steers it. */
__device__ __forceinline__ bool pg_steer_by_table(const pg_choice &c, const pg_steer_view &v, const float *x,
                                                  int row_number, const pg_cuda_step *step, int task, pg_steer_row &row,
                                                  int lane)
{
    const int E = c.r.n_expert, policy = v.policy[row_number];
    if (policy < 0) return false;
    for (int e = lane; e < E; e += 32) {
        c.x[e] = x[e];
        c.choose[e] = 0;
    }
    row.top = c.r.n_used;
    row.cumulative = 1;
    row.capacity = 0;
    for (int s = v.table->first[policy]; s < v.table->first[policy + 1]; s++) {
        const char *const slot = v.slot + v.slot_bytes * v.table->slot[s];
        const int64_t knobs = (int64_t)sizeof(pg_steer_knobs) + (int64_t)E * (int64_t)sizeof(float);
        if (v.table->n_code[s])
            pg_steer_by_program(c, v, s, row_number, step, task, row, lane);
        else
            pg_steer_by_knobs(c, reinterpret_cast<const pg_steer_knobs *>(slot + knobs * v.hook), row, lane);
    }
    __syncwarp();
    return true;
}

/* The same where the host has done it: x is what it made of the scores. */
__device__ __forceinline__ bool pg_steer_by_arrays(const pg_choice &c, const pg_steer_view &v, const float *x,
                                                   int row_number, pg_steer_row &row, int lane)
{
    const int E = c.r.n_expert;
    if (!v.steered[row_number]) return false;
    for (int e = lane; e < E; e += 32) {
        c.x[e] = x[e];
        c.choose[e] = v.choose[(int64_t)row_number * E + e];
    }
    row.top = v.top[row_number];
    row.cumulative = v.cumulative[row_number];
    row.capacity = v.capacity ? v.capacity[row_number] : 0;
    __syncwarp();
    return true;
}

/* ---- what is left of it ---------------------------------------------------------------------------------------------- */

/* PG_STEER_FINE, or why the row cannot be routed so. The first expert that is wrong says which. */
__device__ __forceinline__ int pg_steer_check(const pg_choice &c, const pg_steer_row &row, int lane)
{
    const int E = c.r.n_expert;
    int first = 2 * E;
    if (row.top < 1 || row.top > E) return PG_STEER_TOP;
    if (!(row.cumulative > 0)) return PG_STEER_CUMULATIVE;
    for (int e = lane; e < E && first == 2 * E; e += 32)
        if (!(c.x[e] < INFINITY))
            first = 2 * e;
        else if (c.choose[e] != c.choose[e])
            first = 2 * e + 1;
    for (int to = 16; to; to >>= 1) {
        const int other = __shfl_xor_sync(PG_FULL, first, to);
        first = other < first ? other : first;
    }
    return first == 2 * E ? PG_STEER_FINE : first % 2 ? PG_STEER_CHOOSE : PG_STEER_SCORES;
}

/* Scores, and who may be chosen: groups are limited first; who is forced is in all the same. */
__device__ __forceinline__ void pg_steer_score(const pg_choice &c, int lane)
{
    const int E = c.r.n_expert;
    float *const compared = reinterpret_cast<float *>(c.place);
    pg_choice_score(c, c.x, lane);
    for (int e = lane; e < E; e += 32) {
        const bool banned = c.x[e] == -INFINITY || c.choose[e] == -INFINITY;
        const float p = c.r.bias ? pg_add(c.p[e], c.r.bias[e]) : c.p[e];
        compared[e] = banned ? -INFINITY : pg_add(p, c.choose[e]);
    }
    __syncwarp();
    const bool groups = pg_choice_groups(c, lane);
    const int size = groups ? E / c.r.n_group : 1;
    for (int e = lane; e < E; e += 32) {
        const float x = compared[e];
        const bool out = x == -INFINITY || (groups && c.group[e / size] && x != INFINITY);
        c.place[e] = out ? 0 : pg_place_of(x);
    }
    __syncwarp();
}

#endif
