"""Native twin of decode_python."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastbpe.errors import TokenIdError

cdef enum:
    SLICE = 1 << 20  # ids between two looks at signals


cdef class Decoder:
    cdef uint8_t *blob
    cdef uint64_t *start   # n_ids + 1
    cdef uint8_t *known
    cdef uint32_t n_ids

    def __cinit__(self, tokens):
        cdef uint32_t number
        cdef uint64_t place = 0
        cdef Py_ssize_t size
        self.n_ids = max(tokens, default=-1) + 1
        self.blob = <uint8_t *>malloc(sum(map(len, tokens.values())) + 1)
        self.start = <uint64_t *>malloc((<Py_ssize_t>self.n_ids + 1) * sizeof(uint64_t))
        self.known = <uint8_t *>malloc(<Py_ssize_t>self.n_ids + 1)
        if not (self.blob and self.start and self.known):
            raise MemoryError
        for number in range(self.n_ids):
            token = tokens.get(number)
            self.start[number] = place
            self.known[number] = token is not None
            if token is not None:
                size = PyBytes_GET_SIZE(<bytes?>token)
                memcpy(self.blob + place, PyBytes_AS_STRING(token), size)
                place += size
        self.start[self.n_ids] = place

    def __dealloc__(self):
        free(self.blob)
        free(self.start)
        free(self.known)

    def decode(self, ids):
        cdef const uint32_t[::1] numbers = ids
        cdef Py_ssize_t count = numbers.shape[0], at = 0, stop, size
        cdef uint64_t total = 0
        cdef uint32_t number
        cdef uint8_t *out
        while at < count:
            stop = min(count, at + SLICE)
            with nogil:
                while at < stop:
                    number = numbers[at]
                    if number >= self.n_ids or not self.known[number]:
                        break
                    total += self.start[number + 1] - self.start[number]
                    at += 1
            if at < stop:
                raise TokenIdError(f"ids must be ids of the vocabulary, got {numbers[at]} at index {at}")
            PyErr_CheckSignals()
        result = PyBytes_FromStringAndSize(NULL, total)
        out = <uint8_t *>PyBytes_AS_STRING(result)
        at = 0
        while at < count:
            stop = min(count, at + SLICE)
            with nogil:
                while at < stop:
                    number = numbers[at]
                    size = self.start[number + 1] - self.start[number]
                    memcpy(out, self.blob + self.start[number], size)
                    out += size
                    at += 1
            PyErr_CheckSignals()
        return result
