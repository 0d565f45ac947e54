"""Fixtures of the benchmarks: the text and the tokenizers."""

from __future__ import annotations

import pytest

import fastbpe
from benchmarks.data import read_documents


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """All documents on the native backend, some on the Python one, which is far slower."""
    documents = read_documents()
    return documents if fastbpe.backend() == "native" else documents[3:8]


@pytest.fixture(scope="session")
def text(documents: list[str]) -> str:
    return "".join(documents)


@pytest.fixture(scope="session", params=["gpt2", "cl100k_base", "o200k_base"])
def tokenizer(request: pytest.FixtureRequest) -> fastbpe.Tokenizer:
    return fastbpe.get_encoding(request.param)
