"""Native twin of train_python."""

# The text.  Every unique pretoken lies in one array of 32-bit symbols, one place a byte, with a separator after
# each (and one before the first).  A token of n bytes holds n places and writes its id in the first and the last of
# them, so both neighbours of a token are one load away and a merge writes two places, whatever the length of the
# word: a pretoken of millions of letters costs no more than as many short ones.  Places inside a token are DEAD; a
# place that once began a token x holds x exactly as long as that token is there, so a list entry checks itself.
#
# The weights.  Words are laid out by falling weight; the weight of a place is found in a short table of runs.
#
# The lists.  By the property that train_python explains, the places of a pair are all known when the younger of its
# two tokens is made.  A list is therefore written once, at its exact size, in increasing order, and freed whole.
#
# The threshold.  For the same reason a pair that is born below the count of any merge still to come can be
# forgotten.  We guess that count; where the queue runs dry first, the threshold falls and everything is rebuilt from
# the symbols.  The merges never depend on it.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from fastbpe.core.memory cimport resized, zeroed
from fastbpe.core.pair_table cimport NO_KEY, SMALLEST_TABLE, Pair, PairTable, mixed
from fastbpe.core.pair_table cimport table_create, table_drop, table_find, table_find_or_add, table_lose

import time

import numpy as np

