/* Times every variant of every row kernel in variants.def that this machine has; a listed row without a timing does not
 * compile. One thread, data within the caches but beyond the first, so that the arithmetic is seen; the first line
 * says what memory itself gives to one thread.
 *     rows [--quick] [part of a row's name ...] */
#include "../c/rows.h"

#include <time.h>

enum { WIDTH = 4096, SET = 1 << 20, PANEL_K = 512, PANEL_ROWS = 24, HEAD = 128, TILE_Q = 64, TILE_T = 32 };
enum { PACKED = 8 << 20, BATCH = 64 }; /* bytes of packed weights; rows that meet them in a prefill */

static double budget = 0.1; /* seconds a variant */
static uint8_t *stored;     /* SET bytes of blocks, or of any numbers */
static float *vec[3];       /* WIDTH numbers each */
static float *wide;         /* SET / 4 numbers */
static uint8_t *packed;     /* PACKED bytes of panels */
static pg_q8 *rounded;      /* BATCH rows of WIDTH columns, as qmul reads them */
static volatile float sink;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs `call` over and over with i = 0, 1, ..; calls a second, of the best of five slices of the budget. */
#define RATE(call)                                              \
    double best = 0;                                            \
    for (int slice = 0; slice < 5; slice++) {                   \
        const double start = now();                             \
        double spent;                                           \
        int64_t n = 0;                                          \
        do {                                                    \
            for (int64_t i = 0; i < 8; i++, n++) call;          \
            spent = now() - start;                              \
        } while (spent < budget / 5);                           \
        if ((double)n / spent > best) best = (double)n / spent; \
    }                                                           \
    return best

typedef struct speed {
    double rate;
    const char *unit;
    double rate2; /* qmul with BATCH rows, else 0 */
    const char *unit2;
} speed;

/* Bytes of a stored row, and row i of as many as the set holds. */
static size_t row_bytes(pg_dtype type)
{
    return pg_dtype_bytes(type, WIDTH);
}
static void fill_stored(pg_dtype type) /* with factors of ordinary size, for subnormal numbers are slow */
{
    if (pg_dtype_is_quant(type)) rows_fill_blocks(stored, type, (int64_t)(SET / row_bytes(type)) * WIDTH);
}
static const uint8_t *stored_row(pg_dtype type, int64_t i)
{
    const size_t bytes = row_bytes(type);
    return stored + (size_t)i % (SET / bytes) * bytes;
}

