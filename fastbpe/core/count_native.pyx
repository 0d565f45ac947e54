"""Native twin of count_python."""

# One table with open addressing, 32 bytes a slot, two slots a cache line.  A pretoken of up to 16 bytes lies in the
# slot itself, as two overlapping loads; a longer one lies in an arena and the slot holds its place and hash.

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

import os

import numpy as np

from fastbpe.core.memory cimport resized, zeroed
from fastbpe.core.split_native cimport DROPPED, Found, Splitter, SplitStream

cdef enum:
    INLINE = 16          # bytes of a pretoken that fit a slot
    SMALLEST = 4096      # slots
    SLICE = 1 << 20      # bytes between two looks at signals

# Known to nobody, so no text can be prepared in which all pretokens meet in one slot.
cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")
cdef uint64_t SECRET = int.from_bytes(os.urandom(8), "little") | 1

cdef extern from "hash.h" nogil:
    uint64_t hash_of_bytes(const uint8_t *data, size_t size, uint64_t seed, uint64_t secret)


cdef struct Slot:
    uint64_t low         # the bytes; of a long pretoken its place in the arena
    uint64_t high        # the bytes; of a long pretoken its hash
    uint64_t length      # 0: empty
    int64_t count


cdef inline uint64_t load64(const uint8_t *data) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, data, 8)
    return value


cdef inline uint32_t load32(const uint8_t *data) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, data, 4)
    return value


@cython.overflowcheck(False)
cdef inline uint64_t hash_short(uint64_t low, uint64_t high, uint64_t length) noexcept nogil:
    cdef uint64_t value = ((low ^ SEED) + length) * <uint64_t>0x9E3779B97F4A7C15
    value = (value ^ (value >> 32) ^ high) * <uint64_t>0xD6E8FEB86659FD93
    return value ^ (value >> 32)


cdef inline uint64_t hash_long(const uint8_t *data, size_t length) noexcept nogil:
    return hash_of_bytes(data, length, SEED, SECRET)


cdef inline void pack(Slot *slot, const uint8_t *data, size_t length) noexcept nogil:
    """Set the two words of a short pretoken; with its length they tell it from every other."""
    slot.length = length
    slot.high = 0
    if length >= 8:
        slot.low = load64(data)
        slot.high = load64(data + length - 8)
    elif length >= 4:
        slot.low = load32(data) | <uint64_t>load32(data + length - 4) << 32
    else:
        slot.low = data[0] | <uint64_t>data[length >> 1] << 8 | <uint64_t>data[length - 1] << 16


cdef bytes unpack(Slot *slot):
    """Return the short pretoken that `pack` took apart."""
    cdef uint8_t data[INLINE]
    cdef uint32_t half
    cdef size_t length = slot.length
    if length >= 8:
        memcpy(data, &slot.low, 8)
        memcpy(data + length - 8, &slot.high, 8)
    elif length >= 4:
        half = <uint32_t>slot.low
        memcpy(data, &half, 4)
        half = <uint32_t>(slot.low >> 32)
        memcpy(data + length - 4, &half, 4)
    else:
        data[length - 1] = <uint8_t>(slot.low >> 16)
        data[length >> 1] = <uint8_t>(slot.low >> 8)
        data[0] = <uint8_t>slot.low
    return PyBytes_FromStringAndSize(<char *>data, length)


