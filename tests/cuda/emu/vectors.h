/* vectors: CUDA's short vector types, aligned as the device wants them, so that a sanitizer finds a load that is not. */
#ifndef PG_EMU_VECTORS_H
#define PG_EMU_VECTORS_H

#define PG_EMU_VECTOR(name, type, bytes)                                 \
    struct alignas(1 * sizeof(type)) name##1                             \
    {                                                                    \
        type x;                                                          \
    };                                                                   \
    struct alignas(2 * sizeof(type)) name##2                             \
    {                                                                    \
        type x, y;                                                       \
    };                                                                   \
    struct name##3                                                       \
    {                                                                    \
        type x, y, z;                                                    \
    };                                                                   \
    struct alignas(bytes) name##4                                        \
    {                                                                    \
        type x, y, z, w;                                                 \
    };                                                                   \
    static inline name##2 make_##name##2(type x, type y)                 \
    {                                                                    \
        return name##2 { x, y };                                         \
    }                                                                    \
    static inline name##3 make_##name##3(type x, type y, type z)         \
    {                                                                    \
        return name##3 { x, y, z };                                      \
    }                                                                    \
    static inline name##4 make_##name##4(type x, type y, type z, type w) \
    {                                                                    \
        return name##4 { x, y, z, w };                                   \
    }
PG_EMU_VECTOR(char, signed char, 4)
PG_EMU_VECTOR(uchar, unsigned char, 4)
PG_EMU_VECTOR(short, short, 8)
PG_EMU_VECTOR(ushort, unsigned short, 8)
PG_EMU_VECTOR(int, int, 16)
PG_EMU_VECTOR(uint, unsigned, 16)
PG_EMU_VECTOR(longlong, long long, 16)
PG_EMU_VECTOR(ulonglong, unsigned long long, 16)
PG_EMU_VECTOR(float, float, 16)
PG_EMU_VECTOR(double, double, 16)
#undef PG_EMU_VECTOR

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
    constexpr dim3(uint3 a) : x(a.x), y(a.y), z(a.z) {}
};

#endif
