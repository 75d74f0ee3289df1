/* imatrix: how strong the activations are that each column of each weight matrix meets.
 *
 * Lives here: which rows of which op feed which tensor of the file, the sums, the file of them. Not here: showing rows
 * (kernels/backend.h), quantizing by the sums.
 * Why so: sums are kept by op, since gate and up share their rows; where a tensor is several matrices or several tensors
 * are one stack, the file alone shows it, so matrices are traced to tensors by the place of their bytes. That works
 * because nothing is converted for precision "f32"; what has no place in the file (gpt-oss checkpoints) has no sums. */
#include "../sched/sched.h"
#include "write.h"

#include <math.h>
#include <stdlib.h>

#define SUMS ".in_sum2"
#define COUNTS ".counts"
enum { MOST_NAME = 63 }; /* bytes of a tensor's name in a GGUF file */

/* What one part of an op meets: n matrices of k columns. */
typedef struct site {
    int64_t k;
    int32_t n;
    double *sum;   /* [n, k] */
    double *count; /* [n] */
} site;

/* Matrix `matrix` of a site is matrix `at` of a tensor, or a part of it. */
typedef struct use {
    int32_t tensor, at, site, matrix;
} use;

typedef struct place {
    uintptr_t at;
    int32_t tensor;
} place;

struct pg_imatrix {
    pg_engine *engine;
    pg_watch watch, pause; /* pause: nothing is counted, and nobody else may count */
    site *site;            /* [2 * n_op] */
    int32_t n_site;
    use *use; /* [n_use] by tensor */
    int32_t n_use, cap_use;
    place *place; /* [tensors] by address */
};

/* ---- counting ----------------------------------------------------------------------------------------------------- */

static void add_row(void *ud, const pg_op *op, int part, int32_t matrix, const float *x, int64_t k)
{
    const pg_imatrix *m = ud;
    const site *s = &m->site[2 * (op - m->engine->plan.code.op) + part];
    if (!s->sum) return;
    double *sum = s->sum + matrix * k;
    for (int64_t i = 0; i < k; i++) sum[i] += (double)x[i] * (double)x[i];
    s->count[matrix]++;
}

static void leave_row(void *ud, const pg_op *op, int part, int32_t matrix, const float *x, int64_t k)
{
    (void)ud, (void)op, (void)part, (void)matrix, (void)x, (void)k;
}

/* ---- which tensor ------------------------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const place *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

static int sort_tensors(pg_imatrix *m)
{
    const pg_source *s = m->engine->model->source;
    const int n = pg_source_n_tensor(s);
    if (!(m->place = calloc((size_t)n + 1, sizeof *m->place))) return 0;
    for (int i = 0; i < n; i++) m->place[i] = (place){ (uintptr_t)pg_source_tensor_at(s, i)->view.data, i };
    qsort(m->place, (size_t)n, sizeof *m->place, by_place);
    return 1;
}

/* The tensor that holds these bytes, and which of its matrices they are in; -1: none. */
static int32_t find_tensor(const pg_imatrix *m, const void *data, int32_t *at)
{
    const pg_source *s = m->engine->model->source;
    int low = 0, high = pg_source_n_tensor(s); /* the last that begins at or before it is in [low, high) */
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (m->place[middle].at <= (uintptr_t)data)
            low = middle;
        else
            high = middle;
    }
    const place *p = &m->place[low];
    const pg_tensor *t = high ? &pg_source_tensor_at(s, p->tensor)->view : NULL;
    const uintptr_t offset = (uintptr_t)data - p->at;
    if (!t || (uintptr_t)data < p->at || offset >= (uintptr_t)(t->stride[3] * t->shape[3])) return -1;
    *at = (int32_t)(offset / (uintptr_t)t->stride[2]);
    return p->tensor;
}

