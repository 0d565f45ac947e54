cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "boxes.h" nogil:
    enum:
        BOXES_CHUNK
        BOXES_MIXED

    ctypedef struct Boxes:
        uint8_t ascii[8][16]
        uint8_t two[2048]
        const uint16_t *stage1
        const uint8_t *stage2
        uint8_t of_lead[16]
        uint8_t of_second[16][64]
        uint8_t rules[8][5][16]
        uint8_t unsure[8]
        uint8_t tails[16][16]
        uint8_t periods[16]
        int n_rules
        uint8_t end

    ctypedef struct Decided:
        uint64_t on[1]      # one for each 64 bytes
        uint64_t unsure[1]

    ctypedef struct BoxesCode:
        void (*decide)(
            const Boxes *boxes, const uint8_t *data, int size, const uint8_t *before, int64_t open, int final,
            Decided *decided
        ) noexcept nogil
        int (*flatten)(const Decided *decided, int block, int blocks, uint32_t **to) noexcept nogil


cdef enum:
    ENDS = BOXES_CHUNK + 32  # the flattening writes a few beyond the last
    FAR = 1 << 30        # bytes behind `base` that an end may lie
    DROPPED = 1 << 31    # flag of an end: the pattern passes this stretch over, and such text is not kept


cdef struct Scan:
    # Where a splitter stands in a text whose beginning may have left the buffer.
    Py_ssize_t origin    # where the text began: 0, or negative
    Py_ssize_t given     # up to here all has been given out
    Py_ssize_t start     # where the run of the automaton began
    Py_ssize_t end       # the last place where the pretoken may end; the start if none yet
    Py_ssize_t position  # the next byte to decide
    uint32_t state       # of the run, times 256; 0: there is none
    bint ready           # the run has ended, the pretoken is not given out yet


cdef struct Found:
    # Stretches of text, one behind the other.
    Py_ssize_t begin     # of the first
    Py_ssize_t base
    Py_ssize_t count
    uint32_t ends[ENDS]  # of each, from base; DROPPED may be set


cdef struct Run:
    # The ASCII bytes that keep a state as it is, where they are one range (of lower-case letters, if fold is 0x20).
    uint8_t low
    uint8_t span
    uint8_t fold
    uint8_t known


cdef void scan_reset(Scan *scan) noexcept nogil


@cython.final
cdef class Splitter:
    cdef uint16_t *stage1
    cdef uint8_t *stage2
    cdef uint8_t *coarse2   # stage2 with the classes of windows
    cdef uint32_t *by_class
    cdef uint32_t *by_byte
    cdef Run *runs
    cdef Py_ssize_t width
    cdef bint gaps
    cdef Boxes boxes
    cdef BoxesCode code     # none: the automaton alone
    cdef readonly object tables

    cdef void _find_run(self, Py_ssize_t state) noexcept
    cdef int _take_boxes(self, boxes, const uint8_t[::1] stage2, str kind) except -1
    cdef bint fill(self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan, Found *found) noexcept nogil
    cdef bint _fill_by_automaton(
        self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan, Found *found
    ) noexcept nogil
    cdef bint _fill_by_boxes(
        self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan, Found *found
    ) noexcept nogil
    cdef Py_ssize_t sure_boundary(self, const uint8_t *data, Py_ssize_t size, Py_ssize_t begin) noexcept nogil
    cdef bint _run_on(self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan) noexcept nogil
    cdef bint _run(self, const uint8_t *data, Py_ssize_t size, Scan *scan) noexcept nogil
    cdef void _context(self, const uint8_t *data, Scan *scan, uint8_t *before) noexcept nogil


@cython.final
cdef class SplitStream:
    cdef Splitter splitter
    cdef uint8_t *data
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef Scan scan

    cdef int make_room(self, Py_ssize_t size) except -1 nogil
    cdef int append(self, const uint8_t *data, Py_ssize_t size) except -1
    cdef void compact(self) noexcept nogil
    cdef void clear(self) noexcept nogil
    cdef list _pieces(self, bint final)
