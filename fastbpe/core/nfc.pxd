# Whether a text is NFC for sure: the loop over what normalize.QuickCheck says of each character.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    SAYING = 0x30000       # characters above say nothing
    RANK = 127             # of what is said: of the combining class,
    SECOND = 128           # it composes with a starter,
    COMPOSED = 127         # it is a composed starter,
    ASK = 255              # nothing is sure

ctypedef fused Unit:
    uint16_t
    uint32_t


cdef inline bint composes(const uint64_t *pairs, Py_ssize_t n, uint64_t pair) noexcept nogil:
    cdef Py_ssize_t low = 0, high = n, middle
    while low < high:
        middle = (low + high) >> 1
        if pairs[middle] < pair:
            low = middle + 1
        else:
            high = middle
    return low < n and pairs[low] == pair


cdef inline bint is_nfc(
    const Unit *data, Py_ssize_t size, const uint8_t *marks, const uint64_t *pairs, Py_ssize_t n_pairs
) noexcept nogil:
    cdef uint64_t starter = 0
    cdef uint8_t last = 0, found
    cdef bint composed = 0  # the starter
    cdef Py_ssize_t at
    for at in range(size):
        found = marks[data[at]] if Unit is uint16_t or data[at] < SAYING else 0
        if found and found != COMPOSED:
            if found == ASK or (found & RANK and (found & RANK) < last):
                return 0
            if found & SECOND and (composed or composes(pairs, n_pairs, starter << 32 | data[at])):
                return 0
        last = found & RANK if found != COMPOSED else 0
        if last == 0:
            starter = data[at]
            composed = found == COMPOSED
    return 1
