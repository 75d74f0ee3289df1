/* split_test: random small models on two and three devices against one, bit for bit: prompts, decode by launches and by
 * graphs, values that come home, steering as data and by the host; where plans are cut; memory that only two devices have;
 * what fails. */
#include "../../kernels/cuda/backend.cuh"
#define HARNESS_WITH_BACKEND 1
#include "harness.h"
#include "step.h"

#define _Alignas alignas
extern "C" {
#include "../../engine/kv/pages.h"
#include "../../engine/plan/plan.h"
#include "../../kernels/policy/program.h"
}
#undef _Alignas

#include <algorithm>
#include <deque>

extern "C" const pg_plugin pg_plugin_cuda;

enum {
    MOST_LAYERS = 5,
    T = 24,
    S = 12,
    SEQS = 12,
    LONGEST = 96,
    PER_SEQ = LONGEST / PG_PAGE_TOKENS,
    PAGES = SEQS * PER_SEQ
};

/* ---- a model ------------------------------------------------------------------------------------------------------ */

struct model {
    harness h;
    pg_plan plan = {};
    pg_router router = {};
    std::deque<pg_experts> experts;
    pg_kv kv;
    int D, H, G, dk, E, X, F, V, L;
    pg_dtype type;

    int below(int n) { return harness_below(&h, n); }
    const pg_tensor *matrix(int k, int n) { return harness_matrix(&h, type, k, n); }
    const float *norm() { return harness_vector(&h, D, 1, 0.2f); }
    pg_ref rotate(pg_ref x, int heads, pg_ref angles)
    {
        pg_op *op = pg_plan_emit(&plan, PG_OP_ROPE, x, x, angles);
        op->a.rope.heads = heads;
        op->a.rope.step = dk;
        op->a.rope.n = dk;
        op->a.rope.layout = PG_ROPE_HALVES;
        return x;
    }
    void store(pg_ref x, int stream, int n)
    {
        pg_op *op = pg_plan_emit(&plan, PG_OP_STORE, PG_NO_REF, x, PG_NO_REF);
        op->a.store.stream = stream;
        op->a.store.n = n;
    }
    pg_ref attend(pg_ref x, pg_ref angles)
    {
        const int ks = pg_plan_stream(&plan, G * dk), vs = pg_plan_stream(&plan, G * dk);
        const pg_ref n = pg_emit_norm(&plan, x, norm(), 1e-6f);
        const pg_ref q = pg_emit_matmul(&plan, n, matrix(D, H * dk), NULL);
        const pg_ref k = pg_emit_matmul(&plan, n, matrix(D, G * dk), NULL);
        const pg_ref v = pg_emit_matmul(&plan, n, matrix(D, G * dk), NULL);
        store(rotate(k, G, angles), ks, G * dk);
        store(v, vs, G * dk);
        rotate(q, H, angles);
        const pg_ref y = pg_plan_value(&plan, PG_ROWS_ALL, H * dk);
        pg_op *op = pg_plan_emit(&plan, PG_OP_ATTN, y, q, PG_NO_REF);
        op->a.attn.k_stream = ks;
        op->a.attn.v_stream = vs;
        op->a.attn.heads = H;
        op->a.attn.kv_heads = G;
        op->a.attn.dk = op->a.attn.dv = dk;
        op->a.attn.scale = 0.3f;
        return pg_emit_add(&plan, x, pg_emit_matmul(&plan, y, matrix(H * dk, D), NULL), 1);
    }
    pg_ref dense(pg_ref x)
    {
        const pg_ref g = pg_emit_matmul(&plan, x, matrix(D, F), NULL), u = pg_emit_matmul(&plan, x, matrix(D, F), NULL);
        return pg_emit_matmul(&plan, pg_emit_glu(&plan, g, u, PG_GLU_SILU, 0), matrix(F, D), NULL);
    }
    pg_ref choose(pg_ref x, int layer)
    {
        const pg_ref score = pg_emit_matmul(&plan, x, harness_matrix(&h, PG_F32, D, E), NULL);
        plan.op[plan.code.n_op - 1].a.matmul.exact = 1;
        pg_op *op = pg_plan_emit(&plan, PG_OP_HOOK, score, score, PG_NO_REF);
        op->a.hook.router = &router;
        op->a.hook.layer = layer;
        const pg_ref pick = pg_plan_value(&plan, PG_ROWS_ALL, 2 * pg_router_most(E, X));
        pg_plan_emit(&plan, PG_OP_ROUTE, pick, score, PG_NO_REF)->a.route.router = &router;
        pg_plan_keep(&plan, pick);
        plan.pick[plan.n_pick++] = pick;
        experts.push_back({});
        pg_experts *e = &experts.back();
        e->n_expert = E;
        e->n_used = X;
        e->n_embd = D;
        e->n_ff = F;
        e->gate = harness_matrix(&h, type, D, F, E, false);
        e->up = harness_matrix(&h, type, D, F, E, false);
        e->down = harness_matrix(&h, type, F, D, E, false);
        const pg_ref y = pg_plan_value(&plan, PG_ROWS_ALL, D);
        pg_plan_emit(&plan, PG_OP_EXPERTS, y, x, pick)->a.experts.experts = e;
        return y;
    }
    pg_ref logits(pg_ref x, const pg_tensor *head)
    {
        pg_ref s = pg_plan_value(&plan, PG_ROWS_SAMPLED, D);
        pg_plan_emit(&plan, PG_OP_GATHER, s, x, PG_NO_REF);
        s = pg_emit_matmul(&plan, pg_emit_norm(&plan, s, norm(), 1e-6f), head, NULL);
        pg_plan_keep(&plan, s);
        return s;
    }
    explicit model(unsigned long long seed)
    {
        static const pg_dtype types[] = { PG_F32, PG_BF16, PG_Q8_0 };
        h.seed = seed;
        type = types[below(3)];
        h.exact = type == PG_F32 || !below(4);
        D = 32 * (1 + below(3));
        G = 1 + below(2);
        H = G * (1 + below(3));
        dk = 16 * (1 + below(2));
        if (H * dk % 32) dk = 32;
        E = 4 + below(9);
        X = 1 + below(3);
        F = 32 * (1 + below(2));
        V = 33 + below(60);
        L = 2 + below(MOST_LAYERS - 1);
        router.n_expert = E;
        router.n_used = X;
        router.n_group = router.n_group_used = 1;
        router.score = PG_SCORE_SOFTMAX;
        router.renorm = 1;
        router.scale = 1;
        plan.code.max_rows = T;
        plan.code.max_sampled = S;
        plan.code.max_decode = T;
        plan.code.exact = h.exact;
        plan.pick = static_cast<pg_ref *>(calloc(MOST_LAYERS, sizeof *plan.pick));
        const pg_tensor *table = matrix(D, V);
        pg_ref x = pg_plan_value(&plan, PG_ROWS_ALL, D), angles = pg_plan_value(&plan, PG_ROWS_ALL, dk);
        pg_op *op = pg_plan_emit(&plan, PG_OP_EMBED, x, PG_NO_REF, PG_NO_REF);
        op->w = table;
        op->a.embed.scale = 1;
        op = pg_plan_emit(&plan, PG_OP_ANGLES, angles, PG_NO_REF, PG_NO_REF);
        op->v = harness_vector(&h, dk / 2, 0.5f, 0.4f);
        op->a.angles.n = dk / 2;
        op->a.angles.magnitude = 1;
        const int n_dense = below(2);
        for (int l = 0; l < L; l++) {
            x = attend(x, angles);
            const pg_ref n = pg_emit_norm(&plan, x, norm(), 1e-6f);
            x = pg_emit_add(&plan, x, l < n_dense ? dense(n) : choose(n, l), 1);
        }
        plan.logits = logits(x, below(2) ? table : matrix(D, V));
        pg_error err = {};
        CHECK(pg_plan_finish(&plan, &err) >= 0, "%s", err.text);
        kv = pg_pages_lay_out(plan.stream, plan.n_stream, h.exact ? PG_F32 : PG_F16);
    }
    ~model() { pg_plan_free(&plan); }
};

