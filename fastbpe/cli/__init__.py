"""The command line: `fastbpe COMMAND`, also `python -m fastbpe`."""

from __future__ import annotations

from fastbpe.cli.app import main

__all__ = ["main"]
