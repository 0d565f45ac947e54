"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Let the error that there is no room name the file that is written; the system does not."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = path
        raise


@contextmanager
def whole_file(path: str | os.PathLike[str], *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that takes its name only when the block ends without an error.

    The bytes go to `NAME.partial-PID-RANDOM` in the same folder; then the file is synced, renamed, and the folder
    synced.  On any error or interrupt the partial file is removed.

    Raises:
        FileExistsError: the file exists and `overwrite` is false.
    """
    path = os.fspath(path)
    if not overwrite and os.path.lexists(path):
        raise FileExistsError(17, "the file exists", path)
    # In the folder of the target, as a rename is atomic only within a file system; a name that nobody foresees.
    partial = f"{path}.partial-{os.getpid()}-{os.urandom(4).hex()}"
    try:  # from before the file is there: a signal may come while it is made
        try:
            handle = open(partial, "xb")  # noqa: SIM115 (the caller's path belongs in this error alone)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, path) from None
        with naming(path), handle as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(partial, path)
        else:
            os.link(partial, path)  # unlike a rename it never replaces a file that came in between
            os.unlink(partial)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    _sync_folder(os.path.dirname(path) or ".")


def write_whole(path: str | os.PathLike[str], data: bytes, *, overwrite: bool = True) -> None:
    """Write a file, whole or not at all."""
    with whole_file(path, overwrite=overwrite) as file:
        file.write(data)


def _sync_folder(folder: str) -> None:
    if os.name != "posix":  # only there can a folder be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
