/* rope.c: inverse frequencies of the rotary embedding and the ways to stretch them over longer contexts.
 * Sources: Su et al., RoFormer (arXiv 2104.09864); Peng et al., YaRN (arXiv 2309.00071); llama3's divisors as in the
 * configuration of Llama 3.1. */
#include "arch.h"

#include <math.h>

/* The pair whose wavelength fits `turns` times into the original context. */
static double yarn_bound(const pg_hparams *h, double base, double turns)
{
    return h->n_rot * log(h->orig_ctx / (turns * 2 * 3.14159265358979323846)) / (2 * log(base));
}

static double llama3_divisor(const pg_hparams *h, double f)
{
    const double wave = 2 * 3.14159265358979323846 / f;
    if (wave < h->orig_ctx / h->high_freq) return 1;
    if (wave > h->orig_ctx / h->low_freq) return h->factor;
    const double t = (h->orig_ctx / wave - h->low_freq) / (h->high_freq - h->low_freq);
    return 1 / ((1 - t) / h->factor + t);
}

void pg_rope_freqs(const pg_hparams *h, const pg_arch *arch, const float *divisors, int swa, float *freqs)
{
    const double base = swa ? h->rope_base_swa : h->rope_base;
    const int scaling = swa && arch->rope_base_swa > 0 ? PG_SCALING_NONE : h->scaling;
    double low = yarn_bound(h, base, h->beta_fast), high = yarn_bound(h, base, h->beta_slow);
    if (!arch->yarn_unrounded) low = floor(low), high = ceil(high);
    low = low < 0 ? 0 : low;
    high = high > h->n_rot - 1 ? h->n_rot - 1 : high;
    for (int i = 0; i < h->n_rot / 2; i++) {
        double f = pow(base, -2.0 * i / h->n_rot);
        if (scaling == PG_SCALING_LINEAR) f /= h->factor;
        if (scaling == PG_SCALING_LLAMA3) f /= llama3_divisor(h, f);
        if (scaling == PG_SCALING_YARN) {
            double ramp = (i - low) / (high - low > 0.001 ? high - low : 0.001);
            ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
            f = f * (1 - ramp) + f / h->factor * ramp;
        }
        if (divisors) f /= divisors[i];
        freqs[i] = (float)f;
    }
}
