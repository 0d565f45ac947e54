# The text of train_native: words in symbols, and the loops over them. A part belongs to one thread at a time.
#
# Every word lies in one array of symbols (16 bits while the tokens allow it, else 32), with a separator after each and
# one before the first. A token has a *span*: it holds that many places and writes itself into the first and the last
# of them, so both neighbours of a token are one load away and a merge writes a few places, whatever the length of the
# word: a pretoken of millions of letters costs no more than as many short ones. At the start, and after every squeeze,
# all spans are 1; a merge adds the spans of its two tokens. Places inside a token are DEAD; a place that once began or
# ended a token x holds x exactly as long as that token is there, so a list entry checks itself.
#
# The *place of a pair* is where its right token begins: both neighbours of a merge know it without their spans. The
# places of a list increase and are kept as gaps (gaps.h), mostly of 16 bits.
#
# Words of one weight stand together; the weight of a place is found in the table of runs.
#
# The separator is number 0, so that what stands beside it is counted like everything else, without a branch, in
# a slot that nobody reads.

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastbpe.core.memory cimport large, resized, sized_free
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

cdef extern from "gaps.h" nogil:
    uint32_t gap_size(uint32_t gap)
    const uint16_t *gap_read(const uint16_t *at, uint32_t *gap)
    uint16_t *gap_write(uint16_t *to, uint32_t gap)

cdef enum:
    SEPARATOR = 0
    TOP_BIT = 0x80000000          # of a neighbour: it stands on the right
    SLICE = 1 << 16               # places a loop looks at between two looks at signals: some milliseconds
    SHORT_LIST = 4                # units of 16 bits
    DECODED = 64                  # places read, and their symbols fetched, ahead of use
    BLOCK_BITS = 5                # places a block of run_at
    DENSE = 257                   # symbols that a dense count of pairs is for: separator and bytes

cdef struct Run:                  # words of one weight
    int64_t weight
    uint32_t end                  # first place behind them

cdef union Where:
    uint16_t *far
    uint16_t near[4]              # of a short list, which most are, so that it needs no memory of its own

cdef struct Places:               # of one pair, as gaps; some may be stale
    Where where
    uint32_t first                # unit where the first stands; those before it were stale
    uint32_t n                    # units

cdef struct Side:                 # what a merge finds on one side of its places, by neighbour
    int64_t weight                # once the counts are settled: the address in the list to write next; 0: no list
    uint32_t last                 # place
    uint32_t n                    # units of its places

cdef struct Hit:                  # a place where the pair in hand stood, and the tokens beside it
    uint32_t middle, left, right

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
    uint32_t *touched             # neighbours of the merge in hand, TOP_BIT where on the right
    size_t n_touched, room_touched
    size_t at, run                # how far the loop in hand has come: a place, or a unit of a list
    uint32_t last                 # place before that unit
    Hit *hits                     # the first ones of the merge in hand
    size_t n_hits, room_hits
    size_t most_hits              # from here on they are not remembered; their places are read twice
    uint32_t done                 # places before it belong to a new token already
    size_t rest                   # unit of its list where those begin that are not among them
    uint32_t rest_last            # place before that unit
    Side *dense                   # while building: by left * DENSE + right
    int64_t *filter               # while building: summed weights of all pairs, by hash
    uint64_t filter_mask
    PairTable table               # while building: the pairs of this part


cdef inline void part_free(Part *part) noexcept nogil:
    part_drop_lists(part)
    table_drop(&part.table)
    sized_free(part.symbols)
    sized_free(part.runs)
    sized_free(part.run_at)
    sized_free(part.left)
    sized_free(part.right)
    sized_free(part.hits)
    sized_free(part.touched)
    sized_free(part.dense)
    sized_free(part.filter)


cdef inline void part_free_list(Part *part, size_t list) noexcept nogil:
    if part.lists[list].n > SHORT_LIST:
        free(part.lists[list].where.far)
    part.lists[list].n = 0


cdef inline uint16_t *places_of(Places *list) noexcept nogil:
    if list.n <= SHORT_LIST:
        return &list.where.near[0]
    return list.where.far


cdef inline void part_drop_lists(Part *part) noexcept nogil:
    cdef size_t index
    for index in range(part.room_lists):
        part_free_list(part, index)
    sized_free(part.lists)
    part.lists = NULL
    part.room_lists = 0


cdef inline int part_new_list(Part *part, size_t list, uint32_t n) except -1 nogil:
    """Make room for a list of `n` units; its places are to be written."""
    cdef size_t room
    if list >= part.room_lists:
        room = list + list // 2 + 256
        part.lists = <Places *>large(part.lists, room, sizeof(Places))
        memset(part.lists + part.room_lists, 0, (room - part.room_lists) * sizeof(Places))
        part.room_lists = room
    part.lists[list].first = part.lists[list].n = 0
    if n > SHORT_LIST:
        part.lists[list].where.far = <uint16_t *>resized(NULL, n, sizeof(uint16_t))
    part.lists[list].n = n
    return 0


