/* Masks against the matcher: along random texts of several grammars, for vocabularies of several kinds, every token that a
 * mask lets through must be alive by its bytes, and every other one dead; end tokens exactly where a text is complete. */
#include "../../engine/grammar/mask.h"
#include "check.h"

static const char *const grammars[] = {
    "root ::= object\nvalue ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
    "object ::= \"{\" ws ( string \":\" ws value (\",\" ws string \":\" ws value)* )? \"}\" ws\n"
    "array ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n"
    "string ::= \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}) )* \"\\\"\" ws\n"
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n",
    "root ::= line{1,3}\nline ::= [a-z ]{3,12} (\"!\" | \".\")? \"\\n\"",
    "root ::= word (\" \" word)* \".\"\nword ::= [^ .\\n]{1,9}",
    "root ::= [^x]* \"x\" .{4,30} [\\u4e00-\\u9fff]+ | \"\\u00e9t\\u00e9\" root?",
    "root ::= \"(\" root \")\" root | \"\"",
    "root ::= c{2,5} \"-\" c{0,40}\nc ::= [^\"\\\\\\x00-\\x1f] | \"\\\\\" [\"\\\\n]",
    "root ::= a | b\na ::= [a-m]+ b?\nb ::= [h-z]{2,} a?",
};
static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":2,\"maxLength\":9},\"n\":{"
    "\"type\":"
    "\"integer\",\"minimum\":-20,\"maximum\":4096},\"tags\":{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"bc\","
    "\"\\u00e9\"]}"
    "}},\"required\":[\"name\"]}",
    "{\"$ref\":\"#/$defs/"
    "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"string\",\"pattern\":"
    "\"^[^0-9]{1,20}$\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/"
    "n\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"],"
    "\"additionalProperties\":false}}}",
};

typedef struct bench {
    pg_tokenizer *t;
    pg_lexicon *l;
    const char *name;
} bench;

static bool bit(const uint64_t *mask, int32_t id)
{
    return mask[id / 64] >> id % 64 & 1;
}

/* Compare one mask with the matcher at `config`; a random token that it lets through, -1: only an end. */
static int32_t check_mask(const bench *b, pg_matcher *m, int32_t *config, const uint64_t *mask, const char *what,
                          unsigned long long *seed)
{
    int32_t chosen = -1, n = 0, wrong = 0, first = -1;
    for (int32_t id = 0; id < b->l->n_vocab; id++) {
        const char *s = "";
        size_t size = 0; /* a model may have more tokens than its tokenizer */
        const pg_token_kind kind = id < pg_token_count(b->t) ? pg_token_spell(b->t, id, &s, &size) : PG_TOKEN_SILENT;
        bool alive = kind == PG_TOKEN_END && pg_matcher_is_end(m, *config);
        if (kind == PG_TOKEN_TEXT && size) {
            int32_t next = pg_matcher_bytes(m, *config, s, size);
            if (next == PG_MATCH_FULL) {
                *config = pg_matcher_compact(m, *config);
                next = pg_matcher_bytes(m, *config, s, size);
            }
            alive = next != PG_MATCH_DEAD;
            if (bit(mask, id) && check_rand(seed) % (unsigned)++n == 0) chosen = id;
        }
        if (alive == bit(mask, id)) continue;
        if (!wrong++) first = id;
    }
    CHECK(!wrong, "%s, %s: %d tokens are wrong, the first %d", b->name, what, wrong, first);
    return chosen;
}

/* One random text of at most `most` tokens. */
static void walk(const bench *b, pg_grammar *g, pg_masker *masker, const char *what, int most, unsigned long long *seed)
{
    pg_error err = { 0 };
    pg_matcher *m = pg_matcher_open(g, 0, &err);
    pg_grammar_state state = { 0 };
    int32_t token[64], n = 0, config = m ? m->start : 0;
    for (; m && n < most; n++) {
        const uint64_t *mask = NULL;
        const int rc = pg_masker_follow(masker, &state, token, n);
        CHECK(rc == PG_OK && pg_masker_mask(masker, &state, &mask) == PG_OK, "%s, %s: token %d: %d", b->name, what, n,
              rc);
        if (!mask) break;
        const int32_t id = check_mask(b, m, &config, mask, what, seed);
        CHECK(id >= 0 || pg_masker_is_over(masker, &state), "%s, %s: no way on after %d tokens", b->name, what, n);
        if (id < 0) break;
        const char *s;
        size_t size;
        pg_token_spell(b->t, id, &s, &size);
        config = pg_matcher_bytes(m, config, s, size);
        token[n] = id;
    }
    pg_matcher_close(m);
}

static void check_grammar(const bench *b, pg_grammar *g, const char *what, unsigned long long *seed)
{
    pg_error err = { 0 };
    pg_masker *m = pg_masker_open(g, b->l, &err);
    CHECK(m, "%s, %s: %s", b->name, what, err.text);
    for (int i = 0; m && i < 3; i++) walk(b, g, m, what, 12, seed);
    pg_masker_close(m);
}

static void check_tokenizer(const char *path, const char *name)
{
    pg_error err = { 0 };
    bench b = { .name = name };
    unsigned long long seed = 20;
    if (pg_tokenizer_open(path, &b.t, &err) < 0) {
        printf("grammar_mask: %s did not run: %s\n", name, err.text);
        return;
    }
    b.l = pg_lexicon_open(b.t, pg_token_count(b.t) + 7, &err);
    for (size_t i = 0; b.l && i < sizeof grammars / sizeof *grammars + sizeof schemas / sizeof *schemas; i++) {
        const bool gbnf = i < sizeof grammars / sizeof *grammars;
        const char *text = gbnf ? grammars[i] : schemas[i - sizeof grammars / sizeof *grammars];
        pg_grammar *g = NULL;
        const int rc = gbnf ? pg_grammar_open_gbnf(text, strlen(text), &g, &err)
                            : pg_grammar_open_schema(text, strlen(text), &g, &err);
        CHECK(rc == PG_OK, "%s", err.text);
        if (g) check_grammar(&b, g, text, &seed);
        pg_grammar_drop(g);
    }
    pg_lexicon_close(b.l);
    pg_tokenizer_close(b.t);
}

int main(void)
{
    const char *golden = getenv("PERIGEE_GOLDEN");
    static const char *const names[] = { "llama-spm", "qwen2", "tekken-small", "gpt-2" };
    check_tokenizer("examples/models/perigee-voices.q8_0.gguf", "the bundled model");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/tokenizers/%s/vocab.gguf", golden ? golden : "../shared/golden", names[i]);
        check_tokenizer(path, names[i]);
    }
    return check_done("grammar_mask");
}
