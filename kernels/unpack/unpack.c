/* unpack: one row of a matrix view to f32, whatever its format. */
#include "unpack.h"
#include "panel.h"

#include <assert.h>

/* FP8 keeps one factor for 128 x 128 values beside the matrix; NULL means 1. */
static void scale_fp8(float *y, const pg_tensor *w, int64_t row, int64_t col0, int64_t n)
{
    const float *factor = w->scale + (w->row0 + row) / 128 * w->scale_stride;
    for (int64_t i = 0; i < n; i++) y[i] *= factor[(col0 + i) / 128];
}

/* A packed row comes back block by block: slow, for embeddings and for precision "f32". */
static void unpack_packed(float *y, const pg_tensor *w, int64_t row, int64_t col0, int64_t n, pg_unpack_fn *unpack)
{
    const int block = pg_dtype_get(w->dtype)->block;
    char stored[256];
    for (int64_t i = 0; i < n; i += block) {
        pg_panel_block(stored, w, row, (col0 + i) / block);
        unpack(y + i, stored, block);
    }
}

void pg_unpack_row(float *y, const pg_tensor *w, int64_t row, int64_t col0, int64_t n)
{
    const pg_dtype_info *info = pg_dtype_get(w->dtype);
    pg_unpack_fn *unpack = pg_unpack_of(w->dtype);
    assert(unpack && col0 % info->block == 0 && n % info->block == 0);
    if (w->packed) {
        unpack_packed(y, w, row, col0, n, unpack);
        return;
    }
    unpack(y, (const char *)pg_tensor_row(w, row) + pg_dtype_bytes(w->dtype, col0), n);
    if (w->dtype == PG_FP8 && w->scale) scale_fp8(y, w, row, col0, n);
}
