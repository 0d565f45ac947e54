# The words of train_native, dealt out to threads, and the tokens they consist of.
#
# There are as many parts as threads.  Loops over the whole text, and over the lists of a frequent pair, run on all
# parts at once; helpers sleep on a lock meanwhile.  The first thread alone adds up what they found, so the merges do
# not depend on their number.

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock
from cpython.pythread cimport PyThread_release_lock, PyThread_type_lock
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastbpe.core.memory cimport large, sized_free
from fastbpe.core.train_part cimport *

import threading
import time

import numpy as np

from fastbpe.core.train_python import MANY_WORDS as _MANY_WORDS
from fastbpe.core.train_python import count_words
from fastbpe.errors import TrainingError

cdef extern from "pythread.h" nogil:
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interrupted)

cdef enum:
    MAX_PLACES = 0xFFFFFFF0
    FEW = 1 << 14                 # weights below it sort by counting

cdef uint32_t MANY_WORDS = _MANY_WORDS

ctypedef fused Unit:              # of the words' source
    uint8_t
    uint32_t


cdef class Words:
    def __cinit__(self):
        self.n_parts = 1
        self.helpers = []
        self.seconds = {"load": 0.0, "build": 0.0}

    def __dealloc__(self):
        cdef int index
        for index in range(MAX_PARTS):
            part_free(&self.parts[index])
            if self.threads[index].go != NULL:
                PyThread_free_lock(self.threads[index].go)
            if self.threads[index].done != NULL:
                PyThread_free_lock(self.threads[index].done)
        sized_free(self.spelling.data)
        sized_free(self.spelling.starts)
        sized_free(self.spelling.lengths)
        sized_free(self.spans)
        sized_free(self.sizes)
        sized_free(self.n_words)

    cdef int breathe(self) except -1 with gil:
        """Let signals have their turn."""
        PyErr_CheckSignals()
        return 0

    # --- the threads ------------------------------------------------------------------------------------------

    def start(self, int n_threads):
        """Start helpers, one for each part but the first; fewer where the system has no more threads."""
        cdef int index
        for index in range(1, min(n_threads, <int>MAX_PARTS)):
            self.threads[index].go = PyThread_allocate_lock()
            self.threads[index].done = PyThread_allocate_lock()
            if self.threads[index].go == NULL or self.threads[index].done == NULL:
                raise MemoryError()
            PyThread_acquire_lock(self.threads[index].go, 1)
            PyThread_acquire_lock(self.threads[index].done, 1)
            helper = threading.Thread(target=self.help, args=(index,), daemon=True)
            try:
                helper.start()
            except RuntimeError:
                break
            self.helpers.append(helper)
            self.n_parts += 1

    def close(self):
        """End the helpers."""
        self.stop = True
        self.job = QUIT
        for index in range(1, 1 + len(self.helpers)):
            PyThread_release_lock(self.threads[index].go)
        for helper in self.helpers:
            helper.join()
        self.helpers.clear()

    def help(self, int index):
        """Do the jobs of a part, until the last."""
        cdef bint quit = False
        while not quit:
            try:
                with nogil:
                    PyThread_acquire_lock(self.threads[index].go, 1)
                    quit = self.job == QUIT
                    while not quit and not self.stop and not self.task(&self.parts[index], self.job):
                        pass
            except BaseException as error:
                self.failure = error
            PyThread_release_lock(self.threads[index].done)

    cdef int all_parts(self, int job, bint together) except -1 nogil:
        """Have a job done on every part."""
        cdef int index
        cdef Part *part
        for index in range(self.n_parts):
            part = &self.parts[index]
            part.at = part.run = 0
            if job == VISIT:
                part.at, part.last = part.lists[self.number].first, 0
            elif job == DEAL:
                part.at, part.last = part.rest, part.rest_last
        if together and self.n_parts > 1:
            self.in_parallel(job)
            return 0
        for index in range(self.n_parts):
            self.finish(&self.parts[index], job)
        return 0

    cdef int finish(self, Part *part, int job) except -1 nogil:
        while not self.task(part, job):
            self.breathe()
        return 0

    cdef int in_parallel(self, int job) except -1 with gil:
        cdef int index
        cdef int acquired
        cdef PyThread_type_lock done
        failure = None
        self.job = job
        for index in range(1, self.n_parts):
            PyThread_release_lock(self.threads[index].go)
        try:
            with nogil:
                self.finish(&self.parts[0], job)
        except BaseException as error:
            failure = error
            self.stop = True
        for index in range(1, self.n_parts):
            done = self.threads[index].done
            while True:
                with nogil:
                    acquired = PyThread_acquire_lock_timed(done, 50_000, 0)
                if acquired:
                    break
                try:
                    self.breathe()
                except BaseException as error:
                    failure = failure or error
                    self.stop = True
        failure = failure or self.failure
        if failure is not None:
            raise failure
        return 0

    cdef int task(self, Part *part, int job) except -1 nogil:
        """Do a slice of a job; return 1 where it was the last."""
        if job == VISIT:
            if part.wide:
                return part_visit(part, <uint32_t *>part.symbols, self.spans, self.number, self.a, self.b, self.new)
            return part_visit(part, <uint16_t *>part.symbols, self.spans, self.number, self.a, self.b, self.new)
        if job == DEAL:
            if self.n_born and not self.deal(part):
                return 0
            part_clear(part)
            return 1
        if job == SQUEEZE:
            self.squeeze(part)
            return 1
        if part.n_symbols < 2:
            return 1
        if part.wide:
            return build_task(part, <uint32_t *>part.symbols, job, self.sums, self.threshold)
        return build_task(part, <uint16_t *>part.symbols, job, self.sums, self.threshold)

    cdef bint deal(self, Part *part) noexcept nogil:
        if part.wide:
            return part_deal(part, <uint32_t *>part.symbols, self.spans, self.number, self.a, self.b, self.new)
        return part_deal(part, <uint16_t *>part.symbols, self.spans, self.number, self.a, self.b, self.new)

    # --- the text ---------------------------------------------------------------------------------------------

    def load(self, const int64_t[::1] offsets, source, const int64_t[::1] weights, firsts, tokens):
        """Lay the words out, of falling weight, or, where ties go by places, as they were first seen.

        `source` holds them all, joined: bytes (uint8), or numbers of `tokens` (uint32).
        """
        cdef uint32_t map_[256]
        cdef int index
        cdef int64_t n_places = 0
        begin = time.perf_counter()
        is_bytes = source.dtype == np.uint8
        for number, token in enumerate(tokens):
            self.add_token(token)
            if is_bytes:
                map_[<uint8_t>token[0]] = <uint32_t>number + 1
        if offsets.shape[0] - 1 > MAX_PLACES:
            raise TrainingError("train(): there are more than 4 G unique pretokens; train on a sample")
        order = np.empty(_count_used(offsets, weights, &n_places), dtype=np.uint32)
        if n_places // self.n_parts > MAX_PLACES - (1 << 20):
            raise TrainingError("train(): the unique pretokens hold more than 4 GiB a thread; train on a sample")
        self.n_parts = max(1, min(self.n_parts, n_places // self.part_places))
        _write_order(offsets, weights, order)
        if firsts is not None:
            order = order[np.argsort(firsts[order], kind="stable")]
            sizes = np.cumsum(np.diff(offsets)[order] + 1)
            cuts = np.searchsorted(sizes, [n_places * part // self.n_parts for part in range(1, self.n_parts)])
            shares = np.split(order, cuts)
            del sizes, cuts
        else:
            shares = [order[part :: self.n_parts] for part in range(self.n_parts)]
        for index in range(self.n_parts):
            self.fill(&self.parts[index], offsets, source, weights, shares[index], map_)
        self.seconds["load"] += time.perf_counter() - begin

    cdef int fill(self, Part *part, const int64_t[::1] offsets, source, const int64_t[::1] weights,
                  const uint32_t[:] chosen, uint32_t *map_) except -1:
        """Write the words of a part."""
        cdef const uint8_t[::1] data
        cdef const uint32_t[::1] numbers
        cdef size_t size = 1, n_runs = 1
        cdef Py_ssize_t rank, stop, n = chosen.shape[0]
        for rank in range(n):
            size += 1 + offsets[chosen[rank] + 1] - offsets[chosen[rank]]
            n_runs += rank > 0 and weights[chosen[rank]] != weights[chosen[rank - 1]]
        part.wide = self.n_tokens >= self.wide_from
        part.symbols = large(NULL, size, sizeof(uint32_t) if part.wide else sizeof(uint16_t))
        part.runs = <Run *>large(NULL, n_runs, sizeof(Run))
        part.n_symbols = 1
        cdef bint is_bytes = source.dtype == np.uint8
        if is_bytes:
            data = source
        else:
            numbers = source
        if part.wide:
            (<uint32_t *>part.symbols)[0] = SEPARATOR
        else:
            (<uint16_t *>part.symbols)[0] = SEPARATOR
        for rank in range(0, n, SLICE):
            stop = min(rank + SLICE, n)
            with nogil:
                if n == 0:
                    pass
                elif not is_bytes:
                    if part.wide:
                        fill_words(part, <uint32_t *>part.symbols, offsets, &numbers[0], NULL, chosen, weights,
                                   rank, stop)
                    else:
                        fill_words(part, <uint16_t *>part.symbols, offsets, &numbers[0], NULL, chosen, weights,
                                   rank, stop)
                elif part.wide:
                    fill_words(part, <uint32_t *>part.symbols, offsets, &data[0], map_, chosen, weights, rank, stop)
                else:
                    fill_words(part, <uint16_t *>part.symbols, offsets, &data[0], map_, chosen, weights, rank, stop)
            self.breathe()
        part_index_runs(part)
        return 0

    cdef int squeeze(self, Part *part) except -1 nogil:
        """Give each token one place again, and forget words of one token."""
        cdef size_t run, place = 1, begin = 1, end, n_runs = 0
        for run in range(part.n_runs):
            end = part.runs[run].end
            if part.wide:
                place = squeeze_run(<uint32_t *>part.symbols, <uint32_t *>part.symbols, begin, end, place, self.spans)
            else:
                place = squeeze_run(<uint16_t *>part.symbols, <uint16_t *>part.symbols, begin, end, place, self.spans)
            begin = end
            if place > (part.runs[n_runs - 1].end if n_runs else 1):
                part.runs[n_runs].weight = part.runs[run].weight
                part.runs[n_runs].end = <uint32_t>place
                n_runs += 1
        part.n_symbols, part.n_runs = place, n_runs
        part.symbols = large(part.symbols, place, sizeof(uint32_t) if part.wide else sizeof(uint16_t))
        part_index_runs(part)
        return 0

    cdef int widen(self) except -1 nogil:
        """Give the symbols 32 bits; places stay what they are."""
        cdef int index
        cdef size_t place
        cdef uint32_t *wide
        cdef Part *part
        for index in range(self.n_parts):
            part = &self.parts[index]
            wide = <uint32_t *>large(NULL, part.n_symbols, sizeof(uint32_t))
            for place in range(part.n_symbols):
                wide[place] = (<uint16_t *>part.symbols)[place]
                if wide[place] == 0xFFFF:     # DEAD
                    wide[place] = 0xFFFFFFFF
            sized_free(part.symbols)
            part.symbols, part.wide = wide, True
        return 0

    # --- tokens -----------------------------------------------------------------------------------------------

    cdef int need_token(self, size_t length) except -1 nogil:
        """Make room for one more token of `length` bytes."""
        cdef uint32_t room
        cdef size_t bytes_room
        cdef int index
        if self.n_tokens >= self.room_tokens:
            room = min(self.room_tokens + self.room_tokens // 2 + 1024, self.most_tokens)
            self.spelling.lengths = <uint32_t *>large(self.spelling.lengths, room, sizeof(uint32_t))
            self.spelling.starts = <size_t *>large(self.spelling.starts, room, sizeof(size_t))
            self.spans = <uint32_t *>large(self.spans, room, sizeof(uint32_t))
            self.sizes = <uint32_t *>large(self.sizes, room, sizeof(uint32_t))
            self.n_words = <uint32_t *>large(self.n_words, room, sizeof(uint32_t))
            for index in range(self.n_parts):
                self.grow_sides(&self.parts[index].left, room)
                self.grow_sides(&self.parts[index].right, room)
            self.room_tokens = room
        if self.n_spelled + length > self.room_spelled:
            bytes_room = self.n_spelled + self.n_spelled // 2 + length + 8192
            self.spelling.data = <uint8_t *>large(self.spelling.data, bytes_room, 1)
            self.room_spelled = bytes_room
        return 0

    cdef int grow_sides(self, Side **sides, uint32_t room) except -1 nogil:
        sides[0] = <Side *>large(sides[0], room, sizeof(Side))
        memset(sides[0] + self.room_tokens, 0, (room - self.room_tokens) * sizeof(Side))
        return 0

    cdef uint32_t words_of_both(self, uint32_t a, uint32_t b) noexcept nogil:
        """Return the number of words of a + b, as train_python.count_words; 0 where they are not kept."""
        cdef uint8_t last, first
        if self.max_words == 0:
            return 0
        last = self.spelling.data[self.spelling.starts[a] + self.spelling.lengths[a] - 1]
        first = self.spelling.data[self.spelling.starts[b]]
        if last == 58 and first == 32:        # a colon and a space
            return MANY_WORDS
        return min(MANY_WORDS, self.n_words[a] + self.n_words[b] - (last != 32 and first != 32))

    cdef void finish_token(self, uint32_t length, uint32_t span, uint32_t size, uint32_t n_words) noexcept nogil:
        self.spelling.starts[self.n_tokens] = self.n_spelled
        self.spelling.lengths[self.n_tokens] = length
        self.spans[self.n_tokens] = span
        self.sizes[self.n_tokens] = size
        self.n_words[self.n_tokens] = n_words
        self.n_spelled += length
        self.n_tokens += 1

    cdef int add_token(self, bytes token) except -1:
        """Add a token of the start."""
        cdef const uint8_t *data = token
        cdef uint32_t length = len(token), size = length
        if self.n_tokens == 0:                # the separator
            self.need_token(0)
            self.finish_token(0, 1, 0, 0)
        if self.in_characters:                # a character counts where it begins
            size = sum(byte & 0xC0 != 0x80 for byte in token)
        self.need_token(length)
        memcpy(self.spelling.data + self.n_spelled, data, length)
        self.finish_token(length, 1, size, count_words(token) if self.max_words else 0)
        return 0

    cdef bytes token(self, uint32_t token):
        return PyBytes_FromStringAndSize(
            <char *>self.spelling.data + self.spelling.starts[token], self.spelling.lengths[token]
        )


cdef int build_task(Part *part, Symbol *symbols, int job, const int64_t *sums, int64_t threshold) except -1 nogil:
    if job == COUNT_DENSE:
        return part_count_dense(part, symbols)
    if job == WRITE_DENSE:
        return part_write_dense(part, symbols)
    if job == FILTER:
        return part_filter(part, symbols)
    if job == COUNT:
        return part_count(part, symbols, sums, threshold)
    return part_write_hashed(part, symbols, sums, threshold)


cdef void fill_words(Part *part, Symbol *symbols, const int64_t[::1] offsets, const Unit *source,
                     const uint32_t *map_, const uint32_t[:] chosen, const int64_t[::1] weights,
                     Py_ssize_t rank, Py_ssize_t stop) noexcept nogil:
    """Write words of a part, in their order; bytes by their numbers in `map_`, tokens as they are."""
    cdef size_t place = part.n_symbols
    cdef int64_t at, begin, end, weight
    for rank in range(rank, stop):
        begin, end = offsets[chosen[rank]], offsets[chosen[rank] + 1]
        weight = weights[chosen[rank]]
        for at in range(begin, end):
            if Unit is uint8_t:
                symbols[place] = <Symbol>map_[source[at]]
            else:
                symbols[place] = <Symbol>(source[at] + 1)
            place += 1
        symbols[place] = SEPARATOR
        place += 1
        if part.n_runs == 0 or part.runs[part.n_runs - 1].weight != weight:
            part.runs[part.n_runs].weight = weight
            part.n_runs += 1
        part.runs[part.n_runs - 1].end = <uint32_t>place
    part.n_symbols = place


cdef Py_ssize_t _count_used(const int64_t[::1] offsets, const int64_t[::1] weights, int64_t *n_places) noexcept nogil:
    """Return how many words have something to merge; `n_places` is what they take, with separators."""
    cdef Py_ssize_t word, n = 0
    for word in range(weights.shape[0]):
        if offsets[word + 1] - offsets[word] > 1 and weights[word] > 0:
            n += 1
            n_places[0] += offsets[word + 1] - offsets[word] + 1
    return n


cdef _write_order(const int64_t[::1] offsets, const int64_t[::1] weights, uint32_t[::1] order):
    """Write those words in the order of falling weights; nearly all of them are small, which sorts in two passes."""
    cdef uint32_t ends_of[FEW + 1]
    cdef uint32_t end = 0
    cdef Py_ssize_t word, weight
    memset(ends_of, 0, sizeof(ends_of))
    with nogil:
        for word in range(weights.shape[0]):
            if offsets[word + 1] - offsets[word] > 1 and weights[word] > 0:
                ends_of[min(weights[word], <int64_t>FEW)] += 1
        for weight in range(FEW, -1, -1):
            ends_of[weight], end = end, end + ends_of[weight]
        for word in range(weights.shape[0]):
            if offsets[word + 1] - offsets[word] > 1 and weights[word] > 0:
                weight = min(weights[word], <int64_t>FEW)
                order[ends_of[weight]] = <uint32_t>word
                ends_of[weight] += 1
    many = np.asarray(order)[: ends_of[FEW]]
    many[:] = many[np.argsort(-np.asarray(weights)[many], kind="stable")]


def _through_gaps(const uint32_t[::1] numbers):
    """Return increasing numbers as they are read after they were written as gaps; tests ask for those of no real text."""
    result = np.empty(len(numbers), dtype=np.uint32)
    cdef uint32_t[::1] read = result
    cdef uint16_t[::1] units = np.empty(3 * len(numbers) + 1, dtype=np.uint16)
    cdef uint16_t *to = &units[0]
    cdef const uint16_t *at = to
    cdef uint32_t size = 0, gap, last = 0
    cdef Py_ssize_t index
    for index in range(numbers.shape[0]):
        size += gap_size(numbers[index] - last)
        to = gap_write(to, numbers[index] - last)
        last = numbers[index]
    last = 0
    for index in range(numbers.shape[0]):
        at = gap_read(at, &gap)
        last += gap
        read[index] = last
    return result if at == to and size == to - &units[0] else None
