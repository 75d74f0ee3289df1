/* isa: asks the processor what it can do and points the rows at their variants.
 *
 * Source: Intel SDM vol. 2A, CPUID; vol. 1, 13.3 (XCR0); Linux Documentation/arch/x86/xstate.rst. */
#include "isa.h"

#if defined __x86_64__
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define PG_ROW(row) pg_##row##_fn *pg_##row = pg_##row##_ref;
#define PG_VARIANT(row, isa)
#include "../variants.def"

void pg_isa_pick(unsigned have)
{
#define PG_ROW(row)
#define PG_VARIANT(row, isa) \
    if (have & PG_ISA_##isa) pg_##row = pg_##row##_##isa;
#include "../variants.def"
}

static const char *const level_name[] = { "ref", "avx2", "avx512", "amx" };
enum { N_LEVEL = sizeof level_name / sizeof *level_name };

unsigned pg_isa_allowed(const char *cap)
{
    if (!cap || !*cap) return (1u << N_LEVEL) - 1;
    for (int i = 0; i < N_LEVEL; i++)
        if (strcmp(cap, level_name[i]) == 0) return (2u << i) - 1;
    return 0;
}

const char *pg_isa_name(unsigned have)
{
    int top = 0;
    for (int i = 1; i < N_LEVEL; i++)
        if (have & 1u << i) top = i;
    return level_name[top];
}

#if defined __x86_64__

/* True if all of the bits are set. */
static int has(unsigned reg, unsigned bits)
{
    return (reg & bits) == bits;
}

/* XCR0: the register states that the operating system saves. */
static unsigned os_saves(void)
{
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return lo;
}

/* The kernel grants the 8 KiB of tile state to a process only on request. */
static int amx_granted(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
#if defined __linux__
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return 0;
#endif
}

unsigned pg_isa_have(void)
{
    enum { OS_AVX = 0x6, OS_AVX512 = 0xe6, OS_AMX = 0x60000 };
    const unsigned vnni = 1u << 11, tile_bf16 = 1u << 22, tile = 1u << 24, tile_int8 = 1u << 25;
    unsigned have = PG_ISA_ref, a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C)) return have;
    const unsigned os = os_saves();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !has(os, OS_AVX) || !has(b, bit_AVX2)) return have;
    have |= PG_ISA_avx2;
    if (!has(os, OS_AVX512) || !has(b, bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ) || !has(c, vnni))
        return have;
    have |= PG_ISA_avx512;
    if (has(os, OS_AMX) && has(d, tile | tile_int8 | tile_bf16) && amx_granted()) have |= PG_ISA_amx;
    return have;
}

#else

unsigned pg_isa_have(void)
{
    return PG_ISA_ref;
}

#endif

pg_unpack_fn *pg_unpack_of(pg_dtype type)
{
    switch (type) {
    case PG_F32: return pg_unpack_f32;
    case PG_F16: return pg_unpack_f16;
    case PG_BF16: return pg_unpack_bf16;
    case PG_FP8: return pg_unpack_fp8;
    case PG_Q8_0: return pg_unpack_q8_0;
    case PG_Q4_0: return pg_unpack_q4_0;
    case PG_Q4_1: return pg_unpack_q4_1;
    case PG_Q5_0: return pg_unpack_q5_0;
    case PG_Q5_1: return pg_unpack_q5_1;
    case PG_Q2_K: return pg_unpack_q2_k;
    case PG_Q3_K: return pg_unpack_q3_k;
    case PG_Q4_K: return pg_unpack_q4_k;
    case PG_Q5_K: return pg_unpack_q5_k;
    case PG_Q6_K: return pg_unpack_q6_k;
    case PG_IQ4_NL: return pg_unpack_iq4_nl;
    case PG_IQ4_XS: return pg_unpack_iq4_xs;
    case PG_IQ2_XXS: return pg_unpack_iq2_xxs;
    case PG_MXFP4: return pg_unpack_mxfp4;
    default: return NULL;
    }
}

pg_pack_fn *pg_pack_of(pg_dtype type)
{
    switch (type) {
    case PG_F32: return pg_pack_f32;
    case PG_F16: return pg_pack_f16;
    case PG_BF16: return pg_pack_bf16;
    case PG_Q8_0: return pg_pack_q8_0;
    default: return NULL;
    }
}

pg_fdot16_fn *pg_fdot16_of(pg_dtype type)
{
    return type == PG_F16 ? pg_fdot_f16 : type == PG_BF16 ? pg_fdot_bf16 : NULL;
}

pg_qmul_fn *pg_qmul_of(pg_dtype type)
{
    switch (type) {
    case PG_Q8_0: return pg_qmul_q8_0;
    case PG_Q4_0: return pg_qmul_q4_0;
    case PG_Q4_1: return pg_qmul_q4_1;
    case PG_Q5_0: return pg_qmul_q5_0;
    case PG_Q5_1: return pg_qmul_q5_1;
    case PG_Q2_K: return pg_qmul_q2_k;
    case PG_Q3_K: return pg_qmul_q3_k;
    case PG_Q4_K: return pg_qmul_q4_k;
    case PG_Q5_K: return pg_qmul_q5_k;
    case PG_Q6_K: return pg_qmul_q6_k;
    case PG_IQ4_NL: return pg_qmul_iq4_nl;
    case PG_IQ4_XS: return pg_qmul_iq4_xs;
    case PG_IQ2_XXS: return pg_qmul_iq2_xxs;
    case PG_MXFP4: return pg_qmul_mxfp4;
    default: return NULL;
    }
}
