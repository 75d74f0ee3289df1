/* decode: stored weights as they stand in planes (cuda/planes.cuh), for the host and the device.
 *
 * A row is read in chunks: what 16 bytes of codes (8 in IQ2_XXS) belong to. A chunk is PIECES pieces of WIDTH
 * neighbouring columns, SPREAD columns apart: a byte of Q4_K holds columns i and i + 32, one of Q6_K belongs to four
 * columns. All pieces of a chunk come out of one load, so a matrix is read once whatever its format. For each format:
 *     raw = load<M>(w, row, chunk)     the bytes as they are, so that several loads can be under way before the
 *                                      first is used; M: out of which memory (pg_far: global, pg_near: any other)
 *     column(chunk)                    of the first value of piece 0, in the row; piece p begins SPREAD * p later
 *     value(raw, chunk, piece, v)      the WIDTH values in f32, bit for bit as unpack.h has them
 * and, in the quantised formats, whose pieces are of 16 columns,
 *     code(raw, chunk, piece, q)       the codes, four signed bytes a word
 *     d(...), m(...)                   of the piece: a value is d * code + m; m only where HAS_MIN
 * K is a multiple of the block in quantised formats. In the others a row may end inside a chunk: load takes whole
 * chunks of rows that are a multiple of 16 bytes long, and load_part any.
 * Not here: arithmetic with activations. Source: block layouts of GGUF; blocks.c is the definition. */
#ifndef PG_DECODE_H
#define PG_DECODE_H

#include "../cuda/exact.cuh"
#include "../cuda/planes.cuh"

/* A matrix of rows of k columns: where its planes begin. */
typedef struct pg_view {
    const unsigned char *plane[4];
    int32_t k, blocks; /* of a row */
} pg_view;

/* ---- words and bytes --------------------------------------------------------------------------------------------- */

struct pg_far { /* global memory that nobody writes while the kernel runs, its early beginning included: weights */
    template <class W> static PG_HD W word(const unsigned char *p)
    {
#if defined(__CUDA_ARCH__) || defined(PG_EMU)
        return __ldg(reinterpret_cast<const W *>(p));
#else
        return *reinterpret_cast<const W *>(p);
#endif
    }
};

struct pg_near {
    template <class W> static PG_HD W word(const unsigned char *p) { return *reinterpret_cast<const W *>(p); }
};

PG_HD float pg_float_of_half(uint32_t half) /* the low 16 bits count */
{
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half((unsigned short)half));
#else
    return pg_f16_to_f32((uint16_t)half);
#endif
}

/* Bytes of b:a, byte 0 the lowest of a, picked by the nibbles of s (0 .. 7). */
PG_HD uint32_t pg_pick_bytes(uint32_t a, uint32_t b, uint32_t s)
{
#ifdef __CUDA_ARCH__
    return __byte_perm(a, b, s);
#else
    const uint64_t both = (uint64_t)b << 32 | a;
    uint32_t y = 0;
    for (int i = 0; i < 4; i++) y |= (uint32_t)(both >> 8 * (s >> 4 * i & 7) & 255) << 8 * i;
    return y;
#endif
}

/* Byte i of a word. */
PG_HD int pg_byte(uint32_t w, int i)
{
    return (int)(w >> 8 * i & 255);
}

/* Bits 0 .. 3 of b as bit 0 of each byte. */
PG_HD uint32_t pg_bit_bytes(uint32_t b)
{
    return (b & 15) * 0x00204081u & 0x01010101u;
}

/* Each byte, 0 .. 2 * zero - 1, less zero, a power of two up to 64. No byte reaches into the next: v + (128 - zero) has
 * its top bit set just where v >= zero. */
template <int zero> PG_HD uint32_t pg_less(uint32_t v)
{
    return (v + 0x01010101u * (128 - zero)) ^ 0x80808080u;
}

/* Four signed bytes as floats: a byte in the low bits of 2^23 is 2^23 + that byte, which needs no conversion unit. */
PG_HD void pg_floats_of(uint32_t q, float *v)
{
    const uint32_t up = q ^ 0x80808080u; /* + 128 */
#pragma unroll
    for (int i = 0; i < 4; i++)
        v[i] = pg_float_of(pg_pick_bytes(up, 0x4b000000u, 0x7540u | (uint32_t)i)) - 8388736.0f; /* 2^23 + 128 */
}

/* What 16 codes of 4 bits stand for, a byte each. */
typedef struct pg_sixteen {
    uint32_t w[4];
} pg_sixteen;

/* The meanings of the low (high = 0) or high nibbles of the four bytes of v. A selector of four bytes picks by 3 bits a
 * nibble; the fourth bit then picks between two tables. */
PG_HD uint32_t pg_meaning(const pg_sixteen &t, uint32_t v, int high)
{
    const uint32_t n = v >> 4 * high & 0x0f0f0f0fu, s = n | n >> 4; /* nibbles 0, 1 in byte 0, and 2, 3 in byte 2 */
    const uint32_t four = pg_pick_bytes(s, 0, 0x4420) & 0xffffu, low = four & 0x7777u;
    const uint32_t a = pg_pick_bytes(t.w[0], t.w[1], low), b = pg_pick_bytes(t.w[2], t.w[3], low);
    return pg_pick_bytes(a, b, 0x3210u + ((four & 0x8888u) >> 1));
}

