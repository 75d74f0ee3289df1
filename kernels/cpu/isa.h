/* isa: which row kernels run on this machine.
 *
 * Lives here: the instruction set levels, the function pointers pg_<row> that ops call, and the declaration of every
 * variant pg_<row>_<isa>, all made from variants.def. Not here: the kernels' contracts (the header of each family).
 * Why pointers: one library for all machines; they hold the reference until the first pick, so a call is right even
 * before it. The pick is process-wide and must not run while ops do. */
#ifndef PG_ISA_H
#define PG_ISA_H

#include "../attn/attn.h"
#include "../glu/glu.h"
#include "../matmul/matmul.h"
#include "../norm/norm.h"
#include "../stream/stream.h"
#include "../unpack/unpack.h"

enum {
    PG_ISA_ref = 1,    /* plain C, everywhere */
    PG_ISA_avx2 = 2,   /* AVX2, FMA, F16C */
    PG_ISA_avx512 = 4, /* AVX-512 F, BW, VL, DQ, VNNI */
    PG_ISA_amx = 8     /* AMX tiles, int8 and bf16 */
};

/* Bits of the levels that this machine has and its operating system saves. Asks Linux for the AMX tiles if the
 * processor has them, which touches the whole process; harmless to repeat. */
unsigned pg_isa_have(void);

/* Bits of the levels up to the named one: "ref", "avx2", "avx512", "amx"; NULL or "" = all; unknown name = 0. */
unsigned pg_isa_allowed(const char *cap);

/* Points every row at its last listed variant among `have`. */
void pg_isa_pick(unsigned have);

/* Name of the highest level among `have`; static memory. */
const char *pg_isa_name(unsigned have);

#define PG_ROW(row)
#define PG_ROW_TYPED(fn, row) typedef pg_##fn##_fn pg_##row##_fn;
#define PG_VARIANT(row, isa)
#include "../variants.def"

#define PG_ROW(row) extern pg_##row##_fn *pg_##row;
#define PG_VARIANT(row, isa) pg_##row##_fn pg_##row##_##isa;
#include "../variants.def"

#endif
