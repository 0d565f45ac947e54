"""Counting on a Ray cluster: a map over parts of the sources, and `merge_counts` as the reduce.

The result is that of one machine, byte for byte, whatever the parts, the number of workers and their order: parts of a
file are cut where counting may begin afresh, and counts add up in the order of the sources.
"""

from __future__ import annotations

import importlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

from fastbpe.counting import (
    PROGRESS_SECONDS,
    Counting,
    CountingOptions,
    Options,
    Progress,
    Sources,
    checked_paths,
    part_places,
)
from fastbpe.counts import PretokenCounts, StrPath, merge_counts
from fastbpe.counts_file import checked_special_tokens, checked_splits
from fastbpe.ids import show
from fastbpe.sources import is_plain
from fastbpe.spec import Split

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["count_pretokens"]

LEAST_PART = 1 << 16  # bytes; far more than what is looked at around a cut
RETRIES = 3  # of a task whose worker died; an error of the task itself is raised at once
FAN = 16  # parts that one task adds up
CANCEL_SECONDS = 10

Part: TypeAlias = "PretokenCounts | str"  # counts, or the file that holds them


class _Task(NamedTuple):
    """A file to count, or a part of one as of `Counting.part`."""

    path: str
    number: int = 0
    size: int | None = None
    whole: int = 0


class _Map(NamedTuple):
    """How all tasks count."""

    function: str
    splits: tuple[Split, ...]
    special_tokens: tuple[str, ...]
    text_field: str
    options: CountingOptions


@overload
def count_pretokens(
    sources: Sources,
    *,
    text_field: str = ...,
    folder: StrPath | None = ...,
    part_bytes: int = ...,
    output: None = None,
    **options: Unpack[Options],
) -> PretokenCounts: ...
@overload
def count_pretokens(
    sources: Sources,
    *,
    text_field: str = ...,
    folder: StrPath | None = ...,
    part_bytes: int = ...,
    output: StrPath,
    **options: Unpack[Options],
) -> None: ...
def count_pretokens(
    sources: Sources,
    *,
    pattern: str = "gpt2",
    special_tokens: Sequence[str] = (),
    unit: str = "document",
    positions: bool = False,
    min_count: int = 1,
    text_field: str = "text",
    threads: int | None = 1,
    max_memory: int | None = None,
    temp_dir: StrPath | None = None,
    output: StrPath | None = None,
    progress: Progress | None = None,
    folder: StrPath | None = None,
    part_bytes: int = 64 << 20,
) -> PretokenCounts | None:
    """Count the pretokens of files on Ray; equal to `fastbpe.count_pretokens`, whose other arguments it has.

    Ray is used as it runs (`ray.init(address=...)`), else started on this machine.  Every worker must be able to read
    the sources under their paths here.  Text files are counted in parts; others, and those of a pattern that has no
    sure places for cuts, each by one task.  A task whose worker dies is run again, up to three times.

    Args:
        threads: of a task that counts a whole file, which takes as many processors; None means one.  Parts of a text
            file have one each.
        max_memory: of each task that counts.
        temp_dir: on each machine.
        folder: a folder that all machines share, for the counts of parts; it is as it was when the call ends, but
            after a kill of the caller.  None: they go through Ray's object store, and those that are added up at once
            must find room in memory.
        part_bytes: of a text file for a task, 64 KiB or more.

    Raises:
        ImportError: Ray is missing; it names the extra.
        ray.exceptions.RayError: Ray failed, or a task lost its worker too often.  Errors of tasks are raised as they
            would be here.
    """
    function = "fastbpe.engines.ray.count_pretokens()"
    ray = _ray(function)
    if type(part_bytes) is not int or part_bytes < LEAST_PART:
        raise ValueError(f"{function}: part_bytes must be an int of at least {LEAST_PART}, got {show(part_bytes)}")
    if not isinstance(text_field, str):
        raise TypeError(f"{function}: text_field must be a str, got {show(text_field)}")
    paths = [os.path.abspath(path) for path in checked_paths(function, sources)]
    options: CountingOptions = {
        "unit": unit,
        "positions": positions,
        "threads": 1 if threads is None else threads,
        "max_memory": max_memory,
        "temp_dir": temp_dir,
    }
    how = _Map(function, checked_splits(function, pattern), checked_special_tokens(function, special_tokens),
               text_field, options)  # fmt: skip
    with Counting(function, how.splits, how.special_tokens, progress, **options, min_count=min_count) as counting:
        tasks = [*_tasks(paths, part_bytes if counting.cuts else None)]
        if not tasks:
            return counting.result(output)
    total = sum(os.stat(path).st_size for path in paths) if all(map(is_plain, paths)) else None
    with _room(folder) as room:
        parts = _counted(ray, tasks, how, room, progress, total)
        return merge_counts(parts, output, min_count=min_count)


