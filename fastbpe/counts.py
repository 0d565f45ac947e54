"""How often each pretoken occurs: a value.

Counting is the only part of training that reads the corpus.  Counts add up, so parts of a corpus may be counted on
many machines and merged, and many vocabularies may be trained from one count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeAlias, overload

import numpy as np
import numpy.typing as npt

from fastbpe import core
from fastbpe.core.packed import PackedBytes
from fastbpe.counts_file import (
    MAX_NUMBER,
    UNITS,
    CountsReader,
    CountsWriter,
    Entries,
    Header,
    check_total,
    checked_special_tokens,
    checked_splits,
    exact_sum,
    joined,
    merged,
)
from fastbpe.errors import TrainingError
from fastbpe.files import whole_file
from fastbpe.ids import integer, show
from fastbpe.spec import UNICODE_VERSION, Split

__all__ = ["UNITS", "PretokenCounts", "merge_counts"]

StrPath: TypeAlias = "str | os.PathLike[str]"


class PretokenCounts(Mapping[bytes, int]):
    """Pretokens and how often each occurs, with what they were counted by.

    A mapping from bytes to int that never changes; safe in threads.  Counts are 64-bit.  It holds arrays; a dict is
    made for who asks for single pretokens.

    Attributes:
        splits: how text was split.
        special_tokens: the hard boundaries of the text, in the order of their ids; never counted.
        unit: "document" or "line": what was a text of its own.
        positions: whether the first place of each pretoken is known.
        n_documents: how many documents were counted.
        n_bytes: how many bytes they had, special tokens included.
        total: the sum of all counts.
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
        self.unit = unit
        self.positions = firsts is not None
        self.n_documents = n_documents
        self.n_bytes = n_bytes
        self.unicode_version = unicode_version
        self._entries = Entries(pretokens, counts, firsts)
        self.total = check_total(exact_sum(counts))

    @classmethod
    def from_dict(
        cls,
        counts: Mapping[bytes, int],
        *,
        pattern: str | tuple[Split, ...],
        special_tokens: Sequence[str] = (),
        unit: str = "document",
        n_documents: int = 0,
        n_bytes: int = 0,
    ) -> PretokenCounts:
        """Take the counts of a mapping; zero counts and the empty pretoken are left out.

        Args:
            counts: how often each pretoken occurs.
            pattern: what they were split by, or its name in `fastbpe.patterns`; or the `splits` of other counts.
            special_tokens, unit, n_documents, n_bytes: as the attributes.

        Raises:
            TypeError: a key is not bytes, a count is not an int, or another argument has the wrong type.
            ValueError: a count is negative, or another argument is not one that counts can have.
            TrainingError: the counts add up to 2**63 or more.
        """
        function = "from_dict()"
        if not isinstance(pattern, tuple) or not all(isinstance(split, Split) for split in pattern):
            pattern = checked_splits(function, pattern)  # type: ignore[arg-type]
        if unit not in UNITS:
            raise ValueError(f"{function}: unit must be one of {', '.join(UNITS)}, got {show(unit)}")
        for name, number in (("n_documents", n_documents), ("n_bytes", n_bytes)):
            if not 0 <= integer(function, name, number) <= MAX_NUMBER:
                raise ValueError(f"{function}: {name} must be 0 to 2**63 - 1, got {number}")
        return cls(
            *packed_counts(function, counts),
            splits=pattern,
            special_tokens=checked_special_tokens(function, special_tokens),
            unit=unit,
            n_documents=integer(function, "n_documents", n_documents),
            n_bytes=integer(function, "n_bytes", n_bytes),
        )

    @classmethod
    def of(cls, header: Header, entries: Entries) -> PretokenCounts:
        """Take what a counts file holds."""
        return cls(
            *entries,
            splits=header.splits,
            special_tokens=header.special_tokens,
            unit=header.unit,
            n_documents=header.documents,
            n_bytes=header.size,
            unicode_version=header.unicode_version,
        )

    @cached_property
    def _by_pretoken(self) -> dict[bytes, int]:
        return dict(zip(self._entries.pretokens, self._entries.counts.tolist()))

    def __getitem__(self, key: bytes) -> int:
        return self._by_pretoken[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries.pretokens)

    def __len__(self) -> int:
        return len(self._entries.counts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PretokenCounts):
            return NotImplemented
        if self._header() != other._header() or len(self) != len(other):
            return False
        mine, theirs = (counts._entries.sorted_and_added() for counts in (self, other))
        return (
            np.array_equal(mine.pretokens.offsets, theirs.pretokens.offsets)
            and np.array_equal(mine.pretokens.blob, theirs.pretokens.blob)
            and np.array_equal(mine.counts, theirs.counts)
            and (mine.firsts is None or theirs.firsts is None or np.array_equal(mine.firsts, theirs.firsts))
        )

    __hash__ = None  # type: ignore[assignment]  # as of every mapping

    def __repr__(self) -> str:
        return f"<PretokenCounts: {len(self)} pretokens, {self.total} in all, {self.n_documents} documents>"

    def arrays(self) -> Entries:
        """Return the pretokens (PackedBytes), counts (int64) and first places (uint64, or None).

        They are in no particular order, and not to be changed.  The first place of a pretoken is that of its first
        byte in all text that was counted, one document behind the other.
        """
        return self._entries

    def at_least(self, min_count: int) -> PretokenCounts:
        """Return the counts without the pretokens that occur less often.

        What is learned from them is an approximation: rare pretokens together may decide a merge.
        """
        min_count = integer("at_least()", "min_count", min_count)
        if min_count < 1:
            raise ValueError(f"at_least(): min_count must be at least 1, got {min_count}")
        return PretokenCounts.of(self._header(), self._entries.at_least(min_count))

    def merge(self, other: PretokenCounts) -> PretokenCounts:
        """Return the counts of both, as of this text and then the other; `+` is the same.

        Raises:
            TrainingError: they were not counted in the same way (the field is named), or the sum is 2**63 or more.
        """
        if not isinstance(other, PretokenCounts):
            raise TypeError(f"merge(): other must be PretokenCounts, got {type(other).__name__}")
        self._header().check_same(other._header(), "merge()", "these", "the others")
        check_total(self.total + other.total)
        header = _sum([self._header(), other._header()])
        entries = joined([self._entries, _moved(other._entries, self.n_bytes)])
        return PretokenCounts.of(header, entries.sorted_and_added())

    def __add__(self, other: PretokenCounts) -> PretokenCounts:
        if not isinstance(other, PretokenCounts):
            return NotImplemented
        return self.merge(other)

    def save(self, path: StrPath) -> None:
        """Write the file: complete under its name, or not at all.  Equal counts give equal files."""
        with whole_file(path) as file:
            writer = CountsWriter(file, self._header())
            writer.add(self._entries, core.sort_order(self._entries.pretokens), last=True)
            writer.finish(self.n_documents, self.n_bytes)

    @classmethod
    def load(cls, path: StrPath) -> PretokenCounts:
        """Read what `save` or `merge_counts` wrote.

        Raises:
            TrainingError: the file is not exactly that: another kind or version, cut, or damaged.
            OSError: the file cannot be read.
        """
        reader = CountsReader.of(path)
        return cls.of(reader.header, reader.entries())

    def _header(self) -> Header:
        return Header(
            splits=self.splits,
            special_tokens=self.special_tokens,
            unit=self.unit,
            positions=self.positions,
            unicode_version=self.unicode_version,
            documents=self.n_documents,
            size=self.n_bytes,
        )


