"""NFC.  Oracle: `tokenizers.normalizers.NFC()`, on every scalar in context; `nfc` of the whole text for `settled`."""

from __future__ import annotations

import random
import unicodedata

import pytest

import fastbpe
from fastbpe.normalize import WALLS, nfc, settled
from fastbpe.pattern.named import QWEN2
from fastbpe.spec import Split, TokenizerSpec

normalizers = pytest.importorskip("tokenizers.normalizers", reason="tokenizers is not installed")
OWNER = normalizers.NFC().normalize_str

SCALARS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
# Marks of several classes, starters that join, Hangul, singletons, and parts of compositions newer than the owner's.
NEIGHBOURS = (
    "aA\u0345\u0334\u0323\u0301\u0307\u3099\u094d\u093c\u1100\u1161\u11a8\uac00\u09c7\u09be\u00e9\u1e69\u212b\uf900\u0344\u0958"
    "\U00011935\U00011930\U0001611e\U00016d67\U00016d63\U000105d2\U000105da\U00011382\U000113c9\U000113c2\U000113b8"
)
MOVING = [c for c in SCALARS if unicodedata.combining(c)] + [chr(c) for c in range(0x1100, 0x1200)]


# Each composed character before each one that composes with some other.
STARTERS = [
    c for c in SCALARS if unicodedata.decomposition(c)[:1] not in ("", "<") and unicodedata.is_normalized("NFC", c)
]
SECONDS = sorted({unicodedata.normalize("NFD", c)[-1] for c in STARTERS})
COMPOSED = [one + two for one in STARTERS for two in SECONDS]


def hard_texts(seed, count):
    rng = random.Random(seed)
    pool = MOVING + sorted(WALLS) * 3 + list(NEIGHBOURS) * 8
    return ["".join(rng.choices(pool, k=rng.randint(1, 12))) for _ in range(count)]


def test_every_scalar_in_context():
    # U+10300 is inert, so the texts that it joins do not touch each other.
    pairs = list(zip(NEIGHBOURS, NEIGHBOURS[5:] + NEIGHBOURS[:5]))
    rng = random.Random(1)
    for start in range(0, len(SCALARS), 500):
        (a, b), (c, d) = rng.choices(pairs, k=2)
        text = f"{c}{d}\U00010300{a}{b}".join(["", *SCALARS[start : start + 500], ""])
        assert nfc(text) == OWNER(text), f"from U+{ord(SCALARS[start]):04X}"


def test_random_runs_of_characters_that_move():
    for text in hard_texts(2, 20_000):
        assert nfc(text) == OWNER(text), ascii(text)


def test_walls_differ_from_newer_tables():
    # The published example: newer Unicode composes the pair, the owner does not.
    assert nfc("\U00011935\U00011930") == "\U00011935\U00011930" == OWNER("\U00011935\U00011930")
    assert nfc("a\u0897\u0323") == "a\u0897\u0323" == OWNER("a\u0897\u0323")


def test_nothing_after_changes_what_is_settled():
    texts = hard_texts(3, 10_000)
    for text, later in zip(texts, reversed(texts)):
        index = settled(text)
        assert nfc(text[:index]) + nfc(text[index:] + later) == nfc(text + later), ascii((text, index, later))


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("", 0),
        ("a", 0),
        ("ab", 1),
        ("ae\u0301", 1),
        ("\u0301\u0301", 0),
        ("x\u1100\u1161\u11a8", 1),
        ("가나", 1),
        ("ab\u212b", 2),
    ],
)
def test_settled_is_the_last_character_that_stands_alone(text, index):
    assert settled(text) == index


def byte_tokenizer(normalizer):
    vocab = {bytes([byte]): byte for byte in range(256)}
    return fastbpe.Tokenizer(TokenizerSpec(splits=(Split(QWEN2),), vocab=vocab, normalizer=normalizer))


@pytest.mark.native_only  # plain Python asks `nfc` of all that is not ASCII
def test_what_is_quickly_found_to_be_normalized_is():
    """Every scalar, and random runs; that much of it is found, too: or all would be told to ask."""
    encoder = byte_tokenizer("NFC")._encoder

    def sure(text):
        return encoder.encode_text(text, None, True) is not None

    found = 0
    for text in [
        *SCALARS,
        *(one + two for one in MOVING for two in "a\u0323\u0301\u05b0\u0e48\u1100"),
        *hard_texts(7, 20_000),
        *COMPOSED,
    ]:
        if sure(text):
            found += 1
            assert OWNER(text) == text, ascii(text)
    assert found > 1_090_000
    for text in (
        "Stra\u00dfe, \u0416, \u0905\u0902\u0938\u094d",
        "\u0e19\u0e49\u0e33",
        "\uac00\u4e00\U0001f600",
        "\u05d1\u05bc\u05b0",
    ):
        assert sure(text) is (OWNER(text) == text)


@pytest.mark.parametrize("threads", [1, 2])
def test_ids_of_normalized_text(threads):
    """Each kind of str, normalized or not, as one text, in a batch, and cut.  Oracle: `nfc`, then no normalizer."""
    normalizing, plain = byte_tokenizer("NFC"), byte_tokenizer(None)
    rng = random.Random(8)
    pieces = [
        "\u00e9",
        "e\u0301",
        "e",
        " ",
        "\u0e19\u0e49\u0e33",
        "\u0323\u0301",
        "\u0301\u0323",
        "\u1100\u1161",
        "\uac00",
        "\u0915\u093c",
    ]
    texts = [
        "".join(rng.choices(pieces + wide, k=rng.randint(1, 40)))
        for wide in ([], ["\U00011935\U00011930"])
        for _ in range(500)
    ]
    texts += ["caf\u00e9 " * 9, "".join(texts), "\u00e9 " * 100_000 + "e\u0301"]
    texts += ["caf\u00e9 \u0e19\u0e49\u0e33 \u0915\u093c " * 10_000]  # long enough for threads
    texts += rng.sample(COMPOSED, 5000)
    expected = [plain.encode(nfc(text)) for text in texts]
    assert [normalizing.encode(text) for text in texts] == expected
    assert normalizing.encode_batch(texts, threads=threads) == expected


def test_surrogate_pairs_that_compose():
    pair = "\ud804\udc99\ud804\udcba"  # of U+11099 U+110BA
    tok, expected = byte_tokenizer("NFC"), list("\U0001109a".encode())
    assert tok.encode(pair) == tok.encode("\U00011099\U000110ba") == expected
    assert tok.encode_batch([pair * 3000], threads=2) == [expected * 3000]


def test_thousands_of_marks_on_one_letter():
    """Python's own normalization takes time quadratic in their number.  Oracle: tokenizers."""
    rng = random.Random(6)
    marks = "\u0301\u0327\u0323\u0344\u05b0\u0345\u0f71\u302a\U0001d165\u093c\u0897\u20d0\u034f"
    for count in (63, 64, 65, 200, 3000):
        text = "e" + "".join(rng.choices(marks, k=count)) + "x\u0301"
        assert nfc(text) == OWNER(text)
