/* What a default encode adds, and which ids have a name: tokenizer.json's post_processor and the files beside it.
 *
 * Lives here: tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json, chat_template.jinja.
 * Not here: where those files are (open.c), sampling defaults (the engine's affair).
 * Why so: the facts are spread over files that are all optional. The nearest to the tokenizer speaks first; where none
 * says anything a token is known by its usual text. */
#include "tokenizer.h"

#include <stdio.h>

/* Begin and end tokens by their usual text, for a tokenizer.json that stands alone. */
static const char *const begin_texts[] = {
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<|begin_of_text|>", "<s>", "<bos>", "<|bos|>", "<|startoftext|>", NULL
};
static const char *const end_texts[] = { "<\uff5cend\u2581of\u2581sentence\uff5c>",
                                         "<|end_of_text|>",
                                         "</s>",
                                         "<eos>",
                                         "<|eos|>",
                                         "<|return|>",
                                         "<|endoftext|>",
                                         "<|im_end|>",
                                         NULL };

/* ---- post_processor ---------------------------------------------------------------------------------------------------- */

/* One special token of a template, with its ids, to the list. */
static int add_special(const json_t *template, const json_t *token, const char *what, pg_tokenizer *t, pg_ids *out,
                       pg_error *err)
{
    const char *name = json_string_value(json_object_get(token, "id"));
    const json_t *special = name ? json_object_get(json_object_get(template, "special_tokens"), name) : NULL;
    const json_t *ids = json_object_get(special, "ids");
    size_t i;
    json_t *id;
    if (!json_is_array(ids))
        return pg_fail(err, PG_EFORMAT, "%s: post_processor: no ids for the special token '%.60s'", what,
                       name ? name : "");
    json_array_foreach(ids, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= t->vocab.n)
            return pg_fail(err, PG_EFORMAT, "%s: post_processor: an id of '%.60s' is out of range, expected 0 to %d",
                           what, name, t->vocab.n - 1);
        if (!pg_ids_add(out, (int32_t)json_integer_value(id)))
            return pg_fail(err, PG_EMEMORY, "%s: not enough memory for a tokenizer", what);
    }
    return PG_OK;
}

static int read_template(const json_t *template, const char *what, pg_tokenizer *t, pg_error *err)
{
    json_t *single, *part;
    size_t i;
    bool met = false;
    int rc = pg_json_get(template, "single", JSON_ARRAY, what, &single, err);
    if (rc == 0) rc = pg_fail(err, PG_EFORMAT, "%s: post_processor: 'single' is missing", what);
    if (rc < 0) return rc;
    json_array_foreach(single, i, part)
    {
        const json_t *special = json_object_get(part, "SpecialToken");
        if (special)
            rc = add_special(template, special, what, t, met ? &t->after : &t->before, err);
        else if (!met && json_object_get(part, "Sequence"))
            met = true;
        else
            rc = pg_fail(err, PG_EUNSUPPORTED, "%s: post_processor: 'single' is not a text between special tokens",
                         what);
        if (rc < 0) return rc;
    }
    t->info.add_bos = t->before.n > 0;
    t->info.add_eos = t->after.n > 0;
    return PG_OK;
}

static int read_processor(const json_t *node, const char *what, pg_tokenizer *t, pg_error *err)
{
    if (!node || json_is_null(node)) return PG_OK;
    const char *type = json_string_value(json_object_get(node, "type"));
    if (type && strcmp(type, "TemplateProcessing") == 0 && t->before.n + t->after.n == 0)
        return read_template(node, what, t, err);
    if (type && strcmp(type, "ByteLevel") == 0) return PG_OK; /* concerns offsets only */
    if (!type || strcmp(type, "Sequence") != 0)
        return pg_fail(err, PG_EUNSUPPORTED, "%s: post_processor: '%.60s' is not supported", what, type ? type : "");
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(node, "processors"), i, member)
    {
        const char *inner = json_string_value(json_object_get(member, "type"));
        if (inner && strcmp(inner, "Sequence") == 0)
            return pg_fail(err, PG_EUNSUPPORTED, "%s: post_processor: 'Sequence' in a Sequence is not supported", what);
        int rc = read_processor(member, what, t, err);
        if (rc < 0) return rc;
    }
    return PG_OK;
}

