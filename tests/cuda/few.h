/* few: a plan of ops with weights, run by the CPU backend and by ops of the CUDA backend, to compare what they make. The
 * device's side is filled by hand, so that an op is tested without the backend around it. */
#ifndef PG_TEST_FEW_H
#define PG_TEST_FEW_H

#include "../../kernels/cuda/cuda.cuh"
#include "../../kernels/cuda/planes.cuh"
#include "../c/check.h"
extern "C" {
#include "../../kernels/cpu/cpu.h"
#include "../../kernels/unpack/panel.h"
}
#include <deque>
#include <map>
#include <math.h>
#include <memory>
#include <vector>

static unsigned long long seed = 77;

static int below(int n)
{
    return (int)(check_rand(&seed) % (unsigned)n);
}

/* ---- weights ------------------------------------------------------------------------------------------------------ */

/* Where the f16 factors of a block stand. */
static std::vector<int> halves_of(pg_dtype type)
{
    switch (type) {
    case PG_Q4_1:
    case PG_Q5_1:
    case PG_Q4_K:
    case PG_Q5_K: return { 0, 2 };
    case PG_Q2_K: return { 80, 82 };
    case PG_Q3_K: return { 108 };
    case PG_Q6_K: return { 208 };
    case PG_MXFP4:
    case PG_F32: return {};
    default: return { 0 };
    }
}

/* A stack of matrices: random codes with factors of an ordinary size. */
struct weight {
    pg_tensor host;                                /* as stored */
    std::vector<pg_tensor> cpu;                    /* [count], packed where the CPU wants that */
    std::vector<std::vector<unsigned char>> store; /* what these look at */
    std::vector<float> factor;                     /* of FP8 */
    std::vector<unsigned char *> base;             /* [count] in device memory */
    pg_cuda_weight dev = {};

    weight(pg_dtype type, int k, int n, int count, int packed, int near = 1)
    {
        const pg_dtype_info *info = pg_dtype_get(type);
        const size_t bytes = pg_dtype_bytes(type, k) * (size_t)n;
        store.emplace_back(bytes * (size_t)count);
        std::vector<unsigned char> &all = store[0];
        for (size_t i = 0; i < all.size(); i++) all[i] = (unsigned char)check_rand(&seed);
        for (size_t b = 0; b < all.size(); b += (size_t)info->bytes) put_block(type, &all[b]);
        host = pg_tensor_dense(type, all.data(), k, n, count);
        const int rows = (n + 127) / 128, cols = (k + 127) / 128;
        for (int i = 0; type == PG_FP8 && i < count * rows * cols; i++) factor.push_back(check_uniform(&seed));
        for (int i = 0; i < count; i++) {
            pg_tensor t = pg_tensor_slice(&host, i);
            t.scale = type == PG_FP8 ? &factor[(size_t)i * rows * cols] : NULL;
            t.scale_stride = cols;
            t.row0 = 0;
            if (packed) pack(&t);
            cpu.push_back(t);
        }
        put_on_device(near);
    }

    static void put_block(pg_dtype type, unsigned char *b)
    {
        for (int at : halves_of(type)) {
            const float x = check_uniform(&seed) / 16;
            const uint16_t h = type == PG_BF16 ? pg_f32_to_bf16(x) : pg_f32_to_f16(x);
            if (type != PG_FP8) memcpy(b + at, &h, 2);
        }
        if (type == PG_F32) {
            const float x = check_uniform(&seed);
            memcpy(b, &x, 4);
        }
        if (type == PG_MXFP4) b[0] = (unsigned char)(122 + below(6));
        if (type == PG_FP8 && (*b & 0x7f) == 0x7f) *b = 0;
    }

    void pack(pg_tensor *t)
    {
        const int panels = (int)(t->shape[1] + PG_PANEL - 1) / PG_PANEL;
        store.emplace_back((size_t)pg_panel_bytes(t, t->shape[1]));
        for (int p = 0; p < panels; p++) pg_panel_pack(&store.back()[(size_t)p * PG_PANEL * t->stride[1]], t, p);
        t->data = store.back().data();
        t->packed = 1;
    }

