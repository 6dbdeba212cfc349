/* Gradients of einsum, attention and recurrent layers against finite differences. */
#include "gradient_checks.h"

static void einsums(void **state)
{
    (void)state;
    static const struct {
        const char *equation;
        size_t count;
        size_t rank[3];
        int64_t shape[3][4];
    } cases[] = {
        {"ij,jk->ik", 2, {2, 2}, {{3, 4}, {4, 5}}},
        {"bhld,bhsd->bhls", 2, {4, 4}, {{2, 2, 3, 4}, {2, 2, 5, 4}}},
        {"ij,k->j", 2, {2, 1}, {{3, 4}, {5}}},
        {"ii->i", 1, {2}, {{4, 4}}},
        {"ii,j->", 2, {2, 1}, {{4, 4}, {3}}},
        {"iji,kj->k", 2, {3, 2}, {{3, 4, 3}, {2, 4}}},
        {"...ij,...jk->...ik", 2, {4, 3}, {{2, 3, 2, 4}, {1, 4, 2}}},
        {"ab,bc,cd->ad", 3, {2, 2, 2}, {{2, 3}, {3, 4}, {4, 5}}},
        {"ij->ji", 1, {2}, {{3, 5}}},
        {"i,i,i->i", 3, {1, 1, 1}, {{6}, {6}, {6}}},
        {"i,j->ij", 2, {1, 1}, {{3}, {4}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bench b = bench_new(10 + i);
        const op_attributes a = {.einsum = {cases[i].equation}};
        size_t inputs[3];
        for (size_t o = 0; o < cases[i].count; o++)
            inputs[o] = any_of(&b, true, cases[i].rank[o], cases[i].shape[o]);
        const size_t y = add(&b, OP_EINSUM, &a, cases[i].count, inputs);
        for (size_t o = 0; o < cases[i].count; o++)
            check(&b, y, inputs[o]);
        bench_free(&b);
    }
}

/* More rows than a block has; keys that several heads share; masks of both kinds. */
static void attentions(void **state)
{
    (void)state;
    for (int variant = 0; variant < 6; variant++) {
        bench b = bench_new(30 + (uint64_t)variant);
        const op_attributes a = {
            .attention = {.scale = variant & 1 ? 0.4F : 0, .causal = variant == 2}};
        const int64_t rows = variant == 1 ? 70 : 5, heads = variant == 3 ? 1 : 2;
        const size_t q = any_of(&b, true, 4, SHAPE(2, 2, rows, 3));
        const size_t k = any_of(&b, true, 4, SHAPE(2, heads, 6, 3));
        const size_t v = any_of(&b, true, 4, SHAPE(2, heads, 6, 4));
        size_t inputs[4] = {q, k, v, GRAPH_NONE};
        if (variant >= 4)
            inputs[3] = any_of(&b, true, 3, variant == 4 ? SHAPE(2, rows, 6) : SHAPE(1, 1, 6));
        const size_t y =
            unary(&b, UNARY_TANH, 0, 0, add(&b, OP_ATTENTION, &a, variant >= 4 ? 4 : 3, inputs));
        for (size_t i = 0; i < (variant >= 4 ? 4 : 3); i++)
            check(&b, y, inputs[i]);
        bench_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(einsums),
        cmocka_unit_test(attentions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
