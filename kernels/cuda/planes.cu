/* planes.cu: stored rows of blocks become planes.
 *
 * Lives here: the geometry of a matrix on the device, and the kernel that cuts rows which have just been copied there.
 * Not here: the table of fields (planes.cuh), who copies what where (weights.cu).
 * Cutting is done on the device because a processor that gathers two bytes here and 32 there is slower than the bus. */
#include "backend.cuh"

int pg_planes_of(pg_dtype dtype, int32_t from[PG_PLANES], int32_t length[PG_PLANES])
{
    const pg_plane_fields f = pg_plane_fields_of(dtype);
    for (int i = 0; i < PG_PLANES; i++) {
        from[i] = i < f.n ? f.from[i] : 0;
        length[i] = i < f.n ? f.length[i] : 0;
    }
    return f.n;
}

pg_planes pg_planes_lay_out(pg_dtype dtype, int64_t k, int64_t n)
{
    const pg_plane_fields f = pg_plane_fields_of(dtype);
    const int64_t blocks = f.n ? k / pg_dtype_get(dtype)->block * n : 0;
    pg_planes p = {};
    p.dtype = dtype;
    p.n_plane = f.n;
    p.k = k;
    p.n = n;
    for (int i = 0; i < f.n; i++) {
        p.field[i] = f.length[i];
        p.plane[i] = p.bytes;
        p.bytes = pg_cuda_up(p.bytes + blocks * f.length[i]);
    }
    if (dtype == PG_FP8) {
        p.field[p.n_plane] = (int32_t)sizeof(float);
        p.plane[p.n_plane++] = p.bytes;
        p.bytes = pg_cuda_up(p.bytes + (n + 127) / 128 * ((k + 127) / 128) * (int64_t)sizeof(float));
    }
    return p;
}

/* ---- cutting ------------------------------------------------------------------------------------------------------ */

enum { PIECE = 16, THREADS = 256 }; /* bytes of a plane that a thread writes at a time */

struct cut {
    const unsigned char *from; /* blocks as they are stored */
    int64_t blocks;
    int32_t block;                /* bytes of one */
    unsigned char *to[PG_PLANES]; /* where the first block's field goes */
    int32_t at[PG_PLANES], length[PG_PLANES];
    int64_t first[PG_PLANES + 1]; /* pieces are counted through all planes */
};

static __global__ void cut_blocks(cut j)
{
    const int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < j.first[PG_PLANES]; i += step) {
        const int p = (i >= j.first[1]) + (i >= j.first[2]) + (i >= j.first[3]);
        int64_t first = 0;
        int32_t at = 0, length = 1;
        unsigned char *to = NULL;
#pragma unroll
        for (int q = 0; q < PG_PLANES; q++) /* chosen, so that nothing is indexed at run time */
            if (q == p) first = j.first[q], at = j.at[q], length = j.length[q], to = j.to[q];
        const int64_t begin = (i - first) * PIECE, all = j.blocks * length;
        const int n = all - begin < PIECE ? (int)(all - begin) : PIECE;
        int64_t block = begin / length;
        int byte = (int)(begin - block * length);
        uint32_t word[PIECE / 4] = { 0, 0, 0, 0 };
#pragma unroll
        for (int b = 0; b < PIECE; b++) {
            if (b < n) word[b / 4] |= (uint32_t)j.from[block * j.block + at + byte] << 8 * (b % 4);
            if (++byte == length) byte = 0, block++;
        }
        to += begin;
        if (n == PIECE && ((uintptr_t)to & (PIECE - 1)) == 0) {
            *reinterpret_cast<uint4 *>(to) = make_uint4(word[0], word[1], word[2], word[3]);
            continue;
        }
#pragma unroll
        for (int b = 0; b < PIECE; b++)
            if (b < n) to[b] = (unsigned char)(word[b / 4] >> 8 * (b % 4));
    }
}

void pg_planes_cut(cudaStream_t stream, const pg_planes *p, unsigned char *matrix, int64_t block0, int64_t blocks,
                   const void *stored)
{
    const pg_plane_fields f = pg_plane_fields_of(p->dtype);
    cut j = {};
    j.from = static_cast<const unsigned char *>(stored);
    j.blocks = blocks;
    j.block = pg_dtype_get(p->dtype)->bytes;
    for (int i = 0; i < PG_PLANES; i++) {
        const int32_t length = i < f.n ? f.length[i] : 0;
        j.at[i] = i < f.n ? f.from[i] : 0;
        j.length[i] = length;
        j.to[i] = i < f.n ? matrix + p->plane[i] + block0 * length : NULL;
        j.first[i + 1] = j.first[i] + (blocks * length + PIECE - 1) / PIECE;
    }
    const int64_t wanted = (j.first[PG_PLANES] + THREADS - 1) / THREADS;
    if (wanted) PG_LAUNCH(cut_blocks, (unsigned)(wanted < 4096 ? wanted : 4096), THREADS, 0, stream, j);
}

cudaError_t pg_planes_runs_here(void)
{
    cudaFuncAttributes a;
    return cudaFuncGetAttributes(&a, cut_blocks);
}
