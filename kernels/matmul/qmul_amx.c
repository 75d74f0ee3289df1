/* qmul, AMX: 16 rows meet 32 columns of 16 outputs in one tile product of 8-bit integers; factors are applied to the 16 x 16
 * sums afterwards, in the chain that matmul.h writes down, so the bits are those of every other variant. Tiles pay from
 * LEAST rows on: one row costs a tile as much as sixteen. What 16 does not divide meets a lower pair of tiles.
 * A tile load is not seen by the compiler as a read of memory: hence the barriers before it.
 * Source: Intel 64 and IA-32 Architectures Software Developer's Manual, chapter on AMX; the layout of weights is already
 * the one that tiles want (dwords of 4 columns, an output each). */
#include "../cpu/isa.h"
#include "qmul_codes_avx512.h"

enum { LEAST = 8 };

/* Tiles: products of full and of the last rows; activations of full and of the last rows; weights. Compilers write the
 * numbers into instructions as text, so they cannot be an enum. */
#define SUM 0
#define SUM_LAST 1
#define ROWS 2
#define ROWS_LAST 3
#define CODES 4

typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t width[16]; /* bytes of a row */
    uint8_t rows[16];
} tile_config;

/* Tiles of `columns` columns; `last` rows are left when 16 have gone as often as they can. */
INLINE void configure(int columns, int last)
{
    const tile_config config = { .palette = 1,
                                 .width = { 64, 64, (uint16_t)columns, (uint16_t)columns, 64 },
                                 .rows = { 16, (uint8_t)(last ? last : 1), 16, (uint8_t)(last ? last : 1),
                                           (uint8_t)(columns / 4) } };
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
}

INLINE void store_codes(uint8_t *to, const __m512i c[8])
{
    UNROLL
    for (int j = 0; j < 8; j++) _mm512_store_si512(to + 64 * j, c[j]);
    __asm__ volatile("" : : "r"(to) : "memory");
}

/* sums[16][16] of up to 16 rows with the tile of codes; from: the first byte of each row's columns that it meets. */
INLINE void tile_dot(int32_t *sums, const pg_q8 *x, int from, int full)
{
    if (full) {
        _tile_zero(SUM);
        _tile_loadd(ROWS, x->q + from, sizeof *x);
        _tile_dpbsud(SUM, ROWS, CODES);
        _tile_stored(SUM, sums, 64);
    } else {
        _tile_zero(SUM_LAST);
        _tile_loadd(ROWS_LAST, x->q + from, sizeof *x);
        _tile_dpbsud(SUM_LAST, ROWS_LAST, CODES);
        _tile_stored(SUM_LAST, sums, 64);
    }
    __asm__ volatile("" : : "r"(sums) : "memory");
}

INLINE __m512 add_sums(__m512 y, __m512 d, const pg_q8 *x, const int32_t *sums, int sum, const format512 f)
{
    __m512i dot = _mm512_load_si512(sums);
    if (f.offset) dot = _mm512_sub_epi32(dot, _mm512_set1_epi32(f.offset * sum));
    return _mm512_fmadd_ps(_mm512_mul_ps(d, _mm512_set1_ps(x->d)), _mm512_cvtepi32_ps(dot), y);
}

/* n rows' sums of 32 columns (or of 16 and 16) go into their outputs. */
INLINE void apply(float *y, const pg_q8 *x, int n, const int32_t *low, const int32_t *high, const __m512 d[2],
                  const __m512 m[2], const format512 f)
{
    for (int r = 0; r < n; r++, x++, y += 16) {
        const int rest = x->sum - x->low;
        __m512 sum = _mm512_loadu_ps(y);
        sum = add_sums(sum, d[0], x, low + 16 * r, f.by16 ? x->low : x->sum, f);
        if (f.by16) sum = add_sums(sum, d[1], x, high + 16 * r, rest, f);
        if (f.has_min) sum = _mm512_fmadd_ps(m[0], _mm512_set1_ps(f.by16 ? x->d * (float)x->low : x->ds), sum);
        if (f.has_min && f.by16) sum = _mm512_fmadd_ps(m[1], _mm512_set1_ps(x->d * (float)rest), sum);
        _mm512_storeu_ps(y, sum);
    }
}

/* All rows meet 32 columns: the codes lie in memory, and tiles of them in CODES, 32 columns or 16 after 16. */
INLINE void part(float *y, const uint8_t *codes, const pg_q8 *x, int n_row, const __m512 d[2], const __m512 m[2],
                 const format512 f)
{
    _Alignas(64) int32_t sums[2][16 * 16]; /* of two runs of rows, or of the two halves of one */
    if (!f.by16) {
        _tile_loadd(CODES, codes, 64);
        int before = 0, at = 0; /* the sums of one run are applied while the next is in the tiles */
        for (int r = 0; r < n_row; r += 16, at ^= 1) {
            tile_dot(sums[at], x + r, 0, n_row - r >= 16);
            if (r) apply(y + 16 * before, x + before, 16, sums[at ^ 1], NULL, d, m, f);
            before = r;
        }
        apply(y + 16 * before, x + before, n_row - before, sums[at ^ 1], NULL, d, m, f);
        return;
    }
    for (int r = 0; r < n_row; r += 16) {
        const int n = n_row - r < 16 ? n_row - r : 16;
        for (int half = 0; half < 2; half++) {
            _tile_loadd(CODES, codes + 256 * half, 64);
            tile_dot(sums[half], x + r, 16 * half, n == 16);
        }
        apply(y + 16 * r, x + r, n, sums[0], sums[1], d, m, f);
    }
}

INLINE void qmul(float *y, const uint8_t *w, const pg_q8 *x, int n_row, int64_t k, const format512 f)
{
    _Alignas(64) uint8_t codes[2][8 * 64]; /* the next ones are written while tiles may still be reading */
    __m512i c[8];
    __m512 d[2], m[2];
    configure(f.by16 ? 16 : 32, n_row % 16);
    memset(y, 0, (size_t)n_row * PG_PANEL * sizeof *y);
    for (; k > 0; k -= 32 * f.parts, w += f.bytes) {
        UNROLL
        for (int s = 0; s < f.parts; s++, x += n_row) {
            f.codes(c, w + f.head, s);
            f.factors(d, m, w + f.head, s);
            store_codes(codes[s % 2], c);
            part(y, codes[s % 2], x, n_row, d, m, f);
        }
    }
    _tile_release();
}

#define F(row, codes, factors, bytes, head, parts, offset, by16, has_min, is_mixed)                           \
    void pg_qmul_##row##_amx(float *y, const void *panel, const pg_q8 *x, int n_row, int64_t k)               \
    {                                                                                                         \
        if (n_row < LEAST)                                                                                    \
            pg_qmul_##row##_avx512(y, panel, x, n_row, k);                                                    \
        else                                                                                                  \
            qmul(y, panel, x, n_row, k,                                                                       \
                 (format512){ c_##codes, f_##factors, bytes, head, parts, offset, by16, has_min, is_mixed }); \
    }
FORMATS512(F)
