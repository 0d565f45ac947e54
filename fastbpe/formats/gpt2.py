"""The pair `vocab.json` and `merges.txt` (GPT-2's `encoder.json` and `vocab.bpe`), and byte-level text.

Byte-level text spells each byte as one visible character; `tokenizer.json` uses the same table.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, cast

from fastbpe.errors import LimitError, UnsupportedError, VocabularyError
from fastbpe.formats.tiktoken import merges_of_ranks
from fastbpe.pattern.named import GPT2, R50K
from fastbpe.spec import MAX_MERGES, AddedToken, Split, TokenizerSpec, parse_json

Pair = tuple[bytes, bytes]


def _byte_characters() -> str:
    """GPT-2's table: Latin-1's visible characters stand for themselves, the others for U+0100 and up in order."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in visible else next(hidden)) for byte in range(256))


_CHARACTERS = _byte_characters()
_TO_BYTE = codecs.charmap_build(_CHARACTERS)
BYTE_TEXTS = frozenset(_CHARACTERS)  # the spelling of each single byte


def to_text(token: bytes) -> str:
    """Spell bytes as byte-level text."""
    return codecs.charmap_decode(token, "strict", _CHARACTERS)[0]


def from_text(text: str) -> bytes:
    """Read byte-level text.

    Raises:
        UnicodeEncodeError: a character that stands for no byte.
    """
    return codecs.charmap_encode(text, "strict", _TO_BYTE)[0]


def check_ids(value: Any, key: str) -> dict[str, int]:
    """Return a parsed vocabulary that is one object of integers.

    Raises:
        VocabularyError: it is not.
    """
    if not isinstance(value, dict):
        raise VocabularyError(f"must be an object of token: id, got {type(value).__name__}", key=key)
    if set(map(type, value.values())) - {int}:
        text, id = next(item for item in value.items() if type(item[1]) is not int)
        raise VocabularyError(f"the id of {text[:40]!r} must be an int, got {json.dumps(id)[:60]}", key=key)
    return value


def ordinary_tokens(ids: Iterable[str], key: str) -> dict[str, bytes]:
    """Return the bytes of each key of a byte-level vocabulary.

    Raises:
        VocabularyError: a key that is not byte-level text.
    """
    result = {}
    for text in ids:
        try:
            result[text] = from_text(text)
        except UnicodeEncodeError as error:
            reason = f"{text[:40]!r} is not byte-level text: {text[error.start]!r} stands for no byte"
            raise VocabularyError(reason, key=key) from None
    return result


def pair_merges(pairs: Sequence[Sequence[str]], tokens: Mapping[str, bytes], key: str) -> tuple[Pair, ...]:
    """Return the bytes of merges given as pairs of byte-level text.

    Raises:
        VocabularyError: a part that is no token.
    """
    parts = map(tokens.get, chain.from_iterable(pairs))
    merges = tuple(zip(parts, parts))
    if None in set(chain.from_iterable(merges)):
        index, part = next((i, part) for i, pair in enumerate(pairs) for part in pair if part not in tokens)
        raise VocabularyError(f"the part {part[:40]!r} is not a token", key=f"{key}[{index}]")
    return cast("tuple[Pair, ...]", merges)


def read(
    vocab: bytes, merges: bytes, *, splits: Sequence[Split], special_tokens: Mapping[str, int] | None = None
) -> TokenizerSpec:
    """Read the two files.

    Without special_tokens, the entries that no merge makes (single bytes apart) are the special tokens; with them,
    exactly the named ones are, whether the vocabulary lists them or not.

    Raises:
        VocabularyError: either file is not exactly understood; an entry that is neither byte-level text nor special.
    """
    ids = check_ids(parse_json(vocab), "vocab")
    pairs = _merge_lines(merges)
    made = {left + right for left, right in pairs} | BYTE_TEXTS
    if special_tokens is None:
        special_tokens = {text: id for text, id in ids.items() if text not in made}
    for content, id in special_tokens.items():
        if ids.get(content, id) != id:
            raise VocabularyError(f"the special token {content!r} has id {ids[content]} in the file, not {id}")
    ordinary = {text: id for text, id in ids.items() if text not in special_tokens or text in made}
    tokens = ordinary_tokens(ordinary, "vocab")
    return TokenizerSpec(
        splits=tuple(splits),
        vocab={tokens[text]: id for text, id in ordinary.items()},
        merges=pair_merges(pairs, tokens, "merges"),
        whole=False,
        added_tokens=tuple(AddedToken(content, id) for content, id in special_tokens.items()),
    )


def _merge_lines(data: bytes) -> list[list[str]]:
    """The merges of merges.txt: `a b` a line after an optional `#version` line, LF or CRLF."""
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise VocabularyError(f"merges: not UTF-8 at byte {error.start}", line=line) from None
    if lines[-1] == "":
        lines.pop()
    if len(lines) > MAX_MERGES:
        raise LimitError(f"{len(lines)} merges are more than {MAX_MERGES}")
    first = 1 if lines and lines[0].startswith("#version") else 0
    pairs = [line.removesuffix("\r").split(" ") for line in lines[first:]]
    for number, pair in enumerate(pairs, first + 1):
        if len(pair) != 2 or not all(pair):
            raise VocabularyError(
                f"merges: must be two tokens and one space, got {lines[number - 1][:60]!r}", line=number
            )
    return pairs


def write(spec: TokenizerSpec) -> tuple[bytes, bytes]:
    """Return the two files, vocab.json and merges.txt.

    Raises:
        UnsupportedError: they cannot hold the definition; the message says what.
    """
    # The two spellings of GPT-2's pattern split every text alike.
    if [split.pattern for split in spec.splits] not in ([GPT2], [R50K]):
        raise UnsupportedError("vocab.json and merges.txt hold no pattern, and readers assume GPT-2's", key="splits")
    if spec.normalizer is not None:
        raise UnsupportedError(f"vocab.json cannot hold the normalizer {spec.normalizer}", key="normalizer")
    merges = list(merges_of_ranks(spec.vocab).values()) if spec.merges is None else spec.merges
    made = {left + right for left, right in merges}
    stray = next((token for token in spec.vocab if len(token) != 1 and token not in made), None)
    if stray is not None:
        raise UnsupportedError(f"no merge makes the token {stray[:40]!r}, so it would be read as special", key="vocab")
    if spec.merges is not None and spec.whole:
        raise UnsupportedError("merges.txt cannot say that whole pretokens are looked up first", key="whole")
    ids = {to_text(token): id for token, id in spec.vocab.items()}
    for token in spec.added_tokens:
        if not token.special or token.content in ids:
            raise UnsupportedError(f"vocab.json cannot hold the added token {token.content!r}", key="added_tokens")
        ids[token.content] = token.id
    lines = "".join(f"{to_text(left)} {to_text(right)}\n" for left, right in merges)
    return json.dumps(ids, ensure_ascii=False).encode(), f"#version: 0.2\n{lines}".encode()
