"""Native twin of counts_python."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

import numpy as np

from fastbpe.core.memory cimport resized
from fastbpe.core.packed import PackedBytes

cdef enum:
    MAX_SHARED = 255
    FEW = 16             # strings that are sorted by insertion
    MANY = 1 << 18       # strings that take long enough for a look at signals
    NUMBERS = 40         # bytes that the four numbers of an entry have at most

cdef uint64_t MAX_COUNT = <uint64_t>0x7FFFFFFFFFFFFFFF


cdef struct Item:
    uint64_t word        # eight bytes of the string from a depth on, as a number; zeros behind its end
    uint64_t place       # index << 4 | bytes that are left, 9 for more than eight


cdef struct Strings:
    const int64_t *offsets
    const uint8_t *blob
    Py_ssize_t count


cdef int strings_of(strings, Strings *to) except -1:
    """Point to packed strings; whoever holds the object keeps them."""
    cdef const int64_t[::1] offsets = strings.offsets
    cdef const uint8_t[::1] blob = strings.blob
    to.offsets = &offsets[0]
    to.blob = &blob[0] if blob.shape[0] else NULL
    to.count = offsets.shape[0] - 1
    if offsets[to.count] > blob.shape[0]:
        raise ValueError("the offsets must lie in the blob")
    return 0


cdef inline void load(const Strings *strings, Item *item, uint64_t index, int64_t depth) noexcept nogil:
    cdef int64_t left = strings.offsets[index + 1] - strings.offsets[index] - depth
    cdef const uint8_t *data = strings.blob + strings.offsets[index] + depth
    cdef uint64_t word = 0
    cdef int at
    if left >= 8:
        for at in range(8):
            word = word << 8 | data[at]
    else:
        for at in range(<int>left):
            word |= <uint64_t>data[at] << (56 - 8 * at)
    item.word = word
    item.place = index << 4 | <uint64_t>min(left, 9)


cdef inline bint less(const Item *one, const Item *other) noexcept nogil:
    return one.word < other.word or (one.word == other.word and one.place & 15 < other.place & 15)


cdef int look_up_from_work() except -1 with gil:
    PyErr_CheckSignals()
    return 0


cdef int sort_items(
    const Strings *strings, Item *items, Py_ssize_t count, int64_t depth, uint64_t *random
) except -1 nogil:
    """Multikey quicksort by words: the greatest of the three parts is done in the loop, so the stack stays small."""
    cdef Py_ssize_t low, high, at
    cdef Item pivot, held
    while count > 1:
        if count <= FEW:
            for low in range(1, count):
                held = items[low]
                at = low
                while at and less_deep(strings, &held, items + at - 1, depth):
                    items[at] = items[at - 1]
                    at -= 1
                items[at] = held
            return 0
        if count > MANY:
            look_up_from_work()
        random[0] = random[0] * <uint64_t>0x5851F42D4C957F2D + <uint64_t>0x14057B7EF767814F
        pivot = items[(random[0] >> 33) % <uint64_t>count]
        low = at = 0
        high = count
        while at < high:
            held = items[at]
            if less(&held, &pivot):
                items[at] = items[low]
                items[low] = held
                low += 1
                at += 1
            elif less(&pivot, &held):
                high -= 1
                items[at] = items[high]
                items[high] = held
            else:
                at += 1
        if high - low > low and high - low > count - high:
            sort_items(strings, items, low, depth, random)
            sort_items(strings, items + high, count - high, depth, random)
            if pivot.place & 15 < 9:
                return 0  # equal
            items += low
            count = high - low
            depth += 8
            for at in range(count):
                load(strings, items + at, items[at].place >> 4, depth)
            continue
        if pivot.place & 15 == 9:
            for at in range(low, high):
                load(strings, items + at, items[at].place >> 4, depth + 8)
            sort_items(strings, items + low, high - low, depth + 8, random)
        if low > count - high:
            sort_items(strings, items + high, count - high, depth, random)
            count = low
        else:
            sort_items(strings, items, low, depth, random)
            items += high
            count -= high
    return 0


cdef bint less_deep(const Strings *strings, const Item *one, const Item *other, int64_t depth) noexcept nogil:
    if one.word != other.word or one.place & 15 != other.place & 15 or one.place & 15 < 9:
        return less(one, other)
    return compare(strings, one.place >> 4, other.place >> 4, depth + 8) < 0


cdef int compare(const Strings *strings, uint64_t one, uint64_t other, int64_t depth) noexcept nogil:
    cdef int64_t first = strings.offsets[one + 1] - strings.offsets[one] - depth
    cdef int64_t second = strings.offsets[other + 1] - strings.offsets[other] - depth
    cdef int result = memcmp(
        strings.blob + strings.offsets[one] + depth, strings.blob + strings.offsets[other] + depth, min(first, second)
    )
    return result if result else (first > second) - (first < second)


def sort_order(strings):
    cdef Strings of
    cdef Item *items
    cdef Py_ssize_t at
    cdef int64_t[::1] view
    cdef uint64_t random = <uint64_t>0x9E3779B97F4A7C15
    strings_of(strings, &of)
    order = np.empty(of.count, dtype=np.int64)
    view = order
    items = <Item *>resized(NULL, of.count, sizeof(Item))
    try:
        with nogil:
            for at in range(of.count):
                load(&of, items + at, at, 0)
            sort_items(&of, items, of.count, 0, &random)
            for at in range(of.count):
                view[at] = items[at].place >> 4
    finally:
        free(items)
    return order


def starts(strings, const int64_t[::1] order not None):
    cdef Strings of
    cdef Py_ssize_t at, count = 0
    cdef int64_t[::1] view
    strings_of(strings, &of)
    result = np.empty(order.shape[0], dtype=np.int64)
    view = result
    with nogil:
        for at in range(order.shape[0]):
            if at == 0 or compare(&of, order[at], order[at - 1], 0):
                view[count] = at
                count += 1
    return result[:count]


def gather(strings, const int64_t[::1] index not None):
    cdef Strings of
    cdef Py_ssize_t at, total = 0
    cdef int64_t[::1] offsets
    cdef uint8_t[::1] blob
    strings_of(strings, &of)
    offsets_array = np.empty(index.shape[0] + 1, dtype=np.int64)
    offsets = offsets_array
    offsets[0] = 0
    for at in range(index.shape[0]):
        if not 0 <= index[at] < of.count:
            raise IndexError(index[at])
        total += of.offsets[index[at] + 1] - of.offsets[index[at]]
        offsets[at + 1] = total
    blob_array = np.empty(total, dtype=np.uint8)
    if total:
        blob = blob_array
        with nogil:
            for at in range(index.shape[0]):
                memcpy(&blob[0] + offsets[at], of.blob + of.offsets[index[at]], offsets[at + 1] - offsets[at])
    return PackedBytes(offsets_array, blob_array)


cdef inline uint8_t *put(uint8_t *to, uint64_t value) noexcept nogil:
    while value > 127:
        to[0] = <uint8_t>(value & 127 | 128)
        to += 1
        value >>= 7
    to[0] = <uint8_t>value
    return to + 1


def encode_block(
    strings, const int64_t[::1] counts not None, const uint64_t[::1] firsts, const int64_t[::1] order not None,
    Py_ssize_t begin, Py_ssize_t size
):
    cdef Strings of
    cdef const uint8_t *last = NULL
    cdef const uint8_t *key
    cdef int64_t last_length = 0, length, shared, end, index
    cdef Py_ssize_t at = begin, used = 0, room = 0
    cdef uint8_t *payload = NULL
    cdef uint8_t *to
    strings_of(strings, &of)
    try:
        while at < order.shape[0] and used < size:
            index = order[at]
            if not 0 <= index < of.count:
                raise IndexError(index)
            key = of.blob + of.offsets[index]
            length = of.offsets[index + 1] - of.offsets[index]
            if used + length + NUMBERS > room:
                room = used + length + NUMBERS + size
                payload = <uint8_t *>resized(payload, room, 1)
            shared = 0
            end = min(last_length, length, MAX_SHARED)
            while shared < end and last[shared] == key[shared]:
                shared += 1
            to = put(put(payload + used, shared), length - shared)
            memcpy(to, key + shared, length - shared)
            to = put(to + length - shared, counts[index])
            if firsts is not None:
                to = put(to, firsts[index])
            used = to - payload
            last = key
            last_length = length
            at += 1
        return PyBytes_FromStringAndSize(<char *>payload, used) if used else b"", at
    finally:
        free(payload)


cdef inline Py_ssize_t get(const uint8_t *data, Py_ssize_t at, Py_ssize_t size, uint64_t *value) except -1:
    """Read a number; return the place behind it."""
    cdef int shift = 0
    value[0] = 0
    while at < size:
        if shift == 63 and data[at] > 1:
            break
        value[0] |= <uint64_t>(data[at] & 127) << shift
        if data[at] < 128:
            return at + 1
        at += 1
        shift += 7
    raise ValueError("a number is longer than 64 bits" if at < size else "it ends inside an entry")


def decode_block(bytes payload not None, Py_ssize_t entries, bytes last not None, bint positions):
    cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(payload)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload), place = 0, count = 0, used = 0, room = 0, before, length, end
    cdef uint64_t shared, more, number
    cdef uint8_t *blob = NULL
    cdef uint8_t[::1] blob_view
    cdef int64_t[::1] offsets, counts
    cdef uint64_t[::1] firsts
    cdef const uint8_t *than = <const uint8_t *>PyBytes_AS_STRING(last)
    cdef Py_ssize_t than_length = PyBytes_GET_SIZE(last)
    cdef int order
    if not 1 <= entries <= size // 4:
        raise ValueError(f"it does not hold {entries} pretokens")
    offsets_array = np.empty(entries + 1, dtype=np.int64)
    counts_array = np.empty(entries, dtype=np.int64)
    firsts_array = np.empty(entries if positions else 0, dtype=np.uint64)
    offsets, counts, firsts = offsets_array, counts_array, firsts_array
    offsets[0] = before = 0
    try:
        room = 2 * size
        blob = <uint8_t *>resized(NULL, room, 1)
        while place < size:
            if count == entries:
                raise ValueError(f"it does not hold {entries} pretokens")
            place = get(data, place, size, &shared)
            place = get(data, place, size, &more)
            if shared > <uint64_t>min(used - before, MAX_SHARED) or more > <uint64_t>(size - place):
                raise ValueError("an entry is longer than its block")
            length = shared + more
            if used + length > room:
                room = used + length + room // 2 + size
                blob = <uint8_t *>resized(blob, room, 1)
            memcpy(blob + used, blob + before, shared)
            memcpy(blob + used + shared, data + place, more)
            if count:
                than = blob + before
                than_length = used - before
            place = get(data, place + more, size, &number)
            order = memcmp(blob + used, than, min(length, than_length))
            if order < 0 or (order == 0 and length <= than_length) or not 1 <= number <= MAX_COUNT:
                raise ValueError("a pretoken is not in order or has no count")
            counts[count] = number
            if positions:
                place = get(data, place, size, &number)
                firsts[count] = number
            before = used
            used += length
            count += 1
            offsets[count] = used
        if count != entries:
            raise ValueError(f"it does not hold {entries} pretokens")
        blob_array = np.empty(used, dtype=np.uint8)
        blob_view = blob_array
        memcpy(&blob_view[0], blob, used)
    finally:
        free(blob)
    return PackedBytes(offsets_array, blob_array), counts_array, firsts_array if positions else None
