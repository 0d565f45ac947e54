"""Starting: import, and import with loading an encoding, in a fresh process.  Oracle: published vocabulary sizes."""

from __future__ import annotations

import subprocess
import sys

import pytest

SIZES = {"gpt2": 50257, "cl100k_base": 100277, "o200k_base": 200019}


def start(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import(benchmark):
    assert start("import fastbpe; print(fastbpe.__version__)")
    benchmark.pedantic(start, ("import fastbpe",), rounds=5)


@pytest.mark.parametrize("name", SIZES)
def test_load(benchmark, name):
    code = f"import fastbpe; print(fastbpe.get_encoding({name!r}).n_vocab)"
    assert start(code) == str(SIZES[name])
    benchmark.pedantic(start, (code,), rounds=5)
