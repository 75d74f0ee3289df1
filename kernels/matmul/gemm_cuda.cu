/* gemm_cuda: MATMUL for many rows, by way of what is common to all products of many rows: rows to bf16, the choice of a
 * kernel, launches, sums of parts.
 *
 * The transposed form decodes its matrix the other way round into scratch first: such matrices are the small ones of
 * absorbed latent attention, so that costs a fraction of the product, and one kind of tile is enough. */
#include "gemm_cuda.cuh"
#include "tile.cuh"
extern "C" {
#include "../unpack/blocks.h"
}

enum { SPLIT_STEPS = 8 }; /* of 64 columns that a part of K has at least */

/* ---- rows of x ---------------------------------------------------------------------------------------------------- */

static __global__ void to_bf16(uint32_t *y, const float *x, int64_t x_width, int64_t x_group, int rows, int k,
                               int width, const pg_cuda_step *step, int all)
{
    const int r = (int)blockIdx.y, b = (int)blockIdx.z, i = 2 * (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (r >= pg_step_rows(step, all) || i >= width) return;
    const float *from = x + r * x_width + b * x_group + i;
    y[(((int64_t)b * rows + r) * width + i) / 2] = pg_bf16_pair(i < k ? from[0] : 0, i + 1 < k ? from[1] : 0);
}

void pg_gemm_to_bf16(pg_cuda *c, uint16_t *y, const float *x, int64_t x_width, int64_t x_group, int batch, int rows,
                     int64_t k, int all)
{
    const int width = (int)pg_gemm_width(k);
    PG_LAUNCH(to_bf16, dim3((unsigned)(width + 511) / 512, (unsigned)rows, (unsigned)batch), 256, 0, c->stream,
              reinterpret_cast<uint32_t *>(y), x, x_width, x_group, rows, (int)k, width, c->step, all);
}

/* ---- launches ----------------------------------------------------------------------------------------------------- */

/* Higher tiles decode weights less often; they pay once groups fill them. */
pg_gemm_kernel pg_gemm_choose(const pg_cuda *c, pg_dtype type, int64_t k, int64_t rows, int exact)
{
    const int even = pg_stack_even(type, k), high = rows > 192 ? 256 : rows > 64 ? 128 : 64;
    if (exact) return pg_gemm_exact(type, even);
    return c->wgmma && even && high > 64 ? pg_gemm_wgmma(type, high) : pg_gemm_mma(type, high, even);
}

void pg_gemm_launch(pg_cuda *c, const pg_gemm_kernel *k, const pg_gemm *g, int64_t tiles)
{
    const int64_t most = (int64_t)c->n_sm * k->blocks;
    if (pg_cuda_try(c, cudaFuncSetAttribute(k->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, k->shared),
                    "shared memory for a product"))
        return;
    PG_LAUNCH(k->kernel, dim3((unsigned)(tiles < most ? tiles : most)), k->threads, k->shared, c->stream, *g);
    pg_cuda_try(c, cudaGetLastError(), "cannot multiply many rows");
}

/* ---- parts of K --------------------------------------------------------------------------------------------------- */

/* Blocks that find no tile of their own take a part of K of others'. Depends on the rows launched for alone. */
static int split_of(const pg_cuda *c, const pg_gemm_kernel *k, int64_t tiles, int64_t steps)
{
    int64_t split = (int64_t)c->n_sm * k->blocks / tiles;
    if (split > steps / SPLIT_STEPS) split = steps / SPLIT_STEPS;
    return split < 1 ? 1 : (int)split;
}

static __global__ void sum_parts(const pg_gemm g)
{
    const int o = (int)(blockIdx.x * blockDim.x + threadIdx.x), r = (int)blockIdx.y, b = (int)blockIdx.z, n = g.w[0].n;
    if (r >= pg_step_rows(g.step, g.all) || o >= n) return;
    float sum = 0;
    for (int i = 0; i < g.split; i++) sum += g.part[(((int64_t)i * g.groups + b) * g.rows + r) * n + o];
    g.y[r * g.y_width + b * g.y_group + o] = sum * g.scale + (g.bias[0] ? g.bias[0][(int64_t)b * n + o] : 0.0f);
}

static void multiply(pg_cuda *c, const pg_gemm_kernel *k, pg_gemm *g)
{
    const int n = g->w[0].n, columns = k->columns;
    const int64_t tiles = (int64_t)((g->rows + k->rows - 1) / k->rows) * ((n + columns - 1) / columns) * g->groups;
    g->split = split_of(c, k, tiles, pg_gemm_width(g->w[0].k) / PG_GEMM_STEP);
    pg_gemm_launch(c, k, g, tiles * g->split);
    if (g->split > 1)
        PG_LAUNCH(sum_parts, dim3((unsigned)(n + 255) / 256, (unsigned)g->rows, (unsigned)g->groups), 256, 0, c->stream,
                  *g);
}

/* ---- the transposed form ------------------------------------------------------------------------------------------ */

/* Matrices of n rows of k columns as k rows of n: bf16, filled up with zeros to a multiple of 64 columns, or f32. A thread
 * has a piece of a row; neighbours have neighbouring rows. */
template <pg_dtype T, bool EVEN, class H> __global__ void turn(H *y, const pg_stack s, int width)
{
    typedef pg_format<T> F;
    const int row = (int)(blockIdx.x * blockDim.x + threadIdx.x), chunk = (int)blockIdx.y, b = (int)blockIdx.z;
    if (row >= width) return;
    const pg_view w = pg_view_of(s, b);
    typename F::raw raw;
    if (row < s.n) {
        if constexpr (F::QUANT || EVEN)
            raw = F::template load<pg_far>(w, row, chunk);
        else
            raw = F::template load_part<pg_far>(w, row, chunk);
    }
    for (int p = 0; p < F::PIECES; p++) {
        float v[F::WIDTH] = {};
        if (row < s.n) F::value(raw, chunk, p, v);
        const int o = F::column(chunk) + F::SPREAD * p;
#pragma unroll
        for (int i = 0; i < F::WIDTH; i++) {
            if (o + i >= s.k) continue;
            H *to = y + ((int64_t)b * s.k + o + i) * width + row;
            if constexpr (sizeof(H) == 2)
                *to = __bfloat16_as_ushort(__float2bfloat16_rn(v[i]));
            else
                *to = v[i];
        }
    }
}

template <pg_dtype T> static void turn_all(pg_cuda *c, void *y, const pg_stack *s, int batch, int width, int exact)
{
    const dim3 grid((unsigned)(width + 127) / 128, (unsigned)pg_chunks<pg_format<T>>(s->k), (unsigned)batch);
    float *const f = static_cast<float *>(y);
    uint16_t *const h = static_cast<uint16_t *>(y);
    if (pg_stack_even(T, s->k)) {
        if (exact)
            PG_LAUNCH((turn<T, true, float>), grid, 128, 0, c->stream, f, *s, width);
        else
            PG_LAUNCH((turn<T, true, uint16_t>), grid, 128, 0, c->stream, h, *s, width);
    } else if (exact) {
        PG_LAUNCH((turn<T, false, float>), grid, 128, 0, c->stream, f, *s, width);
    } else {
        PG_LAUNCH((turn<T, false, uint16_t>), grid, 128, 0, c->stream, h, *s, width);
    }
}

pg_stack pg_gemm_turn(pg_cuda *c, pg_dtype type, const pg_stack *s, int batch, void *y, int exact)
{
    const int width = (int)pg_gemm_width(s->n);
    switch (type) {
#define F(name, type, has_min) \
    case type: turn_all<type>(c, y, s, batch, width, exact); break;
        PG_BLOCK_LIST(F)
#undef F
    case PG_F32: turn_all<PG_F32>(c, y, s, batch, width, exact); break;
    case PG_F16: turn_all<PG_F16>(c, y, s, batch, width, exact); break;
    case PG_BF16: turn_all<PG_BF16>(c, y, s, batch, width, exact); break;
    case PG_FP8: turn_all<PG_FP8>(c, y, s, batch, width, exact); break;
    default: break;
    }
    pg_stack t = {};
    t.first = static_cast<const unsigned char *>(y);
    t.k = t.blocks = width;
    t.n = s->k;
    t.bytes = (int64_t)t.n * width * (exact ? 4 : 2);
    return t;
}

/* ---- the op ------------------------------------------------------------------------------------------------------- */

static int is_exact(const pg_code *code, const pg_op *op)
{
    return code->exact || op->a.matmul.exact;
}

/* Bytes of scratch, in this order. */
typedef struct room {
    int64_t x, turned, part;
} room;

static room room_of(const pg_cuda *c, const pg_code *code, const pg_op *op)
{
    const int across = op->a.matmul.transposed, batch = op->a.matmul.batch, exact = is_exact(code, op);
    const int64_t k = op->w->shape[across], n = op->w->shape[!across];
    const int64_t rows = code->value[op->src[0]].rows == PG_ROWS_ALL ? code->max_rows : code->max_sampled;
    room m = {};
    if (!exact) m.x = pg_cuda_up(batch * rows * pg_gemm_width(k) * 2);
    if (across) m.turned = pg_cuda_up(batch * n * pg_gemm_width(k) * (exact ? 4 : 2));
    m.part = (int64_t)c->n_sm * PG_GEMM_SUMS * (int64_t)sizeof(float); /* every part has a block's tile of its own */
    return m;
}

void pg_cuda_gemm(pg_cuda *c, const pg_op *op)
{
    const int across = op->a.matmul.transposed, exact = is_exact(c->code, op);
    const int64_t k = op->w->shape[across];
    const room m = room_of(c, c->code, op);
    pg_dtype type = pg_cuda_type_of(c, op->w);
    pg_gemm g = {};
    g.k = (int32_t)k;
    g.groups = op->a.matmul.batch;
    g.step = c->step;
    g.all = pg_cuda_is_all(c, op->src[0]);
    g.rows = pg_cuda_rows(c, op->src[0]);
    g.w[0] = pg_stack_of(pg_cuda_weight_of(c, op->w));
    g.y = pg_cuda_value(c, op->dst);
    g.y_width = pg_cuda_width(c, op->dst);
    g.y_group = op->a.matmul.y_step;
    g.bias[0] = pg_cuda_vector_of(c, op->v);
    g.scale = op->a.matmul.scale;
    g.part = reinterpret_cast<float *>(c->scratch + m.x + m.turned);
    g.x = pg_cuda_value(c, op->src[0]);
    g.x_width = pg_cuda_width(c, op->src[0]);
    g.x_group = op->a.matmul.x_step;
    if (!exact) {
        uint16_t *const x = reinterpret_cast<uint16_t *>(c->scratch);
        pg_gemm_to_bf16(c, x, static_cast<const float *>(g.x), g.x_width, g.x_group, g.groups, g.rows, k, g.all);
        g.x = x;
        g.x_width = pg_gemm_width(k);
        g.x_group = g.x_width * g.rows;
    }
    if (across) {
        g.w[0] = pg_gemm_turn(c, type, &g.w[0], g.groups, c->scratch + m.x, exact);
        type = exact ? PG_F32 : PG_BF16;
    }
    const pg_gemm_kernel kernel = pg_gemm_choose(c, type, g.w[0].k, g.rows, exact);
    multiply(c, &kernel, &g);
}

int64_t pg_cuda_gemm_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op)
{
    const room m = room_of(c, code, op);
    return m.x + m.turned + m.part;
}