/* Matrices of a site that a tensor holds. Gate and up fused in one tensor meet the same rows: once is enough. */
static int add_use(pg_imatrix *m, const pg_tensor *w, int32_t from, int32_t matrix)
{
    use u = { .site = from, .matrix = matrix };
    u.tensor = find_tensor(m, w->data, &u.at);
    if (u.tensor < 0 || pg_source_tensor_at(m->engine->model->source, u.tensor)->view.shape[0] != w->shape[0]) return 1;
    for (int i = m->n_use - 1; i >= 0 && m->use[i].site == from && m->use[i].matrix == matrix; i--)
        if (m->use[i].tensor == u.tensor && m->use[i].at == u.at) return 1;
    if (m->n_use == m->cap_use) {
        const int32_t cap = 2 * m->cap_use + 1024;
        use *more = realloc(m->use, (size_t)cap * sizeof *more);
        if (!more) return 0;
        m->use = more;
        m->cap_use = cap;
    }
    m->use[m->n_use++] = u;
    return 1;
}

static int add_site(pg_imatrix *m, int32_t i, int64_t k, int32_t n)
{
    site *s = &m->site[i];
    *s = (site){ .k = k, .n = n };
    s->sum = calloc((size_t)(n * k), sizeof *s->sum);
    s->count = calloc((size_t)n, sizeof *s->count);
    return s->sum && s->count;
}

static int add_matmul(pg_imatrix *m, int32_t i, const pg_op *op)
{
    const int32_t n = op->a.matmul.batch;
    if (op->a.matmul.transposed) return 1;
    if (!add_site(m, i, op->w->shape[0], n)) return 0;
    for (int32_t b = 0; b < n; b++) {
        const pg_tensor w = pg_tensor_slice(op->w, b);
        if (!add_use(m, &w, i, b)) return 0;
    }
    return 1;
}

static int add_experts(pg_imatrix *m, int32_t i, const pg_experts *e)
{
    if (!add_site(m, i + PG_WATCH_IN, e->n_embd, e->n_expert) ||
        !add_site(m, i + PG_WATCH_HIDDEN, e->n_ff, e->n_expert))
        return 0;
    for (int32_t x = 0; x < e->n_expert; x++)
        if (!add_use(m, &e->gate[x], i + PG_WATCH_IN, x) || !add_use(m, &e->up[x], i + PG_WATCH_IN, x) ||
            !add_use(m, &e->down[x], i + PG_WATCH_HIDDEN, x))
            return 0;
    return 1;
}

/* By tensor; within one in the order of the plan, so that sums are always added up alike. */
static int by_tensor(const void *a, const void *b)
{
    const use *x = a, *y = b;
    if (x->tensor != y->tensor) return x->tensor < y->tensor ? -1 : 1;
    if (x->site != y->site) return x->site < y->site ? -1 : 1;
    return (x->matrix > y->matrix) - (x->matrix < y->matrix);
}

static int list_sites(pg_imatrix *m)
{
    const pg_code *code = &m->engine->plan.code;
    m->n_site = 2 * code->n_op;
    m->site = calloc((size_t)m->n_site, sizeof *m->site);
    int fine = m->site && sort_tensors(m);
    for (int i = 0; fine && i < code->n_op; i++) {
        const pg_op *op = &code->op[i];
        if (op->code == PG_OP_MATMUL) fine = add_matmul(m, 2 * i, op);
        if (op->code == PG_OP_EXPERTS) fine = add_experts(m, 2 * i, op->a.experts.experts);
    }
    if (fine && m->n_use) qsort(m->use, (size_t)m->n_use, sizeof *m->use, by_tensor);
    return fine;
}

static int check_names(const pg_imatrix *m, pg_error *err)
{
    const pg_source *s = m->engine->model->source;
    for (int32_t i = 0; i < m->n_use; i++) {
        const pg_text name = pg_source_tensor_at(s, m->use[i].tensor)->name;
        if (name.n + strlen(SUMS) > MOST_NAME)
            return pg_fail(err, PG_EUNSUPPORTED,
                           "%s: the name %.*s" SUMS " is longer than the %d bytes that a GGUF file allows",
                           pg_source_path(s), (int)name.n, name.data, MOST_NAME);
    }
    return PG_OK;
}

/* ---- the object ---------------------------------------------------------------------------------------------------- */

