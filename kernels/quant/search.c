/* search: factors of a group of weights.
 *
 * Lives here: for one group, a grid of first guesses, each improved by least squares, then steps of "codes for this
 * factor, factor for these codes" as long as they gain. Not here: how formats store factors (encode.c, encode_k.c).
 * Why a grid: the error as a function of the factor has many local minima, a few in each turn of the largest weight's
 * code; the steps find the bottom of one. Sums run in four parts in a fixed order, so the result is the same however
 * the compiler does them.
 * Source: alternating least squares of scalar quantisation, Lloyd 1982; a grid over the factor, common in the field. */
#include "search.h"

#include <math.h>

enum { STEPS = 8 }; /* improvements at most; two or three are usual */

static inline float sum4(const float *a)
{
    return (a[0] + a[1]) + (a[2] + a[3]);
}

/* A group whose largest weights matter little is best cut off, which takes a wider grid. */
static int is_even(const float *w, int n)
{
    for (int i = 1; i < n; i++)
        if (w[i] < w[0] || w[i] > w[0]) return 0;
    return 1;
}

/* ---- one factor ---- */

/* How much of sum(w x^2) the codes for 1 / inv explain at best, and the factor that does it. wx = w * x. */
static float scale_gain(const float *x, const float *w, const float *wx, int n, float inv, int high, float *d)
{
    float xq[4] = { 0 }, qq[4] = { 0 };
    for (int i = 0; i < n; i += 4)
        for (int j = 0; j < 4; j++) {
            const float q = pg_clamp(pg_nearest(inv * x[i + j]), (float)(-high - 1), (float)high);
            xq[j] += wx[i + j] * q;
            qq[j] += w[i + j] * q * q;
        }
    const float a = sum4(xq), b = sum4(qq);
    *d = b > 0 ? a / b : 0;
    return b > 0 ? a * *d : 0;
}

float pg_scale_search(const float *x, const float *w, int n, int high)
{
    float wx[PG_GROUP_MAX], most = 0, best = 0, scale = 0, d;
    for (int i = 0; i < n; i++) {
        wx[i] = w[i] * x[i];
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    }
    if (!(most > 0x1p-100f)) return 0;
    const float step = (float)high / 64, first = 0.8f * (float)high, edge = (float)high + 1.2f;
    const float last = is_even(w, n) ? 1.3f * (float)high : 2 * (float)high;
    for (float top = first; top <= last; top += top < edge ? step : 4 * step)
        for (int sign = -1; sign <= 1; sign += 2) {
            const float gain = scale_gain(x, w, wx, n, (float)sign * top / most, high, &d);
            if (gain > best) best = gain, scale = d;
        }
    for (int i = 0; i < STEPS && scale != 0; i++) {
        const float gain = scale_gain(x, w, wx, n, 1 / scale, high, &d);
        if (!(gain > best)) break;
        best = gain;
        scale = d;
    }
    return scale;
}

/* ---- a factor and a minimum ---- */

typedef struct sums {
    float w, x, xx; /* of w, w x, w x^2 */
} sums;

float pg_line_error(const float *x, const float *w, int n, int low, int high, pg_line line, float *q)
{
    const float inv = line.d != 0 ? 1 / line.d : 0;
    float sum[4] = { 0 };
    for (int i = 0; i < n; i += 4)
        for (int j = 0; j < 4; j++) {
            const float code = pg_clamp(pg_nearest(inv * (x[i + j] - line.m)), (float)low, (float)high);
            const float e = x[i + j] - line.m - line.d * code;
            sum[j] += w[i + j] * e * e;
            if (q) q[i + j] = code;
        }
    return sum4(sum);
}

/* The best line for the codes of another line: its squared error, less sum(w x^2). */
static float line_refit(const float *x, const float *w, const float *wx, int n, int high, int below, const sums *s,
                        pg_line from, pg_line *to)
{
    const float inv = 1 / from.d;
    float q1[4] = { 0 }, q2[4] = { 0 }, qx[4] = { 0 };
    for (int i = 0; i < n; i += 4)
        for (int j = 0; j < 4; j++) {
            const float q = pg_clamp(pg_nearest(inv * (x[i + j] - from.m)), 0, (float)high);
            q1[j] += w[i + j] * q;
            q2[j] += w[i + j] * q * q;
            qx[j] += wx[i + j] * q;
        }
    const float wq = sum4(q1), wqq = sum4(q2), wqx = sum4(qx), det = s->w * wqq - wq * wq;
    *to = (pg_line){ 0, 0 };
    if (det > 0) *to = (pg_line){ (s->w * wqx - s->x * wq) / det, (wqq * s->x - wq * wqx) / det };
    if (wqq > 0 && (!(det > 0) || (below && to->m > 0))) *to = (pg_line){ wqx / wqq, 0 };
    if (!(to->d > 0)) return 0;
    return to->d * (to->d * wqq - 2 * wqx + 2 * to->m * wq) + to->m * (to->m * s->w - 2 * s->x);
}

pg_line pg_line_search(const float *x, const float *w, int n, int high, int below)
{
    float wx[PG_GROUP_MAX], low = x[0], top = x[0];
    sums s = { 0 };
    for (int i = 0; i < n; i++) {
        wx[i] = w[i] * x[i];
        s.w += w[i];
        s.x += wx[i];
        s.xx += wx[i] * x[i];
        low = x[i] < low ? x[i] : low;
        top = x[i] > top ? x[i] : top;
    }
    if (below && low > 0) low = 0;
    if (below && top < 0) top = 0;
    pg_line best = { 0, below && s.x > 0 ? 0 : s.x / s.w }, next;
    if (!(top - low > 0x1p-100f)) return (pg_line){ 0, low };
    float least = best.m * (best.m * s.w - 2 * s.x);
    const float edge = (float)high + 1.2f, last = is_even(w, n) ? edge : 1.8f * (float)high;
    for (float range = 0.8f * (float)high; range <= last; range += (float)high / (range < edge ? 48 : 12))
        for (int side = 0; side < 2; side++) {
            pg_line guess = { (top - low) / range, low };
            if (side) guess.m = top - (float)high * guess.d;
            if (below && guess.m > 0) guess.m = 0;
            const float e = line_refit(x, w, wx, n, high, below, &s, guess, &next);
            if (next.d > 0 && e < least) least = e, best = next;
        }
    for (int i = 0; i < STEPS && best.d > 0; i++) {
        const float e = line_refit(x, w, wx, n, high, below, &s, best, &next);
        if (!(next.d > 0) || !(e < least)) break;
        least = e;
        best = next;
    }
    return best;
}
