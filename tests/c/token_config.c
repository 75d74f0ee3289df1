/* The files beside tokenizer.json: which tokens begin and end a text, what ends a generation, the chat template; and the
 * refusals of tokenizer.json and of those files. Files are written with ' for ". */
#include "check.h"

#include "token_json.h"

static char *tmp;

#define VOCAB "'vocab':{'a':0,'b':1,'<s>':2,'</s>':3,'<|im_end|>':4,'<pad>':5},'merges':['a b']"
#define ADDED                                                                           \
    "{'id':2,'content':'<s>','special':true},{'id':3,'content':'</s>','special':true}," \
    "{'id':4,'content':'<|im_end|>','special':true},{'id':5,'content':'<pad>','special':true}"
#define TEMPLATE(before, after)                                                                            \
    "'post_processor':{'type':'TemplateProcessing','single':[" before "{'Sequence':{'id':'A'}}" after "]," \
    "'special_tokens':{'<s>':{'id':'<s>','ids':[2]},'</s>':{'id':'</s>','ids':[3]},'x':{'ids':[99]}}},"
#define PART(name) "{'SpecialToken':{'id':'" name "'}}"

static void write_quoted(const char *name, const char *text)
{
    char *copy = strdup(text);
    if (!copy) abort();
    scratch_text(tmp, name, requote(copy));
    free(copy);
}

/* The folder with tokenizer.json made of `stages` and up to three files beside it (name, text ..., NULL). */
static pg_tokenizer *open_folder(const char *stages, const char *const *beside, pg_error *err)
{
    char *json = file_of(stages, ADDED, VOCAB);
    pg_tokenizer *t = NULL;
    scratch_text(tmp, "tokenizer.json", json);
    free(json);
    for (int i = 0; beside[i]; i += 2) write_quoted(beside[i], beside[i + 1]);
    if (pg_tokenizer_open(tmp, &t, err) < 0) t = NULL;
    for (int i = 0; beside[i]; i += 2) scratch_remove(tmp, beside[i]);
    scratch_remove(tmp, "tokenizer.json");
    return t;
}

#define BESIDE(...)       \
    (const char *const[]) \
    {                     \
        __VA_ARGS__, NULL \
    }
#define CONFIG "tokenizer_config.json"
#define MAP "special_tokens_map.json"
#define GENERATION "generation_config.json"

static const struct {
    const char *stages;
    const char *const *beside;
    int32_t bos, eos, pad, add_bos, add_eos;
    const char *eog; /* one digit for each id */
} rows[] = {
    /* nothing said: known by their text */
    { "", BESIDE(NULL), 2, 3, -1, 0, 0, "000110" },
    { TEMPLATE(PART("<s>") ",", ""), BESIDE(NULL), 2, 3, -1, 1, 0, "000110" },
    { TEMPLATE(PART("<s>") ",", "," PART("</s>")), BESIDE(NULL), 2, 3, -1, 1, 1, "000110" },
    { "'post_processor':{'type':'ByteLevel'},", BESIDE(NULL), 2, 3, -1, 0, 0, "000110" },
    /* tokenizer_config.json: texts or objects, null is an answer, flags override the template */
    { "", BESIDE(CONFIG, "{'bos_token':'<s>','eos_token':{'content':'<|im_end|>'},'pad_token':'<pad>'}"), 2, 4, 5, 0, 0,
      "000110" },
    { "", BESIDE(CONFIG, "{'bos_token':'<s>','eos_token':'</s>','add_bos_token':true,'add_eos_token':true}"), 2, 3, -1,
      1, 1, "000110" },
    { TEMPLATE(PART("<s>") ",", ""), BESIDE(CONFIG, "{'bos_token':'<s>','add_bos_token':false}"), 2, -1, -1, 0, 0,
      "000110" },
    { "",
      BESIDE(CONFIG, "{'bos_token':null,'eos_token':'nowhere','add_bos_token':true}", GENERATION, "{'bos_token_id':2}"),
      -1, -1, -1, 0, 0, "000110" },
    /* the others, in their order */
    { "", BESIDE(CONFIG, "{}", MAP, "{'bos_token':{'content':'<s>'},'eos_token':'</s>'}"), 2, 3, -1, 0, 0, "000110" },
    { "", BESIDE(CONFIG, "{}", GENERATION, "{'bos_token_id':2,'eos_token_id':[1,4],'pad_token_id':5}"), 2, 1, 5, 0, 0,
      "010110" },
    { "", BESIDE(CONFIG, "{'eos_token':'</s>'}", GENERATION, "{'eos_token_id':0}"), -1, 3, -1, 0, 0, "100110" },
    { "", BESIDE(CONFIG, "{}", "config.json", "{'bos_token_id':2,'eos_token_id':5,'pad_token_id':-1}"), 2, 5, -1, 0, 0,
      "000111" },
};

