"""What an encoder remembers of earlier calls never changes ids, and is bounded."""

from __future__ import annotations

import random
import string
import subprocess
import sys
from functools import lru_cache

import numpy as np
import pytest

import fastbpe
from fastbpe.core import backend_modules
from fastbpe.pattern.automaton import compile_split
from tests.conftest import ROOT
from tests.hard_text import hard_strings

pytestmark = pytest.mark.native_only
SIZES = [*range(1, 36), 47, 48, 63, 64, 65, 127, 128, 200, *range(252, 260), 300]


@lru_cache(maxsize=1)
def oracle(name):
    """The Python twin, which remembers nothing."""
    python, spec = backend_modules("python"), fastbpe.get_encoding(name).spec
    splitter = python.Splitter(compile_split(spec.splits[0].pattern, spec.splits[0].gaps))
    return python.Encoder(splitter, python.Merger(spec.vocab, spec.merges, spec.whole))


@pytest.fixture(params=["plain", "avx2", "avx512", ""], ids=["plain", "avx2", "avx512", "best"])
def make(request):
    """Makes encoders of a bundled encoding with one kind of vectors; they have seen nothing."""

    def make(name):
        native, spec = backend_modules("native"), fastbpe.get_encoding(name).spec
        splitter = native.Splitter(compile_split(spec.splits[0].pattern, spec.splits[0].gaps))
        try:
            merger = native.Merger(spec.vocab, spec.merges, spec.whole, vectors=request.param)
            return native.Encoder(splitter, merger, vectors=request.param)
        except ValueError as error:
            pytest.skip(str(error))

    return make


