from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastbpe.core.merge_native cimport Merger
from fastbpe.core.split_native cimport Scan, Splitter, SplitStream


cdef struct Line:
    uint64_t key[4]      # up to 31 bytes, zero padded; the last byte is the length
    uint32_t ids[7]
    uint32_t count


cdef struct Piece:
    uint64_t key[4]
    const uint8_t *data
    Py_ssize_t size
    Line *line           # the set that may hold it; NULL for a long pretoken


cdef class Scratch:
    cdef Line *lines
    cdef uint64_t mask     # number of sets - 1
    cdef uint64_t learned  # pretokens entered since the table has this size
    cdef uint32_t *out
    cdef Py_ssize_t size
    cdef Py_ssize_t capacity

    cdef void widen(self) noexcept nogil
    cdef int reserve(self, Py_ssize_t room) except -1 nogil
    cdef object take(self)


cdef class Encoder:
    cdef readonly object splitter
    cdef readonly Merger merger
    cdef Splitter native_splitter
    cdef list idle

    cdef Scratch acquire(self)
    cdef void release(self, Scratch scratch)
    cdef int encode_piece(self, const uint8_t *data, Py_ssize_t size, bint padded, Scratch scratch) except -1 nogil
    cdef int emit(self, Piece *piece, Scratch scratch) except -1 nogil
    cdef bint encode_slice(
        self, const uint8_t *data, Py_ssize_t size, bint final, Py_ssize_t readable, Scan *scan, Scratch scratch
    ) except -1 nogil
    cdef int encode_text(self, const uint8_t *data, Py_ssize_t size, Scratch scratch, object check) except -1
    cdef int encode_spans(self, bytes text, Scratch scratch, object check) except -1


cdef class EncodeStream:
    cdef Encoder encoder
    cdef Scratch scratch
    cdef SplitStream splits
    cdef object regex_splits

    cdef int drain(self, bint final) except -1
    cdef object _take_pieces(self, list pieces)