static void test_names(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pg_error err = { 0 };
        pg_tokenizer *t = open_folder(rows[i].stages, rows[i].beside, &err);
        CHECK(t != NULL, "row %zu: %s", i, err.text);
        if (!t) continue;
        pg_tokenizer_info info;
        pg_tokenizer_describe(t, &info);
        CHECK(info.bos == rows[i].bos && info.eos == rows[i].eos && info.pad == rows[i].pad,
              "row %zu: bos %d eos %d pad %d", i, info.bos, info.eos, info.pad);
        CHECK(info.add_bos == rows[i].add_bos && info.add_eos == rows[i].add_eos, "row %zu: add_bos %d add_eos %d", i,
              info.add_bos, info.add_eos);
        for (int32_t id = 0; id < 6; id++)
            CHECK(pg_token_is_eog(t, id) == rows[i].eog[id] - '0', "row %zu: does %d end a generation?", i, id);
        int32_t ids[8];
        int n = pg_encode(t, "a", 1, 0, ids, 8, NULL), add = rows[i].add_bos;
        CHECK(n == 1 + add + rows[i].add_eos && ids[add] == 0 && (!add || ids[0] == 2), "row %zu: %d ids", i, n);
        pg_tokenizer_close(t);
    }
}

/* DeepSeek's files say nothing of the begin token that their models need. */
static void test_deepseek_alone(void)
{
    static const char model[] = "'vocab':{'a':0,'<\uff5cbegin\u2581of\u2581sentence\uff5c>':1},'merges':[]";
    char *json = file_of("", "{'id':1,'content':'<\uff5cbegin\u2581of\u2581sentence\uff5c>','special':true}", model);
    pg_error err = { 0 };
    int32_t ids[4];
    pg_tokenizer *t = open_text(tmp, json, &err);
    free(json);
    CHECK(t && pg_encode(t, "a", 1, 0, ids, 4, NULL) == 2 && ids[0] == 1 && ids[1] == 0, "%s", err.text);
    pg_tokenizer_close(t);
}

static void expect_chat(int line, const char *const *beside, const char *want)
{
    pg_error err = { 0 };
    pg_tokenizer *t = open_folder("", beside, &err);
    const char *got = t ? pg_chat_template(t) : err.text;
    CHECK(got == want || (got && want && strcmp(got, want) == 0), "line %d: template '%s'", line, got ? got : "none");
    const char *one = t ? pg_chat_template_named(t, "tool_use") : NULL;
    bool listed = beside && beside[0] && beside[1] && strstr(beside[1], "tool_use");
    CHECK(listed ? one && !strcmp(one, "one") : !one, "line %d: named template '%s'", line, one ? one : "none");
    pg_tokenizer_close(t);
}
#define CHAT(want, ...) expect_chat(__LINE__, BESIDE(__VA_ARGS__), want)

static void test_chat(void)
{
    CHAT(NULL, NULL);
    CHAT(NULL, CONFIG, "{'chat_template':null}");
    CHAT("x{{ y }}", CONFIG, "{'chat_template':'x{{ y }}'}");
    CHAT("two", CONFIG, "{'chat_template':[{'name':'tool_use','template':'one'},{'name':'default','template':'two'}]}");
    CHAT(NULL, CONFIG, "{'chat_template':[{'name':'tool_use','template':'one'}]}");
    CHAT("own", CONFIG, "{'chat_template':'x'}", "chat_template.jinja", "own");
}

