/* The operators that turn a palette into a dense tensor.
 *
 * The indices are packed as everywhere in this program (palette/pack.h). No standard operator cuts
 * a byte into pieces from opset 11 on, but division does: an index is a digit of the byte, read as
 * a number with base 2^nbits. For 1, 2 and 4 bits the digits of all 256 bytes are computed once,
 * and a Gather in this table unpacks a weight. Indices of 3 and 6 bits come in groups of three
 * bytes, of which MatMul makes one number, and its digits are computed for each group. Then the
 * offset of its look-up table is added to each index, and a Gather in all look-up tables gives the
 * values.
 *
 *   1, 2, 4    Cast, Gather (in the table made by Cast, Div, Mod)
 *   3, 6       Cast, MatMul (1, 256, 65536), Div, Mod
 *   8          Cast
 *   indices    where the last group is not full Reshape, Slice; Reshape; of several tables Add
 *              (of a constant, or with many tables of Range, Reshape)
 *   tables     integer entries: Cast, Sub (offset), Mul (scale), Cast, Reshape
 *   values     Gather; of vectors Transpose; where the shape is not there yet Reshape; scaled: Mul
 *   outliers   Reshape, ScatterElements (of exact values), Reshape
 *
 * Arithmetic on values is in float32, as in palette_decode(), for a runtime need not know how to
 * multiply float16. */
#include <string.h>

#include "format/onnx/onnx.h"
#include "palette/pack.h"

/* With more tables, the operators that count where each begins take less than the list. */
enum { MOST_LISTED_TABLES = 32 };

typedef struct recipe_maker {
    const palette *palette;
    mem_arena *arena;
    recipe *recipe;
    bool failed; /* out of memory */
    size_t rank; /* the index shape, its dimensions split where a table serves a part of one */
    uint64_t shape[MAX_DIMENSIONS];
    uint64_t tables[MAX_DIMENSIONS]; /* along each of these; 1 or all */
    size_t vector_place;             /* the dimensions before that of the vector */
} maker;

/* Bytes that one group of indices takes, and how many these are: indices of 1, 2 and 4 bits fill
 * one byte, of 3 and 6 three. */
static unsigned group_bytes(unsigned nbits)
{
    return nbits == 3 || nbits == 6 ? 3 : 1;
}

static unsigned group_indices(unsigned nbits)
{
    return 8 * group_bytes(nbits) / nbits;
}

/* ---------------------------------------------------------------- steps */

static size_t add_constant(maker *m, bool shared, const tensor *constant)
{
    step *s = &m->recipe->steps[m->recipe->count];
    *s = (step){.shared = shared, .constant = *constant};
    return m->recipe->count++;
}

static size_t add_node(maker *m, const char *operator, size_t a, size_t b)
{
    step *s = &m->recipe->steps[m->recipe->count];
    *s = (step){.operator= operator, .inputs = {a, b} };
    s->input_count = b == NONE ? 1 : 2;
    return m->recipe->count++;
}

static size_t add_cast(maker *m, size_t input, pal_dtype to)
{
    size_t i = add_node(m, "Cast", input, NONE);
    step *s = &m->recipe->steps[i];
    s->attribute = "to";
    s->integers[0] = onnx_from_dtype(to);
    s->integer_count = 1;
    return i;
}

/* Data that live as long as the recipe. */
static void *small_data(maker *m, uint64_t count, size_t size)
{
    uint64_t bytes;
    void *data = mem_multiply(count, size, &bytes) && bytes <= SIZE_MAX
                     ? arena_zeroed(m->arena, (size_t)bytes)
                     : NULL;
    m->failed = m->failed || !data;
    return data;
}

/* A vector of int64: a shape, or an operator's parameter. */
static size_t add_numbers(maker *m, const int64_t *numbers, size_t count)
{
    int64_t *data = small_data(m, count, sizeof *data);
    if (data)
        memcpy(data, numbers, count * sizeof *data);
    const tensor constant = {
        PAL_INT64, 1, {count}, count, count * sizeof *data, data, 0,
    };
    return add_constant(m, true, &constant);
}

static size_t add_reshape(maker *m, size_t input, const uint64_t *shape, size_t rank)
{
    int64_t numbers[MAX_DIMENSIONS];
    for (size_t d = 0; d < rank; d++)
        numbers[d] = (int64_t)shape[d];
    return add_node(m, "Reshape", input, add_numbers(m, numbers, rank));
}

