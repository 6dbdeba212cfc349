/* Products of matrices by the primitives of convolution. Where oneDNN's own product has no form of
 * its own for a constant operand (before AVX-512), it packs that operand anew at each call, which
 * for few rows takes longer than the arithmetic. A 1x1 convolution has its weights in blocks from
 * the start.
 */
#include <string.h>

#include "engine/onednn.h"

/* The row-major matrix [rows, channels] as pixels that lie side by side: [1, channels, 1, rows]. */
static onednn_tensor pixels(int64_t rows, int64_t channels)
{
    return (onednn_tensor){.rank = 4,
                           .shape = {1, channels, 1, rows},
                           .form = ONEDNN_STRIDED,
                           .strides = {rows * channels, 1, rows * channels, channels}};
}

static onednn_posts posts_on_pixels(const onednn_posts *posts)
{
    onednn_posts out = *posts;
    for (size_t i = 0; i < out.count; i++) {
        const int64_t *matrix = posts->list[i].shape;
        const int64_t shape[4] = {1, matrix[1], 1, matrix[0]};
        if (out.list[i].kind == ONEDNN_ADD)
            memcpy(out.list[i].shape, shape, sizeof shape);
    }
    return out;
}

bool onednn_is_product(const onednn_primitive *primitive)
{
    return strncmp(onednn_implementation(primitive), "jit_1x1", 7) == 0;
}

pal_status onednn_product_new(int64_t m, int64_t k, int64_t n, bool bias, const onednn_posts *posts,
                              onednn_primitive **out)
{
    const onednn_tensor src = pixels(m, k), dst = pixels(m, n);
    const onednn_tensor weights = {.rank = 4, .shape = {n, k, 1, 1}, .form = ONEDNN_ANY};
    const onednn_tensor biases = {.rank = 1, .shape = {n}};
    const onednn_convolution description = {.src = &src,
                                            .weights = &weights,
                                            .bias = bias ? &biases : NULL,
                                            .dst = &dst,
                                            .spatial = 2,
                                            .stride = {1, 1},
                                            .dilation = {1, 1}};
    onednn_posts moved = {0};
    if (posts)
        moved = posts_on_pixels(posts);
    pal_status status = onednn_convolution_new(&description, posts ? &moved : NULL, out);
    if (status)
        return status;
    if (!onednn_is_product(*out)) {
        onednn_primitive_free(*out);
        *out = NULL;
        return fail(PAL_ERROR_UNSUPPORTED, "oneDNN has no fast convolution for a product");
    }
    onednn_call_row_major(*out, ONEDNN_SRC);
    onednn_call_row_major(*out, ONEDNN_DST);
    for (int i = 0; i < ONEDNN_MAX_POSTS; i++)
        onednn_call_row_major(*out, (onednn_role)(ONEDNN_OPERAND + i));
    return PAL_OK;
}
