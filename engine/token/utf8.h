/* utf8: looking at text that may or may not be UTF-8, one character at a time.
 *
 * "Character" is what RFC 3629 calls well formed: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef PG_UTF8_H
#define PG_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that a character beginning with `lead` has; 0: none begins with it. */
static inline size_t pg_utf8_size(unsigned char lead)
{
    return lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
}

/* How many of the n bytes at s belong to one character or its beginning: pg_utf8_size(*s) when it is complete. */
static inline size_t pg_utf8_reach(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t size = n ? pg_utf8_size(u[0]) : 0;
    if (size < 2 || n < 2) return size && n ? 1 : 0;
    unsigned char low = u[0] == 0xe0 ? 0xa0 : u[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = u[0] == 0xed ? 0x9f : u[0] == 0xf4 ? 0x8f : 0xbf;
    if (u[1] < low || u[1] > high) return 1;
    size_t i = 2;
    while (i < size && i < n && (u[i] & 0xc0) == 0x80) i++;
    return i;
}

/* Bytes of the character at s and its code point; 0 and 0 when there is no complete one. */
static inline size_t pg_utf8_read(const char *s, size_t n, uint32_t *point)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t size = n ? pg_utf8_size(u[0]) : 0;
    *point = 0;
    if (size == 0 || pg_utf8_reach(s, n) < size) return 0;
    uint32_t c = size == 1 ? u[0] : u[0] & (0xffu >> (size + 1));
    for (size_t i = 1; i < size; i++) c = c << 6 | (u[i] & 0x3f);
    *point = c;
    return size;
}

/* The bytes of a code point, at most 4. */
static inline size_t pg_utf8_write(char *s, uint32_t c)
{
    if (c < 0x80) return s[0] = (char)c, 1;
    if (c < 0x800) return s[0] = (char)(0xc0 | c >> 6), s[1] = (char)(0x80 | (c & 0x3f)), 2;
    size_t i = 0;
    if (c < 0x10000) {
        s[i++] = (char)(0xe0 | c >> 12);
    } else {
        s[i++] = (char)(0xf0 | c >> 18);
        s[i++] = (char)(0x80 | (c >> 12 & 0x3f));
    }
    s[i++] = (char)(0x80 | (c >> 6 & 0x3f));
    s[i++] = (char)(0x80 | (c & 0x3f));
    return i;
}

/* Offset of the first byte that belongs to no character; n when there is none. */
static inline size_t pg_utf8_bad(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        if ((unsigned char)s[i] < 0x80) {
            i++;
            continue;
        }
        size_t size = pg_utf8_size((unsigned char)s[i]);
        if (size == 0 || pg_utf8_reach(s + i, n - i) < size) return i;
        i += size;
    }
    return n;
}

/* White_Space of the Unicode Character Database (PropList.txt). */
static inline bool pg_is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* Byte-level vocabularies write byte b as a printable character: itself when it is one in Latin-1, else the next
 * character from U+0100 on. Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019. */
static inline bool pg_byte_is_plain(unsigned b)
{
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

static inline uint32_t pg_byte_to_point(unsigned b)
{
    if (pg_byte_is_plain(b)) return b;
    return 0x100 + (b < 0x21 ? b : b < 0xa1 ? b - 0x7f + 0x21 : 67); /* 33 controls, 34 from DEL on, soft hyphen */
}

/* The byte that a character stands for, -1 when it stands for none. */
static inline int pg_point_to_byte(uint32_t c)
{
    if (c < 0x100) return pg_byte_is_plain(c) ? (int)c : -1;
    c -= 0x100;
    return c < 0x21 ? (int)c : c < 67 ? (int)(c - 0x21 + 0x7f) : c == 67 ? 0xad : -1;
}

#endif
