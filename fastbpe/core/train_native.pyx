"""Native twin of train_python."""

# The words and the threads stand in words_native.pyx, the loops over the text in train_part.pxd, the queue in
# train_queue.pxd, the table of pairs in pair_table.pxd.
#
# The lists.  By the property that train_python explains, the places of a pair are all known when the younger of its
# two tokens is made.  A list is therefore written once, at its exact size, in increasing order, and freed whole.
#
# The threshold.  For the same reason a pair that is born below the count of any merge still to come can be
# forgotten.  We guess that count; where the queue runs dry first, the threshold falls, words are squeezed to one place
# a token, and everything is rebuilt from them.  The merges never depend on it.

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastbpe.core.memory cimport large, large_zeroed, sized_free
from fastbpe.core.pair_table cimport NO_KEY, NO_LIST, SMALLEST_TABLE, Pair, PairTable, mixed
from fastbpe.core.pair_table cimport table_create, table_drop, table_find, table_find_or_add, table_lose
from fastbpe.core.train_part cimport *
from fastbpe.core.train_queue cimport *
from fastbpe.core.words_native cimport (
    COUNT, COUNT_DENSE, DEAL, FILTER, MAX_PARTS, SQUEEZE, VISIT, WRITE, WRITE_DENSE, Words,
)

import time

import numpy as np

from fastbpe.core.packed import Merges, PackedBytes
from fastbpe.core.train_python import PROGRESS_SECONDS, TOO_LONG, byte_order, check_arguments
from fastbpe.errors import TrainingError

cdef enum:
    MAX_TOKENS = 0x7FFFFFF0
    MAX_TOKEN_BYTES = 64 << 10
    MAX_VOCAB_BYTES = (1 << 28) - 1
    STEPS_A_BREATH = 1 << 17      # a few milliseconds of work between looks at signals
    FILTER_BITS = 19              # 4 MB of counters: enough to keep most rare pairs out of the table

# The merges do not depend on these; tests set them.
PART_PLACES = 1 << 21             # a thread is not worth its start for fewer
LONG_LIST = 4096                  # units of a pair's places from which on waking the other threads pays
MOST_HITS = 1 << 14              # places of a merge that are remembered with their neighbours: 196 KB a thread
WIDE_FROM = 0xFFFF                # tokens that need 32-bit symbols; 16-bit ones hold 0 to 0xFFFE, and DEAD
# The count of the last merge of 32,000 was 18 in 7.8 M pretokens of English, 210 in 64 M mixed ones: a threshold of
# pretokens / (25 x merges) lies below, and one build is nearly always enough. From a start on tokens take the place of
# pretokens; across spaces, too, the last merges of 4,000 on 20 MB of English (4.6 M tokens) had counts of 51 or more.
SAFETY = 25

