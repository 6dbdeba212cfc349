/* Recognises the operators of recipe.c in a graph.
 *
 * First the palette is read off the operators, assuming that they are a recipe and checking only
 * what keeps the reading safe. Then the recipe for that palette is made again and held against the
 * graph: every operator, attribute and constant must be the same. So whatever is recognised
 * computes exactly what palette_decode() does, and nothing else is recognised. */
#include <stdlib.h>
#include <string.h>

#include "format/onnx/onnx.h"
#include "palette/pack.h"

typedef struct matching {
    onnx *state;
    const scope *scope;
    size_t graph;
    ProtobufCBinaryData prefix;
    palette *p;
    tensor lut, indices, lut_scale, lut_offset, scale;
    tensor places, exact;           /* of outliers */
    uint64_t split[MAX_DIMENSIONS]; /* shape of the indices, as in recipe.c */
    size_t split_rank;
    bool has_tables;          /* several */
    tensor tables;            /* where each begins; no data: counted by operators */
    const definition *packed; /* of the indices */
    size_t vector_place;      /* SIZE_MAX: at the end */
} matching;

size_t match_prefix(ProtobufCBinaryData name)
{
    static const char prefix[] = "pal";
    size_t i = sizeof prefix - 1;
    if (name.len <= i || memcmp(name.data, prefix, i) != 0)
        return 0;
    while (i < name.len && name.data[i] >= '0' && name.data[i] <= '9')
        i++;
    return i < name.len && name.data[i] == '.' ? i + 1 : 0;
}

/* Whether a name is one of a recipe's, all of which begin in the same way. */
static bool is_helper(const matching *m, ProtobufCBinaryData name)
{
    return name.len > m->prefix.len && memcmp(name.data, m->prefix.data, m->prefix.len) == 0;
}

/* ---------------------------------------------------------------- looking at the graph */

static const definition *find_local(const matching *m, ProtobufCBinaryData name)
{
    const definition *d = is_helper(m, name) ? scope_find(m->scope, name) : NULL;
    return d && d->graph == m->graph && d->input == NONE ? d : NULL;
}

/* The operator of that type that makes a value, or NULL. Every operator of a recipe has one output
 * and one to three inputs. */
static const Onnx__Node *producer(const matching *m, ProtobufCBinaryData name, const char *type)
{
    const definition *d = find_local(m, name);
    if (!d || d->node == NONE)
        return NULL;
    const Onnx__Node *node = m->state->graphs[m->graph].message->node[d->node];
    return node_is(node, type) && node->n_output == 1 && node->n_input >= 1 && node->n_input <= 3
               ? node
               : NULL;
}

static const Onnx__Node *producer_of(const matching *m, const Onnx__Node *node, size_t input,
                                     const char *type)
{
    return input < node->n_input ? producer(m, node->input[input], type) : NULL;
}

static Onnx__Tensor *constant_message(const matching *m, const definition *d)
{
    const Onnx__Graph *graph = m->state->graphs[m->graph].message;
    if (d && d->initializer != NONE)
        return graph->initializer[d->initializer];
    return d && d->node != NONE ? node_constant(graph->node[d->node]) : NULL;
}

/* Whether a value is a constant that can be read. */
static bool read_constant(const matching *m, ProtobufCBinaryData name, tensor *out)
{
    const Onnx__Tensor *message = constant_message(m, find_local(m, name));
    bool known;
    return message && !tensor_type_read(m->state, message, out, &known) && known &&
           !tensor_read(m->state, message, out) && out->data && out->elements > 0;
}

/* The constant behind an optional Cast. */
static bool read_cast_constant(const matching *m, ProtobufCBinaryData name, tensor *out)
{
    const Onnx__Node *cast = producer(m, name, "Cast");
    return read_constant(m, cast ? cast->input[0] : name, out);
}

/* ---------------------------------------------------------------- reading the palette */

static bool read_shape(const matching *m, const Onnx__Node *reshape, uint64_t *shape, size_t *rank,
                       size_t most)
{
    tensor t;
    if (reshape->n_input != 2 || !read_constant(m, reshape->input[1], &t) || t.dtype != PAL_INT64 ||
        t.rank != 1 || t.elements > most)
        return false;
    uint64_t elements = 1;
    for (size_t d = 0; d < t.elements; d++) {
        int64_t size;
        memcpy(&size, (const char *)t.data + d * sizeof size, sizeof size);
        if (size < 1 || !mem_multiply(elements, (uint64_t)size, &elements) ||
            elements > UINT64_MAX / 64)
            return false;
        shape[d] = (uint64_t)size;
    }
    *rank = (size_t)t.elements;
    return true;
}

