"""tiktoken's own encodings, built from the bundled ranks, so that nothing is downloaded."""

from __future__ import annotations

from functools import cache

import tiktoken

import fastbpe


@cache
def tiktoken_encoding(name: str) -> tiktoken.Encoding:
    """Return tiktoken's encoding of this name."""
    tok = fastbpe.get_encoding(name)
    assert isinstance(tok.pattern, str)
    return tiktoken.Encoding(
        name, pat_str=tok.pattern, mergeable_ranks=dict(tok.vocab), special_tokens=tok.special_tokens
    )
