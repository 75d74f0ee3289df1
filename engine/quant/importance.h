/* importance: the file that says how much each input of a matrix matters (an "imatrix"), read.
 *
 * For a weight NAME it has NAME.in_sum2, sums of squares of what each column was multiplied with, and NAME.counts, of
 * how many rows of activations. An expert that no row came to has sums of 0: its columns count alike. Only how the
 * columns of one matrix compare matters here, so sums serve as well as means.
 * Not here: collecting it. Source: the GGUF form of llama.cpp's imatrix files. */
#ifndef PG_IMPORTANCE_H
#define PG_IMPORTANCE_H

#include "../load/source.h"

typedef struct pg_importance pg_importance;

/* Errors: as pg_source_open, PG_EFORMAT when the file is not of this kind or holds NaN, infinite or negative sums. */
int pg_importance_open(const char *path, pg_importance **out, pg_error *err);
void pg_importance_close(pg_importance *p);

const pg_source *pg_importance_source(const pg_importance *p);

/* Mean squares of the columns of one matrix of a tensor, scaled to a mean of 1 and kept above 0.
 * to [shape[0]]. 1: filled in; 0: the file knows nothing of this matrix; PG_EFORMAT: shapes differ. */
int pg_importance_of(const pg_importance *p, const pg_source_tensor *t, int64_t matrix, float *to, pg_error *err);

/* 1 when the file has an entry for the tensor. */
int pg_importance_has(const pg_importance *p, const pg_source_tensor *t);

#endif
