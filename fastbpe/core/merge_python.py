"""One pretoken to ids: byte-pair merging (Sennrich et al. 2016; Gage 1994), under both semantics in use.

*ranks* (tiktoken): if the whole pretoken is a token, that is the result.  Otherwise start from single bytes and, again
and again, join the adjacent pair whose concatenation is the token of lowest rank, the leftmost of equals.  The rank is
the id.

*merges* (Hugging Face): the same with a list of merges; the pair that stands first in the list is joined first.  The
whole pretoken is looked up first only where the vocabulary says so (`ignore_merges`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush

SHORT = 64  # symbols; up to here a linear search for the best pair beats a heap


class Merger:
    """Merges one pretoken.  Immutable; safe in threads."""

    def __init__(self, vocab: Mapping[bytes, int], merges: Sequence[tuple[bytes, bytes]] | None, whole: bool) -> None:
        self._vocab = vocab
        self._whole = whole
        # A published file may hold an empty token; no pair of symbols ever makes it.
        self._ranks = None if merges is None else {pair: rank for rank, pair in enumerate(merges)}

    def prepare(self) -> None:
        """Build now what its first use would: here nothing, in the native twin tables for long pretokens."""

    def merge(self, piece: bytes) -> list[int]:
        """Return the ids of one pretoken."""
        if not piece:
            return []
        if self._whole:
            found = self._vocab.get(piece)
            if found is not None:
                return [found]
        symbols = [piece[i : i + 1] for i in range(len(piece))]
        merged = self._merge_short(symbols) if len(symbols) <= SHORT else self._merge_long(symbols)
        return [self._vocab[symbol] for symbol in merged]

    def _rank(self, left: bytes, right: bytes) -> int | None:
        """Return the priority of joining two symbols, the lowest first; None if they do not join."""
        if self._ranks is None:
            return self._vocab.get(left + right)
        return self._ranks.get((left, right))

    def _merge_short(self, symbols: list[bytes]) -> list[bytes]:
        """The definition: find the best pair, join it, look again."""
        ranks = [self._rank(left, right) for left, right in zip(symbols, symbols[1:])]
        while True:
            best = min((rank for rank in ranks if rank is not None), default=None)
            if best is None:
                return symbols
            at = ranks.index(best)
            symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
            del ranks[at]
            if at < len(ranks):
                ranks[at] = self._rank(symbols[at], symbols[at + 1])
            if at > 0:
                ranks[at - 1] = self._rank(symbols[at - 1], symbols[at])

    def _merge_long(self, symbols: list[bytes]) -> list[bytes]:
        """The same with the pairs in a heap of (rank, position) and the symbols in a linked list: O(n log n).

        A heap entry is out of date when its position no longer starts a pair of that rank; it is then passed over.
        """
        size = len(symbols)
        after = list(range(1, size + 1))
        before = list(range(-1, size - 1))
        ranks: list[int | None] = [self._rank(a, b) for a, b in zip(symbols, symbols[1:])] + [None]
        heap = [(rank, at) for at, rank in enumerate(ranks) if rank is not None]
        heapify(heap)

        def renew(at: int) -> None:
            ranks[at] = self._rank(symbols[at], symbols[after[at]]) if after[at] < size else None
            if (rank := ranks[at]) is not None:
                heappush(heap, (rank, at))

        while heap:
            rank, at = heappop(heap)
            if ranks[at] != rank:
                continue
            gone = after[at]
            symbols[at] += symbols[gone]
            symbols[gone], ranks[gone] = b"", None
            after[at] = after[gone]
            if after[at] < size:
                before[after[at]] = at
            renew(at)
            if before[at] >= 0:
                renew(before[at])
        return [symbol for symbol in symbols if symbol]
