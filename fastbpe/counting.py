"""Counting: sources -> documents -> pretokens -> PretokenCounts.

The counter stands in `core.count_*`.  Large files are cut where counting may begin afresh, and counted in parts by
several threads, which live for one call.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from fastbpe import core
from fastbpe.core import count_python
from fastbpe.counts import UNITS, PretokenCounts
from fastbpe.errors import TrainingError
from fastbpe.formats import named_splits
from fastbpe.ids import show
from fastbpe.spec import Split
from fastbpe.streaming import to_utf8
from fastbpe.tokenizer import make_splitter

__all__ = ["count_pretokens"]

StrPath: TypeAlias = "str | os.PathLike[str]"
Sources: TypeAlias = "StrPath | Sequence[StrPath]"
# Called a few times a second with ("count", bytes read, bytes in all or None) and ("merge", merges, merges wanted).
Progress: TypeAlias = Callable[[str, int, "int | None"], object]

BLOCK = 1 << 18  # bytes read at once
RANGE = 1 << 20  # bytes of a file that one thread counts before it asks for more
WINDOW = 1 << 12  # bytes in which a place for a cut is looked for
AROUND = 64  # bytes before them that are looked at; more than the counter wants
MAX_THREADS = 1024
PROGRESS_SECONDS = 0.25



def count_pretokens(
    sources: Sources,
    *,
    pattern: str = "gpt2",
    special_tokens: Sequence[str] = (),
    unit: str = "document",
    positions: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> PretokenCounts:
    """Count the pretokens of files, as `train` does before it merges.

    Each file is one document.  The counts do not depend on the number of threads.

    Args:
        sources: a path, or a sequence of paths.
        pattern: the split pattern, or its name in `fastbpe.patterns`.
        special_tokens: text that is not counted and that no pretoken crosses.
        unit: "document", or "line": every line with its line feed is a text of its own, as tokenizers'
            `Tokenizer.train(files)` sees it.
        positions: note where each pretoken is first, for the tie-break "first_seen"; 8 bytes a pretoken more.
        threads: 1 to 1024; None means one for each core.
        progress: called a few times a second with ("count", bytes, bytes in all).

    Raises:
        PatternError: the pattern cannot be used.
        OSError: a file cannot be read.
        TrainingError: a file changed its size while it was read; or a count is 2**63 or more.
    """
    function = "count_pretokens()"
    splits, special = checked_splits(function, pattern), checked_special_tokens(function, special_tokens)
    return count_files(
        function, sources, splits, special, progress, unit=unit, positions=positions, threads=threads
    )


def count_files(
    function: str,
    sources: Sources,
    splits: tuple[Split, ...],
    special_tokens: tuple[str, ...],
    progress: Progress | None,
    *,
    unit: str = "document",
    positions: bool = False,
    threads: int | None = None,
) -> PretokenCounts:
    paths = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    if not isinstance(paths, Sequence) or isinstance(paths, (bytes, bytearray, memoryview)):
        raise TypeError(f"{function}: sources must be a path or a sequence of paths, got {show(sources)}")
    for index, path in enumerate(paths):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"{function}: sources must hold paths, got {show(path)} at index {index}")
    counting = _Counting(function, splits, special_tokens, progress, unit, positions, threads)
    # All sizes first: a path that does not exist ends the training before hours of counting.
    counting.total = sum(os.stat(path).st_size for path in paths)
    counting.files(paths)
    return counting.counts()


def count_texts(
    texts: Iterable[str | bytes],
    splits: tuple[Split, ...],
    special_tokens: tuple[str, ...],
    progress: Progress | None,
    *,
    function: str = "train_from_iterator()",
    unit: str = "document",
    positions: bool = False,
) -> PretokenCounts:
    if isinstance(texts, (str, bytes, bytearray, memoryview)) or not isinstance(texts, Iterable):
        raise TypeError(f"{function}: texts must be an iterable of str or bytes, got {show(texts)}")
    counting = _Counting(function, splits, special_tokens, progress, unit, positions, 1)
    for index, text in enumerate(texts):
        if not isinstance(text, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"{function}: texts must hold str or bytes, got {show(text)} at index {index}")
        counting.document(to_utf8(str.__str__(text)) if isinstance(text, str) else bytes(text))
    return counting.counts()


class _File:
    """An open file, closed when the last part of it is counted."""

    def __init__(self, path: StrPath) -> None:
        self.path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by `done`)
        self.handle = self._file.fileno()
        status = os.fstat(self.handle)
        self.size = status.st_size
        self.regular = stat.S_ISREG(status.st_mode)
        self.parts = 1  # that wait, and one for who makes them

    def changed(self, size: int) -> TrainingError:
        return TrainingError(
            f"{os.fspath(self.path)}: had {self.size} bytes when it was opened and gave {size}: "
            f"train on a copy that nobody writes to"
        )

    def read(self, size: int, at: int) -> bytes:
        data = os.pread(self.handle, size, at)
        if not data and at < self.size:
            raise self.changed(at)
        return data

    def done(self) -> None:
        self.parts -= 1
        if not self.parts:
            self.close()

    def close(self) -> None:
        self._file.close()


class _Counting:
    """Documents into one table, by several threads."""

    def __init__(
        self,
        function: str,
        splits: tuple[Split, ...],
        special_tokens: tuple[str, ...],
        progress: Progress | None,
        unit: str,
        positions: bool,
        threads: int | None,
    ) -> None:
        if unit not in UNITS:
            raise ValueError(f"{function}: unit must be one of {', '.join(UNITS)}, got {show(unit)}")
        if threads is not None and (type(threads) is not int or not 1 <= threads <= MAX_THREADS):
            raise ValueError(f"{function}: threads must be 1 to {MAX_THREADS} or None, got {show(threads)}")
        self._splits, self._special_tokens, self._unit, self._positions = splits, special_tokens, unit, positions
        special = [(text.encode(), number) for number, text in enumerate(special_tokens)]
        self._longest = max((len(text) for text, _ in special), default=0)
        self._counter = counter_of(
            make_splitter(splits, True), special, positions=positions, lines=unit == "line"
        )
        self._threads = threads or os.cpu_count() or 1
        self._progress = progress
        self.total: int | None = None  # bytes, for the progress
        self._reported = time.monotonic()
        self._documents = 0
        self._bytes = 0  # of the documents begun so far
        self._read = [0] * self._threads  # bytes, by the number of the thread
        self._lock = threading.Lock()  # of the parts
        self._opened: list[_File] = []
        self._failure: BaseException | None = None

    def document(self, data: bytes, weight: int = 1) -> None:
        """Count one document."""
        self._counter.begin(self._bytes, weight)
        for at in range(0, len(data) or 1, BLOCK):
            block = data[at : at + BLOCK] if len(data) > BLOCK else data
            self._counter.take(block, at + BLOCK >= len(data))
            self._note(0, len(block))
        self._bytes += len(data)
        self._documents += 1

    def files(self, paths: Sequence[StrPath]) -> None:
        """Count files, each a document."""
        many = (self.total or 0) > 2 * RANGE and not isinstance(self._counter, count_python.Counter)
        threads = self._threads if many else 1
        parts = self._parts(paths, RANGE if threads > 1 and self._counter.cuts else 0)

        def work(number: int) -> None:
            counter = self._counter.sibling() if number else self._counter
            while self._failure is None:
                with self._lock:
                    part = next(parts, None)
                if part is None:
                    break
                file, begin, end, base = part
                self._count_part(counter, number, file, begin, end, base)
                with self._lock:
                    file.done()
            counter.flush()

        try:
            self._run(work, threads)
        finally:
            for file in self._opened:
                file.close()

    def _run(self, work: Callable[[int], None], threads: int) -> None:
        """Run `work` on the caller's thread, with the number 0, and on others; all have ended when it returns."""

        def guarded(number: int) -> None:
            try:
                work(number)
            except BaseException as error:
                self._failure = self._failure or error

        helpers: list[threading.Thread] = []
        try:
            for number in range(1, threads):
                helper = threading.Thread(target=guarded, args=(number,))
                helper.start()
                helpers.append(helper)
        except RuntimeError:  # no more threads, or the interpreter is about to end: fewer do the same
            pass
        try:
            work(0)
            for helper in helpers:
                helper.join()
        except BaseException as error:
            self._failure = error
        for helper in helpers:
            helper.join()
        if isinstance(self._failure, OverflowError):
            raise TrainingError(str(self._failure)) from None
        if self._failure is not None:
            raise self._failure

    def _parts(self, paths: Sequence[StrPath], size: int) -> Iterator[tuple[_File, int, int, int]]:
        """Yield (file, begin, end, place of the file in all text); with a size, parts of about so many bytes."""
        for path in paths:
            file = _File(path)
            self._opened = [*(other for other in self._opened if other.parts), file]
            begin = 0
            for place in range(size, file.size - size // 2, size) if size and file.regular else ():
                end = self._cut(file, place)
                if end > begin:
                    file.parts += 1
                    yield file, begin, end, self._bytes
                    begin = end
            if file.regular:
                file.parts += 1
                yield file, begin, file.size, self._bytes
                self._bytes += file.size
            else:
                self._count_pipe(file)
            self._documents += 1
            file.done()

    def _cut(self, file: _File, place: int) -> int:
        """Return where near a place counting may begin afresh, or -1."""
        before = min(place, self._longest + AROUND)
        window = file.read(before + WINDOW + self._longest, place - before)
        found = self._counter.cut(window, before, self._longest)
        return -1 if found < 0 else place - before + found

    def _count_part(self, counter: Any, number: int, file: _File, begin: int, end: int, base: int) -> None:
        """Count a file from one cut to another, or from its beginning or to its end."""
        whole = begin == 0 and end == file.size
        if whole:
            counter.begin(base)
        else:
            counter.begin(base + begin, limit=base + end)
        at = begin
        while self._failure is None:
            # Behind the end of a part is what decides its last pretokens; a little suffices.
            data = file.read(min(BLOCK, end - at) if at < end else WINDOW, at)
            at += len(data)
            if at > file.size or (at == file.size and end == file.size and file.read(1, at)):
                raise file.changed(max(at, os.fstat(file.handle).st_size))
            counter.take(data, at == file.size)
            self._note(number, len(data) if at <= end else 0)
            if at == file.size or (at >= end and counter.reached):
                break

    def _count_pipe(self, file: _File) -> None:
        """Count what has no size; while it is read nobody else gets anything to do."""
        counter = self._counter.sibling()  # ours may be in the middle of a file
        counter.begin(self._bytes)
        while data := os.read(file.handle, BLOCK):
            counter.take(data)
            self._bytes += len(data)
            self._note(0, len(data))
        counter.take(b"", True)
        counter.flush()

    def _note(self, number: int, count: int) -> None:
        """Note what a thread has read."""
        self._read[number] += count
        now = time.monotonic()
        if number == 0 and self._progress is not None and now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self._progress("count", sum(self._read), self.total)

    def counts(self) -> PretokenCounts:
        """Return what was counted."""
        if self._progress is not None:
            self._progress("count", self._bytes, self.total)
        pretokens, counts, firsts = self._counter.items()
        return PretokenCounts(
            pretokens,
            counts,
            firsts,
            splits=self._splits,
            special_tokens=self._special_tokens,
            unit=self._unit,
            n_documents=self._documents,
            n_bytes=self._bytes,
        )


def counter_of(splitter: Any, special: Sequence[tuple[bytes, int]], *, positions: bool, lines: bool) -> Any:
    """Return a counter; for a pattern that the `regex` module runs it is the Python one."""
    matcher = core.Matcher(special) if special else None
    make = count_python.Counter if isinstance(splitter, core.RegexSplitter) else core.Counter
    return make(splitter, matcher, positions=positions, lines=lines)


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
