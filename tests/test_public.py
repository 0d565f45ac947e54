"""The public names, and what importing them does not load."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastbpe

ROOT = Path(__file__).resolve().parent.parent


def test_all_is_sorted_and_complete():
    ours = {name for name, value in vars(fastbpe).items() if getattr(value, "__module__", "").startswith("fastbpe")}
    public = {name for name in ours if not name.startswith("_")}
    listed = [name for name in fastbpe.__all__ if not name.startswith("_")]
    assert listed == sorted(listed)
    assert len(set(fastbpe.__all__)) == len(fastbpe.__all__)
    assert public <= set(listed), "a public name is missing from __all__"
    assert all(hasattr(fastbpe, name) for name in fastbpe.__all__)


def test_import_stays_light():
    code = "import sys, fastbpe; print(*{'click', 'rich', 'tiktoken', 'tokenizers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_version_is_that_of_the_installed_project():
    try:
        installed = importlib.metadata.version("fastbpe-cython")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed")
    assert fastbpe.__version__ == installed


def test_backend_is_one_of_two():
    assert fastbpe.backend() in ("native", "python")


@pytest.mark.parametrize("value", ["nativ", "NATIVE", "c"])
def test_an_unknown_backend_fails_loudly(value):
    done = subprocess.run(
        [sys.executable, "-c", "import fastbpe; fastbpe.backend()"],
        capture_output=True,
        text=True,
        env={**os.environ, "FASTBPE_BACKEND": value},
    )
    assert done.returncode != 0
    assert "FASTBPE_BACKEND" in done.stderr
