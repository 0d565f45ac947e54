"""Progress on stderr: a bar on a terminal where rich is installed (extra `cli`), else a line now and then."""

from __future__ import annotations

import sys
import time
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import click

SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Counts to a total that may be unknown; silent when quiet, and for work of a few seconds without a bar."""

    def __init__(self, label: str, total: int | None, quiet: bool) -> None:
        self.label, self.total, self.quiet = label, total, quiet
        self.done = 0
        self.next_line = time.monotonic() + SECONDS_BETWEEN_LINES
        self.bar: Any = None
        if not quiet and sys.stderr.isatty() and find_spec("rich"):
            self.bar = _rich_bar()
            self.task = self.bar.add_task(label, total=total)

    def __enter__(self) -> Progress:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def advance(self, count: int) -> None:
        self.update(self.label, self.done + count, self.total)

    def update(self, label: str, done: int, total: int | None) -> None:
        self.label, self.done, self.total = label, done, total
        if self.bar:
            self.bar.update(self.task, description=label, completed=done, total=total)
        elif not self.quiet and time.monotonic() >= self.next_line:
            self.next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            of_total = f" of {total:,}" if total else ""
            click.echo(f"fastbpe: {label}: {done:,}{of_total}", err=True)


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    # Console honours NO_COLOR.
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
