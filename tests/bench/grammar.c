/* What a token mask costs in processor time, at the largest vocabularies of the shared tokenizers: texts that fit a grammar are encoded, and
 * the mask of every place between their tokens is made, first by a masker that has seen nothing ("first text"), then
 * once more. PERIGEE_GOLDEN names the folder with the tokenizers. */
#include "../../engine/grammar/mask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 4096 };

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Time the mask of each place; how many places. */
static int time_text(pg_masker *m, const int32_t *id, int n, double *us)
{
    pg_grammar_state state = { 0 };
    for (int i = 0; i <= n; i++) {
        const uint64_t *mask;
        const double begin = now_us();
        const int rc = pg_masker_follow(m, &state, id, i);
        if (rc < 0 || pg_masker_mask(m, &state, &mask) < 0) return -i - 1;
        us[i] = now_us() - begin;
    }
    return n + 1;
}

static void report(const char *what, double *us, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += us[i];
    qsort(us, (size_t)n, sizeof *us, compare);
    printf("  %-12s %5d masks  mean %7.1f us  median %6.1f us  max %7.1f us\n", what, n, sum / n, us[n / 2], us[n - 1]);
}

static void run(const char *name, pg_grammar *g, const char *text, pg_tokenizer *t, const pg_lexicon *l)
{
    static int32_t id[MOST];
    static double us[MOST];
    pg_error err = { 0 };
    const int n = pg_encode(t, text, strlen(text), PG_ENCODE_NO_BOS, id, MOST, &err);
    double begin = now_us();
    pg_masker *m = pg_masker_open(g, l, &err);
    if (!m || n < 0 || n > MOST) {
        printf("%s: %s\n", name, err.text);
        return;
    }
    printf(" %s (made ready in %.1f ms)\n", name, (now_us() - begin) * 1e-3);
    for (int pass = 0; pass < 2; pass++) {
        const int places = time_text(m, id, n, us);
        if (places < 0)
            printf("  the text does not fit at token %d\n", -places - 1);
        else
            report(pass ? "again" : "first text", us, places);
    }
    int64_t made, asked;
    pg_masker_count(m, &made, &asked);
    printf("  %lld of %lld masks were made, the others found\n", (long long)made, (long long)asked);
    pg_masker_close(m);
}

static const char json_grammar[] =
    "root ::= object\nvalue ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
    "object ::= \"{\" ws ( string \":\" ws value (\",\" ws string \":\" ws value)* )? \"}\" ws\n"
    "array ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws\n"
    "string ::= \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}) )* \"\\\"\" ws\n"
    "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws\n"
    "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n";
static const char json_text[] =
    "{\n  \"name\": \"The Little Fox\", \"tags\": [\"forest\", \"winter \\u00e9t\\u00e9\", "
    "\"\xe7\x8b\x90\xe7\x8b\xb8\"],\n"
    "  \"pages\": 124, \"price\": -12.5e3, \"author\": {\"first\": \"Ada\", \"born\": [1815, 12, 10],"
    " \"notes\": [{\"text\": \"She wrote: \\\"hello\\\"\", \"deep\": [[[1, 2], [3]], []]}]}, \"done\": true, \"next\": "
    "null}";
static const char order_schema[] =
    "{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"string\",\"format\":\"uuid\"},\"date\":{\"type\":"
    "\"string\","
    "\"format\":\"date\"},\"customer\":{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\","
    "\"minLength\":1,"
    "\"maxLength\":40},\"email\":{\"type\":\"string\",\"format\":\"email\"}},\"required\":[\"name\"],"
    "\"additionalProperties\":false},\"lines\":{\"type\":\"array\",\"minItems\":1,\"maxItems\":5,\"items\":{\"type\":"
    "\"object\",\"properties\":{\"sku\":{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}-[0-9]{4}$\"},\"count\":{\"type\":"
    "\"integer\",\"minimum\":1,\"maximum\":99},\"price\":{\"type\":\"number\",\"minimum\":0},\"note\":{\"type\":"
    "\"string\"}},"
    "\"required\":[\"sku\",\"count\"],\"additionalProperties\":false}},\"status\":{\"enum\":[\"open\",\"paid\","
    "\"sent\"]}},"
    "\"required\":[\"id\",\"date\",\"lines\",\"status\"],\"additionalProperties\":false}";
