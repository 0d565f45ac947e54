"""Training: sources -> pretoken counts -> merges -> Tokenizer; the order of steps, no more.

Counting stands in `counting`, merging in `core.train_*`.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fastbpe import core
from fastbpe.core.train_python import TIE_BREAKS
from fastbpe.counting import Progress, Sources, checked_special_tokens, checked_splits, count_files, count_texts
from fastbpe.counts import PretokenCounts
from fastbpe.errors import TrainingError
from fastbpe.formats import named_splits
from fastbpe.ids import show
from fastbpe.pattern.named import PATTERNS
from fastbpe.release import version
from fastbpe.spec import MAX_TOKENS, AddedToken, Split, TokenizerSpec
from fastbpe.tokenizer import Tokenizer, make_splitter

__all__ = ["train", "train_from_counts", "train_from_iterator"]


def train(
    sources: Sources,
    vocab_size: int,
    *,
    pattern: str = "gpt2",
    special_tokens: Sequence[str] = (),
    tie_break: str = "lexicographic",
    min_frequency: int = 1,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Tokenizer:
    """Learn a tokenizer from files.

    Each file is one document; special tokens in it are boundaries that nothing is learned across, and are never
    counted.  Files are read as bytes, a block at a time; runs of invalid UTF-8 are pretokens of their own.

    The ids are the 256 bytes by value, the merges in order, and the special tokens.  A corpus too small for
    `vocab_size` gives a smaller vocabulary.  The result depends on the files and the options alone.

    Args:
        sources: a path, or a sequence of paths.
        vocab_size: bytes, merges and special tokens together.
        pattern: the split pattern, or its name in `fastbpe.patterns`.
        special_tokens: text that becomes one token each, in the order of their ids.
        tie_break: which of equally frequent pairs is merged: "lexicographic" (the greater pair of byte strings),
            "huggingface" (as `tokenizers`, fed documents, with all bytes in its initial alphabet) or "smallest_id".
        min_frequency: pairs that occur less often are not merged.
        threads: 1 to 1024; None means one for each core.
        progress: called a few times a second with ("count", bytes, bytes in all) and ("merge", merges, wanted).

    Raises:
        ValueError: vocab_size has no room for the bytes and the special tokens; before anything is read.
        PatternError: the pattern cannot be used.
        OSError: a file cannot be read.
        TrainingError: a file changed its size while it was read.
    """
    plan = _Plan("train()", vocab_size, pattern, special_tokens, tie_break, min_frequency)
    counts = count_files("train()", sources, plan.splits, plan.special_tokens, progress, threads=threads)
    return plan.train(counts, progress)


def train_from_iterator(
    texts: Iterable[str | bytes],
    vocab_size: int,
    *,
    pattern: str = "gpt2",
    special_tokens: Sequence[str] = (),
    tie_break: str = "lexicographic",
    min_frequency: int = 1,
    progress: Progress | None = None,
) -> Tokenizer:
    """Learn a tokenizer from an iterable of documents, each a str or bytes; the rest is as `train`.

    Raises:
        TypeError: an item is neither; it names the index. What the iterable raises passes through.
    """
    plan = _Plan("train_from_iterator()", vocab_size, pattern, special_tokens, tie_break, min_frequency)
    return plan.train(count_texts(texts, plan.splits, plan.special_tokens, progress), progress)


def train_from_counts(
    counts: PretokenCounts | Mapping[bytes, int],
    vocab_size: int,
    *,
    pattern: str | None = None,
    special_tokens: Sequence[str] | None = None,
    tie_break: str = "lexicographic",
    min_frequency: int = 1,
    progress: Progress | None = None,
) -> Tokenizer:
    """Learn a tokenizer from pretoken counts; the rest is as `train`.

    PretokenCounts know their pattern and special tokens; other ones are refused.  A plain mapping does not, and takes
    the pattern "gpt2" and no special tokens where none are given.
    """
    function = "train_from_counts()"
    if not isinstance(counts, PretokenCounts):
        if not isinstance(counts, Mapping):
            raise TypeError(f"{function}: counts must be PretokenCounts or a mapping, got {show(counts)}")
        splits = checked_splits(function, "gpt2" if pattern is None else pattern)
        counts = PretokenCounts.from_dict(
            counts, splits=splits, special_tokens=checked_special_tokens(function, special_tokens or ())
        )
    if pattern is not None and checked_splits(function, pattern) != counts.splits:
        raise TrainingError(f"{function}: pattern must be that of the counts, {_pattern_name(counts.splits)!r}")
    if special_tokens is not None and checked_special_tokens(function, special_tokens) != counts.special_tokens:
        raise TrainingError(f"{function}: special_tokens must be those of the counts, {counts.special_tokens}")
    plan = _Plan(function, vocab_size, counts.splits, counts.special_tokens, tie_break, min_frequency)
    return plan.train(counts, progress)


class _Plan:
    """The checked options of one training: all that can be wrong before the corpus is read."""

    def __init__(
        self,
        function: str,
        vocab_size: int,
        pattern: str | tuple[Split, ...],
        special_tokens: Sequence[str],
        tie_break: str,
        min_frequency: int,
    ) -> None:
        self.splits = pattern if isinstance(pattern, tuple) else checked_splits(function, pattern)
        self.special_tokens = checked_special_tokens(function, special_tokens)
        self.vocab_size = _integer(function, "vocab_size", vocab_size)
        self.min_frequency = _integer(function, "min_frequency", min_frequency)
        self.tie_break = tie_break
        least = 256 + len(self.special_tokens)
        if self.vocab_size < least:
            raise ValueError(
                f"{function}: vocab_size must be at least {least} (256 bytes and {len(self.special_tokens)} special "
                f"tokens), got {self.vocab_size}"
            )
        if self.min_frequency < 1:
            raise ValueError(f"{function}: min_frequency must be at least 1, got {self.min_frequency}")
        if tie_break not in TIE_BREAKS:
            raise ValueError(f"{function}: tie_break must be one of {', '.join(TIE_BREAKS)}, got {show(tie_break)}")
        self.n_merges = min(self.vocab_size, MAX_TOKENS) - least
        self._spec((), None)  # finds special tokens that no vocabulary can hold,
        make_splitter(self.splits, True)  # and a pattern that cannot be used

    def train(self, counts: PretokenCounts, progress: Progress | None) -> Tokenizer:
        """Merge, and put the tokenizer together."""
        pretokens, weights, _ = counts.arrays()
        report = None if progress is None else lambda done, wanted: progress("merge", done, wanted)
        merges = core.train_merges(list(pretokens), weights, self.n_merges, self.tie_break, self.min_frequency, report)
        self._warn_of_special(merges)
        return Tokenizer(self._spec(merges, self._provenance(counts)))

    def _spec(self, merges: Sequence[tuple[bytes, bytes]], provenance: Mapping[str, Any] | None) -> TokenizerSpec:
        tokens = [bytes([value]) for value in range(256)] + [left + right for left, right in merges]
        return TokenizerSpec(
            splits=self.splits,
            vocab={token: id for id, token in enumerate(tokens)},
            merges=tuple(merges),
            whole=False,
            added_tokens=tuple(AddedToken(text, id) for id, text in enumerate(self.special_tokens, len(tokens))),
            provenance=provenance,
        )

    def _provenance(self, counts: PretokenCounts) -> dict[str, Any]:
        return {
            "fastbpe": version(),
            "pattern": _pattern_name(self.splits),
            "vocab_size": self.vocab_size,
            "tie_break": self.tie_break,
            "min_frequency": self.min_frequency,
            "documents": counts.n_documents,
            "bytes": counts.n_bytes,
            "pretokens": counts.total,
            "unique_pretokens": len(counts),
        }

    def _warn_of_special(self, merges: Sequence[tuple[bytes, bytes]]) -> None:
        special = {text.encode() for text in self.special_tokens}
        for token in special.intersection(left + right for left, right in merges):
            warnings.warn(
                f"the special token {token.decode()!r} is also spelled by a merge: two ids have these bytes, "
                f"and formats that cannot say so will refuse to save",
                stacklevel=4,
            )


def _pattern_name(splits: tuple[Split, ...]) -> str:
    """Return the name of a pattern, or the pattern itself."""
    for name in PATTERNS:
        if named_splits(name, gaps=True) == splits:
            return name
    return " then ".join(split.pattern for split in splits)


def _integer(function: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{function}: {name} must be an int, got {show(value)}")
    return operator.index(value)
