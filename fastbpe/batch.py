"""Many texts, or one large one, on several threads: the same ids, whatever their number.

The texts are cut into jobs of about the same length, long texts at places where encoding may begin afresh.  Threads
live for one call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

Check = Callable[[], object]
Span = tuple[int, int, int]  # index of the text, begin and end in characters; an end of -1 is that of the text

SMALLEST_JOB = 1 << 16  # characters
GREATEST_JOB = 1 << 21
JOBS = 8  # a thread, so that none waits long for the last one
SHORT_BATCH = 1 << 18  # characters that one thread encodes before others have begun


def encode_batch(
    encoder: Any, texts: list[str], matcher: Any, otherwise: Callable[[str, Check | None], Any], threads: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the ids of all texts, uint32 [n], and where those of each begin, int64 [len(texts) + 1].

    Args:
        encoder: of core.
        texts: the texts.
        matcher: what must not be in a text that is encoded as it is.
        otherwise: gives the ids of any other text, as an array.
        threads: 1 or more.
    """
    total = sum(map(len, texts))
    threads = 1 if total < SHORT_BATCH else threads
    size = min(max(total // (threads * JOBS), SMALLEST_JOB), GREATEST_JOB)
    spans = list(_spans(encoder, texts, matcher, size if threads > 1 else 0))
    stop = Event()

    def check() -> None:
        if stop.is_set():
            raise _Stopped

    def work(job: list[Span]) -> tuple[list[NDArray[np.uint32]], NDArray[np.int64]]:
        check()
        ids, counts = encoder.encode_texts(texts, np.array(job, dtype=np.int64), matcher, check)
        if not (counts < 0).any():
            return [ids], counts
        parts = []
        place = 0
        for at, (index, begin, end) in enumerate(job):
            if counts[at] >= 0:
                parts.append(ids[place : place + counts[at]])
                place += counts[at]
            elif begin == 0 and end < 0:
                parts.append(otherwise(texts[index], check))
                counts[at] = len(parts[-1])
        return parts, counts

    jobs = list(_jobs(texts, spans, size))
    if threads == 1 or len(jobs) < 2:
        done = [work(job) for job in jobs]
    else:
        from concurrent.futures import ThreadPoolExecutor  # here, because most processes never need it

        with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
            futures = [pool.submit(work, job) for job in jobs]
            try:
                done = [future.result() for future in futures]
            except BaseException:
                stop.set()  # so that an interrupt or an error in one text does not wait for the others
                raise
    counts = np.concatenate([np.empty(0, dtype=np.int64), *(counts for _, counts in done)])
    if (counts < 0).any():  # a lone surrogate in a text that was cut
        return encode_batch(encoder, texts, matcher, otherwise, 1)
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.add.at(offsets, np.array([index + 1 for index, _, _ in spans], dtype=np.int64), counts)
    ids = [part for parts, _ in done for part in parts]
    return ids[0] if len(ids) == 1 else np.concatenate([np.empty(0, dtype=np.uint32), *ids]), np.cumsum(offsets)


class _Stopped(Exception):
    """Another thread of the batch has failed."""


def _spans(encoder: Any, texts: list[str], matcher: Any, size: int) -> Iterator[Span]:
    """Cut texts that are much longer than `size` characters into parts; with 0, none."""
    for index, text in enumerate(texts):
        cuts = encoder.cut(text, size, matcher) if 0 < 2 * size < len(text) else []
        yield from zip([index] * (len(cuts) + 1), [0, *cuts], [*cuts, -1])


def _jobs(texts: list[str], spans: list[Span], size: int) -> Iterator[list[Span]]:
    """Take spans together until they have about `size` characters."""
    job: list[Span] = []
    total = 0
    for index, begin, end in spans:
        job.append((index, begin, end))
        total += (len(texts[index]) if end < 0 else end) - begin
        if total >= size:
            yield job
            job, total = [], 0
    if job:
        yield job
