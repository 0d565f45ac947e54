"""The longest symbol that some bytes begin with, for long_native.

What begins with one character is a trie of its own, built when a text first asks for it: most texts need a few of the
thousands that a vocabulary has, and these stay in the nearest caches.  A character of three bytes is one step instead
of three.  Behind the node where a symbol ends inside such a character the bytes are steps as well.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastbpe.core.memory cimport is_ready, resized, set_ready
from fastbpe.core.symbols_native cimport EMPTY, NONE, Symbols

cdef extern from "lockstep.h" nogil:
    uint64_t lockstep_hash(uint64_t key, uint64_t seed)

cdef enum:
    PAIRS = 0            # keys of two bytes,
    ALONE = 1 << 16      # of one character of three bytes,
    SPACED = 2 << 16     # and of one behind a space
    N_KEYS = 3 << 16

    CHARACTER = 1 << 16  # in a unit: its code point, not a byte
    UNIT_BITS = 17
    FIRST = 2            # node of a root
    PARTIAL = 1          # in a node: some symbol ends inside the character behind it


cdef inline bint has_wide(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Return whether bytes begin with those of a character of three, which need not be a valid one."""
    return size >= 3 and data[0] & 0xF0 == 0xE0 and data[1] & 0xC0 == 0x80 and data[2] & 0xC0 == 0x80


cdef inline uint32_t code_of(const uint8_t *data) noexcept nogil:
    return <uint32_t>(data[0] & 15) << 12 | <uint32_t>(data[1] & 63) << 6 | (data[2] & 63)


cdef inline uint32_t key_of(const uint8_t *data, Py_ssize_t size, Py_ssize_t *used) noexcept nogil:
    """Return the root of two bytes or more, and how many it takes."""
    cdef Py_ssize_t space = data[0] == 0x20
    if has_wide(data + space, size - space):
        used[0] = 3 + space
        return (SPACED if space else ALONE) + code_of(data + space)
    used[0] = 2
    return PAIRS + (<uint32_t>data[0] << 8 | data[1])


cdef inline uint32_t unit_at(const uint8_t *data, Py_ssize_t size, Py_ssize_t *used) noexcept nogil:
    """Return what one step takes of some bytes, and how many they are."""
    if has_wide(data, size):
        used[0] = 3
        return CHARACTER | code_of(data)
    used[0] = 1
    return data[0]


