# A binary heap of rank << 32 | position: the lowest rank first, of equals the leftmost.

from libc.stdint cimport uint64_t

from fastbpe.core.memory cimport resized


cdef struct Heap:
    uint64_t *items
    Py_ssize_t size
    Py_ssize_t capacity


cdef inline void heap_sink(Heap *heap, Py_ssize_t at, uint64_t item) noexcept nogil:
    cdef Py_ssize_t child
    while True:
        child = 2 * at + 1
        if child >= heap.size:
            break
        if child + 1 < heap.size and heap.items[child + 1] < heap.items[child]:
            child += 1
        if item <= heap.items[child]:
            break
        heap.items[at] = heap.items[child]
        at = child
    heap.items[at] = item


cdef inline void heap_build(Heap *heap) noexcept nogil:
    cdef Py_ssize_t at = heap.size // 2
    while at > 0:
        at -= 1
        heap_sink(heap, at, heap.items[at])


cdef inline void heap_pop(Heap *heap) noexcept nogil:
    heap.size -= 1
    if heap.size:
        heap_sink(heap, 0, heap.items[heap.size])


cdef inline int heap_push(Heap *heap, uint64_t item) except -1 nogil:
    cdef Py_ssize_t at, parent
    if heap.size == heap.capacity:
        heap.items = <uint64_t *>resized(heap.items, 2 * heap.capacity, sizeof(uint64_t))
        heap.capacity *= 2
    at = heap.size
    heap.size += 1
    while at:
        parent = (at - 1) // 2
        if heap.items[parent] <= item:
            break
        heap.items[at] = heap.items[parent]
        at = parent
    heap.items[at] = item
    return 0
