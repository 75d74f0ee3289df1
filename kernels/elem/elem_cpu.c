/* elem_cpu.c: element by element: ADD, GATE, CLAMP, COPY. Bound by memory; plain loops that compilers vectorise. */
#include "../cpu/cpu.h"

#include <math.h>

typedef struct job {
    const pg_op *op;
    const float *a, *b;
    float *y;
    int aw, bw, yw;
} job;

static job job_of(pg_cpu *c, const pg_op *op)
{
    job j = { .op = op,
              .a = pg_cpu_rows(c, op->src[0]),
              .aw = pg_cpu_width(c, op->src[0]),
              .y = pg_cpu_rows(c, op->dst),
              .yw = pg_cpu_width(c, op->dst) };
    if (op->src[1] != PG_NO_REF) {
        j.b = pg_cpu_rows(c, op->src[1]);
        j.bw = pg_cpu_width(c, op->src[1]);
    }
    return j;
}

static void add_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    const float *a = j->a + (int64_t)r * j->aw, *b = j->b + (int64_t)r * j->bw;
    float *y = j->y + (int64_t)r * j->yw;
    for (int i = 0; i < j->yw; i++) y[i] = a[i] + j->op->a.add.scale * b[i];
}

void pg_cpu_add(pg_cpu *c, const pg_op *op)
{
    job j = job_of(c, op);
    pg_cpu_each(c, add_row, &j, pg_cpu_count(c, op->dst), 12 * (int64_t)j.yw);
}

static void gate_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    const float *a = j->a + (int64_t)r * j->aw;
    float *y = j->y + (int64_t)r * j->yw;
    const float g = 1.0f / (1.0f + expf(-j->b[(int64_t)r * j->bw]));
    for (int i = 0; i < j->yw; i++) y[i] = a[i] * g;
}

void pg_cpu_gate(pg_cpu *c, const pg_op *op)
{
    job j = job_of(c, op);
    pg_cpu_each(c, gate_row, &j, pg_cpu_count(c, op->dst), 8 * (int64_t)j.yw);
}

static void clamp_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    const float limit = j->op->a.clamp.limit;
    float *y = j->y + (int64_t)r * j->yw;
    for (int i = 0; i < j->yw; i++) y[i] = y[i] > limit ? limit : y[i] < -limit ? -limit : y[i];
}

void pg_cpu_clamp(pg_cpu *c, const pg_op *op)
{
    job j = job_of(c, op);
    pg_cpu_each(c, clamp_row, &j, pg_cpu_count(c, op->dst), 8 * (int64_t)j.yw);
}

static void copy_heads(const job *j, int r, int h0, int h1)
{
    const pg_op *op = j->op;
    for (int h = h0; h < h1; h++)
        memcpy(j->y + (int64_t)r * j->yw + op->a.copy.dst_col + (int64_t)h * op->a.copy.dst_step,
               j->a + (int64_t)r * j->aw + op->a.copy.src_col + (int64_t)h * op->a.copy.src_step,
               (size_t)op->a.copy.n * sizeof(float));
}

static void copy_row(void *arg, int r, int lane)
{
    (void)lane;
    const job *j = arg;
    copy_heads(j, r, 0, j->op->a.copy.heads);
}

void pg_cpu_copy(pg_cpu *c, const pg_op *op)
{
    job j = job_of(c, op);
    const int first = pg_cpu_first(c, op);
    j.a += (int64_t)first * j.aw;
    j.y += (int64_t)first * j.yw;
    pg_cpu_each(c, copy_row, &j, pg_cpu_count(c, op->dst) - first, 8 * (int64_t)op->a.copy.n * op->a.copy.heads);
}

void pg_copy_heads(pg_cpu *c, const pg_op *op, const pg_heads *h)
{
    job j = job_of(c, op);
    j.a = pg_heads_row(c, h, op->src[0]);
    j.y = pg_heads_row(c, h, op->dst);
    copy_heads(&j, 0, h->from, h->to);
}
