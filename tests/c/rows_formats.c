/* rows_formats: scalar conversions, block formats and the matrix row reader against their definitions, and the levels
 * of isa.c. The formulas here are written after the format's description, element by element in double, and share
 * nothing with the library's decoders; the vectors are from an independent implementation. */
#include "rows.h"

static int half_bits(const uint8_t *w)
{
    return w[0] | w[1] << 8;
}

/* A 16-bit float by its definition: sign, exponent of 5 bits with bias 15, fraction of 10. */
static double half_value(int h)
{
    const int e = h >> 10 & 31, m = h & 1023;
    const double sign = h & 0x8000 ? -1.0 : 1.0;
    if (e == 31) return m ? (double)NAN : sign * (double)INFINITY;
    return sign * (e ? ldexp(1024 + m, e - 25) : ldexp(m, -24));
}

static double fp8_value(int b)
{
    const int e = b >> 3 & 15, m = b & 7;
    const double sign = b & 0x80 ? -1.0 : 1.0;
    if (e == 15 && m == 7) return (double)NAN;
    return sign * (e ? ldexp(8 + m, e - 10) : ldexp(m, -9));
}

static const int iq4[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
static const double e2m1[16] = { 0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6 };

static int nib(const uint8_t *qs, int i)
{
    return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}
static int bit32(const uint8_t *w, int i)
{
    const uint32_t u = (uint32_t)w[0] | (uint32_t)w[1] << 8 | (uint32_t)w[2] << 16 | (uint32_t)w[3] << 24;
    return u >> i & 1;
}

static void k4(const uint8_t *s, int j, int *sc, int *m)
{
    *sc = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4);
    *m = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
}

/* Row a of the library's grid in the format's own spelling, two bits an element: test_grid vouches for these codes. */
static int grid_code(int a)
{
    int code = 0;
    for (int j = 0; j < 8; j++) {
        const int size = pg_iq2_grid[a][j];
        code |= (size == 8 ? 0 : size == 25 ? 1 : size == 43 ? 2 : 3) << 2 * j;
    }
    return code;
}

static double value_iq2_xxs(const uint8_t *b, int i)
{
    static const int size[4] = { 8, 25, 43, 0 };
    const uint8_t *g = b + 2 + 8 * (i / 32);
    const int t = i % 32 / 8, j = i % 8;
    int sign = 0, ones = 0, scale = 0;
    for (int k = 0; k < 7; k++) {
        ones += bit32(g + 4, 7 * t + k);
        sign |= bit32(g + 4, 7 * t + k) << k;
    }
    for (int k = 0; k < 4; k++) scale += bit32(g + 4, 28 + k) << k;
    if (ones % 2) sign += 128;
    return half_value(half_bits(b)) * (0.5 + scale) * 0.25 * size[grid_code(g[t]) >> 2 * j & 3] *
           (sign >> j & 1 ? -1 : 1);
}

static double value_k(pg_dtype type, const uint8_t *b, int i)
{
    const int n = i / 128, g = i % 128 / 32, l = i % 32, j = i / 32, k = i / 16;
    int sc, m;
    switch (type) {
    case PG_Q2_K:
        return half_value(half_bits(b + 80)) * (b[k] & 15) * (b[16 + 32 * n + l] >> 2 * g & 3) -
               half_value(half_bits(b + 82)) * (b[k] >> 4);
    case PG_Q3_K:
        sc = k < 8 ? b[96 + k] & 15 : b[96 + k - 8] >> 4;
        sc = (sc | (b[96 + 8 + k % 4] >> 2 * (k / 4) & 3) * 16) - 32;
        return half_value(half_bits(b + 108)) * sc *
               ((b[32 + 32 * n + l] >> 2 * g & 3) - (b[l] >> (4 * n + g) & 1 ? 0 : 4));
    case PG_Q4_K:
        k4(b + 4, j, &sc, &m);
        return half_value(half_bits(b)) * sc * (b[16 + 32 * (j / 2) + l] >> 4 * (j & 1) & 15) -
               half_value(half_bits(b + 2)) * m;
    case PG_Q5_K:
        k4(b + 4, j, &sc, &m);
        return half_value(half_bits(b)) * sc *
                   ((b[48 + 32 * (j / 2) + l] >> 4 * (j & 1) & 15) + 16 * (b[16 + l] >> j & 1)) -
               half_value(half_bits(b + 2)) * m;
    case PG_Q6_K:
        m = (b[64 * n + 32 * (g & 1) + l] >> 4 * (g >> 1) & 15) | 16 * (b[128 + 32 * n + l] >> 2 * g & 3);
        return half_value(half_bits(b + 208)) * (int8_t)b[192 + k] * (m - 32);
    case PG_IQ2_XXS: return value_iq2_xxs(b, i);
    default: /* IQ4_XS */
        sc = (b[4 + j / 2] >> 4 * (j & 1) & 15) | (half_bits(b + 2) >> 2 * j & 3) << 4;
        return half_value(half_bits(b)) * (sc - 32) * iq4[b[8 + 16 * j + (l & 15)] >> 4 * (l >> 4) & 15];
    }
}