static void free_all(pg_imatrix *m)
{
    for (int i = 0; m->site && i < m->n_site; i++) {
        free(m->site[i].sum);
        free(m->site[i].count);
    }
    free(m->site);
    free(m->use);
    free(m->place);
    free(m);
}

int pg_imatrix_open(pg_engine *e, pg_imatrix **out, pg_error *err)
{
    int rc = pg_engine_check(e, err);
    if (rc < 0) return rc;
    if (!out) return pg_fail(err, PG_EINVAL, "pg_imatrix_open needs a place for its answer");
    if (!e->plan.code.exact)
        return pg_fail(err, PG_EINVAL, "an importance matrix needs an engine that was opened with precision \"f32\"");
    if (e->backend->ops->load)
        return pg_fail(err, PG_EUNSUPPORTED,
                       "an importance matrix is collected on the CPU, and this engine computes on %s: open one with "
                       "device \"cpu\"",
                       e->info.device);
    pg_imatrix *m = calloc(1, sizeof *m);
    if (m) *m = (pg_imatrix){ .engine = e, .watch = { add_row, m }, .pause = { leave_row, NULL } };
    if (!m || !list_sites(m))
        rc = pg_fail(err, PG_EMEMORY, "no memory for the importance matrix");
    else if (!m->n_use)
        rc = pg_fail(err, PG_EUNSUPPORTED, "%s: none of its matrices is used as it is stored, so none can be weighed",
                     pg_source_path(e->model->source));
    else if ((rc = check_names(m, err)) >= 0 && !pg_engine_watch(e, NULL, &m->watch))
        rc = pg_fail(err, PG_EINVAL, "another importance matrix of this engine is open: close it first");
    if (rc < 0) {
        if (m) free_all(m);
        return rc;
    }
    *out = m;
    return PG_OK;
}

void pg_imatrix_close(pg_imatrix *m)
{
    if (!m) return;
    if (pg_engine_check(m->engine, NULL) >= 0) pg_engine_watch(m->engine, &m->watch, NULL);
    free_all(m);
}

/* ---- the file ------------------------------------------------------------------------------------------------------ */

/* The sums of one tensor: uses i .. end - 1. */
typedef struct sums {
    pg_text name;
    int64_t k, n;
    float *in; /* [n, k] sums of squares, then [n] counts */
} sums;

static int32_t end_of(const pg_imatrix *m, int32_t i)
{
    const int32_t tensor = m->use[i].tensor;
    while (i < m->n_use && m->use[i].tensor == tensor) i++;
    return i;
}

static void name_it(sums *s, const pg_imatrix *m, int32_t i)
{
    const pg_source_tensor *t = pg_source_tensor_at(m->engine->model->source, m->use[i].tensor);
    *s = (sums){ .name = t->name, .k = t->view.shape[0], .n = t->view.shape[2] * t->view.shape[3] };
}

static int gather(sums *s, const pg_imatrix *m, int32_t i, pg_error *err)
{
    const int32_t end = end_of(m, i);
    name_it(s, m, i);
    double *all = calloc((size_t)(s->n * (s->k + 1)), sizeof *all), *count = all ? all + s->n * s->k : NULL;
    s->in = malloc((size_t)(s->n * (s->k + 1)) * sizeof *s->in);
    int rc = all && s->in ? PG_OK : pg_fail(err, PG_EMEMORY, "no memory for the importance matrix");
    for (; rc >= 0 && i < end; i++) {
        const use *u = &m->use[i];
        const site *from = &m->site[u->site];
        for (int64_t c = 0; c < s->k; c++) all[u->at * s->k + c] += from->sum[u->matrix * s->k + c];
        count[u->at] += from->count[u->matrix];
    }
    for (int64_t c = 0; rc >= 0 && c < s->n * (s->k + 1); c++) {
        s->in[c] = (float)all[c];
        if (!isfinite(s->in[c]))
            rc = pg_fail(err, PG_EFORMAT, "%s: what the tensor %.*s meets is not finite: the model is damaged",
                         pg_source_path(m->engine->model->source), (int)s->name.n, s->name.data);
    }
    free(all);
    return rc;
}

