/* tokenizer.json: every stage against ids that Hugging Face's `tokenizers` 0.23.3 gave for the same file, the files beside
 * it, and what is refused. The files here are written with ' for ". */
#include "check.h"

#include <stdbool.h>

#include "token_json.h"

#define BYTES "{'type':'ByteLevel','add_prefix_space':false,'use_regex':false}"
#define SEQUENCE(step) "{'type':'Sequence','pretokenizers':[" step "," BYTES "]}"
#define SPLIT(kind, pattern, behavior, invert) \
    SEQUENCE("{'type':'Split','pattern':{'" kind "':'" pattern "'},'behavior':'" behavior "','invert':" #invert "}")
#define TOKEN(id, text, flags) "{'id':" #id ",'content':'" text "'," flags "}"
#define ADDED                                                                                                              \
    TOKEN(320, "<c>", "'special':true")                                                                                    \
    "," TOKEN(321, "<l>", "'special':true,'lstrip':true") "," TOKEN(322, "<r>", "'special':true,'rstrip':true") "," TOKEN( \
        323, "<u>", "'special':false,'normalized':true") "," TOKEN(324, "ab2",                                             \
                                                                   "'special':false,'single_word':true,'normalized':"      \
                                                                   "false") "," TOKEN(325, "\xc3\xa9!",                    \
                                                                                      "'special':false,'normalized':"      \
                                                                                      "true") "," TOKEN(326, "<u><",       \
                                                                                                        "'special':"       \
                                                                                                        "false,'"          \
                                                                                                        "normalized':"     \
                                                                                                        "true")

static char *tmp;

/* Vocabulary of every stage: bytes 0 to 255, then every pair of a b 1 2 A ! space newline, in that order. */
static const struct {
    const char *normalizer, *pre_tokenizer, *text;
    int special;
    int32_t ids[32]; /* -1 ends them */
} stages[] = {
    { NULL,
      SPLIT("Regex", "[ !]", "Isolated", false),
      "ab 12A!! a\n1",
      0,
      { 257, 32, 275, 65, 33, 33, 32, 263, 49, -1 } },
    { NULL, SPLIT("Regex", "[ab]+", "Isolated", true), "ab 12A!! a\n1", 0, { 257, 32, 275, 293, 302, 97, 314, -1 } },
    { NULL, SPLIT("Regex", "[ !]", "Removed", false), "ab 12A!! a\n1", 0, { 257, 275, 65, 263, 49, -1 } },
    { NULL, SPLIT("Regex", "[ab]+", "Removed", true), "ab 12A!! a\n1", 0, { 257, 97, -1 } },
    { NULL,
      SPLIT("Regex", "[ !]", "MergedWithPrevious", false),
      "ab 12A!! a\n1",
      0,
      { 257, 32, 275, 293, 33, 32, 263, 49, -1 } },
    { NULL,
      SPLIT("Regex", "[ab]+", "MergedWithPrevious", true),
      "ab 12A!! a\n1",
      0,
      { 257, 32, 275, 293, 302, 263, 49, -1 } },
    { NULL,
      SPLIT("Regex", "[ !]", "MergedWithNext", false),
      "ab 12A!! a\n1",
      0,
      { 257, 32, 275, 65, 33, 33, 32, 263, 49, -1 } },
    { NULL,
      SPLIT("Regex", "[ab]+", "MergedWithNext", true),
      "ab 12A!! a\n1",
      0,
      { 257, 32, 275, 293, 302, 97, 314, -1 } },
    { NULL,
      SPLIT("Regex", "[ !]", "Contiguous", false),
      "ab 12A!! a\n1",
      0,
      { 257, 32, 275, 65, 301, 32, 263, 49, -1 } },
    { NULL, SPLIT("Regex", "[ab]+", "Contiguous", true), "ab 12A!! a\n1", 0, { 257, 32, 275, 293, 302, 97, 314, -1 } },
    { NULL,
      SPLIT("String", "!", "Isolated", false),
      "ab 12A!! a\n1",
      0,
      { 257, 32, 275, 65, 33, 33, 32, 263, 49, -1 } },
    { NULL, SPLIT("String", ".", "MergedWithPrevious", false), "a.b1. A", 0, { 97, 46, 266, 46, 308, -1 } },
    { NULL,
      SEQUENCE("{'type':'Digits','individual_digits':true}"),
      "ab1212 1",
      0,
      { 257, 49, 50, 49, 50, 32, 49, -1 } },
    { NULL, SEQUENCE("{'type':'Digits','individual_digits':false}"), "ab1212 1", 0, { 257, 275, 275, 32, 49, -1 } },
    { NULL,
      "{'type':'ByteLevel','add_prefix_space':true,'use_regex':true}",
      "ab  12!A",
      0,
      { 32, 257, 32, 32, 275, 33, 65, -1 } },
    { NULL, "{'type':'ByteLevel','add_prefix_space':true,'use_regex':true}", " ab", 0, { 32, 257, -1 } },
    { NULL, "{'type':'ByteLevel'}", "ab 12", 0, { 32, 257, 32, 275, -1 } },
    { NULL, SPLIT("Regex", "(?=A)", "Isolated", false), "abAbAA", 0, { 257, 289, 65, 65, -1 } },
    { NULL, SPLIT("Regex", "1{1,2}+", "Isolated", false), "a111111b", 0, { 97, 274, 274, 274, 98, -1 } },
    { NULL, SPLIT("Regex", "(?i:a)b?|\\\\s+", "Isolated", false), "aAbA  ab", 0, { 97, 289, 65, 310, 257, -1 } },
    { NULL, SPLIT("Regex", "(?i)[a-a]+|b", "Isolated", false), "aAbABab", 0, { 260, 98, 65, 66, 97, 98, -1 } },
    { NULL, SPLIT("Regex", "(?i:\\u0027s|k)", "Removed", false), "a'Sb1K2k'", 0, { 97, 266, 50, 39, -1 } },
    { NULL, SPLIT("Regex", "^a|b$", "Isolated", false), "aab\naabb", 0, { 97, 97, 98, 10, 97, 257, 98, -1 } },
    { NULL, SPLIT("Regex", "\\\\s+$", "Isolated", false), "ab  12  \n ", 0, { 257, 310, 275, 310, 318, -1 } },
    { NULL,
      SPLIT("Regex", "\\\\s", "Removed", false),
      "1\xc2\x85"
      "1\xe1\xa0\x8e"
      "1\xe2\x80\x83"
      "1",
      0,
      { 49, 49, 225, 160, 142, 49, 49, -1 } },
    { NULL,
      SPLIT("Regex", "[\\\\S]", "Removed", false),
      "1\xc2\x85"
      "1\xe1\xa0\x8e"
      "1\xe2\x80\x83"
      "1",
      0,
      { 194, 133, 226, 128, 131, -1 } },
    { NULL, SPLIT("Regex", "\\\\p{N}{,2}A", "Isolated", false), "112A1A", 0, { 49, 275, 65, 276, -1 } },
    { NULL,
      "{'type':'Metaspace','replacement':'\\u2581','prepend_scheme':'first','split':true}",
      "a b",
      0,
      { 97, 98, -1 } },
    { NULL,
      SPLIT("Regex", "[ !]", "Isolated", false),
      "a <c> b <l> 1 <r> 2<u>ab2 ab21 ab2",
      0,
      { 97, 32,  60, 99, 62, 32,  98,  32, 60,  108, 62, 32,  49, 32,
        60, 114, 62, 32, 50, 323, 324, 32, 257, 282, 32, 324, -1 } },
    { NULL,
      SPLIT("Regex", "[ !]", "Isolated", false),
      "<u><c>e\xcc\x81!\xc3\xa9!",
      0,
      { 326, 99, 62, 101, 204, 129, 33, 325, -1 } },
    { "{'type':'NFC'}",
      SPLIT("Regex", "[ !]", "Isolated", false),
      "<u><c>e\xcc\x81!\xc3\xa9! <r>\xc2\xa0\n<l>",
      0,
      { 326, 99, 62, 325, 325, 32, 60, 114, 62, 194, 160, 10, 60, 108, 62, -1 } },
    { NULL,
      SPLIT("Regex", "[ !]", "Isolated", false),
      "a <c> b <l> 1 <r> 2<u>ab2 ab21 ab2",
      1,
      { 97, 32, 320, 32, 98, 321, 32, 49, 32, 322, 50, 323, 324, 32, 257, 282, 32, 324, -1 } },
    { NULL,
      SPLIT("Regex", "[ !]", "Isolated", false),
      "<u><c>e\xcc\x81!\xc3\xa9!",
      1,
      { 323, 320, 101, 204, 129, 33, 325, -1 } },
    { "{'type':'NFC'}",
      SPLIT("Regex", "[ !]", "Isolated", false),
      "<u><c>e\xcc\x81!\xc3\xa9! <r>\xc2\xa0\n<l>",
      1,
      { 323, 320, 325, 325, 32, 322, 321, -1 } },
    { "{'type':'NFC'}",
      BYTES,
      "e\xcc\x81\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8"
      "a\xcc\xa3\xcc\x81"
      "a\xcc\x81\xcc\xa3\xe0\xa5\x98",
      0,
      { 195, 169, 234, 176, 129, 225, 186, 161, 204, 129, 225, 186, 161, 204, 129, 224, 164, 149, 224, 164, 188, -1 } },
    { "{'type':'Sequence','normalizers':[{'type':'Prepend','prepend':'A'},{'type':'Replace','pattern':{'String':' "
      "'},'content':'1'},{'type':'Replace','pattern':{'Regex':'b+'},'content':'2'}]}",
      BYTES,
      "a bb",
      0,
      { 65, 258, 50, -1 } },
    { "{'type':'Prepend','prepend':'A'}", BYTES, "<c>1<u>", 1, { 320, 290, 60, 117, 62, -1 } },
};

static void test_stages(void)
{
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        char *json = file_of_pairs(stages[i].normalizer, stages[i].pre_tokenizer, ADDED);
        pg_error err = { 0 };
        pg_tokenizer *t = open_text(tmp, json, &err);
        free(json);
        CHECK(t != NULL, "stage %zu: %s", i, err.text);
        if (!t) continue;
        int32_t got[64], want = 0;
        while (stages[i].ids[want] >= 0) want++;
        int n = pg_encode(t, stages[i].text, strlen(stages[i].text),
                          PG_ENCODE_NO_BOS | (stages[i].special ? PG_ENCODE_SPECIAL : 0), got, 64, &err);
        CHECK(n == want && memcmp(got, stages[i].ids, sizeof *got * (size_t)want) == 0,
              "stage %zu (%s): %d ids, expected %d, first %d", i, stages[i].pre_tokenizer, n, want,
              n > 0 ? got[0] : -1);
        pg_tokenizer_close(t);
    }
}