/* Tables and their scales. */
static bool read_tables(matching *m, ProtobufCBinaryData name)
{
    palette *p = m->p;
    if (read_constant(m, name, &m->lut)) {
        p->dtype = p->lut_dtype = m->lut.dtype;
        p->vector_size = m->lut.rank == 2 ? (size_t)m->lut.shape[1] : 1;
        return true;
    }
    tensor t;
    const Onnx__Node *node = producer(m, name, "Reshape");
    if (!node || node->n_input != 2 || !read_constant(m, node->input[1], &t) ||
        t.dtype != PAL_INT64 || t.elements > 2)
        return false;
    int64_t size = 1;
    if (t.elements == 2)
        memcpy(&size, (const char *)t.data + sizeof size, sizeof size);
    if (size < 1)
        return false;
    p->vector_size = (size_t)size;
    const Onnx__Node *cast = producer_of(m, node, 0, "Cast");
    const Onnx__Node *multiply = producer_of(m, cast ? cast : node, 0, "Mul");
    if (!multiply || multiply->n_input != 2 ||
        !read_cast_constant(m, multiply->input[1], &m->lut_scale))
        return false;
    const Onnx__Node *subtract = producer_of(m, multiply, 0, "Sub");
    if (subtract &&
        (subtract->n_input != 2 || !read_cast_constant(m, subtract->input[1], &m->lut_offset)))
        return false;
    if (!read_cast_constant(m, (subtract ? subtract : multiply)->input[0], &m->lut))
        return false;
    p->dtype = m->lut_scale.dtype;
    p->lut_dtype = m->lut.dtype;
    return true;
}

/* nbits, from the base of the digits. */
static bool read_base(matching *m, const Onnx__Node *mod)
{
    tensor base;
    int32_t number;
    if (mod->n_input != 2 || !read_constant(m, mod->input[1], &base) || base.dtype != PAL_INT32 ||
        base.elements != 1)
        return false;
    memcpy(&number, base.data, sizeof number);
    for (m->p->nbits = 1; m->p->nbits < 8 && 1 << m->p->nbits != number;)
        m->p->nbits++;
    return m->p->nbits < 8 && pack_width_is_valid(m->p->nbits);
}

/* Packed indices, and the shape that they get. */
static bool read_packed(matching *m, ProtobufCBinaryData name)
{
    const Onnx__Node *cast = producer(m, name, "Cast");
    if (cast) {
        m->p->nbits = 8;
        m->packed = find_local(m, cast->input[0]);
        if (!read_constant(m, cast->input[0], &m->indices))
            return false;
        m->split_rank = m->indices.rank;
        memcpy(m->split, m->indices.shape, sizeof m->indices.shape);
        return m->indices.dtype == PAL_UINT8;
    }
    const Onnx__Node *node = producer(m, name, "Reshape");
    if (!node || !read_shape(m, node, m->split, &m->split_rank, MAX_DIMENSIONS))
        return false;
    const Onnx__Node *slice = producer_of(m, node, 0, "Slice");
    const Onnx__Node *flat = slice ? producer_of(m, slice, 0, "Reshape") : node;
    const Onnx__Node *gather = flat ? producer_of(m, flat, 0, "Gather") : NULL;
    const Onnx__Node *digits = gather ? gather : flat;
    if (digits)
        digits = producer_of(m, digits, 0, "Mod");
    if (!digits || !read_base(m, digits))
        return false;
    const Onnx__Node *divide = gather ? NULL : producer_of(m, digits, 0, "Div");
    const Onnx__Node *number = divide ? producer_of(m, divide, 0, "MatMul") : NULL;
    if (gather)
        cast = producer_of(m, gather, 1, "Cast");
    else if (number)
        cast = producer_of(m, number, 0, "Cast");
    if (!cast || !read_constant(m, cast->input[0], &m->indices))
        return false;
    m->packed = find_local(m, cast->input[0]);
    return m->indices.dtype == PAL_UINT8;
}

