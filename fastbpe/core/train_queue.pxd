# The queue of train_native: a lazy heap of pairs, the one to merge next first. Four children a node.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from fastbpe.core.memory cimport large

cdef struct Candidate:            # count may be stale, never too small; so may tie, where it is a place
    int64_t count
    uint64_t tie                  # greater is better
    uint64_t key                  # left token << 32 | right token

cdef struct Spelling:             # of the tokens, by number
    uint8_t *data
    size_t *starts
    uint32_t *lengths             # in bytes

cdef struct Queue:
    Candidate *items
    size_t size, room
    const Spelling *spelling      # where ties go by it, else NULL


cdef inline int compare_spelling(const Spelling *spelling, uint32_t x, uint32_t y) noexcept nogil:
    cdef uint32_t shorter = min(spelling.lengths[x], spelling.lengths[y])
    cdef int order = memcmp(spelling.data + spelling.starts[x], spelling.data + spelling.starts[y], shorter)
    if order != 0:
        return order
    return (spelling.lengths[x] > spelling.lengths[y]) - (spelling.lengths[x] < spelling.lengths[y])


cdef inline uint64_t first_bytes(const Spelling *spelling, uint32_t token) noexcept nogil:
    """Return the first eight bytes of a token as a number that sorts like them."""
    cdef uint64_t result = 0
    cdef uint32_t index
    for index in range(8):
        result <<= 8
        if index < spelling.lengths[token]:
            result |= spelling.data[spelling.starts[token] + index]
    return result


cdef inline bint queue_before(Queue *queue, const Candidate *x, const Candidate *y) noexcept nogil:
    """Say whether x is to be merged before y."""
    cdef int order
    if x.count != y.count:
        return x.count > y.count
    if x.tie != y.tie or queue.spelling == NULL:
        return x.tie > y.tie
    order = compare_spelling(queue.spelling, <uint32_t>(x.key >> 32), <uint32_t>(y.key >> 32))
    if order == 0:
        order = compare_spelling(queue.spelling, <uint32_t>x.key, <uint32_t>y.key)
    return order > 0


cdef inline void queue_sink(Queue *queue, size_t hole) noexcept nogil:
    """Let the entry at `hole` sink to its place."""
    cdef Candidate entry = queue.items[hole]
    cdef size_t child, best, last
    while True:
        best = 4 * hole + 1
        if best >= queue.size:
            break
        last = min(best + 4, queue.size)
        for child in range(best + 1, last):
            if queue_before(queue, queue.items + child, queue.items + best):
                best = child
        if not queue_before(queue, queue.items + best, &entry):
            break
        queue.items[hole] = queue.items[best]
        hole = best
    queue.items[hole] = entry


cdef inline int queue_append(Queue *queue, int64_t count, uint64_t tie, uint64_t key) except -1 nogil:
    """Add an entry, out of order."""
    cdef size_t room
    if queue.size == queue.room:
        room = queue.room + queue.room // 2 + 256
        queue.items = <Candidate *>large(queue.items, room, sizeof(Candidate))
        queue.room = room
    queue.items[queue.size].count = count
    queue.items[queue.size].tie = tie
    queue.items[queue.size].key = key
    queue.size += 1
    return 0


cdef inline void queue_rise(Queue *queue) noexcept nogil:
    """Let the last entry rise to its place."""
    cdef size_t hole = queue.size - 1, parent
    cdef Candidate entry = queue.items[hole]
    while hole > 0:
        parent = (hole - 1) // 4
        if not queue_before(queue, &entry, queue.items + parent):
            break
        queue.items[hole] = queue.items[parent]
        hole = parent
    queue.items[hole] = entry


cdef inline void queue_order(Queue *queue) noexcept nogil:
    """Put all entries in order."""
    cdef size_t hole = queue.size // 4 + 1
    while hole:
        hole -= 1
        if hole < queue.size:
            queue_sink(queue, hole)


cdef inline void queue_pop(Queue *queue) noexcept nogil:
    queue.size -= 1
    if queue.size:
        queue.items[0] = queue.items[queue.size]
        queue_sink(queue, 0)
