/* decode_k: the formats whose blocks are of 256 columns. The second part of decode.cuh, which includes it. */
#ifndef PG_DECODE_K_H
#define PG_DECODE_K_H

/* Q4_K and Q5_K: byte l of 32 holds columns l and l + 32 of 64. Chunk c is bytes 16 * (c % 2) of columns
 * 64 * (c / 2). */
template <pg_dtype T, int FIFTH> struct pg_format_k4 : pg_format_quant<pg_format_k4<T, FIFTH>, T, 2, 32, 256, 1> {
    typedef pg_format_quant<pg_format_k4<T, FIFTH>, T, 2, 32, 256, 1> base;
    struct raw {
        uint4 q, head, fifth; /* head: d, dmin, and 12 bytes of scales */
    };
    static PG_HD int column(int chunk) { return 64 * (chunk / 2) + 16 * (chunk % 2); }
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        raw r;
        r.q = M::template word<uint4>(base::field(w, row, chunk, 1 + FIFTH) + 16 * (chunk % 8));
        r.head = M::template word<uint4>(base::field(w, row, chunk, 0));
        if (FIFTH) r.fifth = M::template word<uint4>(base::field(w, row, chunk, 1) + 16 * (chunk % 2));
        return r;
    }
    static PG_HD void code(const raw &r, int chunk, int piece, uint32_t (&q)[4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            q[i] = pg_word(r.q, i) >> 4 * piece & 0x0f0f0f0fu;
            if (FIFTH) q[i] |= (pg_word(r.fifth, i) >> (chunk % 8 / 2 * 2 + piece) & 0x01010101u) << 4;
        }
    }
    /* Eight factors and eight minima of 6 bits: the first four stand in a byte each, the others in a nibble and in what
     * the first have left of theirs. */
    static PG_HD float d(const raw &r, int chunk, int piece)
    {
        const int sub = chunk % 8 / 2 * 2 + piece, at = sub % 4;
        const int first = pg_byte(r.head.y, at), other = pg_byte(r.head.w, at);
        return pg_float_of_half(r.head.x) * (float)(sub < 4 ? first & 63 : (other & 15) | first >> 6 << 4);
    }
    static PG_HD float m(const raw &r, int chunk, int piece)
    {
        const int sub = chunk % 8 / 2 * 2 + piece, at = sub % 4;
        const int first = pg_byte(r.head.z, at), other = pg_byte(r.head.w, at);
        return -(pg_float_of_half(r.head.x >> 16) * (float)(sub < 4 ? first & 63 : other >> 4 | first >> 6 << 4));
    }
};

template <> struct pg_format<PG_Q4_K> : pg_format_k4<PG_Q4_K, 0> {
};
template <> struct pg_format<PG_Q5_K> : pg_format_k4<PG_Q5_K, 1> {
};

/* Q2_K, Q3_K, Q6_K: a byte of the two-bit field holds columns l, l + 32, l + 64, l + 96 of half a block. Chunk c is
 * columns 16 * (c % 2) of half c / 2. */
template <class F, pg_dtype T, int MIN> struct pg_format_quarter : pg_format_quant<F, T, 4, 32, 256, MIN> {
    static PG_HD int column(int chunk) { return 128 * (chunk / 2) + 16 * (chunk % 2); }
    static PG_HD int half(int chunk) { return chunk % 4 / 2; }
    /* Which of the half's eight factors is a piece's: byte number of two words. */
    static PG_HD int scale_byte(const uint2 &eight, int chunk, int piece)
    {
        return pg_byte(piece < 2 ? eight.x : eight.y, piece % 2 * 2 + chunk % 2);
    }
};

template <> struct pg_format<PG_Q2_K> : pg_format_quarter<pg_format<PG_Q2_K>, PG_Q2_K, 1> {
    struct raw {
        uint4 q;
        uint2 scales;
        uint32_t dm;
    };
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        return { M::template word<uint4>(field(w, row, chunk, 1) + 16 * (chunk % 4)),
                 M::template word<uint2>(field(w, row, chunk, 0) + 8 * half(chunk)),
                 M::template word<uint32_t>(field(w, row, chunk, 2)) };
    }
    static PG_HD void code(const raw &r, int, int piece, uint32_t (&q)[4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++) q[i] = pg_word(r.q, i) >> 2 * piece & 0x03030303u;
    }
    static PG_HD float d(const raw &r, int chunk, int piece)
    {
        return pg_float_of_half(r.dm) * (float)(scale_byte(r.scales, chunk, piece) & 15);
    }
    static PG_HD float m(const raw &r, int chunk, int piece)
    {
        return -(pg_float_of_half(r.dm >> 16) * (float)(scale_byte(r.scales, chunk, piece) >> 4));
    }
};

template <> struct pg_format<PG_Q3_K> : pg_format_quarter<pg_format<PG_Q3_K>, PG_Q3_K, 0> {
    struct raw {
        uint4 q, third;
        uint2 low; /* nibbles of the scales: low ones of the first half, high ones of the second */
        uint32_t high, d;
    };
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        const unsigned char *s = field(w, row, chunk, 2);
        return { M::template word<uint4>(field(w, row, chunk, 1) + 16 * (chunk % 4)),
                 M::template word<uint4>(field(w, row, chunk, 0) + 16 * (chunk % 2)),
                 { M::template word<uint32_t>(s), M::template word<uint32_t>(s + 4) },
                 M::template word<uint32_t>(s + 8),
                 M::template word<uint16_t>(field(w, row, chunk, 3)) };
    }
    static PG_HD void code(const raw &r, int chunk, int piece, uint32_t (&q)[4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t third = pg_word(r.third, i) >> (4 * half(chunk) + piece) & 0x01010101u;
            q[i] = pg_less<4>((pg_word(r.q, i) >> 2 * piece & 0x03030303u) | third << 2);
        }
    }
    static PG_HD float d(const raw &r, int chunk, int piece)
    {
        const int low = scale_byte(r.low, chunk, piece) >> 4 * half(chunk) & 15;
        const int high = pg_byte(r.high, piece % 2 * 2 + chunk % 2) >> (4 * half(chunk) + piece / 2 * 2) & 3;
        return pg_float_of_half(r.d) * (float)((low | high << 4) - 32);
    }
};

