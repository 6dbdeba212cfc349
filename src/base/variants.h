/* Loops that are compiled for several instruction sets and chosen when they are called. They differ
 * in how many values they hold at once, not in any result: nothing is summed in another order. */
#ifndef PAL_BASE_VARIANTS_H
#define PAL_BASE_VARIANTS_H

/* The body is a function name##_body, declared VARIANT_BODY. */
#define VARIANT_BODY static inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__GNUC__)
#define VARIANTS(type, name, parameters, arguments)                                                \
    __attribute__((                                                                                \
        target("avx512f,avx512bw,avx512dq,avx512vl"))) static type name##_512 parameters           \
    {                                                                                              \
        return name##_body arguments;                                                              \
    }                                                                                              \
    __attribute__((target("avx2"))) static type name##_256 parameters                              \
    {                                                                                              \
        return name##_body arguments;                                                              \
    }                                                                                              \
    type name parameters                                                                           \
    {                                                                                              \
        if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&            \
            __builtin_cpu_supports("avx512vl"))                                                    \
            return name##_512 arguments;                                                           \
        if (__builtin_cpu_supports("avx2"))                                                        \
            return name##_256 arguments;                                                           \
        return name##_body arguments;                                                              \
    }
#else
#define VARIANTS(type, name, parameters, arguments)                                                \
    type name parameters                                                                           \
    {                                                                                              \
        return name##_body arguments;                                                              \
    }
#endif

#endif
