cimport cython
from libc.stdint cimport int64_t, uint8_t


cdef struct Node:
    int child       # 0: none
    int sibling     # 0: none
    uint8_t byte
    int64_t number  # -1: no token ends here


@cython.final
cdef class Matcher:
    cdef Node *nodes
    cdef int n_nodes
    cdef int first[256]  # node of a first byte, 0: none
    cdef int only        # the first byte, if all tokens begin with the same ASCII character; else -1
    cdef bint wide       # whether a token has a character that is not ASCII

    cdef int _step(self, int node, uint8_t byte) noexcept nogil
    cdef int _add(self, int node, uint8_t byte) noexcept nogil
    cdef bint may_match(self, text) except -1