/* Element i of the block at b. */
static double value(pg_dtype type, const uint8_t *b, int i)
{
    switch (type) {
    case PG_Q8_0: return half_value(half_bits(b)) * (int8_t)b[2 + i];
    case PG_Q4_0: return half_value(half_bits(b)) * (nib(b + 2, i) - 8);
    case PG_Q4_1: return half_value(half_bits(b)) * nib(b + 4, i) + half_value(half_bits(b + 2));
    case PG_Q5_0: return half_value(half_bits(b)) * (nib(b + 6, i) + 16 * bit32(b + 2, i) - 16);
    case PG_Q5_1:
        return half_value(half_bits(b)) * (nib(b + 8, i) + 16 * bit32(b + 4, i)) + half_value(half_bits(b + 2));
    case PG_IQ4_NL: return half_value(half_bits(b)) * iq4[nib(b + 2, i)];
    case PG_MXFP4: return ldexp(e2m1[nib(b + 1, i)], b[0] - 127);
    default: return value_k(type, b, i);
    }
}

static void test_f16(void)
{
    int down = 0, up = 0;
    for (int h = 0; h < 65536; h++) {
        const float f = pg_f16_to_f32((uint16_t)h);
        if (!rows_same(f, (float)half_value(h)) || !signbit(f) != !(h & 0x8000)) down++;
        const uint16_t back = pg_f32_to_f16(f);
        if (isnan(f) ? (back & 0x7c00) != 0x7c00 || !(back & 0x3ff) || (back ^ h) & 0x8000 : back != h) up++;
    }
    CHECK(down == 0, "f16 to f32: %d of 65536 wrong", down);
    CHECK(up == 0, "f16 to f32 and back: %d of 65536 changed", up);
    /* The middle between neighbours is a tie and goes to the even one; a hair beside it goes to the nearer one. */
    int tie = 0, above = 0, below = 0;
    for (int h = 0; h < 0x7c00; h++) {
        const float lo = (float)half_value(h), hi = h == 0x7bff ? 65536.0f : (float)half_value(h + 1);
        const float middle = lo / 2 + hi / 2;
        for (int sign = 0; sign < 2; sign++) {
            const int s = sign ? 0x8000 : 0;
            const float by = sign ? -1.0f : 1.0f;
            tie += pg_f32_to_f16(by * middle) != ((h + (h & 1)) | s);
            above += pg_f32_to_f16(by * nextafterf(middle, INFINITY)) != ((h + 1) | s);
            below += pg_f32_to_f16(by * nextafterf(middle, 0)) != (h | s);
        }
    }
    CHECK(!tie && !above && !below, "f32 to f16: %d ties, %d above, %d below wrong", tie, above, below);
    int wrong = 0;
    for (int i = 0; i < 200000; i++) { /* nearest: no other f16 is nearer */
        const float f = rows_any();
        const uint16_t h = pg_f32_to_f16(f);
        const double got = half_value(h);
        if (isnan(f)) {
            wrong += !isnan(got);
        } else if (fabsf(f) >= 65520.0f) {
            wrong += got != (f > 0 ? (double)INFINITY : -(double)INFINITY);
        } else {
            const double step = fabs(got) < 0x1p-14 ? 0x1p-24 : ldexp(1, ilogb(got) - 10);
            wrong += fabs(got - (double)f) > step / 2 || !signbit(f) != !(h & 0x8000);
        }
    }
    CHECK(wrong == 0, "f32 to f16: %d of 200000 random numbers wrong", wrong);
}

