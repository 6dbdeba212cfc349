/* What was meant by a word that is none: the one that is fewest changed letters away. */
#include <string.h>

#include "cli.h"

enum { LONGEST = 63 };

static size_t least(size_t a, size_t b, size_t c)
{
    const size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/* Letters to insert, remove or change to get from one word to the other. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t row[LONGEST + 1];
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 0; i < a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < b_length; j++) {
            const size_t above = row[j + 1];
            row[j + 1] = least(above + 1, row[j] + 1, diagonal + (a[i] != b[j]));
            diagonal = above;
        }
    }
    return row[b_length];
}

suggestion suggestion_begin(const char *given, size_t length)
{
    /* a third of the letters may be wrong: with more it is a guess */
    return (suggestion){.given = given, .length = length, .limit = length / 3 + 1};
}

void suggestion_offer(suggestion *s, const char *word)
{
    const size_t length = strlen(word);
    if (length > LONGEST || s->length > LONGEST)
        return;
    const size_t changes = distance(s->given, s->length, word, length);
    if (changes >= s->limit)
        return;
    s->limit = changes;
    snprintf(s->best, sizeof s->best, "%s", word);
}
