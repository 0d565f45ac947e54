"""One training in a process of its own, for benchmarks.training: what each library imports, gives, and takes."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS = "fastbpe-cython"
GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
MB = 1_000_000
Row = dict[str, Any]


@dataclass(frozen=True)
class Trainer:
    """A library: what it imports, whose rules it has, how it trains, and how its result is compared."""

    module: str
    rule: str
    unit: str
    train: Callable[[str, int, int], Any]  # (path, vocabulary size, threads) -> what the library gives
    tokens: Callable[[Any], list[bytes]]  # that -> tokens in the order of their merges


def records(path: str, size: int = 1 << 20) -> Iterator[str]:
    """Cut a file before white space that follows something else: GPT-2's pattern parts the text there in any case."""
    held = b""
    with open(path, "rb") as file:
        while block := file.read(size):
            held += block
            places = [found.start() + 1 for found in re.finditer(rb"[!-~][ \n]", held[-4096:])]
            if places:
                cut = max(len(held) - 4096, 0) + places[-1]
                yield held[:cut].decode()
                held = held[cut:]
    if held:
        yield held.decode()


def byte_of_letter() -> dict[str, int]:
    """GPT-2's printable form of bytes, backwards."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(value): value for value in shown}
    table.update({chr(256 + at): value for at, value in enumerate(sorted(set(range(256)) - set(shown)))})
    return table


def joined(merges: Iterable[Any]) -> list[bytes]:
    """The tokens of pairs of byte strings."""
    return [left + right for left, right in merges]


def ranked(ids: dict[bytes, int] | list[tuple[bytes, int]]) -> list[bytes]:
    """The tokens that are not bytes of a vocabulary, in the order of their ids."""
    return [token for token, id in sorted(dict(ids).items(), key=lambda item: item[1]) if id > 255]


def spelled(merges: list[Any]) -> list[bytes]:
    """The tokens of merges in GPT-2's letters: pairs, or texts with a space between the two."""
    table = byte_of_letter()
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return [bytes(table[letter] for letter in left + right) for left, right in pairs]


def _ours(rule: str, unit: str) -> Callable[[str, int, int], Any]:
    def train(path: str, vocab_size: int, threads: int) -> Any:
        import fastbpe

        return fastbpe.train(path, vocab_size, tie_break=rule, threads=threads, unit=unit)

    return train


def _gigabpe(path: str, vocab_size: int, threads: int) -> Any:
    import gigabpe

    return gigabpe.train_bpe([path], vocab_size, special_tokens=[], pretokenizer="bytelevel", threads=threads)


def _gigatoken(path: str, vocab_size: int, threads: int) -> Any:
    import gigatoken

    return gigatoken.train_bpe(gigatoken.TextFileSource([path]), vocab_size, [])


def _tokenizers(path: str, vocab_size: int, threads: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    tok.train_from_iterator(records(path), trainer)
    return tok


def _rustbpe(path: str, vocab_size: int, threads: int) -> Any:
    import rustbpe

    tok = rustbpe.Tokenizer()
    tok.train_from_iterator(records(path), vocab_size, pattern=GPT2)
    return tok


def _bpeasy(path: str, vocab_size: int, threads: int) -> Any:
    import bpeasy

    return bpeasy.train_bpe(records(path), GPT2, 1 << 20, vocab_size)


def _ffbpe(path: str, vocab_size: int, threads: int) -> Any:
    import ffbpe

    return ffbpe.train_bpe(records(path), vocab_size=vocab_size)


TRAINERS = {
    "gigabpe": Trainer("gigabpe", "huggingface", "line", _gigabpe, lambda result: spelled(result[1])),
    "gigatoken": Trainer("gigatoken", "huggingface", "document", _gigatoken, lambda result: joined(_merges_of(result))),
    "tokenizers": Trainer(
        "tokenizers", "huggingface", "document", _tokenizers,
        lambda tok: spelled(json.loads(tok.to_str())["model"]["merges"]),
    ),
    "rustbpe": Trainer(
        "rustbpe", "smallest_id", "document", _rustbpe,
        lambda tok: ranked([(bytes(token), rank) for token, rank in tok.get_mergeable_ranks()]),
    ),
    "bpeasy": Trainer("bpeasy", "smallest_id", "document", _bpeasy, ranked),
    "ffbpe": Trainer("ffbpe", "smallest_id", "document", _ffbpe, lambda model: ranked(model.vocab)),
}  # fmt: skip


def _merges_of(result: Any) -> Any:
    return result[1] if isinstance(result, tuple) else result.merges


def ours(rule: str, unit: str) -> Trainer:
    return Trainer("fastbpe", rule, unit, _ours(rule, unit), lambda tok: joined(tok.merges or ()))


def resident(field: str) -> float:
    """MB now (VmRSS) or at most so far (VmHWM); ru_maxrss would remember the process that this one was forked from."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / MB


def run_here(trainer: Trainer, path: str, vocab_size: int, threads: int) -> Row:
    """Train, and say what it took until the library's result was there; the resident size is that of the process."""
    importlib.import_module(trainer.module)
    imported = resident("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    result = trainer.train(path, vocab_size, threads)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resident("VmHWM")
    tokens = trainer.tokens(result)[
        : vocab_size - 256
    ]  # gigabpe's vocabulary has room for more, without the bytes that do not occur
    digest = hashlib.sha256(b"".join(len(token).to_bytes(4, "little") + token for token in tokens)).hexdigest()
    return {"seconds": wall, "cpu": cpu, "megabytes": peak - imported, "merges": len(tokens), "sha256": digest}


def main() -> int:
    name, rule, unit, path, vocab_size, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    trainer = ours(rule, unit) if name == OURS else TRAINERS[name]
    print(json.dumps(run_here(trainer, path, int(vocab_size), int(threads))), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