/* ---- steps -------------------------------------------------------------------------------------------------------- */

struct step : step_rows {
    /* Sequence `first` goes on with n_prefill tokens; then one token each of the n_decode sequences after it. at[]: how long
     * they are. */
    step(model *m, int *at, int n_prefill, int n_decode, bool samples = true)
    {
        const int first = n_prefill ? m->below(SEQS - n_decode) : m->below(SEQS - n_decode + 1) - 1;
        for (int i = 0; i < n_prefill; i++) add(m->below(m->V), first, at[first]++);
        for (int i = 1; i <= n_decode; i++) add(m->below(m->V), first + i, at[first + i]++);
        for (int s = 0; s < SEQS; s++) {
            page.emplace_back();
            for (int p = 0; p < PER_SEQ; p++) page[s].push_back((s * 7 + p * 11) % PAGES);
        }
        finish(n_prefill, samples);
    }
};

/* ---- who steers --------------------------------------------------------------------------------------------------- */

/* Writes down what it is asked and told. What it answers is good until it is asked again. */
struct helmsman {
    model *m;
    std::vector<int32_t> log;
    std::vector<float> plain, choose, cumulative;
    std::vector<int32_t> top;
    std::vector<unsigned char> steered, fault;
    pg_steer steer;
    int rows = 0, waits = 0;
    double bytes = 0;
    pg_hook hook = {};
    /* data */
    std::vector<pg_layer_knobs> knobs;
    std::vector<float> bias, load;
    std::vector<pg_instr> code;
    pg_steer_stage stage[2] = {};
    float knob = 1.5f;
    int32_t first[3] = { 0, 1, 2 };
    std::vector<int32_t> policy;
    pg_steering data = {};

