/* Hostile grammars, schemas and texts: each ends in an answer, in bounded time and memory, whatever it says. Known traps
 * first, then thousands of damaged texts. */
#include "../../engine/grammar/mask.h"
#include "check.h"

static char big[1 << 20];

/* Repeat a piece n times between two others; the whole is in `big`. */
static const char *repeated(const char *before, const char *piece, int n, const char *after)
{
    char *at = big + sprintf(big, "%s", before);
    for (int i = 0; i < n && at + strlen(piece) + strlen(after) < big + sizeof big - 1; i++)
        at += sprintf(at, "%s", piece);
    sprintf(at, "%s", after);
    return big;
}

/* Open, check some texts, close: nothing but an answer is asked for. Returns the answer of opening. */
static int try_grammar(const char *text, size_t n, int schema)
{
    static const char *const sample[] = { "",
                                          "a",
                                          "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
                                          "{\"a\":[1,2,{\"b\":null}]}",
                                          "((((((((((((((((((((((((((((((",
                                          "\xe4\xb8\xad\xf0\x9f\x98" };
    pg_grammar *g = NULL;
    pg_error err = { 0 };
    const int rc = schema ? pg_grammar_open_schema(text, n, &g, &err) : pg_grammar_open_gbnf(text, n, &g, &err);
    if (rc < 0) {
        if (!err.text[0]) CHECK(0, "refused without a word: %.200s", text);
        return rc;
    }
    for (size_t i = 0; i < sizeof sample / sizeof *sample; i++) {
        const int answer = pg_grammar_check(g, sample[i], strlen(sample[i]), &err);
        if (answer < 0 && answer != PG_ELIMIT && answer != PG_EUNSUPPORTED) CHECK(0, "%d for %.200s", answer, text);
    }
    pg_grammar_drop(g);
    return rc;
}

static void expect(const char *what, const char *text, int schema, int code)
{
    const int rc = try_grammar(text, strlen(text), schema);
    CHECK(rc == code, "%s: %d, expected %d", what, rc, code);
}

static void traps(void)
{
    expect("nullable left recursion", "root ::= n root \"a\"\nn ::= \"x\"?", 0, PG_EINVAL);
    expect("left recursion through an empty repetition", "root ::= (\"x\"?){3} root | \"a\"", 0, PG_EINVAL);
    expect("left recursion of three rules", "root ::= a\na ::= \"\" b\nb ::= (\"q\"* root)+", 0, PG_EINVAL);
    expect("empty things repeated", "root ::= (((\"a\"?)*)+ (\"\"){5,2000})* \"b\"", 0, PG_OK);
    expect("counts in counts", "root ::= (((((\"a\"?){0,2000}){0,2000}){0,2000}){2000}){2000}", 0, PG_OK);
    expect("groups in groups", repeated("root ::= ", "(", 5000, ""), 0, PG_ELIMIT);
    expect("many rules", repeated("root ::= \"a\"\n", "b ::= \"b\"\n", 10, ""), 0, PG_EINVAL);
    expect("a long chain", repeated("root ::= ", "\"a\" | ", 30000, "\"b\""), 0, PG_OK);
    expect("too many steps", repeated("root ::= \"", "aaaaaaaaaa", 30000, "\""), 0, PG_ELIMIT);
    expect("two ways at each letter",
           "root ::= a* \nx ::= \"a\"\na ::= x root y | x y y | x\ny ::= \"a\" y z | \"a\"\nz ::= \"a\" | y", 0, PG_OK);
    expect("schemas in schemas", repeated("", "{\"items\":", 1500, "true"), 1, PG_EFORMAT);
    expect("nested too deep", repeated("{\"type\":\"array\",\"items\":[", "[", 1000, ""), 1, PG_EFORMAT);
    expect("joined without end",
           "{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"allOf\":[{\"$ref\":\"#/$defs/a\"},{\"type\":\"string\"}]}}}", 1,
           PG_ELIMIT);
    expect("joined recursion",
           "{\"$ref\":\"#/$defs/"
           "a\",\"$defs\":{\"a\":{\"type\":\"object\",\"properties\":{\"n\":{\"allOf\":[{\"$ref\":\"#/$defs/a\"},"
           "{\"$ref\":\"#/$defs/b\"}]}}},\"b\":{\"properties\":{\"n\":{\"allOf\":[{\"$ref\":\"#/$defs/"
           "b\"},{\"$ref\":\"#/$defs/a\"}]}}}}}",
           1, PG_OK);
    expect("a long string", "{\"type\":\"string\",\"maxLength\":1000000}", 1, PG_OK);
    expect("too long a string", "{\"type\":\"string\",\"maxLength\":100000000}", 1, PG_EUNSUPPORTED);
    expect("a deep pattern", "{\"pattern\":\"^(((((((((a{1,900}){1,900}){1,900})*)*)+)?)*)*)*$\"}", 1, PG_OK);
}

