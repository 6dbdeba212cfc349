/* What a tensor's name says about its use. A checkpoint has no graph, only the names that the
 * model's code gives its parameters: "model.layers.0.self_attn.q_proj.weight". The last part is the
 * kind of parameter, the one before it the module that owns it. */
#include <ctype.h>
#include <string.h>

#include "format/safetensors/safetensors.h"

typedef struct word {
    const char *text;
    size_t length;
} word;

static bool is(word w, const char *text)
{
    return strlen(text) == w.length && memcmp(w.text, text, w.length) == 0;
}

static bool starts(word w, const char *text)
{
    size_t n = strlen(text);
    return w.length >= n && memcmp(w.text, text, n) == 0;
}

/* Whether the word contains the (lower-case) text, in letters of either case. */
static bool contains(word w, const char *text)
{
    const size_t n = strlen(text);
    for (size_t i = 0; i + n <= w.length; i++) {
        size_t same = 0;
        while (same < n && tolower((unsigned char)w.text[i + same]) == text[same])
            same++;
        if (same == n)
            return true;
    }
    return false;
}

/* The part of a name that ends before `end`. */
static word part_before(const char *name, const char *end)
{
    const char *begin = end;
    while (begin > name && begin[-1] != '.')
        begin--;
    return (word){begin, (size_t)(end - begin)};
}

void name_tells(const char *name, bool *embedding, const char **locked)
{
    const word kind = part_before(name, name + strlen(name));
    const word module =
        is(kind, "weight") && kind.text > name ? part_before(name, kind.text - 1) : kind;
    *embedding = false;
    *locked = NULL;
    if (contains(kind, "bias"))
        *locked = "by its name it is a bias";
    else if (contains(kind, "scale") || is(kind, "absmax"))
        *locked = "by its name it holds scales of values that are quantized already";
    else if (contains(module, "norm") || is(module, "ln") || starts(module, "ln_"))
        *locked = "by its name it belongs to a normalization";
    else
        *embedding = contains(module, "embed") || is(module, "emb") || is(module, "wte") ||
                     is(module, "wpe") || is(module, "shared");
}
