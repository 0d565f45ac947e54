"""`make demo`: train, encode, stream and decode a novel, check every step, and print what it took.

FASTBPE_DATA=FILE takes another text.  Ends with 1 at the first difference: between streaming and encoding at once,
between decoded and original bytes, or between fastbpe and the reference tokenizers where they are installed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

import fastbpe
from benchmarks.data import read_documents
from tests.reference import byte_letters, huggingface_trained, tiktoken_of

VOCAB_SIZE = 8192
EOT = "<|endoftext|>"
CHUNK = 1000

Result = TypeVar("Result")


class Row(NamedTuple):
    what: str
    size: int
    tokens: int | None
    seconds: float

    def __str__(self) -> str:
        tokens = f"{self.tokens:>9,} {self.size / self.tokens:>7.2f}" if self.tokens else f"{'':>9} {'':>7}"
        return f"{self.what:<36} {self.size:>11,} {tokens} {self.seconds:>9.3f} {self.size / self.seconds / 1e6:>8.1f}"


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def check(equal: bool, what: str) -> None:
    if not equal:
        sys.exit(f"DIFFERENT: {what}")


class Demo:
    def __init__(self, documents: list[str], folder: Path) -> None:
        self.documents = documents
        self.size = sum(len(document.encode()) for document in documents)
        self.folder = folder

    def show(self, what: str, tokens: int | None, seconds: float) -> None:
        print(Row(what, self.size, tokens, seconds), flush=True)

    def train(self) -> fastbpe.Tokenizer:
        """Train with tokenizers' tie-break, so that its vocabulary can be compared with ours."""
        trained, seconds = timed(
            lambda: fastbpe.train_from_iterator(
                self.documents, VOCAB_SIZE, special_tokens=[EOT], tie_break="huggingface"
            )
        )
        self.show(f"train {trained.n_vocab:,}", None, seconds)
        return trained

    def round_trip(self, tokenizer: fastbpe.Tokenizer, name: str) -> list[list[int]]:
        """Encode to a file, map it, stream, decode, and compare; return the ids of each document."""
        (ids, offsets), seconds = timed(lambda: tokenizer.encode_batch_to_numpy(self.documents))
        self.show(f"encode, {name}", len(ids), seconds)
        path = self.folder / f"{name}.bin"
        dtype = "<u2" if tokenizer.n_vocab <= 1 << 16 else "<u4"
        ids.astype(dtype).tofile(path)
        mapped = np.memmap(path, dtype, "r")

        streamed, seconds = timed(lambda: [list(tokenizer.iter_encode(chunks(text))) for text in self.documents])
        self.show(f"stream, {name}", sum(map(len, streamed)), seconds)
        decoded, seconds = timed(
            lambda: [tokenizer.decode_bytes(mapped[start:end]) for start, end in zip(offsets, offsets[1:])]
        )
        self.show(f"decode, {name}", len(mapped), seconds)
        for number, text in enumerate(self.documents):
            here = mapped[offsets[number] : offsets[number + 1]].tolist()
            check(streamed[number] == here, f"document {number}: streamed and encoded ids, {name}")
            check(decoded[number] == text.encode(), f"document {number}: decoded and original bytes, {name}")
        return [mapped[start:end].tolist() for start, end in zip(offsets, offsets[1:])]

    def tiktoken(self, tokenizer: fastbpe.Tokenizer, ours: list[list[int]]) -> None:
        peer = tiktoken_of(tokenizer)
        theirs, seconds = timed(lambda: peer.encode_ordinary_batch(self.documents))
        self.show("  tiktoken: encode, gpt2", sum(map(len, theirs)), seconds)
        check(theirs == ours, "ids of tiktoken and fastbpe, gpt2")

    def tokenizers(self, trained: fastbpe.Tokenizer, ours: list[list[int]]) -> None:
        """Compare the vocabularies, then the ids by the bytes of their tokens: the two number them differently."""
        size = VOCAB_SIZE - len(trained.special_tokens)
        peer, seconds = timed(lambda: huggingface_trained(self.documents, size))
        self.show(f"  tokenizers: train {size:,}", None, seconds)
        encoded, seconds = timed(lambda: peer.encode_batch_fast(self.documents, add_special_tokens=False))
        self.show("  tokenizers: encode, trained", sum(len(document.ids) for document in encoded), seconds)
        letters = byte_letters()
        tokens = {id: bytes(letters[letter] for letter in token) for token, id in peer.get_vocab().items()}
        check(set(tokens.values()) == set(trained.vocab), "vocabularies of tokenizers and fastbpe")
        theirs = [[trained.vocab[tokens[id]] for id in document.ids] for document in encoded]
        check(theirs == ours, "ids of tokenizers and fastbpe, trained")


def chunks(text: str) -> Iterator[str]:
    return (text[start : start + CHUNK] for start in range(0, len(text), CHUNK))


def main() -> None:
    documents = read_documents()
    print(f"fastbpe {fastbpe.__version__}, {fastbpe.backend()} backend; {len(documents):,} documents\n")
    print(f"{'':<36} {'bytes':>11} {'tokens':>9} {'bytes/t':>7} {'seconds':>9} {'MB/s':>8}")
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(documents, Path(folder))
        gpt2 = fastbpe.get_encoding("gpt2")
        trained = demo.train()
        with_trained = demo.round_trip(trained, "trained")
        with_gpt2 = demo.round_trip(gpt2, "gpt2")
        missing = [name for name in ("tiktoken", "tokenizers") if not find_spec(name)]
        if "tiktoken" not in missing:
            demo.tiktoken(gpt2, with_gpt2)
        if "tokenizers" not in missing:
            demo.tokenizers(trained, with_trained)
    print(f"\nall equal{f'; not installed: {chr(44).join(missing)}' if missing else ''}")


if __name__ == "__main__":
    main()
