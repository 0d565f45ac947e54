"""Native twin of merge_python.

Both semantics become one table (left symbol, right symbol) -> product.  One pair a token is enough, its *realized
pair*: the last merge when the bytes of the token are merged alone.  For a symbol that appears in any merge is the
result of merging its own bytes, because no earlier merge crossed its ends; so it came from that pair.  Symbols are
numbered by the priority of their pair, so the product is the priority too.

Short pretokens are merged step by step.  Long ones are encoded by backtracking with pair validity, as in rust-gems'
`bpe` (GitHub, 2024): a sequence of symbols is the result of merging exactly if each two neighbours are the result of
merging their bytes, and each text has one such sequence.  Take the longest symbol that fits behind the one before; at a
dead end step back.  No position is left twice, so the time is linear.  DESIGN.md has the proofs.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from fastbpe.core.atoms_native cimport Atoms
from fastbpe.core.characters_native cimport CODES, HARD, SOLVE, TWO, Characters, Window, length_of, put_character
from fastbpe.core.heap cimport Heap, heap_build, heap_pop, heap_push
from fastbpe.core.key cimport KEY_LONGEST, KEY_SHORT, KeyLine, KeySecret, key_hash_plain, key_make, key_prefetch
from fastbpe.core.memory cimport resized, zeroed
from fastbpe.core.trie_native cimport Trie

from fastbpe.core.packed import PackedVocab

from os import urandom as _urandom

cdef extern from "hash.h" nogil:
    uint64_t hash_of_bytes(const uint8_t *data, size_t size, uint64_t seed, uint64_t secret)

cdef extern from "pages.h" nogil:
    void *pages_alloc(size_t size)
    void pages_free(void *memory, size_t size)

cdef extern from "lockstep.h" nogil:
    uint64_t lockstep_bucket(uint64_t hashed, uint64_t mask)
    LockstepRun *lockstep_choose()
    int lockstep_lowest(uint32_t bits)
    uint64_t lockstep_hash(uint64_t key, uint64_t seed)

cdef extern from *:
    """
    /* A flag that other threads see only with all that was written before it. */
    #if defined(__GNUC__) || defined(__clang__)
    #define fastbpe_is_ready(flag) __atomic_load_n(flag, __ATOMIC_ACQUIRE)
    #define fastbpe_set_ready(flag) __atomic_store_n(flag, 1, __ATOMIC_RELEASE)
    #else
    #define fastbpe_is_ready(flag) (*(volatile int *)(flag))
    #define fastbpe_set_ready(flag) (*(volatile int *)(flag) = 1)
    #endif
    """
    int is_ready "fastbpe_is_ready"(int *flag) nogil
    void set_ready "fastbpe_set_ready"(int *flag) nogil

cdef enum:
    AHEAD = 32         # look-ups that are sent for together while loading
    SHORT = 64         # bytes: the room of the step-by-step merge
    SHORT_WIDE = 8     # bytes of a pretoken of characters that take three bytes: above it backtracking is faster
    SHORT_BYTES = 28   # the same for all others
    FEW_RUNS = 8       # of one byte each in a pretoken that is merged by runs
    RUNS = 64          # that may come out of them
    PATIENCE = 64      # steps of backtracking a byte; real vocabularies take under 10
    CREDIT = 1 << 12   # bytes of long pretokens and ideographs before there are tables for them
    MAX_SYMBOLS = (1 << 21) - 1
    MAX_BYTES = 1 << 28

# A vocabulary from a stranger must not be able to choose tokens that collide.
cdef uint64_t SEED = int.from_bytes(_urandom(8), "little")
cdef uint64_t SECRET = int.from_bytes(_urandom(8), "little") | 1
cdef KeySecret SEGMENT_SECRET
SEGMENT_SECRET.words = [SEED, SECRET, SEED, SECRET]


cdef inline uint64_t hash_bytes(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    return hash_of_bytes(data, size, SEED, SECRET)


cdef inline uint64_t hash_number(uint64_t key) noexcept nogil:
    return lockstep_hash(key, SEED)


cdef inline void append_run(
    uint32_t *symbols, Py_ssize_t *counts, Py_ssize_t *n_runs, uint32_t symbol, Py_ssize_t count
) noexcept nogil:
    if count and n_runs[0] and symbols[n_runs[0] - 1] == symbol:
        counts[n_runs[0] - 1] += count
    elif count:
        symbols[n_runs[0]] = symbol
        counts[n_runs[0]] = count
        n_runs[0] += 1


cdef uint64_t table_size(uint64_t count) noexcept nogil:
    """Return the size of an open-addressing table that stays at most half full."""
    cdef uint64_t size = 64
    while size < count * 2:
        size *= 2
    return size


cdef class Merger:
    def __cinit__(self, vocab, merges, bint whole):
        cdef uint32_t symbol
        self.whole = whole
        self.credit = CREDIT
        self.atoms = Atoms()
        if merges is None and isinstance(vocab, PackedVocab):
            self._load_packed(vocab)
        else:
            self._load(vocab, merges)
        self._index_pairs()
        self._flag()
        if whole:
            for symbol in range(256, self.n_symbols):
                self.must_look |= self.left[symbol] == NONE
        self.atoms.build(self.blob, self.offset, self.left, self.right, self.n_symbols)
        self.lockstep_pairs.atoms = self.atoms.table

    def prepare(self):
        """Build what only long pretokens and those of ideographs need.  The first of them does it, if nobody did."""
        cdef Trie trie = Trie()
        cdef Characters characters = Characters()
        if is_ready(&self.prepared):
            return
        if self.prefix == NULL:
            self.prefix = <uint32_t *>resized(NULL, self.n_symbols, sizeof(uint32_t))
        trie.build(self.blob, self.offset, self.left, self.n_symbols, self.prefix)
        self._index_characters(characters)
        self.trie, self.characters = trie, characters
        self.credit = 0
        set_ready(&self.prepared)

    cdef inline int _need_prepared(self) except -1 nogil:
        if not is_ready(&self.prepared):
            with gil:  # one thread at a time
                self.prepare()
        return 0

    cdef _load(self, vocab, merges):
        tokens = [bytes((value,)) for value in range(256)]
        for token in tokens:
            if token not in vocab:
                raise ValueError(f"vocab must have a token for each byte, {token!r} has none")
        # A published file may hold an empty token; no pair of symbols ever makes it.
        tokens += [token for token in sorted(vocab, key=vocab.__getitem__) if len(token) > 1]
        self._store(tokens, [vocab[token] for token in tokens])
        ranks = self._realize(merges)
        if merges is not None:
            self._order_by_rank(ranks)

    def __dealloc__(self):
        free(self.prefix)
        free(self.blob)
        free(self.offset)
        free(self.id_of)
        free(self.left)
        free(self.right)
        free(self.flagged)
        pages_free(self.slots, (self.slot_mask + 1) * sizeof(uint64_t))
        pages_free(self.pairs, (self.pair_mask + 1) * sizeof(uint64_t))
        free(self.filter)
        free(self.byte_pair)
        free(self.listed)
        free(self.listed_rank)
        free(self.listed_product)

    # ------------------------------------------------------------ loading

    cdef int _store(self, tokens, ids) except -1:
        """Number the tokens in the given order, and index them by their bytes."""
        cdef uint32_t symbol
        self._make_room(len(tokens), sum(map(len, tokens)))
        for symbol in range(<uint32_t>len(tokens)):
            token = <bytes?>tokens[symbol]
            self._put(<const uint8_t *>PyBytes_AS_STRING(token), <uint32_t>PyBytes_GET_SIZE(token), ids[symbol])
        self._index()
        return 0

    cdef int _load_packed(self, vocab) except -1:
        """The same from arrays, with the realized pairs: the file says where each token parts."""
        cdef const uint32_t[::1] ids = vocab.ids
        cdef const uint32_t[::1] offsets = vocab.offsets
        cdef const uint8_t[::1] lefts = vocab.lefts
        cdef const uint8_t *blob = <const uint8_t *>PyBytes_AS_STRING(<bytes?>vocab.blob)
        cdef Py_ssize_t at, n_tokens = ids.shape[0]
        cdef Py_ssize_t of_byte[256]
        if offsets.shape[0] != n_tokens + 1 or lefts.shape[0] != n_tokens or offsets[n_tokens] != len(vocab.blob):
            raise ValueError("vocab must have as many lengths and left parts as ids")
        memset(of_byte, 0xFF, sizeof(of_byte))
        for at in range(n_tokens):
            if offsets[at + 1] - offsets[at] == 1:
                of_byte[blob[offsets[at]]] = at
        self._make_room(n_tokens, offsets[n_tokens])
        for at in range(256):
            if of_byte[at] < 0:
                raise ValueError(f"vocab must have a token for each byte, {bytes((at,))!r} has none")
            self._put(blob + offsets[of_byte[at]], 1, ids[of_byte[at]])
        for at in range(n_tokens):
            if offsets[at + 1] - offsets[at] > 1:
                self.left[self.n_symbols] = lefts[at]
                self._put(blob + offsets[at], offsets[at + 1] - offsets[at], ids[at])
        self._index()
        return self._find_parts()

    cdef int _find_parts(self) except -1:
        """Find the left and the right part of each symbol whose left part has the length in `left`, if any."""
        cdef uint64_t hashed[2 * AHEAD]
        cdef uint32_t symbol, base, size, cut, at
        cdef const uint8_t *data
        for base in range(256, self.n_symbols, AHEAD):
            # All are sent for before the first is looked at.
            for at in range(min(<uint32_t>AHEAD, self.n_symbols - base)):
                data = self.blob + self.offset[base + at]
                cut = min(self.left[base + at], self.offset[base + at + 1] - self.offset[base + at])
                hashed[2 * at] = hash_bytes(data, cut)
                hashed[2 * at + 1] = hash_bytes(data + cut, self.offset[base + at + 1] - self.offset[base + at] - cut)
                key_prefetch(self.slots + (hashed[2 * at] & self.slot_mask))
                key_prefetch(self.slots + (hashed[2 * at + 1] & self.slot_mask))
            for at in range(2 * min(<uint32_t>AHEAD, self.n_symbols - base)):
                symbol = self._first_with(hashed[at])
                if symbol != NONE:
                    key_prefetch(self.offset + symbol)
            for at in range(min(<uint32_t>AHEAD, self.n_symbols - base)):
                symbol = base + at
                cut = self.left[symbol]
                size = self.offset[symbol + 1] - self.offset[symbol]
                data = self.blob + self.offset[symbol]
                self.left[symbol] = NONE
                if 0 < cut < size:
                    self.left[symbol] = self._find_hashed(data, cut, hashed[2 * at])
                    self.right[symbol] = self._find_hashed(data + cut, size - cut, hashed[2 * at + 1])
                    if self.left[symbol] == NONE or self.right[symbol] == NONE:
                        raise ValueError("vocab must have the parts of each token")
        return 0

    cdef int _make_room(self, Py_ssize_t n_symbols, Py_ssize_t total) except -1:
        cdef uint64_t n_slots = table_size(n_symbols)
        if n_symbols > MAX_SYMBOLS or total >= MAX_BYTES:
            raise ValueError(f"vocab must have at most {MAX_SYMBOLS} tokens and {MAX_BYTES} bytes")
        self.n_symbols = 0
        self.blob = <uint8_t *>resized(self.blob, total, 1)
        self.offset = <uint32_t *>resized(self.offset, n_symbols + 1, sizeof(uint32_t))
        self.offset[0] = 0
        self.id_of = <uint32_t *>resized(self.id_of, n_symbols, sizeof(uint32_t))
        self.left = <uint32_t *>resized(self.left, n_symbols, sizeof(uint32_t))
        self.right = <uint32_t *>resized(self.right, n_symbols, sizeof(uint32_t))
        memset(self.left, 0xFF, n_symbols * sizeof(uint32_t))
        memset(self.right, 0xFF, n_symbols * sizeof(uint32_t))
        pages_free(self.slots, (self.slot_mask + 1) * sizeof(uint64_t))
        self.slots = <uint64_t *>pages_alloc(n_slots * sizeof(uint64_t))
        if not self.slots:
            raise MemoryError
        self.slot_mask = n_slots - 1
        return 0

    cdef void _put(self, const uint8_t *data, uint32_t size, uint32_t number) noexcept:
        """Append a symbol; there is room for it."""
        cdef uint32_t symbol = self.n_symbols, place = self.offset[symbol]
        memcpy(self.blob + place, data, size)
        self.id_of[symbol] = number
        self.offset[symbol + 1] = place + size
        self.n_symbols += 1

    cdef void _index(self) noexcept:
        """Enter all symbols into the table by bytes."""
        cdef uint64_t hashed[AHEAD]
        cdef uint64_t at
        cdef uint32_t base, ahead
        for base in range(0, self.n_symbols, AHEAD):
            for ahead in range(min(<uint32_t>AHEAD, self.n_symbols - base)):
                hashed[ahead] = hash_bytes(
                    self.blob + self.offset[base + ahead], self.offset[base + ahead + 1] - self.offset[base + ahead]
                )
                key_prefetch(self.slots + (hashed[ahead] & self.slot_mask))
            for ahead in range(min(<uint32_t>AHEAD, self.n_symbols - base)):
                at = hashed[ahead] & self.slot_mask
                while self.slots[at]:
                    at = (at + 1) & self.slot_mask
                self.slots[at] = hashed[ahead] >> 32 << 32 | (base + ahead + 1)

    cdef uint32_t find(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        """Return the symbol with these bytes, or NONE."""
        return self._find_hashed(data, size, hash_bytes(data, size))

    cdef inline uint32_t _first_with(self, uint64_t hashed) noexcept nogil:
        """Return the first symbol in the table that has the upper half of a hash, or NONE."""
        cdef uint64_t at = hashed & self.slot_mask
        while self.slots[at]:
            if self.slots[at] >> 32 == hashed >> 32:
                return <uint32_t>self.slots[at] - 1
            at = (at + 1) & self.slot_mask
        return NONE

    cdef inline uint32_t _find_hashed(self, const uint8_t *data, Py_ssize_t size, uint64_t hashed) noexcept nogil:
        cdef uint64_t at = hashed & self.slot_mask
        cdef uint32_t symbol, start
        while self.slots[at]:
            if self.slots[at] >> 32 == hashed >> 32:
                symbol = <uint32_t>self.slots[at] - 1
                start = self.offset[symbol]
                if self.offset[symbol + 1] - start == <uint32_t>size and memcmp(self.blob + start, data, size) == 0:
                    return symbol
            at = (at + 1) & self.slot_mask
        return NONE

    cdef _realize(self, merges):
        """Find the realized pair of each token by merging its bytes; return the rank of each (None: unreachable)."""
        cdef uint32_t symbol, size, longest = 0, rank
        cdef uint32_t *out
        ranks = [] if merges is not None else None
        if merges is not None:
            self._list(merges)
        for symbol in range(self.n_symbols):
            longest = max(longest, self.offset[symbol + 1] - self.offset[symbol])
        out = <uint32_t *>resized(NULL, longest, sizeof(uint32_t))
        try:
            for symbol in range(256, self.n_symbols):
                size = self.offset[symbol + 1] - self.offset[symbol]
                rank = NONE
                # Stops at two parts, which the last merge joins, if they join to this token.
                if self._merge_queue(self.blob + self.offset[symbol], size, out, True) == 2:
                    rank = self._rank(out[0], out[1], self.blob + self.offset[symbol], size, True)
                    if rank != NONE:
                        self.left[symbol] = out[0]
                        self.right[symbol] = out[1]
                if ranks is not None:
                    ranks.append(None if rank == NONE else rank)
                if symbol % 4096 == 0:
                    PyErr_CheckSignals()
        finally:
            free(out)
        free(self.listed)
        free(self.listed_rank)
        free(self.listed_product)
        self.listed = NULL
        self.listed_rank = self.listed_product = NULL
        return ranks

    cdef int _list(self, merges) except -1:
        """Index the merge list by pair."""
        cdef uint64_t n_slots = table_size(len(merges)), at, key
        cdef uint32_t ids[3]
        cdef uint32_t rank = 0
        cdef int part
        self.listed = <uint64_t *>resized(NULL, n_slots, sizeof(uint64_t))
        self.listed_rank = <uint32_t *>resized(NULL, n_slots, sizeof(uint32_t))
        self.listed_product = <uint32_t *>resized(NULL, len(merges), sizeof(uint32_t))
        self.listed_mask = n_slots - 1
        memset(self.listed, 0xFF, n_slots * sizeof(uint64_t))
        for left, right in merges:
            part = 0
            for token in (left, right, left + right):
                ids[part] = self.find(<const uint8_t *>PyBytes_AS_STRING(<bytes?>token), PyBytes_GET_SIZE(token))
                if ids[part] == NONE:
                    raise ValueError(f"merges must join tokens to a token, got {token!r} at index {rank}")
                part += 1
            key = <uint64_t>ids[0] << 32 | ids[1]
            at = hash_number(key) & self.listed_mask
            while self.listed[at] != EMPTY and self.listed[at] != key:
                at = (at + 1) & self.listed_mask
            if self.listed[at] == EMPTY:
                self.listed[at] = key
                self.listed_rank[at] = rank
            self.listed_product[rank] = ids[2]
            rank += 1
        return 0

    cdef int _order_by_rank(self, list ranks) except -1:
        """Number the symbols anew by the ranks of their pairs."""
        cdef uint32_t symbol
        order = list(range(256))
        order += sorted(range(256, self.n_symbols), key=lambda at: (ranks[at - 256] is None, ranks[at - 256] or 0))
        tokens = [self.blob[self.offset[symbol]:self.offset[symbol + 1]] for symbol in order]
        ids = [self.id_of[symbol] for symbol in order]
        pairs = [(self.left[symbol], self.right[symbol]) for symbol in order]
        number = {old: new for new, old in enumerate(order)}
        self._store(tokens, ids)
        for symbol, (left, right) in enumerate(pairs):
            if left != NONE:
                self.left[symbol] = number[left]
                self.right[symbol] = number[right]
        return 0

    cdef int _index_pairs(self) except -1:
        cdef uint64_t key, hashed, at
        cdef uint64_t n_pairs = table_size(self.n_symbols)
        cdef uint32_t symbol, left, right
        self.pairs = <uint64_t *>pages_alloc(n_pairs * sizeof(uint64_t))
        if not self.pairs:
            raise MemoryError
        self.pair_mask = n_pairs - 1  # at once: __dealloc__ gives back as much as it says
        self.filter = <uint64_t *>zeroed(1 << 14, sizeof(uint64_t))
        self.byte_pair = <uint32_t *>resized(NULL, 65536, sizeof(uint32_t))
        memset(self.pairs, 0xFF, n_pairs * sizeof(uint64_t))
        for symbol in range(256, self.n_symbols):
            if self.left[symbol] == NONE:
                continue
            key = <uint64_t>self.left[symbol] << 21 | self.right[symbol]
            hashed = hash_number(key)
            self.filter[hashed >> 50] |= <uint64_t>1 << (hashed >> 44 & 63)
            at = lockstep_bucket(hashed, self.pair_mask)
            while self.pairs[at] != EMPTY:
                at = (at + 1) & self.pair_mask
            self.pairs[at] = key << 21 | symbol
        memset(self.byte_pair, 0xFF, 65536 * sizeof(uint32_t))
        for symbol in range(256, self.n_symbols):
            left, right = self.left[symbol], self.right[symbol]
            if left < 256 and right < 256:
                self.byte_pair[left << 8 | right] = symbol
        self.lockstep_pairs.pairs = self.pairs
        self.lockstep_pairs.mask = self.pair_mask
        self.lockstep_pairs.seed = SEED
        self.lockstep_pairs.filter = self.filter
        self.lockstep_pairs.byte_pair = self.byte_pair
        self.lockstep_run = lockstep_choose()
        return 0

    cdef int _flag(self) except -1:
        """Find the symbols with a part of higher number, and those made of them."""
        cdef uint32_t symbol
        cdef bint found = False
        for symbol in range(256, self.n_symbols):
            if self.left[symbol] != NONE and (self.left[symbol] >= symbol or self.right[symbol] >= symbol):
                found = True
        if not found:
            return 0
        self.flagged = <uint8_t *>zeroed(self.n_symbols, 1)
        # Parts are shorter than the whole, so in the order of length they are known first.
        for number in sorted(range(256, self.n_symbols), key=lambda at: self.offset[at + 1] - self.offset[at]):
            symbol = number
            if self.left[symbol] == NONE:
                continue
            self.flagged[symbol] = (
                self.left[symbol] >= symbol or self.right[symbol] >= symbol
                or self.flagged[self.left[symbol]] or self.flagged[self.right[symbol]]
            )
        return 0

    cdef int _index_characters(self, Characters characters) except -1:
        """Find the boundaries between characters that some reachable token crosses, and what one or two become."""
        cdef uint32_t symbol, code
        cdef uint8_t data[8]
        cdef uint32_t out[8]
        cdef uint32_t apart[8]
        cdef Py_ssize_t size, count, cut, at, place = 0
        for symbol in range(256, self.n_symbols):
            if self.left[symbol] != NONE:
                characters.note(
                    self.blob + self.offset[symbol], self.offset[symbol + 1] - self.offset[symbol]
                )
        for code in range(65536):
            size = put_character(code, data)
            count = self._ids_of(data, size, out)
            characters.set_alone(code, out, count)
        while True:
            place = characters.next_met(place, data, &cut)
            if place < 0:
                return 0
            size = cut + length_of(data[cut])
            count = self._ids_of(data, size, out)
            at = self._ids_of(data, cut, apart)
            at += self._ids_of(data + cut, size - cut, apart + at)
            if count == 1:
                characters.set_met(place, out[0])
            elif count == at and memcmp(out, apart, count * sizeof(uint32_t)) == 0:
                characters.set_met_two(place)
            place += 1

    cdef Py_ssize_t _ids_of(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil:
        """Write the ids of a few bytes; return how many."""
        cdef Py_ssize_t count = self._merge_short(data, size, out), at
        for at in range(count):
            out[at] = self.id_of[out[at]]
        return count

    # ------------------------------------------------------------ merging

    cdef inline uint32_t join(self, uint32_t left, uint32_t right) noexcept nogil:
        """Return the symbol that a pair makes, or NONE."""
        cdef uint64_t key = <uint64_t>left << 21 | right
        cdef uint64_t hashed = hash_number(key), at = lockstep_bucket(hashed, self.pair_mask)
        # Three quarters of the pairs join to nothing; the filter says so from a nearer cache than the table.
        if not self.filter[hashed >> 50] >> (hashed >> 44 & 63) & 1:
            return NONE
        while self.pairs[at] != EMPTY:
            if self.pairs[at] >> 21 == key:
                return <uint32_t>(self.pairs[at] & ((1 << 21) - 1))
            at = (at + 1) & self.pair_mask
        return NONE

    cdef uint32_t _rank(
        self, uint32_t left, uint32_t right, const uint8_t *data, Py_ssize_t size, bint loading
    ) noexcept nogil:
        """Return the rank of joining two symbols whose bytes are `data`, or NONE.

        While loading, the vocabulary or the merge list decides; later the realized pairs.
        """
        cdef uint64_t key, at
        if not loading:
            return self.join(left, right)
        if not self.listed:
            return self.find(data, size)
        key = <uint64_t>left << 32 | right
        at = hash_number(key) & self.listed_mask
        while self.listed[at] != EMPTY:
            if self.listed[at] == key:
                return self.listed_rank[at]
            at = (at + 1) & self.listed_mask
        return NONE

    cdef Py_ssize_t _merge_short(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil:
        """The definition: find the best pair, join it, look again."""
        cdef uint32_t products[SHORT]
        cdef uint32_t best
        cdef Py_ssize_t at, place
        for at in range(size):
            out[at] = data[at]
        for at in range(size - 1):
            products[at] = self.byte_pair[<uint32_t>data[at] << 8 | data[at + 1]]
        while size > 1:
            best = NONE
            place = 0
            for at in range(size - 1):
                if products[at] < best:
                    best = products[at]
                    place = at
            if best == NONE:
                break
            out[place] = best
            size -= 1
            for at in range(place + 1, size):
                out[at] = out[at + 1]
                products[at - 1] = products[at]
            if place < size - 1:
                products[place] = self.join(best, out[place + 1])
            if place > 0:
                products[place - 1] = self.join(out[place - 1], best)
        return size

    cdef Py_ssize_t _merge_queue(
        self, const uint8_t *data, uint32_t size, uint32_t *out, bint loading
    ) except -1 nogil:
        """Merge with the pairs in a heap, O(n log n): while loading, and where validity cannot be told from the pairs.

        While loading it stops at two symbols.
        """
        cdef Heap heap
        cdef uint32_t *links = NULL
        heap.items = NULL
        heap.size = 0
        heap.capacity = size
        try:
            heap.items = <uint64_t *>resized(NULL, size, sizeof(uint64_t))
            links = <uint32_t *>resized(NULL, 3 * <size_t>size, sizeof(uint32_t))
            return self._merge_linked(data, size, out, &heap, links, loading)
        finally:
            free(heap.items)
            free(links)

    cdef Py_ssize_t _merge_linked(
        self, const uint8_t *data, uint32_t size, uint32_t *out, Heap *heap, uint32_t *links, bint loading
    ) except -1 nogil:
        cdef uint32_t *after = links
        cdef uint32_t *before = links + size
        cdef uint32_t *ranks = links + 2 * <size_t>size
        cdef uint32_t at, gone, count = size, renewed, end
        cdef uint64_t item
        for at in range(size):
            out[at] = data[at]
            after[at] = at + 1
            before[at] = at - 1
            ranks[at] = NONE
            if at + 1 < size:
                ranks[at] = self._rank(data[at], data[at + 1], data + at, 2, loading)
            if ranks[at] != NONE:
                heap.items[heap.size] = <uint64_t>ranks[at] << 32 | at
                heap.size += 1
        heap_build(heap)
        while heap.size and (count > 2 or not loading):
            item = heap.items[0]
            heap_pop(heap)
            at = <uint32_t>item
            if ranks[at] != item >> 32:
                continue  # out of date
            gone = after[at]
            out[at] = self.listed_product[ranks[at]] if loading and self.listed else ranks[at]
            ranks[gone] = NONE
            after[at] = after[gone]
            if after[at] < size:
                before[after[at]] = at
            count -= 1
            renewed = at
            while True:
                ranks[renewed] = NONE
                if after[renewed] < size:
                    end = after[after[renewed]]
                    ranks[renewed] = self._rank(
                        out[renewed], out[after[renewed]], data + renewed, end - renewed, loading
                    )
                    if ranks[renewed] != NONE:
                        heap_push(heap, <uint64_t>ranks[renewed] << 32 | renewed)
                if renewed != at or at == 0:
                    break
                renewed = before[at]
        at = count = 0
        while at < size:
            out[count] = out[at]
            count += 1
            at = after[at]
        return count

    # ------------------------------------------------------------ runs

    cdef Py_ssize_t _merge_runs(self, const uint8_t *data, Py_ssize_t size, uint32_t *out) noexcept nogil:
        """Merge bytes that are a few runs of one byte each: rulers, indentation.  Return 0 where there are more.

        All pairs of a run are joined at once.  That is what the definition does, one by one from the left: no pair
        that comes into being meanwhile is of a lower number, for a product has a higher one than its parts.
        """
        cdef uint32_t symbols[RUNS + 2]
        cdef uint32_t before[RUNS + 2]
        cdef Py_ssize_t counts[RUNS + 2]
        cdef Py_ssize_t lengths[RUNS + 2]
        cdef Py_ssize_t at = 0, n_runs = 0, n_before, end
        cdef uint32_t best, product
        cdef int place, inside
        if self.flagged:
            return 0
        while at < size:
            end = at + 1
            while end < size and data[end] == data[at]:
                end += 1
            if n_runs == FEW_RUNS:
                return 0
            symbols[n_runs] = data[at]
            counts[n_runs] = end - at
            n_runs += 1
            at = end
        while True:
            best = NONE
            place = inside = 0
            for at in range(n_runs):
                if counts[at] > 1:
                    product = self.join(symbols[at], symbols[at])
                    if product < best:
                        best, place, inside = product, <int>at, 1
                if at + 1 < n_runs:
                    product = self.join(symbols[at], symbols[at + 1])
                    if product < best:
                        best, place, inside = product, <int>at, 0
            if best == NONE:
                break
            if n_runs >= RUNS:
                return 0
            n_before = n_runs
            memcpy(before, symbols, sizeof(before))
            memcpy(lengths, counts, sizeof(lengths))
            n_runs = 0
            for at in range(n_before):
                if at != place:
                    append_run(symbols, counts, &n_runs, before[at], lengths[at])
                elif inside:
                    append_run(symbols, counts, &n_runs, best, lengths[at] // 2)
                    append_run(symbols, counts, &n_runs, before[at], lengths[at] % 2)
                else:
                    append_run(symbols, counts, &n_runs, before[at], lengths[at] - 1)
                    append_run(symbols, counts, &n_runs, best, 1)
                    lengths[at + 1] -= 1
        end = 0
        for at in range(n_runs):
            for size in range(counts[at]):
                out[end] = symbols[at]
                end += 1
        return end

    # ------------------------------------------------------------ backtracking

    cdef int _valid(self, uint32_t left, uint32_t right, const uint8_t *data, uint64_t *steps) except -1 nogil:
        """Return whether merging the bytes of two symbols, which `data` begins with, gives these two.

        It does unless a merge crosses the boundary.  Undo the merges on both sides, the later one first: the pair that
        then meets at the boundary was there until the merge that was undone, `limit`, and would have joined before it
        if its number is lower.  Of equals the leftmost joins first.
        """
        cdef uint32_t limit = NONE, crossing
        if self.flagged and (self.flagged[left] or self.flagged[right]):
            return self._valid_flagged(left, right, data)
        while True:
            steps[0] += 1
            crossing = self.join(left, right)
            if crossing < limit:
                return 0
            if left > right:
                if left < 256:
                    return 1
                limit = left
                left = self.right[left]
            else:
                if right < 256:
                    return 1
                limit = right + 1
                right = self.left[right]

    cdef inline int _verdict(
        self, uint32_t left, uint32_t right, const uint8_t *data, uint64_t *steps, Memo *memo
    ) except -1 nogil:
        """The same, remembered: in many scripts the same symbols meet again and again.

        The product of 42 bits and an odd number has all there is to know of them: 16 bits say the place, 26 stand there.
        """
        cdef uint64_t product = (<uint64_t>left << 21 | right) * 0x9E3779B97F4A7C15ULL & (((<uint64_t>1) << 42) - 1)
        cdef uint32_t *known = &memo.verdicts[product >> 26]
        cdef uint32_t verdict = <uint32_t>(product & ((1 << 26) - 1)) << 2 | 2
        if known[0] & ~<uint32_t>1 != verdict:
            known[0] = verdict | <uint32_t>self._valid(left, right, data, steps)
        return known[0] & 1

    cdef int _valid_flagged(self, uint32_t left, uint32_t right, const uint8_t *data) except -1 nogil:
        """The same by merging, for symbols whose merges are not undone in the order of their numbers."""
        cdef uint32_t size = self.offset[left + 1] - self.offset[left]
        cdef uint32_t *out
        cdef Py_ssize_t count
        size += self.offset[right + 1] - self.offset[right]
        out = <uint32_t *>resized(NULL, size, sizeof(uint32_t))
        try:
            count = self._merge_queue(data, size, out, False)
            return count == 2 and out[0] == left and out[1] == right
        finally:
            free(out)

    cdef Py_ssize_t _backtrack(
        self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo
    ) except -1 nogil:
        cdef uint8_t small[64]
        cdef uint8_t *dead = small  # a bit for each position from which no way leads on
        cdef Py_ssize_t count = 0, position = 0, end
        cdef uint32_t symbol
        cdef uint64_t steps = 0, look = 1 << 20
        self._need_prepared()
        if size < 512:
            memset(small, 0, sizeof(small))
        else:
            dead = <uint8_t *>zeroed(size // 8 + 1, 1)
        try:
            symbol = self.trie.longest(data, size, &steps)
            while True:
                steps += 1
                if steps >= look:
                    look = steps + (1 << 20)
                    with gil:
                        PyErr_CheckSignals()
                if steps > PATIENCE * <uint64_t>size + 4096 and size < <Py_ssize_t>NONE:
                    # Thousands of tokens that are prefixes of each other: a vocabulary made to hurt.
                    return self._merge_queue(data, <uint32_t>size, out, False)
                if symbol != NONE:
                    end = position + self.offset[symbol + 1] - self.offset[symbol]
                    if dead[end >> 3] >> (end & 7) & 1 or (
                        count and not self._verdict(
                            out[count - 1], symbol,
                            data + position - (self.offset[out[count - 1] + 1] - self.offset[out[count - 1]]),
                            &steps, memo,
                        )
                    ):
                        symbol = self.prefix[symbol]
                        continue
                    out[count] = symbol
                    count += 1
                    position = end
                    if position == size:
                        return count
                    symbol = self.trie.longest(data + position, size - position, &steps)
                elif count == 0:
                    with gil:
                        raise SystemError("no symbols make this pretoken: the tables are damaged")
                else:
                    dead[position >> 3] |= <uint8_t>(1 << (position & 7))
                    count -= 1
                    symbol = out[count]
                    position -= self.offset[symbol + 1] - self.offset[symbol]
                    symbol = self.prefix[symbol]
        finally:
            if dead != small:
                free(dead)

    # ------------------------------------------------------------ the ways in

    cdef uint32_t greatest_id(self):
        cdef uint32_t symbol, greatest = 0
        for symbol in range(self.n_symbols):
            greatest = max(greatest, self.id_of[symbol])
        return greatest

    cdef uint32_t lookup(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        """Return the id of the token with these bytes, or NONE."""
        cdef uint32_t symbol = self.find(data, size)
        return NONE if symbol == NONE else self.id_of[symbol]

    cdef Py_ssize_t merge_into(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil:
        """Write the ids of one pretoken to `out`, which has room for `size`; return how many.

        The whole pretoken is not looked up here.  May be called with or without the GIL.
        """
        cdef Py_ssize_t count = 0, used, position = 0
        cdef Window window
        if size <= self.credit:  # a few are merged step by step, so that not every process builds the tables
            self.credit -= size
            count = self._merge_short(data, size, out) if size <= SHORT else self._merge_queue(
                data, <uint32_t>size, out, False)
            for position in range(count):
                out[position] = self.id_of[out[position]]
            return count
        if self._is_wide(data, size):
            self._need_prepared()
            while position < size:
                used = self.characters.read(data + position, size - position, &window)
                if used < 0:
                    return self._solve(data, size, out, memo)
                if used == 0:
                    return count + self._solve(data + position, size - position, out + count, memo)
                count += self._take_segments(data + position, &window, out + count, memo)
                position += used
            return count
        return self._solve(data, size, out, memo)

    cdef Py_ssize_t _take_segments(
        self, const uint8_t *data, const Window *window, uint32_t *out, Memo *memo
    ) except -1 nogil:
        """Write the ids of the segments of some characters; return how many."""
        cdef uint32_t first = 0, last, value
        cdef Py_ssize_t count = 0, start = 0
        while first < window.count:
            last = first
            while window.crossing[last] != HARD:
                last += 1
            value = window.crossing[first]
            if first == last and window.codes[first] < CODES:
                count += self.characters.alone(window.codes[first], out + count)
            elif first + 1 == last and value == TWO:
                count += self.characters.alone(window.codes[first], out + count)
                count += self.characters.alone(window.codes[last], out + count)
            elif first + 1 == last and value != SOLVE:
                out[count] = value
                count += 1
            else:
                count += self._segment(data + start, window.ends[last] - start, out + count, memo)
            start = window.ends[last]
            first = last + 1
        return count

    cdef Py_ssize_t _segment(
        self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo
    ) except -1 nogil:
        """Write the ids of a segment of a few characters, of which there are few; return how many."""
        cdef uint8_t copy[KEY_LONGEST + 1]
        cdef uint64_t key[4]
        cdef KeyLine *line
        cdef Py_ssize_t count
        if size > KEY_LONGEST:
            return self._solve(data, size, out, memo)
        memcpy(copy, data, size)
        key_make(copy, size, key)
        line = &memo.segments[key_hash_plain(key, &SEGMENT_SECRET) >> 19]
        if ((line.key[0] ^ key[0]) | (line.key[1] ^ key[1]) | (line.key[2] ^ key[2]) | (line.key[3] ^ key[3])) == 0:
            count = line.ids[0]
            memcpy(out, line.ids + 1, count * sizeof(uint32_t))
            return count
        count = self._solve(data, size, out, memo)
        if count <= 7:
            memcpy(line.key, key, sizeof(key))
            line.ids[0] = <uint32_t>count
            memcpy(line.ids + 1, out, count * sizeof(uint32_t))
        return count

    cdef Py_ssize_t _solve(self, const uint8_t *data, Py_ssize_t size, uint32_t *out, Memo *memo) except -1 nogil:
        """Write the ids of bytes of any length and kind; return how many."""
        cdef Py_ssize_t count, at
        if self._is_short(data, size):
            return self._ids_of(data, size, out)
        count = 0 if data[size >> 1] >= 0x80 else self._merge_runs(data, size, out)  # no character repeats a byte
        if count == 0:
            count = self._backtrack(data, size, out, memo)
        for at in range(count):
            out[at] = self.id_of[out[at]]
        return count

    cdef inline bint _is_wide(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        """Return whether the first character, behind an ASCII one, is an ideograph, kana, Hangul or near them."""
        cdef uint32_t at = 1 if data[0] < 0x80 and size > 1 else 0
        return data[at] == 0xE2 and size > at + 1 and data[at + 1] >= 0xBA or 0xE3 <= data[at] < 0xF0

    cdef inline bint _is_short(self, const uint8_t *data, Py_ssize_t size) noexcept nogil:
        return size <= SHORT_WIDE or (size <= SHORT_BYTES and data[0] < 0xE0)

    cdef int merge_all(self, Miss *misses, int count, Memo *memo) except -1 nogil:
        """Find the ids of up to LOCKSTEP_WORDS pretokens of at most LOCKSTEP_LANES bytes."""
        cdef LockstepWord words[LOCKSTEP_WORDS]
        cdef int word_of[LOCKSTEP_WORDS]
        cdef const uint8_t *keys[LOCKSTEP_WORDS]
        cdef int sizes[LOCKSTEP_WORDS]
        cdef int at, n_words = 0
        cdef uint32_t symbol, live
        cdef const uint8_t *data
        cdef Miss *miss
        # Each step sends for the memory of the next one.
        for at in range(count):
            miss = misses + at
            data = <const uint8_t *>miss.key
            # A clause is hardly ever a token; merging finds out as well.
            if self.must_look or miss.size <= KEY_SHORT or not self._is_wide(data, miss.size):
                miss.hashed = hash_bytes(data, miss.size)
                key_prefetch(self.slots + (miss.hashed & self.slot_mask))
            else:
                miss.hashed = 0
        for at in range(count):
            miss = misses + at
            miss.symbol = self._first_with(miss.hashed) if miss.hashed else NONE
            if miss.symbol != NONE:
                key_prefetch(self.offset + miss.symbol)
        for at in range(count):
            miss = misses + at
            if miss.symbol != NONE:
                key_prefetch(self.blob + self.offset[miss.symbol])
        for at in range(count):
            miss = misses + at
            data = <const uint8_t *>miss.key
            word_of[at] = -1
            symbol = NONE
            if miss.symbol != NONE:
                symbol = self._find_hashed(data, miss.size, miss.hashed)
            # A token that merging makes is what merging its bytes makes.
            if symbol != NONE and (self.whole or symbol < 256 or self.left[symbol] != NONE):
                miss.ids[0] = self.id_of[symbol]
                miss.count = 1
            elif self._is_short(data, miss.size) and not self._is_wide(data, miss.size):
                word_of[at] = n_words
                keys[n_words] = data
                sizes[n_words] = <int>miss.size
                n_words += 1
            else:
                miss.count = <int>self.merge_into(data, miss.size, miss.ids, memo)
        if n_words:
            self.lockstep_run(words, keys, sizes, n_words, &self.lockstep_pairs)
        for at in range(count):
            if word_of[at] >= 0:
                miss = misses + at
                live = words[word_of[at]].live
                miss.count = 0
                while live:
                    miss.ids[miss.count] = self.id_of[words[word_of[at]].symbols[lockstep_lowest(live)]]
                    miss.count += 1
                    live &= live - 1
        return 0

    def merge(self, bytes piece not None):
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(piece)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(piece), count, at
        cdef uint32_t number
        cdef uint32_t *out
        cdef Memo *memo = NULL
        if size == 0:
            return []
        if self.whole:
            number = self.lookup(data, size)
            if number != NONE:
                return [number]
        out = <uint32_t *>resized(NULL, size, sizeof(uint32_t))
        try:
            memo = <Memo *>resized(NULL, 1, sizeof(Memo))
            memset(memo, 0, sizeof(Memo))
            with nogil:
                count = self.merge_into(data, size, out, memo)
            return [out[at] for at in range(count)]
        finally:
            free(memo)
            free(out)
