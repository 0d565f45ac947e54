"""Show that ids equal tiktoken's and tokenizers': `python -m tests.exact [DATA] [--only WHAT]`.

DATA is a folder with corpora (*.txt) and vocabularies (FAMILY/tokenizer.json).  Every line gives documents, bytes and
differing documents; exit status 1 if there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

import fastbpe
from fastbpe import core
from fastbpe.pattern.sequence import compile_sequence
from tests.corpora import corpus_files, documents, hostile_shapes, sample_corpora, shape_text
from tests.hard_text import hard_strings
from tests.reference import tiktoken_encoding

ENCODINGS = ("gpt2", "r50k_base", "p50k_base", "cl100k_base", "o200k_base")
FAMILIES = ("llama3", "llama3_2", "qwen3", "gpt_oss")
CONTEXTS = ("%sa", "a%s", " %s1", "'%s", "%s's", " %s", "%s%s", "1%s", "\n%s", "%s\n", ".%s", "%s ")
SIZE = 100_000
Encode = Callable[[str], "Any"]


class Report:
    """Counts and prints."""

    def __init__(self) -> None:
        self.failed = False
        self.total = [0, 0, 0]

    def line(self, who: str, what: str, counts: tuple[int, int, int], start: float) -> None:
        self.failed |= counts[2] > 0
        self.total = [a + b for a, b in zip(self.total, counts)]
        seconds = time.perf_counter() - start
        print(
            f"{who:12} {what:34} {counts[0]:>10,} documents {counts[1]:>13,} bytes {counts[2]:>6} differences"
            f"  {seconds:6.1f} s",
            flush=True,
        )

    def compare(self, who: str, what: str, ours: Encode, theirs: Encode, texts: Iterable[str]) -> None:
        count = size = different = 0
        start = time.perf_counter()
        for text in texts:
            count += 1
            size += len(text.encode("utf-8", "replace"))
            if not np.array_equal(ours(text), theirs(text)):
                different += 1
                if different <= 3:
                    print(f"  differs: {text[:200]!r}", file=sys.stderr)
        self.line(who, what, (count, size, different), start)


def tiktoken_pair(name: str) -> tuple[Encode, Encode]:
    ours, theirs = fastbpe.get_encoding(name), tiktoken_encoding(name)
    return (
        lambda text: ours.encode_to_numpy(text, disallowed_special=()),
        lambda text: theirs.encode_to_numpy(text, disallowed_special=()),
    )


def family_pair(folder: Path, family: str) -> tuple[Encode, Encode] | None:
    found = [p for p in (folder / family, folder / "vocabs" / family) if (p / "tokenizer.json").is_file()]
    if not found:
        return None
    path = found[0] / "tokenizer.json"
    ours, theirs = fastbpe.load(path), tokenizers.Tokenizer.from_file(str(path))
    # Text that spells a special token is that token there, whoever wrote it.
    return (
        lambda text: ours.encode_to_numpy(text, allowed_special="all"),
        lambda text: theirs.encode(text, add_special_tokens=False).ids,
    )


def scalars(context: str) -> Iterator[str]:
    for code in range(0x110000):
        if not 0xD800 <= code <= 0xDFFF:
            yield context.replace("%s", chr(code))


def head(texts: Iterable[str], limit: float) -> Iterator[str]:
    """The first texts, up to `limit` bytes and one more text."""
    size = 0
    for text in texts:
        yield text
        size += len(text.encode())
        if size >= limit:
            return


def all_corpora(options: argparse.Namespace) -> Iterator[tuple[str, Iterable[str]]]:
    yield from sample_corpora().items()
    for path in corpus_files(options.data) if options.data else []:
        yield path.stem, head(documents(path), options.megabytes * 1e6)


def check_texts(report: Report, who: str, pair: tuple[Encode, Encode], options: argparse.Namespace) -> None:
    for what, texts in all_corpora(options):
        report.compare(who, what, *pair, texts)


def check_shapes(report: Report, who: str, pair: tuple[Encode, Encode]) -> None:
    shapes = hostile_shapes()
    texts = (shape_text(make(SIZE)) for make in shapes.values())
    report.compare(who, f"{len(shapes)} shapes of {SIZE:,} bytes", *pair, texts)


def check_bytes(report: Report, name: str) -> None:
    """Bytes come back as they were, invalid UTF-8 included."""
    tok = fastbpe.get_encoding(name)
    start, counts = time.perf_counter(), [0, 0, 0]
    for make in hostile_shapes().values():
        value = make(SIZE)
        if isinstance(value, bytes):
            same = tok.decode_bytes(tok.encode_bytes(value)) == value
            counts = [counts[0] + 1, counts[1] + len(value), counts[2] + (not same)]
    report.line(name, "byte shapes, round trip", (counts[0], counts[1], counts[2]), start)


def check_scalars(report: Report, name: str) -> None:
    ours, theirs = tiktoken_pair(name)
    for context in CONTEXTS:
        report.compare(name, f"every scalar as {context!r}", ours, theirs, scalars(context))


def check_patterns(report: Report, count: int) -> None:
    """The automaton of each pattern against the regex module with our classes, on random strings."""
    for name, pattern in fastbpe.patterns.items():
        whole = tuple((step, True) for step in ((pattern,) if isinstance(pattern, str) else pattern))
        for steps in dict.fromkeys([whole, *((step,) for step in whole)]):
            ours = core.Splitter(compile_sequence(steps))
            theirs = core.RegexSplitter(steps)
            report.compare(
                "regex",
                f"{name} split {steps[0][0][:18]!r} of {len(steps)}",
                lambda text, split=ours.split: split(text.encode()),
                lambda text, split=theirs.split: split(text.encode()),
                hard_strings(count, seed=len(steps[0][0])),
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, help="folder of corpora and vocabularies")
    parser.add_argument("--only", choices=["tiktoken", "tokenizers", "scalars", "patterns"], help="one part alone")
    parser.add_argument("--name", action="append", help="this encoding or family alone; may be repeated")
    parser.add_argument("--megabytes", type=float, default=float("inf"), help="of each corpus; default: all of it")
    parser.add_argument("--strings", type=int, default=1_000_000, help="random strings for each pattern")
    options = parser.parse_args()
    if options.data is not None and not options.data.is_dir():
        parser.error(f"DATA must be a folder, got {options.data}")
    names = ("regex", "tiktoken", "tokenizers", "numpy")
    print(f"fastbpe {fastbpe.__version__} ({fastbpe.backend()}), " + ", ".join(f"{n} {version(n)}" for n in names))
    report = Report()
    encodings = [name for name in ENCODINGS if name in (options.name or ENCODINGS)]
    families = [name for name in FAMILIES if name in (options.name or FAMILIES)]
    if options.only in (None, "tiktoken"):
        for name in encodings:
            check_texts(report, name, tiktoken_pair(name), options)
            check_shapes(report, name, tiktoken_pair(name))
            check_bytes(report, name)
    if options.only in (None, "tokenizers"):
        for family in families:
            pair = family_pair(options.data, family) if options.data else None
            if pair is None:
                print(f"{family:12} left out: DATA has no {family}/tokenizer.json")
                continue
            check_texts(report, family, pair, options)
            check_shapes(report, family, pair)
    if options.only in (None, "scalars"):
        for name in encodings:
            check_scalars(report, name)
    if options.only in (None, "patterns"):
        check_patterns(report, options.strings)
    documents_, size, different = report.total
    print(f"all: {documents_:,} documents, {size:,} bytes, {different} differences")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
