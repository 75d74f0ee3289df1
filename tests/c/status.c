/* engine/status.c and engine/json.c: messages are one clean line whatever goes into them; JSON from files is bounded. */
#include "check.h"

#include "../../engine/json.h"
#include "../../engine/status.h"

static void test_codes(void)
{
    static const struct {
        int code;
        const char *name;
    } table[] = {
        { PG_OK, "ok" },          { 7, "ok" },          { PG_EINVAL, "invalid" }, { PG_ENOTFOUND, "not_found" },
        { PG_EFORMAT, "format" }, { PG_EFULL, "full" }, { PG_EMEMORY, "memory" }, { PG_EUNSUPPORTED, "unsupported" },
        { PG_ELIMIT, "limit" },   { PG_EIO, "io" },     { PG_EDEVICE, "device" }, { PG_ECANCELLED, "cancelled" },
        { -77, "unknown" },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        CHECK(strcmp(pg_code_name(table[i].code), table[i].name) == 0, "%d is %s", table[i].code,
              pg_code_name(table[i].code));
    int major, minor, patch, end = 0;
    CHECK(sscanf(pg_version(), "%d.%d.%d%n", &major, &minor, &patch, &end) == 3 && pg_version()[end] == 0 &&
              major == PG_VERSION_MAJOR && minor == PG_VERSION_MINOR && patch == PG_VERSION_PATCH,
          "%s", pg_version());
}

static void expect(const char *in, const char *out)
{
    pg_error err = { 0 };
    CHECK(pg_fail(&err, PG_EINVAL, "%s", in) == PG_EINVAL && err.code == PG_EINVAL && strcmp(err.text, out) == 0,
          "got %s", err.text);
}

static void test_fail(void)
{
    expect("plain", "plain");
    expect("", "");
    expect("a\nb\tc\x1b[31m\x7f", "a\\x0ab\\x09c\\x1b[31m\\x7f");
    expect("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80", "na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80");
    expect("\xff\xc3(\xe2\x82", "\\xff\\xc3(\\xe2\\x82");        /* stray and unfinished bytes */
    expect("\xc0\x80\xed\xa0\x80", "\\xc0\\x80\\xed\\xa0\\x80"); /* overlong, surrogate */
    expect("\xc2\x9b\xe2\x80\xa8", "\\xc2\\x9b\\xe2\\x80\\xa8"); /* C1 control, line separator */
    CHECK(pg_fail(NULL, PG_EIO, "nobody listens") == PG_EIO, "NULL");
    CHECK(pg_fail_at(NULL, PG_EIO, "nobody listens") == PG_EIO, "NULL");

    pg_error err = { 0 };
    pg_fail(&err, PG_EFORMAT, "inner %d", 7);
    CHECK(pg_fail_at(&err, PG_EFORMAT, "outer\n") == PG_EFORMAT && strcmp(err.text, "outer\\x0a: inner 7") == 0,
          "got %s", err.text);
    pg_fail(&err, PG_EIO, "%s and more", err.text);
    CHECK(strcmp(err.text, "outer\\x0a: inner 7 and more") == 0 && err.code == PG_EIO, "got %s", err.text);
}

static void test_cut(void)
{
    static const char *const unit[] = { "x", "\xe2\x82\xac", "\x01", "\xff" };
    static const size_t wide[] = { 1, 3, 4, 4 }; /* bytes of each once escaped */
    for (int u = 0; u < 4; u++)
        for (size_t lead = 0; lead < 4; lead++) {
            char text[4096] = "";
            pg_error err;
            memset(&err, 'z', sizeof err);
            for (size_t i = 0; i < lead; i++) strcat(text, "a");
            for (int i = 0; i < 900; i++) strcat(text, unit[u]);
            pg_fail(&err, PG_EINVAL, "%s", text);
            size_t n = strnlen(err.text, sizeof err.text);
            CHECK(n == lead + (507 - lead) / wide[u] * wide[u], "unit %d lead %zu: %zu bytes", u, lead, n);
            CHECK(pg_fail_at(&err, PG_EINVAL, "%s", text) == PG_EINVAL && strlen(err.text) <= 507, "unit %d", u);
        }
}

static char logged[8][2048];
static int logged_level[8], n_logged;

static void on_log(int32_t level, const char *line, void *ud)
{
    (*(int *)ud)++;
    if (n_logged == 8) return;
    logged_level[n_logged] = level;
    snprintf(logged[n_logged++], sizeof logged[0], "%s", line);
}

static void test_log(void)
{
    int calls = 0, other = 0;
    pg_log(PG_LOG_ERROR, "into the void");
    pg_log_set(on_log, &calls, PG_LOG_INFO);
    pg_log(PG_LOG_INFO, "loaded %s", "a\nb");
    pg_log(PG_LOG_DEBUG, "too fine");
    pg_log(PG_LOG_ERROR, "bad");
    CHECK(calls == 2 && n_logged == 2, "%d calls", calls);
    CHECK(strcmp(logged[0], "loaded a\\x0ab") == 0 && logged_level[0] == PG_LOG_INFO, "got %s", logged[0]);
    pg_log_set(on_log, &other, PG_LOG_DEBUG);
    pg_log(PG_LOG_DEBUG, "fine");
    CHECK(calls == 2 && other == 1, "%d %d", calls, other);
    pg_log_set(NULL, NULL, PG_LOG_DEBUG);
    pg_log(PG_LOG_ERROR, "silence");
    CHECK(other == 1, "%d", other);
}

static json_t *parse(const char *text, pg_error *err)
{
    *err = (pg_error){ 0 };
    return pg_json_parse(text, strlen(text), "x.json", err);
}

static void expect_error(const char *text, const char *needle)
{
    pg_error err;
    json_t *root = parse(text, &err);
    CHECK(!root && err.code == PG_EFORMAT && strstr(err.text, "x.json: ") == err.text && strstr(err.text, needle),
          "%s gives %d %s", text, err.code, err.text);
    json_decref(root);
}

static void test_json(void)
{
    pg_error err;
    expect_error("", "line 1");
    expect_error("3", "line 1");
    expect_error("{\"a\": 1,\n \"b\": }", "line 2, column");
    expect_error("{\"a\": 1, \"a\": 2}", "duplicate");
    expect_error("{\"a\": 1} x", "end of file");
    expect_error("{\"a\": 1e999}", "overflow");
    expect_error("{\"a\": \"\xff\"}", "decode byte 0xff");

    json_t *root = parse("{\"z\": [1, 2.5, null], \"a\": \"n\\u0000l\", \"b\": true, \"nothing\": null}", &err),
           *got = NULL;
    CHECK(root != NULL, "%s", err.text);
    CHECK(pg_json_get(root, "z", JSON_ARRAY, "x", &got, &err) == 1 && json_array_size(got) == 3, "%s", err.text);
    CHECK(pg_json_get(root, "a", JSON_STRING, "x", &got, &err) == 1 && json_string_length(got) == 3, "%s", err.text);
    CHECK(pg_json_get(root, "b", JSON_TRUE, "x", &got, &err) == 1 && json_is_true(got), "%s", err.text);
    got = NULL;
    CHECK(pg_json_get(root, "nothing", JSON_STRING, "x", &got, &err) == 0 && !got, "null is absent");
    CHECK(pg_json_get(root, "c", JSON_STRING, "x", &got, &err) == 0 && !got, "absent");
    CHECK(pg_json_get(root, "a", JSON_OBJECT, "x", &got, &err) == PG_EFORMAT &&
              strstr(err.text, "'a' must be an object"),
          "%s", err.text);
    json_decref(root);

    /* whole numbers beyond 64 bits, as in real tokenizer_config.json files; the same digits in a string stay */
    root = parse(
        "{\"max\": 1000000000000000019884624838656, \"s\": \"9999999999999999999999\", \"n\": -99999999999999999999,"
        " \"i\": 9223372036854775807, \"m\": -9223372036854775808, \"e\": \"\\\"99999999999999999999\"}",
        &err);
    CHECK(root && json_real_value(json_object_get(root, "max")) == 1000000000000000019884624838656.0, "%s", err.text);
    CHECK(root && strcmp(json_string_value(json_object_get(root, "s")), "9999999999999999999999") == 0, "string");
    CHECK(root && strcmp(json_string_value(json_object_get(root, "e")), "\"99999999999999999999") == 0,
          "escaped quote");
    CHECK(root && json_real_value(json_object_get(root, "n")) == -99999999999999999999.0, "negative");
    CHECK(root && json_integer_value(json_object_get(root, "i")) == INT64_MAX, "largest");
    CHECK(root && json_integer_value(json_object_get(root, "m")) == INT64_MIN, "smallest");
    json_decref(root);
    expect_error("[99999999999999999999, \"open", "line 1");
    expect_error("[99999999999999999999", "line 1");
    expect_error("[99999999999999999999, -]", "line 1");
    CHECK(!pg_json_parse("{}", (size_t)PG_JSON_MAX + 1, "big.json", &err) && err.code == PG_ELIMIT, "%s", err.text);
}

int main(void)
{
    test_codes();
    test_fail();
    test_cut();
    test_log();
    test_json();
    return check_done("status");
}