    void put_on_device(int near)
    {
        const pg_tensor &t = host;
        const pg_dtype_info *info = pg_dtype_get(t.dtype);
        const int64_t k = t.shape[0], n = t.shape[1], blocks = k / info->block * n, count = t.shape[2];
        dev.at = pg_planes_lay_out(t.dtype, k, n);
        dev.count = (int32_t)count;
        dev.all_near = near;
        int32_t from[PG_PLANES], length[PG_PLANES];
        const int planes = pg_planes_of(t.dtype, from, length);
        unsigned char *all = NULL;
        cudaMalloc(&all, (size_t)(dev.at.bytes * count));
        for (int64_t i = 0; i < count; i++) {
            std::vector<unsigned char> m((size_t)dev.at.bytes);
            for (int p = 0; p < planes; p++)
                for (int64_t b = 0; b < blocks; b++)
                    memcpy(&m[(size_t)(dev.at.plane[p] + b * length[p])],
                           static_cast<const char *>(t.data) + i * t.stride[2] + b * info->bytes + from[p],
                           (size_t)length[p]);
            const size_t part = factor.size() / (size_t)count;
            if (part) memcpy(&m[(size_t)dev.at.plane[1]], &factor[(size_t)i * part], part * sizeof(float));
            /* far apart and backwards, unless they are to be near */
            unsigned char *at = all + (near ? i : count - 1 - i) * dev.at.bytes;
            cudaMemcpy(at, m.data(), m.size(), cudaMemcpyHostToDevice);
            base.push_back(at);
        }
        const unsigned char **table = NULL;
        cudaMalloc(&table, (size_t)count * sizeof *table);
        cudaMemcpy(table, base.data(), (size_t)count * sizeof *table, cudaMemcpyHostToDevice);
        dev.base = table;
        dev.first = base[0];
    }
};

/* ---- the plan ----------------------------------------------------------------------------------------------------- */

struct plan {
    std::vector<pg_value> value;
    std::deque<pg_op> op;
    std::vector<pg_op> ops; /* op, in one piece */
    std::map<const void *, const pg_cuda_weight *> weights;
    std::map<const float *, const float *> vectors;
    pg_code code = {};
    pg_cuda dev = {};
    pg_cpu *cpu = NULL;

    pg_ref add(int width)
    {
        const int64_t rows = code.max_rows;
        value.push_back({ width, PG_ROWS_ALL, code.arena_bytes });
        code.arena_bytes += (rows * width * 4 + 63) / 64 * 64;
        return (pg_ref)value.size() - 1;
    }
    explicit plan(int max_rows) { code.max_rows = code.max_sampled = code.max_decode = max_rows; }
    void use(const weight &w, const pg_tensor *first) { weights[first->data] = &w.dev; }
    void use(const std::vector<float> &v)
    {
        float *at = NULL;
        if (v.empty()) return;
        cudaMalloc(&at, v.size() * sizeof(float));
        cudaMemcpy(at, v.data(), v.size() * sizeof(float), cudaMemcpyHostToDevice);
        vectors[v.data()] = at;
    }
    void close(int64_t (*scratch)(const pg_cuda *, const pg_code *, const pg_op *))
    {
        const char *why = NULL;
        ops.assign(op.begin(), op.end());
        code.op = ops.data();
        code.n_op = (int32_t)ops.size();
        code.value = value.data();
        code.n_value = (int32_t)value.size();
        pg_backend *b = pg_cpu_open(1, "", &why);
        cpu = reinterpret_cast<pg_cpu *>(b);
        CHECK(b->ops->prepare(b, &code) == 0, "no memory");
        dev.code = &code;
        dev.n_sm = 132;
        dev.arch = 90;
        cudaMalloc(&dev.arena, (size_t)code.arena_bytes);
        for (const pg_op &o : ops)
            if (scratch(&dev, &code, &o) > dev.scratch_bytes) dev.scratch_bytes = scratch(&dev, &code, &o);
        cudaMalloc(&dev.scratch, (size_t)dev.scratch_bytes + 1);
        cudaStreamCreate(&dev.stream);
        current = this;
    }
    ~plan()
    {
        if (cpu) cpu->base.ops->close(&cpu->base);
    }