/* ---------------------------------------------------------------- shapes */

/* Splits each dimension along which there are several tables for several indices each into two. */
static void split_shape(maker *m)
{
    const palette *p = m->palette;
    for (size_t d = 0; d < p->rank; d++) {
        const uint64_t size = palette_index_dimension(p, d), blocks = p->blocks[d];
        if (blocks > 1 && blocks < size) {
            m->shape[m->rank] = m->tables[m->rank] = blocks;
            m->rank++;
            m->shape[m->rank] = size / blocks;
            m->tables[m->rank++] = 1;
        } else {
            m->shape[m->rank] = size;
            m->tables[m->rank++] = blocks;
        }
        if (d == p->vector_axis)
            m->vector_place = m->rank;
    }
}

/* ---------------------------------------------------------------- indices */

/* A row of small numbers, the same for many palettes. */
static size_t add_row(maker *m, const int32_t *numbers, size_t count)
{
    int32_t *data = small_data(m, count, sizeof *data);
    if (data)
        memcpy(data, numbers, count * sizeof *data);
    const tensor constant = {PAL_INT32, 1, {count}, count, count * sizeof *data, data, 0};
    return add_constant(m, true, &constant);
}

/* The digits of numbers [n, 1]: [n, digits]. */
static size_t add_digits(maker *m, size_t numbers)
{
    const unsigned nbits = m->palette->nbits, count = group_indices(nbits);
    const int32_t base = 1 << nbits;
    int32_t powers[8];
    for (unsigned i = 0; i < count; i++)
        powers[i] = 1 << (i * nbits);
    size_t quotients = add_node(m, "Div", numbers, add_row(m, powers, count));
    return add_node(m, "Mod", quotients, add_row(m, &base, 1));
}

/* The digits of every byte: [256, digits]. */
static size_t add_digit_table(maker *m)
{
    uint8_t *bytes = small_data(m, 256, 1);
    for (unsigned i = 0; bytes && i < 256; i++)
        bytes[i] = (uint8_t)i;
    const tensor constant = {PAL_UINT8, 2, {256, 1}, 256, 256, bytes, 0};
    const size_t first = m->recipe->count;
    size_t all = add_constant(m, true, &constant);
    size_t table = add_digits(m, add_cast(m, all, PAL_INT32));
    for (size_t i = first; i < m->recipe->count; i++)
        m->recipe->steps[i].shared = true;
    return table;
}

/* What makes one number of three bytes. */
static size_t add_factors(maker *m)
{
    static const int32_t factors[] = {1, 256, 65536};
    const tensor constant = {PAL_INT32, 2, {3, 1}, 3, sizeof factors, factors, 0};
    return add_constant(m, true, &constant);
}

static size_t add_slice(maker *m, size_t input, uint64_t count)
{
    static const int64_t whole = -1, first = 0;
    const int64_t end = (int64_t)count;
    size_t flat = add_node(m, "Reshape", input, add_numbers(m, &whole, 1));
    size_t begin = add_numbers(m, &first, 1);
    size_t last = add_numbers(m, &end, 1);
    size_t slice = add_node(m, "Slice", flat, begin);
    m->recipe->steps[slice].inputs[2] = last;
    m->recipe->steps[slice].input_count = 3;
    return slice;
}

/* The indices as int32 in the split shape. */
static size_t add_unpacked(maker *m)
{
    const palette *p = m->palette;
    const uint64_t count = palette_index_count(p);
    tensor packed = {.dtype = PAL_UINT8, .data = p->indices};
    if (p->nbits == 8) {
        packed.rank = m->rank;
        packed.elements = packed.bytes = count;
        memcpy(packed.shape, m->shape, sizeof packed.shape);
        m->recipe->indices = add_constant(m, false, &packed);
        return add_cast(m, m->recipe->indices, PAL_INT32);
    }
    const unsigned bytes = group_bytes(p->nbits), indices = group_indices(p->nbits);
    const uint64_t groups = (count + indices - 1) / indices;
    packed.rank = bytes > 1 ? 2 : 1;
    packed.shape[0] = groups;
    packed.shape[1] = bytes > 1 ? bytes : 0;
    packed.elements = packed.bytes = groups * bytes;
    packed.zeros = (uint32_t)(packed.bytes - palette_index_bytes(p));
    size_t at;
    if (bytes == 1) {
        size_t table = add_digit_table(m);
        m->recipe->indices = add_constant(m, false, &packed);
        at = add_cast(m, m->recipe->indices, PAL_INT32);
        at = add_node(m, "Gather", table, at);
    } else {
        m->recipe->indices = add_constant(m, false, &packed);
        at = add_cast(m, m->recipe->indices, PAL_INT32);
        at = add_digits(m, add_node(m, "MatMul", at, add_factors(m)));
    }
    if (count % indices)
        at = add_slice(m, at, count);
    return add_reshape(m, at, m->shape, m->rank);
}

