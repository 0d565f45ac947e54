"""Native twin of merge_python.

symbols_native has the vocabulary.  Pretokens of up to 31 bytes are merged step by step, many at once in lockstep; one that
is longer, or of ideographs, goes to long_native.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastbpe.core.atoms_native cimport Atoms
from fastbpe.core.key cimport key_prefetch
from fastbpe.core.long_native cimport LongMerger, Memo
from fastbpe.core.memory cimport resized
from fastbpe.core.symbols_native cimport NONE, Symbols, hash_of_padded

cdef extern from "lockstep.h" nogil:
    LockstepRun *lockstep_choose(const char *kind)
    int lockstep_lowest(uint64_t bits)


cdef class Merger:
    def __cinit__(self, vocab, merges, bint whole, *, str vectors=""):
        cdef bytes kind = vectors.encode()
        cdef Symbols symbols = Symbols(vocab, merges)
        cdef uint32_t symbol
        self.symbols = symbols
        self.whole = whole
        if whole:
            for symbol in range(256, symbols.n_symbols):
                self.must_look |= symbols.left[symbol] == NONE
        self.long_merger = LongMerger(symbols)
        self.atoms = Atoms()
        self.atoms.build(symbols.blob, symbols.offset, symbols.left, symbols.right, symbols.n_symbols)
        self.long_merger.atoms = self.atoms.table
        self.lockstep_pairs.pairs = symbols.pairs
        self.lockstep_pairs.mask = symbols.pair_mask
        self.lockstep_pairs.seed = symbols.seed
        self.lockstep_pairs.filter = symbols.filter
        self.lockstep_pairs.bytes = symbols.bytes
        self.lockstep_pairs.atoms = self.atoms.table
        self.lockstep_run = lockstep_choose(kind)

    def prepare(self):
        """Build what only long pretokens and those of ideographs need.  The first of them does it, if nobody did."""
        self.long_merger.prepare()

    cdef uint32_t greatest_id(self):
        cdef uint32_t symbol, greatest = 0
        for symbol in range(self.symbols.n_symbols):
            greatest = max(greatest, self.symbols.id(symbol))
        return greatest

    cdef uint32_t lookup(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        """Return the id of the token with these bytes, or NONE."""
        cdef uint32_t symbol = self.symbols.find(data, size)
        return NONE if symbol == NONE else self.symbols.id(symbol)

    cdef Py_ssize_t merge_into(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil:
        """Write the ids of one pretoken to `out`, which has room for `size`; return how many.

        The whole pretoken is not looked up here.  May be called with or without the GIL.
        """
        return self.long_merger.merge_into(data, size, out, memo)

    cdef void merge_all(self, Miss *misses, int count) noexcept nogil:
        """Find the ids of up to LOCKSTEP_WORDS pretokens of fewer than LOCKSTEP_LANES bytes, none of ideographs."""
        cdef LockstepWord words[LOCKSTEP_WORDS]
        cdef int word_of[LOCKSTEP_WORDS]
        cdef const uint8_t *keys[LOCKSTEP_WORDS]
        cdef int sizes[LOCKSTEP_WORDS]
        cdef int at, n_words = 0
        cdef uint32_t symbol, live
        cdef const uint8_t *data
        cdef Miss *miss
        # Each step sends for the memory of the next one.
        for at in range(count):
            miss = misses + at
            data = <const uint8_t *>miss.key
            miss.hashed = hash_of_padded(data, miss.size, self.symbols.seed, self.symbols.secret)
            key_prefetch(self.symbols.slots + (miss.hashed & self.symbols.slot_mask))
        for at in range(count):
            miss = misses + at
            miss.symbol = self.symbols.first_with(miss.hashed)
            if miss.symbol != NONE:
                key_prefetch(self.symbols.offset + miss.symbol)
        for at in range(count):
            miss = misses + at
            if miss.symbol != NONE:
                key_prefetch(self.symbols.blob + self.symbols.offset[miss.symbol])
        for at in range(count):
            miss = misses + at
            data = <const uint8_t *>miss.key
            word_of[at] = -1
            symbol = NONE
            if miss.symbol != NONE:
                symbol = self.symbols.check_found(data, miss.size, miss.hashed, miss.symbol)
            # A token that merging makes is what merging its bytes makes.
            if symbol != NONE and (self.whole or symbol < 256 or self.symbols.left[symbol] != NONE):
                miss.ids[0] = self.symbols.id(symbol)
                miss.count = 1
            else:
                word_of[at] = n_words
                keys[n_words] = data
                sizes[n_words] = <int>miss.size
                n_words += 1
        if n_words:
            self.lockstep_run(words, keys, sizes, n_words, &self.lockstep_pairs)
        for at in range(count):
            if word_of[at] >= 0:
                miss = misses + at
                live = words[word_of[at]].live
                miss.count = 0
                while live:
                    miss.ids[miss.count] = self.symbols.id(words[word_of[at]].symbols[lockstep_lowest(live)])
                    miss.count += 1
                    live &= live - 1

    def merge(self, bytes piece not None):
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(piece)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(piece), count, at
        cdef uint32_t number
        cdef uint32_t *out
        cdef Memo *memo = NULL
        if size == 0:
            return []
        if self.whole:
            number = self.lookup(data, size)
            if number != NONE:
                return [number]
        out = <uint32_t *>resized(NULL, size, sizeof(uint32_t))
        try:
            memo = <Memo *>resized(NULL, 1, sizeof(Memo))
            memset(memo, 0, sizeof(Memo))
            with nogil:
                count = self.merge_into(data, size, out, memo)
            return [out[at] for at in range(count)]
        finally:
            free(memo)
            free(out)
