"""Made text in which new words keep coming, as in real text (Heaps' law), of any length, from a seed.

The rank of a word has the tail P(rank > x) = (1 + x / 30) ** -0.6, so n words have about n ** 0.6 different ones.  A
word is its rank written in syllables: frequent words are short.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

TAIL, SHIFT = 0.6, 30.0
WORDS = 200_000  # a block
PLACES = 6  # syllables of the longest word


def write_text(path: Path, size: int, seed: int) -> None:
    """Write `size` bytes of text: words, commas, line ends."""
    random = np.random.default_rng(seed)
    # Syllables of two or three letters; the first is no syllable, and pads.
    letters = random.permutation([a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "", "n", "s", "r")])
    syllables = np.array([list(each.ljust(3, "\0").encode()) for each in ["", *letters]], dtype=np.uint8)
    base, written = len(syllables) - 1, 0
    with path.open("wb") as file:
        while written < size:
            ranks = (SHIFT * (random.random(WORDS) ** (-1 / TAIL) - 1)).clip(0, base**PLACES - 1).astype(np.int64)
            rows = np.zeros((WORDS, 3 * PLACES + 2), dtype=np.uint8)
            for place in range(PLACES):
                digit = np.where((ranks > 0) | (place == 0), ranks % base + 1, 0)
                rows[:, 3 * place : 3 * place + 3] = syllables[digit]
                ranks //= base
            ends = random.random(WORDS)
            rows[:, -2] = np.where(ends < 0.08, ord(","), 0)
            rows[:, -1] = np.where(ends > 0.93, ord("\n"), ord(" "))
            block = rows[rows > 0].tobytes()
            written += file.write(block[: size - written])