    void tell()
    {
        for (int r = 0; r < rows; r++) log.push_back(fault[(size_t)r]);
        rows = 0;
        std::fill(fault.begin(), fault.end(), (unsigned char)77);
    }
    static const pg_steer *route(void *ud, const pg_op *op, float *score, int32_t n)
    {
        helmsman *w = static_cast<helmsman *>(ud);
        const int E = w->m->E, layer = op->a.hook.layer;
        w->tell();
        w->rows = n;
        w->log.push_back(layer);
        for (int i = 0; i < n * E; i++) {
            w->plain[(size_t)i] = score[i];
            w->log.push_back(*reinterpret_cast<const int32_t *>(score + i));
            score[i] += 0.25f * (float)((i * 5 + layer * 3) % 7);
        }
        for (int r = 0; r < n; r++) w->top[(size_t)r] = (r + layer) % 5 ? w->m->X : 0; /* some are at fault */
        return &w->steer;
    }
    static void faults(void *ud, const pg_op *op, const unsigned char *fault)
    {
        helmsman *w = static_cast<helmsman *>(ud);
        if (std::count(fault, fault + w->policy.size(), 0) == (long)w->policy.size()) return; /* nothing to tell */
        w->log.push_back(1000 + op->a.hook.layer);
        for (size_t r = 0; r < w->policy.size(); r++) w->log.push_back(fault[r]);
    }
    static void waited(void *ud, double seconds, double bytes)
    {
        helmsman *w = static_cast<helmsman *>(ud);
        CHECK(seconds > 0, "no time");
        w->waits++;
        w->bytes += bytes;
    }
    void add(int op, int dst, int a = 0, int b = 0)
    {
        code.push_back({ (uint8_t)op, (uint8_t)dst, { (uint8_t)a, (uint8_t)b, 0 }, 0 });
    }
    explicit helmsman(model *m_) : m(m_)
    {
        const size_t E = (size_t)m->E;
        plain.resize(T * E);
        choose.assign(T * E, 0);
        cumulative.assign(T, 1);
        top.assign(T, m->X);
        steered.assign(T, 1);
        fault.assign(T, 77);
        steer = { steered.data(), plain.data(), choose.data(), top.data(), cumulative.data(), NULL, fault.data() };
        hook.route = route;
        hook.ud = this;
        hook.faults = faults;
        hook.waited = waited;
        unsigned long long seed = 11;
        for (size_t i = 0; i < E * MOST_LAYERS; i++)
            bias.push_back(check_uniform(&seed)), load.push_back(check_uniform(&seed));
        for (int l = 0; l < m->L; l++) {
            knobs.push_back({});
            knobs.back().temperature = 1.25f;
            knobs.back().choose = &bias[(size_t)l * E];
        }
        const int number = PG_VECTORS;
        add(PG_I_SCORES, 0);
        add(PG_I_LOAD, 1);
        add(PG_I_KNOB, number, 0);
        add(PG_I_MUL, 1, 1, number);
        add(PG_I_SUB, 0, 0, 1);
        add(PG_I_SET_SCORES, 0, 0);
        add(PG_I_LAYER, number + 1);
        add(PG_I_SET_TOP, 0, number + 1); /* layer 0: none, which is a fault */
        stage[0].id = 1;
        stage[0].knobs = knobs.data();
        stage[1].id = 2;
        stage[1].code = code.data();
        stage[1].n = (int32_t)code.size();
        stage[1].n_knob = 1;
        stage[1].knob = &knob;
        data.stage = stage;
        data.first = first;
        data.n_policy = 2;
        data.load = load.data();
    }
    const pg_hook *for_step(int how, int n)
    {
        policy.clear();
        for (int r = 0; r < n; r++) policy.push_back(r % 3 - 1);
        data.policy = policy.data();
        hook.data = how == 1 ? &data : NULL;
        return how ? &hook : NULL;
    }
};

