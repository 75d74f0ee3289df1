/* harness: a small plan with random inputs, run on the CPU backend and by op functions of the CUDA backend, compared.
 *
 * A test makes values, weights, vectors and ops, says which rows the step has, runs both and compares rows. On the CUDA
 * side there is no backend.cu: this file fills a pg_cuda by hand and answers for weights, so an op can be tested before,
 * and apart from, whatever stands around it. It also sees that an op writes nothing but the rows it should: memory that
 * is not a row of this step must keep the bytes it had.
 * Against the emulator everything runs three times, with warps and lanes in different order, and must give the same
 * bits. */
#ifndef PG_TEST_CUDA_HARNESS_H
#define PG_TEST_CUDA_HARNESS_H

#include "../../kernels/cuda/cuda.cuh"
#include "../../kernels/cuda/planes.cuh"
extern "C" {
#include "../../kernels/unpack/panel.h"
#include "../../kernels/unpack/unpack.h"
}
#include "../c/check.h"

#include <deque>
#include <map>
#include <math.h>
#include <string>
#include <vector>

typedef void harness_op(pg_cuda *c, const pg_op *op);

/* One matrix or a stack, as the CPU has it (quantised ones packed), as stored, and on the device. */
struct harness_weight {
    std::vector<pg_tensor> cpu, plain;
    std::vector<char> bytes, packed;
    std::vector<float> scale;
    pg_cuda_weight device;
    std::vector<void *> owned;
};

struct harness {
    unsigned long long seed = 1;
    int max_rows = 32, max_sampled = 8, exact = 0;
    std::vector<pg_value> value;
    std::deque<pg_op> op;
    int64_t arena_bytes = 0, scratch_bytes = 0;
    std::vector<char> arena, by_cpu, by_cuda; /* before; after */
    std::vector<harness_weight *> weight;
    std::map<const float *, std::pair<float *, int64_t>> vector; /* host's address -> device's, and how many */
    /* The step: rows, and the page of each position; harness_step fills them. */
    int n = 0, n_prefill = 0, n_sampled = 0, n_sampled_prefill = 0, bucket = 0, bucket_sampled = 0;
    std::vector<int32_t> token, pos, seq, sampled;
    std::vector<std::vector<int32_t>> pages;
    /* The cache. */
    pg_kv kv = {};
    std::vector<pg_kv_stream> stream;
    std::vector<char> cache, cache_cpu, cache_cuda;
};

static harness *harness_now; /* whose weights pg_cuda_weight_of answers for */

static inline float harness_uniform(harness *h)
{
    return check_uniform(&h->seed);
}
static inline int harness_below(harness *h, int n)
{
    return (int)(check_rand(&h->seed) % (unsigned)n);
}

/* ---- what a plan is made of --------------------------------------------------------------------------------------- */

/* A value with random numbers in [-size, size], for all rows that a step may have. */
static inline pg_ref harness_value(harness *h, int width, int rows = PG_ROWS_ALL, float size = 1.0f)
{
    const int64_t words = (int64_t)width * (rows == PG_ROWS_ALL ? h->max_rows : h->max_sampled);
    h->value.push_back({ width, rows, h->arena_bytes });
    h->arena.resize((size_t)(h->arena_bytes + words * 4));
    float *x = reinterpret_cast<float *>(h->arena.data() + h->arena_bytes);
    for (int64_t i = 0; i < words; i++) x[i] = size * harness_uniform(h);
    h->arena_bytes = (h->arena_bytes + words * 4 + 63) / 64 * 64;
    h->arena.resize((size_t)h->arena_bytes, (char)0x55);
    return (pg_ref)h->value.size() - 1;
}

/* The number in a row of a value as the step will find it; for inputs that are not random. */
static inline float *harness_at(harness *h, pg_ref r, int row, int col)
{
    return reinterpret_cast<float *>(h->arena.data() + h->value[r].offset) + (int64_t)row * h->value[r].width + col;
}

/* An op without arguments; the caller fills op->a. */
static inline pg_op *harness_emit(harness *h, pg_opcode code, pg_ref dst, pg_ref a, pg_ref b = PG_NO_REF)
{
    pg_op op;
    memset(&op, 0, sizeof op);
    op.code = code;
    op.dst = dst;
    op.src[0] = a;
    op.src[1] = b;
    h->op.push_back(op);
    return &h->op.back();
}

