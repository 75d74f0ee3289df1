/* importance: looking up, checking and scaling. */
#include "importance.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FLOOR 1e-3 /* of the mean: a column that was never in use may be one day */

struct pg_importance {
    pg_source *source;
};

static int check_type(const pg_source *s, pg_error *err)
{
    pg_text type = { "", 0 };
    int rc = pg_source_text(s, "general.type", &type, err);
    if (rc < 0) return rc;
    if (type.n == 7 && memcmp(type.data, "imatrix", 7) == 0) return PG_OK;
    return pg_fail(err, PG_EFORMAT, "%s: no imatrix: key 'general.type' must be \"imatrix\"", pg_source_path(s));
}

static float value_at(const pg_tensor *t, int64_t i)
{
    float v;
    memcpy(&v, (const char *)t->data + 4 * i, sizeof v);
    return v;
}

static int check_values(const pg_source *s, pg_error *err)
{
    for (int i = 0; i < pg_source_n_tensor(s); i++) {
        const pg_source_tensor *t = pg_source_tensor_at(s, i);
        const int64_t n = t->view.shape[0] * t->view.shape[1] * t->view.shape[2] * t->view.shape[3];
        const char *wrong = t->view.dtype != PG_F32 ? "its type must be F32" : NULL;
        for (int64_t k = 0; !wrong && k < n; k++)
            if (!(value_at(&t->view, k) >= 0) || isinf(value_at(&t->view, k)))
                wrong = "it holds a value that is negative or not finite";
        if (wrong)
            return pg_fail(err, PG_EFORMAT, "%s: tensor '%.*s': %s; collect it anew", pg_source_path(s), (int)t->name.n,
                           t->name.data, wrong);
    }
    return PG_OK;
}

int pg_importance_open(const char *path, pg_importance **out, pg_error *err)
{
    *out = NULL;
    pg_importance *p = calloc(1, sizeof *p);
    if (!p) return pg_fail(err, PG_EMEMORY, "not enough memory to open %s", path);
    int rc = pg_source_open(path, 1, &p->source, err);
    if (rc == PG_OK) rc = check_type(p->source, err);
    if (rc == PG_OK) rc = check_values(p->source, err);
    if (rc < 0)
        pg_importance_close(p);
    else
        *out = p;
    return rc;
}

void pg_importance_close(pg_importance *p)
{
    if (!p) return;
    pg_source_close(p->source);
    free(p);
}

const pg_source *pg_importance_source(const pg_importance *p)
{
    return p->source;
}

static const pg_tensor *entry(const pg_importance *p, const pg_source_tensor *t, const char *what)
{
    char name[256];
    const int n = snprintf(name, sizeof name, "%.*s.%s", (int)t->name.n, t->name.data, what);
    const pg_source_tensor *found = n > 0 && (size_t)n < sizeof name ? pg_source_find(p->source, name) : NULL;
    return found ? &found->view : NULL;
}

int pg_importance_has(const pg_importance *p, const pg_source_tensor *t)
{
    return entry(p, t, "in_sum2") != NULL;
}

static int64_t n_matrix(const pg_tensor *v)
{
    return v->shape[2] * v->shape[3];
}

/* Sums for each column of each matrix, or for the columns of any; how they are divided into dimensions differs between
 * stacks of experts ({n_in, n_matrix}) and of heads ({n_in * n_matrix}, one count). */
static int check_shapes(const pg_importance *p, const pg_source_tensor *t, const pg_tensor *sums,
                        const pg_tensor *counts, pg_error *err)
{
    const int64_t n = sums->shape[0] * sums->shape[1] * n_matrix(sums), n_col = t->view.shape[0];
    const int64_t n_count = counts ? counts->shape[0] * counts->shape[1] * n_matrix(counts) : 0;
    if (n % n_col == 0 && (n / n_col == 1 || n / n_col == n_matrix(&t->view)) && (n_count == 1 || n_count == n / n_col))
        return PG_OK;
    return pg_fail(err, PG_EFORMAT,
                   "%s: tensor '%.*s.in_sum2' has %lld sums and %lld counts, but the weight has %lld columns in %lld "
                   "matrices; was it collected with another model?",
                   pg_source_path(p->source), (int)t->name.n, t->name.data, (long long)n, (long long)n_count,
                   (long long)n_col, (long long)n_matrix(&t->view));
}

int pg_importance_of(const pg_importance *p, const pg_source_tensor *t, int64_t matrix, float *to, pg_error *err)
{
    const pg_tensor *sums = entry(p, t, "in_sum2"), *counts = entry(p, t, "counts");
    const int64_t n_col = t->view.shape[0];
    double total = 0;
    if (!sums) return 0;
    int rc = check_shapes(p, t, sums, counts, err);
    if (rc < 0) return rc;
    const int64_t n = sums->shape[0] * sums->shape[1] * n_matrix(sums), at = n == n_col ? 0 : matrix * n_col;
    for (int64_t i = 0; i < n_col; i++) total += (double)value_at(sums, at + i);
    if (!(total > 0)) return 0;
    for (int64_t i = 0; i < n_col; i++) {
        const double part = (double)value_at(sums, at + i) / total * (double)n_col;
        to[i] = (float)(part > FLOOR ? part : FLOOR);
    }
    return 1;
}
