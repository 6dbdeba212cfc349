#include <stdio.h>
#include <string.h>

#include "graph/onnx/listing.h"
#include "graph/onnx/lowering.h"

static const onnx_operator *const families[] = {
    elementwise_operators, activation_operators, product_operators,      window_operators,
    norm_operators,        reduction_operators,  shaping_operators,      indexing_operators,
    resize_operators,      recurrent_operators,  quantization_operators, constant_operators,
};

enum { FAMILIES = sizeof families / sizeof *families, MAX_DEPTH = 64 };

static const onnx_operator *find_in(const onnx_operator *family, ProtobufCBinaryData type)
{
    for (const onnx_operator *it = family; it->type; it++)
        if (protobuf_equal(type, it->type))
            return it;
    return NULL;
}

const onnx_operator *operator_find(const Onnx__Node *node)
{
    if (protobuf_equal(node->domain, "com.microsoft"))
        return find_in(contributed_operators, node->op_type);
    if (node->domain.len && !protobuf_equal(node->domain, "ai.onnx"))
        return NULL;
    for (size_t i = 0; i < FAMILIES; i++) {
        const onnx_operator *found = find_in(families[i], node->op_type);
        if (found)
            return found;
    }
    return NULL;
}

const char *onnx_operator_listed(size_t i, const char **domain)
{
    for (size_t f = 0; f <= FAMILIES; f++) {
        *domain = f < FAMILIES ? "" : "com.microsoft";
        for (const onnx_operator *it = f < FAMILIES ? families[f] : contributed_operators; it->type;
             it++)
            if (i-- == 0)
                return it->type;
    }
    return NULL;
}

const Onnx__Function *function_find(const lowering *low, const Onnx__Node *node)
{
    const Onnx__Model *model = low->state->root;
    for (size_t i = 0; i < model->n_functions; i++)
        if (same_bytes(model->functions[i]->name, node->op_type) &&
            same_bytes(model->functions[i]->domain, node->domain) &&
            same_bytes(model->functions[i]->overload, node->overload))
            return model->functions[i];
    return NULL;
}

/* ---------------------------------------------------------------- what is unknown */

/* The message under way: types with the names of their nodes. */
typedef struct list {
    char text[700];
    size_t used;
    size_t unknown, left_off;
} list;

static void put(list *to, ProtobufCBinaryData type, ProtobufCBinaryData domain,
                ProtobufCBinaryData name)
{
    char entry[200];
    const bool own = domain.len == 0;
    int n = snprintf(entry, sizeof entry, "%s%.*s%s%.*s '%.*s'", to->unknown ? ", " : "",
                     (int)(domain.len < 40 ? domain.len : 40), own ? "" : (char *)domain.data,
                     own ? "" : ".", (int)(type.len < 60 ? type.len : 60),
                     type.len ? (char *)type.data : "", (int)(name.len < 60 ? name.len : 60),
                     name.len ? (char *)name.data : "");
    to->unknown++;
    if (n < 0 || to->used + (size_t)n >= sizeof to->text) {
        to->left_off++;
        return;
    }
    memcpy(to->text + to->used, entry, (size_t)n + 1);
    to->used += (size_t)n;
}

static void check_nodes(const lowering *low, Onnx__Node *const *nodes, size_t count, list *to,
                        int depth)
{
    for (size_t i = 0; i < count && depth < MAX_DEPTH; i++) {
        const Onnx__Node *node = nodes[i];
        const ProtobufCBinaryData output =
            node->n_output ? node->output[0] : (ProtobufCBinaryData){0, NULL};
        if (!operator_find(node) && !function_find(low, node))
            put(to, node->op_type, node->domain, node->name.len ? node->name : output);
        for (size_t a = 0; a < node->n_attribute; a++)
            if (node->attribute[a]->g)
                check_nodes(low, node->attribute[a]->g->node, node->attribute[a]->g->n_node, to,
                            depth + 1);
    }
}

pal_status operators_check(const lowering *low)
{
    const Onnx__Model *model = low->state->root;
    list unknown = {.text = ""};
    check_nodes(low, model->graph->node, model->graph->n_node, &unknown, 0);
    for (size_t i = 0; i < model->n_functions; i++)
        check_nodes(low, model->functions[i]->node, model->functions[i]->n_node, &unknown, 0);
    if (!unknown.unknown)
        return PAL_OK;
    if (unknown.left_off)
        return fail(PAL_ERROR_UNSUPPORTED, "operators that cannot be computed: %s, and %zu more",
                    unknown.text, unknown.left_off);
    return fail(PAL_ERROR_UNSUPPORTED, "operators that cannot be computed: %s", unknown.text);
}
