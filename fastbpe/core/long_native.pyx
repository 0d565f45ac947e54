"""Long pretokens, and those of ideographs, for merge_native.

Ideographs are parted where no token crosses.  A few runs of one byte each are merged a run at a time, and what is short
is merged step by step, by characters where these are tokens from the beginning.  All others are encoded by backtracking
with pair validity, as in rust-gems' `bpe` (GitHub, 2024): a sequence of symbols is the result of merging exactly if each
two neighbours are the result of merging their bytes, and each text has one such sequence.  Take the longest symbol that
fits behind the one before; at a dead end step back.  No position is left twice, so the time is linear.  DESIGN.md has
the proofs.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from fastbpe.core.atoms_native cimport LockstepAtom, lockstep_not_before, lockstep_not_behind
from fastbpe.core.characters_native cimport (
    ABSENT, CODES, HARD, NARROW, SOLVE, TWO, Characters, Window, get_character, length_of, may_cross, put_character,
)
from fastbpe.core.key cimport KEY_LONGEST, KeySecret, key_hash_plain, key_make
from fastbpe.core.memory cimport is_ready, resized, set_ready, zeroed
from fastbpe.core.symbols_native cimport NONE, SHORT, LockstepBytes, Symbols
from fastbpe.core.trie_native cimport Trie

from os import urandom as _urandom

cdef enum:
    STEPS = 48         # bytes that are merged step by step always; roots of a trie for them would cost more
    FEW_RUNS = 8       # of one byte each in a pretoken that is merged by runs
    RUNS = 64          # that may come out of them
    ATOMS = 16         # characters that are merged one by one
    BLOCK = 512        # symbols that are looked at together when boundaries are indexed
    PATIENCE = 64      # steps of backtracking a byte; real vocabularies take under 10
    # Bytes that are merged step by step before there are tables for them: about what building these takes.
    WIDE_CREDIT = 1 << 17    # of ideographs
    THREE_CREDIT = 1 << 17   # beginning with another character of three bytes
    NARROW_CREDIT = 1 << 18  # all others: few of them are long, but thousands of symbols begin as they do

# No text can be prepared in which all segments meet in one line.
cdef KeySecret SECRET
SECRET.words = [int.from_bytes(_urandom(8), "little") | 1 for _ in range(4)]


cdef inline void append_run(
    uint32_t *symbols, Py_ssize_t *counts, Py_ssize_t *n_runs, uint32_t symbol, Py_ssize_t count
) noexcept nogil:
    if count and n_runs[0] and symbols[n_runs[0] - 1] == symbol:
        counts[n_runs[0] - 1] += count
    elif count:
        symbols[n_runs[0]] = symbol
        counts[n_runs[0]] = count
        n_runs[0] += 1


cdef class LongMerger:
    def __cinit__(self, Symbols symbols not None):
        self.symbols = symbols
        self.wide_credit = WIDE_CREDIT
        self.three_credit = THREE_CREDIT
        self.narrow_credit = NARROW_CREDIT

    cdef int prepare(self) except -1:
        """Build all that any text may need."""
        self._need_characters()
        self._need_trie()
        self.trie.build_all()
        self.wide_credit = self.three_credit = self.narrow_credit = 0
        return 0

    # A nogil function with an object of its own would take the GIL each time: these have none.

    cdef inline int _need_trie(self) except -1 nogil:
        return 0 if is_ready(&self.has_trie) else self._make_trie()

    cdef inline int _need_characters(self) except -1 nogil:
        return 0 if is_ready(&self.has_characters) else self._make_characters()

    cdef int _make_trie(self) except -1 with gil:  # one thread at a time
        if self.trie is None:
            self.trie = Trie(self.symbols)
            set_ready(&self.has_trie, 1)
        return 0

    cdef int _make_characters(self) except -1 with gil:
        cdef Characters characters = Characters()
        if self.characters is None:
            self._index_characters(characters)
            self.characters = characters
            set_ready(&self.has_characters, 1)
        return 0

    cdef int _index_characters(self, Characters characters) except -1:
        """Find the boundaries between characters that some reachable token crosses, and what one or two become."""
        cdef uint32_t found[BLOCK]
        cdef uint32_t symbol, first, n_found, number
        cdef uint8_t data[8]
        cdef uint32_t out[8]
        cdef uint32_t apart[8]
        cdef Py_ssize_t size, count, cut, at, place = 0
        cdef const uint32_t *offset = self.symbols.offset
        for first in range(256, self.symbols.n_symbols, BLOCK):
            n_found = 0
            for symbol in range(first, min(first + BLOCK, self.symbols.n_symbols)):
                found[n_found] = symbol
                size = offset[symbol + 1] - offset[symbol]
                n_found += may_cross(self.symbols.blob + offset[symbol], size) & (self.symbols.left[symbol] != NONE)
            for number in range(n_found):
                symbol = found[number]
                size = offset[symbol + 1] - offset[symbol]
                characters.note(self.symbols.blob + offset[symbol], size, self.symbols.id(symbol))
        while True:
            place = characters.next_met(place, data, &cut)
            if place < 0:
                return 0
            size = cut + length_of(data[cut])
            count = self._ids_of(data, size, out)
            at = self._ids_of(data, cut, apart)
            at += self._ids_of(data + cut, size - cut, apart + at)
            if count == at and memcmp(out, apart, count * sizeof(uint32_t)) == 0:
                characters.set_met_two(place)
            place += 1

    cdef Py_ssize_t merge_into(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil:
        """Write the ids of one pretoken to `out`, which has room for `size`; return how many.

        The whole pretoken is not looked up here.  May be called with or without the GIL.
        """
        cdef Py_ssize_t count = 0, used, position = 0
        cdef Window window
        if is_wide(data, size):
            if size <= self.wide_credit:
                self.wide_credit -= size
                return self._step_by_step(data, size, out)
            self._need_characters()
            while position < size:
                used = self.characters.read(data + position, size - position, &window)
                if used < 0:
                    return self._solve(data, size, out, memo)
                if used == 0:
                    return count + self._solve(data + position, size - position, out + count, memo)
                count += self._take_segments(data + position, &window, out + count, memo)
                position += used
            return count
        return self._solve(data, size, out, memo)

    cdef Py_ssize_t _take_segments(
        self, const uint8_t *data, const Window *window, uint32_t *out, Memo *memo
    ) except -1 nogil:
        """Write the ids of the segments of some characters; return how many."""
        cdef uint32_t first = 0, last, value, number
        cdef Py_ssize_t count = 0, start, used
        while first < window.count:
            # One character or two, which become one id; how many cannot be foreseen.
            value = window.crossing[first]
            last = first + (value != HARD)
            number = window.alone[first] if value == HARD else value
            if number < ABSENT and window.crossing[last] == HARD:
                out[count] = number
                count += 1
                first = last + 1
                continue
            last = first
            while window.crossing[last] != HARD:
                last += 1
            if first == last and window.codes[first] < CODES:
                count += self._alone(window.codes[first], out + count)
            elif first + 1 == last and value == TWO:
                count += self._alone(window.codes[first], out + count)
                count += self._alone(window.codes[last], out + count)
            else:
                used = self._merge_atoms(data, window, first, last, out + count)
                if used == 0:
                    start = window.ends[first - 1] if first else 0
                    used = self._segment(data + start, window.ends[last] - start, out + count, memo)
                count += used
            first = last + 1
        return count

    cdef inline Py_ssize_t _alone(self, uint32_t code, uint32_t *out) noexcept nogil:
        """Write the ids of one character up to U+FFFF; return how many."""
        cdef uint64_t known = self.characters.table[code].alone
        cdef uint8_t data[3]
        cdef Py_ssize_t count
        if known == 0:
            count = self._ids_of(data, put_character(code, data), out)
            self.characters.set_alone(code, out, count)
            return count
        out[0] = <uint32_t>known & ABSENT
        if known >> NARROW == (<uint64_t>1 << 2 * NARROW) - 1:
            return 1
        out[1] = <uint32_t>(known >> NARROW) & ABSENT
        if known >> 2 * NARROW == ABSENT:
            return 2
        out[2] = <uint32_t>(known >> 2 * NARROW)
        return 3

    cdef Py_ssize_t _merge_atoms(
        self, const uint8_t *data, const Window *window, uint32_t first, uint32_t last, uint32_t *out
    ) noexcept nogil:
        """Write the ids of a segment of a few characters that are all their tokens from the beginning (atoms_native):
        only what they become with each other is to be found.  Return how many, 0 if some are not.
        """
        cdef uint32_t symbols[ATOMS]
        cdef uint32_t products[ATOMS]
        cdef uint32_t at, count = last - first + 1
        cdef uint8_t before, after
        cdef const LockstepAtom *atom
        if count > ATOMS:
            return 0
        for at in range(count):
            if window.codes[first + at] >= CODES:
                return 0
            atom = self.atoms + window.codes[first + at]
            symbols[at] = window.codes[first + at] if window.codes[first + at] < 0x80 else atom.symbol
            if symbols[at] == 0:
                return 0
            if at:
                before, after = data[window.ends[first + at - 1] - 1], data[window.ends[first + at - 1]]
                if lockstep_not_behind(atom, before):
                    return 0
                atom -= <Py_ssize_t>window.codes[first + at] - window.codes[first + at - 1]
                if lockstep_not_before(atom, after):
                    return 0
                products[at - 1] = NONE
                if window.crossing[first + at - 1] != TWO:  # that says they do not join
                    products[at - 1] = self.symbols.join(symbols[at - 1], symbols[at])
        count = <uint32_t>self.symbols.merge_products(symbols, products, count)
        for at in range(count):
            out[at] = self.symbols.id(symbols[at])
        return count

    cdef Py_ssize_t _segment(
        self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo
    ) except -1 nogil:
        """Write the ids of a segment of a few characters, of which there are few; return how many."""
        cdef uint8_t copy[KEY_LONGEST + 1]
        cdef uint64_t key[4]
        cdef Segment *kept
        cdef Py_ssize_t count
        if size > KEY_LONGEST:
            return self._solve(data, size, out, memo)
        memcpy(copy, data, size)
        key_make(copy, size, key)
        kept = &memo.segments[key_hash_plain(key, &SECRET) >> 19]
        if memcmp(kept.key, key, sizeof(key)) == 0:
            memcpy(out, kept.ids, kept.count * sizeof(uint32_t))
            return kept.count
        count = self._solve(data, size, out, memo)
        if count <= 7:
            memcpy(kept.key, key, sizeof(key))
            kept.count = <uint32_t>count
            memcpy(kept.ids, out, count * sizeof(uint32_t))
        return count

    cdef Py_ssize_t _solve(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil:
        """Write the ids of bytes of any length and kind; return how many."""
        cdef Py_ssize_t count, at
        cdef Py_ssize_t *credit = &self.three_credit if 0xE0 <= data[size > 1] < 0xF0 else &self.narrow_credit
        if size <= STEPS:
            return self._ids_of(data, size, out)
        count = 0 if data[size >> 1] >= 0x80 else self._merge_runs(data, size, out)  # no character repeats a byte
        if count == 0 and size <= credit[0]:
            credit[0] -= size
            return self._step_by_step(data, size, out)
        if count == 0:
            count = self._backtrack(data, size, out, memo)
        for at in range(count):
            out[at] = self.symbols.id(out[at])
        return count

    cdef Py_ssize_t _step_by_step(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) except -1 nogil:
        """Write the ids of bytes of any length without tables; return how many."""
        cdef Py_ssize_t count = self._lay_out(data, size, out), at
        count = self._merge_symbols(out, count) if count <= SHORT else self.symbols.merge_queue(out, <uint32_t>count, NULL)
        for at in range(count):
            out[at] = self.symbols.id(out[at])
        return count

    cdef Py_ssize_t _ids_of(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil:
        """Write the ids of a few bytes; return how many."""
        cdef Py_ssize_t count = self._merge_symbols(out, self._lay_out(data, size, out)), at
        for at in range(count):
            out[at] = self.symbols.id(out[at])
        return count

    cdef Py_ssize_t _merge_symbols(self, uint32_t *out, Py_ssize_t count) noexcept nogil:
        """Merge up to SHORT symbols in place; return how many are left."""
        cdef uint32_t products[SHORT]
        cdef Py_ssize_t at
        for at in range(count - 1):
            products[at] = self.symbols.product(out[at], out[at + 1])
        return self.symbols.merge_products(out, products, count)

    cdef Py_ssize_t _lay_out(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil:
        """Write the symbols that merging may begin with: characters that are atoms, joins of two bytes that are sure (as
        in lockstep.h), and bytes; return how many.
        """
        cdef const LockstepBytes *bytes = self.symbols.bytes
        cdef uint32_t code = 0, product
        cdef Py_ssize_t at = 0, count = 0, length
        cdef const LockstepAtom *atom
        while at < size:
            length = get_character(data + at, size - at, &code)
            if length == 0:  # no UTF-8, which atoms rest on
                for at in range(size):
                    out[at] = data[at]
                return size
            atom = self.atoms + code
            if (
                1 < length < 4 and atom.symbol
                and not (at and lockstep_not_behind(atom, data[at - 1]))
                and not (at + length < size and lockstep_not_before(atom, data[at + length]))
            ):
                out[count] = atom.symbol
                count += 1
                at += length
                continue
            if length == 1 and at + 1 < size and data[at + 1] < 0x80:
                product = bytes[code << 8 | data[at + 1]].product
                if (
                    (at == 0 or product < bytes[<uint32_t>data[at - 1] << 8 | code].first)
                    and (at + 2 == size or product < bytes[<uint32_t>data[at + 1] << 8 | data[at + 2]].first)
                    and product != NONE
                ):
                    out[count] = product
                    count += 1
                    at += 2
                    continue
            for at in range(at, at + length):
                out[count] = data[at]
                count += 1
            at += 1
        return count

    # ------------------------------------------------------------ runs of one byte

    cdef Py_ssize_t _merge_runs(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil:
        """Merge bytes that are a few runs of one byte each: rulers, indentation.  Return 0 where there are more.

        All pairs of a run are joined at once.  That is what the definition does, one by one from the left: no pair
        that comes into being meanwhile is of a lower number, for a product has a higher one than its parts.
        """
        cdef uint32_t symbols[RUNS + 2]
        cdef uint32_t before[RUNS + 2]
        cdef Py_ssize_t counts[RUNS + 2]
        cdef Py_ssize_t lengths[RUNS + 2]
        cdef Py_ssize_t at = 0, n_runs = 0, n_before, end
        cdef uint32_t best, product
        cdef int place, inside
        if self.symbols.flagged:
            return 0
        while at < size:
            end = at + 1
            while end < size and data[end] == data[at]:
                end += 1
            if n_runs == FEW_RUNS:
                return 0
            symbols[n_runs] = data[at]
            counts[n_runs] = end - at
            n_runs += 1
            at = end
        while True:
            best = NONE
            place = inside = 0
            for at in range(n_runs):
                if counts[at] > 1:
                    product = self.symbols.join(symbols[at], symbols[at])
                    if product < best:
                        best, place, inside = product, <int>at, 1
                if at + 1 < n_runs:
                    product = self.symbols.join(symbols[at], symbols[at + 1])
                    if product < best:
                        best, place, inside = product, <int>at, 0
            if best == NONE:
                break
            if n_runs >= RUNS:
                return 0
            n_before = n_runs
            memcpy(before, symbols, sizeof(before))
            memcpy(lengths, counts, sizeof(lengths))
            n_runs = 0
            for at in range(n_before):
                if at != place:
                    append_run(symbols, counts, &n_runs, before[at], lengths[at])
                elif inside:
                    append_run(symbols, counts, &n_runs, best, lengths[at] // 2)
                    append_run(symbols, counts, &n_runs, before[at], lengths[at] % 2)
                else:
                    append_run(symbols, counts, &n_runs, before[at], lengths[at] - 1)
                    append_run(symbols, counts, &n_runs, best, 1)
                    lengths[at + 1] -= 1
        end = 0
        for at in range(n_runs):
            for size in range(counts[at]):
                out[end] = symbols[at]
                end += 1
        return end

    # ------------------------------------------------------------ backtracking

    cdef int _valid(self, uint32_t left, uint32_t right, const uint8_t *data, uint64_t *steps) except -1 nogil:
        """Return whether merging the bytes of two symbols, which `data` begins with, gives these two.

        It does unless a merge crosses the boundary.  Undo the merges on both sides, the later one first: the pair that
        then meets at the boundary was there until the merge that was undone, `limit`, and would have joined before it
        if its number is lower.  Of equals the leftmost joins first.
        """
        cdef uint32_t limit = NONE, crossing
        cdef const uint8_t *flagged = self.symbols.flagged
        if flagged and (flagged[left] or flagged[right]):
            return self._valid_flagged(left, right, data)
        while True:
            steps[0] += 1
            crossing = self.symbols.join(left, right)
            if crossing < limit:
                return 0
            if left > right:
                if left < 256:
                    return 1
                limit = left
                left = self.symbols.right[left]
            else:
                if right < 256:
                    return 1
                limit = right + 1
                right = self.symbols.left[right]

    cdef inline int _verdict(
        self, uint32_t left, uint32_t right, const uint8_t *data, uint64_t *steps, Memo *memo
    ) except -1 nogil:
        """The same, remembered: in many scripts the same symbols meet again and again.

        The product of 42 bits and an odd number has all there is to know of them: 16 bits are the place, 26 stand there.
        """
        cdef uint64_t product = (<uint64_t>left << 21 | right) * 0x9E3779B97F4A7C15ULL & (((<uint64_t>1) << 42) - 1)
        cdef uint32_t *known = &memo.verdicts[product >> 26]
        cdef uint32_t verdict = <uint32_t>(product & ((1 << 26) - 1)) << 2 | 2
        if known[0] & ~<uint32_t>1 != verdict:
            known[0] = verdict | <uint32_t>self._valid(left, right, data, steps)
        return known[0] & 1

    cdef int _valid_flagged(self, uint32_t left, uint32_t right, const uint8_t *data) except -1 nogil:
        """The same by merging, for symbols whose merges are not undone in the order of their numbers."""
        cdef const uint32_t *offset = self.symbols.offset
        cdef uint32_t size = offset[left + 1] - offset[left] + offset[right + 1] - offset[right]
        cdef uint32_t *out
        cdef Py_ssize_t count
        out = <uint32_t *>resized(NULL, size, sizeof(uint32_t))
        try:
            count = self.symbols.merge_queue(out, <uint32_t>self._lay_out(data, size, out), NULL)
            return count == 2 and out[0] == left and out[1] == right
        finally:
            free(out)

    cdef Py_ssize_t _backtrack(
        self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo
    ) except -1 nogil:
        cdef uint8_t small[64]
        cdef uint8_t *dead = small  # a bit for each position from which no way leads on
        cdef const uint32_t *offset = self.symbols.offset
        cdef Py_ssize_t count = 0, position = 0, end
        cdef uint32_t symbol
        cdef uint64_t steps = 0, look = 1 << 20
        self._need_trie()
        if size < 512:
            memset(small, 0, sizeof(small))
        else:
            dead = <uint8_t *>zeroed(size // 8 + 1, 1)
        try:
            symbol = self.trie.longest(data, size, &steps)
            while True:
                steps += 1
                if steps >= look:
                    look = steps + (1 << 20)
                    with gil:
                        PyErr_CheckSignals()
                if steps > PATIENCE * <uint64_t>size + 4096 and size < <Py_ssize_t>NONE:
                    # Thousands of tokens that are prefixes of each other: a vocabulary made to hurt.
                    return self.symbols.merge_queue(out, <uint32_t>self._lay_out(data, size, out), NULL)
                if symbol != NONE:
                    end = position + offset[symbol + 1] - offset[symbol]
                    if dead[end >> 3] >> (end & 7) & 1 or (
                        count and not self._verdict(
                            out[count - 1], symbol,
                            data + position - (offset[out[count - 1] + 1] - offset[out[count - 1]]),
                            &steps, memo,
                        )
                    ):
                        symbol = self.trie.prefix[symbol]
                        continue
                    out[count] = symbol
                    count += 1
                    position = end
                    if position == size:
                        return count
                    symbol = self.trie.longest(data + position, size - position, &steps)
                elif count == 0:
                    with gil:
                        raise SystemError("no symbols make this pretoken: the tables are damaged")
                else:
                    dead[position >> 3] |= <uint8_t>(1 << (position & 7))
                    count -= 1
                    symbol = out[count]
                    position -= offset[symbol + 1] - offset[symbol]
                    symbol = self.trie.prefix[symbol]
        finally:
            if dead != small:
                free(dead)
