/* Golden models: logits and greedy continuations of independent implementations, for every case and every file of it. */
#include "golden.h"

static double worst_f32;
static int n_case, n_file;

static int is_later_shard(const char *name)
{
    const char *of = strstr(name, "-of-");
    return of && strncmp(of - 5, "00001", 5) != 0;
}

/* Rounded paths: mean KL over all positions of both prompts, in the two arithmetic classes. */
static void check_rounded(const char *path, const json_t *list, const char *folder, double limit)
{
    pg_error err = { 0 };
    pg_engine *e = golden_open(path, "auto", 2, &err);
    double kl[2] = { 0 };
    int rows = 0;
    CHECK(e, "%s: %s", path, err.text);
    if (!e) return;
    for (size_t i = 0; i < json_array_size(list); i++) {
        golden_case c;
        golden_read(folder, json_array_get(list, i), &c);
        for (int decode = 0; decode < 2; decode++) {
            const float *got;
            int32_t V;
            if (pg_logits(e, c.ids, c.n, 0, decode ? 1 : c.n, &got, &V, &err) < 0) {
                CHECK(0, "%s: %s", path, err.text);
                continue;
            }
            for (int t = 0; t < c.n; t++)
                kl[decode] += golden_kl(c.logits + (size_t)t * (size_t)V, got + (size_t)t * (size_t)V, V);
        }
        rows += c.n;
        free(c.logits);
    }
    for (int decode = 0; decode < 2; decode++)
        CHECK(kl[decode] / rows <= limit, "%s: %s class: KL %.3g above %.3g", path, decode ? "decode" : "prefill",
              kl[decode] / rows, limit);
    if (getenv("GOLDEN_VERBOSE"))
        printf("%s: KL prefill %.3g, decode %.3g, limit %.3g\n", path, kl[0] / rows, kl[1] / rows, limit);
    pg_close(e);
}

static void check_file(const char *path, const char *folder, const char *cases)
{
    pg_error err = { 0 };
    pg_engine *e = golden_open(path, "f32", 2, &err);
    json_t *list = golden_list(folder, cases);
    pg_info info = { 0 };
    CHECK(e, "%s: %s", path, err.text);
    CHECK(!e || (pg_engine_info(e, &info, &err) == PG_OK && !*info.note), "%s: %s", path,
          info.note); /* every tensor serves */
    n_file++;
    for (size_t i = 0; e && i < json_array_size(list); i++, n_case++) {
        golden_case c;
        golden_read(folder, json_array_get(list, i), &c);
        golden_check_exact(e, path, &c, c.n_greedy, &worst_f32);
        free(c.logits);
    }
    pg_close(e);
    json_decref(list);
}

/* ---- a folder with one model in several layouts ---- */

static void check_refused(const char *path, const char *word)
{
    pg_error err = { 0 };
    pg_engine *e = golden_open(path, "f32", 1, &err);
    CHECK(!e && err.code == PG_EUNSUPPORTED && strstr(err.text, word), "%s: expected a refusal that names %s, got: %s",
          path, word, err.text);
    pg_close(e);
}

static void check_model(const char *folder)
{
    char path[1200];
    DIR *d = opendir(folder);
    if (!d) return;
    for (struct dirent *f; (f = readdir(d));) {
        const size_t n = strlen(f->d_name);
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        if (n > 5 && !strcmp(f->d_name + n - 5, ".gguf") && !is_later_shard(f->d_name))
            check_file(path, folder, "cases.json");
        if (!strcmp(f->d_name, "hf")) check_file(path, folder, "cases.json");
    }
    closedir(d);
}

/* ---- one model in every storage type ---- */

static double kl_limit(const char *type)
{
    static const char *const wide[] = { "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ2_XXS", "MIX" };
    if (!strcmp(type, "F16")) return 1.5e-6;
    if (!strcmp(type, "BF16")) return 1.0e-4;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (!strcmp(type, wide[i])) return 3.0e-3;
    return 1.3e-3;
}

static void check_types(const char *folder)
{
    char path[1200], type[64], cases[128];
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (sscanf(f->d_name, "model-%63[^.].gguf", type) != 1) continue;
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        snprintf(cases, sizeof cases, "cases-%s.json", type);
        if ((!strncmp(type, "IQ2", 3) && strcmp(type, "IQ2_XXS")) || !strncmp(type, "IQ3", 3)) {
            check_refused(path, "type");
            continue;
        }
        check_file(path, folder, cases);
        json_t *list = golden_list(folder, cases);
        check_rounded(path, list, folder, kl_limit(type));
        json_decref(list);
    }
    if (d) closedir(d);
}

static void check_all(const char *models)
{
    char folder[600];
    DIR *d = opendir(models);
    for (struct dirent *f; d && (f = readdir(d));) {
        if (f->d_name[0] == '.') continue;
        snprintf(folder, sizeof folder, "%s/%s", models, f->d_name);
        if (!strcmp(f->d_name, "deepseek_v32") || !strcmp(f->d_name, "deepseek_v4")) {
            snprintf(folder, sizeof folder, "%s/%s/model.gguf", models, f->d_name);
            check_refused(folder, "general.architecture");
        } else if (!strncmp(f->d_name, "quant_", 6)) {
            check_types(folder);
        } else {
            check_model(folder);
        }
    }
    if (d) closedir(d);
}

int main(void)
{
    golden_check_folders(check_all);
    printf("golden: %d files, %d cases, worst f32 difference %.2g\n", n_file, n_case, worst_f32);
    return check_done("golden");
}
