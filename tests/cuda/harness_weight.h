/* harness_weight: random weight matrices, as the CPU has them and as planes on the device. Part of harness.h. */
#ifndef PG_TEST_CUDA_HARNESS_WEIGHT_H
#define PG_TEST_CUDA_HARNESS_WEIGHT_H

/* Random blocks of a format, whose factors are of ordinary size. */
static inline void harness_blocks(harness *h, char *w, pg_dtype type, int64_t n)
{
    const pg_dtype_info *info = pg_dtype_get(type);
    if (type == PG_F32 || type == PG_F16 || type == PG_BF16) {
        for (int64_t i = 0; i < n; i++) {
            const float x = harness_uniform(h);
            const uint16_t half = type == PG_F16 ? pg_f32_to_f16(x) : pg_f32_to_bf16(x);
            memcpy(w + i * info->bytes, type == PG_F32 ? (const void *)&x : (const void *)&half, (size_t)info->bytes);
        }
        return;
    }
    const int factor = type == PG_Q2_K ? 80 : type == PG_Q3_K ? 108 : type == PG_Q6_K ? 208 : 0;
    const int least = type == PG_Q2_K                                                            ? 82
                      : type == PG_Q4_1 || type == PG_Q5_1 || type == PG_Q4_K || type == PG_Q5_K ? 2
                                                                                                 : -1;
    for (int64_t i = 0; i < n / info->block; i++, w += info->bytes) {
        for (int k = 0; k < info->bytes; k++) w[k] = (char)check_rand(&h->seed);
        const uint16_t d = pg_f32_to_f16(harness_uniform(h) * 0.05f), m = pg_f32_to_f16(harness_uniform(h) * 0.05f);
        if (type == PG_FP8)
            w[0] = (char)((w[0] & 0x80) | (w[0] & 0x7f) % 0x7f); /* no NaN */
        else if (type == PG_MXFP4)
            w[0] = (char)(118 + harness_below(h, 8));
        else
            memcpy(w + factor, &d, 2);
        if (least >= 0) memcpy(w + least, &m, 2);
    }
}

/* The planes of one stored matrix, in memory of plane bytes. */
static inline pg_planes harness_planes(const pg_tensor *t, std::vector<char> *out)
{
    const pg_plane_fields f = pg_plane_fields_of(t->dtype);
    const pg_dtype_info *info = pg_dtype_get(t->dtype);
    const int64_t k = t->shape[0], n = t->shape[1], blocks = k / info->block;
    pg_planes p = {};
    p.dtype = t->dtype;
    p.n_plane = f.n;
    p.k = k;
    p.n = n;
    for (int i = 0; i < f.n; i++) {
        p.field[i] = f.length[i];
        p.plane[i] = p.bytes;
        out->resize((size_t)(p.bytes + n * blocks * f.length[i]));
        for (int64_t r = 0; r < n; r++)
            for (int64_t b = 0; b < blocks; b++)
                memcpy(out->data() + p.bytes + (r * blocks + b) * f.length[i],
                       static_cast<const char *>(pg_tensor_row(t, r)) + b * info->bytes + f.from[i],
                       (size_t)f.length[i]);
        p.bytes = (p.bytes + n * blocks * f.length[i] + 255) / 256 * 256;
    }
    if (t->dtype == PG_FP8) {
        const int64_t rows = (n + 127) / 128, cols = (k + 127) / 128;
        p.n_plane = 2;
        p.field[1] = 4;
        p.plane[1] = p.bytes;
        out->resize((size_t)(p.bytes + rows * cols * 4));
        for (int64_t r = 0; r < rows; r++)
            memcpy(out->data() + p.bytes + r * cols * 4, t->scale + (t->row0 / 128 + r) * t->scale_stride,
                   (size_t)cols * 4);
        p.bytes = (p.bytes + rows * cols * 4 + 255) / 256 * 256;
    }
    out->resize((size_t)p.bytes);
    return p;
}

/* All matrices to the device: one after the other, or each somewhere (apart). */
static inline void harness_upload(harness_weight *w, bool apart)
{
    std::vector<const unsigned char *> base;
    unsigned char *all = NULL;
    for (size_t i = 0; i < w->plain.size(); i++) {
        std::vector<char> bytes;
        w->device.at = harness_planes(&w->plain[i], &bytes);
        unsigned char *to;
        if (apart || i == 0) {
            if (cudaMalloc(&to, bytes.size() * (apart ? 1 : w->plain.size()))) abort();
            w->owned.push_back(to);
            all = to;
        }
        to = apart ? all : all + i * bytes.size();
        if (cudaMemcpy(to, bytes.data(), bytes.size(), cudaMemcpyHostToDevice)) abort();
        base.push_back(to);
    }
    const unsigned char **d;
    if (cudaMalloc(&d, base.size() * sizeof *d)) abort();
    if (cudaMemcpy(d, base.data(), base.size() * sizeof *d, cudaMemcpyHostToDevice)) abort();
    w->owned.push_back(d);
    w->device.count = (int32_t)base.size();
    w->device.base = d;
    w->device.first = base[0];
    w->device.all_near = !apart;
}

/* `count` random {k, n} matrices. stack: as one tensor {k, n, count} (heads), else as `count` tensors (experts). A matrix
 * that an op multiplies by across its rows is not packed. Returns the tensors that ops point to. */
static inline const pg_tensor *harness_matrix(harness *h, pg_dtype type, int64_t k, int64_t n, int count = 1,
                                              bool stack = true, bool across = false, bool apart = false)
{
    harness_weight *w = new harness_weight();
    const int64_t size = (int64_t)pg_dtype_bytes(type, k) * n;
    const bool packed = pg_dtype_is_quant(type) && !h->exact && !across;
    const int64_t scale_rows = (n + 127) / 128, scale_cols = (k + 127) / 128;
    w->bytes.resize((size_t)(size * count));
    harness_blocks(h, w->bytes.data(), type, k * n * count);
    if (type == PG_FP8)
        for (int64_t i = 0; i < scale_rows * scale_cols * count; i++)
            w->scale.push_back(0.01f + fabsf(harness_uniform(h)) * 0.01f);
    for (int i = 0; i < count; i++) {
        pg_tensor t = pg_tensor_dense(type, w->bytes.data() + i * size, k, n, 1);
        if (type == PG_FP8) {
            t.scale = w->scale.data() + i * scale_rows * scale_cols;
            t.scale_stride = scale_cols;
        }
        w->plain.push_back(t);
    }
    w->cpu = w->plain;
    if (packed) {
        const int64_t panels = pg_panel_bytes(&w->plain[0], n), panel = pg_panel_bytes(&w->plain[0], PG_PANEL);
        w->packed.resize((size_t)(panels * count));
        for (int i = 0; i < count; i++) {
            for (int64_t p = 0; p * PG_PANEL < n; p++)
                pg_panel_pack(w->packed.data() + i * panels + p * panel, &w->plain[i], p);
            w->cpu[i].data = w->packed.data() + i * panels;
            w->cpu[i].packed = 1;
            w->cpu[i].stride[2] = panels;
        }
    }
    if (stack) w->cpu[0].shape[2] = count; /* FP8 factors of a stack go on counting rows: n must be a multiple of 128 */
    harness_upload(w, apart);
    h->weight.push_back(w);
    return w->cpu.data();
}

#endif
