#include "method/pattern.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum {
    MAX_DEPTH = 50,
    MAX_PROGRAM = 1000, /* instructions; repetitions are written out */
    MAX_SPENT = 100000, /* of all patterns together */
};

typedef enum operation {
    ONE_OF, /* a byte of set x */
    SPLIT,  /* on at x and at y */
    JUMP,   /* on at x */
    BEGIN,  /* the start of the name */
    END,    /* its end */
    MATCH,
} operation;

typedef struct instruction {
    uint8_t operation;
    uint16_t x, y;
} instruction;

typedef struct byte_set {
    uint8_t bits[32];
} byte_set;

struct pattern {
    const char *plain; /* no special characters but dots: compared as it is. The rest is empty. */
    instruction *program;
    byte_set *sets;
    size_t count, capacity, set_count, set_capacity;
};

/* ---------------------------------------------------------------- sets of bytes */

static void set_add(byte_set *set, unsigned first, unsigned last)
{
    for (unsigned c = first; c <= last; c++)
        set->bits[c / 8] |= (uint8_t)(1u << c % 8);
}

static bool set_has(const byte_set *set, unsigned char c)
{
    return set->bits[c / 8] >> c % 8 & 1;
}

/* "alpha" and so on. */
static bool set_add_class(byte_set *set, const char *name, size_t length)
{
    static const struct {
        const char *name;
        int (*holds)(int);
    } classes[] = {
        {"alpha", isalpha}, {"digit", isdigit}, {"alnum", isalnum}, {"upper", isupper},
        {"lower", islower}, {"space", isspace}, {"blank", isblank}, {"punct", ispunct},
        {"print", isprint}, {"graph", isgraph}, {"cntrl", iscntrl}, {"xdigit", isxdigit},
    };
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        if (strlen(classes[i].name) != length || memcmp(classes[i].name, name, length) != 0)
            continue;
        for (unsigned c = 0; c < 128; c++)
            if (classes[i].holds((int)c))
                set_add(set, c, c);
        return true;
    }
    return false;
}

/* Reads "[...]" at `at`; returns what is behind it, or NULL if it is none that we know. */
static const char *read_set(const char *at, byte_set *set)
{
    const bool inverted = *++at == '^';
    at += inverted;
    for (bool first = true; *at != ']' || first; first = false) {
        if (*at == '[' && at[1] == ':') {
            const char *end = strstr(at, ":]");
            if (!end || end < at + 2 || !set_add_class(set, at + 2, (size_t)(end - at) - 2))
                return NULL;
            at = end + 2;
            continue;
        }
        if (!*at || (*at == '[' && (at[1] == '.' || at[1] == '=')))
            return NULL;
        const unsigned char from = (unsigned char)*at++;
        unsigned char to = from;
        if (*at == '-' && at[1] && at[1] != ']') {
            to = (unsigned char)at[1];
            at += 2;
        }
        if (to < from || (to == '[' && from != to))
            return NULL;
        set_add(set, from, to);
    }
    for (size_t i = 0; inverted && i < sizeof set->bits; i++)
        set->bits[i] = (uint8_t)~set->bits[i];
    return at + 1;
}

/* ---------------------------------------------------------------- finding the ends of things */

/* Behind the atom at `at`; NULL if there is none that is sound. */
static const char *skip_atom(const char *at)
{
    byte_set ignored = {{0}};
    size_t depth = 0;
    do {
        switch (*at) {
        case 0:
        case '*':
        case '+':
        case '?':
        case '{':
            if (!*at || depth == 0)
                return NULL;
            at++;
            break;
        case '(':
            depth++;
            at++;
            break;
        case ')':
            if (depth-- == 0)
                return NULL;
            at++;
            break;
        case '[':
            if (!(at = read_set(at, &ignored)))
                return NULL;
            break;
        case '\\':
            if (!at[1])
                return NULL;
            at += 2;
            break;
        default: at++;
        }
    } while (depth > 0);
    return at;
}

typedef struct bounds {
    unsigned long least, most; /* most ULONG_MAX: any number */
} bounds;

/* Reads what may follow an atom; NULL if it is damaged. Without any: once. */
static const char *read_bounds(const char *at, bounds *out)
{
    static const unsigned long any = (unsigned long)-1;
    char *end;
    *out = (bounds){1, 1};
    switch (*at) {
    case '*': *out = (bounds){0, any}; return at + 1;
    case '+': *out = (bounds){1, any}; return at + 1;
    case '?': *out = (bounds){0, 1}; return at + 1;
    case '{': break;
    default: return at;
    }
    if (!isdigit((unsigned char)at[1]))
        return NULL;
    out->least = out->most = strtoul(at + 1, &end, 10);
    if (*end == ',') {
        out->most = any;
        if (isdigit((unsigned char)*++end))
            out->most = strtoul(end, &end, 10);
    }
    return *end == '}' && out->least <= out->most ? end + 1 : NULL;
}

