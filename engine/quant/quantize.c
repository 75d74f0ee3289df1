/* quantize: a model file in other storage formats.
 *
 * Lives here: what becomes of each tensor, the refusals, the loop over the tensors, the thread it runs in.
 * Not here: the choice of formats (mix.c), how blocks are made (kernels/quant), the file's layout (write.c).
 * Why in slabs: a slab of rows is read, made and written before the next, so memory stays small whatever the model's
 * size, and a cancelled run ends at once. */
#include "../background.h"
#include "../host.h"
#include "../../kernels/quant/quant.h"
#include "../../kernels/unpack/panel.h"
#include "importance.h"
#include "mix.h"
#include "write.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { SLAB = 1 << 20, MAX_THREADS = 1024, ALIGNMENT = 32 };

/* What becomes of one tensor. */
typedef struct target {
    pg_dtype type;
    int packed, raw; /* raw: its bytes as they are */
    int64_t bytes;
} target;

struct pg_quantizing {
    pg_background task;
    char *in, *out, *imatrix;
    const pg_mix *mix;
    int threads, pack, requantize;
    pg_source *source;
    pg_importance *importance;
    pg_writer *writer;
    pg_quant *quant;
    target *target; /* [n_tensor] */
    float *column;  /* importance of the columns of one matrix */
    char *slab;
    double done;
    pg_quantize_report report;
};

/* A tensor in a message: printf("%.*s", NAME(t)). */
#define NAME(t) (int)(t)->name.n, (t)->name.data

/* ---- what is to be done ---- */

static int check_model(const pg_quantizing *q, pg_error *err)
{
    pg_text type = { "model", 5 };
    struct stat a, b;
    if (pg_source_dialect(q->source) != PG_DIALECT_GGUF)
        return pg_fail(err, PG_EUNSUPPORTED,
                       "%s: a Hugging Face folder cannot be quantised; convert it to a GGUF file of type BF16 or F16 "
                       "(with llama.cpp's convert_hf_to_gguf.py) and quantise that",
                       q->in);
    int rc = pg_source_text(q->source, "general.type", &type, err);
    if (rc < 0) return rc;
    if (type.n != 5 || memcmp(type.data, "model", 5) != 0)
        return pg_fail(err, PG_EUNSUPPORTED, "%s: key 'general.type' is \"%.*s\"; only a \"model\" can be quantised",
                       q->in, (int)(type.n < 40 ? type.n : 40), type.data);
    if (pg_source_n_tensor(q->source) == 0)
        return pg_fail(err, PG_EFORMAT, "%s: holds no tensors, only a vocabulary; there is nothing to quantise", q->in);
    for (int i = 0; i < pg_source_n_tensor(q->source); i++)
        if (pg_source_tensor_at(q->source, i)->view.packed)
            return pg_fail(err, PG_EUNSUPPORTED, "%s: is packed already; start from the file that it was made from",
                           q->in);
    if (stat(pg_source_path(q->source), &a) == 0 && stat(q->out, &b) == 0 && a.st_dev == b.st_dev &&
        a.st_ino == b.st_ino)
        return pg_fail(err, PG_EINVAL, "%s: input and output are the same file; name another output", q->out);
    return PG_OK;
}

static int64_t n_matrix(const pg_source_tensor *t)
{
    return t->view.shape[2] * t->view.shape[3];
}

static int choose(const pg_quantizing *q, const pg_mix_model *model, const pg_source_tensor *t, target *to,
                  pg_error *err)
{
    const pg_dtype now = t->view.dtype;
    int64_t bytes = 0;
    *to = (target){ .type = pg_mix_type(q->mix, model, t) };
    to->packed = q->pack && pg_dtype_is_quant(to->type) && pg_mix_may_pack(t);
    to->raw = !to->packed && to->type == now && (q->mix->copy || !pg_quant_can(now));
    if (to->type != now && pg_dtype_is_quant(now) && !q->requantize)
        return pg_fail(
            err, PG_EINVAL,
            "%s: tensor '%.*s' is quantised already (%s): quantising it again to %s loses more than doing it "
            "once; start from an F32, F16 or BF16 file, or set requantize to do it all the same",
            q->in, NAME(t), pg_dtype_get(now)->name, pg_dtype_get(to->type)->name);
    if (__builtin_mul_overflow(pg_quant_bytes(to->type, to->packed, t->view.shape[0], t->view.shape[1]), n_matrix(t),
                               &bytes))
        return pg_fail(err, PG_ELIMIT, "%s: tensor '%.*s' would have more bytes than a file can hold", q->in, NAME(t));
    to->bytes = bytes;
    return PG_OK;
}

