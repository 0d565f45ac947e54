"""Native twin of split_python."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove

import numpy as np

cdef enum:
    CODE_BLOCKS = 17408  # 0x110000 / 64
    SLICE = 1 << 20      # bytes between two looks at signals

    START = 256          # the state 1

cdef extern from "run.h" nogil:
    int run_of_range(const uint8_t *data, uint8_t low, uint8_t span, uint8_t fold)

cdef extern from *:
    """
    #define FASTBPE_END_FLAG ((uint32_t)1 << 31)
    #define FASTBPE_WIDE ((uint32_t)1)
    """
    const uint32_t END_FLAG "FASTBPE_END_FLAG"
    const uint32_t WIDE "FASTBPE_WIDE"  # the cell of a byte that is not ASCII; states are multiples of 256


cdef void scan_reset(Scan *scan) noexcept nogil:
    scan.gap = scan.start = scan.end = scan.position = scan.ready = 0
    scan.state = START


cdef class Splitter:
    def __cinit__(self, tables):
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
        self.blocks = stage2.shape[0] // 64
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

    def __dealloc__(self):
        free(self.stage1)
        free(self.stage2)
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

    cdef bint next(
        self, const uint8_t *data, Py_ssize_t size, bint final, Scan *scan, Py_ssize_t *begin, Py_ssize_t *end
    ) noexcept nogil:
        """Give the next pretoken; 0 if more text is needed, or if none is left and the text is final."""
        cdef Py_ssize_t position, last, start, length
        cdef uint32_t state, cell, byte, block, stay
        cdef const uint32_t *row
        cdef const Run *run
        cdef int count
        if scan.ready:
            begin[0] = scan.start
            end[0] = scan.ready
            scan.gap = scan.start = scan.end = scan.position = scan.ready
            scan.ready = 0
            scan.state = START
            return 1
        while scan.start < size:
            position = scan.position
            last = scan.end
            state = scan.state
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
                    break
                position += length
            if state:
                if not final:
                    scan.position = position
                    scan.end = last
                    scan.state = state
                    return 0
                if self.by_class[(state >> 8) * self.width + self.width - 1] & END_FLAG:
                    last = size
            start = scan.start
            if last > start:
                if scan.gap < start and self.gaps:
                    begin[0] = scan.gap
                    end[0] = start
                    scan.gap = start
                    scan.ready = last
                    return 1
                begin[0] = start
                end[0] = last
                scan.gap = scan.start = scan.end = scan.position = last
                scan.state = START
                return 1
            start += 1
            while start < size and (data[start] & 0xC0) == 0x80:
                start += 1
            scan.start = scan.end = scan.position = start
            scan.state = START
        if final and scan.gap < size and self.gaps:
            begin[0] = scan.gap
            end[0] = size
            scan.gap = size
            return 1
        return 0

    def split(self, bytes data not None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), begin, end, count = 0, capacity = 0, visible = 0
        cdef int64_t *spans = NULL
        cdef int64_t *grown
        cdef Scan scan
        cdef int64_t[:, ::1] view
        scan_reset(&scan)
        try:
            while True:
                visible = next_slice(text, size, visible)
                with nogil:
                    while self.next(text, visible, visible == size, &scan, &begin, &end):
                        if count == capacity:
                            capacity = 2 * capacity + 64
                            grown = <int64_t *>realloc(spans, capacity * 2 * sizeof(int64_t))
                            if not grown:
                                with gil:
                                    raise MemoryError
                            spans = grown
                        spans[2 * count] = begin
                        spans[2 * count + 1] = end
                        count += 1
                if visible == size:
                    break
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


cdef Py_ssize_t next_slice(const uint8_t *text, Py_ssize_t size, Py_ssize_t visible) noexcept nogil:
    """Return how much of the text to look at next: a megabyte more, ending between two characters."""
    if size - visible <= SLICE:
        return size
    visible += SLICE
    while visible < size and (text[visible] & 0xC0) == 0x80:
        visible += 1
    return visible


cdef class SplitStream:
    def __cinit__(self, Splitter splitter not None):
        self.splitter = splitter
        scan_reset(&self.scan)

    def __dealloc__(self):
        free(self.data)

    @property
    def held(self):
        return self.size - self.scan.gap

    cdef int append(self, const uint8_t *data, Py_ssize_t size) except -1:
        cdef Py_ssize_t capacity
        cdef uint8_t *grown
        if self.size + size > self.capacity:
            capacity = max(self.size + size + 64, self.capacity + self.capacity // 2)
            grown = <uint8_t *>realloc(self.data, capacity)
            if not grown:
                raise MemoryError
            self.data = grown
            self.capacity = capacity
        memcpy(self.data + self.size, data, size)
        self.size += size
        return 0

    cdef void compact(self) noexcept nogil:
        """Drop what was given out."""
        cdef Py_ssize_t done = self.scan.gap
        if done:
            memmove(self.data, self.data + done, self.size - done)
            self.size -= done
            self.scan.gap -= done
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

    def push(self, bytes data not None):
        cdef Py_ssize_t begin, end
        self.append(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        pieces = []
        while self.splitter.next(self.data, self.size, False, &self.scan, &begin, &end):
            pieces.append(self.data[begin:end])
        self.compact()
        return pieces

    def finish(self):
        cdef Py_ssize_t begin, end
        pieces = []
        while self.splitter.next(self.data, self.size, True, &self.scan, &begin, &end):
            pieces.append(self.data[begin:end])
        self.clear()
        return pieces
