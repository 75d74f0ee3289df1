/* tune: the bound below which work is not shared is the one under which steps were fastest, whichever that is; steps that
 * are not alike are not compared; one lane shares nothing. Steps here only wait. */
#include "../../kernels/cpu/cpu.h"
#include "check.h"

#include <time.h>

enum {
    SHORT = 100, /* microseconds of a step under the good bound */
    LONG = 900,  /* and more for each bound between it and that of the step */
    STEPS = 20000,
    DISTURBED = 4 /* rounds of trials that the system may disturb */
};

static void wait_us(int64_t us)
{
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    do {
        clock_gettime(CLOCK_MONOTONIC, &b);
    } while ((b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000 < us);
}

/* Bounds between two. */
static int distance(int64_t a, int64_t b)
{
    int ia = 0, ib = 0;
    while (pg_tune_bound[ia] != a) ia++;
    while (pg_tune_bound[ib] != b) ib++;
    return ia > ib ? ia - ib : ib - ia;
}

/* A step of n rows, n_prefill of them prompts: the further its bound is from `good`, the longer. Returns its bound. */
static int64_t step(pg_cpu *c, int n, int n_prefill, int64_t good)
{
    const pg_rows rows = { .n = n, .n_prefill = n_prefill };
    c->rows = &rows;
    pg_tune_begin(c);
    const int64_t small = c->small;
    if (c->tune.begin) wait_us(SHORT + LONG * distance(small, good));
    pg_tune_end(c);
    return small;
}

/* Each round of trials goes one bound further at most. */
static void check_choice(int64_t good, int n_row)
{
    pg_cpu c = { .n_lane = 2 };
    int rounds = 0, right = 0, was = 0;
    pg_tune_open(&c);
    for (int i = 0; i < STEPS && rounds < PG_BOUNDS + DISTURBED && !right; i++) {
        step(&c, n_row, 0, good);
        const int over = was && !c.tune.n_tried;
        was = c.tune.n_tried > 0;
        rounds += over;
        right = over && c.small == good;
    }
    CHECK(right, "%d rows: %d rounds of trials chose %lld, not %lld", n_row, rounds, (long long)c.small,
          (long long)good);
    CHECK(step(&c, n_row, 0, good) == good, "it does not stay");
}

/* Prompts and other numbers of rows end the trials that they interrupt, under the bound that was best so far. */
static void check_interrupted(int64_t good)
{
    static const int other[][2] = { { 2, 0 }, { 1, 1 }, { 64, 0 } };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        pg_cpu c = { .n_lane = 2 };
        pg_tune_open(&c);
        const int64_t at_first = c.small;
        while (c.tune.n_tried < 2) step(&c, 1, 0, good);
        const int64_t small = step(&c, other[i][0], other[i][1], good);
        CHECK(c.tune.n_tried <= 1, "%d rows, %d of prompts: the trials went on", other[i][0], other[i][1]);
        CHECK(c.tune.n_tried || small == at_first, "%d rows, %d of prompts ran under %lld", other[i][0], other[i][1],
              (long long)small);
    }
}

static void check_alone(void)
{
    pg_cpu c = { .n_lane = 1 };
    pg_tune_open(&c);
    for (int i = 0; i < 2000; i++) {
        if (step(&c, 1, 0, pg_tune_bound[0]) == INT64_MAX) continue;
        CHECK(0, "one lane shares something");
        return;
    }
    CHECK(1, "one lane");
}

int main(void)
{
    for (int i = 0; i < PG_BOUNDS; i++) check_choice(pg_tune_bound[i], 1 + i % 4);
    check_interrupted(pg_tune_bound[0]);
    check_alone();
    return check_done("tune");
}
