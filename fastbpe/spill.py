"""Counting in little memory: sorted runs in temporary files, merged at the end."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any, NamedTuple

import numpy as np

from fastbpe.counts_file import CountsReader, CountsWriter, Entries, Header, check_total, merged

__all__ = ["LEAST_MEMORY", "THREAD_SHARE", "Spill"]

LEAST_MEMORY = 16 << 20
THREAD = 2 << 20  # bytes of a thread beside the table: its front, its batches and what it reads
THREAD_SHARE = 4 * THREAD  # of the memory: fewer threads count where there is less
LEAST_TABLE = 1 << 20
ENTRY = 24  # bytes of an entry beside its pretoken
PART = 128 << 10  # bytes of a block of a run when it is read; a merge holds some five of each run
RUN = 2 << 20  # of the memory for each run that is merged; beside them stand the threads and the table
MOST_RUNS = 64  # merged at once


class _Run(NamedTuple):
    """A sorted file of counts."""

    file: IO[bytes]
    header: Header
    level: int  # how often it was merged


class Spill:
    """Empties a counter's table into files when it grows too large.

    The files have no name (where the system can do that), so they are gone with the process however it ends; `close`
    frees them before.  They are merged in levels: as many as may be read at once into one of the next level.

    Args:
        memory: bytes; a quarter of what the threads leave is for the table, as it fills again while it is sorted.
        folder: of the files; None: that of `tempfile`.
        header: how is counted.
        check: raises where another thread has failed.
    """

    def __init__(
        self,
        memory: int,
        folder: str | os.PathLike[str] | None,
        threads: int,
        header: Header,
        check: Callable[[], None],
    ) -> None:
        self._limit = max((memory - threads * THREAD) // 4, LEAST_TABLE)
        self._at_once = min(memory // RUN, MOST_RUNS)
        self._folder = os.fspath(folder) if folder is not None else tempfile.gettempdir()
        os.stat(self._folder)  # better now than after hours of counting
        self._header, self._check = header, check
        self._runs: list[_Run] = []  # each of the level of the one before it, or of a lower one
        self._lock = threading.Lock()

    def look(self, counter: Any) -> None:
        """Write a run if it is time; meanwhile other threads that look wait.

        Raises:
            OSError: the file cannot be written; it names the folder.
        """
        if counter.memory > self._limit:
            with self._lock:
                if counter.memory > self._limit:
                    self._write(Entries(*counter.items()).in_order(1 << 12))
                    while len(self._runs) >= self._at_once and self._runs[-self._at_once].level == self._runs[-1].level:
                        self._merge_last(self._at_once)

    def _write(self, blocks: Iterator[Entries], level: int = 0) -> None:
        try:
            file = tempfile.TemporaryFile(prefix="fastbpe-", dir=self._folder)  # noqa: SIM115 (lives until `close`)
            self._runs.append(_Run(file, self._header, level))
            writer = CountsWriter(file, self._header)
            for entries in blocks:
                self._check()
                for part in _parts(entries):
                    writer.add(part, last=True)
            header = writer.finish(0, 0)
            file.flush()
        except OSError as error:
            # The name of such a file says nothing.
            raise type(error)(error.errno, f"{error.strerror}, while counts were spilled", self._folder) from None
        self._runs[-1] = _Run(file, header, level)

    def _merge_last(self, n: int) -> None:
        """Merge the last runs into one of the next level."""
        runs = self._runs[-n:]
        self._write(self._merged(runs), runs[0].level + 1)
        del self._runs[-n - 1 : -1]
        for run in runs:
            run.file.close()

    def _merged(self, runs: Sequence[_Run]) -> Iterator[Entries]:
        check_total(sum(run.header.total for run in runs))
        return merged([iter(self._reader(run.file)) for run in runs])

    def merged(self, counter: Any) -> Iterator[Entries]:
        """Return all that was counted, in order, a block at a time."""
        self._write(Entries(*counter.items()).in_order(1 << 12))
        while len(self._runs) > self._at_once:
            self._merge_last(self._at_once)
        return self._merged(self._runs)

    def entries(self, counter: Any) -> Entries:
        """Return all that was counted."""
        if not self._runs:
            return Entries(*counter.items())
        self._write(self.merged(counter))
        return self._reader(self._runs[-1].file).entries()

    def _reader(self, file: IO[bytes]) -> CountsReader:
        def read(place: int, size: int) -> bytes:
            file.seek(place)
            return file.read(size)

        return CountsReader(read, file.seek(0, os.SEEK_END), os.path.join(self._folder, "a spilled run"))

    def close(self) -> None:
        for run in self._runs:
            with suppress(OSError):  # what could not be written is not wanted any more
                run.file.close()


def _parts(entries: Entries) -> Iterator[Entries]:
    """Yield them in blocks of about PART bytes, however much of their pretokens a file would share."""
    n = len(entries.counts)
    step = n // ((len(entries.pretokens.blob) + ENTRY * n) // PART + 1) + 1
    if step >= n:
        yield entries
        return
    for at in range(0, n, step):
        yield entries.select(np.arange(at, min(at + step, n), dtype=np.int64))
