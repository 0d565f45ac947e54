cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastbpe.core.atoms_native cimport Atoms, LockstepAtom
from fastbpe.core.long_native cimport LongMerger, Memo
from fastbpe.core.symbols_native cimport LockstepBytes, Symbols

cdef extern from "lockstep.h" nogil:
    enum:
        LOCKSTEP_WORDS
        LOCKSTEP_LANES

    ctypedef struct LockstepWord:
        uint32_t symbols[40]
        uint32_t live

    ctypedef struct LockstepPairs:
        const uint64_t *pairs
        uint64_t mask
        uint64_t seed
        const uint64_t *filter
        const LockstepBytes *bytes
        const LockstepAtom *atoms

    ctypedef void LockstepRun(
        LockstepWord *words, const uint8_t **keys, const int *sizes, int count, const LockstepPairs *pairs
    ) noexcept nogil


cdef struct Miss:
    # A pretoken whose ids are not known yet.
    uint64_t key[4]            # begins with its bytes
    Py_ssize_t size
    uint32_t bucket            # of the user's
    uint64_t hashed
    uint32_t symbol            # that it may be, or NONE
    int count
    uint32_t ids[LOCKSTEP_LANES]


@cython.final
cdef class Merger:
    cdef Symbols symbols
    cdef LongMerger long_merger
    cdef Atoms atoms
    cdef bint whole
    cdef bint must_look        # some token is emitted only if it is a whole pretoken
    cdef LockstepPairs lockstep_pairs
    cdef LockstepRun *lockstep_run

    cdef uint32_t greatest_id(self)
    cdef uint32_t lookup(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef void merge_all(self, Miss *misses, int count) noexcept nogil
    cdef Py_ssize_t merge_into(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil
