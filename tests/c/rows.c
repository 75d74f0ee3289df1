/* rows: every variant of every row kernel in variants.def that this machine has, against its reference. A listed row
 * without a test does not compile. The references themselves are held to the formats' formulas in rows_formats.c and
 * to double precision in rows_float.c. */
#include "rows_exact.h"
#include "rows_qmul.h"

#define UNPACK(name, type)                                                   \
    static void test_unpack_##name(pg_unpack_fn *fn, const char *isa)        \
    {                                                                        \
        unpack_case(fn, pg_unpack_##name##_ref, type, "unpack_" #name, isa); \
    }
#define PACK(name, type)                                               \
    static void test_pack_##name(pg_pack_fn *fn, const char *isa)      \
    {                                                                  \
        pack_case(fn, pg_pack_##name##_ref, type, "pack_" #name, isa); \
    }
#define QUANT(name, type, has_min)                                \
    UNPACK(name, type)                                            \
    static void test_qmul_##name(pg_qmul_fn *fn, const char *isa) \
    {                                                             \
        qmul_case(fn, pg_qmul_##name##_ref, type, isa);           \
    }
UNPACK(f32, PG_F32)
UNPACK(f16, PG_F16)
UNPACK(bf16, PG_BF16)
UNPACK(fp8, PG_FP8)
PACK(f32, PG_F32)
PACK(f16, PG_F16)
PACK(bf16, PG_BF16)
PACK(q8_0, PG_Q8_0)
PG_BLOCK_LIST(QUANT)

/* Runs one test; a test that checked nothing is a failure. */
#define RUN(row, isa)                                                                              \
    do {                                                                                           \
        const int before = check_passed + check_failed;                                            \
        rows_seed = 1;                                                                             \
        test_##row(pg_##row##_##isa, #isa);                                                        \
        CHECK(check_passed + check_failed > before, "%s %s: its test checks nothing", #row, #isa); \
        n_variant++;                                                                               \
    } while (0);

/* After a pick of one level every pointer is that level's variant, or the best below it. */
static void test_pick(unsigned have)
{
    pg_isa_pick(have);
#define PG_ROW(row) void (*want_##row)(void) = NULL;
#define PG_VARIANT(row, isa) \
    if (have & PG_ISA_##isa) want_##row = (void (*)(void))pg_##row##_##isa;
#include "../../kernels/variants.def"
#define PG_ROW(row) CHECK((void (*)(void))pg_##row == want_##row, "%s with levels %x", #row, have);
#define PG_VARIANT(row, isa)
#include "../../kernels/variants.def"
}

int main(void)
{
    const unsigned have = pg_isa_have();
    int n_variant = 0, n_absent = 0;
#define PG_ROW(row) CHECK(pg_##row == pg_##row##_ref, "%s before any pick", #row);
#define PG_VARIANT(row, isa)
#include "../../kernels/variants.def"
#define PG_ROW(row)
#define PG_VARIANT(row, isa) \
    if (have & PG_ISA_##isa) \
        RUN(row, isa)        \
    else                     \
        n_absent++;
#include "../../kernels/variants.def"
    test_pick(PG_ISA_ref);
    test_pick(have & (PG_ISA_ref | PG_ISA_avx2));
    test_pick(have);
    printf("%d variants tested, %d need an instruction set that this machine lacks; it has %s\n", n_variant, n_absent,
           pg_isa_name(have));
    return check_done("rows");
}
