/* program.c: the verifier of policy programs. Code may say anything; what passes here cannot reach outside its vectors,
 * reads nothing that it has not written, and ends. */
#include "hook.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *result, *operands, *text;
} shape[PG_I_COUNT] = {
#define PG_INSTR(code, name, result, operands) { name, result, operands, name " " result " " operands },
#include "../../kernels/policy/program.def"
};

const char *pg_program_op(int32_t op)
{
    return op >= 0 && op < PG_I_COUNT ? shape[op].text : NULL;
}

/* What is known at one instruction. */
typedef struct check {
    int32_t at, point, n_knob;
    unsigned char defined[PG_REGISTERS];
    int32_t n_vector;
    pg_error *err;
} check;

static int is_vector(int32_t r)
{
    return r < PG_VECTORS;
}

static int refuse(const check *c, const pg_instr *i, const char *why)
{
    return pg_fail(c->err, PG_EINVAL, "program, instruction %d (%s): %s", c->at, shape[i->op].name, why);
}

static int check_operand(check *c, const pg_instr *i, char kind, int32_t r)
{
    if (kind == 'k') return r < c->n_knob ? PG_OK : refuse(c, i, "there is no such knob");
    if (kind == 'c') return isnan(i->value) ? refuse(c, i, "a constant is not a number") : PG_OK;
    if (r >= PG_REGISTERS) return refuse(c, i, "there is no such register");
    if (!c->defined[r]) return refuse(c, i, "a register is read before it is written");
    if (kind == 'v' && !is_vector(r)) return refuse(c, i, "an operand must be a vector");
    if (kind == 's' && is_vector(r)) return refuse(c, i, "an operand must be a scalar");
    return PG_OK;
}

static int check_result(check *c, const pg_instr *i, char kind)
{
    int vectors = 0;
    for (int k = 0; shape[i->op].operands[k]; k++) vectors |= is_vector(i->from[k]);
    if (!kind) return PG_OK;
    if (i->dst >= PG_REGISTERS) return refuse(c, i, "there is no such register");
    if (kind == 'v' && !is_vector(i->dst)) return refuse(c, i, "the result is a vector");
    if (kind == 's' && is_vector(i->dst)) return refuse(c, i, "the result is a scalar");
    if (kind == 'x' && vectors && !is_vector(i->dst)) return refuse(c, i, "the result is a vector, as an operand is");
    c->defined[i->dst] = 1;
    if (is_vector(i->dst) && c->n_vector <= i->dst) c->n_vector = i->dst + 1;
    return PG_OK;
}

/* What a vocabulary does not have. */
static int is_of_experts(int op)
{
    return (op >= PG_I_CHOOSE && op <= PG_I_LOAD) || (op >= PG_I_LAYER && op <= PG_I_N_USED) || op >= PG_I_SET_CHOOSE;
}

static int check_instr(check *c, const pg_instr *i)
{
    int rc = PG_OK;
    if (c->point == PG_PROGRAM_LOGITS && is_of_experts(i->op))
        return refuse(c, i, "a program over logits has no experts");
    for (int k = 0; shape[i->op].operands[k] && rc >= 0; k++)
        rc = check_operand(c, i, shape[i->op].operands[k], i->from[k]);
    return rc < 0 ? rc : check_result(c, i, shape[i->op].result[0]);
}

/* Six words, each of which may be anything. */
static int read_instr(const check *c, const int32_t *word, pg_instr *out)
{
    if (word[0] < 0 || word[0] >= PG_I_COUNT)
        return pg_fail(c->err, PG_EINVAL, "program, instruction %d: there is no instruction %d", c->at, word[0]);
    *out = (pg_instr){ .op = (uint8_t)word[0] };
    for (int k = 1; k < 5; k++)
        if (word[k] < 0 || word[k] >= PG_REGISTERS) return refuse(c, out, "there is no such register");
    out->dst = (uint8_t)word[1];
    for (int k = 0; k < 3; k++) out->from[k] = (uint8_t)word[2 + k];
    memcpy(&out->value, &word[5], sizeof out->value);
    return PG_OK;
}

int pg_program_verify(const pg_program *program, pg_stage_program *out, int *uses, pg_error *err)
{
    check c = { .point = program->point, .n_knob = program->n_knob, .err = err };
    if (program->point != PG_PROGRAM_ROUTE && program->point != PG_PROGRAM_LOGITS)
        return pg_fail(err, PG_EINVAL, "there is no point %d for a program", program->point);
    if (!program->code || program->n < 1 || program->n > PG_PROGRAM_MOST)
        return pg_fail(err, PG_EINVAL, "a program has %d instructions: expected 1 to %d", program->n, PG_PROGRAM_MOST);
    if (program->n_knob < 0 || program->n_knob > PG_KNOBS_MOST)
        return pg_fail(err, PG_EINVAL, "a program has %d knobs: at most %d", program->n_knob, PG_KNOBS_MOST);
    *uses = program->point == PG_PROGRAM_ROUTE ? PG_USES_ROUTE : PG_USES_LOGITS;
    for (; c.at < program->n; c.at++) {
        int rc = read_instr(&c, program->code + 6 * (int64_t)c.at, &out->code[c.at]);
        if (rc < 0 || (rc = check_instr(&c, &out->code[c.at])) < 0) return rc;
        if (out->code[c.at].op == PG_I_LOAD) *uses |= PG_USES_LOAD;
    }
    out->point = program->point;
    out->n = program->n;
    out->n_vector = c.n_vector;
    out->n_knob = program->n_knob;
    return PG_OK;
}

/* ---- the stage ------------------------------------------------------------------------------------------------------ */

static int prepare(pg_engine *e, const pg_program *program, pg_stage_program *p, int *uses, pg_error *err)
{
    const int32_t width = program->point == PG_PROGRAM_LOGITS ? e->hooks->n_vocab : e->hooks->n_expert;
    int rc = pg_program_verify(program, p, uses, err);
    if (rc < 0) return rc;
    if (p->point == PG_PROGRAM_ROUTE && !e->hooks->n_moe)
        return pg_fail(err, PG_EUNSUPPORTED, "this model has no experts to choose from");
    for (int32_t i = 0; i < program->n_knob; i++) {
        if (!program->knob || !program->knob_value)
            return pg_fail(err, PG_EINVAL, "a program's knobs have no names or values");
        if ((rc = pg_knob_declare(e, program->knob[i], program->knob_value[i], err)) < 0) return rc;
        p->knob[i] = rc;
    }
    p->scratch = malloc((size_t)pg_program_scratch(p->n_vector, width));
    return p->scratch ? PG_OK : pg_fail(err, PG_EMEMORY, "no memory for a program");
}

int pg_policy_program(pg_policy *p, const pg_program *program, pg_error *err)
{
    int rc = PG_OK, uses = 0;
    pg_stage *s = pg_policy_stage(p, &rc, err);
    if (!s) return rc;
    if (!program) return pg_fail(err, PG_EINVAL, "no program");
    pg_stage_program *code = calloc(1, sizeof *code);
    rc = code ? prepare(p->engine, program, code, &uses, err) : pg_fail(err, PG_EMEMORY, "no memory for a program");
    if (rc < 0) {
        free(code);
        return rc;
    }
    s->as.program = code;
    pg_policy_added(p, PG_STAGE_PROGRAM, uses);
    return PG_OK;
}
