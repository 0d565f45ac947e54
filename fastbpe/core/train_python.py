"""Counts of pretokens -> merges: byte pair encoding is learned here.

The rule: among all pairs of neighbouring tokens, weighted by how often their pretoken occurs, take the most
frequent one, make it a token, replace it everywhere, and begin again.  Recounting every pair after each merge is
the definition, and far too slow; two facts save the work.

*Only the pretokens that hold the merged pair change.*  So for each pair we remember the pretokens it stands in.

*A pair's count never rises after the step that created it.*  Training never makes the same byte string twice, so
a pair (x, y) comes into being in the one step that creates the younger of x and y (or at the start), and every
later merge can only use its occurrences up.  Hence a priority queue may be lazy: an entry that promises too much
is put back with its true count, and the first entry that promises the truth is the greatest.

Ties are settled by one of three rules, each of which looks only at the two tokens:

- ``lexicographic``: the greater pair of byte strings (what ``max`` finds);
- ``smallest_id``: the least pair of ids, bytes by value and then merges in order of creation;
- ``huggingface``: the same with bytes in the order of GPT-2's printable characters, as ``tokenizers`` numbers them.
"""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fastbpe.core.packed import PackedBytes
from fastbpe.errors import TrainingError

__all__ = ["TIE_BREAKS", "train_merges"]

TIE_BREAKS = ("huggingface", "lexicographic", "smallest_id")
# No pair occurs more often than there are bytes, so this keeps every 64-bit sum of the native twin in range.
MAX_BYTES = 2**62
PROGRESS_SECONDS = 0.25
# What a vocabulary may hold. Without it, one pretoken of a million letters, each pair of which occurs once, would
# grow by a few bytes a merge into tokens of gigabytes altogether.
MAX_TOKEN_BYTES = 64 << 10
MAX_VOCAB_BYTES = (1 << 28) - 1
TOO_LONG = (
    "the tokens exceed 256 MiB together, so the text has too few repetitions for so many merges: "
    "ask for a smaller vocab_size, or pass a greater min_frequency"
)

Pair: TypeAlias = tuple[int, int]
Progress: TypeAlias = Callable[[int, int], None]


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
) -> list[tuple[bytes, bytes]]:
    """Learn at most `n_merges` merges from pretokens and their counts.

    The order of `words` does not matter, and a word may be given in several parts.  Fewer merges come back when
    no pair occurs `min_frequency` times any more.  A pair whose token would have more than 64 KiB is passed over.
    `progress(done, wanted)` is called a few times a second and once at the end; what it raises ends the training.

    Raises:
        TrainingError: the counted text, each word as often as its count says, has 2**62 bytes or more; or the tokens
            have more than 256 MiB together.
        ValueError: an unknown `tie_break`, or counts that are negative or not one a word.
    """
    weights = check_arguments(words, counts, tie_break).tolist()
    tokens = [bytes([value]) for value in byte_order(tie_break)]
    id_of_byte = {token[0]: index for index, token in enumerate(tokens)}
    sequences = [[id_of_byte[value] for value in word] for word in words]
    pair_counts, places = _count_pairs(sequences, weights)

    def entry(pair: Pair) -> tuple[int, _Descending | Pair, Pair]:
        tie = _Descending((tokens[pair[0]], tokens[pair[1]])) if tie_break == "lexicographic" else pair
        return -pair_counts[pair], tie, pair

    queue = [entry(pair) for pair in pair_counts]
    heapq.heapify(queue)
    merges: list[tuple[bytes, bytes]] = []
    spelled = len(tokens)
    report = _reporter(progress, n_merges)
    while queue and len(merges) < n_merges:
        negative_count, _, pair = queue[0]
        if pair_counts[pair] < max(min_frequency, 1):
            heapq.heappop(queue)
            continue
        if pair_counts[pair] != -negative_count:
            heapq.heapreplace(queue, entry(pair))  # the promise was stale: put it back with the truth
            continue
        heapq.heappop(queue)
        left, right = tokens[pair[0]], tokens[pair[1]]
        if len(left) + len(right) > MAX_TOKEN_BYTES:
            continue
        spelled += len(left) + len(right)
        if spelled > MAX_VOCAB_BYTES:
            raise TrainingError(TOO_LONG)
        merges.append((left, right))
        tokens.append(left + right)
        for born in _apply(pair, len(tokens) - 1, sequences, weights, pair_counts, places):
            heapq.heappush(queue, entry(born))
        report(len(merges))
    if progress is not None:
        progress(len(merges), n_merges)
    return merges


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
    if len(words) and weights.min() < 0:
        raise ValueError(f"train(): counts must be 0 or more, got {weights.min()}")
    lengths = np.diff(words.offsets) if isinstance(words, PackedBytes) else np.fromiter(map(len, words), np.int64)
    if float((lengths * weights.astype(np.float64)).sum()) >= MAX_BYTES:
        raise TrainingError("train(): the counted text must be shorter than 2**62 bytes; divide the counts")
    return weights


def _reporter(progress: Progress | None, wanted: int) -> Callable[[int], None]:
    """Return a function that passes the number of merges on, a few times a second."""
    last = time.monotonic()

    def report(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if progress is not None and now - last >= PROGRESS_SECONDS:
            last = now
            progress(done, wanted)

    return report