static void tell(pg_writer *w, const sums *s, const char *what, int64_t k)
{
    char name[MOST_NAME];
    const size_t n = strlen(what);
    memcpy(name, s->name.data, s->name.n);
    memcpy(name + s->name.n, what, n);
    const int64_t shape[4] = { k, s->n, 1, 1 };
    pg_writer_tensor(w, (pg_text){ name, s->name.n + n }, 0, shape, k * s->n * (int64_t)sizeof(float));
}

static int write_tensors(const pg_imatrix *m, pg_writer *w, pg_error *err)
{
    for (int32_t i = 0; i < m->n_use; i = end_of(m, i)) {
        sums s;
        name_it(&s, m, i);
        tell(w, &s, SUMS, s.k);
        tell(w, &s, COUNTS, 1);
    }
    int rc = pg_writer_begin(w, err);
    for (int32_t i = 0; rc >= 0 && i < m->n_use; i = end_of(m, i)) {
        sums s;
        rc = gather(&s, m, i, err);
        if (rc >= 0) rc = pg_writer_data(w, s.in, (size_t)(s.n * s.k) * sizeof *s.in, err);
        if (rc >= 0) rc = pg_writer_data(w, s.in + s.n * s.k, (size_t)s.n * sizeof *s.in, err);
        free(s.in);
    }
    return rc;
}

static int write_keys(pg_writer *w, const char *const *datasets, int32_t n, int32_t chunk_count, int32_t chunk_size,
                      pg_error *err)
{
    pg_text *names = malloc(((size_t)n + 1) * sizeof *names);
    if (!names) return pg_fail(err, PG_EMEMORY, "no memory for the names of %d texts", n);
    for (int32_t i = 0; i < n; i++) names[i] = (pg_text){ datasets[i], strlen(datasets[i]) };
    pg_writer_text(w, "general.type", (pg_text){ "imatrix", 7 });
    pg_writer_texts(w, "imatrix.datasets", names, n);
    pg_writer_u32(w, "imatrix.chunk_count", (uint32_t)chunk_count);
    pg_writer_u32(w, "imatrix.chunk_size", (uint32_t)chunk_size);
    free(names);
    return PG_OK;
}

/* Matrices that no row met. */
static int32_t unmet(const pg_imatrix *m)
{
    int32_t n = 0;
    for (int32_t i = 0; i < m->n_use; i++) n += m->site[m->use[i].site].count[m->use[i].matrix] == 0;
    return n;
}

static int save(const pg_imatrix *m, const char *path, const char *const *datasets, int32_t n_dataset,
                int32_t chunk_count, int32_t chunk_size, pg_error *err)
{
    pg_writer *w;
    if (unmet(m) == m->n_use)
        return pg_fail(err, PG_EINVAL, "nothing was computed since the importance matrix was opened");
    int rc = pg_writer_open(path, 32, &w, err);
    if (rc < 0) return rc;
    rc = write_keys(w, datasets, n_dataset, chunk_count, chunk_size, err);
    if (rc >= 0) rc = write_tensors(m, w, err);
    if (rc < 0)
        pg_writer_cancel(w);
    else
        rc = pg_writer_finish(w, err);
    return rc < 0 ? rc : unmet(m);
}

int pg_imatrix_save(pg_imatrix *m, const char *path, const char *const *datasets, int32_t n_dataset,
                    int32_t chunk_count, int32_t chunk_size, pg_error *err)
{
    int rc = m ? pg_engine_check(m->engine, err) : pg_fail(err, PG_EINVAL, "no importance matrix");
    if (rc < 0) return rc;
    if (!path || n_dataset < 0 || (n_dataset && !datasets) || chunk_count < 0 || chunk_size < 0)
        return pg_fail(err, PG_EINVAL, "pg_imatrix_save: no path, no names of texts, or a number below 0");
    pg_engine_watch(m->engine, &m->watch, &m->pause); /* the sums hold still */
    rc = save(m, path, datasets, n_dataset, chunk_count, chunk_size, err);
    pg_engine_watch(m->engine, &m->pause, &m->watch);
    return rc;
}
