"""A vocabulary as symbols, for merge_native: their bytes, their ids, and the pair that makes each.

Both semantics become one table (left symbol, right symbol) -> product.  One pair a token is enough, its *realized
pair*: the last merge when the bytes of the token are merged alone.  For a symbol that appears in any merge is the
result of merging its own bytes, because no earlier merge crossed its ends; so it came from that pair.  Symbols are
numbered by the priority of their pair, so the product is the priority too.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastbpe.core.heap cimport Heap, heap_build, heap_pop, heap_push
from fastbpe.core.key cimport key_prefetch
from fastbpe.core.memory cimport resized, zeroed

from fastbpe.core.packed import PackedVocab

from os import urandom as _urandom

cdef extern from "pages.h" nogil:
    void *pages_alloc(size_t size)
    void pages_free(void *memory, size_t size)

cdef enum:
    AHEAD = 32         # look-ups that are sent for together while loading
    MAX_BYTES = 1 << 28


cdef uint64_t table_size(uint64_t count) noexcept nogil:
    """Return the size of an open-addressing table that stays at most half full."""
    cdef uint64_t size = 64
    while size < count * 2:
        size *= 2
    return size


cdef class Symbols:
    def __cinit__(self, vocab, merges):
        self.seed = int.from_bytes(_urandom(8), "little")
        self.secret = int.from_bytes(_urandom(8), "little") | 1
        if merges is None and isinstance(vocab, PackedVocab):
            self._load_packed(vocab)
        else:
            self._load(vocab, merges)
        self._index_pairs()
        self._flag()
        self.even_from = self.n_symbols
        self.shift = self.id_of[self.n_symbols - 1] - (self.n_symbols - 1)
        while self.even_from and self.id_of[self.even_from - 1] == self.even_from - 1 + self.shift:
            self.even_from -= 1

    def __dealloc__(self):
        pages_free(self.slots, self.block_size)
        free(self.flagged)
        pages_free(self.pairs, (self.pair_mask + 1) * sizeof(uint64_t))
        free(self.filter)
        free(self.bytes)
        free(self.listed)
        free(self.listed_rank)
        free(self.listed_product)

    cdef _load(self, vocab, merges):
        tokens = [bytes((value,)) for value in range(256)]
        for token in tokens:
            if token not in vocab:
                raise ValueError(f"vocab must have a token for each byte, {token!r} has none")
        # A published file may hold an empty token; no pair of symbols ever makes it.
        tokens += [token for token in sorted(vocab, key=vocab.__getitem__) if len(token) > 1]
        self._store(tokens, [vocab[token] for token in tokens])
        ranks = self._realize(merges)
        if merges is not None:
            self._order_by_rank(ranks)

    cdef int _store(self, tokens, ids) except -1:
        """Number the tokens in the given order, and index them by their bytes."""
        cdef uint32_t symbol
        self._make_room(len(tokens), sum(map(len, tokens)))
        for symbol in range(<uint32_t>len(tokens)):
            token = <bytes?>tokens[symbol]
            self._put(<const uint8_t *>PyBytes_AS_STRING(token), <uint32_t>PyBytes_GET_SIZE(token), ids[symbol])
        self._index()
        return 0

    cdef int _load_packed(self, vocab) except -1:
        """The same from arrays, with the realized pairs: the file says where each token parts."""
        cdef const uint32_t[::1] ids = vocab.ids
        cdef const uint32_t[::1] offsets = vocab.offsets
        cdef const uint8_t[::1] lefts = vocab.lefts
        cdef const uint8_t *blob = <const uint8_t *>PyBytes_AS_STRING(<bytes?>vocab.blob)
        cdef Py_ssize_t at, n_tokens = ids.shape[0]
        cdef Py_ssize_t of_byte[256]
        if offsets.shape[0] != n_tokens + 1 or lefts.shape[0] != n_tokens or offsets[n_tokens] != len(vocab.blob):
            raise ValueError("vocab must have as many lengths and left parts as ids")
        memset(of_byte, 0xFF, sizeof(of_byte))
        for at in range(n_tokens):
            if offsets[at + 1] - offsets[at] == 1:
                of_byte[blob[offsets[at]]] = at
        self._make_room(n_tokens, offsets[n_tokens])
        for at in range(256):
            if of_byte[at] < 0:
                raise ValueError(f"vocab must have a token for each byte, {bytes((at,))!r} has none")
            self._put(blob + offsets[of_byte[at]], 1, ids[of_byte[at]])
        for at in range(n_tokens):
            if offsets[at + 1] - offsets[at] > 1:
                self.left[self.n_symbols] = lefts[at]
                self._put(blob + offsets[at], offsets[at + 1] - offsets[at], ids[at])
        self._index()
        return self._find_parts()

    cdef int _find_parts(self) except -1:
        """Find the left and the right part of each symbol whose left part has the length in `left`, if any."""
        cdef uint64_t hashed[2 * AHEAD]
        cdef uint32_t symbol, base, size, cut, at
        cdef const uint8_t *data
        for base in range(256, self.n_symbols, AHEAD):
            # All are sent for before the first is looked at.
            for at in range(min(<uint32_t>AHEAD, self.n_symbols - base)):
                data = self.blob + self.offset[base + at]
                cut = min(self.left[base + at], self.offset[base + at + 1] - self.offset[base + at])
                hashed[2 * at] = self.hash_of(data, cut)
                hashed[2 * at + 1] = self.hash_of(data + cut, self.offset[base + at + 1] - self.offset[base + at] - cut)
                key_prefetch(self.slots + (hashed[2 * at] & self.slot_mask))
                key_prefetch(self.slots + (hashed[2 * at + 1] & self.slot_mask))
            for at in range(2 * min(<uint32_t>AHEAD, self.n_symbols - base)):
                symbol = self.first_with(hashed[at])
                if symbol != NONE:
                    key_prefetch(self.offset + symbol)
            for at in range(min(<uint32_t>AHEAD, self.n_symbols - base)):
                symbol = base + at
                cut = self.left[symbol]
                size = self.offset[symbol + 1] - self.offset[symbol]
                data = self.blob + self.offset[symbol]
                self.left[symbol] = NONE
                if 0 < cut < size:
                    self.left[symbol] = self.find_hashed(data, cut, hashed[2 * at])
                    self.right[symbol] = self.find_hashed(data + cut, size - cut, hashed[2 * at + 1])
                    if self.left[symbol] == NONE or self.right[symbol] == NONE:
                        raise ValueError("vocab must have the parts of each token")
        return 0

    cdef int _make_room(self, Py_ssize_t n_symbols, Py_ssize_t total) except -1:
        cdef uint64_t n_slots = table_size(n_symbols)
        if n_symbols > MAX_SYMBOLS or total >= MAX_BYTES:
            raise ValueError(f"vocab must have at most {MAX_SYMBOLS} tokens and {MAX_BYTES} bytes")
        self.n_symbols = 0
        # One block, so that its pages can be huge: when a pretoken is new, each of these is asked at random.
        pages_free(self.slots, self.block_size)
        self.block_size = (n_slots + 4 * (n_symbols + 1)) * sizeof(uint32_t) + total + 16
        self.slots = <uint32_t *>pages_alloc(self.block_size)
        if not self.slots:
            raise MemoryError
        self.offset = self.slots + n_slots
        self.id_of = self.offset + n_symbols + 1
        self.left = self.id_of + n_symbols + 1
        self.right = self.left + n_symbols + 1
        self.blob = <uint8_t *>(self.right + n_symbols + 1)  # sixteen bytes of each may be read at once
        memset(self.left, 0xFF, n_symbols * sizeof(uint32_t))
        memset(self.right, 0xFF, n_symbols * sizeof(uint32_t))
        self.slot_mask = n_slots - 1
        return 0

    cdef void _put(self, const uint8_t *data, uint32_t size, uint32_t number) noexcept:
        """Append a symbol; there is room for it."""
        cdef uint32_t symbol = self.n_symbols, place = self.offset[symbol]
        memcpy(self.blob + place, data, size)
        self.id_of[symbol] = number
        self.offset[symbol + 1] = place + size
        self.n_symbols += 1

    cdef void _index(self) noexcept:
        """Enter all symbols into the table by bytes."""
        cdef uint64_t hashed[AHEAD]
        cdef uint64_t at
        cdef uint32_t base, ahead
        for base in range(0, self.n_symbols, AHEAD):
            for ahead in range(min(<uint32_t>AHEAD, self.n_symbols - base)):
                hashed[ahead] = self.hash_of(
                    self.blob + self.offset[base + ahead], self.offset[base + ahead + 1] - self.offset[base + ahead]
                )
                key_prefetch(self.slots + (hashed[ahead] & self.slot_mask))
            for ahead in range(min(<uint32_t>AHEAD, self.n_symbols - base)):
                at = hashed[ahead] & self.slot_mask
                while self.slots[at]:
                    at = (at + 1) & self.slot_mask
                self.slots[at] = <uint32_t>(hashed[ahead] >> (32 + SLOT_BITS)) << SLOT_BITS | (base + ahead + 1)

    cdef uint32_t find(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        """Return the symbol with these bytes, or NONE."""
        return self.find_hashed(data, size, self.hash_of(data, size))

    cdef _realize(self, merges):
        """Find the realized pair of each token by merging its bytes; return the rank of each (None: unreachable)."""
        cdef uint32_t symbol, size, longest = 0, rank, at
        cdef uint32_t *out
        ranks = [] if merges is not None else None
        if merges is not None:
            self._list(merges)
        for symbol in range(self.n_symbols):
            longest = max(longest, self.offset[symbol + 1] - self.offset[symbol])
        out = <uint32_t *>resized(NULL, longest, sizeof(uint32_t))
        try:
            for symbol in range(256, self.n_symbols):
                size = self.offset[symbol + 1] - self.offset[symbol]
                rank = NONE
                # Stops at two parts, which the last merge joins, if they join to this token.
                for at in range(size):
                    out[at] = self.blob[self.offset[symbol] + at]
                if self.merge_queue(out, size, self.blob + self.offset[symbol]) == 2:
                    rank = self._rank(out[0], out[1], self.blob + self.offset[symbol], size)
                    if rank != NONE:
                        self.left[symbol] = out[0]
                        self.right[symbol] = out[1]
                if ranks is not None:
                    ranks.append(None if rank == NONE else rank)
                if symbol % 4096 == 0:
                    PyErr_CheckSignals()
        finally:
            free(out)
        free(self.listed)
        free(self.listed_rank)
        free(self.listed_product)
        self.listed = NULL
        self.listed_rank = self.listed_product = NULL
        return ranks

    cdef int _list(self, merges) except -1:
        """Index the merge list by pair."""
        cdef uint64_t n_slots = table_size(len(merges)), at, key
        cdef uint32_t ids[3]
        cdef uint32_t rank = 0
        cdef int part
        self.listed = <uint64_t *>resized(NULL, n_slots, sizeof(uint64_t))
        self.listed_rank = <uint32_t *>resized(NULL, n_slots, sizeof(uint32_t))
        self.listed_product = <uint32_t *>resized(NULL, len(merges), sizeof(uint32_t))
        self.listed_mask = n_slots - 1
        memset(self.listed, 0xFF, n_slots * sizeof(uint64_t))
        for left, right in merges:
            part = 0
            for token in (left, right, left + right):
                ids[part] = self.find(<const uint8_t *>PyBytes_AS_STRING(<bytes?>token), PyBytes_GET_SIZE(token))
                if ids[part] == NONE:
                    raise ValueError(f"merges must join tokens to a token, got {token!r} at index {rank}")
                part += 1
            key = <uint64_t>ids[0] << 32 | ids[1]
            at = lockstep_hash(key, self.seed) & self.listed_mask
            while self.listed[at] != EMPTY and self.listed[at] != key:
                at = (at + 1) & self.listed_mask
            if self.listed[at] == EMPTY:
                self.listed[at] = key
                self.listed_rank[at] = rank
            self.listed_product[rank] = ids[2]
            rank += 1
        return 0

    cdef int _order_by_rank(self, list ranks) except -1:
        """Number the symbols anew by the ranks of their pairs."""
        cdef uint32_t symbol
        order = list(range(256))
        order += sorted(range(256, self.n_symbols), key=lambda at: (ranks[at - 256] is None, ranks[at - 256] or 0))
        tokens = [self.blob[self.offset[symbol]:self.offset[symbol + 1]] for symbol in order]
        ids = [self.id_of[symbol] for symbol in order]
        pairs = [(self.left[symbol], self.right[symbol]) for symbol in order]
        number = {old: new for new, old in enumerate(order)}
        self._store(tokens, ids)
        for symbol, (left, right) in enumerate(pairs):
            if left != NONE:
                self.left[symbol] = number[left]
                self.right[symbol] = number[right]
        return 0

    cdef int _index_pairs(self) except -1:
        cdef uint64_t key, hashed, at
        cdef uint64_t n_pairs = table_size(self.n_symbols)
        cdef uint32_t symbol, left, right
        cdef const uint8_t *data
        cdef LockstepBytes *both
        self.pairs = <uint64_t *>pages_alloc(n_pairs * sizeof(uint64_t))
        if not self.pairs:
            raise MemoryError
        self.pair_mask = n_pairs - 1  # at once: __dealloc__ gives back as much as it says
        self.filter = <uint64_t *>zeroed(1 << 14, sizeof(uint64_t))
        self.bytes = <LockstepBytes *>resized(NULL, 65536, sizeof(LockstepBytes))
        memset(self.pairs, 0xFF, n_pairs * sizeof(uint64_t))
        for symbol in range(256, self.n_symbols):
            if self.left[symbol] == NONE:
                continue
            key = <uint64_t>self.left[symbol] << 21 | self.right[symbol]
            hashed = lockstep_hash(key, self.seed)
            self.filter[hashed >> 50] |= <uint64_t>1 << (hashed >> 44 & 63)
            at = lockstep_bucket(hashed, self.pair_mask)
            while self.pairs[at] != EMPTY:
                at = (at + 1) & self.pair_mask
            self.pairs[at] = key << 21 | symbol
        memset(self.bytes, 0xFF, 65536 * sizeof(LockstepBytes))
        for symbol in range(256, self.n_symbols):
            left, right = self.left[symbol], self.right[symbol]
            if left == NONE:
                continue
            data = self.blob + self.offset[symbol] + (self.offset[left + 1] - self.offset[left])
            both = self.bytes + (<uint32_t>data[-1] << 8 | data[0])
            both.first = min(both.first, symbol)
            if left < 256 and right < 256:
                both.product = symbol
        return 0

    cdef int _flag(self) except -1:
        """Find the symbols with a part of higher number, and those made of them."""
        cdef uint32_t symbol
        cdef bint found = False
        for symbol in range(256, self.n_symbols):
            if self.left[symbol] != NONE and (self.left[symbol] >= symbol or self.right[symbol] >= symbol):
                found = True
        if not found:
            return 0
        self.flagged = <uint8_t *>zeroed(self.n_symbols, 1)
        # Parts are shorter than the whole, so in the order of length they are known first.
        for number in sorted(range(256, self.n_symbols), key=lambda at: self.offset[at + 1] - self.offset[at]):
            symbol = number
            if self.left[symbol] == NONE:
                continue
            self.flagged[symbol] = (
                self.left[symbol] >= symbol or self.right[symbol] >= symbol
                or self.flagged[self.left[symbol]] or self.flagged[self.right[symbol]]
            )
        return 0

    cdef uint32_t _rank(self, uint32_t left, uint32_t right, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        """Return the rank of joining two symbols whose bytes are `data`, or NONE, while loading: as the vocabulary or the
        merge list has it.
        """
        cdef uint64_t key, at
        if not self.listed:
            return self.find(data, size)
        key = <uint64_t>left << 32 | right
        at = lockstep_hash(key, self.seed) & self.listed_mask
        while self.listed[at] != EMPTY:
            if self.listed[at] == key:
                return self.listed_rank[at]
            at = (at + 1) & self.listed_mask
        return NONE

    cdef Py_ssize_t merge_short(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil:
        """Merge up to SHORT bytes."""
        cdef uint32_t products[SHORT]
        cdef Py_ssize_t at
        for at in range(size):
            out[at] = data[at]
        for at in range(size - 1):
            products[at] = self.bytes[<uint32_t>data[at] << 8 | data[at + 1]].product
        return self.merge_products(out, products, size)

    cdef Py_ssize_t merge_products(self, uint32_t *out, uint32_t *products, Py_ssize_t size) noexcept nogil:
        """Merge symbols in place by the definition: find the best pair, join it, look again; return how many are left.

        `products`: what each makes with the next one, or NONE; written over.
        """
        cdef uint32_t best
        cdef Py_ssize_t at, place
        while size > 1:
            best = NONE
            place = 0
            for at in range(size - 1):
                if products[at] < best:
                    best = products[at]
                    place = at
            if best == NONE:
                break
            out[place] = best
            size -= 1
            for at in range(place + 1, size):
                out[at] = out[at + 1]
                products[at - 1] = products[at]
            if place < size - 1:
                products[place] = self.join(best, out[place + 1])
            if place > 0:
                products[place - 1] = self.join(out[place - 1], best)
        return size

    cdef Py_ssize_t merge_queue(self, uint32_t *out, uint32_t size, const uint8_t *data) except -1 nogil:
        """Merge symbols in place with the pairs in a heap, O(n log n); return how many are left.

        While loading the symbols are the bytes of `data`, and it stops at two of them; else that is NULL.
        """
        cdef Heap heap
        cdef uint32_t *links = NULL
        heap.items = NULL
        heap.size = 0
        heap.capacity = size
        try:
            heap.items = <uint64_t *>resized(NULL, size, sizeof(uint64_t))
            links = <uint32_t *>resized(NULL, 3 * <size_t>size, sizeof(uint32_t))
            return self._merge_linked(out, size, data, &heap, links)
        finally:
            free(heap.items)
            free(links)

    cdef Py_ssize_t _merge_linked(
        self, uint32_t *out, uint32_t size, const uint8_t *data, Heap *heap, uint32_t *links
    ) except -1 nogil:
        cdef uint32_t *after = links
        cdef uint32_t *before = links + size
        cdef uint32_t *ranks = links + 2 * <size_t>size
        cdef uint32_t at, gone, count = size, renewed, end
        cdef uint64_t item
        for at in range(size):
            after[at] = at + 1
            before[at] = at - 1
            ranks[at] = NONE
            if at + 1 < size:
                ranks[at] = self._rank(out[at], out[at + 1], data + at, 2) if data else self.product(out[at], out[at + 1])
            if ranks[at] != NONE:
                heap.items[heap.size] = <uint64_t>ranks[at] << 32 | at
                heap.size += 1
        heap_build(heap)
        while heap.size and (count > 2 or not data):
            item = heap.items[0]
            heap_pop(heap)
            at = <uint32_t>item
            if ranks[at] != item >> 32:
                continue  # out of date
            gone = after[at]
            out[at] = self.listed_product[ranks[at]] if data and self.listed else ranks[at]
            ranks[gone] = NONE
            after[at] = after[gone]
            if after[at] < size:
                before[after[at]] = at
            count -= 1
            renewed = at
            while True:
                ranks[renewed] = NONE
                if after[renewed] < size:
                    gone = after[renewed]
                    end = after[gone]
                    ranks[renewed] = (
                        self._rank(out[renewed], out[gone], data + renewed, end - renewed) if data
                        else self.product(out[renewed], out[gone])
                    )
                    if ranks[renewed] != NONE:
                        heap_push(heap, <uint64_t>ranks[renewed] << 32 | renewed)
                if renewed != at or at == 0:
                    break
                renewed = before[at]
        at = count = 0
        while at < size:
            out[count] = out[at]
            count += 1
            at = after[at]
        return count
