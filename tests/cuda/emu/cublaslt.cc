/* cublaslt.cc: the matrix product as a plain loop. */
#include "cublasLt.h"
#include "cuda_bf16.h"
#include "cuda_fp16.h"

struct pg_emu_lt {
    int unused;
};
struct pg_emu_lt_product {
    cublasComputeType_t compute;
    int32_t trans_a, trans_b;
};
struct pg_emu_lt_layout {
    cudaDataType type;
    uint64_t rows, cols;
    int64_t ld, batch_step;
    int32_t order, batch;
};
struct pg_emu_lt_wish {
    uint64_t workspace;
};

cublasStatus_t cublasLtCreate(cublasLtHandle_t *lt)
{
    *lt = new pg_emu_lt();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t lt)
{
    delete lt;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute, cudaDataType_t scale)
{
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    *d = new pg_emu_lt_product{ compute, CUBLAS_OP_N, CUBLAS_OP_N };
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes)
{
    if (bytes != 4) return CUBLAS_STATUS_INVALID_VALUE;
    int32_t x;
    memcpy(&x, value, sizeof x);
    if (what == CUBLASLT_MATMUL_DESC_TRANSA)
        d->trans_a = x;
    else if (what == CUBLASLT_MATMUL_DESC_TRANSB)
        d->trans_b = x;
    else
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *m, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld)
{
    *m = new pg_emu_lt_layout{ type, rows, cols, ld, 0, CUBLASLT_ORDER_COL, 1 };
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t m)
{
    delete m;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t m, cublasLtMatrixLayoutAttribute_t what,
                                                const void *value, size_t bytes)
{
    void *to = what == CUBLASLT_MATRIX_LAYOUT_TYPE                   ? (void *)&m->type
               : what == CUBLASLT_MATRIX_LAYOUT_ORDER                ? (void *)&m->order
               : what == CUBLASLT_MATRIX_LAYOUT_ROWS                 ? (void *)&m->rows
               : what == CUBLASLT_MATRIX_LAYOUT_COLS                 ? (void *)&m->cols
               : what == CUBLASLT_MATRIX_LAYOUT_LD                   ? (void *)&m->ld
               : what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT          ? (void *)&m->batch
               : what == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET ? (void *)&m->batch_step
                                                                     : NULL;
    const bool small = what == CUBLASLT_MATRIX_LAYOUT_TYPE || what == CUBLASLT_MATRIX_LAYOUT_ORDER ||
                       what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
    if (!to || bytes != (small ? 4u : 8u)) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = new pg_emu_lt_wish();
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t what, const void *value,
                                                    size_t bytes)
{
    (void)what;
    if (bytes != sizeof p->workspace) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&p->workspace, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
const char *cublasGetStatusString(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_SUCCESS         ? "success"
           : s == CUBLAS_STATUS_INVALID_VALUE ? "invalid value"
                                              : "not supported";
}
const char *cublasLtGetStatusString(cublasStatus_t s)
{
    return cublasGetStatusString(s);
}

/* Whether the layout can hold its matrix. */
static bool holds(const pg_emu_lt_layout *m)
{
    return m->ld >= (int64_t)(m->order == CUBLASLT_ORDER_COL ? m->rows : m->cols);
}

static cublasStatus_t check(const pg_emu_lt_product *d, const pg_emu_lt_layout *a, const pg_emu_lt_layout *b,
                            const pg_emu_lt_layout *c, const pg_emu_lt_layout *out)
{
    const uint64_t m = d->trans_a ? a->cols : a->rows, k = d->trans_a ? a->rows : a->cols;
    const uint64_t k_b = d->trans_b ? b->cols : b->rows, n = d->trans_b ? b->rows : b->cols;
    if (k != k_b || m != out->rows || n != out->cols || c->rows != m || c->cols != n)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!holds(a) || !holds(b) || !holds(c) || !holds(out)) return CUBLAS_STATUS_INVALID_VALUE;
    if (a->batch != out->batch || b->batch != out->batch || c->batch != out->batch) return CUBLAS_STATUS_INVALID_VALUE;
    if (a->type != b->type || c->type != out->type) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t lt, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t out, cublasLtMatmulPreference_t p, int most,
                                              cublasLtMatmulHeuristicResult_t *result, int *n)
{
    (void)p;
    *n = 0;
    if (!lt || most < 1) return CUBLAS_STATUS_INVALID_VALUE;
    const cublasStatus_t s = check(d, a, b, c, out);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    *result = cublasLtMatmulHeuristicResult_t{};
    *n = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static int64_t place(const pg_emu_lt_layout &m, int64_t batch, int64_t row, int64_t col)
{
    return batch * m.batch_step + (m.order == CUBLASLT_ORDER_COL ? col * m.ld + row : row * m.ld + col);
}

static float get(const pg_emu_lt_layout &m, const void *p, int64_t at)
{
    if (m.type == CUDA_R_32F) return static_cast<const float *>(p)[at];
    const unsigned short h = static_cast<const unsigned short *>(p)[at];
    return m.type == CUDA_R_16F ? pg_emu_f16::from(h) : pg_emu_bf16::from(h);
}

static void set(const pg_emu_lt_layout &m, void *p, int64_t at, float x)
{
    if (m.type == CUDA_R_32F)
        static_cast<float *>(p)[at] = x;
    else
        static_cast<unsigned short *>(p)[at] = m.type == CUDA_R_16F ? pg_emu_f16::to(x) : pg_emu_bf16::to(x);
}

struct product {
    pg_emu_lt_product d;
    pg_emu_lt_layout a, b, c, out;
    float alpha, beta;
    const void *pa, *pb, *pc;
    void *po;
};

static void multiply(const product &p)
{
    const int64_t k = p.d.trans_a ? p.a.rows : p.a.cols;
    for (int64_t i = 0; i < p.out.batch; i++)
        for (int64_t r = 0; r < (int64_t)p.out.rows; r++)
            for (int64_t c = 0; c < (int64_t)p.out.cols; c++) {
                float sum = 0;
                for (int64_t j = 0; j < k; j++)
                    sum += get(p.a, p.pa, p.d.trans_a ? place(p.a, i, j, r) : place(p.a, i, r, j)) *
                           get(p.b, p.pb, p.d.trans_b ? place(p.b, i, c, j) : place(p.b, i, j, c));
                sum *= p.alpha;
                if (p.beta != 0) sum += p.beta * get(p.c, p.pc, place(p.c, i, r, c));
                set(p.out, p.po, place(p.out, i, r, c), sum);
            }
}

/* A kernel of one thread, so that it is queued, captured and replayed like any other. */
cublasStatus_t cublasLtMatmul(cublasLtHandle_t lt, cublasLtMatmulDesc_t d, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_at, const void *b, cublasLtMatrixLayout_t b_at, const void *beta,
                              const void *c, cublasLtMatrixLayout_t c_at, void *out, cublasLtMatrixLayout_t out_at,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream)
{
    (void)algo;
    (void)workspace;
    (void)workspace_bytes;
    if (!lt) return CUBLAS_STATUS_NOT_INITIALIZED;
    const cublasStatus_t s = check(d, a_at, b_at, c_at, out_at);
    if (s != CUBLAS_STATUS_SUCCESS) return s;
    const product p = {
        *d, *a_at, *b_at, *c_at, *out_at, *static_cast<const float *>(alpha), *static_cast<const float *>(beta),
        a,  b,     c,     out
    };
    pg_emu_queue("cublasLtMatmul", NULL, 1, 1, 0, stream, [p] { multiply(p); });
    return CUBLAS_STATUS_SUCCESS;
}
