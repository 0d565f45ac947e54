"""tokenizer.json of the byte-level kind: BPE over bytes, split by regular expressions.

Every field of the file is honoured, carried (post_processor) or refused with its JSON path; none is ignored.  Fields
that only move offsets (trim_offsets; the settings of a ByteLevel decoder) have no effect on ids and bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal

from fastbpe.errors import LimitError, PatternError, UnsupportedError, VocabularyError
from fastbpe.formats.gpt2 import BYTE_TEXTS, check_ids, ordinary_tokens, pair_merges, to_text
from fastbpe.formats.tiktoken import merges_of_ranks
from fastbpe.pattern.named import GPT2
from fastbpe.pattern.parse import MAX_PATTERN
from fastbpe.pattern.possessive import to_greedy
from fastbpe.spec import AddedToken, Split, TokenizerSpec, parse_json

Ids = Literal["file", "huggingface"]

_REQUIRED = object()
_POST_PROCESSORS = {
    "ByteLevel": {"add_prefix_space", "trim_offsets", "use_regex"},
    "RobertaProcessing": {"sep", "cls", "trim_offsets", "add_prefix_space"},
    "TemplateProcessing": {"single", "pair", "special_tokens"},
    "Sequence": {"processors"},
}


class _Fields:
    """One JSON object of the file; each of its keys must be taken before `done`."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise VocabularyError(f"must be an object, got {type(value).__name__}", key=path or None)
        self.path = path
        self._left = dict(value)

    def key(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = _REQUIRED) -> Any:
        """Return the value of a key, which must have exactly one of the types."""
        if name not in self._left:
            if default is _REQUIRED:
                raise VocabularyError("is missing", key=self.key(name))
            return default
        value = self._left.pop(name)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(value) not in kinds:
            wanted = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
            raise VocabularyError(f"must be {wanted}, got {json.dumps(value)[:60]}", key=self.key(name))
        return value

    def refuse_unless(self, name: str, allowed: Sequence[Any], why: str, default: Any = None) -> None:
        """Take a key that is supported only with values that do nothing."""
        value = self._left.pop(name, default)
        if not any(type(value) is type(item) and value == item for item in allowed):
            raise UnsupportedError(f"{json.dumps(value)[:60]} is not supported: {why}", key=self.key(name))

    def done(self) -> None:
        for name in self._left:
            raise UnsupportedError("is not a known field, and none is ignored", key=self.key(name))


def read(data: bytes, *, ids: Ids | None = None) -> TokenizerSpec:
    """Read a tokenizer.json.

    ids decides where the file's ids of added tokens are not the ones that the tokenizers library would give them:
    "file" keeps the file's, "huggingface" renumbers as tokenizers 0.23 does, None refuses.

    Raises:
        VocabularyError: the file is not exactly understood; UnsupportedError where it asks for something else than
            byte-level BPE; the key is the JSON path.
    """
    return from_json(parse_json(data), ids=ids)


def from_json(value: Any, *, ids: Ids | None = None) -> TokenizerSpec:
    """As `read`, of a parsed file."""
    top = _Fields(value, "")
    top.refuse_unless("version", ["1.0"], 'only version "1.0" is known', default="1.0")
    top.refuse_unless("truncation", [None], "ids must not depend on it; set it to null")
    top.refuse_unless("padding", [None], "ids must not depend on it; set it to null")
    normalizer = _read_normalizer(top.take("normalizer", (dict, type(None)), None), "normalizer")
    splits = _read_pre_tokenizer(top.take("pre_tokenizer", (dict, type(None)), None))
    post_processor = top.take("post_processor", (dict, type(None)), None)
    _check_post_processor(post_processor, "post_processor")
    _check_decoder(top.take("decoder", (dict, type(None)), None))
    added = _read_added(top.take("added_tokens", list, []), normalizer)
    model = _Fields(top.take("model", dict), "model")
    vocab, pairs, whole = _read_model(model)
    top.done()

    added = _renumber(added, vocab, ids)
    # An added token is usually listed in the vocabulary as well, which only gives it its id.
    listed = {token.content for token in added if vocab.get(token.content) == token.id} - BYTE_TEXTS
    if listed:
        listed -= {text for left, right in pairs for text in (left, right, left + right)}
    ordinary = {text: id for text, id in vocab.items() if text not in listed} if listed else vocab
    tokens = ordinary_tokens(ordinary, "model.vocab")
    return TokenizerSpec(
        splits=splits,
        vocab={tokens[text]: id for text, id in ordinary.items()},
        merges=pair_merges(pairs, tokens, "model.merges"),
        whole=whole,
        added_tokens=tuple(added),
        normalizer=normalizer,
        post_processor=None if post_processor is None else _compact(post_processor).decode(),
    )


