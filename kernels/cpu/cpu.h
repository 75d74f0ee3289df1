/* cpu: what the ops of the CPU backend share. Private to kernels/. */
#ifndef PG_CPU_H
#define PG_CPU_H

#include "../backend.h"
#include "../lanes.h"
#include "../matmul/matmul.h"
#include "isa.h"

/* Memory that an op keeps from one step to the next, made from its weights in the first one. */
typedef struct pg_kept {
    char *at;
    int made;
} pg_kept;

/* Trials of what is worth a round of the lanes, see tune.c. */
enum { PG_BOUNDS = 5 };
extern const int64_t pg_tune_bound[PG_BOUNDS]; /* bytes, ascending */
typedef struct pg_tune {
    int32_t wait;             /* steps until the next trials; INT32_MAX: for ever */
    int best;                 /* the bound that won */
    int n_tried, n_row;       /* steps of these trials so far, and the rows of the last one */
    int64_t begin;            /* ns, when the step that runs began; 0: it is no trial */
    int64_t least[PG_BOUNDS]; /* ns of a step */
} pg_tune;

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
    const pg_steer *steer; /* what the last HOOK op was told; NULL: nothing */
    pg_kept *kept;         /* [n_op] */
    unsigned char *group;  /* [n_op] ops that op i runs: those that read the same rows may go as one */
    unsigned char *heads;  /* [n_op] ops that a lone row may run from op i on, some heads on each lane */
    int64_t small;         /* see pg_cpu_is_small */
    pg_tune tune;          /* what found it */
} pg_cpu;

enum { PG_GROUP = 4 }; /* matrices of a group at most */

/* Ops that run as one with this one, itself included. Who watches wants to see each matrix by itself. */
static inline int pg_cpu_group(const pg_cpu *c, const pg_op *op)
{
    return c->base.watch && op->code != PG_OP_MATMUL ? 1 : c->group[op - c->code->op];
}

/* Work that a round of the lanes would not make shorter. Counted in bytes at the rate at which kernels read weights out of
 * the caches; a product of attention is worth two. How much that is, tune.c finds out again and again. */
enum { PG_PRODUCT_BYTES = 2 };
static inline int pg_cpu_is_small(const pg_cpu *c, int64_t bytes)
{
    return bytes < c->small;
}

/* All of n items of so many bytes each, on the caller alone if they are small. */
static inline void pg_cpu_each(const pg_cpu *c, pg_lane_fn *fn, void *arg, int n, int64_t bytes)
{
    if (!pg_cpu_is_small(c, n * bytes)) {
        pg_lanes_run(c->lanes, fn, arg, n);
        return;
    }
    for (int i = 0; i < n; i++) fn(arg, i, 0);
}

/* Around each step: choose what is small in it, and look how long it took. Once: begin. */
void pg_tune_open(pg_cpu *c);
void pg_tune_begin(pg_cpu *c);
void pg_tune_end(pg_cpu *c);

/* The op functions, one for each row of op.def. */
#define PG_OP(code, row) void pg_cpu_##row(pg_cpu *c, const pg_op *op);
#include "../op.def"

/* Most bytes an op needs of a lane's scratch and of the shared one, for a plan of this size, and bytes that it keeps. */
typedef struct pg_need {
    int64_t lane, shared, kept;
} pg_need;
pg_need pg_matmul_need(const pg_code *code, const pg_op *op);
int pg_matmul_rounds(const pg_code *code, const pg_op *op); /* a MATMUL op: its rows are rounded to 8 bits */
pg_need pg_attn_need(const pg_code *code, const pg_op *op);
pg_need pg_mla_need(const pg_code *code, const pg_op *op);
pg_need pg_experts_need(const pg_code *code, const pg_op *op);

/* The chain of ops from op i on that heads pass without regard to each other; 0: there is none. Run the chain of this op,
 * if it has one that pays in this step; returns the ops it ran. */
int pg_heads_chain(const pg_code *code, int i);
int pg_cpu_heads(pg_cpu *c, const pg_op *op);