/* ---- refusals -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *json;
    int code;
    const char *need;
} bad[] = {
    { "[", PG_EFORMAT, "line 1" },
    { "[]", PG_EFORMAT, "model" },
    { "{}", PG_EFORMAT, "model" },
    { "{'model':7}", PG_EFORMAT, "model" },
    { "{'model':{'type':'WordPiece'}}", PG_EUNSUPPORTED, "WordPiece" },
    { "{'model':{'type':'BPE'}}", PG_EFORMAT, "vocab" },
    { "{'model':{'vocab':{},'merges':[]}}", PG_EFORMAT, "vocab" },
    { "{'model':{'vocab':{'a':-1},'merges':[]}}", PG_EFORMAT, "vocab" },
    { "{'model':{'vocab':{'a':'b'},'merges':[]}}", PG_EFORMAT, "vocab" },
    { "{'model':{'vocab':{'a':0,'b':0},'merges':[]}}", PG_EFORMAT, "vocab" },
    { "{'model':{'vocab':{'a':99999999},'merges':[]}}", PG_EFORMAT, "vocab" },
    { "{'model':{'vocab':{'a':9999999},'merges':[]}}", PG_EFORMAT, "vocab" },
    { "{'model':{'vocab':{'':0},'merges':[]}}", PG_EFORMAT, "vocab" },
    { "{'model':{'vocab':{'a':0}}}", PG_EFORMAT, "merges" },
    { "{'model':{'vocab':{'a':0},'merges':['a']}}", PG_EFORMAT, "merges[0]" },
    { "{'model':{'vocab':{'a':0},'merges':['a a','a b c']}}", PG_EFORMAT, "merges[1]" },
    { "{'model':{'vocab':{'a':0},'merges':['a ']}}", PG_EFORMAT, "merges[0]" },
    { "{'model':{'vocab':{'a':0},'merges':[['a']]}}", PG_EFORMAT, "merges[0]" },
    { "{'model':{'vocab':{'a':0},'merges':[['a','']]}}", PG_EFORMAT, "merges[0]" },
    { "{'model':{'vocab':{'a':0},'merges':[7]}}", PG_EFORMAT, "merges[0]" },
    { "{'model':{'vocab':{'a':0},'merges':[],'unk_token':'b'}}", PG_EFORMAT, "unknown token" },
    { "{'model':{'vocab':{'a':0},'merges':[],'continuing_subword_prefix':'##'}}", PG_EUNSUPPORTED,
      "continuing_subword" },
    { "{'model':{'vocab':{'a':0},'merges':[],'end_of_word_suffix':'</w>'}}", PG_EUNSUPPORTED, "end_of_word_suffix" },
    { "{'model':{'vocab':{'a':0},'merges':[],'dropout':0.1}}", PG_EUNSUPPORTED, "dropout" },
    { "{'model':{'vocab':{'a':0},'merges':[],'byte_fallback':1}}", PG_EFORMAT, "byte_fallback" },
    { "{'model':{'type':'Unigram','vocab':[['a']]}}", PG_EFORMAT, "vocab[0]" },
    { "{'model':{'type':'Unigram','vocab':[[7,1]]}}", PG_EFORMAT, "vocab[0]" },
    { "{'model':{'type':'Unigram','vocab':[['a',1]],'unk_id':1}}", PG_EFORMAT, "unknown token" },
    { "{'added_tokens':[{'id':0}],'model':{'vocab':{'a':0},'merges':[]}}", PG_EFORMAT, "content" },
    { "{'added_tokens':[{'content':'a'}],'model':{'vocab':{'a':0},'merges':[]}}", PG_EFORMAT, "added_tokens" },
    { "{'added_tokens':[{'id':-1,'content':'a'}],'model':{'vocab':{'a':0},'merges':[]}}", PG_EFORMAT, "added_tokens" },
    { "{'added_tokens':[3],'model':{'vocab':{'a':0},'merges':[]}}", PG_EFORMAT, "added_tokens" },
    { "{'added_tokens':{},'model':{'vocab':{'a':0},'merges':[]}}", PG_EFORMAT, "added_tokens" },
};

static const struct {
    const char *stages;
    int code;
    const char *need;
} bad_stages[] = {
    { "'normalizer':{'type':'Lowercase'},", PG_EUNSUPPORTED, "normalizer: 'Lowercase'" },
    { "'normalizer':{'type':'Precompiled'},", PG_EUNSUPPORTED, "normalizer: 'Precompiled'" },
    { "'normalizer':{'type':'Sequence','normalizers':[{'type':'NFC'},{'type':'Strip'}]},", PG_EUNSUPPORTED, "Strip" },
    { "'normalizer':{'type':'Replace','pattern':{'String':''},'content':'a'},", PG_EFORMAT, "pattern is empty" },
    { "'normalizer':{'type':'Replace','content':'a'},", PG_EFORMAT, "pattern" },
    { "'normalizer':7,", PG_EFORMAT, "normalizer" },
    { "'pre_tokenizer':{'type':'BertPreTokenizer'},", PG_EUNSUPPORTED, "pre_tokenizer: 'BertPreTokenizer'" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'a'},'behavior':'Odd'},", PG_EUNSUPPORTED, "behavior" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'(a'},'behavior':'Isolated'},", PG_EUNSUPPORTED,
      "expression" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[a&&[^b]]'},'behavior':'Isolated'},", PG_EUNSUPPORTED,
      "&&" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'[a[b]]'},'behavior':'Isolated'},", PG_EUNSUPPORTED,
      "class" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'(?x: a)'},'behavior':'Isolated'},", PG_EUNSUPPORTED,
      "flags" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'\\\\h'},'behavior':'Isolated'},", PG_EUNSUPPORTED,
      "escape" },
    { "'pre_tokenizer':{'type':'Split','pattern':{'Regex':'(*UTF)a'},'behavior':'Isolated'},", PG_EUNSUPPORTED,
      "verb" },
    { "'pre_tokenizer':{'type':'Metaspace','replacement':'ab'},", PG_EFORMAT, "replacement" },
    { "'pre_tokenizer':{'type':'Metaspace','replacement':'_','prepend_scheme':'odd'},", PG_EUNSUPPORTED,
      "prepend_scheme" },
    { "'decoder':{'type':'WordPiece'},", PG_EUNSUPPORTED, "decoder: 'WordPiece'" },
    { "'decoder':{'type':'Strip','content':' ','start':1,'stop':0},", PG_EUNSUPPORTED, "Strip" },
    { "'post_processor':{'type':'BertProcessing'},", PG_EUNSUPPORTED, "BertProcessing" },
    { TEMPLATE(PART("x") ",", ""), PG_EFORMAT, "post_processor" },
    { TEMPLATE(PART("y") ",", ""), PG_EFORMAT, "post_processor" },
    { TEMPLATE("{'Sequence':{'id':'A'}},", ""), PG_EUNSUPPORTED, "post_processor" },
};

static void refuse(const char *json, int code, const char *need)
{
    pg_error err = { 0 };
    pg_tokenizer *t = open_text(tmp, json, &err);
    CHECK(!t && err.code == code && strstr(err.text, need), "%s: code %d '%s', expected '%s'", json, err.code, err.text,
          need);
    CHECK(strstr(err.text, "bad.json"), "'%s' does not name the file", err.text);
    pg_tokenizer_close(t);
}

static void test_refusals(void)
{
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *json = strdup(bad[i].json);
        refuse(requote(json), bad[i].code, bad[i].need);
        free(json);
    }
    for (size_t i = 0; i < sizeof bad_stages / sizeof *bad_stages; i++) {
        char *json = file_of(bad_stages[i].stages, ADDED, VOCAB);
        refuse(json, bad_stages[i].code, bad_stages[i].need);
        free(json);
    }
    char deep[4000] = "'normalizer':";
    for (int i = 0; i < 40; i++) strcat(deep, "{'type':'Sequence','normalizers':[");
    strcat(deep, "null");
    for (int i = 0; i < 40; i++) strcat(deep, "]}");
    strcat(deep, ",");
    char *json = file_of(deep, ADDED, VOCAB);
    refuse(json, PG_EUNSUPPORTED, "nesting");
    free(json);
}

static void refuse_beside(int line, const char *name, const char *text, const char *need)
{
    pg_error err = { 0 };
    pg_tokenizer *t = open_folder("", BESIDE(name, text), &err);
    CHECK(!t && err.code == PG_EFORMAT && strstr(err.text, name) && strstr(err.text, need), "line %d: '%s'", line,
          err.text);
    pg_tokenizer_close(t);
}

static void test_beside(void)
{
    refuse_beside(__LINE__, CONFIG, "{", "line 1");
    refuse_beside(__LINE__, MAP, "[]", "object");
    refuse_beside(__LINE__, GENERATION, "{'eos_token_id':6}", "eos_token_id");
    refuse_beside(__LINE__, GENERATION, "{'eos_token_id':[1,'2']}", "eos_token_id");
    refuse_beside(__LINE__, "config.json", "{'bos_token_id':1000000000000}", "bos_token_id");
}

int main(void)
{
    tmp = scratch_new();
    test_names();
    test_deepseek_alone();
    test_chat();
    test_refusals();
    test_beside();
    scratch_free(tmp);
    return check_done("token_config");
}