from fastbpe.core.train_python import PROGRESS_SECONDS, TOO_LONG, byte_order, check_arguments
from fastbpe.errors import TrainingError

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define FASTBPE_PREFETCH(address) __builtin_prefetch(address)
    #else
    #define FASTBPE_PREFETCH(address) ((void)(address))
    #endif
    """
    void FASTBPE_PREFETCH(const void *address) nogil

cdef enum:
    SEPARATOR = 0xFFFFFFFF
    DEAD = 0xFFFFFFFE
    TOP_BIT = 0x80000000          # of an event's neighbour: it stands on the right
    MAX_TOKENS = 0x7FFFFFFE
    MAX_PLACES = 0xFFFFFFF0
    MAX_TOKEN_BYTES = 64 << 10
    MAX_VOCAB_BYTES = (1 << 28) - 1
    AHEAD = 12                    # list entries to prefetch ahead of use
    STEPS_A_BREATH = 1 << 17      # a few milliseconds of work between looks at signals
    WORDS_A_BREATH = 1 << 14
    FILTER_BITS = 19              # 4 MB of counters: enough to keep most rare pairs out of the table

cdef enum:                        # the three passes of a build
    FILTER, COUNT, WRITE

cdef struct Run:                  # words of one weight
    uint32_t end                  # first place behind them
    int64_t weight

cdef struct Candidate:            # an entry of the queue; count may be stale, never too small
    int64_t count
    uint64_t tie                  # greater is better; lexicographic: first bytes of the left token
    uint64_t key

cdef struct Side:                 # what a merge finds on one side of its places, by neighbour
    int64_t weight
    uint32_t n_places
    uint32_t *cursor

cdef struct Event:
    uint32_t neighbour
    uint32_t place


cdef class Trainer:
    """The state of one training. Used by one thread; owns all its memory."""

    cdef uint32_t *symbols
    cdef size_t n_symbols
    cdef Run *runs
    cdef size_t n_runs

    cdef uint32_t *lengths        # of each token, in bytes
    cdef size_t *starts           # of each token in `spelling`
    cdef uint8_t *spelling
    cdef size_t n_spelled, room_spelled
    cdef Side *left
    cdef Side *right
    cdef uint32_t n_tokens, room_tokens

    cdef PairTable table
    cdef int64_t *filter          # while building: summed weights of all pairs, by hash
    cdef uint64_t filter_mask
    cdef Candidate *queue
    cdef size_t n_queue, room_queue
    cdef Event *events
    cdef size_t n_events, room_events
    cdef uint32_t *touched        # neighbours of the merge in hand, TOP_BIT as in Event
    cdef size_t n_touched, room_touched
    cdef Side twins               # the new token beside itself

    cdef uint64_t *merged         # keys of the merges so far
    cdef size_t n_merged, room_merged, wanted
    cdef int64_t threshold, floor
    cdef bint by_spelling
    cdef int steps
    cdef object progress, asked
    cdef double reported

    def __dealloc__(self):
        table_drop(&self.table)
        free(self.symbols)
        free(self.runs)
        free(self.lengths)
        free(self.starts)
        free(self.spelling)
        free(self.left)
        free(self.right)
        free(self.filter)
        free(self.queue)
        free(self.events)
        free(self.touched)
        free(self.merged)

    # --- the text ---------------------------------------------------------------------------------------------

    def load(self, words, weights, list byte_order):
        """Lay the words out by falling weight, as single bytes."""
        cdef size_t size, place = 1
        cdef Py_ssize_t rank, index, length
        cdef const uint8_t *data
        cdef const int64_t[::1] weight_of = weights
        cdef const int64_t[::1] kept
        cdef uint32_t id_of[256]
        cdef bytes word
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        used = np.flatnonzero((lengths > 1) & (weights > 0))
        size = 1 + int(lengths[used].sum()) + len(used)
        if size > MAX_PLACES:
            raise TrainingError("train(): the unique pretokens hold more than 4 GiB; train on a sample")
        kept = used[np.argsort(-weights[used], kind="stable")]
        self.symbols = <uint32_t *>resized(NULL, size, sizeof(uint32_t))
        self.runs = <Run *>resized(NULL, len(np.unique(weights[used])), sizeof(Run))
        for index, value in enumerate(byte_order):
            id_of[value] = <uint32_t>index
            self.need_token(1)
            self.spelling[self.n_spelled] = <uint8_t>value
            self.finish_token(1)
        self.symbols[0] = SEPARATOR
        for rank in range(kept.shape[0]):
            word = words[kept[rank]]
            data = <const uint8_t *>PyBytes_AS_STRING(word)
            length = PyBytes_GET_SIZE(word)
            for index in range(length):
                self.symbols[place + index] = id_of[data[index]]
            place += length
            self.symbols[place] = SEPARATOR
            place += 1
            if self.n_runs == 0 or self.runs[self.n_runs - 1].weight != weight_of[kept[rank]]:
                self.runs[self.n_runs].weight = weight_of[kept[rank]]
                self.n_runs += 1
            self.runs[self.n_runs - 1].end = <uint32_t>place
            if rank % WORDS_A_BREATH == 0:
                self.breathe()
                with nogil:
                    pass                  # lets other threads run
        self.n_symbols = place

    # --- tokens -----------------------------------------------------------------------------------------------

    cdef int need_token(self, size_t length) except -1 nogil:
        """Make room for one more token of `length` bytes."""
        cdef uint32_t room
        cdef size_t bytes_room
        if self.n_tokens == self.room_tokens:
            room = 2 * self.room_tokens + 1024
            self.lengths = <uint32_t *>resized(self.lengths, room, sizeof(uint32_t))
            self.starts = <size_t *>resized(self.starts, room, sizeof(size_t))
            self.left = <Side *>resized(self.left, room, sizeof(Side))
            self.right = <Side *>resized(self.right, room, sizeof(Side))
            memset(self.left + self.room_tokens, 0, (room - self.room_tokens) * sizeof(Side))
            memset(self.right + self.room_tokens, 0, (room - self.room_tokens) * sizeof(Side))
            self.room_tokens = room
        if self.n_spelled + length > self.room_spelled:
            bytes_room = 2 * self.room_spelled + length + 8192
            self.spelling = <uint8_t *>resized(self.spelling, bytes_room, 1)
            self.room_spelled = bytes_room
        return 0

    cdef void finish_token(self, uint32_t length) noexcept nogil:
        self.starts[self.n_tokens] = self.n_spelled
        self.lengths[self.n_tokens] = length
        self.n_spelled += length
        self.n_tokens += 1

    cdef int join(self, uint32_t a, uint32_t b) except -1 nogil:
        """Make the token a + b, and note the merge."""
        cdef uint8_t *end
        if self.n_spelled + self.lengths[a] + self.lengths[b] > MAX_VOCAB_BYTES:
            with gil:
                raise TrainingError(TOO_LONG)
        self.steps += (self.lengths[a] + self.lengths[b]) >> 4  # long tokens take their time to copy and compare
        self.step()
        self.need_token(<size_t>self.lengths[a] + self.lengths[b])
        end = self.spelling + self.n_spelled
        memcpy(end, self.spelling + self.starts[a], self.lengths[a])
        memcpy(end + self.lengths[a], self.spelling + self.starts[b], self.lengths[b])
        self.finish_token(self.lengths[a] + self.lengths[b])
        if self.n_merged == self.room_merged:
            self.room_merged = 2 * self.room_merged + 1024
            self.merged = <uint64_t *>resized(self.merged, self.room_merged, sizeof(uint64_t))
        self.merged[self.n_merged] = <uint64_t>a << 32 | b
        self.n_merged += 1
        return 0

    cdef int compare_spelling(self, uint32_t x, uint32_t y) noexcept nogil:
        cdef uint32_t shorter = min(self.lengths[x], self.lengths[y])
        cdef int order = memcmp(self.spelling + self.starts[x], self.spelling + self.starts[y], shorter)
        if order != 0:
            return order
        return (self.lengths[x] > self.lengths[y]) - (self.lengths[x] < self.lengths[y])

    # --- the queue --------------------------------------------------------------------------------------------

    cdef inline bint before(self, Candidate *x, Candidate *y) noexcept nogil:
        """Say whether x is to be merged before y."""
        cdef int order
        if x.count != y.count:
            return x.count > y.count
        if x.tie != y.tie:
            return x.tie > y.tie
        if not self.by_spelling:
            return False
        order = self.compare_spelling(<uint32_t>(x.key >> 32), <uint32_t>(y.key >> 32))
        if order == 0:
            order = self.compare_spelling(<uint32_t>x.key, <uint32_t>y.key)
        return order > 0

    cdef uint64_t tie(self, uint64_t key) noexcept nogil:
        cdef uint32_t token = <uint32_t>(key >> 32)
        cdef uint64_t result = 0
        cdef uint32_t index
        if not self.by_spelling:
            return ~key
        for index in range(8):
            result <<= 8
            if index < self.lengths[token]:
                result |= self.spelling[self.starts[token] + index]
        return result

    cdef void sift_down(self, size_t hole) noexcept nogil:
        """Let the entry at `hole` sink to its place; four children a node."""
        cdef Candidate entry = self.queue[hole]
        cdef size_t child, best, last
        while True:
            best = 4 * hole + 1
            if best >= self.n_queue:
                break
            last = min(best + 4, self.n_queue)
            for child in range(best + 1, last):
                if self.before(self.queue + child, self.queue + best):
                    best = child
            if not self.before(self.queue + best, &entry):
                break
            self.queue[hole] = self.queue[best]
            hole = best
        self.queue[hole] = entry

    cdef int add_candidate(self, Pair *pair) except -1 nogil:
        """Append the pair to the queue, out of order."""
        if self.n_queue == self.room_queue:
            self.room_queue = 2 * self.room_queue + 1024
            self.queue = <Candidate *>resized(self.queue, self.room_queue, sizeof(Candidate))
        self.queue[self.n_queue].count = pair.count
        self.queue[self.n_queue].tie = self.tie(pair.key)
        self.queue[self.n_queue].key = pair.key
        self.n_queue += 1
        return 0

    cdef int push(self, Pair *pair) except -1 nogil:
        cdef Candidate entry
        cdef size_t hole = self.n_queue, parent
        self.add_candidate(pair)
        entry = self.queue[hole]
        while hole > 0:
            parent = (hole - 1) // 4
            if not self.before(&entry, self.queue + parent):
                break
            self.queue[hole] = self.queue[parent]
            hole = parent
        self.queue[hole] = entry
        return 0

    cdef void pop(self) noexcept nogil:
        self.n_queue -= 1
        if self.n_queue:
            self.queue[0] = self.queue[self.n_queue]
            self.sift_down(0)

    cdef inline bint too_long(self, uint64_t key) noexcept nogil:
        return self.lengths[key >> 32] + self.lengths[<uint32_t>key] > MAX_TOKEN_BYTES

    cdef Pair *best_pair(self) except? NULL nogil:
        """Return the most frequent pair of the queue, corrected; NULL where none reaches the threshold."""
        cdef Pair *pair
        while self.n_queue:
            self.step()
            pair = table_find(&self.table, self.queue[0].key)
            if pair.count < self.threshold or self.too_long(pair.key):
                free(pair.places)
                pair.places = NULL
                self.pop()
            elif pair.count != self.queue[0].count:
                self.queue[0].count = pair.count
                self.sift_down(0)
            else:
                self.pop()
                return pair
        return NULL

    # --- building: symbols -> pairs, lists, queue -------------------------------------------------------------

    cdef int build(self) except -1 nogil:
        """Count all pairs afresh, and make a list and an entry for each that reaches the threshold."""
        cdef size_t slot
        cdef int bits = 8
        cdef Pair *pair
        while bits < FILTER_BITS and <size_t>1 << bits < self.n_symbols:
            bits += 1
        table_drop(&self.table)
        self.n_queue = 0
        table_create(&self.table, SMALLEST_TABLE)
        self.filter = <int64_t *>zeroed(<size_t>1 << bits, sizeof(int64_t))
        self.filter_mask = (<uint64_t>1 << bits) - 1
        self.scan(FILTER)
        self.scan(COUNT)
        free(self.filter)
        self.filter = NULL
        for slot in range(self.table.mask + 1):
            pair = self.table.slots + slot
            if pair.key != NO_KEY and pair.count >= self.threshold:
                pair.places = <uint32_t *>resized(NULL, pair.n_places, sizeof(uint32_t))
                pair.n_places = 0
                self.add_candidate(pair)
        self.scan(WRITE)
        slot = self.n_queue // 4 + 1
        while slot:
            slot -= 1
            if slot < self.n_queue:
                self.sift_down(slot)
        return 0

    cdef int scan(self, int phase) except -1 nogil:
        """Walk over every pair of neighbours, once for each pass of a build."""
        cdef size_t place = 1, behind
        cdef uint64_t key
        cdef Run *run = self.runs
        cdef Pair *pair
        while place < self.n_symbols:
            if self.symbols[place] == SEPARATOR:
                place += 1
                continue
            behind = place + self.lengths[self.symbols[place]]
            if self.symbols[behind] == SEPARATOR:
                place = behind + 1
                continue
            while place >= run.end:
                run += 1
            key = <uint64_t>self.symbols[place] << 32 | self.symbols[behind]
            if phase == FILTER:
                self.filter[mixed(key) & self.filter_mask] += run.weight
            elif phase == COUNT:
                if self.filter[mixed(key) & self.filter_mask] >= self.threshold:
                    pair = table_find_or_add(&self.table, key)
                    pair.count += run.weight
                    pair.n_places += 1
            else:
                pair = table_find(&self.table, key)
                if pair.key == key and pair.places != NULL:
                    pair.places[pair.n_places] = <uint32_t>place
                    pair.n_places += 1
            place = behind
            self.step()
        return 0

    # --- one merge --------------------------------------------------------------------------------------------

    cdef int apply(self, Pair *pair) except -1 nogil:
        """Replace a pair, already joined, in the text; settle the counts around it."""
        cdef uint32_t a = <uint32_t>(pair.key >> 32), b = <uint32_t>pair.key, new = self.n_tokens - 1
        cdef uint32_t *places = pair.places
        cdef size_t n_places = pair.n_places
        if self.room_events < 2 * n_places:
            self.events = <Event *>resized(self.events, 2 * n_places, sizeof(Event))
            self.room_events = 2 * n_places
        if self.room_touched < 2 * n_places:
            self.touched = <uint32_t *>resized(self.touched, 2 * n_places, sizeof(uint32_t))
            self.room_touched = 2 * n_places
        self.n_events = self.n_touched = 0
        memset(&self.twins, 0, sizeof(Side))
        self.visit(places, n_places, a, b, new)
        pair.places = NULL                # owned here from now on, and the pair is gone
        pair.count = 0
        free(places)
        self.settle(a, b, new)
        self.write_lists(new)
        return 0

    cdef int visit(self, uint32_t *places, size_t n_places, uint32_t a, uint32_t b, uint32_t new) except -1 nogil:
        """Rewrite each place where the pair still stands, from left to right, and note its neighbours."""
        cdef uint32_t *symbols = self.symbols
        cdef uint32_t a_length = self.lengths[a], b_length = self.lengths[b], new_length = a_length + b_length
        cdef uint32_t place, middle, behind, neighbour
        cdef size_t index, run = 0
        for index in range(n_places):
            if index + AHEAD < n_places:
                FASTBPE_PREFETCH(symbols + places[index + AHEAD])
            self.step()
            place = places[index]
            middle = place + a_length
            if symbols[place] != a or symbols[middle] != b:
                continue
            if place >= self.runs[run].end:
                run = self.run_of(place, run)
            behind = middle + b_length
            neighbour = symbols[place - 1]
            if neighbour == new:          # two matches side by side: the one before left this pair to us
                self.twins.weight += self.runs[run].weight
                self.twins.n_places += 1
                self.note(new, place - new_length)
            elif neighbour != SEPARATOR:
                self.touch(self.left + neighbour, neighbour, self.runs[run].weight)
                self.note(neighbour, place - self.lengths[neighbour])
            neighbour = symbols[behind]
            if neighbour != SEPARATOR and not (neighbour == a and symbols[behind + a_length] == b):
                self.touch(self.right + neighbour, neighbour | TOP_BIT, self.runs[run].weight)
                self.note(neighbour | TOP_BIT, place)
            symbols[middle - 1] = DEAD
            symbols[middle] = DEAD
            symbols[place] = new
            symbols[behind - 1] = new
        return 0

    cdef size_t run_of(self, uint32_t place, size_t low) noexcept nogil:
        """Return the run that holds the place; it is behind `low`."""
        cdef size_t high = self.n_runs - 1, middle
        low += 1
        while low < high:
            middle = (low + high) // 2
            if place < self.runs[middle].end:
                high = middle
            else:
                low = middle + 1
        return low

    cdef inline void note(self, uint32_t neighbour, uint32_t place) noexcept nogil:
        self.events[self.n_events].neighbour = neighbour
        self.events[self.n_events].place = place
        self.n_events += 1

    cdef inline void touch(self, Side *side, uint32_t neighbour, int64_t weight) noexcept nogil:
        if side.n_places == 0:
            self.touched[self.n_touched] = neighbour
            self.n_touched += 1
        side.n_places += 1
        side.weight += weight

    cdef int settle(self, uint32_t a, uint32_t b, uint32_t new) except -1 nogil:
        """Take the weights from the old pairs of each neighbour and give them to the new ones."""
        cdef size_t index
        cdef uint32_t neighbour
        cdef Side *side
        for index in range(self.n_touched):
            self.step()
            neighbour = self.touched[index] & ~<uint32_t>TOP_BIT
            if self.touched[index] & TOP_BIT:
                side = self.right + neighbour
                table_lose(&self.table, b, neighbour, side.weight)
                self.give(new, neighbour, side)
            else:
                side = self.left + neighbour
                table_lose(&self.table, neighbour, a, side.weight)
                self.give(neighbour, new, side)
        if self.twins.n_places:
            table_lose(&self.table, b, a, self.twins.weight)
            self.give(new, new, &self.twins)
        return 0

    cdef int give(self, uint32_t a, uint32_t b, Side *side) except -1 nogil:
        """A pair is born: list, slot and entry, unless it is below the threshold."""
        cdef Pair *pair
        side.cursor = NULL
        if side.weight < self.threshold:
            return 0
        pair = table_find_or_add(&self.table, <uint64_t>a << 32 | b)
        pair.places = <uint32_t *>resized(NULL, side.n_places, sizeof(uint32_t))
        pair.n_places = side.n_places
        pair.count = side.weight
        side.cursor = pair.places
        self.push(pair)
        return 0

    cdef int write_lists(self, uint32_t new) except -1 nogil:
        """Deal the places of the merge to the lists of the pairs it made, and clear the sides."""
        cdef size_t index
        cdef uint32_t neighbour
        cdef Side *side
        for index in range(self.n_events):
            self.step()
            neighbour = self.events[index].neighbour
            if neighbour == new:
                side = &self.twins
            elif neighbour & TOP_BIT:
                side = self.right + (neighbour & ~<uint32_t>TOP_BIT)
            else:
                side = self.left + neighbour
            if side.cursor != NULL:
                side.cursor[0] = self.events[index].place
                side.cursor += 1
        for index in range(self.n_touched):
            neighbour = self.touched[index] & ~<uint32_t>TOP_BIT
            memset((self.right if self.touched[index] & TOP_BIT else self.left) + neighbour, 0, sizeof(Side))
        return 0

    # --- the whole --------------------------------------------------------------------------------------------

    cdef int run(self) except -1 nogil:
        """Merge until enough, or until no pair reaches the floor."""
        cdef Pair *pair
        cdef uint64_t key
        self.build()
        while self.n_merged < self.wanted and self.n_tokens < MAX_TOKENS:
            pair = self.best_pair()
            if pair == NULL:
                if self.threshold == self.floor:
                    break
                self.threshold = max(self.floor, self.threshold // 300)
                self.build()
                continue
            key = pair.key
            self.join(<uint32_t>(key >> 32), <uint32_t>key)
            if self.n_merged < self.wanted:   # nobody reads the text after the last merge
                self.apply(pair)
        return 0

    cdef inline int step(self) except -1 nogil:
        self.steps += 1
        if self.steps >= STEPS_A_BREATH:
            self.steps = 0
            self.breathe()
        return 0

    cdef int breathe(self) except -1 with gil:
        """Let signals and the progress function have their turn."""
        PyErr_CheckSignals()
        if self.progress is not None:
            now = time.monotonic()
            if now - self.reported >= PROGRESS_SECONDS:
                self.reported = now
                self.progress(self.n_merged, self.asked)
        return 0

    def merges(self):
        """Return the merges so far as pairs of byte strings."""
        cdef size_t index
        tokens = [
            PyBytes_FromStringAndSize(<char *>self.spelling + self.starts[index], self.lengths[index])
            for index in range(self.n_tokens)
        ]
        return [
            (tokens[self.merged[index] >> 32], tokens[<uint32_t>self.merged[index]])
            for index in range(self.n_merged)
        ]

    def train(self, weights, asked, tie_break, min_frequency, progress):
        """Learn the merges of the loaded text."""
        self.asked, self.progress = asked, progress
        self.reported = time.monotonic()
        self.by_spelling = tie_break == "lexicographic"
        # A merge removes a symbol of every word it stands in, so there are never more merges than symbols.
        self.wanted = max(0, min(asked, self.n_symbols))
        self.floor = max(1, min(min_frequency, 2**63 - 1))
        # The count of the last merge of 32,000 was 18 in 7.8 M pretokens of English, 210 in 64 M mixed ones: a
        # threshold of pretokens / (50 x merges) lies safely below, and one build is nearly always enough.
        self.threshold = max(self.floor, int(weights.sum()) // (50 * max(asked, 1)))
        if self.wanted:
            with nogil:
                self.run()


def train_merges(words, counts, n_merges, tie_break, min_frequency, progress=None):
    weights = check_arguments(words, counts, tie_break)
    trainer = Trainer()
    trainer.load(words, weights, byte_order(tie_break))
    trainer.train(weights, n_merges, tie_break, min_frequency, progress)
    merges = trainer.merges()
    if progress is not None:
        progress(len(merges), n_merges)
    return merges
