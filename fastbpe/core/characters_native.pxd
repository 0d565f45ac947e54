cimport cython
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #define FASTBPE_HARD ((uint32_t)0xFFFFFFFF)
    #define FASTBPE_SOLVE ((uint32_t)0xFFFFFFFE)
    #define FASTBPE_TWO ((uint32_t)0xFFFFFFFD)

    static const uint8_t fastbpe_sixteen[32] = {
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    """
    const uint8_t *SIXTEEN "fastbpe_sixteen"  # bytes of ones, and as many zeros
    # Instead of the one id of two characters:
    const uint32_t HARD "FASTBPE_HARD"    # no token crosses
    const uint32_t SOLVE "FASTBPE_SOLVE"  # the bytes have to be merged
    const uint32_t TWO "FASTBPE_TWO"      # what each of the two has alone

cdef enum:
    CODES = 65536
    WINDOW = 48
    NARROW = 21               # bits of an id
    ABSENT = (1 << 21) - 1    # instead of one


cdef struct Window:
    # Characters that are looked at together.
    uint32_t count
    uint32_t codes[WINDOW]
    uint32_t alone[WINDOW]     # the id of a character that is known to have one, or ABSENT
    uint32_t crossing[WINDOW]  # what a character becomes with the next one; HARD behind the last
    uint16_t ends[WINDOW]      # where each ends, in bytes


cdef struct Entries:
    uint64_t *slots           # open addressing; 0: empty
    uint64_t mask
    uint64_t count


cdef struct Character:
    uint64_t meets            # a bit for each character behind this one in `met`, by meeting_place
    uint64_t alone            # its one to three ids, of NARROW bits each, the least first; 0: not known


@cython.final
cdef class Characters:
    cdef Character *table     # by code point up to U+FFFF; one more, all zero, for all others
    cdef Entries met          # left << 48 | right << 32 | the one id of both, or TWO or SOLVE
    cdef Entries touching     # as touching_key makes them
    cdef uint64_t near[256]   # by the byte behind a boundary: a bit for the low six of the one before
    cdef uint16_t *lengths    # by both: a bit for each two lengths that a key in `touching` has there

    cdef int note(self, const uint8_t *data, Py_ssize_t size, uint32_t number) except -1
    cdef bint set_alone(self, uint32_t code, const uint32_t *ids, Py_ssize_t count) noexcept nogil
    cdef Py_ssize_t next_met(self, Py_ssize_t at, uint8_t *data, Py_ssize_t *cut) noexcept
    cdef void set_met_two(self, Py_ssize_t at) noexcept
    cdef uint32_t _boundary(self, const uint8_t *data, Py_ssize_t before, Py_ssize_t after, uint64_t key) noexcept nogil
    cdef Py_ssize_t read(self, const uint8_t *data, Py_ssize_t size, Window *window) noexcept nogil


cdef Py_ssize_t put_character(uint32_t code, uint8_t *data) noexcept nogil


cdef inline Py_ssize_t length_of(uint8_t lead) noexcept nogil:
    """Return the length of the character that a byte begins."""
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


cdef inline bint may_cross(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    """Return whether a token has a wide character, or a part of one at an end, or more than 16 bytes: most do not, and
    nobody can foresee which, hence no branches.  Reads sixteen bytes.
    """
    cdef uint64_t two[2]
    cdef uint64_t mask[2]
    memcpy(two, data, 16)
    memcpy(mask, SIXTEEN + (16 - size if size < 16 else 0), 16)
    two[0] &= mask[0]
    two[1] &= mask[1]
    # Of bytes from E0 on the three upper bits are set.
    return ((two[0] & two[0] << 1 & two[0] << 2 | two[1] & two[1] << 1 & two[1] << 2) & 0x8080808080808080ULL != 0) \
        | (size > 16) | (data[0] & 0xC0 == 0x80) | (data[size - 1] >= 0xC0)


cdef inline Py_ssize_t get_character(const uint8_t *data, Py_ssize_t size, uint32_t *code) noexcept nogil:
    """Read the character that the data begins with; return its length, 0 if it is none.  `code`: up to U+FFFF."""
    cdef uint32_t lead = data[0]
    if lead < 0x80:
        code[0] = lead
        return 1
    if lead >= 0xE0:
        if lead < 0xF0:
            if size < 3 or data[1] & 0xC0 != 0x80 or data[2] & 0xC0 != 0x80:
                return 0
            code[0] = (lead & 15) << 12 | <uint32_t>(data[1] & 63) << 6 | (data[2] & 63)
            return 3 if code[0] >= 0x800 else 0
        code[0] = CODES
        if size < 4 or lead > 0xF4 or data[1] & 0xC0 != 0x80 or data[2] & 0xC0 != 0x80 or data[3] & 0xC0 != 0x80:
            return 0
        return 4
    if lead < 0xC2 or size < 2 or data[1] & 0xC0 != 0x80:
        return 0
    code[0] = (lead & 31) << 6 | (data[1] & 63)
    return 2
