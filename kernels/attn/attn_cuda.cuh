/* attn_cuda: what the kernels of the attention op share. Private to kernels/attn.
 *
 * A row's arithmetic depends on its own position and on nothing else, as on the CPU: keys come in tiles at absolute
 * borders, and the tiles of a row of the decode class are cut into runs, eight runs into a group, at borders that its
 * position alone decides. A run begins from nothing; runs are folded into their group in order, groups into the row in
 * order. So a block may take a run or a group, whichever fills the device, and no bit shows which it was. A row of the
 * prefill class goes through its tiles from the first to the last, whatever rows share its block: a tile that it sees
 * nothing of changes nothing.
 * Scores are kept in units of log 2, so that an exponential is one exp2. */
#ifndef PG_ATTN_CUDA_H
#define PG_ATTN_CUDA_H

#include "../cuda/cuda.cuh"

enum {
    PG_ATTN_RUN = 64,  /* least positions of a run, a multiple of every tile */
    PG_ATTN_RUNS = 64, /* runs of a row, one more where a window begins inside one */
    PG_ATTN_GROUP = 8, /* runs of a group */
    PG_ATTN_GROUPS = PG_ATTN_RUNS / PG_ATTN_GROUP + 1
};

/* An item is some heads that share a kv head, and some neighbouring rows of a sequence: its queries, row after row. */
typedef struct pg_attn_args {
    const pg_cuda_step *step;
    const float *q;     /* [T, heads * dk] */
    float *y;           /* [T, heads * dv] */
    const float *sinks; /* [heads] or NULL */
    const char *cache;
    int64_t page_bytes, k_at, v_at; /* k_at, v_at: of a stream in a page */
    int page_tokens, k_row, v_row;  /* k_row, v_row: bytes of a cached row */
    int heads, kv_heads, dk, dv, window;
    int one;               /* values are the keys' first columns */
    int parts, heads_part; /* items of a kv head; heads of an item, the last may have fewer */
    int rows_part;         /* rows of an item */
    float scale, softcap;  /* x = s * scale, or softcap * tanh(s * scale) */
    int per, slots;        /* runs of a block: 1 or PG_ATTN_GROUP; blocks that a row may have */
    int row0;              /* first row of a wave, from the first of the decode class */
    const int32_t *pages;  /* of expanded keys and values: [keys / page_tokens] */
    int key0, keys;        /* which these are, of all sequences' keys one after the other */
    float *stat;           /* [rows of a wave, slots, heads, 2] largest score and sum of a block */
    float *acc;            /* [rows of a wave, slots, heads, dv] */
    int stages, raw;       /* tiles in shared memory; they come as they are stored and are converted there */
    int dtype;
    int k_chunks, v_chunks; /* of 16 bytes: a raw slice of a cached row in shared memory */
} pg_attn_args;

/* What a row at pos sees, and how that is cut. */
typedef struct pg_attn_span {
    int first, last; /* positions */
    int run;         /* positions of a run */
    int u0, n_run;   /* first run and how many */
} pg_attn_span;

__device__ __forceinline__ int pg_attn_first(const pg_attn_args &a, int pos)
{
    return a.window && pos >= a.window ? pos - a.window + 1 : 0;
}

__device__ __forceinline__ pg_attn_span pg_attn_cut(const pg_attn_args &a, int pos)
{
    pg_attn_span s = { pg_attn_first(a, pos), pos, PG_ATTN_RUN, 0, 0 };
    while (pos - s.first >= s.run * PG_ATTN_RUNS) s.run *= 2;
    s.u0 = s.first / s.run;
    s.n_run = pos / s.run - s.u0 + 1;
    return s;
}

/* Blocks' worth of runs that a row has. */
__device__ __forceinline__ int pg_attn_slots(const pg_attn_args &a, const pg_attn_span &s)
{
    return (s.n_run + a.per - 1) / a.per;
}

/* The score of a product, in units of log 2. */
__device__ __forceinline__ float pg_attn_score(const pg_attn_args &a, float s)
{
    const float x = s * a.scale;
    return a.softcap > 0 ? a.softcap * tanhf(x) : x;
}

/* What exponents are taken from: a row that has seen nothing but -inf takes them from 0. */
__device__ __forceinline__ float pg_attn_from(float top)
{
    return top == -INFINITY ? 0.0f : top;
}

/* Factors by which two sums go into one, whose largest score replaces a's. */
__device__ __forceinline__ void pg_attn_factors(float &top, float other, float &keep, float &add)
{
    const float most = fmaxf(top, other), from = pg_attn_from(most);
    keep = exp2f(top - from);
    add = exp2f(other - from);
    top = most;
}
__device__ __forceinline__ float pg_attn_fold(float sum, float keep, float other, float add)
{
    return fmaf(sum, keep, other * add); /* spelled out: it must round alike wherever it stands */
}

static constexpr float PG_ATTN_LOG2E = 1.4426950408889634f;

/* The kernels. Each launches for what it is told; a choice depends on the op and the device, never on the rows. */

/* With tensor cores. 0, or -1: not for this shape on this device; nothing was launched. attn_mma_cuda.cu */
int pg_attn_mma_decode(pg_cuda *c, pg_attn_args *a, int rows);
int pg_attn_mma_prefill(pg_cuda *c, pg_attn_args *a, int rows);
/* The same for keys and values that were expanded: a head has its own, a row of them is [heads, dk | heads, dv], and the
 * sums go on from one launch to the next. stat: [T, heads, PG_ATTN_STATE]. */
enum { PG_ATTN_STATE = 5 };
int pg_attn_mma_expands(const pg_cuda *c, pg_attn_args *a);
void pg_attn_mma_expanded(pg_cuda *c, pg_attn_args *a, int rows);
/* In f32, any shape. attn_plain_cuda.cu */
void pg_attn_plain_decode(pg_cuda *c, pg_attn_args *a, int rows);
void pg_attn_plain_prefill(pg_cuda *c, pg_attn_args *a, int rows);

#endif
