/* quant_cpu: rows of a matrix into another format, sixteen rows to an item of work.
 *
 * Why through f32 in pieces: a piece of a row fits the first cache whatever the row's length, and every pair of formats
 * is two functions. Why the block decoders and not the unpack rows: those may be exchanged while an engine opens. */
#include "quant.h"
#include "../lanes.h"
#include "../unpack/blocks.h"
#include "../unpack/panel.h"
#include "encode.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { PIECE = 1024, PIECE_BYTES = PIECE * 34 / 32 }; /* columns, and their bytes in the widest quantised format */

struct pg_quant {
    pg_lanes *lanes;
};

pg_quant *pg_quant_open(int n_lane)
{
    pg_quant *q = calloc(1, sizeof *q);
    if (q && !(q->lanes = pg_lanes_open(n_lane))) {
        free(q);
        return NULL;
    }
    return q;
}

void pg_quant_close(pg_quant *q)
{
    if (!q) return;
    pg_lanes_close(q->lanes);
    free(q);
}

static pg_encode_fn *const encoders[PG_DTYPE_COUNT] = {
    [PG_Q8_0] = pg_encode_q8_0, [PG_Q4_0] = pg_encode_q4_0, [PG_Q5_0] = pg_encode_q5_0, [PG_Q5_1] = pg_encode_q5_1,
    [PG_Q4_K] = pg_encode_q4_k, [PG_Q5_K] = pg_encode_q5_k, [PG_Q6_K] = pg_encode_q6_k, [PG_MXFP4] = pg_encode_mxfp4,
};

static pg_block_fn *const decoders[PG_DTYPE_COUNT] = {
#define F(name, type, has_min) [type] = pg_block_##name,
    PG_BLOCK_LIST(F)
#undef F
};

int pg_quant_can(pg_dtype type)
{
    return type == PG_F32 || type == PG_F16 || type == PG_BF16 || (type >= 0 && encoders[type]);
}

int64_t pg_quant_bytes(pg_dtype type, int packed, int64_t n_col, int64_t n_row)
{
    const pg_tensor w = pg_tensor_dense(type, NULL, n_col, n_row, 1);
    return packed ? pg_panel_bytes(&w, n_row) : w.stride[2];
}

/* ---- pieces of rows ---- */

/* n weights to f32; 0: one of them is not finite. */
static int decode(float *x, pg_dtype type, const uint8_t *from, int n)
{
    const int size = pg_dtype_get(type)->block, bytes = pg_dtype_get(type)->bytes;
    pg_block b = { 0 };
    for (int i = 0; i < n; i += size, from += bytes) {
        uint16_t h;
        memcpy(&h, from, sizeof h);
        if (type == PG_F32)
            memcpy(&x[i], from, sizeof *x);
        else if (type == PG_F16)
            x[i] = pg_f16_to_f32(h);
        else if (type == PG_BF16)
            x[i] = pg_bf16_to_f32(h);
        else
            decoders[type](&b, from);
        for (int j = 0; size > 1 && j < size; j++) x[i + j] = b.d[j / 16] * (float)b.q[j] + b.m[j / 16];
    }
    int fine = 1;
    for (int i = 0; i < n; i++) fine &= isfinite(x[i]) != 0;
    return fine;
}

/* n weights into a format; 0: one of them is too large for it. */
static int encode(uint8_t *to, pg_dtype type, const float *x, const float *w, int n)
{
    const int size = pg_dtype_get(type)->block, bytes = pg_dtype_get(type)->bytes;
    int fine = 1;
    for (int i = 0; encoders[type] && i < n; i++) fine &= fabsf(x[i]) <= PG_ENCODE_MOST;
    for (int i = 0; fine && i < n; i += size, to += bytes) {
        const uint16_t h = type == PG_F16 ? pg_f32_to_f16(x[i]) : pg_f32_to_bf16(x[i]);
        if (type == PG_F32) {
            memcpy(to, &x[i], sizeof *x);
        } else if (encoders[type]) {
            fine &= encoders[type](to, x + i, w + i);
        } else {
            memcpy(to, &h, sizeof h);
            fine &= isfinite(type == PG_F16 ? pg_f16_to_f32(h) : pg_bf16_to_f32(h)) != 0;
        }
    }
    return fine;
}

/* ---- items ---- */

typedef struct job {
    uint8_t *to;
    pg_dtype type;
    int packed;
    const pg_tensor *from;
    int64_t row0, n_row;
    const float *importance;
    _Atomic int result;
} job;

static void convert(job *j, uint8_t *to, int64_t row, int64_t col, int n)
{
    const pg_tensor *from = j->from;
    const uint8_t *at = (const uint8_t *)pg_tensor_row(from, row) + pg_dtype_bytes(from->dtype, col);
    float x[PIECE], w[PIECE];
    if (from->dtype == j->type && pg_dtype_is_quant(j->type)) {
        memcpy(to, at, pg_dtype_bytes(j->type, n));
        return;
    }
    for (int i = 0; i < n; i++) w[i] = j->importance ? j->importance[col + i] : 1;
    const int result = !decode(x, from->dtype, at, n)  ? PG_QUANT_NOT_FINITE
                       : !encode(to, j->type, x, w, n) ? PG_QUANT_TOO_LARGE
                                                       : PG_QUANT_FINE;
    int none = PG_QUANT_FINE; /* the first finding stands */
    if (result != PG_QUANT_FINE) atomic_compare_exchange_strong(&j->result, &none, result);
}

static void run_item(void *arg, int item, int lane)
{
    (void)lane;
    job *j = arg;
    const int64_t n_col = j->from->shape[0], row_bytes = (int64_t)pg_dtype_bytes(j->type, n_col);
    const int64_t first = (int64_t)item * PG_PANEL;
    const int n_row = (int)(j->n_row - first < PG_PANEL ? j->n_row - first : PG_PANEL);
    uint8_t rows[PG_PANEL * PIECE_BYTES], *to = j->to + first * row_bytes;
    for (int64_t col = 0; col < n_col; col += PIECE) {
        const int n = (int)(n_col - col < PIECE ? n_col - col : PIECE);
        const int64_t bytes = (int64_t)pg_dtype_bytes(j->type, n), before = (int64_t)pg_dtype_bytes(j->type, col);
        for (int r = 0; r < n_row; r++)
            convert(j, j->packed ? rows + r * bytes : to + r * row_bytes + before, j->row0 + first + r, col, n);
        if (!j->packed) continue;
        const pg_tensor piece = pg_tensor_dense(j->type, rows, n, n_row, 1);
        pg_panel_pack(to + PG_PANEL * before, &piece, 0);
    }
}

pg_quant_result pg_quant_rows(pg_quant *q, void *to, pg_dtype type, int packed, const pg_tensor *from, int64_t row0,
                              int64_t n_row, const float *importance)
{
    job j = { .to = to, .type = type, .packed = packed, .from = from, .row0 = row0, .n_row = n_row };
    j.importance = importance;
    pg_lanes_run(q->lanes, run_item, &j, (int)((n_row + PG_PANEL - 1) / PG_PANEL));
    return (pg_quant_result)atomic_load(&j.result);
}