/* ---- one against several ------------------------------------------------------------------------------------------ */

static pg_backend *open_on(model *m, const std::vector<int> &which, char *why, size_t n)
{
    pg_backend *b = pg_plugin_cuda.open(which.data(), (int)which.size(), 2, why, n);
    if (!b) return NULL;
    pg_kv *kv = &m->kv;
    b->drawn = m->plan.logits;
    kv->base = static_cast<char *>(b->ops->take(b, &m->plan.code, kv, PAGES));
    if (kv->base && !b->ops->prepare(b, &m->plan.code) && !b->ops->load(b, NULL)) return b;
    snprintf(why, n, "%s", b->fault[0] ? b->fault : "no memory");
    b->ops->close(b);
    return NULL;
}

static int same(const void *a, const void *b, size_t words)
{
    return !memcmp(a, b, words * 4);
}

static void compare(const model *m, pg_backend *one, pg_backend *many, const pg_rows *rows, const char *what)
{
    const pg_plan *p = &m->plan;
    for (int32_t i = 0; i < p->n_pick; i++)
        CHECK(same(one->ops->read(one, p->pick[i]), many->ops->read(many, p->pick[i]),
                   (size_t)rows->n * (size_t)p->value[p->pick[i]].width),
              "%s: experts of layer %d", what, i);
    const size_t n = (size_t)rows->n_sampled;
    if (!n) return;
    const int32_t which[2] = { rows->n_sampled - 1, 0 };
    const void *a[2], *b[2];
    one->ops->fetch(one, p->logits, which, 2, a);
    many->ops->fetch(many, p->logits, which, 2, b);
    CHECK(same(a[0], b[0], (size_t)m->V) && same(a[1], b[1], (size_t)m->V), "%s: rows fetched", what);
    CHECK(same(one->ops->read(one, p->logits), many->ops->read(many, p->logits), n * (size_t)m->V), "%s: logits", what);
    for (int32_t r = 0; r < rows->n_sampled; r++) {
        pg_best x = {}, y = {};
        one->ops->best(one, r, &x);
        many->ops->best(many, r, &y);
        CHECK(x.n > 0 && x.n == y.n && x.all == y.all && x.sum == y.sum && same(x.id, y.id, (size_t)x.n) &&
                  same(x.value, y.value, (size_t)x.n),
              "%s: the best of row %d", what, r);
    }
}

