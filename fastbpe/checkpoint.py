"""The merges of a training that is not at its end, in a file that grows with them.

The file, all integers little-endian:

    magic "FBPECKP1" | u32 header bytes | header JSON | u32 CRC-32 of everything before it
    one record a merge: u32 left | u32 right | u32 CRC-32 of all records up to and with this one

`left` and `right` are numbers of tokens as `core.train_merges` records them.  The header says what the merges belong
to.  A record that was cut by a kill is dropped, as it is the last one; everything else that is not as it was written
is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastbpe.errors import TrainingError
from fastbpe.files import naming, write_whole

__all__ = ["Checkpoint", "check_checkpoint", "digest_of_counts"]

MAGIC = b"FBPECKP1"
MAX_HEADER = 1 << 24
SYNC_SECONDS = 2.0
_RECORD = struct.Struct("<III")


class Checkpoint:
    """An open checkpoint; a context manager that syncs at its end.

    Attributes:
        merges: uint32 [n, 2]; what the file held when it was opened.
    """

    def __init__(self, path: str | os.PathLike[str], belongs: Mapping[str, Any]) -> None:
        """Open the file, or make it.

        Args:
            path: the file.
            belongs: what decides the merges, as JSON can hold it.

        Raises:
            TrainingError: it is no checkpoint, or that of another training (the difference is named), or damaged, or
                another process writes to it.
            OSError: it cannot be read or written.
        """
        self._path = os.fspath(path)
        if not os.path.exists(self._path):
            text = json.dumps(belongs, sort_keys=True).encode()
            head = MAGIC + struct.pack("<I", len(text)) + text
            write_whole(self._path, head + struct.pack("<I", zlib.crc32(head)))
        self._file = open(self._path, "r+b")  # noqa: SIM115 (closed by __exit__)
        try:
            self._lock()
            self.merges = self._read(belongs)
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def _lock(self) -> None:
        """Keep other processes out until the file is closed, where the system can do that."""
        if os.name != "posix":
            return
        import fcntl  # not on Windows

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(f"{self._path}: the checkpoint is in use by another training") from None

    def _read(self, belongs: Mapping[str, Any]) -> NDArray[np.uint32]:
        """Check the file, and drop a record that was cut."""
        _check_header(self._path, self._file, belongs)
        self._start = self._file.tell()
        data = self._file.read()
        n_records = len(data) // _RECORD.size
        checksum = 0
        for at in range(0, n_records * _RECORD.size, _RECORD.size):
            checksum = zlib.crc32(data[at : at + 8], checksum)
            if data[at + 8 : at + 12] != struct.pack("<I", checksum):
                raise TrainingError(f"{self._path}: the checkpoint is damaged after {at // _RECORD.size} merges")
        self._end = n_records, checksum
        self._file.truncate(self._start + n_records * _RECORD.size)
        records = np.frombuffer(data, dtype="<u4", count=3 * n_records).reshape(n_records, 3)
        return records[:, :2].astype(np.uint32)

    def append(self, first: int, merges: NDArray[np.uint32]) -> None:
        """Write merges to their place; they are on the disk after a few seconds at most.

        Interrupted anywhere, it may be called again with what it was called with, and more.

        Args:
            first: which the first of them is, of those learned since the file was opened.
            merges: uint32 [n, 2].
        """
        written, checksum = self._end
        parts = []
        for left, right in merges[written - len(self.merges) - first :].tolist():
            pair = struct.pack("<II", left, right)
            checksum = zlib.crc32(pair, checksum)
            parts.append(pair + struct.pack("<I", checksum))
        with naming(self._path):
            self._file.seek(self._start + written * _RECORD.size)
            self._file.write(b"".join(parts))
            self._end = written + len(parts), checksum  # at once, and only now: an interrupt falls before it or behind
        if time.monotonic() - self._synced >= SYNC_SECONDS:
            self._sync()

    def _sync(self) -> None:
        with naming(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with naming(self._path), self._file:
            self._sync()


def check_checkpoint(path: str | os.PathLike[str], belongs: Mapping[str, Any]) -> None:
    """Raise what `Checkpoint` would, if the file is there: for the header alone, and what is known of the training."""
    if os.path.exists(path):
        with open(path, "rb") as file:
            _check_header(os.fspath(path), file, belongs)
    else:
        os.stat(os.path.dirname(os.fspath(path)) or ".")


def _check_header(path: str, file: BinaryIO, belongs: Mapping[str, Any]) -> None:
    """Read the header; what it does not say, or `belongs` does not, is passed over."""
    head = file.read(len(MAGIC) + 4)
    if len(head) < len(MAGIC) + 4 or head[: len(MAGIC)] != MAGIC:
        raise TrainingError(f"{path}: not a checkpoint of a training")
    (size,) = struct.unpack("<I", head[len(MAGIC) :])
    text = file.read(min(size, MAX_HEADER))
    try:
        found = json.loads(text) if file.read(4) == struct.pack("<I", zlib.crc32(head + text)) else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise TrainingError(f"{path}: the header of the checkpoint is damaged")
    wanted = json.loads(json.dumps(belongs))
    different = [name for name in sorted(wanted) if name not in found or found[name] != wanted[name]]
    if different:
        first = different[0]
        raise TrainingError(
            f"{path}: the checkpoint belongs to another training: {', '.join(different)} differ ({first} is "
            f"{found.get(first)!r:.80} there, {wanted[first]!r:.80} here); delete it or name another file"
        )


def digest_of_counts(pretokens: Iterable[bytes], counts: NDArray[np.int64], firsts: NDArray[np.uint64] | None) -> str:
    """Return 32 hexadecimal digits that say which counts these are, whatever their order."""
    total = 0
    extra = counts.tolist() if firsts is None else zip(counts.tolist(), firsts.tolist())
    for pretoken, numbers in zip(pretokens, extra):
        digest = hashlib.blake2b(b"%d:%b%r" % (len(pretoken), pretoken, numbers), digest_size=16).digest()
        total += int.from_bytes(digest, "little")
    return f"{total % 2**128:032x}"
