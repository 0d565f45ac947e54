cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef struct Jump:
    uint64_t key          # node << 16 | code point; all ones: empty
    uint32_t node         # after the character
    uint32_t best         # the longest symbol that ends in it, or NONE


@cython.final
cdef class Trie:
    cdef uint64_t *steps       # node << 36 | byte << 28 | child; 0: empty
    cdef uint64_t step_mask
    cdef uint64_t n_steps
    cdef uint32_t n_symbols    # of which each ends at the node of the next number
    cdef uint32_t n_nodes
    cdef uint32_t first[256]   # node after one byte
    cdef uint32_t *root        # by code point of two and three bytes: node after the character; 0: none
    cdef uint32_t *root_symbol  # and the longest symbol in it
    cdef Jump *jumps           # by node and character of three bytes
    cdef uint64_t jump_mask
    cdef uint64_t n_jumps
    cdef uint64_t *filter      # a bit for the upper part of the hash of each jump
    cdef uint8_t *partial      # a bit for each node behind which a symbol ends inside a character
    cdef bint by_bytes         # some symbol is no run of characters: jumps are not to be trusted

    cdef int build(
        self, const uint8_t *blob, const uint32_t *offset, const uint32_t *left, uint32_t n_symbols, uint32_t *prefix
    ) except -1
    cdef uint64_t _bucket(self, uint32_t node, uint8_t byte) noexcept nogil
    cdef uint32_t _symbol(self, uint32_t node) noexcept nogil
    cdef int _add_step(self, uint32_t node, uint8_t byte, uint32_t child) except -1
    cdef uint32_t _step_or_grow(self, uint32_t node, uint8_t byte) except 0
    cdef int _widen(self) except -1
    cdef void _index_roots(self) noexcept
    cdef int _note_characters(
        self, const uint8_t *data, Py_ssize_t size, Py_ssize_t at, uint32_t node
    ) except -1
    cdef int _add_jump(self, uint32_t node, uint32_t code, uint32_t after, uint32_t best) except -1
    cdef uint32_t _step(self, uint32_t node, uint8_t byte) noexcept nogil
    cdef uint32_t longest(self, const uint8_t *data, Py_ssize_t size, uint64_t *steps) noexcept nogil
