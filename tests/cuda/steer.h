/* steer.h: routers, rows and steering of all kinds at random, for tests of HOOK and ROUTE: handed over row by row, or as data
 * with a reference that carries it out on the CPU. */
#ifndef PG_TEST_CUDA_STEER_H
#define PG_TEST_CUDA_STEER_H

#include "harness.h"

extern "C" {
#include "../../kernels/policy/program.h"
}

enum { MOST_T = 70, MOST_STAGES = 6, MOST_POLICIES = 4, LAYER = 3 };

/* ---- a case --------------------------------------------------------------------------------------------------------- */

struct bench {
    harness h;
    pg_router r;
    pg_ref score, pick;
    int E, most;
    /* arrays */
    std::vector<float> edit, choose, cumulative, capacity, plain;
    std::vector<int32_t> top;
    std::vector<unsigned char> steered, fault, by_cpu, by_cuda;
    pg_steer steer;
    int use_capacity;
    /* data */
    std::vector<pg_layer_knobs> knobs[MOST_STAGES];
    std::vector<float> knob_choose[MOST_STAGES];
    std::vector<pg_instr> code[MOST_STAGES];
    std::vector<float> knob[MOST_STAGES], load, scratch;
    std::vector<pg_steer_stage> stage;
    std::vector<int32_t> first, policy;
    pg_steering data;
};

static inline int below(bench *b, int n)
{
    return harness_below(&b->h, n);
}

static inline float uniform(bench *b)
{
    return harness_uniform(&b->h);
}

static inline void make_router(bench *b, int wide)
{
    static const int groups[] = { 1, 2, 4, 8, 40 };
    const int G = groups[below(b, wide ? 5 : 4)], size = 1 + below(b, wide ? 500 / G : 16);
    b->E = G * size;
    b->r = pg_router();
    b->r.n_expert = b->E;
    b->r.n_group = G;
    b->r.scale = 0.5f + (float)below(b, 4);
    b->r.group_rule = G > 1 ? below(b, 3) : PG_GROUP_NONE;
    b->r.n_group_used = 1 + below(b, G);
    const int room = b->r.group_rule ? b->r.n_group_used * size : b->E, few = wide ? 40 : 8;
    b->r.n_used = 1 + below(b, room < few ? room : few);
    b->r.score = 1 + below(b, 3);
    b->r.renorm = below(b, 2);
    b->r.bias = below(b, 2) ? harness_vector(&b->h, b->E, 0, 0.3f) : NULL;
    b->most = pg_router_most(b->E, b->r.n_used);
}

/* Scores of which some are equal, and now and then one is no number. */
static inline void make_scores(bench *b)
{
    static const float odd[] = { NAN, INFINITY, -INFINITY, 1e30f, -1e30f, -0.0f, 0.0f };
    const int step = below(b, 3), odd_ones = !below(b, 4);
    for (int t = 0; t < b->h.max_rows; t++)
        for (int e = 0; e < b->E; e++) {
            float *x = harness_at(&b->h, b->score, t, e);
            if (step) *x = floorf(*x * 3 * (float)step) / (float)step;
            if (odd_ones && !below(b, 200)) *x = odd[below(b, 7)];
        }
}

static inline bench *make_case(unsigned long long seed)
{
    bench *b = new bench();
    b->h.seed = seed;
    b->h.max_rows = 1 + below(b, MOST_T);
    make_router(b, below(b, 3) == 0);
    b->score = harness_value(&b->h, b->E, PG_ROWS_ALL, 3);
    b->pick = harness_value(&b->h, 2 * b->most);
    make_scores(b);
    pg_op *op = harness_emit(&b->h, PG_OP_HOOK, b->score, b->score);
    op->a.hook.router = &b->r;
    op->a.hook.layer = LAYER;
    harness_emit(&b->h, PG_OP_ROUTE, b->pick, b->score)->a.route.router = &b->r;
    const int n = 1 + below(b, b->h.max_rows);
    harness_step(&b->h, n, below(b, n + 1), 1, 50, 100);
    const float *x = harness_at(&b->h, b->score, 0, 0);
    b->plain.assign(x, x + (size_t)b->h.max_rows * b->E);
    std::vector<pg_op> ops;
    const pg_code code = harness_code(&b->h, &ops);
    b->h.scratch_bytes = pg_cuda_route_scratch(NULL, &code, &ops[1]);
    return b;
}

