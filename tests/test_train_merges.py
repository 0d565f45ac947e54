"""Counts to merges: both backends against the quadratic definition."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from fastbpe import spec
from fastbpe.core import train_python
from fastbpe.core.train_python import MAX_TOKEN_BYTES
from fastbpe.errors import TrainingError
from tests.bpe_definition import quadratic_merges

RULES = ("lexicographic", "huggingface", "smallest_id", "first_seen")


def random_counts(seed: int) -> dict[bytes, int]:
    """A corpus of few letters, so that ties, overlaps and stale entries abound."""
    r = random.Random(seed)
    letters = bytes(r.sample(r.choice([b"\0\xff", b"abcdef", bytes(range(256))]), r.choice([1, 2])))
    letters += bytes(r.choices(range(256), k=r.choice([0, 0, 2, 60])))
    heaviest = r.choice([2, 5, 100, 2**17, 2**40])  # a wide range makes the native threshold fall and rebuild
    lengths = [0, 1, 2, 3, 5, 8, 13, 60]
    return {bytes(r.choices(letters, k=r.choice(lengths))): r.randrange(heaviest) for _ in range(r.randrange(25))}


def train(core, counts, n_merges, rule, min_frequency=1, progress=None, **options):
    options.setdefault("firsts", np.arange(len(counts), dtype=np.uint64) * 7)
    return core.train_merges(list(counts), list(counts.values()), n_merges, rule, min_frequency, progress, **options)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(60))
def test_equal_to_the_definition(core, rule, seed):
    counts = random_counts(seed)
    n_merges, min_frequency = (3, 12, 100)[seed % 3], (1, 1, 4)[seed // 3 % 3]
    expected = quadratic_merges(counts, n_merges, rule, min_frequency)
    assert train(core, counts, n_merges, rule, min_frequency) == expected


@pytest.mark.parametrize("rule", RULES)
def test_one_long_word_beside_short_ones(core, rule):
    r = random.Random(7)
    counts = {bytes(r.choices(b"abc", k=700)): 3, b"abcabc": 40, b"cab": 2, b"a" * 301: 1}
    assert train(core, counts, 60, rule) == quadratic_merges(counts, 60, rule)


@pytest.mark.parametrize(
    ("word", "merges"),
    [
        (b"aa", [(b"a", b"a")]),
        (b"aaa", [(b"a", b"a"), (b"aa", b"a")]),
        (b"aaaa", [(b"a", b"a"), (b"aa", b"aa")]),
        (b"aaaaaaa", [(b"a", b"a"), (b"aa", b"aa"), (b"aa", b"a"), (b"aaaa", b"aaa")]),
        (b"ababab", [(b"a", b"b"), (b"ab", b"ab"), (b"abab", b"ab")]),
    ],
)
def test_repeats_are_counted_with_overlap_and_replaced_from_the_left(core, word, merges):
    # "aaaaaaa" -> aa aa aa a -> aaaa aa a -> aaaa aaa; the third is a tie, which the smaller id wins.
    assert train(core, {word: 5}, 10, "smallest_id") == merges


def test_ties_by_each_rule(core):
    counts = {b"  ": 1, b"ab": 1, b"\xff\xff": 1}
    assert train(core, counts, 1, "lexicographic") == [(b"\xff", b"\xff")]
    assert train(core, counts, 1, "smallest_id") == [(b" ", b" ")]
    # GPT-2 shows a space as U+0120, behind the letters and U+00FF.
    assert train(core, counts, 3, "huggingface") == [(b"a", b"b"), (b"\xff", b"\xff"), (b" ", b" ")]


def test_lexicographic_takes_a_prefix_for_the_smaller(core):
    # (a, b) first; then (ab, c) and (abd..., e) stand at one count each.
    counts = {b"ab": 9, b"xab": 2, b"xa": 2, b"abcdefghij": 3, b"abcdefghik": 3}
    assert train(core, counts, 20, "lexicographic") == quadratic_merges(counts, 20, "lexicographic")


def test_counts_past_32_bits(core):
    counts = {b"ab": 2**32 + 1, b"cd": 2**32 + 2, b"ef": 1, b"abef": 2**40}
    assert train(core, counts, 9, "smallest_id") == quadratic_merges(counts, 9, "smallest_id")


def test_order_and_parts_of_words_do_not_matter(core):
    counts = random_counts(3) | {b"abcabd": 7}
    words, weights = list(counts), list(counts.values())
    expected = core.train_merges(words, weights, 50, "lexicographic", 1)
    doubled = core.train_merges(words[::-1] * 2, np.array(weights[::-1] * 2), 50, "lexicographic", 1)
    assert doubled == expected


@pytest.mark.parametrize("words", [[], [b""], [b"a", b"b"], [b"ab"]])
def test_nothing_to_merge(core, words):
    assert core.train_merges(words, [0] * len(words), 5, "lexicographic", 1) == []
    assert core.train_merges(words, [1] * len(words), 0, "lexicographic", 1) == []


def test_a_vast_number_of_merges_allocates_nothing(core):
    assert train(core, {b"abc": 1}, 2**70, "lexicographic") == [(b"b", b"c"), (b"a", b"bc")]


def test_no_token_is_longer_than_a_vocabulary_may_hold(core):
    assert MAX_TOKEN_BYTES == spec.MAX_TOKEN_BYTES
    # 150,000 = 2 * 65,536 + 16,384 + 2,544: the two greatest can not be joined, what stands beside them can.
    merges = train(core, {b"a" * 150_000: 1}, 100, "lexicographic")
    assert merges[:16] == [(b"a" * 2**power, b"a" * 2**power) for power in range(16)]
    assert sorted({len(left + right) for left, right in merges})[-2:] == [32_768, MAX_TOKEN_BYTES]
    assert sum(len(left + right) == 16_384 + 2_544 for left, right in merges) == 1


def test_min_frequency_is_the_least_count_merged(core):
    counts = {b"ab": 5, b"cd": 4, b"ef": 1}
    assert len(train(core, counts, 9, "lexicographic", 1)) == 3
    assert train(core, counts, 9, "lexicographic", 5) == [(b"a", b"b")]
    assert train(core, counts, 9, "lexicographic", 2**80) == []


def test_refusals(core):
    with pytest.raises(
        ValueError, match="tie_break must be one of first_seen, huggingface, lexicographic, smallest_id, got 'x'"
    ):
        train(core, {}, 1, "x")
    with pytest.raises(ValueError, match="0 or more, got -1"):
        train(core, {b"ab": -1}, 1, "lexicographic")
    with pytest.raises(ValueError, match="one for each of 2 words"):
        core.train_merges([b"ab", b"cd"], [1], 1, "lexicographic", 1)
    with pytest.raises(TrainingError, match=r"2\*\*62"):
        train(core, {b"ab" * 10: 2**60}, 1, "lexicographic")


def test_progress_ends_with_the_whole_and_may_end_the_training(core):
    seen: list[tuple[int, int]] = []
    train(core, {b"abc": 1}, 5, "lexicographic", progress=lambda done, wanted: seen.append((done, wanted)))
    assert seen[-1] == (2, 5)

    def fail(done: int, wanted: int) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        train(core, {b"abc": 1}, 5, "lexicographic", progress=fail)


@pytest.mark.native_only
def test_an_interrupt_ends_a_long_training():
    code = (
        "import random, signal; from fastbpe.core.train_native import train_merges\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may have started us with it ignored
        "word = random.Random(1).randbytes(3_000_000); print('ready', flush=True)\n"
        "while True: train_merges([word], [1], 20_000, 'lexicographic', 1)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    time.sleep(1)
    start = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=20)
    assert time.monotonic() - start < 5.0  # 0.5 s are promised; a shared machine may stop us for a while
    assert "KeyboardInterrupt" in errors


def test_tokens_of_a_text_without_repetitions_do_not_fill_the_memory(core, monkeypatch):
    """Each merge of a pair that occurs once makes a longer token: without a limit, gigabytes of them."""
    size = 400_000
    if core.train_merges is train_python.train_merges:  # the same on a smaller scale
        monkeypatch.setattr(train_python, "MAX_VOCAB_BYTES", 100_000)
        size = 2_000
    with pytest.raises(TrainingError, match="256 MiB"):
        core.train_merges([random.Random(1).randbytes(size)], [1], 10**6, "lexicographic", 1)
