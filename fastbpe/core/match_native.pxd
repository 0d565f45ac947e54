cimport cython
from libc.stdint cimport int64_t, uint8_t


cdef struct Node:
    int child       # 0: none
    int sibling     # 0: none
    int fail        # node of the longest other suffix of its bytes that a token begins with
    int depth       # bytes
    int found       # node of the longest suffix of its bytes that is a token, itself if it is one; 0: none
    uint8_t byte
    int64_t number  # -1: no token ends here


cdef enum:          # how a search came to its end
    NOTHING, FOUND, TIRED


cdef struct Search:
    Py_ssize_t at         # bytes read; at the end, with nothing found, where undecided text begins
    Py_ssize_t start      # of the match
    Py_ssize_t stop       # its end; 0: none yet
    int64_t number
    int node


@cython.final
cdef class Matcher:
    cdef Node *nodes
    cdef int n_nodes
    cdef int first[256]  # node of a first byte, 0: none
    cdef int only        # the first byte, if all tokens begin with the same ASCII character; else -1
    cdef bint wide       # whether a token has a character that is not ASCII

    cdef int _step(self, int node, uint8_t byte) noexcept nogil
    cdef int _add(self, int node, uint8_t byte) noexcept nogil
    cdef int _link(self) except -1
    cdef int _next(self, int node, uint8_t byte) noexcept nogil
    cdef bint may_match(self, text) except -1
    cdef int search(self, const uint8_t *text, Py_ssize_t size, bint final, Search *search) noexcept nogil
