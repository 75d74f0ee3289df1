/* weights_test: weights on their way to the device: planes joined again are the bytes that were stored; what goes where when
 * memory is short. */
#include "../../kernels/cuda/backend.cuh"
#include "../c/check.h"

extern "C" {
#include "../../kernels/lanes.h"
#include "../../kernels/unpack/panel.h"
#include "../../kernels/unpack/unpack.h"
}
#include <vector>

static unsigned long long seed = 5;

static int below(int n)
{
    return (int)(check_rand(&seed) % (unsigned)n);
}

typedef std::vector<unsigned char> bytes;

static bytes random_bytes(size_t n)
{
    bytes b(n);
    for (unsigned char &x : b) x = (unsigned char)check_rand(&seed);
    return b;
}

/* A backend with nothing but what weights need, and the weights of these ops. */
struct fixture {
    pg_cuda_backend b;
    std::vector<pg_op> op;
    std::vector<pg_value> value;
    pg_code code;

    fixture()
    {
        memset(&b, 0, sizeof b);
        memset(&code, 0, sizeof code);
        b.lanes = pg_lanes_open(3);
        cudaStreamCreateWithFlags(&b.copy, cudaStreamNonBlocking);
    }
    ~fixture()
    {
        pg_store_free(&b.store);
        cudaStreamDestroy(b.copy);
        pg_lanes_close(b.lanes);
    }
    pg_op *emit(pg_opcode what, const pg_tensor *w)
    {
        pg_op o;
        memset(&o, 0, sizeof o);
        o.code = what;
        o.w = w;
        if (what == PG_OP_MATMUL) o.a.matmul.batch = (int32_t)w->shape[2];
        op.push_back(o);
        return &op.back();
    }
    /* Everything up to the weights being there, with `room` bytes; what is missing. */
    int64_t load(int64_t room = (int64_t)1 << 40)
    {
        char why[256] = "";
        code.op = op.data();
        code.n_op = (int32_t)op.size();
        b.c.code = &code;
        CHECK(!pg_store_list(&b.store, &code, why, sizeof why), "%s", why);
        const int64_t missing = pg_store_place(&b.store, room);
        if (!missing) {
            CHECK(!pg_store_take(&b.store, &b.c) && !pg_store_load(&b, NULL), "%s: %s", b.c.why,
                  cudaGetErrorString(b.c.error));
        }
        return missing;
    }
};

/* The stored bytes of matrix i, out of its planes. */
static bytes joined(const pg_cuda_weight *w, int i)
{
    const pg_dtype_info *info = pg_dtype_get(w->at.dtype);
    const int64_t blocks = w->at.k / info->block * w->at.n;
    int32_t from[PG_PLANES], length[PG_PLANES];
    const int n = pg_planes_of(w->at.dtype, from, length);
    const unsigned char *base;
    bytes out((size_t)(blocks * info->bytes)), plane;
    cudaMemcpy(&base, w->base + i, sizeof base, cudaMemcpyDeviceToHost);
    for (int p = 0; p < n; p++) {
        plane.resize((size_t)(blocks * length[p]));
        cudaMemcpy(plane.data(), base + w->at.plane[p], plane.size(), cudaMemcpyDefault);
        for (int64_t b = 0; b < blocks; b++)
            memcpy(&out[(size_t)(b * info->bytes + from[p])], &plane[(size_t)(b * length[p])], (size_t)length[p]);
    }
    return out;
}

/* Every format, odd numbers of rows, stacks with gaps between their matrices and between rows. */
static void formats(void)
{
    for (int type = 0; type < PG_DTYPE_COUNT; type++) {
        int32_t from[PG_PLANES], length[PG_PLANES];
        if (!pg_planes_of((pg_dtype)type, from, length)) continue;
        const pg_dtype_info *info = pg_dtype_get((pg_dtype)type);
        for (int turn = 0; turn < 6; turn++) {
            const int k = info->block * (1 + below(5)), n = 1 + below(40), count = 1 + below(3), gap = below(3);
            const int64_t row = (int64_t)pg_dtype_bytes((pg_dtype)type, k);
            const int64_t step = type == PG_FP8 ? row : row * (1 + below(2)), matrix = step * (n + gap);
            const bytes stored = random_bytes((size_t)(matrix * count));
            std::vector<float> factor(64, 1.0f);
            pg_tensor t = pg_tensor_dense((pg_dtype)type, stored.data(), k, n, count);
            t.stride[1] = step;
            t.stride[2] = type == PG_FP8 ? step * 128 : matrix;
            bytes tall;
            if (type == PG_FP8) { /* cut out of one tall matrix, whose factors count rows */
                tall = random_bytes((size_t)(step * 128 * count));
                t.data = tall.data();
                t.scale = factor.data();
                t.scale_stride = 1;
            }
            fixture f;
            f.emit(PG_OP_MATMUL, &t);
            f.load();
            const pg_cuda_weight *w = pg_cuda_weight_of(&f.b.c, &t);
            CHECK(w && w->count == count && w->all_near && w->at.k == k && w->at.n == n, "%s", info->name);
            int same = 1;
            for (int i = 0; w && i < count; i++) {
                const bytes got = joined(w, i);
                const pg_tensor m = pg_tensor_slice(&t, i);
                for (int r = 0; r < n; r++) same &= !memcmp(&got[(size_t)(r * row)], pg_tensor_row(&m, r), (size_t)row);
            }
            CHECK(same, "%s: %d x %d x %d: other bytes than were stored", info->name, k, n, count);
        }
    }
}