static void test_fp8_bf16(void)
{
    for (int b = 0; b < 256; b++) {
        const float f = pg_fp8_to_f32((uint8_t)b);
        CHECK(rows_same(f, (float)fp8_value(b)) && !signbit(f) == !(b & 0x80), "fp8 %02x gives %g", b, f);
    }
    CHECK(pg_fp8_to_f32(0x38) == 1.0f && pg_fp8_to_f32(0x01) == 0x1p-9f && pg_fp8_to_f32(0x7e) == 448.0f,
          "known codes");
    int wrong = 0;
    for (int h = 0; h < 65536; h++) {
        const float f = pg_bf16_to_f32((uint16_t)h);
        wrong += pg_bits_from_f32(f) != (uint32_t)h << 16;
        wrong += pg_f32_to_bf16(f) != (isnan(f) ? h | 0x40 : h);
        if (!isfinite(f) || isinf(pg_bf16_to_f32((uint16_t)(h + 1)))) continue;
        const uint32_t tie = (uint32_t)h << 16 | 0x8000;
        wrong += pg_f32_to_bf16(pg_f32_from_bits(tie)) != h + (h & 1);
        wrong += pg_f32_to_bf16(pg_f32_from_bits(tie - 1)) != h;
        wrong += pg_f32_to_bf16(pg_f32_from_bits(tie + 1)) != h + 1;
    }
    CHECK(wrong == 0, "bf16: %d wrong", wrong);
    CHECK(pg_f32_to_bf16(0x1.fffffep127f) == 0x7f80, "the largest f32 rounds to infinity");
}

/* Blocks with b[i] = 73 i + 41 and plain factors: what an independent implementation gives. */
static void test_vectors(void)
{
    static const struct {
        pg_dtype type;
        double x0, x1, x17, last, sum;
    } row[] = {
        { PG_Q4_0, 0.09375, -0.125, -0.25, -0.25, -1.03125 },
        { PG_Q4_1, 0.90625, 0.6875, 0.78125, 0.78125, 23.03125 },
        { PG_Q5_0, 0.46875, 0.25, -0.4375, 0.0625, -1.40625 },
        { PG_Q5_1, 1.03125, 0.8125, 1.34375, 0.84375, 31.65625 },
        { PG_Q8_0, -2.15625, 0.125, -3.375, -3.4375, -1.5 },
        { PG_Q2_K, -0.71875, -0.4375, -3.375, -3.5, -718.90625 },
        { PG_Q3_K, -0.21875, 0.4375, -0.125, -0.75, 7.3125 },
        { PG_Q4_K, -20.84375, -23.6875, -23.6875, -11.5, -1696.25 },
        { PG_Q5_K, -14.34375, -23.6875, -23.6875, -11.5, 76.25 },
        { PG_Q6_K, 5.03125, -1.4375, 3.125, 9.0, -463.875 },
        { PG_IQ4_NL, 1.1875, -1.53125, -3.96875, -3.96875, -15.03125 },
        { PG_IQ4_XS, -94.25, 22.65625, 34.4375, -23.4375, -201.5625 },
        { PG_MXFP4, 1.0, -1.5, -1.5, -1.5, 12.5 },
        { PG_IQ2_XXS, -3.86328125, -3.86328125, 0.71875, -2.24609375, -9.3203125 },
    };
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        const pg_dtype type = row[r].type;
        const pg_dtype_info *info = pg_dtype_get(type);
        const int d = rows_factor_at(type), m = rows_min_at(type);
        uint8_t b[256];
        float y[256];
        for (int i = 0; i < info->bytes; i++) b[i] = (uint8_t)(73 * i + 41);
        if (d >= 0) b[d] = 0x00, b[d + 1] = 0x28;
        if (m >= 0) b[m] = 0x00, b[m + 1] = 0x38;
        if (type == PG_MXFP4) b[0] = 127;
        pg_unpack_of(type)(y, b, info->block);
        double sum = 0;
        for (int i = 0; i < info->block; i++) sum += (double)y[i];
        CHECK((double)y[0] == row[r].x0 && (double)y[1] == row[r].x1 && (double)y[17] == row[r].x17 &&
                  (double)y[info->block - 1] == row[r].last && sum == row[r].sum,
              "%s: %.9g %.9g %.9g .. %.9g, sum %.9g", info->name, y[0], y[1], y[17], y[info->block - 1], sum);
    }
}

