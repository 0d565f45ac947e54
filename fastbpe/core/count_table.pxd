# Byte strings and how often each occurs, for several threads: shards by hash, each with a lock.
#
# A slot holds 32 bits of the hash and the place of a record; so a table grows without a look at the records, and a key
# that is another is rarely compared.  Places come from the hash by a multiplication, so a table may grow by half.
#
# A record, packed:  length u16 | count u32 | first u64 (with positions) | length u64 (if LONG) | bytes
# A count beyond 32 bits is WIDE: a u64; the record is written anew then, and the old one has the count 0.

cimport cython
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock, PyThread_type_lock,
    WAIT_LOCK,
)
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from "grow.h" nogil:
    void *grow(void *memory, size_t size, size_t wanted)
    void grow_free(void *memory, size_t size)

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define FASTBPE_FETCH(place) __builtin_prefetch(place)
    #else
    #define FASTBPE_FETCH(place) ((void)0)
    #endif
    """
    void fetch "FASTBPE_FETCH"(const void *place) noexcept nogil

cdef enum:
    SHARDS = 64
    BATCH = 64           # keys handed to a shard at once
    INLINE = 15          # bytes of a key that fit two words, with its length
    SLOTS = 512          # of a shard at first
    ROOM_STEP = 4096     # memory of a shard is a multiple of it
    WIDE = 0x8000
    LONG = 0x7FFF
    # what may go wrong while the lock is held
    NO_MEMORY = 1
    NO_PLACE = 2
    TOO_MANY = 3

cdef extern from *:
    """
    #define FASTBPE_LONG_KEY ((uint64_t)1 << 63)
    """
    const uint64_t LONG_KEY "FASTBPE_LONG_KEY"


cdef struct Key:
    # One key, ready for its shard.  Short: its bytes, filled up with zeros, the length in the last.  LONG_KEY set in
    # count: the address and the length.
    uint64_t low
    uint64_t high
    uint64_t hash
    uint64_t count
    uint64_t first       # the least place where it began


cdef struct Shard:
    PyThread_type_lock lock
    uint64_t *slots      # hash << 32 | place of the record + 1; 0: empty
    size_t capacity
    size_t used
    size_t key_bytes     # of all keys
    uint8_t *records
    size_t size
    size_t room


cdef inline uint32_t tag_of(uint64_t hash) noexcept nogil:
    """Return the bits of a hash that a slot keeps; the 6 above choose the shard, those below the place in a front."""
    return <uint32_t>(hash >> 26)


cdef inline size_t place_of(const Shard *shard, uint32_t tag) noexcept nogil:
    return <size_t>((<uint64_t>tag * shard.capacity) >> 32)


cdef inline int shard_grow_slots(Shard *shard) noexcept nogil:
    cdef size_t capacity = shard.capacity + shard.capacity // 2 if shard.capacity else SLOTS
    cdef size_t index, place
    cdef uint64_t *slots
    cdef uint64_t slot
    capacity = (capacity + SLOTS - 1) // SLOTS * SLOTS
    slots = <uint64_t *>grow(NULL, 0, capacity * sizeof(uint64_t))
    if slots == NULL:
        return NO_MEMORY
    for index in range(shard.capacity):
        slot = shard.slots[index]
        if slot:
            place = <size_t>(((slot >> 32) * capacity) >> 32)
            while slots[place]:
                place = place + 1 if place + 1 < capacity else 0
            slots[place] = slot
    grow_free(shard.slots, shard.capacity * sizeof(uint64_t))
    shard.slots = slots
    shard.capacity = capacity
    return 0


cdef inline int shard_make_room(Shard *shard, size_t wanted) noexcept nogil:
    cdef size_t room
    cdef uint8_t *records
    if shard.size + wanted <= shard.room:
        return 0
    room = shard.size + wanted + shard.room // 8
    room = (room + ROOM_STEP - 1) // ROOM_STEP * ROOM_STEP
    records = <uint8_t *>grow(shard.records, shard.room, room)
    if records == NULL:
        return NO_MEMORY
    shard.records = records
    shard.room = room
    return 0


cdef inline const uint8_t *key_bytes(const Key *key, size_t *length) noexcept nogil:
    if key.count & LONG_KEY:
        length[0] = key.high
        return <const uint8_t *><size_t>key.low
    length[0] = (<const uint8_t *>key)[INLINE]
    return <const uint8_t *>key


cdef inline int record_write(
    Shard *shard, const uint8_t *data, size_t length, uint64_t count, uint64_t first, bint positions
) noexcept nogil:
    """Append a record."""
    cdef uint16_t head = <uint16_t>length if length < LONG else LONG
    cdef uint32_t narrow = <uint32_t>count
    cdef uint8_t *to
    cdef uint64_t whole = length
    cdef int failed = shard_make_room(shard, length + 32)
    if failed:
        return failed
    if (shard.size + length + 1) >> 32:
        return NO_PLACE
    if count >> 32:
        head |= WIDE
    to = shard.records + shard.size
    memcpy(to, &head, 2)
    to += 2
    if head & WIDE:
        memcpy(to, &count, 8)
        to += 8
    else:
        memcpy(to, &narrow, 4)
        to += 4
    if positions:
        memcpy(to, &first, 8)
        to += 8
    if head & LONG == LONG:
        memcpy(to, &whole, 8)
        to += 8
    memcpy(to, data, length)
    shard.size = to + length - shard.records
    return 0


cdef struct Record:
    uint16_t head
    uint64_t count
    uint64_t first
    size_t length
    uint8_t *bytes


cdef inline void record_read(uint8_t *at, bint positions, Record *record) noexcept nogil:
    cdef uint32_t narrow
    cdef uint64_t whole
    memcpy(&record.head, at, 2)
    at += 2
    if record.head & WIDE:
        memcpy(&record.count, at, 8)
        at += 8
    else:
        memcpy(&narrow, at, 4)
        record.count = narrow
        at += 4
    record.first = 0
    if positions:
        memcpy(&record.first, at, 8)
        at += 8
    record.length = record.head & LONG
    if record.length == LONG:
        memcpy(&whole, at, 8)
        record.length = whole
        at += 8
    record.bytes = at


cdef inline int record_add(
    Shard *shard, uint64_t *slot, Record *record, uint64_t count, uint64_t first, bint positions
) noexcept nogil:
    """Add to the record of a slot."""
    cdef uint8_t *at = shard.records + (<uint32_t>slot[0] - 1)
    cdef uint64_t sum = record.count + count
    cdef uint32_t narrow = <uint32_t>sum
    cdef size_t place = shard.size
    cdef int failed
    first = min(first, record.first)
    if sum >> 63:
        return TOO_MANY
    if sum >> 32 and not record.head & WIDE:
        failed = shard_make_room(shard, record.length + 32)  # first, as it moves the records
        at = shard.records + (<uint32_t>slot[0] - 1)
        record_read(at, positions, record)
        failed = failed or record_write(shard, record.bytes, record.length, sum, first, positions)
        if failed:
            return failed
        narrow = 0
        memcpy(at + 2, &narrow, 4)
        slot[0] = slot[0] >> 32 << 32 | (place + 1)
        return 0
    if record.head & WIDE:
        memcpy(at + 2, &sum, 8)
        at += 10
    else:
        memcpy(at + 2, &narrow, 4)
        at += 6
    if positions:
        memcpy(at, &first, 8)
    return 0


cdef inline int shard_add(Shard *shard, const Key *key, bint positions) noexcept nogil:
    """Count one key; return what went wrong, or 0."""
    cdef size_t length, place
    cdef const uint8_t *data = key_bytes(key, &length)
    cdef uint64_t tag = tag_of(key.hash), count = key.count & ~LONG_KEY, slot
    cdef Record record
    cdef int failed
    if 4 * (shard.used + 1) > 3 * shard.capacity:
        failed = shard_grow_slots(shard)
        if failed:
            return failed
    place = place_of(shard, <uint32_t>tag)
    while True:
        slot = shard.slots[place]
        if not slot:
            break
        if slot >> 32 == tag:
            record_read(shard.records + (<uint32_t>slot - 1), positions, &record)
            if record.length == length and memcmp(record.bytes, data, length) == 0:
                return record_add(shard, shard.slots + place, &record, count, key.first, positions)
        place = place + 1 if place + 1 < shard.capacity else 0
    slot = tag << 32 | (shard.size + 1)
    failed = record_write(shard, data, length, count, key.first, positions)
    if failed:
        return failed
    shard.slots[place] = slot
    shard.used += 1
    shard.key_bytes += length
    return 0


cdef inline int shard_add_all(Shard *shard, const Key *keys, int count, bint positions) noexcept nogil:
    """Count keys, under the lock; the lines of memory that are wanted are asked for first."""
    cdef int at, failed = 0
    cdef uint64_t slot
    PyThread_acquire_lock(shard.lock, WAIT_LOCK)
    if shard.capacity:
        for at in range(count):
            fetch(shard.slots + place_of(shard, tag_of(keys[at].hash)))
        for at in range(count):
            slot = shard.slots[place_of(shard, tag_of(keys[at].hash))]
            if slot:
                fetch(shard.records + (<uint32_t>slot - 1))
    for at in range(count):
        failed = shard_add(shard, keys + at, positions)
        if failed:
            break
    PyThread_release_lock(shard.lock)
    return failed


cdef inline void shard_clear(Shard *shard) noexcept nogil:
    grow_free(shard.slots, shard.capacity * sizeof(uint64_t))
    grow_free(shard.records, shard.room)
    shard.slots = NULL
    shard.records = NULL
    shard.capacity = shard.used = shard.key_bytes = shard.size = shard.room = 0
