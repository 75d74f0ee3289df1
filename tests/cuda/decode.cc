/* decode: the decoders over planes against the plain C definition of each format (unpack/blocks.c and the reference
 * rows of unpack), for random bytes, which hold every code, every scale and factors that are not finite. */
#include "../../kernels/matmul/decode.cuh"
#include "../c/check.h"

extern "C" {
#include "../../kernels/unpack/blocks.h"
#include "../../kernels/unpack/unpack.h"
}
#include <math.h>
#include <vector>

typedef std::vector<unsigned char> bytes;

static unsigned long long seed = 20;

static int same(float a, float b)
{
    return (isnan(a) && isnan(b)) || pg_bits_from_f32(a) == pg_bits_from_f32(b);
}

/* A matrix of n stored rows of k columns, and the same as planes, each 16-byte aligned. */
struct matrix {
    bytes rows, planes[4];
    std::vector<float> factor; /* of FP8 */
    pg_view view;

    matrix(pg_dtype type, int k, int n)
    {
        const pg_dtype_info *info = pg_dtype_get(type);
        const pg_plane_fields f = pg_plane_fields_of(type);
        const int blocks = k / info->block;
        int bytes_of_fields = 0;
        rows.resize((size_t)n * blocks * info->bytes);
        for (unsigned char &b : rows) b = (unsigned char)check_rand(&seed);
        view = {};
        view.k = k;
        view.blocks = blocks;
        for (int i = 0; i < f.n; i++) {
            for (int b = 0; b < n * blocks; b++) {
                const unsigned char *from = &rows[(size_t)b * info->bytes + f.from[i]];
                planes[i].insert(planes[i].end(), from, from + f.length[i]);
            }
            view.plane[i] = planes[i].data();
            bytes_of_fields += f.length[i];
        }
        CHECK(bytes_of_fields == info->bytes, "%s: the fields are not the block", info->name);
        if (type != PG_FP8) return;
        for (int i = 0; i < (n + 127) / 128 * ((k + 127) / 128); i++) factor.push_back(check_uniform(&seed));
        view.plane[1] = reinterpret_cast<const unsigned char *>(factor.data());
    }
};

/* Every value of every row, by pieces, against the unpacked row. */
template <pg_dtype T> static void values(int k, int n)
{
    typedef pg_format<T> F;
    const matrix m(T, k, n);
    pg_tensor t = pg_tensor_dense(T, m.rows.data(), k, n, 1);
    t.scale = T == PG_FP8 ? m.factor.data() : NULL;
    t.scale_stride = (k + 127) / 128;
    std::vector<float> want((size_t)k);
    std::vector<char> seen;
    for (int r = 0; r < n; r++) {
        pg_unpack_row(want.data(), &t, r, 0, k);
        seen.assign((size_t)k, 0);
        int wrong = 0;
        for (int c = 0; c < pg_chunks<F>(k); c++) {
            const int whole = k * r * pg_dtype_get(T)->bytes % 16 == 0 && F::column(c) + F::WIDTH <= k;
            typename F::raw raw;
            if constexpr (F::QUANT)
                raw = F::template load<pg_far>(m.view, r, c);
            else
                raw = whole ? F::template load<pg_far>(m.view, r, c) : F::template load_part<pg_far>(m.view, r, c);
            for (int p = 0; p < F::PIECES; p++) {
                float v[F::WIDTH];
                F::value(raw, c, p, v);
                for (int i = 0; i < F::WIDTH; i++) {
                    const int at = F::column(c) + F::SPREAD * p + i;
                    if (at >= k) continue;
                    seen[at]++;
                    wrong += !same(v[i], want[at]);
                }
            }
        }
        for (char s : seen) wrong += s != 1;
        CHECK(wrong == 0, "%s [%d x %d] row %d: %d values", pg_dtype_get(T)->name, k, n, r, wrong);
    }
}

/* Codes, factors and minima of every block. */
template <pg_dtype T> static void codes(pg_block_fn *decode, int has_min)
{
    typedef pg_format<T> F;
    const pg_dtype_info *info = pg_dtype_get(T);
    const int k = 3 * info->block, n = 400;
    const matrix m(T, k, n);
    CHECK(F::HAS_MIN == has_min && F::BLOCK == info->block, "%s", info->name);
    int wrong = 0;
    for (int r = 0; r < n; r++)
        for (int c = 0; c < pg_chunks<F>(k); c++) {
            const typename F::raw raw = F::template load<pg_near>(m.view, r, c);
            const int block = F::column(c) / F::BLOCK;
            pg_block b = {};
            decode(&b, &m.rows[((size_t)r * (k / F::BLOCK) + block) * info->bytes]);
            for (int p = 0; p < F::PIECES; p++) {
                const int at = F::column(c) % F::BLOCK + F::SPREAD * p;
                uint32_t q[4];
                F::code(raw, c, p, q);
                for (int i = 0; i < 16; i++) wrong += (int8_t)(q[i / 4] >> 8 * (i % 4)) != b.q[at + i];
                wrong += !same(F::d(raw, c, p), b.d[at / 16]);
                if (F::HAS_MIN) wrong += !same(F::m(raw, c, p), b.m[at / 16]);
            }
        }
    CHECK(wrong == 0, "%s: %d codes, factors or minima", info->name, wrong);
}

int main(void)
{
#define F(name, type, has_min)                       \
    codes<type>(pg_block_##name, has_min);           \
    values<type>(pg_dtype_get(type)->block * 2, 64); \
    values<type>(pg_dtype_get(type)->block * 7, 3);
    PG_BLOCK_LIST(F)
#undef F
    for (int k : { 1, 3, 8, 15, 16, 31, 130, 256 }) {
        values<PG_F32>(k, 5);
        values<PG_F16>(k, 70);
        values<PG_BF16>(k, 70);
        values<PG_FP8>(k, 300);
    }
    return check_done("decode");
}
