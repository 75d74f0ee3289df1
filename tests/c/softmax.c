/* softmax: ln p and weighted sums against the C library's exponential in double precision. */
#include "check.h"

#include "../../engine/sched/sampler.h"
#include "../../engine/sched/softmax.h"

#include <math.h>
#include <stdbool.h>

/* ln p of rows of every length, with what is no number in between, against sums in double precision. */
static void whole_rows(void)
{
    float row[300];
    unsigned long long rng = 11;
    double far = 0;
    for (int n = 1; n <= 300; n++) {
        const float size = n % 4 == 0 ? 0.01f : n % 4 == 1 ? 4 : n % 4 == 2 ? 25 : 300;
        double sum = 0, top = -INFINITY;
        for (int i = 0; i < n; i++) {
            row[i] = size * check_uniform(&rng);
            if (i && check_rand(&rng) % 8 == 0) row[i] = check_rand(&rng) % 2 ? NAN : -INFINITY;
            if ((double)row[i] > top) top = (double)row[i];
        }
        for (int i = 0; i < n; i++)
            if (row[i] > -INFINITY) sum += exp((double)row[i] - top);
        for (int i = 0; i < n; i++) {
            const float got = pg_logprob_of(row, n, i);
            const double want = row[i] > -INFINITY ? (double)row[i] - top - log(sum) : -INFINITY;
            const bool none = isinf(want) || isinf(got);
            far = fmax(far, none ? (got == want ? 0 : 1) : fabs((double)got - want) / fmax(1, fabs(want)));
        }
    }
    CHECK(far < 2e-7, "ln p is off by %g", far);
}

/* Sums at several temperatures: no common error of the terms, nothing from what lies far below. */
static void sums(void)
{
    static float row[4096];
    unsigned long long rng = 5;
    for (int run = 0; run < 60; run++) {
        const float t = ldexpf(1, run % 12 - 8), size = run % 3 ? 12 : 400;
        double want = 0;
        row[0] = 1;
        for (int i = 1; i < 4096; i++) row[i] = 1 - size * fabsf(check_uniform(&rng));
        for (int i = 0; i < 4096; i++) want += exp(((double)row[i] - 1) / (double)t);
        const double got = pg_softmax_sum(row, 4096, 1, t);
        CHECK(fabs(got - want) < 1e-7 * want, "temperature %g, down to %g: %.12g, want %.12g", (double)t, (double)-size,
              got, want);
    }
    const float one = 3;
    CHECK(pg_softmax_sum(&one, 1, 3, 1e-30f) == 1 && pg_softmax_sum(&one, 0, 3, 1) == 0, "one number and none");
}

int main(void)
{
    whole_rows();
    sums();
    return check_done("softmax");
}
