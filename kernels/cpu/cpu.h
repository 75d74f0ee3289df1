/* cpu: what the ops of the CPU backend share. Private to kernels/. */
#ifndef PG_CPU_H
#define PG_CPU_H

#include "../backend.h"
#include "../lanes.h"
#include "../matmul/matmul.h"
#include "isa.h"

typedef struct pg_cpu {
    pg_backend base;
    pg_lanes *lanes;
    int n_lane;
    unsigned isa;
    const pg_code *code;
    char *arena;   /* the plan's values */
    char *scratch; /* n_lane parts of lane_bytes, one a lane */
    int64_t lane_bytes;
    char *shared; /* for the op that is running: rounded rows, expert groups */
    int64_t map_bytes;
    const pg_rows *rows; /* of the step that is running */
    const pg_kv *kv;
} pg_cpu;

/* The op functions, one for each row of op.def. */
#define PG_OP(code, row) void pg_cpu_##row(pg_cpu *c, const pg_op *op);
#include "../op.def"

/* Most bytes an op needs of a lane's scratch and of the shared one, for a plan of this size. */
typedef struct pg_need {
    int64_t lane, shared;
} pg_need;
pg_need pg_matmul_need(const pg_code *code, const pg_op *op);
pg_need pg_attn_need(const pg_code *code, const pg_op *op);
pg_need pg_experts_need(const pg_code *code, const pg_op *op);

static inline float *pg_cpu_rows(const pg_cpu *c, pg_ref r)
{
    return (float *)(c->arena + c->code->value[r].offset);
}
static inline int pg_cpu_width(const pg_cpu *c, pg_ref r)
{
    return c->code->value[r].width;
}
static inline int pg_cpu_count(const pg_cpu *c, pg_ref r) /* rows of a value in this step */
{
    return c->code->value[r].rows == PG_ROWS_ALL ? c->rows->n : c->rows->n_sampled;
}
static inline int pg_cpu_count_prefill(const pg_cpu *c, pg_ref r)
{
    return c->code->value[r].rows == PG_ROWS_ALL ? c->rows->n_prefill : c->rows->n_sampled_prefill;
}
static inline char *pg_cpu_lane(const pg_cpu *c, int lane)
{
    return c->scratch + lane * c->lane_bytes;
}

static inline int64_t pg_round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- matmul_cpu.c: the two classes, for ops that multiply ------------------------------------------------------- */

/* An activation row of the decode class: f32, and rounded when the weights are quantised. */
typedef struct pg_act {
    const float *f;
    pg_q8 q;
} pg_act;

/* True when decode-class rows meet this matrix as 8-bit integers. */
static inline int pg_is_rounded(const pg_code *code, const pg_tensor *w)
{
    return pg_dtype_is_quant(w->dtype) && !code->exact;
}

/* Scratch bytes a lane needs for pg_panel_mul with up to n_row rows, and for pg_decode_mul. */
int64_t pg_panel_scratch(int64_t n_row);
int64_t pg_decode_scratch(int64_t k);

/* acc[n_row][16] = x[r] . w[o0 .. o0+15], prefill class; outputs past the matrix are 0. x: n_row pointers to K floats.
 * mem: the lane's scratch, pg_panel_scratch(n_row) bytes; acc is n_row * 16 floats of the caller's. */
void pg_panel_mul(const pg_tensor *w, int64_t o0, const float *const *x, int n_row, float *acc, char *mem);

/* y[r * y_step + i] = x[r] . w[o0 + i], i < n_o, decode class. mem: the lane's scratch. */
void pg_decode_mul(const pg_tensor *w, int rounded, int64_t o0, int n_o, const pg_act *x, int n_row, float *y,
                   int64_t y_step, char *mem);

#endif
