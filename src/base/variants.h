/* Loops compiled for several instruction sets, chosen when they are called. A function NAME_body is
 * written once, VARIANT_BODY; VARIANTS(type, NAME, (parameters), (arguments)) makes NAME of it. The
 * variants differ in how many numbers they hold at once, not in any result: contraction is off, and
 * what is summed in lanes is so in all of them. */
#ifndef PAL_BASE_VARIANTS_H
#define PAL_BASE_VARIANTS_H

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

/* The same for a function of one file. */
#define LOCAL_VARIANTS(type, name, parameters, arguments)                                          \
    static type name parameters;                                                                   \
    VARIANTS(type, name, parameters, arguments)

#endif
