"""Pretoken counts: counting, the value, and its file. Oracles: the regex module with collections.Counter; a dict."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import regex

from fastbpe import count_pretokens_from_iterator, merge_counts
from fastbpe.core import RegexSplitter
from fastbpe.core import counts_python as python
from fastbpe.core.count_python import Counter as PythonCounter
from fastbpe.core.packed import PackedBytes
from fastbpe.counts import PretokenCounts
from fastbpe.counts_file import CountsReader
from fastbpe.errors import TrainingError
from fastbpe.pattern.automaton import compile_split
from fastbpe.pattern.named import GPT2
from fastbpe.spec import Split

TABLES = compile_split(GPT2, gaps=True)
SPLITS = (Split(GPT2),)
HIGH = bytes(0xF5 + value % 11 for value in range(256))  # bytes that are nowhere in UTF-8
FEW = ["a", "b", "ab", "abc", "12", "x漢", "\n", "é"]
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
    return PretokenCounts.from_dict(counts, **{"pattern": SPLITS, **fields})


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


@pytest.mark.parametrize(
    ("field", "other"),
    [("splits", {"pattern": (Split(GPT2, gaps=False),)}), ("special_tokens", {"special_tokens": ("<|e|>",)})],
)
def test_counts_of_different_kinds_do_not_merge(field, other):
    with pytest.raises(TrainingError, match=field):
        make().merge(make(**other))


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


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"n_bytes": -1}, ValueError, r"n_bytes must be 0 to 2\*\*63 - 1, got -1"),
        ({"n_documents": 2**63}, ValueError, "n_documents must be 0 to"),
        ({"n_bytes": "x"}, TypeError, "n_bytes must be an int, got str 'x'"),
        ({"special_tokens": [1]}, TypeError, "special_tokens must hold str, got int 1 at index 0"),
        ({"special_tokens": "<|e|>"}, TypeError, "special_tokens must be a sequence of str"),
        ({"special_tokens": ["a" * 2**23]}, ValueError, "special_tokens must have at most 8388608 bytes as JSON"),
        ({"pattern": 7}, TypeError, "pattern must be a str, got int 7"),
        ({"pattern": ("gpt2",)}, TypeError, "pattern must be a str, got tuple"),
        ({"pattern": ""}, ValueError, "pattern must be a name or a regular expression"),
        ({"unit": "x"}, ValueError, "unit must be one of document, line"),
    ],
)
def test_what_no_file_could_hold_is_refused(fields, error, words):
    with pytest.raises(error, match=rf"from_dict\(\): {words}"):
        make(**fields)


def test_names_of_patterns_and_numbers_of_numpy(tmp_path):
    value = make(pattern="gpt2", n_bytes=np.int64(3))
    assert value.splits == make().splits
    value.save(tmp_path / "counts")
    assert PretokenCounts.load(tmp_path / "counts") == value


def test_documents_and_bytes_past_63_bits_are_refused(tmp_path):
    half = make(n_bytes=2**62)
    half.save(tmp_path / "counts")
    for parts in ([half, half], [tmp_path / "counts"] * 5):
        for output in (None, tmp_path / "sum"):
            with pytest.raises(TrainingError, match=r"add up to 2\*\*63 or more"):
                merge_counts(parts, output)
    assert [path.name for path in tmp_path.iterdir()] == ["counts"]


@pytest.mark.parametrize("min_count", [0, -1, "x", 1.5])
def test_a_wrong_min_count(min_count):
    with pytest.raises((ValueError, TypeError), match=r"at_least\(\): min_count must be"):
        make().at_least(min_count)


def test_a_damaged_block_names_itself_and_is_the_last_that_is_read(tmp_path):
    value = make({b"%07d" % number: 1 for number in range(40_000)})
    value.save(tmp_path / "counts")
    whole = bytearray((tmp_path / "counts").read_bytes())
    whole[len(whole) // 2] ^= 1
    (tmp_path / "counts").write_bytes(whole)
    places = []
    with open(tmp_path / "counts", "rb") as file:

        def read(place, size):
            places.append(place)
            file.seek(place)
            return file.read(size)

        reader = CountsReader(read, len(whole), "NAME")
        with pytest.raises(
            TrainingError, match=r"NAME: block 1 of the counts file, which follows \d+ pretokens, is dam"
        ):
            list(reader)
    assert max(places) <= len(whole) // 2


def test_no_memory_is_taken_for_what_a_header_claims(tmp_path):
    """A header with a right checksum that says more than the file can hold."""
    make().save(tmp_path / "counts")
    header = replace(make()._header(), unique=2**40, total=2**40, pretoken_bytes=2**50)
    whole = (tmp_path / "counts").read_bytes()
    (tmp_path / "counts").write_bytes(header.to_bytes() + whole[len(header.to_bytes()) :])
    with pytest.raises(TrainingError, match="says more than the file can hold"):
        PretokenCounts.load(tmp_path / "counts")


def random_strings(r: random.Random) -> list[bytes]:
    """Strings with long common beginnings, with NULs at their ends, with bytes of all values."""
    alphabet = r.choice([b"\0", b"\0a", b"ab", bytes(range(256)), b"\0\xff"])
    begin = bytes(r.choices(alphabet, k=r.choice([0, 0, 3, 8, 17, 300])))
    longest = r.choice([3, 12, 40])
    return [
        begin[: r.randrange(len(begin) + 1)] + bytes(r.choices(alphabet, k=r.randrange(longest)))
        for _ in range(r.choice([0, 1, 5, 17, 100, 800]))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_order_and_blocks_equal_their_definition(core, seed):
    r = random.Random(seed)
    strings = random_strings(r)
    packed = PackedBytes.of(strings)
    order = core.sort_order(packed)
    assert [strings[at] for at in order] == sorted(strings) == [*core.gather(packed, order)]
    starts = core.starts(packed, order)
    assert [sorted(strings)[at] for at in starts] == sorted(set(strings))
    distinct = [string for string in dict.fromkeys(strings) if string] or [b"x"]
    packed, order = PackedBytes.of(distinct), core.sort_order(PackedBytes.of(distinct))
    counts = np.array([r.choice([1, 2, 300, 2**31, 2**63 - 1]) for _ in distinct], np.int64)
    firsts = r.choice([None, np.array([r.choice([0, 5, 2**64 - 1]) for _ in distinct], np.uint64)])
    at, last = 0, b""
    while at < len(distinct):
        payload, end = core.encode_block(packed, counts, firsts, order, at, r.choice([1, 20, 500, 65536]))
        assert (payload, end) == python.encode_block(packed, counts, firsts, order, at, len(payload))
        strings_of, counts_of, firsts_of = core.decode_block(payload, end - at, last, firsts is not None)
        assert [*strings_of] == [distinct[index] for index in order[at:end]]
        assert counts_of.tolist() == counts[order[at:end]].tolist()
        assert firsts is None or firsts_of.tolist() == firsts[order[at:end]].tolist()
        for _ in range(10):
            altered = bytearray(payload)
            altered[r.randrange(len(altered))] ^= 1 << r.randrange(8)
            altered = bytes(altered[: r.choice([None, None, r.randrange(len(altered))])])
            arguments = (altered, end - at, last, firsts is not None)
            assert decoded(core, *arguments) == decoded(python, *arguments)
        at, last = end, distinct[order[end - 1]]


def decoded(backend, *arguments):
    """What a block of altered bytes holds, or that it is refused."""
    try:
        strings, counts, firsts = backend.decode_block(*arguments)
    except ValueError:
        return None
    return [*strings], counts.tolist(), None if firsts is None else firsts.tolist()


@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_merging_files_and_values_is_counting_all(tmp_path, monkeypatch, positions, seed):
    monkeypatch.setattr("fastbpe.counts_file.BLOCK", 200)
    r = random.Random(seed)
    documents = [" ".join(r.choices(FEW, k=r.choice([0, 3, 200]))) for _ in range(12)]
    documents.append(" ".join(map(str, range(r.choice([0, 1000])))))
    whole = count_pretokens_from_iterator(documents, positions=positions)
    parts = []
    while documents:
        some = documents[: r.randrange(1, 5)]
        documents = documents[len(some) :]
        part = count_pretokens_from_iterator(some, positions=positions)
        if r.random() < 0.6:
            part.save(tmp_path / str(len(parts)))
            part = tmp_path / str(len(parts))
        parts.append(part)
    assert merge_counts(parts) == whole
    assert merge_counts(parts, tmp_path / "merged") is None
    whole.save(tmp_path / "whole")
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "whole").read_bytes()
    added = count_pretokens_from_iterator([], positions=positions)
    for part in parts:
        added += part if isinstance(part, PretokenCounts) else PretokenCounts.load(part)
    assert added == whole


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("splits", {"pattern": "cl100k"}),
        ("special_tokens", {"special_tokens": ["<e>"]}),
        ("unit", {"unit": "line"}),
        ("positions", {"positions": True}),
    ],
)
def test_unlike_files_are_refused_by_the_name_of_the_field(tmp_path, field, options):
    count_pretokens_from_iterator(["a"]).save(tmp_path / "one")
    count_pretokens_from_iterator(["a"], **options).save(tmp_path / "two")
    with pytest.raises(
        TrainingError, match=rf"merge_counts\(\): {field} must be equal, got .* in .*one and .* in .*two"
    ):
        merge_counts([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    with pytest.raises(TrainingError, match=rf"merge\(\): {field} must be equal"):
        PretokenCounts.load(tmp_path / "one") + PretokenCounts.load(tmp_path / "two")
    assert not (tmp_path / "out").exists()


def test_merging_what_cannot_be(tmp_path):
    half = make({b"a": 2**62})
    half.save(tmp_path / "half")
    with pytest.raises(TrainingError, match=r"2\*\*63"):
        merge_counts([tmp_path / "half", half], tmp_path / "out")
    (tmp_path / "cut").write_bytes((tmp_path / "half").read_bytes()[:-9])
    with pytest.raises(TrainingError, match=r"cut: .* is cut"):
        merge_counts([tmp_path / "cut"], tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        merge_counts([half, tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="at least one"):
        merge_counts([])
    for wrong in (half, "path", 3, {}):
        with pytest.raises(TypeError, match="counts must be a sequence"):
            merge_counts(wrong)
    with pytest.raises(TypeError, match="got int 3 at index 1"):
        merge_counts([half, 3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "half"]


@pytest.mark.parametrize("min_count", [1, 2, 9])
def test_rare_ones_are_left_out_of_a_merge(tmp_path, min_count):
    """What is rare in all, not in a part."""
    parts = [count_pretokens_from_iterator([text]) for text in ("a b b", "a c c c b")]
    expected = {key: count for key, count in (parts[0] + parts[1]).items() if count >= min_count}
    assert dict(merge_counts(parts, min_count=min_count)) == expected
    assert merge_counts(parts, tmp_path / "a.fbc", min_count=min_count) is None
    assert dict(PretokenCounts.load(tmp_path / "a.fbc")) == expected
    with pytest.raises(ValueError, match="min_count must be an int of at least 1, got int 0"):
        merge_counts(parts, min_count=0)
