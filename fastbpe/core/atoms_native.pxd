cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "lockstep.h" nogil:
    ctypedef struct LockstepAtom:
        uint64_t before
        uint64_t after
        uint32_t symbol
        uint32_t ascii

    bint lockstep_not_behind(const LockstepAtom *atom, uint8_t before)
    bint lockstep_not_before(const LockstepAtom *atom, uint8_t after)


cdef struct Bytes:
    uint64_t bits[4]


cdef struct Part:
    # A symbol of up to three bytes, none of them ASCII.
    Bytes before        # last bytes of symbols that would take its beginning away before it is whole
    Bytes after         # first bytes of symbols that would take its end away
    Bytes joins_before  # last bytes of the symbols that join it from the left, so far
    Bytes joins_after   # first bytes of those that join it from the right
    bint settled        # nothing inside goes another way
    bint early          # some merge that it takes part in has a rank below its own


@cython.final
cdef class Atoms:
    cdef LockstepAtom *table  # by code point up to U+FFFF
    cdef Part *parts
    cdef uint32_t *part_of    # by symbol, while the table is built

    cdef int build(
        self, const uint8_t *blob, const uint32_t *offset, const uint32_t *left, const uint32_t *right,
        uint32_t n_symbols
    ) except -1
    cdef void _settle(
        self, uint32_t symbol, uint32_t left, uint32_t right, uint8_t last, uint8_t first
    ) noexcept
