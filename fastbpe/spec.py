"""The definition of a tokenizer: what it does, without a file format and without an engine.

A `TokenizerSpec` is checked once, when it is made; every room above relies on that.  Its canonical bytes are the
project's own file (`.fbpe`), its fingerprint the sha256 of the part of them that decides ids.

The file, all integers little-endian:

    8 bytes magic | u32 version | u64 length of each section (definition, vocab, merges, extra)
    | u64 unpacked length of vocab and of merges | the four sections | sha256 of everything before it

`definition` and `extra` are canonical JSON; `extra` (name, provenance, and boxes if there are any) is outside the
fingerprint.  `vocab` and
`merges` are zlib streams of `pack_vocab` and of u32 pairs of token ids.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from itertools import accumulate
from operator import add, lt
from types import MappingProxyType
from typing import Any, TypeVar

from fastbpe.core.packed import Merges, PackedVocab
from fastbpe.errors import LimitError, UnsupportedError, VocabularyError
from fastbpe.pattern.boxes import PackedBoxes, unpacked

MAX_FILE = 512 << 20  # bytes of a vocabulary file
MAX_UNPACKED = 256 << 20  # bytes of a section once decompressed; the largest published one has 8 MiB
MAX_TOKENS = (1 << 21) - 1  # three symbols fit in 64 bits
MAX_VOCAB_BYTES = (1 << 28) - 1  # of all tokens together
MAX_TOKEN_BYTES = 64 << 10
MAX_MERGES = 1 << 23
MAX_DEPTH = 64  # of JSON
MAX_ID = (1 << 24) - 1  # tables are indexed by id
UNICODE_VERSION = "16.0.0"

MAGIC = b"\x93FBPE\r\n\x1a"  # not text, and damaged by every conversion of line ends
VERSION = 1
_HEAD = struct.Struct("<8sI6Q")
_Item = TypeVar("_Item")
_BYTES = tuple(bytes([value]) for value in range(256))


@dataclass(frozen=True)
class Split:
    """One step of the split: a pattern, and whether text that it does not match is kept as one piece (gaps)."""

    pattern: str
    gaps: bool = True


@dataclass(frozen=True)
class AddedToken:
    """A token that is matched in the text before splitting."""

    content: str
    id: int
    special: bool = True
    normalized: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class TokenizerSpec:
    """An immutable, checked definition of a tokenizer; equal and hashable by what it defines.

    `vocab` is kept in the order of ids.  `merges` is None for rank semantics (the id is the rank); those that training
    packs are as they must be.  `name`,
    `provenance` and `boxes` are carried and take no part in `==`, `hash` and `fingerprint`.  `boxes` are a hint that
    makes splitting fast (pattern/boxes.py): what is not right for the splits is of no effect.  Two special tokens may
    share an id (o200k_harmony has such a pair); the first of them is the one that decoding gives.

    Thread safety: nothing changes after construction but a cached fingerprint, which is the same for every thread.

    Raises:
        VocabularyError: the definition is not consistent; LimitError, UnsupportedError where that is the reason.
        TypeError: a field has the wrong type.
    """

    splits: tuple[Split, ...]
    vocab: Mapping[bytes, int]
    merges: Merges | tuple[tuple[bytes, bytes], ...] | None = None
    whole: bool = True
    added_tokens: tuple[AddedToken, ...] = ()
    normalizer: str | None = None
    post_processor: str | None = None
    unicode_version: str = UNICODE_VERSION
    name: str | None = None
    provenance: Mapping[str, Any] | None = None
    boxes: PackedBoxes | None = None

    def __post_init__(self) -> None:
        vocab = self.vocab if isinstance(self.vocab, PackedVocab) else dict(self.vocab)
        fields: dict[str, Any] = {
            "splits": tuple(self.splits),
            "vocab": vocab,
            "merges": self.merges if self.merges is None or isinstance(self.merges, Merges) else tuple(self.merges),
            "added_tokens": tuple(self.added_tokens),
        }
        _check_settings(self, fields["splits"])
        if not isinstance(vocab, PackedVocab):
            vocab = _checked_vocab(vocab, len(vocab) + len(fields["added_tokens"]))
            fields["vocab"] = MappingProxyType(vocab)
        _check_added(fields["added_tokens"], vocab)
        if fields["merges"] is not None and not isinstance(fields["merges"], Merges):
            _check_merges(fields["merges"], vocab)
        fields["added_tokens"] = tuple(sorted(fields["added_tokens"], key=lambda token: token.id))
        if self.provenance is not None:
            fields["provenance"] = MappingProxyType(_json_copy(self.provenance))
        self.__dict__.update(fields)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The special tokens and their ids."""
        return {token.content: token.id for token in self.added_tokens if token.special}

    @cached_property
    def n_vocab(self) -> int:
        """The greatest id plus one; there may be holes below."""
        greatest = int(self.vocab.ids[-1]) if isinstance(self.vocab, PackedVocab) else max(self.vocab.values())
        return 1 + max([greatest, *(token.id for token in self.added_tokens)])

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the canonical definition, in hexadecimal; the same in every process and version."""
        digest = hashlib.sha256(b"fastbpe definition 1\n")
        for section in self._definition():
            digest.update(struct.pack("<Q", len(section)))
            digest.update(section)
        return digest.hexdigest()

    def named(self, name: str | None) -> TokenizerSpec:
        """Return the same definition under another name."""
        if name is not None and not isinstance(name, str):
            raise TypeError(f"named(): name must be a str or None, got {_show(name)}")
        return self._copy(name=name)

    def boxed(self, boxes: PackedBoxes) -> TokenizerSpec:
        """Return the same definition with other boxes."""
        _check_boxes(boxes)
        return self._copy(boxes=boxes)

    def shrunk(self, vocab_size: int) -> TokenizerSpec:
        """Return the definition with the first tokens only; `Tokenizer.shrink` says which.

        Raises:
            ValueError: there are not so many tokens, or single bytes or parts of tokens would be lost.
        """
        tokens = list(self.vocab)
        least, most = 256 + len(self.added_tokens), len(tokens) + len(self.added_tokens)
        if not least <= vocab_size <= most:
            raise ValueError(f"shrink(): vocab_size must be {least} to {most}, got {vocab_size}")
        vocab = {token: self.vocab[token] for token in tokens[: vocab_size - len(self.added_tokens)]}
        if not all(map(vocab.__contains__, _BYTES)):
            raise ValueError(f"shrink(): vocab_size must leave all single bytes, got {vocab_size}")
        merges = self.merges and tuple(pair for pair in self.merges if pair[0] + pair[1] in vocab)
        greatest, next_id = self.vocab[tokens[-1]], max(vocab.values())
        taken = {token.id for token in self.added_tokens if token.id < greatest}
        added = []
        for token in self.added_tokens:
            if token.id > greatest:
                next_id += 1
                while next_id in taken:
                    next_id += 1
            added.append(replace(token, id=next_id) if token.id > greatest else token)
        return replace(self, vocab=vocab, merges=merges, added_tokens=tuple(added), provenance=None)

    def _copy(self, **changes: Any) -> TokenizerSpec:
        copy = object.__new__(TokenizerSpec)
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    def to_bytes(self) -> bytes:
        """Return the canonical file; `from_bytes` reads it."""
        definition, vocab, merges = self._definition()
        provenance = None if self.provenance is None else dict(self.provenance)
        boxes = {} if self.boxes is None else {"boxes": self.boxes}
        extra = _canonical_json({"name": self.name, "provenance": provenance, **boxes})
        sections = [definition, zlib.compress(vocab), zlib.compress(merges), extra]
        head = _HEAD.pack(MAGIC, VERSION, *map(len, sections), len(vocab), len(merges))
        body = b"".join([head, *sections])
        return body + hashlib.sha256(body).digest()

    @classmethod
    def from_bytes(cls, data: bytes) -> TokenizerSpec:
        """Read the canonical file.

        Raises:
            VocabularyError: the bytes are not exactly what `to_bytes` gives, are damaged or cut; LimitError where a
                stated size exceeds a limit.
            TypeError: data is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"from_bytes(): data must be bytes, got {_show(data)}")
        definition, vocab, merges, extra = _sections(data)
        fields = _read_definition(definition)
        ordinary = unpack_vocab(vocab)
        if fields.pop("merges"):
            fields["merges"] = _unpack_merges(merges, ordinary)
        elif merges:
            raise VocabularyError("a vocabulary of ranks has no merges", key="merges")
        return cls(vocab=ordinary, **fields, **_read_extra(extra))

    def _definition(self) -> tuple[bytes, bytes, bytes]:
        header = {
            "added_tokens": [[t.content, t.id, t.special, t.normalized] for t in self.added_tokens],
            "merges": self.merges is not None,
            "normalizer": self.normalizer,
            "post_processor": self.post_processor,
            "splits": [[split.pattern, split.gaps] for split in self.splits],
            "unicode_version": self.unicode_version,
            "whole": self.whole,
        }
        ids = array("I", [self.vocab[part] for pair in self.merges or () for part in pair])
        return _canonical_json(header), pack_vocab(self.vocab), _little_endian(ids).tobytes()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TokenizerSpec):
            return NotImplemented
        return self is other or self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return (TokenizerSpec.from_bytes, (self.to_bytes(),))

    def __repr__(self) -> str:
        kind = "ranks" if self.merges is None else f"{len(self.merges)} merges"
        return f"<TokenizerSpec {self.name!r}: {len(self.vocab)} tokens, {kind}, {len(self.added_tokens)} added>"


