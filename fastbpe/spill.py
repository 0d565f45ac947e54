"""Counting in little memory: sorted runs in temporary files, merged at the end."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

from fastbpe.counts_file import CountsReader, CountsWriter, Entries, Header, check_total, exact_sum, merged

__all__ = ["LEAST_MEMORY", "Spill"]

LEAST_MEMORY = 16 << 20
THREAD = 2 << 20  # bytes of a thread beside the table: its front, its batches and what it reads
LEAST_TABLE = 1 << 20


class Spill:
    """Empties a counter's table into files when it grows too large.

    The files have no name (where the system can do that), so they are gone with the process however it ends; `close`
    frees them before.

    Args:
        memory: bytes; about half of it is for the table, as sorting it takes as much again.
        folder: of the files; None: that of `tempfile`.
        header: how is counted.
    """

    def __init__(self, memory: int, folder: str | os.PathLike[str] | None, threads: int, header: Header) -> None:
        self._limit = max(memory // 2 - threads * THREAD, LEAST_TABLE)
        self._folder = os.fspath(folder) if folder is not None else tempfile.gettempdir()
        os.stat(self._folder)  # better now than after hours of counting
        self._header = header
        self._runs: list[tuple[IO[bytes], Header]] = []
        self._lock = threading.Lock()

    def look(self, counter: Any) -> None:
        """Write a run if it is time; meanwhile other threads that look wait.

        Raises:
            OSError: the file cannot be written; it names the folder.
        """
        if counter.memory > self._limit:
            with self._lock:
                if counter.memory > self._limit:
                    self._write(Entries(*counter.items()).in_order())

    def _write(self, blocks: Iterator[Entries]) -> None:
        try:
            file = tempfile.TemporaryFile(prefix="fastbpe-", dir=self._folder)  # noqa: SIM115 (lives until `close`)
            self._runs.append((file, self._header))
            writer = CountsWriter(file, self._header)
            for entries in blocks:
                writer.add(entries)
            header = writer.finish(0, 0)
            file.flush()
        except OSError as error:
            # The name of such a file says nothing.
            raise type(error)(error.errno, f"{error.strerror}, while counts were spilled", self._folder) from None
        self._runs[-1] = (file, header)

    def merged(self, counter: Any) -> Iterator[Entries]:
        """Return all that was counted, in order, a block at a time."""
        rest = Entries(*counter.items())
        check_total(exact_sum(rest.counts) + sum(header.total for _, header in self._runs))
        return merged([*(iter(self._reader(*run)) for run in self._runs), rest.in_order()])

    def entries(self, counter: Any) -> Entries:
        """Return all that was counted."""
        if not self._runs:
            return Entries(*counter.items())
        self._write(self.merged(counter))
        return self._reader(*self._runs[-1]).entries()

    def _reader(self, file: IO[bytes], header: Header) -> CountsReader:
        def read(place: int, size: int) -> bytes:
            file.seek(place)
            return file.read(size)

        return CountsReader(read, file.seek(0, os.SEEK_END), os.path.join(self._folder, "a spilled run"))

    def close(self) -> None:
        for file, _ in self._runs:
            with suppress(OSError):  # what could not be written is not wanted any more
                file.close()
