"""Files of pretoken counts: written, read and merged a block at a time.

The file, all integers little-endian:

    magic "FBPECNT1" | u32 version | u32 header bytes | header JSON, padded | u32 CRC-32 of everything before it
    blocks of about 64 KiB: u32 payload bytes | u32 entries | u32 CRC-32 of the payload | payload
    magic, reversed

A payload holds, for each pretoken in the order of byte strings, as varints and bytes: how many bytes it shares with the
one before it (0 for the first of a block, 255 at most), how many follow, these, the count, and with positions the first
place.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from fastbpe import core
from fastbpe.core.packed import PackedBytes
from fastbpe.errors import TrainingError
from fastbpe.formats import named_splits
from fastbpe.ids import show
from fastbpe.spec import UNICODE_VERSION, Split

MAGIC = b"FBPECNT1"
VERSION = 1
BLOCK = 64 << 10
MAX_NUMBER = 2**63 - 1
MAX_HEADER = 1 << 24
MAX_SPECIAL = 1 << 23  # of it for special tokens
MAX_KEY = 1 << 31
UNITS = ("document", "line")
# What must agree before counts may be added: all that decides what is counted.
SAME = ("splits", "special_tokens", "unit", "positions", "unicode_version")
NUMBERS = ("documents", "size", "unique", "total", "pretoken_bytes")
# An entry has 4 bytes or more, and stands for 255 bytes more than it has at most.
LEAST_ENTRY = 4
EXPANSION = 65
_HEAD = struct.Struct("<8sII")
_BLOCK = struct.Struct("<III")

Read = Callable[[int, int], bytes]  # (place, bytes) -> what is there


class Entries(NamedTuple):
    """Pretokens, their counts, and their first places or None."""

    pretokens: PackedBytes
    counts: npt.NDArray[np.int64]
    firsts: npt.NDArray[np.uint64] | None

    def select(self, index: npt.NDArray[np.int64]) -> Entries:
        firsts = None if self.firsts is None else self.firsts[index]
        return Entries(core.gather(self.pretokens, index), self.counts[index], firsts)

    def at_least(self, min_count: int) -> Entries:
        """Return those whose counts are not below."""
        kept = np.flatnonzero(self.counts >= min_count)
        return self.select(kept) if len(kept) < len(self.counts) else self

    def in_order(self, step: int = 1 << 14) -> Iterator[Entries]:
        """Yield them sorted by pretoken, `step` at a time."""
        order = core.sort_order(self.pretokens)
        for at in range(0, len(order), step):
            yield self.select(order[at : at + step].astype(np.int64, copy=False))

    def sorted_and_added(self) -> Entries:
        """Return each pretoken once, in order, with the sum of its counts and the least of its first places."""
        order = core.sort_order(self.pretokens)
        starts = core.starts(self.pretokens, order)
        if not len(starts):
            return self
        firsts = None if self.firsts is None else np.minimum.reduceat(self.firsts[order], starts)
        counts = np.add.reduceat(self.counts[order], starts)
        return Entries(core.gather(self.pretokens, order[starts]), counts, firsts)


def joined(parts: Sequence[Entries]) -> Entries:
    """Return the entries of one or more parts, one behind the other."""
    if len(parts) == 1:
        return parts[0]
    firsts = [part.firsts for part in parts if part.firsts is not None]
    return Entries(
        PackedBytes.join([part.pretokens for part in parts]),
        np.concatenate([part.counts for part in parts]),
        np.concatenate(firsts) if firsts else None,
    )


@dataclass(frozen=True)
class Header:
    """What the file says of itself: how was counted, and numbers that `finish` of the writer knows.

    Attributes:
        size: bytes of the documents.
    """

    splits: tuple[Split, ...]
    special_tokens: tuple[str, ...] = ()
    unit: str = "document"
    positions: bool = False
    unicode_version: str = UNICODE_VERSION
    documents: int = 0
    size: int = 0
    unique: int = 0
    total: int = 0
    pretoken_bytes: int = 0

    def to_bytes(self) -> bytes:
        """Return magic, version, JSON and checksum; as long whatever the numbers are."""
        texts = [json.dumps(asdict(header), sort_keys=True).encode() for header in (self, self._widest())]
        if len(texts[1]) > MAX_HEADER:
            raise TrainingError(f"a counts file can not hold a header of {len(texts[1])} bytes, more than {MAX_HEADER}")
        head = _HEAD.pack(MAGIC, VERSION, len(texts[1])) + texts[0].ljust(len(texts[1]))
        return head + struct.pack("<I", zlib.crc32(head))

    def _widest(self) -> Header:
        widest: Any = dict.fromkeys(NUMBERS, MAX_NUMBER)
        return replace(self, **widest)

    def check_same(self, other: Header, function: str, mine: str, theirs: str) -> None:
        """Raise a TrainingError that names the first field in which the counts of two sources are unlike."""
        for name in SAME:
            one, two = getattr(self, name), getattr(other, name)
            if one != two:
                raise TrainingError(
                    f"{function}: {name} must be equal, got {one!r:.200} in {mine} and {two!r:.200} in {theirs}"
                )


def checked_splits(function: str, pattern: str) -> tuple[Split, ...]:
    """Return what a pattern or its name stands for."""
    if not isinstance(pattern, str):
        raise TypeError(f"{function}: pattern must be a str, got {show(pattern)}")
    if not pattern:
        raise ValueError(f"{function}: pattern must be a name or a regular expression, got the empty text")
    return named_splits(pattern, gaps=True)


def checked_special_tokens(function: str, tokens: Sequence[str]) -> tuple[str, ...]:
    """Return the special tokens; their order is that of their ids, so a set will not do."""
    if isinstance(tokens, (str, bytes)) or not isinstance(tokens, Sequence):
        raise TypeError(f"{function}: special_tokens must be a sequence of str, got {show(tokens)}")
    seen: set[str] = set()
    for index, token in enumerate(tokens):
        if not isinstance(token, str):
            raise TypeError(f"{function}: special_tokens must hold str, got {show(token)} at index {index}")
        if not token:
            raise ValueError(f"{function}: special_tokens must not hold the empty text, which is at index {index}")
        if any("\ud800" <= char <= "\udfff" for char in token):
            raise ValueError(f"{function}: special_tokens must be valid text, got a lone surrogate at index {index}")
        if token in seen:
            raise ValueError(f"{function}: special_tokens must differ, got {show(token)} again at index {index}")
        seen.add(token)
    if len(json.dumps(tuple(tokens))) > MAX_SPECIAL:
        raise ValueError(f"{function}: special_tokens must have at most {MAX_SPECIAL} bytes as JSON, got more")
    return tuple(tokens)


def exact_sum(counts: npt.NDArray[np.int64]) -> int:
    if float(counts.sum(dtype=np.float64)) < 2.0**62:
        return int(counts.sum())
    return sum(counts.tolist())


def check_total(total: int) -> int:
    if total > MAX_NUMBER:
        raise TrainingError(f"the counts add up to {total}, which is 2**63 or more: divide them")
    return total


class CountsWriter:
    """Writes a counts file that can be sought in; the header comes last."""

    def __init__(self, file: BinaryIO, header: Header) -> None:
        self._file, self._header = file, header
        self._rest: Entries | None = None  # entries that do not fill a block yet
        self._unique = self._total = self._bytes = 0
        file.write(header.to_bytes())

    def add(self, entries: Entries, order: npt.NDArray[np.int64] | None = None, last: bool = False) -> None:
        """Write entries, each greater than all before it; equal ones give equal files however they come.

        Args:
            order: their indices in order, where they are not.
            last: nothing follows.
        """
        if self._rest is not None:
            entries, self._rest, order = joined([self._rest, entries]), None, None
        if order is None:
            order = np.arange(len(entries.counts), dtype=np.int64)
        at = 0
        while at < len(order):
            payload, end = core.encode_block(*entries, order, at, BLOCK)
            if len(payload) < BLOCK and not last:
                self._rest = entries.select(order[at:])
                return
            if len(payload) > MAX_KEY:
                raise TrainingError(f"a pretoken has {len(payload)} bytes, more than a counts file can hold")
            self._file.write(_BLOCK.pack(len(payload), end - at, zlib.crc32(payload)))
            self._file.write(payload)
            index = order[at:end]
            self._unique += end - at
            self._total += exact_sum(entries.counts[index])
            offsets = entries.pretokens.offsets
            self._bytes += int((offsets[index + 1] - offsets[index]).sum())
            at = end

    def finish(self, documents: int, size: int) -> Header:
        """End the file and write its header; `size` is that of the documents in bytes."""
        if self._rest is not None:
            rest, self._rest = self._rest, None
            self.add(rest, last=True)
        self._file.write(MAGIC[::-1])
        self._header = replace(
            self._header,
            documents=documents,
            size=size,
            unique=self._unique,
            total=check_total(self._total),
            pretoken_bytes=self._bytes,
        )
        self._file.seek(0)
        self._file.write(self._header.to_bytes())
        self._file.seek(0, os.SEEK_END)
        return self._header


def read_path(path: str | os.PathLike[str]) -> Read:
    """Return what reads a file, which is open only meanwhile: any number of files can be merged."""

    def read(place: int, size: int) -> bytes:
        with open(path, "rb") as file:
            file.seek(place)
            return file.read(size)

    return read


class CountsReader:
    """Reads a counts file; all numbers in it are checked against its size before memory is taken for them.

    Raises:
        TrainingError: from every method, where the file is not exactly what the writer wrote.
    """

    def __init__(self, read: Read, size: int, name: str) -> None:
        self._read, self._size, self.name = read, size, name
        self.header, self._place = self._read_header()

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> CountsReader:
        with open(path, "rb"):  # the error that names the file
            return cls(read_path(path), os.stat(path).st_size, os.fspath(path))

    def _fail(self, message: str) -> TrainingError:
        return TrainingError(f"{self.name}: {message}")

    def _exactly(self, place: int, size: int) -> bytes:
        data = self._read(place, size) if place + size <= self._size else b""
        if len(data) != size:
            raise self._fail("the counts file is cut")
        return data

    def _read_header(self) -> tuple[Header, int]:
        if self._read(0, len(MAGIC)) != MAGIC:
            raise self._fail("not a file of pretoken counts")
        head = self._exactly(0, _HEAD.size)
        _, version, size = _HEAD.unpack(head)
        if version != VERSION:
            raise self._fail(f"version {version} of the counts file is not known; this fastbpe reads version {VERSION}")
        if size > MAX_HEADER:
            raise self._fail(f"the header of the counts file has {size} bytes, more than {MAX_HEADER}")
        text = self._exactly(_HEAD.size, size)
        place = _HEAD.size + size + 4
        if struct.pack("<I", zlib.crc32(head + text)) != self._exactly(place - 4, 4):
            raise self._fail("the header of the counts file is damaged")
        header = _header_of(text)
        if header is None:
            raise self._fail("the header of the counts file does not hold what it should")
        if header.unique > self._size // LEAST_ENTRY or header.pretoken_bytes > self._size * EXPANSION:
            raise self._fail("the header of the counts file says more than the file can hold")
        return header, place

    def __iter__(self) -> Iterator[Entries]:
        """Yield the blocks; the end of the file is checked behind the last."""
        place, last = self._place, b""
        unique = total = size = number = 0
        while unique < self.header.unique:
            length, entries, checksum = _BLOCK.unpack(self._exactly(place, _BLOCK.size))
            payload = self._exactly(place + _BLOCK.size, length)
            which = f"block {number} of the counts file, which follows {unique} pretokens,"
            if zlib.crc32(payload) != checksum:
                raise self._fail(f"{which} is damaged")
            try:
                block = Entries(*core.decode_block(payload, entries, last, self.header.positions))
            except ValueError as error:
                raise self._fail(f"{which} is damaged: {error}") from None
            place += _BLOCK.size + length
            number += 1
            unique += entries
            size += int(block.pretokens.offsets[-1])
            total += exact_sum(block.counts)
            last = block.pretokens[-1]
            if unique > self.header.unique or size > self.header.pretoken_bytes:
                break
            yield block
        if (unique, size, total) != (self.header.unique, self.header.pretoken_bytes, self.header.total):
            raise self._fail("the pretokens of the counts file do not add up to what its header says")
        if self._read(place, len(MAGIC) + 1) != MAGIC[::-1]:
            raise self._fail("the counts file does not end where it should")

    def entries(self) -> Entries:
        """Return all entries; a block beside them is the most that is held."""
        n = self.header.unique
        offsets = np.zeros(n + 1, dtype=np.int64)
        blob = np.empty(self.header.pretoken_bytes, dtype=np.uint8)
        counts = np.empty(n, dtype=np.int64)
        firsts = np.empty(n, dtype=np.uint64) if self.header.positions else None
        at = place = 0
        for block in self:
            end, stop = at + len(block.counts), place + len(block.pretokens.blob)
            offsets[at + 1 : end + 1] = block.pretokens.offsets[1:] + place
            blob[place:stop] = block.pretokens.blob
            counts[at:end] = block.counts
            if firsts is not None and block.firsts is not None:
                firsts[at:end] = block.firsts
            at, place = end, stop
        return Entries(PackedBytes(offsets, blob), counts, firsts)


def _header_of(text: bytes) -> Header | None:
    """Return the header of a JSON text, or None if it is not exactly one."""
    try:
        fields: dict[str, Any] = json.loads(text)
        splits = tuple(Split(**split) for split in fields.pop("splits"))
        special_tokens = checked_special_tokens("", fields.pop("special_tokens"))
        header = Header(splits=splits, special_tokens=special_tokens, **fields)
        sound = (
            all(type(split.pattern) is str and type(split.gaps) is bool for split in splits)
            and all(type(getattr(header, name)) is int and 0 <= getattr(header, name) <= MAX_NUMBER for name in NUMBERS)
            and header.unit in UNITS
            and type(header.positions) is bool
            and type(header.unicode_version) is str
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return header if sound else None


class _Run:
    """A sorted source in a merge, with the block that it stands in."""

    def __init__(self, blocks: Iterator[Entries]) -> None:
        self._blocks = blocks
        self.block: Entries | None = None
        self.step()

    def step(self) -> None:
        """Go on to the next block that is not empty."""
        self.block = next((block for block in self._blocks if len(block.counts)), None)
        self.at = 0  # in it
        if self.block is not None:
            self.first, self.last = self.block.pretokens[0], self.block.pretokens[-1]

    def take(self, bound: bytes) -> Entries | None:
        """Take the entries up to a bound."""
        block, at = self.block, self.at
        if block is None or self.first > bound:
            return None
        low, high = at, len(block.counts)
        if self.last <= bound:
            self.step()
            return block if not at else block.select(np.arange(at, high, dtype=np.int64))
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if block.pretokens[middle] <= bound else (low, middle)
        self.at = low
        self.first = block.pretokens[low]
        return block.select(np.arange(at, low, dtype=np.int64))


def merged(sources: Sequence[Iterator[Entries]]) -> Iterator[Entries]:
    """Merge sorted sources; a block of each is held.  The caller has seen to it that the total stays below 2**63."""
    runs = [run for run in map(_Run, sources) if run.block is not None]
    while runs:
        bound = min(run.last for run in runs)
        taken = [run.take(bound) for run in runs]
        yield joined([entries for entries in taken if entries is not None]).sorted_and_added()
        runs = [run for run in runs if run.block is not None]
