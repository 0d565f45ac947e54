"""Splitting text into pretokens, per pattern.  Oracle: the regex module with the same pattern."""

from __future__ import annotations

import pytest
import regex

import fastbpe
from fastbpe import core
from fastbpe.pattern.automaton import compile_split


@pytest.mark.parametrize("name", ["gpt2", "cl100k", "o200k", "llama3", "qwen2"])
def test_split(benchmark, text, name):
    pattern = fastbpe.patterns[name]
    splitter = core.backend_modules(core.BACKEND).Splitter(compile_split(pattern, True))
    data = text.encode()
    pieces = [data[start:end].decode() for start, end in splitter.split(data).tolist()]
    assert pieces == regex.findall(pattern, text)
    benchmark.extra_info["bytes"] = len(data)
    benchmark(splitter.split, data)
