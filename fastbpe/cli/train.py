"""`fastbpe train`: texts to a vocabulary."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import click
from click.core import ParameterSource

import fastbpe
from fastbpe import formats
from fastbpe.cli.convert import save
from fastbpe.cli.idfile import check_new
from fastbpe.cli.options import (
    Grouped,
    debug_option,
    is_counts,
    load_tokenizer,
    max_memory_option,
    named_ids,
    overwrite_option,
    quiet_option,
    temp_dir_option,
    text_field_option,
    threads_option,
    unit_option,
)
from fastbpe.cli.progress import Progress
from fastbpe.core.train_python import TIE_BREAKS
from fastbpe.counts_file import CountsReader
from fastbpe.merging import BYTE_IDS, LENGTH_UNITS
from fastbpe.superbpe import SUPERWORDS

# What decides how text is counted, and has no say where it is counted already.
OF_COUNTING = ("unit", "text_field", "transition_size", "max_memory", "temp_dir")
SUFFIXES = (".fbpe", ".json", ".tiktoken")
GROUPS = {
    "Text": ("pattern", "unit", "text_field", "special", "special_at"),
    "Vocabulary": (
        "vocab_size",
        "transition_size",
        "init",
        "tie_break",
        "min_frequency",
        "max_token_length",
        "length_unit",
        "byte_ids",
    ),
    "Resources": ("threads", "max_memory", "temp_dir", "checkpoint"),
}


@click.command(cls=Grouped, groups=GROUPS)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--vocab-size", type=int, required=True, metavar="N", help="256 bytes, merges and special tokens.")
@click.option("-o", "--output", required=True, metavar="OUT", help="NAME.fbpe, NAME.json or NAME.tiktoken.")
@click.option(
    "--pattern",
    metavar="NAME|REGEX",
    help="How to split text; default: that of --init or the counts, or gpt2, or o200k.",
)
@unit_option
@text_field_option
@click.option("--special", multiple=True, metavar="TOK", help="A special token: text is cut at it; may be repeated.")
@click.option(
    "--special-at", multiple=True, metavar="TOK=ID", callback=named_ids, help="The same with an id of choice."
)
@click.option(
    "--tie-break",
    type=click.Choice(TIE_BREAKS),
    default="lexicographic",
    show_default=True,
    help="Which of equally frequent pairs.",
)
@click.option("--min-frequency", type=int, default=1, show_default=True, metavar="N", help="Rarer pairs stay apart.")
@click.option("--max-token-length", type=int, metavar="N", help="No longer tokens.")
@click.option("--length-unit", type=click.Choice(LENGTH_UNITS), default="bytes", show_default=True, help="Of N.")
@click.option(
    "--byte-ids", type=click.Choice(BYTE_IDS), default="value", show_default=True, help="Order of the ids of bytes."
)
@click.option("--init", metavar="VOCAB", help="A vocabulary to extend, its ids kept: a file or a known name.")
@click.option("--checkpoint", metavar="FILE", help="Write merges here on the way; the same command goes on from it.")
@click.option(
    "--transition-size",
    type=int,
    metavar="N",
    help="SuperBPE: from so many tokens on, merge across spaces too; refused if that may need more than --max-memory.",
)
@click.option("--report", is_flag=True, help="Say what was done: time by phase, memory, longest tokens.")
@threads_option
@max_memory_option
@temp_dir_option
@overwrite_option
@quiet_option
@debug_option
def train(
    files: tuple[str, ...],
    vocab_size: int,
    output: str,
    pattern: str | None,
    unit: str,
    text_field: str,
    special: tuple[str, ...],
    special_at: dict[str, int],
    tie_break: str,
    min_frequency: int,
    max_token_length: int | None,
    length_unit: str,
    byte_ids: str,
    init: str | None,
    checkpoint: str | None,
    transition_size: int | None,
    threads: int | None,
    max_memory: int | None,
    temp_dir: str | None,
    report: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Learn a vocabulary from texts.

    Counts the pieces that the pattern splits the files into, then joins the most frequent pair of neighbours into
    a new token, again and again. Each file is one document (.jsonl and .parquet hold many; .gz and .zst are
    decompressed), and a special token in it is a boundary that no token crosses. The same files give the same
    vocabulary on every machine. Instead of texts there may be counts (.fbc, from count-pretokens), which are added up.

    \b
    Examples:
      fastbpe train corpus.txt --vocab-size 8192 -o my.fbpe --special '<|endoftext|>'
      fastbpe train a.txt b.txt --vocab-size 50000 -o tokenizer.json --pattern cl100k --tie-break huggingface
      fastbpe train a.fbc b.fbc --vocab-size 50000 -o my.fbpe
      fastbpe train a.txt --vocab-size 50000 --transition-size 40000 -o super.json
    """
    if not output.endswith(SUFFIXES):
        raise click.UsageError(f"-o must end with {', '.join(SUFFIXES)}, got {output}")
    if special and special_at:
        raise click.UsageError("give --special or --special-at, not both")
    if transition_size is not None and (init or checkpoint or temp_dir or unit != "document" or byte_ids != "value"):
        raise click.UsageError(
            "--transition-size goes with none of --init, --checkpoint, --temp-dir, --unit line, --byte-ids huggingface"
        )
    from_counts = _check_counts(files)
    check_new(output, overwrite)
    base = None if init is None else load_tokenizer(init, None, None, {})
    special_tokens: Any = special_at or special or (None if from_counts else ())
    split = pattern if transition_size is None else SUPERWORDS
    _check_format(output, files[0] if from_counts else None, pattern=split, special_tokens=special_tokens, init=base)
    done = fastbpe.TrainingReport()
    with Progress("count", None, quiet) as progress:

        def update(phase: str, number: int, total: int | None) -> None:
            if phase != "memory":
                progress.update(phase, number, total)
            elif not quiet:
                click.echo(f"fastbpe: the second stage may need {number:,} bytes of memory", err=True)

        options: dict[str, Any] = {
            "special_tokens": special_tokens,
            "tie_break": tie_break,
            "min_frequency": min_frequency,
            "max_token_length": max_token_length,
            "length_unit": length_unit,
            "threads": threads,
            "report": done,
            "progress": update,
        }
        if not from_counts:
            options |= {"text_field": text_field, "max_memory": max_memory}
        if transition_size is not None:
            if pattern is not None:
                options["pattern"] = pattern
            tokenizer = fastbpe.train_superbpe(files, vocab_size, transition_size=transition_size, **options)
        else:
            options |= {"pattern": pattern, "byte_ids": byte_ids, "init": base, "checkpoint": checkpoint}
            if from_counts:
                counts = fastbpe.PretokenCounts.load(files[0]) if len(files) == 1 else fastbpe.merge_counts(files)
                tokenizer = fastbpe.train_from_counts(counts, vocab_size, **options)
            else:
                tokenizer = fastbpe.train(files, vocab_size, unit=unit, temp_dir=temp_dir, **options)
    save(tokenizer, output, None, quiet)
    if report:
        click.echo(str(done), err=True)


