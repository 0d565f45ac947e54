cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastbpe.core.symbols_native cimport Symbols


cdef struct Edge:
    uint64_t key               # node << 17 | unit; all ones: empty
    uint32_t node              # behind the unit
    uint32_t best              # the longest symbol that ends in it, or NONE


cdef struct Root:
    # What begins with some bytes: the first character of a symbol, or two bytes.
    Edge *edges
    uint32_t size              # of edges, a power of two; 0: not built
    uint32_t node              # before the first edge
    uint32_t best              # the longest symbol in those bytes


@cython.final
cdef class Trie:
    cdef Symbols symbols
    cdef Root *roots           # by key_of
    cdef uint32_t *starts      # of the symbols of each key, in `members`
    cdef uint32_t *members     # the reachable symbols of two bytes and more, sorted by key
    cdef uint32_t *prefix      # longest proper prefix that is reachable, or NONE; set where the root is built
    cdef Edge nothing          # the edges of a root without any

    cdef int build_all(self) except -1
    cdef int _build(self, uint32_t key, const uint8_t *data, Py_ssize_t used) except -1 with gil
    cdef int _grow(self, Root *root, uint32_t size) except -1
    cdef int _insert(self, Root *root, uint32_t symbol, Py_ssize_t used, uint32_t *n_nodes) except -1
    cdef int _finish(self, Root *root, uint32_t n_nodes) except -1
    cdef uint32_t _in_character(self, const Root *root, uint32_t node, uint32_t code) noexcept nogil
    cdef uint32_t _longest_of(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef Edge *_edge(self, const Root *root, uint32_t node, uint32_t unit) noexcept nogil
    cdef uint32_t longest(self, const uint8_t *data, Py_ssize_t size, uint64_t *steps) except 0xFFFFFFFF nogil
