"""Rank files: one `base64(token) rank` a line.

tiktoken's `.tiktoken`, Llama 3's `tokenizer.model`, Qwen's `qwen.tiktoken`, Kimi's `tiktoken.model`, Whisper's.  Such a
file holds neither a split pattern nor special tokens; both come from the caller.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Mapping, Sequence

from fastbpe.errors import LimitError, UnsupportedError, VocabularyError
from fastbpe.spec import MAX_TOKENS, AddedToken, Split, TokenizerSpec

Pair = tuple[bytes, bytes]
PriorityOf = Callable[[bytes, bytes], float]

NEVER = float("inf")  # the priority of a pair that does not merge

# An empty token is written "=" (Whisper's multilingual file has one).
_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}|=) (0|[1-9][0-9]{0,9})")


def read(data: bytes, *, splits: Sequence[Split], special_tokens: Mapping[str, int] | None = None) -> TokenizerSpec:
    """Read a rank file; lines may stand in any order, end in LF or CRLF, and the last one needs no end.

    Raises:
        VocabularyError: a line that is not `base64 rank` (strictly), a token or rank twice, a missing byte.
    """
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if len(lines) > MAX_TOKENS:
        raise LimitError(f"{len(lines)} tokens are more than {MAX_TOKENS}")
    if not lines:
        raise VocabularyError("the file is empty")
    vocab: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        token, rank = _parse_line(line, number)
        vocab[token] = rank
        if len(vocab) != number:
            raise VocabularyError(f"the token of line {_line_of(token, 0, lines)} again", line=number)
    if len(set(vocab.values())) != len(vocab):
        raise _duplicate_rank(vocab)
    added = tuple(AddedToken(content, id) for content, id in (special_tokens or {}).items())
    return TokenizerSpec(splits=tuple(splits), vocab=vocab, added_tokens=added)


def looks_like(data: bytes) -> bool:
    """Whether the first line is one of a rank file."""
    line = data[: data.find(b"\n") + 1] or data
    return len(line) < 100_000 and _LINE.fullmatch(line.rstrip(b"\r\n")) is not None


def _parse_line(line: bytes, number: int) -> tuple[bytes, int]:
    match = _LINE.fullmatch(line, 0, len(line) - line.endswith(b"\r"))
    if match is None:
        raise VocabularyError(f"must be 'BASE64 RANK', got {line[:60]!r}", line=number)
    text, rank = match.groups()
    if text == b"=":
        return b"", int(rank)
    try:
        token = a2b_base64(text)
    except Base64Error as error:
        raise VocabularyError(f"{text[:60]!r} is not base64: {error}", line=number) from None
    if b64encode(token) != text:
        raise VocabularyError(f"{text[:60]!r} is not canonical base64 (stray bits or padding)", line=number)
    return token, int(rank)


def _line_of(token: bytes, start: int, lines: Sequence[bytes]) -> int:
    return next(number for number, line in enumerate(lines, 1) if _parse_line(line, number)[start] == token)


def _duplicate_rank(vocab: Mapping[bytes, int]) -> VocabularyError:
    # Every line gave one token, so the place of a token in the dict is its line.
    line_of: dict[int, int] = {}
    for number, rank in enumerate(vocab.values(), 1):
        if line_of.setdefault(rank, number) != number:
            return VocabularyError(f"rank {rank} appears twice, first in line {line_of[rank]}", line=number)
    raise AssertionError("no rank appears twice")


def write(spec: TokenizerSpec) -> bytes:
    """Write the vocabulary as ranks, in the order of ranks.

    The pattern and the special tokens are not part of this format: who reads the file must be told them.

    Raises:
        UnsupportedError: rank semantics would give other ids than the definition does.
    """
    if spec.normalizer is not None:
        raise UnsupportedError(f"a rank file cannot hold the normalizer {spec.normalizer}", key="normalizer")
    ordinary = [token.content for token in spec.added_tokens if not token.special]
    if ordinary:
        raise UnsupportedError(f"a rank file cannot hold the added token {ordinary[0]!r}", key="added_tokens")
    if spec.merges is not None:
        _check_ranks_serve(spec.vocab, spec.merges, spec.whole)
    return b"".join(b"%b %d\n" % (b64encode(token) or b"=", rank) for token, rank in spec.vocab.items())


def merges_of_ranks(vocab: Mapping[bytes, int]) -> dict[bytes, Pair]:
    """Return, in the order of ranks, each token that merging can produce and the pair it is made of.

    Under rank semantics a token is only ever made from one pair, whatever surrounds it: what merging its own bytes
    ends with.  A merge list of just these pairs in this order therefore gives the same ids (with the look-up of whole
    pretokens, which alone produces the tokens that are missing here).
    """
    get = vocab.get
    return _realized(vocab, lambda left, right: get(left + right, NEVER))


def _check_ranks_serve(vocab: Mapping[bytes, int], merges: Sequence[Pair], whole: bool) -> None:
    """Refuse merges that ranks do not reproduce: other pairs, another order, or tokens that only ranks look up."""
    position = {pair: index for index, pair in enumerate(merges)}
    get = position.get
    by_list = _realized(vocab, lambda left, right: get((left, right), NEVER))
    by_rank = merges_of_ranks(vocab)
    for token in vocab:
        if by_list.get(token) != by_rank.get(token):
            raise UnsupportedError(
                f"the token {token[:40]!r} is made of {by_list.get(token)} by the merges, but of {by_rank.get(token)} "
                "by ranks: write tokenizer.json or .fbpe instead",
                key="merges",
            )
        if not whole and len(token) > 1 and token not in by_rank:
            raise UnsupportedError(
                f"the token {token[:40]!r} is never produced by the merges, but would be by ranks: write "
                "tokenizer.json or .fbpe instead",
                key="vocab",
            )
    order = [position[pair] for pair in by_list.values()]
    if order != sorted(order):
        raise UnsupportedError("ids are not in the order of merges: write tokenizer.json or .fbpe", key="merges")


def _realized(vocab: Mapping[bytes, int], priority: PriorityOf) -> dict[bytes, Pair]:
    pairs = ((token, realized_pair(token, priority)) for token in vocab if len(token) > 1)
    return {token: pair for token, pair in pairs if pair is not None}


def realized_pair(token: bytes, priority: PriorityOf) -> Pair | None:
    """Merge the bytes of one token (lowest priority first, leftmost of equals); return the last pair, None if stuck."""
    parts = [token[index : index + 1] for index in range(len(token))]
    priorities = list(map(priority, parts, parts[1:]))
    while True:
        best = min(priorities)
        if best == NEVER:
            return None
        if len(parts) == 2:
            return parts[0], parts[1]
        index = priorities.index(best)
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
        del priorities[index]
        if index > 0:
            priorities[index - 1] = priority(parts[index - 1], parts[index])
        if index < len(priorities):
            priorities[index] = priority(parts[index], parts[index + 1])
