"""Native twin of counts_python."""

import numpy as np
import numpy.typing as npt

from fastbpe.core.packed import PackedBytes

def sort_order(strings: PackedBytes) -> npt.NDArray[np.int64]: ...
def starts(strings: PackedBytes, order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
def gather(strings: PackedBytes, index: npt.NDArray[np.int64]) -> PackedBytes: ...
def encode_block(
    strings: PackedBytes,
    counts: npt.NDArray[np.int64],
    firsts: npt.NDArray[np.uint64] | None,
    order: npt.NDArray[np.int64],
    begin: int,
    size: int,
) -> tuple[bytes, int]: ...
def decode_block(
    payload: bytes, entries: int, last: bytes, positions: bool
) -> tuple[PackedBytes, npt.NDArray[np.int64], npt.NDArray[np.uint64] | None]: ...
