"""Files to documents: read in blocks, cut at a separator, never more than a few blocks in memory."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain

BLOCK = 1 << 20
_wake: int | None = None  # readable once a signal has come


@contextmanager
def woken_by_signals() -> Iterator[None]:
    """While this is active, a signal ends the wait for standard input whenever it comes.

    Otherwise one that comes after Python's last look for signals, but before the system begins to wait, is noticed only
    with the next input.  (Bernstein's self-pipe; Windows cannot wait for pipes in this way.)
    """
    global _wake
    if os.name != "posix":
        yield
        return
    _wake, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(_wake)
        os.close(writer)
        _wake = None


def check_files(names: Iterable[str]) -> int | None:
    """Return the bytes of all files together, None where a pipe is among them.

    Raises:
        OSError: a file does not exist; found before any work.
    """
    sizes = [None if name == "-" else os.stat(name).st_size for name in names]
    known = [size for size in sizes if size]
    return sum(known) if len(known) == len(sizes) else None


def read_blocks(name: str, advance: Callable[[int], None] = lambda count: None) -> Iterator[bytes]:
    """Yield the bytes of a file (`-`: standard input), telling `advance` of each block."""
    if name == "-":
        while block := _standard_input():
            yield block
            advance(len(block))
        return
    with open(name, "rb") as file:
        while block := file.read(BLOCK):
            yield block
            advance(len(block))


def _standard_input() -> bytes:
    if _wake is not None:
        with suppress(io.UnsupportedOperation):  # no file behind it
            source = sys.stdin.fileno()
            select.select([source, _wake], [], [])
            return os.read(source, BLOCK)
    return sys.stdin.buffer.read(BLOCK)


def cut(blocks: Iterable[bytes], separator: bytes) -> Iterator[list[bytes] | Iterator[bytes]]:
    """Cut text into documents; the separator belongs to none of them, and empty documents are left out.

    Yields lists of whole documents, and for a document longer than a block an iterator of its parts,
    which must be used up before the next item is asked for.  An empty separator makes one document of all.
    """
    return iter(_Cutter(iter(blocks), separator))


class _Cutter:
    def __init__(self, blocks: Iterator[bytes], separator: bytes) -> None:
        self.blocks, self.separator = blocks, separator
        self.rest = b""  # read, and not yet known to which document's end it belongs

    def __iter__(self) -> Iterator[list[bytes] | Iterator[bytes]]:
        if not self.separator:
            first = next(self.blocks, b"")
            if first:
                yield chain([first], self.blocks)
            return
        for block in self.blocks:
            self.rest += block
            yield self.whole()
            # With a separator's length at hand and no separator in it, the document is not empty.
            if len(self.rest) >= max(BLOCK, len(self.separator)):
                yield self.long()
                # What follows a long document may hold the ends of others, even when no block is left.
                yield self.whole()
        if self.rest:
            yield [self.rest]

    def whole(self) -> list[bytes]:
        *documents, self.rest = self.rest.split(self.separator)
        return [document for document in documents if document]

    def long(self) -> Iterator[bytes]:
        """The parts of the document that `rest` begins, to its separator; there is none in `rest` yet."""
        overlap = len(self.separator) - 1
        for block in self.blocks:
            # A separator may begin in the last bytes held back.
            self.rest += block
            end = self.rest.find(self.separator)
            if end >= 0:
                part, self.rest = self.rest[:end], self.rest[end + len(self.separator) :]
                if part:
                    yield part
                return
            keep = len(self.rest) - overlap
            if keep > 0:
                part, self.rest = self.rest[:keep], self.rest[keep:]
                yield part
        part, self.rest = self.rest, b""
        yield part
