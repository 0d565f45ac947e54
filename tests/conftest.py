"""Fixtures for all tests: both backends of the core, and sample texts."""

from __future__ import annotations

import lzma
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from fastbpe import core as chooser

ROOT = Path(__file__).resolve().parent.parent
NOVEL = ROOT / "benchmarks" / "data" / "moby_dick.txt.xz"
SEPARATOR = "<|endoftext|>\n"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "core" in getattr(item, "fixturenames", ()):
            item.add_marker("both_backends")
        if item.get_closest_marker("native_only") and not native_is_built() and reason_for_pure():
            item.add_marker(pytest.mark.skip(reason=f"built without native modules ({reason_for_pure()})"))


def native_is_built() -> bool:
    try:
        chooser.backend_modules("native")
    except ImportError:
        return False
    return True


def reason_for_pure() -> str | None:
    """Why this installation may lack native modules; None where their absence is a fault."""
    if os.environ.get("FASTBPE_BACKEND") == "python":
        return "FASTBPE_BACKEND=python"
    if os.environ.get("FASTBPE_BUILD") == "pure":
        return "FASTBPE_BUILD=pure"
    compilers = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc", "cc", "gcc", "clang")
    if not any(shutil.which(compiler.split()[0]) for compiler in compilers):
        return "no C compiler"
    return None


@pytest.fixture(scope="session", params=["native", "python"])
def core(request: pytest.FixtureRequest) -> Any:
    """The classes and functions of one backend; every behavioural test of the core runs on both."""
    try:
        return chooser.backend_modules(request.param)
    except ImportError as error:
        reason = reason_for_pure()
        if reason is None:
            pytest.fail(f"the native modules are missing: {error}")
        pytest.skip(f"built without native modules ({reason})")


def read_documents(path: Path) -> list[str]:
    """The documents of a .txt or .txt.xz file, separated by lines `<|endoftext|>`."""
    raw = path.read_bytes()
    text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")
    return [document for document in text.split(SEPARATOR) if document]


def sample_folder() -> Path | None:
    """The folder of samples: FASTBPE_SAMPLES, or the one that lies beside a development checkout."""
    named = os.environ.get("FASTBPE_SAMPLES")
    if named:
        return Path(named)
    beside = ROOT.parent / "shared" / "data" / "sample"
    return beside if beside.is_dir() else None


@pytest.fixture(scope="session")
def samples() -> dict[str, list[str]]:
    """Name to documents: texts in many languages where a folder has them, else the bundled novel alone."""
    folder = sample_folder()
    if folder is None:
        print("samples: the bundled novel only (FASTBPE_SAMPLES names a folder of *.txt.xz)")
        return {"novel": read_documents(NOVEL)}
    files = sorted(folder.glob("*.txt.xz"))
    if not files:
        pytest.fail(f"{folder} has no *.txt.xz file")
    return {file.name.removesuffix(".txt.xz"): read_documents(file) for file in files}


@pytest.fixture(scope="session")
def novel() -> list[str]:
    """The chapters of the bundled novel."""
    return read_documents(NOVEL)
