"""Sequences of splits as one automaton.

Oracles: the `regex` module, which runs each step on the pieces of the step before; tokenizers' Sequence of Splits.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from tokenizers import Regex, pre_tokenizers

from fastbpe.errors import PatternError
from fastbpe.pattern.automaton import automata, minimize, packed_tables
from fastbpe.pattern.guesses import MAY_END, START
from fastbpe.pattern.named import DEEPSEEK, FALCON, GPT2, LLAMA3, QWEN2, STARCODER
from fastbpe.pattern.parse import OutsideSubset
from fastbpe.pattern.sequence import (
    _determined,
    _guesses,
    _prove,
    _side_by_side,
    compile_sequence,
    compiled_sequence,
)
from tests.hard_text import hard_strings
from tests.hostile import INVALID, SHAPES, SURROGATES

# Named ones, and unnamed ones: with look-ahead in a step behind another, with more steps, and in the manner of
# DeepSeek's first models, where a step looks for the end of a piece.
SEQUENCES = {
    "deepseek": DEEPSEEK,
    "starcoder": STARCODER,
    "falcon": FALCON,
    "gpt2 then digits": (GPT2, r"\p{N}"),
    "digits then llama3": (r"\p{N}{1,3}", LLAMA3),
    "lines then qwen2": (r"[\r\n]", QWEN2),
    "spaces then words": (r"\s+(?!\S)", r"\p{P}+", r"\s?\p{L}+"),
    "pieces' ends": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"\s+$", "[一-龥]+", r"\p{N}"),
}


def kept(steps):
    return tuple((step, True) for step in steps)


def pieces(splitter, text):
    data = text.encode()
    return [data[a:b].decode() for a, b in splitter.split(data).tolist()]


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence_equals_regex_and_tokenizers(core, name):
    steps = SEQUENCES[name]
    ours, regex = core.Splitter(compile_sequence(kept(steps))), core.RegexSplitter(kept(steps))
    theirs = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(step.replace("+$", r"+\z")), "isolated") for step in steps]
    )
    texts = [SHAPES[shape](400).decode() for shape in SHAPES if shape not in INVALID + SURROGATES]
    for text in [*hard_strings(1000, seed=len(name)), *texts]:
        expected = pieces(regex, text)
        assert pieces(ours, text) == expected, repr(text)
        assert [piece for piece, _ in theirs.pre_tokenize_str(text)] == expected, repr(text)


@pytest.mark.parametrize("name", SEQUENCES)
def test_any_chunking_gives_the_same_pretokens(core, name):
    rng = random.Random(7)
    splitter = core.Splitter(compile_sequence(kept(SEQUENCES[name])))
    for text in hard_strings(150, seed=5):
        stream, got, position = splitter.stream(), [], 0
        while position < len(text):
            step = rng.choice([1, 1, 2, 5, 40])
            got += stream.push(text[position : position + step].encode())
            position += step
        got += stream.finish()
        assert [piece.decode() for piece in got] == pieces(splitter, text), repr(text)


def test_a_stream_gives_text_out_before_its_end(core):
    stream = core.Splitter(compile_sequence(kept(STARCODER))).stream()
    given = stream.push(b"no digit here, yet, ")
    assert given[:4] == [b"no", b" digit", b" here", b","] and stream.held <= len(", ")


def grown(rng, depth):
    """Return a random pattern."""
    kind = rng.choice(["char", "char", "seq", "alt", "loop"] if depth else ["char"])
    if kind == "char":
        return rng.choice(["a", "b", "c", "[ab]", "[^a]", " ", "(?:(?!a))", "$", "[abc]"])
    if kind == "loop":
        return f"(?:{grown(rng, depth - 1)}){rng.choice(['*', '+', '?', '{1,2}', '{0,2}', '{2,}'])}"
    parts = [grown(rng, depth - 1) for _ in range(rng.randint(2, 3))]
    return "(?:" + ("" if kind == "seq" else "|").join(parts) + ")"


def test_random_sequences_equal_regex(core):
    """Most compile; those whose look-ahead cannot be told in one automaton are refused, never wrong."""
    rng = random.Random(31)
    outcomes = {True: 0, False: 0}
    while outcomes[True] < 80:
        steps = tuple((grown(rng, rng.randint(0, 3)), rng.random() < 0.9) for _ in range(rng.randint(2, 4)))
        try:
            regex = core.RegexSplitter(steps)
            ours = core.Splitter(compiled_sequence(steps))
        except PatternError as error:
            outcomes[False] += "ends open" in str(error) or "begins afresh" in str(error)
            continue
        outcomes[True] += 1
        for _ in range(40):
            data = "".join(rng.choices("aabbc d", k=rng.randint(0, 16))).encode()
            assert np.array_equal(ours.split(data), regex.split(data)), (steps, data)
    assert outcomes[False] > 5


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        (("a", "b{3}c|bb"), None),
        (("ab?", "bac|b", "[^a]"), None),
        (("[ab]{2}", "x|[ab]"), None),
        # aaabb is aaab, bb to the first step, hence a a a b b: but abb alone is a, bb.
        (("a(?:aab)?", "a"), "begins afresh"),
        # abb: with c behind it ab, b, c; else a, b, b.
        (("abbc|a|b+", "ab|b|c"), "two ends open"),
        ((("a", False), ("b", True)), "drops text"),
        ((("a", True), ("a+|[^a]", False)), None),  # the second step leaves nothing to drop
        (("a",) * 17, "over 16 splits"),
        (("a*b|a", "c"), "look-ahead"),
    ],
)
def test_what_compiles_and_what_is_refused(core, steps, reason):
    steps = tuple(step if isinstance(step, tuple) else (step, True) for step in steps)
    if reason:
        with pytest.raises(OutsideSubset, match=reason):
            compiled_sequence(steps)
        return
    ours, regex = core.Splitter(compiled_sequence(steps)), core.RegexSplitter(steps)
    rng = random.Random(3)
    for _ in range(300):
        data = "".join(rng.choices("aaabbcx", k=rng.randint(0, 12))).encode()
        assert np.array_equal(ours.split(data), regex.split(data)), data


def test_the_proof_finds_each_wrong_automaton(core):
    """One cell changed: the proof fails, or no text shows the change."""
    patterns = ("b|a", "(?:ab?)+| (?! )")
    class_of, (first, second) = automata(patterns)
    both = _side_by_side(_guesses(first), _guesses(second), nested=True)
    right = minimize(_determined(both))
    _prove(both, right)
    regex = core.RegexSplitter(kept(patterns))
    texts = ["".join(text).encode() for size in range(6) for text in itertools.product("ab c", repeat=size)]
    refused = 0
    for place in itertools.product(range(START, len(right)), range(right.shape[1])):
        for change in (MAY_END, 1):
            wrong = right.copy()
            wrong[place] ^= change
            if int(wrong[place]) % MAY_END >= len(wrong) or (place[0] == START and change == MAY_END):
                continue  # no automaton
            try:
                _prove(both, wrong)
            except OutsideSubset:
                refused += 1
                continue
            splitter = core.Splitter(packed_tables(patterns, True, class_of, wrong))
            for text in texts:
                assert np.array_equal(splitter.split(text), regex.split(text)), (place, change, text)
    assert refused > 10
