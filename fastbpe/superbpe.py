r"""SuperBPE (Liu et al. 2025, arXiv 2503.13423): training in two stages, the second one across spaces.

The first stage is plain training, to `transition_size`.  The second one splits the same text by a pattern that words
and spaces do not matter to, applies the merges of the first in their order, and goes on merging.  Encoding does the
same: it splits by the second pattern, and applies all merges in their order.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastbpe.counting import Progress, Sources, checked_paths, count_files
from fastbpe.counts import PretokenCounts
from fastbpe.errors import TrainingError
from fastbpe.ids import integer
from fastbpe.merging import Plan, TrainingReport, pattern_name
from fastbpe.tokenizer import Tokenizer

__all__ = ["SUPERWORDS", "train_superbpe"]

# The second pattern of the published tokenizers (PythonNut/superbpe, scripts/extend_tokenizer.sh): digits by threes,
# runs of punctuation and of spaces are pretokens; the text between them is kept as one piece.
SUPERWORDS = r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}[\r\n/]*| +(?!\S)"

MAX_PARTS = 8  # threads that merge
PLACES = (1 << 32) - (1 << 21)  # tokens that one of them can hold


def train_superbpe(
    sources: Sources,
    vocab_size: int,
    *,
    transition_size: int,
    pattern: str = "o200k",
    superword_pattern: str = SUPERWORDS,
    max_words: int = 4,
    special_tokens: Sequence[str] | Mapping[str, int] = (),
    tie_break: str = "lexicographic",
    min_frequency: int = 1,
    max_token_length: int | None = None,
    length_unit: str = "bytes",
    byte_ids: str = "value",
    unit: str = "document",
    text_field: str = "text",
    threads: int | None = None,
    max_memory: int | None = None,
    progress: Progress | None = None,
    report: TrainingReport | None = None,
) -> Tokenizer:
    """Learn a tokenizer from files in two stages: words first, then superwords, which go across spaces.

    The first stage is `train` to `transition_size`; the second one goes on from its merges to `vocab_size`.  All ids
    of the first stage stay, but for those of special tokens, which come last as in `train`.  The tokenizer splits by
    `superword_pattern`, and saves as any other.  The files are read twice.

    The second stage holds the whole text, since what stands between two breaks of `superword_pattern` hardly ever
    occurs again.  What it will need is known when the first stage is done: it is `report.memory_needed` from then on,
    and told to `progress`.

    Args:
        sources: a path, or a sequence of paths.
        vocab_size: bytes, merges of both stages and special tokens together.
        transition_size: the same at the end of the first stage.
        pattern: the split pattern of the first stage, or its name in `fastbpe.patterns`.
        superword_pattern: that of the second stage and of the tokenizer; what it does not match is a pretoken too.
        max_words: a token of the second stage has no more words, which are runs of bytes that are not spaces.  None
            has a colon with a space behind it.
        max_memory: bytes; the first count goes to temporary files beyond it (16 MiB at least), and the second stage
            is not begun where it may need more.
        progress: called a few times a second with ("count", bytes, bytes in all) and ("merge", merges, wanted), in
            each stage, and between them once with ("memory", bytes that the second stage may need, max_memory).
        report: filled with what the training did; counts and pretokens are those of the second stage.

    The other options are those of `train`, and hold for both stages.

    Raises:
        ValueError: an option is wrong, as a transition_size that is not between the bytes and special tokens and
            vocab_size; before anything is read.
        PatternError: a pattern cannot be used.
        OSError: a file cannot be read.
        TrainingError: the second stage may need more than `max_memory`, which is said before it begins; or a file
            changed its size while it was read.
    """
    function = "train_superbpe()"
    begin = time.perf_counter()
    plan = Plan(
        function, vocab_size, pattern=superword_pattern, special_tokens=special_tokens, tie_break=tie_break,
        min_frequency=min_frequency, max_token_length=max_token_length, length_unit=length_unit, max_words=max_words,
        byte_ids=byte_ids, threads=threads, report=report,
    )  # fmt: skip
    least = 256 + len(plan.boundaries)
    transition_size = integer(function, "transition_size", transition_size)
    if not least <= transition_size <= plan.vocab_size:
        raise ValueError(
            f"{function}: transition_size must be {least} (256 bytes and {len(plan.boundaries)} special "
            f"tokens) to vocab_size, {plan.vocab_size}, got {transition_size}"
        )
    for path in checked_paths(function, sources):
        if Path(path).is_fifo():
            raise ValueError(f"{function}: sources are read twice, and {os.fspath(path)} is a pipe")
    first = Plan(
        function, transition_size, pattern=pattern, special_tokens=plan.boundaries, tie_break=tie_break,
        min_frequency=min_frequency, max_token_length=max_token_length, length_unit=length_unit, threads=threads,
    )  # fmt: skip
    counts = count_files(
        function, sources, first.splits, first.boundaries, progress, text_field,
        unit=unit, positions=first.positions, threads=threads, max_memory=max_memory,
    )  # fmt: skip
    merges, _ = first.merges(counts, progress)
    n_bytes, n_tokens = counts.n_bytes, first.n_tokens(counts, merges)
    del counts
    needed = _check_memory(n_bytes, n_tokens, plan.n_merges - len(merges), plan, max_memory, progress, report)
    if report is not None:
        report.seconds["first stage"] = time.perf_counter() - begin
    plan.begin = time.perf_counter()
    again: PretokenCounts = count_files(
        function, sources, plan.splits, plan.boundaries, progress, text_field,
        unit=unit, positions=plan.positions, threads=threads,
    )  # fmt: skip
    if again.n_bytes != n_bytes:
        raise TrainingError(f"{function}: sources had {n_bytes} bytes in the first stage and {again.n_bytes} in the "
                            f"second: train on copies that nobody writes to")  # fmt: skip
    note = {
        "transition_size": transition_size,
        "first_pattern": pattern_name(first.splits),
        "max_words": plan.max_words,
        "memory_needed": needed,
    }
    return plan.train(again, progress, consume=True, first=merges, note={"superbpe": note})


def memory_needed(n_bytes: float, n_tokens: float, n_merges: int) -> int:
    """Return what the second stage may need at the most, in bytes, beside what the process holds already.

    Counting holds the text up to three times: its table, tables that double, what comes out.  Merging holds a symbol,
    a place in a list and what is written anew for each token.  A pair that may become a merge takes about 100 bytes;
    those that begin at or above the threshold, tokens / (25 x merges), are no more than 25 for each merge, nor than
    tokens.
    """
    counting = 3.0 * n_bytes
    merging = 10.0 * n_tokens + 100.0 * min(n_tokens, 25.0 * n_merges)
    return int((16 << 20) + max(counting, merging))


def _check_memory(
    n_bytes: int,
    n_tokens: int,
    n_merges: int,
    plan: Plan,
    max_memory: int | None,
    progress: Progress | None,
    report: TrainingReport | None,
) -> int:
    """Say what the second stage may need, and return it, if it is allowed."""
    needed = memory_needed(n_bytes, n_tokens, n_merges)
    if report is not None:
        report.memory_needed = needed
    if progress is not None:
        progress("memory", needed, max_memory)
    places = PLACES * min(plan.threads or os.cpu_count() or 1, MAX_PARTS)

    def fits(share: float) -> bool:
        fewer = memory_needed(share * n_bytes, share * n_tokens, n_merges) <= (max_memory or needed)
        return fewer and share * n_tokens <= places

    if fits(1):
        return needed
    share, step = 0.0, 0.5
    while step > 0.001:
        share, step = (share + step if fits(share + step) else share), step / 2
    advice = (
        f"train on a sample of about {int(share * n_bytes) // 10**6} MB"
        if share * n_bytes >= 10**6
        else "ask for fewer merges or allow more"
    )
    limit = f"max_memory, {max_memory}," if needed > (max_memory or needed) else f"{places} tokens"
    raise TrainingError(
        f"train_superbpe(): the second stage may need {needed} bytes of memory for {n_tokens} tokens "
        f"({n_bytes} bytes of text), more than {limit} allows: {advice}"
    )
