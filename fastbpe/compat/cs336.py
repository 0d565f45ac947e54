"""The interface of Stanford CS336, assignment 1: `Tokenizer` and `train_bpe`.

Use it in the course's adapters:

    from fastbpe.compat.cs336 import Tokenizer, train_bpe

    def get_tokenizer(vocab, merges, special_tokens=None):
        return Tokenizer(vocab, merges, special_tokens)

    def run_train_bpe(input_path, vocab_size, special_tokens, **kwargs):
        return train_bpe(input_path, vocab_size, special_tokens)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fastbpe import tokenizer, training
from fastbpe.errors import VocabularyError
from fastbpe.files import write_whole
from fastbpe.formats import gpt2
from fastbpe.ids import show
from fastbpe.pattern.named import GPT2
from fastbpe.spec import AddedToken, Split, TokenizerSpec

_SPLITS = (Split(GPT2),)


class Tokenizer:
    """The course's tokenizer: GPT-2's split pattern, merges in order, special tokens always matched, longest first."""

    def __init__(
        self,
        vocab: dict[int, bytes],
        merges: list[tuple[bytes, bytes]],
        special_tokens: list[str] | None = None,
    ) -> None:
        """Build a tokenizer.

        Args:
            vocab: id to bytes; all 256 single bytes must be there.
            merges: pairs of tokens in order of creation.
            special_tokens: texts that are one token each; those that the vocabulary lacks get the next free ids.

        Raises:
            VocabularyError: vocab and merges do not fit together.
            TypeError: special_tokens is one str.
        """
        if isinstance(special_tokens, (str, bytes)):
            raise TypeError(f"Tokenizer(): special_tokens must be a list of str, got {show(special_tokens)}")
        made = {left + right for left, right in merges}
        ordinary = {token: number for number, token in vocab.items() if len(token) == 1 or token in made}
        # What no merge makes is a special token, whether this call matches it or not.
        special = {_text(token): number for number, token in vocab.items() if token not in ordinary}
        for text in special_tokens or ():
            following = max([*vocab, *special.values()], default=-1) + 1
            special.setdefault(text, ordinary.get(text.encode(), following))
        spec = TokenizerSpec(
            splits=_SPLITS,
            vocab=ordinary,
            merges=tuple((left, right) for left, right in merges),
            whole=False,
            added_tokens=tuple(AddedToken(text, number) for text, number in special.items()),
        )
        self._tokenizer = tokenizer.Tokenizer(spec)
        self._tokenizer._encoder.merger.prepare()  # the course encodes under a memory limit
        self._allowed = frozenset(special_tokens or ())
        self.vocab = {**vocab, **{number: text.encode() for text, number in special.items()}}
        self.merges = list(merges)

    @classmethod
    def from_files(
        cls,
        vocab_filepath: str | os.PathLike[str],
        merges_filepath: str | os.PathLike[str],
        special_tokens: list[str] | None = None,
    ) -> Tokenizer:
        """Build a tokenizer from GPT-2's vocab.json and merges.txt, which `to_files` writes too."""
        spec = gpt2.read(Path(vocab_filepath).read_bytes(), Path(merges_filepath).read_bytes(), splits=_SPLITS)
        vocab = {number: token for token, number in spec.vocab.items()}
        vocab.update((token.id, token.content.encode()) for token in spec.added_tokens)
        return cls(vocab, list(spec.merges or ()), special_tokens)

    def to_files(self, vocab_filepath: str | os.PathLike[str], merges_filepath: str | os.PathLike[str]) -> None:
        """Write GPT-2's vocab.json and merges.txt."""
        vocab, merges = gpt2.write(self._tokenizer.spec)
        write_whole(vocab_filepath, vocab)
        write_whole(merges_filepath, merges)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        return self._tokenizer.encode(text, allowed_special=self._allowed, disallowed_special=())

    def encode_iterable(self, iterable: Iterable[str]) -> Iterator[int]:
        """Yield the ids of the texts joined, lazily and in constant memory: for example of an open file."""
        return self._tokenizer.iter_encode(iterable, allowed_special=self._allowed, disallowed_special=())

    def decode(self, ids: list[int]) -> str:
        """Return the text of ids; bytes that are no UTF-8 become U+FFFD."""
        return self._tokenizer.decode(ids)


def _text(token: bytes) -> str:
    try:
        return token.decode()
    except UnicodeDecodeError:
        raise VocabularyError(f"no merge makes the token {token!r}, and it is no text", key="vocab") from None


def train_bpe(
    input_path: str | os.PathLike[str], vocab_size: int, special_tokens: list[str], **kwargs: Any
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """Train on a file; return the vocabulary (id to bytes) and the merges in order of creation.

    Args:
        input_path: a UTF-8 text file.
        vocab_size: bytes, merges and special tokens together.
        special_tokens: boundaries in the text that nothing merges across; they are not counted.
        kwargs: accepted and ignored, as the course's adapter passes them on.
    """
    trained = training.train([input_path], vocab_size, pattern="gpt2", special_tokens=special_tokens)
    vocab = {number: token for token, number in trained.vocab.items()}
    vocab.update((number, text.encode()) for text, number in trained.special_tokens.items())
    return vocab, list(trained.merges or ())
