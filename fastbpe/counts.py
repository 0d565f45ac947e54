"""How often each pretoken occurs: a value, and a file.

Counting is the only part of training that reads the corpus.  Counts add up, so parts of a corpus may be counted on
many machines and merged, and many vocabularies may be trained from one count.

The file, all integers little-endian:

    magic "FBPECNT1" | u32 version | u32 header bytes | header JSON | u32 CRC-32 of everything before it
    blocks of about 64 KiB: u32 payload bytes | u32 entries | u32 CRC-32 of the payload | payload
    magic, reversed

A payload holds, for each pretoken in the order of byte strings: the bytes shared with the one before it (0 for the
first of a block), the bytes that follow, both as varint lengths with the latter's bytes, and the count as a varint.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from fastbpe.core.packed import PackedBytes
from fastbpe.errors import TrainingError
from fastbpe.files import whole_file
from fastbpe.spec import UNICODE_VERSION, Split

__all__ = ["PretokenCounts"]

StrPath: TypeAlias = "str | os.PathLike[str]"

MAGIC = b"FBPECNT1"
VERSION = 1
BLOCK = 64 << 10
MAX_TOTAL = 2**63 - 1
MAX_HEADER = 1 << 24
_HEAD = struct.Struct("<8sII")
_BLOCK = struct.Struct("<III")
# What must agree before counts may be added: all that decides how text is split.
UNITS = ("document", "line")
_SAME = ("splits", "special_tokens", "unicode_version")


class PretokenCounts(Mapping[bytes, int]):
    """Pretokens and how often each occurs, with what they were counted by.

    A mapping from bytes to int that never changes; safe in threads.  Counts are 64-bit.

    Attributes:
        splits: how text was split.
        special_tokens: the hard boundaries of the text, in the order of their ids; never counted.
        n_documents: how many documents were counted.
        n_bytes: how many bytes they had, special tokens included.
    """

    def __init__(
        self,
        pretokens: PackedBytes,
        counts: npt.NDArray[np.int64],
        firsts: npt.NDArray[np.uint64] | None = None,
        *,
        splits: Sequence[Split],
        special_tokens: Sequence[str] = (),
        unit: str = "document",
        n_documents: int = 0,
        n_bytes: int = 0,
        unicode_version: str = UNICODE_VERSION,
    ) -> None:
        """Take what a counter gives: distinct pretokens, and one count of at least 1 for each."""
        self.splits = tuple(splits)
        self.special_tokens = tuple(special_tokens)
        self.n_documents = n_documents
        self.n_bytes = n_bytes
        self.unicode_version = unicode_version
        self._pretokens = pretokens
        self._counts = counts
        self._firsts = firsts
        self.unit = unit
        self.total = _total(counts)

    @classmethod
    def from_dict(
        cls,
        counts: Mapping[bytes, int],
        *,
        splits: Sequence[Split],
        special_tokens: Sequence[str] = (),
        n_documents: int = 0,
        n_bytes: int = 0,
    ) -> PretokenCounts:
        """Take the counts of a mapping; zero counts and the empty pretoken are left out.

        Raises:
            TypeError: a key is not bytes or a count is not an int.
            ValueError: a count is negative.
            TrainingError: the counts add up to 2**63 or more.
        """
        for key, count in counts.items():
            if not isinstance(key, bytes):
                raise TypeError(f"from_dict(): counts must have bytes as keys, got {type(key).__name__} {key!r:.80}")
            if not isinstance(count, (int, np.integer)):
                raise TypeError(f"from_dict(): counts must have int values, got {type(count).__name__} for {key!r:.80}")
            if count < 0:
                raise ValueError(f"from_dict(): counts must be 0 or more, got {count} for {key!r:.80}")
        kept = {key: int(count) for key, count in counts.items() if key and count}
        _check_total(sum(kept.values()))
        return cls(
            PackedBytes.of(kept),
            np.fromiter(kept.values(), np.int64, len(kept)),
            splits=splits,
            special_tokens=special_tokens,
            n_documents=n_documents,
            n_bytes=n_bytes,
        )

    @cached_property
    def _by_pretoken(self) -> dict[bytes, int]:
        return dict(zip(self._pretokens, self._counts.tolist()))

    def __getitem__(self, key: bytes) -> int:
        return self._by_pretoken[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pretokens)

    def __len__(self) -> int:
        return len(self._pretokens)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PretokenCounts):
            return NotImplemented
        return self._header() == other._header() and self._by_pretoken == other._by_pretoken

    __hash__ = None  # type: ignore[assignment]  # as of every mapping

    def __repr__(self) -> str:
        return f"<PretokenCounts: {len(self)} pretokens, {self.total} in all, {self.n_documents} documents>"

    def arrays(self) -> tuple[PackedBytes, npt.NDArray[np.int64], npt.NDArray[np.uint64] | None]:
        """Return the pretokens, their counts and first places, not to be changed, in no particular order."""
        return self._pretokens, self._counts, self._firsts

    def merge(self, other: PretokenCounts) -> PretokenCounts:
        """Return the counts of both; `+` is the same.

        Raises:
            TrainingError: they were not counted in the same way (the field is named), or the sum is 2**63 or more.
        """
        if not isinstance(other, PretokenCounts):
            raise TypeError(f"merge(): other must be PretokenCounts, got {type(other).__name__}")
        for name in _SAME:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise TrainingError(f"merge(): {name} must be equal, got {mine!r:.200} and {theirs!r:.200}")
        added = dict(self._by_pretoken)
        for key, count in other._by_pretoken.items():
            added[key] = added.get(key, 0) + count
        return PretokenCounts.from_dict(
            added,
            splits=self.splits,
            special_tokens=self.special_tokens,
            n_documents=self.n_documents + other.n_documents,
            n_bytes=self.n_bytes + other.n_bytes,
        )

    def __add__(self, other: PretokenCounts) -> PretokenCounts:
        if not isinstance(other, PretokenCounts):
            return NotImplemented
        return self.merge(other)

    def save(self, path: StrPath) -> None:
        """Write the file: complete under its name, or not at all.  Equal counts give equal files."""
        with whole_file(path) as file:
            self._write(file)

    @classmethod
    def load(cls, path: StrPath) -> PretokenCounts:
        """Read what `save` wrote.

        Raises:
            TrainingError: the file is not exactly that: another kind or version, cut, or damaged.
            OSError: the file cannot be read.
        """
        with open(path, "rb") as file:
            try:
                return cls._read(file)
            except (struct.error, IndexError):
                raise TrainingError(f"{os.fspath(path)}: the counts file is cut") from None
            except TrainingError as error:
                raise TrainingError(f"{os.fspath(path)}: {error}") from None

    def _header(self) -> dict[str, Any]:
        return {
            "bytes": self.n_bytes,
            "documents": self.n_documents,
            "special_tokens": list(self.special_tokens),
            "splits": [[split.pattern, split.gaps] for split in self.splits],
            "total": self.total,
            "unicode_version": self.unicode_version,
            "unique": len(self),
        }

    def _write(self, file: BinaryIO) -> None:
        header = json.dumps(self._header(), sort_keys=True).encode()
        head = _HEAD.pack(MAGIC, VERSION, len(header)) + header
        file.write(head + struct.pack("<I", zlib.crc32(head)))
        for payload, entries in _packed(sorted(self._by_pretoken.items())):
            file.write(_BLOCK.pack(len(payload), entries, zlib.crc32(payload)) + payload)
        file.write(MAGIC[::-1])

    @classmethod
    def _read(cls, file: BinaryIO) -> PretokenCounts:
        header = _read_header(file)
        counts: dict[bytes, int] = {}
        last = b""
        while len(counts) < header["unique"]:
            size, entries, checksum = _BLOCK.unpack(file.read(_BLOCK.size))
            payload = file.read(size)
            if len(payload) != size:
                raise TrainingError("the counts file is cut")
            if zlib.crc32(payload) != checksum:
                raise TrainingError(f"the block that follows {len(counts)} pretokens is damaged")
            before = len(counts)
            for key, count in _unpacked(payload):
                if key <= last or count < 1:
                    raise TrainingError(f"the pretoken {key!r:.80} is not in order or has no count")
                counts[key] = count
                last = key
            if len(counts) - before != entries or not entries:
                raise TrainingError(f"the block that follows {before} pretokens does not hold {entries} of them")
        if file.read() != MAGIC[::-1]:
            raise TrainingError("the counts file does not end where it should")
        if len(counts) != header["unique"] or sum(counts.values()) != header["total"]:
            raise TrainingError("the pretokens do not add up to what the header says")
        splits = [Split(pattern, gaps) for pattern, gaps in header["splits"]]
        return cls(
            PackedBytes.of(counts),
            np.fromiter(counts.values(), np.int64, len(counts)),
            splits=splits,
            special_tokens=header["special_tokens"],
            n_documents=header["documents"],
            n_bytes=header["bytes"],
            unicode_version=header["unicode_version"],
        )


def _total(counts: npt.NDArray[np.int64]) -> int:
    """Return the exact sum."""
    if float(counts.sum(dtype=np.float64)) < 2.0**62:
        return int(counts.sum())
    return _check_total(sum(counts.tolist()))


def _check_total(total: int) -> int:
    if total > MAX_TOTAL:
        raise TrainingError(f"the counts add up to {total}, which is 2**63 or more: divide them")
    return total


def _read_header(file: BinaryIO) -> dict[str, Any]:
    """Return the header of a counts file, with its fields checked."""
    head = file.read(_HEAD.size)
    if head[: len(MAGIC)] != MAGIC:
        raise TrainingError("not a file of pretoken counts")
    _, version, size = _HEAD.unpack(head)
    if version != VERSION:
        raise TrainingError(f"version {version} of the counts file is not known; this fastbpe reads version {VERSION}")
    if size > MAX_HEADER:
        raise TrainingError(f"the header has {size} bytes, more than {MAX_HEADER}")
    text = file.read(size)
    (checksum,) = struct.unpack("<I", file.read(4))
    if zlib.crc32(head + text) != checksum:
        raise TrainingError("the header is damaged")
    try:
        header = json.loads(text)
        sound = (
            all(type(header[name]) is int and header[name] >= 0 for name in ("bytes", "documents", "total", "unique"))
            and all(type(token) is str for token in header["special_tokens"])
            and all(type(pattern) is str and type(gaps) is bool for pattern, gaps in header["splits"])
            and type(header["unicode_version"]) is str
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound:
        raise TrainingError("the header does not hold what it should")
    _check_total(header["total"])
    return dict(header)


def _packed(items: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of front-coded pretokens and counts, each with its number of entries."""
    payload, entries, last = bytearray(), 0, b""
    for key, count in items:
        shared, end = 0, min(len(last), len(key))
        while shared < end and last[shared] == key[shared]:
            shared += 1
        _put_varint(payload, shared)
        _put_varint(payload, len(key) - shared)
        payload += key[shared:]
        _put_varint(payload, count)
        entries, last = entries + 1, key
        if len(payload) >= BLOCK:
            yield bytes(payload), entries
            payload, entries, last = bytearray(), 0, b""
    if entries:
        yield bytes(payload), entries


def _unpacked(payload: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield the pretokens and counts of a block.

    Raises:
        IndexError: the payload ends inside an entry.
        TrainingError: an entry shares more than there is.
    """
    place, last = 0, b""
    while place < len(payload):
        shared, place = _get_varint(payload, place)
        length, place = _get_varint(payload, place)
        if shared > len(last) or place + length > len(payload):
            raise TrainingError("an entry is longer than its block")
        last = last[:shared] + payload[place : place + length]
        count, place = _get_varint(payload, place + length)
        yield last, count


def _put_varint(payload: bytearray, value: int) -> None:
    while value > 127:
        payload.append(value & 127 | 128)
        value >>= 7
    payload.append(value)


def _get_varint(payload: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = payload[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise TrainingError("a number is longer than 64 bits")