/* ---- files ------------------------------------------------------------------------------------------------------------- */

/* A companion as JSON, *out NULL when it is absent. */
static int get_json(const pg_companions *files, const char *name, json_t **out, pg_error *err)
{
    pg_text text;
    *out = NULL;
    int rc = files->get(files->ud, name, &text, err);
    if (rc <= 0) return rc;
    *out = pg_json_parse(text.data, text.n, name, err);
    if (!*out) return err->code;
    if (json_is_object(*out)) return PG_OK;
    return pg_fail(err, PG_EFORMAT, "%s: expected an object", name);
}

/* The token that a member names, as text or as an object with "content"; 1 when the member is there, if only as null. */
static int name_token(const json_t *config, const char *key, const pg_tokenizer *t, int32_t *id)
{
    const json_t *value = json_object_get(config, key);
    if (!value) return 0;
    if (json_is_object(value)) value = json_object_get(value, "content");
    *id = json_is_string(value) ? pg_vocab_find(&t->vocab, json_string_value(value), json_string_length(value)) : -1;
    if (*id >= t->vocab.n) *id = -1;
    return 1;
}

static int32_t known_token(const char *const *texts, const pg_tokenizer *t)
{
    for (; *texts; texts++) {
        int32_t id = pg_vocab_find(&t->vocab, *texts, strlen(*texts));
        if (id >= 0 && id < t->vocab.n && t->vocab.type[id] == PG_TYPE_CONTROL) return id;
    }
    return -1;
}

/* A member that is an id or a list of ids: the first into *id where that is still open, all to the list. */
static int read_ids(const json_t *config, const char *file, const char *key, const pg_tokenizer *t, int32_t *id,
                    pg_ids *list, pg_error *err)
{
    const json_t *value = json_object_get(config, key);
    size_t n = json_is_array(value) ? json_array_size(value) : value && !json_is_null(value) ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
        if (json_is_integer(one) && json_integer_value(one) == -1) continue; /* written for "none" */
        if (!json_is_integer(one) || json_integer_value(one) < 0 || json_integer_value(one) >= t->vocab.n)
            return pg_fail(err, PG_EFORMAT, "%s: %s: expected an id from 0 to %d", file, key, t->vocab.n - 1);
        if (*id == -1) *id = (int32_t)json_integer_value(one);
        if (list && !pg_ids_add(list, (int32_t)json_integer_value(one)))
            return pg_fail(err, PG_EMEMORY, "%s: not enough memory for a tokenizer", file);
    }
    return PG_OK;
}

/* generation_config.json, config.json: ids where the tokenizer's own files were silent. */
static int read_id_file(const pg_companions *files, const char *file, pg_tokenizer *t, bool named[2], pg_error *err)
{
    json_t *config;
    int32_t unused = 0;
    int rc = get_json(files, file, &config, err);
    if (rc >= 0 && config) rc = read_ids(config, file, "bos_token_id", t, named[0] ? &unused : &t->info.bos, NULL, err);
    if (rc >= 0 && config)
        rc = read_ids(config, file, "eos_token_id", t, named[1] ? &unused : &t->info.eos, &t->ends, err);
    if (rc >= 0 && config) rc = read_ids(config, file, "pad_token_id", t, &t->info.pad, NULL, err);
    json_decref(config);
    return rc;
}

