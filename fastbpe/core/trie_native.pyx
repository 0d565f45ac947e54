"""The longest symbol that some bytes begin with, for long_native.

A trie by bytes, its steps in one hash table.  Characters of three bytes take one step instead of three: the first of a
symbol is looked up by code point, the others by node and code point, with the longest symbol that ends in them.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastbpe.core.characters_native cimport length_of, put_character
from fastbpe.core.key cimport key_prefetch
from fastbpe.core.memory cimport resized, zeroed

from os import urandom as _urandom

cdef extern from "<stdint.h>" nogil:
    const uint32_t NONE "UINT32_MAX"
    const uint64_t EMPTY "UINT64_MAX"

cdef extern from "lockstep.h" nogil:
    uint64_t lockstep_hash(uint64_t key, uint64_t seed)
    uint64_t lockstep_bucket(uint64_t hashed, uint64_t mask)

cdef extern from "pages.h" nogil:
    void *pages_alloc(size_t size)
    void pages_free(void *memory, size_t size)

cdef enum:
    AHEAD = 16  # symbols

cdef uint64_t SEED = int.from_bytes(_urandom(8), "little")


cdef inline uint64_t spread(uint64_t key) noexcept nogil:
    return lockstep_hash(key, SEED)


cdef inline bint is_inside(uint8_t byte) noexcept nogil:
    """Return whether a byte continues a character."""
    return byte & 0xC0 == 0x80


cdef inline uint32_t code_of(const uint8_t *data) noexcept nogil:
    """Return the code point of three bytes; a different one for all of that form, if they are no UTF-8 too."""
    return <uint32_t>(data[0] & 15) << 12 | <uint32_t>(data[1] & 63) << 6 | (data[2] & 63)


cdef inline bint has_wide(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Return whether a character of three bytes or more begins in some bytes."""
    cdef Py_ssize_t at
    cdef uint8_t greatest = 0
    for at in range(size):
        greatest = max(greatest, data[at])
    return greatest >= 0xE0


cdef uint32_t *by_length(const uint32_t *offset, uint32_t n_symbols) except NULL:
    """Return the symbols in the order of their lengths."""
    cdef uint32_t symbol, length, longest = 0, before = 0, count
    cdef uint32_t *place = NULL
    cdef uint32_t *order = NULL
    for symbol in range(n_symbols):
        longest = max(longest, offset[symbol + 1] - offset[symbol])
    place = <uint32_t *>zeroed(longest + 1, sizeof(uint32_t))
    try:
        order = <uint32_t *>resized(NULL, n_symbols, sizeof(uint32_t))
        for symbol in range(n_symbols):
            place[offset[symbol + 1] - offset[symbol]] += 1
        for length in range(longest + 1):
            count = place[length]
            place[length] = before
            before += count
        for symbol in range(n_symbols):
            length = offset[symbol + 1] - offset[symbol]
            order[place[length]] = symbol
            place[length] += 1
        return order
    finally:
        free(place)


