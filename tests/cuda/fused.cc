/* fused: a small model of the shape that bench-cuda times, with runs of ops as one launch and with each op for itself: the
 * same logits and choices, bit for bit, for prompts and for decode steps by launches and by graphs, and fewer launches. */
#include "../../kernels/cuda/cuda.cuh"
#include "../bench/cuda/shape.h"
extern "C" {
#include "../../engine/kv/pages.h"
}
#include "../c/check.h"

#include <vector>

extern "C" const pg_plugin pg_plugin_cuda;

enum { PROMPT = 9, STEPS = 4, SEQS = 3, POSITIONS = 32 };

static int want(void *, const void *, int64_t, double, double)
{
    return 0;
}

/* What a run leaves: logits and choices of every step; launches of a graph of one row. */
struct result {
    std::vector<float> logits;
    std::vector<int32_t> picks;
    int nodes = 0;
};

struct session {
    pg_backend *b;
    pg_plan plan;
    pg_kv kv = {};
    std::vector<std::vector<int32_t>> pages;

    session(const pg_model *m, pg_dtype cache)
    {
        char why[256] = "";
        pg_error err;
        if (pg_plan_build(m, 16, 4, 4, 0, &plan, &err) < 0) abort();
        const int first = 0;
        b = pg_plugin_cuda.open(&first, 1, 1, why, sizeof why);
        CHECK(b, "%s", why);
        if (!b) abort();
        b->drawn = plan.logits;
        kv = pg_pages_lay_out(plan.stream, plan.n_stream, cache);
        const int each = (POSITIONS + PG_PAGE_TOKENS - 1) / PG_PAGE_TOKENS;
        kv.base = static_cast<char *>(b->ops->take(b, &plan.code, &kv, SEQS * each));
        const pg_loader loader = { want, NULL };
        if (!kv.base || b->ops->prepare(b, &plan.code) || b->ops->load(b, &loader)) abort();
        for (int s = 0; s < SEQS; s++) {
            pages.push_back(std::vector<int32_t>());
            for (int i = 0; i < each; i++) pages[s].push_back(i * SEQS + s);
        }
    }
    ~session()
    {
        b->ops->close(b);
        pg_plan_free(&plan);
    }
    /* n_seq sequences with `each` rows from pos on; the last row of each is drawn. */
    void step(int n_seq, int each, int pos, result *out)
    {
        std::vector<int32_t> token, at, of, sampled;
        std::vector<const int32_t *> page;
        for (int r = 0; r < n_seq * each; r++) {
            token.push_back((31 * r + 7 * pos) % plan.code.op[0].w->shape[1]);
            at.push_back(pos + r % each);
            of.push_back(r / each);
            if (r % each == each - 1) sampled.push_back(r);
        }
        for (const std::vector<int32_t> &p : pages) page.push_back(p.data());
        const int n = n_seq * each, prompt = each > 1;
        const pg_rows rows = { n,         prompt ? n : 0, n_seq,          prompt ? n_seq : 0, token.data(),
                               at.data(), of.data(),      sampled.data(), page.data() };
        CHECK(!b->ops->run(b, &rows, &kv), "%s", b->fault);
        const float *y = static_cast<const float *>(b->ops->read(b, plan.logits));
        out->logits.insert(out->logits.end(), y, y + (size_t)n_seq * plan.code.value[plan.logits].width);
        for (int i = 0; i < plan.n_pick; i++) {
            const int32_t *p = static_cast<const int32_t *>(b->ops->read(b, plan.pick[i]));
            out->picks.insert(out->picks.end(), p, p + (size_t)n * plan.code.value[plan.pick[i]].width);
        }
    }
};

static result run(const pg_model *m, pg_dtype cache, const char *fuse)
{
    setenv("PERIGEE_CUDA_FUSE", fuse, 1);
    result out;
    session s(m, cache);
    s.step(1, PROMPT, 0, &out);
    for (int i = 0; i < STEPS; i++) s.step(1, 1, PROMPT + i, &out);
    out.nodes = reinterpret_cast<const pg_cuda *>(s.b)->nodes;
    for (int i = 0; i < STEPS; i++) s.step(SEQS, 1, PROMPT + STEPS + i, &out);
    return out;
}

int main(void)
{
    const shape *tiny = &shapes[1];
    for (pg_dtype type : { PG_Q8_0, PG_BF16 })
        for (pg_dtype cache : { PG_F16, PG_Q8_0 }) {
            const pg_model *m = shape_model(tiny, type);
            const result one = run(m, cache, "0"), all = run(m, cache, "1");
            const char *name = pg_dtype_get(type)->name;
            CHECK(one.logits.size() == all.logits.size() &&
                      !memcmp(one.logits.data(), all.logits.data(), one.logits.size() * sizeof(float)),
                  "%s: logits differ", name);
            CHECK(one.picks == all.picks, "%s: choices differ", name);
            CHECK(all.nodes > 0 && all.nodes * 3 < one.nodes * 2, "%s: %d launches and copies of a step, not fused %d",
                  name, all.nodes, one.nodes);
            printf("%s: %d launches and copies of a step of one row, %d not fused\n", name, all.nodes, one.nodes);
        }
    return check_done("fused");
}
