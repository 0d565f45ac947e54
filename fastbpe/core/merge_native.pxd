cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastbpe.core.atoms_native cimport Atoms, LockstepAtom
from fastbpe.core.characters_native cimport Characters, Window
from fastbpe.core.heap cimport Heap
from fastbpe.core.key cimport KeyLine
from fastbpe.core.trie_native cimport Trie

cdef extern from "<stdint.h>" nogil:
    const uint32_t NONE "UINT32_MAX"   # no symbol
    const uint64_t EMPTY "UINT64_MAX"  # no pair


cdef extern from "lockstep.h" nogil:
    enum:
        LOCKSTEP_WORDS
        LOCKSTEP_LANES

    ctypedef struct LockstepWord:
        uint32_t symbols[32]
        uint32_t live

    ctypedef struct LockstepPairs:
        const uint64_t *pairs
        uint64_t mask
        uint64_t seed
        const uint64_t *filter
        const uint32_t *byte_pair
        const LockstepAtom *atoms

    ctypedef void LockstepRun(
        LockstepWord *words, const uint8_t **keys, const int *sizes, int count, const LockstepPairs *pairs
    ) noexcept nogil


cdef struct Miss:
    # A pretoken whose ids are not known yet.
    uint64_t key[4]            # begins with its bytes
    Py_ssize_t size
    uint32_t line
    uint64_t hashed
    uint32_t symbol            # that it may be, or NONE
    int count
    uint32_t ids[LOCKSTEP_LANES]


cdef struct Memo:
    # What one user of a Merger remembers of long pretokens.  All zero: nothing.
    uint32_t verdicts[1 << 16]  # of two symbols: what tells them << 2 | 2 | whether they may stand side by side
    KeyLine segments[1 << 13]   # stretches between boundaries that no token crosses; the second word is 0 in an empty one


@cython.final
cdef class Merger:
    # Symbols are numbered by priority: 0 to 255 are the bytes, then the tokens in the order in which merges make them,
    # then those that no merge makes.
    cdef uint32_t n_symbols
    cdef uint8_t *blob
    cdef uint32_t *offset      # n_symbols + 1
    cdef uint32_t *id_of
    cdef uint32_t *left        # of the realized pair; NONE for bytes and unreachable symbols
    cdef uint32_t *right
    cdef uint8_t *flagged      # a symbol whose parts are not made in the order of priority; NULL if there is none
    cdef uint64_t *slots       # upper half of the hash << 32 | symbol + 1; 0: empty
    cdef uint64_t slot_mask
    cdef uint64_t *pairs       # left << 42 | right << 21 | product; all ones: empty
    cdef uint64_t pair_mask
    cdef uint64_t *filter      # a bit for the upper half of the hash of each pair
    cdef uint32_t *byte_pair   # product of two bytes, or NONE
    cdef uint64_t *listed      # only while a merge list is read: left << 32 | right; all ones: empty
    cdef uint32_t *listed_rank
    cdef uint64_t listed_mask
    cdef uint32_t *listed_product
    cdef int prepared          # whether what follows is there
    cdef Characters characters
    cdef Trie trie
    cdef uint32_t *prefix      # longest proper prefix that is a reachable symbol, or NONE
    cdef Py_ssize_t credit     # bytes that may do without
    cdef Atoms atoms
    cdef bint whole
    cdef bint must_look        # some token is emitted only if it is a whole pretoken
    cdef LockstepPairs lockstep_pairs
    cdef LockstepRun *lockstep_run

    cdef _load(self, vocab, merges)
    cdef int _load_packed(self, vocab) except -1
    cdef int _make_room(self, Py_ssize_t n_symbols, Py_ssize_t total) except -1
    cdef void _put(self, const uint8_t *data, uint32_t size, uint32_t number) noexcept
    cdef void _index(self) noexcept
    cdef int _find_parts(self) except -1
    cdef int _store(self, tokens, ids) except -1
    cdef _realize(self, merges)
    cdef int _list(self, merges) except -1
    cdef int _order_by_rank(self, list ranks) except -1
    cdef int _index_pairs(self) except -1
    cdef int _flag(self) except -1
    cdef int _need_prepared(self) except -1 nogil
    cdef int _index_characters(self, Characters characters) except -1
    cdef Py_ssize_t _ids_of(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil
    cdef Py_ssize_t _take_segments(
        self, const uint8_t *data, const Window *window, uint32_t *out, Memo *memo
    ) except -1 nogil
    cdef Py_ssize_t _segment(
        self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo
    ) except -1 nogil
    cdef Py_ssize_t _solve(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil
    cdef uint32_t find(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef uint32_t join(self, uint32_t left, uint32_t right) noexcept nogil
    cdef uint32_t _rank(
        self, uint32_t left, uint32_t right, const uint8_t *data, Py_ssize_t size, bint loading
    ) noexcept nogil
    cdef Py_ssize_t _merge_short(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil
    cdef Py_ssize_t _merge_runs(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil
    cdef Py_ssize_t _merge_queue(
        self, const uint8_t *data, uint32_t size, uint32_t *out, bint loading
    ) except -1 nogil
    cdef Py_ssize_t _merge_linked(
        self, const uint8_t *data, uint32_t size, uint32_t *out, Heap *heap, uint32_t *links, bint loading
    ) except -1 nogil
    cdef Py_ssize_t _backtrack(
        self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo
    ) except -1 nogil
    cdef int _valid(self, uint32_t left, uint32_t right, const uint8_t *data, uint64_t *steps) except -1 nogil
    cdef int _verdict(
        self, uint32_t left, uint32_t right, const uint8_t *data, uint64_t *steps, Memo *memo
    ) except -1 nogil
    cdef int _valid_flagged(self, uint32_t left, uint32_t right, const uint8_t *data) except -1 nogil

    cdef uint32_t _first_with(self, uint64_t hashed) noexcept nogil
    cdef uint32_t _find_hashed(self, const uint8_t *data, Py_ssize_t size, uint64_t hashed) noexcept nogil
    cdef bint _is_wide(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef bint _is_short(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef int merge_all(self, Miss *misses, int count, Memo *memo) except -1 nogil
    cdef uint32_t greatest_id(self)
    cdef uint32_t lookup(self, const uint8_t *data, Py_ssize_t size) noexcept nogil
    cdef Py_ssize_t merge_into(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil
