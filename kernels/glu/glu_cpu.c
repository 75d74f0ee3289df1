/* glu_cpu.c: the op of the dense and shared networks; routed experts apply the same row kernel inside moe/. */
#include "glu.h"
#include "../cpu/cpu.h"

typedef struct job {
    const pg_op *op;
    const float *g, *u;
    float *y;
    int width;
} job;

static void glu_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    const int64_t at = (int64_t)r * j->width;
    pg_glu(j->y + at, j->g + at, j->u + at, j->width, j->op->a.glu.kind, j->op->a.glu.limit);
}

void pg_cpu_glu(pg_cpu *c, const pg_op *op)
{
    job j = { .op = op,
              .g = pg_cpu_rows(c, op->src[0]),
              .u = pg_cpu_rows(c, op->src[1]),
              .y = pg_cpu_rows(c, op->dst),
              .width = pg_cpu_width(c, op->dst) };
    pg_cpu_each(c, glu_row, &j, pg_cpu_count(c, op->src[0]), 64 * (int64_t)j.width);
}
