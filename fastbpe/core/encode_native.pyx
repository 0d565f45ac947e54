"""Native twin of encode_python, with a table of pretokens seen before.

The table grows with use to a fixed size and then forgets: two lines a set, a new pretoken takes the first and moves its
entry to the second.  Ids never depend on it.  Each call works with a table of its own, taken from a short list of idle
ones, so threads share nothing.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from fastbpe.core.merge_native cimport NONE, Merger
from fastbpe.core.split_native cimport DROPPED, Found, Scan, Splitter, SplitStream, scan_reset

import numpy as np

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define fastbpe_prefetch(address) __builtin_prefetch(address)
    #else
    #define fastbpe_prefetch(address) ((void)(address))
    #endif
    """
    void prefetch "fastbpe_prefetch"(const void *address) noexcept nogil

cdef extern from "pages.h" nogil:
    void *pages_alloc(size_t size)
    void pages_free(void *memory, size_t size)

cdef enum:
    BATCH = 64           # pretokens whose lines are fetched together
    FIRST_SETS = 1 << 12  # of two lines of 64 bytes: 512 KB for a process that encodes little
    SETS = 1 << 16       # 8 MB in full use
    LONGEST = 31         # bytes of a pretoken that the table can hold
    INLINE = 7           # ids of a pretoken that the table can hold
    SLICE = 1 << 20      # as in split_native
    KEPT = 1 << 18       # ids of output space that an idle scratch keeps
    IDLE = 2             # scratches kept between calls


cdef inline uint64_t load(const uint8_t *data) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, data, 8)
    return value


cdef inline uint64_t low_bytes(uint64_t value, Py_ssize_t count) noexcept nogil:
    """Keep the first `count` bytes in memory order (1 to 8)."""
    return value & (<uint64_t>0xFFFFFFFFFFFFFFFFULL >> (64 - 8 * count))


cdef inline void make_key(const uint8_t *data, Py_ssize_t size, bint padded, uint64_t *key) noexcept nogil:
    """Write the key of up to 31 bytes.  `padded`: 8 bytes behind them may be read."""
    key[1] = key[2] = key[3] = 0
    if not padded:
        key[0] = 0
        memcpy(key, data, size)
    elif size <= 8:
        key[0] = low_bytes(load(data), size)
    elif size <= 16:
        key[0] = load(data)
        key[1] = low_bytes(load(data + 8), size - 8)
    else:
        key[0] = load(data)
        key[1] = load(data + 8)
        if size <= 24:
            key[2] = low_bytes(load(data + 16), size - 16)
        else:
            key[2] = load(data + 16)
            key[3] = low_bytes(load(data + 24), size - 24)
    key[3] |= <uint64_t>size << 56


cdef inline uint64_t hash_key(const uint64_t *key) noexcept nogil:
    cdef uint64_t value = key[0] * 0x9E3779B97F4A7C15ULL ^ key[1] * 0xC2B2AE3D27D4EB4FULL
    value ^= key[2] * 0x165667B19E3779F9ULL ^ key[3] * 0xD6E8FEB86659FD93ULL
    value ^= value >> 29
    value *= 0xBF58476D1CE4E5B9ULL
    return value ^ value >> 32


cdef inline void prepare(
    Piece *piece, const uint8_t *data, Py_ssize_t size, bint padded, Line *lines, uint64_t mask
) noexcept nogil:
    """Note a pretoken, and send for the line that may hold it."""
    piece.data = data
    piece.size = size
    piece.line = NULL
    if size <= LONGEST:
        make_key(data, size, padded, piece.key)
        piece.line = lines + 2 * (hash_key(piece.key) & mask)
        prefetch(piece.line)


cdef inline bint equal_key(const Line *line, const uint64_t *key) noexcept nogil:
    return ((line.key[0] ^ key[0]) | (line.key[1] ^ key[1]) | (line.key[2] ^ key[2]) | (line.key[3] ^ key[3])) == 0


