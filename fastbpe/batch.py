"""Many texts, or one large one, on several threads: the same ids, whatever their number.

The texts are cut into jobs of about the same length, long texts at places where encoding may begin afresh.  Threads
live for one call.  Nothing is imported on the way: a fork at that moment would leave the child a lock that nobody
frees.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import count
from threading import Thread
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbpe.crew import start_thread

Check = Callable[[], object]
Result = TypeVar("Result")

SMALLEST_JOB = 1 << 16  # characters
GREATEST_JOB = 1 << 21
JOBS = 8  # a thread, so that none waits long for the last one
SHORT_BATCH = 1 << 18  # characters that one thread encodes before others have begun


def encode_batch(
    encoder: Any, texts: list[str], matcher: Any, otherwise: Callable[[int, Check | None], Any], threads: int | None
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the ids of all texts, uint32 [n], and where those of each begin, int64 [len(texts) + 1].

    Args:
        encoder: of core.
        texts: the texts.
        matcher: what must not be in a text that is encoded as it is.
        otherwise: gives the ids of any other text, by its index, as an array.
        threads: 1 or more; None for as many as there are processors.
    """
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    total = int(lengths.sum())
    threads = 1 if total < SHORT_BATCH else threads or os.cpu_count() or 1
    size = min(max(total // (threads * JOBS), SMALLEST_JOB), GREATEST_JOB)
    spans = _spans(encoder, texts, lengths, matcher, size if threads > 1 else 0)
    jobs = _jobs(spans, lengths, size) if total > size else [spans]

    def work(job: NDArray[np.int64], check: Check | None) -> tuple[list[NDArray[np.uint32]], NDArray[np.int64]]:
        ids, counts = encoder.encode_texts(texts, job, matcher, check)
        if not (counts < 0).any():
            return [ids], counts
        parts = []
        place = 0
        for at, (index, begin, end) in enumerate(job.tolist()):
            if counts[at] >= 0:
                parts.append(ids[place : place + counts[at]])
                place += counts[at]
            elif begin == 0 and end < 0:
                parts.append(otherwise(index, check))
                counts[at] = len(parts[-1])
        return parts, counts

    done = _run(work, jobs, min(threads, len(jobs)))
    counts = np.concatenate([np.empty(0, dtype=np.int64), *(counts for _, counts in done)])
    ids = [part for parts, _ in done for part in parts]
    joined = ids[0] if len(ids) == 1 else np.concatenate([np.empty(0, dtype=np.uint32), *ids])
    for index in sorted(set(spans[counts < 0, 0].tolist())):  # a lone surrogate in a text that was cut
        rows = np.flatnonzero(spans[:, 0] == index)
        before, inside = (int(np.maximum(counts[at], 0).sum()) for at in (slice(0, rows[0]), rows))
        whole = otherwise(index, None)
        joined = np.concatenate([joined[:before], whole, joined[before + inside :]])
        counts[rows] = 0
        counts[rows[0]] = len(whole)
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.add.at(offsets, spans[:, 0] + 1, counts)
    return joined, np.cumsum(offsets)


def _spans(encoder: Any, texts: list[str], lengths: NDArray[np.int64], matcher: Any, size: int) -> NDArray[np.int64]:
    """Return rows of (index of the text, begin, end), in characters; an end of -1 is that of the text.

    Texts that are much longer than `size` are cut into parts; with 0, none.
    """
    rows = np.zeros((len(texts), 3), dtype=np.int64)
    rows[:, 0] = np.arange(len(texts))
    rows[:, 2] = -1
    cuts = {}
    for index in np.flatnonzero(lengths > 2 * size).tolist() if size else []:
        cuts[index] = encoder.cut(texts[index], size, matcher)
    if not any(cuts.values()):
        return rows
    parts = []
    for index, row in enumerate(rows):
        places = cuts.get(index, [])
        parts.append(np.array([*zip([index] * (len(places) + 1), [0, *places], [*places, -1])]) if places else [row])
    return np.concatenate(parts).astype(np.int64)


def _jobs(spans: NDArray[np.int64], lengths: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """Return spans that together have about `size` characters each."""
    ends = np.cumsum(np.where(spans[:, 2] < 0, lengths[spans[:, 0]], spans[:, 2]) - spans[:, 1])
    marks = np.arange(size, ends[-1], size)
    return [job for job in np.split(spans, np.searchsorted(ends, marks) + 1) if len(job)]


def _run(work: Callable[[Any, Check | None], Result], jobs: list[Any], threads: int) -> list[Result]:
    """Return what `work` gives for each job; the caller's thread works too, and others help it while there are jobs.

    Of several errors, the one of the first job is raised.
    """
    if threads < 2:
        return [work(job, None) for job in jobs]
    done: list[Any] = [None] * len(jobs)
    errors: dict[int, BaseException] = {}
    numbers = count()  # next() on it is atomic

    def wanted(at: int) -> bool:
        return not errors or at < min(errors)

    def check(at: int) -> None:
        if not wanted(at):
            raise _Stopped

    def help_out() -> None:
        at = next(numbers)
        while at < len(jobs) and wanted(at):
            try:
                done[at] = work(jobs[at], partial(check, at))
            except _Stopped:
                return
            except Exception as error:
                errors[at] = error
            except BaseException as error:
                errors[-1] = error  # an interrupt ends all jobs
            at = next(numbers)

    helpers: list[Thread] = []
    try:
        for _ in range(threads - 1):
            helper = Thread(target=help_out)
            start_thread(helper)
            helpers.append(helper)
    except RuntimeError:  # no more threads, or the interpreter is about to end: fewer do the same
        pass
    try:
        help_out()
        for helper in helpers:
            helper.join()
    except BaseException as error:
        errors[-1] = error
        for helper in helpers:
            helper.join()
    if errors:
        raise errors[min(errors)]
    return done


class _Stopped(Exception):
    """Another thread of the batch has failed."""