/* ---------------------------------------------------------------- compiling */

typedef struct compiler {
    pattern *pattern;
    const char *at;
    int depth;
    enum { SOUND, NO_PATTERN, TOO_LARGE, BACK_REFERENCE, NO_MEMORY } state;
} compiler;

static void stop(compiler *c, int state)
{
    if (c->state == SOUND)
        c->state = state;
}

/* Adds an instruction; returns its place. */
static size_t emit(compiler *c, operation operation, size_t x, size_t y)
{
    pattern *p = c->pattern;
    if (p->count >= MAX_PROGRAM)
        stop(c, TOO_LARGE);
    else if (!mem_grow((void **)&p->program, &p->capacity, p->count + 1, sizeof *p->program))
        stop(c, NO_MEMORY);
    if (c->state != SOUND)
        return 0;
    p->program[p->count] = (instruction){(uint8_t)operation, (uint16_t)x, (uint16_t)y};
    return p->count++;
}

static void emit_set(compiler *c, const byte_set *set)
{
    pattern *p = c->pattern;
    const size_t i = p->set_count;
    emit(c, ONE_OF, i, 0);
    if (c->state == SOUND && !mem_grow((void **)&p->sets, &p->set_capacity, i + 1, sizeof *p->sets))
        stop(c, NO_MEMORY);
    if (c->state != SOUND)
        return;
    p->sets[i] = *set;
    p->set_count++;
}

static void compile_alternatives(compiler *c);

static void compile_group(compiler *c)
{
    if (++c->depth > MAX_DEPTH)
        stop(c, TOO_LARGE);
    c->at++;
    emit(c, JUMP, c->pattern->count + 1, 0); /* so that even an empty group counts */
    if (c->state == SOUND)
        compile_alternatives(c);
    if (c->state == SOUND && *c->at++ != ')')
        stop(c, NO_PATTERN);
    c->depth--;
}

/* One atom, which skip_atom() has found sound. */
static void compile_atom(compiler *c)
{
    byte_set set = {{0}};
    switch (*c->at) {
    case '(': compile_group(c); return;
    case '^':
        emit(c, BEGIN, 0, 0);
        c->at++;
        return;
    case '$':
        emit(c, END, 0, 0);
        c->at++;
        return;
    case '[': c->at = read_set(c->at, &set); break;
    case '.':
        set_add(&set, 1, 255);
        c->at++;
        break;
    case '\\':
        if (isdigit((unsigned char)*++c->at))
            stop(c, BACK_REFERENCE);
        /* fall through */
    default: set_add(&set, (unsigned char)*c->at, (unsigned char)*c->at); c->at++;
    }
    emit_set(c, &set);
}

/* An atom with the number of times that it may occur: it is compiled that often. */
static void compile_piece(compiler *c)
{
    static const unsigned long any = (unsigned long)-1;
    const char *atom = c->at, *end = skip_atom(atom), *behind;
    bounds times;
    if (!end || !(behind = read_bounds(end, &times)) ||
        (behind > end && strchr("*+?{", *behind) && *behind)) {
        stop(c, NO_PATTERN);
        return;
    }
    for (unsigned long i = 0; i < times.least && c->state == SOUND; i++) {
        c->at = atom;
        compile_atom(c);
    }
    if (times.most == any) {
        const size_t split = emit(c, SPLIT, c->pattern->count + 1, 0);
        c->at = atom;
        if (c->state == SOUND)
            compile_atom(c);
        emit(c, JUMP, split, 0);
        if (c->state == SOUND)
            c->pattern->program[split].y = (uint16_t)c->pattern->count;
    }
    for (unsigned long i = times.least; i < times.most && times.most != any && c->state == SOUND;
         i++) {
        const size_t split = emit(c, SPLIT, c->pattern->count + 1, 0);
        c->at = atom;
        if (c->state == SOUND)
            compile_atom(c);
        if (c->state == SOUND)
            c->pattern->program[split].y = (uint16_t)c->pattern->count;
    }
    c->at = behind;
}

static bool ends_branch(char c)
{
    return !c || c == '|' || c == ')';
}

/* Whether a "|" follows the branch at `at`. */
static bool has_other_branch(const char *at)
{
    bounds ignored;
    while (at && !ends_branch(*at))
        if ((at = skip_atom(at)))
            at = read_bounds(at, &ignored);
    return at && *at == '|';
}

