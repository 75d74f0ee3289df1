/* rows_amx.c: the AMX products on machines without AMX: their source is compiled here against tiles made of plain memory, after
 * the manual's description, and compared bit for bit with the reference. On a machine that has AMX, rows_formats.c runs
 * the real ones. Needs AVX-512, in which the rest of that file is written. */
#include "rows.h"

#if defined __x86_64__ && defined __GNUC__
#if defined __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")
#endif
#include <immintrin.h>

static struct {
    uint8_t config[64], tile[8][16][64];
} amx;

static int tile_rows(int t)
{
    return amx.config[48 + t];
}
static int tile_width(int t)
{
    return amx.config[16 + 2 * t] | amx.config[17 + 2 * t] << 8;
}
static void amx_config(const void *from)
{
    memcpy(amx.config, from, 64);
    memset(amx.tile, 0, sizeof amx.tile);
    CHECK(amx.config[0] == 1, "palette %d", amx.config[0]);
}
static void amx_release(void)
{
    memset(&amx, 0, sizeof amx);
}
static void amx_zero(int t)
{
    memset(amx.tile[t], 0, sizeof amx.tile[t]);
}
static void amx_load(int t, const void *from, size_t stride)
{
    amx_zero(t);
    for (int r = 0; r < tile_rows(t); r++)
        memcpy(amx.tile[t][r], (const char *)from + (size_t)r * stride, (size_t)tile_width(t));
}
static void amx_store(int t, void *to, size_t stride)
{
    for (int r = 0; r < tile_rows(t); r++)
        memcpy((char *)to + (size_t)r * stride, amx.tile[t][r], (size_t)tile_width(t));
}
/* dst[m][n] += sum over k, i of (signed) a[m][4k + i] * (unsigned) b[k][4n + i]; undefined unless the shapes agree. */
static void amx_dpbsud(int dst, int a, int b)
{
    const int M = tile_rows(dst), N = tile_width(dst) / 4, K = tile_width(a) / 4;
    CHECK(tile_rows(a) == M && tile_rows(b) == K && tile_width(b) == 4 * N, "tiles %d, %d, %d do not fit", dst, a, b);
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            int32_t sum;
            memcpy(&sum, &amx.tile[dst][m][4 * n], 4);
            for (int k = 0; k < 4 * K; k++) sum += (int8_t)amx.tile[a][m][k] * amx.tile[b][k / 4][4 * n + k % 4];
            memcpy(&amx.tile[dst][m][4 * n], &sum, 4);
        }
}
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbsud
#define _tile_loadconfig amx_config
#define _tile_release amx_release
#define _tile_zero amx_zero
#define _tile_loadd amx_load
#define _tile_stored amx_store
#define _tile_dpbsud amx_dpbsud
/* the products of this file, not those of the library */
#define pg_qmul_q8_0_amx soft_q8_0
#define pg_qmul_q4_0_amx soft_q4_0
#define pg_qmul_q4_1_amx soft_q4_1
#define pg_qmul_q5_0_amx soft_q5_0
#define pg_qmul_q5_1_amx soft_q5_1
#define pg_qmul_q2_k_amx soft_q2_k
#define pg_qmul_q3_k_amx soft_q3_k
#define pg_qmul_q4_k_amx soft_q4_k
#define pg_qmul_q5_k_amx soft_q5_k
#define pg_qmul_q6_k_amx soft_q6_k
#define pg_qmul_iq4_nl_amx soft_iq4_nl
#define pg_qmul_iq4_xs_amx soft_iq4_xs
#define pg_qmul_iq2_xxs_amx soft_iq2_xxs
#define pg_qmul_mxfp4_amx soft_mxfp4
#define F(name, type, has_min) static pg_qmul_fn soft_##name;
PG_BLOCK_LIST(F)
#undef F
#include "../../kernels/matmul/qmul_amx.c"
#undef F
#if defined __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static void compare(const char *name, pg_dtype type, pg_qmul_fn *fn, pg_qmul_fn *ref)
{
    enum { MOST = 50, K = 512 };
    static uint8_t stored[16 * 4096];
    static pg_q8 x[MOST * K / 32];
    static float y[MOST * 16 + 1], want[MOST * 16];
    for (int n = 1; n <= MOST; n += n < 20 ? 1 : 7) {
        const int64_t k = rows_below(2) ? K : 256;
        rows_fill_blocks(stored, type, 16 * k);
        for (int64_t i = 0; i < n * k / 32; i++) {
            float v[32];
            for (int j = 0; j < 32; j++) v[j] = rows_below(50) ? rows_uniform() : rows_wide(4);
            pg_q8row_ref(&x[i], 1, v, 32);
        }
        y[n * 16] = 77;
        fn(y, stored, x, n, k);
        ref(want, stored, x, n, k);
        CHECK(rows_same_n(y, want, n * 16) && y[n * 16] == 77, "%s: %d rows, %d columns", name, n, (int)k);
    }
}

static void compare_all(void)
{
#define F(name, type, has_min) compare(#name, type, soft_##name, pg_qmul_##name##_ref);
    PG_BLOCK_LIST(F)
#undef F
}
#else
static void compare_all(void) {}
#endif

int main(void)
{
    const unsigned have = pg_isa_have();
    CHECK(!(have & PG_ISA_amx) || have & PG_ISA_avx512, "tiles are claimed without the registers they are used with");
    if (have & PG_ISA_avx512)
        compare_all();
    else
        printf("this machine lacks AVX-512: the tile products were not tried\n");
    return check_done("rows_amx");
}