# Checks.  A quick one over the whole container decides; only where it fails is the culprit looked for.


def _check_settings(spec: TokenizerSpec, splits: tuple[Split, ...]) -> None:
    for name, value in (("name", spec.name), ("post_processor", spec.post_processor)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"TokenizerSpec(): {name} must be a str or None, got {_show(value)}")
        if value is not None and not _is_text(value):
            raise VocabularyError("holds a lone surrogate", key=name)
    if not isinstance(spec.whole, bool):
        raise TypeError(f"TokenizerSpec(): whole must be a bool, got {_show(spec.whole)}")
    if spec.merges is None and not spec.whole:
        raise VocabularyError("must be true without merges: ranks look the whole pretoken up first", key="whole")
    if spec.normalizer not in (None, "NFC"):
        raise UnsupportedError(f"{_show(spec.normalizer)} is not supported (None or 'NFC')", key="normalizer")
    if spec.unicode_version != UNICODE_VERSION:
        raise UnsupportedError(f"must be {UNICODE_VERSION!r}, got {_show(spec.unicode_version)}", key="unicode_version")
    if spec.post_processor is not None and not isinstance(parse_json(spec.post_processor.encode()), dict):
        raise VocabularyError("must be the text of a JSON object", key="post_processor")
    if spec.boxes is not None:
        _check_boxes(spec.boxes)
    if not splits:
        raise VocabularyError("at least one split is needed", key="splits")
    for index, split in enumerate(splits):
        if not (isinstance(split, Split) and isinstance(split.pattern, str) and isinstance(split.gaps, bool)):
            raise TypeError(f"TokenizerSpec(): splits must hold Split(str, bool), got {_show(split)} at index {index}")
        if not split.pattern or not _is_text(split.pattern):
            raise VocabularyError("a pattern must be text that is not empty", key=f"splits[{index}]")


