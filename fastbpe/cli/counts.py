"""`fastbpe count-pretokens` and `fastbpe merge-counts`: the part of training that reads the corpus."""

from __future__ import annotations

import click

import fastbpe
from fastbpe.cli.idfile import check_new
from fastbpe.cli.options import (
    debug_option,
    is_counts,
    max_memory_option,
    overwrite_option,
    quiet_option,
    temp_dir_option,
    text_field_option,
    threads_option,
    unit_option,
)
from fastbpe.cli.progress import Progress
from fastbpe.counts_file import CountsReader

output_option = click.option("-o", "--output", required=True, metavar="OUT", help="NAME.fbc.")
min_count_option = click.option(
    "--min-count", type=int, default=1, show_default=True, metavar="N", help="Leave out rarer ones."
)


@click.command("count-pretokens")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@output_option
@click.option("--pattern", default="gpt2", show_default=True, metavar="NAME|REGEX", help="How to split text.")
@click.option("--special", multiple=True, metavar="TOK", help="A special token: text is cut at it; may be repeated.")
@unit_option
@click.option("--positions", is_flag=True, help="Note where each pretoken is first (tie-break first_seen).")
@min_count_option
@text_field_option
@max_memory_option
@temp_dir_option
@threads_option
@overwrite_option
@quiet_option
@debug_option
def count_pretokens(
    files: tuple[str, ...],
    output: str,
    pattern: str,
    special: tuple[str, ...],
    unit: str,
    positions: bool,
    min_count: int,
    text_field: str,
    max_memory: int | None,
    temp_dir: str | None,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Count what a pattern splits texts into, for training.

    Each file is one document; .jsonl and .parquet hold many, .gz and .zst are decompressed.

    \b
    Examples:
      fastbpe count-pretokens a.txt -o a.fbc --special '<|endoftext|>'
      fastbpe count-pretokens *.jsonl.gz -o b.fbc --pattern cl100k --max-memory 1000000000
    """
    _check_output(output, overwrite)
    with Progress("count", None, quiet) as progress:
        fastbpe.count_pretokens(
            files,
            pattern=pattern,
            special_tokens=special,
            unit=unit,
            positions=positions,
            min_count=min_count,
            text_field=text_field,
            threads=threads,
            max_memory=max_memory,
            temp_dir=temp_dir,
            output=output,
            progress=progress.update,
        )
    _say(output, quiet)


@click.command("merge-counts")
@click.argument("files", nargs=-1, required=True, metavar="COUNTS...")
@output_option
@min_count_option
@overwrite_option
@quiet_option
@debug_option
def merge_counts(files: tuple[str, ...], output: str, min_count: int, overwrite: bool, quiet: bool) -> None:
    """Add counts of parts of a corpus; the memory does not grow with the files.

    \b
    Example:
      fastbpe merge-counts a.fbc b.fbc -o all.fbc
    """
    _check_output(output, overwrite)
    fastbpe.merge_counts(files, output, min_count=min_count)
    _say(output, quiet)


def _check_output(output: str, overwrite: bool) -> None:
    if not is_counts(output):
        raise click.UsageError(f"-o must end with .fbc, got {output}")
    check_new(output, overwrite)


def _say(output: str, quiet: bool) -> None:
    if not quiet:
        header = CountsReader.of(output).header
        numbers = f"{header.unique:,} pretokens, {header.total:,} in all, {header.documents:,} documents"
        click.echo(f"fastbpe: {output}: {numbers}", err=True)
