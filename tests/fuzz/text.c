/* Mutations of a text that is made of words, numbers and signs, whatever its grammar. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { MOST_TOKENS = 4096 };

typedef struct token {
    size_t begin, end;
    enum { NUMBER, WORD, SPACE, SIGN } kind;
} token;

static bool in_word(int c)
{
    return isalnum(c) || c == '_' || c == '.' || c == '-' || c >= 128;
}

/* Cuts a text into tokens; of a long one, only the first. */
static size_t cut(const bytes *text, token *tokens)
{
    size_t count = 0;
    for (size_t at = 0; at < text->size && count < MOST_TOKENS; count++) {
        token *t = &tokens[count];
        const int c = text->data[at];
        t->begin = at++;
        t->kind = isdigit(c) ? NUMBER : in_word(c) ? WORD : isspace(c) ? SPACE : SIGN;
        while (t->kind != SIGN && at < text->size &&
               (t->kind == NUMBER ? isdigit(text->data[at])
                : t->kind == WORD ? in_word(text->data[at])
                                  : isspace(text->data[at])))
            at++;
        t->end = at;
    }
    return count;
}

/* A token, of a kind that is drawn first so that the rare ones get their share. */
static const token *pick(rng *r, const token *tokens, size_t count)
{
    const size_t from = rng_below(r, count), kind = rng_below(r, 4);
    for (size_t i = 0; i < count; i++)
        if (tokens[(from + i) % count].kind == kind)
            return &tokens[(from + i) % count];
    return &tokens[from];
}

/* ---------------------------------------------------------------- changes */

static void change_number(rng *r, bytes *text, const token *t)
{
    char digits[32] = "", number[40];
    size_t length = t->end - t->begin < 30 ? t->end - t->begin : 30;
    memcpy(digits, text->data + t->begin, length);
    uint64_t old = strtoull(digits, NULL, 10), value;
    switch (rng_below(r, 6)) {
    case 0: value = old + 1; break;
    case 1: value = old - 1; break;
    case 2: value = old * 2; break;
    case 3: value = old / 2; break;
    case 4: value = rng_below(r, 20); break;
    default: value = rng_interesting(r, rng_chance(r, 50) ? old : text->size); break;
    }
    const char *before = rng_chance(r, 5) ? "-" : "", *after = rng_chance(r, 3) ? ".5" : "";
    int n = snprintf(number, sizeof number, "%s%llu%s", before, (unsigned long long)value, after);
    bytes_replace(text, t->begin, t->end - t->begin, number, (size_t)n);
}

/* Puts a word in the place of the token, or before it. */
static void put_word(rng *r, bytes *text, const token *t, const word_list *words)
{
    const char *word = words->words[rng_below(r, words->count)];
    bytes_replace(text, t->begin, rng_chance(r, 70) ? t->end - t->begin : 0, word, strlen(word));
}

/* Some tokens from here or from the donor, in another place. */
static void splice(rng *r, bytes *text, const token *tokens, size_t count, const bytes *donor)
{
    static token others[MOST_TOKENS];
    const bytes *source = donor && donor->size && rng_chance(r, 50) ? donor : text;
    const size_t there = source == text ? count : cut(source, others);
    const token *from = source == text ? tokens : others;
    const size_t first = rng_below(r, there), more = there - first < 30 ? there - first : 30;
    const token *last = &from[first + rng_below(r, rng_chance(r, 50) ? 1 : more)];
    const token *at = pick(r, tokens, count);
    bytes piece = {0};
    bytes_replace(&piece, 0, 0, source->data + from[first].begin, last->end - from[first].begin);
    bytes_replace(text, at->begin, rng_chance(r, 50) ? at->end - at->begin : 0, piece.data,
                  piece.size);
    free(piece.data);
}

/* Tokens from one to another: gone, or there several times. */
static void repeat(rng *r, bytes *text, const token *tokens, size_t count)
{
    static const size_t often[] = {0, 0, 0, 2, 2, 3, 10, 100, 2000};
    const size_t first = rng_below(r, count), more = count - first < 40 ? count - first : 40;
    const size_t begin = tokens[first].begin, end = tokens[first + rng_below(r, more)].end;
    size_t times = often[rng_below(r, sizeof often / sizeof *often)];
    if (times * (end - begin) > 64 << 10)
        times = 2;
    bytes piece = {0}, all = {0};
    bytes_replace(&piece, 0, 0, text->data + begin, end - begin);
    for (size_t i = 0; i < times; i++)
        bytes_replace(&all, all.size, 0, piece.data, piece.size);
    bytes_replace(text, begin, end - begin, all.data, all.size);
    free(piece.data);
    free(all.data);
}

/* Deep, or long. */
static void insert_run(rng *r, bytes *text, const token *t)
{
    enum { LONGEST = 30000 };
    static char run[LONGEST];
    static const char *const pieces[] = {"[", "{",  "(",   "a",  "1", "{\"a\":", "- ",  "? ",
                                         " ", "\n", "(a|", "a?", "*", "'",       "[[],"};
    const char *piece = pieces[rng_below(r, sizeof pieces / sizeof *pieces)];
    const size_t n = strlen(piece), most = rng_chance(r, 50) ? 300 : LONGEST;
    size_t size = rng_below(r, most) / n * n;
    for (size_t i = 0; i < size; i++)
        run[i] = piece[i % n];
    bytes_replace(text, t->begin, 0, run, size);
}

static void swap(rng *r, bytes *text, const token *tokens, size_t count)
{
    const token *a = pick(r, tokens, count), *b = pick(r, tokens, count);
    if (a->begin >= b->begin)
        return;
    bytes x = {0}, y = {0};
    bytes_replace(&x, 0, 0, text->data + a->begin, a->end - a->begin);
    bytes_replace(&y, 0, 0, text->data + b->begin, b->end - b->begin);
    bytes_replace(text, b->begin, y.size, x.data, x.size);
    bytes_replace(text, a->begin, x.size, y.data, y.size);
    free(x.data);
    free(y.data);
}

void mutate_text(rng *r, bytes *text, const bytes *donor, const word_list *words)
{
    static token tokens[MOST_TOKENS];
    const size_t count = cut(text, tokens), choice = rng_below(r, 100);
    if (count == 0) {
        mutate_bytes(r, text, donor);
        return;
    }
    const token *t = pick(r, tokens, count);
    if (t->kind == NUMBER && choice < 60)
        change_number(r, text, t);
    else if (choice < 40)
        put_word(r, text, t, words);
    else if (choice < 55)
        splice(r, text, tokens, count, donor);
    else if (choice < 70)
        repeat(r, text, tokens, count);
    else if (choice < 80)
        swap(r, text, tokens, count);
    else if (choice < 85)
        insert_run(r, text, t);
    else if (choice < 92)
        bytes_replace(text, t->begin, t->end - t->begin, NULL, 0);
    else
        mutate_bytes(r, text, donor);
}
