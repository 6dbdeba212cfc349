/* Packing, and decoding against a version written from the definition. */
#include "testing.h"

#include "palette/pack.h"
#include "palette/palette.h"

static const unsigned widths[] = {1, 2, 3, 4, 6, 8};
enum { WIDTHS = sizeof widths / sizeof *widths };

static void test_pack(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (size_t w = 0; w < WIDTHS; w++) {
        for (size_t n = 0; n < 70; n++) {
            uint8_t indices[70], packed[72], back[70];
            for (size_t i = 0; i < n; i++)
                indices[i] = (uint8_t)random_below(&seed, 1u << widths[w]);
            memset(packed, 0xaa, sizeof packed);
            pack_indices(indices, n, widths[w], packed);
            uint64_t bytes = pack_bytes(n, widths[w]);
            assert_int_equal(bytes, (n * widths[w] + 7) / 8);
            assert_int_equal(packed[bytes], 0xaa); /* nothing written behind */
            for (size_t bit = 0; bit < bytes * 8; bit++) {
                size_t i = bit / widths[w];
                unsigned expected = i < n ? indices[i] >> bit % widths[w] & 1 : 0;
                assert_int_equal(packed[bit / 8] >> bit % 8 & 1, expected);
            }
            for (size_t first = 0; first < n; first += 3) {
                unpack_indices(packed, first, n - first, widths[w], back);
                assert_memory_equal(back, indices + first, n - first);
            }
        }
    }
}

/* The example in the documentation of constexpr_lut_to_dense. */
static void test_pack_example(void **state)
{
    (void)state;
    const uint8_t indices[5] = {0, 3, 2, 1, 3};
    uint8_t packed[2];
    pack_indices(indices, 5, 2, packed);
    assert_int_equal(packed[0], 0x6c);
    assert_int_equal(packed[1], 0x03);
}

/* The element at `at` (row-major), coordinate by coordinate. */
static uint16_t element(const palette *p, const uint8_t *indices, uint64_t at)
{
    uint64_t index = 0, table = 0, within = 0, rest = at;
    uint64_t coordinate[PAL_MAX_RANK];
    for (size_t d = p->rank; d-- > 0;) {
        coordinate[d] = rest % p->shape[d];
        rest /= p->shape[d];
    }
    for (size_t d = 0; d < p->rank; d++) {
        uint64_t size = p->shape[d], c = coordinate[d];
        if (p->vector_size > 1 && d == p->vector_axis) {
            within = c % p->vector_size;
            c /= p->vector_size;
            size /= p->vector_size;
        }
        index = index * size + c;
        table = table * p->blocks[d] + c / (size / p->blocks[d]);
    }
    return (
        (const uint16_t *)p->lut)[((table << p->nbits) + indices[index]) * p->vector_size + within];
}

static void check_decode(uint64_t *seed)
{
    palette p = {.dtype = PAL_FLOAT16, .lut_dtype = PAL_FLOAT16, .vector_size = 1};
    uint64_t elements = 1;
    p.nbits = widths[random_below(seed, WIDTHS)];
    p.rank = 1 + random_below(seed, 4);
    if (random_below(seed, 2)) {
        p.vector_size = 1 + random_below(seed, 4);
        p.vector_axis = random_below(seed, (unsigned)p.rank);
    }
    for (size_t d = 0; d < p.rank; d++) {
        p.blocks[d] = 1 + random_below(seed, 3);
        p.shape[d] = p.blocks[d] * (1 + random_below(seed, 4));
        if (p.vector_size > 1 && d == p.vector_axis)
            p.shape[d] *= p.vector_size;
        elements *= p.shape[d];
    }
    const uint64_t count = palette_index_count(&p), entries = palette_lut_elements(&p);
    uint8_t *indices = malloc(count), *packed = malloc(palette_index_bytes(&p));
    uint16_t *lut = malloc(entries * sizeof *lut), *dense = malloc(elements * sizeof *dense);
    for (uint64_t i = 0; i < count; i++)
        indices[i] = (uint8_t)random_below(seed, 1u << p.nbits);
    for (uint64_t i = 0; i < entries; i++)
        lut[i] = (uint16_t)random_bits(seed);
    pack_indices(indices, count, p.nbits, packed);
    p.lut = lut;
    p.indices = packed;
    assert_int_equal(palette_decode(&p, dense), PAL_OK);
    for (uint64_t i = 0; i < elements; i++)
        assert_int_equal(dense[i], element(&p, indices, i));
    free(indices);
    free(packed);
    free(lut);
    free(dense);
}

/* Of a pruned tensor only the set elements have indices. */
static void check_pruned(uint64_t *seed)
{
    palette p = {.dtype = PAL_FLOAT16, .lut_dtype = PAL_FLOAT16, .vector_size = 1, .rank = 3};
    uint64_t elements = 1, set = 0, next = 0;
    p.nbits = widths[random_below(seed, WIDTHS)];
    for (size_t d = 0; d < p.rank; d++) {
        p.blocks[d] = 1 + random_below(seed, 3);
        p.shape[d] = p.blocks[d] * (1 + random_below(seed, 12));
        elements *= p.shape[d];
    }
    uint8_t *all = malloc(elements), *indices = malloc(elements);
    uint8_t *mask = calloc(1, elements / 8 + 1), *packed = malloc(elements + 1);
    uint16_t *lut = malloc(palette_lut_elements(&p) * 2), *dense = malloc(elements * 2);
    for (uint64_t i = 0; i < elements; i++) {
        all[i] = (uint8_t)random_below(seed, 1u << p.nbits);
        if (random_below(seed, 3) == 0) {
            mask[i / 8] |= (uint8_t)(1u << i % 8);
            indices[set++] = all[i];
        }
    }
    for (uint64_t i = 0; i < palette_lut_elements(&p); i++)
        lut[i] = (uint16_t)random_bits(seed);
    for (uint64_t from = 0; from < elements; from += 1 + random_below(seed, 70))
        next += pack_count_bits(mask, 0, from) + pack_count_bits(mask, from, elements - from) - set;
    assert_int_equal(next, 0);
    pack_indices(indices, set, p.nbits, packed);
    p.lut = lut;
    p.indices = packed;
    p.mask = mask;
    p.stored = set;
    assert_int_equal(palette_index_count(&p), set);
    assert_int_equal(palette_decode(&p, dense), PAL_OK);
    for (uint64_t i = 0; i < elements; i++)
        assert_int_equal(dense[i], mask[i / 8] >> i % 8 & 1 ? element(&p, all, i) : 0);
    free(all);
    free(indices);
    free(mask);
    free(packed);
    free(lut);
    free(dense);
}

static void test_decode_pruned(void **state)
{
    (void)state;
    uint64_t seed = 9;
    for (int i = 0; i < 500; i++)
        check_pruned(&seed);
}

static void test_decode(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int i = 0; i < 3000; i++)
        check_decode(&seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_pack_example),
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_decode_pruned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