def _read_normalizer(value: dict[str, Any] | None, path: str) -> str | None:
    if value is None:
        return None
    fields = _Fields(value, path)
    kind = fields.take("type", str)
    if kind == "Sequence":
        steps = fields.take("normalizers", list)
        fields.done()
        if len(steps) > 1:
            raise UnsupportedError(f"a sequence of {len(steps)} normalizers is not supported", key=path)
        return _read_normalizer(steps[0], f"{path}.normalizers[0]") if steps else None
    if kind != "NFC":
        raise UnsupportedError(f"type {kind!r} is not supported (NFC is)", key=path)
    fields.done()
    return "NFC"


def _read_pre_tokenizer(value: dict[str, Any] | None) -> tuple[Split, ...]:
    path = "pre_tokenizer"
    if value is None:
        raise UnsupportedError("null is not supported: the text must be split and mapped to bytes", key=path)
    steps, paths = [value], [path]
    if value.get("type") == "Sequence":
        fields = _Fields(value, path)
        fields.take("type", str)
        steps = fields.take("pretokenizers", list)
        paths = [f"{path}.pretokenizers[{index}]" for index in range(len(steps))]
        fields.done()
    splits: list[Split] = []
    byte_level = False
    for step, step_path in zip(steps, paths):
        if byte_level:
            raise UnsupportedError("nothing may follow ByteLevel: it would see mapped bytes", key=step_path)
        fields = _Fields(step, step_path)
        kind = fields.take("type", str)
        if kind == "Split":
            splits.append(_read_split(fields))
        elif kind == "ByteLevel":
            byte_level = True
            splits += _read_byte_level(fields)
        else:
            raise UnsupportedError(f"type {kind!r} is not supported (Split and ByteLevel are)", key=step_path)
        fields.done()
    if not byte_level:
        raise UnsupportedError("without a ByteLevel step the vocabulary is not over bytes", key=path)
    if not splits:
        raise UnsupportedError("no step splits the text: ByteLevel has use_regex false", key=path)
    return tuple(splits)


def _read_split(fields: _Fields) -> Split:
    pattern = _Fields(fields.take("pattern", dict), fields.key("pattern"))
    if "String" in pattern._left:
        raise UnsupportedError("a literal string is not supported (Regex is)", key=pattern.key("String"))
    regex = pattern.take("Regex", str)
    pattern.done()
    if len(regex) > MAX_PATTERN:
        raise LimitError(f"a pattern of {len(regex)} characters exceeds {MAX_PATTERN}", key=pattern.key("Regex"))
    _check_dialect(regex, pattern.key("Regex"))
    behaviour, invert = fields.take("behavior", str), fields.take("invert", bool)
    if (behaviour, invert) not in (("Isolated", False), ("Removed", True)):
        reason = f"{behaviour!r} with invert {str(invert).lower()} is not supported (Isolated; Removed with invert are)"
        raise UnsupportedError(reason, key=fields.key("behavior"))
    return Split(regex, gaps=not invert)


def _read_byte_level(fields: _Fields) -> list[Split]:
    fields.refuse_unless("add_prefix_space", [False], "it would change the text", default=True)
    fields.take("trim_offsets", bool, True)
    return [Split(GPT2)] if fields.take("use_regex", bool, True) else []