/* n numbers in [middle - size, middle + size], in host memory and on the device. */
static inline const float *harness_vector(harness *h, int64_t n, float middle, float size)
{
    float *x = static_cast<float *>(malloc((size_t)n * sizeof *x)), *d;
    for (int64_t i = 0; i < n; i++) x[i] = middle + size * harness_uniform(h);
    if (cudaMalloc(&d, (size_t)n * sizeof *d) || cudaMemcpy(d, x, (size_t)n * sizeof *x, cudaMemcpyHostToDevice))
        abort();
    h->vector[x] = { d, n };
    return x;
}

#include "harness_weight.h"

/* ---- a step ------------------------------------------------------------------------------------------------------- */

/* Random rows: n_seq sequences, each with some rows at neighbouring positions below `longest`; the prefill class first.
 * bucket: rows to launch for, at least the rows that there are. */
static inline void harness_step(harness *h, int n, int n_prefill, int n_sampled, int longest, int vocabulary)
{
    h->n = n;
    h->n_prefill = n_prefill;
    h->bucket = n + harness_below(h, h->max_rows - n + 1);
    h->token.clear();
    h->pos.clear();
    h->seq.clear();
    h->sampled.clear();
    int n_seq = 0;
    for (int r = 0; r < n;) {
        const int most = r < n_prefill ? n_prefill - r : 1; /* a decode row is a sequence of its own */
        int here = 1 + harness_below(h, most);
        if (here > longest) here = longest;
        const int at = harness_below(h, longest - here + 1);
        for (int i = 0; i < here; i++, r++) {
            h->token.push_back(harness_below(h, vocabulary));
            h->pos.push_back(at + i);
            h->seq.push_back(n_seq);
        }
        n_seq++;
    }
    const int tokens = h->kv.page_tokens ? h->kv.page_tokens : 16, per = (longest + tokens - 1) / tokens;
    h->pages.assign(n_seq, std::vector<int32_t>());
    std::vector<int32_t> all;
    for (int i = 0; i < n_seq * per; i++) all.insert(all.begin() + harness_below(h, i + 1), i);
    for (int s = 0; s < n_seq; s++) h->pages[s].assign(all.begin() + s * per, all.begin() + (s + 1) * per);
    if (n_sampled > n) n_sampled = n;
    std::vector<int> chosen(n);
    for (int i = 0; i < n_sampled;) {
        const int r = harness_below(h, n);
        if (!chosen[r]) i++;
        chosen[r] = 1;
    }
    h->n_sampled_prefill = 0;
    for (int r = 0; r < n; r++)
        if (chosen[r]) h->sampled.push_back(r), h->n_sampled_prefill += r < n_prefill;
    h->n_sampled = n_sampled;
    h->bucket_sampled = n_sampled + harness_below(h, h->max_sampled - n_sampled + 1);
}

/* A cache of these streams with random rows, for the sequences of harness_step (call it first to say page_tokens). */
static inline void harness_cache(harness *h, pg_dtype type, int page_tokens, const std::vector<int> &width, int pages)
{
    const int block = pg_dtype_get(type)->block;
    int64_t at = 0;
    h->stream.clear();
    for (int w : width) {
        const int64_t bytes = (int64_t)pg_dtype_bytes(type, (w + block - 1) / block * block);
        h->stream.push_back({ at, w, (int32_t)bytes });
        at += (bytes * page_tokens + 63) / 64 * 64;
    }
    h->kv = {};
    h->kv.page_bytes = at;
    h->kv.page_tokens = page_tokens;
    h->kv.n_stream = (int32_t)width.size();
    h->kv.dtype = type;
    h->kv.stream = h->stream.data();
    h->cache.assign((size_t)(at * pages), (char)0x55);
    std::vector<float> row;
    for (int p = 0; p < pages; p++)
        for (const pg_kv_stream &s : h->stream)
            for (int t = 0; t < page_tokens; t++) {
                row.assign((size_t)(s.width + block - 1) / block * block, 0.0f);
                for (int i = 0; i < s.width; i++) row[i] = harness_uniform(h);
                char *to = h->cache.data() + p * at + s.offset + (int64_t)t * s.row_bytes;
                if (type == PG_F32)
                    memcpy(to, row.data(), row.size() * 4);
                else
                    pg_pack_of(type)(to, row.data(), (int64_t)row.size());
            }
}

static inline pg_code harness_code(const harness *h, std::vector<pg_op> *op)
{
    op->assign(h->op.begin(), h->op.end());
    pg_code code = {};
    code.op = op->data();
    code.value = h->value.data();
    code.n_op = (int32_t)op->size();
    code.n_value = (int32_t)h->value.size();
    code.max_rows = h->max_rows;
    code.max_sampled = h->max_sampled;
    code.max_decode = h->max_rows;
    code.exact = h->exact;
    code.arena_bytes = h->arena_bytes;
    return code;
}

