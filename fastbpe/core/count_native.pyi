"""Native twin of count_python."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fastbpe.core.packed import PackedBytes

class Counter:
    @property
    def cuts(self) -> bool: ...
    @property
    def memory(self) -> int: ...
    @property
    def reached(self) -> bool:
        """Whether all pretokens before the limit are counted."""
    def __init__(
        self,
        splitter: Any,
        matcher: Any = None,
        *,
        positions: bool = False,
        lines: bool = False,
        beside: Counter | None = None,
    ) -> None: ...
    def sibling(self) -> Counter:
        """Return a counter for another thread that counts into the same table; `flush` it before `items`."""
    def begin(self, at: int = 0, weight: int = 1, limit: int = ...) -> None:
        """Begin a document, or the part of one between two cuts: pretokens from `limit` on are not counted."""
    def take(self, data: bytes, final: bool = False) -> None: ...
    def cut(self, window: bytes, begin: int, longest: int = 0) -> int:
        """Return the first place of a window, from `begin` on, where counting may begin afresh; or -1.

        Args:
            window: any bytes of a document.
            begin: `longest + 16` or more, except at the beginning of the document.
            longest: bytes of the longest special token.
        """
    def flush(self) -> None: ...
    def items(self) -> tuple[PackedBytes, npt.NDArray[np.int64], npt.NDArray[np.uint64] | None]: ...