/* ---- models ---- */

#define FALLBACK_VOCAB "{'<unk>':0,'\u2581':1,'a':2,'b':3,'ab':4,'<0xC3>':5,'<0xA9>':6,'\u2581a':7,'<0x41>':8,'<s>':9}"
#define UNKNOWN_IS "'unk_token':'<unk>','fuse_unk':"

static const struct {
    const char *model, *text;
    int32_t ids[16];
} models[] = {
    /* two unknown characters, then one with all of its bytes */
    { "'type':'BPE','byte_fallback':true," UNKNOWN_IS "false,'vocab':" FALLBACK_VOCAB ",'merges':['a b']",
      "abxy\u00e9",
      { 4, 0, 0, 5, 6, -1 } },
    { "'type':'BPE','byte_fallback':true," UNKNOWN_IS "true,'vocab':" FALLBACK_VOCAB ",'merges':[['a','b']]",
      "abxy\u00e9",
      { 4, 0, 5, 6, -1 } },
    { "'type':'BPE','byte_fallback':false," UNKNOWN_IS "true,'vocab':" FALLBACK_VOCAB ",'merges':[]",
      "ab\u00e9x",
      { 2, 3, 0, -1 } },
    { "'byte_fallback':false,'vocab':" FALLBACK_VOCAB ",'merges':['a b']", "ab\u00e9xa", { 4, 2, -1 } },
    { "'type':'BPE','ignore_merges':true,'vocab':" FALLBACK_VOCAB ",'merges':[]", "ab", { 4, -1 } },
    /* a byte's token and a control token do not arise from their spelling */
    { "'type':'BPE','byte_fallback':true," UNKNOWN_IS "false,'vocab':" FALLBACK_VOCAB
      ",'merges':[],'ignore_merges':true",
      "<0x41>",
      { 0, 0, 0, 0, 0, 0, -1 } },
    { "'type':'BPE'," UNKNOWN_IS "true,'vocab':" FALLBACK_VOCAB ",'merges':[],'ignore_merges':true", "<s>", { 0, -1 } },
    /* a b = -3, ab = -2.5, aba = -6, unknown = -16 */
    { "'type':'Unigram','unk_id':0,'vocab':[['<unk>',0],['a',-1],['b',-2],['ab',-2.5],['aba',-6]]",
      "abaab",
      { 3, 1, 3, -1 } },
    { "'type':'Unigram','unk_id':0,'vocab':[['<unk>',0],['a',-1],['b',-2],['ab',-2.5],['aba',-3]]",
      "abaxyb",
      { 4, 0, 2, -1 } },
    { "'type':'Unigram','unk_id':0,'byte_fallback':true,'vocab':[['<unk>',0],['a',-1],['<0x78>',-9]]",
      "axxay",
      { 1, 2, 2, 1, 0, -1 } },
};

