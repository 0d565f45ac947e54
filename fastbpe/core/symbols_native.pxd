cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from fastbpe.core.heap cimport Heap

cdef extern from "<stdint.h>" nogil:
    const uint32_t NONE "UINT32_MAX"   # no symbol
    const uint64_t EMPTY "UINT64_MAX"  # no pair

cdef extern from "hash.h" nogil:
    uint64_t hash_of_bytes(const uint8_t *data, size_t size, uint64_t seed, uint64_t secret)
    uint64_t hash_of_padded(const uint8_t *data, size_t size, uint64_t seed, uint64_t secret)
    bint hash_same(const uint8_t *one, const uint8_t *other, size_t size)

cdef extern from "lockstep.h" nogil:
    ctypedef struct LockstepBytes:
        uint32_t product
        uint32_t first
    uint64_t lockstep_bucket(uint64_t hashed, uint64_t mask)
    uint64_t lockstep_hash(uint64_t key, uint64_t seed)

cdef enum:
    SHORT = 64                 # symbols: the room of the step-by-step merge
    SLOT_BITS = 21             # of a slot, for a symbol + 1
    MAX_SYMBOLS = (1 << SLOT_BITS) - 1


@cython.final
cdef class Symbols:
    # Symbols are numbered by priority: 0 to 255 are the bytes, then the tokens in the order in which merges make them,
    # then those that no merge makes.
    cdef uint32_t n_symbols
    cdef size_t block_size     # bytes of `slots`, behind which are offset, id_of, left, right and blob
    cdef uint8_t *blob
    cdef uint32_t *offset      # n_symbols + 1
    cdef uint32_t *id_of
    cdef uint32_t even_from    # from this symbol on an id is the symbol and `shift`: most vocabularies need no table,
    cdef uint32_t shift        # which is another line of memory to wait for
    cdef uint32_t *left        # of the realized pair; NONE for bytes and unreachable symbols
    cdef uint32_t *right
    cdef uint8_t *flagged      # a symbol whose parts are not made in the order of priority; NULL if there is none
    cdef uint64_t seed         # a vocabulary from a stranger must not be able to choose tokens that collide
    cdef uint64_t secret
    cdef uint32_t *slots       # by bytes: upper 11 bits of the hash << 21 | symbol + 1; 0: empty
    cdef uint64_t slot_mask
    cdef uint64_t *pairs       # left << 42 | right << 21 | product; all ones: empty
    cdef uint64_t pair_mask
    cdef uint64_t *filter      # a bit for the upper half of the hash of each pair
    cdef LockstepBytes *bytes  # of two bytes; NONE where they make or begin nothing
    cdef uint64_t *listed      # only while a merge list is read: left << 32 | right; all ones: empty
    cdef uint32_t *listed_rank
    cdef uint64_t listed_mask
    cdef uint32_t *listed_product

    cdef _load(self, vocab, merges)
    cdef int _load_packed(self, vocab) except -1
    cdef int _find_parts(self) except -1
    cdef int _make_room(self, Py_ssize_t n_symbols, Py_ssize_t total) except -1
    cdef void _put(self, const uint8_t *data, uint32_t size, uint32_t number) noexcept
    cdef void _index(self) noexcept
    cdef int _store(self, tokens, ids) except -1
    cdef _realize(self, merges)
    cdef int _list(self, merges) except -1
    cdef int _order_by_rank(self, list ranks) except -1
    cdef int _index_pairs(self) except -1
    cdef int _flag(self) except -1
    cdef uint32_t find(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef uint32_t _rank(self, uint32_t left, uint32_t right, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef Py_ssize_t merge_products(self, uint32_t *out, uint32_t *products, Py_ssize_t size) noexcept nogil
    cdef Py_ssize_t merge_short(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil
    cdef Py_ssize_t merge_queue(self, uint32_t *out, uint32_t size, const uint8_t *data) except -1 nogil
    cdef Py_ssize_t _merge_linked(
        self, uint32_t *out, uint32_t size, const uint8_t *data, Heap *heap, uint32_t *links
    ) except -1 nogil

    cdef inline uint32_t id(self, uint32_t symbol) noexcept nogil:
        return symbol + self.shift if symbol >= self.even_from else self.id_of[symbol]

    cdef inline uint64_t hash_of(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        return hash_of_bytes(data, size, self.seed, self.secret)

    cdef inline uint32_t first_with(self, uint64_t hashed) noexcept nogil:
        """Return the first symbol in the table that has the upper bits of a hash, or NONE."""
        cdef uint64_t at = hashed & self.slot_mask
        while self.slots[at]:
            if self.slots[at] >> SLOT_BITS == hashed >> (32 + SLOT_BITS):
                return (self.slots[at] & MAX_SYMBOLS) - 1
            at = (at + 1) & self.slot_mask
        return NONE

    cdef inline uint32_t check_found(
        self, const uint8_t *data, Py_ssize_t size, uint64_t hashed, uint32_t symbol
    ) noexcept nogil:
        """Return what find_hashed() does, if first_with() has given `symbol`.  Seven bytes behind may be read."""
        cdef uint32_t start = self.offset[symbol]
        if self.offset[symbol + 1] - start == <uint32_t>size and hash_same(self.blob + start, data, size):
            return symbol
        return self.find_hashed(data, size, hashed)

    cdef inline uint32_t find_hashed(self, const uint8_t *data, Py_ssize_t size, uint64_t hashed) noexcept nogil:
        cdef uint64_t at = hashed & self.slot_mask
        cdef uint32_t symbol, start
        while self.slots[at]:
            if self.slots[at] >> SLOT_BITS == hashed >> (32 + SLOT_BITS):
                symbol = (self.slots[at] & MAX_SYMBOLS) - 1
                start = self.offset[symbol]
                if self.offset[symbol + 1] - start == <uint32_t>size and memcmp(self.blob + start, data, size) == 0:
                    return symbol
            at = (at + 1) & self.slot_mask
        return NONE

    cdef inline uint32_t join(self, uint32_t left, uint32_t right) noexcept nogil:
        """Return the symbol that a pair makes, or NONE."""
        cdef uint64_t key = <uint64_t>left << 21 | right
        cdef uint64_t hashed = lockstep_hash(key, self.seed), at = lockstep_bucket(hashed, self.pair_mask)
        # Three quarters of the pairs join to nothing; the filter says so from a nearer cache than the table.
        if not self.filter[hashed >> 50] >> (hashed >> 44 & 63) & 1:
            return NONE
        while self.pairs[at] != EMPTY:
            if self.pairs[at] >> 21 == key:
                return <uint32_t>(self.pairs[at] & ((1 << 21) - 1))
            at = (at + 1) & self.pair_mask
        return NONE

    cdef inline uint32_t product(self, uint32_t left, uint32_t right) noexcept nogil:
        """The same; two bytes have a table of their own."""
        return self.bytes[left << 8 | right].product if left < 256 and right < 256 else self.join(left, right)
