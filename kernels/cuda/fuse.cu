/* fuse.cu: neighbouring ops of a decode step that run as one launch.
 *
 * A step of one row is bound by its launches as much as by memory: each begins and ends slowly, and waits for the one
 * before. So when a plan is prepared, runs of ops are looked up in a table: what a run looks like, and who launches it.
 * A launcher may refuse, for the rows of the step or for a shape that its kernel lacks; then the ops run one by one.
 * Every run is a valid order of the plan's ops that leaves the same bits, but for values that only the run itself reads,
 * which may not be written at all. Not here: the kernels, which are in their families' folders. */
#include "backend.cuh"
#include "fuse.cuh"

#include <stdlib.h>

static int64_t bytes_of(const pg_code *code, pg_ref r)
{
    const pg_value *v = &code->value[r];
    return (int64_t)v->width * 4 * (v->rows == PG_ROWS_ALL ? code->max_rows : code->max_sampled);
}

/* Whether two values share memory: a launch may not write what its other blocks still read. */
static int overlap(const pg_code *code, pg_ref a, pg_ref b)
{
    const int64_t at = code->value[a].offset, bt = code->value[b].offset;
    return at < bt + bytes_of(code, b) && bt < at + bytes_of(code, a);
}

static int readers(const pg_code *code, pg_ref r)
{
    int n = 0;
    for (int32_t i = 0; i < code->n_op; i++) n += (code->op[i].src[0] == r) + (code->op[i].src[1] == r);
    return n;
}

static const pg_op *at(const pg_code *code, int32_t i)
{
    static const pg_op none = { PG_OP_COUNT, PG_NO_REF, { PG_NO_REF, PG_NO_REF }, NULL, NULL, 0, {} };
    return i < code->n_op ? &code->op[i] : &none;
}

/* An ADD of `what`, which nobody else reads, to something else. */
static int adds(const pg_code *code, const pg_op *add, pg_ref what)
{
    return add->code == PG_OP_ADD && add->src[1] == what && add->src[0] != what && add->dst != what &&
           readers(code, what) == 1;
}

static void put(pg_fusion *f, int32_t op)
{
    f->op[f->n++] = op;
}

/* ---- [NORM] MATMUL ... [ADD], and NORM MATMUL HOOK ROUTE ----------------------------------------------------------- */

static int is_norm_of_row(const pg_code *code, const pg_op *op)
{
    return op->code == PG_OP_NORM && op->dst != op->src[0] && op->a.norm.count == 1 &&
           op->a.norm.n == code->value[op->src[0]].width;
}

static int find_product(const pg_code *code, int32_t i, pg_fusion *f)
{
    const pg_op *norm = is_norm_of_row(code, at(code, i)) ? at(code, i) : NULL, *first = at(code, i + (norm != NULL));
    if (first->code != PG_OP_MATMUL || first->a.matmul.batch != 1 || first->a.matmul.transposed) return 0;
    if (norm && first->src[0] != norm->dst) return 0;
    const int n = pg_cuda_group(code, first);
    const pg_op *add = n == 1 && adds(code, at(code, i + 1 + (norm != NULL)), first->dst) ? first + 1 : NULL;
    const pg_ref x = norm ? norm->src[0] : first->src[0];
    if (add && (overlap(code, add->dst, x) || (norm && overlap(code, add->dst, norm->dst)))) add = NULL;
    if (norm && overlap(code, norm->dst, x)) return 0;
    for (int k = 0; k < n && norm; k++)
        if (overlap(code, first[k].dst, x)) return 0;
    if (!n || (!norm && !add)) return 0;
    for (int k = 0; k < n + (norm != NULL) + (add != NULL); k++) put(f, i + k);
    const pg_op *hook = at(code, i + 2), *route = hook->code == PG_OP_HOOK ? at(code, i + 3) : hook;
    if (n == 1 && norm && !add && route->code == PG_OP_ROUTE && route->src[0] == first->dst &&
        !overlap(code, route->dst, x))
        while (f->op[f->n - 1] < route - code->op) put(f, f->op[f->n - 1] + 1);
    return 1;
}

static int run_product(pg_cuda *c, const pg_fusion *f)
{
    const pg_op *op = c->code->op, *first = &op[f->op[0]], *last = &op[f->op[f->n - 1]];
    const pg_op *norm = first->code == PG_OP_NORM ? first : NULL, *then = last->code == PG_OP_MATMUL ? NULL : last;
    const pg_op *op0 = norm ? first + 1 : first;
    if (!pg_cuda_multiply_one(c, norm, op0, then)) return f->n;
    /* who is steered has a ROUTE of his own */
    return then && then->code == PG_OP_ROUTE && !pg_cuda_multiply_one(c, norm, op0, NULL) ? 2 : 0;
}

/* ---- what happens to heads between products and attention ---------------------------------------------------------- */

static int is_of_heads(const pg_op *op)
{
    return op->code == PG_OP_ROPE || op->code == PG_OP_STORE || op->code == PG_OP_CLAMP ||
           (op->code == PG_OP_NORM && op->dst == op->src[0]);
}

/* MLA's COPY stands behind the product that fills other columns of the same value; it need not wait for it. */
static int find_heads(const pg_code *code, int32_t i, pg_fusion *f)
{
    for (; is_of_heads(at(code, i)) && f->n < PG_FUSED - 1; i++) put(f, i);
    if (!f->n) return 0;
    if (at(code, i)->code == PG_OP_MLA) i++;
    const pg_op *product = at(code, i), *copy = at(code, i + 1);
    if (product->code == PG_OP_MATMUL && product->a.matmul.batch > 1 && copy->code == PG_OP_COPY &&
        copy->src[0] == product->src[0] && copy->dst == product->dst && !overlap(code, copy->dst, copy->src[0]))
        put(f, i + 1);
    return f->n > 1;
}

