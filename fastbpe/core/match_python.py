"""Special and added tokens in text: leftmost, and of those that start there the longest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Matcher:
    """Finds a fixed set of byte strings.  Immutable; safe in threads.

    `tokens` are (bytes, number) pairs; the bytes are not empty and differ.
    """

    def __init__(self, tokens: Sequence[tuple[bytes, int]]) -> None:
        self._trie: dict[Any, Any] = {}  # byte -> node; None -> number
        for token, number in tokens:
            node = self._trie
            for byte in token:
                node = node.setdefault(byte, {})
            node[None] = number
        first = b"".join(re.escape(bytes([byte])) for byte in sorted(self._trie))
        self._first = re.compile(b"[" + first + b"]") if first else None

    def find(self, data: bytes, final: bool = True) -> tuple[NDArray[np.int64], int]:
        """Return the matches, int64 [n, 3] rows of (start, end, number), and where the decided text ends.

        With `final` false more text may follow: a place where it could complete or lengthen a match is not decided,
        and nothing from there on is returned.
        """
        matches: list[tuple[int, int, int]] = []
        position, decided = 0, len(data)
        while self._first is not None:
            opener = self._first.search(data, position)
            if opener is None:
                break
            start = at = opener.start()
            node, match = self._trie, None
            while at < len(data) and data[at] in node:
                node = node[data[at]]
                at += 1
                if None in node:
                    match = (start, at, node[None])
            if not final and at == len(data) and len(node) > (None in node):
                decided = start
                break
            if match:
                matches.append(match)
            position = match[1] if match else start + 1
        return np.array(matches, dtype=np.int64).reshape(-1, 3), decided
