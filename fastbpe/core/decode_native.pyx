"""Native twin of decode_python."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastbpe.core.key cimport key_prefetch
from fastbpe.core.memory cimport resized

import numpy as np

from fastbpe.core.packed import PackedVocab
from fastbpe.errors import TokenIdError

cdef extern from "utf8_read.h" nogil:
    ctypedef struct Utf8Reader:
        size_t (*count)(const uint8_t *data, size_t size, uint8_t *greatest) noexcept nogil
        bint (*read)(const uint8_t *data, size_t size, int kind, void *to) noexcept nogil
    Utf8Reader utf8_reader()

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 greatest)
    void *PyUnicode_DATA(object text)

cdef extern from *:
    """
    /* The value of an int object of one digit, or -1 for any other object: no call, no check twice. */
    static inline int64_t fastbpe_small_int(PyObject *number)
    {
        if (!PyLong_CheckExact(number))
            return -1;
    #if PY_VERSION_HEX >= 0x030C0000
        return PyUnstable_Long_IsCompact((PyLongObject *)number)
            ? (int64_t)PyUnstable_Long_CompactValue((PyLongObject *)number) : -1;
    #else
        return Py_SIZE(number) == 1 ? (int64_t)((PyLongObject *)number)->ob_digit[0] : -(Py_SIZE(number) != 0);
    #endif
    }
    """
    int64_t small_int "fastbpe_small_int"(PyObject *number)

cdef enum:
    BLOCK = 256           # ids whose tokens are on their way from memory together
    AHEAD = 16            # ids whose entries are on their way
    SLICE = 1 << 20       # ids between two looks at signals
    SHORT = 15            # bytes of a token that lie in its entry
    LONG = 16             # instead of a size: they lie elsewhere
    UNKNOWN = 255         # instead of a size: no token has this id
    USUAL = 5             # bytes of a token, where the room is guessed


cdef struct Entry:
    uint8_t bytes[SHORT]  # of a long token, the place and the size
    uint8_t size


cdef struct Place:
    uint32_t start
    uint32_t size


cdef struct Output:
    uint8_t *data
    size_t size
    size_t room


cdef class Decoder:
    cdef Entry *entries
    cdef uint8_t *blob    # long tokens
    cdef uint32_t n_ids
    cdef uint32_t n_bytes
    cdef Utf8Reader reader

    def __cinit__(self, vocab, others):
        cdef const uint32_t[::1] ids, offsets
        cdef Py_ssize_t at
        cdef uint32_t number
        cdef size_t total
        cdef bytes blob
        if isinstance(vocab, PackedVocab):
            ids, offsets, blob = vocab.ids, vocab.offsets, vocab.blob
            greatest = int(vocab.ids[len(vocab) - 1])
            lengths = np.diff(vocab.offsets)
            total = int(lengths[lengths > SHORT].sum())
        else:
            greatest = max(vocab.values(), default=-1)
            total = sum(len(token) for token in vocab if len(token) > SHORT)
        total += sum(map(len, others.values()))
        self.reader = utf8_reader()
        self.n_ids = max(greatest, max(others, default=-1)) + 1
        self.blob = <uint8_t *>resized(NULL, total, 1)
        self.entries = <Entry *>resized(NULL, self.n_ids, sizeof(Entry))
        memset(self.entries, UNKNOWN, self.n_ids * sizeof(Entry))
        if isinstance(vocab, PackedVocab):
            for at in range(ids.shape[0]):
                self._put(ids[at], <const uint8_t *>PyBytes_AS_STRING(blob) + offsets[at], offsets[at + 1] - offsets[at])
        else:
            for token, number in vocab.items():
                self._put(number, <const uint8_t *>PyBytes_AS_STRING(token), <uint32_t>len(token))
        for number, token in others.items():
            if self.entries[number].size == UNKNOWN:
                self._put(number, <const uint8_t *>PyBytes_AS_STRING(token), <uint32_t>len(token))

    def __dealloc__(self):
        free(self.blob)
        free(self.entries)

    cdef void _put(self, uint32_t number, const uint8_t *token, uint32_t size) noexcept:
        cdef Entry *entry = self.entries + number
        cdef Place place
        if size <= SHORT:
            memcpy(entry.bytes, token, size)
            entry.size = <uint8_t>size
            return
        place.start = self.n_bytes
        place.size = size
        memcpy(entry.bytes, &place, sizeof(Place))
        entry.size = LONG
        memcpy(self.blob + self.n_bytes, token, size)
        self.n_bytes += size

    def decode(self, ids):
        cdef const uint32_t[::1] numbers = ids
        cdef Py_ssize_t count = numbers.shape[0], at = 0, stop
        cdef Output out
        self._begin(&out, count)
        try:
            while at < count:
                stop = min(count, at + SLICE)
                with nogil:
                    at = self._append(&numbers[0], at, stop, &out)
                if at < stop:
                    raise TokenIdError(f"ids must be ids of the vocabulary, got {numbers[at]} at index {at}")
                PyErr_CheckSignals()
            return PyBytes_FromStringAndSize(<char *>out.data, out.size)
        finally:
            free(out.data)

    def decode_list(self, list ids not None):
        cdef Py_ssize_t count = PyList_GET_SIZE(ids), at = 0, stop, place
        cdef uint32_t numbers[BLOCK]
        cdef int64_t number
        cdef Output out
        self._begin(&out, count)
        try:
            while at < count:
                stop = min(count - at, <Py_ssize_t>BLOCK)
                for place in range(stop):
                    number = small_int(PyList_GET_ITEM(ids, at + place))
                    if not 0 <= number < self.n_ids:
                        return None
                    numbers[place] = <uint32_t>number
                    key_prefetch(self.entries + number)
                if self._append(numbers, 0, stop, &out) < stop:
                    return None
                at += stop
                if at % SLICE == 0:
                    PyErr_CheckSignals()
                    if PyList_GET_SIZE(ids) != count:
                        return None
            return PyBytes_FromStringAndSize(<char *>out.data, out.size)
        finally:
            free(out.data)

    def text(self, bytes data not None, str errors not None):
        cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef size_t size = PyBytes_GET_SIZE(data), count
        cdef uint8_t greatest
        cdef int kind
        if self.reader.read and size:
            count = self.reader.count(start, size, &greatest)
            if 0xC2 <= greatest <= 0xF4:
                kind = 1 if greatest < 0xC4 else 2 if greatest < 0xF0 else 4
                text = PyUnicode_New(count, 0xFF if kind == 1 else 0xFFFF if kind == 2 else 0x10FFFF)
                if self.reader.read(start, size, kind, PyUnicode_DATA(text)):
                    return text
        return data.decode("utf-8", errors)

    cdef int _begin(self, Output *out, Py_ssize_t count) except -1:
        out.data = NULL
        out.size = out.room = 0
        return self._make_room(out, USUAL * count)

    cdef int _make_room(self, Output *out, size_t size) except -1 nogil:
        cdef size_t room
        if out.size + size > out.room:
            room = max(out.size + size, out.room + out.room // 2)
            out.data = <uint8_t *>resized(out.data, room, 1)
            out.room = room
        return 0

    cdef Py_ssize_t _append(
        self, const uint32_t *numbers, Py_ssize_t at, Py_ssize_t count, Output *out
    ) except -1 nogil:
        """Append the bytes of the ids from `at` on; return the index of the first that no token has, or the count."""
        cdef Py_ssize_t stop
        cdef uint32_t number = 0
        cdef const Entry *entry = self.entries
        cdef Place place
        cdef uint8_t *to
        while at < count:
            stop = min(count, at + BLOCK)
            self._make_room(out, BLOCK * sizeof(Entry))
            to = out.data + out.size
            while at < stop:
                key_prefetch(self.entries + numbers[min(at + AHEAD, count - 1)])
                number = numbers[at]
                if number >= self.n_ids:
                    break
                entry = self.entries + number
                if entry.size > SHORT:
                    break
                # All of the entry, whose end the next token overwrites.
                memcpy(to, entry, sizeof(Entry))
                to += entry.size
                at += 1
            out.size = to - out.data
            if at == stop:
                continue
            if number >= self.n_ids or entry.size == UNKNOWN:
                return at
            memcpy(&place, entry.bytes, sizeof(Place))
            self._make_room(out, place.size)
            memcpy(out.data + out.size, self.blob + place.start, place.size)
            out.size += place.size
            at += 1
        return count
