/* program: the bytecode of policy programs: straight-line vector code over the experts of a layer, or over a vocabulary.
 *
 * Why so: without jumps a program that has been verified (engine/hook/program.c) is known to end, after work that is
 * linear in its length and n log n in its vectors; so it may run between any two ops, on any device.
 * Not numbers, infinities and whatever else a program computes are its own affair: its outputs are checked where they are
 * used (route/route_cpu.c, engine/hook). */
#ifndef PG_POLICY_PROGRAM_H
#define PG_POLICY_PROGRAM_H

#include <stdint.h>

enum {
#define PG_INSTR(code, name, result, operands) PG_I_##code,
#include "program.def"
    PG_I_COUNT
};

/* Registers: 0 .. PG_VECTORS - 1 hold vectors, the next PG_SCALARS numbers. */
enum {
    PG_VECTORS = 32,
    PG_SCALARS = 64,
    PG_REGISTERS = PG_VECTORS + PG_SCALARS,
    PG_PROGRAM_MOST = 256,
    PG_KNOBS_MOST = 64
};

typedef struct pg_instr {
    uint8_t op;      /* PG_I_* */
    uint8_t dst;     /* register */
    uint8_t from[3]; /* registers; KNOB: from[0] is the number of the knob */
    float value;     /* CONST */
} pg_instr;

/* One row that a program runs on. */
typedef struct pg_program_row {
    int32_t n;              /* numbers of a vector */
    float *scores, *choose; /* [n] in and out; choose NULL for a vocabulary */
    const float *load;      /* [n] or NULL */
    float top, cumulative;  /* in and out */
    float layer, position, prompt, n_used;
    int sigmoid;       /* probs: 1 sigmoid, 0 softmax */
    const float *knob; /* values, by number */
} pg_program_row;

/* Bytes of scratch for a program that uses n_vector vector registers. */
static inline int64_t pg_program_scratch(int32_t n_vector, int64_t n)
{
    return ((int64_t)n_vector + 2) * n * (int64_t)sizeof(float); /* the first two are for sorting */
}

/* Run verified code over one row. scratch: as above, aligned to floats, its contents do not matter. */
void pg_program_run(const pg_instr *code, int32_t n_code, pg_program_row *row, float *scratch);

#endif