static const char order_text[] = "{\"id\": \"123e4567-e89b-12d3-a456-426614174000\", \"date\": \"2024-02-29\", "
                                 "\"customer\": {\"name\": \"Ada Lovelace of "
                                 "London\", \"email\": \"ada@example.org\"}, \"lines\": [{\"sku\": \"AB-1234\", "
                                 "\"count\": 12, \"price\": 9.99, \"note\": "
                                 "\"wrapped in green paper, please; the last one was blue\"}, {\"sku\": \"XY-0001\", "
                                 "\"count\": 1}], \"status\": \"open\"}";
static const char tool_schema[] =
    "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"name\":{\"const\":\"get_weather\"},\"arguments\":{\"type\":"
    "\"object\","
    "\"properties\":{\"location\":{\"type\":\"string\"},\"unit\":{\"enum\":[\"celsius\",\"fahrenheit\"]}},\"required\":"
    "[\"location\"],\"additionalProperties\":false}},\"required\":[\"name\",\"arguments\"],\"additionalProperties\":"
    "false},"
    "{\"type\":\"object\",\"properties\":{\"name\":{\"const\":\"search\"},\"arguments\":{\"type\":\"object\","
    "\"properties\":"
    "{\"query\":{\"type\":\"string\",\"maxLength\":200},\"options\":{\"type\":\"object\"}},\"required\":[\"query\"],"
    "\"additionalProperties\":false}},\"required\":[\"name\",\"arguments\"],\"additionalProperties\":false}]}";
static const char tool_text[] =
    "{\"name\": \"search\", \"arguments\": {\"query\": \"how long do foxes sleep in winter, and where do they go when "
    "it "
    "snows?\", \"options\": {\"limit\": 10, \"sites\": [\"example.org\", \"example.com\"], \"strict\": false}}}";

int main(void)
{
    static const char *const tokenizer[] = { "deepseek-v4", "qwen2" };
    const char *golden = getenv("PERIGEE_GOLDEN");
    int ran = 0;
    for (int i = 0; i < 2; i++) {
        char path[4096];
        pg_tokenizer *t;
        pg_error err = { 0 };
        snprintf(path, sizeof path, "%s/tokenizers/%s/vocab.gguf", golden ? golden : "../shared/golden", tokenizer[i]);
        if (pg_tokenizer_open(path, &t, &err) < 0) {
            printf("%s\n", err.text);
            continue;
        }
        const double begin = now_us();
        pg_lexicon *l = pg_lexicon_open(t, pg_token_count(t), &err);
        pg_grammar *json = NULL, *order = NULL, *tool = NULL;
        printf("%s: %d tokens, sorted in %.0f ms, %u nodes\n", tokenizer[i], l->n_vocab, (now_us() - begin) * 1e-3,
               l->all.n_node);
        if (pg_grammar_open_gbnf(json_grammar, strlen(json_grammar), &json, &err) < 0 ||
            pg_grammar_open_schema(order_schema, strlen(order_schema), &order, &err) < 0 ||
            pg_grammar_open_schema(tool_schema, strlen(tool_schema), &tool, &err) < 0)
            printf("%s\n", err.text);
        run("any JSON, GBNF", json, json_text, t, l);
        run("an order, JSON schema", order, order_text, t, l);
        run("one of two tools, JSON schema", tool, tool_text, t, l);
        pg_grammar_drop(json);
        pg_grammar_drop(order);
        pg_grammar_drop(tool);
        pg_lexicon_close(l);
        pg_tokenizer_close(t);
        ran++;
    }
    return ran == 0;
}
