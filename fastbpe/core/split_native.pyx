"""Native twin of split_python.

Two ways to the same boundaries.  The automaton reads a text byte by byte and can always be asked.  Where the pattern
has boxes (pattern/boxes.py) and the processor the vectors for them, a chunk is decided at once from windows of five
characters, and the automaton runs only where a window leaves it open, from the boundary before.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

from fastbpe.core.memory cimport resized

import numpy as np

cdef enum:
    CODE_BLOCKS = 17408  # 0x110000 / 64
    SLICE = 1 << 20      # bytes that the automaton reads at most without a look at signals
    ROOM = 64            # bytes behind the text that may be read
    BEHIND = 16          # bytes that a stream keeps of what it gave out: the characters before a window

    START = 256          # the state 1

cdef extern from "run.h" nogil:
    int run_of_range(const uint8_t *data, uint8_t low, uint8_t span, uint8_t fold)

cdef extern from "boxes.h" nogil:
    BoxesCode boxes_code(const char *kind)
    uint8_t boxes_class(const Boxes *boxes, const uint8_t *data)
    int boxes_lowest(uint64_t bits)

cdef extern from *:
    """
    #define FASTBPE_END_FLAG ((uint32_t)1 << 31)
    #define FASTBPE_WIDE ((uint32_t)1)
    """
    const uint32_t END_FLAG "FASTBPE_END_FLAG"
    const uint32_t WIDE "FASTBPE_WIDE"  # the cell of a byte that is not ASCII; states are multiples of 256


cdef inline uint64_t upwards(Py_ssize_t bit) noexcept nogil:
    """Return the bits from one on."""
    return <uint64_t>0xFFFFFFFFFFFFFFFFULL << (bit & 63)


cdef void scan_reset(Scan *scan) noexcept nogil:
    memset(scan, 0, sizeof(Scan))


cdef class Splitter:
    def __cinit__(self, tables, *, str vectors=""):
        cdef const uint16_t[::1] stage1 = tables.stage1
        cdef const uint8_t[::1] stage2 = tables.stage2
        cdef const uint16_t[:, ::1] dfa = tables.dfa
        cdef Py_ssize_t states = dfa.shape[0], state, column
        cdef uint32_t cell
        if stage1.shape[0] != CODE_BLOCKS:
            raise ValueError("tables.stage1 must have 17408 entries")
        self.tables = tables
        self.gaps = tables.gaps
        self.width = dfa.shape[1]
        self.stage1 = <uint16_t *>malloc(CODE_BLOCKS * sizeof(uint16_t))
        self.stage2 = <uint8_t *>malloc(stage2.shape[0])
        self.by_class = <uint32_t *>malloc(states * self.width * sizeof(uint32_t))
        self.by_byte = <uint32_t *>malloc(states * 256 * sizeof(uint32_t))
        self.runs = <Run *>calloc(states, sizeof(Run))
        if not (self.stage1 and self.stage2 and self.by_class and self.by_byte and self.runs):
            raise MemoryError
        memcpy(self.stage1, &stage1[0], CODE_BLOCKS * sizeof(uint16_t))
        memcpy(self.stage2, &stage2[0], stage2.shape[0])
        # A cell holds the next state times 256, which is the row of by_byte; ASCII takes one look-up a byte.
        for state in range(states):
            for column in range(self.width):
                cell = dfa[state, column]
                self.by_class[state * self.width + column] = (
                    (cell & 0x7FFF) * 256 | (END_FLAG if cell & 0x8000 else 0)
                )
            for column in range(128):
                cell = self.stage2[self.stage1[column >> 6] * 64 + (column & 63)]
                self.by_byte[state * 256 + column] = self.by_class[state * self.width + cell]
            for column in range(128, 256):
                self.by_byte[state * 256 + column] = WIDE
            self._find_run(state)
        if tables.boxes is not None and vectors != "none":
            self._take_boxes(tables.boxes, stage2, vectors)

    def __dealloc__(self):
        free(self.stage1)
        free(self.stage2)
        free(self.coarse2)
        free(self.by_class)
        free(self.by_byte)
        free(self.runs)

    cdef void _find_run(self, Py_ssize_t state) noexcept:
        cdef const uint32_t *row = self.by_byte + state * 256
        cdef uint32_t stay = <uint32_t>state * 256 | END_FLAG
        cdef Run *run = &self.runs[state]
        cdef int byte, low = 0, high = 127
        cdef uint8_t fold
        for fold in (0, 0x20):
            low, high = 0, 127
            while low < 128 and (row[low] != stay or low & fold != fold):
                low += 1
            while high > low and (row[high] != stay or high & fold != fold):
                high -= 1
            if low < high and all([(low <= (byte | fold) <= high) == (row[byte] == stay) for byte in range(128)]):
                run.low = <uint8_t>low
                run.span = <uint8_t>(high - low)
                run.fold = fold
                run.known = 1
                return

    cdef int _take_boxes(self, boxes, const uint8_t[::1] stage2, str kind) except -1:
        """Lay the boxes out for vectors of a kind; of the best, if it is empty."""
        cdef const uint8_t[::1] coarse = boxes.coarse
        cdef const uint8_t[:, :, ::1] rules = boxes.rules
        cdef const uint8_t[::1] unsure = boxes.unsure, periods = boxes.periods
        cdef const uint8_t[:, ::1] tails = boxes.tails
        cdef const uint8_t *row
        cdef Py_ssize_t at, lead, second
        self.code = boxes_code(kind.encode())
        if not self.code.decide:
            if kind:
                raise ValueError(f"vectors must be of a kind that this processor has, got {kind!r}")
            return 0
        self.coarse2 = <uint8_t *>malloc(stage2.shape[0])
        if not self.coarse2:
            raise MemoryError
        for at in range(stage2.shape[0]):
            self.coarse2[at] = coarse[stage2[at]]
        self.boxes.stage1 = self.stage1
        self.boxes.stage2 = self.coarse2
        for at in range(2048):
            self.boxes.two[at] = self.coarse2[self.stage1[at >> 6] * 64 + (at & 63)]
            if at < 128:
                self.boxes.ascii[at >> 4][at & 15] = self.boxes.two[at]
        for lead in range(16):
            for second in range(64):
                row = self.coarse2 + 64 * self.stage1[lead << 6 | second]
                self.boxes.of_second[lead][second] = row[0]
                for at in range(64):
                    if row[at] != row[0]:
                        self.boxes.of_second[lead][second] = BOXES_MIXED
            self.boxes.of_lead[lead] = self.boxes.of_second[lead][0]
            for second in range(64):
                if self.boxes.of_second[lead][second] != self.boxes.of_lead[lead]:
                    self.boxes.of_lead[lead] = BOXES_MIXED
        self.boxes.n_rules = <int>rules.shape[0]
        memcpy(self.boxes.rules, &rules[0, 0, 0], rules.nbytes)
        memcpy(self.boxes.unsure, &unsure[0], unsure.nbytes)
        memcpy(self.boxes.tails, &tails[0, 0], sizeof(self.boxes.tails))
        memcpy(self.boxes.periods, &periods[0], sizeof(self.boxes.periods))
        self.boxes.end = <uint8_t>(max(boxes.coarse) + 2)
        return 0

    cdef bint fill(self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan, Found *found) noexcept nogil:
        """Find the next stretches that no more text can change, those of a chunk.

        Return 0 when all that is there has been read; otherwise the caller goes on, even if none was found.
        """
        found.begin = found.base = scan.given
        found.count = 0
        if not self.code.decide:
            return self._fill_by_automaton(data, size, final, scan, found)
        if scan.state:  # a window has left it open, and the text so far did not suffice
            if not self._run_on(data, size, final, scan):
                return scan.position < size
            found.base = scan.given = scan.position = scan.end
            found.ends[0] = 0
            found.count = 1
        return scan.position < size and self._fill_by_boxes(data, size, final, scan, found)

    cdef bint _fill_by_automaton(
        self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan, Found *found
    ) noexcept nogil:
        cdef Py_ssize_t first = scan.start
        while scan.start < size:
            if found.count >= BOXES_CHUNK or scan.start - first >= SLICE:
                return 1
            if not scan.ready:
                if not scan.state:
                    scan.end = scan.position = scan.start
                    scan.state = START
                if not self._run_on(data, size, final, scan):
                    return scan.position < size
                scan.ready = 1
            if scan.end == scan.start:  # no match: one character is passed over
                scan.ready = 0
                scan.start += 1
                while scan.start < size and (data[scan.start] & 0xC0) == 0x80:
                    scan.start += 1
                scan.end = scan.position = scan.start
                if not self.gaps:  # nobody waits for it
                    if found.count == 0 or not found.ends[found.count - 1] & DROPPED:
                        found.count += 1
                    found.ends[found.count - 1] = <uint32_t>(scan.start - found.base) | DROPPED
                    scan.given = scan.start
                continue
            if scan.given < scan.start:
                found.base = found.base if found.count else scan.start
                found.ends[found.count] = <uint32_t>(scan.start - found.base)
                found.count += 1
                scan.given = scan.start
            if found.count == 0:
                found.base = scan.end
            elif scan.end - found.base >= FAR:
                return 1  # next time, with a base of its own
            found.ends[found.count] = <uint32_t>(scan.end - found.base)
            found.count += 1
            scan.given = scan.start = scan.position = scan.end
            scan.ready = 0
        if final and scan.given < size:
            found.base = found.base if found.count else size
            found.ends[found.count] = <uint32_t>(size - found.base)
            found.count += 1
            scan.given = size
        return 0

    cdef bint _run_on(self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan) noexcept nogil:
        """Run the automaton until it dies, but not for long; return whether scan.end is known."""
        cdef Py_ssize_t limit = min(size, scan.position + SLICE)
        while limit < size and data[limit] & 0xC0 == 0x80:
            limit += 1
        if not self._run(data, limit, scan):
            if not final or limit < size:
                return 0
            if self.by_class[(scan.state >> 8) * self.width + self.width - 1] & END_FLAG:
                scan.end = size
        scan.state = 0
        return 1

    cdef bint _run(self, const uint8_t *data, Py_ssize_t size, Scan *scan) noexcept nogil:
        """Run the automaton; return 0 if it is alive at the end."""
        cdef Py_ssize_t position = scan.position, last = scan.end, length
        cdef uint32_t state = scan.state, cell, byte, block, stay
        cdef const uint32_t *row
        cdef const Run *run
        cdef int count
        while position < size:
            byte = data[position]
            row = self.by_byte + state
            cell = row[byte]
            if cell != WIDE:
                length = 1
                stay = state | END_FLAG
                if cell == stay:
                    # Inside a word the state does not change: no look-up waits for the one before.
                    position += 1
                    run = &self.runs[state >> 8]
                    if run.known:
                        while position + 16 <= size:
                            count = run_of_range(data + position, run.low, run.span, run.fold)
                            position += count
                            if count < 16:
                                break
                    while position < size and row[data[position]] == stay:
                        position += 1
                    last = position - 1
                    continue
            else:
                # The block comes straight from the UTF-8 bytes; the low six bits of the last byte are the column.
                if byte < 0xE0:
                    length = 2
                    block = byte & 31
                elif byte < 0xF0:
                    length = 3
                else:
                    length = 4
                if position + length > size:  # never in valid UTF-8
                    length = 1
                    block = 0
                elif length == 3:
                    block = (byte & 15) << 6 | (data[position + 1] & 63)
                elif length == 4:
                    block = (byte & 7) << 12 | (data[position + 1] & 63) << 6 | (data[position + 2] & 63)
                    if block >= CODE_BLOCKS:
                        block = 0
                cell = self.stage2[self.stage1[block] * 64 + (data[position + length - 1] & 63)]
                cell = self.by_class[(state >> 8) * self.width + cell]
            last = position if cell & END_FLAG else last
            state = cell & ~END_FLAG
            if not state:
                scan.end = last
                return 1
            position += length
        scan.position = position
        scan.end = last
        scan.state = state
        return 0

    cdef void _context(self, const uint8_t *data, Scan *scan, uint8_t *before) noexcept nogil:
        """Write the classes of the three characters before the next one."""
        cdef Py_ssize_t at = scan.position, begin = max(scan.origin, 0)
        cdef uint8_t character[4]
        cdef int place
        for place in range(2, -1, -1):
            before[place] = self.boxes.end - 1
            if at > begin:
                at -= 1
                while at > begin and data[at] & 0xC0 == 0x80:
                    at -= 1
                memset(character, 0, 4)
                memcpy(character, data + at, min(4, scan.position - at))
                before[place] = boxes_class(&self.boxes, character)

    cdef bint _fill_by_boxes(
        self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan, Found *found
    ) noexcept nogil:
        """Decide one chunk; return whether there is more."""
        cdef Decided decided
        cdef uint8_t before[3]
        cdef const uint8_t *chunk = data + scan.position
        cdef Py_ssize_t base = scan.position, rest = size - base, length = min(rest, BOXES_CHUNK), last, at
        cdef Py_ssize_t start = scan.given - base  # of the pretoken that is open
        cdef int block = 0, blocks
        cdef uint64_t on
        cdef uint32_t *ends = found.ends + found.count
        while length < rest and chunk[length] & 0xC0 == 0x80:
            length -= 1
        last = length
        if length < rest or not final:  # the last character waits for the one behind it
            last -= 1
            while last > 0 and chunk[last] & 0xC0 == 0x80:
                last -= 1
        found.base = base
        if last == 0:
            return 0
        self._context(data, scan, before)
        self.code.decide(&self.boxes, chunk, <int>length, before, -start, last == length, &decided)
        blocks = <int>((last + 63) // 64)
        if start == 0:
            decided.on[0] &= ~<uint64_t>1  # that boundary is known
        if last & 63:
            decided.on[blocks - 1] &= ~upwards(last)
        while True:
            block = self.code.flatten(&decided, block, blocks, &ends)
            if block == blocks:
                break
            on = decided.on[block]
            block += 1
            while on:
                at = 64 * (block - 1) + boxes_lowest(on)
                if not decided.unsure[block - 1] >> (at & 63) & 1:
                    ends[0] = <uint32_t>at
                    ends += 1
                    on &= on - 1
                    continue
                scan.start = scan.end = scan.position = base + (start if ends == found.ends else <Py_ssize_t>(ends - 1)[0])
                scan.state = START
                if not self._run_on(data, size, final, scan):
                    scan.given = scan.start
                    found.count = ends - found.ends
                    return scan.position < size
                at = max(at, scan.end - base)  # never less, unless boxes are wrong: what is written stays in the chunk
                ends[0] = <uint32_t>at
                ends += 1
                if at >= last:
                    last = at
                    block = blocks
                    break
                if at >> 6 == block - 1:
                    on &= upwards(at) << 1
                else:
                    block = <int>(at >> 6)
                    decided.on[block] &= upwards(at) << 1
                    break
        if final and last == rest and (ends == found.ends or (ends - 1)[0] < last):
            ends[0] = <uint32_t>last
            ends += 1
        found.count = ends - found.ends
        if found.count:
            scan.given = base + (ends - 1)[0]
        scan.position = base + last
        return length < rest

    cdef Py_ssize_t sure_boundary(self, const uint8_t *data, Py_ssize_t size, Py_ssize_t begin) noexcept nogil:
        """Return the first boundary from `begin` on that every text with these characters around it has, or -1.

        `begin` is that of a character.  Encoding may begin afresh there: what a window tells, it tells of all texts.
        """
        cdef Decided decided
        cdef Scan scan
        cdef uint8_t before[3]
        cdef Py_ssize_t length = min(size - begin, <Py_ssize_t>BOXES_CHUNK), last
        cdef int block
        cdef uint64_t sure
        while begin + length < size and data[begin + length] & 0xC0 == 0x80:
            length -= 1
        if not self.code.decide or length <= 0:
            return -1
        last = length - 1  # that character waits for the one behind it
        while last > 0 and data[begin + last] & 0xC0 == 0x80:
            last -= 1
        scan_reset(&scan)
        scan.position = begin
        self._context(data, &scan, before)
        self.code.decide(&self.boxes, data + begin, <int>length, before, -1, False, &decided)
        for block in range(<int>((last + 63) // 64)):
            sure = decided.on[block] & ~decided.unsure[block]
            if sure and 64 * block + boxes_lowest(sure) < last:
                return begin + 64 * block + boxes_lowest(sure)
            if sure:
                return -1
        return -1

    def split(self, bytes data not None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), begin, end, at, count = 0, capacity = 0, looked = 0
        cdef int64_t *spans = NULL
        cdef int64_t *grown
        cdef Scan scan
        cdef Found found
        cdef int64_t[:, ::1] view
        cdef bint more = True
        scan_reset(&scan)
        try:
            while more:
                with nogil:
                    more = self.fill(text, size, True, &scan, &found)
                    if count + found.count > capacity:
                        capacity = 2 * capacity + found.count
                        grown = <int64_t *>realloc(spans, capacity * 2 * sizeof(int64_t))
                        if not grown:
                            with gil:
                                raise MemoryError
                        spans = grown
                    begin = found.begin
                    for at in range(found.count):
                        end = found.base + (found.ends[at] & ~DROPPED)
                        if not found.ends[at] & DROPPED:
                            spans[2 * count] = begin
                            spans[2 * count + 1] = end
                            count += 1
                        begin = end
                if scan.position - looked >= SLICE:
                    looked = scan.position
                    PyErr_CheckSignals()
            result = np.empty((count, 2), dtype=np.int64)
            if count:
                view = result
                memcpy(&view[0, 0], spans, count * 2 * sizeof(int64_t))
            return result
        finally:
            free(spans)

    def stream(self):
        return SplitStream(self)


cdef class SplitStream:
    def __cinit__(self, Splitter splitter not None):
        self.splitter = splitter
        scan_reset(&self.scan)

    def __dealloc__(self):
        free(self.data)

    @property
    def held(self):
        return self.size - self.scan.given

    cdef int append(self, const uint8_t *data, Py_ssize_t size) except -1:
        self.make_room(size)
        memcpy(self.data + self.size, data, size)
        self.size += size
        return 0

    cdef int make_room(self, Py_ssize_t size) except -1 nogil:
        """Make room for more text, and what may be read behind it."""
        cdef Py_ssize_t capacity
        if self.size + size + ROOM > self.capacity:
            capacity = max(self.size + size + ROOM, self.capacity + self.capacity // 2)
            self.data = <uint8_t *>resized(self.data, capacity, 1)
            self.capacity = capacity
        return 0

    cdef void compact(self) noexcept nogil:
        """Drop what was given out, but for the few bytes that a window may look back to."""
        cdef Py_ssize_t done = self.scan.given - BEHIND
        if done > 0:
            memmove(self.data, self.data + done, self.size - done)
            self.size -= done
            self.scan.origin -= done
            self.scan.given -= done
            self.scan.start -= done
            self.scan.end -= done
            self.scan.position -= done

    cdef void clear(self) noexcept nogil:
        """Begin a new text; give a large buffer back."""
        self.size = 0
        scan_reset(&self.scan)
        if self.capacity > SLICE:
            free(self.data)
            self.data = NULL
            self.capacity = 0

    cdef list _pieces(self, bint final):
        cdef Found found
        cdef Py_ssize_t begin, end, at
        cdef bint more = True
        pieces = []
        while more:
            more = self.splitter.fill(self.data, self.size, final, &self.scan, &found)
            begin = found.begin
            for at in range(found.count):
                end = found.base + (found.ends[at] & ~DROPPED)
                if not found.ends[at] & DROPPED:
                    pieces.append(self.data[begin:end])
                begin = end
        return pieces

    def push(self, bytes data not None):
        self.append(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        pieces = self._pieces(False)
        self.compact()
        return pieces

    def finish(self):
        pieces = self._pieces(True)
        self.clear()
        return pieces