/* ---- both sides --------------------------------------------------------------------------------------------------- */

static inline void harness_run_cpu(harness *h)
{
    std::vector<pg_op> op;
    const pg_code code = harness_code(h, &op);
    const char *why = "";
    pg_backend *b = pg_cpu_open(1, NULL, &why);
    if (!b || b->ops->prepare(b, &code)) abort();
    char *arena = static_cast<char *>(const_cast<void *>(b->ops->read(b, 0))) - h->value[0].offset;
    memcpy(arena, h->arena.data(), h->arena.size());
    std::vector<const int32_t *> pages;
    for (const std::vector<int32_t> &p : h->pages) pages.push_back(p.data());
    pg_rows rows = { h->n,          h->n_prefill,  h->n_sampled,      h->n_sampled_prefill, h->token.data(),
                     h->pos.data(), h->seq.data(), h->sampled.data(), pages.data() };
    h->cache_cpu = h->cache;
    h->kv.base = h->cache_cpu.data();
    b->ops->run(b, &rows, &h->kv);
    h->by_cpu.assign(arena, arena + h->arena_bytes);
    b->ops->close(b);
}

template <class T> static inline T *harness_device(const std::vector<T> &x)
{
    T *d;
    if (cudaMalloc(&d, x.size() * sizeof(T) + 1)) abort();
    if (cudaMemcpy(d, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice)) abort();
    return d;
}

/* Run every op by its function; what the runtime says is checked. */
static inline void harness_run_once(harness *h, harness_op *run, const char *name)
{
    std::vector<pg_op> op;
    const pg_code code = harness_code(h, &op);
    std::vector<int32_t> pages;
    size_t page_step = 1;
    for (const std::vector<int32_t> &p : h->pages) page_step = p.size() > page_step ? p.size() : page_step;
    for (const std::vector<int32_t> &p : h->pages) {
        pages.insert(pages.end(), p.begin(), p.end());
        pages.resize((pages.size() + page_step - 1) / page_step * page_step);
    }
    int32_t *token = harness_device(h->token), *pos = harness_device(h->pos), *seq = harness_device(h->seq);
    int32_t *sampled = harness_device(h->sampled), *page = harness_device(pages), longest = 0;
    for (int32_t p : h->pos) longest = p + 1 > longest ? p + 1 : longest;
    pg_cuda *c = new pg_cuda();
    std::vector<int32_t> row(h->n_prefill + 1), key(h->n_prefill + 1);
    const int32_t n_span = pg_cuda_spans(c, h->pos.data(), h->seq.data(), h->n_prefill, row.data(), key.data());
    int32_t *span_row = harness_device(row), *span_key = harness_device(key);
    const pg_cuda_step step = { h->n, h->n_prefill, h->n_sampled, h->n_sampled_prefill, longest, token,    pos,
                                seq,  sampled,      page,         (int32_t)page_step,   n_span,  span_row, span_key };
    pg_cuda_step *step_at = harness_device(std::vector<pg_cuda_step>{ step });
    int sms = 0, major = 0, minor = 0;
    cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
    c->n_sm = sms;
    c->arch = 10 * major + minor;
    cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    c->code = &code;
    c->arena = harness_device(h->arena);
    c->scratch_bytes = h->scratch_bytes;
    c->scratch = harness_device(std::vector<char>((size_t)h->scratch_bytes, (char)0xff));
    c->step = step_at;
    c->rows = h->bucket;
    c->sampled = h->bucket_sampled;
    c->rows_prefill = h->n_prefill;
    c->now = step;
    c->now.n = h->bucket;
    c->now.n_sampled = h->bucket_sampled;
    c->kv = h->kv;
    c->kv.base = harness_device(h->cache);
    harness_now = h;
    for (const pg_op &o : op) run(c, &o);
    const cudaError_t e = cudaStreamSynchronize(c->stream), last = cudaGetLastError();
    CHECK(e == cudaSuccess && last == cudaSuccess && c->error == cudaSuccess, "%s: %s, %s, %s: %s", name,
          cudaGetErrorString(e), cudaGetErrorString(last), c->why ? c->why : "", cudaGetErrorString(c->error));
    h->by_cuda.resize(h->arena.size());
    h->cache_cuda.resize(h->cache.size());
    cudaMemcpy(h->by_cuda.data(), c->arena, h->by_cuda.size(), cudaMemcpyDeviceToHost);
    cudaMemcpy(h->cache_cuda.data(), c->kv.base, h->cache_cuda.size(), cudaMemcpyDeviceToHost);
    void *const owned[] = { token,    pos,     seq,      sampled,    page,      span_row,
                            span_key, step_at, c->arena, c->scratch, c->kv.base };
    for (void *p : owned) cudaFree(p);
    cudaStreamDestroy(c->stream);
    delete c;
}

