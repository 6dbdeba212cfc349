/* Makes one allocation of the library, or of this program, fail. The linker puts functions of this
 * file between them and the C library (memory_test() in tests/CMakeLists.txt). */
#ifndef PAL_TEST_FAILING_MEMORY_H
#define PAL_TEST_FAILING_MEMORY_H

#include <stdbool.h>

/* The allocation after so many others fails, once. */
void memory_fail_after(long allocations);
/* No more; whether it has failed. */
bool memory_failed(void);

#endif