def _check_boxes(boxes: PackedBoxes) -> None:
    if not isinstance(boxes, tuple) or list(map(type, boxes)) != [str] * 3:
        raise TypeError(f"TokenizerSpec(): boxes must be a tuple of 3 str or None, got {_show(boxes)}")
    try:
        unpacked(boxes)
    except ValueError as error:
        raise VocabularyError(str(error), key="boxes") from None


def _checked_vocab(vocab: dict[bytes, int], n_tokens: int) -> dict[bytes, int]:
    """The vocabulary in the order of ids."""
    if len(vocab) > MAX_TOKENS:
        raise LimitError(f"{len(vocab)} tokens are more than {MAX_TOKENS}", key="vocab")
    if sum(map(len, vocab)) > MAX_VOCAB_BYTES:
        raise LimitError(f"the tokens have more than {MAX_VOCAB_BYTES} bytes together", key="vocab")
    limit = min(MAX_ID, 4 * n_tokens + 65_536)
    if not (
        set(map(type, vocab)) == {bytes}
        and set(map(type, vocab.values())) == {int}
        and max(map(len, vocab)) <= MAX_TOKEN_BYTES
        and all(map(vocab.__contains__, _BYTES))
    ):
        raise _vocab_fault(vocab, limit)
    ids = list(vocab.values())
    if not all(map(lt, ids, ids[1:])):
        vocab = dict(sorted(vocab.items(), key=lambda item: item[1]))
        ids = list(vocab.values())
    if ids[0] < 0 or ids[-1] > limit or not all(map(lt, ids, ids[1:])):
        raise _vocab_fault(vocab, limit)
    return vocab


