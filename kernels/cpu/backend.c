/* backend.c: the CPU backend: memory for one plan, a table of ops, a loop over it. */
#include "cpu.h"
#include "../moe/moe.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

static void (*const run_op[PG_OP_COUNT])(pg_cpu *, const pg_op *) = {
#define PG_OP(code, row) [PG_OP_##code] = pg_cpu_##row,
#include "../op.def"
};

static pg_need need_of_op(const pg_code *code, const pg_op *op)
{
    switch (op->code) {
    case PG_OP_MATMUL: return pg_matmul_need(code, op);
    case PG_OP_ATTN: return pg_attn_need(code, op);
    case PG_OP_MLA: return pg_mla_need(code, op);
    case PG_OP_EXPERTS: return pg_experts_need(code, op);
    default: return (pg_need){ 0 };
    }
}

/* Scratch for the op that needs most of it, and all that is kept. */
static pg_need need_of(const pg_code *code)
{
    pg_need most = { 64, 64, 0 };
    for (int i = 0; i < code->n_op; i++) {
        const pg_need need = need_of_op(code, &code->op[i]);
        if (need.lane > most.lane) most.lane = need.lane;
        if (need.shared > most.shared) most.shared = need.shared;
        most.kept += pg_round_up(need.kept, 64);
    }
    most.lane = pg_round_up(most.lane, 64);
    most.shared = pg_round_up(most.shared, 64);
    return most;
}

/* Multiplications that follow each other and read the same rows, none of which another one writes; experts and a shared
 * network. */
static int group_at(const pg_code *code, int i)
{
    const pg_op *first = &code->op[i];
    int n = 1;
    if (first->code == PG_OP_EXPERTS) return 1 + pg_experts_shared(code, i);
    if (first->code != PG_OP_MATMUL || first->a.matmul.batch != 1 || first->a.matmul.transposed) return 1;
    for (const pg_op *op = first + 1; n < PG_GROUP && i + n < code->n_op; n++, op++)
        if (op->code != PG_OP_MATMUL || op->src[0] != first->src[0] || op->dst == first->src[0] ||
            op->a.matmul.batch != 1 || op->a.matmul.transposed ||
            pg_matmul_rounds(code, op) != pg_matmul_rounds(code, first))
            break;
    return first->dst == first->src[0] ? 1 : n;
}

static int64_t memory(const pg_backend *b, const pg_code *code)
{
    const pg_need need = need_of(code);
    return code->arena_bytes + need.shared + need.lane * ((const pg_cpu *)b)->n_lane + need.kept;
}

/* One mapping that the system commits page by page as steps grow into it. */
static int prepare(pg_backend *b, const pg_code *code)
{
    pg_cpu *c = (pg_cpu *)b;
    const pg_need need = need_of(code);
    c->map_bytes = memory(b, code);
    c->arena = mmap(NULL, (size_t)c->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (c->arena == MAP_FAILED) {
        c->arena = NULL;
        return -1;
    }
    (void)madvise(c->arena, (size_t)c->map_bytes, MADV_HUGEPAGE); /* a step walks all of it, row by row */
    c->group = malloc((size_t)code->n_op + 1);
    c->heads = malloc((size_t)code->n_op + 1);
    c->kept = calloc((size_t)code->n_op + 1, sizeof *c->kept);
    if (!c->group || !c->heads || !c->kept) return -1;
    char *kept = c->arena + c->map_bytes - need.kept;
    for (int i = 0; i < code->n_op; i++) {
        c->group[i] = (unsigned char)group_at(code, i);
        c->heads[i] = (unsigned char)pg_heads_chain(code, i);
        c->kept[i].at = kept;
        kept += pg_round_up(need_of_op(code, &code->op[i]).kept, 64);
    }
    c->code = code;
    c->shared = c->arena + code->arena_bytes;
    c->scratch = c->shared + need.shared;
    c->lane_bytes = need.lane;
    return 0;
}

static int run(pg_backend *b, const pg_rows *rows, const pg_kv *kv)
{
    pg_cpu *c = (pg_cpu *)b;
    c->rows = rows;
    c->kv = kv;
    pg_tune_begin(c);
    for (int i = 0, n; i < c->code->n_op; i += n) {
        const pg_op *op = &c->code->op[i];
        if ((n = pg_cpu_heads(c, op))) continue;
        run_op[op->code](c, op);
        n = pg_cpu_group(c, op);
    }
    pg_tune_end(c);
    return 0;
}

static const void *read_value(pg_backend *b, pg_ref value)
{
    return pg_cpu_rows((pg_cpu *)b, value);
}

static void spread(pg_backend *b, pg_lane_fn *fn, void *arg, int n_item)
{
    pg_lanes_run(((pg_cpu *)b)->lanes, fn, arg, n_item);
}

static void close_cpu(pg_backend *b)
{
    pg_cpu *c = (pg_cpu *)b;
    pg_lanes_close(c->lanes);
    if (c->arena) munmap(c->arena, (size_t)c->map_bytes);
    free(c->group);
    free(c->heads);
    free(c->kept);
    free(c);
}

static const pg_backend_ops cpu_ops = { .name = "cpu",
                                        .prepare = prepare,
                                        .memory = memory,
                                        .run = run,
                                        .read = read_value,
                                        .spread = spread,
                                        .close = close_cpu };

pg_backend *pg_cpu_open(int n_lane, const char *isa, const char **why)
{
    const unsigned allowed = pg_isa_allowed(isa), have = allowed & pg_isa_have();
    if (!allowed) {
        *why = "PERIGEE_ISA must be one of ref, avx2, avx512, amx";
        return NULL;
    }
    pg_cpu *c = calloc(1, sizeof *c);
    *why = "no memory for the CPU backend";
    if (!c) return NULL;
    *c = (pg_cpu){ .base.ops = &cpu_ops, .n_lane = n_lane, .isa = have };
    *why = "the worker threads could not be started";
    if (!(c->lanes = pg_lanes_open(n_lane))) {
        free(c);
        return NULL;
    }
    pg_tune_open(c);
    static _Atomic unsigned
        picked; /* engines of one process share the pick; repeating it under a running one is not safe */
    if (atomic_exchange(&picked, have) != have) pg_isa_pick(have);
    return &c->base;
}

const char *pg_cpu_isa(const pg_backend *b)
{
    return pg_isa_name(((const pg_cpu *)b)->isa);
}
