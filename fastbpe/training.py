"""Training: sources -> pretoken counts -> merges -> Tokenizer; the order of steps, no more.

Counting stands in `counting`, merging in `merging`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fastbpe.counting import Progress, Sources, count_files, count_texts
from fastbpe.counts import PretokenCounts, StrPath, packed_counts
from fastbpe.errors import TrainingError
from fastbpe.ids import show
from fastbpe.merging import Plan, TrainingReport, pattern_name, same_patterns
from fastbpe.tokenizer import Tokenizer

__all__ = ["TieDifference", "first_tie_difference", "train", "train_from_counts", "train_from_iterator"]


def train(
    sources: Sources,
    vocab_size: int,
    *,
    pattern: str | None = None,
    special_tokens: Sequence[str] | Mapping[str, int] = (),
    tie_break: str = "lexicographic",
    min_frequency: int = 1,
    max_token_length: int | None = None,
    length_unit: str = "bytes",
    byte_ids: str = "value",
    unit: str = "document",
    text_field: str = "text",
    init: Tokenizer | None = None,
    checkpoint: StrPath | None = None,
    threads: int | None = None,
    max_memory: int | None = None,
    temp_dir: StrPath | None = None,
    progress: Progress | None = None,
    report: TrainingReport | None = None,
) -> Tokenizer:
    """Learn a tokenizer from files.

    Each file is one document, or holds many, as `count_pretokens` says; special tokens in it are boundaries that
    nothing is learned across, and are never counted.  Files are read as bytes, a block at a time; runs of invalid
    UTF-8 are pretokens of their own.

    The ids are the 256 bytes by value, the merges in order, and the special tokens; those with ids of their own keep
    them, and the others step aside.  A corpus too small for `vocab_size` gives a smaller vocabulary; one without text
    is an error.  The result depends on the files and the options alone.

    With `init` the ids of that tokenizer stay as they are, and merges are added behind them, learned from the text as
    it encodes it.  A merge that would spell a token that is there already is passed over.  Ties that go by ids go by
    those of `init`, but for "huggingface", to which single bytes always come in the order of its alphabet.

    With `checkpoint` the merges are also written to that file as they are found, every few seconds.  The same call
    goes on from there if it was killed, and gives the same result; so does one with another `vocab_size`.

    Args:
        sources: a path, or a sequence of paths.
        vocab_size: bytes, merges and special tokens together; with `init` all its ids, and the new ones.
        pattern: the split pattern, or its name in `fastbpe.patterns`; None means that of `init`, or "gpt2".  Counts
            for `init` are made with `pattern=init.pattern, special_tokens=list(init.special_tokens)`.
        special_tokens: text that becomes one token each, in the order of their ids, or a mapping to their ids.
        tie_break: which of equally frequent pairs is merged: "lexicographic" (the greater pair of byte strings),
            "huggingface" (as `tokenizers`, fed documents, with all bytes in its initial alphabet), "smallest_id" (as
            `rustbpe`, bytes by value) or "first_seen" (the pair that is found first in the text, as `minbpe`).
        min_frequency: pairs that occur less often are not merged.
        max_token_length: no merge makes a longer token.
        length_unit: what `max_token_length` is in: "bytes" or "characters".
        byte_ids: the order of the ids of single bytes, where there is no `init`: by "value", or that of
            "huggingface"'s alphabet, which with special tokens at the ids from 0 on gives the ids of its trainer.
        unit: what a text is to the pattern: "document", or "line" as to `tokenizers` that is given files.
        text_field: the key or column of the text in .jsonl and .parquet.
        init: a tokenizer whose vocabulary is extended.
        checkpoint: a file for the merges so far.
        threads: 1 to 1024; None means one for each core.  The result does not depend on it.
        max_memory: bytes, 16 MiB or more; beyond it counting goes to temporary files.  The distinct pretokens must
            find room all the same, to be merged.
        temp_dir: the folder of temporary files; None: that of the system.
        progress: called a few times a second with ("count", bytes, bytes in all) and ("merge", merges, wanted).
        report: filled with what the training did.

    Raises:
        ValueError: an option is wrong, as vocab_size without room for the bytes and the special tokens; before
            anything is read.
        PatternError: the pattern cannot be used.
        OSError: a file cannot be read.
        TrainingError: there is no text to learn the wanted merges from; a file changed its size while it was read; or
            the checkpoint is damaged, that of another training, or in use.
    """
    plan = Plan(
        "train()", vocab_size, pattern=pattern, special_tokens=special_tokens, tie_break=tie_break,
        min_frequency=min_frequency, max_token_length=max_token_length, length_unit=length_unit,
        byte_ids=byte_ids, init=init,
        checkpoint=checkpoint, threads=threads, report=report,
    )  # fmt: skip
    counts = count_files(
        "train()", sources, plan.splits, plan.boundaries, progress, text_field,
        unit=unit, positions=plan.positions, threads=threads, max_memory=max_memory, temp_dir=temp_dir,
    )  # fmt: skip
    return plan.train(counts, progress, consume=True)


def train_from_iterator(
    texts: Iterable[str | bytes],
    vocab_size: int,
    *,
    weights: Iterable[int] | None = None,
    pattern: str | None = None,
    special_tokens: Sequence[str] | Mapping[str, int] = (),
    tie_break: str = "lexicographic",
    min_frequency: int = 1,
    max_token_length: int | None = None,
    length_unit: str = "bytes",
    byte_ids: str = "value",
    unit: str = "document",
    init: Tokenizer | None = None,
    checkpoint: StrPath | None = None,
    threads: int | None = None,
    max_memory: int | None = None,
    temp_dir: StrPath | None = None,
    progress: Progress | None = None,
    report: TrainingReport | None = None,
) -> Tokenizer:
    """Learn a tokenizer from an iterable of documents, each a str or bytes; the rest is as `train`.

    The iterable is asked by the calling thread alone, and each document is counted by one thread: a huge one should
    be a file.

    Args:
        weights: how often each document is counted, 0 or more; as many as there are texts.

    Raises:
        TypeError: an item is neither, or a weight is not an int; it names the index.  What the iterables raise passes
            through.
        ValueError: a weight is negative, or there are more or fewer weights than texts.
    """
    plan = Plan(
        "train_from_iterator()", vocab_size, pattern=pattern, special_tokens=special_tokens, tie_break=tie_break,
        min_frequency=min_frequency, max_token_length=max_token_length, length_unit=length_unit,
        byte_ids=byte_ids, init=init,
        checkpoint=checkpoint, threads=threads, report=report,
    )  # fmt: skip
    counts = count_texts(
        texts, plan.splits, plan.boundaries, progress, weights=weights,
        unit=unit, positions=plan.positions, threads=threads, max_memory=max_memory, temp_dir=temp_dir,
    )  # fmt: skip
    return plan.train(counts, progress, consume=True)


def train_from_counts(
    counts: PretokenCounts | Mapping[bytes, int],
    vocab_size: int,
    *,
    pattern: str | None = None,
    special_tokens: Sequence[str] | Mapping[str, int] | None = None,
    tie_break: str = "lexicographic",
    min_frequency: int = 1,
    max_token_length: int | None = None,
    length_unit: str = "bytes",
    byte_ids: str = "value",
    init: Tokenizer | None = None,
    checkpoint: StrPath | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    report: TrainingReport | None = None,
) -> Tokenizer:
    """Learn a tokenizer from pretoken counts; the rest is as `train`.

    PretokenCounts know their pattern and special tokens; other ones are refused.  A plain mapping does not, and takes
    the pattern "gpt2" and no special tokens where none are given.
    """
    function = "train_from_counts()"
    if special_tokens is None:
        old = set() if not isinstance(init, Tokenizer) else {token.content for token in init.spec.added_tokens}
        special_tokens = tuple(text for text in getattr(counts, "special_tokens", ()) if text not in old)
    if isinstance(counts, PretokenCounts) and pattern is None and init is None:
        splits: Any = counts.splits
    else:
        splits = pattern
    plan = Plan(
        function, vocab_size, pattern=splits, special_tokens=special_tokens, tie_break=tie_break,
        min_frequency=min_frequency, max_token_length=max_token_length, length_unit=length_unit,
        byte_ids=byte_ids, init=init,
        checkpoint=checkpoint, threads=threads, report=report,
    )  # fmt: skip
    return plan.train(_checked_counts(function, counts, plan), progress)


def _checked_counts(function: str, counts: Any, plan: Plan) -> PretokenCounts:
    """Return the counts, if they were made as the plan says."""
    if not isinstance(counts, PretokenCounts):
        if not isinstance(counts, Mapping):
            raise TypeError(f"{function}: counts must be PretokenCounts or a mapping, got {show(counts)}")
        return PretokenCounts(*packed_counts(function, counts), splits=plan.splits, special_tokens=plan.boundaries)
    if not same_patterns(plan.splits, counts.splits):
        raise TrainingError(
            f"{function}: counts were made with the pattern {pattern_name(counts.splits)!r}, not with that of the "
            f"training, {pattern_name(plan.splits)!r}"
        )
    if set(plan.boundaries) != set(counts.special_tokens):
        raise TrainingError(
            f"{function}: counts were made with the special_tokens {list(counts.special_tokens)!r:.200}, not with "
            f"those of the training, {list(plan.boundaries)!r:.200}, which are those of init and those given"
        )
    return counts


class TieDifference(NamedTuple):
    """Where two rules for ties first part.

    Attributes:
        merge: the number of the merge, from 0; all before it are the same.
        first: the pair that the first rule joins there, None where it has no more.
        second: that of the second rule.
    """

    merge: int
    first: tuple[bytes, bytes] | None
    second: tuple[bytes, bytes] | None


def first_tie_difference(
    counts: PretokenCounts, first: str, second: str, vocab_size: int, *, threads: int | None = None
) -> TieDifference | None:
    """Say where two tie-breaks first part on a corpus; None where they learn the same `vocab_size` tokens.

    Args:
        counts: the corpus; for "first_seen", counted with positions.
        first, second: tie-breaks, as of `train`.
        vocab_size: as of `train`.
        threads: as of `train`.
    """
    function = "first_tie_difference()"
    if not isinstance(counts, PretokenCounts):
        raise TypeError(f"{function}: counts must be PretokenCounts, got {show(counts)}")
    plans = [
        Plan(function, vocab_size, pattern=counts.splits, special_tokens=counts.special_tokens, tie_break=rule,
             threads=threads)
        for rule in (first, second)
    ]  # fmt: skip
    one, other = (plan.merges(counts, None)[0] for plan in plans)
    for at in range(max(len(one), len(other))):
        pairs = [merges[at] if at < len(merges) else None for merges in (one, other)]
        if pairs[0] != pairs[1]:
            return TieDifference(at, *pairs)
    return None
