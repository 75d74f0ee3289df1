/* gemm_check_cuda: may products of many rows take wgmma on this device?
 *
 * Not only a matter of the device: the library may have been built without the target sm_90a, and nobody wants to find out by
 * wrong numbers. So one product is made both ways when the device is opened, and compared. */
#include "gemm_cuda.cuh"

#include <math.h>
#include <vector>

enum { CHECK_ROWS = 200, CHECK_K = 192, CHECK_N = 200 };

static uint16_t some_bf16(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return pg_f32_to_bf16((float)(int32_t)*state * 0x1p-31f);
}

/* y of one product: step, x and w begin at `mem`, y follows. */
static int multiply(pg_cuda *c, char *mem, const pg_gemm_kernel *kernel, std::vector<float> *y)
{
    pg_gemm g = {};
    const size_t x = 256, w = x + CHECK_ROWS * CHECK_K * 2, out = w + CHECK_N * CHECK_K * 2, bytes = y->size() * 4;
    g.w[0].first = reinterpret_cast<const unsigned char *>(mem + w);
    g.w[0].k = g.w[0].blocks = g.k = CHECK_K;
    g.w[0].n = CHECK_N;
    g.groups = g.all = g.split = 1;
    g.step = reinterpret_cast<const pg_cuda_step *>(mem);
    g.x = mem + x;
    g.x_width = CHECK_K;
    g.y = reinterpret_cast<float *>(mem + out);
    g.y_width = CHECK_N;
    g.scale = 1;
    if (pg_cuda_try(c, cudaMemsetAsync(g.y, 0xff, bytes, c->stream), "trying a product")) return -1;
    pg_gemm_launch(c, kernel, &g, 8);
    return pg_cuda_try(c, cudaMemcpyAsync(y->data(), g.y, bytes, cudaMemcpyDeviceToHost, c->stream),
                       "trying a product") ||
                   pg_cuda_try(c, cudaStreamSynchronize(c->stream), "trying a product")
               ? -1
               : 0;
}

/* Sums of the same products in another order. */
static int agree(const std::vector<float> &a, const std::vector<float> &b)
{
    double off = 0, size = 0;
    for (size_t i = 0; i < a.size(); i++) {
        off += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)a[i] * a[i];
    }
    return off <= 1e-8 * size && size > 0;
}

static int try_all(pg_cuda *c, char *mem, const std::vector<char> &in)
{
    std::vector<float> want(CHECK_ROWS * CHECK_N), got(want.size());
    if (pg_cuda_try(c, cudaMemcpyAsync(mem, in.data(), in.size(), cudaMemcpyHostToDevice, c->stream),
                    "trying a product"))
        return -1;
    const pg_gemm_kernel mma = pg_gemm_mma(PG_BF16, 128, 1);
    if (multiply(c, mem, &mma, &want)) return -1;
    int fine = 1;
    for (int rows = 128; rows <= 256; rows += 128) {
        const pg_gemm_kernel wgmma = pg_gemm_wgmma(PG_BF16, rows);
        if (multiply(c, mem, &wgmma, &got)) return -1;
        fine &= agree(want, got);
    }
    c->wgmma = fine;
    return 0;
}

int pg_cuda_gemm_open(pg_cuda *c)
{
    c->wgmma = 0;
    if (c->arch / 10 != 9) return 0;
    pg_cuda_step step = {};
    uint32_t state = 1;
    step.n = CHECK_ROWS;
    std::vector<char> in(256 + (CHECK_ROWS + CHECK_N) * CHECK_K * 2);
    memcpy(in.data(), &step, sizeof step);
    for (size_t at = 256; at < in.size(); at += 2) {
        const uint16_t h = some_bf16(&state);
        memcpy(in.data() + at, &h, sizeof h);
    }
    char *mem;
    if (pg_cuda_try(c, cudaMalloc(&mem, in.size() + CHECK_ROWS * CHECK_N * 4), "memory to try a product")) return -1;
    const int rc = try_all(c, mem, in);
    cudaFree(mem);
    return rc;
}
