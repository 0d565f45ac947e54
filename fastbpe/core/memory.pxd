# Memory that is there, or MemoryError: for loops that run without the GIL.

from libc.stdint cimport uint32_t
from libc.stdlib cimport realloc
from libc.string cimport memset

cdef extern from "grow.h" nogil:
    void *sized(void *memory, size_t wanted)
    void sized_free(void *memory)


cdef extern from *:
    """
    /* A number that other threads see only with all that was written before it. */
    #if defined(__GNUC__) || defined(__clang__)
    #define fastbpe_is_ready(flag) __atomic_load_n(flag, __ATOMIC_ACQUIRE)
    #define fastbpe_set_ready(flag, value) __atomic_store_n(flag, value, __ATOMIC_RELEASE)
    #else
    #define fastbpe_is_ready(flag) (*(volatile const uint32_t *)(flag))
    #define fastbpe_set_ready(flag, value) (*(volatile uint32_t *)(flag) = (value))
    #endif
    """
    uint32_t is_ready "fastbpe_is_ready"(const uint32_t *flag) nogil
    void set_ready "fastbpe_set_ready"(uint32_t *flag, uint32_t value) nogil


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
