/* cuda: what the ops of the CUDA backend share. Private to kernels/.
 *
 * A step runs in order on one stream. Everything an op needs on the device stands at an address that does not change
 * while the engine is open, so that a captured graph can be replayed: values in the arena, the step's rows in `step`,
 * weights where they were put. An op launches for c->rows rows (the bucket's size); the kernel looks up how many there
 * truly are in *step and leaves the others alone.
 * An op cannot fail: what the runtime says is kept in c->error (pg_cuda_try), the first one wins, and run returns it. */
#ifndef PG_CUDA_H
#define PG_CUDA_H

#include "device.cuh"
extern "C" {
#include "../backend.h"
}

/* The rows of a step, in device memory. What pg_rows (op.h) says of them holds. */
typedef struct pg_cuda_step {
    int32_t n, n_prefill, n_sampled, n_sampled_prefill;
    int32_t longest;                            /* the largest position, plus 1 */
    const int32_t *token, *pos, *seq, *sampled; /* device; [max_rows], sampled [max_sampled] */
    const int32_t *pages;                       /* device; [sequences][page_step] */
    int32_t page_step;
    /* Rows of the prefill class, sequence by sequence: of each the first row, and the positions of those before it, each
     * filled up to a multiple of PG_SPAN. */
    int32_t n_span;
    const int32_t *span_row, *span_key; /* device; [n_span + 1] */
} pg_cuda_step;

enum { PG_SPAN = 64 };

/* The last of n ascending numbers, the first of which is at most x, that is at most x. */
__device__ __forceinline__ int pg_span_of(const int32_t *first, int n, int x)
{
    int low = 0;
    for (int high = n; high - low > 1;) {
        const int middle = (low + high) / 2;
        if (first[middle] <= x)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- weights ------------------------------------------------------------------------------------------------------
 * A stored row is a run of blocks, whose fields have any alignment. On the device a matrix is kept as planes instead: the
 * same field of all blocks together (row after row, block after block), each plane 256-byte aligned. It is a permutation:
 * no bit changes. The table of fields is in cuda/planes.cu. F32, F16 and BF16 are one plane as they stand; FP8 is its
 * bytes and, as the second plane, one f32 factor for every 128 x 128 block of *this* matrix, [(n + 127) / 128] rows of
 * [(k + 127) / 128] (a view that begins inside a block row is refused). */
enum { PG_PLANES = 4 };

typedef struct pg_planes {
    pg_dtype dtype;
    int32_t n_plane;
    int32_t field[PG_PLANES]; /* bytes of a block that the plane holds */
    int64_t plane[PG_PLANES]; /* where the plane begins, from the start of the matrix */
    int64_t k, n;             /* columns (inputs), rows (outputs) */
    int64_t bytes;            /* of one matrix */
} pg_planes;

/* One matrix or a stack of equal ones (heads, experts). */
typedef struct pg_cuda_weight {
    pg_planes at;
    int32_t count;
    /* device; [count] where each matrix begins: in device memory, or in pinned host memory that the device reads */
    const unsigned char *const *base;
    const unsigned char *first; /* host's copy of base[0] */
    int32_t all_near;           /* all of them are in device memory, one after the other: first + i * at.bytes */
} pg_cuda_weight;

/* Blocks of a format, as fields in the order of PG_DTYPE_LIST's blocks: returns the number of planes and fills which
 * bytes [from, from + length) of a block go into each. 0: no such format on this device. */
int pg_planes_of(pg_dtype dtype, int32_t from[PG_PLANES], int32_t length[PG_PLANES]);
/* The geometry of one {k, n} matrix. */
pg_planes pg_planes_lay_out(pg_dtype dtype, int64_t k, int64_t n);

/* ---- the backend -------------------------------------------------------------------------------------------------- */

typedef struct pg_cuda pg_cuda;
typedef struct pg_cuda_steer pg_cuda_steer; /* route/steer.cuh */
typedef struct pg_cuda_best pg_cuda_best;   /* sample/sample_cuda.cu */

struct pg_cuda {
    pg_backend base;
    int device, n_sm, arch; /* arch: 80, 86, 89, 90 ... */
    int wgmma;              /* products of many rows may take it: pg_cuda_gemm_open has tried */
    int early;              /* kernels may begin before the one before them has ended (PG_LAUNCH_EARLY) */
    cudaStream_t stream;    /* all ops of a step */
    const pg_code *code;
    char *arena;   /* device: the plan's values */
    char *scratch; /* device: for the op that is running */
    int64_t scratch_bytes;
    unsigned *count;          /* device: blocks that are done, of the op that is running; 0 between ops */
    const pg_cuda_step *step; /* device */
    pg_cuda_step now;         /* host's copy of the counts while ops are launched; of a bucket, not of the step */
    int rows, sampled;        /* rows to launch for */
    int nodes;                /* launches and copies of the graph that ran last; 0: none has */
    int rows_prefill;         /* 0: the step has decode rows only (what graphs are made of) */
    int row0;                 /* rows before those that are launched for: an op that is for decode rows only */
    int32_t expanded;         /* this layer's MLA op has done the rows of the prefill class */
    /* Of the rows of the prefill class: span_key's last; positions that all of them see, of sequences each once, and of rows. */
    int64_t keys, keys_once, keys_each;
    pg_kv kv;             /* base: device memory; stream: host memory */
    pg_cuda_steer *steer; /* who steers the choice of experts */
    pg_cuda_best *best;   /* the best of the rows that are drawn from */
    const char *why;      /* the first thing that failed, */
    cudaError_t error;    /* and what the runtime said */
};

/* Keep the first failure. Returns nonzero when e is one. what: a static text. */
int pg_cuda_try(pg_cuda *c, cudaError_t e, const char *what);

/* The op functions, one for each row of op.def. */
#define PG_OP(code, row) void pg_cuda_##row(pg_cuda *c, const pg_op *op);
#include "../op.def"

/* Bytes up to where anything may begin. */
static inline int64_t pg_cuda_up(int64_t n)
{
    return (n + 255) / 256 * 256;
}

/* Spans of the first n_prefill rows into row and key, [n_prefill + 1] of each; c's counts of them. Returns how many. */
static inline int32_t pg_cuda_spans(pg_cuda *c, const int32_t *pos, const int32_t *seq, int n_prefill, int32_t *row,
                                    int32_t *key)
{
    int32_t n = 0;
    c->keys = c->keys_once = c->keys_each = 0;
    for (int r = 0; r < n_prefill; r++) {
        if (r == 0 || seq[r] != seq[r - 1]) row[n] = r, key[n++] = (int32_t)c->keys;
        c->keys_each += pos[r] + 1;
        if (r + 1 < n_prefill && seq[r + 1] == seq[r]) continue;
        c->keys_once += pos[r] + 1;
        c->keys += (pos[r] + PG_SPAN) / PG_SPAN * PG_SPAN;
    }
    row[n] = n_prefill;
    key[n] = (int32_t)c->keys;
    return n;
}

/* Bytes of scratch that an op needs at most, for a plan of this size. */
int64_t pg_cuda_matmul_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op);
int64_t pg_cuda_attn_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op);
int64_t pg_cuda_mla_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op);
int64_t pg_cuda_route_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op);
int64_t pg_cuda_experts_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op);

