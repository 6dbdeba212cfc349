/* Every operator by its name, and the report on those that this version does not compute. */
#include <stdio.h>
#include <string.h>

#include "graph/coreml/lowering.h"

static const mil_operator *const families[] = {
    mil_activation_operators, mil_elementwise_operators,  mil_product_operators,
    mil_window_operators,     mil_norm_operators,         mil_reduction_operators,
    mil_resize_operators,     mil_crop_resize_operators,  mil_shaping_operators,
    mil_slicing_operators,    mil_joining_operators,      mil_gathering_operators,
    mil_scattering_operators, mil_filling_operators,      mil_block_operators,
    mil_recurrent_operators,  mil_quantization_operators, mil_control_operators,
};

const mil_operator *mil_operator_find(ProtobufCBinaryData type)
{
    for (size_t f = 0; f < sizeof families / sizeof *families; f++)
        for (const mil_operator *it = families[f]; it->type; it++)
            if (protobuf_equal(type, it->type))
                return it;
    return NULL;
}

/* ---------------------------------------------------------------- what is unknown */

enum { LISTED_TYPES = 12, LISTED_NAMES = 3 };

/* Operators whose absence has a reason worth telling. */
static const char *const reasons[][2] = {
    {"while_loop", "loops"},
    {"read_state", "models with a state"},
    {"write_state", "models with a state"},
    {"coreml_update_state", "models with a state"},
    {"random_bernoulli", "random numbers"},
    {"random_categorical", "random numbers"},
    {"random_normal", "random numbers"},
    {"random_uniform", "random numbers"},
};

typedef struct unknown_type {
    ProtobufCBinaryData type, names[LISTED_NAMES];
    size_t count;
} unknown_type;

typedef struct unknown_list {
    unknown_type types[LISTED_TYPES];
    size_t type_count, unlisted; /* operations of types beyond those */
} unknown_list;

static void list_operation(unknown_list *list, const Coreml__Operation *operation)
{
    size_t i = 0;
    while (i < list->type_count &&
           (list->types[i].type.len != operation->type.len ||
            memcmp(list->types[i].type.data, operation->type.data, operation->type.len) != 0))
        i++;
    if (i == LISTED_TYPES) {
        list->unlisted++;
        return;
    }
    if (i == list->type_count)
        list->types[list->type_count++] = (unknown_type){.type = operation->type};
    unknown_type *type = &list->types[i];
    if (type->count < LISTED_NAMES && operation->n_outputs)
        type->names[type->count] = operation->outputs[0]->name;
    type->count++;
}

static bool is_constant_type(ProtobufCBinaryData type)
{
    static const char prefix[] = "constexpr_";
    return protobuf_equal(type, "const") ||
           (type.len >= sizeof prefix - 1 && memcmp(type.data, prefix, sizeof prefix - 1) == 0);
}

/* No deeper than blocks can be nested in a model that could be opened. */
static void list_block(unknown_list *list, const Coreml__Block *block)
{
    for (size_t i = 0; i < block->n_operations; i++) {
        const Coreml__Operation *operation = block->operations[i];
        if (!is_constant_type(operation->type) && !mil_operator_find(operation->type)) {
            list_operation(list, operation);
            continue; /* its blocks make sense to it alone */
        }
        for (size_t b = 0; b < operation->n_blocks; b++)
            list_block(list, operation->blocks[b]);
    }
}

typedef struct text {
    char data[800];
    size_t used;
} text;

static void append(text *to, const char *format, ...) PAL_PRINTF(2, 3);

static void append(text *to, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(to->data + to->used, sizeof to->data - to->used, format, arguments);
    va_end(arguments);
    if (n > 0)
        to->used +=
            (size_t)n < sizeof to->data - to->used ? (size_t)n : sizeof to->data - to->used - 1;
}

static void describe(const unknown_type *type, text *to)
{
    const char *reason = NULL;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (protobuf_equal(type->type, reasons[i][0]))
            reason = reasons[i][1];
    append(to, "%s%.*s (", to->used ? ", " : "", (int)(type->type.len < 48 ? type->type.len : 48),
           (const char *)type->type.data);
    if (reason)
        append(to, "%s: ", reason);
    const size_t named = type->count < LISTED_NAMES ? type->count : LISTED_NAMES;
    for (size_t i = 0; i < named; i++)
        append(to, "%s'%.*s'", i ? ", " : "",
               (int)(type->names[i].len < 32 ? type->names[i].len : 32),
               type->names[i].data ? (const char *)type->names[i].data : "");
    if (type->count > named)
        append(to, " and %zu more", type->count - named);
    append(to, ")");
}

pal_status mil_operators_check(const lowering *low, const Coreml__Block *const *blocks,
                               size_t count)
{
    unknown_list list = {0};
    for (size_t i = 0; i < count; i++)
        list_block(&list, blocks[i]);
    if (!list.type_count)
        return PAL_OK;
    text to = {0};
    size_t listed = 0;
    while (listed < list.type_count && to.used < sizeof to.data - 250)
        describe(&list.types[listed++], &to);
    size_t more = list.unlisted;
    for (size_t i = listed; i < list.type_count; i++)
        more += list.types[i].count;
    if (more)
        append(&to, " and %zu more", more);
    return fail(PAL_ERROR_UNSUPPORTED, "%s: cannot compute %s", low->state->model_path, to.data);
}
