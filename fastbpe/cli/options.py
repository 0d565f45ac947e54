"""Options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

import fastbpe
from fastbpe.counts_file import UNITS, CountsReader

Command = TypeVar("Command", bound=Callable[..., Any])


class Grouped(click.Command):
    """A command whose help has its options under headings; those of no group come last.

    Args:
        groups: heading to names of parameters.
    """

    def __init__(self, *args: Any, groups: dict[str, tuple[str, ...]], **more: Any) -> None:
        super().__init__(*args, **more)
        self._groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        left = {param.name or "": param for param in self.get_params(ctx) if isinstance(param, click.Option)}
        chosen = {heading: [left.pop(name) for name in names] for heading, names in self._groups.items()}
        for heading, params in (*chosen.items(), ("Options", [*left.values()])):
            with formatter.section(heading):
                formatter.write_dl([record for param in params if (record := param.get_help_record(ctx))])


def named_ids(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, int]:
    """Parse NAME=ID options; the name may hold `=` itself."""
    ids = {}
    for value in values:
        name, _, number = value.rpartition("=")
        if not (name and number.isdecimal()):
            raise click.BadParameter(f"{value!r} is not NAME=ID, such as '<|endoftext|>=50256'")
        ids[name] = int(number)
    return ids


def is_counts(path: str) -> bool:
    """Whether a name is that of a file of pretoken counts."""
    return path.lower().endswith(".fbc")


quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress and no summary.")
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace an existing output file.")
threads_option = click.option(
    "-T", "--threads", type=click.IntRange(1, 1024), help="Threads to use; default: one for each processor."
)
max_memory_option = click.option(
    "--max-memory", type=int, metavar="BYTES", help="Of counting; beyond it counts go to temporary files."
)
temp_dir_option = click.option("--temp-dir", metavar="DIR", help="The folder of those; default: that of the system.")
unit_option = click.option(
    "--unit", type=click.Choice(UNITS), default="document", show_default=True, help="What is a text of its own."
)
text_field_option = click.option(
    "--text-field", default="text", show_default=True, metavar="NAME", help="Of .jsonl and .parquet."
)
separator_option = click.option(
    "--separator",
    default="<|endoftext|>",
    show_default=True,
    metavar="TEXT",
    help="Text between two documents of a file, part of neither; '' makes each file one document.",
)


def debug_option(command: Command) -> Command:
    # Read from the arguments by app.run, which must know it even when the command line cannot be parsed.
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")(command)


def tokenizer_options(
    declaration: Callable[[Command], Command], *, or_counts: bool = False
) -> Callable[[Command], Command]:
    """Declare a tokenizer (`-t TOK` or an argument TOK) and hand it to the command as `tokenizer`.

    Args:
        or_counts: TOK may be a file of counts, of which the command gets the header.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_tokenizer(
            *args: Any, source: str, pattern: str | None, specials: dict[str, int], **kwargs: Any
        ) -> Any:
            if or_counts and is_counts(source):
                return command(*args, tokenizer=CountsReader.of(source).header, **kwargs)
            tokenizer = load_tokenizer(source, kwargs.pop("from_format", None), pattern, specials)
            return command(*args, tokenizer=tokenizer, **kwargs)

        special = click.option(
            "--special",
            "specials",
            callback=named_ids,
            multiple=True,
            metavar="NAME=ID",
            help="A special token of a file that holds none; may be repeated.",
        )
        pattern = click.option(
            "--pattern", metavar="NAME|REGEX", help="How to split text, for a file that does not say (.tiktoken)."
        )
        return declaration(pattern(special(with_tokenizer)))  # type: ignore[arg-type]

    return decorate


t_option: Callable[[Command], Command] = click.option(
    "-t", "--tokenizer", "source", required=True, metavar="TOK", help="A bundled name, a model's name, or a file."
)
tok_argument: Callable[[Command], Command] = click.argument("source", metavar="TOK")


def load_tokenizer(
    source: str, from_format: str | None, pattern: str | None, specials: dict[str, int]
) -> fastbpe.Tokenizer:
    """Return the tokenizer a user names: a bundled encoding first, then a file, then a model."""
    about_file = from_format or pattern or specials
    if source in fastbpe.list_encoding_names() and not about_file:
        return fastbpe.get_encoding(source)
    if os.path.exists(source) or about_file or os.sep in source:
        return fastbpe.load(source, format=from_format, pattern=pattern, special_tokens=specials or None)
    try:
        return fastbpe.encoding_for_model(source)
    except (KeyError, ValueError):
        names = ", ".join(fastbpe.list_encoding_names())
        raise click.BadParameter(
            f"{source!r} is no file, no model and no bundled encoding ({names})", param_hint="TOK"
        ) from None
