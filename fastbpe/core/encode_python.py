"""Text to ids: pretokens from the splitter, each looked up or merged.

A text may be cut: by special tokens, which are ids already, and by raw pieces (bytes that are not UTF-8), each of which
is one pretoken.  The text between two cuts is a text of its own to the split pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbpe.core.match_python import Matcher
from fastbpe.core.merge_python import Merger

MAX_ID = (1 << 32) - 1
RAW = -1  # a cut with this number is a raw piece


class Encoder:
    """Encodes whole texts and opens streams.  Safe in threads.

    `quick_check`: text has to be normalized first unless this says that it is (normalize.QuickCheck; asked by native
    code alone, here all that is not ASCII is left to the caller).  `cache_bytes`: what native code may use, for each
    thread at work, to remember pretokens; nothing is remembered here.
    """

    def __init__(self, splitter: Any, merger: Merger, *, quick_check: Any = None, cache_bytes: int = 48 << 20) -> None:
        self._ascii_only = quick_check is not None
        self.splitter = splitter
        self.merger = merger

    def encode_text(
        self,
        text: object,
        matcher: Matcher | None = None,
        listed: bool = False,
        check: Callable[[], object] | None = None,
    ) -> NDArray[np.uint32] | list[int] | None:
        """Return the ids of a str, uint32 [n], or a list if `listed`.

        Tokens of the matcher become their numbers.  None if the caller has to look closer: it is no str, it has a token
        whose number is no id, it has no UTF-8, or it may have to be normalized.
        """
        if not isinstance(text, str) or (self._ascii_only and not str.isascii(text)):
            return None
        try:
            data = str.encode(text)
        except UnicodeEncodeError:
            return None
        cuts = None if matcher is None else matcher.find(data)[0]
        if cuts is not None and (cuts[:, 2] > MAX_ID).any():
            return None
        ids = self.encode(data, cuts, check)
        return ids.tolist() if listed else ids

    def cut(self, text: str, size: int, matcher: Matcher | None = None) -> list[int]:
        """Return places about `size` characters apart at which encoding may begin afresh, inside a text: none here.

        What is on both sides of such a place is encoded on two threads, which helps native code alone.
        """
        return []

    def encode_texts(
        self,
        texts: list[str],
        spans: NDArray[np.int64],
        matcher: Matcher | None = None,
        check: Callable[[], object] | None = None,
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Return the ids of parts of texts, one behind the other, uint32 [n], and how many each has, int64 [m].

        Args:
            texts: the texts.
            spans: int64 [m, 3] rows of (index of the text, begin, end): places that cut() gave, 0, or -1 for the end.
            matcher: as in encode_text(); where that returns None, the number is -1.
            check: called now and then in a long call; what it raises ends the call.
        """
        ids: list[int] = []
        counts = []
        for index, begin, end in spans.tolist():
            if check is not None:
                check()
            text = texts[index]
            found = self.encode_text(text[begin : len(text) if end < 0 else end], matcher, True, check)
            ids += [] if found is None else list(found)
            counts.append(-1 if found is None else len(found))
        return np.array(ids, dtype=np.uint32), np.array(counts, dtype=np.int64)

    def lists(self, ids: NDArray[np.uint32], offsets: NDArray[np.int64]) -> list[list[int]]:
        """Return ids in lists, the i-th from `offsets[i]` to `offsets[i + 1]`."""
        return [ids[begin:end].tolist() for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist())]

    def encode(
        self, data: bytes, cuts: NDArray[np.int64] | None = None, check: Callable[[], object] | None = None
    ) -> NDArray[np.uint32]:
        """Return the ids of a text, uint32 [n].

        Args:
            data: the text; valid UTF-8 but for its raw pieces.
            cuts: int64 [m, 3] rows of (start, end, id or RAW), in order, not overlapping.
            check: called now and then in a long call; what it raises ends the call.
        """
        stream = EncodeStream(self)
        ids: list[int] = []
        position = 0
        for start, end, number in [] if cuts is None else cuts.tolist():
            if check is not None:
                check()
            ids += stream.encode_whole(data[position:start])
            ids += self.merger.merge(data[start:end]) if number == RAW else [number]
            position = end
        ids += stream.encode_whole(data[position:])
        return np.array(ids, dtype=np.uint32)


class EncodeStream:
    """The ids of a text that arrives in parts.  For one thread."""

    def __init__(self, encoder: Encoder) -> None:
        self._splits = encoder.splitter.stream()
        self._merge = encoder.merger.merge

    @property
    def held(self) -> int:
        """The bytes that have given no id yet."""
        held: int = self._splits.held
        return held

    def encode_whole(self, data: bytes) -> list[int]:
        """Return the ids of one whole text."""
        return self._ids(self._splits.push(data) + self._splits.finish()) if data else []

    def push(self, data: bytes) -> NDArray[np.uint32]:
        """Take more of the text, whole characters of UTF-8; return the ids that it decides."""
        return np.array(self._ids(self._splits.push(data)), dtype=np.uint32)

    def finish(self) -> NDArray[np.uint32]:
        """End the text; return the ids left.  A new text may follow."""
        return np.array(self._ids(self._splits.finish()), dtype=np.uint32)

    def raw(self, data: bytes) -> NDArray[np.uint32]:
        """Return the ids of one raw piece, which stands between two texts."""
        return np.array(self._merge(data), dtype=np.uint32)

    def _ids(self, pieces: list[bytes]) -> list[int]:
        return [number for piece in pieces for number in self._merge(piece)]
