"""Ids as callers give them: any integers, checked, as one array."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbpe.errors import TokenIdRangeError

Ids = Sequence[int] | NDArray[Any]


def id_array(ids: Any, function: str) -> NDArray[np.uint32]:
    """Return ids as uint32 [n], contiguous.

    Raises:
        TypeError, TokenIdRangeError: they are no ids; the message names the first and its index.
    """
    if isinstance(ids, np.ndarray):
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise TypeError(f"{function}: ids must be a 1-D integer array, got {ids.ndim}-D {ids.dtype}")
        numbers = ids
    elif isinstance(ids, (str, bytes, bytearray)) or not isinstance(ids, Sequence):
        raise TypeError(f"{function}: ids must be a sequence of int or an array, got {show(ids)}")
    else:
        try:
            numbers = np.frombuffer(array("q", ids), dtype=np.int64) if len(ids) else np.empty(0, dtype=np.int64)
        except (TypeError, OverflowError, IndexError):
            raise _id_fault(ids, function) from None
    if numbers.dtype != np.uint32 and len(numbers) and (numbers.min() < 0 or numbers.max() > 0xFFFFFFFF):
        raise _id_fault(numbers.tolist(), function)
    return np.ascontiguousarray(numbers, dtype=np.uint32)


def _id_fault(ids: Sequence[Any], function: str) -> Exception:
    for index, number in enumerate(ids):
        if not hasattr(number, "__index__"):
            return TypeError(f"{function}: ids must be integers, got {show(number)} at index {index}")
        if not 0 <= number.__index__() < 1 << 32:
            reason = f"{function}: ids must be integers in [0, 2**32), got {show(number)} at index {index}"
            return TokenIdRangeError(reason)
    return TypeError(f"{function}: ids must be a sequence of int that does not change")


def show(value: object) -> str:
    """Return a value for a message: its type, and its repr cut to 80 characters."""
    try:
        text = repr(value[:80] if isinstance(value, (str, bytes, list, tuple)) else value)
    except Exception:  # a repr of the caller's, an integer of thousands of digits, a list in a list in a list
        text = "that cannot be shown"
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


def integer(function: str, name: str, value: Any) -> int:
    """Return what can serve as an index as an int; a bool is no number.

    Raises:
        TypeError: it cannot.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{function}: {name} must be an int, got {show(value)}")
    return operator.index(value)