/* Unpacked values against the formula. */
static void test_values(pg_dtype type)
{
    enum { BLOCKS = 12 };
    static uint8_t w[BLOCKS * 256];
    static float y[BLOCKS * 256];
    const pg_dtype_info *info = pg_dtype_get(type);
    const int n = BLOCKS * info->block;
    for (int round = 0; round < 20; round++) {
        rows_fill_blocks(w, type, n);
        for (int i = 0; type == PG_MXFP4 && i < 3; i++) /* its scale also far from 1, and at the ends */
            w[17 * i] = (uint8_t)(round == 0 ? (const int[]){ 0, 1, 255 }[i] : rows_below(256));
        pg_unpack_of(type)(y, w, n);
        int wrong = 0;
        for (int i = 0; i < n; i++) {
            const double v = value(type, w + i / info->block * info->bytes, i % info->block);
            wrong += !((double)y[i] == (double)(float)v); /* one rounding, the minimum's */
        }
        CHECK(wrong == 0, "%s: %d of %d values wrong", info->name, wrong, n);
    }
}

/* Row r of a matrix of n columns against rounded activations, in double. */
static double dot_product(const uint8_t *w, pg_dtype type, int n, const pg_q8 *x, double *size)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    double sum = *size = 0;
    for (int i = 0; i < n; i++) {
        const double v = value(type, w + i / info->block * info->bytes, i % info->block);
        const double term = v * (double)x[i / 32].d * x[i / 32].q[i % 32];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

/* A packed matrix of three panels, the last not full: blocks come back as they were stored, rows past the end are
 * zeros, and the 8-bit product of every row is its dot product in double. */
static void test_product(pg_dtype type)
{
    enum { BLOCKS = 3, N = 2 * PG_PANEL + 5, UP = 3 * PG_PANEL };
    static uint8_t stored[N * BLOCKS * 256], packed[UP * BLOCKS * 256 + 1], block[256];
    static float x[BLOCKS * 256], y[2 * PG_PANEL];
    static pg_q8 q[2 * BLOCKS * 8];
    const pg_dtype_info *info = pg_dtype_get(type);
    const int n = BLOCKS * info->block;
    rows_fill_blocks(stored, type, N * n);
    const pg_tensor w = pg_tensor_dense(type, stored, n, N, 1);
    pg_tensor p = w;
    p.data = packed + 1;
    p.packed = 1;
    CHECK(pg_panel_bytes(&w, N) == (int64_t)pg_dtype_bytes(type, n) * UP, "%s: bytes", info->name);
    for (int i = 0; i < UP / PG_PANEL; i++)
        pg_panel_pack(packed + 1 + (size_t)i * PG_PANEL * pg_dtype_bytes(type, n), &w, i);
    int wrong = 0;
    for (int r = 0; r < UP; r++) {
        static const uint8_t zero[256];
        for (int b = 0; b < BLOCKS; b++) {
            pg_panel_block(block, &p, r, b);
            wrong += !!memcmp(block, r < N ? stored + (r * BLOCKS + b) * info->bytes : zero, (size_t)info->bytes);
        }
    }
    CHECK(wrong == 0, "%s: %d blocks are not what was packed", info->name, wrong);
    double far = 0;
    for (int r = 0; r < 2; r++) {
        for (int i = 0; i < n; i++) x[i] = rows_wide(4);
        pg_q8row(q + r, 2, x, n);
        for (int i = 0; i < n; i++) {
            const pg_q8 *to = &q[i / 32 * 2 + r];
            far = fmax(far, fabs((double)to->d * to->q[i % 32] - (double)x[i]) / (double)to->d);
        }
    }
    CHECK(far <= 0.5001, "rounded activations are off by %g steps", far);
    for (int o = 0; o < UP; o += PG_PANEL) {
        pg_qmul_of(type)(y, pg_panel_at(&p, o), q, 2, n);
        for (int i = 0; i < 2 * PG_PANEL; i++) {
            const int row = o + i % PG_PANEL;
            pg_q8 mine[BLOCKS * 8];
            for (int b = 0; b < n / 32; b++) mine[b] = q[2 * b + i / PG_PANEL];
            double size = 0;
            const double want = row < N ? dot_product(stored + row * BLOCKS * info->bytes, type, n, mine, &size) : 0;
            CHECK(fabs((double)y[i] - want) <= 1e-5 * size, "%s: row %d: %g, want %g (terms %g)", info->name, row, y[i],
                  want, size);
        }
    }
}

static void test_mxfp4_scales(void)
{
    static const struct {
        int e;
        float one; /* what code 2, a one, becomes */
    } row[] = { { 0, 0x1p-127f }, { 1, 0x1p-126f },  { 2, 0x1p-125f },
                { 127, 1.0f },    { 254, 0x1p127f }, { 255, INFINITY } };
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        uint8_t b[17] = { (uint8_t)row[r].e, 0x12, 0x09 }; /* codes 2 and 9, then 1 and 0 in the upper half */
        float y[32];
        pg_unpack_of(PG_MXFP4)(y, b, 32);
        CHECK(y[0] == row[r].one, "scale byte %d: 1 becomes %g", row[r].e, y[0]);
        CHECK(y[16] == ldexpf(0.5f, row[r].e - 127) && y[1] == -y[16] && y[2] == 0,
              "scale byte %d: halves become %g %g", row[r].e, y[16], y[1]);
    }
}

