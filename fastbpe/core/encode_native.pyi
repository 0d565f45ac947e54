"""Native twin of encode_python."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbpe.core.match_native import Matcher
from fastbpe.core.merge_native import Merger

class Encoder:
    splitter: Any
    merger: Merger
    def __init__(
        self,
        splitter: Any,
        merger: Merger,
        *,
        quick_check: Any = None,
        cache_bytes: int = 48 << 20,
        vectors: str = "",
    ) -> None: ...
    @property
    def remembered(self) -> int: ...
    def encode_text(
        self,
        text: object,
        matcher: Matcher | None = None,
        listed: bool = False,
        check: Callable[[], object] | None = None,
    ) -> NDArray[np.uint32] | list[int] | None: ...
    def cut(self, text: str, size: int, matcher: Matcher | None = None) -> list[int]: ...
    def encode_texts(
        self,
        texts: list[str],
        spans: NDArray[np.int64],
        matcher: Matcher | None = None,
        check: Callable[[], object] | None = None,
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]: ...
    def lists(self, ids: NDArray[np.uint32], offsets: NDArray[np.int64]) -> list[list[int]]: ...
    def encode(
        self, data: bytes, cuts: NDArray[np.int64] | None = None, check: Callable[[], object] | None = None
    ) -> NDArray[np.uint32]: ...

class EncodeStream:
    def __init__(self, encoder: Encoder) -> None: ...
    @property
    def held(self) -> int: ...
    def push(self, data: bytes) -> NDArray[np.uint32]: ...
    def finish(self) -> NDArray[np.uint32]: ...
    def raw(self, data: bytes) -> NDArray[np.uint32]: ...
