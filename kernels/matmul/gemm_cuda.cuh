/* gemm_cuda: products of many rows with matrices of every storage format, on tensor cores.
 *
 * One product is a pg_gemm: groups of rows, each of which meets a matrix of its own. A MATMUL has one group a head, all of
 * the same rows; the experts of a layer are groups of (row, expert) pairs, sorted by expert, whose number only the device
 * knows. Lives here: what a product is, and who multiplies. Not here: the tiles (tile.cuh), few rows (gemv.cuh). */
#ifndef PG_GEMM_CUDA_H
#define PG_GEMM_CUDA_H

#include "matmul_cuda.cuh"

typedef struct pg_gemm {
    pg_stack w[2]; /* matrix g of each belongs to group g; [1]: up, when pair */
    int32_t k;     /* columns of x */
    int32_t pair;  /* y is not the sums: hidden = glu(sums of w[0], sums of w[1]) */
    int32_t groups, all;
    const pg_cuda_step *step;
    /* Rows of a group: those of the step, all or the sampled; or, where first is not NULL, pairs first[g] .. first[g + 1] - 1,
     * of which tile[g] tiles belong to the groups before g. */
    const int32_t *first, *tile; /* device; [groups + 1] */
    const int32_t *row;          /* device; the row of x of each pair, NULL: the pair's own number */
    const void *x;               /* bf16, or f32 in exact products */
    int64_t x_width, x_group;    /* elements from row to row, and from group to group */
    float *y;
    int64_t y_width, y_group;
    pg_dtype as;  /* PG_F32; or y is of 16-bit numbers, PG_BF16 or PG_F16: no exact product, no bias, split is 1 */
    void *hidden; /* [pairs][hidden_width] bf16, or f32 in exact products; columns from n on are zeros */
    int64_t hidden_width;
    const float *bias[2]; /* [groups][n] or NULL */
    float scale, limit;
    int32_t glu;
    int32_t split; /* parts of K, each of a block of its own; 1, or the sums go to part */
    float *part;   /* [split][groups][rows][n] */
    int32_t rows;  /* rows that part has room for: those launched for */
} pg_gemm;

enum {
    PG_GEMM_STEP = 64, /* columns of x that are taken at a time: bf16 rows are filled up with zeros to a multiple */
    PG_GEMM_SUMS = 2 * 128 * 128 /* that the tiles of one multiprocessor have at most, whatever the kernel */
};

static inline int64_t pg_gemm_width(int64_t k)
{
    return (k + PG_GEMM_STEP - 1) / PG_GEMM_STEP * PG_GEMM_STEP;
}

typedef void pg_gemm_fn(const pg_gemm g);

/* A kernel of tiles: rows of a tile and of weights that it takes, shared memory of a block, blocks that a multiprocessor
 * holds, threads of one. */
typedef struct pg_gemm_kernel {
    pg_gemm_fn *kernel;
    int rows, columns, shared, blocks, threads;
} pg_gemm_kernel;

/* For tiles of so many rows or, where there are none so high, fewer. even: rows of w begin at multiples of 16 bytes. */
pg_gemm_kernel pg_gemm_mma(pg_dtype type, int rows, int even); /* gemm_mma_cuda.cu */
pg_gemm_kernel pg_gemm_wgmma(pg_dtype type, int rows);         /* gemm_wgmma_cuda.cu; even only, where c->wgmma */
pg_gemm_kernel pg_gemm_exact(pg_dtype type, int even);         /* gemm_exact_cuda.cu */

/* The kernel for groups of about `rows` rows. */
pg_gemm_kernel pg_gemm_choose(const pg_cuda *c, pg_dtype type, int64_t k, int64_t rows, int exact);

/* tiles: at most, of which a launch takes as many blocks as fit at once; each goes on to the next tile. */
void pg_gemm_launch(pg_cuda *c, const pg_gemm_kernel *k, const pg_gemm *g, int64_t tiles);

/* Rows [batch][rows] of width columns in f32, x_group columns from one of the batch to the next, to bf16
 * [batch][rows][pg_gemm_width(k)], zeros behind k. */
void pg_gemm_to_bf16(pg_cuda *c, uint16_t *y, const float *x, int64_t x_width, int64_t x_group, int batch, int rows,
                     int64_t k, int all);

/* Stack s of batch matrices of n rows of k columns, turned into y as k rows of pg_gemm_width(n): bf16, or f32 when exact.
 * What it is from then on. */
pg_stack pg_gemm_turn(pg_cuda *c, pg_dtype type, const pg_stack *s, int batch, void *y, int exact);

/* MATMUL for more than PG_FEW_ROWS rows. */
void pg_cuda_gemm(pg_cuda *c, const pg_op *op);
int64_t pg_cuda_gemm_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op);

#endif