cdef class Trie:
    def __cinit__(self, Symbols symbols not None):
        """Sort the symbols by their keys."""
        cdef const uint8_t *blob = symbols.blob
        cdef const uint32_t *offset = symbols.offset
        cdef uint32_t symbol, key
        cdef Py_ssize_t used
        self.symbols = symbols
        self.nothing.key = EMPTY
        self.roots = <Root *>calloc(N_KEYS, sizeof(Root))
        self.starts = <uint32_t *>calloc(N_KEYS + 2, sizeof(uint32_t))
        if not (self.roots and self.starts):
            raise MemoryError
        self.members = <uint32_t *>resized(NULL, symbols.n_symbols, sizeof(uint32_t))
        self.prefix = <uint32_t *>resized(NULL, symbols.n_symbols, sizeof(uint32_t))
        for symbol in range(symbols.n_symbols):
            self.prefix[symbol] = NONE
            if symbol >= 256 and symbols.left[symbol] != NONE:
                key = key_of(blob + offset[symbol], offset[symbol + 1] - offset[symbol], &used)
                self.prefix[symbol] = key
                self.starts[key + 2] += 1
        for key in range(N_KEYS):
            self.starts[key + 2] += self.starts[key + 1]
        for symbol in range(256, symbols.n_symbols):
            key = self.prefix[symbol]
            if key != NONE:
                self.members[self.starts[key + 1]] = symbol
                self.starts[key + 1] += 1
                self.prefix[symbol] = NONE

    def __dealloc__(self):
        cdef uint32_t key
        if self.roots and self.starts:
            for key in range(N_KEYS):
                # A root is written only if it is asked for: the others' memory was never touched.
                if self.starts[key] < self.starts[key + 1] and self.roots[key].edges != &self.nothing:
                    free(self.roots[key].edges)
        free(self.roots)
        free(self.starts)
        free(self.members)
        free(self.prefix)

    # ------------------------------------------------------------ building

    cdef int build_all(self) except -1:
        """Build all roots that symbols begin with."""
        cdef const uint8_t *data
        cdef uint32_t key
        cdef Py_ssize_t used
        for key in range(N_KEYS):
            if self.starts[key] < self.starts[key + 1]:
                data = self.symbols.blob + self.symbols.offset[self.members[self.starts[key]]]
                used = 2 if key < ALONE else 3 if key < SPACED else 4
                self._build(key, data, used)
        return 0

    cdef int _build(self, uint32_t key, const uint8_t *data, Py_ssize_t used) except -1 with gil:
        """Build the root of a key, whose bytes `data` begins with, if nobody did."""
        cdef Root *root = &self.roots[key]
        cdef Root new
        cdef uint32_t at, n_nodes = 0
        if root.size:
            return 0
        new.edges = NULL
        new.size = 0
        new.node = FIRST
        new.best = self._longest_of(data, used)
        try:
            for at in range(self.starts[key], self.starts[key + 1]):
                self._insert(&new, self.members[at], used, &n_nodes)
            self._finish(&new, n_nodes)
        except BaseException:
            free(new.edges)
            raise
        root.edges = new.edges if new.edges else &self.nothing
        root.node = new.node
        root.best = new.best
        set_ready(&root.size, new.size if new.size else 1)
        return 0

    cdef int _grow(self, Root *root, uint32_t size) except -1:
        """Give the edges a table of a size."""
        cdef Edge *edges = <Edge *>resized(NULL, size, sizeof(Edge))
        cdef uint32_t at
        cdef uint64_t place
        memset(edges, 0xFF, size * sizeof(Edge))
        for at in range(root.size):
            if root.edges[at].key != EMPTY:
                place = lockstep_hash(root.edges[at].key, self.symbols.seed) & (size - 1)
                while edges[place].key != EMPTY:
                    place = (place + 1) & (size - 1)
                edges[place] = root.edges[at]
        free(root.edges)
        root.edges = edges
        root.size = size
        return 0

    cdef int _insert(self, Root *root, uint32_t symbol, Py_ssize_t used, uint32_t *n_nodes) except -1:
        """Add what is missing on the way to a symbol."""
        cdef const uint8_t *data = self.symbols.blob + self.symbols.offset[symbol]
        cdef Py_ssize_t size = self.symbols.offset[symbol + 1] - self.symbols.offset[symbol], at = used, length
        cdef uint32_t node = root.node & ~<uint32_t>PARTIAL, unit
        cdef uint32_t *behind = &root.node    # where the node is kept
        cdef Edge *edge
        while at < size:
            unit = unit_at(data + at, size - at, &length)
            if length == 1 and unit & 0xF0 == 0xE0:
                behind[0] |= PARTIAL
            if 2 * n_nodes[0] >= root.size:
                self._grow(root, 2 * root.size if root.size else 4)
            edge = self._edge(root, node, unit)
            if edge.key == EMPTY:
                n_nodes[0] += 1
                edge.key = <uint64_t>node << UNIT_BITS | unit
                edge.node = FIRST + 2 * n_nodes[0]
                edge.best = NONE
            at += length
            if at == size:
                edge.best = symbol
            behind = &edge.node
            node = edge.node & ~<uint32_t>PARTIAL
        return 0

    cdef int _finish(self, Root *root, uint32_t n_nodes) except -1:
        """Find the prefix of each symbol; nodes have greater numbers than those on the way to them."""
        cdef uint32_t *longest = NULL      # by node: the longest symbol that ends before it, or in it
        cdef uint32_t *places = NULL
        cdef uint32_t at, parent, unit, inside, before
        cdef Edge *edge
        try:
            longest = <uint32_t *>resized(NULL, n_nodes + 1, sizeof(uint32_t))
            places = <uint32_t *>resized(NULL, n_nodes + 1, sizeof(uint32_t))
            longest[0] = root.best
            for at in range(root.size):
                if root.edges[at].key != EMPTY:
                    places[root.edges[at].node - FIRST >> 1] = at
            for at in range(1, n_nodes + 1):
                edge = root.edges + places[at]
                parent = <uint32_t>(edge.key >> UNIT_BITS)
                unit = <uint32_t>edge.key & ((1 << UNIT_BITS) - 1)
                before = longest[parent - FIRST >> 1]
                inside = self._in_character(root, parent, unit & 0xFFFF) if unit & CHARACTER else NONE
                if inside != NONE:
                    before = inside
                if edge.best != NONE:
                    self.prefix[edge.best] = before
                    before = edge.best
                else:
                    edge.best = inside
                longest[at] = before
        finally:
            free(longest)
            free(places)
        return 0

    cdef uint32_t _in_character(self, const Root *root, uint32_t node, uint32_t code) noexcept nogil:
        """Return the longest symbol that ends inside a character behind a node, or NONE."""
        cdef const Edge *first = self._edge(root, node, 0xE0 | code >> 12) if root.size else &self.nothing
        cdef const Edge *second
        if first.key == EMPTY:
            return NONE
        second = self._edge(root, first.node & ~<uint32_t>PARTIAL, 0x80 | (code >> 6 & 63))
        return second.best if second.key != EMPTY and second.best != NONE else first.best

    cdef uint32_t _longest_of(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        """Return the longest symbol that up to four bytes begin with, and set the prefix of each."""
        cdef uint32_t out[4]
        cdef uint32_t longest = data[0]
        cdef Py_ssize_t at
        for at in range(2, size + 1):
            if self.symbols.merge_short(data, at, out) == 1:
                self.prefix[out[0]] = longest
                longest = out[0]
        return longest

    # ------------------------------------------------------------ use

    cdef inline Edge *_edge(self, const Root *root, uint32_t node, uint32_t unit) noexcept nogil:
        """Return an edge, or the empty place where it would be."""
        cdef uint64_t key = <uint64_t>node << UNIT_BITS | unit
        cdef uint64_t at = lockstep_hash(key, self.symbols.seed) & (root.size - 1)
        while root.edges[at].key != key and root.edges[at].key != EMPTY:
            at = (at + 1) & (root.size - 1)
        return root.edges + at

    cdef uint32_t longest(self, const uint8_t *data, Py_ssize_t size, uint64_t *steps) except 0xFFFFFFFF nogil:
        """Return the longest symbol that the data begins with; add the work to `steps`."""
        cdef Py_ssize_t at, length
        cdef uint32_t key, unit, node, best
        cdef const Root *root
        cdef const Edge *edge
        steps[0] += 1
        if size == 1:
            return data[0]
        key = key_of(data, size, &at)
        root = &self.roots[key]
        if not is_ready(&root.size):
            self._build(key, data, at)
        node = root.node
        best = root.best
        while at < size:
            unit = unit_at(data + at, size - at, &length)
            edge = self._edge(root, node & ~<uint32_t>PARTIAL, unit)
            if edge.key == EMPTY and unit & CHARACTER and node & PARTIAL:
                length = 1
                edge = self._edge(root, node & ~<uint32_t>PARTIAL, data[at])
            if edge.key == EMPTY:
                break
            if edge.best != NONE:
                best = edge.best
            node = edge.node
            at += length
            steps[0] += 1
        return best
