/* mla_cuda.cu: the MLA op: attention over latents that are expanded into keys and values, for rows of the prefill class.
 *
 * Absorbed, as generated rows have it, a pair of a row and a position costs 2 * latent + rot products a head; expanded, nope +
 * rot + dv, which is a third of that, and latent * (nope + dv) for each position of a sequence, once a step. So which is
 * cheaper depends on how many rows look at how many positions; both are counted before anything is launched. Where this op does
 * nothing the absorbed ops that follow run over all rows (cuda/graph.cu), so a prompt's numbers depend, in their last
 * bits, on how it was cut into steps.
 * Positions of all sequences stand one after the other and are expanded a chunk at a time, as many as scratch has room
 * for: latents are brought to bf16, multiplied by the heads' matrices on tensor cores, and stand there as 16-bit rows of
 * keys and values, which the rows then meet (attn_mma_cuda.cu). Plans in f32, and heads that those kernels do not take,
 * stay absorbed.
 * Source: DeepSeek-V2 (arXiv 2405.04434), both forms; FlashAttention-2 (arXiv 2307.08691) for sums that go on. */
#include "../matmul/gemm_cuda.cuh"
#include "attn_cuda.cuh"

enum { MOST_KEYS = 4096, THREADS = 128 };
static const int64_t ROOM = 64ll << 20; /* for expanded rows, unless even the fewest need more */

/* A chunk of positions in scratch. */
typedef struct chunk {
    pg_cuda_step *step; /* as many rows as it has positions, for products */
    int32_t *pages;     /* 0, 1, 2 ...: its rows as a cache of pages of PG_SPAN positions */
    uint16_t *latent;   /* [keys][width] bf16 */
    uint16_t *row;      /* [keys][heads * dk | heads * dv] */
    int32_t key0, keys;
    int32_t width, heads, nope, rot, dk, dv, latents;
    pg_dtype as; /* of rows */
} chunk;

typedef struct source {
    const pg_cuda_step *step;
    const char *cache;
    int64_t page_bytes, at; /* at: of the stream in a page */
    int32_t page_tokens, row_bytes;
    pg_dtype dtype;
} source;

/* ---- latents ------------------------------------------------------------------------------------------------------ */

static __device__ __forceinline__ float cached(pg_dtype dtype, const char *row, int i)
{
    if (dtype == PG_F32) return reinterpret_cast<const float *>(row)[i];
    if (dtype == PG_Q8_0) {
        const char *block = row + i / 32 * 34;
        const float d = __half2float(__ushort_as_half(*reinterpret_cast<const unsigned short *>(block)));
        return d * (float)(signed char)block[2 + i % 32];
    }
    const unsigned short bits = reinterpret_cast<const unsigned short *>(row)[i];
    return dtype == PG_BF16 ? __bfloat162float(__ushort_as_bfloat16(bits)) : __half2float(__ushort_as_half(bits));
}

/* A block a position: its latents, and to all heads the part of their keys that they share. */
static __global__ void gather(const source s, const chunk c)
{
    const pg_cuda_step *step = s.step;
    const int key = c.key0 + (int)blockIdx.x, thread = (int)threadIdx.x, all = step->span_key[step->n_span];
    if (blockIdx.x == 0 && thread == 0) c.step->n = min(c.keys, all - c.key0);
    if (blockIdx.x % PG_SPAN == 0 && thread == 0) c.pages[blockIdx.x / PG_SPAN] = (int32_t)blockIdx.x / PG_SPAN;
    if (key >= all) return;
    const int span = pg_span_of(step->span_key, step->n_span, key), pos = key - step->span_key[span];
    const int last = step->pos[step->span_row[span + 1] - 1];
    uint16_t *latent = c.latent + (int64_t)blockIdx.x * c.width;
    uint16_t *row = c.row + (int64_t)blockIdx.x * c.heads * (c.dk + c.dv);
    if (pos > last) { /* between two sequences: numbers that nobody looks at */
        for (int i = thread; i < c.width; i += THREADS) latent[i] = 0;
        return;
    }
    const int seq = step->seq[step->span_row[span]],
              page = step->pages[(int64_t)seq * step->page_step + pos / s.page_tokens];
    const char *from = s.cache + page * s.page_bytes + s.at + (int64_t)(pos % s.page_tokens) * s.row_bytes;
    for (int i = thread; i < c.width; i += THREADS)
        latent[i] = __bfloat16_as_ushort(__float2bfloat16_rn(i < c.latents ? cached(s.dtype, from, i) : 0.0f));
    for (int i = thread; i < c.heads * c.rot; i += THREADS) {
        const int head = i / c.rot, k = i % c.rot;
        const float x = cached(s.dtype, from, c.latents + k);
        row[head * c.dk + c.nope + k] =
            c.as == PG_BF16 ? __bfloat16_as_ushort(__float2bfloat16_rn(x)) : __half_as_ushort(__float2half_rn(x));
    }
}