/* Files whose weights stand in panels. */
static void packed(void)
{
    const int k = 512, n = 37;
    const pg_dtype type[] = { PG_Q8_0, PG_Q4_K, PG_Q3_K, PG_MXFP4, PG_IQ2_XXS };
    for (pg_dtype t : type) {
        const int64_t row = (int64_t)pg_dtype_bytes(t, k);
        const bytes stored = random_bytes((size_t)(2 * n * row));
        const pg_tensor plain = pg_tensor_dense(t, stored.data(), k, n, 2);
        const int64_t one = pg_panel_bytes(&plain, n);
        bytes panels((size_t)(2 * one));
        for (int m = 0; m < 2; m++) {
            const pg_tensor w = pg_tensor_slice(&plain, m);
            for (int p = 0; p < (n + PG_PANEL - 1) / PG_PANEL; p++)
                pg_panel_pack(&panels[(size_t)(m * one + p * PG_PANEL * row)], &w, p);
        }
        pg_tensor w = plain;
        w.data = panels.data();
        w.stride[2] = one;
        w.packed = 1;
        fixture f;
        f.emit(PG_OP_MATMUL, &w);
        f.load();
        for (int m = 0; m < 2; m++)
            CHECK(!memcmp(joined(pg_cuda_weight_of(&f.b.c, &w), m).data(), &stored[(size_t)(m * n * row)],
                          (size_t)(n * row)),
                  "%s: unpacked to something else", pg_dtype_get(t)->name);
    }
}

/* FP8: factors of this matrix alone; a view that begins inside a block of factors becomes f32. */
static void factors(void)
{
    const int k = 200, rows = 400;
    const bytes stored = random_bytes(k * rows);
    std::vector<float> scale;
    for (int i = 0; i < 4 * 2; i++) scale.push_back(0.5f + (float)i);
    pg_tensor t = pg_tensor_dense(PG_FP8, stored.data(), k, rows, 1);
    t.scale = scale.data();
    t.scale_stride = 2;
    const pg_tensor tail = pg_tensor_rows(&t, 128, rows - 128, 1), inside = pg_tensor_rows(&t, 130, 50, 1);
    fixture f;
    f.emit(PG_OP_MATMUL, &tail);
    f.emit(PG_OP_MATMUL, &inside);
    f.load();
    const pg_cuda_weight *w = pg_cuda_weight_of(&f.b.c, &tail), *v = pg_cuda_weight_of(&f.b.c, &inside);
    float got[6], row[k];
    cudaMemcpy(got, w->first + w->at.plane[1], sizeof got, cudaMemcpyDeviceToHost);
    CHECK(w->at.n_plane == 2 && !memcmp(got, &scale[2], sizeof got), "factors of another matrix");
    CHECK(v->at.dtype == PG_F32, "inside a block of factors");
    const bytes values = joined(v, 0);
    for (int r = 0; r < 50; r++) {
        pg_unpack_row(row, &inside, r, 0, k);
        CHECK(!memcmp(row, &values[(size_t)r * sizeof row], sizeof row), "row %d", r);
    }
}

/* Vectors by address, the longest reader counts; one matrix under two names is there once. */
static void names(void)
{
    std::vector<float> a(300), b(7);
    for (float &x : a) x = check_uniform(&seed);
    for (float &x : b) x = check_uniform(&seed);
    const bytes stored = random_bytes(64 * 34);
    const pg_tensor table = pg_tensor_dense(PG_Q8_0, stored.data(), 32, 64, 1), head = table;
    fixture f;
    f.emit(PG_OP_EMBED, &table);
    pg_op *norm = f.emit(PG_OP_NORM, NULL);
    norm->v = a.data();
    norm->a.norm.n = 30;
    norm = f.emit(PG_OP_NORM, NULL);
    norm->v = a.data();
    norm->a.norm.n = 300;
    f.emit(PG_OP_MATMUL, &head)->v = NULL;
    norm = f.emit(PG_OP_ANGLES, NULL);
    norm->v = b.data();
    norm->a.angles.n = 7;
    f.load();
    std::vector<float> got(300);
    cudaMemcpy(got.data(), pg_cuda_vector_of(&f.b.c, a.data()), 1200, cudaMemcpyDeviceToHost);
    CHECK(got == a, "a vector");
    cudaMemcpy(got.data(), pg_cuda_vector_of(&f.b.c, b.data()), 28, cudaMemcpyDeviceToHost);
    CHECK(!memcmp(got.data(), b.data(), 28), "a vector");
    CHECK(!pg_cuda_vector_of(&f.b.c, NULL) && !pg_cuda_vector_of(&f.b.c, &a[1]), "what no op reads");
    CHECK(pg_cuda_weight_of(&f.b.c, &table) == pg_cuda_weight_of(&f.b.c, &head) && f.b.store.n_stored == 1,
          "a tied head is there twice");
}