/* The shape of the look-up tables, from where each begins: that is a constant or made by Range. */
static bool read_tables_shape(matching *m, ProtobufCBinaryData name)
{
    tensor *t = &m->tables, end;
    m->has_tables = true;
    if (read_constant(m, name, t))
        return t->dtype == PAL_INT32;
    const Onnx__Node *reshape = producer(m, name, "Reshape");
    const Onnx__Node *range = producer(m, reshape ? reshape->input[0] : name, "Range");
    *t = (tensor){0};
    if (!range)
        return false;
    if (reshape)
        return read_shape(m, reshape, t->shape, &t->rank, PAL_MAX_RANK);
    int32_t number;
    if (range->n_input != 3 || !read_constant(m, range->input[1], &end) || end.dtype != PAL_INT32 ||
        end.elements != 1)
        return false;
    memcpy(&number, end.data, sizeof number);
    t->rank = 1;
    t->shape[0] = number > 0 ? (uint64_t)number >> m->p->nbits : 0;
    return t->shape[0] > 0;
}

/* Indices, and where each table begins. */
static bool read_indices(matching *m, ProtobufCBinaryData name)
{
    const Onnx__Node *add = producer(m, name, "Add");
    if (!read_packed(m, add ? add->input[0] : name))
        return false;
    return !add || (add->n_input == 2 && read_tables_shape(m, add->input[1]));
}

/* Outliers, and what makes the values between which they are put. */
static bool read_outliers(matching *m, const Onnx__Node **node)
{
    static const char *const makers[] = {"Gather", "Reshape", "Mul", "Cast"};
    const Onnx__Node *scatter =
        node_is(*node, "Reshape") ? producer_of(m, *node, 0, "ScatterElements") : NULL;
    if (!scatter)
        return true;
    const Onnx__Node *flat = producer_of(m, scatter, 0, "Reshape");
    if (!flat || scatter->n_input != 3 || !read_constant(m, scatter->input[1], &m->places) ||
        !read_constant(m, scatter->input[2], &m->exact))
        return false;
    *node = NULL;
    for (size_t i = 0; !*node && i < sizeof makers / sizeof *makers; i++)
        *node = producer_of(m, flat, 0, makers[i]);
    return *node != NULL;
}

static bool read_operators(matching *m, const Onnx__Node *node)
{
    palette *p = m->p;
    if (!read_outliers(m, &node))
        return false;
    const Onnx__Node *multiply = node_is(node, "Cast") ? producer_of(m, node, 0, "Mul") : node;
    if (!multiply)
        return false;
    bool has_shape = false;
    if (node_is(multiply, "Mul")) {
        if (multiply->n_input != 2 || !read_cast_constant(m, multiply->input[1], &m->scale))
            return false;
        const Onnx__Node *cast = producer_of(m, multiply, 0, "Cast");
        const Onnx__Node *inner = cast ? cast : multiply;
        if (!(node = producer_of(m, inner, 0, "Reshape")) &&
            !(node = producer_of(m, inner, 0, "Gather")))
            return false;
    }
    if (node_is(node, "Reshape")) {
        has_shape = true;
        if (!read_shape(m, node, p->shape, &p->rank, PAL_MAX_RANK))
            return false;
        const Onnx__Node *transpose = producer_of(m, node, 0, "Transpose");
        const Onnx__Attribute *order = transpose ? node_attribute(transpose, "perm") : NULL;
        for (size_t i = 0; order && i < order->n_ints; i++)
            if (order->ints[i] == (int64_t)order->n_ints - 1)
                m->vector_place = i;
        node = producer_of(m, transpose ? transpose : node, 0, "Gather");
    }
    if (!node || !node_is(node, "Gather") || node->n_input != 2 ||
        !read_tables(m, node->input[0]) || !read_indices(m, node->input[1]))
        return false;
    if (!has_shape && m->split_rank <= PAL_MAX_RANK) {
        p->rank = m->split_rank;
        memcpy(p->shape, m->split, sizeof p->shape);
    }
    return p->rank > 0;
}

/* ---------------------------------------------------------------- what follows from it */

