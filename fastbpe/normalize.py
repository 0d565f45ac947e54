"""NFC exactly as tokenizers 0.23 does it, whatever Unicode version the running Python has.

tokenizers normalizes with the tables of Unicode 9.0.  A character assigned later is inert to it: combining class 0, no
decomposition, part of no composition (found by probing each scalar with marks of every combining class on both sides:
the classes that it knows are those of Unicode 9.0, to the character).  What was assigned by 9.0 can never change, by
Unicode's stability policy; so the two differ only in the characters that later versions gave a combining class, a
decomposition or a composition.  These are the walls below.  Nothing crosses an inert character: text is cut at the
walls, what lies between is normalized by `unicodedata`, and the walls stay as they are.  A wall that an older
`unicodedata` does not know is inert to it anyway.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple
from unicodedata import combining, decomposition, is_normalized, normalize

import numpy as np
from numpy.typing import NDArray

from fastbpe.pattern.unicode import named

# Assigned after Unicode 9.0 and, up to Unicode 18.0, with Canonical_Combining_Class other than 0, a canonical
# decomposition, or NFC_Quick_Check other than Yes; and the first characters of compositions made after 9.0
# (regex 2026.11: \P{ccc=0}, \p{dt=can}, \P{NFC_QC=Y}; ages from Python 3.6, whose tables are 9.0).
_WALLS = """
    05C8-05C9 07FD 0897-089F 08CA-08D3 09FE 0C3C 0D3B-0D3C 0EBA 1715 1ABF-1AF0 1DF6-1DFA A82C 105C9 105D2 105DA 105E4
    10D24-10D27 10D69-10D6D 10EAB-10EAC 10ECB-10ECF 10EF0-10EFB 10EFD-10EFF 10F46-10F50 10F82-10F85 11070 1133B
    11382-11385 1138B 1138E 11390-11391 113B8 113BB 113C2 113C5 113C7-113C9 113CE-113D0 1145E 11839-1183A 11930 11935
    11938 1193D-1193E 11943 119E0 11A34 11A47 11A99 11D42 11D44-11D45 11D97 11F41-11F42 1611E-16129 1612F 16D63
    16D67-16D6A 16FF0-16FF1 1D127-1D128 1D250-1D252 1D25B-1D25C 1D25F 1D280-1D281 1E08F 1E130-1E136 1E2AE 1E2EC-1E2EF
    1E4EC-1E4EF 1E5EE-1E5EF 1E6E3 1E6E6 1E6EE-1E6EF 1E6F5
"""

# Starters that compose with the character before them (NFC_Quick_Check=Maybe, combining class 0, in Unicode 9.0).
_JAMO = "1161-1175 11A8-11C2"
_JOINING = f"""
    09BE 09D7 0B3E 0B56-0B57 0BBE 0BD7 0CC2 0CD5-0CD6 0D3E 0D57 0DCF 0DDF 102E {_JAMO} 1B35 11127 1133E
    11357 114B0 114BA 114BD 115AF
