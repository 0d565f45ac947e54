"""Native twin of encode_python, with a table of pretokens seen before.

The table grows with use to its share of `cache_bytes` and then forgets.  Ids never depend on it.  Each call works with
a table of its own, taken from a short list of idle ones, so threads share nothing.  Ids that do not fit into a line of the table, and
the bytes of pretokens that are told by a hash, are in a ring behind it, where the oldest are overwritten.

The pretokens of a chunk are looked up in batches, whose lines are on their way from memory before the first is looked
at.  Those that are not found are collected and merged together; the ids behind them move up afterwards.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset

from fastbpe.core.characters_native cimport length_of
from fastbpe.core.match_native cimport Matcher
from fastbpe.core.memory cimport resized
from fastbpe.core.merge_native cimport LOCKSTEP_WORDS, NONE, Memo, Merger, Miss
from fastbpe.core.split_native cimport BOXES_CHUNK, DROPPED, FAR, Found, Scan, Splitter, SplitStream, scan_reset

from os import urandom as _urandom

import numpy as np

cdef extern from "pages.h" nogil:
    void *pages_alloc(size_t size)
    void pages_free(void *memory, size_t size)

cdef extern from "key.h" nogil:
    enum:
        KEY_LONGEST
        KEY_HASHED
    bint key_is_long(const uint64_t *key)
    KeyLine *key_find(const uint64_t *key, uint32_t at, KeyLine *lines, int *half)
    KeyCode key_code(const char *kind)

cdef enum:
    FIRST_LINES = 1 << 12  # of 64 bytes: 256 KB for a process that encodes little
    FIRST_RING = 1 << 14   # words of four bytes
    CACHE_BYTES = 48 << 20
    MOST_LINES = 1 << 30
    MOST_WORDS = 1 << 30
    SLICE = 1 << 20        # as in split_native
    KEPT = 1 << 18         # ids of output space that an idle scratch keeps
    TEXT = 1 << 15         # characters that are turned into UTF-8 at once
    SMALL = 1 << 11        # bytes of a text for which other threads may wait
    IDLE = 2               # scratches kept between calls
    GAPS = 256             # places in the output that wait for ids
    CUT_WINDOW = 1 << 10   # characters in which a place for a cut is looked for

cdef extern from *:
    """
    #define FASTBPE_PENDING ((uint32_t)1 << 31)
    #define FASTBPE_IN_RING ((uint32_t)1 << 30)
    """
    # Instead of a count:
    const uint32_t PENDING "FASTBPE_PENDING"  # the ids are not known yet; the rest is the number of the miss
    const uint32_t IN_RING "FASTBPE_IN_RING"  # the rest is the count; two words before it say where in the ring

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    const Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "utf8.h" nogil:
    enum:
        UTF8_BEHIND
    const size_t NO_UTF8 "SIZE_MAX"
    Utf8Write *utf8_choose(const char *kind)

# No text can be prepared in which all pretokens meet in one line.
cdef KeySecret SECRET
SECRET.words = [int.from_bytes(_urandom(8), "little") | 1 for _ in range(4)]


_empty, _uint32 = np.empty, np.dtype(np.uint32)


cdef inline void characters_of(text, StrData *characters):
    characters.data = <const uint8_t *>PyUnicode_DATA(text)
    characters.size = PyUnicode_GET_LENGTH(text)
    characters.kind = PyUnicode_KIND(text)
    characters.ascii = PyUnicode_IS_COMPACT_ASCII(text)


cdef class Scratch:
    """The memory of one call: the pretoken table, the ids so far, and what waits for ids."""

    def __cinit__(self, Encoder encoder not None):
        self.code = encoder.code
        self.mask = FIRST_LINES - 1
        self.lines = <KeyLine *>pages_alloc(FIRST_LINES * sizeof(KeyLine))
        self.misses = <Miss *>malloc(LOCKSTEP_WORDS * sizeof(Miss))
        self.most_lines = encoder.most_lines
        self.ring_size = encoder.ring_size
        self.written = 2 * self.ring_size  # so that place 0 is long overwritten
        self.memo = <Memo *>pages_alloc(sizeof(Memo))  # touched as it is used
        if encoder.native_splitter is not None:
            self.splits = SplitStream(encoder.native_splitter)
        self.capacity = 4096
        self.out = <uint32_t *>malloc(self.capacity * sizeof(uint32_t))
        if not (self.lines and self.out and self.misses and self.memo):
            raise MemoryError

    def __dealloc__(self):
        pages_free(self.lines, (self.mask + 1) * sizeof(KeyLine))
        pages_free(self.memo, sizeof(Memo))
        free(self.misses)
        free(self.out)
        free(self.ring)

    cdef uint32_t *make_room(self, const uint64_t *key, uint32_t at) noexcept nogil:
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

    cdef void widen(self) noexcept nogil:
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
        self.lines = after
        self.mask = lines - 1
        for at in range(old):
            for half in range(2):
                if not before[at].key[2 * half + 1]:
                    continue
                memcpy(key, before[at].key, sizeof(key))
                if key_is_long(key):
                    ids = self.make_room(key, self.code.hash(key, &SECRET) & self.mask)
                    memcpy(ids, before[at].ids, 32)
                    break
                memcpy(key, before[at].key + 2 * half, 16)
                memcpy(key + 2, key, 16)
                ids = self.make_room(key, self.code.hash(key, &SECRET) & self.mask)
                memcpy(ids, before[at].ids + 4 * half, 16)
        pages_free(before, old * sizeof(KeyLine))
        self.learned = 0

    cdef void note(
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
            place = self.put(ids, count, data, size)
            memcpy(entry, &place, 8)
            entry[3] = IN_RING | count

    cdef uint64_t put(self, const uint32_t *ids, uint32_t count, const uint8_t *data, uint32_t size) noexcept nogil:
        """Write ids and bytes into the ring; return where, in words since its first use.  Without memory: 0, long gone."""
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

    cdef const uint32_t *recall(
        self, const uint32_t *entry, const uint8_t *data, Py_ssize_t size
    ) noexcept nogil:
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


cdef class Encoder:
    def __cinit__(
        self, splitter, Merger merger not None, *, bint ascii_only=False, Py_ssize_t cache_bytes=CACHE_BYTES,
        str vectors=""
    ):
        # Two thirds for the lines, one for the ring behind them, in powers of two.
        self.most_lines = FIRST_LINES
        while 3 * 64 * <Py_ssize_t>self.most_lines <= cache_bytes and self.most_lines < MOST_LINES:
            self.most_lines *= 2
        self.ring_size = FIRST_RING
        while 6 * 4 * <Py_ssize_t>self.ring_size <= cache_bytes and self.ring_size < MOST_WORDS:
            self.ring_size *= 2
        self.keeps = cache_bytes > 0
        self.ascii_only = ascii_only
        self.code = key_code(vectors.encode())
        if not self.code.hash:
            raise ValueError(f"vectors must be of a kind that this processor has, got {vectors!r}")
        self.splitter = splitter
        self.native_splitter = splitter if isinstance(splitter, Splitter) else None
        self.merger = merger
        self.write = utf8_choose(vectors.encode())
        self.n_ints = merger.greatest_id() + 1
        self.ints = <PyObject **>calloc(self.n_ints, sizeof(PyObject *))
        if not self.ints:
            self.n_ints = 0
            raise MemoryError
        self.idle = [Scratch(self)]  # ready before the first call, which may run under a memory limit

    def __dealloc__(self):
        cdef uint32_t at
        for at in range(self.n_ints):
            Py_XDECREF(self.ints[at])
        free(self.ints)

    cdef Scratch acquire(self):
        try:
            return self.idle.pop()
        except IndexError:
            return Scratch(self)

    cdef void release(self, Scratch scratch):
        scratch.size = 0
        # Misses are left over by a call that failed: the table has entries that wait for them.
        if self.keeps and len(self.idle) < IDLE and scratch.n_misses == 0:
            self.idle.append(scratch)

    cdef int encode_piece(self, const uint8_t *data, Py_ssize_t size, Scratch scratch) except -1 nogil:
        """Append the ids of one pretoken, which need not be UTF-8; the table is not asked."""
        cdef uint32_t number
        scratch.reserve(size)
        number = self.merger.lookup(data, size) if self.merger.must_look else NONE
        if number != NONE:
            scratch.out[scratch.size] = number
            scratch.size += 1
        else:
            scratch.size += self.merger.merge_into(data, size, scratch.out + scratch.size, scratch.memo)
        return 0

    cdef int encode_found(
        self, const uint8_t *data, const Found *found, Py_ssize_t readable, Scratch scratch
    ) except -1 nogil:
        """Append the ids of the stretches that a splitter found.  `readable`: the bytes that may be read from `data`."""
        cdef KeyBatch batch
        cdef Py_ssize_t at = 0
        cdef uint32_t *out
        cdef int place
        if scratch.n_misses:
            with gil:
                raise RuntimeError("a call failed in the middle of this stream: begin a new one")
        if found.count == 0:
            return 0
        # A pretoken has no more ids than bytes; a few more are written than count.
        scratch.reserve(found.base + (found.ends[found.count - 1] & ~DROPPED) - found.begin + 16)
        batch.begin = data + found.begin
        while at < found.count:
            at = self.code.prepare(
                &batch, data + found.base, found.ends, <int>at, <int>found.count, data + readable, &SECRET,
                scratch.lines, scratch.mask
            )
            place = 0
            while True:
                out = scratch.out + scratch.size
                place = self.code.emit(&batch, place, scratch.lines, &out)
                scratch.size = out - scratch.out
                if place == batch.count:
                    break
                self.emit(&batch, place, scratch)
                place += 1
        self.resolve(scratch)
        # At half of what the lines hold, some keys have been pushed out by others already.
        if 2 * scratch.learned > scratch.mask:
            scratch.widen()
        return 0

    cdef int emit(self, const KeyBatch *batch, int at, Scratch scratch) except -1 nogil:
        """Append the ids of a prepared pretoken that are not in its line, or note that they are to come."""
        cdef const uint64_t *key = batch.key[at]
        cdef uint32_t *entry
        cdef const uint32_t *ids
        cdef KeyLine *line
        cdef int half
        if batch.size[at] > KEY_HASHED:
            return self.encode_piece(batch.data[at], batch.size[at], scratch)
        line = key_find(key, batch.line[at], scratch.lines, &half)
        if line == NULL:
            return self.miss(batch, at, scratch.make_room(key, batch.line[at]), scratch)
        entry = line.ids + 4 * half
        if entry[3] & PENDING:
            return self.wait(entry[3] & ~PENDING, scratch)
        ids = scratch.recall(entry, batch.data[at], batch.size[at])
        if ids == NULL:
            return self.miss(batch, at, entry, scratch)
        memcpy(scratch.out + scratch.size, ids, (entry[3] & ~IN_RING) * sizeof(uint32_t))
        scratch.size += entry[3] & ~IN_RING
        return 0

    cdef int miss(self, const KeyBatch *batch, int at, uint32_t *entry, Scratch scratch) except -1 nogil:
        """Find the ids of a pretoken that has an entry without ids: those of a long one at once, others later."""
        cdef Miss *miss = scratch.misses + scratch.n_misses
        cdef const uint8_t *data = batch.data[at]
        cdef Py_ssize_t before = scratch.size, size = batch.size[at]
        if size > KEY_LONGEST:
            memset(entry, 0, 12)
            entry[3] = IN_RING  # long gone, if this fails
            self.encode_piece(data, size, scratch)
            scratch.note(entry, scratch.out + before, <uint32_t>(scratch.size - before), data, <uint32_t>size, False)
            return 0
        entry[3] = PENDING | <uint32_t>scratch.n_misses
        memcpy(miss.key, batch.key[at], sizeof(miss.key))
        miss.size = size
        miss.line = batch.line[at]
        scratch.n_misses += 1
        return self.wait(scratch.n_misses - 1, scratch)

    cdef int wait(self, int miss, Scratch scratch) except -1 nogil:
        """Note that the ids of a miss belong here."""
        scratch.gaps[scratch.n_gaps].at = scratch.size
        scratch.gaps[scratch.n_gaps].miss = miss
        scratch.n_gaps += 1
        if scratch.n_gaps == GAPS or scratch.n_misses == LOCKSTEP_WORDS:
            self.resolve(scratch)
        return 0

    cdef int resolve(self, Scratch scratch) except -1 nogil:
        """Merge what was collected, put the ids into the table and into the output."""
        cdef Miss *miss
        cdef KeyLine *line
        cdef uint32_t *entry
        cdef Py_ssize_t moved = 0, end = scratch.size, start
        cdef int at, half
        if scratch.n_misses == 0:
            return 0
        self.merger.merge_all(scratch.misses, scratch.n_misses, scratch.memo)
        for at in range(scratch.n_misses):
            miss = scratch.misses + at
            line = key_find(miss.key, miss.line, scratch.lines, &half)
            if line == NULL or line.ids[4 * half + 3] != (PENDING | <uint32_t>at):
                continue  # pushed out by another
            scratch.note(line.ids + 4 * half, miss.ids, miss.count, <const uint8_t *>miss.key, 0, key_is_long(miss.key))
        for at in range(scratch.n_gaps):
            moved += scratch.misses[scratch.gaps[at].miss].count
        scratch.size += moved
        for at in range(scratch.n_gaps - 1, -1, -1):
            miss = scratch.misses + scratch.gaps[at].miss
            start = scratch.gaps[at].at
            memmove(scratch.out + start + moved, scratch.out + start, (end - start) * sizeof(uint32_t))
            moved -= miss.count
            memcpy(scratch.out + start + moved, miss.ids, miss.count * sizeof(uint32_t))
            end = start
        scratch.n_misses = scratch.n_gaps = 0
        return 0

    cdef bint encode_slice(
        self, const uint8_t *data, Py_ssize_t size, bint final, Py_ssize_t readable, Py_ssize_t stop, Scan *scan,
        Scratch scratch
    ) except -1 nogil:
        """Append the ids of the next pretokens that are decided and end before `stop`, of about a megabyte.

        Return whether there are more.
        """
        cdef Found found
        cdef Py_ssize_t first = scan.position
        cdef bint more = True
        while more and scan.position - first < SLICE:
            more = self.native_splitter.fill(data, size, final, scan, &found)
            if scan.given >= stop:
                while found.count and found.base + <Py_ssize_t>(found.ends[found.count - 1] & ~DROPPED) > stop:
                    found.count -= 1
                more = False
            self.encode_found(data, &found, readable, scratch)
        return more

    cdef int look_up_from_work(self, object check) except -1 nogil:
        with gil:
            PyErr_CheckSignals()
            if check is not None:
                check()
        return 0

    cdef int encode_whole(
        self, const uint8_t *data, Py_ssize_t size, Py_ssize_t stop, Scratch scratch, object check
    ) except -1 nogil:
        """Append the ids of a text up to `stop`: its end, or a place that cut() gave."""
        cdef Scan scan
        cdef bint more = size > 0
        scan_reset(&scan)
        while more:
            more = self.encode_slice(data, size, True, size, stop, &scan, scratch)
            if more:
                self.look_up_from_work(check)
        return 0

    cdef int encode_between(self, const uint8_t *data, Py_ssize_t size, Scratch scratch, object check) except -1:
        """Append the ids of one whole text; other threads wait for a short one only."""
        if size <= SMALL:
            return self.encode_whole(data, size, size, scratch, check)
        with nogil:
            return self.encode_whole(data, size, size, scratch, check)

    cdef list take_list(self, Scratch scratch):
        """Return the ids so far as a list, and start anew."""
        ids = self._listed(scratch.out, scratch.size)
        scratch.size = 0
        scratch.shrink()
        return ids

    cdef list _listed(self, const uint32_t *out, Py_ssize_t size):
        """Return ids as a list.  The int of each ordinary token is made once."""
        cdef list ids = PyList_New(size)
        cdef PyObject **ints = self.ints
        cdef uint32_t number
        cdef Py_ssize_t at
        for at in range(size):
            number = out[at]
            if number >= self.n_ints or ints[number] == NULL:
                made = <object>number
                Py_INCREF(made)
                if number >= self.n_ints:
                    PyList_SET_ITEM(ids, at, made)
                    continue
                ints[number] = <PyObject *>made
            Py_INCREF(<object>ints[number])
            PyList_SET_ITEM(ids, at, <object>ints[number])
        return ids

    cdef bint encode_characters(
        self, const StrData *text, Py_ssize_t begin, Py_ssize_t end, Scratch scratch, object check
    ) except -1 nogil:
        """Append the ids of a str from one place to another, its ends or what cut() gave; return 0 at a surrogate."""
        if text.ascii:
            self.encode_whole(text.data + begin, text.size - begin, end - begin, scratch, check)
            return 1
        try:
            return self.encode_as_utf8(text, begin, end, scratch, check)
        finally:
            scratch.splits.clear()

    cdef bint encode_as_utf8(
        self, const StrData *text, Py_ssize_t begin, Py_ssize_t end, Scratch scratch, object check
    ) except -1 nogil:
        cdef Py_ssize_t at = begin, count, looked = begin, stop = PY_SSIZE_T_MAX
        cdef int kind = text.kind, widest = kind + 1 if kind < 4 else 4
        cdef size_t written
        cdef bint more
        while at < text.size and (at < end or scratch.splits.scan.given - scratch.splits.scan.origin < stop):
            count = min((end if at < end else text.size) - at, <Py_ssize_t>TEXT)
            scratch.splits.make_room(count * widest + UTF8_BEHIND)
            written = self.write(text.data + at * kind, count, kind, scratch.splits.data + scratch.splits.size)
            if written == NO_UTF8:
                return 0
            scratch.splits.size += written
            at += count
            if at == end:  # what comes behind is only looked at
                stop = scratch.splits.size - scratch.splits.scan.origin
            more = True
            while more:
                more = self.encode_slice(
                    scratch.splits.data, scratch.splits.size, at == text.size, scratch.splits.size + 32,
                    stop if stop == PY_SSIZE_T_MAX else stop + scratch.splits.scan.origin, &scratch.splits.scan, scratch
                )
            scratch.splits.compact()
            if at - looked >= SLICE:
                looked = at
                self.look_up_from_work(check)
        return 1

    def encode_text(self, text, Matcher matcher=None, bint listed=False, check=None):
        cdef Scratch scratch
        cdef StrData characters
        cdef bint done
        if not self.takes(text, matcher):
            return None
        characters_of(text, &characters)
        scratch = self.acquire()
        try:
            if characters.size * characters.kind <= SMALL:
                done = self.encode_characters(&characters, 0, characters.size, scratch, check)
            else:
                with nogil:
                    done = self.encode_characters(&characters, 0, characters.size, scratch, check)
            if not done:
                return None
            return self.take_list(scratch) if listed else scratch.take()
        finally:
            self.release(scratch)

    cdef bint takes(self, text, Matcher matcher) except -1:
        """Return whether a text may be encoded as it is."""
        if not isinstance(text, str) or self.native_splitter is None:
            return 0
        if self.ascii_only and not PyUnicode_IS_COMPACT_ASCII(text):
            return 0
        return matcher is None or not matcher.may_match(text)

    def cut(self, str text not None, Py_ssize_t size, Matcher matcher=None):
        cdef StrData characters
        cdef Py_ssize_t place = size, found
        cuts = []
        if size < 1:
            raise ValueError(f"size must be positive, got {size}")
        if not self.takes(text, matcher):
            return cuts
        characters_of(text, &characters)
        while place < characters.size - size // 2:
            found = self.cut_behind(&characters, place)
            if found < 0:
                break
            cuts.append(found)
            if found > characters.size - size:
                break
            place = found + size
        return cuts

    cdef Py_ssize_t cut_behind(self, const StrData *text, Py_ssize_t place) except -2:
        """Return the first place from `place` on, but not far from it, that is a boundary in every text; or -1."""
        cdef uint8_t data[4 * (CUT_WINDOW + 3) + UTF8_BEHIND]
        cdef Py_ssize_t first = max(place - 3, 0), count = min(text.size - first, <Py_ssize_t>(CUT_WINDOW + 3))
        cdef Py_ssize_t at = 0, before = 0, boundary
        cdef size_t written = self.write(text.data + first * text.kind, count, text.kind, data)
        if written == NO_UTF8:
            return -1
        while before < place - first:
            at += length_of(data[at])
            before += 1
        boundary = self.native_splitter.sure_boundary(data, written, at)
        if boundary < 0:
            return -1
        while at < boundary:
            at += length_of(data[at])
            place += 1
        return place

    def encode_texts(self, list texts not None, spans not None, Matcher matcher=None, check=None):
        cdef const int64_t[:, ::1] rows = spans
        cdef Py_ssize_t n_spans = rows.shape[0], at, end, before
        cdef StrData *characters = NULL
        cdef int64_t[::1] view
        cdef Scratch scratch
        if rows.shape[1] != 3:
            raise ValueError(f"spans must have rows of 3 numbers, got {rows.shape[1]}")
        scratch = self.acquire()
        counts = np.empty(n_spans, dtype=np.int64)
        view = counts
        try:
            characters = <StrData *>resized(NULL, n_spans, sizeof(StrData))
            for at in range(n_spans):
                if not 0 <= rows[at, 0] < PyList_GET_SIZE(texts):
                    raise ValueError(f"spans must be of texts that are there, got number {rows[at, 0]}")
                text = texts[rows[at, 0]]
                characters[at].data = NULL
                # A text that is cut has been looked through before.
                if self.takes(text, matcher if rows[at, 1] == 0 and rows[at, 2] < 0 else None):
                    characters_of(text, &characters[at])
                    end = rows[at, 2] if rows[at, 2] >= 0 else characters[at].size
                    if not 0 <= rows[at, 1] <= end <= characters[at].size:
                        raise ValueError(f"spans must be inside their texts, got {rows[at, 1]}..{rows[at, 2]}")
            with nogil:
                for at in range(n_spans):
                    before = scratch.size
                    view[at] = -1
                    if characters[at].data == NULL:
                        continue
                    end = rows[at, 2] if rows[at, 2] >= 0 else characters[at].size
                    if self.encode_characters(&characters[at], rows[at, 1], end, scratch, check):
                        view[at] = scratch.size - before
                    else:
                        scratch.size = before
                    if at & 0xFFF == 0xFFF:
                        self.look_up_from_work(check)
            return scratch.take(), counts
        finally:
            free(characters)
            self.release(scratch)

    def lists(self, ids, offsets):
        cdef const uint32_t[::1] numbers = ids
        cdef const int64_t[::1] places = offsets
        cdef Py_ssize_t at
        result = []
        for at in range(places.shape[0] - 1):
            if not 0 <= places[at] <= places[at + 1] <= numbers.shape[0]:
                raise ValueError(f"offsets must be in order and inside ids, got {places[at]}..{places[at + 1]}")
            result.append(self._listed(&numbers[0] + places[at], places[at + 1] - places[at]))
        return result

    cdef int encode_spans(self, bytes text, Scratch scratch, object check) except -1:
        """Append the ids of one whole text whose splitter is not native."""
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(text)
        cdef const int64_t[:, ::1] spans = self.splitter.split(text)
        cdef Py_ssize_t at = 0, looked = 0
        cdef Found found
        while at < spans.shape[0]:
            found.count = 0
            found.begin = found.base = spans[at, 0]
            while at < spans.shape[0] and found.count < BOXES_CHUNK and spans[at, 1] - found.base < FAR:
                if found.count and spans[at, 0] > spans[at - 1, 1]:
                    found.ends[found.count] = <uint32_t>(spans[at, 0] - found.base) | DROPPED
                    found.count += 1
                found.ends[found.count] = <uint32_t>(spans[at, 1] - found.base)
                found.count += 1
                at += 1
            if found.count == 0:
                self.encode_piece(data + spans[at, 0], spans[at, 1] - spans[at, 0], scratch)
                at += 1
            self.encode_found(data, &found, PyBytes_GET_SIZE(text), scratch)
            if at - looked > 0xFFFF:
                looked = at
                PyErr_CheckSignals()
                if check is not None:
                    check()
        return 0

    def encode(self, bytes data not None, cuts=None, check=None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), position = 0, at, start, end, n_cuts = 0
        cdef const int64_t[:, ::1] rows
        cdef Scratch scratch
        if cuts is not None and len(cuts):
            rows = cuts
            n_cuts = rows.shape[0]
        scratch = self.acquire()
        try:
            for at in range(n_cuts + 1):
                start = rows[at, 0] if at < n_cuts else size
                end = rows[at, 1] if at < n_cuts else size
                if not position <= start <= end <= size:
                    raise ValueError(f"cuts must be in order and inside the text, got {start}..{end} at index {at}")
                if start > position:
                    if self.native_splitter is None:
                        self.encode_spans(data[position:start], scratch, check)
                    else:
                        self.encode_between(text + position, start - position, scratch, check)
                if at < n_cuts and rows[at, 2] >= 0:
                    scratch.reserve(1)
                    scratch.out[scratch.size] = <uint32_t>rows[at, 2]
                    scratch.size += 1
                elif end > start:
                    self.encode_piece(text + start, end - start, scratch)
                position = end
                if at & 0xFFF == 0xFFF:
                    PyErr_CheckSignals()
                    if check is not None:
                        check()
            return scratch.take()
        finally:
            self.release(scratch)


cdef class EncodeStream:
    def __cinit__(self, Encoder encoder not None):
        self.encoder = encoder
        self.scratch = encoder.acquire()
        splits = encoder.splitter.stream()
        if isinstance(splits, SplitStream):
            self.splits = splits
        else:
            self.regex_splits = splits

    def __dealloc__(self):
        if self.encoder is not None and self.scratch is not None:
            self.encoder.release(self.scratch)

    @property
    def held(self):
        return self.splits.held if self.regex_splits is None else self.regex_splits.held

    cdef int drain(self, bint final) except -1:
        """Append the ids of the pretokens that are decided."""
        cdef SplitStream splits = self.splits
        cdef bint more = True
        while more:
            with nogil:
                # The buffer has room behind the text.
                more = self.encoder.encode_slice(
                    splits.data, splits.size, final, splits.size + 32, PY_SSIZE_T_MAX, &splits.scan, self.scratch
                )
            PyErr_CheckSignals()
        if final:
            splits.clear()
        else:
            splits.compact()
        return 0

    cdef _take_pieces(self, list pieces):
        for piece in pieces:
            self.encoder.encode_piece(
                <const uint8_t *>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), self.scratch
            )
        return self.scratch.take()

    def push(self, bytes data not None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        if self.regex_splits is not None:
            return self._take_pieces(self.regex_splits.push(data))
        self.splits.append(text, PyBytes_GET_SIZE(data))
        self.drain(False)
        return self.scratch.take()

    def finish(self):
        if self.regex_splits is not None:
            return self._take_pieces(self.regex_splits.finish())
        self.drain(True)
        return self.scratch.take()

    def raw(self, bytes data not None):
        if data:
            self.encoder.encode_piece(
                <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), self.scratch
            )
        return self.scratch.take()