static void run_both(model *m, pg_backend *one, const pg_kv *kv, pg_backend *many, const step *s, int how,
                     const char *what)
{
    helmsman a(m), b(m);
    one->hook = a.for_step(how, s->rows.n);
    many->hook = b.for_step(how, s->rows.n);
    CHECK(!one->ops->run(one, &s->rows, kv), "%s: %s", what, one->fault);
    CHECK(!many->ops->run(many, &s->rows, &m->kv), "%s: %s", what, many->fault);
    a.tell();
    b.tell();
    CHECK(a.log == b.log && (how != 2 || !a.log.empty()), "%s: whoever steers sees something else", what);
    CHECK(a.waits == b.waits && a.bytes == b.bytes && a.waits == (how == 2 && m->plan.n_pick),
          "%s: waited %d times, %g bytes", what, b.waits, b.bytes);
    compare(m, one, many, &s->rows, what);
}

static void check_model(unsigned long long seed, const std::vector<int> &which)
{
    model m(seed);
    char why[512] = "", what[160];
    setenv("PERIGEE_EMU_PEERS", seed % 2 ? "1" : "0",
           1); /* whether they reach each other's memory, or the driver copies */
    pg_backend *one = open_on(&m, { 0 }, why, sizeof why);
    const pg_kv kv = m.kv;
    pg_backend *many = open_on(&m, which, why, sizeof why);
    CHECK(one && many, "model %llu: %s", seed, why);
    if (!one || !many) exit(1);
    int at[SEQS] = {};
    for (int i = 0; i < 12; i++) {
        const int how = i < 4 ? 0 : i % 3, n_prefill = i < 2 || !m.below(3) ? 1 + m.below(6) : 0;
        const int n_decode = n_prefill && i < 2 ? 0 : m.below(3) ? 1 + m.below(4) : n_prefill ? 0 : 7;
        const step s(&m, at, n_prefill, n_decode, i > 0);
        snprintf(what, sizeof what, "model %llu on %d devices, step %d of %d and %d rows, steered %d", seed,
                 (int)which.size(), i, n_prefill, n_decode, how);
        run_both(&m, one, &kv, many, &s, how, what);
    }
    one->ops->close(one);
    many->ops->close(many);
}

/* ---- where plans are cut ------------------------------------------------------------------------------------------- */

static double weight_bytes(const pg_code *code)
{
    pg_cuda_weights w;
    char why[256];
    CHECK(!pg_store_list(&w, code, why, sizeof why), "%s", why);
    const double bytes = (double)(w.dense_bytes + w.expert_bytes);
    pg_store_free(&w);
    return bytes;
}

/* Values that an op before `at` writes and one from there on names. */
static std::vector<pg_ref> alive_at(const pg_code *code, const pg_op *at)
{
    std::vector<pg_ref> alive;
    for (pg_ref r = 0; r < code->n_value; r++) {
        int before = 0, after = 0;
        for (const pg_op *op = code->op; op < code->op + code->n_op; op++)
            if (op->dst == r || op->src[0] == r || op->src[1] == r) (op < at ? before : after)++;
        if (before && after) alive.push_back(r);
    }
    return alive;
}

