"""`fastbpe train`: texts to a vocabulary."""

from __future__ import annotations

import click

import fastbpe
from fastbpe.cli.idfile import check_new
from fastbpe.cli.options import debug_option, overwrite_option, quiet_option
from fastbpe.cli.progress import Progress
from fastbpe.core.train_python import TIE_BREAKS

SUFFIXES = (".fbpe", ".json", ".tiktoken")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--vocab-size", type=int, required=True, metavar="N", help="256 bytes, merges and special tokens.")
@click.option("-o", "--output", required=True, metavar="OUT", help="NAME.fbpe, NAME.json or NAME.tiktoken.")
@click.option("--pattern", default="gpt2", show_default=True, metavar="NAME|REGEX", help="How to split text.")
@click.option("--special", multiple=True, metavar="TOK", help="A special token: text is cut at it; may be repeated.")
@click.option(
    "--tie-break",
    type=click.Choice(TIE_BREAKS),
    default="lexicographic",
    show_default=True,
    help="Which of equally frequent pairs.",
)
@click.option("--min-frequency", type=int, default=1, show_default=True, metavar="N", help="Rarer pairs stay apart.")
@overwrite_option
@quiet_option
@debug_option
def train(
    files: tuple[str, ...],
    vocab_size: int,
    output: str,
    pattern: str,
    special: tuple[str, ...],
    tie_break: str,
    min_frequency: int,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Learn a vocabulary from texts.

    Counts the pieces that the pattern splits the files into, then joins the most frequent pair of neighbours into
    a new token, again and again. Each file is one document, and a special token in it is a boundary that no token
    crosses. The same files give the same vocabulary on every machine.

    \b
    Examples:
      fastbpe train corpus.txt --vocab-size 8192 -o my.fbpe --special '<|endoftext|>'
      fastbpe train a.txt b.txt --vocab-size 50000 -o tokenizer.json --pattern cl100k --tie-break huggingface
    """
    if not output.endswith(SUFFIXES):
        raise click.UsageError(f"-o must end with {', '.join(SUFFIXES)}, got {output}")
    check_new(output, overwrite)
    with Progress("count", None, quiet) as progress:
        tokenizer = fastbpe.train(
            files,
            vocab_size,
            pattern=pattern,
            special_tokens=special,
            tie_break=tie_break,
            min_frequency=min_frequency,
            progress=progress.update,
        )
    tokenizer.save(output)
    if not quiet:
        click.echo(f"fastbpe: {output}: {tokenizer.n_vocab:,} ids", err=True)