    float *row(pg_ref r, int i) /* of a value on the CPU: inputs go there before run, results stand there after it */
    {
        return pg_cpu_rows(cpu, r) + (int64_t)i * value[r].width;
    }

    /* Both of them over n rows, the device launched for `launched` of them. */
    void run(int n, int launched, void (*op)(pg_cuda *, const pg_op *))
    {
        pg_rows rows = {};
        rows.n = n;
        cudaMemcpy(dev.arena, pg_cpu_rows(cpu, 0), (size_t)code.arena_bytes, cudaMemcpyHostToDevice);
        cpu->base.ops->run(&cpu->base, &rows, NULL);
        pg_cuda_step step = {}, *at = NULL;
        step.n = n;
        cudaMalloc(&at, sizeof step);
        cudaMemcpy(at, &step, sizeof step, cudaMemcpyHostToDevice);
        dev.step = at;
        dev.rows = dev.sampled = launched;
        for (const pg_op &o : ops) op(&dev, &o);
        CHECK(cudaStreamSynchronize(dev.stream) == cudaSuccess && !dev.why, "%s", dev.why ? dev.why : "");
        cudaFree(at);
    }
    std::vector<float> made(pg_ref r, int n)
    {
        std::vector<float> y((size_t)n * value[r].width);
        cudaMemcpy(y.data(), dev.arena + value[r].offset, y.size() * sizeof(float), cudaMemcpyDeviceToHost);
        return y;
    }
    /* Values of the device that are further from the CPU's than rounding of sums explains. */
    int wrong(pg_ref r, int n)
    {
        const std::vector<float> y = made(r, n);
        const int width = value[r].width;
        int bad = 0;
        for (int i = 0; i < n; i++) {
            float most = 0;
            for (int o = 0; o < width; o++)
                if (isfinite(row(r, i)[o])) most = fmaxf(most, fabsf(row(r, i)[o]));
            for (int o = 0; o < width; o++) {
                const float a = y[(size_t)i * width + o], b = row(r, i)[o];
                bad += isnan(a) || isnan(b) ? isnan(a) != isnan(b) : a != b && !(fabsf(a - b) <= 1e-5f * most);
            }
        }
        return bad;
    }

    static plan *current;
};
plan *plan::current;

const pg_cuda_weight *pg_cuda_weight_of(const pg_cuda *, const pg_tensor *t)
{
    return plan::current->weights.at(t->data);
}
const float *pg_cuda_vector_of(const pg_cuda *, const float *v)
{
    return v ? plan::current->vectors.at(v) : NULL;
}
int pg_cuda_try(pg_cuda *c, cudaError_t e, const char *what)
{
    if (e != cudaSuccess && !c->why) c->why = what;
    return e != cudaSuccess;
}

/* ---- planes ------------------------------------------------------------------------------------------------------- */

int pg_planes_of(pg_dtype type, int32_t from[PG_PLANES], int32_t length[PG_PLANES])
{
    const pg_plane_fields f = pg_plane_fields_of(type);
    for (int i = 0; i < f.n; i++) from[i] = f.from[i], length[i] = f.length[i];
    return f.n;
}

pg_planes pg_planes_lay_out(pg_dtype type, int64_t k, int64_t n)
{
    pg_planes p = {};
    int32_t from[PG_PLANES];
    p.dtype = type;
    p.n_plane = pg_planes_of(type, from, p.field);
    p.k = k;
    p.n = n;
    for (int i = 0; i < p.n_plane; i++) {
        p.plane[i] = p.bytes;
        p.bytes += (k / pg_dtype_get(type)->block * n * p.field[i] + 255) / 256 * 256;
    }
    if (type == PG_FP8) {
        p.plane[p.n_plane++] = p.bytes;
        p.bytes += ((n + 127) / 128 * ((k + 127) / 128) * 4 + 255) / 256 * 256;
    }
    return p;
}

#endif