/* Tables along each dimension, if the vectors lie along `axis`. */
static bool read_blocks(matching *m, size_t axis)
{
    palette *p = m->p;
    uint64_t along[MAX_DIMENSIONS];
    size_t at = 0, place = 0;
    for (size_t i = 0; i < m->split_rank; i++) {
        const size_t missing = m->split_rank - m->tables.rank;
        along[i] = m->has_tables && i >= missing ? m->tables.shape[i - missing] : 1;
    }
    p->vector_axis = axis;
    for (size_t d = 0; d < p->rank; d++) {
        const uint64_t vector = d == axis ? p->vector_size : 1, size = p->shape[d] / vector;
        if (p->shape[d] % vector || at == m->split_rank)
            return false;
        if (m->split[at] == size) {
            p->blocks[d] = along[at++];
            if (p->blocks[d] != 1 && p->blocks[d] != size)
                return false;
        } else {
            if (at + 1 == m->split_rank || m->split[at] != along[at] || along[at + 1] != 1 ||
                m->split[at] >= size || m->split[at + 1] != size / m->split[at] ||
                size % m->split[at])
                return false;
            p->blocks[d] = along[at];
            at += 2;
        }
        if (d == axis)
            place = at;
    }
    return at == m->split_rank && (p->vector_size == 1 || place == m->vector_place ||
                                   (m->vector_place == SIZE_MAX && at == place));
}

/* Whether the parts of the palette are as large as its shape says, so that they can be used. */
static bool check_sizes(matching *m)
{
    palette *p = m->p;
    uint64_t tables = 1, entries;
    bool found = false;
    if (m->tables.rank > m->split_rank ||
        (p->dtype != PAL_FLOAT16 && p->dtype != PAL_FLOAT32 && p->dtype != PAL_BFLOAT16))
        return false;
    for (size_t axis = 0; axis < (p->vector_size > 1 ? p->rank : 1) && !found; axis++)
        found = read_blocks(m, axis);
    for (size_t d = 0; found && d < p->rank; d++)
        tables *= p->blocks[d]; /* at most as many as elements, which were checked */
    if (!found || tables > INT32_MAX ||
        !mem_multiply(tables << p->nbits, p->vector_size, &entries) || m->lut.elements != entries)
        return false;
    const bool integers = p->lut_dtype == PAL_INT8 || p->lut_dtype == PAL_UINT8;
    if (integers != (m->lut_scale.data != NULL) ||
        (integers && (m->lut_scale.elements != tables || m->lut_scale.dtype != p->dtype)) ||
        (m->lut_offset.data &&
         (m->lut_offset.elements != tables || m->lut_offset.dtype != p->lut_dtype)))
        return false;
    if (m->scale.data && (m->scale.rank != p->rank || m->scale.dtype != p->dtype))
        return false;
    for (size_t d = 0; m->scale.data && d < p->rank; d++) {
        p->scale_shape[d] = m->scale.shape[d];
        if (p->scale_shape[d] != 1 && p->scale_shape[d] != p->shape[d])
            return false;
    }
    return m->indices.bytes >= palette_index_bytes(p) &&
           (!m->places.data || (m->places.dtype == PAL_INT32 && m->exact.dtype == p->dtype &&
                                m->places.rank == 1 && m->exact.elements == m->places.elements));
}

/* Copies are made of what is not aligned. */
static pal_status keep_data(matching *m)
{
    palette *p = m->p;
    p->indices = m->indices.data;
    p->lut = tensor_align(m->state, &m->lut);
    p->lut_offset = m->lut_offset.data;
    p->lut_scale = m->lut_scale.data ? tensor_align(m->state, &m->lut_scale) : NULL;
    p->scale = m->scale.data ? tensor_align(m->state, &m->scale) : NULL;
    if (!p->lut || (m->lut_scale.data && !p->lut_scale) || (m->scale.data && !p->scale))
        return fail_memory("reading a palette");
    if (!m->places.data)
        return PAL_OK;
    p->outliers = m->places.elements;
    p->outlier_places = tensor_align(m->state, &m->places);
    p->outlier_values = tensor_align(m->state, &m->exact);
    return p->outlier_places && p->outlier_values ? PAL_OK : fail_memory("reading a palette");
}

/* ---------------------------------------------------------------- comparing */