template <> struct pg_format<PG_Q6_K> : pg_format_quarter<pg_format<PG_Q6_K>, PG_Q6_K, 0> {
    struct raw {
        uint4 low[2], high;
        uint2 scales;
        uint32_t d;
    };
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        const unsigned char *low = field(w, row, chunk, 0) + 64 * half(chunk) + 16 * (chunk % 2);
        return { { M::template word<uint4>(low), M::template word<uint4>(low + 32) },
                 M::template word<uint4>(field(w, row, chunk, 1) + 16 * (chunk % 4)),
                 M::template word<uint2>(field(w, row, chunk, 2) + 8 * half(chunk)),
                 M::template word<uint16_t>(field(w, row, chunk, 3)) };
    }
    static PG_HD void code(const raw &r, int, int piece, uint32_t (&q)[4])
    {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const uint32_t low = pg_word(piece % 2 ? r.low[1] : r.low[0], i) >> piece / 2 * 4 & 0x0f0f0f0fu;
            q[i] = pg_less<32>(low | (pg_word(r.high, i) >> 2 * piece & 0x03030303u) << 4);
        }
    }
    static PG_HD float d(const raw &r, int chunk, int piece)
    {
        return pg_float_of_half(r.d) * (float)(signed char)scale_byte(r.scales, chunk, piece);
    }
};

/* Chunk c is the 32 columns of factor c. */
template <> struct pg_format<PG_IQ4_XS> : pg_format_quant<pg_format<PG_IQ4_XS>, PG_IQ4_XS, 2, 16, 256, 0> {
    struct raw {
        uint4 q;
        uint2 head; /* d and the high bits of eight scales, the low bits */
    };
    static PG_HD int column(int chunk) { return 32 * chunk; }
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        return { M::template word<uint4>(field(w, row, chunk, 1) + 16 * (chunk % 8)),
                 M::template word<uint2>(field(w, row, chunk, 0)) };
    }
    static PG_HD void code(const raw &r, int, int piece, uint32_t (&q)[4])
    {
        pg_format<PG_IQ4_NL>::code({ r.q, 0, 0 }, 0, piece, q);
    }
    static PG_HD float d(const raw &r, int chunk, int)
    {
        const int at = chunk % 8;
        const int scale = (int)((r.head.y >> 4 * at & 15) | (r.head.x >> (16 + 2 * at) & 3) << 4);
        return pg_float_of_half(r.head.x) * (float)(scale - 32);
    }
};

/* Chunk c is 8 bytes: four rows of the grid, and a word of four times seven signs and four bits of scale. */
template <> struct pg_format<PG_IQ2_XXS> : pg_format_quant<pg_format<PG_IQ2_XXS>, PG_IQ2_XXS, 2, 16, 256, 0> {
    struct raw {
        uint2 q;
        uint32_t d;
    };
    static PG_HD int column(int chunk) { return 32 * chunk; }
    template <class M> static PG_HD raw load(const pg_view &w, int64_t row, int chunk)
    {
        return { M::template word<uint2>(field(w, row, chunk, 1) + 8 * (chunk % 8)),
                 M::template word<uint16_t>(field(w, row, chunk, 0)) };
    }
    /* Eight magnitudes of a row of the grid, as two words: 2 bits each, spread over nibbles, pick 8, 25 or 43. */
    static PG_HD void sizes(int row, uint32_t (&two)[2])
    {
        static const uint16_t grid[256] = {
#define PG_IQ2_ROW(code) code,
#include "../unpack/iq2_grid.def"
        };
        uint32_t s = grid[row];
        s = (s | s << 8) & 0x00ff00ffu;
        s = (s | s << 4) & 0x0f0f0f0fu;
        s = (s | s << 2) & 0x33333333u;
        two[0] = pg_pick_bytes(8 | 25 << 8 | 43 << 16, 0, s & 0xffffu);
        two[1] = pg_pick_bytes(8 | 25 << 8 | 43 << 16, 0, s >> 16);
    }
    /* Bytes, all above 0, of which those with a bit set in minus become negative. */
    static PG_HD uint32_t sign(uint32_t size, uint32_t minus)
    {
        const uint32_t one = pg_bit_bytes(minus);
        return (size ^ one * 255) + one;
    }
    static PG_HD void code(const raw &r, int, int piece, uint32_t (&q)[4])
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int row = 2 * piece + i;
            uint32_t two[2];
            sizes(pg_byte(r.q.x, row), two);
            uint32_t minus = r.q.y >> 7 * row & 127, odd = minus ^ minus >> 4;
            odd ^= odd >> 2;
            minus |= ((odd ^ odd >> 1) & 1) << 7; /* the number of minus signs is even */
            q[2 * i] = sign(two[0], minus);
            q[2 * i + 1] = sign(two[1], minus >> 4);
        }
    }
    static PG_HD float d(const raw &r, int, int)
    {
        return pg_float_of_half(r.d) * ((float)(int)(2 * (r.q.y >> 28) + 1) / 8);
    }
};

#endif