static int choose_all(pg_quantizing *q, pg_error *err)
{
    const pg_mix_model model = pg_mix_look(q->source);
    const int n = pg_source_n_tensor(q->source);
    int64_t widest = 1, slab = SLAB;
    int n_expert = 0;
    q->target = calloc((size_t)n, sizeof *q->target);
    for (int i = 0; q->target && i < n; i++) {
        const pg_source_tensor *t = pg_source_tensor_at(q->source, i);
        int rc = choose(q, &model, t, &q->target[i], err);
        if (rc < 0) return rc;
        const int64_t panel = pg_quant_bytes(q->target[i].type, 1, t->view.shape[0], PG_PANEL);
        widest = t->view.shape[0] > widest ? t->view.shape[0] : widest;
        slab = panel > slab && !q->target[i].raw ? panel : slab;
        n_expert += pg_mix_is_expert(t);
        q->report.n_packed += q->target[i].packed;
        q->report.n_quantised += pg_dtype_is_quant(q->target[i].type);
        q->report.n_weighted += q->importance && pg_mix_is_matrix(t) && pg_importance_has(q->importance, t);
        q->report.bytes_out += (double)q->target[i].bytes;
    }
    q->column = malloc(sizeof *q->column * (size_t)widest);
    q->slab = malloc((size_t)slab);
    if (!q->target || !q->column || !q->slab)
        return pg_fail(err, PG_EMEMORY, "%s: not enough memory to quantise it", q->in);
    if (q->mix->experts != PG_DTYPE_NONE && n_expert == 0)
        return pg_fail(err, PG_EINVAL, "%s: has no routed experts, which type %s is for; take q8_0 or q4_k_m", q->in,
                       q->mix->name);
    if (q->pack && q->report.n_packed == 0)
        return pg_fail(err, PG_EINVAL,
                       "%s: with type %s it has no matrix that can be packed; only quantised ones are packed", q->in,
                       q->mix->name);
    if (q->importance && q->report.n_weighted == 0)
        return pg_fail(err, PG_EINVAL, "%s: knows none of the tensors of %s; was it collected with another model?",
                       q->imatrix, q->in);
    q->report.n_tensor = n;
    q->report.bytes_in = pg_source_bytes(q->source);
    return PG_OK;
}

/* "q4_k 120, f32 61": formats and how many tensors have them. */
static void tell_types(pg_quantizing *q)
{
    int count[PG_DTYPE_COUNT] = { 0 };
    size_t n = 0, room = sizeof q->report.types;
    for (int i = 0; i < q->report.n_tensor; i++) count[q->target[i].type]++;
    for (int k = 0; k < PG_DTYPE_COUNT && n < room; k++)
        if (count[k] > 0)
            n += (size_t)snprintf(q->report.types + n, room - n, "%s%s %d", n > 0 ? ", " : "",
                                  pg_dtype_get((pg_dtype)k)->name, count[k]);
}

/* ---- the new file ---- */

static void put_imatrix_keys(pg_quantizing *q)
{
    const pg_source *s = pg_importance_source(q->importance);
    const char *slash = strrchr(q->imatrix, '/'), *name = slash ? slash + 1 : q->imatrix;
    int64_t chunks = 0;
    pg_text dataset;
    pg_writer_text(q->writer, "quantize.imatrix.file", (pg_text){ name, strlen(name) });
    if (pg_source_text_at(s, "imatrix.datasets", 0, &dataset, NULL) > 0)
        pg_writer_text(q->writer, "quantize.imatrix.dataset", dataset);
    pg_writer_u32(q->writer, "quantize.imatrix.entries_count", (uint32_t)q->report.n_weighted);
    if (pg_source_int(s, "imatrix.chunk_count", 0, UINT32_MAX, &chunks, NULL) > 0)
        pg_writer_u32(q->writer, "quantize.imatrix.chunks_count", (uint32_t)chunks);
}

