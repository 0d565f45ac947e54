"""Arrays of ids for Arrow libraries: structs of C, which only native code can give away and take back at any moment."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastbpe.errors import UnsupportedError

_REASON = "a TokenBatch goes to Arrow by native code, which is not in use: fastbpe.backend() is 'python'"


def schema_capsule(itemsize: int) -> object:
    """Return a capsule "arrow_schema" of large_list<uint32>, or of uint16.

    Raises:
        UnsupportedError: always.
    """
    raise UnsupportedError(_REASON)


def array_capsule(ids: NDArray[Any], offsets: NDArray[Any]) -> object:
    """Return a capsule "arrow_array".

    Raises:
        UnsupportedError: always.
    """
    raise UnsupportedError(_REASON)
