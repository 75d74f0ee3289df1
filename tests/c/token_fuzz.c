/* Vocabularies with a few wrong bytes: each is refused with a message or opens and then encodes and decodes whatever it is
 * given. What this looks for is undefined behaviour, so it says most when built with the sanitizers (SAN=1). */
#include "check.h"

#include "token_json.h"

enum { ROUNDS = 1500, SEEDS = 4 };

static bytes seed_file(int which)
{
    bytes b = { 0 };
    vocab v = which ? vocab_spm() : vocab_bpe();
    if (which < 2) {
        gguf g = vocab_keys(&v, 0);
        if (which == 0) key_int(&g, KEY("bos_token_id"), G_U32, 263);
        return gguf_bytes(&g);
    }
    free(v.tokens.data);
    char *json =
        which == 2
            ? file_of_pairs(
                  "{'type':'Sequence','normalizers':[{'type':'NFC'},{'type':'Replace','pattern':{'Regex':'b+|x'},"
                  "'content':'2'}]}",
                  "{'type':'Sequence','pretokenizers':[{'type':'Split','pattern':{'Regex':'(?i:a|[b-c]{1,2}+)"
                  "\\\\s+|\\\\p{N}(?!\\\\S)'},'behavior':'MergedWithNext','invert':false},{'type':'Metaspace',"
                  "'replacement':'_'},{'type':'Digits','individual_digits':true},{'type':'ByteLevel'}]}",
                  "{'id':320,'content':'<c>','special':true,'lstrip':true,'rstrip':true},"
                  "{'id':321,'content':'ab','special':false,'normalized':true,'single_word':true}")
            : file_of(
                  "'decoder':{'type':'Metaspace','replacement':'_'},'post_processor':{'type':'TemplateProcessing',"
                  "'single':[{'SpecialToken':{'id':'s'}},{'Sequence':{'id':'A'}}],'special_tokens':{'s':{'ids':[0]}}},",
                  "{'id':2,'content':'<s>','special':true}",
                  "'type':'Unigram','unk_id':0,'byte_fallback':true,'vocab':[['<unk>',0],['a',-1],['<s>',0],"
                  "['ab',-2.5],['<0x41>',-3],['aba',-3e30]]");
    put(&b, json, strlen(json));
    free(json);
    return b;
}

static void damage(bytes *b, unsigned long long *seed)
{
    static const char likely[] = "0129-\"{}[]:,\\()*+?|^$.";
    for (unsigned n = 1 + check_rand(seed) % 4; n > 0; n--) {
        size_t span = check_rand(seed) % 2 && b->n > 400 ? 400 : b->n, at = check_rand(seed) % span;
        switch (check_rand(seed) % 5) {
        case 0: b->data[at] ^= (unsigned char)(1u << check_rand(seed) % 8); break;
        case 1: b->data[at] = (unsigned char)check_rand(seed); break;
        case 2: b->data[at] = (unsigned char)likely[check_rand(seed) % (sizeof likely - 1)]; break;
        case 3:
            if (b->n - at > 9) {
                size_t less = 1 + check_rand(seed) % 8;
                memmove(b->data + at, b->data + at + less, b->n - at - less);
                b->n -= less;
            }
            break;
        default:
            if (b->n - at > 20) memmove(b->data + at, b->data + check_rand(seed) % (b->n - 10), 8);
        }
    }
}

static int use(pg_tokenizer *t)
{
    static const char *const text[] = { "abba <c> 12 \xff\xfe ab", "", "hello <tool> </s><unk> e\xcc\x81 1234   \n",
                                        "abababab__A1 !" };
    int fine = 1;
    for (int i = 0; i < 4; i++) {
        int32_t ids[200];
        char out[2000];
        int n = pg_encode(t, text[i], strlen(text[i]), i & 1, ids, 200, NULL);
        fine &= n >= 0;
        pg_detok *d = NULL;
        if (n <= 0 || n > 200 || pg_detok_open(t, 1, &d, NULL) < 0) continue;
        int total = pg_decode(t, ids, n, 1, out, sizeof out, NULL), streamed = 0;
        const char *piece;
        int32_t size;
        for (int k = 0; k < n; k++) {
            fine &= pg_detok_next(d, ids[k], &piece, &size, NULL) == PG_OK;
            streamed += size;
        }
        pg_detok_rest(d, &piece, &size);
        fine &= streamed + size == total;
        pg_detok_close(d);
    }
    return fine;
}

int main(void)
{
    char *tmp = scratch_new();
    unsigned long long seed = 11;
    int opened[SEEDS] = { 0 };
    for (int round = 0; round < ROUNDS; round++) {
        int which = round % SEEDS;
        bytes b = seed_file(which);
        damage(&b, &seed);
        pg_error err = { 0 };
        pg_tokenizer *t = NULL;
        const char *name = which < 2 ? "vocab.gguf" : "bad.json";
        int rc = pg_tokenizer_open(scratch_write(tmp, name, &b), &t, &err);
        scratch_remove(tmp, name);
        CHECK(rc == PG_OK ? use(t) : rc < 0 && err.code == rc && err.text[0], "round %d: code %d '%s'", round, rc,
              err.text);
        opened[which] += rc == PG_OK;
        pg_tokenizer_close(t);
    }
    for (int i = 0; i < SEEDS; i++)
        CHECK(opened[i] > 0 && opened[i] < ROUNDS / SEEDS, "seed %d: %d of %d opened", i, opened[i], ROUNDS / SEEDS);
    scratch_free(tmp);
    return check_done("token_fuzz");
}
