/* Functions that are compiled for several widths of vectors; the processor chooses. Results may
 * differ between processors only where sums are taken in vectors. */
#ifndef PAL_ENGINE_OPS_WIDE_H
#define PAL_ENGINE_OPS_WIDE_H

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) &&             \
    !defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDE
#endif

/* Before a loop whose iterations touch the same element in all arrays or none: arrays may be the
 * same, but do not overlap otherwise. */
#if defined(__GNUC__) && !defined(__clang__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif

#endif
