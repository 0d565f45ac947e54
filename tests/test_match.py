"""Special tokens in text.  Oracle: at each place try every token, longest first."""

from __future__ import annotations

import random

import pytest


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


def test_none_found(core):
    rows, decided = core.Matcher([(b"<s>", 5)]).find(b"plain text < s>")
    assert rows.shape == (0, 3) and decided == 15
