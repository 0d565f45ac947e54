"""Boundaries from five characters: the covers are right, and each kind of vectors says what the automaton says."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from fastbpe.core import backend_modules
from fastbpe.pattern.automaton import compile_split
from fastbpe.pattern.boxes import ON, Boxes, check, coarse_classes, find_boxes, windows, with_runs
from fastbpe.pattern.named import PATTERNS
from fastbpe.pattern.sequence import compile_sequence, compiled_sequence
from tests.hard_text import CHARACTERS, hard_strings

NAMED = {
    name: tuple((step, True) for step in ((pattern,) if isinstance(pattern, str) else pattern))
    for name, pattern in PATTERNS.items()
}


@pytest.mark.parametrize("name", NAMED)
def test_each_named_pattern_has_a_cover_and_it_is_right(name):
    tables = compile_sequence(NAMED[name])
    assert tables.boxes is not None
    assert np.array_equal(tables.boxes.coarse, coarse_classes(tables.dfa, tables.class_of()))
    check(tables.boxes, windows(tables.dfa, tables.boxes.coarse))
    with_them = with_runs(tables.boxes, tables.dfa)
    assert np.array_equal(tables.boxes.tails, with_them.tails)
    assert np.array_equal(tables.boxes.periods, with_them.periods)


def test_what_runs_tell():
    """White space in front of a letter ends where a line ends; a line end behind it takes it.  Three digits at most."""
    for name, three in (("gpt2", 0), ("cl100k", 3), ("o200k", 3), ("qwen2", 1)):
        tables = compile_sequence(NAMED[name])
        digit, space, letter, line = (tables.boxes.coarse[tables.class_of()[ord(one)]] for one in "1 a\n")
        assert tables.boxes.periods[digit] == three
        assert tables.boxes.tails[space, [letter, line]].tolist() == ([0, 0] if name == "gpt2" else [ON, 0])


OWN = {  # groups that fall apart, and some that do not
    "five or one": r"\d{5}|\d|\s|\D+",
    "three and no more": r"\d{3}(?!\D)|\d|\D+",
    "one or four": r"\d(?:\d{3})?|\D+",
    "five of two kinds": r"\d[\d\t]{4}|\s|\S",
    "up to four": r"\d{1,4}|\s+(?!\S)|\s|[^\d\s]+",
    "spaces in pairs": r" {2}|\n+ ?| |[^ \n]+",
}


@pytest.mark.native_only
@pytest.mark.parametrize("name", [*NAMED, *OWN])
def test_runs_of_one_class_at_every_place(vectors, name):
    """Also where a chunk of 4096 bytes or a block of 64 ends, and with the end of the text behind them."""
    native = backend_modules("native")
    tables = compile_sequence(NAMED[name]) if name in NAMED else compile_split(OWN[name], True)
    if name in OWN:
        tables = replace(tables, boxes=find_boxes(tables.dfa, tables.class_of()))
        assert tables.boxes is not None
    slow, fast = native.Splitter(tables, vectors="none"), native.Splitter(tables, vectors=vectors)
    rng = random.Random(len(name))
    ends = ["", "a", "\n", "1", "!", "'s", " ", "\t", "中", "é", "\u3000", "٣", "\u00a0\n", " \n", "/"]
    for run in (" ", "\t", "1", "٣", "\u3000", "\r", "/", "é", "\0"):
        for size in (2, 3, 4, 5, 7, 31, 63, 64, 65, 130, 4094, 4097):
            for before in ("\n", "a\n", "!\n\n\n", "a", "1", " ", "é", "'"):
                text = "x" * rng.choice([0, 40, 60, 4000, 4093]) + before + run * size + rng.choice(ends)
                text += rng.choice(ends) + rng.choice(["", "b\n" + run * 5 + "c"])
                assert np.array_equal(slow.split(text.encode()), fast.split(text.encode())), repr(text[-300:])


@pytest.mark.parametrize("name", NAMED)
def test_shipped_tables_are_what_compiling_gives(name):
    ours, fresh = compile_sequence(NAMED[name]), compiled_sequence(NAMED[name])
    for table in ("stage1", "stage2", "dfa"):
        assert np.array_equal(getattr(ours, table), getattr(fresh, table)), table


def test_windows_of_cl100k_and_o200k():
    """The counts that an independent implementation of the same analysis found (text begins within the window: not
    counted there)."""
    for name, off, unsure in (("cl100k", 8376, 216), ("o200k", 79812, 3882)):
        tables = compile_sequence(NAMED[name])
        allowed = windows(tables.dfa, coarse_classes(tables.dfa, tables.class_of()))
        assert [int((allowed == kind).sum()) for kind in (1, 3)] == [off, unsure]


def test_a_wrong_cover_is_refused():
    tables = compile_sequence(NAMED["gpt2"])
    good = tables.boxes
    allowed = windows(tables.dfa, good.coarse)
    for axis in range(5):
        rules = good.rules.copy()
        rules[0, axis] ^= 1  # box 0 with the other half of the classes
        with pytest.raises(ValueError, match="windows are decided against the pattern"):
            check(Boxes(good.coarse, rules, good.unsure), allowed)


def test_search_finds_a_cover_for_any_pattern_without_gaps():
    tables = compile_split(r"\p{L}+|\p{N}{1,4}|[^\p{L}\p{N}]", False)
    boxes = find_boxes(tables.dfa, tables.class_of())
    check(boxes, windows(tables.dfa, boxes.coarse))
    gaps = compile_split(r"\p{L}+", True)
    assert find_boxes(gaps.dfa, gaps.class_of()) is None


@pytest.fixture(params=["avx512", "avx2", "ssse3", "neon"])
def vectors(request):
    native = pytest.importorskip("fastbpe.core.split_native", reason="built without native modules")
    try:
        native.Splitter(compile_sequence(NAMED["gpt2"]), vectors=request.param)
    except ValueError as error:
        pytest.skip(str(error))
    return request.param


def long_texts(seed):
    """Texts over several chunks of 4096 bytes, with pretokens over their edges, and runs longer than a chunk."""
    rng = random.Random(seed)
    yield from hard_strings(40, seed, longest=9000)
    for run in (" ", "a", "1", "\n", "中", "é", "\n ", "'s", "!"):
        for size in (4090, 4095, 4096, 4097, 8200):
            yield run * size + rng.choice(CHARACTERS) * rng.randint(0, 3) + run * 30
            yield "x" * rng.randint(0, 70) + "\n" + run * size + rng.choice(CHARACTERS)
    for first in ("", "1", "12", "٣", "1٣", "٣1", "٣٣", "²", "१२"):  # digits of several bytes before a chunk
        for size in range(4085, 4097):
            yield "x" * size + first + "1234567890" * 900


@pytest.mark.native_only
@pytest.mark.parametrize("name", NAMED)
def test_vectors_equal_the_automaton(vectors, name):
    native = backend_modules("native")
    tables = compile_sequence(NAMED[name])
    slow, fast = native.Splitter(tables, vectors="none"), native.Splitter(tables, vectors=vectors)
    texts = [*hard_strings(1500, seed=len(name)), *long_texts(len(name))]
    for text in texts:
        data = text.encode()
        assert np.array_equal(slow.split(data), fast.split(data)), repr(text[:200])
    # What is no UTF-8 never comes here, but it must not read or write where it should not.
    rng = random.Random(3)
    for size in (1, 2, 63, 64, 65, 4096, 9000):
        fast.split(rng.randbytes(size))
        fast.split(b"a" * (size - 1) + b"\xf7")


@pytest.mark.native_only
@pytest.mark.parametrize("name", ["gpt2", "cl100k", "o200k", "deepseek", "falcon"])
def test_vectors_in_a_stream(vectors, name):
    native = backend_modules("native")
    tables = compile_sequence(NAMED[name])
    slow, fast = native.Splitter(tables, vectors="none"), native.Splitter(tables, vectors=vectors)
    rng = random.Random(17)
    for text in long_texts(5):
        text = text[:12000]
        data = text.encode()
        whole = [data[start:end] for start, end in slow.split(data).tolist()]
        stream, got, position = fast.stream(), [], 0
        while position < len(text):
            step = rng.choice([1, 2, 5, 60, 5000])
            got += stream.push(text[position : position + step].encode())
            position += step
        assert got + stream.finish() == whole, repr(text[:200])