def _check_dialect(pattern: str, path: str) -> None:
    """Refuse what the file's engine (Oniguruma, Ruby syntax) reads differently from us."""
    depth, index = 0, 0
    while index < len(pattern):
        char, rest = pattern[index], pattern[index + 1 :]
        reason = None
        if char == "\\":
            if rest[:1] in ("h", "H", "Z", "G", "K", "R", "X"):
                reason = f"\\{rest[0]} has another meaning there"
            # \\p{L} and its like take their braces along
            closing = pattern.find("}", index) if rest[:1] in tuple("pPxuoN") and rest[1:2] == "{" else -1
            index = max(closing, index + 1)
        elif char == "[":
            depth += 1
            if rest.startswith(("]", "^]", ":")):
                reason = "a class that begins with ] or : is read differently there"
        elif depth > 0:
            depth -= char == "]"
        elif char in "$^":
            reason = f"{char} is the end or start of a line there (write \\z or \\A)"
        elif char == "}" and rest[:1] == "+":
            reason = "{m,n}+ is a repetition of a repetition there (write the possessive group (?>...))"
        elif char == "}" and rest[:1] == "?" and "," not in pattern[pattern.rfind("{", 0, index) : index]:
            reason = "{n}? is an optional repetition there"
        elif char == "(" and rest[:1] == "?" and rest[1:2].isalpha() and not rest.startswith("?i:"):
            reason = "of the inline flags only (?i:...) means the same there"
        if reason is not None:
            raise UnsupportedError(f"at character {index}: {reason}", key=path)
        index += 1


def _check_post_processor(value: Any, path: str) -> None:
    if value is None:
        return
    fields = _Fields(value, path)
    kind = fields.take("type", str)
    if kind not in _POST_PROCESSORS:
        raise UnsupportedError(f"type {kind!r} is not supported", key=path)
    for name in sorted(_POST_PROCESSORS[kind]):
        part = fields.take(name, (bool, list, dict), None)
        if kind == "Sequence":
            for index, step in enumerate(part if type(part) is list else []):
                _check_post_processor(step, f"{path}.{name}[{index}]")
    fields.done()


def _check_decoder(value: dict[str, Any] | None) -> None:
    if value is None:
        return
    fields = _Fields(value, "decoder")
    kind = fields.take("type", str)
    if kind != "ByteLevel":
        raise UnsupportedError(f"type {kind!r} is not supported (ByteLevel is)", key="decoder")
    for name in ("add_prefix_space", "trim_offsets", "use_regex"):
        fields.take(name, bool, True)
    fields.done()


def _read_added(values: list[Any], normalizer: str | None) -> list[AddedToken]:
    added = []
    for index, value in enumerate(values):
        fields = _Fields(value, f"added_tokens[{index}]")
        for name in ("single_word", "lstrip", "rstrip"):
            fields.refuse_unless(name, [False], "the token would match other text", default=False)
        normalized = fields.take("normalized", bool)
        if normalized and normalizer is not None:
            raise UnsupportedError("true is not supported with a normalizer", key=fields.key("normalized"))
        token = AddedToken(
            fields.take("content", str), fields.take("id", int), fields.take("special", bool), normalized
        )
        fields.done()
        added.append(token)
    return added


def _read_model(fields: _Fields) -> tuple[dict[str, int], list[list[str]], bool]:
    fields.refuse_unless("type", ["BPE"], "only BPE is", default="BPE")
    fields.refuse_unless("dropout", [None], "ids would be random")
    fields.refuse_unless("unk_token", [None], "every text has tokens here")
    fields.refuse_unless("continuing_subword_prefix", [None, ""], "tokens are plain bytes")
    fields.refuse_unless("end_of_word_suffix", [None, ""], "tokens are plain bytes")
    fields.refuse_unless("fuse_unk", [False], "every text has tokens here", default=False)
    fields.refuse_unless("byte_fallback", [False], "every byte has a token here", default=False)
    whole: bool = fields.take("ignore_merges", bool, False)
    vocab = check_ids(fields.take("vocab", dict), "model.vocab")
    merges = fields.take("merges", list)
    fields.done()
    pairs = [merge.split(" ") if type(merge) is str else merge for merge in merges]
    if not (set(map(type, pairs)) <= {list} and set(map(len, pairs)) <= {2} and _all_text(pairs)):
        bad = (i for i, pair in enumerate(pairs) if type(pair) is not list or len(pair) != 2 or not _all_text([pair]))
        index = next(bad)
        reason = f"must be 'A B' or ['A', 'B'], got {json.dumps(merges[index])[:60]}"
        raise VocabularyError(reason, key=f"model.merges[{index}]")
    return vocab, pairs, whole


