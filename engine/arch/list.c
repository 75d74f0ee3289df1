/* list.c: every family that perigee knows, and how a file names its own. */
#include "arch.h"

extern const pg_arch pg_arch_deepseek, pg_arch_deepseek2, pg_arch_qwen2moe, pg_arch_qwen3moe, pg_arch_olmoe,
    pg_arch_granitemoe, pg_arch_glm4moe, pg_arch_gptoss, pg_arch_llama, pg_arch_qwen2, pg_arch_qwen3, pg_arch_gemma3;

const pg_arch *const pg_arch_list[] = {
    &pg_arch_deepseek,
    &pg_arch_deepseek2,
    &pg_arch_qwen2moe,
    &pg_arch_qwen3moe,
    &pg_arch_olmoe,
    &pg_arch_granitemoe,
    &pg_arch_glm4moe,
    &pg_arch_gptoss,
    &pg_arch_llama,
    &pg_arch_qwen2,
    &pg_arch_qwen3,
    &pg_arch_gemma3,
    NULL,
};

static int same(pg_text t, const char *name)
{
    return t.n == strlen(name) && !memcmp(t.data, name, t.n);
}

static int is_family(const pg_arch *a, int dialect, pg_text name)
{
    if (dialect == PG_DIALECT_GGUF) return same(name, a->name);
    for (int i = 0; i < 4 && a->model_type[i]; i++)
        if (same(name, a->model_type[i])) return 1;
    return 0;
}

int pg_arch_find(const pg_source *s, const pg_arch **out, pg_error *err)
{
    const int dialect = pg_source_dialect(s);
    const char *key = dialect == PG_DIALECT_GGUF ? "general.architecture" : "model_type";
    pg_text name;
    const int rc = pg_source_text(s, key, &name, err);
    if (rc < 0) return rc;
    if (!rc)
        return pg_fail(err, PG_EFORMAT, "%s: the key %s is missing, so the model's family is unknown",
                       pg_source_path(s), key);
    for (int i = 0; pg_arch_list[i]; i++)
        if (is_family(pg_arch_list[i], dialect, name)) {
            *out = pg_arch_list[i];
            return PG_OK;
        }
    char known[256] = "";
    for (int i = 0; pg_arch_list[i]; i++) {
        strcat(known, i ? ", " : "");
        strcat(known, dialect == PG_DIALECT_GGUF ? pg_arch_list[i]->name : pg_arch_list[i]->model_type[0]);
    }
    return pg_fail(err, PG_EUNSUPPORTED, "%s: %s is \"%.*s\", a family that perigee does not run; it runs %s",
                   pg_source_path(s), key, name.n > 60 ? 60 : (int)name.n, name.data, known);
}
