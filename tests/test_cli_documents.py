"""Cutting files into documents.  Oracle: str.split on the whole text."""

from __future__ import annotations

import random

import pytest

from fastbpe.cli import documents
from fastbpe.cli.documents import cut, read_blocks

SEPARATOR = b"<|endoftext|>"


def cut_all(blocks, separator=SEPARATOR):
    return [
        document
        for item in cut(blocks, separator)
        for document in (item if isinstance(item, list) else [b"".join(item)])
    ]


@pytest.mark.parametrize("block", [1, 3, 7, 50])
@pytest.mark.parametrize("limit", [4, 20, 1 << 20])
def test_blocks_never_show(monkeypatch, block, limit):
    monkeypatch.setattr(documents, "BLOCK", limit)
    rng = random.Random(block * limit)
    for _ in range(60):
        pieces = [SEPARATOR, SEPARATOR[:5], SEPARATOR[5:], b"<", b"a", b"text" * 9, b"\n"]
        text = b"".join(rng.choices(pieces, k=rng.randrange(12)))
        expected = [document for document in text.split(SEPARATOR) if document]
        assert cut_all([text[i : i + block] for i in range(0, len(text), block)]) == expected, text


def test_one_byte_separator_and_none():
    assert cut_all([b"a,b", b",,c"], b",") == [b"a", b"b", b"c"]
    assert cut_all([b"a,b", b",c"], b"") == [b"a,b,c"]
    assert cut_all([], b"") == []


def test_a_long_document_comes_in_parts(monkeypatch):
    monkeypatch.setattr(documents, "BLOCK", 100)
    blocks = [b"x" * 100] * 50 + [b"x" + SEPARATOR + b"yz"]
    sizes = [len(part) for item in cut(iter(blocks), SEPARATOR) if not isinstance(item, list) for part in item]
    assert sum(sizes) == 5001
    assert max(sizes) <= 200 + len(SEPARATOR)


def test_read_blocks_reports_every_byte(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * (documents.BLOCK + 1))
    seen = []
    assert [len(block) for block in read_blocks(str(tmp_path / "a"), seen.append)] == seen == [documents.BLOCK, 1]
