"""Native twin of merge_python.

Both semantics become one table (left id, right id) -> rank, product.  With a merge list that is the list.  With ranks
one pair a token is enough, its *realized pair*: the last merge when the bytes of the token are merged alone.  (A symbol
that appears in any merge is the result of merging its own bytes, because no earlier merge crossed its ends; so it came
from that pair.)
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy

from os import urandom as _urandom

from fastbpe.core.merge_python import SHORT as _SHORT

cdef enum:
    SHORT = 64        # as in merge_python
    MAX_IDS = 1 << 25  # architecture: ids stay below 2**24

cdef uint32_t NONE = 0xFFFFFFFF
cdef uint64_t EMPTY = 0xFFFFFFFFFFFFFFFFULL

# A vocabulary from a stranger must not be able to choose tokens that collide.
cdef uint64_t SEED = int.from_bytes(_urandom(8), "little")

if SHORT != _SHORT:
    raise ImportError("merge_native and merge_python disagree on SHORT")


cdef inline uint64_t _hash(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Multiply and fold 8 bytes at a time."""
    cdef uint64_t value = SEED ^ <uint64_t>size * 0x9E3779B97F4A7C15ULL, word
    while size >= 8:
        memcpy(&word, data, 8)
        value = (value ^ word) * 0xD6E8FEB86659FD93ULL
        value ^= value >> 32
        data += 8
        size -= 8
    word = 0
    if size:
        memcpy(&word, data, size)
    value = (value ^ word) * 0xD6E8FEB86659FD93ULL
    value ^= value >> 32
    value *= 0xD6E8FEB86659FD93ULL
    return value ^ value >> 32


cdef inline uint64_t _pair_hash(uint64_t key) noexcept nogil:
    key *= 0x9E3779B97F4A7C15ULL
    return key ^ key >> 32


cdef uint64_t _table_size(Py_ssize_t count) noexcept nogil:
    cdef uint64_t size = 64
    while size < <uint64_t>count * 2:
        size *= 2
    return size


cdef inline void heap_sink(Heap *heap, Py_ssize_t at, uint64_t item) noexcept nogil:
    cdef Py_ssize_t child
    while True:
        child = 2 * at + 1
        if child >= heap.size:
            break
        if child + 1 < heap.size and heap.items[child + 1] < heap.items[child]:
            child += 1
        if item <= heap.items[child]:
            break
        heap.items[at] = heap.items[child]
        at = child
    heap.items[at] = item


cdef void heap_build(Heap *heap) noexcept nogil:
    cdef Py_ssize_t at = heap.size // 2
    while at > 0:
        at -= 1
        heap_sink(heap, at, heap.items[at])


cdef inline void heap_pop(Heap *heap) noexcept nogil:
    heap.size -= 1
    if heap.size:
        heap_sink(heap, 0, heap.items[heap.size])


cdef inline int heap_push(Heap *heap, uint64_t item) except -1 nogil:
    cdef uint64_t *grown
    cdef Py_ssize_t at, parent
    if heap.size == heap.capacity:
        grown = <uint64_t *>realloc(heap.items, 2 * heap.capacity * sizeof(uint64_t))
        if not grown:
            with gil:
                raise MemoryError
        heap.items = grown
        heap.capacity *= 2
    at = heap.size
    heap.size += 1
    while at:
        parent = (at - 1) // 2
        if heap.items[parent] <= item:
            break
        heap.items[at] = heap.items[parent]
        at = parent
    heap.items[at] = item
    return 0