/* Dense weights must fit; experts fill what is left in the order of the plan, and the rest is pinned. */
static void placing(void)
{
    enum { E = 5, K = 64, F = 32, ONE = 34 * (K / 32) * F };
    const bytes stored = random_bytes(3 * E * ONE), dense = random_bytes(ONE);
    std::vector<pg_tensor> part;
    for (int i = 0; i < 3 * E; i++)
        part.push_back(pg_tensor_dense(PG_Q8_0, &stored[(size_t)i * ONE], i < 2 * E ? K : F, i < 2 * E ? F : K, 1));
    const pg_tensor head = pg_tensor_dense(PG_Q8_0, dense.data(), K, F, 1);
    pg_experts experts;
    memset(&experts, 0, sizeof experts);
    experts.n_expert = E;
    experts.gate = &part[0];
    experts.up = &part[E];
    experts.down = &part[2 * E];
    for (int near = -1; near <= 3 * E; near++) {
        fixture f, sizes;
        for (fixture *x : { &f, &sizes }) {
            x->emit(PG_OP_EXPERTS, NULL)->a.experts.experts = &experts;
            x->emit(PG_OP_MATMUL, &head);
        }
        CHECK(sizes.load(0) == sizes.b.store.dense_bytes, "no room at all");
        const int64_t one = sizes.b.store.stored[0].w.at.bytes, all = sizes.b.store.dense_bytes;
        CHECK(sizes.b.store.expert_bytes == 3 * E * one, "bytes of experts");
        const int64_t room = near < 0 ? all - 100 : all + near * one + one / 2, missing = f.load(room);
        CHECK(near < 0 ? missing == 100 : !missing, "%d near: %lld missing", near, (long long)missing);
        if (near < 0) continue;
        CHECK(f.b.store.near_bytes <= room && f.b.store.far_bytes == (3 * E - near) * one, "%d near: bytes", near);
        for (int p = 0; p < 3; p++) {
            const pg_cuda_weight *w = pg_cuda_weight_of(&f.b.c, &part[(size_t)(p * E)]);
            const int here = near - p * E < 0 ? 0 : near - p * E > E ? E : near - p * E;
            CHECK(w->count == E && w->all_near == (here == E), "%d near: part %d", near, p);
            for (int i = 0; i < E; i++)
                CHECK(!memcmp(joined(w, i).data(), &stored[(size_t)(p * E + i) * ONE], ONE), "part %d, expert %d", p,
                      i);
        }
    }
    part[1].dtype = PG_Q4_0;
    fixture f;
    char why[256] = "";
    f.emit(PG_OP_EXPERTS, NULL)->a.experts.experts = &experts;
    f.code.op = f.op.data();
    f.code.n_op = 1;
    CHECK(pg_store_list(&f.b.store, &f.code, why, sizeof why) && strstr(why, "formats"), "%s", why);
}

/* The loader is asked before anything is read, told how far it is, and can stop. */
struct watcher {
    const unsigned char *from;
    size_t n, seen;
    double last, total;
    int calls, stop_at;
};
static int watch(void *ud, const void *at, int64_t n, double done, double total)
{
    watcher *w = static_cast<watcher *>(ud);
    CHECK(at >= w->from && static_cast<const unsigned char *>(at) + n <= w->from + w->n, "reads elsewhere");
    CHECK(done >= w->last && done <= total, "%g of %g", done, total);
    w->last = done;
    w->total = total;
    w->seen += (size_t)n;
    return ++w->calls == w->stop_at ? -1 : 0;
}
static void watching(void)
{
    const bytes stored = random_bytes(7 * 100 * 68);
    const pg_tensor t = pg_tensor_dense(PG_Q8_0, stored.data(), 64, 100, 7);
    for (int stop = 0; stop < 4; stop += 3) {
        fixture f;
        char why[256];
        f.emit(PG_OP_MATMUL, &t);
        f.code.op = f.op.data();
        f.code.n_op = 1;
        watcher w = { stored.data(), stored.size(), 0, 0, 0, 0, stop };
        const pg_loader l = { watch, &w };
        CHECK(!pg_store_list(&f.b.store, &f.code, why, sizeof why) && !pg_store_place(&f.b.store, 1 << 30) &&
                  !pg_store_take(&f.b.store, &f.b.c),
              "%s", why);
        CHECK(pg_store_load(&f.b, &l) == (stop ? 1 : 0), "stopped at %d", stop);
        CHECK(stop ? w.calls == stop : w.seen == stored.size() && w.total == (double)stored.size(), "%zu seen", w.seen);
    }
}

int main(void)
{
    formats();
    packed();
    factors();
    names();
    placing();
    watching();
    CHECK(pg_step_bucket(1, 64) == 1 && pg_step_bucket(3, 64) == 4 && pg_step_bucket(64, 64) == 64 &&
              pg_step_bucket(33, 48) == 48 && pg_step_bucket(9, 9) == 9,
          "buckets");
    return check_done("weights_test");
}
