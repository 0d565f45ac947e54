# A table of pairs for train_native: open addressing, linear probing, at most three quarters full.
#
# Slots are never emptied one by one: a pair that is gone keeps its slot, with no lists, until the table is made anew.
# It never comes back, and what it loses nobody asks for, so its slot is dropped then.

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from fastbpe.core.memory cimport large, sized_free

cdef enum:
    SMALLEST_TABLE = 1024
    NO_LIST = 0xFFFFFFFF

cdef extern from "<stdint.h>" nogil:
    const uint64_t NO_KEY "UINT64_MAX"

cdef struct Pair:
    uint64_t key              # left token << 32 | right token
    int64_t count
    uint32_t list             # number of its lists; NO_LIST: gone, or below the threshold
    uint32_t n                # while building: units of its places in one part

cdef struct PairTable:
    Pair *slots
    size_t mask
    size_t n_pairs


@cython.overflowcheck(False)
cdef inline uint64_t mixed(uint64_t key) noexcept nogil:
    """Spread a key over 64 bits; the low ones are used."""
    key = (key ^ (key >> 32)) * <uint64_t>0x9E3779B97F4A7C15
    return key ^ (key >> 29)


cdef inline int table_create(PairTable *table, size_t size) except -1 nogil:
    """Set an empty table of `size` slots, a power of two, in the place of one that was dropped."""
    cdef Pair *slots = <Pair *>large(NULL, size, sizeof(Pair))
    memset(slots, 0xFF, size * sizeof(Pair))
    table.slots = slots
    table.mask = size - 1
    table.n_pairs = 0
    return 0


cdef inline void table_drop(PairTable *table) noexcept nogil:
    sized_free(table.slots)
    table.slots = NULL


cdef inline Pair *table_find(PairTable *table, uint64_t key) noexcept nogil:
    """Return the pair's slot, or the empty one where it belongs."""
    cdef size_t slot = mixed(key) & table.mask
    while table.slots[slot].key != key and table.slots[slot].key != NO_KEY:
        slot = (slot + 1) & table.mask
    return table.slots + slot


cdef inline int table_grow(PairTable *table) except -1 nogil:
    """Make the table anew, for the pairs that are not gone; it is at most half full then."""
    cdef Pair *old = table.slots
    cdef size_t slot, size = table.mask + 1, left = 0
    for slot in range(size):
        left += old[slot].key != NO_KEY and old[slot].list != NO_LIST
    table_create(table, 2 * size if 2 * left > size else size)
    for slot in range(size):
        if old[slot].key != NO_KEY and old[slot].list != NO_LIST:
            table_find(table, old[slot].key)[0] = old[slot]
            table.n_pairs += 1
    sized_free(old)
    return 0


cdef inline Pair *table_find_or_add(PairTable *table, uint64_t key) except NULL nogil:
    """Return the pair's slot; a new one counts zero and has no lists. Slots found before may have moved."""
    cdef Pair *pair = table_find(table, key)
    if pair.key == key:
        return pair
    if 4 * (table.n_pairs + 1) > 3 * (table.mask + 1):
        table_grow(table)
        pair = table_find(table, key)
    table.n_pairs += 1
    pair.key = key
    pair.count = 0
    pair.list = NO_LIST
    pair.n = 0
    return pair


cdef inline void table_lose(PairTable *table, uint32_t a, uint32_t b, int64_t weight) noexcept nogil:
    """The pair occurs `weight` times less. One that is not in the table is below the threshold already."""
    cdef Pair *pair = table_find(table, <uint64_t>a << 32 | b)
    if pair.key != NO_KEY:
        pair.count -= weight
