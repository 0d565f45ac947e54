"""Native twin of count_python.

A thread has a front: a table that fits its cache, two ways a set, in which most pretokens of a text are counted.  What
it turns out goes to the shards that all threads share (count_table), a batch at a time.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock, WAIT_LOCK,
)
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcpy, memset

import os

import numpy as np

from fastbpe.core.count_table cimport (
    BATCH, INLINE, LONG_KEY, NO_MEMORY, NO_PLACE, SHARDS, TOO_MANY, Key, Record, Shard, record_read, shard_add_all,
    shard_clear,
)
from fastbpe.core.match_native cimport FOUND, TIRED, Matcher, Search
from fastbpe.core.packed import PackedBytes
from fastbpe.errors import TrainingError
from fastbpe.core.split_native cimport BOXES_CHUNK, DROPPED, Found, Scan, SplitStream, Splitter, scan_reset

cdef enum:
    SETS = 4096          # of a front, two ways each: 256 KB
    SLICE = 1 << 18      # bytes between two looks at signals
    AROUND = 16          # valid bytes wanted on both sides of a cut: more than a window of the splitter reads
    SMALL_WEIGHT = 1 << 20  # up to which a front may add up: it never reaches 2**63
    KEPT = 1 << 16       # bytes of long keys that wait for their shards
    GREAT = 1 << 10      # bytes of a key that does not wait
    CUT_STEPS = 1 << 20  # to look for special tokens around the places of a window

# Known to nobody, so no text can be prepared in which all pretokens meet in one slot.
cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")
cdef uint64_t SECRET = int.from_bytes(os.urandom(8), "little") | 1

cdef extern from "hash.h" nogil:
    uint64_t hash_fold(uint64_t a, uint64_t b)
    uint64_t hash_of_bytes(const uint8_t *data, size_t size, uint64_t seed, uint64_t secret)

cdef extern from "valid.h" nogil:
    size_t valid_end(const uint8_t *data, size_t at, size_t size)
    int valid_length(const uint8_t *data, size_t rest)
    int valid_begun(const uint8_t *data, size_t rest)


cdef struct Word:
    # The two words of a short key: what of 16 bytes belongs to it, and the length in the last byte.
    uint64_t low
    uint64_t high
    uint64_t length

cdef Word WORDS[INLINE + 1]

cdef void make_words() noexcept:
    cdef uint8_t data[16]
    cdef int length
    for length in range(INLINE + 1):
        memset(data, 0, 16)
        memset(data, 255, length)
        memcpy(&WORDS[length], data, 16)
        memset(data, 0, 16)
        data[INLINE] = <uint8_t>length
        memcpy(&WORDS[length].length, data + 8, 8)

make_words()


cdef struct Way:
    uint64_t low
    uint64_t high
    uint64_t count       # 0: empty
    uint64_t first

cdef struct Short:       # a short key that is still to be counted
    uint64_t low
    uint64_t high
    uint64_t hash
    uint64_t first


cdef inline void make_key(Short *key, const uint8_t *data, size_t length, uint64_t first) noexcept nogil:
    """Make a key of 1 to INLINE bytes; 16 can be read."""
    memcpy(&key.low, data, 16)
    key.low &= WORDS[length].low
    key.high = (key.high & WORDS[length].high) | WORDS[length].length
    key.hash = hash_fold(key.low ^ SEED, key.high ^ SECRET)
    key.first = first


@cython.final
cdef class Table:
    """The shards; freed when the last counter is."""
    cdef Shard shards[SHARDS]
    cdef bint positions

    def __cinit__(self, bint positions):
        cdef int at
        self.positions = positions
        for at in range(SHARDS):
            self.shards[at].lock = PyThread_allocate_lock()
            if self.shards[at].lock == NULL:
                raise MemoryError

    def __dealloc__(self):
        cdef int at
        for at in range(SHARDS):
            shard_clear(&self.shards[at])
            if self.shards[at].lock != NULL:
                PyThread_free_lock(self.shards[at].lock)

    cdef size_t memory(self) noexcept nogil:
        cdef size_t total = 0
        cdef int at
        for at in range(SHARDS):
            total += self.shards[at].room + self.shards[at].capacity * sizeof(uint64_t)
        return total


cdef int failure(int kind) except -1 with gil:
    if kind == NO_MEMORY:
        raise MemoryError
    if kind == TOO_MANY:
        raise TrainingError("the count of a pretoken is 2**63 or more")
    raise TrainingError("the distinct pretokens have more than 256 GB")


@cython.final
cdef class Counter:
    cdef Table table
    cdef Splitter splitter
    cdef Matcher matcher
    cdef bint lines
    cdef Way *front
    cdef Key *batches          # [SHARDS, BATCH]
    cdef int filled[SHARDS]
    cdef uint8_t *kept         # copies of the long keys in the batches
    cdef size_t kept_size
    cdef uint64_t weight
    # The text of a document that is not counted yet; what follows are places in it.
    cdef SplitStream stream
    cdef uint64_t base         # where its buffer begins, in all text
    cdef uint64_t limit        # pretokens from here on are not counted
    cdef Py_ssize_t valid      # up to here it is valid UTF-8
    cdef bint broken           # there an invalid byte stands
    cdef Py_ssize_t clear      # up to here no special token begins
    cdef Py_ssize_t match_end  # of the special token that begins there; 0: none is known
    cdef Py_ssize_t looked     # up to here there is no end of a line
    cdef Py_ssize_t ran        # up to here a run of invalid bytes has been read

    def __cinit__(self, splitter, Matcher matcher=None, *, bint positions=False, bint lines=False, Counter beside=None):
        self.splitter = splitter
        self.matcher = matcher
        self.lines = lines
        self.table = Table(positions) if beside is None else beside.table
        self.stream = SplitStream(splitter)
        self.front = <Way *>calloc(2 * SETS, sizeof(Way))
        self.batches = <Key *>calloc(SHARDS * BATCH, sizeof(Key))
        self.kept = <uint8_t *>malloc(KEPT)
        if not self.front or not self.batches or not self.kept:
            raise MemoryError
        self.begin()

    def __dealloc__(self):
        free(self.front)
        free(self.batches)
        free(self.kept)

    def sibling(self):
        return Counter(
            self.splitter, self.matcher, positions=self.table.positions, lines=self.lines, beside=self
        )

    @property
    def cuts(self):
        return self.lines or self.splitter.code.decide != NULL

    @property
    def memory(self):
        return self.table.memory()

    @property
    def reached(self):
        return self.base + <uint64_t>self.stream.scan.given >= self.limit

    def begin(self, uint64_t at=0, uint64_t weight=1, uint64_t limit=<uint64_t>-1):
        if not 0 < weight < <uint64_t>1 << 63:
            raise ValueError(f"weight must be 1 to 2**63 - 1, got {weight}")
        if self.table.positions and at < self.base + <uint64_t>self.stream.size:
            self.flush()  # a front keeps the place that it saw first
        if weight > SMALL_WEIGHT and self.weight <= SMALL_WEIGHT:
            self.flush()  # nothing heavy is added to what it holds
        self.stream.clear()
        self.base = at
        self.limit = limit
        self.weight = weight
        self.valid = self.clear = self.match_end = self.looked = self.ran = 0
        self.broken = False

    def take(self, bytes data not None, bint final=False):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), start = 0, count
        while True:
            count = min(size - start, <Py_ssize_t>SLICE)
            self.stream.append(text + start, count)
            start += count
            with nogil:
                self.advance(final and start == size)
                self.compact()
            if start == size:
                break
            PyErr_CheckSignals()
        if final:
            size = self.stream.size
            self.stream.clear()
            self.begin(self.base + size)

    cdef void compact(self) noexcept nogil:
        cdef Py_ssize_t before = self.stream.size, done
        self.stream.compact()
        done = before - self.stream.size
        self.base += done
        self.valid -= done
        self.clear -= done
        self.match_end -= done if self.match_end else 0
        self.looked -= done
        self.ran -= done

    cdef void segment(self, Py_ssize_t at) noexcept nogil:
        """A text begins here."""
        cdef Scan *scan = &self.stream.scan
        scan_reset(scan)
        scan.origin = scan.given = scan.start = scan.end = scan.position = at
        self.looked = at

    cdef int advance(self, bint final) except -1 nogil:
        """Count what no more text can change."""
        cdef const uint8_t *data = self.stream.data
        cdef const void *line
        cdef Py_ssize_t size = self.stream.size, stop, end
        cdef bint ends
        while self.base + <uint64_t>self.stream.scan.given < self.limit:
            if not self.broken and self.valid < size:
                self.valid = valid_end(data, self.valid, size)
                if self.valid < size:
                    self.broken = final or not valid_begun(data + self.valid, size - self.valid)
            ends = self.broken or (final and self.valid == size)
            if self.matcher is None:
                self.clear = self.valid
            elif not self.match_end:
                self.find(data, ends)
            stop = self.clear
            ends = ends and stop == self.valid and not self.match_end
            if self.lines and stop > self.looked:
                line = memchr(data + self.looked, 10, stop - self.looked)
                self.looked = stop
                if line != NULL:
                    stop = <const uint8_t *>line - data + 1
                    self.count(data, stop, True)
                    self.segment(stop)
                    continue
            self.count(data, stop, ends or self.match_end > 0)
            if self.match_end:
                self.segment(self.match_end)
                self.clear = self.match_end
                self.match_end = 0
                continue
            if not self.broken or stop < self.valid:
                break
            self.segment(stop)  # of bytes that are not valid
            end = max(stop, self.ran)
            while end < size and not valid_length(data + end, size - end):
                if not final and valid_begun(data + end, size - end):
                    break
                end += 1
            self.ran = end
            if not final and (end == size or valid_begun(data + end, size - end)):
                break
            if self.base + <uint64_t>stop < self.limit:
                self.add_any(data + stop, end - stop, self.base + stop)
            self.segment(end)
            self.valid = self.clear = end
            self.broken = False
        return 0

    cdef int find(self, const uint8_t *data, bint ends) except -1 nogil:
        """Find the next special token of the valid text; move `clear` up to it, or up to what may become one."""
        cdef Search search
        cdef int end = TIRED
        memset(&search, 0, sizeof(search))
        search.at = self.clear
        while end == TIRED:
            end = self.matcher.search(data, self.valid, ends, &search)
            if end == TIRED:
                with gil:
                    PyErr_CheckSignals()
        self.clear = search.at
        if end == FOUND:
            self.clear = search.start
            self.match_end = search.stop
        return 0

    cdef int count(self, const uint8_t *data, Py_ssize_t size, bint final) except -1 nogil:
        """Count the pretokens of the segment that ends at `size`, or goes on there."""
        cdef Scan *scan = &self.stream.scan
        cdef Found found
        cdef Py_ssize_t limit
        cdef bint more = size > scan.given
        limit = <Py_ssize_t>min(self.limit - self.base, <uint64_t>1 << 62)
        while more:
            more = self.splitter.fill(data, size, final, scan, &found)
            if scan.given >= limit:
                while found.count and found.base + <Py_ssize_t>(found.ends[found.count - 1] & ~DROPPED) > limit:
                    found.count -= 1
                more = False
            self.count_found(data, &found)
        return 0

    cdef int count_found(self, const uint8_t *data, const Found *found) except -1 nogil:
        """Count the pretokens of a chunk: first the keys of a batch, then those that the front has, then the others."""
        cdef Short keys[BATCH]
        cdef Short *key = keys
        cdef Py_ssize_t begin = found.begin, end, at
        cdef size_t length
        for at in range(found.count):
            end = found.base + (found.ends[at] & ~DROPPED)
            length = end - begin
            if not found.ends[at] & DROPPED:
                if length > INLINE:
                    self.add_long(data + begin, length, self.base + begin)
                else:
                    make_key(key, data + begin, length, self.base + begin)
                    key += 1
                    if key == keys + BATCH:
                        self.add_all(keys, BATCH)
                        key = keys
            begin = end
        return self.add_all(keys, key - keys)

    cdef int add_all(self, const Short *keys, Py_ssize_t count) except -1 nogil:
        """Count keys; no branch depends on whether one is in the front, which nobody could foretell."""
        cdef uint8_t missed[BATCH + 1]
        cdef const Short *key
        cdef Way *ways
        cdef Py_ssize_t at, misses = 0
        cdef uint64_t first, second
        for at in range(count):
            key = keys + at
            ways = self.front + 2 * (key.hash & (SETS - 1))
            first = ((ways.low ^ key.low) | (ways.high ^ key.high)) == 0
            second = ((ways[1].low ^ key.low) | (ways[1].high ^ key.high)) == 0
            ways[second].count += self.weight & (0 - (first | second))
            missed[misses] = <uint8_t>at
            misses += 1 - (first | second)
        for at in range(misses):
            self.add(keys + missed[at])
        return 0

    cdef int add_any(self, const uint8_t *data, size_t length, uint64_t first) except -1 nogil:
        """Count a key behind which nothing may be read."""
        cdef uint8_t copy[16]
        cdef Short key
        if length > INLINE:
            return self.add_long(data, length, first)
        memcpy(copy, data, length)
        make_key(&key, copy, length, first)
        return self.add(&key)

    cdef int add(self, const Short *key) except -1 nogil:
        """Count one key; where the front has no room, the rarer of two gives way."""
        cdef Way *ways = self.front + 2 * (key.hash & (SETS - 1))
        cdef Way *way = ways if ways.count < ways[1].count else ways + 1
        cdef Key other
        if ways.low == key.low and ways.high == key.high:
            ways.count += self.weight
            return 0
        if ways[1].low == key.low and ways[1].high == key.high:
            ways[1].count += self.weight
            return 0
        if self.weight > SMALL_WEIGHT:
            other.low, other.high, other.hash, other.first = key.low, key.high, key.hash, key.first
            other.count = self.weight
            return self.hand_on(&other)
        if way.count:
            self.evict(way)
        way.low, way.high, way.first = key.low, key.high, key.first
        way.count = self.weight
        return 0

    cdef int evict(self, const Way *way) except -1 nogil:
        """Hand what a way holds on to its shard."""
        cdef Key key
        key.low, key.high, key.first = way.low, way.high, way.first
        key.count = way.count
        key.hash = hash_fold(key.low ^ SEED, key.high ^ SECRET)
        return self.hand_on(&key)

    cdef int add_long(self, const uint8_t *data, size_t length, uint64_t first) except -1 nogil:
        cdef Key key
        key.high = length
        key.hash = hash_of_bytes(data, length, SEED, SECRET)
        key.count = self.weight | LONG_KEY
        key.first = first
        if length > GREAT:
            key.low = <uint64_t><size_t>data
            self.hand_on(&key)
            return self.flush_batch(<int>(key.hash >> 58))
        if self.kept_size + length > KEPT:
            self.flush_batches()
        memcpy(self.kept + self.kept_size, data, length)
        key.low = <uint64_t><size_t>(self.kept + self.kept_size)
        self.kept_size += length
        return self.hand_on(&key)

    cdef int hand_on(self, const Key *key) except -1 nogil:
        cdef int shard = <int>(key.hash >> 58)
        self.batches[shard * BATCH + self.filled[shard]] = key[0]
        self.filled[shard] += 1
        if self.filled[shard] == BATCH:
            return self.flush_batch(shard)
        return 0

    cdef int flush_batch(self, int shard) except -1 nogil:
        cdef int count = self.filled[shard], failed
        self.filled[shard] = 0
        if count:
            failed = shard_add_all(
                &self.table.shards[shard], self.batches + shard * BATCH, count, self.table.positions
            )
            if failed:
                return failure(failed)
        return 0

    cdef int flush_batches(self) except -1 nogil:
        cdef int shard
        for shard in range(SHARDS):
            self.flush_batch(shard)
        self.kept_size = 0
        return 0

    def flush(self):
        cdef Py_ssize_t at
        with nogil:
            for at in range(2 * SETS):
                if self.front[at].count:
                    self.evict(self.front + at)
            memset(self.front, 0, 2 * SETS * sizeof(Way))
            self.flush_batches()

    def items(self):
        cdef int at, locked = 0
        self.flush()
        try:
            with nogil:  # others count meanwhile, or wait to
                while locked < SHARDS:
                    PyThread_acquire_lock(self.table.shards[locked].lock, WAIT_LOCK)
                    locked += 1
            return self.take_all()
        finally:
            for at in range(locked):
                PyThread_release_lock(self.table.shards[at].lock)

    cdef tuple take_all(self):
        cdef Py_ssize_t n = 0, total = 0
        cdef int at
        cdef int64_t[::1] offsets
        cdef uint8_t[::1] blob
        cdef int64_t[::1] counts
        cdef uint64_t[::1] firsts
        for at in range(SHARDS):
            n += self.table.shards[at].used
            total += self.table.shards[at].key_bytes
        offsets_array = np.empty(n + 1, dtype=np.int64)
        blob_array = np.empty(total, dtype=np.uint8)
        counts_array = np.empty(n, dtype=np.int64)
        firsts_array = np.empty(n if self.table.positions else 0, dtype=np.uint64)
        offsets, blob, counts, firsts = offsets_array, blob_array, counts_array, firsts_array
        offsets[0] = 0
        if n:
            n = total = 0
            with nogil:
                for at in range(SHARDS):
                    self.take_shard(
                        &self.table.shards[at], &offsets[0], &blob[0], &counts[0],
                        &firsts[0] if self.table.positions else NULL, &n, &total
                    )
        return PackedBytes(offsets_array, blob_array), counts_array, firsts_array if self.table.positions else None

    cdef void take_shard(
        self, Shard *shard, int64_t *offsets, uint8_t *blob, int64_t *counts, uint64_t *firsts, Py_ssize_t *n,
        Py_ssize_t *total
    ) noexcept nogil:
        """Append what a shard holds, and empty it: there is never a second copy of more than one."""
        cdef Record record
        cdef uint8_t *at = shard.records
        while at < shard.records + shard.size:
            record_read(at, firsts != NULL, &record)
            if record.count:
                memcpy(blob + total[0], record.bytes, record.length)
                counts[n[0]] = record.count
                if firsts != NULL:
                    firsts[n[0]] = record.first
                n[0] += 1
                total[0] += record.length
                offsets[n[0]] = total[0]
            at = record.bytes + record.length
        shard_clear(shard)

    def cut(self, bytes window not None, Py_ssize_t begin, Py_ssize_t longest=0):
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(window)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(window), at = 0, end, place, steps = CUT_STEPS
        cdef const void *line
        with nogil:
            while at < size and data[at] & 0xC0 == 0x80:  # the next byte begins a character, whatever came before
                at += 1
            while at < size:
                if self.lines:
                    place = max(begin, 1)
                    line = memchr(data + place - 1, 10, size - place + 1) if place <= size else NULL
                    place = -1 if line == NULL else <const uint8_t *>line - data + 1
                    end = size
                else:
                    end = valid_end(data, at, size)
                    place = self.cut_within(data, at, end, begin)
                if 0 <= place <= size - AROUND - longest and place >= begin:
                    if not self.special_near(data, size, place, longest, &steps):
                        break
                    if steps < 0:  # a window of what nearly spells long special tokens has no place
                        place = -1
                        break
                    begin = place + 1
                    at = max(at, begin - AROUND)
                    while at < size and data[at] & 0xC0 == 0x80:
                        at += 1
                    continue
                place = -1
                at = end + 1
                while at < size and data[at] & 0xC0 == 0x80:
                    at += 1
            else:
                place = -1
        return place

    cdef Py_ssize_t cut_within(self, const uint8_t *data, Py_ssize_t at, Py_ssize_t end, Py_ssize_t begin) noexcept nogil:
        """Return a boundary of all texts with these valid characters, from `begin` on; or -1."""
        cdef Py_ssize_t from_ = max(at + AROUND, begin), place
        while from_ < end and data[from_] & 0xC0 == 0x80:
            from_ += 1
        if from_ >= end - AROUND:
            return -1
        place = self.splitter.sure_boundary(data + at, end - at, from_ - at)
        return -1 if place < 0 or place + at > end - AROUND else place + at

    cdef bint special_near(
        self, const uint8_t *data, Py_ssize_t size, Py_ssize_t place, Py_ssize_t longest, Py_ssize_t *steps
    ) noexcept nogil:
        """Return whether a special token may lie over a place or in the characters around it; yes, without steps left."""
        cdef Py_ssize_t at, last = min(place + AROUND, size)
        cdef int node = 0, found
        if self.matcher is None:
            return 0
        for at in range(max(place - longest - AROUND, 0), size):
            steps[0] -= 1
            if steps[0] < 0:
                return 1
            node = self.matcher._next(node, data[at])
            if at + 1 - self.matcher.nodes[node].depth >= last:
                return 0
            found = self.matcher.nodes[node].found
            if found and at + 1 - self.matcher.nodes[found].depth < last:
                return 1
        return node != 0
