"""Boundaries between characters that no token crosses, for long_native.

In Chinese, Japanese and Korean most neighbouring characters stand together in no token.  No merge ever crosses such a
boundary, so a pretoken is the concatenation of the segments between them, most of which are one or two characters whose
ids are read from tables.

A reachable token lies across a boundary in one of two ways.  Both characters are whole in it: the pair is in `met`.  Or
it begins or ends inside a character: the bytes it has on both sides are in `touching`.  Boundaries between two
characters below WIDE, and those next to a character of four bytes, count as crossed without a look.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free

from fastbpe.core.key cimport key_prefetch
from fastbpe.core.memory cimport zeroed

cdef enum:
    WIDE = 0x2E80  # ideographs, kana, Hangul and what is near

cdef inline uint64_t spread(uint64_t key) noexcept nogil:
    key *= 0x9E3779B97F4A7C15ULL
    return key ^ key >> 32


cdef inline uint32_t meeting_place(uint32_t code) noexcept nogil:
    return (code ^ code >> 6) & 63


cdef Py_ssize_t put_character(uint32_t code, uint8_t *data) noexcept nogil:
    """Write the UTF-8 of a code point up to U+FFFF; return its length."""
    if code < 0x80:
        data[0] = <uint8_t>code
        return 1
    if code < 0x800:
        data[0] = <uint8_t>(0xC0 | code >> 6)
        data[1] = <uint8_t>(0x80 | (code & 63))
        return 2
    data[0] = <uint8_t>(0xE0 | code >> 12)
    data[1] = <uint8_t>(0x80 | (code >> 6 & 63))
    data[2] = <uint8_t>(0x80 | (code & 63))
    return 3


cdef inline uint32_t both_bytes(const uint8_t *boundary) noexcept nogil:
    return <uint32_t>boundary[0] << 6 | ((boundary - 1)[0] & 63)


cdef inline uint64_t touching_key(const uint8_t *boundary, Py_ssize_t before, Py_ssize_t after) noexcept nogil:
    """Pack 1 to 3 bytes before and behind a boundary."""
    cdef uint64_t key = before << 2 | after
    cdef Py_ssize_t at
    for at in range(-before, after):
        key = key << 8 | (boundary + at)[0]
    return key


cdef int add(Entries *entries, uint64_t entry, int shift) except -1:
    """Add an entry; of two with the same key, which stands above `shift` bits, the lower one stays."""
    cdef uint64_t *old = entries.slots
    cdef uint64_t at, place, mask = 2 * entries.mask + 1
    if 2 * entries.count > entries.mask:
        entries.slots = <uint64_t *>zeroed(mask + 1, sizeof(uint64_t))
        for at in range(entries.mask + 1):
            if old[at]:
                place = spread(old[at] >> shift) & mask
                while entries.slots[place]:
                    place = (place + 1) & mask
                entries.slots[place] = old[at]
        free(old)
        entries.mask = mask
    place = spread(entry >> shift) & entries.mask
    while entries.slots[place]:
        if entries.slots[place] >> shift == entry >> shift:
            entries.slots[place] = min(entries.slots[place], entry)
            return 0
        place = (place + 1) & entries.mask
    entries.slots[place] = entry
    entries.count += 1
    return 0


cdef class Characters:
    def __cinit__(self):
        self.table = <Character *>zeroed(CODES + 1, sizeof(Character))
        self.lengths = <uint16_t *>zeroed(1 << 14, sizeof(uint16_t))
        self.met.mask = self.touching.mask = 1023
        self.met.slots = <uint64_t *>zeroed(1024, sizeof(uint64_t))
        self.touching.slots = <uint64_t *>zeroed(1024, sizeof(uint64_t))

    def __dealloc__(self):
        free(self.table)
        free(self.lengths)
        free(self.met.slots)
        free(self.touching.slots)

    cdef int note(self, const uint8_t *data, Py_ssize_t size, uint32_t number) except -1:
        """Note the boundaries that a token lies across.  What cannot be part of UTF-8 text lies across none."""
        cdef Py_ssize_t start = 0, at = 0, length
        cdef uint32_t left = CODES, right = CODES
        cdef bint whole, next_whole
        while at < size and data[at] & 0xC0 == 0x80:
            at += 1
        whole = at == 0
        if whole:
            at = get_character(data, size, &left)
            if at == 0:  # it ends inside its first character
                return 0
        while at < size:
            length = length_of(data[at])
            next_whole = at + length <= size
            if next_whole:
                if get_character(data + at, size - at, &right) == 0:
                    return 0
            else:
                right = CODES
            if length < 4 and at - start < 4:
                if whole and next_whole:
                    if left >= WIDE or right >= WIDE:
                        add(&self.met, (<uint64_t>left << 16 | right) << 32 | (
                            number if start == 0 and at + length == size and number < ABSENT else SOLVE
                        ), 32)
                        self.table[left].meets |= <uint64_t>1 << meeting_place(right)
                else:
                    self.near[data[at]] |= <uint64_t>1 << (data[at - 1] & 63)
                    self.lengths[both_bytes(data + at)] |= <uint16_t>(1 << (3 * (at - start) + min(length, size - at)))
                    add(&self.touching, touching_key(data + at, at - start, min(length, size - at)), 0)
            start = at
            at += length
            left = right
            whole = True
        return 0

    # ------------------------------------------------------------ what they become: set after all tokens are noted

    cdef Py_ssize_t next_met(self, Py_ssize_t at, uint8_t *data, Py_ssize_t *cut) noexcept:
        """Give the next pair from a place on that is no token: its place, or -1; its bytes, and where they part."""
        while <uint64_t>at <= self.met.mask:
            if <uint32_t>self.met.slots[at] == SOLVE:
                cut[0] = put_character(<uint32_t>(self.met.slots[at] >> 48), data)
                put_character(<uint32_t>(self.met.slots[at] >> 32) & 0xFFFF, data + cut[0])
                return at
            at += 1
        return -1

    cdef void set_met_two(self, Py_ssize_t at) noexcept:
        """Say that a pair becomes what its characters become alone."""
        self.met.slots[at] = self.met.slots[at] >> 32 << 32 | TWO

    # ------------------------------------------------------------ use

    cdef uint32_t _boundary(self, const uint8_t *data, Py_ssize_t before, Py_ssize_t after, uint64_t key) noexcept nogil:
        """Return HARD, or what the two characters of a key become if they are a segment.  `data` is the second one."""
        cdef uint64_t place = spread(key) & self.met.mask
        cdef uint32_t lengths = self.lengths[both_bytes(data)]
        cdef Py_ssize_t i, j
        while self.met.slots[place]:
            if self.met.slots[place] >> 32 == key:
                return <uint32_t>self.met.slots[place]
            place = (place + 1) & self.met.mask
        if lengths:
            for i in range(1, before + 1):
                for j in range(1, after + 1):
                    if not lengths >> (3 * i + j) & 1:
                        continue
                    key = touching_key(data, i, j)
                    place = spread(key) & self.touching.mask
                    while self.touching.slots[place]:
                        if self.touching.slots[place] == key:
                            return SOLVE
                        place = (place + 1) & self.touching.mask
        return HARD

    cdef bint set_alone(self, uint32_t code, const uint32_t *ids, Py_ssize_t count) noexcept nogil:
        """Keep the ids of one character, 1 to 3, if they are small enough.  Many threads may do the same at once."""
        cdef uint64_t alone = 0
        cdef Py_ssize_t at
        for at in range(3):
            if at < count and ids[at] >= ABSENT:
                return 0
            alone |= <uint64_t>(ids[at] if at < count else ABSENT) << NARROW * at
        self.table[code].alone = alone
        return 1

    cdef Py_ssize_t read(self, const uint8_t *data, Py_ssize_t size, Window *window) noexcept nogil:
        """Read some characters, up to a boundary that no token crosses; return the bytes they have.

        0: there is no such boundary near.  -1: what comes is not UTF-8.

        Every third boundary is crossed by some token, and nobody can foresee which: hence few branches.
        """
        cdef Py_ssize_t end = 0, length
        cdef uint32_t code = 0, last, value, count = 0, at
        cdef uint64_t key, asked, slot, known
        while end < size and count < WINDOW:
            length = get_character(data + end, size - end, &code)
            if length == 0:
                return -1
            key_prefetch(self.table + code)
            end += length
            window.codes[count] = code
            window.ends[count] = <uint16_t>end
            count += 1
        for at in range(count - 1):
            code, last = window.codes[at + 1], window.codes[at]
            value = SOLVE
            if code < CODES and last < CODES and (code >= WIDE or last >= WIDE):
                end = window.ends[at]
                key = <uint64_t>last << 16 | code
                asked = self.table[last].meets >> meeting_place(code) & 1
                slot = self.met.slots[spread(key) & self.met.mask & (0 - asked)]
                value = <uint32_t>slot if slot >> 32 == key else HARD
                asked = asked & <uint64_t>(slot != 0) | (self.near[data[end]] >> (data[end - 1] & 63) & 1)
                if asked and value == HARD:
                    value = self._boundary(
                        data + end, end - (window.ends[at - 1] if at else 0), window.ends[at + 1] - end, key
                    )
            window.crossing[at] = value
        for at in range(count):
            known = self.table[window.codes[at]].alone
            window.alone[at] = (
                <uint32_t>known & ABSENT if known >> NARROW == (<uint64_t>1 << 2 * NARROW) - 1 else ABSENT
            )
        window.crossing[count - 1] = HARD if window.ends[count - 1] == size else SOLVE
        while count and window.crossing[count - 1] != HARD:
            count -= 1
        window.count = count
        return window.ends[count - 1] if count else 0
