/* GGUF files with packed tensors, malformed: versions, types, alignment and sizes that are refused, in messages that name
 * the file and the key or tensor at fault. What packed files that are fine hold is in source.c, what models do with them
 * in pack.c. */
#include "refuse.h"

enum { PACKED_Q8_0 = PG_PACK_TYPE + 8 };

/* A file of version 1 with a packed matrix {32, 17}: two panels of 16 rows of 34 bytes. */
static gguf packed_model(uint64_t version, uint32_t align)
{
    gguf g = gguf_new();
    g.align = 64;
    key_int(&g, PG_PACK_KEY, G_U32, version);
    key_int(&g, "general.alignment", G_U32, align);
    info(&g, "panels", 2, DIM(32, 17), PACKED_Q8_0, 0);
    put_zeros(&g.data, 1088);
    return g;
}

static void test_version(void)
{
    static const uint32_t version[] = { 0, 2, 100, UINT32_MAX };
    for (size_t i = 0; i < sizeof version / sizeof *version; i++) {
        gguf g = packed_model(version[i], 64);
        REFUSE(g, PG_EUNSUPPORTED, "'" PG_PACK_KEY "'", "another version", "perigee quantize --pack");
        g = gguf_model(); /* also when nothing in it is packed */
        key_int(&g, PG_PACK_KEY, G_U32, version[i]);
        REFUSE(g, PG_EUNSUPPORTED, "'" PG_PACK_KEY "'", "expected 1");
    }
    gguf g = gguf_model();
    key_int(&g, PG_PACK_KEY, G_U64, 1);
    REFUSE(g, PG_EFORMAT, "'" PG_PACK_KEY "'", "u32");
    g = gguf_model();
    key_text(&g, PG_PACK_KEY, "1");
    REFUSE(g, PG_EFORMAT, "'" PG_PACK_KEY "'", "u32");
    g = gguf_new();
    g.align = 64;
    key_int(&g, "general.alignment", G_U32, 64);
    info(&g, "panels", 2, DIM(32, 17), PACKED_Q8_0, 0);
    put_zeros(&g.data, 1088);
    REFUSE(g, PG_EFORMAT, "'panels'", "packed Q8_0", "'" PG_PACK_KEY "' is missing", "perigee quantize --pack");
    for (uint32_t align = 8; align < 64; align *= 2) {
        g = packed_model(1, align);
        REFUSE(g, PG_EFORMAT, "'panels'", "'general.alignment'", "at least 64");
    }
}

static void test_types(void)
{
    gguf g;
    static const struct {
        uint32_t id;
        const char *need;
    } type[] = { { 0, "packed F32 (0)" },  { 1, "packed F16 (1)" },     { 30, "packed BF16 (30)" },
                 { 9, "packed Q8_1 (9)" }, { 19, "packed IQ1_S (19)" }, { 24, "packed I8 (24)" },
                 { 40, "packed weights" }, { 0xffff, "packed weights" } };
    for (size_t i = 0; i < sizeof type / sizeof *type; i++) {
        g = packed_model(1, 64);
        info(&g, "third", 2, DIM(256, 16), PG_PACK_TYPE + type[i].id, 1088);
        put_zeros(&g.data, 1 << 16);
        REFUSE(g, PG_EUNSUPPORTED, "'third'", type[i].need, "no version of perigee");
    }
    static const uint32_t beside[] = { PG_PACK_TYPE - 1, PG_PACK_TYPE + 0x10008, 0x50460008, 0x47500008 };
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        g = packed_model(1, 64);
        info(&g, "third", 2, DIM(256, 16), beside[i], 1088);
        REFUSE(g, PG_EUNSUPPORTED, "'third'", "is unknown");
    }
}

static void test_sizes(void)
{
    gguf g = packed_model(1, 64); /* payloads end where the last panel does */
    g.data.n--;
    REFUSE(g, PG_EFORMAT, "'panels'", "truncated", "1088 bytes");
    g = packed_model(1, 64);
    info(&g, "third", 2, DIM(32, 16), PACKED_Q8_0, 640); /* where it would be if it was not packed */
    put_zeros(&g.data, 4096);
    REFUSE(g, PG_EFORMAT, "'third'", "expected 1088");
    g = packed_model(1, 64);
    info(&g, "third", 3, DIM(32, 1, 3), PACKED_Q8_0, 1088); /* each matrix has a panel of its own */
    put_zeros(&g.data, 3 * 16 * 34 - 1);
    REFUSE(g, PG_EFORMAT, "'third'", "truncated", "1632 bytes");
    static const uint64_t dim[][3] = { { 32, 1, 1ull << 54 },
                                       { 32, 15, 1ull << 54 },
                                       { 32, INT64_MAX / 32, 1 },
                                       { 32, 1, INT64_MAX / 32 },
                                       { 1ull << 59, 1, 1 } };
    for (size_t i = 0; i < sizeof dim / sizeof *dim; i++) {
        g = packed_model(1, 64);
        info(&g, "third", 3, dim[i], PACKED_Q8_0, 1088);
        REFUSE(g, PG_EFORMAT, "'third'", "addressed");
    }
    g = packed_model(1, 64);
    info(&g, "third", 2, DIM(33, 16), PACKED_Q8_0, 1088);
    REFUSE(g, PG_EFORMAT, "'third'", "multiple of 32");
}

int main(void)
{
    tmp = scratch_new();
    test_version();
    test_types();
    test_sizes();
    scratch_free(tmp);
    return check_done("gguf_packed");
}
