/* shared_cpu.c: which ops after EXPERTS are a shared network that may join it: two matrices that read the same rows, their
 * activation, a third matrix, and the sum with what the routed experts gave, all in 8 bits and read by nobody else. */
#include "moe.h"

/* The op multiplies the rows x, and nothing else, in 8 bits. */
static int is_rounded_matmul(const pg_code *code, const pg_op *op, pg_ref x)
{
    return op->code == PG_OP_MATMUL && op->src[0] == x && op->a.matmul.batch == 1 && op->a.matmul.scale == 1 &&
           pg_matmul_rounds(code, op);
}

/* Nobody but op `by` reads what op `of` computes. */
static int is_private(const pg_code *code, int of, int by)
{
    for (int i = of + 1; i < code->n_op; i++)
        for (int k = 0; k < 2; k++)
            if (i != by && code->op[i].src[k] == code->op[of].dst) return 0;
    return 1;
}

/* Rows may be read from a while those of b are written: both stand apart, or row for row in one place. */
static int may_meet(const pg_code *code, pg_ref a, pg_ref b)
{
    const pg_value *x = &code->value[a], *y = &code->value[b];
    return (x->offset == y->offset && x->width == y->width) || pg_is_apart(code, a, b);
}

int pg_experts_shared(const pg_code *code, int i)
{
    const pg_op *op = &code->op[i];
    const pg_experts *e = op->a.experts.experts;
    if (i + PG_SHARED_OPS >= code->n_op || !pg_is_rounded(code, &e->gate[0]) || !pg_is_rounded(code, &e->up[0]) ||
        !pg_is_rounded(code, &e->down[0]))
        return 0;
    const pg_op *glu = op + PG_SHARED_GLU, *add = op + PG_SHARED_ADD;
    if (!is_rounded_matmul(code, op + PG_SHARED_GATE, op->src[0]) ||
        !is_rounded_matmul(code, op + PG_SHARED_UP, op->src[0]) || glu->code != PG_OP_GLU ||
        glu->src[0] != op[PG_SHARED_GATE].dst || glu->src[1] != op[PG_SHARED_UP].dst || glu->a.glu.kind != e->glu ||
        glu->a.glu.limit != e->limit || !is_rounded_matmul(code, op + PG_SHARED_DOWN, glu->dst) ||
        add->code != PG_OP_ADD || add->src[0] != op->dst || add->src[1] != op[PG_SHARED_DOWN].dst ||
        add->a.add.scale != 1)
        return 0;
    const int sole = is_private(code, i, i + PG_SHARED_ADD) &&
                     is_private(code, i + PG_SHARED_GATE, i + PG_SHARED_GLU) &&
                     is_private(code, i + PG_SHARED_UP, i + PG_SHARED_GLU) &&
                     is_private(code, i + PG_SHARED_GLU, i + PG_SHARED_DOWN) &&
                     is_private(code, i + PG_SHARED_DOWN, i + PG_SHARED_ADD);
    return sole && may_meet(code, op->src[0], add->dst) && may_meet(code, op->src[1], add->dst) ? PG_SHARED_OPS : 0;
}
