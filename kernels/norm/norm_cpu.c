/* norm_cpu.c: the op: one root mean square norm for each group of columns (a row, a head, MLA's latent). */
#include "norm.h"
#include "../cpu/cpu.h"

typedef struct job {
    const pg_op *op;
    const float *x;
    float *y;
    int xw, yw;
} job;

static void norm_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    const pg_op *op = j->op;
    for (int i = 0; i < op->a.norm.count; i++) {
        const int col = i * op->a.norm.n;
        pg_rmsnorm(j->y + (int64_t)r * j->yw + col, j->x + (int64_t)r * j->xw + col, op->v, op->a.norm.n,
                   op->a.norm.eps);
    }
}

void pg_cpu_norm(pg_cpu *c, const pg_op *op)
{
    job j = { .op = op,
              .x = pg_cpu_rows(c, op->src[0]),
              .y = pg_cpu_rows(c, op->dst),
              .xw = pg_cpu_width(c, op->src[0]),
              .yw = pg_cpu_width(c, op->dst) };
    pg_cpu_each(c, norm_row, &j, pg_cpu_count(c, op->src[0]), 16 * (int64_t)op->a.norm.n * op->a.norm.count);
}
