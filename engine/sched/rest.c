/* rest.c: see rest.h. A weight w at temperature 1 is w^a at temperature 1 / a. So below 1, where a > 1, the rest weighs at
 * most each^(a - 1) times as much as at 1, and no less than nothing; above 1 at least as much as at 1, and at most what
 * n equal weights would, by Hoelder's inequality, or n of the largest. */
#include "rest.h"

#include <math.h>

/* Terms of a row's sum are f32 exponentials, each within 1e-6 of itself. */
static const double SLACK = 2e-6;
/* Sums of the same terms in f64 in two orders, of up to half a million. */
static const double ORDERS = 6e-11;

pg_span pg_rest_span(const pg_rest *r, double held, double temperature)
{
    const double a = 1 / temperature;
    pg_span s = { r->low, r->high };
    if (a > 1) {
        s.low = 0;
        s.high = r->high * pow(r->each, a - 1);
    } else if (a < 1) {
        const double equal = pow(r->n, 1 - a) * pow(r->high, a), largest = r->n * pow(r->each, a);
        s.high = equal < largest ? equal : largest;
    }
    s.low = (held + s.low) * (1 - SLACK);
    s.high = (held + s.high) * (1 + SLACK);
    return s;
}

int pg_rest_ln(double below, double sum, float *out)
{
    const float low = (float)(below - log(sum * (1 + ORDERS))), high = (float)(below - log(sum * (1 - ORDERS)));
    *out = low;
    return low == high;
}
