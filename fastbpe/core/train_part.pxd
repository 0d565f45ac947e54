# The text of train_native: words in symbols, and the loops over them. A part belongs to one thread at a time.
#
# Every word lies in one array of symbols (16 bits while the tokens allow it, else 32), with a separator after each and
# one before the first. A token has a *span*: it holds that many places and writes itself into the first and the last
# of them, so both neighbours of a token are one load away and a merge writes a few places, whatever the length of the
# word: a pretoken of millions of letters costs no more than as many short ones. At the start, and after every squeeze,
# all spans are 1; a merge adds the spans of its two tokens. Places inside a token are DEAD; a place that once began a
# token x holds x exactly as long as that token is there, so a list entry checks itself.
#
# Words of one weight stand together; the weight of a place is found in the table of runs.
#
# The separator is number 0, so that what stands beside it is counted like everything else, without a branch, in
# a slot that nobody reads.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastbpe.core.memory cimport resized, zeroed
from fastbpe.core.pair_table cimport NO_KEY, NO_LIST, Pair, PairTable, mixed
from fastbpe.core.pair_table cimport table_drop, table_find, table_find_or_add

ctypedef fused Symbol:
    uint16_t
    uint32_t

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
    SEPARATOR = 0
    TOP_BIT = 0x80000000          # of a neighbour: it stands on the right
    SLICE = 1 << 16               # places a loop looks at between two looks at signals: some milliseconds
    SHORT_LIST = 2
    AHEAD = 12                    # list entries to prefetch ahead of use
    BLOCK_BITS = 5                # places a block of run_at
    DENSE = 257                   # symbols that a dense count of pairs is for: separator and bytes

cdef struct Run:                  # words of one weight
    int64_t weight
    uint32_t end                  # first place behind them

cdef union Where:
    uint32_t *far
    uint32_t near[2]              # of a short list, which most are, so that it needs no memory of its own

cdef struct Places:               # of one pair: where its left token begins, increasing; some may be stale
    Where where
    uint32_t first                # those before are known to be stale
    uint32_t n

cdef struct Side:                 # what a merge finds on one side of its places, by neighbour
    int64_t weight                # once the counts are settled: the address in the list to write next; 0: no list
    uint32_t n_places

cdef struct Event:
    uint32_t neighbour
    uint32_t place

cdef struct Cell:                 # of a dense count
    int64_t weight                # then as in Side
    uint32_t n_places
    uint32_t list

cdef struct Part:
    void *symbols
    size_t n_symbols
    bint wide
    Run *runs
    size_t n_runs
    uint32_t *run_at              # the run of the first place of each block
    Places *lists                 # by Pair.list
    size_t room_lists
    Side *left                    # by token
    Side *right
    Side twins                    # the new token beside itself
    Event *events
    size_t n_events, room_events
    uint32_t *touched             # neighbours of the merge in hand, TOP_BIT where on the right
    size_t n_touched, room_touched
    size_t at, run                # how far the loop in hand has come
    Cell *dense                   # while building: by left * DENSE + right
    int64_t *filter               # while building: summed weights of all pairs, by hash
    uint64_t filter_mask
    PairTable table               # while building: the pairs of this part


cdef inline void part_free(Part *part) noexcept nogil:
    cdef size_t index
    part_drop_lists(part)
    table_drop(&part.table)
    free(part.symbols)
    free(part.runs)
    free(part.run_at)
    free(part.left)
    free(part.right)
    free(part.events)
    free(part.touched)
    free(part.dense)
    free(part.filter)


cdef inline void part_free_list(Part *part, size_t list) noexcept nogil:
    if part.lists[list].n > SHORT_LIST:
        free(part.lists[list].where.far)
    part.lists[list].n = 0


cdef inline uint32_t *places_of(Places *list) noexcept nogil:
    if list.n <= SHORT_LIST:
        return &list.where.near[0]
    return list.where.far


cdef inline void part_drop_lists(Part *part) noexcept nogil:
    cdef size_t index
    for index in range(part.room_lists):
        part_free_list(part, index)
    free(part.lists)
    part.lists = NULL
    part.room_lists = 0


cdef inline int part_new_list(Part *part, size_t list, uint32_t n_places) except -1 nogil:
    """Make room for a list; its places are to be written."""
    cdef size_t room
    if list >= part.room_lists:
        room = list + list // 2 + 256
        part.lists = <Places *>resized(part.lists, room, sizeof(Places))
        memset(part.lists + part.room_lists, 0, (room - part.room_lists) * sizeof(Places))
        part.room_lists = room
    part.lists[list].first = part.lists[list].n = 0
    if n_places > SHORT_LIST:
        part.lists[list].where.far = <uint32_t *>resized(NULL, n_places, sizeof(uint32_t))
    part.lists[list].n = n_places
    return 0


