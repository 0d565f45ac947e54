"""Speed next to other libraries, in one interleaved run: `python -m benchmarks.peers encode|train [--data DIR]`.

Ids and merges are compared in the same run.  Every figure is a ratio of medians of the rounds: machines are shared, so
absolute rates mean little.  *first* is a fresh tokenizer that has seen nothing; *again* repeats the same documents.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import fastbpe
from tests.corpora import corpus_files, documents, sample_corpora
from tests.reference import huggingface_trained, tiktoken_encoding


def encode_all(peer: Any, texts: list[str]) -> float:
    """Return the seconds that encode_to_numpy takes, one call a document."""
    start = time.perf_counter()
    for text in texts:
        peer.encode_to_numpy(text, disallowed_special=())
    return time.perf_counter() - start


def head() -> None:
    names = ("tiktoken", "tokenizers", "numpy")
    print(
        f"fastbpe {fastbpe.__version__} ({fastbpe.backend()}), "
        + ", ".join(f"{name} {version(name)}" for name in names)
        + f"; Python {platform.python_version()}, {os.cpu_count()} cores"
    )


def corpora(data: Path | None, limit: int) -> dict[str, list[str]]:
    """The samples and the novel, and the first `limit` bytes of each corpus of a folder."""
    found = sample_corpora()
    for path in corpus_files(data) if data else []:
        texts, size = [], 0
        for text in documents(path):
            texts.append(text)
            size += len(text.encode())
            if size >= limit:
                break
        found[path.stem] = texts
    return found


def encode(options: argparse.Namespace) -> bool:
    """Compare encode_to_numpy, one call a document, with tiktoken's."""
    slow = []
    for name in options.encoding:
        theirs = tiktoken_encoding(name)
        for corpus, texts in corpora(options.data, options.megabytes * 1_000_000).items():
            if options.only and corpus not in options.only:
                continue
            size = sum(len(text.encode()) for text in texts)
            times: dict[str, list[float]] = {"first": [], "again": [], "tiktoken": []}
            for _ in range(options.rounds):
                ours = fastbpe.Tokenizer(fastbpe.get_encoding(name).spec)

                for kind, peer in (("first", ours), ("tiktoken", theirs), ("again", ours)):
                    times[kind].append(encode_all(peer, texts))
            for text in texts:
                if not np.array_equal(ours.encode_to_numpy(text, disallowed_special=()), theirs.encode_ordinary(text)):
                    sys.exit(f"{name}, {corpus}: ids differ from tiktoken's")
            middle = {kind: statistics.median(values) for kind, values in times.items()}
            first, again = middle["tiktoken"] / middle["first"], middle["tiktoken"] / middle["again"]
            if first < options.least:
                slow.append(f"{name} {corpus} {first:.2f}")
            rates = " / ".join(f"{size / middle[kind] / 1e6:.1f}" for kind in ("first", "again", "tiktoken"))
            print(
                f"{name:12} {corpus:22} {size:>11,} bytes  {first:5.2f} first  {again:5.2f} again times tiktoken"
                f"  (MB/s {rates})",
                flush=True,
            )
    print(f"under {options.least} times tiktoken at first: {', '.join(slow) or 'none'}")
    return not slow


def train(options: argparse.Namespace) -> bool:
    """Compare training on each corpus with tokenizers' trainer, merge for merge."""
    for corpus, texts in corpora(options.data, options.megabytes * 1_000_000).items():
        if options.only and corpus not in options.only:
            continue
        size = sum(len(text.encode()) for text in texts)
        times: dict[str, list[float]] = {"ours": [], "tokenizers": []}
        for _ in range(options.rounds):
            start = time.perf_counter()
            ours = fastbpe.train_from_iterator(texts, options.vocab_size, tie_break="huggingface")
            middle = time.perf_counter()
            theirs = huggingface_trained(texts, options.vocab_size)
            times["ours"].append(middle - start)
            times["tokenizers"].append(time.perf_counter() - middle)
        merges = fastbpe.load(theirs.to_str().encode()).merges
        if merges != ours.merges:
            sys.exit(f"{corpus}: merges differ from tokenizers'")
        medians = {kind: statistics.median(values) for kind, values in times.items()}
        print(
            f"{corpus:22} {size:>11,} bytes, {len(ours.merges or ()):,} merges: "
            f"{medians['tokenizers'] / medians['ours']:5.2f} times tokenizers "
            f"({medians['ours']:.2f} s against {medians['tokenizers']:.2f} s)",
            flush=True,
        )
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["encode", "train"])
    parser.add_argument("--data", type=Path, help="folder of corpora (*.txt)")
    parser.add_argument("--only", action="append", help="this corpus alone; may be repeated")
    parser.add_argument("--encoding", action="append", help="default: gpt2, cl100k_base, o200k_base")
    parser.add_argument("--megabytes", type=int, default=8, help="of each corpus of the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least", type=float, default=2.0, help="ratio below which encode fails")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    options = parser.parse_args()
    options.encoding = options.encoding or ["gpt2", "cl100k_base", "o200k_base"]
    head()
    return 0 if (encode if options.what == "encode" else train)(options) else 1


if __name__ == "__main__":
    sys.exit(main())