def _ray(function: str) -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise ImportError(f"{function}: ray is needed: pip install 'fastbpe-cython[ray]'") from None


@contextmanager
def _room(folder: StrPath | None) -> Iterator[str | None]:
    """Make a folder of its own for this call in the shared one."""
    if folder is None:
        yield None
        return
    room = tempfile.mkdtemp(prefix="fastbpe-", dir=os.path.abspath(folder))
    try:
        yield room
    finally:
        shutil.rmtree(room)


def _tasks(paths: Sequence[str], size: int | None) -> Iterator[_Task]:
    """Yield the tasks, in the order of the text; with a size, text files in parts."""
    for path in paths:
        status = os.stat(path)
        if size is None or not is_plain(path) or not stat.S_ISREG(status.st_mode):
            yield _Task(path)
            continue
        for number in range(len(part_places(status.st_size, size))):
            yield _Task(path, number, size, status.st_size)


def _count(task: _Task, how: _Map, output: str | None) -> tuple[int, Part]:
    """Count on a worker.

    Returns:
        Bytes of text, and the counts.
    """
    with Counting(how.function, how.splits, how.special_tokens, **how.options) as counting:
        if task.size is None:
            counting.files([task.path], how.text_field)
        else:
            counting.part(task.path, task.number, task.size, task.whole)
        result = counting.result(output)
        return counting.n_bytes, output if result is None else result  # type: ignore[return-value]


def _merge(output: str | None, *parts: Part) -> Part:
    """Add up parts on a worker."""
    result = merge_counts(parts, output)
    return output if result is None else result  # type: ignore[return-value]


def _counted(
    ray: Any, tasks: Sequence[_Task], how: _Map, room: str | None, progress: Progress | None, total: int | None
) -> list[Part]:
    """Return the counts of all tasks, added up to a few parts in the order of the tasks."""

    def output(level: int, number: int) -> str | None:
        # Written whole, and with the same bytes by whoever does it again.
        return None if room is None else os.path.join(room, f"{level}-{number:08d}.fbc")

    count = ray.remote(max_retries=RETRIES, num_returns=2)(_count)
    merge = ray.remote(max_retries=RETRIES)(_merge)
    begun: list[Any] = []
    try:
        how_there = ray.put(how)
        for number, task in enumerate(tasks):
            threads = how.options["threads"] if task.size is None else 1
            begun.append(count.options(num_cpus=threads).remote(task, how_there, output(0, number)))
        sizes, parts = [list(column) for column in zip(*begun)]
        level = 0
        while len(parts) > FAN:
            level += 1
            groups = [parts[at : at + FAN] for at in range(0, len(parts), FAN)]
            parts = [merge.remote(output(level, number), *group) for number, group in enumerate(groups)]
            begun.extend([part] for part in parts)
        done = 0
        while sizes:
            ready, sizes = ray.wait(sizes, num_returns=len(sizes), timeout=PROGRESS_SECONDS)
            done += sum(ray.get(ready))
            if progress is not None:
                progress("count", done, total)
        return list(ray.get(parts))
    except BaseException as error:
        with suppress(ray.exceptions.RayError):
            for *_, part in begun:
                ray.cancel(part, force=True)
            # What they write to is about to be removed.
            ray.wait([part for *_, part in begun], num_returns=len(begun), timeout=CANCEL_SECONDS)
        if isinstance(error, ray.exceptions.RayTaskError):
            raise error.cause from None
        raise
