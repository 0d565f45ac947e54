cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastbpe.core.atoms_native cimport LockstepAtom
from fastbpe.core.characters_native cimport Characters, Window
from fastbpe.core.symbols_native cimport Symbols
from fastbpe.core.trie_native cimport Trie


cdef struct Segment:
    uint64_t key[4]   # 0: none
    uint32_t count
    uint32_t ids[7]


cdef struct Memo:
    # What one user of a Merger remembers of long pretokens.  All zero: nothing.
    uint32_t verdicts[1 << 16]  # of two symbols: what tells them << 2 | 2 | whether they may stand side by side
    Segment segments[1 << 13]   # between boundaries that no token crosses


cdef inline bint is_wide(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Return whether the first character, behind an ASCII one, is an ideograph, kana, Hangul or near them."""
    cdef uint32_t at = 1 if data[0] < 0x80 and size > 1 else 0
    return data[at] == 0xE2 and size > at + 1 and data[at + 1] >= 0xBA or 0xE3 <= data[at] < 0xF0


@cython.final
cdef class LongMerger:
    cdef Symbols symbols
    cdef Py_ssize_t wide_credit, three_credit, narrow_credit
    cdef const LockstepAtom *atoms   # by code point up to U+FFFF
    cdef Characters characters
    cdef Trie trie
    cdef uint32_t has_characters, has_trie

    cdef int prepare(self) except -1
    cdef int _need_trie(self) except -1 nogil
    cdef int _need_characters(self) except -1 nogil
    cdef int _make_trie(self) except -1 with gil
    cdef int _make_characters(self) except -1 with gil
    cdef int _index_characters(self, Characters characters) except -1
    cdef Py_ssize_t merge_into(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil
    cdef Py_ssize_t _take_segments(
        self, const uint8_t *data, const Window *window, uint32_t *out, Memo *memo
    ) except -1 nogil
    cdef Py_ssize_t _alone(self, uint32_t code, uint32_t *out) noexcept nogil
    cdef Py_ssize_t _merge_atoms(
        self, const uint8_t *data, const Window *window, uint32_t first, uint32_t last, uint32_t *out
    ) noexcept nogil
    cdef Py_ssize_t _segment(
        self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo
    ) except -1 nogil
    cdef Py_ssize_t _solve(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil
    cdef Py_ssize_t _step_by_step(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) except -1 nogil
    cdef Py_ssize_t _lay_out(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil
    cdef Py_ssize_t _merge_symbols(self, uint32_t *out, Py_ssize_t count) noexcept nogil
    cdef Py_ssize_t _ids_of(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil
    cdef Py_ssize_t _merge_runs(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil
    cdef int _valid(self, uint32_t left, uint32_t right, const uint8_t *data, uint64_t *steps) except -1 nogil
    cdef int _verdict(
        self, uint32_t left, uint32_t right, const uint8_t *data, uint64_t *steps, Memo *memo
    ) except -1 nogil
    cdef int _valid_flagged(self, uint32_t left, uint32_t right, const uint8_t *data) except -1 nogil
    cdef Py_ssize_t _backtrack(
        self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo
    ) except -1 nogil
