from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef uint32_t NONE


cdef struct Pair:
    uint64_t key       # left id << 32 | right id; all ones: empty
    uint32_t rank
    uint32_t product


# A binary heap of rank << 32 | position: the lowest rank first, of equals the leftmost.
cdef struct Heap:
    uint64_t *items
    Py_ssize_t size
    Py_ssize_t capacity


cdef class Merger:
    # tokens by id
    cdef uint8_t *blob
    cdef uint32_t *offset     # n_ids + 1
    cdef uint32_t n_ids
    cdef uint32_t byte_id[256]
    # bytes -> id
    cdef uint32_t *slots      # id + 1, 0: empty
    cdef uint64_t slot_mask
    # (left, right) -> rank, product
    cdef Pair *pairs
    cdef uint64_t pair_mask
    cdef uint32_t *byte_pair  # index into pairs + 1 for two single bytes, by their values
    cdef uint32_t *product    # by rank; NULL where the rank is the product
    cdef bint whole

    cdef uint32_t lookup(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef int _store_tokens(self, vocab) except -1
    cdef int _index_tokens(self) except -1
    cdef int _index_byte_pairs(self) except -1
    cdef int _list_pairs(self, merges, Py_ssize_t n_merges) except -1
    cdef int _realize_pairs(self) except -1
    cdef int _realize(self, uint32_t number, const uint8_t *data, uint32_t size, uint32_t *work) except -1
    cdef Pair *find_pair(self, uint32_t left, uint32_t right) noexcept nogil
    cdef int _add_pair(self, uint32_t left, uint32_t right, uint32_t rank, uint32_t product) except -1
    cdef Py_ssize_t _merge_short(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil
    cdef Py_ssize_t _merge_long(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) except -1 nogil
    cdef Py_ssize_t _merge_linked(
        self, const uint8_t *data, uint32_t size, uint32_t *out, Heap *heap, uint32_t *links
    ) except -1 nogil
    cdef int _renew(
        self, uint32_t at, uint32_t size, uint32_t *out, uint32_t *after, uint32_t *ranks, Heap *heap
    ) except -1 nogil
    cdef Py_ssize_t merge_into(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) except -1 nogil
