"""Counts of pretokens -> merges: byte pair encoding is learned here.

The rule: among all pairs of neighbouring tokens, weighted by how often their pretoken occurs, take the most
frequent one, make it a token, replace it everywhere, and begin again.  Recounting every pair after each merge is
the definition, and far too slow; two facts save the work.

*Only the pretokens that hold the merged pair change.*  So for each pair we remember the pretokens it stands in.

*A pair's count never rises after the step that created it.*  Training never makes the same byte string twice, so
a pair (x, y) comes into being in the one step that creates the younger of x and y (or at the start), and every
later merge can only use its occurrences up.  Hence a priority queue may be lazy: an entry that promises too much
is put back with its true count, and the first entry that promises the truth is the greatest.

Ties are settled by one of four rules:

- ``lexicographic``: the greater pair of byte strings (what ``max`` finds);
- ``smallest_id``: the least pair of ids, bytes by value and then merges in order of creation;
- ``huggingface``: the same with bytes in the order of GPT-2's printable characters, as ``tokenizers`` numbers them;
- ``first_seen``: the pair that is found first when the text, as it is cut now, is read from its beginning.  For that
  the words must say where each was first seen.  The first occurrence of a pair is in the first of the words that hold
  it, and it can only move on, never back, so the queue stays lazy: an entry may promise a place too early.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastbpe.core.packed import Merges, PackedBytes
from fastbpe.errors import TrainingError

__all__ = ["TIE_BREAKS", "Start", "train_merges"]

TIE_BREAKS = ("first_seen", "huggingface", "lexicographic", "smallest_id")
# No pair occurs more often than there are bytes, so this keeps every 64-bit sum of the native twin in range.
MAX_BYTES = 2**62
CHUNK = 1 << 16  # words looked at together
PROGRESS_SECONDS = 0.25
# What a vocabulary may hold. Without it, one pretoken of a million letters, each pair of which occurs once, would
# grow by a few bytes a merge into tokens of gigabytes altogether.
MAX_TOKEN_BYTES = 64 << 10
MAX_VOCAB_BYTES = (1 << 28) - 1
MANY_WORDS = 1 << 20  # more than a token of 64 KiB can have
TOO_LONG = (
    "the tokens exceed 256 MiB together, so the text has too few repetitions for so many merges: "
    "ask for a smaller vocab_size, or pass a greater min_frequency"
)

Pair: TypeAlias = tuple[int, int]
Progress: TypeAlias = Callable[[int, int], None]
Record: TypeAlias = Callable[[int, npt.NDArray[np.uint32]], None]


@dataclass
class Start:
    """Words that consist of tokens already, where training goes on from a vocabulary.

    Attributes:
        tokens: the vocabulary; a token's number is its place in it, by which ties go.
        offsets: int64 [words + 1]; word i is `numbers[offsets[i]:offsets[i + 1]]`.
        numbers: uint32; the tokens of all words.
    """

    tokens: Sequence[bytes]
    offsets: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.uint32]


class _Descending(tuple[bytes, bytes]):
    """A pair of byte strings that sorts backwards: heapq gives the least entry, the rule wants the greatest pair."""

    __slots__ = ()

    def __lt__(self, other: tuple[bytes, ...]) -> bool:
        return tuple.__gt__(self, other)


def train_merges(
    words: Sequence[bytes],
    counts: npt.NDArray[np.int64] | Sequence[int],
    n_merges: int,
    tie_break: str,
    min_frequency: int,
    progress: Progress | None = None,
    *,
    firsts: npt.NDArray[np.uint64] | None = None,
    max_length: int | None = None,
    in_characters: bool = False,
    max_words: int | None = None,
    start: Start | None = None,
    record: Record | None = None,
    threads: int = 1,
    seconds: dict[str, float] | None = None,
    consume: bool = False,
) -> Merges:
    """Learn at most `n_merges` merges from pretokens and their counts.

    The order of `words` does not matter, and a word may be given in several parts.  Fewer merges come back when
    no pair occurs `min_frequency` times any more.  A pair whose token would have more than 64 KiB is passed over.

    Args:
        words: the pretokens.
        counts: how often each occurs, int64.
        n_merges: how many merges are wanted.
        tie_break: one of TIE_BREAKS.
        min_frequency: the least count that is merged.
        progress: called as `progress(done, wanted)` a few times a second and once at the end; what it raises ends
            the training.
        firsts: for "first_seen", where each word was first seen, uint64; no two the same.
        max_length: a pair whose token would be longer is passed over.
        in_characters: `max_length` counts the bytes that begin a character of UTF-8, instead of all bytes.
        max_words: a pair whose token would have more words, runs of bytes that are not spaces, or would hold a colon
            and a space, is passed over.
        start: the tokens that the words consist of; without it, bytes.  Only new merges are returned, and a pair that
            would spell a token of the start is passed over.
        record: called with the number of a merge, and it and those after it, every now and then, as uint32 [n, 2] of
            numbers of tokens (those of the start, then merges in order; without a start bytes in the order of the
            rule), until all were passed on.  After an error some may come again.
        threads: at most so many threads of the native twin; the merges do not depend on it.
        seconds: filled with the time by phase: "load", "build" (of all pairs), "merge".
        consume: whether the native twin may empty `words` (PackedBytes) and `start` once it has them, to save their
            memory.

    Raises:
        TrainingError: the counted text, each word as often as its count says, has 2**62 bytes or more; or the tokens
            have more than 256 MiB together.
        ValueError: an unknown `tie_break`, no `firsts` for "first_seen", or counts that are negative or not one a word.
    """
    begin = time.perf_counter()
    checked = check_arguments(words, counts, tie_break, firsts)
    if start is None:
        tokens = [bytes([value]) for value in byte_order(tie_break)]
        number_of = {token[0]: index for index, token in enumerate(tokens)}
        sequences = [[number_of[value] for value in word] for word in words]
        taken = set()
    else:
        tokens, taken = list(start.tokens), set(start.tokens)
        sequences = [start.numbers[a:b].tolist() for a, b in zip(start.offsets.tolist(), start.offsets[1:].tolist())]
    weights = checked.tolist()
    if firsts is not None:
        order = np.argsort(firsts, kind="stable").tolist()
        sequences, weights = [sequences[index] for index in order], [weights[index] for index in order]
    pair_counts, places = _count_pairs(sequences, weights)
    sizes = [_size(token, in_characters) for token in tokens]

    def tie(pair: Pair) -> Any:
        if tie_break == "first_seen":
            return _first_place(pair, sequences, weights, places, tokens)
        return _Descending((tokens[pair[0]], tokens[pair[1]])) if tie_break == "lexicographic" else pair

    def entry(pair: Pair) -> tuple[int, Any, Pair]:
        return -pair_counts[pair], tie(pair), pair

    queue = [entry(pair) for pair in pair_counts if pair_counts[pair]]
    heapq.heapify(queue)
    made: list[Pair] = []
    spelled = sum(map(len, tokens))
    report = _Reporter(progress, record, n_merges, made)
    try:
        while queue and len(made) < n_merges:
            pair = queue[0][2]
            if pair_counts[pair] < max(min_frequency, 1):
                heapq.heappop(queue)
                continue
            if queue[0] != (true := entry(pair)):
                heapq.heapreplace(queue, true)  # the promise was stale: put it back with the truth
                continue
            heapq.heappop(queue)
            token = tokens[pair[0]] + tokens[pair[1]]
            size = sizes[pair[0]] + sizes[pair[1]]
            if len(token) > MAX_TOKEN_BYTES or token in taken or (max_length is not None and size > max_length):
                continue
            if max_words is not None and count_words(token) > max_words:
                continue
            spelled += len(token)
            if spelled > MAX_VOCAB_BYTES:
                raise TrainingError(TOO_LONG)
            made.append(pair)
            tokens.append(token)
            sizes.append(size)
            for born in _apply(pair, len(tokens) - 1, sequences, weights, pair_counts, places):
                heapq.heappush(queue, entry(born))
            report.some()
    finally:
        report.flush()
    if progress is not None:
        progress(len(made), n_merges)
    if seconds is not None:
        seconds.update(load=0.0, build=0.0, merge=time.perf_counter() - begin)
    return Merges.of((tokens[left], tokens[right]) for left, right in made)


def _size(token: bytes, in_characters: bool) -> int:
    """Return the length of a token, in bytes or in characters, which count where they begin."""
    return sum(byte & 0xC0 != 0x80 for byte in token) if in_characters else len(token)


def count_words(token: bytes) -> int:
    """Return the number of runs of bytes that are not spaces; of a token with a colon and a space, MANY_WORDS."""
    return MANY_WORDS if b": " in token else sum(map(bool, token.split(b" ")))


def _first_place(
    pair: Pair,
    sequences: list[list[int]],
    weights: list[int],
    places: defaultdict[Pair, set[int]],
    tokens: list[bytes],
) -> tuple[int, int]:
    """Return the word, of those in the order in which they were seen, and the byte in it where a pair is first found.

    Bytes, since the number of a token in its word may fall, when tokens before it are merged.
    """
    for index in sorted(places[pair]):
        if not weights[index]:
            continue
        at = 0
        for left, right in zip(sequences[index], sequences[index][1:]):
            if (left, right) == pair:
                return index, at
            at += len(tokens[left])
    return len(sequences), 0


def _count_pairs(
    sequences: list[list[int]], weights: list[int]
) -> tuple[defaultdict[Pair, int], defaultdict[Pair, set[int]]]:
    """Return how often each pair occurs, and the indices of the words it stands in."""
    pair_counts: defaultdict[Pair, int] = defaultdict(int)
    places: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, (sequence, weight) in enumerate(zip(sequences, weights)):
        for pair in zip(sequence, sequence[1:]):
            pair_counts[pair] += weight  # overlaps count: "aaa" holds (a, a) twice
            places[pair].add(index)
    return pair_counts, places


def _apply(
    pair: Pair,
    new_id: int,
    sequences: list[list[int]],
    weights: list[int],
    pair_counts: defaultdict[Pair, int],
    places: defaultdict[Pair, set[int]],
) -> set[Pair]:
    """Replace `pair` by `new_id` in every word that may hold it; return the pairs that came into being."""
    born: set[Pair] = set()
    for index in places.pop(pair):
        old = sequences[index]
        new = _replace(old, pair, new_id)
        if len(new) == len(old):
            continue  # an earlier merge used the pair up in this word
        sequences[index] = new
        weight = weights[index]
        for lost in zip(old, old[1:]):
            pair_counts[lost] -= weight
        for found in zip(new, new[1:]):
            pair_counts[found] += weight
            if new_id in found:
                born.add(found)
                places[found].add(index)
    del pair_counts[pair]
    return born


def _replace(sequence: list[int], pair: Pair, new_id: int) -> list[int]:
    """Return the sequence with each occurrence of `pair` replaced, from left to right: "aaa" -> "aa" "a"."""
    result: list[int] = []
    position, last = 0, len(sequence) - 1
    while position <= last:
        if position < last and (sequence[position], sequence[position + 1]) == pair:
            result.append(new_id)
            position += 2
        else:
            result.append(sequence[position])
            position += 1
    return result


def byte_order(tie_break: str) -> list[int]:
    """Return the 256 byte values in the order in which the rule numbers them."""
    if tie_break != "huggingface":
        return list(range(256))
    # GPT-2 shows a printable byte as itself and the others, in order, as the characters from U+0100 on;
    # tokenizers numbers its alphabet by those characters.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + sorted(set(range(256)) - set(printable))


def check_arguments(
    words: Sequence[bytes],
    counts: npt.NDArray[np.int64] | Sequence[int],
    tie_break: str,
    firsts: npt.NDArray[np.uint64] | None = None,
) -> npt.NDArray[np.int64]:
    """Return the counts as an array, or raise what `train_merges` says."""
    if tie_break not in TIE_BREAKS:
        raise ValueError(f"train(): tie_break must be one of {', '.join(TIE_BREAKS)}, got {tie_break!r}")
    weights = np.ascontiguousarray(counts, dtype=np.int64)
    if weights.shape != (len(words),):
        raise ValueError(f"train(): counts must be one for each of {len(words)} words, got shape {weights.shape}")
    if tie_break == "first_seen":
        if firsts is None:
            raise ValueError(
                "train(): tie_break='first_seen' needs the place where each pretoken is first, which these counts do "
                "not hold: count with positions=True"
            )
        if np.shape(firsts) != weights.shape:
            raise ValueError(f"train(): firsts must be one for each of {len(words)} words, got {np.shape(firsts)}")
    if len(words) and weights.min() < 0:
        raise ValueError(f"train(): counts must be 0 or more, got {weights.min()}")
    offsets = (words if isinstance(words, PackedBytes) else PackedBytes.of(words)).offsets
    total = 0.0
    for at in range(0, len(weights), CHUNK):  # without copies of the whole
        total += float((np.diff(offsets[at : at + CHUNK + 1]) * weights[at : at + CHUNK].astype(np.float64)).sum())
    if total >= MAX_BYTES:
        raise TrainingError("train(): the counted text must be shorter than 2**62 bytes; divide the counts")
    return weights


class _Reporter:
    """Passes the number of merges on, and the merges themselves, a few times a second."""

    def __init__(self, progress: Progress | None, record: Record | None, wanted: int, made: list[Pair]) -> None:
        self._progress, self._record, self._wanted, self._made = progress, record, wanted, made
        self._recorded = 0
        self._last = time.monotonic()

    def some(self) -> None:
        now = time.monotonic()
        if now - self._last >= PROGRESS_SECONDS:
            self._last = now
            if self._progress is not None:
                self._progress(len(self._made), self._wanted)
            self.flush()

    def flush(self) -> None:
        """Pass on the merges that were not recorded yet."""
        if self._record is not None and self._recorded < len(self._made):
            self._record(self._recorded, np.array(self._made[self._recorded :], dtype=np.uint32))
            self._recorded = len(self._made)
