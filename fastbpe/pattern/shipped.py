"""The tables of the named patterns, compiled beforehand: compiling takes up to 0.1 s, the search for boxes seconds.

`named_tables.bin` is a zlib stream; generate_tables.py writes it, a test compiles all patterns and compares.  Each
table is an array: its numbers of rows and of columns as u32, then its content, little-endian.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbpe.pattern.boxes import AXES, MAX_CLASSES, Boxes
from fastbpe.pattern.named import PATTERNS

# In the file, for each named pattern, in the order of names.
FIELDS = ("<u2", "u1", "<u2", "u1", "u1", "u1", "u1", "u1")  # stage1, stage2, dfa, and the fields of Boxes
NAMES = tuple(sorted(PATTERNS))

Packed = tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.uint16], Boxes]


def shipped(pattern: str | tuple[str, ...]) -> Packed | None:
    """Return stage1, stage2, dfa and boxes of a named pattern or sequence, None for any other."""
    for name in NAMES:
        if PATTERNS[name] == pattern:
            return _all()[name]
    return None


def pack(tables: list[NDArray[Any]]) -> bytes:
    """Pack the arrays of one pattern; unpack() reads them."""
    parts = []
    for table, kind in zip(tables, FIELDS):
        rows = table.reshape(len(table), -1)
        parts += [struct.pack("<II", *rows.shape), rows.astype(kind).tobytes()]
    return b"".join(parts)


@cache
def _all() -> dict[str, Packed]:
    path = Path(__file__).with_name("named_tables.bin")
    data = zlib.decompress(path.read_bytes())
    place = 0
    found: dict[str, Packed] = {}
    for name in NAMES:
        arrays: list[Any] = []
        for kind in FIELDS:
            rows, columns = struct.unpack_from("<II", data, place)
            array = np.frombuffer(data, kind, rows * columns, place + 8).copy()  # where its items are aligned
            arrays.append(array.reshape(rows, columns) if columns > 1 else array)
            place += 8 + array.nbytes
        coarse, rules, *others = arrays[3:]
        boxes = Boxes(coarse, rules.reshape(-1, AXES, MAX_CLASSES), *others)
        found[name] = (arrays[0], arrays[1], arrays[2], boxes)
    return found
