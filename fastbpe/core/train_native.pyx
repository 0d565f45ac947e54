"""Native twin of train_python."""

# The text stands in train_part.pxd, the queue in train_queue.pxd, the table of pairs in pair_table.pxd.
#
# The lists.  By the property that train_python explains, the places of a pair are all known when the younger of its
# two tokens is made.  A list is therefore written once, at its exact size, in increasing order, and freed whole.
#
# The threshold.  For the same reason a pair that is born below the count of any merge still to come can be
# forgotten.  We guess that count; where the queue runs dry first, the threshold falls, words are squeezed to one place
# a token, and everything is rebuilt from them.  The merges never depend on it.
#
# The threads.  Words are dealt out to as many parts as there are threads; each has its own lists.  Loops over the whole
# text, and over the lists of a frequent pair, run on all parts at once; other threads sleep on a lock meanwhile.  The
# first thread alone adds up what they found, so the merges do not depend on their number.

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.pythread cimport PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock
from cpython.pythread cimport PyThread_release_lock, PyThread_type_lock
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastbpe.core.memory cimport resized, zeroed
from fastbpe.core.pair_table cimport NO_KEY, NO_LIST, SMALLEST_TABLE, Pair, PairTable, mixed
from fastbpe.core.pair_table cimport table_create, table_drop, table_find, table_find_or_add, table_lose
from fastbpe.core.train_part cimport *
from fastbpe.core.train_queue cimport *

import threading
import time

import numpy as np

from fastbpe.core.packed import Merges, PackedBytes
from fastbpe.core.train_python import PROGRESS_SECONDS, TOO_LONG, byte_order, check_arguments
from fastbpe.errors import TrainingError

cdef extern from "pythread.h" nogil:
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interrupted)

cdef enum:
    MAX_TOKENS = 0x7FFFFFF0
    MAX_PLACES = 0xFFFFFFF0
    MAX_TOKEN_BYTES = 64 << 10
    MAX_VOCAB_BYTES = (1 << 28) - 1
    STEPS_A_BREATH = 1 << 17      # a few milliseconds of work between looks at signals
    FILTER_BITS = 19              # 4 MB of counters: enough to keep most rare pairs out of the table
    MAX_PARTS = 8

# The merges do not depend on these; tests set them.
PART_PLACES = 1 << 21             # a thread is not worth its start for fewer
LONG_LIST = 4096                  # places of a pair from which on waking the other threads pays
WIDE_FROM = 0xFFFF                # tokens that need 32-bit symbols; 16-bit ones hold 0 to 0xFFFE, and DEAD
# The count of the last merge of 32,000 was 18 in 7.8 M pretokens of English, 210 in 64 M mixed ones: a threshold of
# pretokens / (25 x merges) lies below, and one build is nearly always enough.
SAFETY = 25

cdef enum:                        # what a part may be asked to do
    COUNT_DENSE, WRITE_DENSE, FILTER, COUNT, WRITE, SQUEEZE, VISIT, DEAL, QUIT

ctypedef fused Unit:              # of the words' source
    uint8_t
    uint32_t

cdef struct Thread:
    PyThread_type_lock go         # locked while the thread has nothing to do
    PyThread_type_lock done       # locked while it works


