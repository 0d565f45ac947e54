"""Boxes of patterns without a name, kept in `.fbpe` files.

Oracle: the same definition without boxes, whose text the automaton splits alone.
"""

from __future__ import annotations

import pickle
import random

import numpy as np
import pytest

import fastbpe
from fastbpe.errors import VocabularyError
from fastbpe.pattern.automaton import compile_split
from fastbpe.pattern.boxes import check, fitting, packed, unpacked, windows
from fastbpe.pattern.sequence import compile_sequence, search_boxes
from fastbpe.spec import Split, TokenizerSpec
from tests.hard_text import hard_strings

BYTES = {bytes([value]): value for value in range(256)}
OWN = r"\p{L}+|\p{N}{1,4}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
OTHER = r"\p{L}+|\p{N}{1,4}| ?[^\s\p{L}\p{N}]+|\s+"


def steps_of(*patterns):
    return tuple((pattern, True) for pattern in patterns)


def spec_of(*patterns, **fields):
    return TokenizerSpec(splits=tuple(Split(pattern) for pattern in patterns), vocab=BYTES, **fields)


def tables_of(tok):
    return tok._encoder.splitter.tables


@pytest.mark.parametrize("patterns", [(OWN,), (r"\p{N}", r"[\p{L}_]+|\s+")], ids=["one", "sequence"])
def test_saving_stores_boxes_and_loading_uses_them(tmp_path, patterns):
    tok = fastbpe.Tokenizer(spec_of(*patterns))
    assert tables_of(tok).boxes is None and b"boxes" not in tok.to_bytes()
    tok.save(tmp_path / "a.fbpe")
    loaded = fastbpe.load(tmp_path / "a.fbpe")
    assert tables_of(loaded).boxes is not None
    assert loaded == tok and hash(loaded) == hash(tok) and loaded.fingerprint == tok.fingerprint
    for text in hard_strings(300, seed=3):
        assert loaded.encode_ordinary(text) == tok.encode_ordinary(text), repr(text)
    again = pickle.loads(pickle.dumps(loaded))
    assert tables_of(again).boxes is not None and again.spec.boxes == loaded.spec.boxes
    loaded.save(tmp_path / "b.fbpe")
    assert (tmp_path / "b.fbpe").read_bytes() == (tmp_path / "a.fbpe").read_bytes() == loaded.to_bytes()


@pytest.mark.parametrize(
    "patterns", [(fastbpe.patterns["gpt2"],), fastbpe.patterns["deepseek"], (r"\p{L}+",), (r"a(?=b)|[^a]|a",)]
)
def test_nothing_is_stored_where_it_is_known_or_cannot_be(tmp_path, patterns):
    """A named pattern; one that leaves text unmatched; one that does not compile."""
    tok = fastbpe.Tokenizer(spec_of(*patterns))
    tok.save(tmp_path / "a.fbpe")
    assert (tmp_path / "a.fbpe").read_bytes() == tok.to_bytes()
    assert fastbpe.load(tmp_path / "a.fbpe").spec.boxes is None


def test_other_formats_do_not_hold_them(tmp_path):
    spec = spec_of(OWN, whole=False, merges=())
    boxed = spec.boxed(search_boxes(steps_of(OWN)))
    assert fastbpe.formats.write(boxed, "tokenizer.json") == fastbpe.formats.write(spec, "tokenizer.json")


def test_only_saving_searches(monkeypatch):
    def never(*_):
        raise AssertionError("searched")

    monkeypatch.setattr("fastbpe.tokenizer.search_boxes", never)
    tok = fastbpe.Tokenizer(spec_of(OWN))
    assert pickle.loads(pickle.dumps(tok)) == tok == fastbpe.Tokenizer.from_bytes(tok.to_bytes())
    assert tok.spec.boxes is None
    with pytest.raises(AssertionError, match="searched"):
        tok.save("never.fbpe")


def test_lying_boxes_never_give_other_pretokens(core):
    """Bits changed anywhere: what still fits is right, what does not is of no effect."""
    rng = random.Random(5)
    texts = [text.encode() for text in hard_strings(150, seed=9)]
    right = core.Splitter(compile_split(OWN, True))
    expected = [right.split(data) for data in texts]
    good = search_boxes(steps_of(OWN))
    refused = kept = 0
    for _ in range(150):
        parts = [bytearray.fromhex(text) for text in good]
        for _ in range(rng.choice([1, 1, 5])):
            part = rng.choice(parts)
            part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
        texts_of = tuple(part.hex() for part in parts)
        try:
            tables = compile_sequence(steps_of(OWN), texts_of)
        except ValueError as error:  # a class that no vector can hold; a spec with it is refused
            assert "impossible" in str(error)
            continue
        refused += tables.boxes is None
        kept += tables.boxes is not None
        splitter = core.Splitter(tables)
        for data, spans in zip(texts, expected):
            assert np.array_equal(splitter.split(data), spans), data
    assert refused > 20 and kept > 20


def test_boxes_of_another_pattern_do_not_fit():
    for pattern, boxes in ((OWN, search_boxes(steps_of(OTHER))), (OTHER, search_boxes(steps_of(OWN)))):
        assert compile_sequence(steps_of(pattern), boxes).boxes is None
    tables = compile_split(r"\p{L}+", True)  # leaves text unmatched, which boxes know nothing of
    assert not fitting(unpacked(("00" * tables.n_classes, "ff" * 80, "ff")), tables.dfa)
    everywhere = compile_split(OWN, True)
    doubtful = unpacked(("00" * everywhere.n_classes, "ff" * 80, "ff"))
    assert fitting(doubtful, everywhere.dfa)  # the automaton decides each place
    check(doubtful, windows(everywhere.dfa, doubtful.coarse))


@pytest.mark.parametrize(
    ("boxes", "error", "message"),
    [
        (("00", "ff" * 80), TypeError, "tuple of 3 str"),
        (["00", "ff" * 80, "ff"], TypeError, "tuple of 3 str"),
        ((b"00", "ff" * 80, "ff"), TypeError, "tuple of 3 str"),
        (("", "ff" * 80, "ff"), VocabularyError, "boxes: the lengths"),
        (("00", "ff" * 81, "ff"), VocabularyError, "boxes: the lengths"),
        (("00", "", ""), VocabularyError, "boxes: the lengths"),
        (("00", "ff" * 80 * 9, "ff" * 9), VocabularyError, "boxes: the lengths"),
        (("0e", "ff" * 80, "ff"), VocabularyError, "boxes: the lengths or the classes"),
        (("0 0", "ff" * 80, "ff"), VocabularyError, "boxes: "),
        (("00", "FF" * 80, "ff"), VocabularyError, "boxes: must be in lower-case"),
        (("zz", "ff" * 80, "ff"), VocabularyError, "boxes: "),
    ],
)
def test_impossible_boxes_are_refused(boxes, error, message):
    with pytest.raises(error, match=message):
        spec_of(OWN, boxes=boxes)
    with pytest.raises(error, match=message):
        spec_of(OWN).boxed(boxes)


def test_packing_inverts():
    boxes = unpacked(search_boxes(steps_of(OWN)))
    assert packed(boxes) == search_boxes(steps_of(OWN))
    assert TokenizerSpec.from_bytes(spec_of(OWN, boxes=packed(boxes)).to_bytes()).boxes == packed(boxes)
