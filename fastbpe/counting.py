"""Counting: sources -> documents -> pretokens -> PretokenCounts.

The counter stands in `core.count_*`, the threads in `crew`.  Large files are cut where counting may begin afresh, and
counted in parts.
"""

from __future__ import annotations

import errno
import itertools
import operator
import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, overload

from fastbpe import core
from fastbpe.core import count_python
from fastbpe.counts import PretokenCounts, StrPath
from fastbpe.counts_file import UNITS, CountsWriter, Entries, Header, checked_special_tokens, checked_splits
from fastbpe.crew import Crew, Job
from fastbpe.files import whole_file
from fastbpe.ids import show
from fastbpe.sources import PlainFile, checked_size, is_compressed_text, is_plain, read_blocks, read_documents
from fastbpe.spec import Split
from fastbpe.spill import LEAST_MEMORY, THREAD_SHARE, Spill
from fastbpe.streaming import to_utf8
from fastbpe.tokenizer import check_threads, make_splitter

__all__ = ["count_pretokens", "count_pretokens_from_iterator"]

Sources: TypeAlias = "StrPath | Sequence[StrPath]"
# Called a few times a second with ("count", bytes read, bytes in all or None) and ("merge", merges, merges wanted).
Progress: TypeAlias = Callable[[str, int, "int | None"], object]

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CountingOptions(TypedDict, total=False):
    """The options of all that counts."""

    unit: str
    positions: bool
    threads: int | None
    max_memory: int | None
    temp_dir: StrPath | None


class Options(CountingOptions, total=False):
    """The options that `count_pretokens` has in common with `count_pretokens_from_iterator`."""

    pattern: str
    special_tokens: Sequence[str]
    min_count: int
    progress: Progress | None


BLOCK = 1 << 18  # bytes read at once
RANGE = 1 << 20  # bytes of a file that one thread counts before it asks for more
WINDOW = 1 << 12  # bytes in which a place for a cut is looked for
AROUND = 64  # bytes before them that are looked at; more than the counter wants
TEXT = 64  # bytes that a text of a batch counts for beside its own
PROGRESS_SECONDS = 0.25


@overload
def count_pretokens(
    sources: Sources, *, text_field: str = ..., output: None = None, **options: Unpack[Options]
) -> PretokenCounts: ...
@overload
def count_pretokens(
    sources: Sources, *, text_field: str = ..., output: StrPath, **options: Unpack[Options]
) -> None: ...
def count_pretokens(
    sources: Sources,
    *,
    pattern: str = "gpt2",
    special_tokens: Sequence[str] = (),
    unit: str = "document",
    positions: bool = False,
    min_count: int = 1,
    text_field: str = "text",
    threads: int | None = None,
    max_memory: int | None = None,
    temp_dir: StrPath | None = None,
    output: StrPath | None = None,
    progress: Progress | None = None,
) -> PretokenCounts | None:
    """Count the pretokens of files, as `train` does before it merges.

    A file is one document; one that ends with .jsonl or .parquet holds one in each line or row, and .gz and .zst are
    decompressed on the way; one that looks so and has no such ending is refused.  The counts do not depend on the
    number of threads, nor on the memory.

    Large files are counted by all threads, but a .gz or .zst that is one document by one thread alone, while the others
    wait: many of them are better counted apart and merged.

    Args:
        sources: a path, or a sequence of paths.
        pattern: the split pattern, or its name in `fastbpe.patterns`.
        special_tokens: text that is not counted and that no pretoken crosses.
        unit: "document", or "line": every line with its line feed is a text of its own, as tokenizers'
            `Tokenizer.train(files)` sees it.
        positions: note where each pretoken is first, for the tie-break "first_seen"; 8 bytes a pretoken more.
        min_count: pretokens that occur less often are left out at the end.  What is learned then is an approximation:
            rare pretokens together may decide a merge.
        text_field: the key or column of the text in .jsonl and .parquet.
        threads: 1 to 1024; None means one for each core.
        max_memory: bytes, 16 MiB or more, of which each thread takes 8: fewer count where there is less.  It is for the
            pretokens that are held, sorted and merged, and what the threads read; what does not fit goes to temporary
            files.  Beside it are the interpreter, single documents and pretokens that are huge, and the result,
            unless it goes to `output`.
        temp_dir: the folder of temporary files; None: that of the system.
        output: a file for the counts, as `PretokenCounts.save` writes; complete under its name, or not at all.
        progress: called a few times a second with ("count", bytes, bytes in all).

    Returns:
        The counts, or None with an `output`.

    Raises:
        PatternError: the pattern cannot be used.
        OSError: a file cannot be read or written.
        ImportError: a package is missing that reads such files; it names the extra.
        TrainingError: a file changed its size while it was read or is damaged, or a count is 2**63 or more.
    """
    function = "count_pretokens()"
    splits, special = checked_splits(function, pattern), checked_special_tokens(function, special_tokens)
    paths = checked_paths(function, sources)
    _check_output(function, output)
    with Counting(
        function, splits, special, progress, unit=unit, positions=positions, threads=threads,
        max_memory=max_memory, temp_dir=temp_dir, min_count=min_count,
    ) as counting:  # fmt: skip
        counting.files(paths, text_field)
        return counting.result(output)