static void check_cut(unsigned long long seed, int n)
{
    model m(seed);
    const pg_code *code = &m.plan.code;
    pg_cuda_cut cut[PG_DEVICES];
    int64_t room[PG_DEVICES], page = 0;
    double most = 0, all = 0, rooms = 0, largest = 0;
    char why[256] = "";
    for (int i = 0; i < n; i++) rooms += (double)(room[i] = 1000 + m.below(4000));
    CHECK(!pg_cut_make(cut, n, room, code, &m.kv, PAGES, why, sizeof why), "%s", why);
    const pg_op *next = code->op;
    for (int i = 0, hooks = 0; i < n; i++) {
        const pg_cuda_cut *c = &cut[i];
        CHECK(c->code.op == next && c->code.n_op > 0 && c->n_hook == hooks, "stretch %d is not where it should be", i);
        const double bytes = weight_bytes(&c->code) + (double)(c->kv.page_bytes * PAGES);
        all += bytes;
        most = std::max(most, bytes / (double)room[i]);
        page += c->kv.page_bytes;
        next += c->code.n_op;
        const std::vector<pg_ref> alive = alive_at(code, next);
        CHECK(alive.size() == (size_t)c->n_cross && same(alive.data(), c->cross, alive.size()), "what crosses after %d",
              i);
        for (const pg_op *op = c->code.op; op < next; op++) {
            hooks += op->code == PG_OP_HOOK;
            if (op->code == PG_OP_STORE)
                CHECK(c->stream[op->a.store.stream].offset +
                              (int64_t)c->stream[op->a.store.stream].row_bytes * c->kv.page_tokens <=
                          c->kv.page_bytes,
                      "stream %d is outside of its pages", op->a.store.stream);
            for (const pg_ref r : { op->dst, op->src[0], op->src[1] })
                if (r != PG_NO_REF)
                    CHECK(code->value[r].offset +
                                  (int64_t)code->value[r].width * 4 * (code->value[r].rows == PG_ROWS_ALL ? T : S) <=
                              c->code.arena_bytes,
                          "value %d is outside", r);
        }
    }
    CHECK(next == code->op + code->n_op && page == m.kv.page_bytes, "%d ops and %lld bytes of a page",
          (int)(next - code->op), (long long)page);
    for (const pg_op *op = code->op; op < next;
         op++) { /* the heaviest block of ops that no cut divides is an op's own */
        pg_code alone = *code;
        alone.op = op;
        alone.n_op = 1;
        if (op->w || op->code == PG_OP_EXPERTS) largest = std::max(largest, weight_bytes(&alone));
    }
    const double least = *std::min_element(room, room + n), even = all / rooms;
    CHECK(most >= even * 0.99 && most <= even + (3 * largest + 2.0 * (double)(m.kv.page_bytes * PAGES) / m.L) / least,
          "the fullest of %d is %g full, evenly it would be %g", n, most, even);
    pg_cut_free(cut, n);
    const int bad = pg_cut_make(cut, PG_DEVICES, room, code, NULL, 0, why, sizeof why);
    CHECK(2 * m.L + 3 >= PG_DEVICES || (bad && strstr(why, "name fewer")), "%s", why);
    pg_cut_free(cut, PG_DEVICES);
}

#ifdef PG_EMU /* devices of as much memory as is wanted, which fail when they are told to */
static size_t used_on(int device)
{
    size_t left = 0, total = 0;
    cudaSetDevice(device);
    cudaMemGetInfo(&left, &total);
    return total - left;
}

/* A cache of 192 MB: one device with room for 165, beside what a plan takes, cannot have it, two can, and neither takes all. */
static void check_memory(void)
{
    model m(7);
    const int32_t pages = (int32_t)((192 << 20) / m.kv.page_bytes);
    const int which[] = { 0, 1 };
    const size_t before[] = { used_on(0), used_on(1) };
    size_t room = 0;
    char why[512] = "";
    int at[SEQS] = {};
    CHECK(m.L >= 3, "%d layers", m.L);
    for (int n = 1; n <= 2; n++) {
        pg_backend *b = pg_plugin_cuda.open(which, n, 1, why, sizeof why);
        CHECK(b, "%s", why);
        if (!b) continue;
        b->drawn = m.plan.logits;
        if (n == 1) room = (size_t)b->ops->memory(b, &m.plan.code) + ((size_t)165 << 20);
        pg_emu_memory(room / 63 * 64);
        const int64_t lacks = b->ops->lacks(b, &m.plan.code, &m.kv, pages);
        CHECK(n == 1 ? lacks > 0 : lacks == 0, "%d devices lack %lld bytes", n, (long long)lacks);
        const int bad =
            !b->ops->take(b, &m.plan.code, &m.kv, pages) || b->ops->prepare(b, &m.plan.code) || b->ops->load(b, NULL);
        CHECK(n == 1 ? bad && strstr(b->fault, "cuda:0 (") : !bad, "%d devices: %s", n, b->fault);
        if (n == 2) {
            const step s(&m, at, 5, 0);
            CHECK(!b->ops->run(b, &s.rows, &m.kv) && b->far_bytes == 0, "%s", b->fault);
            for (int i = 0; i < 2; i++)
                CHECK(used_on(i) - before[i] > (size_t)60 << 20 && used_on(i) - before[i] < room,
                      "%zu bytes on device %d", used_on(i) - before[i], i);
        }
        b->ops->close(b);
    }
    pg_emu_memory((size_t)64 << 30);
    CHECK(used_on(0) == before[0] && used_on(1) == before[1], "memory is kept");
}

