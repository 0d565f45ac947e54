# Memory that is there, or MemoryError: for loops that run without the GIL.

from libc.stdlib cimport realloc
from libc.string cimport memset

cdef extern from "grow.h" nogil:
    void *sized(void *memory, size_t wanted)
    void sized_free(void *memory)


cdef inline int no_memory() except -1 with gil:
    raise MemoryError()


cdef inline void *resized(void *memory, size_t count, size_t size) except NULL nogil:
    """Return the memory, resized; a failure leaves it as it was."""
    cdef void *result
    if count > (<size_t>-1) // 2 // size:
        no_memory()
    result = realloc(memory, count * size + 1)
    if result == NULL:
        no_memory()
    return result


cdef inline void *zeroed(size_t count, size_t size) except NULL nogil:
    cdef void *result = resized(NULL, count, size)
    memset(result, 0, count * size)
    return result


cdef inline void *large(void *memory, size_t count, size_t size) except NULL nogil:
    """As `resized`, for memory that may be large and goes back to the system then; to be freed by `sized_free`."""
    cdef void *result
    if count > (<size_t>-1) // 2 // size:
        no_memory()
    result = sized(memory, count * size + 1)
    if result == NULL:
        no_memory()
    return result


cdef inline void *large_zeroed(size_t count, size_t size) except NULL nogil:
    cdef void *result = large(NULL, count, size)
    memset(result, 0, count * size)
    return result
