/* Mutations that know the wire format of protobuf, though not the schema: a field whose bytes can
 * be read as a message is taken for one. Unless told otherwise, the lengths of all enclosing
 * messages are put right after a change. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

enum { MAX_NODES = 20000, MAX_LEVELS = 40 };

typedef struct node {
    size_t begin, value, end; /* of the tag, of the value (after the length), behind it */
    size_t length_at;         /* of the length, for length-delimited fields */
    int parent;               /* -1 at the top */
    unsigned field, wire;
    bool message;
} node;

typedef struct tree {
    node nodes[MAX_NODES];
    int count;
} tree;

static bool get_varint(const bytes *b, size_t *at, size_t end, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        unsigned char byte = b->data[(*at)++];
        *value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

static size_t put_varint(unsigned char *to, uint64_t value)
{
    size_t n = 0;
    for (; value >= 0x80; value >>= 7)
        to[n++] = (unsigned char)(value | 0x80);
    to[n++] = (unsigned char)value;
    return n;
}

/* Adds the fields of [at, end); false, with nothing added, if that is no message. */
static bool scan(const bytes *b, size_t at, size_t end, int parent, int level, tree *out)
{
    const int mark = out->count;
    while (at < end) {
        node n = {.begin = at, .parent = parent};
        uint64_t tag, length;
        bool ok = get_varint(b, &at, end, &tag) && tag >> 3 > 0 && tag >> 3 < 4096 &&
                  out->count < MAX_NODES;
        n.field = (unsigned)(tag >> 3);
        n.wire = tag & 7;
        n.value = n.length_at = at;
        if (ok && n.wire == 0) {
            ok = get_varint(b, &at, end, &length);
        } else if (ok && n.wire == 2) {
            ok = get_varint(b, &at, end, &length) && length <= end - at;
            n.value = at;
            at += ok ? (size_t)length : 0;
        } else if (ok && (n.wire == 1 || n.wire == 5)) {
            size_t size = n.wire == 1 ? 8 : 4;
            ok = end - at >= size;
            at += size;
        } else {
            ok = false;
        }
        if (!ok) {
            out->count = mark;
            return false;
        }
        n.end = at;
        int index = out->count++;
        n.message = n.wire == 2 && n.end > n.value && level < MAX_LEVELS &&
                    scan(b, n.value, n.end, index, level + 1, out);
        out->nodes[index] = n;
    }
    return true;
}

/* Replaces [at, at + removed) by n bytes inside the node `inside` (-1: the whole message) and puts
 * the lengths around it right. */
static void replace_inside(bytes *b, const tree *t, int inside, size_t at, size_t removed,
                           const void *with, size_t n)
{
    ptrdiff_t change = (ptrdiff_t)n - (ptrdiff_t)removed;
    bytes_replace(b, at, removed, with, n);
    for (int i = inside; i >= 0; i = t->nodes[i].parent) {
        const node *around = &t->nodes[i];
        unsigned char length[10];
        size_t old = around->value - around->length_at;
        size_t bytes =
            put_varint(length, (uint64_t)((ptrdiff_t)(around->end - around->value) + change));
        bytes_replace(b, around->length_at, old, length, bytes);
        change += (ptrdiff_t)bytes - (ptrdiff_t)old;
    }
}

static tree *scan_whole(const bytes *b)
{
    tree *t = malloc(sizeof *t);
    if (!t)
        abort();
    t->count = 0;
    scan(b, 0, b->size, -1, 0, t);
    return t;
}

/* A node; often of one wire type, so that the rare ones get their share. */
static int pick_node(rng *r, const tree *t)
{
    static const unsigned char wires[] = {0, 0, 2, 2, 2, 5};
    unsigned wire = wires[rng_below(r, sizeof wires)];
    int from = (int)rng_below(r, (size_t)t->count);
    for (int i = 0; i < t->count; i++) {
        int at = (from + i) % t->count;
        if (t->nodes[at].wire == wire)
            return at;
    }
    return from;
}

/* ---------------------------------------------------------------- changes */

static void change_word(rng *r, bytes *b, const tree *t, const node *n, const word_list *words)
{
    const char *word = words->words[rng_below(r, words->count)];
    replace_inside(b, t, (int)(n - t->nodes), n->value, n->end - n->value, word, strlen(word));
}

static void change_varint(rng *r, bytes *b, const tree *t, const node *n)
{
    unsigned char text[10];
    size_t at = n->value;
    uint64_t old = 0, value;
    get_varint(b, &at, n->end, &old);
    switch (rng_below(r, 6)) {
    case 0: value = old + 1; break;
    case 1: value = old - 1; break;
    case 2: value = old * 2; break;
    case 3: value = old / 2; break;
    case 4: value = rng_below(r, 64); break;
    default: value = rng_interesting(r, rng_chance(r, 50) ? old : b->size); break;
    }
    replace_inside(b, t, n->parent, n->value, n->end - n->value, text, put_varint(text, value));
}

static void change_content(rng *r, bytes *b, const tree *t, const node *n)
{
    bytes content = {0};
    bytes_replace(&content, 0, 0, b->data + n->value, n->end - n->value);
    mutate_bytes(r, &content, NULL);
    replace_inside(b, t, (int)(n - t->nodes), n->value, n->end - n->value, content.data,
                   content.size);
    free(content.data);
}

static void duplicate(rng *r, bytes *b, const tree *t, const node *n)
{
    static const size_t often[] = {1, 1, 1, 2, 10, 300, 3000};
    size_t size = n->end - n->begin, times = often[rng_below(r, sizeof often / sizeof *often)];
    if (times * size > 256 << 10)
        times = 1;
    unsigned char *copies = malloc(times * size);
    if (!copies)
        abort();
    for (size_t i = 0; i < times; i++)
        memcpy(copies + i * size, b->data + n->begin, size);
    replace_inside(b, t, n->parent, n->end, 0, copies, times * size);
    free(copies);
}

/* Wraps a message in itself, again and again. */
static void nest(rng *r, bytes *b, const tree *t, const node *n)
{
    static const size_t depths[] = {1, 2, 10, 30, 62, 66, 98, 102, 500};
    size_t depth = depths[rng_below(r, sizeof depths / sizeof *depths)];
    bytes content = {0};
    bytes_replace(&content, 0, 0, b->data + n->begin, n->end - n->begin);
    /* The fields between the node and its parent's parent make up one level. */
    const node *outer = n->parent >= 0 && rng_chance(r, 70) ? &t->nodes[n->parent] : n;
    if (outer->parent >= 0 && rng_chance(r, 50))
        outer = &t->nodes[outer->parent];
    for (size_t i = 0; i < depth && content.size < 64 << 10; i++) {
        for (int at = (int)(n - t->nodes);; at = t->nodes[at].parent) {
            unsigned char head[20];
            size_t size = put_varint(head, (uint64_t)t->nodes[at].field << 3 | 2);
            size += put_varint(head + size, content.size);
            bytes_replace(&content, 0, 0, head, size);
            if (&t->nodes[at] == outer)
                break;
        }
    }
    replace_inside(b, t, n->parent, n->begin, n->end - n->begin, content.data, content.size);
    free(content.data);
}

/* Puts a field from the donor, or another one of the message, in the place of this or beside it. */
static void splice(rng *r, bytes *b, const tree *t, const node *n, const bytes *donor)
{
    const bytes *source = donor && donor->size && rng_chance(r, 50) ? donor : b;
    tree *other = source == b ? NULL : scan_whole(source);
    const tree *from = other ? other : t;
    if (from->count) {
        const node *piece = &from->nodes[rng_below(r, (size_t)from->count)];
        for (int i = 0; i < 50 && piece->field != n->field; i++)
            piece = &from->nodes[rng_below(r, (size_t)from->count)];
        bytes copy = {0};
        bytes_replace(&copy, 0, 0, source->data + piece->begin, piece->end - piece->begin);
        replace_inside(b, t, n->parent, n->begin, rng_chance(r, 60) ? n->end - n->begin : 0,
                       copy.data, copy.size);
        free(copy.data);
    }
    free(other);
}

static void change_tag(rng *r, bytes *b, const tree *t, const node *n)
{
    static const unsigned fields[] = {1, 2, 3, 4, 5, 7, 10, 200, 201, 202, 502, 2047};
    unsigned char tag[10];
    unsigned field = n->field, wire = n->wire;
    if (rng_chance(r, 70))
        field = fields[rng_below(r, sizeof fields / sizeof *fields)];
    else
        wire = (unsigned)rng_below(r, 8);
    size_t old = (n->wire == 2 ? n->length_at : n->value) - n->begin;
    replace_inside(b, t, n->parent, n->begin, old, tag,
                   put_varint(tag, (uint64_t)field << 3 | wire));
}

/* Changes the length and nothing else, so that everything behind it is read differently. */
static void change_length(rng *r, bytes *b, const node *n)
{
    unsigned char text[10];
    uint64_t old = n->end - n->value;
    uint64_t length = rng_chance(r, 50) ? old + rng_below(r, 5) - 2 : rng_interesting(r, b->size);
    bytes_replace(b, n->length_at, n->value - n->length_at, text, put_varint(text, length));
}

void mutate_wire(rng *r, bytes *message, const bytes *donor, const word_list *words)
{
    tree *t = scan_whole(message);
    if (t->count == 0) {
        mutate_bytes(r, message, donor);
        free(t);
        return;
    }
    const node *n = &t->nodes[pick_node(r, t)];
    const size_t kind = rng_below(r, 100);
    if (n->wire == 0 && kind < 80)
        change_varint(r, message, t, n);
    else if (n->wire == 2 && !n->message && kind < 25)
        change_word(r, message, t, n, words);
    else if (n->wire == 2 && kind < 40)
        change_content(r, message, t, n);
    else if (n->wire == 2 && kind < 45)
        change_length(r, message, n);
    else if (n->wire == 2 && kind < 50)
        nest(r, message, t, n);
    else if (kind < 70)
        splice(r, message, t, n, donor);
    else if (kind < 80)
        replace_inside(message, t, n->parent, n->begin, n->end - n->begin, NULL, 0);
    else if (kind < 90)
        duplicate(r, message, t, n);
    else
        change_tag(r, message, t, n);
    free(t);
}
