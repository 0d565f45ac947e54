"""Pretoken counts: counting, the value, and its file. Oracles: the regex module with collections.Counter; a dict."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import regex

from fastbpe.core import RegexSplitter
from fastbpe.core.count_python import Counter as PythonCounter
from fastbpe.counts import PretokenCounts
from fastbpe.errors import TrainingError
from fastbpe.pattern.automaton import compile_split
from fastbpe.pattern.named import GPT2
from fastbpe.spec import Split

TABLES = compile_split(GPT2, gaps=True)
SPLITS = (Split(GPT2),)
HIGH = bytes(0xF5 + value % 11 for value in range(256))  # bytes that are nowhere in UTF-8
SMALL = {b"a": 3, b"ab": 2, b"abc": 2**40, b"\x00\xff": 1, b"b" * 300: 7}


def counted(counter) -> dict[bytes, int]:
    pretokens, counts, firsts = counter.items()
    assert counts.dtype == np.int64 and len(set(pretokens)) == len(pretokens) == len(counts) and firsts is None
    return dict(zip(pretokens, counts.tolist()))


def by_regex(*texts: str) -> dict[bytes, int]:
    return dict(Counter(piece.encode() for text in texts for piece in regex.findall(GPT2, text)))


@pytest.mark.parametrize("cut", [1, 7, 10**9])
def test_counter_equals_regex_however_the_text_is_cut(core, novel, cut):
    texts = [novel[3][:4000] + " \n " + "x" * 90 + "漢字" * 20 + "\0 \0", "", "  tail  "]
    counter = core.Counter(core.Splitter(TABLES))
    for text in texts:
        data = text.encode()
        for at in range(0, len(data), cut):
            counter.take(data[at : at + cut])
        counter.take(b"", True)
    assert counted(counter) == by_regex(*texts)
    assert counted(counter) == {}


def test_counter_with_a_pattern_run_by_regex():
    counter = PythonCounter(RegexSplitter(((GPT2, True),)))
    counter.take(b"one two")
    counter.take(b"three  ", True)
    assert counted(counter) == by_regex("one twothree  ")


def test_counter_keeps_pretokens_of_every_length_apart(core):
    """Lengths around the 15 bytes that the native tables keep in place; enough of them to grow the shared ones."""
    r = random.Random(2)
    pieces = [b"\xff" + r.randbytes(r.randrange(40)).translate(HIGH) for _ in range(120_000)]
    pieces += [b"\xff" * n for n in range(1, 40)] * 2 + [b"\xff" * n for n in (32766, 32767, 32768, 70000)] * 2
    counter = core.Counter(core.Splitter(TABLES))
    for piece in pieces:
        counter.take(piece, True)
    assert counted(counter) == Counter(pieces)


def make(counts=SMALL, **fields) -> PretokenCounts:
    return PretokenCounts.from_dict(counts, **{"splits": SPLITS, **fields})


def test_it_is_a_mapping():
    counts = make({**SMALL, b"none": 0, b"": 4})
    assert dict(counts) == SMALL and len(counts) == len(SMALL)
    assert counts[b"ab"] == 2 and b"none" not in counts and counts.get(b"zz") is None
    assert counts.total == sum(SMALL.values())


@pytest.mark.parametrize("counts", [{}, SMALL, {b"%06d" % n * (n % 5 + 1): n for n in range(1, 20_000)}])
def test_save_and_load(tmp_path: Path, counts):
    value = make(counts, special_tokens=("<|e|>", "<é>"), n_documents=3, n_bytes=2**50)
    value.save(tmp_path / "counts")
    loaded = PretokenCounts.load(tmp_path / "counts")
    assert loaded == value and dict(loaded) == counts
    assert (loaded.n_documents, loaded.n_bytes, loaded.special_tokens) == (3, 2**50, ("<|e|>", "<é>"))
    assert [path.name for path in tmp_path.iterdir()] == ["counts"]
    make(dict(reversed(counts.items())), special_tokens=("<|e|>", "<é>"), n_documents=3, n_bytes=2**50).save(
        tmp_path / "again"
    )
    assert (tmp_path / "again").read_bytes() == (tmp_path / "counts").read_bytes()


def test_every_damaged_or_cut_file_is_refused(tmp_path: Path):
    path = tmp_path / "counts"
    make().save(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(TrainingError, match="counts"):
            PretokenCounts.load(path)
        path.write_bytes(whole[:at])
        with pytest.raises(TrainingError, match="counts"):
            PretokenCounts.load(path)
    path.write_bytes(whole + b"x")
    with pytest.raises(TrainingError, match="does not end"):
        PretokenCounts.load(path)


def test_a_failing_save_leaves_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        make().save(tmp_path / "counts")
    assert list(tmp_path.iterdir()) == []


def test_merging_adds():
    other = make({b"ab": 5, b"new": 1}, n_documents=2, n_bytes=10)
    merged = make(n_documents=1, n_bytes=5) + other
    assert dict(merged) == Counter(SMALL) + Counter(other)
    assert (merged.n_documents, merged.n_bytes) == (3, 15)
    assert make() + make({}) == make()


@pytest.mark.parametrize(("field", "value"), [("splits", (Split(GPT2, gaps=False),)), ("special_tokens", ("<|e|>",))])
def test_counts_of_different_kinds_do_not_merge(field, value):
    with pytest.raises(TrainingError, match=field):
        make().merge(make(**{field: value}))


def test_sums_past_64_bits_are_refused():
    half = make({b"a": 2**62})
    assert (half + make({b"b": 2**62 - 1})).total == 2**63 - 1
    with pytest.raises(TrainingError, match=r"2\*\*63"):
        half + half


def test_wrong_items_are_refused():
    with pytest.raises(TypeError, match="bytes as keys, got str 'a'"):
        make({"a": 1})
    with pytest.raises(TypeError, match="int values, got float"):
        make({b"a": 1.0})
    with pytest.raises(ValueError, match="0 or more, got -1"):
        make({b"a": -1})