cdef inline void side_note(Side *side, uint32_t place) noexcept nogil:
    """Add a place to the size of a list."""
    side.n += gap_size(place - side.last)
    side.last = place


cdef inline void side_write(Side *side, uint32_t place) noexcept nogil:
    """Add a place to a list."""
    side.weight = <int64_t><size_t>gap_write(<uint16_t *><size_t>side.weight, place - side.last)
    side.last = place


cdef inline void side_point(Side *side, Part *part) noexcept nogil:
    """Get ready to write to the list whose number, plus 1, the side knows; 0: none."""
    side.last = 0
    if side.weight:
        side.weight = <int64_t><size_t>places_of(part.lists + (side.weight - 1))


cdef inline int part_index_runs(Part *part) except -1 nogil:
    """Note the run of each block's first place."""
    cdef size_t block, run = 0
    part.run_at = <uint32_t *>large(part.run_at, (part.n_symbols >> BLOCK_BITS) + 1, sizeof(uint32_t))
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
    cdef Side *cell
    place = part.at
    while place < stop:
        while place >= part.runs[part.run].end:
            part.run += 1
        weight = part.runs[part.run].weight
        end = min(<size_t>part.runs[part.run].end, stop)
        for place in range(place, end):
            cell = part.dense + symbols[place] * <size_t>DENSE + symbols[place + 1]
            cell.weight += weight
            side_note(cell, <uint32_t>place + 1)
        place = end
    part.at = stop
    return stop == part.n_symbols - 1


cdef inline bint part_write_dense(Part *part, Symbol *symbols) noexcept nogil:
    """Write the places of a slice to the lists of their pairs."""
    cdef size_t place, stop = min(part.at + SLICE, part.n_symbols - 1)
    cdef Side *cell
    for place in range(part.at, stop):
        cell = part.dense + symbols[place] * <size_t>DENSE + symbols[place + 1]
        if cell.weight:
            side_write(cell, <uint32_t>place + 1)
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
            if pair.n == 0:
                pair.list = 0                 # while counting: the last place
            pair.count += part.runs[part.run].weight
            pair.n += gap_size(<uint32_t>place + 1 - pair.list)
            pair.list = <uint32_t>place + 1
    part.at = stop
    return stop == part.n_symbols - 1


cdef inline bint part_write_hashed(Part *part, Symbol *symbols, const int64_t *sums, int64_t threshold) noexcept nogil:
    """Write the places of a slice to the lists of their pairs."""
    cdef size_t place, stop = min(part.at + SLICE, part.n_symbols - 1)
    cdef uint64_t key
    cdef Pair *pair
    cdef Places *list
    cdef uint16_t *at
    for place in range(part.at, stop):
        if symbols[place] == SEPARATOR or symbols[place + 1] == SEPARATOR:
            continue
        key = <uint64_t>symbols[place] << 32 | symbols[place + 1]
        if sums[mixed(key) & part.filter_mask] < threshold:
            continue
        pair = table_find(&part.table, key)
        if pair.list != NO_LIST:
            list = part.lists + pair.list
            at = places_of(list) + list.first
            list.first += <uint32_t>(gap_write(at, <uint32_t>place + 1 - pair.n) - at)
            pair.n = <uint32_t>place + 1      # while writing: the last place
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


cdef inline int part_begin(Part *part, size_t list, uint32_t n_tokens) except -1 nogil:
    """Get ready to visit the places of a list."""
    cdef size_t room = 2 * min(<size_t>part.lists[list].n, <size_t>n_tokens) + 2
    if part.room_touched < room:
        sized_free(part.touched)
        part.room_touched = 0
        part.touched = NULL
        part.touched = <uint32_t *>large(NULL, room, sizeof(uint32_t))
        part.room_touched = room
    room = min(<size_t>part.lists[list].n, part.most_hits + 2 * DECODED)
    if part.room_hits < room:
        sized_free(part.hits)
        part.room_hits = 0
        part.hits = NULL
        part.hits = <Hit *>large(NULL, room, sizeof(Hit))
        part.room_hits = room
    part.n_touched = part.n_hits = 0
    part.done = 0
    part.rest = part.lists[list].n
    memset(&part.twins, 0, sizeof(Side))
    return 0


cdef inline uint32_t part_decode(Part *part, Symbol *symbols, Places *list, uint32_t *places) noexcept nogil:
    """Read the next places of a list, up to DECODED, and send for their symbols; return how many."""
    cdef const uint16_t *at = places_of(list) + part.at
    cdef const uint16_t *end = places_of(list) + list.n
    cdef uint32_t n = 0, gap, place = part.last
    while at < end and n < DECODED:
        at = gap_read(at, &gap)
        place += gap
        FASTBPE_PREFETCH(symbols + place)
        places[n] = place
        n += 1
    part.at = at - places_of(list)
    part.last = place
    return n


