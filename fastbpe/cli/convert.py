"""`fastbpe convert`: a tokenizer from one file format to another."""

from __future__ import annotations

import click

import fastbpe
from fastbpe.cli.idfile import check_new
from fastbpe.cli.options import debug_option, overwrite_option, quiet_option, tok_argument, tokenizer_options


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
    tokenizer.save(output, format=to_format)
    if not quiet:
        click.echo(f"fastbpe: {output}: {tokenizer.n_vocab:,} ids", err=True)