def _check_counts(files: tuple[str, ...]) -> bool:
    """Say whether the files are counts.

    Raises:
        click.UsageError: some are and some are not, or an option goes with texts alone.
    """
    counts = next(filter(is_counts, files), None)
    if counts is None:
        return False
    text = next((name for name in files if not is_counts(name)), None)
    if text is not None:
        raise click.UsageError(f"texts and counts do not go together, got {text} and {counts}")
    context = click.get_current_context()
    for name in OF_COUNTING:
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} does not go with counts, got {counts}")
    return True


def _check_format(
    output: str,
    counts: str | None,
    *,
    pattern: str | None,
    special_tokens: Collection[str] | None,
    init: fastbpe.Tokenizer | None,
) -> None:
    """Find before any work that a format cannot hold the tokenizer: try it without merges.

    Args:
        counts: a file of counts, from which pattern and special tokens are taken where they are None.

    Raises:
        UnsupportedError: it cannot.
    """
    nothing: Any = {}
    if counts is not None:
        header = CountsReader.of(counts).header
        nothing = fastbpe.PretokenCounts.from_dict({}, pattern=header.splits, special_tokens=header.special_tokens)
        special_tokens = special_tokens or header.special_tokens
    known = () if init is None else [token.content for token in init.spec.added_tokens]
    least = (256 if init is None else init.n_vocab) + len({*(special_tokens or ())}.difference(known))
    options: Any = {"pattern": pattern, "special_tokens": special_tokens, "init": init}
    tokenizer = fastbpe.train_from_counts(nothing, least, **options)
    formats.write(tokenizer.spec, formats.format_for_path(output))