"""

# Outside of these no character has a combining class or a canonical decomposition: signs, ideographs, Hangul, private
# use, hieroglyphs, emoji.
_SPEAKING = "C0-30FF A600-ABFF F900-11F7F 16100-16FFF 1BC00-1E9FF 2F800-2FA1F"

_MANY = 64  # marks in a row that are sorted before unicodedata does it
_PART = 1 << 16  # characters that are looked at together


def _characters(ranges: str) -> frozenset[str]:
    bounds = [[int(bound, 16) for bound in item.split("-")] for item in ranges.split()]
    return frozenset(chr(code) for bound in bounds for code in range(bound[0], bound[-1] + 1))


WALLS = _characters(_WALLS)
_NOT_FIRST = _characters(_JOINING)


@cache
def _kinds() -> NDArray[np.uint8]:
    """Of each character: 2 for a wall, 1 for a mark, 0 for all others."""
    kinds = np.zeros(0x110000, dtype=np.uint8)
    for first, last in named("M").ranges:
        kinds[first : last + 1] = 1
    kinds[[ord(wall) for wall in WALLS]] = 2
    return kinds


@cache
def _many_marks() -> re.Pattern[str]:
    """A long run of marks; compiling it takes a tenth of the import of all the package."""
    marks = "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in named("M").ranges)
    return re.compile(f"[{marks}]{{{_MANY},}}")


class QuickCheck(NamedTuple):
    """What tells of most text that it is normalized (UAX 15, Detecting Normalization Forms).

    `marks`, [0x30000]: of each character, characters above being 0, the rank of its combining class, plus 128 if there
    is a starter with which it composes; or 127, a composed starter; or 255, ask `nfc`.  `pairs`, [n], sorted: the
    starters and what composes with them, as starter * 2**32 + character.  A text is normalized where no rank but 0 is
    below that of the character before, and no character that composes has a last starter that is composed or that it
    composes with: a composed one may give up its mark for it (U+014C U+0323).
    """

    marks: bytes
    pairs: NDArray[np.uint64]


@cache
def quick_check() -> QuickCheck:
    marks = bytearray(0x30000)
    pairs = []
    speaking = sorted(_characters(_SPEAKING))
    ranks = {found: rank for rank, found in enumerate(sorted(set(map(combining, speaking))))}
    for character in speaking:
        composed = is_normalized("NFC", character)
        marks[ord(character)] = ranks[combining(character)] if composed else 255
        parts = decomposition(character).split()
        if composed and len(parts) == 2 and not parts[0].startswith("<"):
            pairs.append((int(parts[0], 16), int(parts[1], 16)))
            marks[ord(character)] = 255 if combining(character) else 127
    for _, second in pairs:
        marks[second] = 255 if marks[second] == 127 else marks[second] | 128
    for character in WALLS | _characters(_JAMO):
        marks[ord(character)] = 255
    return QuickCheck(bytes(marks), np.array(sorted(first << 32 | second for first, second in pairs), dtype=np.uint64))


def nfc(text: str) -> str:
    """Return the NFC form of text, equal to tokenizers' `normalizers.NFC()`."""
    if text.isascii():
        return text
    # A space composes with nothing and nothing moves across it.
    pieces = []
    start = 0
    while start < len(text):
        end = text.rfind(" ", start, start + _PART) + 1 or text.find(" ", start + _PART) + 1 or len(text)
        part = text[start:end]
        pieces.append(normalize("NFC", part) if _is_plain(part) else " ".join(map(_nfc_word, part.split(" "))))
        start = end
    return "".join(pieces)


def _is_plain(text: str) -> bool:
    """Whether there are neither walls nor many marks in a row."""
    kinds = _kinds()[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)]
    if kinds.max(initial=0) == 2:
        return False
    others = np.flatnonzero(kinds == 0)
    return bool(np.diff(others, prepend=-1, append=len(text)).max() <= _MANY)


def _nfc_word(text: str) -> str:
    # A part of a normalized text is normalized, so the pieces between walls then are, too.
    if is_normalized("NFC", text):
        return text
    if len(text) < _MANY and WALLS.isdisjoint(text):
        return normalize("NFC", text)
    text = _many_marks().sub(_ordered, text)
    pieces = []
    start = 0
    for wall in [index for index, character in enumerate(text) if character in WALLS]:
        pieces += [normalize("NFC", text[start:wall]), text[wall]]
        start = wall + 1
    pieces.append(normalize("NFC", text[start:]))
    return "".join(pieces)


def _ordered(run: re.Match[str]) -> str:
    """Return an equivalent run of marks that is in canonical order, which `normalize` finds out in linear time.

    It sorts by insertion: a few thousand marks on one letter would take it seconds.
    """
    ordered: list[str] = []
    marks: list[str] = []
    for mark in (part for character in run[0] for part in _decomposed(character)):
        if combining(mark) and mark not in WALLS:
            marks.append(mark)
        else:
            ordered += [*sorted(marks, key=combining), mark]
            marks = []
    return "".join(ordered + sorted(marks, key=combining))


def _decomposed(character: str) -> str:
    return character if character in WALLS else normalize("NFD", character)


def settled(text: str) -> int:
    """Return the greatest index up to which no later text can change the NFC form; 0 if there is none.

    It is the place of the last character that neither joins nor is reordered with what stands before it, so
    `nfc(text) == nfc(text[:index]) + nfc(text[index:])`, and the same with any text added.
    """
    return next((index for index in range(len(text) - 1, 0, -1) if _begins(text[index])), 0)


def _begins(character: str) -> bool:
    """Whether nothing before this character can compose with it or move it."""
    if character.isascii() or character in WALLS:
        return True
    first = normalize("NFD", character)[0]
    return combining(first) == 0 and first not in _NOT_FIRST