static double calls_unpack(pg_unpack_fn *fn, pg_dtype type)
{
    fill_stored(type);
    RATE(fn(vec[0], stored_row(type, n), WIDTH));
}
static double calls_pack(pg_pack_fn *fn)
{
    RATE(fn(vec[0], vec[1], WIDTH));
}
static void fill_packed(pg_dtype type)
{
    fill_stored(type);
    const size_t panel = PG_PANEL * row_bytes(type);
    const int64_t n_row = (int64_t)(SET / panel * PG_PANEL);
    const pg_tensor w = pg_tensor_dense(type, stored, WIDTH, n_row, 1);
    for (int64_t i = 0; i < (int64_t)(PACKED / panel); i++)
        pg_panel_pack(packed + (size_t)i * panel, &w, i % (n_row / PG_PANEL));
}
static double calls_qmul(pg_qmul_fn *fn, pg_dtype type, int n_row)
{
    const size_t panel = PG_PANEL * row_bytes(type);
    const int64_t n_panel = (int64_t)(PACKED / panel);
    RATE(fn(vec[0], packed + (size_t)(n % n_panel) * panel, rounded, n_row, WIDTH));
}
static double calls_fdot(pg_fdot_fn *fn)
{
    RATE(sink = fn(wide + n % 64 * WIDTH, vec[1], WIDTH));
}
static double calls_fdot16(pg_fdot16_fn *fn, pg_pack_fn *pack)
{
    pack(stored, wide, 64 * WIDTH);
    RATE(sink = fn(stored + n % 64 * WIDTH * 2, vec[1], WIDTH));
}
static double calls_q8row(pg_q8row_fn *fn)
{
    RATE(fn(rounded, BATCH, wide + n % 64 * WIDTH, WIDTH));
}
static double calls_rmsnorm(pg_rmsnorm_fn *fn)
{
    RATE(fn(vec[0], vec[1], vec[2], WIDTH, 1e-6f));
}
static double calls_glu(pg_glu_fn *fn)
{
    RATE(fn(vec[0], vec[1], vec[2], WIDTH, PG_GLU_SILU, 0));
}
/* A tile of queries and a page of keys: heads that share a kv head. */
static double calls_qk(pg_qk_fn *fn)
{
    const float *q[TILE_Q];
    for (int i = 0; i < TILE_Q; i++) q[i] = wide + i * HEAD;
    const pg_held k = { .at = wide + TILE_Q * HEAD, .step = HEAD * sizeof(float), .dtype = PG_F32 };
    RATE(fn(vec[0], TILE_T, q, TILE_Q, &k, TILE_T, HEAD));
}
static double calls_softmax(pg_softmax_fn *fn)
{
    float top[TILE_Q], sum[TILE_Q] = { 0 }, keep[TILE_Q];
    for (int i = 0; i < TILE_Q; i++) top[i] = 2;
    RATE((memcpy(vec[0], vec[1], TILE_Q * TILE_T * 4), fn(top, sum, keep, vec[0], TILE_T, TILE_Q, TILE_T, 0.1f)));
}
static double calls_pv(pg_pv_fn *fn)
{
    float keep[TILE_Q];
    for (int i = 0; i < TILE_Q; i++) keep[i] = 0.5f;
    const pg_held v = { .at = wide + TILE_Q * HEAD, .step = HEAD * sizeof(float), .dtype = PG_F32 };
    RATE(fn(wide, HEAD, keep, vec[1], TILE_T, TILE_Q, &v, TILE_T, HEAD));
}
static double calls_stream(pg_stream_fn *fn)
{
    RATE(sink = (float)fn(wide, SET, 1, 0));
}
static double calls_fpanel(pg_fpanel_fn *fn)
{
    const float *x[PANEL_ROWS];
    for (int r = 0; r < PANEL_ROWS; r++) x[r] = wide + r * WIDTH;
    RATE(fn(vec[0], x, wide + (32 + n % 16) * WIDTH, PANEL_ROWS, PANEL_K));
}

/* Bytes written by unpack; bytes read where rows are only read; operations elsewhere. qmul: bytes of weights for one
 * row, operations for BATCH rows. */
#define TIME(row, fn_type, amount, unit_name, calls)                          \
    static speed time_##row(fn_type *fn)                                      \
    {                                                                         \
        return (speed){ .rate = (amount) * (calls)*1e-9, .unit = unit_name }; \
    }
#define UNPACK(name, type, has_min) \
    TIME(unpack_##name, pg_unpack_fn, WIDTH * 4.0, "GB/s written", calls_unpack(fn, type))
#define PACK(name) TIME(pack_##name, pg_pack_fn, WIDTH * 4.0, "GB/s read", calls_pack(fn))
#define QMUL(name, type, has_min)                                                                               \
    static speed time_qmul_##name(pg_qmul_fn *fn)                                                               \
    {                                                                                                           \
        fill_packed(type);                                                                                      \
        return (speed){ 1e-9 * PG_PANEL * (double)row_bytes(type) * calls_qmul(fn, type, 1), "GB/s of weights", \
                        2e-9 * PG_PANEL * WIDTH * BATCH * calls_qmul(fn, type, BATCH), "GOP/s, 64 rows" };      \
    }
UNPACK(f32, PG_F32, 0)
UNPACK(f16, PG_F16, 0)
UNPACK(bf16, PG_BF16, 0)
UNPACK(fp8, PG_FP8, 0)
PG_BLOCK_LIST(UNPACK)
PACK(f32)
PACK(f16)
PACK(bf16)
PACK(q8_0)
PG_BLOCK_LIST(QMUL)
TIME(fpanel, pg_fpanel_fn, 2.0 * PANEL_ROWS * PANEL_K * PG_PANEL, "GFLOP/s", calls_fpanel(fn))
TIME(stream, pg_stream_fn, (double)SET, "GB/s read", calls_stream(fn))
TIME(fdot, pg_fdot_fn, WIDTH * 4.0, "GB/s of weights", calls_fdot(fn))
TIME(fdot_f16, pg_fdot16_fn, WIDTH * 2.0, "GB/s of weights", calls_fdot16(fn, pg_pack_f16_ref))
TIME(fdot_bf16, pg_fdot16_fn, WIDTH * 2.0, "GB/s of weights", calls_fdot16(fn, pg_pack_bf16_ref))
TIME(q8row, pg_q8row_fn, WIDTH * 4.0, "GB/s read", calls_q8row(fn))
TIME(rmsnorm, pg_rmsnorm_fn, WIDTH * 4.0, "GB/s read", calls_rmsnorm(fn))
TIME(glu, pg_glu_fn, WIDTH * 1.0, "G elements/s", calls_glu(fn))
TIME(qk, pg_qk_fn, 2.0 * TILE_Q * TILE_T * HEAD, "GFLOP/s", calls_qk(fn))
TIME(softmax, pg_softmax_fn, 1.0 * TILE_Q * TILE_T, "G scores/s", calls_softmax(fn))
TIME(pv, pg_pv_fn, 2.0 * TILE_Q * TILE_T * HEAD, "GFLOP/s", calls_pv(fn))

static int wanted(int argc, char **argv, const char *row)
{
    int named = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--quick")) continue;
        named = 1;
        if (strstr(row, argv[i])) return 1;
    }
    return !named;
}

