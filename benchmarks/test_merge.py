"""Merging one pretoken, by its length: time must grow in proportion.  Oracle: tiktoken's merge of a single piece."""

from __future__ import annotations

import pytest

import fastbpe
from fastbpe import core
from tests.hostile import SHAPES
from tests.reference import tiktoken_of

LENGTHS = [4, 16, 64, 256, 4096, 65536]


@pytest.fixture(scope="module")
def gpt2():
    return fastbpe.get_encoding("gpt2")


@pytest.fixture(scope="module")
def reference(gpt2):
    pytest.importorskip("tiktoken")
    return tiktoken_of(gpt2)


@pytest.mark.parametrize("shape", ["random_letters", "one_letter"])
@pytest.mark.parametrize("length", LENGTHS)
def test_merge(benchmark, gpt2, reference, shape, length):
    merger = core.backend_modules(core.BACKEND).Merger(gpt2.vocab, gpt2.merges, True)
    piece = SHAPES[shape](length)
    assert list(merger.merge(piece)) == reference._encode_single_piece(piece)
    benchmark(merger.merge, piece)