/* The n-th call that can fail does: words, nothing kept, and no further step. */
static void check_failures(void)
{
    model m(3);
    const size_t before[] = { used_on(0), used_on(1) };
    int opened = 0, failed = 0, on_second = 0;
    for (int n = 1; n < 900 && opened < 9; n += 2 + m.below(31)) {
        char why[512] = "";
        int at[SEQS] = {}, bad = 0;
        pg_emu_fail_at(n);
        pg_backend *b = open_on(&m, { 0, 1 }, why, sizeof why);
        for (int i = 0; b && i < 5 && !bad; i++) {
            const step s(&m, at, i ? 0 : 4, i ? 3 : 0);
            bad = b->ops->run(b, &s.rows, &m.kv);
        }
        pg_emu_fail_at(0);
        if (!b) CHECK(strlen(why) > 8, "call %d: \"%s\"", n, why);
        if (bad) {
            const step s(&m, at, 0, 2);
            failed++;
            on_second += !strncmp(b->fault, "cuda:1", 6);
            CHECK(strstr(b->fault, " (sm_") && strstr(b->fault, "; "), "call %d: \"%s\"", n, b->fault);
            CHECK(b->ops->run(b, &s.rows, &m.kv), "call %d: goes on after a failure", n);
        }
        opened += b != NULL;
        if (b) b->ops->close(b);
        CHECK(used_on(0) == before[0] && used_on(1) == before[1], "call %d: memory is kept", n);
    }
    CHECK(opened >= 6 && failed >= 4 && on_second >= 1, "%d opened, %d failed, %d on the second", opened, failed,
          on_second);
}
#endif

static void check_names(void)
{
    char why[512] = "";
    const int which[] = { 1, 0 }, absent[] = { 0, 77 };
    pg_backend *b = pg_plugin_cuda.open(which, 2, 1, why, sizeof why);
    CHECK(b && !strcmp(b->device, "cuda:1,0") && strstr(b->isa, "sm_"), "%s", why);
    if (b) b->ops->close(b);
    CHECK(!pg_plugin_cuda.open(absent, 2, 1, why, sizeof why) && strstr(why, "no such device as cuda:77"), "%s", why);
}

int main(void)
{
    int devices = 0;
#ifdef PG_EMU
    setenv("PERIGEE_EMU_DEVICES", "3", 1);
#endif
    for (unsigned long long seed = 100; seed < 120; seed++) check_cut(seed, 2 + (int)(seed % 3));
    if (cudaGetDeviceCount(&devices) || devices < 2) {
        printf("steps on several devices did not run: there are not two of them\n");
        return check_done("split_test");
    }
    const std::vector<int> two = { 0, 1 }, three = { 2, 0, 1 };
    for (unsigned long long seed = 1; seed <= 6; seed++) check_model(seed, seed % 3 || devices < 3 ? two : three);
    check_names();
#ifdef PG_EMU
    check_memory();
    check_failures();
#endif
    return check_done("split_test");
}
