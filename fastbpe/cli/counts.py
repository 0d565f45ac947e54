"""`fastbpe count-pretokens` and `fastbpe merge-counts`: the part of training that reads the corpus."""

from __future__ import annotations

import click

import fastbpe
from fastbpe.cli.idfile import check_new
from fastbpe.cli.options import (
    debug_option,
    max_memory_option,
    overwrite_option,
    quiet_option,
    temp_dir_option,
    text_field_option,
    threads_option,
    unit_option,
)
from fastbpe.cli.progress import Progress

output_option = click.option("-o", "--output", required=True, metavar="OUT", help="NAME.fbc.")


@click.command("count-pretokens")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@output_option
@click.option("--pattern", default="gpt2", show_default=True, metavar="NAME|REGEX", help="How to split text.")
@click.option("--special", multiple=True, metavar="TOK", help="A special token: text is cut at it; may be repeated.")
@unit_option
@click.option("--positions", is_flag=True, help="Note where each pretoken is first (tie-break first_seen).")
@click.option("--min-count", type=int, default=1, show_default=True, metavar="N", help="Leave out rarer ones.")
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
    check_new(output, overwrite)
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


@click.command("merge-counts")
@click.argument("files", nargs=-1, required=True, metavar="COUNTS...")
@output_option
@overwrite_option
@debug_option
def merge_counts(files: tuple[str, ...], output: str, overwrite: bool) -> None:
    """Add counts of parts of a corpus; the memory does not grow with the files.

    \b
    Example:
      fastbpe merge-counts a.fbc b.fbc -o all.fbc
    """
    check_new(output, overwrite)
    fastbpe.merge_counts(files, output)
