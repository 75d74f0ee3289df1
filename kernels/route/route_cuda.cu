/* route_cuda.cu: the ROUTE op, a warp a row. choose.cuh has the arithmetic, steer.cuh what comes before it for rows that
 * are steered. Where rows have capacities, which count choices in the order of the rows, it takes three launches: all rows
 * choose as if there were none; one warp walks along those that have one and lets them choose again where somebody is full;
 * then these get their weights. */
#include "../cuda/fuse.cuh"
#include "steer.cuh"

enum { WARPS = 4 };                            /* rows of a block */
enum { NO_LIMIT, NOT_USABLE, CHOSEN };         /* state of a row, for those with a capacity */
enum { ALL_AT_ONCE, WITH_LIMITS, AFTERWARDS }; /* what a launch is for */

typedef struct job {
    pg_router r;
    const float *x;  /* [T, E] */
    int32_t *pick;   /* [T, 2 * most] */
    int most, words; /* of shared memory a row */
    const pg_cuda_step *step;
    int all;
    pg_steer_view steer;
} job;

/* ---- steered rows --------------------------------------------------------------------------------------------------- */

template <int BY>
__device__ __forceinline__ bool begin_row(const job &j, const pg_choice &c, int row, int task, pg_steer_row &how,
                                          int lane)
{
    const float *x = j.x + (int64_t)row * j.r.n_expert;
    if (BY == PG_BY_TABLE) return pg_steer_by_table(c, j.steer, x, row, j.step, task, how, lane);
    return pg_steer_by_arrays(c, j.steer, x, row, how, lane);
}

/* A row whose steering cannot be followed. Which came broken is nobody's fault; where the host steers it finds that out. */
template <int BY>
__device__ __forceinline__ void give_up(const job &j, const pg_choice &c, int row, int fault, int lane)
{
    const int E = j.r.n_expert;
    const float *x = (BY == PG_BY_TABLE ? j.x : j.steer.plain) + (int64_t)row * E;
    bool broken = false;
    for (int e = lane; e < E; e += 32) broken |= !(fabsf(x[e]) < INFINITY);
    if (BY == PG_BY_TABLE && __any_sync(PG_FULL, broken)) fault = PG_STEER_FINE;
    if (lane == 0) {
        j.steer.fault[row] = (unsigned char)fault;
        if (BY == PG_BY_TABLE && fault) *j.steer.any = 1;
    }
    __syncwarp();
    pg_choice_plain(c, x, j.pick + (int64_t)row * 2 * j.most, lane);
}

__device__ __forceinline__ int asked_of(const job &j, const pg_steer_row &how)
{
    return how.top < j.most ? how.top : j.most;
}

/* Weights of the n experts that are in c.id; false: they are not finite. */
__device__ __forceinline__ bool weigh(const job &j, const pg_choice &c, int row, const pg_steer_row &how, int n,
                                      int lane)
{
    const int kept = how.cumulative < 1 ? pg_choice_share(c, n, how.cumulative, lane) : n;
    return pg_choice_write(c, j.pick + (int64_t)row * 2 * j.most, kept, lane);
}

/* Leave what the row would choose for the walk. */
__device__ __forceinline__ void note_choice(const job &j, const pg_choice &c, int row, const pg_steer_row &how, int n,
                                            int lane)
{
    int32_t *pick = j.pick + (int64_t)row * 2 * j.most;
    for (int i = lane; i < j.most; i += 32) pick[i] = i < n ? c.id[i] : -1;
    if (lane != 0) return;
    j.steer.state[row] = CHOSEN;
    j.steer.asked[row] = asked_of(j, how);
    j.steer.limit[row] = how.capacity;
}

template <int BY, int FOR>
__device__ __forceinline__ void steered_row(const job &j, const pg_choice &c, int row, int task, int lane)
{
    pg_steer_row how = { 0, 0, 0 };
    if (!begin_row<BY>(j, c, row, task, how, lane)) {
        if (FOR == WITH_LIMITS && lane == 0) j.steer.state[row] = NO_LIMIT;
        if (BY == PG_BY_TABLE && lane == 0) j.steer.fault[row] = PG_STEER_FINE;
        pg_choice_plain(c, j.x + (int64_t)row * j.r.n_expert, j.pick + (int64_t)row * 2 * j.most, lane);
        return;
    }
    const bool limited = FOR == WITH_LIMITS && how.capacity > 0;
    if (FOR == WITH_LIMITS && lane == 0) j.steer.state[row] = limited ? NOT_USABLE : NO_LIMIT;
    int fault = pg_steer_check(c, how, lane);
    if (!fault) {
        pg_steer_score(c, lane);
        const int n = pg_choice_select(c.place, j.r.n_expert, asked_of(j, how), c.id, lane);
        if (!n)
            fault = PG_STEER_NOBODY;
        else if (limited)
            note_choice(j, c, row, how, n, lane);
        else if (!weigh(j, c, row, how, n, lane))
            fault = PG_STEER_WEIGHTS;
    }
    if (fault)
        give_up<BY>(j, c, row, fault, lane);
    else if (lane == 0)
        j.steer.fault[row] = PG_STEER_FINE;
}

