"""Merging: pretoken counts -> merges -> a definition; the options of a training, checked before anything is read.

The merges are learned in `core.train_*`.
"""

from __future__ import annotations

import operator
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbpe import core
from fastbpe.checkpoint import Checkpoint, check_checkpoint, digest_of_counts
from fastbpe.core.packed import Merges, PackedBytes, PackedVocab
from fastbpe.core.train_python import TIE_BREAKS, Start, byte_order
from fastbpe.counting import Progress
from fastbpe.counts import PretokenCounts, StrPath
from fastbpe.counts_file import checked_special_tokens, checked_splits
from fastbpe.errors import TrainingError
from fastbpe.formats import named_splits
from fastbpe.ids import integer, show
from fastbpe.pattern.named import PATTERNS
from fastbpe.release import VERSION
from fastbpe.spec import MAX_ID, MAX_TOKEN_BYTES, MAX_TOKENS, MAX_VOCAB_BYTES, AddedToken, Split, TokenizerSpec
from fastbpe.tokenizer import Tokenizer, check_threads, make_splitter

__all__ = ["Plan", "TrainingReport"]


LENGTH_UNITS = ("bytes", "characters")
BYTE_IDS = ("value", "huggingface")
N_LONGEST = 10
ENCODED_AT_ONCE = 1 << 20  # bytes


