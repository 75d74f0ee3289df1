/* The chat templates that come with a tokenizer: one without a name, and further ones by name.
 *
 * Lives here: keeping and handing out their texts. Not here: where they are read (from_gguf.c, json_config.c), and what
 * they mean: templates are rendered in Lua, the engine never looks inside.
 * Source: the keys tokenizer.chat_template and tokenizer.chat_template.NAME of GGUF; "chat_template" of
 * tokenizer_config.json, a text or a list of { name, template }. */
#include "tokenizer.h"

#include "../status.h"

#include <stdlib.h>
#include <string.h>

static char *copy_of(const char *s, size_t n)
{
    char *copy = malloc(n + 1);
    if (!copy) return NULL;
    if (n) memcpy(copy, s, n);
    copy[n] = 0;
    return copy;
}

int pg_tokenizer_set_template(pg_tokenizer *t, const char *s, size_t n, pg_error *err)
{
    free(t->chat_template);
    t->chat_template = copy_of(s, n);
    return t->chat_template ? PG_OK : pg_fail(err, PG_EMEMORY, "not enough memory for the chat template");
}

int pg_tokenizer_add_template(pg_tokenizer *t, pg_text name, pg_text text, pg_error *err)
{
    if (t->n_named == PG_CHAT_MAX) return PG_OK;
    pg_chat one = { .name = copy_of(name.data, name.n), .text = copy_of(text.data, text.n) };
    if (!one.name || !one.text) {
        free(one.name);
        free(one.text);
        return pg_fail(err, PG_EMEMORY, "not enough memory for the chat templates");
    }
    t->named[t->n_named++] = one;
    return PG_OK;
}

void pg_tokenizer_free_templates(pg_tokenizer *t)
{
    free(t->chat_template);
    for (int i = 0; i < t->n_named; i++) {
        free(t->named[i].name);
        free(t->named[i].text);
    }
}

const char *pg_chat_template(pg_tokenizer *t)
{
    return t ? t->chat_template : NULL;
}

const char *pg_chat_template_named(pg_tokenizer *t, const char *name)
{
    for (int i = 0; t && name && i < t->n_named; i++)
        if (strcmp(t->named[i].name, name) == 0) return t->named[i].text;
    return NULL;
}

const char *pg_chat_template_name(pg_tokenizer *t, int32_t i)
{
    return t && i >= 0 && i < t->n_named ? t->named[i].name : NULL;
}
