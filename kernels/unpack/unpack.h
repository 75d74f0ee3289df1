/* unpack: stored weights to f32, exactly.
 *
 * pg_unpack_<type>: y[0..n) = values of n stored elements, n a multiple of the type's block; x any alignment.
 * Every variant equals _ref bit for bit (one rounding at most per value, in the order the format's formula states).
 * pg_pack_<type> is the way back for the formats a KV cache may have: f32 -> f16, bf16, q8_0; nearest even (q8_0:
 * d = amax / 127 stored as f16, q = round-half-away(x / d) with the f32 d, kept within +-127; d = 0 gives q = 0,
 * non-finite input gives d = NaN, q = 0). A NaN stays a NaN; its payload may differ.
 * Source: block layouts of GGUF; E4M3 of OCP OFP8 (factors are applied by pg_unpack_row, not here). */
#ifndef PG_UNPACK_H
#define PG_UNPACK_H

#include "../tensor.h"

typedef void pg_unpack_fn(float *y, const void *x, int64_t n);
typedef void pg_pack_fn(void *y, const float *x, int64_t n);

/* The unpack kernel in force for a weight format (see variants.def), and the pack kernel or NULL. */
pg_unpack_fn *pg_unpack_of(pg_dtype type);
pg_pack_fn *pg_pack_of(pg_dtype type);

/* y[0..n) = row `row`, columns col0 .. col0+n of a matrix view, FP8 factors applied. col0 and n: multiples of the
 * block (of 128 for FP8 unless the row ends). */
void pg_unpack_row(float *y, const pg_tensor *w, int64_t row, int64_t col0, int64_t n);

#endif