static inline void harness_run_cuda(harness *h, harness_op *run, const char *name)
{
#ifdef PG_EMU
    harness_run_once(h, run, name);
    for (int order : { PG_EMU_BACKWARD, PG_EMU_RANDOM }) {
        const std::vector<char> arena = h->by_cuda, cache = h->cache_cuda;
        pg_emu_order(order);
        harness_run_once(h, run, name);
        CHECK(arena == h->by_cuda && cache == h->cache_cuda, "%s: the result depends on who comes first", name);
    }
    pg_emu_order(PG_EMU_TURNS);
#else
    harness_run_once(h, run, name);
#endif
}

/* ---- comparing ---------------------------------------------------------------------------------------------------- */

static inline int harness_count(const harness *h, pg_ref r)
{
    return h->value[r].rows == PG_ROWS_ALL ? h->n : h->n_sampled;
}

/* Rows of a value after both runs: within tolerance times the row's largest number, NaN and infinities alike; rows that
 * the step does not have as they were. */
static inline void harness_close(harness *h, pg_ref r, float tolerance, const char *name)
{
    const pg_value v = h->value[r];
    const float *want = reinterpret_cast<const float *>(h->by_cpu.data() + v.offset);
    const float *got = reinterpret_cast<const float *>(h->by_cuda.data() + v.offset);
    const int rows = harness_count(h, r), most = v.rows == PG_ROWS_ALL ? h->max_rows : h->max_sampled;
    for (int i = 0; i < rows; i++) {
        float size = 0, worst = 0;
        int at = 0, odd = -1;
        for (int c = 0; c < v.width; c++) {
            const float a = want[(int64_t)i * v.width + c], b = got[(int64_t)i * v.width + c];
            if (isfinite(a) && fabsf(a) > size) size = fabsf(a);
            if (!isfinite(a) || !isfinite(b)) {
                if (isnan(a) ? !isnan(b) : a != b) odd = c;
            } else if (fabsf(a - b) > worst) {
                worst = fabsf(a - b);
                at = c;
            }
        }
        if (odd >= 0) worst = INFINITY, at = odd;
        CHECK(worst <= tolerance * size, "%s, seed %llu: row %d of %d, column %d of %d: %g, not %g", name, h->seed, i,
              rows, at, v.width, got[(int64_t)i * v.width + at], want[(int64_t)i * v.width + at]);
        if (worst > tolerance * size) break;
    }
    CHECK(memcmp(got + (int64_t)rows * v.width, h->arena.data() + v.offset + (int64_t)rows * v.width * 4,
                 (size_t)(most - rows) * v.width * 4) == 0,
          "%s: rows that the step does not have were written", name);
}

/* Everything but these values is as it was. */
static inline void harness_untouched(harness *h, const std::vector<pg_ref> &but, const char *name)
{
    std::vector<char> want = h->arena, got = h->by_cuda;
    for (pg_ref r : but) {
        const int64_t bytes =
            (int64_t)h->value[r].width * 4 * (h->value[r].rows == PG_ROWS_ALL ? h->max_rows : h->max_sampled);
        memset(want.data() + h->value[r].offset, 0, (size_t)bytes);
        memset(got.data() + h->value[r].offset, 0, (size_t)bytes);
    }
    CHECK(want == got, "%s: a value that is no result was written", name);
}

static inline void harness_close_all(harness *h)
{
    for (harness_weight *w : h->weight) {
        for (void *p : w->owned) cudaFree(p);
        delete w;
    }
    for (auto &v : h->vector) {
        cudaFree(v.second.first);
        free(const_cast<float *>(v.first));
    }
}

/* ---- what backend.cu would answer --------------------------------------------------------------------------------- */

#ifndef HARNESS_WITH_BACKEND
int pg_cuda_try(pg_cuda *c, cudaError_t e, const char *what)
{
    if (e == cudaSuccess) return 0;
    if (c->error == cudaSuccess) {
        c->error = e;
        c->why = what;
    }
    return 1;
}
const pg_cuda_weight *pg_cuda_weight_of(const pg_cuda *c, const pg_tensor *t)
{
    (void)c;
    for (harness_weight *w : harness_now->weight)
        if (t == w->cpu.data()) return &w->device;
    return NULL;
}
const float *pg_cuda_vector_of(const pg_cuda *c, const float *v)
{
    (void)c;
    auto it = harness_now->vector.find(v);
    return it == harness_now->vector.end() ? NULL : it->second.first;
}
#endif

#endif