cdef class Scratch:
    """The memory of one call: the pretoken table and the ids so far."""

    def __cinit__(self):
        self.mask = FIRST_SETS - 1
        self.lines = <Line *>pages_alloc(2 * FIRST_SETS * sizeof(Line))
        self.capacity = 4096
        self.out = <uint32_t *>malloc(self.capacity * sizeof(uint32_t))
        if not (self.lines and self.out):
            raise MemoryError

    def __dealloc__(self):
        pages_free(self.lines, 2 * (self.mask + 1) * sizeof(Line))
        free(self.out)

    cdef void widen(self) noexcept nogil:
        """Go on with a table four times as large; without the memory for it, with this one."""
        cdef uint64_t old = self.mask + 1, sets = 4 * old, at
        cdef Line *lines
        cdef Line *line
        self.learned = 0
        if sets > SETS:
            return
        lines = <Line *>pages_alloc(2 * sets * sizeof(Line))
        if not lines:
            return
        for at in range(2 * old):
            if self.lines[at].count:
                line = lines + 2 * (hash_key(self.lines[at].key) & (sets - 1))
                line[1] = line[0]
                line[0] = self.lines[at]
        pages_free(self.lines, 2 * old * sizeof(Line))
        self.lines = lines
        self.mask = sets - 1

    cdef int reserve(self, Py_ssize_t room) except -1 nogil:
        """Make room for more ids."""
        cdef Py_ssize_t capacity
        cdef uint32_t *grown
        if self.size + room > self.capacity:
            capacity = max(self.size + room, self.capacity + self.capacity // 2)
            grown = <uint32_t *>realloc(self.out, capacity * sizeof(uint32_t))
            if not grown:
                with gil:
                    raise MemoryError
            self.out = grown
            self.capacity = capacity
        return 0

    cdef object take(self):
        """Return the ids so far as an array, and start anew."""
        cdef uint32_t[::1] view
        ids = np.empty(self.size, dtype=np.uint32)
        if self.size:
            view = ids
            memcpy(&view[0], self.out, self.size * sizeof(uint32_t))
        self.size = 0
        if self.capacity > KEPT:
            free(self.out)
            self.capacity = 4096
            self.out = <uint32_t *>malloc(self.capacity * sizeof(uint32_t))
            if not self.out:
                self.capacity = 0
                raise MemoryError
        return ids


cdef class Encoder:
    def __cinit__(self, splitter, Merger merger not None):
        self.splitter = splitter
        self.native_splitter = splitter if isinstance(splitter, Splitter) else None
        self.merger = merger
        self.idle = [Scratch()]  # ready before the first call, which may run under a memory limit

    cdef Scratch acquire(self):
        try:
            return self.idle.pop()
        except IndexError:
            return Scratch()

    cdef void release(self, Scratch scratch):
        scratch.size = 0
        if len(self.idle) < IDLE:
            self.idle.append(scratch)

    cdef int encode_piece(self, const uint8_t *data, Py_ssize_t size, bint padded, Scratch scratch) except -1 nogil:
        """Append the ids of one pretoken."""
        cdef Piece piece
        prepare(&piece, data, size, padded, scratch.lines, scratch.mask)
        return self.emit(&piece, scratch)

    cdef int emit(self, Piece *piece, Scratch scratch) except -1 nogil:
        """Append the ids of a prepared pretoken: from its line, else by look-up or merging."""
        cdef Line *line = piece.line
        cdef uint32_t number
        cdef Py_ssize_t count
        cdef uint32_t *out
        if piece.size > LONGEST:
            scratch.reserve(piece.size)
            out = scratch.out + scratch.size
        else:
            scratch.reserve(LONGEST)
            out = scratch.out + scratch.size
            if not equal_key(line, piece.key) and equal_key(line + 1, piece.key):
                line += 1
            if equal_key(line, piece.key):
                memcpy(out, line.ids, 4 * sizeof(uint32_t))  # most have fewer; the rest is overwritten
                if line.count > 4:
                    memcpy(out + 4, line.ids + 4, 3 * sizeof(uint32_t))
                scratch.size += line.count
                return 0
        number = self.merger.lookup(piece.data, piece.size) if self.merger.whole else NONE
        if number != NONE:
            out[0] = number
            count = 1
        else:
            count = self.merger.merge_into(piece.data, piece.size, out)
        scratch.size += count
        if piece.size <= LONGEST and count <= INLINE:
            line[1] = line[0]
            memcpy(line.key, piece.key, sizeof(piece.key))
            line.count = <uint32_t>count
            memcpy(line.ids, out, count * sizeof(uint32_t))
            scratch.learned += 1
        return 0

    cdef bint encode_slice(
        self, const uint8_t *data, Py_ssize_t size, bint final, Py_ssize_t readable, Scan *scan, Scratch scratch
    ) except -1 nogil:
        """Append the ids of the next pretokens that are decided, of about a megabyte; return whether there are more.

        In batches: the lines of all are on their way from memory before the first is looked at.
        """
        cdef Found found
        cdef Piece pieces[BATCH]
        cdef Py_ssize_t begin, end, at, first = scan.position
        cdef uint32_t stop
        cdef int count, place
        cdef bint more = True
        while more and scan.position - first < SLICE:
            more = self.native_splitter.fill(data, size, final, scan, &found)
            begin = found.begin
            at = 0
            while at < found.count:
                count = 0
                while count < BATCH and at < found.count:
                    stop = found.ends[at]
                    end = found.base + (stop & ~DROPPED)
                    if not stop & DROPPED:
                        prepare(
                            &pieces[count], data + begin, end - begin, end + 8 <= readable, scratch.lines, scratch.mask
                        )
                        count += 1
                    begin = end
                    at += 1
                for place in range(count):
                    self.emit(&pieces[place], scratch)
                if scratch.learned > scratch.mask:  # between batches, which hold addresses of lines
                    scratch.widen()
        return more

    cdef int encode_text(self, const uint8_t *data, Py_ssize_t size, Scratch scratch, object check) except -1:
        """Append the ids of one whole text."""
        cdef Scan scan
        cdef bint more = size > 0
        scan_reset(&scan)
        while more:
            with nogil:
                more = self.encode_slice(data, size, True, size, &scan, scratch)
            if more:
                PyErr_CheckSignals()
                if check is not None:
                    check()
        return 0

    cdef int encode_spans(self, bytes text, Scratch scratch, object check) except -1:
        """Append the ids of one whole text whose splitter is not native."""
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(text)
        cdef const int64_t[:, ::1] spans = self.splitter.split(text)
        cdef Py_ssize_t at
        for at in range(spans.shape[0]):
            self.encode_piece(data + spans[at, 0], spans[at, 1] - spans[at, 0], False, scratch)
            if at & 0xFFFF == 0xFFFF:
                PyErr_CheckSignals()
                if check is not None:
                    check()
        return 0

    def encode(self, bytes data not None, cuts=None, check=None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), position = 0, at, start, end, n_cuts = 0
        cdef const int64_t[:, ::1] rows
        cdef Scratch scratch
        if cuts is not None and len(cuts):
            rows = cuts
            n_cuts = rows.shape[0]
        scratch = self.acquire()
        try:
            for at in range(n_cuts + 1):
                start = rows[at, 0] if at < n_cuts else size
                end = rows[at, 1] if at < n_cuts else size
                if not position <= start <= end <= size:
                    raise ValueError(f"cuts must be in order and inside the text, got {start}..{end} at index {at}")
                if start > position:
                    if self.native_splitter is None:
                        self.encode_spans(data[position:start], scratch, check)
                    else:
                        self.encode_text(text + position, start - position, scratch, check)
                if at < n_cuts and rows[at, 2] >= 0:
                    scratch.reserve(1)
                    scratch.out[scratch.size] = <uint32_t>rows[at, 2]
                    scratch.size += 1
                elif end > start:
                    self.encode_piece(text + start, end - start, False, scratch)
                position = end
                if at & 0xFFF == 0xFFF:
                    PyErr_CheckSignals()
                    if check is not None:
                        check()
            return scratch.take()
        finally:
            self.release(scratch)


cdef class EncodeStream:
    def __cinit__(self, Encoder encoder not None):
        self.encoder = encoder
        self.scratch = encoder.acquire()
        splits = encoder.splitter.stream()
        if isinstance(splits, SplitStream):
            self.splits = splits
        else:
            self.regex_splits = splits

    def __dealloc__(self):
        if self.encoder is not None and self.scratch is not None:
            self.encoder.release(self.scratch)

    @property
    def held(self):
        return self.splits.held if self.regex_splits is None else self.regex_splits.held

    cdef int drain(self, bint final) except -1:
        """Append the ids of the pretokens that are decided."""
        cdef SplitStream splits = self.splits
        cdef bint more = True
        while more:
            with nogil:
                # The buffer has room behind the text.
                more = self.encoder.encode_slice(
                    splits.data, splits.size, final, splits.size + 8, &splits.scan, self.scratch
                )
            PyErr_CheckSignals()
        if final:
            splits.clear()
        else:
            splits.compact()
        return 0

    cdef _take_pieces(self, list pieces):
        for piece in pieces:
            self.encoder.encode_piece(
                <const uint8_t *>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), False, self.scratch
            )
        return self.scratch.take()

    def push(self, bytes data not None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        if self.regex_splits is not None:
            return self._take_pieces(self.regex_splits.push(data))
        self.splits.append(text, PyBytes_GET_SIZE(data))
        self.drain(False)
        return self.scratch.take()

    def finish(self):
        if self.regex_splits is not None:
            return self._take_pieces(self.regex_splits.finish())
        self.drain(True)
        return self.scratch.take()

    def raw(self, bytes data not None):
        if data:
            self.encoder.encode_piece(
                <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), False, self.scratch
            )
        return self.scratch.take()