/* ---- EXPERTS and the shared expert --------------------------------------------------------------------------------- */

static int is_plain_product(const pg_op *op)
{
    return op->code == PG_OP_MATMUL && op->a.matmul.batch == 1 && !op->a.matmul.transposed && !op->a.matmul.exact &&
           op->a.matmul.scale == 1 && !op->v;
}

/* EXPERTS; a network of the same rows, added; and the sum added to something. Whatever the second pass writes, it reads
 * hidden values from scratch and each output's own addends, so only the choice must not share memory with it. */
static int find_experts(const pg_code *code, int32_t i, pg_fusion *f)
{
    const pg_op *op = at(code, i), *gate = at(code, i + 1), *up = at(code, i + 2), *glu = at(code, i + 3),
                *down = at(code, i + 4), *both = at(code, i + 5);
    if (op->code != PG_OP_EXPERTS) return 0;
    const int shared = is_plain_product(gate) && is_plain_product(up) && glu->code == PG_OP_GLU &&
                       is_plain_product(down) && gate->src[0] == op->src[0] && up->src[0] == op->src[0] &&
                       glu->src[0] == gate->dst && glu->src[1] == up->dst && down->src[0] == glu->dst &&
                       both->code == PG_OP_ADD && both->src[0] == op->dst && both->src[1] == down->dst &&
                       readers(code, op->dst) == 1 && readers(code, gate->dst) == 1 && readers(code, up->dst) == 1 &&
                       readers(code, glu->dst) == 1 && readers(code, down->dst) == 1;
    const int n = shared ? 6 : 1;
    const pg_op *add = at(code, i + n);
    const int added = adds(code, add, at(code, i + n - 1)->dst) && !overlap(code, add->dst, op->src[1]);
    if (!shared && !added) return 0;
    if (shared && !added && overlap(code, both->dst, op->src[1])) return 0;
    for (int k = 0; k < n + added; k++) put(f, i + k);
    return 1;
}

static int run_experts(pg_cuda *c, const pg_fusion *f)
{
    const pg_op *op = &c->code->op[f->op[0]];
    const int shared = f->n > 2;
    const pg_op *add = f->n == 2 || f->n == 7 ? &c->code->op[f->op[f->n - 1]] : NULL;
    return pg_cuda_experts_one(c, op, shared ? op + 1 : NULL, add) ? 0 : f->n;
}

static int run_heads(pg_cuda *c, const pg_fusion *f)
{
    const pg_op *op[PG_FUSED];
    for (int i = 0; i < f->n; i++) op[i] = &c->code->op[f->op[i]];
    return pg_cuda_heads(c, op, f->n) ? 0 : f->n;
}

/* ---- the table ----------------------------------------------------------------------------------------------------- */

static const struct {
    int (*find)(const pg_code *code, int32_t i, pg_fusion *f); /* a run that begins with op i: 1 */
    int (*run)(pg_cuda *c, const pg_fusion *f); /* launched: the first so many ops; 0: not in this step */
} table[] = { { find_product, run_product }, { find_heads, run_heads }, { find_experts, run_experts } };
enum { KINDS = sizeof table / sizeof *table };

/* What only a run itself reads here may be needed elsewhere. */
static int is_asked_for(const pg_cuda_backend *b, const pg_fusion *f)
{
    for (int k = 0; k < f->n; k++)
        for (int32_t i = 0; i < b->n_asked; i++)
            if (b->c.code->op[f->op[k]].dst == b->asked[i] && k < f->n - 1) return 1;
    return 0;
}

int pg_fuse_open(pg_cuda_backend *b)
{
    const pg_code *code = b->c.code;
    const char *off = getenv("PERIGEE_CUDA_FUSE");
    b->fused = static_cast<unsigned char *>(calloc((size_t)code->n_op + 1, 1));
    b->fusion = static_cast<pg_fusion *>(calloc((size_t)code->n_op + 1, sizeof *b->fusion));
    if (!b->fused || !b->fusion) return -1;
    if (pg_cuda_try(&b->c, cudaMalloc(&b->c.count, sizeof *b->c.count), "memory for the ops") ||
        pg_cuda_try(&b->c, cudaMemsetAsync(b->c.count, 0, sizeof *b->c.count, b->c.stream), "clearing memory"))
        return -1;
    if (off && off[0] == '0') return 0;
    for (int32_t i = 0; i < code->n_op; i++)
        for (int kind = 0; kind < KINDS && !b->fusion[i].n; kind++) {
            b->fusion[i].kind = kind;
            if (!table[kind].find(code, i, &b->fusion[i]) || is_asked_for(b, &b->fusion[i])) b->fusion[i].n = 0;
        }
    return 0;
}

void pg_fuse_close(pg_cuda_backend *b)
{
    free(b->fused);
    free(b->fusion);
    cudaFree(b->c.count);
}

void pg_fuse_begin(pg_cuda_backend *b)
{
    memset(b->fused, 0, (size_t)b->c.code->n_op);
}

int pg_fuse_run(pg_cuda_backend *b, int32_t i)
{
    const pg_fusion *f = &b->fusion[i];
    if (b->fused[i]) return 1;
    const int n = f->n && !b->c.rows_prefill ? table[f->kind].run(&b->c, f) : 0;
    for (int k = 0; k < n; k++) b->fused[f->op[k]] = 1;
    return n > 0;
}
