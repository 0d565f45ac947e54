"""Hostile inputs of any size, the same on every run: SHAPES[name](size) gives bytes, or a str with lone surrogates.

Text shapes are valid UTF-8 cut between characters, of at most `size` bytes and more than `size - 64`; the shapes
named in INVALID hold invalid UTF-8, those in SURROGATES are str.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

Shape = Callable[[int], "bytes | str"]

SHAPES: dict[str, Shape] = {}
INVALID = ("random_bytes", "invalid_utf8", "cut_characters")
SURROGATES = ("lone_surrogates",)

ZWJ = "\u200d"
FAMILY = ZWJ.join("\U0001f468\U0001f469\U0001f467\U0001f466")
CONTRACTIONS = ("'s", "'S", "'\u017f", "'t", "'T", "'re", "'Re", "'RE", "'ve", "'VE", "'m", "'M", "'ll", "'LL", "'lL")
SPECIALS = ("<|endoftext|>", "<|fim_prefix|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]")
LOOKALIKES = ("<|endoftext", "endoftext|>", "<|end<|endoftext|>", "<|EndOfText|>", "<|endoftext|", "<|endoftex\u0442|>")
WHITESPACE = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2003\u2007\u2028\u2029\u202f\u205f\u3000\u200b\ufeff"
# One of each kind: continuation alone, overlong, surrogate, past U+10FFFF, never-used bytes, sequences cut short.
INVALID_UTF8 = (
    b"\x80",
    b"\xbf\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xe0\x80\x80",
    b"\xf0\x80\x80\x80",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
)


def shape(function: Shape) -> Shape:
    SHAPES[function.__name__] = function
    return function


def fit(text: str, size: int) -> bytes:
    """The longest prefix of at most `size` bytes that ends between characters."""
    return text.encode()[:size].decode("utf-8", "ignore").encode()


def repeat(unit: str, size: int) -> bytes:
    return fit(unit * (size // len(unit.encode()) + 1), size)


def choose(seed: str, alphabet: str | tuple[str, ...], size: int) -> bytes:
    """Random members of the alphabet."""
    picks = random.Random(seed).choices(alphabet, k=size // min(len(item.encode()) for item in alphabet) + 1)
    return fit("".join(picks), size)


def span(*ranges: tuple[int, int]) -> str:
    """The characters of inclusive ranges, surrogates left out."""
    return "".join(chr(code) for low, high in ranges for code in range(low, high + 1) if not 0xD800 <= code <= 0xDFFF)


def repeated(**units: str) -> None:
    for name, unit in units.items():
        SHAPES[name] = partial(repeat, unit)


def chosen(**alphabets: str | tuple[str, ...]) -> None:
    for name, alphabet in alphabets.items():
        SHAPES[name] = partial(choose, name, alphabet)


repeated(
    one_letter="a",
    alternating="ab",
    camel_case="camelCaseWordXMLHttp",
    spaces=" ",
    newlines="\n",
    crlf="\r\n",
    spaces_newlines=" \n",
    quotes="'",
    newline_slash="!\n/",
    one_mark="\u0301",
    han="\u6211\u4eec\u7684\u8bed\u8a00\u6587\u5b57",
    emoji_zwj=FAMILY,
    specials_in_a_row="<|endoftext|>",
    special_starts="<|",
    half_specials="<|endoftext",
    nul="\0",
)
chosen(
    random_letters="abcdefghijklmnopqrstuvwxyz",
    upper_lower="aBcD",
    mixed_whitespace=" \t\n\r\x0b\x0c",
    unicode_whitespace=WHITESPACE + "a",
    digits="0123456789",
    unicode_digits="0\u0663\u0969\u0e53\uff13\u00b2\u00bd\u2167\u3007\U0001d7d8",
    punctuation="!?.,;:-_()[]{}#*+=|~^`\"'$\n\r/\\",
    contractions=tuple(word + tail for word in ("", "I", "we ", "\u4e00") for tail in CONTRACTIONS),
    zalgo="a" + span((0x300, 0x36F), (0x483, 0x489), (0x20D0, 0x20F0)),
    thai=span((0xE01, 0xE3A), (0xE40, 0xE4E)),
    jamo=span((0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2)) + "\uac00\uac01",
    emoji="\U0001f600\U0001f1eb\U0001f1f7\u2764\ufe0f\U0001f44d\U0001f3fd" + ZWJ,
    title_and_modifier="\u01c5\u1f88\u02b0\u2071\u0298\u00aa\u3005Aa",
    # Unicode 15, 16 and 17: letters, digits and marks that older tables do not know.
    recent_unicode="\U00010efd\U00011f04\U0001e4f0\U00010d4a\U000105c0\U00016d40\U0001ccf0\ua7cb\ua7dc\ua7ce\U00011b60a1",
    unassigned="\u0378\ufdd0\uffff\U0001fffe\U000e0080\U0010ffff\ue000 a1",
    controls=span((0, 31), (127, 159)),
    special_texts=SPECIALS,
    special_lookalikes=LOOKALIKES,
    base64="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    any_character=span((0, 0x2FFFF)),
)


@shape
def spaces_then_x(size: int) -> bytes:
    """Backtracks the whole run in a naive reading of `\\s+(?!\\S)`."""
    return b" " * max(size - 1, 0) + b"x" * (size > 0)


@shape
def fibonacci(size: int) -> bytes:
    """A word that repeats at every scale, but has no period."""
    previous, word = b"b", b"a"
    while len(word) < size:
        previous, word = word, word + previous
    return word[:size]


@shape
def random_bytes(size: int) -> bytes:
    return random.Random("random_bytes").randbytes(size)


@shape
def invalid_utf8(size: int) -> bytes:
    """Every kind of invalid sequence, between texts and back to back."""
    rng = random.Random("invalid_utf8")
    parts = [rng.choice([*INVALID_UTF8, b"a", b" the", b"\n", "\u00e9".encode()]) for _ in range(size)]
    return b"".join(parts)[:size]


@shape
def cut_characters(size: int) -> bytes:
    """Four-byte characters, each cut after one, two or three bytes."""
    unit = b"".join("\U0001f600".encode()[:keep] + b"x" for keep in (1, 2, 3, 4))
    return (unit * (size // len(unit) + 1))[:size]


@shape
def lone_surrogates(size: int) -> str:
    """High and low surrogates, alone, paired and in the wrong order; three bytes each."""
    return "".join(random.Random("lone_surrogates").choices("\ud83d\ude00\udbff\udc00a ", k=size // 3))
