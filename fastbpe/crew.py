"""The threads of one call: they live no longer than it does, however it ends."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

__all__ = ["Crew", "Job"]

# What a thread does with its counter and its number.
Job: TypeAlias = Callable[[Any, int], None]

WAIT = 0.1  # seconds between two looks at whether another thread has failed


class Crew:
    """The caller's thread, which has the number 0, and helpers; what goes wrong in one ends all."""

    def __init__(self) -> None:
        self._failure: BaseException | None = None
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()  # None: there is no more

    def check(self) -> None:
        """Raise what went wrong in another thread; to be called often."""
        if self._failure is not None:
            raise self._failure

    def run(self, jobs: Iterator[Job], work: Callable[[Iterator[Job], int], None], threads: int) -> None:
        """Have jobs done.

        Args:
            jobs: asked by the caller's thread alone.
            work: takes jobs and the number of its thread, and does them.
            threads: the most that work.
        """
        helpers: list[threading.Thread] = []
        try:
            for number in range(1, threads):
                helpers.append(threading.Thread(target=self._help, args=(work, number)))
                try:
                    start_thread(helpers[-1])
                except RuntimeError:  # no more threads, or the interpreter is about to end: fewer do the same
                    helpers.pop()
                    break
            work(self._own(jobs, len(helpers)), 0)
            for helper in helpers:
                helper.join()
        except BaseException as error:
            self._fail(error)
        while helpers:
            try:
                _see_end(helpers[-1])
                helpers.pop()
            except BaseException as error:  # a second Ctrl-C
                self._fail(error)
        self.check()

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error

    def _help(self, work: Callable[[Iterator[Job], int], None], number: int) -> None:
        try:
            self.check()
            work(self._given(), number)
        except BaseException as error:
            self._fail(error)

    def _own(self, jobs: Iterator[Job], helpers: int) -> Iterator[Job]:
        """Give jobs to the helpers; yield those with which they are behind."""
        for job in jobs:
            self.check()
            if self._waiting.qsize() < 2 * helpers:
                self._waiting.put(job)
            else:
                yield job
        self._waiting.put(None)
        yield from self._given()

    def _given(self) -> Iterator[Job]:
        while True:
            self.check()
            try:
                job = self._waiting.get(timeout=WAIT)
            except queue.Empty:
                continue
            if job is None:
                self._waiting.put(None)  # for the others
                return
            yield job


def start_thread(helper: threading.Thread) -> None:
    """Start a thread; a signal that comes meanwhile waits, where the system can do that.

    An interrupt within `start` may leave a lock of `threading` taken, and the new thread waiting for it for ever.
    """
    if not hasattr(signal, "pthread_sigmask"):
        helper.start()
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        helper.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _see_end(helper: threading.Thread) -> None:
    """Wait for the end of a thread.

    `join` will not do after an interrupt, which makes it take a thread that runs for ended; and one that an interrupt
    came upon while it was started may not run yet, or never will.
    """
    patience = 100
    while helper in threading.enumerate() and patience:
        patience -= helper.ident is None
        time.sleep(0.005)
