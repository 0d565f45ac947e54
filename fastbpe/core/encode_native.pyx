"""Native twin of encode_python: texts of all forms to pretokens, and these to ids by table_native.

Each call works with a table of its own, taken from a short list of idle ones, so threads share nothing.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.list cimport PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastbpe.core.characters_native cimport length_of
from fastbpe.core.key cimport key_prefetch
from fastbpe.core.match_native cimport FOUND, NOTHING, TIRED, Matcher, Search
from fastbpe.core.memory cimport resized
from fastbpe.core.merge_native cimport Merger
from fastbpe.core.nfc cimport SAYING, is_nfc
from fastbpe.core.split_native cimport BOXES_CHUNK, DROPPED, FAR, Found, Scan, Splitter, SplitStream, scan_reset
from fastbpe.core.table_native cimport Table

import numpy as np

cdef enum:
    AHEAD = 16             # ids whose ints are sent for
    CACHE_BYTES = 48 << 20
    SLICE = 1 << 20        # as in split_native
    TEXT = 1 << 15         # characters that are turned into UTF-8 at once
    SHORT = 1 << 10        # characters of a text that is copied, so that what is behind it may be read
    SMALL = 1 << 11        # bytes of a text for which other threads may wait
    IDLE = 2               # tables kept between calls
    CUT_WINDOW = 1 << 10   # characters in which a place for a cut is looked for

cdef enum:                 # ways to encode a str
    NOT                    # not here
    WHOLE                  # as it is
    CUT                    # with tokens of a matcher in it

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    const Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "utf8.h" nogil:
    enum:
        UTF8_BEHIND
    const size_t NO_UTF8 "SIZE_MAX"
    ctypedef size_t Utf8Write(const void *source, size_t count, int kind, uint8_t *to) noexcept nogil
    Utf8Write *utf8_choose(const char *kind)


cdef struct StrData:
    # What a str holds.
    const uint8_t *data
    Py_ssize_t size      # characters
    int kind             # bytes of each
    bint ascii


cdef inline void characters_of(text, StrData *characters):
    characters.data = <const uint8_t *>PyUnicode_DATA(text)
    characters.size = PyUnicode_GET_LENGTH(text)
    characters.kind = PyUnicode_KIND(text)
    characters.ascii = PyUnicode_IS_COMPACT_ASCII(text)


@cython.final
cdef class QuickCheck:
    # See normalize.QuickCheck.
    cdef const uint8_t[::1] marks
    cdef const uint64_t[::1] pairs

    def __cinit__(self, const uint8_t[::1] marks, const uint64_t[::1] pairs):
        if len(marks) != SAYING:
            raise ValueError(f"quick_check: marks must have {SAYING} bytes, got {len(marks)}")
        self.marks = marks
        self.pairs = pairs

    cdef bint passes(self, const StrData *text) noexcept nogil:
        """Return whether a text is NFC for sure."""
        if text.kind == 1:
            return 1
        if text.kind == 2:
            return is_nfc(<const uint16_t *>text.data, text.size, &self.marks[0], &self.pairs[0], self.pairs.shape[0])
        return is_nfc(<const uint32_t *>text.data, text.size, &self.marks[0], &self.pairs[0], self.pairs.shape[0])


@cython.final
@cython.no_gc_clear  # as Table
cdef class Encoder:
    cdef readonly object splitter
    cdef readonly Merger merger
    cdef Splitter native_splitter
    cdef QuickCheck quick_check  # None: text is not normalized
    cdef Py_ssize_t cache_bytes  # 0: what was seen is forgotten at the end of a call
    cdef str vectors
    cdef list idle               # of Table
    cdef Utf8Write *write
    cdef PyObject **ints         # an int for each id; NULL until it is asked for
    cdef uint32_t n_ints

    def __cinit__(
        self, splitter, Merger merger not None, *, quick_check=None,
        Py_ssize_t cache_bytes=CACHE_BYTES, str vectors=""
    ):
        self.splitter = splitter
        self.native_splitter = splitter if isinstance(splitter, Splitter) else None
        self.merger = merger
        self.quick_check = None if quick_check is None else QuickCheck(quick_check.marks, quick_check.pairs)
        self.cache_bytes = cache_bytes
        self.vectors = vectors
        self.idle = [self.new_table()]  # ready before the first call, which may run under a memory limit
        self.write = utf8_choose(vectors.encode())
        self.n_ints = merger.greatest_id() + 1
        self.ints = <PyObject **>calloc(self.n_ints, sizeof(PyObject *))
        if not self.ints:
            self.n_ints = 0
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t at
        for at in range(self.n_ints):
            Py_XDECREF(self.ints[at])
        free(self.ints)

    @property
    def remembered(self):
        # Places of the pretoken table that are taken, of the last call's table.
        return (<Table>self.idle[len(self.idle) - 1]).taken if self.idle else 0

    cdef Table new_table(self):
        return Table(self.merger, self.native_splitter, self.cache_bytes, self.vectors)

    cdef Table acquire(self):
        try:
            return self.idle.pop()
        except IndexError:
            return self.new_table()

    cdef int release(self, Table table) except -1:
        table.shrink()  # a call that failed took nothing
        # Misses are left over by a call that failed: the table has entries that wait for them.
        if self.cache_bytes > 0 and len(self.idle) < IDLE and table.n_misses == 0:
            self.idle.append(table)
        return 0

    cdef bint encode_slice(
        self, const uint8_t *data, Py_ssize_t size, bint final, Py_ssize_t readable, Py_ssize_t stop, Scan *scan,
        Table table
    ) except -1 nogil:
        """Append the ids of the next pretokens that are decided and end before `stop`, of about a megabyte.

        Return whether there are more.
        """
        cdef Found found
        cdef Py_ssize_t first = scan.position
        cdef bint more = True
        while more and scan.position - first < SLICE:
            more = self.native_splitter.fill(data, size, final, scan, &found)
            if scan.given >= stop:
                while found.count and found.base + <Py_ssize_t>(found.ends[found.count - 1] & ~DROPPED) > stop:
                    found.count -= 1
                more = False
            table.encode_found(data, &found, readable)
        return more

    cdef int look_up_from_work(self, object check) except -1 nogil:
        with gil:
            PyErr_CheckSignals()
            if check is not None:
                check()
        return 0

    cdef int encode_whole(
        self, const uint8_t *data, Py_ssize_t size, Py_ssize_t readable, Py_ssize_t stop, Table table, object check
    ) except -1 nogil:
        """Append the ids of a text up to `stop`: its end, or a place that cut() gave."""
        cdef Scan scan
        cdef bint more = size > 0
        scan_reset(&scan)
        while more:
            more = self.encode_slice(data, size, True, readable, stop, &scan, table)
            if more:
                self.look_up_from_work(check)
        return 0

    cdef int encode_between(self, const uint8_t *data, Py_ssize_t size, Table table, object check) except -1:
        """Append the ids of one whole text; other threads wait for a short one only."""
        if size <= SMALL:
            return self.encode_whole(data, size, size, size, table, check)
        with nogil:
            return self.encode_whole(data, size, size, size, table, check)

    cdef list _listed(self, const uint32_t *out, Py_ssize_t size):
        """Return ids as a list.  The int of each ordinary token is made once."""
        cdef list ids = PyList_New(size)
        cdef PyObject **ints = self.ints
        cdef uint32_t number
        cdef Py_ssize_t at
        for at in range(size):
            if at + AHEAD < size:  # both lie anywhere in megabytes
                key_prefetch(ints + out[at + AHEAD])
                number = out[at + AHEAD // 2]
                if number < self.n_ints:
                    key_prefetch(ints[number])
            number = out[at]
            if number >= self.n_ints or ints[number] == NULL:
                made = <object>number
                Py_INCREF(made)
                if number >= self.n_ints:
                    PyList_SET_ITEM(ids, at, made)
                    continue
                ints[number] = <PyObject *>made
            Py_INCREF(<object>ints[number])
            PyList_SET_ITEM(ids, at, <object>ints[number])
        return ids

    cdef bint encode_characters(
        self, const StrData *text, Py_ssize_t begin, Py_ssize_t end, Table table, object check
    ) except -1 nogil:
        """Append the ids of a str from one place to another, its ends or what cut() gave; return 0 at a surrogate."""
        if begin == end:
            return 1
        if text.ascii and text.size > SHORT:
            self.encode_whole(text.data + begin, text.size - begin, text.size - begin, end - begin, table, check)
            return 1
        try:
            return self.encode_as_utf8(text, begin, end, table, check)
        finally:
            table.splits.clear()

    cdef bint encode_as_utf8(
        self, const StrData *text, Py_ssize_t begin, Py_ssize_t end, Table table, object check
    ) except -1 nogil:
        cdef Py_ssize_t at = begin, count, looked = begin, stop = PY_SSIZE_T_MAX
        cdef int kind = text.kind, widest = kind + 1 if kind < 4 else 4
        cdef size_t written
        cdef bint more
        while at < text.size and (at < end or table.splits.scan.given - table.splits.scan.origin < stop):
            count = min((end if at < end else text.size) - at, <Py_ssize_t>TEXT)
            table.splits.make_room(count * widest + UTF8_BEHIND)
            written = self.write(text.data + at * kind, count, kind, table.splits.data + table.splits.size)
            if written == NO_UTF8:
                return 0
            table.splits.size += written
            at += count
            if at == end:  # what comes behind is only looked at
                stop = table.splits.size - table.splits.scan.origin
            more = True
            while more:
                more = self.encode_slice(
                    table.splits.data, table.splits.size, at == text.size, table.splits.size + 32,
                    stop if stop == PY_SSIZE_T_MAX else stop + table.splits.scan.origin, &table.splits.scan, table
                )
            table.splits.compact()
            if at - looked >= SLICE:
                looked = at
                self.look_up_from_work(check)
        return 1

    cdef bint encode_cut(
        self, const StrData *text, Matcher matcher, Table table, object check
    ) except -1 nogil:
        """Append the ids of a str and of the tokens in it; return 0 at a surrogate, or at a token that has no id."""
        try:
            return self.encode_matches(text, matcher, table, check)
        finally:
            table.splits.clear()

    cdef bint encode_matches(
        self, const StrData *text, Matcher matcher, Table table, object check
    ) except -1 nogil:
        cdef const uint8_t *data = text.data
        cdef Py_ssize_t size = text.size, readable = size, position = 0, looked = 0, stop
        cdef size_t written
        cdef Search search
        cdef int end = FOUND
        if not text.ascii or size <= SHORT:
            table.splits.make_room(size * (text.kind + 1 if text.kind < 4 else 4) + UTF8_BEHIND)
            data = table.splits.data
            written = self.write(text.data, size, text.kind, table.splits.data)
            if written == NO_UTF8:
                return 0
            size = written
            readable = size + 32
        memset(&search, 0, sizeof(search))
        while end != NOTHING:
            end = matcher.search(data, size, True, &search)
            if end == TIRED:
                self.look_up_from_work(check)
                continue
            stop = search.start if end == FOUND else size
            if end == FOUND and search.number >> 32:
                return 0
            self.encode_whole(
                data + position, stop - position, readable - position, stop - position, table, check
            )
            if end == FOUND:
                table.reserve(1)
                table.out[table.size] = <uint32_t>search.number
                table.size += 1
                position = search.at = search.stop
                search.stop = search.node = 0
            if position - looked >= SLICE:
                looked = position
                self.look_up_from_work(check)
        return 1

    def encode_text(self, text, Matcher matcher=None, bint listed=False, check=None):
        cdef Table table
        cdef StrData characters
        cdef bint done
        cdef int way = self.way_of(text, matcher)
        if way == NOT:
            return None
        characters_of(text, &characters)
        table = self.acquire()
        try:
            if way == CUT:
                with nogil:
                    done = self.encode_cut(&characters, matcher, table, check)
            elif characters.size * characters.kind <= SMALL:
                done = self.encode_characters(&characters, 0, characters.size, table, check)
            else:
                with nogil:
                    done = self.encode_characters(&characters, 0, characters.size, table, check)
            if not done:
                return None
            return self._listed(table.out, table.size) if listed else table.take()
        finally:
            self.release(table)

    cdef int way_of(self, text, Matcher matcher, bint cut=False) except -1:
        """Return how a text may be encoded.  One that is cut has been looked through."""
        cdef StrData characters
        if not isinstance(text, str) or self.native_splitter is None:
            return NOT
        if self.quick_check is not None and not cut:
            characters_of(text, &characters)
            if not self.quick_check.passes(&characters):
                return NOT
        return WHOLE if matcher is None or cut or not matcher.may_match(text) else CUT

    def cut(self, str text not None, Py_ssize_t size, Matcher matcher=None):
        cdef StrData characters
        cdef Py_ssize_t place = size, found
        cuts = []
        if size < 1:
            raise ValueError(f"size must be positive, got {size}")
        if self.way_of(text, matcher) != WHOLE:
            return cuts
        characters_of(text, &characters)
        while place < characters.size - size // 2:
            found = self.cut_behind(&characters, place)
            if found < 0:
                break
            cuts.append(found)
            if found > characters.size - size:
                break
            place = found + size
        return cuts

    cdef Py_ssize_t cut_behind(self, const StrData *text, Py_ssize_t place) except -2:
        """Return the first place from `place` on, but not far from it, that is a boundary in every text; or -1."""
        cdef uint8_t data[4 * (CUT_WINDOW + 3) + UTF8_BEHIND]
        cdef Py_ssize_t first = max(place - 3, 0), count = min(text.size - first, <Py_ssize_t>(CUT_WINDOW + 3))
        cdef Py_ssize_t at = 0, before = 0, boundary
        cdef size_t written = self.write(text.data + first * text.kind, count, text.kind, data)
        if written == NO_UTF8:
            return -1
        while before < place - first:
            at += length_of(data[at])
            before += 1
        boundary = self.native_splitter.sure_boundary(data, written, at)
        if boundary < 0:
            return -1
        while at < boundary:
            at += length_of(data[at])
            place += 1
        return place

    def encode_texts(self, list texts not None, spans not None, Matcher matcher=None, check=None):
        cdef const int64_t[:, ::1] rows = spans
        cdef Py_ssize_t n_spans = rows.shape[0], at, end, before
        cdef StrData *characters = NULL
        cdef uint8_t *ways = NULL
        cdef int64_t[::1] view
        cdef Table table
        if rows.shape[1] != 3:
            raise ValueError(f"spans must have rows of 3 numbers, got {rows.shape[1]}")
        table = self.acquire()
        counts = np.empty(n_spans, dtype=np.int64)
        view = counts
        try:
            characters = <StrData *>resized(NULL, n_spans, sizeof(StrData))
            ways = <uint8_t *>resized(NULL, n_spans, 1)
            for at in range(n_spans):
                if not 0 <= rows[at, 0] < PyList_GET_SIZE(texts):
                    raise ValueError(f"spans must be of texts that are there, got number {rows[at, 0]}")
                text = texts[rows[at, 0]]
                ways[at] = <uint8_t>self.way_of(text, matcher, cut=rows[at, 1] != 0 or rows[at, 2] >= 0)
                if ways[at] != NOT:
                    characters_of(text, &characters[at])
                    end = rows[at, 2] if rows[at, 2] >= 0 else characters[at].size
                    if not 0 <= rows[at, 1] <= end <= characters[at].size:
                        raise ValueError(f"spans must be inside their texts, got {rows[at, 1]}..{rows[at, 2]}")
            with nogil:
                for at in range(n_spans):
                    before = table.size
                    view[at] = -1
                    if ways[at] == NOT:
                        continue
                    end = rows[at, 2] if rows[at, 2] >= 0 else characters[at].size
                    if (
                        self.encode_cut(&characters[at], matcher, table, check) if ways[at] == CUT
                        else self.encode_characters(&characters[at], rows[at, 1], end, table, check)
                    ):
                        view[at] = table.size - before
                    else:
                        table.size = before
                    if at & 0xFFF == 0xFFF:
                        self.look_up_from_work(check)
            return table.take(), counts
        finally:
            free(characters)
            free(ways)
            self.release(table)

    def lists(self, ids, offsets):
        cdef const uint32_t[::1] numbers = ids
        cdef const int64_t[::1] places = offsets
        cdef Py_ssize_t at
        result = []
        for at in range(places.shape[0] - 1):
            if not 0 <= places[at] <= places[at + 1] <= numbers.shape[0]:
                raise ValueError(f"offsets must be in order and inside ids, got {places[at]}..{places[at + 1]}")
            result.append(self._listed(&numbers[0] + places[at], places[at + 1] - places[at]))
        return result

    cdef int encode_spans(self, bytes text, Table table, object check) except -1:
        """Append the ids of one whole text whose splitter is not native."""
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(text)
        cdef const int64_t[:, ::1] spans = self.splitter.split(text)
        cdef Py_ssize_t at = 0, looked = 0
        cdef Found found
        while at < spans.shape[0]:
            found.count = 0
            found.begin = found.base = spans[at, 0]
            while at < spans.shape[0] and found.count < BOXES_CHUNK and spans[at, 1] - found.base < FAR:
                if found.count and spans[at, 0] > spans[at - 1, 1]:
                    found.ends[found.count] = <uint32_t>(spans[at, 0] - found.base) | DROPPED
                    found.count += 1
                found.ends[found.count] = <uint32_t>(spans[at, 1] - found.base)
                found.count += 1
                at += 1
            if found.count == 0:
                table.encode_piece(data + spans[at, 0], spans[at, 1] - spans[at, 0])
                at += 1
            table.encode_found(data, &found, PyBytes_GET_SIZE(text))
            if at - looked > 0xFFFF:
                looked = at
                PyErr_CheckSignals()
                if check is not None:
                    check()
        return 0

    def encode(self, bytes data not None, cuts=None, check=None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), position = 0, at, start, end, n_cuts = 0
        cdef const int64_t[:, ::1] rows
        cdef Table table
        if cuts is not None and len(cuts):
            rows = cuts
            n_cuts = rows.shape[0]
        table = self.acquire()
        try:
            for at in range(n_cuts + 1):
                start = rows[at, 0] if at < n_cuts else size
                end = rows[at, 1] if at < n_cuts else size
                if not position <= start <= end <= size:
                    raise ValueError(f"cuts must be in order and inside the text, got {start}..{end} at index {at}")
                if start > position:
                    if self.native_splitter is None:
                        self.encode_spans(data[position:start], table, check)
                    else:
                        self.encode_between(text + position, start - position, table, check)
                if at < n_cuts and rows[at, 2] >= 0:
                    table.reserve(1)
                    table.out[table.size] = <uint32_t>rows[at, 2]
                    table.size += 1
                elif end > start:
                    table.encode_piece(text + start, end - start)
                position = end
                if at & 0xFFF == 0xFFF:
                    PyErr_CheckSignals()
                    if check is not None:
                        check()
            return table.take()
        finally:
            self.release(table)


@cython.final
cdef class EncodeStream:
    cdef Encoder encoder
    cdef Table table
    cdef SplitStream splits
    cdef object regex_splits

    def __cinit__(self, Encoder encoder not None):
        self.encoder = encoder
        self.table = encoder.acquire()
        splits = encoder.splitter.stream()
        if isinstance(splits, SplitStream):
            self.splits = splits
        else:
            self.regex_splits = splits

    def __dealloc__(self):
        if self.encoder is not None and self.table is not None:
            self.encoder.release(self.table)

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
                    splits.data, splits.size, final, splits.size + 32, PY_SSIZE_T_MAX, &splits.scan, self.table
                )
            PyErr_CheckSignals()
        if final:
            splits.clear()
        else:
            splits.compact()
        return 0

    cdef _take_pieces(self, list pieces):
        for piece in pieces:
            self.table.encode_piece(<const uint8_t *>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
        return self.table.take()

    def push(self, bytes data not None):
        cdef const uint8_t *text = <const uint8_t *>PyBytes_AS_STRING(data)
        if self.regex_splits is not None:
            return self._take_pieces(self.regex_splits.push(data))
        self.splits.append(text, PyBytes_GET_SIZE(data))
        self.drain(False)
        return self.table.take()

    def finish(self):
        if self.regex_splits is not None:
            return self._take_pieces(self.regex_splits.finish())
        self.drain(True)
        return self.table.take()

    def raw(self, bytes data not None):
        if data:
            self.table.encode_piece(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        return self.table.take()