def _vocab_fault(vocab: dict[bytes, int], limit: int) -> VocabularyError:
    owners: dict[int, bytes] = {}
    for token, id in vocab.items():
        if type(token) is not bytes:
            return VocabularyError(f"a token must be bytes, got {_show(token)}", key="vocab")
        if len(token) > MAX_TOKEN_BYTES:
            return LimitError(f"a token of {len(token)} bytes exceeds {MAX_TOKEN_BYTES}: {_show(token)}", key="vocab")
        if fault := _id_fault(id, limit, f"token {_show(token)}", "vocab"):
            return fault
        if id in owners:
            return VocabularyError(f"id {id} appears twice: {_show(owners[id])} and {_show(token)}", key="vocab")
        owners[id] = token
    missing = next(token for token in _BYTES if token not in vocab)
    reason = f"the single byte {missing!r} has no token, so not every text could be encoded: add all 256"
    return VocabularyError(reason, key="vocab")


def _id_fault(id: object, limit: int, owner: str, key: str) -> VocabularyError | None:
    if type(id) is not int or id < 0:
        return VocabularyError(f"the id of {owner} must be an int that is not negative, got {_show(id)}", key=key)
    if id > limit:
        return LimitError(f"the id of {owner} exceeds {limit} (2**24 - 1, 4 x tokens + 65,536): {_show(id)}", key=key)
    return None


def _check_added(added: tuple[AddedToken, ...], vocab: Mapping[bytes, int]) -> None:
    n_tokens = len(vocab) + len(added)
    if n_tokens > MAX_TOKENS:
        raise LimitError(f"{n_tokens} tokens are more than {MAX_TOKENS}", key="added_tokens")
    token_of = _token_of(vocab)
    contents: dict[str, int] = {}
    owners: dict[int, AddedToken] = {}
    for index, token in enumerate(added):
        key = f"added_tokens[{index}]"
        if not isinstance(token, AddedToken) or type(token.content) is not str:
            raise TypeError(f"TokenizerSpec(): added_tokens must hold AddedToken, got {_show(token)} at index {index}")
        if not token.content or not _is_text(token.content):
            raise VocabularyError("the content must be text that is not empty", key=key)
        content = token.content.encode()
        if len(content) > MAX_TOKEN_BYTES:
            raise LimitError(f"a token of {len(content)} bytes exceeds {MAX_TOKEN_BYTES}", key=key)
        if fault := _id_fault(token.id, min(MAX_ID, 4 * n_tokens + 65_536), _show(token.content), key):
            raise fault
        if token.content in contents:
            raise VocabularyError(f"{_show(token.content)} stands at {contents[token.content]} already", key=key)
        contents[token.content] = index
        owner = token_of(token.id)
        if owner is not None and owner != content:
            reason = f"id {token.id} of {_show(token.content)} is that of the token {_show(owner)}"
            raise VocabularyError(reason, key=key)
        first = owners.setdefault(token.id, token)
        if first is not token and not (first.special and token.special):
            raise VocabularyError(f"id {token.id} is that of {_show(first.content)} already", key=key)


def _token_of(vocab: Mapping[bytes, int]) -> Callable[[int], bytes | None]:
    """Return what gives the token of an id; `vocab` is in the order of ids."""
    if isinstance(vocab, PackedVocab):
        return vocab.token
    tokens, ids = list(vocab), list(vocab.values())

    def token_of(id: int) -> bytes | None:
        place = bisect_left(ids, id)
        return tokens[place] if place < len(ids) and ids[place] == id else None

    return token_of