static speed report(const char *row, const char *isa, speed s, speed ref)
{
    if (ref.rate == 0) ref = s;
    printf("%-16s %-7s %9.3f %-16s %6.1fx", row, isa, s.rate, s.unit, s.rate / ref.rate);
    if (s.rate2 > 0) printf(" %9.3f %-14s %6.1fx", s.rate2, s.unit2, s.rate2 / ref.rate2);
    putchar('\n');
    fflush(stdout);
    return ref;
}

/* What one thread reads from memory: a search for a byte that is not there. */
static void report_memory(size_t bytes)
{
    char *m = malloc(bytes);
    if (!m) return;
    memset(m, 1, bytes);
    double best = 0;
    for (int i = 0; i < 3; i++) {
        const double start = now();
        sink = memchr(m, 2, bytes) != NULL;
        const double rate = (double)bytes / (now() - start) * 1e-9;
        if (rate > best) best = rate;
    }
    printf("one thread reads memory at %.1f GB/s\n", best);
    free(m);
}

int main(int argc, char **argv)
{
    size_t memory = (size_t)256 << 20;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--quick")) budget = 0.002, memory = (size_t)16 << 20;
    stored = aligned_alloc(64, SET);
    wide = aligned_alloc(64, SET);
    for (int i = 0; i < 3; i++) vec[i] = aligned_alloc(64, WIDTH * sizeof *vec[i]);
    packed = aligned_alloc(64, PACKED);
    rounded = aligned_alloc(64, sizeof *rounded * BATCH * (WIDTH / 32));
    if (!stored || !wide || !vec[0] || !vec[1] || !vec[2] || !packed || !rounded) return 1;
    for (int i = 0; i < SET; i++) stored[i] = (uint8_t)(rows_rand() % 56); /* no factor is huge or a NaN */
    for (int i = 0; i < SET / 4; i++) wide[i] = rows_uniform();
    for (int i = 0; i < 3 * WIDTH; i++) vec[i / WIDTH][i % WIDTH] = rows_uniform();
    for (int r = 0; r < BATCH; r++) pg_q8row(rounded + r, BATCH, wide + r * WIDTH, WIDTH);

    const unsigned have = pg_isa_have();
    report_memory(memory);
    speed ref = { 0 };
#define PG_ROW(row) ref.rate = 0;
#define PG_VARIANT(row, isa) \
    if (have & PG_ISA_##isa && wanted(argc, argv, #row)) ref = report(#row, #isa, time_##row(pg_##row##_##isa), ref);
#include "../../kernels/variants.def"
    for (int i = 0; i < 3; i++) free(vec[i]);
    free(stored);
    free(wide);
    free(packed);
    free(rounded);
    return 0;
}
