/* 16-bit floats against each other and against float arithmetic, over all their values. */
#include "testing.h"

#include "base/half.h"
#include "cluster/grid.h"

static void test_f16_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        if (!f16_is_finite((uint16_t)h))
            continue;
        double value = (double)f16_to_float((uint16_t)h);
        assert_int_equal(f16_from_double(value), (uint16_t)h);
        assert_true(grid_round_f16(value) == value);
    }
    assert_true(f16_to_float(0x3c00) == 1.0f && f16_to_float(0xc000) == -2.0f);
    assert_true(f16_to_float(0x0001) == 0x1p-24f && f16_to_float(0x7bff) == 65504.0f);
    assert_true(isinf(f16_to_float(0x7c00)) && isnan(f16_to_float(0x7e00)));
}

/* Between two neighbours the nearer one is taken; in the middle, the even one. */
static void test_f16_rounding(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double low = (double)f16_to_float((uint16_t)h),
               high = (double)f16_to_float((uint16_t)(h + 1));
        double middle = (low + high) / 2;
        assert_int_equal(f16_from_double(middle), h % 2 ? h + 1 : h);
        assert_int_equal(f16_from_double(nextafter(middle, 0)), h);
        assert_int_equal(f16_from_double(nextafter(middle, 1e9)), h + 1);
        assert_true(grid_round_f16(nextafter(middle, 0)) == low);
        assert_true(grid_round_f16(-nextafter(middle, 1e9)) == -high);
    }
    assert_int_equal(f16_from_double(65520), 0x7c00);
    assert_int_equal(f16_from_double(-1e300), 0xfc00);
}

static void test_bf16(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7f7f; h++) {
        double low = (double)bf16_to_float((uint16_t)h);
        double high = (double)bf16_to_float((uint16_t)(h + 1));
        double middle = (low + high) / 2;
        assert_int_equal(bf16_from_double(low), h);
        assert_int_equal(bf16_from_double(middle), h % 2 ? h + 1 : h);
        assert_int_equal(bf16_from_double(nextafter(middle, 0)), h);
        assert_int_equal(bf16_from_double(-nextafter(middle, INFINITY)), 0x8000 | (h + 1));
        assert_true(grid_round_bf16(nextafter(middle, 0)) == low);
        assert_true(grid_round_bf16(nextafter(middle, INFINITY)) == high);
    }
    assert_int_equal(bf16_from_double(1e-300), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_round_trip),
        cmocka_unit_test(test_f16_rounding),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
