"""Pretokens to ids, with a table of those seen before, for encode_native.

The table grows with use to its share of `cache_bytes` and then forgets.  Ids never depend on it.  Ids that do not fit
into a line of the table, and the bytes of pretokens that are told by a hash, are in a ring behind it, where the oldest
are overwritten.

The pretokens of a chunk are looked up in batches, whose lines are on their way from memory before the first is looked
at.  Those that are not found are collected and merged together; the ids behind them move up afterwards.  A long one that
is seen for the first time is merged alone and leaves a bit behind, no more: most of these never return.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset

from fastbpe.core.key cimport (
    KEY_HASHED, KEY_LONGEST, KEY_SHORT, KeyBatch, KeyLine, KeySecret, key_code, key_data, key_find, key_is_long, key_size,
)
from fastbpe.core.long_native cimport Memo, is_wide
from fastbpe.core.merge_native cimport LOCKSTEP_WORDS, Merger, Miss
from fastbpe.core.split_native cimport DROPPED, Found, Splitter, SplitStream
from fastbpe.core.symbols_native cimport NONE

from os import urandom as _urandom

import numpy as np

cdef extern from "pages.h" nogil:
    void *pages_alloc(size_t size)
    void pages_touch(void *memory, size_t size)
    void pages_free(void *memory, size_t size)

cdef enum:
    FIRST_LINES = 1 << 12  # of 64 bytes: 256 KB for a process that encodes little
    FIRST_RING = 1 << 14   # words of four bytes
    MOST_LINES = 1 << 30
    MOST_WORDS = 1 << 30
    KEPT = 1 << 18         # ids of output space that an idle table keeps
    SIGHT_WORDS = 1 << 15  # of 64 bits, one for each long pretoken seen
    MOST_SIGHTS = 1 << 19  # then all are forgotten: a quarter of the bits are set

cdef extern from *:
    """
    #define FASTBPE_PENDING ((uint32_t)1 << 31)
    #define FASTBPE_IN_RING ((uint32_t)1 << 30)
    """
    # Instead of a count:
    const uint32_t PENDING "FASTBPE_PENDING"  # the ids are not known yet; the rest is the number of the miss
    const uint32_t IN_RING "FASTBPE_IN_RING"  # the rest is the count; two words before it say where in the ring

# No text can be prepared in which all pretokens meet in one line.
cdef KeySecret SECRET
SECRET.words = [int.from_bytes(_urandom(8), "little") | 1 for _ in range(4)]

_empty, _uint32 = np.empty, np.dtype(np.uint32)


cdef class Table:
    """The memory of one call: the pretoken table, the ids so far, and what waits for ids."""

    def __cinit__(self, Merger merger not None, Splitter splitter, Py_ssize_t cache_bytes, str vectors not None):
        self.merger = merger
        self.code = key_code(vectors.encode())
        if not self.code.hash:
            raise ValueError(f"vectors must be of a kind that this processor has, got {vectors!r}")
        # Two thirds for the lines, one for the ring behind them, in powers of two.
        self.most_lines = FIRST_LINES
        while 3 * 64 * <Py_ssize_t>self.most_lines <= cache_bytes and self.most_lines < MOST_LINES:
            self.most_lines *= 2
        self.ring_size = FIRST_RING
        while 6 * 4 * <Py_ssize_t>self.ring_size <= cache_bytes and self.ring_size < MOST_WORDS:
            self.ring_size *= 2
        self.written = 2 * self.ring_size  # so that place 0 is long overwritten
        self.mask = FIRST_LINES - 1
        self.lines = <KeyLine *>pages_alloc(FIRST_LINES * sizeof(KeyLine))
        self.misses = <Miss *>malloc(LOCKSTEP_WORDS * sizeof(Miss))
        self.memo = <Memo *>pages_alloc(sizeof(Memo))  # touched as it is used
        self.sights = <uint64_t *>pages_alloc(SIGHT_WORDS * sizeof(uint64_t))
        if splitter is not None:
            self.splits = SplitStream(splitter)
        self.capacity = 4096
        self.out = <uint32_t *>malloc(self.capacity * sizeof(uint32_t))
        if not (self.lines and self.out and self.misses and self.memo and self.sights):
            raise MemoryError

    def __dealloc__(self):
        pages_free(self.lines, (self.mask + 1) * sizeof(KeyLine))
        pages_free(self.memo, sizeof(Memo))
        pages_free(self.sights, SIGHT_WORDS * sizeof(uint64_t))
        free(self.misses)
        free(self.out)
        free(self.ring)

    cdef uint32_t *_make_room(self, const uint64_t *key, uint32_t at) noexcept nogil:
        """Enter a key that the table lacks; return the ids of its entry.  What is in the way is forgotten."""
        cdef KeyLine *line = self.lines + at
        cdef KeyLine *other = self.lines + (at ^ 1)
        cdef int half
        self.learned += 1
        if key_is_long(key):
            if line.key[1] and not other.key[1]:
                line = other
            memcpy(line.key, key, sizeof(line.key))
            return line.ids
        if line.key[1] and line.key[3] and not (other.key[1] and other.key[3]):
            line = other
        half = 1 if line.key[1] and not line.key[3] else 0
        if half == 0 and line.key[1]:
            # Both taken: the first entry moves to the second half, if a half is enough for it, and that is forgotten.
            if key_is_long(line.key):
                line.key[2] = line.key[3] = 0
            else:
                memcpy(line.key + 2, line.key, 16)
                memcpy(line.ids + 4, line.ids, 16)
        memcpy(line.key + 2 * half, key, 16)
        return line.ids + 4 * half

    cdef bint _is_first(self, const uint64_t *key) noexcept nogil:
        """Return whether a pretoken is seen for the first time, or for the first time in a long while."""
        cdef uint64_t place = (key[0] + 3 * key[1] + 5 * key[2] + 7 * key[3]) * 0x9E3779B97F4A7C15ULL >> 43
        cdef uint64_t bit = <uint64_t>1 << (place & 63)
        if self.sights[place >> 6] & bit:
            return 0
        if self.n_sights == MOST_SIGHTS:
            self.n_sights = 0
            memset(self.sights, 0, SIGHT_WORDS * sizeof(uint64_t))
        self.n_sights += 1
        self.sights[place >> 6] |= bit
        return 1

    cdef void _widen(self) noexcept nogil:
        """Go on with a table four times as large; without the memory for it, with this one."""
        cdef uint32_t old = self.mask + 1, lines = min(4 * old, self.most_lines), at
        cdef KeyLine *before = self.lines
        cdef KeyLine *after
        cdef uint64_t key[4]
        cdef uint32_t *ids
        cdef int half
        self.learned = 0
        if lines == old:
            return
        after = <KeyLine *>pages_alloc(lines * sizeof(KeyLine))
        if not after:
            return
        pages_touch(after, lines * sizeof(KeyLine))
        self.lines = after
        self.mask = lines - 1
        for at in range(old):
            for half in range(2):
                if not before[at].key[2 * half + 1]:
                    continue
                memcpy(key, before[at].key, sizeof(key))
                if key_is_long(key):
                    ids = self._make_room(key, self.code.hash(key, &SECRET) & self.mask)
                    memcpy(ids, before[at].ids, 32)
                    break
                memcpy(key, before[at].key + 2 * half, 16)
                memcpy(key + 2, key, 16)
                ids = self._make_room(key, self.code.hash(key, &SECRET) & self.mask)
                memcpy(ids, before[at].ids + 4 * half, 16)
        pages_free(before, old * sizeof(KeyLine))
        self.learned = 0

    cdef void _note(
        self, uint32_t *entry, const uint32_t *ids, uint32_t count, const uint8_t *data, uint32_t size, bint whole_line
    ) noexcept nogil:
        """Set the ids of an entry; its bytes are kept, if any are given."""
        cdef uint64_t place
        if count <= 3 and not size:
            memcpy(entry, ids, 12)
            entry[3] = count
        elif count <= 7 and whole_line:
            memcpy(entry, ids, 12)
            memcpy(entry + 4, ids + 3, 16)
            entry[3] = count
        else:
            place = self._put(ids, count, data, size)
            memcpy(entry, &place, 8)
            entry[3] = IN_RING | count

    cdef uint64_t _put(self, const uint32_t *ids, uint32_t count, const uint8_t *data, uint32_t size) noexcept nogil:
        """Write ids and bytes into the ring; return where, in words since its first use; without memory 0: gone."""
        cdef uint64_t words = count + (size + 3) // 4, place = self.written, room, last = self.ring_size - 1
        cdef uint32_t *grown
        if (place & last) + words > self.ring_size:
            place += self.ring_size - (place & last)  # nothing lies across the end
        if (place & last) + words > self.ring_words:
            room = max(2 * self.ring_words, <uint64_t>FIRST_RING)
            grown = <uint32_t *>realloc(self.ring, room * sizeof(uint32_t))
            if not grown:
                return 0
            self.ring = grown
            self.ring_words = room
        memcpy(self.ring + (place & last), ids, count * sizeof(uint32_t))
        memcpy(self.ring + (place & last) + count, data, size)
        self.written = place + words
        return place

    cdef const uint32_t *_recall(self, const uint32_t *entry, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        """Return the ids of an entry in the ring; NULL if they are overwritten or of other bytes."""
        cdef uint64_t place
        cdef const uint32_t *ids
        memcpy(&place, entry, 8)
        if self.written - place > self.ring_size:
            return NULL
        ids = self.ring + (place & (self.ring_size - 1))
        if size > KEY_LONGEST and memcmp(ids + (entry[3] & ~IN_RING), data, size):
            return NULL
        return ids

    cdef int reserve(self, Py_ssize_t room) except -1 nogil:
        """Make room for more ids."""
        cdef Py_ssize_t capacity
        cdef uint32_t *grown
        if self.size + room > self.capacity:
            capacity = max(self.size + room, self.capacity + self.capacity // 2)
            grown = <uint32_t *>realloc(self.out, capacity * sizeof(uint32_t))
            if not grown:
                with gil:
                    raise MemoryError
            self.out = grown
            self.capacity = capacity
        return 0

    cdef object take(self):
        """Return the ids so far as an array, and start anew."""
        cdef Py_buffer view
        ids = _empty(self.size, _uint32)
        if self.size:
            PyObject_GetBuffer(ids, &view, PyBUF_WRITABLE)
            memcpy(view.buf, self.out, self.size * sizeof(uint32_t))
            PyBuffer_Release(&view)
        self.size = 0
        self.shrink()
        return ids

    cdef int shrink(self) except -1:
        if self.capacity > KEPT:
            free(self.out)
            self.capacity = 4096
            self.out = <uint32_t *>malloc(self.capacity * sizeof(uint32_t))
            if not self.out:
                self.capacity = 0
                raise MemoryError
        return 0

    cdef int encode_piece(self, const uint8_t *data, Py_ssize_t size) except -1 nogil:
        """Append the ids of one pretoken, which need not be UTF-8; the table is not asked."""
        cdef uint32_t number
        self.reserve(size)
        number = self.merger.lookup(data, size) if self.merger.must_look else NONE
        if number != NONE:
            self.out[self.size] = number
            self.size += 1
        else:
            self.size += self.merger.merge_into(data, size, self.out + self.size, self.memo)
        return 0

    cdef int encode_found(self, const uint8_t *data, const Found *found, Py_ssize_t readable) except -1 nogil:
        """Append the ids of the stretches that a splitter found.  `readable`: bytes that may be read from `data`."""
        cdef KeyBatch batch
        cdef Py_ssize_t at = 0
        cdef uint32_t *out
        cdef int place
        if self.n_misses:
            with gil:
                raise RuntimeError("a call failed in the middle of this stream: begin a new one")
        if found.count == 0:
            return 0
        # A pretoken has no more ids than bytes; a few more are written than count.
        self.reserve(found.base + (found.ends[found.count - 1] & ~DROPPED) - found.begin + 16)
        batch.base = data + found.base
        batch.next = data + found.begin
        while at < found.count:
            at += self.code.prepare(
                &batch, found.ends + at, <int>(found.count - at), data + readable, &SECRET, self.lines, self.mask
            )
            place = 0
            while True:
                out = self.out + self.size
                place = self.code.emit(&batch, place, self.lines, &out)
                self.size = out - self.out
                if place == batch.count:
                    break
                self._emit(&batch, place)
                place += 1
        self._resolve()
        # At half of what the lines hold, some keys have been pushed out by others already.
        if 2 * self.learned > self.mask:
            self._widen()
        return 0

    cdef int _emit(self, const KeyBatch *batch, int at) except -1 nogil:
        """Append the ids of a prepared pretoken that are not in its line, or note that they are to come."""
        cdef const uint64_t *key = batch.asked[at].key
        cdef const uint8_t *data = key_data(batch, at)
        cdef Py_ssize_t size = key_size(batch, at)
        cdef uint32_t *entry
        cdef const uint32_t *ids
        cdef KeyLine *line
        cdef int half
        if size > KEY_HASHED:
            return self.encode_piece(data, size)
        line = key_find(key, batch.asked[at].line, self.lines, &half)
        if line == NULL and (size > KEY_LONGEST or size > KEY_SHORT and is_wide(data, size)) and self._is_first(key):
            # A clause, a link, a line of code: most that are new never return, and they would fill the table.
            return self.encode_piece(data, size)
        if line == NULL:
            return self._miss(batch, at, self._make_room(key, <uint32_t>(batch.asked[at].line - self.lines)))
        entry = line.ids + 4 * half
        if entry[3] & PENDING:
            return self._wait(entry[3] & ~PENDING)
        ids = self._recall(entry, data, size)
        if ids == NULL:
            return self._miss(batch, at, entry)
        memcpy(self.out + self.size, ids, (entry[3] & ~IN_RING) * sizeof(uint32_t))
        self.size += entry[3] & ~IN_RING
        return 0

    cdef int _miss(self, const KeyBatch *batch, int at, uint32_t *entry) except -1 nogil:
        """Find the ids of a pretoken that has an entry without ids: most later, those that are not merged together at
        once.
        """
        cdef Miss *miss = self.misses + self.n_misses
        cdef const uint8_t *data = key_data(batch, at)
        cdef Py_ssize_t before = self.size, size = key_size(batch, at)
        if size > KEY_LONGEST or is_wide(data, size):
            memset(entry, 0, 12)
            entry[3] = IN_RING  # long gone, if this fails
            self.encode_piece(data, size)
            self._note(
                entry, self.out + before, <uint32_t>(self.size - before), data,
                <uint32_t>size if size > KEY_LONGEST else 0, key_is_long(batch.asked[at].key)
            )
            return 0
        entry[3] = PENDING | <uint32_t>self.n_misses
        memcpy(miss.key, batch.asked[at].key, sizeof(miss.key))
        miss.size = size
        miss.line = <uint32_t>(batch.asked[at].line - self.lines)
        self.n_misses += 1
        return self._wait(self.n_misses - 1)

    cdef int _wait(self, int miss) except -1 nogil:
        """Note that the ids of a miss belong here."""
        self.gaps[self.n_gaps].at = self.size
        self.gaps[self.n_gaps].miss = miss
        self.n_gaps += 1
        if self.n_gaps == GAPS or self.n_misses == LOCKSTEP_WORDS:
            self._resolve()
        return 0

    cdef int _resolve(self) except -1 nogil:
        """Merge what was collected, put the ids into the table and into the output."""
        cdef Miss *miss
        cdef KeyLine *line
        cdef uint32_t *entry
        cdef Py_ssize_t moved = 0, end = self.size, start
        cdef int at, half
        if self.n_misses == 0:
            return 0
        self.merger.merge_all(self.misses, self.n_misses, self.memo)
        for at in range(self.n_misses):
            miss = self.misses + at
            line = key_find(miss.key, self.lines + miss.line, self.lines, &half)
            if line == NULL or line.ids[4 * half + 3] != (PENDING | <uint32_t>at):
                continue  # pushed out by another
            self._note(line.ids + 4 * half, miss.ids, miss.count, <const uint8_t *>miss.key, 0, key_is_long(miss.key))
        for at in range(self.n_gaps):
            moved += self.misses[self.gaps[at].miss].count
        self.size += moved
        for at in range(self.n_gaps - 1, -1, -1):
            miss = self.misses + self.gaps[at].miss
            start = self.gaps[at].at
            memmove(self.out + start + moved, self.out + start, (end - start) * sizeof(uint32_t))
            moved -= miss.count
            memcpy(self.out + start + moved, miss.ids, miss.count * sizeof(uint32_t))
            end = start
        self.n_misses = self.n_gaps = 0
        return 0
