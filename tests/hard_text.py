"""Short strings of characters that split patterns treat differently; deterministic from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator

# Contraction letters with U+017F and Kelvin, every kind of white space, digits of several scripts, case without case
# (title case, modifier letters, ordinals), marks, ideographs, kana, Hangul and jamo, Thai, joiners, NUL, emoji, and
# characters that came with Unicode 14 to 17.
CHARACTERS = [
    *"aAbBsStTdDmMlLvVrReExX''''  \n\n\r\t\v\f12345670٣ⅷ½.,!/?-_|<>()", *"ſKİıßẞǅǈʰʼªºÉé\u0301\u0308中日の々カーｶ",
    *"한국ก่าិក្\u00a0\u1680\u2003\u3000\u2028\u0085\u200b\u200d\u00ad\ufeff\0\x1c\x7f😀👍🏽🇩🇪", "\U0001e900",
    "\U00010d40", "\u1c89", "\U0001e4d0", "\U000323b0", "\ufffd", "\U0010ffff", "\ue000", "\u0378",
    "'ll", "'LL", "'re", "'Ve", "'ſ", "  ", "\r\n", "\n\n", "   ", "\n  ",
]  # fmt: skip


def hard_strings(count: int, seed: int, longest: int = 24) -> Iterator[str]:
    """Yield `count` strings of up to `longest` items."""
    rng = random.Random(seed)
    for _ in range(count):
        yield "".join(rng.choices(CHARACTERS, k=rng.randint(0, longest)))
