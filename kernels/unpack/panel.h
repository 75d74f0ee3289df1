/* panel: 16 neighbouring rows of a quantised matrix, stored for kernels that make 16 outputs at once.
 *
 * A packed block is what 16 rows have in one block of columns: the halfwords (or bytes) of the factors, each for all 16
 * rows, then the dwords of the small scales and of the codes, each for all 16 rows (64 bytes). The table in panel.c says
 * which bytes of a format go where. It is a permutation: a panel has the bytes of its 16 rows in as many bytes, so a
 * packed matrix is as large as a stored one whose rows are filled up with zero blocks to a multiple of 16. One layout
 * serves every instruction set: a register of 16 dwords (or two of 8) holds 4 columns of 16 outputs, as the products of
 * 4 bytes of VNNI, AVX2 and AMX want them.
 * Source: interleaved rows, the idea of weight packing in GEMM, Goto, van de Geijn 2008; the permutation is our own. */
#ifndef PG_PANEL_H
#define PG_PANEL_H

#include "../tensor.h"

enum { PG_PANEL = 16 }; /* outputs of a panel */

/* Bytes of n rows when packed: rows are counted up to a multiple of 16. */
static inline int64_t pg_panel_bytes(const pg_tensor *w, int64_t n_row)
{
    return (n_row + PG_PANEL - 1) / PG_PANEL * PG_PANEL * (int64_t)pg_dtype_bytes(w->dtype, w->shape[0]);
}

/* The panel that begins at output row (a multiple of 16) of a packed matrix. */
static inline const void *pg_panel_at(const pg_tensor *w, int64_t row)
{
    return (const char *)w->data + row * w->stride[1];
}

/* Permute rows 16 * panel .. of a stored (not packed) quantised matrix into `to`; rows past the end become zeros.
 * to: 16 rows' bytes, any alignment; rows of w may be any stride apart. Threads: any, also at once. */
void pg_panel_pack(void *to, const pg_tensor *w, int64_t panel);

/* One block of one row of a packed matrix, back in the format's own order. block counts blocks of the row. */
void pg_panel_block(void *to, const pg_tensor *w, int64_t row, int64_t block);

#endif