@overload
def count_pretokens_from_iterator(
    texts: Iterable[str | bytes],
    *,
    weights: Iterable[int] | None = None,
    output: None = None,
    **options: Unpack[Options],
) -> PretokenCounts: ...
@overload
def count_pretokens_from_iterator(
    texts: Iterable[str | bytes], *, weights: Iterable[int] | None = None, output: StrPath, **options: Unpack[Options]
) -> None: ...
def count_pretokens_from_iterator(
    texts: Iterable[str | bytes],
    *,
    pattern: str = "gpt2",
    special_tokens: Sequence[str] = (),
    weights: Iterable[int] | None = None,
    unit: str = "document",
    positions: bool = False,
    min_count: int = 1,
    threads: int | None = None,
    max_memory: int | None = None,
    temp_dir: StrPath | None = None,
    output: StrPath | None = None,
    progress: Progress | None = None,
) -> PretokenCounts | None:
    """Count the pretokens of documents, each a str or bytes; the rest is as `count_pretokens`.

    The iterable is asked by the calling thread alone, and each document is counted by one thread: a huge one should
    be a file.

    Args:
        weights: how often each document is counted, 0 or more; as many as there are texts.

    Raises:
        TypeError: an item is neither, or a weight is not an int; it names the index.  What the iterables raise passes
            through.
        ValueError: a weight is negative, or there are more or fewer weights than texts.
    """
    function = "count_pretokens_from_iterator()"
    splits, special = checked_splits(function, pattern), checked_special_tokens(function, special_tokens)
    _check_iterables(function, texts, weights)
    _check_output(function, output)
    with Counting(
        function, splits, special, progress, unit=unit, positions=positions, threads=threads,
        max_memory=max_memory, temp_dir=temp_dir, min_count=min_count,
    ) as counting:  # fmt: skip
        counting.texts(texts, weights)
        return counting.result(output)


def count_files(
    function: str,
    sources: Sources,
    splits: tuple[Split, ...],
    special_tokens: tuple[str, ...],
    progress: Progress | None,
    text_field: str,
    **options: Unpack[CountingOptions],
) -> PretokenCounts:
    """Count files for training; the options are those of `count_pretokens`."""
    paths = checked_paths(function, sources)
    with Counting(function, splits, special_tokens, progress, **options) as counting:
        counting.files(paths, text_field)
        return counting.counts()


def count_texts(
    texts: Iterable[str | bytes],
    splits: tuple[Split, ...],
    special_tokens: tuple[str, ...],
    progress: Progress | None,
    *,
    function: str = "train_from_iterator()",
    weights: Iterable[int] | None = None,
    **options: Unpack[CountingOptions],
) -> PretokenCounts:
    """Count texts for training; the options are those of `count_pretokens_from_iterator`."""
    _check_iterables(function, texts, weights)
    with Counting(function, splits, special_tokens, progress, **options) as counting:
        counting.texts(texts, weights)
        return counting.counts()


def checked_paths(function: str, sources: Sources) -> Sequence[StrPath]:
    paths = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    if not isinstance(paths, Sequence) or isinstance(paths, (bytes, bytearray, memoryview)):
        raise TypeError(f"{function}: sources must be a path or a sequence of paths, got {show(sources)}")
    for index, path in enumerate(paths):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"{function}: sources must hold paths, got {show(path)} at index {index}")
    return paths


