/* embed_cpu.c: where rows come from: EMBED unpacks a row of the token table, GATHER takes the rows that sample. */
#include "../cpu/cpu.h"
#include "../unpack/unpack.h"

typedef struct job {
    const pg_op *op;
    const int32_t *which; /* row of the source for each row of y */
    const float *x;
    float *y;
    int width;
} job;

static void embed_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    float *y = j->y + (int64_t)r * j->width;
    pg_unpack_row(y, j->op->w, j->which[r], 0, j->width);
    if (j->op->a.embed.scale != 1.0f)
        for (int i = 0; i < j->width; i++) y[i] *= j->op->a.embed.scale;
}

void pg_cpu_embed(pg_cpu *c, const pg_op *op)
{
    job j = { .op = op, .which = c->rows->token, .y = pg_cpu_rows(c, op->dst), .width = pg_cpu_width(c, op->dst) };
    pg_cpu_each(c, embed_row, &j, c->rows->n, 8 * (int64_t)j.width);
}

void pg_cpu_gather(pg_cpu *c, const pg_op *op)
{
    const int width = pg_cpu_width(c, op->dst);
    const float *x = pg_cpu_rows(c, op->src[0]);
    float *y = pg_cpu_rows(c, op->dst);
    for (int s = 0; s < c->rows->n_sampled; s++)
        memcpy(y + (int64_t)s * width, x + (int64_t)c->rows->sampled[s] * width, (size_t)width * sizeof *y);
}