cdef class Counter:
    cdef SplitStream stream       # None: the pretokens come from a stream in Python
    cdef object pieces
    cdef Slot *slots
    cdef size_t mask, used
    cdef uint8_t *arena
    cdef size_t arena_size, arena_room

    def __cinit__(self, splitter):
        if isinstance(splitter, Splitter):
            self.stream = SplitStream(splitter)
        else:
            self.pieces = splitter.stream()
        self.slots = <Slot *>zeroed(SMALLEST, sizeof(Slot))
        self.mask = SMALLEST - 1

    def __dealloc__(self):
        free(self.slots)
        free(self.arena)

    @property
    def held(self):
        return self.pieces.held if self.stream is None else self.stream.held

    def push(self, bytes data not None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), start = 0, end
        if self.stream is None:
            self.add_all(self.pieces.push(data))
            return
        while start < size:
            end = min(start + SLICE, size)
            while end < size and (text[end] & 0xC0) == 0x80:
                end += 1
            self.stream.append(text + start, end - start)
            self.count(False)
            self.stream.compact()
            PyErr_CheckSignals()
            start = end

    def finish(self):
        if self.stream is None:
            self.add_all(self.pieces.finish())
            return
        self.count(True)
        self.stream.clear()

    def raw(self, bytes data not None):
        self.add_all([data] if data else [])

    def items(self):
        cdef size_t index, filled = 0
        cdef Slot *slot
        cdef int64_t[::1] view
        pretokens = []
        counts = np.empty(self.used, dtype=np.int64)
        view = counts
        for index in range(self.mask + 1):
            slot = self.slots + index
            if slot.length == 0:
                continue
            if slot.length <= INLINE:
                pretokens.append(unpack(slot))
            else:
                pretokens.append(PyBytes_FromStringAndSize(<char *>self.arena + slot.low, slot.length))
            view[filled] = slot.count
            filled += 1
        return pretokens, counts

    cdef int add_all(self, pieces) except -1:
        cdef bytes piece
        for piece in pieces:
            self.add(<const uint8_t *>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
        return 0

    cdef int count(self, bint final) except -1:
        """Count what the stream can give out."""
        cdef Found found
        cdef Py_ssize_t begin, end, at
        cdef bint more = True
        with nogil:
            while more:
                more = self.stream.splitter.fill(
                    self.stream.data, self.stream.size, final, &self.stream.scan, &found
                )
                begin = found.begin
                for at in range(found.count):
                    end = found.base + (found.ends[at] & ~DROPPED)
                    if not found.ends[at] & DROPPED:
                        self.add(self.stream.data + begin, end - begin)
                    begin = end
        return 0

    cdef int add(self, const uint8_t *data, size_t length) except -1 nogil:
        """Count one pretoken of at least one byte."""
        cdef Slot key
        cdef Slot *slot
        cdef size_t index
        if length <= INLINE:
            pack(&key, data, length)
            index = hash_short(key.low, key.high, length) & self.mask
            while True:
                slot = self.slots + index
                if slot.low == key.low and slot.high == key.high and slot.length == length:
                    slot.count += 1
                    return 0
                if slot.length == 0:
                    break
                index = (index + 1) & self.mask
        else:
            key.length = length
            key.high = hash_long(data, length)
            index = key.high & self.mask
            while True:
                slot = self.slots + index
                if slot.high == key.high and slot.length == length:
                    if memcmp(self.arena + slot.low, data, length) == 0:
                        slot.count += 1
                        return 0
                if slot.length == 0:
                    break
                index = (index + 1) & self.mask
            key.low = self.keep(data, length)
        key.count = 1
        slot[0] = key
        self.used += 1
        if 3 * self.used > 2 * self.mask:
            self.grow()
        return 0

    cdef size_t keep(self, const uint8_t *data, size_t length) except? 0 nogil:
        """Copy a long pretoken into the arena; return its place."""
        cdef size_t place = self.arena_size, room
        if place + length > self.arena_room:
            room = place + length + self.arena_room // 2 + SMALLEST
            self.arena = <uint8_t *>resized(self.arena, room, 1)
            self.arena_room = room
        memcpy(self.arena + place, data, length)
        self.arena_size += length
        return place

    cdef int grow(self) except -1 nogil:
        """Double the table."""
        cdef size_t index, place, size = self.mask + 1, mask = 2 * size - 1
        cdef Slot *slot
        cdef Slot *grown = <Slot *>zeroed(2 * size, sizeof(Slot))
        for index in range(size):
            slot = self.slots + index
            if slot.length == 0:
                continue
            if slot.length <= INLINE:
                place = hash_short(slot.low, slot.high, slot.length) & mask
            else:
                place = slot.high & mask
            while grown[place].length:
                place = (place + 1) & mask
            grown[place] = slot[0]
        free(self.slots)
        self.slots = grown
        self.mask = mask
        return 0