/* A number of int32. */
static size_t add_scalar(maker *m, int32_t number)
{
    int32_t *data = small_data(m, 1, sizeof *data);
    if (data)
        *data = number;
    const tensor constant = {PAL_INT32, 0, {0}, 1, sizeof *data, data, 0};
    return add_constant(m, true, &constant);
}

/* Where each table begins, in this shape. */
static size_t add_table_list(maker *m, const uint64_t *shape, size_t rank)
{
    const uint64_t tables = palette_num_luts(m->palette);
    int32_t *data = small_data(m, tables, sizeof *data);
    for (uint64_t t = 0; data && t < tables; t++)
        data[t] = (int32_t)(t << m->palette->nbits);
    tensor constant = {.dtype = PAL_INT32, .rank = rank, .elements = tables, .data = data};
    constant.bytes = tables * sizeof *data;
    memcpy(constant.shape, shape, rank * sizeof *shape);
    return add_constant(m, true, &constant);
}

/* The same, counted instead of listed. */
static size_t add_table_range(maker *m, const uint64_t *shape, size_t rank)
{
    const palette *p = m->palette;
    const size_t first = add_scalar(m, 0);
    const size_t end = add_scalar(m, (int32_t)(palette_num_luts(p) << p->nbits));
    const size_t distance = add_scalar(m, 1 << p->nbits);
    size_t at = add_node(m, "Range", first, end);
    m->recipe->steps[at].inputs[2] = distance;
    m->recipe->steps[at].input_count = 3;
    m->recipe->steps[at].shared = true;
    if (rank > 1) {
        at = add_reshape(m, at, shape, rank);
        m->recipe->steps[at].shared = true;
    }
    return at;
}

/* Adds to each index where its table begins. */
static size_t add_table_offsets(maker *m, size_t index)
{
    uint64_t shape[MAX_DIMENSIONS];
    size_t rank = 0;
    for (size_t d = 0; d < m->rank; d++)
        if (rank || m->tables[d] > 1)
            shape[rank++] = m->tables[d];
    const bool many = palette_num_luts(m->palette) > MOST_LISTED_TABLES;
    return add_node(m, "Add", index,
                    many ? add_table_range(m, shape, rank) : add_table_list(m, shape, rank));
}

/* ---------------------------------------------------------------- tables and values */

/* A value in the tensor's type, as float32. */
static size_t as_float32(maker *m, size_t value)
{
    return m->palette->dtype == PAL_FLOAT32 ? value : add_cast(m, value, PAL_FLOAT32);
}

static size_t from_float32(maker *m, size_t value)
{
    return m->palette->dtype == PAL_FLOAT32 ? value : add_cast(m, value, m->palette->dtype);
}

/* One number for each table, to be broadcast over its entries. */
static size_t add_for_each_table(maker *m, pal_dtype dtype, const void *data)
{
    const uint64_t tables = palette_num_luts(m->palette);
    const tensor constant = {
        dtype, 2, {tables, 1}, tables, tables * pal_dtype_bits(dtype) / 8, data, 0,
    };
    return add_constant(m, false, &constant);
}

