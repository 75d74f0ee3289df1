/* rope_cpu.c: rotary position embedding. The angles of a step are computed once (ANGLES) and shared by all layers and
 * heads (ROPE). Angle = f32 position * f32 inverse frequency in f32, as checkpoints are trained with.
 * Source: Su et al., RoFormer, 2021. */
#include "../cpu/cpu.h"

#include <math.h>

typedef struct job {
    const pg_op *op;
    const int32_t *pos;
    const float *angles; /* [T, n/2 cosines then n/2 sines] */
    float *x;
    int width, angle_width;
} job;

static void angles_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    const int n = j->op->a.angles.n;
    float *cosine = j->x + (int64_t)r * j->width, *sine = cosine + n;
    for (int i = 0; i < n; i++) {
        const float theta = (float)j->pos[r] * j->op->v[i];
        cosine[i] = (float)cos((double)theta) * j->op->a.angles.magnitude;
        sine[i] = (float)sin((double)theta) * j->op->a.angles.magnitude;
    }
}

void pg_cpu_angles(pg_cpu *c, const pg_op *op)
{
    job j = { .op = op, .pos = c->rows->pos, .x = pg_cpu_rows(c, op->dst), .width = pg_cpu_width(c, op->dst) };
    pg_cpu_each(c, angles_row, &j, c->rows->n, 4096 * (int64_t)op->a.angles.n); /* sines take long */
}

static void rope_heads(const job *j, int r, int h0, int h1)
{
    const int half = j->op->a.rope.n / 2, halves = j->op->a.rope.layout == PG_ROPE_HALVES;
    const float *cosine = j->angles + (int64_t)r * j->angle_width, *sine = cosine + half;
    for (int h = h0; h < h1; h++) {
        float *x = j->x + (int64_t)r * j->width + j->op->a.rope.col + (int64_t)h * j->op->a.rope.step;
        for (int i = 0; i < half; i++) {
            float *a = halves ? x + i : x + 2 * i, *b = halves ? x + i + half : x + 2 * i + 1;
            const float re = *a * cosine[i] - *b * sine[i], im = *a * sine[i] + *b * cosine[i];
            *a = re;
            *b = im;
        }
    }
}

static void rope_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    rope_heads(j, r, 0, j->op->a.rope.heads);
}

static job rope_of(pg_cpu *c, const pg_op *op)
{
    return (job){ .op = op,
                  .angles = pg_cpu_rows(c, op->src[1]),
                  .angle_width = pg_cpu_width(c, op->src[1]),
                  .x = pg_cpu_rows(c, op->dst),
                  .width = pg_cpu_width(c, op->dst) };
}

void pg_cpu_rope(pg_cpu *c, const pg_op *op)
{
    job j = rope_of(c, op);
    pg_cpu_each(c, rope_row, &j, c->rows->n, 32 * (int64_t)op->a.rope.n * op->a.rope.heads);
}

void pg_rope_heads(pg_cpu *c, const pg_op *op, const pg_heads *h)
{
    job j = rope_of(c, op);
    j.x = pg_heads_row(c, h, op->dst);
    rope_heads(&j, 0, h->from, h->to);
}
