/* Runs one image through a classifier with libpalettize, compressed or not, and prints the five
 * best classes. Options of data say how pixels become the model's input, as on the command line.
 *
 *     cc classify.c -o classify $(pkg-config --cflags --libs palettize)
 *     ./classify model.onnx image.jpg labels.txt resize=256 crop=224 \
 *         mean="0.485 0.456 0.406" std="0.229 0.224 0.225"
 */
#include <palettize.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEST 5

/* The name of class `number`, a line of the file. */
static const char *label_of(const char *path, size_t number, char *line, size_t size)
{
    FILE *file = fopen(path, "r");
    *line = 0;
    for (size_t i = 0; file && i <= number && fgets(line, (int)size, file); i++)
        line[strcspn(line, "\r\n")] = 0;
    if (file)
        fclose(file);
    return line;
}

static void print_best(const pal_tensor *output, const char *labels)
{
    const float *scores = output->data;
    const size_t classes = (size_t)output->shape[output->rank - 1];
    char *shown = calloc(classes + 1, 1), line[256];
    for (size_t place = 0; shown && place < BEST && place < classes; place++) {
        size_t best = classes;
        for (size_t i = 0; i < classes; i++)
            if (!shown[i] && (best == classes || scores[i] > scores[best]))
                best = i;
        shown[best] = 1;
        printf("%8.3f  %zu %s\n", scores[best], best, label_of(labels, best, line, sizeof line));
    }
    free(shown);
}

/* Sets options given as NAME=VALUE. */
static pal_status set_options(pal_data_options *options, int count, char **list)
{
    pal_status status = PAL_OK;
    for (int i = 0; !status && i < count; i++) {
        char *equals = strchr(list[i], '=');
        if (equals)
            *equals = 0;
        status = pal_data_options_set(options, list[i], equals ? equals + 1 : "");
    }
    return status;
}

/* The image as the model's input. The caller frees *pixels, which is NULL if the model takes none.
 */
static pal_status read_image(const pal_data *data, const pal_session *session, pal_tensor *input,
                             float **pixels)
{
    const pal_tensor *wanted = pal_session_input(session, 0);
    size_t elements = 1;
    if (!wanted || wanted->dtype != PAL_FLOAT32 || wanted->rank == 0)
        return PAL_OK; /* and no pixels */
    *input = *wanted;
    /* Once for the shape, where the model leaves it open, and once for the values. */
    pal_status status = pal_data_read(data, 0, input, 1, NULL);
    input->shape[0] = 1;
    for (size_t d = 0; d < input->rank; d++)
        elements *= (size_t)input->shape[d];
    *pixels = status ? NULL : malloc(elements * sizeof **pixels);
    if (*pixels)
        status = pal_data_read(data, 0, input, 1, (void *const[]){*pixels});
    input->data = *pixels;
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: classify MODEL IMAGE LABELS [OPTION=VALUE]...\n");
        return 2;
    }
    pal_model *model = NULL;
    pal_session *session = NULL;
    pal_data_options *options = NULL;
    pal_data *data = NULL;
    pal_tensor input;
    float *pixels = NULL;

    pal_status status = pal_data_options_new(&options);
    if (!status)
        status = set_options(options, argc - 4, argv + 4);
    if (!status)
        status = pal_data_open(argv[2], options, &data);
    if (!status)
        status = pal_model_open(argv[1], &model);
    if (!status)
        status = pal_session_open(model, 0, &session);
    if (!status) /* a model with more inputs is refused by the run */
        status = read_image(data, session, &input, &pixels);
    if (!status && pixels)
        status = pal_session_run(session, &input, 1);

    const pal_tensor *output = status || !pixels ? NULL : pal_session_output(session, 0);
    const bool scores = output && output->dtype == PAL_FLOAT32 && output->rank > 0;
    if (status)
        fprintf(stderr, "classify: %s\n", pal_error_message());
    else if (!scores)
        fprintf(stderr, "classify: %s takes no image or gives no scores\n", argv[1]);
    else
        print_best(output, argv[3]);
    free(pixels);
    pal_session_free(session);
    pal_model_free(model);
    pal_data_free(data);
    pal_data_options_free(options);
    return scores ? 0 : 1;
}
