"""Encoding a whole text, a batch of documents, known and new text.  Oracle: tiktoken with the same ranks."""

from __future__ import annotations

import pytest

from fastbpe import core
from fastbpe.tokenizer import make_splitter
from tests.reference import tiktoken_of


@pytest.fixture(scope="module")
def reference(tokenizer):
    pytest.importorskip("tiktoken")
    return tiktoken_of(tokenizer)


@pytest.mark.benchmark(group="encode")
@pytest.mark.parametrize("engine", ["fastbpe", "tiktoken"])
def test_encode_text(benchmark, tokenizer, reference, text, engine):
    assert tokenizer.encode_ordinary(text) == reference.encode_ordinary(text)
    benchmark.extra_info["bytes"] = len(text.encode())
    benchmark((tokenizer if engine == "fastbpe" else reference).encode_ordinary, text)


@pytest.mark.benchmark(group="encode")
def test_encode_to_numpy(benchmark, tokenizer, reference, text):
    assert tokenizer.encode_to_numpy(text).tolist() == reference.encode_ordinary(text)
    benchmark(tokenizer.encode_to_numpy, text)


@pytest.mark.benchmark(group="batch")
@pytest.mark.parametrize("threads", [1, 2])
def test_encode_batch(benchmark, tokenizer, reference, documents, threads):
    ids, offsets = tokenizer.encode_batch_to_numpy(documents, threads=threads)
    found = [ids[start:end].tolist() for start, end in zip(offsets, offsets[1:])]
    assert found == reference.encode_ordinary_batch(documents)
    benchmark(tokenizer.encode_batch_to_numpy, documents, threads=threads)


@pytest.mark.benchmark(group="key and probe")
@pytest.mark.parametrize("seen", ["known", "new"])
def test_key_and_probe(benchmark, tokenizer, reference, text, seen):
    """Known text is split, keyed and looked up, and nothing is merged: what is left over the split is key and probe."""
    splitter = make_splitter(tokenizer.spec.splits)
    merger = core.Merger(tokenizer.vocab, tokenizer.merges, tokenizer.spec.whole)
    data = text.encode()
    known = core.Encoder(splitter, merger)
    assert known.encode(data).tolist() == reference.encode_ordinary(text)

    def encoder():
        return ((known if seen == "known" else core.Encoder(splitter, merger)).encode,), {}

    benchmark.extra_info["bytes"] = len(data)
    benchmark.pedantic(lambda encode: encode(data), setup=encoder, rounds=10)
