"""Pretokens to ids, with a table of those seen before, for encode_native.

The table grows with use to its share of `cache_bytes` and then forgets.  Ids never depend on it.  Ids that do not fit
into their places, and the bytes of pretokens that are told by a hash, are in a ring behind it, where the oldest
are overwritten.

The pretokens of a chunk are looked up in batches, whose lines are on their way from memory before the first is looked
at.  Those that are not found are collected and merged together; the ids behind them move up afterwards.  A long one that
is seen for the first time is merged alone and leaves a bit behind, no more: most of these never return.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset
from numpy cimport NPY_UINT32, PyArray_DATA, PyArray_SimpleNew, PyArray_SimpleNewFromData, import_array, npy_intp, set_array_base

from fastbpe.core.key cimport (
    KEY_BUCKETS, KEY_HASHED, KEY_IN_RING, KEY_LONGEST, KEY_PENDING, KEY_SHORT, KeyBatch, KeyBucket, KeySecret, key_bucket,
    key_code, key_data, key_find, key_first, key_give, key_is_long, key_room, key_sight_bit, key_sight_word, key_size,
)
from fastbpe.core.long_native cimport Memo, is_wide
from fastbpe.core.merge_native cimport LOCKSTEP_WORDS, Merger, Miss
from fastbpe.core.split_native cimport DROPPED, Found, Splitter, SplitStream
from fastbpe.core.symbols_native cimport NONE

from os import urandom as _urandom

import_array()

cdef extern from "pages.h" nogil:
    void *pages_alloc(size_t size)
    void *pages_reserve(size_t size)
    void pages_touch(void *memory, size_t begin, size_t end)
    void pages_free(void *memory, size_t size)
    void *pages_resize(void *memory, size_t size, size_t wanted)

cdef enum:
    FIRST_BUCKETS = 1 << 11  # of 128 bytes: 256 KB for a process that encodes little
    FIRST_RING = 1 << 14   # words of four bytes
    AMPLE_BUCKETS = 1 << 15  # below it the table grows by four, then by two
    MOST_BUCKETS = 1 << 25  # their bytes have numbers of 32 bits
    MOST_WORDS = 1 << 30
    FEW = 1 << 12          # ids of output space that a table begins with
    KEPT = 1 << 18         # and that it keeps
    SIGHT_WORDS = 1 << 15  # of 64 bits, one for each long pretoken seen
    MOST_SIGHTS = 1 << 19  # then all are forgotten: a quarter of the bits are set

cdef extern from "<stdint.h>" nogil:
    const uint64_t NO_KEY "UINT64_MAX"  # words of a place that was given up

# No text can be prepared in which all pretokens meet in one bucket.
cdef KeySecret SECRET
SECRET.words = [int.from_bytes(_urandom(8), "little") | 1 for _ in range(4)]


@cython.final
cdef class Ids:
    """The ids of a long text, of which an array is made as they are: a copy would take as much memory again."""
    cdef uint32_t *ids
    cdef Py_ssize_t size

    def __dealloc__(self):
        pages_free(self.ids, self.size * sizeof(uint32_t))


@cython.no_gc_clear  # a stream in a cycle gives it back when it goes, whatever the collector took apart before
cdef class Table:
    """The memory of one call: the pretoken table, the ids so far, and what waits for ids."""

    def __cinit__(self, Merger merger not None, Splitter splitter, Py_ssize_t cache_bytes, str vectors not None):
        self.merger = merger
        self.code = key_code(vectors.encode())
        if not self.code.hash:
            raise ValueError(f"vectors must be of a kind that this processor has, got {vectors!r}")
        # Two thirds for the buckets, one for the ring behind them, in powers of two.
        self.most_buckets = FIRST_BUCKETS
        while 3 * 128 * <Py_ssize_t>self.most_buckets <= cache_bytes and self.most_buckets < MOST_BUCKETS:
            self.most_buckets *= 2
        self.ring.size = FIRST_RING
        while 6 * 4 * <Py_ssize_t>self.ring.size <= cache_bytes and self.ring.size < MOST_WORDS:
            self.ring.size *= 2
        self.ring.words = <uint32_t *>pages_reserve((self.ring.size + 4) * sizeof(uint32_t))
        while not self.ring.words and self.ring.size > FIRST_RING:
            self.ring.size //= 2
            self.ring.words = <uint32_t *>pages_reserve((self.ring.size + 4) * sizeof(uint32_t))
        self.ring.written = 2 * self.ring.size  # so that place 0 is long overwritten
        self.mask = FIRST_BUCKETS - 1
        self.buckets = <KeyBucket *>pages_reserve(self.most_buckets * sizeof(KeyBucket))
        while not self.buckets and self.most_buckets > FIRST_BUCKETS:
            self.most_buckets //= 2
            self.buckets = <KeyBucket *>pages_reserve(self.most_buckets * sizeof(KeyBucket))
        self.misses = <Miss *>malloc(LOCKSTEP_WORDS * sizeof(Miss))
        self.memo = <Memo *>pages_alloc(sizeof(Memo))  # touched as it is used
        self.sights = <uint64_t *>pages_alloc(SIGHT_WORDS * sizeof(uint64_t))
        if splitter is not None:
            self.splits = SplitStream(splitter)
        self.reserve(FEW)
        if not (self.buckets and self.ring.words and self.misses and self.memo and self.sights):
            raise MemoryError
        if cache_bytes:  # it will be used more than once
            pages_touch(self.buckets, 0, FIRST_BUCKETS * sizeof(KeyBucket))
            pages_touch(self.sights, 0, SIGHT_WORDS * sizeof(uint64_t))

    def __dealloc__(self):
        pages_free(self.buckets, self.most_buckets * sizeof(KeyBucket))
        pages_free(self.ring.words, (self.ring.size + 4) * sizeof(uint32_t))
        pages_free(self.memo, sizeof(Memo))
        pages_free(self.sights, SIGHT_WORDS * sizeof(uint64_t))
        free(self.misses)
        self._free()

    cdef uint32_t *_make_room(self, const uint64_t *key, KeyBucket *first) noexcept nogil:
        """Enter a key that the table lacks; return the ids of its entry.  What is in the way is forgotten."""
        cdef KeyBucket *bucket
        cdef bint is_long = key_is_long(key)
        cdef int place, number
        for number in range(KEY_BUCKETS):
            bucket = key_bucket(first, self.buckets, number)
            place = key_room(bucket, is_long)
            if place < 4:
                break
        else:
            bucket = first
            place = self._push_out(bucket, is_long)
        memcpy(bucket.key + 2 * place, key, 32 if is_long else 16)
        self.taken += 1 + is_long
        return bucket.ids + 4 * place

    cdef int _push_out(self, KeyBucket *bucket, bint is_long) noexcept nogil:
        """Forget an entry of a full bucket; return the place for another."""
        cdef int place = self.taken & 2  # the first two places and the last two in turn
        if not is_long and key_is_long(bucket.key + 2 * place):
            bucket.key[2 * place + 2] = bucket.key[2 * place + 3] = NO_KEY  # full is full
        elif not is_long:
            memcpy(bucket.key + 2 * place + 2, bucket.key + 2 * place, 16)
            memcpy(bucket.ids + 4 * place + 4, bucket.ids + 4 * place, 16)
        return place

    cdef bint _is_first(self, const uint64_t *key) noexcept nogil:
        """Return whether a pretoken is seen for the first time, or for the first time in a long while."""
        cdef uint32_t hashed = self.code.hash(key, &SECRET)
        cdef uint64_t *word = self.sights + key_sight_word(hashed)
        if word[0] & key_sight_bit(hashed):
            return 0
        if self.n_sights == MOST_SIGHTS:
            self.n_sights = 0
            memset(self.sights, 0, SIGHT_WORDS * sizeof(uint64_t))
        self.n_sights += 1
        word[0] |= key_sight_bit(hashed)
        return 1

    cdef void _widen(self) noexcept nogil:
        """Go on with four times or twice as many buckets, if there are addresses for them."""
        cdef uint32_t old = self.mask + 1, first = 0, at, place
        cdef bint is_long
        cdef KeyBucket before[KEY_BUCKETS]
        cdef uint64_t key[4]
        cdef uint64_t *found
        cdef uint32_t *ids
        self.taken = 0
        if old == self.most_buckets:
            return
        self.mask = min((4 if old < AMPLE_BUCKETS else 2) * old, self.most_buckets) - 1
        pages_touch(self.buckets, old * sizeof(KeyBucket), (self.mask + 1) * sizeof(KeyBucket))
        # What is in a few buckets side by side stays there, or goes as far behind the middle.
        while first < old:
            memcpy(before, self.buckets + first, sizeof(before))
            memset(self.buckets + first, 0, sizeof(before))
            for at in range(KEY_BUCKETS):
                place = 0
                while place < 4:
                    found = before[at].key + 2 * place
                    if found[1] == 0 or found[0] == NO_KEY:
                        place += 1
                        continue
                    is_long = key_is_long(found)
                    memcpy(key, found, 16)
                    memcpy(key + 2, found + 2 * is_long, 16)
                    ids = self._make_room(key, key_first(self.code.hash(key, &SECRET), self.buckets, self.mask))
                    memcpy(ids, before[at].ids + 4 * place, 32 if is_long else 16)
                    place += 1 + is_long
            first += KEY_BUCKETS

    cdef void _note(
        self, uint32_t *entry, const uint32_t *ids, uint32_t count, const uint8_t *data, uint32_t size, bint is_long
    ) noexcept nogil:
        """Set the ids of an entry; its bytes are kept, if any are given."""
        cdef uint64_t place
        if count <= 3 and not size:
            memcpy(entry, ids, 12)
            entry[3] = count
        elif count <= 7 and is_long:
            memcpy(entry, ids, 12)
            memcpy(entry + 4, ids + 3, 16)
            entry[3] = count
        else:
            place = self._put(ids, count, data, size)
            memcpy(entry, &place, 8)
            entry[3] = KEY_IN_RING | count

    cdef uint64_t _put(self, const uint32_t *ids, uint32_t count, const uint8_t *data, uint32_t size) noexcept nogil:
        """Write ids and bytes into the ring; return where, in words since its first use; or 0: gone.

        Once the ring is full one in four is written (Qureshi et al. 2007, bimodal insertion): of a text that is encoded
        again and again and does not fit, the newest would always overwrite what comes next.
        """
        cdef uint64_t words = count + (size + 3) // 4, place = self.ring.written, last = self.ring.size - 1
        self.n_put += 1
        if place >= 3 * self.ring.size and self.n_put & 3:
            return 0
        if (place & last) + words > self.ring.size:
            place += self.ring.size - (place & last)  # nothing lies across the end
        memcpy(self.ring.words + (place & last), ids, count * sizeof(uint32_t))
        memcpy(self.ring.words + (place & last) + count, data, size)
        self.ring.written = place + words
        return place

    cdef int reserve(self, Py_ssize_t room) except -1 nogil:
        """Make room for more ids."""
        cdef Py_ssize_t need = self.size + room, more
        if need > self.capacity:
            # Pages cost nothing before they are used, where there are addresses for them.
            more = 8 * self.capacity if need > KEPT else min(2 * self.capacity, <Py_ssize_t>KEPT)
            if not self._resize(max(need, more)) and not self._resize(need + need // 4):
                with gil:
                    raise MemoryError
        return 0

    cdef bint _resize(self, Py_ssize_t capacity) noexcept nogil:
        """Have room for so many ids; return 0, and leave all as it was, if there is none."""
        cdef uint32_t *out
        if capacity <= KEPT:
            out = <uint32_t *>realloc(self.out, capacity * sizeof(uint32_t))
        elif self.capacity > KEPT:
            out = <uint32_t *>pages_resize(
                self.out, self.capacity * sizeof(uint32_t), capacity * sizeof(uint32_t)
            )
        else:
            out = <uint32_t *>pages_alloc(capacity * sizeof(uint32_t))
            if out:
                memcpy(out, self.out, self.size * sizeof(uint32_t))
                free(self.out)
        if not out:
            return 0
        self.out = out
        self.capacity = capacity
        return 1

    cdef void _free(self) noexcept nogil:
        if self.capacity > KEPT:
            pages_free(self.out, self.capacity * sizeof(uint32_t))
        else:
            free(self.out)
        self.out = NULL
        self.capacity = 0

    cdef object take(self):
        """Return the ids so far as an array, and start anew."""
        cdef npy_intp size = self.size
        cdef Ids owner
        if size <= KEPT:
            ids = PyArray_SimpleNew(1, &size, NPY_UINT32)
            memcpy(PyArray_DATA(ids), self.out, size * sizeof(uint32_t))
            self.shrink()
            return ids
        owner = Ids.__new__(Ids)
        self._resize(size)
        owner.ids, owner.size = self.out, size
        self.out = NULL
        self.capacity = self.size = 0
        ids = PyArray_SimpleNewFromData(1, &size, NPY_UINT32, owner.ids)
        set_array_base(ids, owner)
        self.reserve(FEW)
        return ids

    cdef int shrink(self) except -1:
        """Forget the ids; keep little room."""
        self.size = 0
        if self.capacity > KEPT:
            self._free()
            self.reserve(FEW)
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
        batch.sights = self.sights
        while at < found.count:
            at += self.code.prepare(
                &batch, found.ends + at, <int>(found.count - at), data + readable, &SECRET, self.buckets, self.mask
            )
            place = 0
            while True:
                out = self.out + self.size
                place = self.code.emit(&batch, place, self.buckets, &self.ring, &out)
                self.size = out - self.out
                if place == batch.count:
                    break
                self._emit(&batch, place)
                place += 1
        self._resolve()
        # With half of the places taken at random, one key in 26 finds its first bucket full.
        if self.taken > 2 * self.mask:
            self._widen()
        return 0

    cdef int _emit(self, const KeyBatch *batch, int at) except -1 nogil:
        """Append the ids of a prepared pretoken that the loop did not find, or note that they are to come."""
        cdef const uint64_t *key = batch.asked[at].key
        cdef const uint8_t *data = key_data(batch, at)
        cdef Py_ssize_t size = key_size(batch, at)
        cdef uint32_t *entry
        cdef uint32_t count
        if size > KEY_HASHED or key[1] == 0:  # eight NULs where a place says that it is empty
            return self.encode_piece(data, size)
        entry = key_find(key, batch.asked[at].bucket, self.buckets)
        if entry == NULL and (size > KEY_LONGEST or size > KEY_SHORT and is_wide(data, size)) and self._is_first(key):
            # A clause, a link, a line of code: most that are new never return, and they would fill the table.
            return self.encode_piece(data, size)
        if entry == NULL:
            return self._miss(batch, at, self._make_room(key, batch.asked[at].bucket))
        if entry[3] & KEY_PENDING:
            return self._wait(entry[3] & ~KEY_PENDING)
        count = key_give(entry, &self.ring, data, size, self.out + self.size)
        if count == 0:
            return self._miss(batch, at, entry)
        self.size += count
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
            entry[3] = KEY_IN_RING  # long gone, if this fails
            self.encode_piece(data, size)
            self._note(
                entry, self.out + before, <uint32_t>(self.size - before), data,
                <uint32_t>size if size > KEY_LONGEST else 0, key_is_long(batch.asked[at].key)
            )
            return 0
        entry[3] = KEY_PENDING | <uint32_t>self.n_misses
        memcpy(miss.key, batch.asked[at].key, sizeof(miss.key))
        miss.size = size
        miss.bucket = <uint32_t>(batch.asked[at].bucket - self.buckets)
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
        cdef uint32_t *entry
        cdef Py_ssize_t moved = 0, end = self.size, start
        cdef int at
        if self.n_misses == 0:
            return 0
        self.merger.merge_all(self.misses, self.n_misses)
        for at in range(self.n_misses):
            miss = self.misses + at
            entry = key_find(miss.key, self.buckets + miss.bucket, self.buckets)
            if entry == NULL or entry[3] != (KEY_PENDING | <uint32_t>at):
                continue  # pushed out by another
            self._note(entry, miss.ids, miss.count, <const uint8_t *>miss.key, 0, key_is_long(miss.key))
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