/* Alternatives times alternatives. */
static void products(void)
{
    char *at = big + sprintf(big, "{\"allOf\":[");
    for (int i = 0; i < 20; i++) {
        at += sprintf(at, "%s{\"anyOf\":[", i ? "," : "");
        for (int k = 0; k < 20; k++) at += sprintf(at, "%s{\"minLength\":%d}", k ? "," : "", 20 * i + k);
        at += sprintf(at, "]}");
    }
    sprintf(at, "]}");
    expect("a product of alternatives", big, 1, PG_ELIMIT);
}

/* Parts that such texts are made of, put together and damaged at random. */
static void damaged(int schema, int rounds, unsigned long long seed)
{
    static const char *const gbnf[] = { "root ::= ", "\n", "a ::= ",   "\"x\" ",    "[^a-z\\n] ", "( ",
                                        ") ",        "* ", "+ ",       "{2,9} ",    "| ",         "a ",
                                        "root ",     ". ", "\\u4e00",  "# c\n",     "<[7]> ",     "!<x> ",
                                        "{0} ",      "? ", "\xc3\xa9", "b ::= a?\n" };
    static const char *const json[] = { "{\"type\":",
                                        "\"object\"",
                                        ",",
                                        "\"properties\":{\"a\":",
                                        "}",
                                        "{",
                                        "]",
                                        "[",
                                        "\"anyOf\":[",
                                        "\"$ref\":\"#\"",
                                        "\"pattern\":\"^[a-z]{2,}$\"",
                                        "\"minimum\":-1.5e3",
                                        "\"maximum\":7",
                                        "\"enum\":[1,\"a\"]",
                                        "true",
                                        "\"required\":[\"a\"]",
                                        "\"items\":{}",
                                        "\"maxItems\":3",
                                        ":",
                                        "\"additionalProperties\":false",
                                        "\"type\":\"string\"",
                                        "\"allOf\":[{}]" };
    const char *const *piece = schema ? json : gbnf;
    const unsigned pieces = schema ? sizeof json / sizeof *json : sizeof gbnf / sizeof *gbnf;
    for (int i = 0; i < rounds; i++) {
        size_t n = (size_t)sprintf(big, "%s", schema ? "{" : "root ::= ");
        const int parts = 1 + (int)(check_rand(&seed) % 24);
        for (int k = 0; k < parts; k++) n += (size_t)sprintf(big + n, "%s", piece[check_rand(&seed) % pieces]);
        if (schema) n += (size_t)sprintf(big + n, "}");
        if (check_rand(&seed) % 3 == 0) big[check_rand(&seed) % n] = (char)check_rand(&seed);
        try_grammar(big, n, schema);
    }
    check_passed++;
}

/* Masks of grammars that fit in very many ways end, with a mask or with an answer. */
static void wild_masks(const char *folder)
{
    static const char *const text[] = {
        "root ::= a b | b a\na ::= \"a\" a b | \"a\" b a | \"a\"\nb ::= \"a\" b a | \"a\" a b | \"a\"",
        "root ::= ([a-z]{0,2000} [a-y]{0,2000}){0,2000}",
        "root ::= s s s s s s s s\ns ::= [^x] s [^y] | .* \"z\" | .? .? .? .? .?",
    };
    char path[4096];
    pg_error err = { 0 };
    pg_tokenizer *t = NULL;
    snprintf(path, sizeof path, "%s/tokenizers/llama-spm/vocab.gguf", folder);
    if (pg_tokenizer_open(path, &t, &err) < 0) {
        printf("grammar_fuzz: masks did not run: %s\n", err.text);
        return;
    }
    pg_lexicon *l = pg_lexicon_open(t, pg_token_count(t), &err);
    for (size_t i = 0; l && i < sizeof text / sizeof *text; i++) {
        int32_t id[64], n = 0;
        pg_grammar *g = NULL;
        CHECK(pg_grammar_open_gbnf(text[i], strlen(text[i]), &g, &err) == PG_OK, "%s", err.text);
        pg_masker *m = g ? pg_masker_open(g, l, &err) : NULL;
        pg_grammar_state state = { 0 };
        const int32_t a = pg_token_find(t, "aa", 2);
        for (int rc = PG_OK; m && rc >= 0 && n < 40; n++) {
            const uint64_t *mask;
            rc = pg_masker_follow(m, &state, id, n);
            if (rc >= 0) rc = pg_masker_mask(m, &state, &mask);
            CHECK(rc == PG_OK || rc == PG_ELIMIT, "%s: token %d: %d", text[i], n, rc);
            id[n] = a;
        }
        CHECK(m, "%s", err.text);
        pg_masker_close(m);
        pg_grammar_drop(g);
    }
    pg_lexicon_close(l);
    pg_tokenizer_close(t);
}

int main(void)
{
    const char *golden = getenv("PERIGEE_GOLDEN");
    traps();
    products();
    damaged(0, 3000, 5);
    damaged(1, 3000, 6);
    wild_masks(golden ? golden : "../shared/golden");
    return check_done("grammar_fuzz");
}
