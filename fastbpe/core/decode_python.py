"""Ids to bytes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fastbpe.errors import TokenIdError


class Decoder:
    """Joins the bytes of tokens.  Immutable; safe in threads."""

    def __init__(self, vocab: Mapping[bytes, int], others: Mapping[int, bytes]) -> None:
        """Take tokens and their ids, and the bytes of ids that the vocabulary lacks."""
        self._tokens = {**others, **{number: token for token, number in vocab.items()}}

    def decode(self, ids: NDArray[np.uint32]) -> bytes:
        """Return the bytes of `ids`, uint32 [n].

        Raises:
            TokenIdError: an id that no token has; it names the first and its index.
        """
        try:
            return b"".join([self._tokens[number] for number in ids.tolist()])
        except KeyError:
            at, number = next((i, n) for i, n in enumerate(ids.tolist()) if n not in self._tokens)
            raise TokenIdError(f"ids must be ids of the vocabulary, got {number} at index {at}") from None

    def decode_list(self, ids: list[int]) -> bytes | None:
        """Return the bytes of a list of ids; None if it holds anything else, which the caller has to name."""
        if not all(type(number) is int for number in ids):
            return None
        try:
            return b"".join([self._tokens[number] for number in ids])
        except KeyError:
            return None

    def text(self, data: bytes, errors: str) -> str:
        """Return bytes as a str: what `bytes.decode` returns or raises."""
        return data.decode("utf-8", errors)