/* Branches up to a closing parenthesis or the end. */
static void compile_alternatives(compiler *c)
{
    size_t jumps = SIZE_MAX; /* to the end, linked through x */
    for (bool more = true; more && c->state == SOUND;) {
        more = has_other_branch(c->at);
        const size_t split = more ? emit(c, SPLIT, c->pattern->count + 1, 0) : 0;
        while (c->state == SOUND && !ends_branch(*c->at))
            compile_piece(c);
        if (!more || c->state != SOUND)
            continue;
        const size_t jump = emit(c, JUMP, jumps == SIZE_MAX ? UINT16_MAX : jumps, 0);
        if (c->state != SOUND)
            continue;
        jumps = jump;
        c->pattern->program[split].y = (uint16_t)c->pattern->count;
        c->at++;
    }
    while (c->state == SOUND && jumps != SIZE_MAX) {
        instruction *jump = &c->pattern->program[jumps];
        jumps = jump->x == UINT16_MAX ? SIZE_MAX : jump->x;
        jump->x = (uint16_t)c->pattern->count;
    }
}

static pal_status finish(compiler *c, const char *text, size_t *spent)
{
    if (c->state == SOUND && *c->at)
        stop(c, NO_PATTERN); /* a parenthesis that closes nothing */
    emit(c, MATCH, 0, 0);
    *spent += c->pattern->count;
    if (c->state == SOUND && *spent > MAX_SPENT)
        return fail(PAL_ERROR_ARGUMENT,
                    "%.100s: too large as a regular expression, after those before it", text);
    switch (c->state) {
    case TOO_LARGE:
        return fail(PAL_ERROR_ARGUMENT, "%.100s: too large as a regular expression", text);
    case BACK_REFERENCE:
        return fail(PAL_ERROR_ARGUMENT, "%.100s: back references are not supported", text);
    case NO_MEMORY: return fail_memory("reading a regular expression");
    default: return PAL_OK;
    }
}

pal_status pattern_new(const char *text, size_t *spent, pattern **out)
{
    pattern *p = mem_zeroed(1, sizeof *p);
    *out = NULL;
    if (!p)
        return fail_memory("reading a regular expression");
    if (!text[strcspn(text, "*+?{}()[]|\\^$")]) {
        p->plain = text;
        *out = p;
        return PAL_OK;
    }
    compiler c = {.pattern = p, .at = text};
    compile_alternatives(&c);
    pal_status status = finish(&c, text, spent);
    if (status || c.state != SOUND)
        pattern_free(p);
    else
        *out = p;
    return status;
}

void pattern_free(pattern *pattern)
{
    if (!pattern)
        return;
    free(pattern->program);
    free(pattern->sets);
    free(pattern);
}

/* ---------------------------------------------------------------- matching */

/* The instructions that wait for a byte, or are MATCH. */
typedef struct states {
    uint16_t list[MAX_PROGRAM];
    size_t count;
} states;

/* Adds what can be reached from `start` without a byte. */
static void follow(const pattern *p, states *to, bool *seen, size_t start, bool begin, bool end)
{
    uint16_t stack[2 * MAX_PROGRAM];
    size_t depth = 0;
    stack[depth++] = (uint16_t)start;
    while (depth > 0) {
        const uint16_t at = stack[--depth];
        const instruction *i = &p->program[at];
        if (seen[at])
            continue;
        seen[at] = true;
        switch (i->operation) {
        case JUMP: stack[depth++] = i->x; break;
        case SPLIT:
            stack[depth++] = i->x;
            stack[depth++] = i->y;
            break;
        case BEGIN:
        case END:
            if (i->operation == BEGIN ? begin : end)
                stack[depth++] = (uint16_t)(at + 1);
            break;
        default: to->list[to->count++] = at;
        }
    }
}

static bool matches_plain(const char *text, const char *name)
{
    while (*text && *name && (*text == '.' || *text == *name))
        text++, name++;
    return !*text && !*name;
}

bool pattern_matches(const pattern *p, const char *name)
{
    states now, next;
    bool seen[MAX_PROGRAM] = {false};
    if (p->plain)
        return matches_plain(p->plain, name);
    now.count = 0;
    follow(p, &now, seen, 0, true, !*name);
    for (const char *c = name; *c && now.count > 0; c++) {
        next.count = 0;
        memset(seen, 0, p->count * sizeof *seen);
        for (size_t s = 0; s < now.count; s++) {
            const instruction *i = &p->program[now.list[s]];
            if (i->operation == ONE_OF && set_has(&p->sets[i->x], (unsigned char)*c))
                follow(p, &next, seen, (size_t)now.list[s] + 1, false, !c[1]);
        }
        now = next;
    }
    for (size_t s = 0; s < now.count; s++)
        if (p->program[now.list[s]].operation == MATCH)
            return true;
    return false;
}
