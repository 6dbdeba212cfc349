/* What training begins with: palettes of layer-wise reconstruction, and weights within the cells of
 * their entries. */
#include "testing.h"

#include "method/feed.h"
#include "method/train/start.h"

static pal_data *open_samples(void)
{
    pal_data_options *options;
    pal_data *data;
    assert_ok(pal_data_options_new(&options));
    assert_ok(pal_data_options_set(options, "split", "train"));
    assert_ok(pal_data_options_set(options, "limit", "128"));
    assert_ok(pal_data_options_set(options, "mean", "0.2860"));
    assert_ok(pal_data_options_set(options, "std", "0.3530"));
    assert_ok(pal_data_open(EXAMPLE_DIRECTORY "/data", options, &data));
    pal_data_options_free(options);
    return data;
}

/* Weights begin in the cells of the entries that reconstruction gave them, and entries are their
 * means: the hard network is the reconstructed one. */
static void check_start(const compression *c, size_t weight)
{
    const target *t = &c->targets[weight];
    const size_t count = (size_t)t->stored, dim = t->settings.cluster_dim;
    dkm_config config = dkm_defaults(t->group_elements, 1U << t->nbits);
    config.outer = t->outer;
    config.groups = (size_t)t->plan.groups;
    config.channels = t->channels / config.groups;
    config.inner = t->inner;
    config.dim = (unsigned)dim;
    float *scale = NULL, *values = malloc(count * sizeof *values);
    float *hard = malloc(count * sizeof *hard), *wanted = malloc(count * sizeof *wanted);
    double *sums = calloc(config.groups * config.clusters * dim, sizeof *sums);
    assert_true(values && hard && wanted && sums);
    if (t->palette->scale) {
        const size_t scales = (size_t)palette_scale_elements(t->palette);
        scale = malloc(scales * sizeof *scale);
        assert_non_null(scale);
        memcpy(scale, t->palette->scale, scales * sizeof *scale);
        config.scale = scale;
        config.scale_outer = t->inner;
        config.scale_inner = 1;
    }
    dkm *layer;
    dkm_workspace *workspace;
    assert_ok(dkm_new(&config, &layer));
    assert_ok(dkm_workspace_new(&workspace));
    target_values(t, values);
    assert_ok(start_layer(t, START_LAYERWISE, layer, values));
    assert_ok(dkm_harden(layer, workspace, values, 1, hard, NULL));
    assert_ok(palette_decode(t->palette, wanted));
    const size_t row = config.channels * config.groups * config.inner;
    double square = 0;
    for (size_t e = 0; e < count; e++) {
        assert_true(fabsf(hard[e] - wanted[e]) <= 1e-6F * fabsf(wanted[e]));
        square += (double)wanted[e] * wanted[e];
        /* Entries differ from each other, so that they tell clusters apart. */
        const size_t group = e % row / config.inner / config.channels;
        const double *table = dkm_centroids(layer) + group * config.clusters * dim;
        const size_t component = e % row / config.inner % dim;
        const double unit = scale ? (double)scale[e / row * t->inner + e % config.inner] : 1;
        for (size_t j = 0; dim == 1 && j < config.clusters; j++)
            if (fabs(table[j] * unit - (double)wanted[e]) <= 1e-6 * fabs((double)wanted[e]))
                sums[(group * config.clusters + j) * dim + component] +=
                    ((double)values[e] - (double)wanted[e]) / unit;
    }
    const double spread = sqrt(square / (double)count);
    for (size_t s = 0; !scale && s < config.groups * config.clusters * dim; s++)
        assert_true(fabs(sums[s]) < 0.02 * spread * (double)count / (double)config.clusters);
    dkm_free(layer);
    dkm_workspace_free(workspace);
    free(scale);
    free(values);
    free(hard);
    free(wanted);
    free(sums);
}

static void start_in_cells(void **state)
{
    (void)state;
    static const char *const forms[][7] = {
        {"nbits", "2", NULL},
        {"nbits", "3", "granularity", "per_grouped_channel", "group_size", "8", NULL},
        {"nbits", "4", "cluster_dim", "2", NULL},
        {"nbits", "4", "enable_per_channel_scale", "true", NULL},
    };
    pal_data *data = open_samples();
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        pal_model *model;
        pal_options *options = options_with(forms[f]);
        pal_method_options *method = NULL;
        assert_ok(pal_method_options_new(&method));
        assert_ok(pal_method_options_set(method, "method", "dkm"));
        assert_ok(pal_model_open(EXAMPLE_DIRECTORY "/fashion-mnist-bn.onnx", &model));
        compression c = {.model = model, .options = options};
        const pal_status status = start_compression(&c, &method->settings, data);
        size_t checked = 0;
        for (size_t i = 0; !status && i < model->weight_count; i++)
            if (c.targets[i].wanted && c.targets[i].source == i) {
                check_start(&c, i);
                checked++;
            }
        if (status != PAL_ERROR_UNSUPPORTED) { /* the file's version can express it */
            assert_ok(status);
            assert_true(checked > 0);
            compression_abandon(&c);
        }
        pal_method_options_free(method);
        pal_options_free(options);
        pal_model_free(model);
    }
    pal_data_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_in_cells),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
