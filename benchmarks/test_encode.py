"""Encoding a whole text and a batch of documents, beside tiktoken.  Oracle: tiktoken with the same ranks."""

from __future__ import annotations

import pytest

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