/* The grid's codes against what is known of them: their order and two sums. */
static void test_grid(void)
{
    long long sum = 0, weighted = 0;
    int last = -1;
    for (int a = 0; a < 256; a++) {
        const int code = grid_code(a);
        CHECK(code > last && (code & code >> 1 & 0x5555) == 0, "grid row %d: code %04x after %04x", a, code, last);
        sum += code;
        weighted += (long long)(a + 1) * code;
        last = code;
    }
    CHECK(sum == 3697703 && weighted == 711230818, "grid: sums of codes %lld, %lld", sum, weighted);
}

static void test_table(void)
{
    for (int t = 0; t < PG_DTYPE_COUNT; t++) {
        const pg_dtype_info *info = pg_dtype_get((pg_dtype)t);
        CHECK(pg_dtype_from_name(info->name) == (pg_dtype)t, "name %s", info->name);
        if (info->gguf >= 0) CHECK(pg_dtype_from_gguf((uint32_t)info->gguf) == (pg_dtype)t, "id %d", info->gguf);
        CHECK(!pg_dtype_is_weight((pg_dtype)t) == !pg_unpack_of((pg_dtype)t), "unpack of %s", info->name);
        CHECK(!pg_dtype_is_quant((pg_dtype)t) == !pg_qmul_of((pg_dtype)t), "qmul of %s", info->name);
        CHECK(pg_dtype_is_quant((pg_dtype)t) == (info->block > 1), "blocks of %s", info->name);
    }
    CHECK(pg_dtype_from_name("q9_9") == PG_DTYPE_NONE && pg_dtype_from_name("") == PG_DTYPE_NONE, "unknown names");
    CHECK(pg_dtype_from_gguf(0xffffffffu) == PG_DTYPE_NONE && pg_dtype_from_gguf(31) == PG_DTYPE_NONE, "unknown ids");
    CHECK(pg_pack_of(PG_Q4_0) == NULL && pg_pack_of(PG_F16) == pg_pack_f16, "pack");
}

