"""Native twin of decode_python."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastbpe.core.memory cimport resized

from fastbpe.core.packed import PackedVocab
from fastbpe.errors import TokenIdError

cdef enum:
    SLICE = 1 << 20  # ids between two looks at signals
    COPY = 16        # bytes copied at once; most tokens have fewer

cdef extern from "<stdint.h>" nogil:
    const uint32_t UNKNOWN "UINT32_MAX"  # instead of a size: no token has this id


cdef struct Entry:
    uint32_t place
    uint32_t size


cdef class Decoder:
    cdef uint8_t *blob
    cdef Entry *entries
    cdef uint32_t n_ids
    cdef uint32_t n_bytes

    def __cinit__(self, vocab, others):
        cdef Py_ssize_t total
        cdef uint32_t number
        if isinstance(vocab, PackedVocab):
            total = len(vocab.blob)
            greatest = int(vocab.ids[len(vocab) - 1])
        else:
            total = sum(map(len, vocab))
            greatest = max(vocab.values(), default=-1)
        total += sum(map(len, others.values()))
        self.n_ids = max(greatest, max(others, default=-1)) + 1
        self.blob = <uint8_t *>resized(NULL, total + COPY, 1)
        self.entries = <Entry *>resized(NULL, self.n_ids, sizeof(Entry))
        memset(self.blob, 0, total + COPY)
        memset(self.entries, 0xFF, self.n_ids * sizeof(Entry))
        if isinstance(vocab, PackedVocab):
            self._put_packed(vocab)
        else:
            for token, number in vocab.items():
                self._put(number, token)
        for number, token in others.items():
            if self.entries[number].size == UNKNOWN:
                self._put(number, token)

    def __dealloc__(self):
        free(self.blob)
        free(self.entries)

    cdef int _put(self, uint32_t number, bytes token) except -1:
        cdef uint32_t size = <uint32_t>PyBytes_GET_SIZE(token)
        memcpy(self.blob + self.n_bytes, PyBytes_AS_STRING(token), size)
        self.entries[number].place = self.n_bytes
        self.entries[number].size = size
        self.n_bytes += size
        return 0

    cdef int _put_packed(self, vocab) except -1:
        cdef const uint32_t[::1] ids = vocab.ids
        cdef const uint32_t[::1] offsets = vocab.offsets
        cdef bytes blob = vocab.blob
        cdef Py_ssize_t at
        for at in range(ids.shape[0]):
            self.entries[ids[at]].place = offsets[at]
            self.entries[ids[at]].size = offsets[at + 1] - offsets[at]
        memcpy(self.blob, PyBytes_AS_STRING(blob), PyBytes_GET_SIZE(blob))
        self.n_bytes = <uint32_t>PyBytes_GET_SIZE(blob)
        return 0

    def decode(self, ids):
        cdef const uint32_t[::1] numbers = ids
        cdef Py_ssize_t count = numbers.shape[0], at = 0, stop
        cdef uint64_t total = 0
        cdef uint32_t number
        while at < count:
            stop = min(count, at + SLICE)
            with nogil:
                while at < stop:
                    number = numbers[at]
                    if number >= self.n_ids or self.entries[number].size == UNKNOWN:
                        break
                    total += self.entries[number].size
                    at += 1
            if at < stop:
                raise TokenIdError(f"ids must be ids of the vocabulary, got {numbers[at]} at index {at}")
            PyErr_CheckSignals()
        return self._join(&numbers[0] if count else NULL, count, total)

    def decode_list(self, list ids not None):
        cdef Py_ssize_t count = PyList_GET_SIZE(ids), at = 0
        cdef uint64_t total = 0
        cdef long long number
        cdef int overflow = 0
        cdef uint32_t *numbers = <uint32_t *>resized(NULL, count, sizeof(uint32_t))
        try:
            while at < count:
                if not PyLong_CheckExact(<object>PyList_GET_ITEM(ids, at)):
                    return None
                number = PyLong_AsLongLongAndOverflow(<object>PyList_GET_ITEM(ids, at), &overflow)
                if overflow or number < 0 or number >= self.n_ids or self.entries[number].size == UNKNOWN:
                    return None
                numbers[at] = <uint32_t>number
                total += self.entries[number].size
                at += 1
                if at % SLICE == 0:
                    PyErr_CheckSignals()
                    if PyList_GET_SIZE(ids) != count:
                        return None
            return self._join(numbers, count, total)
        finally:
            free(numbers)

    cdef bytes _join(self, const uint32_t *numbers, Py_ssize_t count, uint64_t total):
        """Return the bytes of ids, of which there are `total`."""
        cdef Py_ssize_t at = 0, stop
        cdef uint32_t number, size
        cdef const uint8_t *token
        cdef bint changed = False
        cdef bytes result = PyBytes_FromStringAndSize(NULL, total)
        cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(result)
        while at < count and not changed:
            stop = min(count, at + SLICE)
            with nogil:
                while at < stop:
                    # The array is the caller's: another thread may write to it, and then these are other ids.
                    number = numbers[at]
                    if number >= self.n_ids or self.entries[number].size > total:
                        changed = True
                        break
                    size = self.entries[number].size
                    token = self.blob + self.entries[number].place
                    # One copy of fixed size, of which the next token overwrites what is too much.
                    if size <= COPY <= total:
                        memcpy(out, token, COPY)
                    else:
                        memcpy(out, token, size)
                    out += size
                    total -= size
                    at += 1
            PyErr_CheckSignals()
        if changed or total:
            raise RuntimeError("ids changed while they were decoded")
        return result