static int begin_file(pg_quantizing *q, pg_error *err)
{
    static const char *const anew[] = {
        "general.file_type",
        "general.quantization_version",
        PG_PACK_KEY,
        "quantize.imatrix.file",
        "quantize.imatrix.dataset",
        "quantize.imatrix.entries_count",
        "quantize.imatrix.chunks_count",
    };
    enum { FIRST_KEPT_BY_COPY = 2, N_ANEW = sizeof anew / sizeof *anew };
    int rc = pg_writer_open(q->out, q->pack ? PG_PACK_ALIGN : ALIGNMENT, &q->writer, err);
    if (rc < 0) return rc;
    if (q->mix->copy) {
        pg_writer_copy_keys(q->writer, q->source, anew + FIRST_KEPT_BY_COPY, 1);
    } else {
        pg_writer_copy_keys(q->writer, q->source, anew, N_ANEW);
        pg_writer_u32(q->writer, "general.quantization_version", 2);
        pg_writer_u32(q->writer, "general.file_type", q->mix->file_type);
        if (q->importance) put_imatrix_keys(q);
    }
    if (q->pack) pg_writer_u32(q->writer, PG_PACK_KEY, PG_PACK_VERSION);
    for (int i = 0; i < q->report.n_tensor; i++) {
        const pg_source_tensor *t = pg_source_tensor_at(q->source, i);
        const uint32_t id = (uint32_t)pg_dtype_get(q->target[i].type)->gguf;
        pg_writer_tensor(q->writer, t->name, q->target[i].packed ? PG_PACK_TYPE + id : id, t->view.shape,
                         q->target[i].bytes);
    }
    return pg_writer_begin(q->writer, err);
}

static int tell(pg_quantizing *q, int64_t bytes, pg_error *err)
{
    q->done += (double)bytes;
    if (pg_background_tell(&q->task, q->done, q->report.bytes_in) >= 0) return PG_OK;
    return pg_fail(err, PG_ECANCELLED, "quantising %s was cancelled", q->in);
}

static int copy_raw(pg_quantizing *q, const pg_source_tensor *t, pg_error *err)
{
    const char *from = t->view.data;
    int rc = PG_OK;
    for (int64_t left = t->view.stride[3] * t->view.shape[3]; rc == PG_OK && left > 0;) {
        const int64_t n = left < SLAB ? left : SLAB;
        rc = pg_writer_data(q->writer, from, (size_t)n, err);
        if (rc == PG_OK) rc = tell(q, n, err);
        from += n;
        left -= n;
    }
    return rc;
}

static int refuse_weights(const pg_quantizing *q, const pg_source_tensor *t, pg_dtype type, pg_quant_result result,
                          pg_error *err)
{
    if (result == PG_QUANT_NOT_FINITE)
        return pg_fail(err, PG_EFORMAT, "%s: tensor '%.*s' holds a weight that is NaN or infinite; the file is damaged",
                       q->in, NAME(t));
    return pg_fail(err, PG_EUNSUPPORTED, "%s: tensor '%.*s' holds a weight too large for type %s; bf16 can hold it",
                   q->in, NAME(t), pg_dtype_get(type)->name);
}

/* One matrix of a tensor, slab by slab. */
static int write_matrix(pg_quantizing *q, const pg_source_tensor *t, const target *to, int64_t matrix, pg_error *err)
{
    const pg_tensor view = pg_tensor_slice(&t->view, matrix);
    const int64_t n_col = view.shape[0], panel = pg_quant_bytes(to->type, 1, n_col, PG_PANEL);
    const int64_t step = panel < SLAB ? SLAB / panel * PG_PANEL : PG_PANEL;
    const int known = q->importance ? pg_importance_of(q->importance, t, matrix, q->column, err) : 0;
    int rc = known < 0 ? known : PG_OK;
    for (int64_t row = 0; rc == PG_OK && row < view.shape[1]; row += step) {
        const int64_t n = view.shape[1] - row < step ? view.shape[1] - row : step;
        const pg_quant_result result =
            pg_quant_rows(q->quant, q->slab, to->type, to->packed, &view, row, n, known > 0 ? q->column : NULL);
        if (result != PG_QUANT_FINE) return refuse_weights(q, t, to->type, result, err);
        rc = pg_writer_data(q->writer, q->slab, (size_t)pg_quant_bytes(to->type, to->packed, n_col, n), err);
        if (rc == PG_OK) rc = tell(q, n * view.stride[1], err);
    }
    return rc;
}

static int write_tensors(pg_quantizing *q, pg_error *err)
{
    int rc = PG_OK;
    for (int i = 0; rc == PG_OK && i < q->report.n_tensor; i++) {
        const pg_source_tensor *t = pg_source_tensor_at(q->source, i);
        if (q->target[i].raw) rc = copy_raw(q, t, err);
        for (int64_t m = 0; rc == PG_OK && !q->target[i].raw && m < n_matrix(t); m++)
            rc = write_matrix(q, t, &q->target[i], m, err);
    }
    return rc;
}