cdef inline int part_index_runs(Part *part) except -1 nogil:
    """Note the run of each block's first place."""
    cdef size_t block, run = 0
    part.run_at = <uint32_t *>resized(part.run_at, (part.n_symbols >> BLOCK_BITS) + 1, sizeof(uint32_t))
    for block in range((part.n_symbols >> BLOCK_BITS) + 1):
        while run + 1 < part.n_runs and block << BLOCK_BITS >= part.runs[run].end:
            run += 1
        part.run_at[block] = <uint32_t>run
    return 0


# --- building: symbols -> pairs and lists; all spans are 1 -------------------------------------------------------


cdef inline bint part_count_dense(Part *part, Symbol *symbols) noexcept nogil:
    """Count the pairs of a slice; say whether it was the last."""
    cdef size_t place, end, stop = min(part.at + SLICE, part.n_symbols - 1)
    cdef int64_t weight
    cdef Cell *cell
    place = part.at
    while place < stop:
        while place >= part.runs[part.run].end:
            part.run += 1
        weight = part.runs[part.run].weight
        end = min(<size_t>part.runs[part.run].end, stop)
        for place in range(place, end):
            cell = part.dense + symbols[place] * <size_t>DENSE + symbols[place + 1]
            cell.weight += weight
            cell.n_places += 1
        place = end
    part.at = stop
    return stop == part.n_symbols - 1


cdef inline bint part_write_dense(Part *part, Symbol *symbols) noexcept nogil:
    """Write the places of a slice to the lists of their pairs."""
    cdef size_t place, stop = min(part.at + SLICE, part.n_symbols - 1)
    cdef Cell *cell
    for place in range(part.at, stop):
        cell = part.dense + symbols[place] * <size_t>DENSE + symbols[place + 1]
        if cell.weight:
            (<uint32_t *><size_t>cell.weight)[0] = <uint32_t>place
            cell.weight += sizeof(uint32_t)
    part.at = stop
    return stop == part.n_symbols - 1


cdef inline bint part_filter(Part *part, Symbol *symbols) noexcept nogil:
    """Add up the weights of the pairs of a slice, by hash."""
    cdef size_t place, stop = min(part.at + SLICE, part.n_symbols - 1)
    cdef uint64_t key
    for place in range(part.at, stop):
        while place >= part.runs[part.run].end:
            part.run += 1
        key = <uint64_t>symbols[place] << 32 | symbols[place + 1]
        part.filter[mixed(key) & part.filter_mask] += part.runs[part.run].weight
    part.at = stop
    return stop == part.n_symbols - 1


cdef inline int part_count(Part *part, Symbol *symbols, const int64_t *sums, int64_t threshold) except -1 nogil:
    """Count the pairs of a slice that may reach the threshold."""
    cdef size_t place, stop = min(part.at + SLICE, part.n_symbols - 1)
    cdef uint64_t key
    cdef Pair *pair
    for place in range(part.at, stop):
        while place >= part.runs[part.run].end:
            part.run += 1
        if symbols[place] == SEPARATOR or symbols[place + 1] == SEPARATOR:
            continue
        key = <uint64_t>symbols[place] << 32 | symbols[place + 1]
        if sums[mixed(key) & part.filter_mask] >= threshold:
            pair = table_find_or_add(&part.table, key)
            pair.count += part.runs[part.run].weight
            pair.n_places += 1
    part.at = stop
    return stop == part.n_symbols - 1


cdef inline bint part_write_hashed(Part *part, Symbol *symbols, const int64_t *sums, int64_t threshold) noexcept nogil:
    """Write the places of a slice to the lists of their pairs."""
    cdef size_t place, stop = min(part.at + SLICE, part.n_symbols - 1)
    cdef uint64_t key
    cdef Pair *pair
    cdef Places *list
    for place in range(part.at, stop):
        if symbols[place] == SEPARATOR or symbols[place + 1] == SEPARATOR:
            continue
        key = <uint64_t>symbols[place] << 32 | symbols[place + 1]
        if sums[mixed(key) & part.filter_mask] < threshold:
            continue
        pair = table_find(&part.table, key)
        if pair.list != NO_LIST:
            list = part.lists + pair.list
            places_of(list)[list.first] = <uint32_t>place
            list.first += 1
    part.at = stop
    return stop == part.n_symbols - 1


cdef inline size_t squeeze_run(Symbol *source, Symbol *target, size_t begin, size_t end, size_t place,
                               const uint32_t *spans) noexcept nogil:
    """Copy a run's words of more than one token to `place`, each token one symbol; return the place behind them."""
    cdef size_t start = place, read = begin
    while read < end:
        if source[read] == SEPARATOR:
            if place == start + 1:
                place = start                 # a single token has nothing to merge with
            else:
                target[place] = SEPARATOR
                place += 1
            start = place
            read += 1
        else:
            target[place] = source[read]
            place += 1
            read += spans[source[read]]
    return place


# --- one merge ---------------------------------------------------------------------------------------------------


