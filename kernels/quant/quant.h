/* quant: matrices into other storage formats.
 *
 * quant_cpu.c takes rows to f32, sees that they are finite and shares them out over threads; encode.c and encode_k.c make
 * the blocks of a format, search.c chooses their factors. The bytes do not depend on the number of threads.
 * Not here: which matrix gets which format, and files (engine/quant). */
#ifndef PG_QUANT_H
#define PG_QUANT_H

#include "../tensor.h"

typedef struct pg_quant pg_quant;

pg_quant *pg_quant_open(int n_lane); /* NULL: no memory or no threads */
void pg_quant_close(pg_quant *q);

/* Whether pg_quant_rows can write a format: f32, f16, bf16, q8_0, q4_0, q5_0, q5_1, q4_k, q5_k, q6_k, mxfp4. */
int pg_quant_can(pg_dtype type);

/* Bytes of n_row rows of n_col weights; packed: in panels, whose last one counts whole. */
int64_t pg_quant_bytes(pg_dtype type, int packed, int64_t n_col, int64_t n_row);

typedef enum pg_quant_result {
    PG_QUANT_FINE,
    PG_QUANT_NOT_FINITE, /* a weight is NaN or infinite */
    PG_QUANT_TOO_LARGE   /* a weight is beyond what the format can hold */
} pg_quant_result;

/* Rows row0 .. row0 + n_row - 1 of a stored matrix {K, N} in another format, or (when from has that format) as they are.
 * to          pg_quant_bytes(type, packed, K, n_row) bytes
 * packed      panels (unpack/panel.h), quantised formats only; row0 is a multiple of PG_PANEL then
 * importance  [K] how much an error in a column counts, > 0: the mean square of what the column is multiplied with;
 *             NULL: every column alike
 * Threads: one caller at a time for each q. Source: the errors that a matrix product makes, weighed by its inputs,
 * as in Frantar et al., GPTQ, 2022, with the diagonal alone. */
pg_quant_result pg_quant_rows(pg_quant *q, void *to, pg_dtype type, int packed, const pg_tensor *from, int64_t row0,
                              int64_t n_row, const float *importance);

#endif
