/* NumPy files: headers as NumPy writes them, damaged ones, and every type's values. */
#include "base/npy.h"
#include "testing.h"

/* A version 1 file with this header and these values. */
static size_t make(unsigned char *out, const char *header, const void *values, size_t size)
{
    size_t length = strlen(header);
    memcpy(out, "\x93NUMPY\x01\x00", 8);
    out[8] = (unsigned char)length;
    out[9] = (unsigned char)(length >> 8);
    memcpy(out + 10, header, length);
    if (size)
        memcpy(out + 10 + length, values, size);
    return 10 + length + size;
}

static void values_and_shape(void **state)
{
    (void)state;
    unsigned char file[512];
    float values[6] = {0, -1.5F, 2, 3, 4, 1e30F};
    size_t size = make(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }     \n",
                       values, sizeof values);
    npy_array array;
    assert_int_equal(npy_parse("a.npy", file, size, &array), PAL_OK);
    assert_int_equal(array.dtype, PAL_FLOAT32);
    assert_int_equal(array.rank, 2);
    assert_int_equal(array.shape[0], 2);
    assert_int_equal(array.shape[1], 3);
    assert_int_equal(array.elements, 6);
    for (size_t i = 0; i < 6; i++)
        assert_true(npy_value(&array, i) == values[i]);
}

static void other_types(void **state)
{
    (void)state;
    unsigned char file[512];
    npy_array array;
    uint16_t half = 0xc000;
    size_t size = make(file, "{'descr': '<f2', 'fortran_order': False, 'shape': (), }", &half, 2);
    assert_int_equal(npy_parse("a.npy", file, size, &array), PAL_OK);
    assert_int_equal(array.rank, 0);
    assert_true(npy_value(&array, 0) == -2);
    int64_t wide[2] = {-7, 1LL << 40};
    size = make(file, "{\"shape\": (2,), \"fortran_order\": True, \"descr\": \"<i8\"}", wide, 16);
    assert_int_equal(npy_parse("a.npy", file, size, &array), PAL_OK);
    assert_true(npy_value(&array, 0) == -7 && npy_value(&array, 1) == (double)(1LL << 40));
    uint8_t bytes[3] = {0, 1, 255};
    size = make(file, "{'descr': '|u1', 'fortran_order': False, 'shape': (3,)}", bytes, 3);
    assert_int_equal(npy_parse("a.npy", file, size, &array), PAL_OK);
    assert_true(npy_value(&array, 2) == 255);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        pal_status status;
    } cases[] = {
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (1,)}", PAL_ERROR_UNSUPPORTED},
        {"{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}", PAL_ERROR_UNSUPPORTED},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", PAL_ERROR_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1)}", PAL_ERROR_UNSUPPORTED},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", PAL_ERROR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
         PAL_ERROR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296,4294967296)}",
         PAL_ERROR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}", PAL_ERROR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1 1)}", PAL_ERROR_FORMAT},
        {"{'descr': '<f4', 'fortran_order': False}", PAL_ERROR_FORMAT},
        {"{'descr': '<f4', 'shape': (1,), 'other': 3}", PAL_ERROR_FORMAT},
        {"{'descr': '<f4', 'shape': (1,)", PAL_ERROR_FORMAT},
        {"", PAL_ERROR_FORMAT},
    };
    unsigned char file[512];
    npy_array array;
    float value = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size = make(file, cases[i].header, &value, sizeof value);
        assert_int_equal(npy_parse("a.npy", file, size, &array), cases[i].status);
        assert_non_null(strstr(pal_error_message(), "a.npy: "));
    }
    size_t size = make(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", &value, 4);
    for (size_t shorter = 0; shorter < size; shorter++)
        assert_int_equal(npy_parse("a.npy", file, shorter, &array), PAL_ERROR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_shape),
        cmocka_unit_test(other_types),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
