/* view: numbers of a row of router logits that hooks ask for: how sure the router is, and of how many experts.
 *
 * Here, and not in Lua, because exponentials of a row of experts are vector work: a policy in Lua that looks at the
 * entropy of each row spends its time in this file or, ten times as long, in calls of exp. The softmax is over all
 * experts of the row as its scores stand, whatever the model's own gate does with them. */
#include "perigee.h"

#include <math.h>

enum { LANES = 8 }; /* sums run side by side, so that they can be vectors; a row of any length takes the same order */

/* e^x for x <= 0, to 2e-7; below -87 it is that of -87, so that a banned expert (-inf) costs no NaN. */
static inline float exp_below(float x)
{
    x = x > -87.0f ? x : -87.0f;
    const float t = x * 1.44269504f;
    const int32_t whole = (int32_t)(t - 0.5f);
    const float f = t - (float)whole;
    const float p =
        1 + f * (0.69314718f +
                 f * (0.24022651f + f * (0.05550411f + f * (0.00961813f + f * (0.00133336f + f * 0.00015404f)))));
    union {
        int32_t bits;
        float value;
    } scale = { (whole + 127) * (1 << 23) };
    return p * scale.value;
}

static const float *row_of(const pg_route_view *view, int32_t row)
{
    return view->scores + (size_t)row * (size_t)view->n_expert;
}

static float largest(const float *x, int32_t n)
{
    float best[LANES], most = -INFINITY;
    int32_t i = 0;
    for (int l = 0; l < LANES; l++) best[l] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) best[l] = x[i + l] > best[l] ? x[i + l] : best[l];
    for (; i < n; i++) best[0] = x[i] > best[0] ? x[i] : best[0];
    for (int l = 0; l < LANES; l++) most = best[l] > most ? best[l] : most;
    return most;
}

/* Sum of e^(x - most); in *product the sum of e^(x - most) (x - most). */
static float exp_sum(const float *x, int32_t n, float most, float *product)
{
    float sum[LANES] = { 0 }, weighted[LANES] = { 0 }, all = 0, every = 0;
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const float below = x[i + l] - most > -87.0f ? x[i + l] - most : -87.0f, e = exp_below(below);
            sum[l] += e;
            weighted[l] += e * below;
        }
    for (; i < n; i++) {
        const float below = x[i] - most > -87.0f ? x[i] - most : -87.0f, e = exp_below(below);
        sum[0] += e;
        weighted[0] += e * below;
    }
    for (int l = 0; l < LANES; l++) all += sum[l], every += weighted[l];
    *product = every;
    return all;
}

double pg_route_lse(const pg_route_view *view, int32_t row)
{
    float product;
    const float *x = row_of(view, row), most = largest(x, view->n_expert);
    return (double)most + log((double)exp_sum(x, view->n_expert, most, &product));
}

double pg_route_entropy(const pg_route_view *view, int32_t row)
{
    float product;
    const float *x = row_of(view, row);
    const double sum = (double)exp_sum(x, view->n_expert, largest(x, view->n_expert), &product);
    const double nats = log(sum) - (double)product / sum;
    return nats > 0 ? nats : 0;
}

double pg_route_margin(const pg_route_view *view, int32_t row)
{
    const float *x = row_of(view, row);
    float best = -INFINITY, second = -INFINITY;
    for (int32_t e = 0; e < view->n_expert; e++) {
        if (x[e] > best)
            second = best, best = x[e];
        else if (x[e] > second)
            second = x[e];
    }
    return second == best ? 0 : (double)best - (double)second;
}

double pg_route_mass(const pg_route_view *view, int32_t row, int32_t k)
{
    const float *x = row_of(view, row);
    const int32_t n = view->n_expert;
    float product, most = largest(x, n), sum = exp_sum(x, n, most, &product), mass = 0, limit = most;
    for (int32_t taken = 0; taken < k;) { /* all that share the largest value not taken yet, then the next one */
        float next = -INFINITY;
        int32_t same = 0;
        for (int32_t e = 0; e < n; e++) {
            same += x[e] == limit;
            next = x[e] < limit && x[e] > next ? x[e] : next;
        }
        if (same == 0) break;
        mass += (float)(same < k - taken ? same : k - taken) * exp_below(limit - most);
        taken += same;
        limit = next;
    }
    return (double)(mass / sum);
}
