"""The definition of training, recounting everything after each merge: the oracle of the training tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]


def quadratic_merges(
    counts: Mapping[bytes, int],
    n_merges: int,
    tie_break: str,
    min_frequency: int = 1,
    max_length: int | None = None,
    in_characters: bool = False,
    max_words: int | None = None,
    first: Sequence[tuple[bytes, bytes]] = (),
) -> list[tuple[bytes, bytes]]:
    """Return the merges by the plain definition, in time quadratic in everything.

    For "first_seen" the words stand in the order in which they were seen.  `first`: merges of an earlier stage, which
    are applied in their order before any other; those that come after them are returned.
    """
    bytes_in_order = range(256)
    if tie_break == "huggingface":
        bytes_in_order = PRINTABLE + [value for value in range(256) if value not in PRINTABLE]
    ids = {bytes([value]): index for index, value in enumerate(bytes_in_order)}
    words = [([bytes([value]) for value in word], count) for word, count in counts.items()]
    for pair in first:
        join_everywhere(words, pair)
        ids.setdefault(pair[0] + pair[1], len(ids))
    merges: list[tuple[bytes, bytes]] = []
    while len(merges) < n_merges:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for tokens, count in words:
            for pair in zip(tokens, tokens[1:]):
                if count:
                    pairs[pair] += count
        pairs = Counter(
            {
                (left, right): count
                for (left, right), count in pairs.items()
                if (max_length is None or length(left + right, in_characters) <= max_length)
                and (max_words is None or is_superword(left + right, max_words))
            }
        )
        if not pairs or max(pairs.values()) < max(min_frequency, 1):
            break
        most = max(pairs.values())
        ties = [pair for pair in pairs if pairs[pair] == most]  # in the order in which they were found
        best = ties[0]
        if tie_break == "lexicographic":
            best = max(ties)
        elif tie_break != "first_seen":
            best = min(ties, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        merges.append(best)
        ids.setdefault(best[0] + best[1], len(ids))
        join_everywhere(words, best)
    return merges


def join_everywhere(words: list[tuple[list[bytes], int]], pair: tuple[bytes, bytes]) -> None:
    """Make each occurrence of a pair one token, from left to right."""
    for tokens, _ in words:
        at = 0
        while at < len(tokens) - 1:
            if (tokens[at], tokens[at + 1]) == pair:
                tokens[at : at + 2] = [pair[0] + pair[1]]
            at += 1


def is_superword(token: bytes, max_words: int) -> bool:
    """Whether SuperBPE allows a token: few words, and no colon with a space behind it."""
    return len(re.findall(b"[^ ]+", token)) <= max_words and not re.search(b": ", token)


def length(token: bytes, in_characters: bool) -> int:
    """The length of a token; a character counts where its first byte stands."""
    return sum(not 0x80 <= byte < 0xC0 for byte in token) if in_characters else len(token)