static void test_models(void)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        pg_error err = { 0 };
        bool control = strstr(models[i].model, "'<s>':9") != NULL;
        char *json = file_of("", control ? TOKEN(9, "<s>", "'special':true") : "", models[i].model);
        pg_tokenizer *t = open_text(tmp, json, &err);
        free(json);
        CHECK(t != NULL, "model %zu: %s", i, err.text);
        if (!t) continue;
        int32_t got[64], want = 0;
        while (models[i].ids[want] >= 0) want++;
        int n = pg_encode(t, models[i].text, strlen(models[i].text), 0, got, 64, &err);
        CHECK(n == want && memcmp(got, models[i].ids, sizeof *got * (size_t)want) == 0,
              "model %zu: %d ids, expected %d", i, n, want);
        pg_tokenizer_close(t);
    }
}

/* ---- decoders ---- */

static const struct {
    const char *decoder;
    int32_t ids[8];
    const char *text;
} decoders[] = {
    { "{'type':'Sequence','decoders':[{'type':'Replace','pattern':{'String':'\u2581'},'content':' '},"
      "{'type':'ByteFallback'},{'type':'Fuse'},{'type':'Strip','content':' ','start':1,'stop':0}]}",
      { 7, 1, 5, 6, 1, 3, -1 },
      "a \u00e9 b" },
    { "{'type':'Metaspace','replacement':'\u2581','prepend_scheme':'always'}", { 7, 7, 4, -1 }, "a aab" },
    { "{'type':'Metaspace','replacement':'\u2581','prepend_scheme':'never'}", { 7, 7, 4, -1 }, " a aab" },
    { "null", { 7, 4, -1 }, "\u2581aab" },
};