def _all_text(pairs: Sequence[Sequence[Any]]) -> bool:
    return set(map(type, chain.from_iterable(pairs))) <= {str}


def _owner_ids(contents: Sequence[str], vocab: Mapping[str, int]) -> list[int]:
    """The ids that tokenizers 0.23 gives to added tokens: the vocabulary's, else the next free one after its size."""
    ids = []
    free = len(vocab)
    for content in contents:
        ids.append(vocab.get(content, free))
        free += content not in vocab
    return ids


def _renumber(added: list[AddedToken], vocab: Mapping[str, int], ids: Ids | None) -> list[AddedToken]:
    if ids == "file":
        return added
    result = []
    for index, (token, id) in enumerate(zip(added, _owner_ids([token.content for token in added], vocab))):
        if id != token.id and ids is None:
            raise VocabularyError(
                f"{token.content!r} has id {token.id} in the file, but the tokenizers library would give it {id!r}: "
                'pass ids="file" to keep the file\'s, ids="huggingface" to follow tokenizers',
                key=f"added_tokens[{index}].id",
            )
        result.append(AddedToken(token.content, id, token.special, token.normalized))
    return result


def write(spec: TokenizerSpec) -> bytes:
    """Write a tokenizer.json that the tokenizers library reads with the same ids.

    A definition by ranks is written as the one merge that makes each token, in the order of ranks, with ignore_merges.

    Raises:
        UnsupportedError: the format, or its owner, cannot hold the definition; the message says what.
    """
    merges = list(merges_of_ranks(spec.vocab).values()) if spec.merges is None else spec.merges
    value = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_write_added(token) for token in spec.added_tokens],
        "normalizer": None if spec.normalizer is None else {"type": spec.normalizer},
        "pre_tokenizer": _write_splits(spec.splits),
        "post_processor": None if spec.post_processor is None else json.loads(spec.post_processor),
        "decoder": _byte_level(add_prefix_space=True, use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": spec.whole,
            "vocab": _write_vocab(spec),
            "merges": [f"{to_text(left)} {to_text(right)}" for left, right in merges],
        },
    }
    return _compact(value)


def _write_vocab(spec: TokenizerSpec) -> dict[str, int]:
    """The vocabulary; with the added tokens in it where they would not keep their ids otherwise."""
    vocab = {to_text(token): id for token, id in spec.vocab.items()}
    contents = [token.content for token in spec.added_tokens]
    ids = [token.id for token in spec.added_tokens]
    taken = set(vocab.values())
    for index, (content, id) in enumerate(zip(contents, ids)):
        if vocab.get(content, None if id in taken else id) != id:
            reason = f"{content!r} would not be told from the ordinary token with that spelling or id"
            raise UnsupportedError(reason, key=f"added_tokens[{index}]")
        if index and id == ids[index - 1]:
            raise UnsupportedError(f"{content!r} shares its id {id} with another token", key=f"added_tokens[{index}]")
    if _owner_ids(contents, vocab) != ids:
        vocab.update(zip(contents, ids))
    return vocab


def _write_added(token: AddedToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "content": token.content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": token.normalized,
        "special": token.special,
    }


def _write_splits(splits: Sequence[Split]) -> dict[str, Any]:
    if list(splits) == [Split(GPT2)]:
        return _byte_level(add_prefix_space=False, use_regex=True)
    steps = []
    for index, split in enumerate(splits):
        try:
            pattern = to_greedy(split.pattern)
        except PatternError as error:
            raise UnsupportedError(
                f"no equal pattern is known for its engine: {error}", key=f"splits[{index}]"
            ) from None
        _check_dialect(pattern, f"splits[{index}]")
        behaviour = "Isolated" if split.gaps else "Removed"
        steps.append({"type": "Split", "pattern": {"Regex": pattern}, "behavior": behaviour, "invert": not split.gaps})
    byte_level = _byte_level(add_prefix_space=False, use_regex=False)
    return {"type": "Sequence", "pretokenizers": [*steps, byte_level]}


def _byte_level(*, add_prefix_space: bool, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def _compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