def _checked_memory(function: str, memory: Any) -> int | None:
    if memory is None:
        return None
    if isinstance(memory, bool) or not hasattr(memory, "__index__"):
        raise TypeError(f"{function}: max_memory must be an int or None, got {show(memory)}")
    if operator.index(memory) < LEAST_MEMORY:
        raise ValueError(f"{function}: max_memory must be at least {LEAST_MEMORY} bytes or None, got {show(memory)}")
    return operator.index(memory)


def _check_folder(function: str, folder: Any) -> None:
    if folder is None:
        return
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"{function}: temp_dir must be a path or None, got {show(folder)}")
    if not stat.S_ISDIR(os.stat(folder).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(folder))


def _check_output(function: str, output: Any) -> None:
    """Raise before anything is read where the result could not be written."""
    if output is None:
        return
    if not isinstance(output, (str, os.PathLike)):
        raise TypeError(f"{function}: output must be a path or None, got {show(output)}")
    if os.path.isdir(output):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(output))
    if not os.path.isdir(os.path.dirname(output) or "."):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(output))


def _check_iterables(function: str, texts: object, weights: object) -> None:
    if isinstance(texts, (str, bytes, bytearray, memoryview)) or not isinstance(texts, Iterable):
        raise TypeError(f"{function}: texts must be an iterable of str or bytes, got {show(texts)}")
    if weights is not None and not isinstance(weights, Iterable):
        raise TypeError(f"{function}: weights must be an iterable of int, got {show(weights)}")