def packed_counts(function: str, counts: Mapping[bytes, int]) -> tuple[PackedBytes, npt.NDArray[np.int64]]:
    """Return the pretokens and counts of a mapping, as `PretokenCounts.from_dict` takes them."""
    for key, count in counts.items():
        if not isinstance(key, bytes):
            raise TypeError(f"{function}: counts must have bytes as keys, got {show(key)}")
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise TypeError(f"{function}: counts must have int values, got {show(count)} for {key!r:.80}")
        if count < 0:
            raise ValueError(f"{function}: counts must be 0 or more, got {count} for {key!r:.80}")
    kept = {key: int(count) for key, count in counts.items() if key and count}
    check_total(sum(kept.values()))
    return PackedBytes.of(kept), np.fromiter(kept.values(), np.int64, len(kept))


@overload
def merge_counts(
    counts: Sequence[PretokenCounts | StrPath], output: None = None, *, min_count: int = 1
) -> PretokenCounts: ...
@overload
def merge_counts(counts: Sequence[PretokenCounts | StrPath], output: StrPath, *, min_count: int = 1) -> None: ...
def merge_counts(
    counts: Sequence[PretokenCounts | StrPath], output: StrPath | None = None, *, min_count: int = 1
) -> PretokenCounts | None:
    """Add counts of parts of a corpus, values and files that `save` wrote.

    Files are read a block at a time: with an `output` the memory does not grow with them, and any number will do.
    The result is that of counting all parts in this order.

    Args:
        counts: at least one.
        output: a file for the result; complete under its name, or not at all.
        min_count: pretokens that occur less often in all are left out, as by `PretokenCounts.at_least`.

    Returns:
        The counts, or None with an `output`.

    Raises:
        TrainingError: they were not counted in the same way (the field is named), the sum is 2**63 or more, or a file
            is cut or damaged.
        OSError: a file cannot be read or written.
    """
    if isinstance(counts, (str, bytes, os.PathLike, Mapping)) or not isinstance(counts, Sequence):
        raise TypeError(f"merge_counts(): counts must be a sequence of PretokenCounts or paths, got {show(counts)}")
    if not counts:
        raise ValueError("merge_counts(): counts must hold at least one")
    if type(min_count) is not int or min_count < 1:
        raise ValueError(f"merge_counts(): min_count must be an int of at least 1, got {show(min_count)}")
    headers, sources, names = [], [], []
    place = 0
    for index, part in enumerate(counts):
        if isinstance(part, PretokenCounts):
            header, blocks = part._header(), part._entries.in_order()
            names.append(f"counts[{index}]")
            total = part.total
        elif isinstance(part, (str, os.PathLike)):
            reader = CountsReader.of(part)
            header, blocks, total = reader.header, iter(reader), reader.header.total
            names.append(reader.name)
        else:
            raise TypeError(
                f"merge_counts(): counts must hold PretokenCounts or paths, got {show(part)} at index {index}"
            )
        headers.append((header, total))
        sources.append(_moved_all(blocks, place))
        place += header.size
        headers[0][0].check_same(header, "merge_counts()", names[0], names[-1])
    check_total(sum(total for _, total in headers))
    result = _sum([header for header, _ in headers])
    if output is None:
        parts = [entries.at_least(min_count) for entries in merged(sources)]
        return PretokenCounts.of(result, joined(parts) if parts else _nothing(result.positions))
    with whole_file(output) as file:
        writer = CountsWriter(file, result)
        for entries in merged(sources):
            writer.add(entries.at_least(min_count))
        writer.finish(result.documents, result.size)
    return None


def _moved(entries: Entries, place: int) -> Entries:
    return entries if entries.firsts is None else entries._replace(firsts=entries.firsts + np.uint64(place))


def _moved_all(blocks: Iterator[Entries], place: int) -> Iterator[Entries]:
    return (_moved(block, place) for block in blocks)


def _nothing(positions: bool) -> Entries:
    firsts = np.empty(0, dtype=np.uint64) if positions else None
    return Entries(PackedBytes.of([]), np.empty(0, dtype=np.int64), firsts)


def _sum(headers: Sequence[Header]) -> Header:
    """Return the header of the counts of all parts."""
    documents, size = sum(header.documents for header in headers), sum(header.size for header in headers)
    if max(documents, size) > MAX_NUMBER:
        raise TrainingError(f"the documents or their bytes add up to 2**63 or more: {documents}, {size}")
    return replace(headers[0], documents=documents, size=size)
