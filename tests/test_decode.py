"""Ids to bytes and to text. Oracles: joining the tokens of a dict; `bytes.decode`."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastbpe
from fastbpe.errors import TokenIdError

BYTES = {bytes([value]): value for value in range(256)}
ALPHABETS = ("abc ", "é ü ñ\x80\xff", "éa漢", "жлоа ", "漢字\uffff\ue000", "a😀é\U0010ffff", "\x80\u07ff\u0800\ud7ff")
ODD = (0xC0, 0xC1, 0xC2, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0x41)


def is_decoded(decoder, data):
    """Look at both ways out of the vectors, and at the form in which the str is stored."""
    expected = data.decode("utf-8", "replace")
    text = decoder.text(data, "replace")
    assert text == expected, data
    if len(text) > 1:  # CPython shares those of one character, which may carry their UTF-8
        assert text.__sizeof__() == expected.__sizeof__(), data


@pytest.mark.parametrize("seed", range(6))
def test_text_of_any_bytes(core, seed):
    rng = random.Random(seed)
    decoder = core.Decoder(BYTES, {})
    for _ in range(800):
        alphabet = rng.choice(ALPHABETS) + rng.choice(ALPHABETS)
        data = bytearray("".join(rng.choices(alphabet, k=rng.choice([0, 1, 5, 31, 32, 33, 63, 64, 65, 150]))).encode())
        change = rng.random()
        if change < 0.3 and data:
            data[rng.randrange(len(data))] = rng.choice(ODD)
        elif change < 0.5:
            data = data[rng.randint(0, 3) : len(data) - rng.randint(0, 3)]
        is_decoded(decoder, bytes(data))


@pytest.mark.parametrize("before", [0, 58, 59, 60, 61, 62])
def test_text_of_odd_sequences_across_a_block(core, before):
    decoder = core.Decoder(BYTES, {})
    for first in ODD:
        for second in ODD:
            for third in ODD:
                is_decoded(decoder, b"\xc3\xa9" + b"x" * before + bytes([first, second, third]) + b"\xbf" * (third % 3))


def test_errors_are_those_of_bytes(core):
    decoder = core.Decoder(BYTES, {})
    with pytest.raises(UnicodeDecodeError, match="position 2"):
        decoder.text("é".encode() + b"\xff", "strict")
    assert decoder.text(b"\xff" + "é".encode(), "ignore") == "é"


def test_tokens_of_every_length(core):
    rng = random.Random(3)
    vocab = dict(BYTES)
    for length in [*range(2, 40), 255, 256, 1000, 70_000]:
        vocab[rng.randbytes(length)] = 1000 + length
    token_of = {number: token for token, number in vocab.items()} | {5: b"\x05", 90_000: b"<|end|>", 90_001: b"x" * 16}
    decoder = core.Decoder(vocab, {number: token_of[number] for number in (5, 90_000, 90_001)})
    for size in (0, 1, 2, 255, 256, 257, 3000):
        ids = rng.choices(sorted(token_of), k=size)
        expected = b"".join(token_of[number] for number in ids)
        assert decoder.decode(np.array(ids, dtype=np.uint32)) == expected
        assert decoder.decode_list(ids) == expected


@pytest.mark.parametrize("at", [0, 255, 256, 999])
@pytest.mark.parametrize("wrong", [300, 2**20, 2**31, 2**32 - 1])
def test_an_id_that_no_token_has(core, at, wrong):
    decoder = core.Decoder({**BYTES, b"ab": 400}, {})
    ids = [400] * 1000
    ids[at] = wrong
    assert decoder.decode_list(ids) is None
    with pytest.raises(TokenIdError, match=f"got {wrong} at index {at}$"):
        decoder.decode(np.array(ids, dtype=np.uint32))


@pytest.mark.parametrize("odd", [-1, 2**31, 2**64, -(2**64), True, 1.0, "1", None, np.int64(1)])
def test_a_list_of_anything_else(core, odd):
    decoder = core.Decoder(BYTES, {})
    assert decoder.decode_list([65, odd]) is None
    assert decoder.decode_list([0, 255]) == b"\0\xff"


def test_long_pretokens_in_threads_of_a_new_tokenizer():
    """What they need is built by the first that comes."""
    text = "".join(random.Random(4).choices("กขคงจฉชซ漢字仮名", k=3000))
    expected = fastbpe.get_encoding("gpt2").encode(text)
    for _ in range(5):
        tokenizer = fastbpe.Tokenizer(fastbpe.get_encoding("gpt2").spec)
        with ThreadPoolExecutor(4) as threads:
            for ids in threads.map(tokenizer.encode, [text] * 8):
                assert ids == expected
