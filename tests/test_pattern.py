"""Split patterns: what compiles, what is refused, and that all ways to split agree.

Oracles: the `regex` module with fastbpe's Unicode classes, and tokenizers' Split (Oniguruma).
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from tokenizers import Regex, pre_tokenizers

from fastbpe.errors import PatternError, PatternTimeout
from fastbpe.pattern.automaton import compile_split
from fastbpe.pattern.named import CL100K, PATTERNS, R50K
from fastbpe.pattern.parse import OutsideSubset, regex_source
from fastbpe.pattern.possessive import to_greedy
from tests.hard_text import hard_strings

STEPS = sorted({step for p in PATTERNS.values() for step in ([p] if isinstance(p, str) else p)})
POSSESSIVE = [CL100K, R50K]
ONIGURUMA = [p for p in STEPS if p not in POSSESSIVE]


def pieces(splitter, text):
    data = text.encode()
    return [data[a:b].decode() for a, b in splitter.split(data).tolist()]


@pytest.mark.parametrize("pattern", ["x(?:a*|b)+", "x(?:a*|b)*", "x(?:a*|b){2,}", "x(?:(?:ab)?|b)+|[ab]"])
def test_a_round_of_a_loop_may_not_be_empty(pattern):
    """A backtracking engine leaves the loop then: `x(?:a*|b)+` finds only the x of xb."""
    with pytest.raises(OutsideSubset, match="what may be empty"):
        compile_split(pattern, True)


@pytest.mark.parametrize("pattern", ["(?!a)a", r"(?!\s)\s+"])
def test_a_pattern_that_never_matches_is_left_to_regex(core, pattern):
    with pytest.raises(OutsideSubset, match="never matches"):
        compile_split(pattern, True)
    assert pieces(core.RegexSplitter(((pattern, True),)), "a b") == ["a b"]


def test_random_patterns_equal_regex(core):
    """Groups in groups, loops, look-aheads, with text that nothing matches."""
    rng = random.Random(23)

    def grown(depth):
        kind = rng.choice(["char", "char", "seq", "alt", "loop"] if depth else ["char"])
        if kind == "char":
            return rng.choice(["a", "b", "c", "[ab]", "[^a]", " ", "(?!a)", "$"])
        if kind == "loop":
            return f"(?:{grown(depth - 1)}){rng.choice(['*', '+', '?', '{1,2}', '{0,2}', '{2,}'])}"
        parts = [grown(depth - 1) for _ in range(rng.randint(2, 3))]
        return "(?:" + ("" if kind == "seq" else "|").join(parts) + ")"

    compiled = 0
    while compiled < 60:
        pattern, gaps = grown(4), rng.random() < 0.5
        try:
            ours = core.Splitter(compile_split(pattern, gaps))
        except PatternError:
            continue
        compiled += 1
        regex = core.RegexSplitter(((pattern, gaps),))
        for _ in range(40):
            data = "".join(rng.choices("aabbc ", k=rng.randint(0, 14))).encode()
            assert np.array_equal(ours.split(data), regex.split(data)), (pattern, gaps, data)


@pytest.mark.parametrize("gaps", [True, False])
@pytest.mark.parametrize("pattern", STEPS)
def test_automaton_equals_regex_on_hard_strings(core, pattern, gaps):
    automaton = core.Splitter(compile_split(pattern, gaps))
    regex = core.RegexSplitter(((pattern, gaps),))
    for text in hard_strings(1500, seed=len(pattern)):
        data = text.encode()
        assert np.array_equal(automaton.split(data), regex.split(data)), repr(text)


@pytest.mark.parametrize("pattern", ONIGURUMA)
def test_automaton_equals_oniguruma(core, pattern):
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    automaton = core.Splitter(compile_split(pattern, True))
    for text in hard_strings(500, seed=7):
        assert pieces(automaton, text) == [piece for piece, _ in split.pre_tokenize_str(text)], repr(text)


@pytest.mark.parametrize("pattern", POSSESSIVE)
def test_greedy_form_is_equal(core, pattern):
    greedy = to_greedy(pattern)
    assert "++" not in greedy and "$" not in greedy
    ours, theirs = (core.Splitter(compile_split(p, True)) for p in (pattern, greedy))
    split = pre_tokenizers.Split(Regex(greedy), "isolated")
    for text in hard_strings(1000, seed=3):
        assert pieces(ours, text) == pieces(theirs, text) == [p for p, _ in split.pre_tokenize_str(text)], repr(text)


@pytest.mark.parametrize("pattern", STEPS)
def test_any_chunking_gives_the_same_pretokens(core, pattern):
    rng = random.Random(11)
    splitter = core.Splitter(compile_split(pattern, True))
    for text in hard_strings(150, seed=13):
        whole = pieces(splitter, text)
        stream, got, position = splitter.stream(), [], 0
        while position < len(text):
            step = rng.choice([0, 1, 1, 2, 5, 40])
            got += stream.push(text[position : position + step].encode())
            position += step
            assert stream.held == len(text[:position].encode()) - sum(map(len, got))
        got += stream.finish()
        assert [piece.decode() for piece in got] == whole, repr(text)
        assert stream.held == 0


@pytest.mark.parametrize(
    ("pattern", "equal"),
    [
        ("a++b|a+", True),
        ("a++a?", True),  # the rest may be nothing, so the longest run already matches
        ("a{1,3}+b", True),
        (r"\s++$|\s+", True),
        ("(?:a++b)?c|[abc]+", True),
        ("a++a", False),
        (r"\s++(?!\S)", False),
        ("(?:a++)?a", False),
        ("(?:a++|b)+a", False),
        ("(?:ab)++", False),
    ],
)
def test_possessive_compiles_only_where_it_equals_greedy(core, pattern, equal):
    if not equal:
        with pytest.raises(OutsideSubset):
            compile_split(pattern, True)
        return
    ours = core.Splitter(compile_split(pattern, True))
    regex = core.RegexSplitter(((pattern, True),))
    rng = random.Random(1)
    for _ in range(500):
        text = "".join(rng.choices("aabbc \n", k=rng.randint(0, 9)))
        assert pieces(ours, text) == pieces(regex, text), text


@pytest.mark.parametrize(
    "pattern", ["a(?=b)", "^a", r"\ba", "a*?b", r"(a)\1", "a(?!bc)", "[a--b]", "(?s:.)", "[[:alpha:]]"]
)
def test_outside_the_subset_is_never_compiled(pattern):
    with pytest.raises(OutsideSubset):
        compile_split(pattern, True)


@pytest.mark.parametrize(
    ("pattern", "linear"),
    [
        ("a*b|a", False),
        ("a+b|a", False),
        ("a+b|[ab]", False),
        (r"\s*x|\s", False),
        ("a*b", False),
        ("(?:ab)+c", False),
        (r"\p{L}*\p{N}", False),
        ("x(?:acx)*b|x|ad", False),  # the text `xacxacx...` is x, a passed over, c passed over, x ...
        ("ab|a", True),
        ("a{1,50}b", True),
        ("a{1,50}b|a", True),
        ("a+b|a+", True),
    ],
)
def test_only_linear_patterns_compile(core, pattern, linear):
    """Every `a` of a run looks for a `b` behind the run: that is left to the regex engine and its time limit."""
    if not linear:
        with pytest.raises(OutsideSubset, match="look-ahead|without a match|looks ahead"):
            compile_split(pattern, True)
        return
    ours, regex = core.Splitter(compile_split(pattern, True)), core.RegexSplitter(((pattern, True),))
    for size in range(120):
        assert pieces(ours, "a" * size + "b") == pieces(regex, "a" * size + "b")


@pytest.mark.parametrize("pattern", ["", "a*", "a|", "(?:a|b)?", r"\p{Klingon}", "a" * 20_000])
def test_useless_patterns_are_refused(pattern):
    with pytest.raises(PatternError):
        compile_split(pattern, True)


@pytest.mark.parametrize("pattern", [r"\w+", r"\bx", "(?m:a$)", "[[:alpha:]]+", "x*", "(a", r"\X"])
def test_regex_fallback_refuses_what_depends_on_its_own_unicode(core, pattern):
    with pytest.raises(PatternError):
        core.RegexSplitter(((pattern, True),))


def test_regex_source_spells_classes_out():
    assert regex_source("[a\\p{Nl}]$")[:3] == "[a\\"
    assert regex_source("x$") == "x\\Z"
    assert "p{" not in regex_source(r"\p{Lu}|[^\s\p{Lu}]")


def test_regex_timeout(core, monkeypatch):
    splitter = core.RegexSplitter((("(?:a|aa)+(?=b)|c", True),))
    monkeypatch.setattr("fastbpe.core.split_python.TIMEOUT", 0.05)
    with pytest.raises(PatternTimeout):
        splitter.split(b"a" * 60)


def test_dropped_text_is_not_held(core):
    stream = core.Splitter(compile_split("[a-z]+", False)).stream()
    for _ in range(50):
        assert stream.push(b"0" * 1000) == [] and stream.held <= 1
    assert stream.push("ab é!".encode()) == [b"ab"] and stream.held <= 1
    assert stream.push(b"cd") == [] and stream.held == 2
    assert stream.finish() == [b"cd"]


def test_gaps_are_kept_or_dropped(core):
    for gaps, expected in [(True, ["..", "ab", "!", "cd", "??"]), (False, ["ab", "cd"])]:
        assert pieces(core.Splitter(compile_split("[a-z]+", gaps)), "..ab!cd??") == expected


def test_invalid_utf8_never_reads_outside(core):
    """Only valid UTF-8 belongs here; anything else may raise or give nonsense, but spans stay inside."""
    splitter = core.Splitter(compile_split(PATTERNS["o200k"], True))
    for data in [b"\xff", b"\xf7\xbf\xbf\xbf", b"a\xe4\xb8", b"\x80" * 9, b"\xf4\x90\x80\x80"]:
        try:
            spans = splitter.split(data)
        except UnicodeDecodeError:
            continue
        assert ((spans >= 0) & (spans <= len(data))).all()
