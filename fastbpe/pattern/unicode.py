"""Sets of code points, and the Unicode 16.0 sets that split patterns name.

Unicode 16.0 is what tiktoken 0.14 and tokenizers 0.23 agree on for every scalar value.  The property classes of the
installed `regex` and `unicodedata` follow other versions, so nothing in fastbpe asks them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache

from fastbpe.pattern import unicode_tables

VERSION = unicode_tables.VERSION
MAX_CODE = 0x10FFFF


class CharSet:
    """An immutable set of code points, kept as sorted, disjoint, non-adjacent (first, last) ranges."""

    __slots__ = ("_firsts", "ranges")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        merged: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        self.ranges = tuple(merged)
        self._firsts = [first for first, _ in merged]

    @classmethod
    def of(cls, text: str) -> CharSet:
        """Return the set of the characters of `text`."""
        return cls((ord(char), ord(char)) for char in text)

    def __contains__(self, code: int) -> bool:
        index = bisect_right(self._firsts, code) - 1
        return index >= 0 and code <= self.ranges[index][1]

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CharSet) and self.ranges == other.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __or__(self, other: CharSet) -> CharSet:
        return CharSet(self.ranges + other.ranges)

    def __invert__(self) -> CharSet:
        gaps, position = [], 0
        for first, last in self.ranges:
            if first > position:
                gaps.append((position, first - 1))
            position = last + 1
        if position <= MAX_CODE:
            gaps.append((position, MAX_CODE))
        return CharSet(gaps)

    def __and__(self, other: CharSet) -> CharSet:
        return ~(~self | ~other)

    def isdisjoint(self, other: CharSet) -> bool:
        """Return whether no code point is in both sets."""
        return not (self & other).ranges


ANY = CharSet([(0, MAX_CODE)])


def _unpack(name: str) -> CharSet:
    ranges, position = [], 0
    for item in unicode_tables.RANGES[name].split():
        gap, _, length = item.partition(".")
        first = position + int(gap, 36)
        last = first + (int(length, 36) if length else 0)
        ranges.append((first, last))
        position = last + 1
    return CharSet(ranges)


@lru_cache(maxsize=64)
def named(name: str) -> CharSet:
    r"""Return the set that `\p{name}` means: a general category, one of its groups, Han, White_Space or Any.

    Raises:
        KeyError: fastbpe has no set of this name.
    """
    if name == "Any":
        return ANY
    if name == "Cn":
        return ~named("Assigned")
    if name == "Assigned" or (len(name) == 1 and name in "LMNPSZC"):
        group = "" if name == "Assigned" else name
        members = [key for key in unicode_tables.RANGES if len(key) == 2 and key.startswith(group)]
        found = CharSet(item for key in members for item in _unpack(key).ranges)
        return found | named("Cn") if name == "C" else found
    return _unpack({"Script=Han": "Han", "sc=Han": "Han", "IsHan": "Han"}.get(name, name))


@lru_cache(maxsize=1)
def _case_classes() -> dict[int, CharSet]:
    """Return, for each code point that has case, the set of those with the same simple case folding."""
    groups: dict[int, list[int]] = {}
    for run in unicode_tables.FOLDS.split():
        source, target, count, step = map(int, run.split(":"))
        for index in range(count):
            groups.setdefault(target + index * step, [target + index * step]).append(source + index * step)
    return {code: closed for codes in groups.values() for closed in [CharSet((c, c) for c in codes)] for code in codes}


def case_closure(chars: CharSet) -> CharSet:
    """Return `chars` and all code points that match them without regard to case (simple case folding)."""
    classes = _case_classes()
    closed = list(chars.ranges)
    for code, same in classes.items():
        if code in chars:
            closed.extend(same.ranges)
    return CharSet(closed)