/* What a lane takes of a chain: heads from .. to - 1 of H, for the step's only row. */
typedef struct pg_heads {
    int H, from, to, lane; /* lane: whose scratch to use */
    pg_ref own[3];         /* values that nobody sees but the chain, or PG_NO_REF: */
    int row;               /* they are kept in this row, so that lanes do not write near each other */
} pg_heads;
void pg_matmul_heads(pg_cpu *c, const pg_op *op, const pg_heads *h);
void pg_attn_heads(pg_cpu *c, const pg_op *op, const pg_heads *h);
void pg_rope_heads(pg_cpu *c, const pg_op *op, const pg_heads *h);
void pg_copy_heads(pg_cpu *c, const pg_op *op, const pg_heads *h);

/* Two values have no place in common. */
static inline int pg_is_apart(const pg_code *code, pg_ref a, pg_ref b)
{
    const pg_value *x = &code->value[a], *y = &code->value[b];
    return x->offset + 4 * (int64_t)x->width * code->max_rows <= y->offset ||
           y->offset + 4 * (int64_t)y->width * code->max_rows <= x->offset;
}

static inline float *pg_cpu_rows(const pg_cpu *c, pg_ref r)
{
    return (float *)(c->arena + c->code->value[r].offset);
}
static inline int pg_cpu_width(const pg_cpu *c, pg_ref r)
{
    return c->code->value[r].width;
}
/* The row of a value that a lane works on in a chain. */
static inline float *pg_heads_row(const pg_cpu *c, const pg_heads *h, pg_ref r)
{
    const int own = r == h->own[0] || r == h->own[1] || r == h->own[2];
    return pg_cpu_rows(c, r) + (own ? h->row * (int64_t)pg_cpu_width(c, r) : 0);
}
static inline int pg_cpu_count(const pg_cpu *c, pg_ref r) /* rows of a value in this step */
{
    return c->code->value[r].rows == PG_ROWS_ALL ? c->rows->n : c->rows->n_sampled;
}
static inline int pg_cpu_count_prefill(const pg_cpu *c, pg_ref r)
{
    return c->code->value[r].rows == PG_ROWS_ALL ? c->rows->n_prefill : c->rows->n_sampled_prefill;
}
/* The first row of a step that an op is for. A watcher is shown what weights meet in the absorbed form, which then
 * serves all rows: expanded, the matrix of the keys meets no row of its own width. */
static inline int pg_cpu_first(const pg_cpu *c, const pg_op *op)
{
    return op->decode_only && !c->base.watch ? c->rows->n_prefill : 0;
}
static inline char *pg_cpu_lane(const pg_cpu *c, int lane)
{
    return c->scratch + lane * c->lane_bytes;
}

static inline int64_t pg_round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* ---- matmul_cpu.c: rows times 16 outputs of a matrix, for ops that multiply --------------------------------------- */

enum { PG_TILE = 128 }; /* rows that meet a panel at once: their sums stay in the first cache */

/* How rows meet a matrix, see matmul.h: 8-bit products of packed weights; f32 with weights unpacked into panels
 * (prefill class); f32 row by row (decode class). */
enum { PG_MUL_8BIT, PG_MUL_PANEL, PG_MUL_DOT };

/* Up to PG_TILE rows of activations: f32 rows, or rounded records [k / 32][n]. */
typedef struct pg_acts {
    const float *const *f;
    const pg_q8 *q;
    int n;
} pg_acts;

/* True when rows meet this matrix as 8-bit integers: then it is packed. */
static inline int pg_is_rounded(const pg_code *code, const pg_tensor *w)
{
    return pg_dtype_is_quant(w->dtype) && !code->exact;
}

/* Scratch bytes a lane needs for pg_mul with rows of k columns. */
int64_t pg_mul_scratch(int64_t k);

/* y[n][16] = x . w[o0 .. o0 + 15]; outputs past the matrix are not to be used. o0: a multiple of 16. */
void pg_mul(int how, const pg_tensor *w, int64_t o0, const pg_acts *x, float *y, char *mem);

#endif
