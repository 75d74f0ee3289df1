/* rows: what ops that go over rows element by element share: the shape of a launch, and V neighbouring numbers at once.
 *
 * Such an op is bound by memory, and in a decode step by the launch: a thread takes 16 bytes where everything is aligned
 * to them (V = 4), which is so for all shapes that models have, else one number. */
#ifndef PG_CUDA_ROWS_H
#define PG_CUDA_ROWS_H

#include "cuda.cuh"

template <int V> struct alignas(4 * V) pg_floats {
    float x[V];
};
template <int V> __device__ __forceinline__ pg_floats<V> pg_floats_at(const float *p)
{
    return *reinterpret_cast<const pg_floats<V> *>(p);
}
template <int V> __device__ __forceinline__ void pg_floats_put(float *p, const pg_floats<V> &v)
{
    *reinterpret_cast<pg_floats<V> *>(p) = v;
}

/* Whether columns can be taken four at a time: strides, offsets and lengths are multiples of four. */
static inline bool pg_by_four(int a, int b = 0, int c = 0, int d = 0, int e = 0)
{
    return ((a | b | c | d | e) & 3) == 0;
}

/* Threads for n_item items of n_row rows: item pg_item(), row pg_row() of each thread, both to be compared with the ends. A
 * block takes several rows where they are short. */
struct pg_shape {
    dim3 grid, block;
};
static inline pg_shape pg_shape_of(int n_item, int n_row)
{
    int wide = 1;
    while (wide < n_item && wide < 256) wide *= 2;
    const int high = 256 / wide;
    return { dim3((unsigned)((n_item + wide - 1) / wide), (unsigned)((n_row + high - 1) / high)),
             dim3((unsigned)wide, (unsigned)high) };
}
__device__ __forceinline__ int pg_item(void)
{
    return (int)(blockIdx.x * blockDim.x + threadIdx.x);
}
__device__ __forceinline__ int pg_row(void)
{
    return (int)(blockIdx.y * blockDim.y + threadIdx.y);
}

#endif
