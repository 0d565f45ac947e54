"""Byte-level BPE: exact, fast in every script, small enough to read.

>>> import fastbpe
>>> tok = fastbpe.get_encoding("gpt2")
>>> tok.encode("hello world")
[31373, 995]
"""

from __future__ import annotations

from fastbpe.arrow import TokenBatch
from fastbpe.core import BACKEND
from fastbpe.counting import count_pretokens, count_pretokens_from_iterator
from fastbpe.counts import PretokenCounts, merge_counts
from fastbpe.errors import (
    Error,
    LimitError,
    PatternError,
    PatternTimeout,
    PretokenTooLongError,
    SpecialTokenError,
    TokenIdError,
    TokenIdRangeError,
    TrainingError,
    UnsupportedError,
    VocabularyError,
)
from fastbpe.merging import TrainingReport
from fastbpe.pattern.named import PATTERNS as patterns
from fastbpe.release import VERSION as __version__
from fastbpe.spec import AddedToken, Split, TokenizerSpec
from fastbpe.superbpe import train_superbpe
from fastbpe.tokenizer import Tokenizer, encoding_for_model, get_encoding, list_encoding_names, load
from fastbpe.training import TieDifference, first_tie_difference, train, train_from_counts, train_from_iterator

__all__ = [
    "AddedToken",
    "Error",
    "LimitError",
    "PatternError",
    "PatternTimeout",
    "PretokenCounts",
    "PretokenTooLongError",
    "SpecialTokenError",
    "Split",
    "TieDifference",
    "TokenBatch",
    "TokenIdError",
    "TokenIdRangeError",
    "Tokenizer",
    "TokenizerSpec",
    "TrainingError",
    "TrainingReport",
    "UnsupportedError",
    "VocabularyError",
    "__version__",
    "backend",
    "count_pretokens",
    "count_pretokens_from_iterator",
    "encoding_for_model",
    "first_tie_difference",
    "get_encoding",
    "list_encoding_names",
    "load",
    "merge_counts",
    "patterns",
    "train",
    "train_from_counts",
    "train_from_iterator",
    "train_superbpe",
]


def backend() -> str:
    """Return "native" or "python": which twin of the core runs (`FASTBPE_BACKEND` decides)."""
    return BACKEND