/* ---- steering row by row ---------------------------------------------------------------------------------------------- */

static inline void make_arrays(bench *b, int hostile)
{
    const int T = b->h.max_rows, E = b->E;
    b->edit = b->plain;
    b->choose.assign((size_t)T * E, 0);
    b->cumulative.assign(T, 1);
    b->capacity.assign(T, 0);
    b->top.assign(T, 1);
    b->steered.assign(T, 0);
    b->fault.assign(T, 0);
    b->use_capacity = below(b, 2);
    for (int t = 0; t < T; t++) {
        b->steered[t] = below(b, 4) > 0;
        b->top[t] = 1 + below(b, below(b, 2) ? E : b->most);
        if (below(b, 2)) b->cumulative[t] = 0.1f + 0.45f * (1 + uniform(b));
        if (below(b, 3)) b->capacity[t] = 0.6f + uniform(b) / 2;
        for (int e = 0; e < E && b->steered[t]; e++) {
            float *edit = &b->edit[(size_t)t * E + e], *choose = &b->choose[(size_t)t * E + e];
            if (!below(b, 3)) *edit = 3 * uniform(b);
            if (!below(b, 3)) *choose = uniform(b);
            if (!below(b, 9)) *choose = -INFINITY;
            if (!below(b, 15)) *choose = INFINITY;
            if (!below(b, 30)) *edit = -INFINITY;
        }
        if (!hostile || !b->steered[t] || below(b, 3)) continue;
        const size_t at = (size_t)t * E + below(b, E);
        switch (below(b, 7)) {
        case 0: b->edit[at] = NAN; break;
        case 1: b->edit[at] = INFINITY; break;
        case 2: b->choose[at] = NAN; break;
        case 3: b->top[t] = -below(b, 3); break;
        case 4: b->top[t] = E + 1; break;
        case 5: b->cumulative[t] = below(b, 2) ? NAN : -1; break;
        default:
            for (int e = 0; e < E; e++) b->choose[(size_t)t * E + e] = -INFINITY;
        }
    }
}

static inline const pg_steer *give(bench *b)
{
    b->steer = { b->steered.data(), b->plain.data(),      b->choose.data(),
                 b->top.data(),     b->cumulative.data(), b->use_capacity ? b->capacity.data() : NULL,
                 b->fault.data() };
    return &b->steer;
}

static inline const pg_steer *by_arrays(void *ud, const pg_op *op, float *score, int32_t n)
{
    bench *b = static_cast<bench *>(ud);
    CHECK(op->a.hook.layer == LAYER && n == b->h.n, "the hook is called for %d rows of %d", n, b->h.n);
    memcpy(score, b->edit.data(), (size_t)n * b->E * sizeof *score);
    return give(b);
}

/* ---- steering as data -------------------------------------------------------------------------------------------------- */

static inline void add(bench *b, int s, int op, int dst, int a = 0, int c = 0, int d = 0, float value = 0)
{
    b->code[s].push_back({ (uint8_t)op, (uint8_t)dst, { (uint8_t)a, (uint8_t)c, (uint8_t)d }, value });
}

