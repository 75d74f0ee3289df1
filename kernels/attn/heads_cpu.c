/* heads_cpu.c: absorbed MLA for a lone row of the decode class. Between the store of its latent and the output matrix, heads
 * have nothing to do with each other: queries, their turn into the latent's space, attention, values. A lane takes some
 * heads through all of it, so lanes wait for each other once instead of after each op. What an op does for a head is what
 * it always does, bit for bit. Not for long contexts, where attention is better cut by positions (attn_cpu.c), for every
 * lane reads all of the latents here.
 *
 * What heads keep between these ops is kept apart as well: a core that writes up to another's memory has what follows
 * fetched ahead of it, and so takes the lines that the other one is writing. */
#include "../cpu/cpu.h"

enum { LONGEST = 1024 }; /* positions */

typedef struct job {
    pg_cpu *c;
    const pg_op *op; /* [n_op] */
    int n_op, step;
    pg_heads all; /* what lanes share of what they take */
} job;

/* [MATMUL of all heads' queries] ROPE [MLA] MATMUL COPY ATTN MATMUL: number of ops, where heads are `heads`. MLA is for
 * rows of the other class, and has nothing to do here. */
static int match(const pg_code *code, int i, int *heads)
{
    const pg_op *op = &code->op[i];
    const int first = op->code == PG_OP_MATMUL;
    const int mla = i + first + 1 < code->n_op && op[first + 1].code == PG_OP_MLA, n = first + mla + 5;
    if (i + n > code->n_op) return 0;
    const pg_op *rope = op + first, *to = rope + mla + 1, *copy = to + 1, *attn = to + 2, *from = to + 3;
    if (rope->code != PG_OP_ROPE || to->code != PG_OP_MATMUL || copy->code != PG_OP_COPY || attn->code != PG_OP_ATTN ||
        from->code != PG_OP_MATMUL)
        return 0;
    const int H = *heads = attn->a.attn.heads;
    if (first && (op->a.matmul.batch != 1 || op->a.matmul.transposed || op->w->shape[1] % (PG_PANEL * H) ||
                  op->w->shape[1] != (int64_t)H * rope->a.rope.step || op->dst != rope->dst))
        return 0;
    if (rope->a.rope.heads != H || to->a.matmul.batch != H || copy->a.copy.heads != H || from->a.matmul.batch != H ||
        attn->a.attn.kv_heads != 1)
        return 0;
    return to->src[0] == rope->dst && copy->src[0] == rope->dst && copy->dst == to->dst && attn->src[0] == to->dst &&
                   from->src[0] == attn->dst
               ? n
               : 0;
}

/* The values of a chain that hold what its ops hand on to each other. */
static void find_own(const pg_op *op, int n, pg_ref own[3])
{
    own[0] = op->code == PG_OP_MATMUL ? op->dst : PG_NO_REF; /* else queries come from outside */
    own[1] = op[n - 4].dst;
    own[2] = op[n - 2].dst;
}

static int is_read_outside(const pg_code *code, int i, int n, pg_ref r)
{
    for (int a = 0; a < code->n_op; a++)
        for (int s = 0; s < 2; s++)
            if (r != PG_NO_REF && code->op[a].src[s] == r && (a < i || a >= i + n)) return 1;
    return 0;
}

/* What one head writes no other reads: all values stand apart. And what lanes keep in rows of their own nobody else reads. */
int pg_heads_chain(const pg_code *code, int i)
{
    int H = 0;
    const int n = match(code, i, &H);
    pg_ref own[3];
    if (n) find_own(&code->op[i], n, own);
    for (int a = 0; n && a < 3; a++)
        if (is_read_outside(code, i, n, own[a])) return 0;
    for (int a = 0; a < n; a++) {
        const pg_op *w = &code->op[i + a];
        for (int b = 0; b < n; b++) {
            const pg_op *r = &code->op[i + b];
            if (r->dst != w->dst && !pg_is_apart(code, r->dst, w->dst)) return 0;
            for (int s = 0; s < 2; s++)
                if (r->src[s] != PG_NO_REF && r->src[s] != w->dst && !pg_is_apart(code, r->src[s], w->dst)) return 0;
        }
    }
    return n;
}

static void take_heads(void *arg, int item, int lane)
{
    const job *j = arg;
    pg_heads h = j->all;
    h.from = item * j->step;
    h.to = h.from + j->step < h.H ? h.from + j->step : h.H;
    h.lane = lane;
    h.row = item < j->c->code->max_rows ? item : 0; /* too few rows: heads stand in columns of their own all the same */
    for (const pg_op *op = j->op; op < j->op + j->n_op; op++) switch (op->code) {
        case PG_OP_MLA: break;
        case PG_OP_ROPE: pg_rope_heads(j->c, op, &h); break;
        case PG_OP_COPY: pg_copy_heads(j->c, op, &h); break;
        case PG_OP_ATTN: pg_attn_heads(j->c, op, &h); break;
        default: pg_matmul_heads(j->c, op, &h);
        }
}

int pg_cpu_heads(pg_cpu *c, const pg_op *op)
{
    job j = { .c = c, .op = op, .n_op = c->heads[op - c->code->op] };
    const pg_rows *rows = c->rows;
    if (!j.n_op || c->base.watch || rows->n != 1 || rows->n_prefill || rows->pos[0] >= LONGEST) return 0;
    const pg_op *attn = op + j.n_op - 2;
    const int H = j.all.H = attn->a.attn.heads, parts = H < c->n_lane ? H : c->n_lane;
    int64_t bytes = (int64_t)rows->pos[0] * H * (attn->a.attn.dk + attn->a.attn.dv) * PG_PRODUCT_BYTES;
    for (int i = 0; i < j.n_op; i++)
        if (op[i].w) bytes += op[i].w->shape[1] * op[i].w->shape[2] * op[i].w->stride[1];
    if (parts < 2 || pg_cpu_is_small(c, bytes)) return 0;
    j.step = (H + parts - 1) / parts;
    find_own(op, j.n_op, j.all.own);
    pg_lanes_run(c->lanes, take_heads, &j, (H + j.step - 1) / j.step);
    return j.n_op;
}