static int run(void *ud, pg_background *task, pg_error *err)
{
    pg_quantizing *q = ud;
    (void)task;
    int rc = pg_source_open(q->in, 1, &q->source, err);
    if (rc == PG_OK) rc = check_model(q, err);
    if (rc == PG_OK && q->imatrix) rc = pg_importance_open(q->imatrix, &q->importance, err);
    if (rc == PG_OK) rc = choose_all(q, err);
    if (rc == PG_OK && !(q->quant = pg_quant_open(q->threads)))
        rc = pg_fail(err, PG_EMEMORY, "%s: no memory or threads to quantise it", q->in);
    if (rc == PG_OK) rc = begin_file(q, err);
    if (rc == PG_OK) rc = write_tensors(q, err);
    if (rc == PG_OK) {
        rc = pg_writer_finish(q->writer, err);
        q->writer = NULL;
    }
    if (rc == PG_OK) tell_types(q);
    return rc;
}

/* ---- begin, poll, finish ---- */

void pg_quantize_options_init(pg_quantize_options *options)
{
    const char *threads = getenv("PERIGEE_THREADS");
    *options = (pg_quantize_options){ .type = "q4_k_m", .threads = threads ? atoi(threads) : 0 };
}

static void free_quantizing(pg_quantizing *q)
{
    pg_writer_cancel(q->writer);
    pg_quant_close(q->quant);
    pg_importance_close(q->importance);
    pg_source_close(q->source);
    free(q->target);
    free(q->column);
    free(q->slab);
    free(q->in);
    free(q->out);
    free(q->imatrix);
    free(q);
}

static int check_options(const pg_quantize_options *o, const pg_mix **mix, pg_error *err)
{
    const char *type = o->type ? o->type : "";
    *mix = pg_mix_find(type);
    if (!*mix) return pg_fail(err, PG_EINVAL, "type is \"%s\", expected %s", type, pg_mix_names());
    if (o->threads < 0 || o->threads > MAX_THREADS)
        return pg_fail(err, PG_EINVAL, "threads is %d, expected 0 (all cores) to %d", o->threads, MAX_THREADS);
    if ((*mix)->copy && o->imatrix)
        return pg_fail(err, PG_EINVAL, "type copy quantises nothing, so it has no use for an imatrix");
    if ((*mix)->copy && !o->pack)
        return pg_fail(err, PG_EINVAL, "type copy is for packing: set pack as well, or copy the file");
    return PG_OK;
}

int pg_quantize_begin(const char *in, const char *out, const pg_quantize_options *options, pg_quantizing **handle,
                      pg_error *err)
{
    pg_quantize_options o;
    const pg_mix *mix;
    if (!in || !out || !handle)
        return pg_fail(err, PG_EINVAL, "pg_quantize_begin needs an input, an output and a place for the handle");
    *handle = NULL;
    pg_quantize_options_init(&o);
    if (options) o = *options;
    int rc = check_options(&o, &mix, err);
    if (rc < 0) return rc;
    pg_quantizing *q = calloc(1, sizeof *q);
    if (!q) return pg_fail(err, PG_EMEMORY, "no memory to quantise %s", in);
    q->mix = mix;
    q->threads = o.threads ? o.threads : pg_host_threads();
    q->pack = o.pack;
    q->requantize = o.requantize;
    q->in = strdup(in);
    q->out = strdup(out);
    q->imatrix = o.imatrix ? strdup(o.imatrix) : NULL;
    if (!q->in || !q->out || (o.imatrix && !q->imatrix))
        rc = pg_fail(err, PG_EMEMORY, "no memory to quantise %s", in);
    else
        rc = pg_background_start(&q->task, run, q, err);
    if (rc < 0)
        free_quantizing(q);
    else
        *handle = q;
    return rc;
}

int pg_quantize_poll(pg_quantizing *q, int32_t timeout_ms, double *done, double *total, pg_error *err)
{
    return q ? pg_background_poll(&q->task, timeout_ms, done, total, err) : pg_fail(err, PG_EINVAL, "no quantising");
}

int pg_quantize_finish(pg_quantizing *q, pg_quantize_report *report, pg_error *err)
{
    if (!q) return pg_fail(err, PG_EINVAL, "no quantising");
    const int rc = pg_background_join(&q->task, err);
    if (report) *report = q->report;
    free_quantizing(q);
    return rc;
}

void pg_quantize_cancel(pg_quantizing *q)
{
    if (!q) return;
    pg_background_cancel(&q->task);
    (void)pg_quantize_finish(q, NULL, NULL);
}