def _check_merges(merges: tuple[tuple[bytes, bytes], ...], vocab: Mapping[bytes, int]) -> None:
    if len(merges) > MAX_MERGES:
        raise LimitError(f"{len(merges)} merges are more than {MAX_MERGES}", key="merges")
    if not merges:
        return
    if set(map(type, merges)) == {tuple} and set(map(len, merges)) == {2}:
        lefts, rights = zip(*merges)
        try:
            parts = {*lefts, *rights}
            if (
                set(map(type, parts)) == {bytes}
                and b"" not in parts
                and parts <= vocab.keys()
                and set(map(add, lefts, rights)) <= vocab.keys()
                and len(set(merges)) == len(merges)
            ):
                return
        except TypeError:  # parts that cannot be hashed
            pass
    raise _merge_fault(merges, vocab)


def _merge_fault(merges: tuple[tuple[bytes, bytes], ...], vocab: Mapping[bytes, int]) -> VocabularyError:
    seen: dict[tuple[bytes, bytes], int] = {}
    for index, merge in enumerate(merges):
        key = f"merges[{index}]"
        if type(merge) is not tuple or len(merge) != 2 or set(map(type, merge)) != {bytes}:
            return VocabularyError(f"must be a pair of bytes, got {_show(merge)}", key=key)
        for part in merge:
            if not part:
                return VocabularyError("a part is empty", key=key)
            if part not in vocab:
                return VocabularyError(f"the part {_show(part)} is not a token", key=key)
        if merge[0] + merge[1] not in vocab:
            return VocabularyError(f"the result {_show(merge[0] + merge[1])} is not a token", key=key)
        if merge in seen:
            return VocabularyError(f"{_show(merge)} stands at {seen[merge]} already", key=key)
        seen[merge] = index
    raise AssertionError("the quick check and the slow one disagree")


def _is_text(text: str) -> bool:
    """Whether UTF-8 can hold it: no lone surrogate."""
    return text.encode(errors="ignore").decode() == text


def _show(value: object) -> str:
    """A value for a message: bytes and text as they are, anything else with its type; at most 80 characters."""
    try:
        text = repr(value[:80] if isinstance(value, (str, bytes, tuple, list)) else value)
    except ValueError:  # an integer beyond Python's limit for printing
        text = "of thousands of digits"
    if not isinstance(value, (str, bytes, tuple)):
        text = f"{type(value).__name__} {text}"
    return text if len(text) <= 80 else f"{text[:77]}..."


# JSON.