@dataclass
class TrainingReport:
    """What a training did; pass an empty one as `report=`, and it is filled at the end.

    Attributes:
        seconds: by phase: "count", "load" (words laid out), "build" (all pairs), "merge", "tokenizer".  Counting is
            absent where counts were given.
        n_documents, n_bytes: of the text.
        n_pretokens, n_unique_pretokens: all, and distinct ones.
        n_merges: learned, those of a checkpoint among them.
        n_resumed: taken from a checkpoint.
        stopped: why: "vocab_size" was reached, or no pair that may be merged reached "min_frequency".
        longest_tokens: of the merges, the longest first.
        memory_needed: of `train_superbpe`: bytes that its second stage may need, known before that begins.
        peak_memory: bytes, of the whole process since it began; None where the system does not say.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    n_documents: int = 0
    n_bytes: int = 0
    n_pretokens: int = 0
    n_unique_pretokens: int = 0
    n_merges: int = 0
    n_resumed: int = 0
    stopped: str = ""
    longest_tokens: list[bytes] = field(default_factory=list)
    memory_needed: int | None = None
    peak_memory: int | None = None

    def __str__(self) -> str:
        """Several lines for people."""
        reason = {
            "vocab_size": "vocab_size is reached",
            "min_frequency": "no pair that may be merged occurs min_frequency times",
        }
        lines = [
            f"documents: {self.n_documents:,}, {self.n_bytes:,} bytes",
            f"pretokens: {self.n_pretokens:,}, {self.n_unique_pretokens:,} distinct",
            f"merges:    {self.n_merges:,}, of which {self.n_resumed:,} from the checkpoint"
            if self.n_resumed
            else f"merges:    {self.n_merges:,}",
            f"stopped:   {reason.get(self.stopped, self.stopped)}",
            "seconds:   " + ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in self.seconds.items()),
            "longest:   " + " ".join(repr(token)[1:] for token in self.longest_tokens),
        ]
        if self.memory_needed is not None:
            lines.append(f"second stage: {self.memory_needed / 1e6:,.0f} MB at the most, as foretold")
        if self.peak_memory is not None:
            lines.append(f"memory:    {self.peak_memory / 1e6:,.0f} MB at the most, of the whole process")
        return "\n".join(lines)


class Plan:
    """The checked options of one training: all that can be wrong before the corpus is read."""

    def __init__(
        self,
        function: str,
        vocab_size: int,
        *,
        pattern: str | tuple[Split, ...] | None = None,
        special_tokens: Sequence[str] | Mapping[str, int] = (),
        tie_break: str = "lexicographic",
        min_frequency: int = 1,
        max_token_length: int | None = None,
        length_unit: str = "bytes",
        max_words: int | None = None,
        byte_ids: str = "value",
        threads: int | None = None,
        init: Tokenizer | None = None,
        checkpoint: StrPath | None = None,
        report: TrainingReport | None = None,
    ) -> None:
        self._function = function
        self._init = None if init is None else _checked_init(function, init)
        self.splits = self._checked_splits(pattern)
        self._new_special, self._chosen = self._checked_special(special_tokens)
        self.vocab_size = integer(function, "vocab_size", vocab_size)
        self.min_frequency = integer(function, "min_frequency", min_frequency)
        self.max_token_length = (
            None if max_token_length is None else integer(function, "max_token_length", max_token_length)
        )
        self.max_words = None if max_words is None else integer(function, "max_words", max_words)
        self.length_unit, self.tie_break, self._checkpoint, self._report = length_unit, tie_break, checkpoint, report
        if self.min_frequency < 1:
            raise ValueError(f"{function}: min_frequency must be at least 1, got {self.min_frequency}")
        if self.max_token_length is not None and self.max_token_length < 1:
            raise ValueError(f"{function}: max_token_length must be at least 1 or None, got {self.max_token_length}")
        if self.max_words is not None and self.max_words < 1:
            raise ValueError(f"{function}: max_words must be at least 1, got {self.max_words}")
        if length_unit not in LENGTH_UNITS:
            raise ValueError(
                f"{function}: length_unit must be one of {', '.join(LENGTH_UNITS)}, got {show(length_unit)}"
            )
        if byte_ids not in BYTE_IDS:
            raise ValueError(f"{function}: byte_ids must be one of {', '.join(BYTE_IDS)}, got {show(byte_ids)}")
        if init is not None and byte_ids != "value":
            raise ValueError(f"{function}: byte_ids must be 'value' with init, whose ids stay, got {byte_ids!r}")
        if tie_break not in TIE_BREAKS:
            raise ValueError(f"{function}: tie_break must be one of {', '.join(TIE_BREAKS)}, got {show(tie_break)}")
        check_threads(function, threads)
        if report is not None and not isinstance(report, TrainingReport):
            raise TypeError(f"{function}: report must be a TrainingReport or None, got {show(report)}")
        self.threads = threads
        self._alphabet = bytes(byte_order("huggingface" if byte_ids == "huggingface" else "smallest_id"))
        self.n_merges = self._count_merges()
        if checkpoint is not None:
            if not isinstance(checkpoint, (str, os.PathLike)):
                raise TypeError(f"{function}: checkpoint must be a path or None, got {show(checkpoint)}")
            check_checkpoint(checkpoint, self._belongs())  # better now than after hours of counting
        self._spec(Merges.of(()), None)  # finds special tokens that no vocabulary can hold,
        make_splitter(self.splits, True)  # and a pattern that cannot be used
        self.begin = time.perf_counter()

    @property
    def positions(self) -> bool:
        """Whether counting must note where pretokens are first."""
        return self.tie_break == "first_seen"

    @property
    def boundaries(self) -> tuple[str, ...]:
        """The texts that are boundaries, and are not counted."""
        old = () if self._init is None else tuple(token.content for token in self._init.added_tokens)
        return old + tuple(text for text in self._new_special if text not in old)

    # --- what was asked for -----------------------------------------------------------------------------------

    def _checked_splits(self, pattern: str | tuple[Split, ...] | None) -> tuple[Split, ...]:
        if pattern is None:
            return checked_splits(self._function, "gpt2") if self._init is None else self._init.splits
        splits = pattern if isinstance(pattern, tuple) else checked_splits(self._function, pattern)
        if self._init is not None and not same_patterns(splits, self._init.splits):
            raise ValueError(
                f"{self._function}: pattern must be that of init, {pattern_name(self._init.splits)!r}, or None; "
                f"got {show(pattern if isinstance(pattern, str) else pattern_name(pattern))}"
            )
        return splits if self._init is None else self._init.splits

    def _checked_special(self, tokens: Sequence[str] | Mapping[str, int]) -> tuple[tuple[str, ...], dict[str, int]]:
        """Return the special tokens that init has not, in the order of their ids, and the ids that were chosen."""
        function = self._function
        chosen: dict[str, int] = {}
        if isinstance(tokens, Mapping):
            for text, id in tokens.items():
                if integer(function, f"the id of special token {show(text)}", id) < 0:
                    raise ValueError(
                        f"{function}: special_tokens must have ids of 0 or more, got {id} for {show(text)}"
                    )
                chosen[text] = operator.index(id)
            if len(set(chosen.values())) < len(chosen):
                raise ValueError(f"{function}: special_tokens must have different ids, got {show(dict(tokens))}")
            tokens = sorted(chosen, key=chosen.__getitem__)
        texts = checked_special_tokens(function, tokens)
        if self._init is None:
            return texts, chosen
        known = {token.content: token.id for token in self._init.added_tokens}
        taken = {*self._init.vocab.values(), *known.values()} if chosen else set()
        for text, id in chosen.items():
            if known.get(text, id) != id or (text not in known and id in taken):
                raise ValueError(
                    f"{function}: special_tokens must not change init: {show(text)} can not have the id {id}"
                    + (f", it has {known[text]}" if text in known else ", which another token has")
                )
        return tuple(text for text in texts if text not in known), {t: i for t, i in chosen.items() if t not in known}

    def _count_merges(self) -> int:
        """Return how many merges there is room for."""
        n_special = len(self._new_special)
        least, parts = 256 + n_special, f"256 bytes and {n_special} special tokens"
        if self._init is not None:
            least = self._init.n_vocab + n_special
            parts = f"{self._init.n_vocab} ids of init and {n_special} new special tokens"
        if self.vocab_size < least:
            raise ValueError(f"{self._function}: vocab_size must be at least {least} ({parts}), got {self.vocab_size}")
        return max(0, min(self.vocab_size, MAX_TOKENS) - least)

    # --- merging ----------------------------------------------------------------------------------------------

    def train(
        self,
        counts: PretokenCounts,
        progress: Progress | None,
        *,
        consume: bool = False,
        first: Merges | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> Tokenizer:
        """Merge, and put the tokenizer together.

        Args:
            counts: the pretokens.
            progress: as of `train`.
            consume: whether `counts` may be empty afterwards, which saves their memory.
            first: merges of an earlier stage, which these go on from.
            note: more for the provenance.
        """
        if self.n_merges and not counts.total:
            raise TrainingError(f"{self._function}: there is no text to learn from in {counts.n_documents} documents")
        counted = time.perf_counter()
        provenance = {**self._provenance(counts), **(note or {})}
        seconds: dict[str, float] = {}
        merges, n_resumed = self.merges(counts, progress, seconds, consume, first)
        merged = time.perf_counter()
        self._warn_of_special(merges)
        tokenizer = Tokenizer(self._spec(merges, provenance))
        if self._report is not None:
            if not self._function.startswith("train_from_counts"):
                self._report.seconds["count"] = counted - self.begin
            self._report.seconds.update(seconds, tokenizer=time.perf_counter() - merged)
            self._fill_report(self._report, provenance, merges, n_resumed)
        return tokenizer

    def merges(
        self,
        counts: PretokenCounts,
        progress: Progress | None,
        seconds: dict[str, float] | None = None,
        consume: bool = False,
        first: Merges | None = None,
    ) -> tuple[Merges, int]:
        """Return the merges, those of an earlier stage before them, and how many of them a checkpoint held."""
        pretokens, weights, firsts = counts.arrays()
        if self.positions and firsts is None:
            raise ValueError(
                f"{self._function}: tie_break 'first_seen' needs the place where each pretoken is first, which these "
                f"counts do not hold: count with positions=True"
            )
        with ExitStack() as stack:
            known: list[tuple[bytes, bytes]] = list(first or ())
            record = None
            if self._checkpoint is not None:
                checkpoint = stack.enter_context(
                    Checkpoint(
                        self._checkpoint,
                        {
                            "counts": digest_of_counts(pretokens, weights, firsts if self.positions else None),
                            **self._belongs(),
                        },
                    )
                )
                known = self._known(checkpoint.merges)
                record = checkpoint.append
            wanted = self.n_merges - len(known)
            start = None
            if known or self._init is not None:
                began = time.perf_counter()
                start = self._start(pretokens, known)
                if seconds is not None:
                    seconds["encode"] = time.perf_counter() - began
                if consume and isinstance(pretokens, PackedBytes):  # their number is all that is wanted from here on
                    pretokens.blob = np.zeros(0, dtype=np.uint8)
            learned = core.train_merges(
                pretokens,
                weights,
                wanted,
                self.tie_break,
                self.min_frequency,
                None if progress is None else lambda done, _: progress("merge", len(known) + done, self.n_merges),
                firsts=firsts,
                max_length=self.max_token_length,
                in_characters=self.length_unit == "characters",
                max_words=self.max_words,
                start=start,
                record=record,
                threads=self.threads or os.cpu_count() or 1,
                seconds=seconds,
                consume=consume,
            )
        return Merges.of([*known, *learned]) if known else learned, len(known) if first is None else 0

    def n_tokens(self, counts: PretokenCounts, merges: Merges) -> int:
        """Return how many tokens the counted text has with these merges."""
        pretokens, weights, _ = counts.arrays()
        return int((np.diff(self._start(pretokens, list(merges)).offsets) * weights.astype(np.float64)).sum())

    def _numbered(self) -> list[bytes]:
        """Return the tokens that training begins with, in the order of their numbers, by which ties may go."""
        single = [bytes([value]) for value in byte_order(self.tie_break)]
        if self._init is None:
            return single
        if self.tie_break != "huggingface":
            return list(self._init.vocab)
        return single + [token for token in self._init.vocab if len(token) > 1]  # as if they had been learned here

    def _known(self, pairs: NDArray[np.uint32]) -> list[tuple[bytes, bytes]]:
        """Return the merges that a checkpoint holds, as many as are wanted."""
        tokens = self._numbered()
        known: list[tuple[bytes, bytes]] = []
        there, room = set(tokens), MAX_VOCAB_BYTES - sum(map(len, tokens))
        for left, right in pairs[: self.n_merges].tolist():
            where = f"{os.fspath(self._checkpoint or '')}: merge {len(known)} of the checkpoint"
            if max(left, right) >= len(tokens):
                raise TrainingError(f"{where} joins a token that is not there yet")
            if len(tokens[left]) + len(tokens[right]) > MAX_TOKEN_BYTES:
                raise TrainingError(f"{where} makes a token of more than {MAX_TOKEN_BYTES} bytes")
            room -= len(tokens[left]) + len(tokens[right])
            if room < 0:
                raise TrainingError(f"{where} makes tokens of more than {MAX_VOCAB_BYTES} bytes together")
            product = tokens[left] + tokens[right]
            if product in there:
                raise TrainingError(f"{where} makes a token that is there already")
            known.append((tokens[left], tokens[right]))
            tokens.append(product)
            there.add(product)
        return known

    def _start(self, pretokens: Sequence[bytes], known: list[tuple[bytes, bytes]]) -> Start:
        """Return the pretokens as tokens of the vocabulary so far."""
        spec = self._spec(Merges.of(known), None)
        tokens = self._numbered() + [left + right for left, right in known]
        numbers = np.zeros(1 + max(spec.vocab.values()), dtype=np.uint32)
        numbers[[spec.vocab[token] for token in tokens]] = np.arange(len(tokens), dtype=np.uint32)
        merger = core.Merger(spec.vocab, None if self._init is None else spec.merges, spec.whole)
        encoder = core.Encoder(make_splitter(self.splits, True), merger)
        packed = pretokens if isinstance(pretokens, PackedBytes) else PackedBytes.of(pretokens)
        offsets = np.zeros(len(packed) + 1, dtype=np.int64)
        found: deque[NDArray[np.uint32]] = deque()
        for begin, end in _batches(packed.offsets):
            ends = packed.offsets[begin : end + 1] - packed.offsets[begin]
            # Each pretoken is a piece of its own, and behind it stands an id that no token has.
            cuts = np.empty((2 * (end - begin), 3), dtype=np.int64)
            cuts[0::2, 0], cuts[0::2, 1], cuts[0::2, 2] = ends[:-1], ends[1:], -1
            cuts[1::2, 0], cuts[1::2, 1], cuts[1::2, 2] = ends[1:], ends[1:], MAX_ID + 1
            ids = encoder.encode(packed.blob[packed.offsets[begin] : packed.offsets[end]].tobytes(), cuts)
            last = np.flatnonzero(ids == MAX_ID + 1)
            offsets[begin + 1 : end + 1] = offsets[begin] + last - np.arange(len(last))
            found.append(numbers[ids[ids != MAX_ID + 1]])
        joined = np.empty(offsets[-1], dtype=np.uint32)
        place = 0
        while found:  # parts are given back as they are copied, so all are never there twice
            part = found.popleft()
            joined[place : place + len(part)] = part
            place += len(part)
        return Start(tokens, offsets, joined)

    def _belongs(self) -> dict[str, Any]:
        """Return what decides the merges beside the counts; their number does not."""
        return {
            "init": None if self._init is None else self._init.fingerprint,
            "max_token_length": self.max_token_length and [self.max_token_length, self.length_unit],
            "min_frequency": self.min_frequency,
            "tie_break": self.tie_break,
        }

    # --- the result -------------------------------------------------------------------------------------------

    def _spec(self, merges: Merges, provenance: Mapping[str, Any] | None) -> TokenizerSpec:
        """Return the definition with these merges."""
        occupied = set(self._chosen.values())
        first = 0 if self._init is None else self._init.n_vocab
        n_ids = (256 if self._init is None else 0) + len(merges) + len(self._new_special) - len(self._chosen)
        free = np.arange(first, first + n_ids + len(occupied), dtype=np.uint32)
        free = free[~np.isin(free, list(occupied))]
        last = iter(free[n_ids - len(self._new_special) + len(self._chosen) :].tolist())
        added = tuple(
            AddedToken(text, self._chosen[text] if text in self._chosen else next(last)) for text in self._new_special
        )
        if self._init is None:
            vocab = _vocab_of(self._alphabet, merges, free[: 256 + len(merges)])
            return TokenizerSpec(self.splits, vocab, merges, False, added, provenance=provenance)
        all_vocab = {**self._init.vocab, **dict(zip(merges.products, free.tolist()))}
        all_merges = None if self._init.merges is None else (*self._init.merges, *merges)
        return replace(
            self._init,
            vocab=all_vocab,
            merges=all_merges,
            added_tokens=self._init.added_tokens + added,
            name=None,
            provenance=provenance,
        )

    def _provenance(self, counts: PretokenCounts) -> dict[str, Any]:
        length = (
            {} if self.max_token_length is None else {"max_token_length": [self.max_token_length, self.length_unit]}
        )
        init = {} if self._init is None else {"init": self._init.fingerprint}
        return {
            "fastbpe": VERSION,
            "pattern": pattern_name(self.splits),
            "vocab_size": self.vocab_size,
            "tie_break": self.tie_break,
            "min_frequency": self.min_frequency,
            **length,
            **init,
            "documents": counts.n_documents,
            "bytes": counts.n_bytes,
            "pretokens": counts.total,
            "unique_pretokens": len(counts),
        }

    def _fill_report(self, report: TrainingReport, provenance: dict[str, Any], merges: Merges, n_resumed: int) -> None:
        report.n_documents, report.n_bytes = provenance["documents"], provenance["bytes"]
        report.n_pretokens, report.n_unique_pretokens = provenance["pretokens"], provenance["unique_pretokens"]
        report.n_merges, report.n_resumed = len(merges), n_resumed
        report.stopped = "vocab_size" if len(merges) == self.n_merges else "min_frequency"
        lengths = np.diff(merges.products.offsets)
        longest = np.argsort(-lengths, kind="stable")[:N_LONGEST].tolist()
        report.longest_tokens = [merges.products[at] for at in longest]
        report.peak_memory = _peak_memory()

    def _warn_of_special(self, merges: Merges) -> None:
        special = {text.encode() for text in self.boundaries}
        if not special:
            return
        for token in special.intersection(merges.products):
            warnings.warn(
                f"the special token {token.decode()!r} is also spelled by a merge: two ids have these bytes, "
                f"and formats that cannot say so will refuse to save",
                stacklevel=4,
            )


def _batches(offsets: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of pretokens that have about ENCODED_AT_ONCE bytes, or are one."""
    begin = 0
    while begin < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[begin] + ENCODED_AT_ONCE, side="right")) - 1
        end = max(begin + 1, min(end, begin + ENCODED_AT_ONCE // 8))
        yield begin, end
        begin = end


def _vocab_of(alphabet: bytes, merges: Merges, ids: NDArray[np.uint32]) -> Mapping[bytes, int]:
    """Return single bytes and what the merges make: packed, unless a left part is too long to be noted."""
    if len(merges) and int(merges.lefts.max()) > 255:
        return dict(zip([*(bytes([value]) for value in alphabet), *merges.products], ids.tolist()))
    offsets = np.concatenate([np.arange(256), 256 + merges.products.offsets]).astype(np.uint32)
    lefts = np.concatenate([np.zeros(256, np.uint8), merges.lefts.astype(np.uint8)])
    return PackedVocab(ids, offsets, alphabet + merges.products.blob.tobytes(), lefts)


def same_patterns(splits: tuple[Split, ...], others: tuple[Split, ...]) -> bool:
    """Say whether text is split in the same way; the patterns in use leave no gaps."""
    return [split.pattern for split in splits] == [split.pattern for split in others]


def pattern_name(splits: tuple[Split, ...]) -> str:
    """Return the name of a pattern, or the pattern itself."""
    for name in PATTERNS:
        if same_patterns(named_splits(name, gaps=True), splits):
            return name
    return " then ".join(split.pattern for split in splits)


def _checked_init(function: str, init: Tokenizer) -> TokenizerSpec:
    if not isinstance(init, Tokenizer):
        raise TypeError(f"{function}: init must be a Tokenizer or None, got {show(init)}")
    if init.spec.normalizer is not None:
        raise TrainingError(
            f"{function}: init must not normalize text, got {init.spec.normalizer}: training counts text as it is"
        )
    return init.spec


def _peak_memory() -> int | None:
    if os.name != "posix":
        return None
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