/* Programs of whose numbers none hangs on how an exponential or a sum is rounded. */
static inline void make_program(bench *b, int s)
{
    const int S = PG_VECTORS, hi = S + 40;
    add(b, s, PG_I_SCORES, 0);
    add(b, s, PG_I_LOAD, 1);
    add(b, s, PG_I_KNOB, S, 0);
    add(b, s, PG_I_KNOB, hi, 1);
    add(b, s, PG_I_MUL, 1, 1, S);
    add(b, s, PG_I_SUB, 0, 0, 1);
    add(b, s, PG_I_CONST, S + 1, 0, 0, 0, 2.5f);
    switch (below(b, 4)) {
    case 0:
        add(b, s, PG_I_SET_SCORES, 0, 0);
        add(b, s, PG_I_MARGIN, S + 2, 0);
        add(b, s, PG_I_LT, S + 3, S + 2, S + 1);
        add(b, s, PG_I_N_USED, S + 4);
        add(b, s, PG_I_SELECT, S + 5, S + 3, S + 4, S);
        add(b, s, PG_I_SET_TOP, 0, S + 5); /* may be out of range */
        break;
    case 1:
        add(b, s, PG_I_RANK, 31, 0);
        add(b, s, PG_I_LT, 30, 31, S + 1);
        add(b, s, PG_I_CHOOSE, 29);
        add(b, s, PG_I_ADD, 30, 30, 29);
        add(b, s, PG_I_SET_CHOOSE, 0, 30);
        add(b, s, PG_I_SET_CUMULATIVE, 0, hi);
        break;
    case 2:
        add(b, s, PG_I_PROMPT, S + 2);
        add(b, s, PG_I_POSITION, S + 3);
        add(b, s, PG_I_MIN, S + 3, S + 3, S + 1);
        add(b, s, PG_I_MUL, S + 3, S + 3, S + 2);
        add(b, s, PG_I_LAYER, S + 4);
        add(b, s, PG_I_ADD, S + 3, S + 3, S + 4);
        add(b, s, PG_I_SET_TOP, 0, S + 3);
        add(b, s, PG_I_CUMULATIVE, S + 5);
        add(b, s, PG_I_MUL, S + 5, S + 5, hi);
        add(b, s, PG_I_SET_CUMULATIVE, 0, S + 5);
        break;
    default:
        add(b, s, PG_I_INDEX, 2);
        add(b, s, PG_I_DIV, 2, 2, S + 1);
        add(b, s, PG_I_FLOOR, 3, 2);
        add(b, s, PG_I_EQ, 2, 2, 3);
        add(b, s, PG_I_SQRT, 3, 2); /* of 0 and 1 */
        add(b, s, PG_I_LOG, 2, 2);  /* a ban on most */
        add(b, s, PG_I_MAX, 4, 2, 3);
        add(b, s, PG_I_SET_CHOOSE, 0, below(b, 5) ? 2 : 4);
    }
}

static inline void make_knobs(bench *b, int s)
{
    b->knob_choose[s].assign(b->E, 0);
    for (float &x : b->knob_choose[s])
        x = !below(b, 8) ? -INFINITY : !below(b, 12) ? INFINITY : below(b, 2) ? uniform(b) : 0;
    b->knobs[s].assign(LAYER + 1, pg_layer_knobs());
    pg_layer_knobs *k = &b->knobs[s][LAYER];
    if (below(b, 2)) k->top = 1 + below(b, b->most);
    if (!below(b, 3)) k->cumulative = 0.5f + uniform(b) / 2 + 1e-3f;
    if (!below(b, 3)) k->temperature = 1.5f + uniform(b);
    if (!below(b, 4)) k->capacity = 0.7f + uniform(b) / 2;
    if (below(b, 2)) k->choose = b->knob_choose[s].data();
}

