"""Files of ids: `.bin` (bare little-endian integers, as nanoGPT writes them) and `.npy`."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastbpe.cli.documents import BLOCK

Ids = npt.NDArray[np.unsignedinteger[Any]]

# Room for every shape a file can have, so the header can be written when the length is known.
NPY_HEADER = 128


def dtype_for(n_vocab: int) -> np.dtype[Any]:
    """The narrowest of uint16 and uint32 that holds every id; an id never wraps."""
    return np.dtype("<u2" if n_vocab <= 1 << 16 else "<u4")


def check_new(path: str, overwrite: bool) -> None:
    """Find before any work that a file cannot be written.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        FileNotFoundError: its folder does not exist.
    """
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "no such folder", folder)
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "exists already (--overwrite replaces it)", path)


class IdWriter:
    """Writes ids to an open file; `finish` completes the header of a .npy."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[Any], npy: bool) -> None:
        self.file, self.dtype, self.npy, self.count = file, dtype, npy, 0
        if npy:
            file.write(bytes(NPY_HEADER))

    def write(self, ids: Ids) -> None:
        self.file.write(ids.astype(self.dtype, copy=False).tobytes())
        self.count += len(ids)

    def finish(self) -> None:
        if self.npy:
            fields = f"{{'descr': '{self.dtype.str}', 'fortran_order': False, 'shape': ({self.count},), }}"
            text = fields.encode().ljust(NPY_HEADER - 11) + b"\n"
            self.file.seek(0)
            self.file.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)


def read_ids(path: str, dtype: np.dtype[Any]) -> Iterator[Ids]:
    """Yield the ids of a .bin or .npy file in blocks.

    Raises:
        ValueError: the file is not one of whole unsigned integers.
    """
    with open(path, "rb") as file:
        if path.endswith(".npy"):
            dtype, count = _npy_header(file, path)
            expected = file.tell() + count * dtype.itemsize
            if os.fstat(file.fileno()).st_size != expected:
                raise ValueError(f"{path}: is not the {expected:,} bytes that its header states: cut, or joined")
        while block := file.read(BLOCK):
            if len(block) % dtype.itemsize:
                raise ValueError(f"{path}: its size is not a multiple of {dtype.itemsize} bytes ({dtype.name})")
            yield np.frombuffer(block, dtype)


def _npy_header(file: BinaryIO, path: str) -> tuple[np.dtype[Any], int]:
    try:
        version = np.lib.format.read_magic(file)  # type: ignore[no-untyped-call, unused-ignore]
    except ValueError as error:
        raise ValueError(f"{path}: no npy file: {error}") from None
    if version != (1, 0):
        raise ValueError(f"{path}: npy version {version} is not one of ids (1, 0)")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)  # type: ignore[no-untyped-call, unused-ignore]
    if len(shape) != 1 or dtype.kind not in "ui":
        raise ValueError(f"{path}: ids must be one row of integers, got {len(shape)} dimensions of {dtype}")
    return dtype, shape[0]
