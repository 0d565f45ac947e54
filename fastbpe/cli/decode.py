"""`fastbpe decode`: ids to text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import chain

import click
import numpy as np

import fastbpe
from fastbpe.cli.documents import read_blocks
from fastbpe.cli.idfile import dtype_for, read_ids
from fastbpe.cli.options import debug_option, separator_option, t_option, tokenizer_options


@click.command()
@click.argument("file", default="-")
@tokenizer_options(t_option)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "uint16", "uint32"]),
    default="auto",
    show_default=True,
    help="Integers of a .bin file; auto: uint16 if every id of the vocabulary fits, else uint32, as encode writes.",
)
@separator_option
@debug_option
def decode(tokenizer: fastbpe.Tokenizer, file: str, dtype: str, separator: str) -> None:
    """Turn token ids back into text.

    FILE is a .bin or .npy file, or text: ids separated by spaces, one document a line (standard input without
    FILE). Between two lines the separator is written; in a binary file the end-of-text ids give their own text.
    The bytes are written as they are, valid UTF-8 or not.

    \b
    Examples:
      echo 'Call me Ishmael.' | fastbpe encode -t gpt2 | fastbpe decode -t gpt2
      fastbpe decode -t my.fbpe train.bin | head -c 300
      echo 15496 995 | fastbpe decode -t gpt2
    """
    out = sys.stdout.buffer
    if file.endswith((".bin", ".npy")):
        for ids in read_ids(file, dtype_for(tokenizer.n_vocab) if dtype == "auto" else np.dtype(dtype)):
            out.write(tokenizer.decode_bytes(ids))
        return
    between = b""
    for numbers in parse_lines(read_blocks(file), file):
        if numbers is None:
            between = separator.encode()
        else:
            out.write(between + tokenizer.decode_bytes(numbers))
            between = b""


def parse_lines(blocks: Iterable[bytes], name: str) -> Iterator[list[int] | None]:
    """Yield the ids of a text in lists, and None for each end of a line.

    Raises:
        ValueError: something is not a number.
    """
    rest = b""
    for block in chain(blocks, [b"\n"]):
        lines = (rest + block).split(b"\n")
        # The last number may go on in the next block.
        begun, space, rest = lines[-1].rpartition(b" ")
        lines[-1] = begun + space
        for index, line in enumerate(lines):
            words = line.split()
            wrong = next((word for word in words if not word.isdigit()), None)
            if wrong is not None:
                raise ValueError(f"{name}: ids must be numbers, got {wrong[:80].decode(errors='replace')!r}")
            if words:
                yield [int(word) for word in words]
            if index < len(lines) - 1:
                yield None
