"""Text -> how often each pretoken occurs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fastbpe.core.packed import PackedBytes
from fastbpe.errors import TrainingError

__all__ = ["Counter"]

_INVALID = re.compile("[\udc80-\udcff]+")
MAX_COUNT = 2**63 - 1


class _Splitter(Protocol):
    def split(self, data: bytes) -> npt.NDArray[np.int64]: ...


class _Matcher(Protocol):
    def find(self, data: bytes, final: bool = True) -> tuple[npt.NDArray[np.int64], int]: ...


class Counter:
    """Counts the pretokens of documents.

    A document is bytes.  Special tokens cut it into texts and are not counted; a maximal run of bytes that are not
    UTF-8 cuts it too, and is a pretoken of its own.  Each text is split by itself.

    Memory grows with the distinct pretokens, and here with a document.  To be used by one thread at a time.

    Args:
        splitter: splits a text.
        matcher: finds the special tokens.
        positions: note where each pretoken is first.
        lines: a text also ends behind each line feed.

    Attributes:
        cuts: whether `cut` may find a place, so that parts of a document may be counted apart (native only).
        memory: bytes of the table, as far as they are known.
    """

    cuts = False

    def __init__(
        self, splitter: _Splitter, matcher: _Matcher | None = None, *, positions: bool = False, lines: bool = False
    ) -> None:
        self._splitter, self._matcher, self._lines = splitter, matcher, lines
        self._firsts: dict[bytes, int] | None = {} if positions else None
        self._counts: dict[bytes, int] = {}
        self._bytes = 0
        self.begin()

    @property
    def memory(self) -> int:
        return self._bytes + 150 * len(self._counts)

    def begin(self, at: int = 0, weight: int = 1) -> None:
        """Begin a document.

        Args:
            at: the place of its first byte in all text; for the positions.
            weight: how often it is counted, 1 to 2**63 - 1.
        """
        if not 0 < weight <= MAX_COUNT:
            raise ValueError(f"weight must be 1 to 2**63 - 1, got {weight}")
        self._at, self._weight = at, weight
        self._held = bytearray()

    def take(self, data: bytes, final: bool = False) -> None:
        """Count more of the document; with `final`, to its end.

        Raises:
            TrainingError: a count is 2**63 or more.
        """
        self._held += data
        if final:
            for place, text in self._texts(bytes(self._held)):
                for start, end in self._splitter.split(text).tolist():
                    self._add(text[start:end], place + start)
            self.begin(self._at + len(self._held))

    def _texts(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the texts of a document and where they are; count what is no text."""
        decoded = data.decode("utf-8", "surrogateescape")
        pieces = [] if data else [""]
        place = 0
        while place < len(decoded):
            found = _INVALID.search(decoded, place)
            pieces.append(decoded[place : found.start() if found else None])
            if found is None:
                break
            pieces.append(found[0])
            place = found.end()
        at = self._at
        for index, piece in enumerate(pieces):
            part = piece.encode("utf-8", "surrogateescape")
            if index % 2:
                self._add(part, at)
            else:
                yield from self._segments(part, at)
            at += len(part)

    def _segments(self, data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        matches = self._matcher.find(data)[0].tolist() if self._matcher is not None else []
        begin = 0
        for start, end, _ in [*matches, (len(data), len(data), 0)]:
            for line in data[begin:start].split(b"\n") if self._lines else [data[begin:start]]:
                whole = line + b"\n" if self._lines and begin + len(line) < start else line
                if whole:
                    yield at + begin, whole
                begin += len(whole)
            begin = end

    def _add(self, piece: bytes, place: int) -> None:
        count = self._counts.get(piece, 0) + self._weight
        if count > MAX_COUNT:
            raise TrainingError("the count of a pretoken is 2**63 or more")
        self._bytes += len(piece) if count == self._weight else 0
        self._counts[piece] = count
        if self._firsts is not None:
            self._firsts[piece] = min(place, self._firsts.get(piece, place))

    def sibling(self) -> Counter:
        """Return a counter that counts into the same table; `flush` it before `items`."""
        other = Counter(self._splitter, self._matcher, lines=self._lines)
        other._counts, other._firsts = self._counts, self._firsts
        return other

    def flush(self) -> None:
        """Make all that was counted known to `items` of a sibling."""

    def items(self) -> tuple[PackedBytes, npt.NDArray[np.int64], npt.NDArray[np.uint64] | None]:
        """Return what was counted, in no particular order, and forget it.

        Returns:
            The distinct pretokens, int64 counts, and uint64 first places or None.
        """
        counts, firsts = self._counts, self._firsts
        self._counts, self._bytes = {}, 0
        self._firsts = None if firsts is None else {}
        return (
            PackedBytes.of(counts),
            np.fromiter(counts.values(), np.int64, len(counts)),
            None if firsts is None else np.fromiter(map(firsts.__getitem__, counts), np.uint64, len(counts)),
        )
