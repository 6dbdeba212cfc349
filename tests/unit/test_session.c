/* Sessions as a program meets them: a run that cannot be says why, and the session goes on. */
#include "testing.h"

static void inputs_without_data(void **state)
{
    (void)state;
    pal_model *model;
    pal_session *session;
    assert_ok(pal_model_open(EXAMPLE_DIRECTORY "/fashion-mnist.onnx", &model));
    assert_ok(pal_session_open(model, 1, &session));
    /* What a session says of its inputs has no data. */
    pal_tensor input = *pal_session_input(session, 0);
    uint64_t elements = 1;
    for (size_t d = 0; d < input.rank; d++) {
        input.shape[d] = input.shape[d] == PAL_ANY ? 1 : input.shape[d];
        elements *= (uint64_t)input.shape[d];
    }
    assert_int_equal(pal_session_run(session, &input, 1), PAL_ERROR_ARGUMENT);
    assert_non_null(strstr(pal_error_message(), input.name));
    assert_non_null(strstr(pal_error_message(), "has no data"));
    assert_null(pal_session_output(session, 0));
    float *pixels = calloc(elements, sizeof *pixels);
    assert_non_null(pixels);
    input.data = pixels;
    assert_ok(pal_session_run(session, &input, 1));
    assert_non_null(pal_session_output(session, 0));
    free(pixels);
    pal_session_free(session);
    pal_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_without_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
