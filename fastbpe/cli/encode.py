"""`fastbpe encode`: text to ids, on standard output or in one file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

import click
import numpy as np
import numpy.typing as npt

import fastbpe
from fastbpe.cli.documents import check_files, cut, read_blocks
from fastbpe.cli.idfile import IdWriter, check_new, dtype_for
from fastbpe.cli.options import (
    debug_option,
    overwrite_option,
    quiet_option,
    separator_option,
    t_option,
    threads_option,
    tokenizer_options,
)
from fastbpe.cli.progress import Progress
from fastbpe.files import whole_file

Specials = frozenset[str] | Literal["all"]


class Part(NamedTuple):
    """Ids of some documents, or of a part of one: at `starts` documents begin, at `ends` they end."""

    ids: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def with_eot(self, eot: int, prepend: bool) -> Part:
        """Put an id at every end (start) of a document."""
        ids = np.insert(self.ids, self.starts if prepend else self.ends, eot).astype(np.uint32)
        # A part of a long document has not both its start and its end: a start before this part moves nothing here.
        shifted = not prepend or len(self.starts) == len(self.ends)
        return Part(ids, self.starts, self.ends + (np.arange(len(self.ends)) + 1 if shifted else 0))


NOWHERE = np.zeros(0, np.int64)
HERE = np.zeros(1, np.int64)


class Encoding(NamedTuple):
    """How documents become ids; special tokens that are not allowed are text."""

    tokenizer: fastbpe.Tokenizer
    allowed: Specials = frozenset()
    threads: int | None = None

    def parts(self, documents: Iterable[list[bytes] | Iterator[bytes]]) -> Iterator[Part]:
        for item in documents:
            if isinstance(item, list):
                yield from self.whole(item)
            else:
                yield from self.stream(item)

    def whole(self, documents: list[bytes]) -> Iterator[Part]:
        try:
            texts = [document.decode() for document in documents]
        except UnicodeDecodeError:
            # Only a stream takes invalid UTF-8.
            for document in documents:
                yield from self.stream(iter([document]))
            return
        if texts:
            ids, offsets = self.tokenizer.encode_batch_to_numpy(
                texts, allowed_special=self.allowed, disallowed_special=(), threads=self.threads
            )
            yield Part(ids, offsets[:-1], offsets[1:])

    def stream(self, chunks: Iterator[bytes]) -> Iterator[Part]:
        starts = HERE
        for ids in self.tokenizer.iter_encode_batches(chunks, allowed_special=self.allowed, disallowed_special=()):
            yield Part(ids, starts, NOWHERE)
            starts = NOWHERE
        yield Part(np.zeros(0, np.uint32), starts, HERE)


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@tokenizer_options(t_option)
@click.option("-o", "--output", metavar="OUT", help="Write ids to NAME.bin or NAME.npy instead of printing them.")
@separator_option
@click.option(
    "--eot",
    type=click.Choice(["append", "prepend", "none"]),
    help="Where each document gets the end-of-text id. [default: append with -o, none when printing]",
)
@click.option("--eot-token", default="<|endoftext|>", show_default=True, metavar="TOK", help="The end-of-text token.")
@click.option("--allow-special", multiple=True, metavar="TOK|all", help="Special tokens to recognise in the text.")
@threads_option
@overwrite_option
@quiet_option
@debug_option
def encode(
    tokenizer: fastbpe.Tokenizer,
    files: tuple[str, ...],
    output: str | None,
    separator: str,
    eot: str | None,
    eot_token: str,
    allow_special: tuple[str, ...],
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Turn text into token ids.

    Files (standard input without any) are cut into documents at the separator; empty documents are left out.
    Without -o each document is one line of ids. With -o NAME.bin the ids stand one after another as
    little-endian uint16, or uint32 when the vocabulary has more than 65,536 ids, and each document ends with the
    end-of-text id: the format that nanoGPT maps into memory. NAME.npy is the same with a numpy header. The file
    appears under its name complete or not at all; memory does not grow with the input.

    Special tokens in the text are ordinary text unless --allow-special names them. Bytes that are not UTF-8 are
    encoded as they are.

    \b
    Examples:
      echo 'Call me Ishmael.' | fastbpe encode -t gpt2
      fastbpe encode -t gpt2 stories.txt -o train.bin
      fastbpe encode -t my.fbpe --separator '' chapters/*.txt -o book.npy
      python -c "import numpy; print(numpy.memmap('train.bin', 'uint16', 'r')[:10])"
    """
    if output is not None:
        check_output(output, overwrite)
    where = eot or ("append" if output else "none")
    eot_id = None if where == "none" else end_of_text(tokenizer, eot_token)
    names = files or ("-",)
    encoding = Encoding(tokenizer, allowed_specials(tokenizer, allow_special), threads)
    with Progress("encode", check_files(names), quiet) as progress:
        parts: Iterator[Part] = (
            part
            for name in names
            for part in encoding.parts(cut(read_blocks(name, progress.advance), separator.encode()))
        )
        if eot_id is not None:
            parts = (part.with_eot(eot_id, where == "prepend") for part in parts)
        if output is None:
            print_ids(parts)
            return
        written = write_ids(parts, output, dtype_for(tokenizer.n_vocab), overwrite)
    if not quiet:
        click.echo(f"fastbpe: {output}: {written}", err=True)


def check_output(output: str, overwrite: bool) -> None:
    if output.endswith(os.sep) or os.path.isdir(output):
        raise click.UsageError("dataset folders are not written yet; use -o NAME.bin")
    if not output.endswith((".bin", ".npy")):
        raise click.UsageError(f"-o must be NAME.bin or NAME.npy, got {output}")
    check_new(output, overwrite)


def end_of_text(tokenizer: fastbpe.Tokenizer, token: str) -> int:
    if token not in tokenizer.special_tokens:
        has = ", ".join(tokenizer.special_tokens) or "none"
        raise click.UsageError(
            f"no special token {token} (there are: {has}): --eot-token names one, --eot none adds none"
        )
    return tokenizer.special_tokens[token]


def allowed_specials(tokenizer: fastbpe.Tokenizer, names: tuple[str, ...]) -> Specials:
    if "all" in names:
        return "all"
    for name in names:
        if name not in tokenizer.special_tokens:
            raise click.UsageError(f"--allow-special {name}: the tokenizer has no such special token")
    return frozenset(names)


def print_ids(parts: Iterable[Part]) -> None:
    """One document a line, ids separated by spaces."""
    out = sys.stdout.buffer
    middle = False  # of a document, some of whose ids are printed

    def put(ids: npt.NDArray[np.uint32]) -> None:
        nonlocal middle
        if len(ids):
            out.write((" " * middle + " ".join(map(str, ids.tolist()))).encode())
            middle = True

    for ids, _, ends in parts:
        begin = 0
        for end in ends.tolist():
            put(ids[begin:end])
            out.write(b"\n")
            begin, middle = end, False
        put(ids[begin:])


def write_ids(parts: Iterable[Part], output: str, dtype: np.dtype[Any], overwrite: bool) -> str:
    documents = 0
    with whole_file(output, overwrite=overwrite) as file:
        writer = IdWriter(file, dtype, output.endswith(".npy"))
        for part in parts:
            writer.write(part.ids)
            documents += len(part.ends)
        writer.finish()
    return f"{documents:,} documents, {writer.count:,} ids ({dtype.name})"
