"""Show that iter_encode gives encode's ids for any chunking, in flat memory: `python -m tests.stream_proof`.

Every line gives texts, chunkings, bytes and differences; exit status 1 if there is one.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

import fastbpe
from fastbpe.streaming import to_utf8
from tests.corpora import corpus_files, documents, hostile_shapes, sample_corpora
from tests.hard_text import hard_strings

CHUNKINGS = 4  # for each text
PIECE = 5_000  # characters of a document tried at once


def tokenizer_of(name: str) -> fastbpe.Tokenizer:
    """A bundled encoding, or the pattern of that name over bytes with added tokens and NFC."""
    if name in fastbpe.list_encoding_names():
        return fastbpe.get_encoding(name)
    pattern = fastbpe.patterns[name]
    steps = (pattern,) if isinstance(pattern, str) else pattern
    spec = fastbpe.TokenizerSpec(
        splits=tuple(fastbpe.Split(step) for step in steps),
        vocab={bytes([value]): value for value in range(256)} | {b"th": 256, b"the": 257, "é".encode(): 258},
        added_tokens=(fastbpe.AddedToken("<|endoftext|>", 300), fastbpe.AddedToken("<think>", 301, special=False)),
        normalizer="NFC",
    )
    return fastbpe.Tokenizer(spec)


def cut(text: str | bytes, rng: random.Random) -> Iterator[str | bytes]:
    """Cut at random: from single characters or bytes to large chunks, some empty."""
    most = rng.choice([1, 3, 30, 1000])
    position = 0
    while position < len(text):
        step = rng.randint(0, most)
        yield text[position : position + step]
        position += step


def with_specials(text: str, tok: fastbpe.Tokenizer, rng: random.Random) -> str:
    """Put special tokens, whole and in part, at random places."""
    names = [*list(tok.special_tokens)[:4], "<|endof", "text|>", "<think>"]
    for _ in range(rng.randint(0, 6)):
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(names) + text[at:]
    return text


def texts(data: Path | None) -> Iterator[tuple[str, list[str]]]:
    for name, found in sample_corpora().items():
        yield name, [document[:PIECE] for document in found[:6]]
    for path in corpus_files(data) if data else []:
        yield path.stem, [document[:PIECE] for document, _ in zip(documents(path), range(20))]
    yield (
        "hostile shapes",
        [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            for make in hostile_shapes().values()
            for value in [make(3_000)]
        ],
    )
    yield "hard strings", list(hard_strings(500, seed=97, longest=60))


def check(name: str, data: Path | None) -> int:
    tok, rng = tokenizer_of(name), random.Random(name)
    start, count, size, different = time.perf_counter(), 0, 0, 0
    for _, found in texts(data):
        for text in found:
            text = with_specials(text, tok, rng)
            expected = tok.encode(text, allowed_special="all")
            for _ in range(CHUNKINGS):
                chunks = cut(text, rng) if rng.random() < 0.5 else cut(to_utf8(text), rng)
                count += 1
                size += len(text)
                if list(tok.iter_encode(chunks, allowed_special="all")) != expected:
                    different += 1
                    print(f"  differs: {text[:200]!r}", file=sys.stderr)
    seconds = time.perf_counter() - start
    counts = f"{count:>8,} chunkings {size:>13,} characters {different:>4} differences"
    print(f"{name:12} {counts}  {seconds:6.1f} s", flush=True)
    return different


def flat_memory(megabytes: int) -> None:
    """Stream generated text; print the resident size as it goes."""
    tok = fastbpe.get_encoding("cl100k_base")
    rng = random.Random(5)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyzéж中", k=rng.randint(1, 12))) for _ in range(200_000)]
    process, sizes, ids, sent = psutil.Process(), [], 0, 0
    start = time.perf_counter()

    def chunks() -> Iterator[str]:
        nonlocal sent
        while sent < megabytes * 1_000_000:
            chunk = " ".join(rng.choices(words, k=20_000))
            sent += len(chunk.encode())
            yield chunk

    step = max(1, megabytes // 10) * 1_000_000
    for batch in tok.iter_encode_batches(chunks()):
        ids += len(batch)
        if sent >= step * (len(sizes) + 1):
            sizes.append(process.memory_info().rss / 1e6)
            print(f"  {sent / 1e6:8.0f} MB streamed, resident {sizes[-1]:7.1f} MB", flush=True)
    print(
        f"{sent:,} bytes, {ids:,} ids in {time.perf_counter() - start:.1f} s; resident size grew by "
        f"{sizes[-1] - sizes[0]:.1f} MB from the first tenth to the last"
    )


def steady_rate(count: int) -> None:
    """Feed one-character chunks: of words, and of one pretoken that grows to the end."""
    tok = fastbpe.get_encoding("cl100k_base")
    for what, text in [("words", ("some words here, " * count)[:count]), ("one pretoken", "a" * count)]:
        marks = [time.perf_counter()]

        def chunks(text: str = text, marks: list[float] = marks) -> Iterator[str]:
            for at, char in enumerate(text):
                if at and at % (count // 5) == 0:
                    marks.append(time.perf_counter())
                yield char

        ids = list(tok.iter_encode(chunks()))
        marks.append(time.perf_counter())
        rates = " ".join(f"{count / 5 / (b - a) / 1e3:.0f}" for a, b in zip(marks, marks[1:]))
        same = "equal to encode" if ids == tok.encode(text) else "DIFFERENT from encode"
        print(f"{count:,} chunks of one character, {what}: {rates} thousand a second in each fifth; {same}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of corpora (*.txt)")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the generated stream")
    parser.add_argument("--chunks", type=int, default=1_000_000, help="number of one-character chunks")
    options = parser.parse_args()
    print(f"fastbpe {fastbpe.__version__} ({fastbpe.backend()})")
    names = ["gpt2", "cl100k_base", "o200k_base", *fastbpe.patterns]
    different = sum(check(name, options.data) for name in names)
    steady_rate(options.chunks)
    flat_memory(options.megabytes)
    print(f"all: {different} differences")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
