"""Special tokens in text.  Oracle: at each place try every token, longest first."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

import fastbpe
from fastbpe.core import match_python as python
from fastbpe.pattern.automaton import compile_split


def matches_by_definition(data, tokens):
    found, position = [], 0
    while position < len(data):
        best = max((t for t in tokens if data.startswith(t, position)), key=len, default=None)
        if best is None:
            position += 1
        else:
            found.append([position, position + len(best), tokens[best]])
            position += len(best)
    return found


@pytest.mark.parametrize("seed", range(30))
def test_leftmost_longest(core, seed):
    rng = random.Random(seed)
    tokens = {}
    for _ in range(rng.randint(1, 8)):
        tokens.setdefault(bytes(rng.choices(b"<|a>", k=rng.randint(1, 6))), len(tokens) + (1 << 33) * rng.randint(0, 1))
    matcher = core.Matcher(list(tokens.items()))
    for _ in range(60):
        data = bytes(rng.choices(b"<|a>", k=rng.randint(0, 40)))
        rows, decided = matcher.find(data)
        assert rows.tolist() == matches_by_definition(data, tokens)
        assert decided == len(data)


@pytest.mark.parametrize("seed", range(10))
def test_parts_give_the_same_matches(core, seed):
    rng = random.Random(seed)
    tokens = {b"<a>": 1, b"<a><b>": 2, b"<b": 3, b"aa": 4}
    matcher = core.Matcher(list(tokens.items()))
    data = b"".join(rng.choices([*tokens, b"<", b"a", b">", b"x"], k=60))
    got, buffer, done, position = [], b"", 0, 0
    while position < len(data):
        step = rng.randint(1, 7)
        buffer += data[position : position + step]
        position += step
        rows, decided = matcher.find(buffer, position >= len(data))
        got += [[start + done, end + done, number] for start, end, number in rows.tolist()]
        buffer, done = buffer[decided:], done + decided
        assert len(buffer) < 6
    assert got == matches_by_definition(data, tokens)


@pytest.mark.parametrize("seed", range(40))
def test_undecided_text_is_the_same_in_both_twins(core, seed):
    rng = random.Random(seed)
    letters = b"ab" if seed % 2 else b"abc"
    tokens = {bytes(rng.choices(letters, k=rng.randint(1, 9))): number for number in range(rng.randint(1, 7))}
    matchers = [twin.Matcher(list(tokens.items())) for twin in (core, python)]
    for _ in range(100):
        data = bytes(rng.choices(letters, k=rng.randint(0, 30)))
        (rows, decided), (expected, undecided) = (matcher.find(data, False) for matcher in matchers)
        assert (rows.tolist(), decided) == (expected.tolist(), undecided), (tokens, data)


@pytest.mark.native_only
@pytest.mark.parametrize("at", range(-7, 3))
def test_matches_around_the_place_where_signals_are_looked_at(at):
    place = (1 << 20) + at
    data = b"x" * place + b"<|a|><|a|" + b"y" * 100
    rows, _ = fastbpe.core.Matcher([(b"<|a|>", 1), (b"<|a|><|b|>", 2), (b"|yy", 3)]).find(data)
    assert rows.tolist() == [[place, place + 5, 1], [place + 8, place + 11, 3]]


@pytest.mark.native_only
def test_what_nearly_spells_a_long_token_is_read_once():
    """Two hundred billion steps, if each place were tried anew."""
    token, text = "a" * 60_000 + "b", "a" * 120_000 + " a" * 50_000
    matcher = fastbpe.core.Matcher([(token.encode(), 0)])
    assert not len(matcher.find(text.encode() * 50)[0])
    base = fastbpe.get_encoding("gpt2")
    tok = fastbpe.Tokenizer(replace(base.spec, added_tokens=(fastbpe.AddedToken(token, 60_000),), name=None))
    assert tok.encode(text) == base.encode(text)
    assert fastbpe.count_pretokens_from_iterator([text * 50], special_tokens=[token])[b" a"] == 2_500_000 - 49


def test_none_found(core):
    rows, decided = core.Matcher([(b"<s>", 5)]).find(b"plain text < s>")
    assert rows.shape == (0, 3) and decided == 15


@pytest.mark.parametrize("seed", range(30))
def test_the_quick_way_in_sees_tokens(core, seed):
    """Whatever the characters of the token and of the text.  Oracle: encode() with what find() gives."""
    rng = random.Random(seed)
    letters = rng.choice(["<|ab>", "<aé｜", "abc", "<中😀|"])
    tokens = sorted({"".join(rng.choices(letters, k=rng.randint(1, 4))) for _ in range(rng.randint(1, 5))})
    numbers = [rng.choice([300, 300, 300, 1 << 32]) + at for at in range(len(tokens))]
    matcher = core.Matcher([(token.encode(), number) for token, number in zip(tokens, numbers)])
    gpt2 = fastbpe.get_encoding("gpt2").spec
    splitter = core.Splitter(compile_split(gpt2.splits[0].pattern, gpt2.splits[0].gaps))
    encoder = core.Encoder(splitter, core.Merger({bytes([value]): value for value in range(256)}, None, True))
    taken = 0
    for _ in range(300):
        text = "".join(rng.choices(letters + rng.choice(["xyz ", "xéy", "x中"]), k=rng.choice([5, 40, 40, 700, 2000])))
        if rng.random() < 0.5:
            text = text.replace(rng.choice(letters), "x")
        ids = encoder.encode_text(text, matcher, True)
        cuts = matcher.find(text.encode())[0]
        if (cuts[:, 2] >= 1 << 32).any():
            assert ids is None, (tokens, text)
        else:
            assert ids == encoder.encode(text.encode(), cuts).tolist(), (tokens, text)
            taken += 1
    assert taken