class Counting:
    """Documents into one table, by several threads."""

    def __init__(
        self,
        function: str,
        splits: tuple[Split, ...],
        special_tokens: tuple[str, ...],
        progress: Progress | None = None,
        *,
        unit: str = "document",
        positions: bool = False,
        threads: int | None = None,
        max_memory: int | None = None,
        temp_dir: StrPath | None = None,
        min_count: int = 1,
    ) -> None:
        if unit not in UNITS:
            raise ValueError(f"{function}: unit must be one of {', '.join(UNITS)}, got {show(unit)}")
        check_threads(function, threads)
        max_memory = _checked_memory(function, max_memory)
        _check_folder(function, temp_dir)
        if progress is not None and not callable(progress):
            raise TypeError(f"{function}: progress must be callable or None, got {show(progress)}")
        if type(min_count) is not int or min_count < 1:
            raise ValueError(f"{function}: min_count must be an int of at least 1, got {show(min_count)}")
        self._function, self._min_count = function, min_count
        self._header = Header(splits, special_tokens, unit, bool(positions))
        special = [(text.encode(), number) for number, text in enumerate(special_tokens)]
        self._longest = max((len(text) for text, _ in special), default=0)
        self._counter = counter_of(
            make_splitter(splits, True), special, positions=bool(positions), lines=unit == "line"
        )
        self.cuts: bool = self._counter.cuts  # whether a plain file can be counted in parts
        python = isinstance(self._counter, count_python.Counter)
        self._threads = 1 if python else threads or os.cpu_count() or 1
        self._crew = Crew()
        if max_memory is None:
            self._spill = None
        else:
            self._threads = min(self._threads, max_memory // THREAD_SHARE)
            self._spill = Spill(max_memory, temp_dir, self._threads, self._header, self._crew.check)
        self._progress = progress
        self._total: int | None = None  # bytes, for the progress
        self._reported = time.monotonic()
        self._documents = 0
        self._bytes = 0  # of the documents begun so far
        self._read = [0] * self._threads  # bytes, by the number of the thread
        self._lock = threading.Lock()  # of the parts of files that wait
        self._opened: list[PlainFile] = []

    @property
    def n_bytes(self) -> int:
        """Bytes of the documents so far."""
        return self._bytes

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._opened:
            file.close()
        if self._spill is not None:
            self._spill.close()

    def files(self, paths: Sequence[StrPath], text_field: str) -> None:
        """Count files."""
        if not isinstance(text_field, str):
            raise TypeError(f"{self._function}: text_field must be a str, got {show(text_field)}")
        # All of them first: one that does not exist or is no text ends the training before hours of counting.
        self._total = total = sum(map(checked_size, paths))
        if not all(map(is_plain, paths)):
            self._total = None
        threads = self._threads if self._total is None else min(self._threads, total // RANGE + 1)
        size = RANGE if threads > 1 and self._counter.cuts else 0
        with closing(self._file_jobs(paths, size, text_field)) as jobs:  # and with it the file that it stands in
            self._count(jobs, threads)

    def part(self, path: StrPath, number: int, size: int, whole: int) -> None:
        """Count one of the parts of a plain file, of which `part_places` says where about they begin.

        All parts together are the file, whoever counts them: they are cut where counting may begin afresh, which
        depends on its bytes alone.  Where no such cut is, a part is empty and the one before goes on.

        Args:
            path: the file.
            number: of the part, from 0.
            size: of a part, about; bytes.
            whole: the size that the file had when the parts were planned.
        """
        file = PlainFile(path)
        self._opened = [file]
        file.check(whole)
        places = part_places(whole, size)
        begin = self._cut(file, places[number]) if number else 0
        if begin < 0:
            return
        cuts = (self._cut(file, places[at]) for at in range(number + 1, len(places)))
        end = next((cut for cut in cuts if cut >= 0), whole)
        self._documents, self._bytes = int(number == 0), end - begin
        self._count_part(file, begin, end, -begin, self._counter, 0)

    def texts(self, texts: Iterable[str | bytes], weights: Iterable[int] | None) -> None:
        """Count texts."""
        jobs = self._jobs(self._checked(texts, weights))
        begun = [*itertools.islice(jobs, 2)]
        self._count(itertools.chain(begun, jobs), self._threads if len(begun) == 2 else 1)

    def _count(self, jobs: Iterator[Job], threads: int) -> None:
        def work(jobs: Iterator[Job], number: int) -> None:
            counter = self._counter.sibling() if number else self._counter
            for job in jobs:
                job(counter, number)
            counter.flush()

        self._crew.run(jobs, work, threads)

    def _checked(
        self, texts: Iterable[str | bytes], weights: Iterable[int] | None
    ) -> Iterator[tuple[str | bytes, int]]:
        """Yield the texts with their weights."""
        rest: Iterator[Any] = itertools.repeat(1) if weights is None else iter(weights)
        end = object()
        index = -1
        for index, text in enumerate(texts):
            if not isinstance(text, (str, bytes, bytearray, memoryview)):
                raise TypeError(f"{self._function}: texts must hold str or bytes, got {show(text)} at index {index}")
            given = next(rest, end)
            if given is end:
                raise ValueError(f"{self._function}: weights must be as many as texts, got {index}")
            if isinstance(given, bool) or not hasattr(given, "__index__"):
                raise TypeError(f"{self._function}: weights must hold int, got {show(given)} at index {index}")
            weight = operator.index(given)
            if not 0 <= weight < 2**63:
                raise ValueError(f"{self._function}: weights must be 0 to 2**63 - 1, got {weight} at index {index}")
            yield text, weight
        if weights is not None and next(rest, end) is not end:
            raise ValueError(f"{self._function}: weights must be as many as texts, got more than {index + 1}")

    def _jobs(self, texts: Iterable[tuple[str | bytes, int]]) -> Iterator[Job]:
        """Yield jobs of about a range each."""
        batch: list[tuple[bytes, int, int]] = []
        size = 0
        for text, weight in texts:
            data = to_utf8(str.__str__(text)) if isinstance(text, str) else bytes(text)
            if weight:
                batch.append((data, weight, self._bytes))
            self._bytes += len(data)
            self._documents += 1
            size += len(data) + TEXT
            if size >= RANGE:
                self._report()
                yield partial(self._count_texts, batch)
                batch, size = [], 0
        if batch:
            yield partial(self._count_texts, batch)

    def _count_texts(self, batch: list[tuple[bytes, int, int]], counter: Any, number: int) -> None:
        for data, weight, place in batch:
            counter.begin(place, weight)
            for at in range(0, len(data) or 1, BLOCK):
                block = data[at : at + BLOCK] if len(data) > BLOCK else data
                counter.take(block, at + BLOCK >= len(data))
                self._note(counter, number, len(block))

    def _file_jobs(self, paths: Sequence[StrPath], size: int, text_field: str) -> Generator[Job, None, None]:
        """Yield jobs; with a size, plain files in parts of about so many bytes."""
        for path in paths:
            if is_plain(path):
                yield from self._parts(path, size)
            elif is_compressed_text(path):
                self._count_stream(read_blocks(path, BLOCK))
                self._documents += 1
            else:
                yield from self._jobs((text, 1) for text in read_documents(path, text_field))

    def _parts(self, path: StrPath, size: int) -> Iterator[Job]:
        """Yield jobs for a plain file."""
        file = PlainFile(path)
        self._opened = [*(other for other in self._opened if other.parts), file]
        begin = 0
        for place in part_places(file.size, size)[1:] if size and file.regular else ():
            end = self._cut(file, place)
            if end > begin:
                with self._lock:
                    file.parts += 1
                self._report()
                yield partial(self._count_part, file, begin, end, self._bytes)
                begin = end
        if file.regular:
            with self._lock:
                file.parts += 1
            yield partial(self._count_part, file, begin, file.size, self._bytes)
            self._bytes += file.size
        else:
            self._count_stream(iter(partial(os.read, file.handle, BLOCK), b""))
        self._documents += 1
        with self._lock:
            file.done()

    def _cut(self, file: PlainFile, place: int) -> int:
        """Return where near a place counting may begin afresh, or -1."""
        before = min(place, self._longest + AROUND)
        window = file.read(before + WINDOW + self._longest, place - before)
        found = self._counter.cut(window, before, self._longest)
        return -1 if found < 0 else place - before + found

    def _count_part(self, file: PlainFile, begin: int, end: int, base: int, counter: Any, number: int) -> None:
        """Count a file from one cut to another, or from its beginning or to its end."""
        if begin == 0 and end == file.size:
            counter.begin(base)
        else:
            counter.begin(base + begin, limit=base + end)
        at = begin
        while True:
            # Behind the end of a part is what decides its last pretokens; a little suffices.
            data = file.read(min(BLOCK, end - at) if at < end else WINDOW, at)
            at += len(data)
            if at > file.size or (at == file.size and end == file.size and file.read(1, at)):
                raise file.changed(max(at, os.fstat(file.handle).st_size))
            counter.take(data, at == file.size)
            self._note(counter, number, len(data) if at <= end else 0)
            if at == file.size or (at >= end and counter.reached):
                break
        with self._lock:
            file.done()

    def _count_stream(self, blocks: Iterator[bytes]) -> None:
        """Count a document whose size nobody knows, on the caller's thread; the others get no jobs meanwhile."""
        counter = self._counter
        counter.begin(self._bytes)
        for block in blocks:
            counter.take(block)
            self._bytes += len(block)
            self._note(counter, 0, len(block))
        counter.take(b"", True)

    def _note(self, counter: Any, number: int, count: int) -> None:
        """Note what a thread has read; see to the memory."""
        self._crew.check()
        self._read[number] += count
        if self._spill is not None:
            self._spill.look(counter)
        if number == 0:
            self._report()

    def _report(self) -> None:
        """Call the progress if it is time; for the caller's thread alone."""
        now = time.monotonic()
        if self._progress is not None and now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self._progress("count", sum(self._read), self._total)

    def _ended(self) -> Header:
        """Return how was counted, and what."""
        if self._progress is not None:
            self._progress("count", self._bytes, self._total)
        return replace(self._header, documents=self._documents, size=self._bytes)

    def counts(self) -> PretokenCounts:
        """Return what was counted."""
        header = self._ended()
        entries = Entries(*self._counter.items()) if self._spill is None else self._spill.entries(self._counter)
        return PretokenCounts.of(header, entries.at_least(self._min_count))

    def result(self, output: StrPath | None) -> PretokenCounts | None:
        """Return what was counted, or write it."""
        if output is None:
            return self.counts()
        if self._spill is None:
            self.counts().save(output)
            return None
        header = self._ended()
        with whole_file(output) as file:
            writer = CountsWriter(file, header)
            for entries in self._spill.merged(self._counter):
                writer.add(entries.at_least(self._min_count))
            writer.finish(header.documents, header.size)
        return None


def part_places(whole: int, size: int) -> range:
    """Return where about the parts of a file of `whole` bytes begin; none is shorter than half of `size`."""
    return range(0, max(whole - size // 2, 1), size)


def counter_of(splitter: Any, special: Sequence[tuple[bytes, int]], *, positions: bool, lines: bool) -> Any:
    """Return a counter; for a pattern that the `regex` module runs it is the Python one."""
    matcher = core.Matcher(special) if special else None
    make = count_python.Counter if isinstance(splitter, core.RegexSplitter) else core.Counter
    return make(splitter, matcher, positions=positions, lines=lines)
