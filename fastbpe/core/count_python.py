"""Text -> how often each pretoken occurs."""

from __future__ import annotations

from collections import Counter as Multiset
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Counter"]


class _Stream(Protocol):
    @property
    def held(self) -> int: ...
    def push(self, data: bytes) -> list[bytes]: ...
    def finish(self) -> list[bytes]: ...


class _Splitter(Protocol):
    def stream(self) -> _Stream: ...


class Counter:
    """Counts the pretokens of segments of text; a sink like EncodeStream.

    Memory grows with the distinct pretokens, not with the text.  To be used by one thread at a time.
    """

    def __init__(self, splitter: _Splitter) -> None:
        self._stream = splitter.stream()
        self._counts: Multiset[bytes] = Multiset()

    @property
    def held(self) -> int:
        """The bytes pushed and not yet counted, because more text may change where they are split."""
        return self._stream.held

    def push(self, data: bytes) -> None:
        """Count more text of the current segment: valid UTF-8, whole characters."""
        self._counts.update(self._stream.push(data))

    def finish(self) -> None:
        """End the segment: what is held is counted as at the end of a text."""
        self._counts.update(self._stream.finish())

    def raw(self, data: bytes) -> None:
        """Count one pretoken as it is (a run of invalid UTF-8); between segments only."""
        if data:
            self._counts[data] += 1

    def items(self) -> tuple[list[bytes], npt.NDArray[np.int64]]:
        """Return the pretokens and their counts, in no particular order."""
        return list(self._counts), np.fromiter(self._counts.values(), np.int64, len(self._counts))
