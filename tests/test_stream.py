"""iter_encode: chunk boundaries never show, nothing is read ahead, little is held.  Oracle: encode on the whole."""

from __future__ import annotations

import gc
import random

import numpy as np
import pytest

import fastbpe
from fastbpe.pattern.automaton import compile_split
from tests.hard_text import hard_strings
from tests.hostile import SHAPES


def cut(text, rng, most):
    """Cut a str or bytes into random chunks, some of them empty."""
    position = 0
    while position < len(text):
        step = rng.choice([0, 1, 1, 2, 3, 7, most])
        yield text[position : position + step]
        position += step


@pytest.mark.parametrize("name", ["gpt2", "cl100k_base", "o200k_base"])
def test_any_cut_of_hard_text(name):
    tok, rng = fastbpe.get_encoding(name), random.Random(29)
    specials = list(tok.special_tokens)[:3]
    for text in hard_strings(400, seed=31, longest=40):
        for _ in range(2):
            at = rng.randint(0, len(text))
            text = text[:at] + rng.choice([*specials, "<|endof", "|>", "", ""]) + text[at:]
        expected = tok.encode(text, allowed_special="all")
        assert list(tok.iter_encode(cut(text, rng, 20), allowed_special="all")) == expected, repr(text)
        assert list(tok.iter_encode(cut(text.encode(), rng, 20), allowed_special="all")) == expected, repr(text)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_cut_of_hostile_text(shape):
    tok, rng = fastbpe.get_encoding("cl100k_base"), random.Random(37)
    value = SHAPES[shape](4_000)
    expected = tok.encode_bytes(value) if isinstance(value, bytes) else tok.encode_ordinary(value)
    assert list(tok.iter_encode(cut(value, rng, 300), disallowed_special=())) == expected


def test_normalizer_and_added_tokens_in_any_cut():
    spec = fastbpe.TokenizerSpec(
        splits=(fastbpe.Split(fastbpe.patterns["qwen2"]),),
        vocab={bytes([value]): value for value in range(256)},
        added_tokens=(fastbpe.AddedToken("<think>", 256, special=False), fastbpe.AddedToken("<|end|>", 257)),
        normalizer="NFC",
    )
    tok, rng = fastbpe.Tokenizer(spec), random.Random(41)
    assert tok.encode("e\u0301<think>") == [*"é".encode(), 256]
    pieces = ["e\u0301", "e", "\u0301", "\u0323", "<think>", "<thi", "nk>", "\u1100\u1161\u11a8", " x", "가", "\u11a8"]
    for _ in range(300):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
        expected = tok.encode_ordinary(text)
        assert list(tok.iter_encode(cut(text, rng, 9), disallowed_special=())) == expected, repr(text)
        assert list(tok.iter_encode(cut(text.encode(), rng, 9), disallowed_special=())) == expected, repr(text)


def test_a_sequence_of_splits_streams_too():
    steps = fastbpe.patterns["deepseek"]
    spec = fastbpe.TokenizerSpec(
        splits=tuple(fastbpe.Split(step) for step in steps), vocab={bytes([value]): value for value in range(256)}
    )
    tok = fastbpe.Tokenizer(spec)
    for text in hard_strings(100, seed=43):
        assert list(tok.iter_encode(text)) == tok.encode_ordinary(text)


def test_batches_have_the_asked_size():
    tok = fastbpe.get_encoding("gpt2")
    text = "the quick brown fox " * 500
    ids = tok.encode(text)
    for size in [1, 7, len(ids), len(ids) + 1]:
        arrays = list(tok.iter_encode_batches([text[:1000], text[1000:]], size=size))
        assert [len(array) for array in arrays[:-1]] == [size] * (len(arrays) - 1)
        assert all(array.dtype == np.uint32 for array in arrays)
        assert np.concatenate(arrays).tolist() == ids
    with pytest.raises(ValueError, match="size"):
        tok.iter_encode_batches(["a"], size=0)


def test_it_is_lazy():
    tok = fastbpe.get_encoding("gpt2")
    read = []

    def chunks():
        for number in range(100):
            read.append(number)
            yield "word word word "

    ids = tok.iter_encode(chunks())
    assert read == []
    next(ids)
    assert read == [0]


def test_errors_of_the_source_pass_through():
    tok = fastbpe.get_encoding("gpt2")

    def chunks():
        yield "some words"
        raise OSError("the disk is gone")

    got = []
    with pytest.raises(OSError, match="the disk is gone"):
        for number in tok.iter_encode(chunks()):
            got.append(number)
    assert got == tok.encode("some")


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        (["a", b"b"], "bytes at index 1"),
        ([b"a", "b"], "str at index 1"),
        (["a", None], "NoneType at index 1"),
        ([1], "int at index 0"),
    ],
)
def test_wrong_chunks(chunks, words):
    with pytest.raises(TypeError, match=words):
        list(fastbpe.get_encoding("gpt2").iter_encode(chunks))


def test_a_bare_text_is_one_chunk():
    tok = fastbpe.get_encoding("gpt2")
    assert list(tok.iter_encode("hello world")) == list(tok.iter_encode(b"hello world")) == [31373, 995]
    assert list(tok.iter_encode("")) == list(tok.iter_encode([])) == list(tok.iter_encode(["", ""])) == []


@pytest.mark.parametrize("unit", ["a", " ", "中", "\u0301"])
def test_too_long_a_pretoken(unit):
    tok = fastbpe.get_encoding("cl100k_base")
    with pytest.raises(fastbpe.PretokenTooLongError, match="max_pretoken_bytes"):
        list(tok.iter_encode((unit for _ in range(5000)), max_pretoken_bytes=1000))
    assert list(tok.iter_encode([unit * 100, "x y z"], max_pretoken_bytes=1000)) == tok.encode(unit * 100 + "x y z")
    with pytest.raises(ValueError, match="max_pretoken_bytes"):
        tok.iter_encode(["a"], max_pretoken_bytes=0)


def test_a_str_subclass_is_its_text():
    class Odd(str):
        def __len__(self):
            return 3

        def __getitem__(self, key):
            return "zzz"

    assert list(fastbpe.get_encoding("gpt2").iter_encode([Odd("hello world")])) == [31373, 995]
    assert fastbpe.get_encoding("gpt2").encode_batch([Odd("hello world")]) == [[31373, 995]]


@pytest.mark.parametrize("with_encoder", [False, True])
def test_a_stream_in_a_cycle_gives_its_memory_back_as_it_was(core, with_encoder):
    """The collector takes apart what lies in a cycle in any order, as after an exception that somebody keeps."""
    spec = fastbpe.get_encoding("gpt2").spec
    splitter = core.Splitter(compile_split(spec.splits[0].pattern, gaps=True))
    merger = core.Merger(spec.vocab, spec.merges, spec.whole)
    encoder = core.Encoder(splitter, merger)
    gc.collect()  # what is older is taken apart first
    for new in ("unseen", "newer", "newest"):
        cycle = []
        cycle.append(cycle)
        cycle.append(core.EncodeStream(core.Encoder(splitter, merger) if with_encoder else encoder))
        assert cycle[1].push(b"hello world, ").tolist()[:2] == [31373, 995]
        del cycle
        gc.collect()
        assert encoder.encode_text(f"hello world {new}").tolist() == [31373, 995, *merger.merge(f" {new}".encode())]
