"""Byte strings, and a vocabulary, as arrays that the native twins read as they are."""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import overload

import numpy as np
from numpy.typing import NDArray


class PackedBytes(Sequence[bytes]):
    """Byte strings in one buffer: 8 bytes for each beside its own, where a list of bytes objects takes 41.

    Attributes:
        offsets: int64 [n + 1], rising from 0; string i is `blob[offsets[i]:offsets[i + 1]]`.
        blob: uint8; all strings, joined.
    """

    __slots__ = ("blob", "offsets")

    def __init__(self, offsets: NDArray[np.int64], blob: NDArray[np.uint8]) -> None:
        self.offsets, self.blob = offsets, blob

    @classmethod
    def of(cls, strings: Iterable[bytes]) -> PackedBytes:
        """Pack byte strings."""
        kept = list(strings)
        offsets = np.zeros(len(kept) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, kept), np.int64, len(kept)), out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join(kept), dtype=np.uint8))

    @classmethod
    def join(cls, parts: Sequence[PackedBytes]) -> PackedBytes:
        """Return the strings of all parts, one behind the other."""
        offsets = np.zeros(sum(map(len, parts)) + 1, dtype=np.int64)
        at = place = 0
        for part in parts:
            np.add(part.offsets[1:], place, out=offsets[at + 1 : at + 1 + len(part)])
            at += len(part)
            place += int(part.offsets[-1])
        return cls(offsets, np.concatenate([part.blob for part in parts]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        ends = self.offsets.tolist()
        data = self.blob.tobytes()
        return (data[start:end] for start, end in zip(ends, ends[1:]))


class Merges(Sequence[tuple[bytes, bytes]]):
    """The merges of a training, in order: equal to the list or tuple of the same pairs, at a fifth of its memory.

    Attributes:
        products: the tokens they make, joined pairs.
        lefts: int64 [n]; the length of the left part of each.
    """

    __slots__ = ("_pairs", "lefts", "products")
    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __init__(self, products: PackedBytes, lefts: NDArray[np.int64]) -> None:
        self.products, self.lefts = products, lefts
        self._pairs: tuple[tuple[bytes, bytes], ...] | None = None

    @classmethod
    def of(cls, pairs: Iterable[tuple[bytes, bytes]]) -> Merges:
        """Pack pairs of byte strings."""
        kept = list(pairs)
        lefts = np.fromiter((len(left) for left, _ in kept), np.int64, len(kept))
        return cls(PackedBytes.of(left + right for left, right in kept), lefts)

    def pairs(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return the merges as pairs, made once."""
        if self._pairs is None:
            tokens = list(self.products)
            lefts = self.lefts.tolist()
            self._pairs = tuple((token[:left], token[left:]) for token, left in zip(tokens, lefts))
        return self._pairs

    def __len__(self) -> int:
        return len(self.products)

    @overload
    def __getitem__(self, index: int) -> tuple[bytes, bytes]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[bytes, bytes]]: ...
    def __getitem__(self, index: int | slice) -> tuple[bytes, bytes] | list[tuple[bytes, bytes]]:
        return list(self.pairs()[index]) if isinstance(index, slice) else self.pairs()[index]

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.pairs())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Merges):
            return (
                np.array_equal(self.lefts, other.lefts)
                and np.array_equal(self.products.offsets, other.products.offsets)
                and np.array_equal(self.products.blob, other.products.blob)
            )
        return self.pairs() == tuple(other) if isinstance(other, (list, tuple)) else NotImplemented

    def __repr__(self) -> str:
        return repr(list(self.pairs()))


class PackedVocab(Mapping[bytes, int]):
    """Tokens and their ids in the order of ids; made from data that was checked.

    Attributes:
        ids: uint32 [n], increasing.
        offsets: uint32 [n + 1]; token i is `blob[offsets[i]:offsets[i + 1]]`.
        blob: all tokens, joined.
        lefts: uint8 [n]; the length of the left part of the pair that makes a token, 0 where none does.
    """

    __slots__ = ("_dict", "blob", "ids", "lefts", "offsets")

    def __init__(
        self, ids: NDArray[np.uint32], offsets: NDArray[np.uint32], blob: bytes, lefts: NDArray[np.uint8]
    ) -> None:
        self.ids, self.offsets, self.blob, self.lefts = ids, offsets, blob, lefts
        self._dict: dict[bytes, int] | None = None

    def token(self, id: int) -> bytes | None:
        """Return the token of an id, or None."""
        at = int(np.searchsorted(self.ids, id))
        if at == len(self.ids) or self.ids[at] != id:
            return None
        return self.blob[self.offsets[at] : self.offsets[at + 1]]

    def _table(self) -> dict[bytes, int]:
        if self._dict is None:
            ends = self.offsets.tolist()
            tokens = (self.blob[start:end] for start, end in zip(ends, ends[1:]))
            self._dict = dict(zip(tokens, self.ids.tolist()))
        return self._dict

    def __getitem__(self, token: bytes) -> int:
        return self._table()[token]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._table())

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, token: object) -> bool:
        return token in self._table()

    def keys(self) -> KeysView[bytes]:
        return self._table().keys()

    def values(self) -> ValuesView[int]:
        return self._table().values()

    def items(self) -> ItemsView[bytes, int]:
        return self._table().items()
