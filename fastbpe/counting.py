"""Counting: sources -> segments -> pretokens -> PretokenCounts.

The cutting of text stands in `streaming`, the counter in `core.count_*`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, TypeAlias

from fastbpe import core
from fastbpe.counts import PretokenCounts
from fastbpe.errors import TrainingError
from fastbpe.formats import named_splits
from fastbpe.ids import show
from fastbpe.spec import Split
from fastbpe.streaming import feed
from fastbpe.tokenizer import make_splitter

__all__ = ["count_pretokens"]

StrPath: TypeAlias = "str | os.PathLike[str]"
Sources: TypeAlias = "StrPath | Sequence[StrPath]"
# Called a few times a second with ("count", bytes read, bytes in all or None) and ("merge", merges, merges wanted).
Progress: TypeAlias = Callable[[str, int, "int | None"], object]

BLOCK = 1 << 20
PROGRESS_SECONDS = 0.25


def count_pretokens(
    sources: Sources,
    *,
    pattern: str = "gpt2",
    special_tokens: Sequence[str] = (),
    progress: Progress | None = None,
) -> PretokenCounts:
    """Count the pretokens of files, as `train` does before it merges."""
    function = "count_pretokens()"
    splits, special = checked_splits(function, pattern), checked_special_tokens(function, special_tokens)
    return count_files(function, sources, splits, special, progress)


def count_files(
    function: str,
    sources: Sources,
    splits: tuple[Split, ...],
    special_tokens: tuple[str, ...],
    progress: Progress | None,
) -> PretokenCounts:
    paths = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    if not isinstance(paths, Sequence) or isinstance(paths, (bytes, bytearray, memoryview)):
        raise TypeError(f"{function}: sources must be a path or a sequence of paths, got {show(sources)}")
    for index, path in enumerate(paths):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"{function}: sources must hold paths, got {show(path)} at index {index}")
    # All sizes first: a path that does not exist ends the training before hours of counting.
    total = sum(os.stat(path).st_size for path in paths)
    counting = _Counting(splits, special_tokens, progress, total)
    for path in paths:
        with open(path, "rb") as file:
            counting.document(_blocks(path, file))
    return counting.counts()


def count_texts(
    texts: Iterable[str | bytes],
    splits: tuple[Split, ...],
    special_tokens: tuple[str, ...],
    progress: Progress | None,
) -> PretokenCounts:
    function = "train_from_iterator()"
    if isinstance(texts, (str, bytes, bytearray, memoryview)) or not isinstance(texts, Iterable):
        raise TypeError(f"{function}: texts must be an iterable of str or bytes, got {show(texts)}")
    counting = _Counting(splits, special_tokens, progress, None)
    for index, text in enumerate(texts):
        if not isinstance(text, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"{function}: texts must hold str or bytes, got {show(text)} at index {index}")
        counting.document((text if isinstance(text, str) else bytes(text),))
    return counting.counts()


class _Counting:
    """Documents into one counter."""

    def __init__(
        self,
        splits: tuple[Split, ...],
        special_tokens: tuple[str, ...],
        progress: Progress | None,
        total: int | None,
    ) -> None:
        self._splits, self._special_tokens = splits, special_tokens
        self._counter = core.Counter(make_splitter(splits, True))
        special = [(text.encode(), number) for number, text in enumerate(special_tokens)]
        self._matcher = core.Matcher(special) if special else None
        self._progress, self._total = progress, total
        self._reported = time.monotonic()
        self._documents = self._bytes = 0

    def document(self, chunks: Iterable[str | bytes]) -> None:
        """Count one document; its end is the end of a text to the pattern."""
        for _ in feed(self._measured(chunks), self._counter, matcher=self._matcher):
            pass
        self._documents += 1

    def _measured(self, chunks: Iterable[str | bytes]) -> Iterator[str | bytes]:
        """Pass the chunks on, noting their bytes."""
        for chunk in chunks:
            self._bytes += len(chunk) if isinstance(chunk, bytes) or chunk.isascii() else _utf8_length(chunk)
            yield chunk
            now = time.monotonic()
            if self._progress is not None and now - self._reported >= PROGRESS_SECONDS:
                self._reported = now
                self._progress("count", self._bytes, self._total)

    def counts(self) -> PretokenCounts:
        """Return what was counted."""
        if self._progress is not None:
            self._progress("count", self._bytes, self._total)
        pretokens, counts = self._counter.items()
        return PretokenCounts(
            pretokens,
            counts,
            splits=self._splits,
            special_tokens=self._special_tokens,
            n_documents=self._documents,
            n_bytes=self._bytes,
        )


def _blocks(path: StrPath, file: BinaryIO) -> Iterator[bytes]:
    """Yield the file a block at a time; a regular file that does not keep its size is an error."""
    status = os.fstat(file.fileno())
    size = 0
    while block := file.read(BLOCK):
        size += len(block)
        yield block
    if stat.S_ISREG(status.st_mode) and size != status.st_size:
        raise TrainingError(
            f"{os.fspath(path)}: had {status.st_size} bytes when it was opened and gave {size}: "
            f"train on a copy that nobody writes to"
        )


def _utf8_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def checked_splits(function: str, pattern: str) -> tuple[Split, ...]:
    if not isinstance(pattern, str):
        raise TypeError(f"{function}: pattern must be a str, got {show(pattern)}")
    return named_splits(pattern, gaps=True)


def checked_special_tokens(function: str, tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the special tokens; their order is that of their ids, so a set will not do."""
    if isinstance(tokens, (str, bytes)) or not isinstance(tokens, Sequence):
        raise TypeError(f"{function}: special_tokens must be a sequence of str, got {show(tokens)}")
    for index, token in enumerate(tokens):
        if not isinstance(token, str):
            raise TypeError(f"{function}: special_tokens must hold str, got {show(token)} at index {index}")
        if not token:
            raise ValueError(f"{function}: special_tokens must not hold the empty text, which is at index {index}")
        if any("\ud800" <= char <= "\udfff" for char in token):
            raise ValueError(f"{function}: special_tokens must be valid text, got a lone surrogate at index {index}")
        if token in tokens[:index]:
            raise ValueError(f"{function}: special_tokens must differ, got {show(token)} again at index {index}")
    return tuple(tokens)