/* The template called "default", or the only one; those with other names are kept by name. */
static int read_chat(const pg_companions *files, const json_t *config, pg_tokenizer *t, pg_error *err)
{
    pg_text text;
    int own = files->get(files->ud, "chat_template.jinja", &text, err);
    int rc = own > 0 ? pg_tokenizer_set_template(t, text.data, text.n, err) : own;
    const json_t *chat = json_object_get(config, "chat_template");
    size_t i;
    json_t *one;
    if (json_is_string(chat) && own == 0)
        rc = pg_tokenizer_set_template(t, json_string_value(chat), json_string_length(chat), err);
    json_array_foreach(chat, i, one)
    {
        const json_t *name = json_object_get(one, "name"), *body = json_object_get(one, "template");
        if (rc < 0 || !json_is_string(name) || !json_is_string(body)) continue;
        pg_text source = { json_string_value(body), json_string_length(body) };
        if (strcmp(json_string_value(name), "default") != 0)
            rc = pg_tokenizer_add_template(t, (pg_text){ json_string_value(name), json_string_length(name) }, source,
                                           err);
        else if (own == 0)
            rc = pg_tokenizer_set_template(t, source.data, source.n, err);
    }
    return rc < 0 ? rc : PG_OK;
}

/* What tokenizer_config.json and special_tokens_map.json say; either may be NULL. */
static void read_names(const json_t *config, const json_t *map, pg_tokenizer *t, bool named[2])
{
    pg_tokenizer_info *info = &t->info;
    named[0] = name_token(config, "bos_token", t, &info->bos) || name_token(map, "bos_token", t, &info->bos);
    named[1] = name_token(config, "eos_token", t, &info->eos) || name_token(map, "eos_token", t, &info->eos);
    (void)(name_token(config, "pad_token", t, &info->pad) || name_token(map, "pad_token", t, &info->pad));
    if (info->unk < 0)
        (void)(name_token(config, "unk_token", t, &info->unk) || name_token(map, "unk_token", t, &info->unk));
    const json_t *add = json_object_get(config, "add_bos_token");
    if (json_is_boolean(add)) info->add_bos = json_is_true(add);
    add = json_object_get(config, "add_eos_token");
    if (json_is_boolean(add)) info->add_eos = json_is_true(add);
}

/* What nothing has told. DeepSeek's files leave it to a configuration that is not always there to ask for the begin
 * token that all its models were trained with. */
static void guess(pg_tokenizer *t, bool alone)
{
    pg_tokenizer_info *info = &t->info;
    if (info->bos < 0 && t->before.n) info->bos = t->before.data[0];
    if (!alone) return;
    if (info->bos < 0) info->bos = known_token(begin_texts, t);
    if (info->eos < 0) info->eos = known_token(end_texts, t);
    const char *deepseek[] = { begin_texts[0], NULL };
    if (t->before.n == 0 && info->bos >= 0 && info->bos == known_token(deepseek, t)) info->add_bos = true;
}

int pg_tokenizer_configure(const json_t *root, const pg_companions *files, const char *what, pg_tokenizer *t,
                           pg_error *err)
{
    json_t *config = NULL, *map = NULL;
    bool named[2] = { false, false };
    int rc = read_processor(json_object_get(root, "post_processor"), what, t, err);
    if (rc >= 0) rc = get_json(files, "tokenizer_config.json", &config, err);
    if (rc >= 0) rc = get_json(files, "special_tokens_map.json", &map, err);
    if (rc >= 0) read_names(config, map, t, named);
    if (rc >= 0) rc = read_id_file(files, "generation_config.json", t, named, err);
    if (rc >= 0) rc = read_id_file(files, "config.json", t, named, err);
    if (rc >= 0) guess(t, !config);
    if (rc >= 0 && t->info.eos >= 0 && !pg_ids_add(&t->ends, t->info.eos))
        rc = pg_fail(err, PG_EMEMORY, "%s: not enough memory for a tokenizer", what);
    if (rc >= 0) rc = read_chat(files, config, t, err);
    json_decref(config);
    json_decref(map);
    return rc;
}
