"""The program: its commands, its exit codes, and one line on stderr for every error.

Exit codes: 0 done (also when the reader of a pipe went away), 1 failed, 2 usage, 130 Ctrl-C, 143 SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from types import FrameType
from typing import Any

import click

import fastbpe
from fastbpe.cli.convert import convert
from fastbpe.cli.counts import count_pretokens, merge_counts
from fastbpe.cli.decode import decode
from fastbpe.cli.describe import count, info
from fastbpe.cli.documents import woken_by_signals
from fastbpe.cli.encode import encode
from fastbpe.cli.train import train


class Terminated(BaseException):
    """SIGTERM, raised so that temporary files are removed on the way out."""


class Program(click.Group):
    """A click group whose errors are one line each; click's own main() ends a closed pipe with exit 1."""

    def main(self, args: Any = None, *rest: Any, **extra: Any) -> Any:
        sys.exit(run(self, list(sys.argv[1:] if args is None else args)))


def run(program: click.Group, args: list[str]) -> int:
    """Run a command line and return its exit code."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        with woken_by_signals(), warnings.catch_warnings(), program.make_context("fastbpe", args) as context:
            warnings.showwarning = _warn
            program.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as finished:
        return finished.exit_code
    except BrokenPipeError:
        _drop_output()
        return 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "", err=True)
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "fastbpe"
        return _fail(f"{error.format_message()} ({command} --help)", 2)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except Terminated:
        return _fail("terminated", 143)
    except Exception as error:
        if "--debug" in args:
            traceback.print_exc()
        _drop_output()
        return _fail(_describe(error), 1)
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _warn(message: Warning | str, *place: Any, **more: Any) -> None:
    click.echo(f"fastbpe: warning: {message}", err=True)


def _fail(message: str, code: int) -> int:
    click.echo(f"fastbpe: {' '.join(message.split())}", err=True)
    return code


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, (fastbpe.Error, ValueError, click.ClickException)):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _drop_output() -> None:
    """Send what is still buffered for stdout nowhere, or the interpreter would complain at its exit."""
    if sys.stdout is None:  # closed before we began
        return
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(fastbpe.__version__, "--version", prog_name="fastbpe")
def main() -> None:
    """Turn text into token ids and back, and learn the vocabularies that this needs.

    \b
    Start here:
      fastbpe train corpus.txt --vocab-size 8192 -o my.fbpe
      fastbpe encode -t my.fbpe corpus.txt -o train.bin
      fastbpe decode -t my.fbpe train.bin | head

    A tokenizer is a bundled name (gpt2, cl100k_base, o200k_base, ...), the name of an OpenAI model, or a file.
    Data goes to standard output, words to standard error; encode, decode and count read standard input as `-`.
    """


for command in (train, encode, decode, count, info, convert, count_pretokens, merge_counts):
    main.add_command(command)