def parse_json(data: bytes) -> Any:
    """Parse UTF-8 JSON strictly: no BOM, no key twice in an object, no NaN, nothing after the value.

    Raises:
        VocabularyError: not such JSON; LimitError: nested deeper than MAX_DEPTH.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise VocabularyError("begins with a byte order mark: save it as UTF-8 without one", line=1)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise VocabularyError(f"not UTF-8 at byte {error.start}", line=data.count(b"\n", 0, error.start) + 1) from None
    _check_depth(data)
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise VocabularyError(f"not JSON: {error.msg} at column {error.colno}", line=error.lineno) from None
    except VocabularyError:
        raise
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits; a caller deep in its own stack
        raise VocabularyError(f"not readable JSON: {str(error).splitlines()[0]}") from None


_NOT_BRACKETS = bytes(value for value in range(256) if value not in b"[]{}")
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


def _check_depth(data: bytes) -> None:
    """Refuse deep nesting before the parser, whose recursion is limited by nothing that we control."""
    if b"\\" in data:
        data = re.sub(rb"\\.", b"", data, flags=re.DOTALL)
    outside = b"".join(data.split(b'"')[::2])  # without escapes, every second part is outside strings
    brackets = outside.translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        size, brackets = len(brackets), brackets.replace(b"[]", b"")  # removes the innermost level
        if len(brackets) == size:
            break
    if b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH:  # a level more, or as many that are never closed
        raise LimitError(f"JSON nested deeper than {MAX_DEPTH}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = _first_repeat(key for key, _ in pairs)
        raise VocabularyError(f"the key {_show(twice)} appears twice in one object")
    return result


def _first_repeat(items: Iterable[_Item]) -> _Item | None:
    seen: set[_Item] = set()
    for item in items:
        if item in seen:
            return item
        seen.add(item)
    return None


def _no_constant(name: str) -> Any:
    raise VocabularyError(f"{name} is not a JSON number")


def _canonical_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _json_copy(value: Mapping[str, Any]) -> dict[str, Any]:
    try:
        text = _canonical_json(dict(value))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"TokenizerSpec(): provenance must be a JSON object: {error}") from None
    copy: dict[str, Any] = parse_json(text)
    return copy


# Packing.


def pack_tokens(tokens: Sequence[bytes]) -> bytes:
    """Pack byte strings: u32 count, u32 length of each, all of them joined."""
    lengths = array("I", map(len, tokens))
    return b"".join([struct.pack("<I", len(tokens)), _little_endian(lengths).tobytes(), *tokens])


def unpack_tokens(data: bytes) -> list[bytes]:
    """Unpack what `pack_tokens` gave; every length is checked.

    Raises:
        VocabularyError: the lengths do not agree with the data; LimitError: too many, or one too long.
    """
    lengths, start = _counted_array(data)
    if lengths and max(lengths) > MAX_TOKEN_BYTES:
        raise LimitError(f"a token of {max(lengths)} bytes exceeds {MAX_TOKEN_BYTES}", key="vocab")
    if start + sum(lengths) != len(data):
        raise VocabularyError(f"the tokens take {start + sum(lengths)} bytes of {len(data)}", key="vocab")
    stream = BytesIO(data)
    stream.seek(start)
    return list(map(stream.read, lengths))  # twice as fast as slicing


def pack_vocab(vocab: Mapping[bytes, int]) -> bytes:
    """Pack tokens with their ids, in the order of ids: u32 count, u32 steps from id to id, then `pack_tokens`."""
    items = sorted(vocab.items(), key=lambda item: item[1])
    ids = [id for _, id in items]
    steps = array("I", (id - before for id, before in zip(ids, [0, *ids])))
    return struct.pack("<I", len(ids)) + _little_endian(steps).tobytes() + pack_tokens([token for token, _ in items])


def unpack_vocab(data: bytes) -> dict[bytes, int]:
    """Unpack what `pack_vocab` gave.

    Raises:
        VocabularyError, LimitError: as `unpack_tokens`; a token twice.
    """
    steps, start = _counted_array(data)
    tokens = unpack_tokens(data[start:])
    if len(tokens) != len(steps):
        raise VocabularyError(f"{len(steps)} ids, but {len(tokens)} tokens", key="vocab")
    vocab = dict(zip(tokens, accumulate(steps)))
    if len(vocab) != len(tokens):
        raise VocabularyError(f"the token {_show(_first_repeat(tokens))} appears twice", key="vocab")
    return vocab


def _counted_array(data: bytes) -> tuple[array[int], int]:
    count = int.from_bytes(data[:4], "little")
    end = 4 + 4 * count
    if len(data) < max(end, 4):
        raise VocabularyError(f"{count} tokens do not fit in {len(data)} bytes", key="vocab")
    if count > MAX_TOKENS:
        raise LimitError(f"{count} tokens are more than {MAX_TOKENS}", key="vocab")
    return _array(data[4:end]), end


def _array(data: bytes) -> array[int]:
    values = array("I")
    values.frombytes(data)
    return _little_endian(values)


def _little_endian(values: array[int]) -> array[int]:
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _unpack_merges(data: bytes, vocab: Mapping[bytes, int]) -> tuple[tuple[bytes, bytes], ...]:
    if len(data) % 8:
        raise VocabularyError(f"{len(data)} bytes are not pairs of ids", key="merges")
    if len(data) // 8 > MAX_MERGES:
        raise LimitError(f"{len(data) // 8} merges are more than {MAX_MERGES}", key="merges")
    by_id = {id: token for token, id in vocab.items()}
    try:
        parts = map(by_id.__getitem__, _array(data))
        return tuple(zip(parts, parts))
    except KeyError as error:
        raise VocabularyError(f"the id {error} is that of no token", key="merges") from None


# The file.


def _sections(data: bytes) -> list[bytes]:
    if len(data) > MAX_FILE:
        raise LimitError(f"{len(data)} bytes are more than {MAX_FILE}")
    if not data.startswith(MAGIC):
        raise VocabularyError("not an .fbpe file: the first bytes are others")
    if len(data) < _HEAD.size + 32:
        raise VocabularyError(f"cut after {len(data)} bytes")
    _, version, *lengths, n_vocab, n_merges = _HEAD.unpack_from(data)
    if version != VERSION:
        raise VocabularyError(f"version {version} of the .fbpe format is not known: a newer fastbpe reads it")
    expected = _HEAD.size + sum(lengths) + 32
    if len(data) != expected:
        raise VocabularyError(f"has {len(data)} bytes, but its lengths say {expected}: cut, or joined with others")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise VocabularyError("the checksum differs: the file is damaged")
    ends = list(accumulate(lengths, initial=_HEAD.size))
    definition, vocab, merges, extra = (data[begin:end] for begin, end in zip(ends, ends[1:]))
    return [definition, _decompress(vocab, n_vocab, "vocab"), _decompress(merges, n_merges, "merges"), extra]


def _decompress(data: bytes, size: int, key: str) -> bytes:
    """Decompress to exactly `size` bytes; never more are made, whatever the data says."""
    if size > MAX_UNPACKED:
        raise LimitError(f"{size} bytes unpacked are more than {MAX_UNPACKED}", key=key)
    stream = zlib.decompressobj()
    try:
        result = stream.decompress(data, size + 1)
    except zlib.error as error:
        raise VocabularyError(f"damaged: {error}", key=key) from None
    if len(result) != size or not stream.eof or stream.unused_data:
        raise VocabularyError(f"does not unpack to the {size} bytes that the file states", key=key)
    return result


def _read_definition(data: bytes) -> dict[str, Any]:
    header = parse_json(data)
    names = {"added_tokens", "merges", "normalizer", "post_processor", "splits", "unicode_version", "whole"}
    if not isinstance(header, dict) or set(header) != names:
        raise VocabularyError("the definition does not have exactly the known fields", key="definition")
    _check_types(header["merges"], (bool,), "merges")
    _check_types(header["whole"], (bool,), "whole")
    for name in ("normalizer", "post_processor", "unicode_version"):
        _check_types(header[name], (str, type(None)), name)
    added = _rows(header["added_tokens"], (str, int, bool, bool), "added_tokens")
    splits = _rows(header["splits"], (str, bool), "splits")
    header["added_tokens"] = tuple(AddedToken(*row) for row in added)
    header["splits"] = tuple(Split(*row) for row in splits)
    return header


def _read_extra(data: bytes) -> dict[str, Any]:
    extra = parse_json(data)
    if not isinstance(extra, dict) or set(extra) - {"boxes"} != {"name", "provenance"}:
        raise VocabularyError("must hold exactly a name, a provenance, and perhaps boxes", key="extra")
    _check_types(extra["name"], (str, type(None)), "name")
    _check_types(extra["provenance"], (dict, type(None)), "provenance")
    if "boxes" in extra:
        (extra["boxes"],) = map(tuple, _rows([extra["boxes"]], (str, str, str), "boxes"))
    return extra


def _rows(value: Any, kinds: tuple[type, ...], key: str) -> Iterable[list[Any]]:
    _check_types(value, (list,), key)
    for row in value:
        if type(row) is not list or tuple(map(type, row)) != kinds:
            raise VocabularyError(f"{_show(row)} is not a row of the expected types", key=key)
        yield row


def _check_types(value: Any, kinds: tuple[type, ...], key: str) -> None:
    if type(value) not in kinds:
        raise VocabularyError(f"must be {' or '.join(kind.__name__ for kind in kinds)}, got {_show(value)}", key=key)