static bool same_attribute(const step *step, const Onnx__Node *node)
{
    if (!step->attribute)
        return node->n_attribute == 0;
    const Onnx__Attribute *attribute = node_attribute(node, step->attribute);
    if (!attribute || node->n_attribute != 1)
        return false;
    if (!step->is_list)
        return attribute->i == step->integers[0];
    return attribute->n_ints == step->integer_count &&
           memcmp(attribute->ints, step->integers, step->integer_count * sizeof(int64_t)) == 0;
}

static bool same_constant(const matching *m, const step *step, ProtobufCBinaryData name)
{
    const tensor *expected = &step->constant;
    tensor t;
    if (!read_constant(m, name, &t) || t.dtype != expected->dtype || t.rank != expected->rank)
        return false;
    for (size_t d = 0; d < t.rank; d++)
        if (t.shape[d] != expected->shape[d])
            return false;
    return t.data == expected->data ||
           memcmp(t.data, expected->data, expected->bytes - expected->zeros) == 0;
}

/* Whether the value is what this step makes; marks its parts as dropped if `drop`. */
static bool same_step(const matching *m, const recipe *r, size_t index, ProtobufCBinaryData name,
                      const Onnx__Node *node, bool drop)
{
    const step *step = &r->steps[index];
    onnx_graph *graph = &m->state->graphs[m->graph];
    const definition *d = node ? NULL : find_local(m, name);
    if (drop && d && d->node != NONE)
        graph->node_dropped[d->node] = true;
    if (drop && d && d->initializer != NONE)
        graph->tensor_dropped[d->initializer] = true;
    if (!step->operator)
        return drop || same_constant(m, step, name);
    if (!node)
        node = producer(m, name, step->operator);
    if (!node || !node_is(node, step->operator) || node->n_output != 1 ||
        node->n_input != step->input_count || !same_attribute(step, node))
        return false;
    for (size_t i = 0; i < step->input_count; i++)
        if (!same_step(m, r, step->inputs[i], node->input[i], NULL, drop))
            return false;
    return true;
}

/* ---------------------------------------------------------------- all of it */

/* What reading and comparing a palette may cost: a small file could otherwise refer to one large
 * table over and over. */
static pal_status check_work(onnx *state, const matching *m)
{
    state->match_work += m->lut.bytes + m->tables.bytes + m->lut_scale.bytes + m->scale.bytes +
                         m->places.bytes + m->exact.bytes;
    if (state->match_work / 64 > state->map.size + state->external_bytes)
        return fail(PAL_ERROR_FORMAT, "%s: takes more memory to read than its size justifies",
                    state->path);
    return PAL_OK;
}

pal_status match_palette(onnx *state, const scope *scope, size_t graph, size_t node,
                         palette **found, size_t *initializer, Onnx__Tensor **indices)
{
    const Onnx__Node *root = state->graphs[graph].message->node[node];
    *found = NULL;
    if (root->n_output != 1 || root->output[0].len == 0 || root->n_input == 0 ||
        match_prefix(root->input[0]) == 0)
        return PAL_OK;
    palette p = {0};
    matching m = {.state = state, .scope = scope, .graph = graph, .p = &p};
    m.prefix = (ProtobufCBinaryData){match_prefix(root->input[0]), root->input[0].data};
    if (is_helper(&m, root->output[0]))
        return PAL_OK;
    m.vector_place = SIZE_MAX;
    if (!read_operators(&m, root) || !check_sizes(&m))
        return PAL_OK;
    mem_arena scratch;
    recipe r;
    arena_init(&scratch, SIZE_MAX);
    pal_status status = check_work(state, &m);
    if (!status)
        status = keep_data(&m);
    if (!status)
        status = recipe_make(&p, &scratch, &r);
    if (status == PAL_ERROR_UNSUPPORTED) {
        status = PAL_OK;
    } else if (!status && palette_places_ok(&p) &&
               same_step(&m, &r, r.count - 1, root->output[0], root, false)) {
        *found = mem_zeroed(1, sizeof **found);
        if (!*found) {
            status = fail_memory("reading a palette");
        } else {
            **found = p;
            same_step(&m, &r, r.count - 1, root->output[0], root, true);
            state->graphs[graph].node_dropped[node] = true;
            *initializer = m.packed->initializer;
            *indices = constant_message(&m, m.packed);
        }
    }
    arena_free(&scratch);
    return status;
}