/* All entries in the tensor's type: [entries], or [entries, vector size]. */
static size_t add_tables(maker *m)
{
    const palette *p = m->palette;
    const uint64_t elements = palette_lut_elements(p);
    tensor lut = {.dtype = p->lut_dtype, .data = p->lut, .elements = elements};
    lut.bytes = palette_lut_bytes(p);
    lut.rank = p->vector_size > 1 ? 2 : 1;
    lut.shape[0] = elements / p->vector_size;
    lut.shape[1] = p->vector_size > 1 ? p->vector_size : 0;
    if (p->lut_dtype == p->dtype)
        return add_constant(m, false, &lut);
    lut.rank = 2;
    lut.shape[0] = palette_num_luts(p);
    lut.shape[1] = elements / lut.shape[0];
    size_t at = add_cast(m, add_constant(m, false, &lut), PAL_FLOAT32);
    if (p->lut_offset) {
        size_t offset = add_for_each_table(m, p->lut_dtype, p->lut_offset);
        at = add_node(m, "Sub", at, add_cast(m, offset, PAL_FLOAT32));
    }
    size_t scale = add_for_each_table(m, p->dtype, p->lut_scale);
    at = add_node(m, "Mul", at, as_float32(m, scale));
    at = from_float32(m, at);
    const int64_t shape[] = {-1, (int64_t)p->vector_size};
    return add_node(m, "Reshape", at, add_numbers(m, shape, p->vector_size > 1 ? 2 : 1));
}

/* Moves the dimension of the vectors from the end to its place. */
static size_t add_transpose(maker *m, size_t input)
{
    if (m->vector_place == m->rank)
        return input;
    size_t i = add_node(m, "Transpose", input, NONE);
    step *s = &m->recipe->steps[i];
    s->attribute = "perm";
    s->is_list = true;
    s->integer_count = m->rank + 1;
    for (size_t d = 0; d <= m->rank; d++)
        s->integers[d] = (int64_t)(d < m->vector_place    ? d
                                   : d == m->vector_place ? m->rank
                                                          : d - 1);
    return i;
}

static size_t add_scale(maker *m, size_t values)
{
    const palette *p = m->palette;
    tensor scale = {.dtype = p->dtype, .rank = p->rank, .data = p->scale};
    scale.elements = palette_scale_elements(p);
    scale.bytes = scale.elements * pal_dtype_bits(p->dtype) / 8;
    memcpy(scale.shape, p->scale_shape, sizeof scale.shape);
    size_t factor = as_float32(m, add_constant(m, false, &scale));
    size_t product = add_node(m, "Mul", as_float32(m, values), factor);
    return from_float32(m, product);
}

/* Exact values in the place of some. */
static size_t add_outliers(maker *m, size_t values)
{
    static const int64_t whole = -1;
    const palette *p = m->palette;
    const uint64_t n = p->outliers;
    const tensor places = {PAL_INT32, 1, {n}, n, n * sizeof(int32_t), p->outlier_places, 0};
    const tensor exact = {
        p->dtype, 1, {n}, n, n * pal_dtype_bits(p->dtype) / 8, p->outlier_values, 0,
    };
    const size_t flat = add_node(m, "Reshape", values, add_numbers(m, &whole, 1));
    const size_t place = add_constant(m, false, &places), value = add_constant(m, false, &exact);
    const size_t put = add_node(m, "ScatterElements", flat, place);
    m->recipe->steps[put].inputs[2] = value;
    m->recipe->steps[put].input_count = 3;
    return add_reshape(m, put, p->shape, p->rank);
}

pal_status recipe_make(const palette *palette, mem_arena *arena, recipe *out)
{
    maker m = {.palette = palette, .arena = arena, .recipe = out};
    const bool vectors = palette->vector_size > 1;
    out->count = 0;
    split_shape(&m);
    if (palette_lut_elements(palette) > INT32_MAX)
        return fail(PAL_ERROR_UNSUPPORTED, "more entries in look-up tables than int32 can count");
    if (m.rank > PAL_MAX_RANK)
        return fail(PAL_ERROR_UNSUPPORTED, "look-up tables along too many dimensions");
    size_t lut = add_tables(&m);
    size_t index = add_unpacked(&m);
    if (palette_num_luts(palette) > 1)
        index = add_table_offsets(&m, index);
    size_t values = add_node(&m, "Gather", lut, index);
    if (vectors)
        values = add_transpose(&m, values);
    if (vectors || m.rank != palette->rank)
        values = add_reshape(&m, values, palette->shape, palette->rank);
    if (palette->scale)
        values = add_scale(&m, values);
    if (palette->outliers)
        add_outliers(&m, values);
    return m.failed ? fail_memory("palettizing") : PAL_OK;
}
