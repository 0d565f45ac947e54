"""Files that hold documents: JSON lines, Parquet, and what gzip and Zstandard compress.

NAME.jsonl and NAME.parquet hold many documents, one in each line or row.  NAME.gz and NAME.zst are what NAME without
the ending would be.  Any other file is one document, as it is; one that begins as a compressed file, an archive, a
Parquet file or a file of counts does, is refused.  The case of an ending does not matter.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from fastbpe.counts_file import MAGIC
from fastbpe.errors import TrainingError
from fastbpe.ids import show
from fastbpe.streaming import to_utf8

__all__ = ["PlainFile", "checked_size", "is_compressed_text", "is_plain", "read_blocks", "read_documents"]

COMPRESSED = (".gz", ".zst")
# How files begin that are no text, what they are, and what is to be done with them.
OTHERS = (
    (rb"\x1f\x8b", "gzip data", "end its name with .gz"),
    (rb"\x28\xb5\x2f\xfd", "Zstandard data", "end its name with .zst"),
    (rb"\xfd7zXZ\0", "xz data", "decompress it"),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "bzip2 data", "decompress it"),
    (rb"PK\x03\x04", "a zip archive", "unpack it"),
    (rb"PAR1\x15", "a Parquet file", "end its name with .parquet"),
    (
        re.escape(MAGIC),
        "pretoken counts",
        "use PretokenCounts.load and train_from_counts, or fastbpe train NAME.fbc",
    ),
)
LONGEST_START = 10  # bytes
ROWS = 1024  # of a Parquet file, held at once
FRAME_STEP = 4096  # bytes of a Zstandard file, taken at once
BUFFER = 1 << 17
OTHER_FIELD = "text_field (--text-field) names another"


def is_plain(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is one document as it is."""
    return not os.fspath(path).lower().endswith((*COMPRESSED, ".jsonl", ".parquet"))


