cimport cython
from cpython.ref cimport PyObject
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastbpe.core.match_native cimport Matcher
from fastbpe.core.merge_native cimport KeyLine, Memo, Merger, Miss
from fastbpe.core.split_native cimport Found, Scan, Splitter, SplitStream

cdef extern from "key.h" nogil:
    ctypedef struct KeyBatch:
        uint64_t key[64][4]
        const uint8_t *data[64]
        size_t size[64]
        uint32_t line[64]
        int count
        const uint8_t *begin

    ctypedef struct KeySecret:
        uint64_t words[4]

    ctypedef struct KeyCode:
        uint32_t (*hash)(const uint64_t *key, const KeySecret *secret) noexcept nogil
        int (*prepare)(
            KeyBatch *batch, const uint8_t *base, const uint32_t *ends, int at, int count, const uint8_t *limit,
            const KeySecret *secret, const KeyLine *lines, uint32_t mask
        ) noexcept nogil
        int (*emit)(const KeyBatch *batch, int at, KeyLine *lines, uint32_t **out) noexcept nogil


cdef extern from "utf8.h" nogil:
    ctypedef size_t Utf8Write(const void *source, size_t count, int kind, uint8_t *to) noexcept nogil


cdef struct StrData:
    # What a str holds.
    const uint8_t *data
    Py_ssize_t size      # characters
    int kind             # bytes of each
    bint ascii


cdef struct Gap:
    Py_ssize_t at        # position in the output
    int miss             # whose ids belong there


@cython.final
cdef class Scratch:
    cdef KeyLine *lines
    cdef KeyCode code
    cdef uint32_t mask     # number of lines - 1
    cdef uint32_t learned  # pretokens entered since the table has this size
    cdef uint32_t *out
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity
    cdef Miss *misses
    cdef int n_misses
    cdef Memo *memo
    cdef SplitStream splits  # for text that has to be turned into UTF-8
    cdef uint32_t *ring
    cdef uint64_t ring_words  # that there is memory for
    cdef uint64_t ring_size
    cdef uint32_t most_lines
    cdef uint64_t written  # words
    cdef Gap gaps[256]
    cdef int n_gaps

    cdef uint32_t *make_room(self, const uint64_t *key, uint32_t at) noexcept nogil
    cdef void note(
        self, uint32_t *entry, const uint32_t *ids, uint32_t count, const uint8_t *data, uint32_t size, bint whole_line
    ) noexcept nogil
    cdef uint64_t put(self, const uint32_t *ids, uint32_t count, const uint8_t *data, uint32_t size) noexcept nogil
    cdef const uint32_t *recall(
        self, const uint32_t *entry, const uint8_t *data, Py_ssize_t size
    ) noexcept nogil
    cdef void widen(self) noexcept nogil
    cdef int reserve(self, Py_ssize_t room) except -1 nogil
    cdef object take(self)
    cdef int shrink(self) except -1


@cython.final
cdef class Encoder:
    cdef readonly object splitter
    cdef readonly Merger merger
    cdef bint ascii_only
    cdef KeyCode code
    cdef Splitter native_splitter
    cdef list idle
    cdef bint keeps        # what was seen, for the next call
    cdef uint32_t most_lines
    cdef uint32_t ring_size
    cdef Utf8Write *write
    cdef PyObject **ints   # an int for each id; NULL until it is asked for
    cdef uint32_t n_ints

    cdef Scratch acquire(self)
    cdef void release(self, Scratch scratch)
    cdef int encode_piece(self, const uint8_t *data, Py_ssize_t size, Scratch scratch) except -1 nogil
    cdef int encode_found(
        self, const uint8_t *data, const Found *found, Py_ssize_t readable, Scratch scratch
    ) except -1 nogil
    cdef int emit(self, const KeyBatch *batch, int at, Scratch scratch) except -1 nogil
    cdef int miss(self, const KeyBatch *batch, int at, uint32_t *entry, Scratch scratch) except -1 nogil
    cdef int wait(self, int miss, Scratch scratch) except -1 nogil
    cdef int resolve(self, Scratch scratch) except -1 nogil
    cdef bint encode_slice(
        self, const uint8_t *data, Py_ssize_t size, bint final, Py_ssize_t readable, Py_ssize_t stop, Scan *scan,
        Scratch scratch
    ) except -1 nogil
    cdef int look_up_from_work(self, object check) except -1 nogil
    cdef int encode_whole(
        self, const uint8_t *data, Py_ssize_t size, Py_ssize_t stop, Scratch scratch, object check
    ) except -1 nogil
    cdef int encode_between(
        self, const uint8_t *data, Py_ssize_t size, Scratch scratch, object check
    ) except -1
    cdef list take_list(self, Scratch scratch)
    cdef list _listed(self, const uint32_t *out, Py_ssize_t size)
    cdef bint encode_characters(
        self, const StrData *text, Py_ssize_t begin, Py_ssize_t end, Scratch scratch, object check
    ) except -1 nogil
    cdef bint encode_as_utf8(
        self, const StrData *text, Py_ssize_t begin, Py_ssize_t end, Scratch scratch, object check
    ) except -1 nogil
    cdef bint takes(self, text, Matcher matcher) except -1
    cdef Py_ssize_t cut_behind(self, const StrData *text, Py_ssize_t place) except -2
    cdef int encode_spans(self, bytes text, Scratch scratch, object check) except -1


@cython.final
cdef class EncodeStream:
    cdef Encoder encoder
    cdef Scratch scratch
    cdef SplitStream splits
    cdef object regex_splits

    cdef int drain(self, bint final) except -1
    cdef object _take_pieces(self, list pieces)