/* matmul/gemm_check_cuda.cu: find out how many rows can be multiplied here (c->wgmma). At open: launches and waits, takes
 * memory and gives it back. 0, or -1 with the error kept. */
int pg_cuda_gemm_open(pg_cuda *c);

/* route/hook_cuda.cu: steering around a step. open: in prepare, takes all memory; 0, or -1 with the error kept. */
int pg_cuda_steer_open(pg_cuda *c);
void pg_cuda_steer_close(pg_cuda *c);
int64_t pg_cuda_steer_bytes(const pg_code *code);
/* Before the first op of a step, outside of what is captured: brings along what base.hook says. Returns what the launches
 * of the step depend on: graphs of one number, 0 to 2, are alike; PG_STEER_CALLS: HOOK ops call the host, so that the step
 * cannot be a graph. */
enum { PG_STEER_NOBODY_ASKS, PG_STEER_DATA, PG_STEER_CAPACITY, PG_STEER_CALLS };
int pg_cuda_steer_begin(pg_cuda *c, const pg_rows *rows);
/* After the last op of a step and outside of what is captured; when somebody steers it waits for the stream. */
void pg_cuda_steer_end(pg_cuda *c);

/* sample/sample_cuda.cu: the best of base.drawn. step: launches after the last op, part of a graph, the copy to the host
 * included; row: once the stream has been waited for. */
int pg_cuda_best_open(pg_cuda *c);
void pg_cuda_best_close(pg_cuda *c);
int64_t pg_cuda_best_bytes(const pg_code *code, pg_ref drawn);
void pg_cuda_best_step(pg_cuda *c);
void pg_cuda_best_row(const pg_cuda *c, int32_t row, pg_best *out);

/* Where a tensor of the plan, the matrices of an expert stack, or a vector has been put. Found by the host's address; put
 * there in prepare (backend.cu), which walks the plan. */
const pg_cuda_weight *pg_cuda_weight_of(const pg_cuda *c, const pg_tensor *t);
/* The format that it has there: FP8 that begins inside a block of factors is f32. */
static inline pg_dtype pg_cuda_type_of(const pg_cuda *c, const pg_tensor *t)
{
    return pg_cuda_weight_of(c, t)->at.dtype;
}
const float *pg_cuda_vector_of(const pg_cuda *c, const float *v); /* NULL for NULL */

static inline float *pg_cuda_value(const pg_cuda *c, pg_ref r)
{
    const pg_value *v = &c->code->value[r];
    return reinterpret_cast<float *>(c->arena + v->offset) + (int64_t)c->row0 * v->width;
}
static inline int pg_cuda_width(const pg_cuda *c, pg_ref r)
{
    return c->code->value[r].width;
}
/* Rows to launch for; the kernel compares with step->n or step->n_sampled. */
static inline int pg_cuda_rows(const pg_cuda *c, pg_ref r)
{
    return c->code->value[r].rows == PG_ROWS_ALL ? c->rows : c->sampled;
}
static inline int pg_cuda_is_all(const pg_cuda *c, pg_ref r) /* which of the two counts holds */
{
    return c->code->value[r].rows == PG_ROWS_ALL;
}
__device__ __forceinline__ int pg_step_rows(const pg_cuda_step *s, int all)
{
    return all ? s->n : s->n_sampled;
}

#endif
