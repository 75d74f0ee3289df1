/* encode_k: formats of 256 weights, in groups whose factors are whole multiples of one or two f16.
 *
 * Lives here: choosing the factors of the groups and of the block together, and writing the bytes.
 * Why so: a group's own best factor seldom is a multiple of the block's, so the groups choose again among the multiples
 * near by, with the codes that each would give; then the block's factors are fitted to what was chosen (least squares),
 * and once more. What has the least error of all is kept.
 * Source: block layouts of GGUF; the fit is alternating least squares, as in search.c. */
#include "encode.h"
#include "search.h"

#include <math.h>

enum { N = 256, ROUNDS = 3, MOST = 63 /* of a 6-bit factor */ };

/* ---- Q4_K, Q5_K: eight groups, value = d * sc * q - dmin * m ---- */

enum { GROUPS = 8, G = N / GROUPS };

typedef struct pair {
    float d, dmin, error; /* error: weighted, of all weights */
    int sc[GROUPS], m[GROUPS];
    float q[N];
} pair;

static int near_int(float v, int least, int most)
{
    return (int)pg_clamp(pg_nearest(v), (float)least, (float)most);
}

/* The multiples for one group next to the line that it would like best. */
static float choose_pair(pair *p, int g, const float *x, const float *w, int high, pg_line line)
{
    const int sc0 = p->d > 0 ? near_int(line.d / p->d, 0, MOST) : 0;
    const int m0 = p->dmin > 0 ? near_int(-line.m / p->dmin, 0, MOST) : 0;
    float least = INFINITY, q[G];
    for (int sc = sc0 > 0 ? sc0 - 1 : 0; sc <= sc0 + 1 && sc <= MOST; sc++)
        for (int m = m0 > 0 ? m0 - 1 : 0; m <= m0 + 1 && m <= MOST; m++) {
            const pg_line l = { p->d * (float)sc, -p->dmin * (float)m };
            const float error = pg_line_error(x + G * g, w + G * g, G, 0, high, l, q);
            if (!(error < least)) continue;
            least = error;
            p->sc[g] = sc;
            p->m[g] = m;
            memcpy(p->q + G * g, q, sizeof q);
        }
    return least;
}

/* d and dmin for the codes and multiples as they are. */
static void refit_pair(pair *p, const float *x, const float *w)
{
    double aa = 0, am = 0, mm = 0, ax = 0, mx = 0;
    for (int i = 0; i < N; i++) {
        const double a = p->sc[i / G] * (double)p->q[i], m = p->m[i / G], wi = (double)w[i];
        aa += wi * a * a;
        am += wi * a * m;
        mm += wi * m * m;
        ax += wi * a * (double)x[i];
        mx += wi * m * (double)x[i];
    }
    const double det = aa * mm - am * am;
    if (det > 1e-9 * aa * mm) {
        p->d = (float)((ax * mm - mx * am) / det);
        p->dmin = (float)((ax * am - mx * aa) / det);
    } else if (aa > 0) {
        p->d = (float)((ax + am * (double)p->dmin) / aa);
    }
}

static void store_precision(pair *p)
{
    p->d = p->d > 0 ? pg_f16_to_f32(pg_f32_to_f16(p->d)) : 0;
    p->dmin = p->dmin > 0 ? pg_f16_to_f32(pg_f32_to_f16(p->dmin)) : 0;
}

static void search_pair(pair *best, const float *x, const float *w, int high)
{
    pg_line line[GROUPS];
    pair p = { 0 };
    for (int g = 0; g < GROUPS; g++) {
        line[g] = pg_line_search(x + G * g, w + G * g, G, high, 1);
        p.d = line[g].d > p.d ? line[g].d : p.d;
        p.dmin = -line[g].m > p.dmin ? -line[g].m : p.dmin;
    }
    p.d /= MOST;
    p.dmin /= MOST;
    *best = (pair){ .d = INFINITY, .error = INFINITY };
    for (int round = 0; round < ROUNDS; round++) {
        store_precision(&p);
        p.error = 0;
        for (int g = 0; g < GROUPS; g++) {
            p.error += choose_pair(&p, g, x, w, high, line[g]);
            line[g] = (pg_line){ p.d * (float)p.sc[g], -p.dmin * (float)p.m[g] };
        }
        if (!(p.error < best->error)) break;
        *best = p;
        refit_pair(&p, x, w);
    }
}