cdef class Trainer(Words):
    """The state of one training. Called by one thread; owns all its memory."""

    cdef PairTable table
    cdef Queue queue
    cdef uint32_t *spare          # numbers of lists to be used again
    cdef size_t n_spare, room_spare, n_lists
    cdef uint64_t *born           # keys of the pairs that the merge in hand made
    cdef size_t room_born

    cdef uint64_t *merged         # keys of the merges so far
    cdef size_t n_merged, room_merged, n_recorded
    cdef uint64_t wanted
    cdef int64_t floor
    cdef bint by_spelling, by_place
    cdef uint64_t max_size
    cdef size_t long_list
    cdef size_t steps
    cdef set taken                # spellings that no merge may make; None: it cannot happen
    cdef object progress, asked, record
    cdef double reported

    def __cinit__(self):
        self.long_list, self.wide_from, self.part_places = LONG_LIST, WIDE_FROM, PART_PLACES

    def __dealloc__(self):
        table_drop(&self.table)
        sized_free(self.queue.items)
        sized_free(self.spare)
        sized_free(self.born)
        sized_free(self.merged)

    # --- tokens -----------------------------------------------------------------------------------------------

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
        self.finish_token(
            a_length + b_length, self.spans[a] + self.spans[b], self.sizes[a] + self.sizes[b], self.words_of_both(a, b)
        )
        if self.n_merged == self.room_merged:
            self.room_merged = min(self.room_merged + self.room_merged // 2 + 1024, self.wanted)
            self.merged = <uint64_t *>large(self.merged, self.room_merged, sizeof(uint64_t))
        self.merged[self.n_merged] = <uint64_t>a << 32 | b
        self.n_merged += 1
        return 0

    cdef bint is_taken(self, uint32_t a, uint32_t b) except -1 with gil:
        """Say whether a token of the start is spelled a + b."""
        return self.token(a) + self.token(b) in self.taken

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
                place = part_first(part, <uint32_t *>part.symbols, pair.list, a, b)
            else:
                place = part_first(part, <uint16_t *>part.symbols, pair.list, a, b)
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
            or self.words_of_both(a, b) > self.max_words
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
            self.spare = <uint32_t *>large(self.spare, room, sizeof(uint32_t))
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
        cdef Side *cell
        cdef Pair *pair
        for index in range(self.n_parts):
            self.parts[index].dense = <Side *>large_zeroed(DENSE * DENSE, sizeof(Side))
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
                    part_new_list(&self.parts[index], pair.list, cell.n)
                    cell.weight = pair.list + 1
        for index in range(self.n_parts):
            for at in range(DENSE * DENSE):   # only now do the lists stay where they are
                side_point(self.parts[index].dense + at, &self.parts[index])
        self.all_parts(WRITE_DENSE, True)
        for index in range(self.n_parts):
            sized_free(self.parts[index].dense)
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
            part.filter = <int64_t *>large_zeroed(<size_t>1 << bits, sizeof(int64_t))
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
                    mine.list = NO_LIST
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
                part_new_list(&self.parts[index], pair.list, mine.n if mine.key != NO_KEY else 0)
                if mine.key != NO_KEY:
                    mine.list = pair.list
                    mine.n = 0
        self.all_parts(WRITE, True)
        self.sums = NULL
        for index in range(self.n_parts):
            part = &self.parts[index]
            for slot in range(self.n_lists):
                part.lists[slot].first = 0
            sized_free(part.filter)
            part.filter = NULL
            table_drop(&part.table)
        return 0

    # --- one merge --------------------------------------------------------------------------------------------

    cdef int apply(self, uint64_t key) except -1 nogil:
        """Replace a pair, already joined, in the text; settle the counts around it."""
        cdef int index
        cdef size_t at, n = 0
        cdef Pair *pair = table_find(&self.table, key)
        cdef bint together
        self.a, self.b, self.new = <uint32_t>(key >> 32), <uint32_t>key, self.n_tokens - 1
        self.number = pair.list
        for index in range(self.n_parts):
            part_begin(&self.parts[index], self.number, self.n_tokens)
            n += self.parts[index].lists[self.number].n
        together = n >= self.long_list
        self.step(n)
        self.all_parts(VISIT, together)
        pair.count = 0
        self.settle()
        self.all_parts(DEAL, together)
        self.free_lists(table_find(&self.table, key))
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
                if not side.n:
                    side.weight = 0           # not touched in this part, so nobody would clear it
                side_point(side, &self.parts[index])
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
            if index < first and sides[index].n:
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
            part_new_list(&self.parts[index], pair.list, sides[index].n)
            sides[index].weight = pair.list + 1
        if self.n_born == self.room_born:
            room = self.room_born + self.room_born // 2 + 256
            self.born = <uint64_t *>large(self.born, room, sizeof(uint64_t))
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
            self.record(self.n_recorded, self.pairs()[self.n_recorded :])
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
        sized_free(self.queue.items)
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
            self.parts[index].most_hits = MOST_HITS
        # A merge removes a symbol of every word it stands in, so there are never more merges than symbols.
        self.wanted = max(0, min(asked, n_symbols))
        self.floor = max(1, min(min_frequency, 2**63 - 1))
        self.threshold = max(self.floor, total // (SAFETY * max(asked, 1)))
        begin = time.perf_counter()
        if self.wanted:
            with nogil:
                self.run()
        self.seconds["merge"] = time.perf_counter() - begin - self.seconds["build"]


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
    max_words=None,
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
        trainer.max_words = 0 if max_words is None else min(max_words, 2**20 - 1)
        total = int(weights.sum(dtype=np.float64))
        tokens = [bytes([value]) for value in byte_order(tie_break)] if start is None else start.tokens
        trainer.most_tokens = min(1 + len(tokens) + n_merges, MAX_TOKENS)
        if start is None:
            trainer.load(words.offsets, words.blob, weights, firsts, tokens)
        else:
            total = int((np.diff(start.offsets) * weights.astype(np.float64)).sum())  # words may be whole sentences
            trainer.load(start.offsets, start.numbers, weights, firsts, tokens)
        taken = None if start is None else set(tokens)
        if consume:
            words.offsets, words.blob = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
            if start is not None:
                start.offsets, start.numbers = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint32)
            if weights.flags.owndata:
                weights.resize(0, refcheck=False)  # whoever holds them has no use for them any more
        del words, counts, weights, firsts, start, tokens
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