/* ---- keys and values ---------------------------------------------------------------------------------------------- */

/* Columns from `column` on of the rows: the latents times w, a matrix a head. */
static void expand(pg_cuda *c, const chunk *k, const pg_stack *w, pg_dtype type, int column, int step)
{
    pg_gemm g = {};
    g.w[0] = *w;
    g.k = w->k;
    g.groups = k->heads;
    g.all = g.split = 1;
    g.step = k->step;
    g.x = k->latent;
    g.x_width = k->width;
    g.y = reinterpret_cast<float *>(k->row + column);
    g.y_width = (int64_t)k->heads * (k->dk + k->dv);
    g.y_group = step;
    g.as = k->as;
    g.scale = 1;
    g.rows = k->keys;
    const pg_gemm_kernel kernel = pg_gemm_choose(c, type, w->k, MOST_KEYS, 0);
    const int64_t tiles =
        (int64_t)((k->keys + kernel.rows - 1) / kernel.rows) * ((w->n + kernel.columns - 1) / kernel.columns);
    pg_gemm_launch(c, &kernel, &g, tiles * k->heads);
}

/* ---- sizes -------------------------------------------------------------------------------------------------------- */

/* Bytes of scratch, in this order; of a position: its latents and its row. */
typedef struct room {
    int64_t step, pages, stat, turned, key;
} room;

static room room_of(const pg_code *code, const pg_op *op)
{
    const int64_t heads = op->a.mla.heads, width = pg_gemm_width(op->a.mla.latent);
    room m = {};
    m.step = pg_cuda_up((int64_t)sizeof(pg_cuda_step));
    m.pages = pg_cuda_up(MOST_KEYS / PG_SPAN * (int64_t)sizeof(int32_t));
    m.stat = pg_cuda_up(heads * code->max_rows * PG_ATTN_STATE * (int64_t)sizeof(float));
    m.turned = op->a.mla.across ? pg_cuda_up(heads * op->a.mla.nope * width * 2) : 0;
    m.key = (width + heads * (op->a.mla.nope + op->a.mla.rot + op->a.mla.dv)) * 2;
    return m;
}

static int64_t fixed_of(const room *m)
{
    return m->step + m->pages + m->stat + m->turned;
}

/* Positions of a chunk in so many bytes. */
static int64_t keys_in(const room *m, int64_t bytes)
{
    const int64_t n = bytes / m->key / PG_SPAN * PG_SPAN;
    if (n > MOST_KEYS) return MOST_KEYS;
    return n < PG_SPAN ? (int64_t)PG_SPAN : n;
}

int64_t pg_cuda_mla_scratch(const pg_cuda *, const pg_code *code, const pg_op *op)
{
    const room m = room_of(code, op);
    return code->exact ? 0 : fixed_of(&m) + keys_in(&m, ROOM) * m.key;
}

/* ---- the op ------------------------------------------------------------------------------------------------------- */

/* Keys and values have the precision of what they come from. */
static pg_dtype kept_as(const pg_cuda *c)
{
    return c->kv.dtype == PG_BF16 ? PG_BF16 : PG_F16;
}