def all_lengths(seed):
    """Texts whose pretokens have every length up to 35 bytes and some beyond, and come back in other company."""
    rng = random.Random(seed)
    for unit in ["a", "xq", "я", "é", "क", "中", "ก", "한", "😀", "!", "~=", " ", "\n", "ＡＢ", "ab\u0301"]:
        runs = [" " + unit * (size // len(unit.encode()) + 1) + "x" * rng.randint(0, 2) for size in SIZES]
        rng.shuffle(runs)
        yield "".join(runs) + "|" + "".join(runs[:20])
    for letters in (string.ascii_lowercase, string.printable, "เดกสตนร่", "абвгд", "的一是不了们在有", "가나다라한국"):
        words = ["".join(rng.choices(letters, k=rng.choice([3, 9, 15, 16, 31, 32, 90, 110]))) for _ in range(60)]
        yield " ".join(rng.choice(words) for _ in range(200))


@pytest.mark.parametrize("name", ["gpt2", "cl100k_base", "o200k_base"])
def test_ids_do_not_depend_on_what_was_seen(make, name):
    encoder = make(name)
    texts = [*all_lengths(1), *hard_strings(300, seed=2, longest=60)]
    expected = [oracle(name).encode_text(text, None, True) for text in texts]
    for _ in range(3):
        for text, ids in zip(texts, expected):
            assert encoder.encode_text(text, None, True) == ids, repr(text[:200])
            assert encoder.encode_text(text).tolist() == ids, repr(text[:200])


def peak():
    """The greatest resident size so far, in kilobytes."""
    resource = pytest.importorskip("resource", reason="this system does not tell the resident size")
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size // 1024 if sys.platform == "darwin" else size


def words(size, one_in, seed):
    """Random letters, of which one in so many is a space."""
    table = bytes(32 if value * one_in < 256 else 97 + value % 26 for value in range(256))
    return random.Random(seed).randbytes(size).translate(table).decode()


def test_memory_is_bounded_and_what_was_forgotten_is_found_again(make):
    encoder = make("gpt2")
    text, more = words(1 << 20, 24, seed=0), [words(1 << 21, 24, seed=seed) for seed in range(1, 17)]
    ids = encoder.encode_text(text)
    sizes = []
    for other in more:
        encoder.encode_text(other)
        sizes.append(peak())
    assert (encoder.encode_text(text) == ids).all()
    assert (make("gpt2").encode_text(text) == ids).all()
    assert sizes[-1] - sizes[7] < 8 << 10, f"kilobytes after each 2 MB: {sizes}"


def test_what_was_seen_is_still_there_when_the_table_has_grown(make):
    """Short words take one place, long ones two; in 16 places at half load next to none are pushed out."""
    encoder = make("gpt2")
    rng = random.Random(3)
    for count, width in ((3_000, 7), (70_000, 7), (70_000, 14), (40_000, 24)):
        words = list({" " + "".join(rng.choices(string.ascii_lowercase, k=width)) for _ in range(count)})
        before, text = encoder.remembered, "".join(words)
        for _ in range(3):
            ids = encoder.encode_text(text)
        entered = (encoder.remembered - before) / (2 if width > 14 else 1)
        assert 0.995 * len(words) < entered < 1.02 * len(words), (count, width)
        assert (encoder.encode_text(text) == ids).all()


@pytest.mark.parametrize("width", [10, 24, 60])
def test_ids_that_were_overwritten_are_found_again(make, width):
    """The ring has 16,384 numbers at least; words that come again and again live through many rounds of it."""
    native, encoder, rng = backend_modules("native"), make("gpt2"), random.Random(width)
    small = native.Encoder(encoder.splitter, encoder.merger, cache_bytes=1)
    known, expected = [], []
    for _ in range(12):
        new = ["".join(rng.choices(string.ascii_lowercase + "éя", k=width)) for _ in range(700)]
        known = known[-100:] + new[:100]
        for text in (" ".join(new * 2), " ".join(known)):
            assert (small.encode_text(text) == encoder.encode(text.encode())).all()
            expected.append((text, encoder.encode_text(text)))
    for text, ids in expected:
        assert (small.encode_text(text) == ids).all()


def test_eight_nuls_are_no_empty_place(make):
    """Bytes 8 to 15 of a pretoken are the second word of its key, and an empty place has a zero there."""
    encoder, rng = make("gpt2"), random.Random(5)
    marks = "!#$%&*+/<=>@^~"
    pieces = ["".join(rng.choices(marks, k=8)) + "\0" * 8 + "".join(rng.choices(marks, k=8)) for _ in range(500)]
    text = "".join(piece + " " + "".join(rng.choices(string.ascii_lowercase, k=7)) for piece in pieces)
    ids = oracle("gpt2").encode_text(text, None, True)
    for _ in range(3):
        assert encoder.encode_text(text, None, True) == ids
    assert encoder.remembered < 1.02 * len(pieces)  # the words alone


@pytest.mark.parametrize("place,step", [(place, step) for step in (1, 3, 5) for place in range(30 - 2 * step)])
def test_each_byte_of_a_pretoken_tells_where_it_stands(make, place, step):
    """Long pretokens that differ in three bytes, which may be neighbours or on one of the diagonals that AES mixes; if
    these had no part of their own in the hash, the pretokens would push each other out of one place of the table, and
    be entered again each time.
    """
    encoder, letters = make("gpt2"), string.ascii_lowercase
    words = [list("a" * 30) for _ in range(3000)]
    for number, word in enumerate(words):
        word[place : place + 3 * step : step] = letters[number % 26], letters[number // 26 % 26], letters[number // 676]
    text = "".join(" " + "".join(word) for word in words)
    for _ in range(3):
        encoder.encode_text(text)
    before = encoder.remembered
    assert 2 * len(words) <= before < 2.05 * len(words)
    encoder.encode_text(text)
    assert abs(encoder.remembered - before) < 0.03 * len(words)


def test_more_long_pretokens_than_are_kept_in_mind():
    """540,000, so that what tells whether one was seen starts anew.  Oracle: 10,000 at a time, then forgotten."""
    tok, forgetful = fastbpe.get_encoding("gpt2"), fastbpe.load(fastbpe.get_encoding("gpt2").to_bytes(), cache_bytes=0)
    pieces = [" " + f"{number:020b}".replace("0", "ca").replace("1", "ba") for number in range(540_000)]
    parts = ["".join(pieces[at : at + 10_000]) for at in range(0, len(pieces), 10_000)]
    expected = np.concatenate([forgetful.encode_to_numpy(part) for part in parts])
    for _ in range(3):
        assert (tok.encode_to_numpy("".join(pieces)) == expected).all()


def test_long_pretokens_are_not_remembered(make):
    encoder = make("gpt2")
    sizes = []
    for seed in range(30):
        encoder.encode_text(words(1 << 20, 1 << 20, seed).replace(" ", "x"))
        sizes.append(peak())
    assert sizes[-1] - sizes[9] < 2 << 10, f"kilobytes after each pretoken of a megabyte: {sizes}"


@pytest.mark.parametrize("kinds", [(0x80, 0x100), (0x400, 0x800), (0x700, 0x900), (0x4E00, 0x9FFF), (0x1F300, 0x1F700)])
def test_characters_of_every_width(make, kinds):
    """A str of one, two or four bytes a character becomes UTF-8 in parts of 32768 characters."""
    encoder, rng = make("gpt2"), random.Random(kinds[0])
    for size in (0, 1, 15, 16, 17, 33, 32767, 32768, 32769, 70000):
        for share in (0.0, 0.1, 1.0):
            wide = [chr(rng.randrange(*kinds)) if rng.random() < share else rng.choice("ab \n1") for _ in range(size)]
            text = "".join(wide) + chr(kinds[1] - 1)
            assert (encoder.encode_text(text) == encoder.encode(text.encode())).all(), repr(text[:100])
    for at in (0, 7, 15, 16, 40000):
        assert encoder.encode_text("a" * at + "\ud800" + "b" * 40) is None
    assert encoder.encode_text("ab\u00e9 after a failed call") is not None


LARGE = """
import resource, sys
import numpy as np
import fastbpe

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)

tok = fastbpe.get_encoding("gpt2")
text = "ab\\n" * 10_000_000  # two ids each
tok.encode_to_numpy(text[:2_000_000])
before = peak()
ids = tok.encode_to_numpy(text)
print((peak() - before) / ids.nbytes, ids.nbytes)
assert (ids.reshape(-1, 2) == ids[:2]).all()
"""


def test_a_large_array_takes_no_memory_twice():
    """Peak memory while ids are written, next to the array of them."""
    pytest.importorskip("resource", reason="this system does not tell the resident size")
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[0]) < 1.3, done.stdout


@pytest.mark.parametrize("size", [(1 << 18) - 1, 1 << 18, (1 << 18) + 1, 1 << 20, (1 << 21) + 7])
def test_arrays_of_many_ids_are_their_own(make, size):
    """From 256 K ids on an array is made of the memory in which they were written."""
    encoder = make("gpt2")
    text = "ab\n" * (size // 2) + "x" * (size % 2)
    expected = ([397, 198] * (size // 2 + 1))[: size - size % 2] + [87] * (size % 2)
    first, second = encoder.encode_text(text), encoder.encode_text(text)
    assert first.dtype == np.uint32 and first.flags.writeable
    assert len(first) == size and first.tolist() == expected
    first[:] = 7
    third = encoder.encode_text(text)
    del encoder
    assert second.tolist() == third.tolist() == expected and (first == 7).all()
