"""`fastbpe count` and `fastbpe info`: numbers about texts and tokenizers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

import fastbpe
from fastbpe.cli.documents import check_files, cut, read_blocks
from fastbpe.cli.encode import Encoding
from fastbpe.cli.options import (
    debug_option,
    quiet_option,
    separator_option,
    t_option,
    threads_option,
    tok_argument,
    tokenizer_options,
)
from fastbpe.cli.progress import Progress
from fastbpe.counts_file import Header

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")


@click.command()
@click.argument("files", nargs=-1, metavar="[FILE]...")
@tokenizer_options(t_option)
@separator_option
@threads_option
@json_option
@quiet_option
@debug_option
def count(
    tokenizer: fastbpe.Tokenizer,
    files: tuple[str, ...],
    separator: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Count tokens, as wc counts words.

    Prints tokens, bytes and the name of each file, and their total. Tokens are what encode prints, without
    end-of-text ids; special tokens in the text are text.

    \b
    Examples:
      fastbpe count -t gpt2 README.md
      fastbpe count -t o200k_base --json docs/*.md
      git diff | fastbpe count -t cl100k_base
    """
    names = files or ("-",)
    encoding = Encoding(tokenizer, threads=threads)
    with Progress("count", check_files(names), quiet) as progress:
        rows = [count_file(encoding, name, separator, progress) for name in names]
    total = {"name": "total"} | {key: sum(row[key] for row in rows) for key in ("tokens", "bytes", "documents")}
    if as_json:
        click.echo(json.dumps({"files": rows, "total": {key: total[key] for key in total if key != "name"}}))
        return
    for row in [*rows, total] if len(rows) > 1 else rows:
        click.echo(f"{row['tokens']:>10} {row['bytes']:>11} {row['name']}")


def count_file(encoding: Encoding, name: str, separator: str, progress: Progress) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "tokens": 0, "bytes": 0, "documents": 0}

    def read() -> Iterator[bytes]:
        for block in read_blocks(name, progress.advance):
            row["bytes"] += len(block)
            yield block

    for part in encoding.parts(cut(read(), separator.encode())):
        row["tokens"] += len(part.ids)
        row["documents"] += len(part.ends)
    return row


@click.command()
@tokenizer_options(tok_argument, or_counts=True)
@json_option
@debug_option
def info(tokenizer: fastbpe.Tokenizer | Header, as_json: bool) -> None:
    """Show what a tokenizer is, or a file of counts (.fbc).

    \b
    Examples:
      fastbpe info gpt2
      fastbpe info tokenizer.json --json
      fastbpe info a.fbc
    """
    facts = describe_counts(tokenizer) if isinstance(tokenizer, Header) else describe(tokenizer)
    if as_json:
        click.echo(json.dumps(facts))
        return
    if not isinstance(tokenizer, Header):
        facts["special_tokens"] = len(facts["special_tokens"])
    for key, value in facts.items():
        for index, line in enumerate((value or [None]) if isinstance(value, list) else [value]):
            click.echo(f"{'' if index else key:<15} {'-' if line is None else line}")


def describe(tokenizer: fastbpe.Tokenizer) -> dict[str, Any]:
    spec = tokenizer.spec
    return {
        "name": tokenizer.name,
        "n_vocab": tokenizer.n_vocab,
        "pattern": [step.pattern for step in spec.splits],
        "semantics": "ranks" if spec.merges is None else "merges",
        "special_tokens": dict(tokenizer.special_tokens),
        "added_tokens": len(spec.added_tokens),
        "normalizer": spec.normalizer,
        "fingerprint": tokenizer.fingerprint,
        "provenance": None if spec.provenance is None else dict(spec.provenance),
        "backend": fastbpe.backend(),
    }


def describe_counts(header: Header) -> dict[str, Any]:
    return {
        "pattern": [split.pattern for split in header.splits],
        "special_tokens": list(header.special_tokens),
        "unit": header.unit,
        "documents": header.documents,
        "bytes": header.size,
        "pretokens": header.unique,
        "total": header.total,
        "positions": header.positions,
    }
