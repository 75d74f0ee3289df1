/* warp.cc: what the lanes of a warp do together: shuffles, votes, matrix fragments.
 *
 * Fragments of mma.m16n8k16, with g = lane / 4 and t = lane % 4 (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
 *   a: register i holds rows g + 8 * (i % 2), columns 2t + 8 * (i / 2) and the next
 *   b: register i holds rows 2t + 8 * i and the next, column g
 *   d: register i holds row g + 8 * (i / 2), column 2t + i % 2 */
#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "cuda_runtime.h"
#include "emu_device.h"

void pg_emu_shuffle_meet(void *const lane[32], unsigned mask)
{
    for (int i = 0; i < 32; i++) {
        if (!(mask >> i & 1)) continue;
        pg_emu_shuffle *s = static_cast<pg_emu_shuffle *>(lane[i]);
        const int width = s->width, first = i / width * width;
        if (width < 1 || width > 32 || width & (width - 1)) pg_emu_die("a shuffle of width %d", width);
        int from = s->how == PG_EMU_FROM   ? first + s->by % width
                   : s->how == PG_EMU_UP   ? i - s->by
                   : s->how == PG_EMU_DOWN ? i + s->by
                                           : i ^ s->by;
        if (s->how == PG_EMU_FROM && s->by % width < 0) from += width;
        if (s->how == PG_EMU_UP && from < first) from = i;
        if (s->how == PG_EMU_DOWN && from >= first + width) from = i;
        if (s->how == PG_EMU_XOR && from >= first + width) from = i;
        if (!(mask >> from & 1)) pg_emu_die("a shuffle from lane %d, which is not in the mask %08x", from, mask);
        s->taken = static_cast<const pg_emu_shuffle *>(lane[from])->given;
    }
}

struct vote {
    bool yes;
    unsigned all;
};

static void vote_meet(void *const lane[32], unsigned mask)
{
    unsigned all = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) all |= (unsigned)static_cast<vote *>(lane[i])->yes << i;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1) static_cast<vote *>(lane[i])->all = all;
}

unsigned pg_emu_vote(const char *name, unsigned mask, bool yes)
{
    vote v = { yes, 0 };
    pg_emu_warp(name, mask, &v, vote_meet);
    return v.all;
}

/* The device sums exact products in a wider format and rounds at the end; doubles stand for that. */
static void mma(void *const lane[32], float (*number)(unsigned short))
{
    static float a[16][16], b[16][8];
    for (int l = 0; l < 32; l++) {
        const pg_emu_fragments *f = static_cast<const pg_emu_fragments *>(lane[l]);
        const int g = l / 4, t = l % 4;
        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 2; h++)
                a[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + h] = number((unsigned short)(f->a[i] >> (16 * h)));
        for (int i = 0; i < 2; i++)
            for (int h = 0; h < 2; h++) b[2 * t + 8 * i + h][g] = number((unsigned short)(f->b[i] >> (16 * h)));
    }
    for (int l = 0; l < 32; l++) {
        float *d = static_cast<const pg_emu_fragments *>(lane[l])->d;
        for (int i = 0; i < 4; i++) {
            const int row = l / 4 + 8 * (i / 2), column = 2 * (l % 4) + i % 2;
            double sum = d[i];
            for (int k = 0; k < 16; k++) sum += (double)a[row][k] * b[k][column];
            d[i] = (float)sum;
        }
    }
}

void pg_emu_mma_bf16(void *const lane[32], unsigned mask)
{
    (void)mask;
    mma(lane, pg_emu_bf16::from);
}

void pg_emu_mma_f16(void *const lane[32], unsigned mask)
{
    (void)mask;
    mma(lane, pg_emu_f16::from);
}

/* Lane l gets numbers 2 * (l % 4) and the next of row l / 4 of each matrix (of its transpose). */
static void ldmatrix(void *const lane[32], bool transposed)
{
    unsigned short m[4][8][8];
    for (int l = 0; l < 32; l++) {
        const void *row = static_cast<const pg_emu_matrices *>(lane[l])->row;
        if ((uintptr_t)row % 16) pg_emu_die("ldmatrix: the row of lane %d is not aligned", l);
#ifndef __SANITIZE_ADDRESS__
        if (!pg_emu_in_shared(row, 16)) pg_emu_die("ldmatrix: the row of lane %d is not in shared memory", l);
#endif
        memcpy(m[l / 8][l % 8], row, 16);
    }
    for (int l = 0; l < 32; l++) {
        uint32_t *r = static_cast<const pg_emu_matrices *>(lane[l])->r;
        const int row = l / 4, column = 2 * (l % 4);
        for (int i = 0; i < 4; i++)
            r[i] = transposed ? (uint32_t)m[i][column][row] | (uint32_t)m[i][column + 1][row] << 16
                              : (uint32_t)m[i][row][column] | (uint32_t)m[i][row][column + 1] << 16;
    }
}

void pg_emu_ldmatrix(void *const lane[32], unsigned mask)
{
    (void)mask;
    ldmatrix(lane, false);
}

void pg_emu_ldmatrix_t(void *const lane[32], unsigned mask)
{
    (void)mask;
    ldmatrix(lane, true);
}