/* A row that the walk has left its experts to. */
template <int BY>
__device__ __forceinline__ void weigh_row(const job &j, const pg_choice &c, int row, int task, int lane)
{
    pg_steer_row how = { 0, 0, 0 };
    const int32_t *pick = j.pick + (int64_t)row * 2 * j.most;
    int n = 0;
    if (j.steer.state[row] != CHOSEN) return;
    begin_row<BY>(j, c, row, task, how, lane);
    pg_choice_score(c, c.x, lane);
    while (n < j.most && pick[n] >= 0) n++;
    for (int i = lane; i < n; i += 32) c.id[i] = pick[i];
    __syncwarp();
    if (!weigh(j, c, row, how, n, lane)) give_up<BY>(j, c, row, PG_STEER_WEIGHTS, lane);
}

template <int BY, int FOR> __global__ void route_rows(job j)
{
    PG_SHARED(float, words);
    pg_let_next();
    pg_wait_before();
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, n_warp = (int)blockDim.x / 32;
    const int task = (int)blockIdx.x * n_warp + warp, n = pg_step_rows(j.step, j.all);
    const pg_choice c = pg_choice_at(j.r, words + warp * j.words, BY != PG_BY_NOBODY);
    for (int row = task; row < n; row += (int)gridDim.x * n_warp) {
        if (BY == PG_BY_NOBODY)
            pg_choice_plain(c, j.x + (int64_t)row * j.r.n_expert, j.pick + (int64_t)row * 2 * j.most, lane);
        else if (FOR == AFTERWARDS)
            weigh_row<BY>(j, c, row, task, lane);
        else
            steered_row<BY, FOR>(j, c, row, task, lane);
        __syncwarp();
    }
}

/* ---- capacities ------------------------------------------------------------------------------------------------------ */

/* How many choices an expert may have in the eyes of a row that asks for n. */
PG_HD float limit_of(float capacity, int n_limited, int n, int n_expert)
{
    return ceilf(pg_mul(pg_mul(capacity, (float)n_limited), (float)n) / (float)n_expert);
}

/* Choose again, without who is full; if nobody is left, with them. Returns how many. */
template <int BY>
__device__ __forceinline__ int choose_again(const job &j, const pg_choice &c, int row, const int32_t *count,
                                            float limit, int asked, int lane)
{
    const int E = j.r.n_expert;
    pg_steer_row how = { 0, 0, 0 };
    int n = 0;
    for (int with_full = 0; with_full < 2 && !n; with_full++) {
        begin_row<BY>(j, c, row, 0, how, lane);
        pg_steer_score(c, lane);
        for (int e = lane; e < E && !with_full; e += 32)
            if ((float)count[e] >= limit) c.place[e] = 0;
        __syncwarp();
        n = pg_choice_select(c.place, E, asked, c.id, lane);
    }
    return n;
}

template <int BY>
__device__ __forceinline__ void walk_row(const job &j, const pg_choice &c, int row, int32_t *count, int n_limited,
                                         int lane)
{
    int32_t *pick = j.pick + (int64_t)row * 2 * j.most;
    const int asked = j.steer.asked[row];
    const float limit = limit_of(j.steer.limit[row], n_limited, asked, j.r.n_expert);
    bool full = false;
    for (int i = lane; i < asked; i += 32) full |= pick[i] >= 0 && (float)count[pick[i]] >= limit;
    if (__any_sync(PG_FULL, full)) {
        const int n = choose_again<BY>(j, c, row, count, limit, asked, lane);
        for (int i = lane; i < j.most; i += 32) pick[i] = i < n ? c.id[i] : -1;
    }
    for (int i = lane; i < asked; i += 32)
        if (pick[i] >= 0) count[pick[i]]++;
    __syncwarp();
}