/* ---- formats of floats ------------------------------------------------------------------------------------------- */

template <pg_dtype T> struct pg_format;

/* Chunks that a row of k columns has; the last may be cut. */
template <class F> PG_HD int pg_chunks(int k)
{
    return (k + F::WIDTH * F::PIECES - 1) / (F::WIDTH * F::PIECES);
}

/* BYTES each, in the only plane of its rows. */
template <int BYTES> struct pg_format_float {
    enum { WIDTH = 16 / BYTES, PIECES = 1, SPREAD = 0, BLOCK = 1, QUANT = 0, HAS_MIN = 0 };
    struct raw {
        uint4 w;
        float factor; /* of FP8 */
    };
    static PG_HD int column(int chunk) { return chunk * WIDTH; }
    static PG_HD const unsigned char *at(const pg_view &w, int64_t row, int chunk)
    {
        return w.plane[0] + (row * w.k + chunk * WIDTH) * BYTES;
    }
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        return { M::template word<uint4>(at(w, row, chunk)), 1.0f };
    }
    template <class M> static PG_HD raw load_part(const pg_view &w, int64_t row, int chunk) /* zeros behind the end */
    {
        const unsigned char *p = at(w, row, chunk);
        const int n = (w.k - chunk * WIDTH) * BYTES;
        uint32_t v[4] = { 0, 0, 0, 0 };
#pragma unroll
        for (int i = 0; i < 16; i++)
            if (i < n) v[i / 4] |= (uint32_t)M::template word<unsigned char>(p + i) << 8 * (i % 4);
        return { { v[0], v[1], v[2], v[3] }, 1.0f };
    }
};

template <> struct pg_format<PG_F32> : pg_format_float<4> {
    static PG_HD void value(const raw &r, int, int, float (&v)[4])
    {
        v[0] = pg_float_of(r.w.x);
        v[1] = pg_float_of(r.w.y);
        v[2] = pg_float_of(r.w.z);
        v[3] = pg_float_of(r.w.w);
    }
};

template <> struct pg_format<PG_BF16> : pg_format_float<2> {
    static PG_HD void value(const raw &r, int, int, float (&v)[8])
    {
        const uint32_t w[4] = { r.w.x, r.w.y, r.w.z, r.w.w };
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i] = pg_float_of(w[i] << 16);
            v[2 * i + 1] = pg_float_of(w[i] & 0xffff0000u);
        }
    }
};

template <> struct pg_format<PG_F16> : pg_format_float<2> {
    static PG_HD void value(const raw &r, int, int, float (&v)[8])
    {
        const uint32_t w[4] = { r.w.x, r.w.y, r.w.z, r.w.w };
#pragma unroll
        for (int i = 0; i < 4; i++) {
            v[2 * i] = pg_float_of_half(w[i]);
            v[2 * i + 1] = pg_float_of_half(w[i] >> 16);
        }
    }
};

template <> struct pg_format<PG_FP8> : pg_format_float<1> {
    static PG_HD float factor(const pg_view &w, int64_t row, int chunk)
    {
        const int64_t at = row / 128 * ((w.k + 127) / 128) + chunk * WIDTH / 128;
        return pg_far::word<float>(w.plane[1] + 4 * at);
    }
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        return { M::template word<uint4>(at(w, row, chunk)), factor(w, row, chunk) };
    }
    template <class M> static PG_HD raw load_part(const pg_view &w, int64_t row, int chunk)
    {
        return { pg_format_float<1>::load_part<M>(w, row, chunk).w, factor(w, row, chunk) };
    }
    /* The 7 bits of E4M3 in the place of F16's are the value times 2^-8, subnormals too; the factor takes that back.
     * NaN, which E4M3 has where its largest exponent and mantissa meet, has to be told apart. */
    static PG_HD void value(const raw &r, int, int, float (&v)[16])
    {
        const uint32_t w[4] = { r.w.x, r.w.y, r.w.z, r.w.w };
        const float factor = r.factor * 256.0f;
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const uint32_t b = w[i / 4] >> 8 * (i % 4);
            const float f = pg_float_of_half((b & 0x80) << 8 | (b & 0x7f) << 7);
            const float y = pg_mul(f, factor);
            v[i] = (b & 0x7f) == 0x7f ? pg_float_of(0x7fc00000u) : y;
        }
    }
};

/* ---- quantised formats ------------------------------------------------------------------------------------------- */