def is_compressed_text(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is one document, compressed."""
    name = os.fspath(path).lower()
    return name.endswith(COMPRESSED) and is_plain(os.path.splitext(name)[0])


def checked_size(path: str | os.PathLike[str]) -> int:
    """Return the bytes of a file.

    Raises:
        TrainingError: its name says that it is one document as it is, but it begins as no text does.
    """
    status = os.stat(path)
    if is_plain(path) and stat.S_ISREG(status.st_mode):
        PlainFile(path).close()
    return status.st_size


class PlainFile:
    """An open file, closed when the last part of it is read; threads may read it at once.

    Raises:
        TrainingError: it begins as no text does; that is not asked of pipes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (closed by `done`)
        self.handle = self._file.fileno()
        status = os.fstat(self.handle)
        self.size = status.st_size
        self.regular = stat.S_ISREG(status.st_mode)
        self.parts = 1  # that wait, and one for who makes them
        start = os.pread(self.handle, LONGEST_START, 0) if self.regular else b""
        for begins, kind, advice in OTHERS:
            if re.match(begins, start):
                self.close()
                raise TrainingError(f"{os.fspath(path)}: looks like {kind}, not like a text: {advice}")

    def changed(self, size: int) -> TrainingError:
        return _changed(self.path, self.size, size)

    def check(self, size: int) -> None:
        """Raise if the file has another size than it had before."""
        if self.size != size:
            raise _changed(self.path, size, self.size)

    def read(self, size: int, at: int) -> bytes:
        data = os.pread(self.handle, size, at)
        if not data and at < self.size:
            raise self.changed(at)
        return data

    def done(self) -> None:
        self.parts -= 1
        if not self.parts:
            self.close()

    def close(self) -> None:
        self._file.close()


class _Frames(io.RawIOBase):
    """What the frames of a Zstandard file stand for; one that is cut raises (`stream_reader` takes it for whole)."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._decompressor = _optional("zstandard", name).ZstdDecompressor()
        self._frame: Any = None
        self._input = self._output = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._output:
            # Few bytes at a time, as each four may stand for 128 KiB.
            data = self._input or self._file.read(FRAME_STEP)
            if not data:
                if self._frame is not None:
                    raise EOFError("the file ended within a frame")
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            self._output, self._input = self._frame.decompress(data), b""
            if self._frame.eof:
                self._frame, self._input = None, self._frame.unused_data
        size = min(len(buffer), len(self._output))
        buffer[:size], self._output = self._output[:size], self._output[size:]
        return size


def _changed(name: str | os.PathLike[str], size: int, given: int) -> TrainingError:
    """Return the error that a file was written to while it was read."""
    return TrainingError(
        f"{os.fspath(name)}: had {size} bytes when it was opened and gave {given}: "
        f"train on a copy that nobody writes to"
    )


@contextmanager
def _steady(name: str) -> Iterator[IO[bytes]]:
    """Open a file; if its size changes meanwhile, that is the error, whatever else comes of it."""
    with open(name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        failure: Exception | None = None
        try:
            yield file
        except Exception as error:
            failure = error
        now = os.fstat(file.fileno()).st_size
        if now != size:
            raise _changed(name, size, now) from failure
        if failure is not None:
            raise failure


def _optional(package: str, name: str) -> Any:
    """Import what reads a file."""
    try:
        return importlib.import_module(package)
    except ImportError:
        package = package.partition(".")[0]
        raise ImportError(f"{name}: {package} is needed to read it: pip install 'fastbpe-cython[data]'") from None


def read_documents(path: str | os.PathLike[str], field: str) -> Iterator[bytes]:
    """Yield the documents of a file of lines or rows, as UTF-8; null is passed over.

    Args:
        field: the key or the column of the text.

    Raises:
        TrainingError: a line is no JSON object with a text in its field (it names the line), a Parquet file has no such
            column of texts, or the file is damaged.
        ImportError: a package is missing; it names the extra.
    """
    name = os.fspath(path)
    return _parquet(name, field) if name.lower().endswith(".parquet") else _json_lines(name, field)


def read_blocks(path: str | os.PathLike[str], size: int) -> Iterator[bytes]:
    """Yield what a compressed file stands for, some bytes at a time."""
    name = os.fspath(path)
    with _steady(name) as file:
        yield from _decompressed(file, name, lambda file: file.read(size))


def _decompressed(file: IO[bytes], name: str, step: Callable[[IO[bytes]], bytes]) -> Iterator[bytes]:
    """Yield what an open file stands for, a step at a time."""
    if name.lower().endswith(".gz"):
        file = cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    elif name.lower().endswith(".zst"):
        file = io.BufferedReader(_Frames(file, name), BUFFER)
    while True:
        try:
            part = step(file)
        except Exception as error:
            # Each package has errors of its own for what is damaged; those of the system pass.
            if type(error) is not gzip.BadGzipFile and isinstance(error, OSError):
                raise
            raise TrainingError(f"{name}: cannot be decompressed: {error}") from None
        if not part:
            return
        yield part


def _json_lines(name: str, field: str) -> Iterator[bytes]:
    with _steady(name) as file:
        for number, line in enumerate(_decompressed(file, name, lambda file: file.readline()), 1):
            if line.strip():
                text = _text_of(name, number, line, field)
                if text is not None:
                    yield to_utf8(text)


def _text_of(name: str, number: int, line: bytes, field: str) -> str | None:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{name}:{number}: not a line of JSON: {error}") from None
    if not isinstance(value, dict) or field not in value:
        raise TrainingError(
            f"{name}:{number}: expected an object with the field {field!r}, got {show(value)}: {OTHER_FIELD}"
        )
    text = value[field]
    if text is not None and not isinstance(text, str):
        raise TrainingError(f"{name}:{number}: the field {field!r} must be a text, got {show(text)}")
    return text


def _parquet(name: str, field: str) -> Iterator[bytes]:
    parquet, pyarrow = _optional("pyarrow.parquet", name), _optional("pyarrow", name)
    with _steady(name) as handle:
        try:
            file = parquet.ParquetFile(handle)
            if field not in file.schema_arrow.names:
                names = ", ".join(file.schema_arrow.names)
                raise TrainingError(f"{name}: has no column {field!r}; it has {names}: {OTHER_FIELD}")
            kind = file.schema_arrow.field(field).type
            if not any(is_kind(kind) for is_kind in (pyarrow.types.is_string, pyarrow.types.is_large_string)):
                raise TrainingError(f"{name}: the column {field!r} must hold texts, it holds {kind}")
            for batch in file.iter_batches(ROWS, columns=[field], use_threads=False):
                for text in batch.column(0).cast(pyarrow.large_binary()).to_pylist():
                    if text is not None:
                        yield text
        except pyarrow.ArrowException as error:
            raise TrainingError(f"{name}: cannot be read as Parquet: {error}") from None