static void test_decoders(void)
{
    for (size_t i = 0; i < sizeof decoders / sizeof *decoders; i++) {
        char stage[600], text[64] = "";
        pg_error err = { 0 };
        snprintf(stage, sizeof stage, "'decoder':%s,", decoders[i].decoder);
        char *json = file_of(stage, "", "'byte_fallback':true,'merges':[],'vocab':" FALLBACK_VOCAB);
        pg_tokenizer *t = open_text(tmp, json, &err);
        free(json);
        CHECK(t != NULL, "decoder %zu: %s", i, err.text);
        if (!t) continue;
        int32_t n_ids = 0;
        while (decoders[i].ids[n_ids] >= 0) n_ids++;
        int n = pg_decode(t, decoders[i].ids, n_ids, 0, text, 63, &err);
        CHECK(n == (int)strlen(decoders[i].text) && strcmp(text, decoders[i].text) == 0, "decoder %zu: '%s'", i, text);
        pg_tokenizer_close(t);
    }
}

/* An expression that never ends must end in an error, not in a text that is split at the wrong places. */
static void test_limit(void)
{
    pg_error err = { 0 };
    int32_t ids[64];
    char *json = file_of("'pre_tokenizer':{'type':'Split','pattern':{'Regex':'(a+)+[bc]'},'behavior':'Isolated'},", "",
                         "'vocab':{'a':0},'merges':[]");
    pg_tokenizer *t = open_text(tmp, json, &err);
    free(json);
    CHECK(t != NULL, "%s", err.text);
    CHECK(pg_encode(t, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 40, 0, ids, 64, &err) == PG_ELIMIT, "%s", err.text);
    CHECK(strstr(err.text, "match limit"), "'%s'", err.text);
    CHECK(pg_encode(t, "aaaa", 4, 0, ids, 64, &err) == 4, "a short text is fine: %s", err.text);
    pg_tokenizer_close(t);
}

int main(void)
{
    tmp = scratch_new();
    test_stages();
    test_models();
    test_decoders();
    test_limit();
    scratch_free(tmp);
    return check_done("token_json");
}
