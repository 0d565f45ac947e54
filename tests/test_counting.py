"""Counting of files and texts: the same counts for every number of threads, range and block.

Oracle: the Python counter on whole documents, which is held against `regex` and collections.Counter in test_counts.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import fastbpe
from fastbpe.core import backend_modules
from fastbpe.core.count_python import Counter as PythonCounter
from fastbpe.formats import named_splits
from fastbpe.tokenizer import make_splitter

EOT = "<|endoftext|>"
SPECIALS = ((), (EOT,), ("<e>", "<e><e>", "ab", "\n\n", " <é>"))
# fmt: off
PIECES = [
    "the", " of", " and", "ing", "  ", "   ", "\n", "\n\n", "\r\n", " \t", "\u3000", "\u00a0", "1", "1234", "'s", "'",
    "!?", " .", "é", "漢字", "漢", "ქ", "שלום", "🙂", "a\u0301", "\0", "<e>", "<e><e>", EOT, "<|endof", " <é>", "ab",
    "x" * 70, " " * 50, "日本語" * 9,
]
# fmt: on
INVALID = [*map(bytes.fromhex, ("ff", "fffe", "80", "e4b8", "c3", "f09f99", "eda080", "c080", "f4908080"))]


def hostile(seed: int, size: int) -> bytes:
    """Text in many scripts with special tokens and long runs; odd seeds have bytes that are not UTF-8."""
    r = random.Random(seed)
    parts: list[bytes] = []
    total = 0
    while total < size:
        kind = r.random()
        if kind < 0.02 and seed % 2:
            part = r.choice(INVALID) * r.choice((1, 1, 2, 40))
        elif kind < 0.04:
            part = r.choice(PIECES).encode() * r.choice((1, 5, 300))
        else:
            part = "".join(r.choices(PIECES, k=12)).encode()
        parts.append(part)
        total += len(part)
    return b"".join(parts)


def expected(documents, pattern="gpt2", special=(), lines=False) -> dict[bytes, tuple[int, int]]:
    native = backend_modules("python")
    matcher = native.Matcher([(text.encode(), at) for at, text in enumerate(special)]) if special else None
    counter = PythonCounter(make_splitter(named_splits(pattern, gaps=True)), matcher, positions=True, lines=lines)
    for document in documents:
        counter.take(document, True)
    return as_dict(*counter.items())


def as_dict(pretokens, counts, firsts) -> dict[bytes, tuple[int, int]]:
    assert len(set(pretokens)) == len(pretokens) == len(counts) == len(firsts)
    return dict(zip(pretokens, zip(counts.tolist(), firsts.tolist())))


def write(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"{index}.txt" for index in range(len(contents))]
    for path, content in zip(paths, contents):
        path.write_bytes(content)
    return paths


@pytest.fixture
def small_ranges(monkeypatch):
    def to(size: int, block: int, window: int = 4096) -> None:
        monkeypatch.setattr("fastbpe.counting.RANGE", size)
        monkeypatch.setattr("fastbpe.counting.BLOCK", block)
        monkeypatch.setattr("fastbpe.counting.WINDOW", window)

    return to


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("special", SPECIALS)
def test_threads_and_ranges_do_not_matter(tmp_path, small_ranges, seed, special):
    documents = [hostile(seed, 60_000), b"", hostile(seed + 100, 5_000), b" " * 9000 + b"a" * 9000]
    paths = write(tmp_path, *documents)
    r = random.Random(seed)
    for pattern in ("gpt2", "cl100k", "o200k"):
        for unit in ("document", "line"):
            oracle = expected(documents, pattern, special, unit == "line")
            for _ in range(3):
                small_ranges(r.choice((97, 1000, 7919)), r.choice((61, 500, 1 << 18)), r.choice((100, 512, 4096)))
                options = {"pattern": pattern, "special_tokens": special, "unit": unit, "threads": r.choice((1, 2, 5))}
                counts = fastbpe.count_pretokens(paths, positions=True, **options)
                assert as_dict(*counts.arrays()) == oracle
                assert (counts.n_documents, counts.n_bytes) == (4, sum(map(len, documents)))


@pytest.mark.parametrize("pattern", ["llama3", "qwen2", "deepseek", r"\S+|\s+", r"[a-z]+(?=x)|."])
def test_every_pattern_is_counted_the_same(tmp_path, small_ranges, pattern):
    """Also those that have no place for a cut, and those that only `regex` can run."""
    documents = [hostile(seed, 20_000) for seed in range(3)]
    small_ranges(2000, 700)
    counts = fastbpe.count_pretokens(write(tmp_path, *documents), pattern=pattern, positions=True, threads=3)
    assert as_dict(*counts.arrays()) == expected(documents, pattern)