template <int BY> __global__ void walk_rows(job j)
{
    PG_SHARED(float, words);
    const int lane = (int)threadIdx.x, n = pg_step_rows(j.step, j.all), E = j.r.n_expert;
    const pg_choice c = pg_choice_at(j.r, words, true);
    int32_t *const count = reinterpret_cast<int32_t *>(words + j.words);
    int n_limited = 0;
    for (int e = lane; e < E; e += 32) count[e] = 0;
    for (int row = lane; row < n; row += 32) n_limited += j.steer.state[row] != NO_LIMIT;
    for (int to = 16; to; to >>= 1) n_limited += __shfl_xor_sync(PG_FULL, n_limited, to);
    __syncwarp();
    for (int begin = 0; begin < n; begin += 32) {
        const int state = begin + lane < n ? j.steer.state[begin + lane] : NO_LIMIT;
        const unsigned chosen = __ballot_sync(PG_FULL, state == CHOSEN);
        for (int i = 0; i < 32; i++)
            if (chosen >> i & 1) walk_row<BY>(j, c, begin + i, count, n_limited, lane);
    }
}

/* ---- the op ---------------------------------------------------------------------------------------------------------- */

int64_t pg_cuda_route_scratch(const pg_cuda *c, const pg_code *code, const pg_op *op)
{
    (void)c;
    const int64_t tasks = code->max_rows < PG_STEER_TASKS ? code->max_rows : PG_STEER_TASKS;
    return tasks * PG_PROGRAM_VECTORS * op->a.route.router->n_expert * (int64_t)sizeof(float);
}

/* Warps of a block: what fits into the shared memory that a block has unasked. */
static int warps_of(const job *j, int rows)
{
    const int room = 48 * 1024 / (j->words * (int)sizeof(float));
    const int warps = room < WARPS ? room : WARPS;
    return rows < warps ? rows : warps;
}

template <int BY, int FOR> static void launch(pg_cuda *c, const job *j, int rows)
{
    const int warps = warps_of(j, rows), many = BY != PG_BY_NOBODY && rows > PG_STEER_TASKS;
    PG_LAUNCH_EARLY(c, (route_rows<BY, FOR>), many ? PG_STEER_TASKS / warps : (rows + warps - 1) / warps, 32 * warps,
                    (size_t)(warps * j->words) * sizeof(float), *j);
}

template <int BY> static void launch_steered(pg_cuda *c, const job *j, int rows, int with_limits)
{
    if (!with_limits) {
        launch<BY, ALL_AT_ONCE>(c, j, rows);
        return;
    }
    launch<BY, WITH_LIMITS>(c, j, rows);
    PG_LAUNCH((walk_rows<BY>), 1, 32, (size_t)(j->words + j->r.n_expert) * sizeof(float), c->stream, *j);
    launch<BY, AFTERWARDS>(c, j, rows);
}

int pg_cuda_is_steered(const pg_cuda *c)
{
    return c->steer && c->steer->by != PG_BY_NOBODY;
}

void pg_cuda_route(pg_cuda *c, const pg_op *op)
{
    const pg_router *r = op->a.route.router;
    const pg_cuda_steer *s = c->steer;
    const int rows = pg_cuda_rows(c, op->src[0]), by = s ? s->by : PG_BY_NOBODY;
    job j = {};
    j.r = *r;
    j.r.bias = pg_cuda_vector_of(c, r->bias);
    j.x = pg_cuda_value(c, op->src[0]);
    j.pick = reinterpret_cast<int32_t *>(pg_cuda_value(c, op->dst));
    j.most = pg_router_most(r->n_expert, r->n_used);
    j.words = pg_choice_words(r, by != PG_BY_NOBODY);
    j.step = c->step;
    j.all = pg_cuda_is_all(c, op->src[0]);
    if (rows < 1) return;
    if (by == PG_BY_NOBODY) {
        launch<PG_BY_NOBODY, ALL_AT_ONCE>(c, &j, rows);
    } else {
        j.steer = s->view;
        j.steer.vectors = reinterpret_cast<float *>(c->scratch);
        if (by == PG_BY_TABLE)
            launch_steered<PG_BY_TABLE>(c, &j, rows, s->with_limits);
        else
            launch_steered<PG_BY_ARRAYS>(c, &j, rows, s->with_limits);
    }
    pg_cuda_try(c, cudaGetLastError(), "choosing experts");
}