cdef class Trainer:
    """The state of one training. Called by one thread; owns all its memory."""

    cdef Part parts[MAX_PARTS]
    cdef Thread threads[MAX_PARTS]
    cdef list helpers             # threading.Thread of part 1 and those after it
    cdef object failure
    cdef int n_parts, job
    cdef bint stop

    cdef Spelling spelling
    cdef size_t n_spelled, room_spelled
    cdef uint32_t *spans          # of each token, in places
    cdef uint32_t *sizes          # of each token, in what max_length is in
    cdef uint32_t n_tokens, room_tokens     # number 0 is the separator
    cdef PairTable table
    cdef Queue queue
    cdef uint32_t *spare          # numbers of lists to be used again
    cdef size_t n_spare, room_spare, n_lists
    cdef uint64_t *born           # keys of the pairs that the merge in hand made
    cdef size_t n_born, room_born
    cdef int64_t *sums            # while building: the filters of all parts, added
    cdef uint32_t a, b, new       # the merge in hand
    cdef uint32_t number          # of its lists

    cdef uint64_t *merged         # keys of the merges so far
    cdef size_t n_merged, room_merged, n_recorded
    cdef uint64_t wanted
    cdef int64_t threshold, floor
    cdef bint by_spelling, by_place, in_characters
    cdef uint64_t max_size
    cdef size_t long_list
    cdef uint32_t wide_from
    cdef size_t steps
    cdef set taken                # spellings that no merge may make; None: it cannot happen
    cdef object progress, asked, record
    cdef double reported
    cdef readonly dict seconds    # by phase

    def __cinit__(self):
        self.n_parts = 1
        self.helpers = []
        self.seconds = {"load": 0.0, "build": 0.0}
        self.long_list, self.wide_from = LONG_LIST, WIDE_FROM

    def __dealloc__(self):
        cdef int index
        for index in range(MAX_PARTS):
            part_free(&self.parts[index])
            if self.threads[index].go != NULL:
                PyThread_free_lock(self.threads[index].go)
            if self.threads[index].done != NULL:
                PyThread_free_lock(self.threads[index].done)
        table_drop(&self.table)
        free(self.spelling.data)
        free(self.spelling.starts)
        free(self.spelling.lengths)
        free(self.spans)
        free(self.sizes)
        free(self.queue.items)
        free(self.spare)
        free(self.born)
        free(self.merged)

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
        for index in range(self.n_parts):
            self.parts[index].at = self.parts[index].lists[self.number].first if job == VISIT else 0
            self.parts[index].run = 0
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
            if self.n_born:
                part_write(part, self.spans, self.new)
            part_clear(part)
            return 1
        if job == SQUEEZE:
            self.squeeze(part)
            return 1
        if part.n_symbols < 2:
            return 1
        if part.wide:
            return self.build_task(part, <uint32_t *>part.symbols, job)
        return self.build_task(part, <uint16_t *>part.symbols, job)

    cdef int build_task(self, Part *part, Symbol *symbols, int job) except -1 nogil:
        if job == COUNT_DENSE:
            return part_count_dense(part, symbols)
        if job == WRITE_DENSE:
            return part_write_dense(part, symbols)
        if job == FILTER:
            return part_filter(part, symbols)
        if job == COUNT:
            return part_count(part, symbols, self.sums, self.threshold)
        return part_write_hashed(part, symbols, self.sums, self.threshold)

    # --- the text ---------------------------------------------------------------------------------------------

    def load(self, const int64_t[::1] offsets, source, weights, firsts, tokens):
        """Lay the words out, of falling weight, or, where ties go by places, as they were first seen.

        `source` holds them all, joined: bytes (uint8), or numbers of `tokens` (uint32).
        """
        cdef uint32_t map_[256]
        cdef int index
        begin = time.perf_counter()
        is_bytes = source.dtype == np.uint8
        for number, token in enumerate(tokens):
            self.add_token(token)
            if is_bytes:
                map_[<uint8_t>token[0]] = <uint32_t>number + 1
        lengths = np.diff(offsets)
        used = np.flatnonzero((lengths > 1) & (weights > 0))
        kept = used[_falling(weights[used]) if firsts is None else np.argsort(firsts[used], kind="stable")]
        del used
        sizes = np.cumsum(lengths[kept] + 1)
        n_places = int(sizes[-1]) if len(kept) else 0
        if n_places // self.n_parts > MAX_PLACES - (1 << 20):
            raise TrainingError("train(): the unique pretokens hold more than 4 GiB a thread; train on a sample")
        used_parts = max(1, min(self.n_parts, n_places // PART_PLACES))
        if used_parts < self.n_parts:
            self.n_parts = used_parts
        if firsts is None:
            shares = [kept[part :: used_parts] for part in range(used_parts)]
        else:
            cuts = np.searchsorted(sizes, [n_places * part // used_parts for part in range(1, used_parts)])
            shares = np.split(kept, cuts)
        del kept, sizes, lengths
        for index in range(used_parts):
            self.fill(&self.parts[index], offsets, source, weights, np.ascontiguousarray(shares[index]), map_)
            shares[index] = None
        self.seconds["load"] += time.perf_counter() - begin

    cdef int fill(self, Part *part, const int64_t[::1] offsets, source, weights, share, uint32_t *map_) except -1:
        """Write the words of a part."""
        cdef const int64_t[::1] chosen = share
        cdef const int64_t[::1] weight_of = weights
        cdef const uint8_t[::1] data
        cdef const uint32_t[::1] numbers
        lengths = np.diff(offsets)[share]
        cdef size_t size = 1 + int(lengths.sum()) + len(share)
        cdef Py_ssize_t rank, stop, n = len(share)
        n_runs = 1 + int(np.count_nonzero(np.diff(weights[share])))
        part.wide = self.n_tokens >= self.wide_from
        part.symbols = resized(NULL, size, sizeof(uint32_t) if part.wide else sizeof(uint16_t))
        part.runs = <Run *>resized(NULL, n_runs, sizeof(Run))
        part.n_symbols = 1
        del lengths
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
                        fill_words(part, <uint32_t *>part.symbols, offsets, &numbers[0], NULL, chosen, weight_of,
                                   rank, stop)
                    else:
                        fill_words(part, <uint16_t *>part.symbols, offsets, &numbers[0], NULL, chosen, weight_of,
                                   rank, stop)
                elif part.wide:
                    fill_words(part, <uint32_t *>part.symbols, offsets, &data[0], map_, chosen, weight_of, rank, stop)
                else:
                    fill_words(part, <uint16_t *>part.symbols, offsets, &data[0], map_, chosen, weight_of, rank, stop)
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
        part.symbols = resized(part.symbols, place, sizeof(uint32_t) if part.wide else sizeof(uint16_t))
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
            wide = <uint32_t *>resized(NULL, part.n_symbols, sizeof(uint32_t))
            for place in range(part.n_symbols):
                wide[place] = (<uint16_t *>part.symbols)[place]
                if wide[place] == 0xFFFF:     # DEAD
                    wide[place] = 0xFFFFFFFF
            free(part.symbols)
            part.symbols, part.wide = wide, True
        return 0

    # --- tokens -----------------------------------------------------------------------------------------------

    cdef int need_token(self, size_t length) except -1 nogil:
        """Make room for one more token of `length` bytes."""
        cdef uint32_t room
        cdef size_t bytes_room
        cdef int index
        if self.n_tokens >= self.room_tokens:
            room = self.room_tokens + self.room_tokens // 2 + 1024
            self.spelling.lengths = <uint32_t *>resized(self.spelling.lengths, room, sizeof(uint32_t))
            self.spelling.starts = <size_t *>resized(self.spelling.starts, room, sizeof(size_t))
            self.spans = <uint32_t *>resized(self.spans, room, sizeof(uint32_t))
            self.sizes = <uint32_t *>resized(self.sizes, room, sizeof(uint32_t))
            for index in range(self.n_parts):
                self.grow_sides(&self.parts[index].left, room)
                self.grow_sides(&self.parts[index].right, room)
            self.room_tokens = room
        if self.n_spelled + length > self.room_spelled:
            bytes_room = self.n_spelled + self.n_spelled // 2 + length + 8192
            self.spelling.data = <uint8_t *>resized(self.spelling.data, bytes_room, 1)
            self.room_spelled = bytes_room
        return 0

    cdef int grow_sides(self, Side **sides, uint32_t room) except -1 nogil:
        sides[0] = <Side *>resized(sides[0], room, sizeof(Side))
        memset(sides[0] + self.room_tokens, 0, (room - self.room_tokens) * sizeof(Side))
        return 0

    cdef void finish_token(self, uint32_t length, uint32_t span, uint32_t size) noexcept nogil:
        self.spelling.starts[self.n_tokens] = self.n_spelled
        self.spelling.lengths[self.n_tokens] = length
        self.spans[self.n_tokens] = span
        self.sizes[self.n_tokens] = size
        self.n_spelled += length
        self.n_tokens += 1

    cdef int add_token(self, bytes token) except -1:
        """Add a token of the start."""
        cdef const uint8_t *data = token
        cdef uint32_t length = len(token), size = length
        if self.n_tokens == 0:                # the separator
            self.need_token(0)
            self.finish_token(0, 1, 0)
        if self.in_characters:                # a character counts where it begins
            size = sum(byte & 0xC0 != 0x80 for byte in token)
        self.need_token(length)
        memcpy(self.spelling.data + self.n_spelled, data, length)
        self.finish_token(length, 1, size)
        return 0

    cdef int join(self, uint32_t a, uint32_t b) except -1 nogil:
        """Make the token a + b, and note the merge."""
        cdef uint32_t a_length = self.spelling.lengths[a], b_length = self.spelling.lengths[b]
        cdef uint8_t *end
        if self.n_spelled + a_length + b_length > MAX_VOCAB_BYTES:
            with gil:
                raise TrainingError(TOO_LONG)
        self.step(64 + ((a_length + b_length) >> 4))  # long tokens take their time to copy and compare
        self.need_token(<size_t>a_length + b_length)
        end = self.spelling.data + self.n_spelled
        memcpy(end, self.spelling.data + self.spelling.starts[a], a_length)
        memcpy(end + a_length, self.spelling.data + self.spelling.starts[b], b_length)
        self.finish_token(a_length + b_length, self.spans[a] + self.spans[b], self.sizes[a] + self.sizes[b])
        if self.n_merged == self.room_merged:
            self.room_merged = self.room_merged + self.room_merged // 2 + 1024
            self.merged = <uint64_t *>resized(self.merged, self.room_merged, sizeof(uint64_t))
        self.merged[self.n_merged] = <uint64_t>a << 32 | b
        self.n_merged += 1
        return 0

    cdef bint is_taken(self, uint32_t a, uint32_t b) except -1 with gil:
        """Say whether a token of the start is spelled a + b."""
        return self.token(a) + self.token(b) in self.taken

    cdef bytes token(self, uint32_t token):
        return PyBytes_FromStringAndSize(
            <char *>self.spelling.data + self.spelling.starts[token], self.spelling.lengths[token]
        )

    # --- the queue --------------------------------------------------------------------------------------------

    cdef uint64_t tie(self, Pair *pair) noexcept nogil:
        """Return what decides among pairs of the same count; the greater number wins."""
        cdef int index
        cdef size_t place
        cdef Part *part
        cdef uint32_t a = <uint32_t>(pair.key >> 32), b = <uint32_t>pair.key
        if self.by_spelling:
            return first_bytes(&self.spelling, a)
        if not self.by_place:
            return ~pair.key
        for index in range(self.n_parts):
            part = &self.parts[index]
            if part.wide:
                place = part_first(part, <uint32_t *>part.symbols, self.spans, pair.list, a, b)
            else:
                place = part_first(part, <uint16_t *>part.symbols, self.spans, pair.list, a, b)
            if place:
                return ~(<uint64_t>index << 32 | place)
        return 0

    cdef int best_pair(self, uint64_t *key) except -1 nogil:
        """Find the most frequent pair, and take it from the queue; return 0 where none reaches the threshold."""
        cdef Pair *pair
        cdef uint64_t tie
        cdef Candidate *top
        cdef bint passed
        while self.queue.size:
            self.step(8)
            top = self.queue.items
            pair = table_find(&self.table, top.key)
            if pair.count < self.threshold:
                queue_pop(&self.queue)
                self.free_lists(pair)
                continue
            if pair.count != top.count:
                top.count = pair.count
                queue_sink(&self.queue, 0)
                continue
            if self.by_place:
                tie = self.tie(pair)
                if tie != top.tie:
                    top.tie = tie
                    queue_sink(&self.queue, 0)
                    continue
            key[0] = pair.key
            queue_pop(&self.queue)
            if self.taken is not None and self.is_taken(<uint32_t>(pair.key >> 32), <uint32_t>pair.key):
                self.free_lists(pair)
                continue
            return 1
        return 0

    cdef inline bint too_long(self, uint32_t a, uint32_t b) noexcept nogil:
        return (
            <uint64_t>self.sizes[a] + self.sizes[b] > self.max_size
            or self.spelling.lengths[a] + self.spelling.lengths[b] > MAX_TOKEN_BYTES
        )

    # --- lists ------------------------------------------------------------------------------------------------

    cdef uint32_t new_list(self) noexcept nogil:
        if self.n_spare:
            self.n_spare -= 1
            return self.spare[self.n_spare]
        self.n_lists += 1
        return <uint32_t>(self.n_lists - 1)

    cdef int free_lists(self, Pair *pair) except -1 nogil:
        """Free the lists of a pair that is gone."""
        cdef int index
        cdef size_t room
        if pair.list == NO_LIST:
            return 0
        for index in range(self.n_parts):
            part_free_list(&self.parts[index], pair.list)
        if self.n_spare == self.room_spare:
            room = self.room_spare + self.room_spare // 2 + 256
            self.spare = <uint32_t *>resized(self.spare, room, sizeof(uint32_t))
            self.room_spare = room
        self.spare[self.n_spare] = pair.list
        self.n_spare += 1
        pair.list = NO_LIST
        return 0

    # --- building: symbols -> pairs, lists, queue -------------------------------------------------------------

    cdef int build(self) except -1 nogil:
        """Count all pairs afresh, and make lists and an entry for each that reaches the threshold."""
        cdef int index
        cdef size_t slot
        cdef Pair *pair
        table_drop(&self.table)
        self.queue.size = self.n_spare = self.n_lists = 0
        self.number = 0
        for index in range(self.n_parts):
            part_drop_lists(&self.parts[index])
        if self.n_merged == 0 and self.n_tokens <= DENSE:
            self.build_dense()
        else:
            self.all_parts(SQUEEZE, True)
            for slot in range(self.n_tokens):
                self.spans[slot] = 1
            self.build_hashed()
        for slot in range(self.table.mask + 1):
            pair = self.table.slots + slot
            if pair.key != NO_KEY and pair.list != NO_LIST:
                queue_append(&self.queue, pair.count, self.tie(pair), pair.key)
        queue_order(&self.queue)
        return 0

    cdef int build_dense(self) except -1 nogil:
        """Build from single bytes."""
        cdef int index
        cdef uint32_t a, b, at
        cdef int64_t count
        cdef Cell *cell
        cdef Pair *pair
        for index in range(self.n_parts):
            self.parts[index].dense = <Cell *>zeroed(DENSE * DENSE, sizeof(Cell))
        self.all_parts(COUNT_DENSE, True)
        for a in range(1, DENSE):
            for b in range(1, DENSE):
                at = a * DENSE + b
                for index in range(1, self.n_parts):
                    self.parts[0].dense[at].weight += self.parts[index].dense[at].weight
        table_create(&self.table, SMALLEST_TABLE)
        for a in range(DENSE):
            for b in range(DENSE):
                at = a * DENSE + b
                count = self.parts[0].dense[at].weight
                if a == SEPARATOR or b == SEPARATOR or count < self.threshold or self.too_long(a, b):
                    for index in range(self.n_parts):
                        self.parts[index].dense[at].weight = 0
                    continue
                pair = table_find_or_add(&self.table, <uint64_t>a << 32 | b)
                pair.count = count
                pair.list = self.new_list()
                for index in range(self.n_parts):
                    cell = self.parts[index].dense + at
                    part_new_list(&self.parts[index], pair.list, cell.n_places)
                    cell.weight = pair.list + 1
        for index in range(self.n_parts):
            for at in range(DENSE * DENSE):   # only now do the lists stay where they are
                cell = self.parts[index].dense + at
                if cell.weight:
                    cell.weight = <int64_t><size_t>places_of(self.parts[index].lists + (cell.weight - 1))
        self.all_parts(WRITE_DENSE, True)
        for index in range(self.n_parts):
            free(self.parts[index].dense)
            self.parts[index].dense = NULL
        return 0

    cdef int build_hashed(self) except -1 nogil:
        """Build from any tokens: the sums of all pairs by hash first, so that few rare ones get a slot."""
        cdef int index
        cdef size_t slot, n_symbols = 0, n_pairs = 0, number
        cdef int bits = 10
        cdef Pair *mine
        cdef Pair *pair
        cdef Part *part
        for index in range(self.n_parts):
            n_symbols += self.parts[index].n_symbols
        while bits < FILTER_BITS and <size_t>1 << bits < n_symbols:
            bits += 1
        for index in range(self.n_parts):
            part = &self.parts[index]
            part.filter = <int64_t *>zeroed(<size_t>1 << bits, sizeof(int64_t))
            part.filter_mask = (<uint64_t>1 << bits) - 1
            table_create(&part.table, SMALLEST_TABLE)
        self.all_parts(FILTER, True)
        self.sums = self.parts[0].filter
        for index in range(1, self.n_parts):
            for slot in range(<size_t>1 << bits):
                self.sums[slot] += self.parts[index].filter[slot]
        self.all_parts(COUNT, True)
        for index in range(self.n_parts):
            n_pairs += self.parts[index].table.n_pairs
        # At its full size from the start: to grow while it takes the pairs in the order of their slots would crowd it.
        number = SMALLEST_TABLE
        while 3 * number < 4 * (n_pairs + 1):
            number *= 2
        table_create(&self.table, number)
        for index in range(self.n_parts):
            part = &self.parts[index]
            for slot in range(part.table.mask + 1):
                mine = part.table.slots + slot
                if mine.key != NO_KEY:
                    table_find_or_add(&self.table, mine.key).count += mine.count
        for slot in range(self.table.mask + 1):
            pair = self.table.slots + slot
            if pair.key == NO_KEY or pair.count < self.threshold:
                continue
            if self.too_long(<uint32_t>(pair.key >> 32), <uint32_t>pair.key):
                pair.count = 0                # as if it never occurred
                continue
            pair.list = self.new_list()
            for index in range(self.n_parts):
                mine = table_find(&self.parts[index].table, pair.key)
                number = mine.n_places if mine.key != NO_KEY else 0
                part_new_list(&self.parts[index], pair.list, <uint32_t>number)
                if mine.key != NO_KEY:
                    mine.list = pair.list
        self.all_parts(WRITE, True)
        self.sums = NULL
        for index in range(self.n_parts):
            part = &self.parts[index]
            for slot in range(self.n_lists):
                part.lists[slot].first = 0
            free(part.filter)
            part.filter = NULL
            table_drop(&part.table)
        return 0

    # --- one merge --------------------------------------------------------------------------------------------

    cdef int apply(self, uint64_t key) except -1 nogil:
        """Replace a pair, already joined, in the text; settle the counts around it."""
        cdef int index
        cdef size_t at, n_places = 0
        cdef Pair *pair = table_find(&self.table, key)
        cdef bint together
        self.a, self.b, self.new = <uint32_t>(key >> 32), <uint32_t>key, self.n_tokens - 1
        self.number = pair.list
        for index in range(self.n_parts):
            part_begin(&self.parts[index], self.number)
            n_places += self.parts[index].lists[self.number].n
        together = n_places >= self.long_list
        self.step(n_places)
        self.all_parts(VISIT, together)
        self.free_lists(pair)
        pair.count = 0
        self.settle()
        self.all_parts(DEAL, together)
        for at in range(self.n_born):
            pair = table_find(&self.table, self.born[at])
            queue_append(&self.queue, pair.count, self.tie(pair), pair.key)
            queue_rise(&self.queue)
        return 0

    cdef int settle(self) except -1 nogil:
        """Take the weights from the old pairs of each neighbour and give them to the new ones."""
        cdef int index
        cdef size_t at
        cdef Part *part
        cdef Side *sides[MAX_PARTS]
        cdef Side *side
        self.n_born = 0
        for index in range(self.n_parts):
            part = &self.parts[index]
            for at in range(part.n_touched):
                if part.touched[at] & ~<uint32_t>TOP_BIT != SEPARATOR:
                    self.settle_neighbour(index, part.touched[at])
        if self.twins_weight():
            for index in range(self.n_parts):
                sides[index] = &self.parts[index].twins
            table_lose(&self.table, self.b, self.a, self.twins_weight())
            self.give(self.new, self.new, sides, self.twins_weight())
        for at in range(self.n_born):         # only now do the lists stay where they are
            for index in range(self.n_parts):
                side = self.side_of(&self.parts[index], self.born[at])
                if side.n_places:
                    side.weight = <int64_t><size_t>places_of(self.parts[index].lists + (side.weight - 1))
                else:
                    side.weight = 0           # not touched in this part, so nobody would clear it
        return 0

    cdef inline Side *side_of(self, Part *part, uint64_t key) noexcept nogil:
        """Return the side of a pair that the merge in hand made."""
        cdef uint32_t a = <uint32_t>(key >> 32), b = <uint32_t>key
        if a != self.new:
            return part.left + a
        return part.right + b if b != self.new else &part.twins

    cdef int64_t twins_weight(self) noexcept nogil:
        cdef int index
        cdef int64_t weight = 0
        for index in range(self.n_parts):
            weight += self.parts[index].twins.weight
        return weight

    cdef int settle_neighbour(self, int first, uint32_t touched) except -1 nogil:
        """Settle a neighbour that part `first` touched, unless a part before it did too."""
        cdef int index
        cdef uint32_t neighbour = touched & ~<uint32_t>TOP_BIT
        cdef int64_t weight = 0
        cdef Side *sides[MAX_PARTS]
        for index in range(self.n_parts):
            sides[index] = (self.parts[index].right if touched & TOP_BIT else self.parts[index].left) + neighbour
            if index < first and sides[index].n_places:
                return 0
            weight += sides[index].weight
        if touched & TOP_BIT:
            table_lose(&self.table, self.b, neighbour, weight)
            self.give(self.new, neighbour, sides, weight)
        else:
            table_lose(&self.table, neighbour, self.a, weight)
            self.give(neighbour, self.new, sides, weight)
        return 0

    cdef int give(self, uint32_t a, uint32_t b, Side **sides, int64_t weight) except -1 nogil:
        """A pair is born: lists and a slot, unless it is below the threshold; `sides` learn the list, plus 1."""
        cdef int index
        cdef Pair *pair
        cdef size_t room
        if weight < self.threshold or self.too_long(a, b):
            for index in range(self.n_parts):
                sides[index].weight = 0
            return 0
        pair = table_find_or_add(&self.table, <uint64_t>a << 32 | b)
        pair.count = weight
        pair.list = self.new_list()
        for index in range(self.n_parts):
            part_new_list(&self.parts[index], pair.list, sides[index].n_places)
            sides[index].weight = pair.list + 1
        if self.n_born == self.room_born:
            room = self.room_born + self.room_born // 2 + 256
            self.born = <uint64_t *>resized(self.born, room, sizeof(uint64_t))
            self.room_born = room
        self.born[self.n_born] = pair.key
        self.n_born += 1
        return 0

    # --- the whole --------------------------------------------------------------------------------------------

    cdef int run(self) except -1 nogil:
        """Merge until enough, or until no pair reaches the floor."""
        cdef uint64_t key
        self.rebuild()
        while self.n_merged < self.wanted and self.n_tokens < MAX_TOKENS:
            if not self.best_pair(&key):
                if self.threshold == self.floor:
                    break
                self.lower_threshold()
                self.rebuild()
                continue
            self.join(<uint32_t>(key >> 32), <uint32_t>key)
            if self.n_merged < self.wanted:   # nobody reads the text after the last merge
                self.apply(key)
                if self.n_tokens == self.wide_from and not self.parts[0].wide:
                    self.widen()
        return 0

    cdef void lower_threshold(self) noexcept nogil:
        """Guess the count of the last merge afresh: counts fall about as merges rise."""
        cdef double guess = <double>self.threshold * self.n_merged / self.wanted / 2
        self.threshold = max(self.floor, max(self.threshold // 300, min(self.threshold // 2, <int64_t>guess)))

    cdef int rebuild(self) except -1 with gil:
        begin = time.perf_counter()
        with nogil:
            self.build()
        self.seconds["build"] += time.perf_counter() - begin
        return 0

    cdef inline int step(self, size_t steps) except -1 nogil:
        self.steps += steps
        if self.steps >= STEPS_A_BREATH:
            self.steps = 0
            self.breathe()
        return 0

    cdef int breathe(self) except -1 with gil:
        """Let signals and the progress function have their turn."""
        PyErr_CheckSignals()
        now = time.monotonic()
        if now - self.reported >= PROGRESS_SECONDS:
            self.reported = now
            self.report()
        return 0

    cdef int report(self) except -1:
        if self.progress is not None:
            self.progress(self.n_merged, self.asked)
        self.flush()
        return 0

    def flush(self):
        """Pass on the merges that were not recorded yet."""
        if self.record is not None and self.n_recorded < self.n_merged:
            self.record(self.pairs()[self.n_recorded :])
            self.n_recorded = self.n_merged

    def pairs(self):
        """Return the merges so far as numbers of tokens, uint32 [n, 2]."""
        cdef size_t index
        result = np.empty((self.n_merged, 2), dtype=np.uint32)
        cdef uint32_t[:, ::1] view = result
        for index in range(self.n_merged):
            view[index, 0] = <uint32_t>(self.merged[index] >> 32) - 1
            view[index, 1] = <uint32_t>self.merged[index] - 1
        return result

    def merges(self):
        """Return the merges so far as pairs of byte strings."""
        cdef uint32_t first = self.n_tokens - <uint32_t>self.n_merged
        cdef size_t index, start = self.spelling.starts[first] if self.n_merged else 0
        offsets, lefts = np.zeros(self.n_merged + 1, dtype=np.int64), np.empty(self.n_merged, dtype=np.int64)
        cdef int64_t[::1] end_of = offsets
        cdef int64_t[::1] left_of = lefts
        for index in range(self.n_merged):
            end_of[index + 1] = end_of[index] + self.spelling.lengths[first + index]
            left_of[index] = self.spelling.lengths[self.merged[index] >> 32]
        blob = PyBytes_FromStringAndSize(<char *>self.spelling.data + start, end_of[self.n_merged])
        return Merges(PackedBytes(offsets, np.frombuffer(blob, dtype=np.uint8)), lefts)

    cdef void release(self) noexcept:
        """Free what only learning needs."""
        cdef int index
        for index in range(MAX_PARTS):
            part_free(&self.parts[index])
            memset(&self.parts[index], 0, sizeof(Part))
        table_drop(&self.table)
        free(self.queue.items)
        self.queue.items = NULL

    def train(self, total, asked, tie_break, min_frequency, max_length, in_characters, taken, progress, record):
        """Learn the merges of the loaded text."""
        cdef int index
        cdef size_t n_symbols = 0
        self.asked, self.progress, self.record = asked, progress, record
        self.taken = taken
        self.reported = time.monotonic()
        self.by_spelling = tie_break == "lexicographic"
        self.by_place = tie_break == "first_seen"
        self.queue.spelling = &self.spelling if self.by_spelling else NULL
        self.max_size = min(2**63, 2**63 if max_length is None else max_length)
        for index in range(self.n_parts):
            n_symbols += self.parts[index].n_symbols
        # A merge removes a symbol of every word it stands in, so there are never more merges than symbols.
        self.wanted = max(0, min(asked, n_symbols))
        self.floor = max(1, min(min_frequency, 2**63 - 1))
        self.threshold = max(self.floor, total // (SAFETY * max(asked, 1)))
        begin = time.perf_counter()
        if self.wanted:
            with nogil:
                self.run()
        self.seconds["merge"] = time.perf_counter() - begin - self.seconds["build"]


cdef void fill_words(Part *part, Symbol *symbols, const int64_t[::1] offsets, const Unit *source,
                     const uint32_t *map_, const int64_t[::1] chosen, const int64_t[::1] weights,
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


def _falling(weights):
    """Return the order of falling weights; nearly all of them are small, which sorts fast."""
    small = weights < 1 << 16
    great = np.flatnonzero(~small)
    small = np.flatnonzero(small)
    great = great[np.argsort(-weights[great], kind="stable")]
    return np.concatenate([great, small[np.argsort((65535 - weights[small]).astype(np.uint16), kind="stable")]])


def train_merges(
    words,
    counts,
    n_merges,
    tie_break,
    min_frequency,
    progress=None,
    *,
    firsts=None,
    max_length=None,
    in_characters=False,
    start=None,
    record=None,
    threads=1,
    seconds=None,
    consume=False,
):
    words = words if isinstance(words, PackedBytes) else PackedBytes.of(words)
    weights = check_arguments(words, counts, tie_break, firsts)
    firsts = firsts if tie_break == "first_seen" else None
    cdef Trainer trainer = Trainer()
    try:
        trainer.start(threads)
        trainer.in_characters = in_characters
        if start is None:
            tokens = [bytes([value]) for value in byte_order(tie_break)]
            trainer.load(words.offsets, words.blob, weights, firsts, tokens)
        else:
            trainer.load(start.offsets, start.numbers, weights, firsts, start.tokens)
        total = int(weights.sum(dtype=np.float64))
        taken = None if start is None else set(start.tokens)
        if consume:
            words.offsets, words.blob = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
        del words, counts, weights, firsts, start
        trainer.train(total, n_merges, tie_break, min_frequency, max_length, in_characters, taken, progress, record)
    finally:
        trainer.close()
        trainer.flush()
    trainer.release()
    merges = trainer.merges()
    if seconds is not None:
        seconds.update(trainer.seconds)
    if progress is not None:
        progress(len(merges), n_merges)
    return merges
