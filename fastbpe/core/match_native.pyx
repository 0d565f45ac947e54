"""Native twin of match_python: the trie as first-child and next-sibling links, and links to suffixes."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_FindChar, PyUnicode_GET_LENGTH, PyUnicode_KIND, PyUnicode_READ
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memchr, memcpy, memset

import numpy as np

cdef enum:
    SLICE = 1 << 20  # bytes between two looks at signals


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
        self._link()

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

    cdef int _link(self) except -1:
        """Give each node its links, the shallow ones first."""
        cdef int *order = <int *>calloc(self.n_nodes, sizeof(int))
        cdef int done = 0, n = 1, node, child, fail
        if not order:
            raise MemoryError
        while done < n:  # order[0] is the root
            node = order[done]
            done += 1
            child = self.nodes[node].child
            while child:
                order[n] = child
                n += 1
                self.nodes[child].depth = self.nodes[node].depth + 1
                fail = self._next(self.nodes[node].fail, self.nodes[child].byte) if node else 0
                self.nodes[child].fail = fail
                self.nodes[child].found = child if self.nodes[child].number >= 0 else self.nodes[fail].found
                child = self.nodes[child].sibling
        free(order)
        return 0

    cdef int _next(self, int node, uint8_t byte) noexcept nogil:
        """Return the node of the longest suffix of a node's bytes and one more that a token begins with."""
        cdef int child
        while node:
            child = self._step(node, byte)
            if child:
                return child
            node = self.nodes[node].fail
        return self.first[byte]

    cdef bint may_match(self, text) except -1:
        """Return 0 if no token is in a str; 1 if one is, or if it cannot be told from ASCII alone."""
        cdef const void *data = PyUnicode_DATA(text)
        cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text), at = 0
        cdef int kind = PyUnicode_KIND(text), node = 0
        cdef uint32_t code
        while at < size:
            if not node and self.only >= 0:
                at = PyUnicode_FindChar(text, self.only, at, size, 1)
                if at < 0:
                    return 0
            code = PyUnicode_READ(kind, data, at)
            at += 1
            if code >= 128:
                if self.wide:
                    return 1
                node = 0
                continue
            node = self._next(node, <uint8_t>code)
            if self.nodes[node].found:
                return 1
        return 0

    cdef int search(self, const uint8_t *text, Py_ssize_t size, bint final, Search *search) noexcept nogil:
        """Go on with a search for the next match: leftmost, and of those that start there the longest.

        Each byte is read once (Aho and Corasick 1975), but for those between the end of a match and the place where
        it turned out that no longer one is there.

        Args:
            final: the text ends at `size`; else what may become a match is not decided.

        Returns:
            FOUND; NOTHING, and where text that is not decided begins; or TIRED after many steps, to be called again.
        """
        cdef Py_ssize_t at = search.at, limit = min(size, at + SLICE)
        cdef const void *opener
        cdef int node = search.node, found
        while at < limit:
            if not node and not search.stop:
                if self.only >= 0:
                    opener = memchr(text + at, self.only, limit - at)
                    at = limit if opener == NULL else <const uint8_t *>opener - text
                else:
                    while at < limit and not self.first[text[at]]:
                        at += 1
                if at == limit:
                    break
            node = self._next(node, text[at])
            at += 1
            if search.stop and at - self.nodes[node].depth > search.start:
                return FOUND
            found = self.nodes[node].found
            if found and (not search.stop or at - self.nodes[found].depth <= search.start):
                search.start = at - self.nodes[found].depth
                search.stop = at
                search.number = self.nodes[found].number
        search.at = at
        search.node = node
        if at < size:
            return TIRED
        if not final:
            while node and not self.nodes[node].child:
                node = self.nodes[node].fail
            if node and (not search.stop or at - self.nodes[node].depth <= search.start):
                search.at = at - self.nodes[node].depth
                return NOTHING
        return FOUND if search.stop else NOTHING

    def find(self, bytes data not None, bint final=True):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), count = 0, capacity = 0
        cdef Search search
        cdef int end = FOUND
        cdef int64_t *matches = NULL
        cdef int64_t *grown
        cdef int64_t[:, ::1] view
        memset(&search, 0, sizeof(search))
        try:
            while end != NOTHING:
                with nogil:
                    end = self.search(text, size, final, &search)
                if end == TIRED:
                    PyErr_CheckSignals()
                elif end == FOUND:
                    if count == capacity:
                        capacity = 2 * capacity + 16
                        grown = <int64_t *>realloc(matches, capacity * 3 * sizeof(int64_t))
                        if not grown:
                            raise MemoryError
                        matches = grown
                    matches[3 * count] = search.start
                    matches[3 * count + 1] = search.stop
                    matches[3 * count + 2] = search.number
                    count += 1
                    search.at = search.stop
                    search.stop = search.node = 0
            result = np.empty((count, 3), dtype=np.int64)
            if count:
                view = result
                memcpy(&view[0, 0], matches, count * 3 * sizeof(int64_t))
            return result, search.at
        finally:
            free(matches)
