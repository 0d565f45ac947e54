"""What the figures of a run belong to: versions and processor."""

from __future__ import annotations

import os
import platform
from argparse import ArgumentTypeError
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

import fastbpe
from benchmarks.trainers import OURS


def installed(names: list[str], rc: Path | None = None) -> dict[str, str]:
    """Return the versions of those that are installed; say which are not."""
    found = {}
    for name in names:
        try:
            if name == "tokenizers-rc":
                beside = [*distributions(name="tokenizers", path=[str(rc)])]
                if beside:
                    found[name] = beside[0].version
                else:
                    print(f"{name} is left out: --tokenizers-rc names no folder that holds it")
            else:
                found[name] = version(name)
        except PackageNotFoundError:
            if name == OURS:
                found[name] = fastbpe.__version__  # a checkout on the path
            else:
                print(f"{name} is not installed: left out")
    return found


def chart_file(path: str) -> Path:
    """The type of --chart: said before the work begins."""
    if find_spec("matplotlib") is None:
        raise ArgumentTypeError("needs matplotlib; the extra `bench` has it")
    return Path(path)


def head(versions: dict[str, str]) -> None:
    print(
        ", ".join(f"{name} {number}" for name, number in versions.items())
        + f"; backend {fastbpe.backend()}; Python {platform.python_version()}, {os.cpu_count()} cores, {processor()}"
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
