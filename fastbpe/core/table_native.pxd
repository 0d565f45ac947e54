cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastbpe.core.key cimport KeyBatch, KeyBucket, KeyCode, KeyRing
from fastbpe.core.long_native cimport Memo
from fastbpe.core.merge_native cimport Merger, Miss
from fastbpe.core.split_native cimport Found, SplitStream

cdef enum:
    GAPS = 256               # places in the output that wait for ids


cdef struct Gap:
    Py_ssize_t at            # position in the output
    int miss                 # whose ids belong there


@cython.final
cdef class Table:
    cdef Merger merger
    cdef KeyCode code
    cdef KeyBucket *buckets
    cdef uint32_t mask       # number of buckets in use - 1
    cdef uint32_t most_buckets  # that there are addresses for
    cdef uint32_t taken      # places
    cdef KeyRing ring
    cdef uint32_t n_put      # what was to be written there so far
    cdef uint64_t *sights    # a bit for each long pretoken that was seen; see _is_first
    cdef uint32_t n_sights
    cdef Memo *memo
    cdef Miss *misses
    cdef int n_misses
    cdef Gap gaps[GAPS]
    cdef int n_gaps
    cdef uint32_t *out
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef SplitStream splits  # for text that has to be turned into UTF-8

    cdef uint32_t *_make_room(self, const uint64_t *key, KeyBucket *first) noexcept nogil
    cdef int _push_out(self, KeyBucket *bucket, bint is_long) noexcept nogil
    cdef bint _is_first(self, const uint64_t *key) noexcept nogil
    cdef void _widen(self) noexcept nogil
    cdef void _note(
        self, uint32_t *entry, const uint32_t *ids, uint32_t count, const uint8_t *data, uint32_t size, bint is_long
    ) noexcept nogil
    cdef uint64_t _put(self, const uint32_t *ids, uint32_t count, const uint8_t *data, uint32_t size) noexcept nogil
    cdef int reserve(self, Py_ssize_t room) except -1 nogil
    cdef bint _resize(self, Py_ssize_t capacity) noexcept nogil
    cdef void _free(self) noexcept nogil
    cdef object take(self)
    cdef int shrink(self) except -1
    cdef int encode_piece(self, const uint8_t *data, Py_ssize_t size) except -1 nogil
    cdef int encode_found(self, const uint8_t *data, const Found *found, Py_ssize_t readable) except -1 nogil
    cdef int _emit(self, const KeyBatch *batch, int at) except -1 nogil
    cdef int _miss(self, const KeyBatch *batch, int at, uint32_t *entry) except -1 nogil
    cdef int _wait(self, int miss) except -1 nogil
    cdef int _resolve(self) except -1 nogil