cdef inline bint part_visit(Part *part, Symbol *symbols, const uint32_t *spans, size_t number, uint32_t a, uint32_t b,
                            uint32_t new) noexcept nogil:
    """Rewrite each place of a slice where the pair still stands, from left to right; note its neighbours."""
    cdef Places *list = part.lists + number
    cdef uint32_t places[DECODED]
    cdef size_t run, stop = min(part.at + SLICE, <size_t>list.n)
    cdef uint32_t a_span = spans[a], b_span = spans[b]
    cdef uint32_t index, n, place, middle, behind, neighbour, run_end = 0
    cdef int64_t weight = 0
    cdef size_t n_touched = part.n_touched, n_hits = part.n_hits
    cdef uint32_t *touched = part.touched
    cdef Hit *hits = part.hits
    cdef Hit *hit
    cdef Side *side
    while part.at < stop:
        if n_hits >= part.most_hits:
            if part.rest == list.n:
                part.rest, part.rest_last, part.n_hits = part.at, part.last, n_hits
            n_hits = part.n_hits
        n = part_decode(part, symbols, list, places)
        for index in range(n):
            middle = places[index]
            if symbols[middle - 1] != a or symbols[middle] != b:
                continue
            if middle >= run_end:
                run = part.run_at[middle >> BLOCK_BITS]
                while middle >= part.runs[run].end:
                    run += 1
                run_end = part.runs[run].end
                weight = part.runs[run].weight
            hit = hits + n_hits
            n_hits += 1
            hit.middle = middle
            place = middle - a_span
            behind = middle + b_span
            hit.left = neighbour = symbols[place - 1]
            if neighbour == new:              # two matches side by side: the one before left this pair to us
                side = &part.twins
            else:
                side = part.left + neighbour
                touched[n_touched] = neighbour
                n_touched += side.n == 0
            side_note(side, place)
            side.weight += weight
            hit.right = neighbour = symbols[behind]
            if neighbour != a or symbols[behind + a_span] != b:
                side = part.right + neighbour
                touched[n_touched] = neighbour | TOP_BIT
                n_touched += side.n == 0
                side_note(side, behind)
                side.weight += weight
            else:
                hit.right = new
            symbols[middle - 1] = <Symbol>-1  # DEAD
            symbols[middle] = <Symbol>-1
            symbols[place] = <Symbol>new
            symbols[behind - 1] = <Symbol>new
    part.n_touched = n_touched
    if part.rest == list.n:
        part.n_hits = n_hits
    return part.at == list.n


cdef inline void part_deal_hit(Part *part, uint32_t place, uint32_t behind, uint32_t left, uint32_t right,
                               uint32_t new) noexcept nogil:
    cdef Side *side = part.left + left if left != new else &part.twins
    if side.weight:
        side_write(side, place)
    if right != new and part.right[right].weight:
        side_write(part.right + right, behind)


cdef inline bint part_deal(Part *part, Symbol *symbols, const uint32_t *spans, size_t number, uint32_t a, uint32_t b,
                           uint32_t new) noexcept nogil:
    """Deal the places of the merge, or of a slice of the rest, to the lists of the pairs that it made."""
    cdef Places *list = part.lists + number
    cdef uint32_t places[DECODED]
    cdef size_t stop = min(part.at + SLICE, <size_t>list.n)
    cdef uint32_t a_span = spans[a], b_span = spans[b]
    cdef uint32_t index, n, place, behind, done
    cdef size_t at
    cdef Hit *hit
    part.left[SEPARATOR].weight = part.right[SEPARATOR].weight = 0
    for at in range(part.n_hits):
        hit = part.hits + at
        part_deal_hit(part, hit.middle - a_span, hit.middle + b_span, hit.left, hit.right, new)
    if part.n_hits:
        part.done = part.hits[part.n_hits - 1].middle + b_span
        part.n_hits = 0
    done = part.done
    while part.at < stop:
        n = part_decode(part, symbols, list, places)
        for index in range(n):                # a stale place never begins the new token, but in one before it
            place, behind = places[index] - a_span, places[index] + b_span
            if symbols[place] == new and place >= done:
                done = behind
                part_deal_hit(part, place, behind, symbols[place - 1], symbols[behind], new)
    part.done = done
    return part.at == list.n


cdef inline void part_clear(Part *part) noexcept nogil:
    """Set the sides of the merge to zero."""
    cdef size_t index
    cdef uint32_t neighbour
    for index in range(part.n_touched):
        neighbour = part.touched[index] & ~<uint32_t>TOP_BIT
        memset((part.right if part.touched[index] & TOP_BIT else part.left) + neighbour, 0, sizeof(Side))


cdef inline size_t part_first(Part *part, Symbol *symbols, size_t number, uint32_t a, uint32_t b) noexcept nogil:
    """Return the first place where a pair still stands, or 0; what is stale before it is forgotten."""
    cdef Places *list = part.lists + number
    cdef uint16_t *begin = places_of(list)
    cdef const uint16_t *at = begin + list.first
    cdef uint32_t place = 0, gap
    while at < begin + list.n:
        at = gap_read(at, &gap)
        place += gap
        if symbols[place - 1] == a and symbols[place] == b:
            # It takes no more units than all the gaps that add up to it, so it can stand in their place.
            list.first = <uint32_t>(at - begin) - gap_size(place)
            gap_write(begin + list.first, place)
            return place
    list.first = list.n
    return 0
