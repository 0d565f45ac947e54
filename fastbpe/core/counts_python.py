"""Byte strings in order, and blocks of them in a counts file."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastbpe.core.packed import PackedBytes

__all__ = ["decode_block", "encode_block", "gather", "sort_order", "starts"]

# Bytes that an entry may share with the one before it; so a file never stands for more than 64 times its bytes.
MAX_SHARED = 255
MAX_COUNT = 2**63 - 1


def sort_order(strings: PackedBytes) -> npt.NDArray[np.int64]:
    """Return the indices of the strings in their order as byte strings."""
    kept = list(strings)
    return np.array(sorted(range(len(kept)), key=kept.__getitem__), dtype=np.int64)


def starts(strings: PackedBytes, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the places in a sorted order where another string than before stands."""
    kept = [strings[at] for at in order.tolist()]
    return np.array([at for at in range(len(kept)) if not at or kept[at] != kept[at - 1]], dtype=np.int64)


def gather(strings: PackedBytes, index: npt.NDArray[np.int64]) -> PackedBytes:
    """Return the strings of an index."""
    return PackedBytes.of(strings[at] for at in index.tolist())


def encode_block(
    strings: PackedBytes,
    counts: npt.NDArray[np.int64],
    firsts: npt.NDArray[np.uint64] | None,
    order: npt.NDArray[np.int64],
    begin: int,
    size: int,
) -> tuple[bytes, int]:
    """Return a block of front-coded entries, and the place in the order behind the last of them.

    Args:
        order: indices of the strings, sorted.
        begin: the place in the order of the first.
        size: the block ends with the entry that brings it to so many bytes.
    """
    payload, last, at = bytearray(), b"", begin
    while at < len(order) and len(payload) < size:
        index = int(order[at])
        key = strings[index]
        shared, end = 0, min(len(last), len(key), MAX_SHARED)
        while shared < end and last[shared] == key[shared]:
            shared += 1
        for number in (shared, len(key) - shared):
            _put(payload, number)
        payload += key[shared:]
        _put(payload, int(counts[index]))
        if firsts is not None:
            _put(payload, int(firsts[index]))
        last = key
        at += 1
    return bytes(payload), at


def decode_block(
    payload: bytes, entries: int, last: bytes, positions: bool
) -> tuple[PackedBytes, npt.NDArray[np.int64], npt.NDArray[np.uint64] | None]:
    """Return what a block holds.

    Args:
        entries: how many it must hold.
        last: what its first pretoken must be greater than.
        positions: whether each entry has a first place.

    Raises:
        ValueError: the block is not exactly that.
    """
    keys: list[bytes] = []
    counts: list[int] = []
    firsts: list[int] = []
    place, before = 0, b""
    while place < len(payload):
        shared, place = _get(payload, place)
        length, place = _get(payload, place)
        if shared > min(len(before), MAX_SHARED) or place + length > len(payload):
            raise ValueError("an entry is longer than its block")
        before = before[:shared] + payload[place : place + length]
        count, place = _get(payload, place + length)
        if before <= (keys[-1] if keys else last) or not 1 <= count <= MAX_COUNT:
            raise ValueError("a pretoken is not in order or has no count")
        keys.append(before)
        counts.append(count)
        if positions:
            first, place = _get(payload, place)
            firsts.append(first)
    if len(keys) != entries or not entries:
        raise ValueError(f"it does not hold {entries} pretokens")
    return PackedBytes.of(keys), np.array(counts, np.int64), np.array(firsts, np.uint64) if positions else None


def _put(payload: bytearray, value: int) -> None:
    while value > 127:
        payload.append(value & 127 | 128)
        value >>= 7
    payload.append(value)


def _get(payload: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(payload):
        byte = payload[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128 and value < 2**64:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")
    raise ValueError("it ends inside an entry")
