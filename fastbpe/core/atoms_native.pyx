"""Characters that merge to their token whatever stands around them, for merge_native.

Merging begins with bytes, and in most scripts the first half of the merges does no more than make characters of them.
A character may stand there as its token from the beginning, an *atom*, if no merge can take one of its bytes away
before its own merges are done.  Those are known: let (l, r) be the pair that makes it, of rank k.  Only a pair (z, l)
or (r, z) of a rank below k can come first, where z ends with the byte before the character or begins with the one
behind it; the same holds for the pairs that make l and r.  So a look at two bytes decides.

And no merge that the token takes part in may have a rank below its own: there it would be too early.

Proof: take the first merge that joins a part y of the character with something that is not its sibling in the tree of
the character's merges, say from the left, of rank q; let p be the rank of the pair of y and its sibling.  By the
condition p < q.  If the sibling is whole, the pair is there and would have been joined before; if not, a merge inside
it is possible, of a rank below p, and would have been done before.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastbpe.core.characters_native cimport get_character
from fastbpe.core.memory cimport resized, zeroed

cdef extern from "<stdint.h>" nogil:
    const uint32_t NONE "UINT32_MAX"


cdef inline bint has(const Bytes *some, uint8_t byte) noexcept nogil:
    return some.bits[byte >> 6] >> (byte & 63) & 1


cdef inline void add(Bytes *some, uint8_t byte) noexcept nogil:
    some.bits[byte >> 6] |= <uint64_t>1 << (byte & 63)


cdef inline Bytes both(const Bytes *some, const Bytes *others) noexcept nogil:
    cdef Bytes joined
    cdef int at
    for at in range(4):
        joined.bits[at] = some.bits[at] | others.bits[at]
    return joined


cdef inline bint is_part(const uint8_t *data, uint32_t size) noexcept nogil:
    return size <= 3 and data[0] >= 0x80 and data[size - 1] >= 0x80 and data[size >> 1] >= 0x80


cdef class Atoms:
    def __cinit__(self):
        self.table = <LockstepAtom *>zeroed(1 << 16, sizeof(LockstepAtom))

    def __dealloc__(self):
        free(self.table)

    cdef int build(
        self, const uint8_t *blob, const uint32_t *offset, const uint32_t *left, const uint32_t *right,
        uint32_t n_symbols
    ) except -1:
        """Find the atoms of a vocabulary whose symbols are numbered by rank."""
        cdef uint32_t symbol, code = 0, n_parts = 0, size
        cdef uint8_t first, last
        cdef Part *part
        cdef LockstepAtom *atom
        self.part_of = <uint32_t *>resized(NULL, n_symbols, sizeof(uint32_t))
        memset(self.part_of, 0xFF, n_symbols * sizeof(uint32_t))
        try:
            for symbol in range(128, n_symbols):
                if is_part(blob + offset[symbol], offset[symbol + 1] - offset[symbol]):
                    self.part_of[symbol] = n_parts
                    n_parts += 1
            self.parts = <Part *>zeroed(n_parts, sizeof(Part))
            for symbol in range(128, 256):
                self.parts[self.part_of[symbol]].settled = True
            for symbol in range(256, n_symbols):
                if left[symbol] == NONE:
                    continue
                size = offset[left[symbol] + 1] - offset[left[symbol]]
                last = blob[offset[symbol] + size - 1]
                first = blob[offset[symbol] + size]
                size = offset[symbol + 1] - offset[symbol]
                if self.part_of[symbol] != NONE:
                    self._settle(symbol, left[symbol], right[symbol], last, first)
                    part = self.parts + self.part_of[symbol]
                    if part.settled and <uint32_t>get_character(blob + offset[symbol], size, &code) == size:
                        atom = self.table + code
                        atom.symbol = symbol
                        atom.before = part.before.bits[2]  # 80 to BF: behind another character
                        atom.after = part.after.bits[3]    # C0 to FF: another one begins
                        atom.ascii = ((part.before.bits[0] | part.before.bits[1]) != 0) | (
                            <uint32_t>((part.after.bits[0] | part.after.bits[1]) != 0) << 1
                        )
                if self.part_of[left[symbol]] != NONE:
                    part = self.parts + self.part_of[left[symbol]]
                    add(&part.joins_after, first)
                    part.early |= left[symbol] > symbol
                if self.part_of[right[symbol]] != NONE:
                    part = self.parts + self.part_of[right[symbol]]
                    add(&part.joins_before, last)
                    part.early |= right[symbol] > symbol
        finally:
            free(self.part_of)
            free(self.parts)
            self.part_of = NULL
            self.parts = NULL
        return 0

    cdef void _settle(
        self, uint32_t symbol, uint32_t left, uint32_t right, uint8_t last, uint8_t first
    ) noexcept:
        """Find what may take the ends of a part away; `last` and `first` are the bytes where its two parts meet."""
        cdef Part *part = self.parts + self.part_of[symbol]
        cdef const Part *one = self.parts + self.part_of[left]
        cdef const Part *other = self.parts + self.part_of[right]
        part.settled = (
            not part.early and left < symbol and right < symbol and left != right and one.settled and other.settled
            and not has(&one.after, first) and not has(&other.before, last)
        )
        part.before = both(&one.before, &one.joins_before)
        part.after = both(&other.after, &other.joins_after)