cdef inline int part_begin(Part *part, size_t list) except -1 nogil:
    """Get ready to visit the places of a list."""
    cdef size_t n_places = part.lists[list].n
    if part.room_events < 2 * n_places:
        free(part.events)
        part.room_events = 0
        part.events = NULL
        part.events = <Event *>resized(NULL, 2 * n_places, sizeof(Event))
        part.room_events = 2 * n_places
    if part.room_touched < 2 * n_places + 2:
        free(part.touched)
        part.room_touched = 0
        part.touched = NULL
        part.touched = <uint32_t *>resized(NULL, 2 * n_places + 2, sizeof(uint32_t))
        part.room_touched = 2 * n_places + 2
    part.n_events = part.n_touched = 0
    part.twins.weight = part.twins.n_places = 0
    part.at = part.lists[list].first
    return 0


cdef inline bint part_visit(Part *part, Symbol *symbols, const uint32_t *spans, size_t number, uint32_t a, uint32_t b,
                            uint32_t new) noexcept nogil:
    """Rewrite each place of a slice where the pair still stands, from left to right; note its neighbours."""
    cdef Places *list = part.lists + number
    cdef uint32_t *places = places_of(list)
    cdef size_t index, run, stop = min(part.at + SLICE, list.n)
    cdef uint32_t a_span = spans[a], b_span = spans[b], n_places = list.n
    cdef uint32_t place, middle, behind, neighbour, run_end = 0
    cdef int64_t weight = 0
    cdef Event *event = part.events + part.n_events
    cdef size_t n_touched = part.n_touched
    cdef uint32_t *touched = part.touched
    cdef Side *side
    for index in range(part.at, stop):
        if index + AHEAD < n_places:
            FASTBPE_PREFETCH(symbols + places[index + AHEAD])
        place = places[index]
        middle = place + a_span
        if symbols[place] != a or symbols[middle] != b:
            continue
        if place >= run_end:
            run = part.run_at[place >> BLOCK_BITS]
            while place >= part.runs[run].end:
                run += 1
            run_end = part.runs[run].end
            weight = part.runs[run].weight
        behind = middle + b_span
        neighbour = symbols[place - 1]
        if neighbour == new:                  # two matches side by side: the one before left this pair to us
            part.twins.weight += weight
            part.twins.n_places += 1
            event.neighbour = new
            event.place = place - a_span - b_span
        else:
            side = part.left + neighbour
            touched[n_touched] = neighbour
            n_touched += side.n_places == 0
            side.n_places += 1
            side.weight += weight
            event.neighbour = neighbour
            event.place = place               # of the new token; the left one is found when the list is written
        event += 1
        neighbour = symbols[behind]
        if neighbour != a or symbols[behind + a_span] != b:
            side = part.right + neighbour
            touched[n_touched] = neighbour | TOP_BIT
            n_touched += side.n_places == 0
            side.n_places += 1
            side.weight += weight
            event.neighbour = neighbour | TOP_BIT
            event.place = place
            event += 1
        symbols[middle - 1] = <Symbol>-1      # DEAD
        symbols[middle] = <Symbol>-1
        symbols[place] = <Symbol>new
        symbols[behind - 1] = <Symbol>new
    part.n_events = event - part.events
    part.n_touched = n_touched
    part.at = stop
    return stop == list.n


cdef inline void part_write(Part *part, const uint32_t *spans, uint32_t new) noexcept nogil:
    """Deal the places of the merge to the lists of the pairs it made."""
    cdef size_t index
    cdef uint32_t neighbour, place
    cdef Side *side
    part.left[SEPARATOR].weight = part.right[SEPARATOR].weight = 0
    for index in range(part.n_events):
        neighbour = part.events[index].neighbour
        place = part.events[index].place
        if neighbour == new:
            side = &part.twins
        elif neighbour & TOP_BIT:
            side = part.right + (neighbour & ~<uint32_t>TOP_BIT)
        else:
            side = part.left + neighbour
            place -= spans[neighbour]
        if side.weight:
            (<uint32_t *><size_t>side.weight)[0] = place
            side.weight += sizeof(uint32_t)


cdef inline void part_clear(Part *part) noexcept nogil:
    """Set the sides of the merge to zero."""
    cdef size_t index
    cdef uint32_t neighbour
    for index in range(part.n_touched):
        neighbour = part.touched[index] & ~<uint32_t>TOP_BIT
        memset((part.right if part.touched[index] & TOP_BIT else part.left) + neighbour, 0, sizeof(Side))


cdef inline size_t part_first(Part *part, Symbol *symbols, const uint32_t *spans, size_t number, uint32_t a,
                              uint32_t b) noexcept nogil:
    """Return the first place where a pair still stands, or 0; what is stale before it is forgotten."""
    cdef Places *list = part.lists + number
    cdef uint32_t place
    while list.first < list.n:
        place = places_of(list)[list.first]
        if symbols[place] == a and symbols[place + spans[a]] == b:
            return place
        list.first += 1
    return 0
