from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef struct Scan:
    Py_ssize_t gap       # where unmatched text began; the start if there is none
    Py_ssize_t start     # where the run began
    Py_ssize_t end       # the last place where the pretoken may end; the start if none yet
    Py_ssize_t position  # the next byte to read
    Py_ssize_t ready     # end of a pretoken that waits for the gap before it to be given out, or 0
    uint32_t state       # state * 256


cdef struct Run:
    # The ASCII bytes that keep a state as it is, where they are one range (of lower-case letters, if fold is 0x20).
    uint8_t low
    uint8_t span
    uint8_t fold
    uint8_t known


cdef void scan_reset(Scan *scan) noexcept nogil
cdef Py_ssize_t next_slice(const uint8_t *text, Py_ssize_t size, Py_ssize_t visible) noexcept nogil


cdef class Splitter:
    cdef uint16_t *stage1
    cdef uint8_t *stage2
    cdef uint32_t *by_class
    cdef uint32_t *by_byte
    cdef Run *runs
    cdef Py_ssize_t width
    cdef Py_ssize_t blocks
    cdef bint gaps
    cdef readonly object tables

    cdef void _find_run(self, Py_ssize_t state) noexcept
    cdef bint next(
        self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan, Py_ssize_t *begin, Py_ssize_t *end
    ) noexcept nogil


cdef class SplitStream:
    cdef Splitter splitter
    cdef uint8_t *data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef Scan scan

    cdef int append(self, const uint8_t *data, Py_ssize_t size) except -1
    cdef void compact(self) noexcept nogil
    cdef void clear(self) noexcept nogil
