"""Training on documents, and merging counted pretokens.  Oracle: tokenizers' BpeTrainer on the same documents."""

from __future__ import annotations

import json

import pytest

import fastbpe
from tests.reference import byte_letters, huggingface_trained


def train(documents, vocab_size):
    return fastbpe.train_from_iterator(documents, vocab_size, tie_break="huggingface")


@pytest.mark.parametrize("vocab_size", [500, 2000])
def test_train(benchmark, documents, vocab_size):
    pytest.importorskip("tokenizers")
    model = json.loads(huggingface_trained(documents, vocab_size).to_str())["model"]
    letters = byte_letters()
    assert train(documents, vocab_size).merges == tuple(
        tuple(bytes(letters[letter] for letter in token) for token in merge) for merge in model["merges"]
    )
    benchmark.pedantic(train, (documents, vocab_size), rounds=3)