cdef class Trie:
    def __dealloc__(self):
        pages_free(self.steps, (self.step_mask + 1) * sizeof(uint64_t))
        pages_free(self.jumps, (self.jump_mask + 1) * sizeof(Jump))
        free(self.root)
        free(self.root_symbol)
        free(self.partial)
        free(self.filter)

    # ------------------------------------------------------------ building

    cdef int build(
        self, const uint8_t *blob, const uint32_t *offset, const uint32_t *left, uint32_t n_symbols, uint32_t *prefix
    ) except -1:
        """Take the reachable symbols: the bytes, and those that have a left part.  Fill in the longest proper prefix of
        each that is one, or NONE.

        The node of symbol n is n + 1, and greater ones end in no symbol.  Short symbols come first, so all that end on
        the way to another are there before it; its left part is one of them, and the walk begins at its node.
        """
        cdef uint64_t total = 0, size = 1 << 10
        cdef uint32_t at, symbol, node, place, start, ahead, best
        cdef uint32_t *order = NULL
        self.n_symbols = n_symbols
        self.n_nodes = n_symbols + 1
        for symbol in range(n_symbols):
            if symbol < 256 or left[symbol] != NONE:
                total += offset[symbol + 1] - offset[symbol]
        while size < total // 2:
            size *= 2
        self.root = <uint32_t *>zeroed(65536, sizeof(uint32_t))
        self.root_symbol = <uint32_t *>zeroed(65536, sizeof(uint32_t))
        self.steps = <uint64_t *>pages_alloc(size * sizeof(uint64_t))  # grows with what is shared; see _widen
        if not self.steps:
            raise MemoryError
        self.step_mask = size - 1
        try:
            order = by_length(offset, n_symbols)
            for at in range(n_symbols):
                symbol = order[at]
                ahead = order[min(at + AHEAD, n_symbols - 1)]
                if ahead >= 256 and left[ahead] != NONE:
                    place = offset[ahead] + offset[left[ahead] + 1] - offset[left[ahead]]
                    key_prefetch(self.steps + self._bucket(left[ahead] + 1, blob[place]))
                prefix[symbol] = NONE
                if symbol >= 256 and left[symbol] == NONE:
                    continue
                node = 0
                best = NONE
                place = offset[symbol]
                if symbol >= 256:
                    best = left[symbol]
                    node = best + 1
                    place += offset[best + 1] - offset[best]
                while place + 1 < offset[symbol + 1]:
                    node = self._step_or_grow(node, blob[place])
                    if node <= n_symbols:
                        best = node - 1
                    place += 1
                self._add_step(node, blob[place], symbol + 1)
                prefix[symbol] = best
            self._index_roots()
            self.filter = <uint64_t *>zeroed(1 << 13, sizeof(uint64_t))
            self.partial = <uint8_t *>zeroed(self.n_nodes // 8 + 1, 1)
            for symbol in range(256, n_symbols):
                if left[symbol] == NONE or is_inside(blob[offset[symbol]]):
                    continue
                node = start = 0
                place = offset[symbol + 1] - offset[symbol]
                if not has_wide(blob + offset[symbol], place):
                    continue
                if left[symbol] < symbol:
                    start = offset[left[symbol] + 1] - offset[left[symbol]]
                    node = left[symbol] + 1
                    if is_inside(blob[offset[symbol] + start]):  # inside a character
                        node = start = 0
                self._note_characters(blob + offset[symbol], place, start, node)
        finally:
            free(order)
        return 0

    cdef inline uint64_t _bucket(self, uint32_t node, uint8_t byte) noexcept nogil:
        """Return where a step is looked for first."""
        return lockstep_bucket(spread(<uint64_t>node << 8 | byte), self.step_mask)

    cdef inline uint32_t _step_or_grow(self, uint32_t node, uint8_t byte) except 0:
        """Return the child of a node, a new one if it has none."""
        cdef uint32_t child = self._step(node, byte)
        if child:
            return child
        self.n_nodes += 1
        self._add_step(node, byte, self.n_nodes - 1)
        return self.n_nodes - 1

    cdef inline int _add_step(self, uint32_t node, uint8_t byte, uint32_t child) except -1:
        cdef uint64_t at
        if 2 * self.n_steps > self.step_mask:
            self._widen()
        self.n_steps += 1
        at = self._bucket(node, byte)
        while self.steps[at]:
            at = (at + 1) & self.step_mask
        self.steps[at] = (<uint64_t>node << 8 | byte) << 28 | child
        return 0

    cdef int _widen(self) except -1:
        cdef uint64_t mask = 2 * self.step_mask + 1, at, place
        cdef uint64_t *steps = <uint64_t *>pages_alloc((mask + 1) * sizeof(uint64_t))
        if not steps:
            raise MemoryError
        for place in range(self.step_mask + 1):
            if self.steps[place]:
                at = lockstep_bucket(spread(self.steps[place] >> 28), mask)
                while steps[at]:
                    at = (at + 1) & mask
                steps[at] = self.steps[place]
        pages_free(self.steps, (self.step_mask + 1) * sizeof(uint64_t))
        self.steps = steps
        self.step_mask = mask
        return 0

    cdef inline uint32_t _symbol(self, uint32_t node) noexcept nogil:
        """Return the symbol that ends at a node, or NONE."""
        return node - 1 if node - 1 < self.n_symbols else NONE

    cdef void _index_roots(self) noexcept:
        """Note the node after each first character of the vocabulary of up to three bytes, and the longest symbol in it.
        """
        cdef uint32_t code, node, best, first = 0, first_best = 0
        cdef uint8_t data[4]
        cdef Py_ssize_t size
        for code in range(256):
            self.first[code] = self._step(0, <uint8_t>code)
        for code in range(0x80, 65536):
            size = put_character(code, data)
            if code & 63 == 0:  # all but the last byte are those of the next 63 as well
                first = self.first[data[0]]
                first_best = data[0]
                if size == 3 and first:
                    first = self._step(first, data[1])
                    if self._symbol(first) != NONE:
                        first_best = self._symbol(first)
            node = self._step(first, data[size - 1]) if first else 0
            best = first_best
            if self._symbol(node) != NONE:
                best = self._symbol(node)
            self.root[code] = node
            self.root_symbol[code] = best

    cdef int _note_characters(
        self, const uint8_t *data, Py_ssize_t size, Py_ssize_t at, uint32_t node
    ) except -1:
        """Note the characters of three bytes of a symbol from a place on, which begins one and has that node."""
        cdef uint32_t before, best
        cdef Py_ssize_t length, inside
        while at < size:
            length = length_of(data[at])
            before = node
            best = NONE
            for inside in range(length):
                if at + inside == size:
                    self.partial[before >> 3] |= <uint8_t>(1 << (before & 7))
                    return 0
                if is_inside(data[at + inside]) != (inside > 0):
                    self.by_bytes = True
                    return 0
                node = self._step(node, data[at + inside])
                if self._symbol(node) != NONE:
                    best = self._symbol(node)
            if length == 3 and at:
                self._add_jump(before, code_of(data + at), node, best)
            at += length
        return 0

    cdef int _add_jump(self, uint32_t node, uint32_t code, uint32_t after, uint32_t best) except -1:
        cdef uint64_t mask = 2 * self.jump_mask + 1 if self.jumps else (1 << 10) - 1, at, place, hashed
        cdef Jump *jumps
        if not self.jumps or 3 * self.n_jumps > 2 * self.jump_mask:
            jumps = <Jump *>pages_alloc((mask + 1) * sizeof(Jump))
            if not jumps:
                raise MemoryError
            memset(jumps, 0xFF, (mask + 1) * sizeof(Jump))
            if self.jumps:
                for place in range(self.jump_mask + 1):
                    if self.jumps[place].key != EMPTY:
                        at = spread(self.jumps[place].key) & mask
                        while jumps[at].key != EMPTY:
                            at = (at + 1) & mask
                        jumps[at] = self.jumps[place]
                pages_free(self.jumps, (self.jump_mask + 1) * sizeof(Jump))
            self.jumps = jumps
            self.jump_mask = mask
        at = spread(<uint64_t>node << 16 | code) & self.jump_mask
        while self.jumps[at].key != EMPTY:
            if self.jumps[at].key == (<uint64_t>node << 16 | code):
                return 0
            at = (at + 1) & self.jump_mask
        hashed = spread(<uint64_t>node << 16 | code)
        self.filter[hashed >> 51] |= <uint64_t>1 << (hashed >> 45 & 63)
        self.jumps[at].key = <uint64_t>node << 16 | code
        self.jumps[at].node = after
        self.jumps[at].best = best
        self.n_jumps += 1
        return 0

    # ------------------------------------------------------------ use

    cdef inline uint32_t _step(self, uint32_t node, uint8_t byte) noexcept nogil:
        cdef uint64_t key = <uint64_t>node << 8 | byte
        cdef uint64_t at = self._bucket(node, byte)
        while self.steps[at]:
            if self.steps[at] >> 28 == key:
                return <uint32_t>(self.steps[at] & ((1 << 28) - 1))
            at = (at + 1) & self.step_mask
        return 0

    cdef uint32_t longest(self, const uint8_t *data, Py_ssize_t size, uint64_t *steps) noexcept nogil:
        """Return the longest symbol that the data begins with; add the work to `steps`."""
        cdef uint32_t best = data[0], node, code = 0
        cdef uint64_t key, hashed, place
        cdef Py_ssize_t at = 1
        cdef bint jump = self.jumps != NULL and not self.by_bytes and not is_inside(data[0])
        # Raw pieces are no UTF-8: a code point counts only if its bytes are the ones that root was made from.
        if size >= 3 and data[0] & 0xF0 == 0xE0 and is_inside(data[1]) and is_inside(data[2]):
            code = code_of(data)
            at = 3 if code >= 0x800 else 1
        elif size >= 2 and data[0] & 0xE0 == 0xC0 and is_inside(data[1]):
            code = <uint32_t>(data[0] & 31) << 6 | (data[1] & 63)
            at = 2 if code >= 0x80 else 1
        if at > 1:
            best = self.root_symbol[code]
            node = self.root[code]
        else:
            node = self.first[data[0]]
        while node and at < size:
            if jump and data[at] & 0xF0 == 0xE0 and at + 2 < size and is_inside(data[at + 1]) and is_inside(data[at + 2]):
                key = <uint64_t>node << 16 | code_of(data + at)
                hashed = spread(key)
                # The last step of each walk fails; the filter says so from a nearer cache than the table.
                if self.filter[hashed >> 51] >> (hashed >> 45 & 63) & 1:
                    place = hashed & self.jump_mask
                    while self.jumps[place].key != key and self.jumps[place].key != EMPTY:
                        place = (place + 1) & self.jump_mask
                    if self.jumps[place].key == key:
                        node = self.jumps[place].node
                        if self.jumps[place].best != NONE:
                            best = self.jumps[place].best
                        at += 3
                        continue
                if not self.partial[node >> 3] >> (node & 7) & 1:
                    break
            node = self._step(node, data[at])
            at += 1
            if self._symbol(node) != NONE:
                best = self._symbol(node)
        steps[0] += at
        return best