/* F: the format, which has code, d and m. */
template <class F, pg_dtype T, int PIECES_, int SPREAD_, int BLOCK_, int HAS_MIN_> struct pg_format_quant {
    static constexpr pg_dtype TYPE = T;
    enum { WIDTH = 16, PIECES = PIECES_, SPREAD = SPREAD_, BLOCK = BLOCK_, QUANT = 1, HAS_MIN = HAS_MIN_ };
    enum { CHUNKS = BLOCK / (16 * PIECES) }; /* of a block */
    /* The bytes of field i of the block that a chunk is in. */
    static PG_HD const unsigned char *field(const pg_view &w, int64_t row, int chunk, int i)
    {
        return w.plane[i] + (row * w.blocks + chunk / CHUNKS) * pg_plane_fields_of(T).length[i];
    }
    template <class R> static PG_HD void value(const R &r, int chunk, int piece, float (&v)[16])
    {
        uint32_t q[4];
        F::code(r, chunk, piece, q);
        const float d = F::d(r, chunk, piece), m = F::m(r, chunk, piece);
#pragma unroll
        for (int i = 0; i < 4; i++) pg_floats_of(q[i], v + 4 * i);
#pragma unroll
        for (int i = 0; i < 16; i++) v[i] = HAS_MIN ? pg_add(pg_mul(d, v[i]), m) : pg_mul(d, v[i]);
    }
    template <class R> static PG_HD float m(const R &, int, int)
    {
        return 0;
    }
};

PG_HD uint32_t pg_word(const uint4 &v, int i) /* i known when compiled */
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

template <> struct pg_format<PG_Q8_0> : pg_format_quant<pg_format<PG_Q8_0>, PG_Q8_0, 1, 0, 32, 0> {
    struct raw {
        uint4 q;
        uint32_t d;
    };
    static PG_HD int column(int chunk) { return 16 * chunk; }
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        return { M::template word<uint4>(field(w, row, chunk, 1) + 16 * (chunk % 2)),
                 M::template word<uint16_t>(field(w, row, chunk, 0)) };
    }
    static PG_HD void code(const raw &r, int, int, uint32_t (&q)[4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++) q[i] = pg_word(r.q, i);
    }
    static PG_HD float d(const raw &r, int, int)
    {
        return pg_float_of_half(r.d);
    }
};

/* Blocks of 32 with 16 bytes of nibbles: the low ones are columns 0 .. 15, the high ones 16 .. 31. The first field is
 * d, or d and m; the second the fifth bits if there are any. */
template <pg_dtype T, int MIN, int FIFTH, int ZERO>
struct pg_format_nibble : pg_format_quant<pg_format_nibble<T, MIN, FIFTH, ZERO>, T, 2, 16, 32, MIN> {
    typedef pg_format_quant<pg_format_nibble<T, MIN, FIFTH, ZERO>, T, 2, 16, 32, MIN> base;
    struct raw {
        uint4 q;
        uint32_t dm, fifth;
    };
    static PG_HD int column(int chunk) { return 32 * chunk; }
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        raw r;
        r.q = M::template word<uint4>(base::field(w, row, chunk, 1 + FIFTH));
        const unsigned char *dm = base::field(w, row, chunk, 0);
        r.dm = T == PG_MXFP4 ? M::template word<unsigned char>(dm)
               : MIN         ? M::template word<uint32_t>(dm)
                             : M::template word<uint16_t>(dm);
        r.fifth = FIFTH ? M::template word<uint32_t>(base::field(w, row, chunk, 1)) : 0;
        return r;
    }
    static PG_HD void code(const raw &r, int, int piece, uint32_t (&q)[4])
    {
        const pg_sixteen iq4 = { { 0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u } }; /* pg_iq4_value */
        const pg_sixteen fp4 = { { 0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu } }; /* pg_fp4_twice */
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t w = pg_word(r.q, i);
            if (T == PG_IQ4_NL || T == PG_MXFP4) {
                q[i] = pg_meaning(T == PG_MXFP4 ? fp4 : iq4, w, piece);
                continue;
            }
            const uint32_t four = w >> 4 * piece & 0x0f0f0f0fu;
            const uint32_t all = FIFTH ? four | pg_bit_bytes(r.fifth >> (16 * piece + 4 * i)) << 4 : four;
            q[i] = ZERO ? pg_less < ZERO ? ZERO : 1 > (all) : all;
        }
    }
    static PG_HD float d(const raw &r, int, int)
    {
        if (T == PG_MXFP4) return pg_float_of(r.dm < 2 ? 0x00200000u << r.dm : (r.dm - 1) << 23); /* blocks.h */
        return pg_float_of_half(r.dm);
    }
    static PG_HD float m(const raw &r, int, int)
    {
        return MIN ? pg_float_of_half(r.dm >> 16) : 0;
    }
};

template <> struct pg_format<PG_Q4_0> : pg_format_nibble<PG_Q4_0, 0, 0, 8> {
};
template <> struct pg_format<PG_Q4_1> : pg_format_nibble<PG_Q4_1, 1, 0, 0> {
};
template <> struct pg_format<PG_Q5_0> : pg_format_nibble<PG_Q5_0, 0, 1, 16> {
};
template <> struct pg_format<PG_Q5_1> : pg_format_nibble<PG_Q5_1, 1, 1, 0> {
};
template <> struct pg_format<PG_IQ4_NL> : pg_format_nibble<PG_IQ4_NL, 0, 0, 0> {
};
template <> struct pg_format<PG_MXFP4> : pg_format_nibble<PG_MXFP4, 0, 0, 0> {
};

#include "decode_k.cuh"

#endif
