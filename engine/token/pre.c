/* The pre-tokenizers that GGUF files name.
 *
 * Lives here: the table tokenizer.ggml.pre -> expressions, applied one after the other, each isolating its matches.
 * Not here: how they run (regex.c, split.c).
 * Why so: a pre-tokenizer is data. The expressions are the published ones of each model's own tokenizer; \s, (?i: and
 * the like get their exact meaning in regex.c.
 * Sources: the tokenizer.json files of the models named; the names are those of llama.cpp's conversion script. */
#include "split.h"

/* GPT-2's expression, and the two that later vocabularies were made with (cl100k, o200k) with their variants. */
#define GPT2 "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define CL100K(number) SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define O200K(suffix, number)                                                                                \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" suffix \
    "|" number "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES
#define CJK "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"

/* The cased letters of the Unicode version that deepseek-llm was made with. */
#define CASED                                                                                                  \
    "\\x{41}-\\x{5a}\\x{61}-\\x{7a}\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"     \
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}"     \
    "\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}"            \
    "\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}"            \
    "\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}"          \
    "\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}"  \
    "\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}" \
    "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}" \
    "\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}"   \
    "\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}"            \
    "\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}"           \
    "\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}"          \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"        \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"                     \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

const char pg_pre_gpt2[] = GPT2;

static const char *const gpt2[] = { GPT2, NULL };
static const char *const starcoder[] = { "\\p{N}", GPT2, NULL };
static const char *const llama3[] = { CL100K("\\p{N}{1,3}"), NULL };
static const char *const qwen2[] = { CL100K("\\p{N}"), NULL };
static const char *const qwen35[] = { SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
                                             "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACES,
                                      NULL };
static const char *const tekken[] = { O200K("", "\\p{N}"), NULL };
static const char *const gpt4o[] = { O200K(SUFFIX "?", "\\p{N}{1,3}"), NULL };
static const char *const deepseek_llm[] = { "[\\r\\n]",
                                            "\\s?[" CASED "]+",
                                            "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
                                            "\\s+$",
                                            CJK,
                                            "\\p{N}+",
                                            NULL };
static const char *const deepseek_coder[] = { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}", NULL };
static const char *const deepseek_v3[] = { "\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                                           "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
                                           "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
                                           "| ?[\\p{P}\\p{S}]+[\\r\\n]*" SPACES,
                                           NULL };
static const char *const fallback[] = { "[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]", NULL };

static const struct {
    const char *name; /* a * at its end stands for anything */
    pg_pre pre;
} table[] = {
    { "default", { fallback, false, false } },
    { "gpt-2", { gpt2, false, false } },
    { "phi-2", { gpt2, false, false } },
    { "mpt", { gpt2, false, false } },
    { "olmo", { gpt2, false, false } },
    { "jais", { gpt2, false, false } },
    { "gigachat", { gpt2, false, false } },
    { "mellum", { gpt2, false, false } },
    { "modern-bert", { gpt2, false, false } },
    { "jina-*", { gpt2, false, false } },
    { "roberta-bpe", { gpt2, false, false } },
    { "exaone4", { gpt2, false, false } },
    { "trillion", { gpt2, false, false } },
    { "granite-docling", { gpt2, false, false } },
    { "starcoder", { starcoder, false, false } },
    { "smollm", { starcoder, false, false } },
    { "refact", { starcoder, false, false } },
    { "command-r", { starcoder, false, false } },
    { "codeshell", { starcoder, false, false } },
    { "exaone", { starcoder, false, false } },
    { "minerva-7b", { starcoder, false, false } },
    { "llama-bpe", { llama3, true, true } },
    { "llama3", { llama3, true, true } },
    { "llama-v3", { llama3, true, true } },
    { "falcon3", { llama3, true, true } },
    { "falcon-h1", { llama3, true, true } },
    { "pixtral", { llama3, true, true } },
    { "midm-2.0", { llama3, true, true } },
    { "lfm2", { llama3, true, true } },
    { "dbrx", { llama3, false, false } },
    { "smaug-bpe", { llama3, false, false } },
    { "glm4", { llama3, false, false } },
    { "chatglm-bpe", { llama3, false, false } },
    { "qwen2", { qwen2, false, false } },
    { "deepseek-r1-qwen", { qwen2, false, false } },
    { "kormo", { qwen2, false, false } },
    { "openpangu", { qwen2, false, false } },
    { "megrez", { qwen2, false, false } },
    { "stablelm2", { qwen2, false, false } },
    { "hunyuan", { qwen2, false, false } },
    { "solar-open", { qwen2, false, false } },
    { "qwen35", { qwen35, false, false } },
    { "tekken", { tekken, true, true } },
    { "deepseek-llm", { deepseek_llm, false, false } },
    { "deepseek-coder", { deepseek_coder, false, false } },
    { "deepseek-v3", { deepseek_v3, false, false } },
    { "hunyuan-dense", { deepseek_v3, false, false } },
    { "joyai-llm", { deepseek_v3, false, false } },
    { "gpt-4o", { gpt4o, false, false } },
    { "llama4", { gpt4o, false, false } },
    { "kanana2", { gpt4o, false, false } },
    { "minimax-m2", { gpt4o, false, false } },
    /* known by name only: what is left of them when their expressions are not published */
    { "youtu", { fallback, true, false } },
    { "chameleon", { fallback, false, true } },
};

const pg_pre *pg_pre_find(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *known = table[i].name;
        size_t size = strlen(known);
        bool open = known[size - 1] == '*';
        if (open ? n >= size - 1 && memcmp(known, name, size - 1) == 0 : n == size && memcmp(known, name, n) == 0)
            return &table[i].pre;
    }
    return NULL;
}