/* Factors and minima of 6 bits in 12 bytes: the first four each whole, the others' two high bits above them. */
static void put_pairs(uint8_t *to, const pair *p)
{
    for (int j = 0; j < 4; j++) {
        to[j] = (uint8_t)(p->sc[j] | p->sc[j + 4] >> 4 << 6);
        to[j + 4] = (uint8_t)(p->m[j] | p->m[j + 4] >> 4 << 6);
        to[j + 8] = (uint8_t)((p->sc[j + 4] & 15) | (p->m[j + 4] & 15) << 4);
    }
}

static int encode_pair(uint8_t *to, uint8_t *fifth, uint8_t *low, const float *x, const float *w, int high)
{
    pair p;
    search_pair(&p, x, w, high);
    if (!isfinite(pg_put_f16(to, p.d)) || !isfinite(pg_put_f16(to + 2, p.dmin))) return 0;
    put_pairs(to + 4, &p);
    for (int i = 0; i < N; i++) {
        const int q = (int)p.q[i], g = i / G, l = i % G;
        low[G * (g / 2) + l] |= (uint8_t)((q & 15) << 4 * (g % 2));
        if (fifth) fifth[l] |= (uint8_t)((q >> 4) << g);
    }
    return 1;
}

int pg_encode_q4_k(uint8_t *to, const float *x, const float *w)
{
    memset(to, 0, 144);
    return encode_pair(to, NULL, to + 16, x, w, 15);
}

int pg_encode_q5_k(uint8_t *to, const float *x, const float *w)
{
    memset(to, 0, 176);
    return encode_pair(to, to + 16, to + 48, x, w, 31);
}

/* ---- Q6_K: sixteen groups, value = d * sc * q ---- */

enum { GROUPS_6 = 16, G_6 = N / GROUPS_6 };

typedef struct six {
    float d, error;
    int sc[GROUPS_6];
    float q[N];
} six;

static float choose_six(six *s, int g, const float *x, const float *w, float liked)
{
    const int sc0 = near_int(liked / s->d, -128, 127);
    float least = INFINITY, q[G_6];
    for (int sc = sc0 > -128 ? sc0 - 1 : -128; sc <= sc0 + 1 && sc <= 127; sc++) {
        const pg_line l = { s->d * (float)sc, 0 };
        const float error = pg_line_error(x + G_6 * g, w + G_6 * g, G_6, -32, 31, l, q);
        if (!(error < least)) continue;
        least = error;
        s->sc[g] = sc;
        memcpy(s->q + G_6 * g, q, sizeof q);
    }
    return least;
}

static void refit_six(six *s, const float *x, const float *w)
{
    double aa = 0, ax = 0;
    for (int i = 0; i < N; i++) {
        const double a = s->sc[i / G_6] * (double)s->q[i];
        aa += (double)w[i] * a * a;
        ax += (double)w[i] * a * (double)x[i];
    }
    if (aa > 0) s->d = (float)(ax / aa);
}

static void search_six(six *best, const float *x, const float *w)
{
    float liked[GROUPS_6], most = 0;
    six s = { 0 };
    for (int g = 0; g < GROUPS_6; g++) {
        liked[g] = pg_scale_search(x + G_6 * g, w + G_6 * g, G_6, 31);
        if (fabsf(liked[g]) > fabsf(most)) most = liked[g];
    }
    s.d = pg_f16_to_f32(pg_f32_to_f16(most / -128));
    *best = (six){ .d = s.d, .error = INFINITY };
    for (int round = 0; round < ROUNDS && s.d != 0; round++) {
        s.error = 0;
        for (int g = 0; g < GROUPS_6; g++) {
            s.error += choose_six(&s, g, x, w, liked[g]);
            liked[g] = s.d * (float)s.sc[g];
        }
        if (!(s.error < best->error)) break;
        *best = s;
        refit_six(&s, x, w);
        s.d = pg_f16_to_f32(pg_f32_to_f16(s.d));
    }
}

int pg_encode_q6_k(uint8_t *to, const float *x, const float *w)
{
    uint8_t *low = to, *high = to + 128, *scales = to + 192;
    six s;
    search_six(&s, x, w);
    memset(to, 0, 210);
    if (!isfinite(pg_put_f16(to + 208, s.d))) return 0;
    for (int g = 0; g < GROUPS_6; g++) scales[g] = (uint8_t)(int8_t)s.sc[g];
    for (int i = 0; i < N; i++) {
        const int q = (int)s.q[i] + 32, half = i / 128, g = i % 128 / 32, l = i % 32;
        low[64 * half + 32 * (g & 1) + l] |= (uint8_t)((q & 15) << 4 * (g >> 1));
        high[32 * half + l] |= (uint8_t)((q >> 4) << 2 * g);
    }
    return 1;
}