static inline void make_data(bench *b)
{
    static uint64_t ids;
    const int n_policy = 1 + below(b, MOST_POLICIES);
    b->load.resize(b->E);
    for (float &x : b->load) x = (1 + uniform(b)) / 2;
    b->first.assign(1, 0);
    b->data = pg_steering();
    for (int p = 0; p < n_policy; p++) {
        const int n = below(b, MOST_STAGES / MOST_POLICIES + 2);
        for (int i = 0; i < n && b->stage.size() < MOST_STAGES; i++) {
            const int s = (int)b->stage.size(), is_program = below(b, 2);
            pg_steer_stage stage = {};
            if (is_program)
                make_program(b, s);
            else
                make_knobs(b, s);
            b->knob[s] = { 1 + uniform(b) * 1.5f, 0.6f + uniform(b) / 2 };
            stage.id = ++ids;
            stage.knobs = is_program ? NULL : b->knobs[s].data();
            stage.code = b->code[s].data();
            stage.n = (int32_t)b->code[s].size();
            stage.n_knob = is_program ? 2 : 0;
            stage.knob = b->knob[s].data();
            if (!is_program) b->data.capacity |= b->knobs[s][LAYER].capacity > 0;
            b->stage.push_back(stage);
        }
        b->first.push_back((int32_t)b->stage.size());
    }
    for (int t = 0; t < b->h.max_rows; t++) b->policy.push_back(below(b, n_policy + 1) - 1);
    b->data.stage = b->stage.data();
    b->data.first = b->first.data();
    b->data.n_policy = n_policy;
    b->data.policy = b->policy.data();
    b->data.load = b->load.data();
}

/* A stage on one row, once more. */
static inline void run_stage(bench *b, const pg_steer_stage *s, float *score, int t)
{
    const int E = b->E;
    float *choose = &b->choose[(size_t)t * E];
    if (s->knobs) {
        const pg_layer_knobs *k = &s->knobs[LAYER];
        if (k->top) b->top[t] = k->top;
        if (k->cumulative > 0) b->cumulative[t] = k->cumulative;
        if (k->capacity > 0) b->capacity[t] = k->capacity, b->use_capacity = 1;
        for (int e = 0; e < E; e++) {
            if (k->temperature > 0) score[e] /= k->temperature;
            if (k->choose)
                choose[e] = isinf(choose[e]) && choose[e] < 0 ? choose[e]
                            : k->choose[e] == -INFINITY       ? -INFINITY
                                                              : choose[e] + k->choose[e];
        }
        return;
    }
    pg_program_row row = {};
    row.n = E;
    row.scores = score;
    row.choose = choose;
    row.load = b->load.data();
    row.top = (float)b->top[t];
    row.cumulative = b->cumulative[t];
    row.layer = LAYER;
    row.position = (float)b->h.pos[t];
    row.prompt = t < b->h.n_prefill;
    row.n_used = (float)b->r.n_used;
    row.sigmoid = b->r.score == PG_SCORE_SIGMOID;
    row.knob = s->knob;
    pg_program_run(s->code, s->n, &row, b->scratch.data());
    b->top[t] = row.top > 0.5f && row.top < (float)E + 0.5f ? (int32_t)(row.top + 0.5f) : 0;
    b->cumulative[t] = row.cumulative;
}

static inline const pg_steer *by_data(void *ud, const pg_op *op, float *score, int32_t n)
{
    bench *b = static_cast<bench *>(ud);
    const int T = b->h.max_rows, E = b->E;
    (void)op;
    b->choose.assign((size_t)T * E, 0);
    b->cumulative.assign(T, 1);
    b->capacity.assign(T, 0);
    b->top.assign(T, b->r.n_used);
    b->steered.assign(T, 0);
    b->fault.assign(T, 0);
    b->scratch.resize((size_t)pg_program_scratch(PG_VECTORS, E) / sizeof(float));
    b->use_capacity = 0;
    for (int t = 0; t < n; t++) {
        const int p = b->policy[t];
        b->steered[t] = p >= 0;
        for (int s = p < 0 ? 0 : b->first[p]; p >= 0 && s < b->first[p + 1]; s++)
            run_stage(b, &b->stage[s], score + (size_t)t * E, t);
    }
    return give(b);
}

/* Bits, but for what a NaN is made of; -1 is an id. */
static inline int same_word(const int32_t *a, const int32_t *b)
{
    float x, y;
    memcpy(&x, a, 4);
    memcpy(&y, b, 4);
    return *a == *b || (*a != -1 && *b != -1 && isnan(x) && isnan(y));
}

#endif
