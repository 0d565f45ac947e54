"""Native twin of match_python: the trie as first-child and next-sibling links."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_FindChar, PyUnicode_GET_LENGTH, PyUnicode_KIND, PyUnicode_READ
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

import numpy as np

cdef enum:
    SLICE = 1 << 20  # steps between two looks at signals


cdef class Matcher:
    def __cinit__(self, tokens):
        cdef Py_ssize_t room = 1
        cdef const uint8_t *data
        cdef Py_ssize_t size, at
        cdef int node
        for token, _ in tokens:
            room += PyBytes_GET_SIZE(<bytes?>token)
        if room >= 1 << 30:
            raise ValueError("tokens must have less than 2**30 bytes together")
        self.nodes = <Node *>calloc(room, sizeof(Node))
        if not self.nodes:
            raise MemoryError
        self.n_nodes = 1
        for token, number in tokens:
            data = <const uint8_t *>PyBytes_AS_STRING(token)
            size = PyBytes_GET_SIZE(token)
            node = 0
            for at in range(size):
                node = self._add(node, data[at])
                self.wide |= data[at] >= 128
            self.nodes[node].number = number
        self.only = -1
        for at in range(256):
            self.first[at] = self._step(0, <uint8_t>at)
            if self.first[at]:
                self.only = <int>at if self.only == -1 and at < 128 else -2
        self.only = max(self.only, -1)

    def __dealloc__(self):
        free(self.nodes)

    cdef int _step(self, int node, uint8_t byte) noexcept nogil:
        cdef int child = self.nodes[node].child
        while child and self.nodes[child].byte != byte:
            child = self.nodes[child].sibling
        return child

    cdef int _add(self, int node, uint8_t byte) noexcept nogil:
        cdef int child = self._step(node, byte)
        if not child:
            child = self.n_nodes
            self.n_nodes += 1
            self.nodes[child].byte = byte
            self.nodes[child].number = -1
            self.nodes[child].sibling = self.nodes[node].child
            self.nodes[node].child = child
        return child

    cdef bint may_match(self, text) except -1:
        """Return 0 if no token is in a str; 1 if one is, or if it cannot be told with little work."""
        cdef const void *data = PyUnicode_DATA(text)
        cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text), position = 0, at, work = 0
        cdef int kind = PyUnicode_KIND(text), node
        cdef uint32_t code
        while position < size:
            if self.only >= 0:
                position = PyUnicode_FindChar(text, self.only, position, size, 1)
                if position < 0:
                    return 0
            node = 0
            at = position
            while at < size:
                code = PyUnicode_READ(kind, data, at)
                if code >= 128:
                    if self.wide:
                        return 1
                    break
                node = self._step(node, <uint8_t>code) if node else self.first[code]
                if not node:
                    break
                if self.nodes[node].number >= 0:
                    return 1
                at += 1
            work += at - position
            if work > size + SLICE:
                return 1
            position += 1
        return 0

    def find(self, bytes data not None, bint final=True):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), position = 0, decided = size, limit, start, at, stop
        cdef Py_ssize_t count = 0, capacity = 0, work
        cdef int node
        cdef int64_t number
        cdef int64_t *matches = NULL
        cdef int64_t *grown
        cdef int64_t[:, ::1] view
        try:
            while position < decided:
                limit = min(size, position + SLICE)
                work = 0
                with nogil:
                    while position < limit and work < SLICE:
                        node = self.first[text[position]]
                        if not node:
                            position += 1
                            continue
                        start = position
                        at = start + 1
                        stop = 0
                        number = 0
                        while True:
                            if self.nodes[node].number >= 0:
                                stop = at
                                number = self.nodes[node].number
                            if at == size:
                                break
                            node = self._step(node, text[at])
                            if not node:
                                break
                            at += 1
                        work += at - start
                        if not final and at == size and node and self.nodes[node].child:
                            decided = start
                            break
                        if not stop:
                            position = start + 1
                            continue
                        if count == capacity:
                            capacity = 2 * capacity + 16
                            grown = <int64_t *>realloc(matches, capacity * 3 * sizeof(int64_t))
                            if not grown:
                                with gil:
                                    raise MemoryError
                            matches = grown
                        matches[3 * count] = start
                        matches[3 * count + 1] = stop
                        matches[3 * count + 2] = number
                        count += 1
                        position = stop
                PyErr_CheckSignals()
            result = np.empty((count, 3), dtype=np.int64)
            if count:
                view = result
                memcpy(&view[0, 0], matches, count * 3 * sizeof(int64_t))
            return result, decided
        finally:
            free(matches)