static void test_levels(void)
{
    const unsigned all = PG_ISA_ref | PG_ISA_avx2 | PG_ISA_avx512 | PG_ISA_amx;
    CHECK(pg_isa_allowed(NULL) == all && pg_isa_allowed("") == all && pg_isa_allowed("amx") == all, "no cap");
    CHECK(pg_isa_allowed("ref") == PG_ISA_ref, "ref");
    CHECK(pg_isa_allowed("avx2") == (PG_ISA_ref | PG_ISA_avx2), "avx2");
    CHECK(pg_isa_allowed("avx512") == (PG_ISA_ref | PG_ISA_avx2 | PG_ISA_avx512), "avx512");
    CHECK(pg_isa_allowed("sse") == 0 && pg_isa_allowed("AVX2") == 0 && pg_isa_allowed("avx2 ") == 0, "unknown");
    const unsigned have = pg_isa_have();
    CHECK(have & PG_ISA_ref && (have & ~all) == 0 && have == pg_isa_have(), "levels %x", have);
    CHECK(!(have & PG_ISA_amx) || have & PG_ISA_avx512, "levels are nested: %x", have);
    CHECK(!(have & PG_ISA_avx512) || have & PG_ISA_avx2, "levels are nested: %x", have);
    CHECK(!strcmp(pg_isa_name(PG_ISA_ref), "ref") && !strcmp(pg_isa_name(all), "amx"), "names");
    CHECK(!strcmp(pg_isa_name(PG_ISA_ref | PG_ISA_avx2), "avx2"), "names");
}

/* Any part of any row of any format; FP8 with its factors, also below the top of the whole matrix. */
static void test_unpack_row(pg_dtype type)
{
    enum { K = 768, N = 7 };
    static uint8_t w[K * N * 4];
    static float y[K], whole[K];
    static const float scale[2 * 8] = { 1, 2, 3, 4, 5, 6, 0, 0, 7, 8, 9, 10, 11, 12, 0, 0 };
    const pg_dtype_info *info = pg_dtype_get(type);
    if (info->block > 1) rows_fill_blocks(w, type, K * N);
    for (size_t i = 0; info->block == 1 && i < sizeof w; i++)
        w[i] = (uint8_t)rows_below(0x38); /* finite in every format */
    pg_tensor t = pg_tensor_dense(type, w, K, N, 1);
    t.row0 = 125; /* rows 3 and up belong to the second row of factors */
    t.scale = scale;
    t.scale_stride = 8;
    const int step = type == PG_FP8 ? 128 : info->block;
    for (int row = 0; row < N; row++) {
        pg_unpack_of(type)(whole, w + (size_t)row * pg_dtype_bytes(type, K), K);
        for (int i = 0; type == PG_FP8 && i < K; i++) whole[i] *= (float)(1 + i / 128 + (row >= 3 ? 6 : 0));
        for (int part = 0; part < 8; part++) {
            const int col0 = rows_below(K / step) * step, n = rows_below((K - col0) / step + 1) * step;
            pg_unpack_row(y, &t, row, col0, n);
            CHECK(rows_same_n(y, whole + col0, n), "%s: row %d, columns %d .. %d", info->name, row, col0, col0 + n);
        }
    }
    pg_unpack_row(y, &t, 1, K - step, step);
    CHECK(type != PG_FP8 || y[0] == pg_fp8_to_f32(w[K + K - 128]) * 6, "the last factor of a row");
}

int main(void)
{
    test_f16();
    test_fp8_bf16();
    test_grid();
    test_table();
    test_levels();
    const unsigned have = pg_isa_have();
    for (unsigned level = PG_ISA_ref; level <= PG_ISA_amx; level *= 2) {
        if (!(have & level)) continue;
        rows_seed = level;
        pg_isa_pick(have & (2 * level - 1));
        test_vectors();
        test_mxfp4_scales();
        for (int t = 0; t < PG_DTYPE_COUNT; t++) {
            if (pg_dtype_is_quant((pg_dtype)t)) {
                test_values((pg_dtype)t);
                test_product((pg_dtype)t);
            }
            if (pg_dtype_is_weight((pg_dtype)t)) test_unpack_row((pg_dtype)t);
        }
    }
    return check_done("rows_formats");
}