static pg_attn_args arguments(const pg_cuda *c, const pg_op *op)
{
    pg_attn_args a = {};
    a.step = c->step;
    a.q = pg_cuda_value(c, op->src[0]);
    a.y = pg_cuda_value(c, op->dst);
    a.heads = a.kv_heads = op->a.mla.heads;
    a.dk = op->a.mla.nope + op->a.mla.rot;
    a.dv = op->a.mla.dv;
    a.scale = op->a.mla.scale * PG_ATTN_LOG2E;
    a.dtype = kept_as(c);
    a.page_tokens = PG_SPAN;
    a.v_at = (int64_t)a.heads * a.dk * 2;
    a.k_row = a.v_row = a.heads * (a.dk + a.dv) * 2;
    a.page_bytes = (int64_t)PG_SPAN * a.k_row;
    a.raw = a.dk % 8 || a.dv % 8; /* slices then begin anywhere */
    a.k_chunks = (a.dk * 2 + 30) / 16;
    a.v_chunks = (a.dv * 2 + 30) / 16;
    return a;
}

/* Products a head, of which the expanded form must have fewer. */
static int is_cheaper(const pg_cuda *c, const pg_op *op)
{
    const int64_t latent = op->a.mla.latent, nope = op->a.mla.nope, rot = op->a.mla.rot, dv = op->a.mla.dv;
    const int64_t absorbed = c->keys_each * (2 * latent + rot) + c->rows_prefill * latent * (nope + dv);
    return c->keys_each * (nope + rot + dv) + c->keys_once * latent * (nope + dv) < absorbed;
}

static chunk chunk_of(const pg_cuda *c, const pg_op *op, const room *m)
{
    chunk k = {};
    char *at = c->scratch;
    k.step = reinterpret_cast<pg_cuda_step *>(at);
    k.pages = reinterpret_cast<int32_t *>(at += m->step);
    at += m->pages + m->stat + m->turned;
    k.keys = (int32_t)keys_in(m, c->scratch_bytes - fixed_of(m));
    k.width = (int32_t)pg_gemm_width(op->a.mla.latent);
    k.latent = reinterpret_cast<uint16_t *>(at);
    k.row = k.latent + (int64_t)k.keys * k.width;
    k.heads = op->a.mla.heads;
    k.nope = op->a.mla.nope;
    k.rot = op->a.mla.rot;
    k.dk = k.nope + k.rot;
    k.dv = op->a.mla.dv;
    k.latents = op->a.mla.latent;
    k.as = kept_as(c);
    return k;
}

void pg_cuda_mla(pg_cuda *c, const pg_op *op)
{
    pg_attn_args a = arguments(c, op);
    c->expanded = c->rows_prefill && !c->code->exact && is_cheaper(c, op) && pg_attn_mma_expands(c, &a);
    if (!c->expanded) return;
    const room m = room_of(c->code, op);
    const pg_kv_stream *stream = &c->kv.stream[op->a.mla.stream];
    const source s = { c->step,           c->kv.base,        c->kv.page_bytes, stream->offset,
                       c->kv.page_tokens, stream->row_bytes, c->kv.dtype };
    pg_stack key = pg_stack_of(pg_cuda_weight_of(c, op->w)), value = pg_stack_of(pg_cuda_weight_of(c, op->a.mla.v));
    pg_dtype key_type = pg_cuda_type_of(c, op->w);
    chunk k = chunk_of(c, op, &m);
    a.stat = reinterpret_cast<float *>(c->scratch + m.step + m.pages);
    a.cache = reinterpret_cast<const char *>(k.row);
    a.pages = k.pages;
    if (op->a.mla.across) {
        key = pg_gemm_turn(c, key_type, &key, k.heads, c->scratch + m.step + m.pages + m.stat, 0);
        key_type = PG_BF16;
    }
    const int32_t all = (int32_t)c->keys, most = k.keys;
    for (k.key0 = 0; k.key0 < all; k.key0 += most) {
        a.key0 = k.key0;
        a.keys = k.keys = all - k.key0 < most ? all - k.key0 : most;
        PG_LAUNCH(gather, dim3((unsigned)k.keys), THREADS, 0, c->stream, s, k);
        expand(c, &k, &key, key_type, 0, k.dk);
        expand(c, &k, &value, pg_cuda_type_of(c, op->a.mla.v), k.heads * k.dk, k.dv);
        pg_attn_mma_expanded(c, &a, c->rows_prefill);
    }
    pg_cuda_try(c, cudaGetLastError(), "attention over expanded latents");
}
