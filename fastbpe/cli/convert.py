"""`fastbpe convert`: a tokenizer from one file format to another."""

from __future__ import annotations

import shlex

import click

import fastbpe
from fastbpe.cli.idfile import check_new
from fastbpe.cli.options import debug_option, overwrite_option, quiet_option, tok_argument, tokenizer_options
from fastbpe.merging import pattern_name

MOST_SHOWN = 5  # special tokens


@click.command()
@tokenizer_options(tok_argument)
@click.argument("output", metavar="OUT")
@click.option("--from", "from_format", metavar="FMT", help="Format of TOK; default: decided from its content.")
@click.option("--to", "to_format", metavar="FMT", help="Format of OUT; default: by its suffix.")
@overwrite_option
@quiet_option
@debug_option
def convert(tokenizer: fastbpe.Tokenizer, output: str, to_format: str | None, overwrite: bool, quiet: bool) -> None:
    """Write a tokenizer in another format.

    By suffix: .fbpe (fastbpe's own, holds everything), .json (Hugging Face's tokenizer.json), .tiktoken (ranks
    alone). What a format cannot hold is refused; but a .tiktoken file is ranks alone, and its reader has to name the
    pattern and the special tokens again.

    \b
    Examples:
      fastbpe convert my.fbpe tokenizer.json
      fastbpe convert tokenizer.json my.fbpe
      fastbpe convert ranks.tiktoken my.fbpe --pattern cl100k --special '<|endoftext|>=100257'
    """
    if output == "-":
        raise click.UsageError("OUT must be a file: a tokenizer is not written to standard output")
    check_new(output, overwrite)
    save(tokenizer, output, to_format, quiet)


def save(tokenizer: fastbpe.Tokenizer, output: str, to_format: str | None, quiet: bool) -> None:
    """Write a tokenizer, and say how many ids are in the file and what is not."""
    tokenizer.save(output, format=to_format)
    if quiet:
        return
    ranks_alone = to_format == "tiktoken" or (to_format is None and output.endswith(".tiktoken"))
    n_ids = len(tokenizer.spec.vocab) if ranks_alone else tokenizer.n_vocab
    click.echo(f"fastbpe: {output}: {n_ids:,} ids", err=True)
    if ranks_alone:
        click.echo(f"fastbpe: {output} {_note(tokenizer)}", err=True)


def _note(tokenizer: fastbpe.Tokenizer) -> str:
    """Return what a file of ranks does not hold, and the options that say it."""
    special = [shlex.quote(f"{name}={id}") for name, id in tokenizer.special_tokens.items()]
    shown = special if len(special) <= MOST_SHOWN else [*special[:MOST_SHOWN], f"... ({len(special)} in all)"]
    pattern = pattern_name(tokenizer.spec.splits)
    note = "holds no pattern" + (" and no special tokens" if special else "")
    if pattern not in fastbpe.patterns and len(tokenizer.spec.splits) > 1:
        return f"{note}; a sequence of patterns has no name to load it with"
    options = "".join(f" --special {token}" for token in shown)
    note += f": load it with --pattern {shlex.quote(pattern)}{options}"
    return note if pattern in fastbpe.patterns else f"{note} (what the pattern does not match is dropped then)"