cdef class Merger:
    def __cinit__(self, vocab, merges, bint whole):
        cdef Py_ssize_t n_tokens = len(vocab), n_merges = 0 if merges is None else len(merges)
        cdef uint64_t n_slots = _table_size(n_tokens), n_pairs = _table_size(n_merges if n_merges else n_tokens)
        cdef uint64_t at
        self.whole = whole
        self._store_tokens(vocab)
        self.slots = <uint32_t *>calloc(n_slots, sizeof(uint32_t))
        self.pairs = <Pair *>malloc(n_pairs * sizeof(Pair))
        self.byte_pair = <uint32_t *>calloc(65536, sizeof(uint32_t))
        if not (self.slots and self.pairs and self.byte_pair):
            raise MemoryError
        self.slot_mask = n_slots - 1
        self.pair_mask = n_pairs - 1
        for at in range(n_pairs):
            self.pairs[at].key = EMPTY
        self._index_tokens()
        if merges is None:
            self._realize_pairs()
        else:
            self._list_pairs(merges, n_merges)
        self._index_byte_pairs()

    def __dealloc__(self):
        free(self.blob)
        free(self.offset)
        free(self.slots)
        free(self.pairs)
        free(self.byte_pair)
        free(self.product)

    cdef int _store_tokens(self, vocab) except -1:
        cdef Py_ssize_t total = 0, size
        cdef uint32_t number, place = 0
        by_id = {}
        for token, at in vocab.items():
            if not 0 <= at < MAX_IDS:
                raise ValueError(f"ids must be below {MAX_IDS}, got {at}")
            by_id[at] = token
            total += len(token)
        self.n_ids = max(by_id, default=-1) + 1
        if total >= NONE:
            raise ValueError("tokens must have less than 2**32 bytes together")
        self.blob = <uint8_t *>malloc(total + 1)
        self.offset = <uint32_t *>malloc((<Py_ssize_t>self.n_ids + 1) * sizeof(uint32_t))
        if not (self.blob and self.offset):
            raise MemoryError
        for number in range(self.n_ids):
            self.offset[number] = place
            token = <bytes?>by_id.get(number, b"")
            size = PyBytes_GET_SIZE(token)
            memcpy(self.blob + place, PyBytes_AS_STRING(token), size)
            place += <uint32_t>size
        self.offset[self.n_ids] = place
        return 0

    cdef int _index_tokens(self) except -1:
        cdef uint32_t number, size
        cdef uint64_t at
        for number in range(256):
            self.byte_id[number] = NONE
        for number in range(self.n_ids):
            size = self.offset[number + 1] - self.offset[number]
            if size == 0:
                continue
            if size == 1:
                self.byte_id[self.blob[self.offset[number]]] = number
            at = _hash(self.blob + self.offset[number], size) & self.slot_mask
            while self.slots[at]:
                at = (at + 1) & self.slot_mask
            self.slots[at] = number + 1
        for number in range(256):
            if self.byte_id[number] == NONE:
                raise ValueError(f"vocab must have a token for each byte, 0x{number:02x} has none")
        return 0

    cdef uint32_t lookup(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        """Return the id of the token with these bytes, or NONE."""
        cdef uint64_t at = _hash(data, size) & self.slot_mask
        cdef uint32_t number, start
        while self.slots[at]:
            number = self.slots[at] - 1
            start = self.offset[number]
            if self.offset[number + 1] - start == <uint32_t>size and memcmp(self.blob + start, data, size) == 0:
                return number
            at = (at + 1) & self.slot_mask
        return NONE

    cdef inline Pair *find_pair(self, uint32_t left, uint32_t right) noexcept nogil:
        """Return the pair, or the empty slot where it would stand."""
        cdef uint64_t key = <uint64_t>left << 32 | right
        cdef uint64_t at = _pair_hash(key) & self.pair_mask
        while self.pairs[at].key != key and self.pairs[at].key != EMPTY:
            at = (at + 1) & self.pair_mask
        return &self.pairs[at]

    cdef int _add_pair(self, uint32_t left, uint32_t right, uint32_t rank, uint32_t product) except -1:
        cdef Pair *pair = self.find_pair(left, right)
        if pair.key == EMPTY:
            pair.key = <uint64_t>left << 32 | right
            pair.rank = rank
            pair.product = product
        return 0

    cdef int _index_byte_pairs(self) except -1:
        cdef uint32_t left, right
        cdef Pair *pair
        for left in range(256):
            for right in range(256):
                pair = self.find_pair(self.byte_id[left], self.byte_id[right])
                if pair.key != EMPTY:
                    self.byte_pair[left << 8 | right] = <uint32_t>(pair - self.pairs) + 1
        return 0

    cdef int _list_pairs(self, merges, Py_ssize_t n_merges) except -1:
        cdef Py_ssize_t rank = 0
        cdef uint32_t ids[3]
        cdef int part
        self.product = <uint32_t *>malloc((n_merges + 1) * sizeof(uint32_t))
        if not self.product:
            raise MemoryError
        for left, right in merges:
            part = 0
            for token in (left, right, left + right):
                ids[part] = self.lookup(<const uint8_t *>PyBytes_AS_STRING(<bytes?>token), PyBytes_GET_SIZE(token))
                if ids[part] == NONE:
                    raise ValueError(f"merges must join tokens to a token, got {token!r} at index {rank}")
                part += 1
            self.product[rank] = ids[2]
            self._add_pair(ids[0], ids[1], <uint32_t>rank, ids[2])
            rank += 1
        return 0

    cdef int _realize_pairs(self) except -1:
        """Find the realized pair of each token by merging its bytes with substring look-ups: the definition itself."""
        cdef uint32_t number, size, longest = 0
        cdef uint32_t *work
        for number in range(self.n_ids):
            longest = max(longest, self.offset[number + 1] - self.offset[number])
        work = <uint32_t *>malloc((2 * <Py_ssize_t>longest + 2) * sizeof(uint32_t))
        if not work:
            raise MemoryError
        try:
            for number in range(self.n_ids):
                size = self.offset[number + 1] - self.offset[number]
                if size > 1:
                    self._realize(number, self.blob + self.offset[number], size, work)
                if number % 4096 == 0:
                    PyErr_CheckSignals()
        finally:
            free(work)
        return 0

    cdef int _realize(self, uint32_t number, const uint8_t *data, uint32_t size, uint32_t *work) except -1:
        # starts[i] is where part i begins, starts[count] the end; ranks[i] is the rank of parts i and i + 1 together.
        cdef uint32_t *starts = work
        cdef uint32_t *ranks = work + size + 1
        cdef uint32_t count = size, at, best, place
        for at in range(size + 1):
            starts[at] = at
        for at in range(size - 1):
            ranks[at] = self.lookup(data + at, 2)
        while count > 2:
            best = NONE
            place = 0
            for at in range(count - 1):
                if ranks[at] < best:
                    best = ranks[at]
                    place = at
            if best == NONE:
                return 0  # no merging makes this token; only the whole look-up finds it
            for at in range(place + 1, count):
                starts[at] = starts[at + 1]
            for at in range(place, count - 2):
                ranks[at] = ranks[at + 1]
            count -= 1
            if place < count - 1:
                ranks[place] = self.lookup(data + starts[place], starts[place + 2] - starts[place])
            if place > 0:
                ranks[place - 1] = self.lookup(data + starts[place - 1], starts[place + 1] - starts[place - 1])
        self._add_pair(self.lookup(data, starts[1]), self.lookup(data + starts[1], size - starts[1]), number, number)
        return 0

    cdef Py_ssize_t merge_into(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) except -1 nogil:
        """Write the ids of one pretoken to `out`, which has room for `size`; return how many.

        The whole pretoken is not looked up here.  May be called with or without the GIL.
        """
        if size <= SHORT:
            return self._merge_short(data, size, out)
        return self._merge_long(data, size, out)

    cdef Py_ssize_t _merge_short(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil:
        cdef uint32_t ranks[SHORT]
        cdef uint32_t products[SHORT]
        cdef uint32_t best, index
        cdef Py_ssize_t at, place
        cdef Pair *pair
        for at in range(size):
            out[at] = self.byte_id[data[at]]
            ranks[at] = NONE
        for at in range(size - 1):
            index = self.byte_pair[<uint32_t>data[at] << 8 | data[at + 1]]
            if index:
                ranks[at] = self.pairs[index - 1].rank
                products[at] = self.pairs[index - 1].product
        while size > 1:
            best = NONE
            place = 0
            for at in range(size - 1):
                if ranks[at] < best:
                    best = ranks[at]
                    place = at
            if best == NONE:
                break
            out[place] = products[place]
            size -= 1
            for at in range(place + 1, size):
                out[at] = out[at + 1]
                ranks[at] = ranks[at + 1]
                products[at] = products[at + 1]
            ranks[place] = NONE
            if place < size - 1:
                pair = self.find_pair(out[place], out[place + 1])
                if pair.key != EMPTY:
                    ranks[place] = pair.rank
                    products[place] = pair.product
            if place > 0:
                pair = self.find_pair(out[place - 1], out[place])
                ranks[place - 1] = NONE
                if pair.key != EMPTY:
                    ranks[place - 1] = pair.rank
                    products[place - 1] = pair.product
        return size

    cdef Py_ssize_t _merge_long(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) except -1 nogil:
        cdef Heap heap
        cdef uint32_t *links
        cdef Py_ssize_t result
        if size >= <Py_ssize_t>NONE:
            with gil:
                raise OverflowError(f"a pretoken must be shorter than {NONE} bytes, got {size}")
        heap.items = <uint64_t *>malloc(size * sizeof(uint64_t))
        links = <uint32_t *>malloc(3 * size * sizeof(uint32_t))
        heap.size = 0
        heap.capacity = size
        try:
            if not (heap.items and links):
                with gil:
                    raise MemoryError
            result = self._merge_linked(data, <uint32_t>size, out, &heap, links)
        finally:
            free(heap.items)
            free(links)
        return result

    cdef Py_ssize_t _merge_linked(
        self, const uint8_t *data, uint32_t size, uint32_t *out, Heap *heap, uint32_t *links
    ) except -1 nogil:
        cdef uint32_t *after = links
        cdef uint32_t *before = links + size
        cdef uint32_t *ranks = links + 2 * <Py_ssize_t>size
        cdef uint32_t at, gone, count = 0, steps = 0, index
        cdef uint64_t item
        for at in range(size):
            out[at] = self.byte_id[data[at]]
            after[at] = at + 1
            before[at] = at - 1
            ranks[at] = NONE
            index = self.byte_pair[<uint32_t>data[at] << 8 | data[at + 1]] if at + 1 < size else 0
            if index:
                ranks[at] = self.pairs[index - 1].rank
                heap.items[heap.size] = <uint64_t>ranks[at] << 32 | at
                heap.size += 1
        heap_build(heap)
        while heap.size:
            item = heap.items[0]
            at = <uint32_t>item
            if ranks[at] != item >> 32:
                heap_pop(heap)
                continue
            gone = after[at]
            out[at] = self.product[ranks[at]] if self.product else ranks[at]
            ranks[gone] = NONE
            after[at] = after[gone]
            if after[at] < size:
                before[after[at]] = at
            heap_pop(heap)
            self._renew(at, size, out, after, ranks, heap)
            if at > 0:
                self._renew(before[at], size, out, after, ranks, heap)
            steps += 1
            if steps & 0xFFFF == 0:
                with gil:
                    PyErr_CheckSignals()
        at = 0
        while at < size:
            out[count] = out[at]
            count += 1
            at = after[at]
        return count

    cdef inline int _renew(
        self, uint32_t at, uint32_t size, uint32_t *out, uint32_t *after, uint32_t *ranks, Heap *heap
    ) except -1 nogil:
        """Look the pair at `at` up again and queue it."""
        cdef Pair *pair
        ranks[at] = NONE
        if after[at] < size:
            pair = self.find_pair(out[at], out[after[at]])
            if pair.key != EMPTY:
                ranks[at] = pair.rank
                heap_push(heap, <uint64_t>pair.rank << 32 | at)
        return 0

    def merge(self, bytes piece not None):
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(piece)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(piece), count, at
        cdef uint32_t number
        cdef uint32_t *out
        if size == 0:
            return []
        if self.whole:
            number = self.lookup(data, size)
            if number != NONE:
                return [number]
        out = <uint32_t *>malloc(size * sizeof(uint32_t))
        if not out:
            raise MemoryError
        try:
            with nogil:
                count = self.merge_into(data, size, out)
            return [out[at] for at in range(count)]
        finally:
            free(out)
