"""Vocabulary files: one module a format; here is the choice between them, made from the content."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fastbpe.encodings import SOURCES
from fastbpe.errors import LimitError, UnsupportedError, VocabularyError
from fastbpe.formats import gpt2, huggingface, tiktoken
from fastbpe.pattern.named import GPT2, PATTERNS
from fastbpe.spec import MAGIC, MAX_FILE, Split, TokenizerSpec, parse_json

Ids = Literal["file", "huggingface"]

FORMATS = ("fbpe", "gpt2", "tiktoken", "tokenizer.json")

# The two files of the gpt2 format, as Hugging Face and as OpenAI name them.
_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))


def read(
    data: bytes,
    *,
    format: str | None = None,
    pattern: str | None = None,
    special_tokens: Mapping[str, int] | None = None,
    path: str | os.PathLike[str] | None = None,
    ids: Ids | None = None,
) -> TokenizerSpec:
    """Read a vocabulary file; without a format, its content decides.

    A .tiktoken file needs pattern (a name of `fastbpe.patterns` or a regular expression) and may need special_tokens;
    vocab.json + merges.txt may take both; path then leads to the other file of the pair.  ids: see
    `huggingface.read`.

    Raises:
        VocabularyError: the file is not exactly understood; UnsupportedError, LimitError where that is the reason.
        ValueError: an argument is missing, or one that the format has no use for.
        OSError: the other file of a pair cannot be read.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"load(): data must be bytes, got {type(data).__name__}")
    if format is not None and format not in FORMATS:
        raise ValueError(f"load(): format must be one of {', '.join(FORMATS)}, got {format!r}")
    if ids not in (None, "file", "huggingface"):
        raise ValueError(f"load(): ids must be 'file', 'huggingface' or None, got {ids!r}")
    place = None if path is None else os.fspath(path)
    try:
        if len(data) > MAX_FILE:
            raise LimitError(f"{len(data)} bytes are more than {MAX_FILE}")
        return _read(data, format, pattern, special_tokens, place, ids)
    except VocabularyError as error:
        if place is None or error.path is not None:
            raise
        raise error.at(place) from None


def _read(
    data: bytes,
    format: str | None,
    pattern: str | None,
    special_tokens: Mapping[str, int] | None,
    path: str | None,
    ids: Ids | None,
) -> TokenizerSpec:
    value: Any = None
    if format is None:
        format, value = _sniff(data)
    if format in ("fbpe", "tokenizer.json") and not (pattern is None and special_tokens is None):
        raise ValueError(f"load(): a {format} file holds its own pattern and special tokens: leave the arguments out")
    if format == "fbpe":
        return TokenizerSpec.from_bytes(data)
    if format == "tokenizer.json":
        return huggingface.from_json(parse_json(data) if value is None else value, ids=ids)
    if format == "gpt2":
        vocab, merges = _pair(data, path)
        splits = (Split(GPT2),) if pattern is None else named_splits(pattern, gaps=True)
        return gpt2.read(vocab, merges, splits=splits, special_tokens=special_tokens)
    if pattern is None:
        raise ValueError(
            "load(): pattern is required, a .tiktoken file holds none: pass a regular expression or one of "
            f"{', '.join(PATTERNS)}"
        )
    _check_published(data, path)
    splits = named_splits(pattern, gaps=True)
    if len(splits) == 1:
        # tiktoken drops text that its pattern does not match.  The steps of a sequence each match a part alone.
        splits = (Split(splits[0].pattern, gaps=False),)
    return tiktoken.read(data, splits=splits, special_tokens=special_tokens)


def read_path(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    pattern: str | None = None,
    special_tokens: Mapping[str, int] | None = None,
    ids: Ids | None = None,
) -> TokenizerSpec:
    """Read a file, or the one vocabulary of a folder (tokenizer.json, else vocab.json + merges.txt); see `read`.

    Raises:
        OSError: the file is missing or unreadable.
        VocabularyError: as `read`; not a regular file; a folder without a vocabulary.
    """
    place = os.fspath(path)
    if os.path.isdir(place):
        names = ["tokenizer.json", *(vocab for vocab, _ in _PAIRS)]
        found = next((name for name in names if os.path.isfile(os.path.join(place, name))), None)
        if found is None:
            raise VocabularyError("the folder holds no tokenizer.json and no vocab.json", path=place)
        place = os.path.join(place, found)
    data = _read_regular(place)
    return read(data, format=format, pattern=pattern, special_tokens=special_tokens, path=place, ids=ids)


def write(spec: TokenizerSpec, format: str) -> bytes:
    """Return the definition as a file of the format.

    Raises:
        UnsupportedError: the format cannot hold it.
        ValueError: an unknown format; "gpt2", which is two files (`gpt2.write` returns both).
    """
    if format == "fbpe":
        return spec.to_bytes()
    if format == "tiktoken":
        return tiktoken.write(spec)
    if format == "tokenizer.json":
        return huggingface.write(spec)
    if format == "gpt2":
        raise ValueError("write(): format gpt2 is two files, vocab.json and merges.txt: use formats.gpt2.write")
    raise ValueError(f"write(): format must be one of {', '.join(FORMATS)}, got {format!r}")


def format_for_path(path: str | os.PathLike[str]) -> str:
    """Return the format that a file of this name is written in.

    Raises:
        ValueError: the name does not tell.
    """
    name = Path(path).name
    if name in {name for pair in _PAIRS for name in pair}:
        return "gpt2"
    formats = {".fbpe": "fbpe", ".tiktoken": "tiktoken", ".json": "tokenizer.json"}
    suffix = Path(path).suffix
    if suffix not in formats:
        raise ValueError(f"save(): path must end in {', '.join(formats)}, or name the format, got {name!r}")
    return formats[suffix]


def named_splits(pattern: str, *, gaps: bool) -> tuple[Split, ...]:
    """Return the splits of a named pattern, or of a regular expression.

    Raises:
        ValueError: a word that is no known name (as a regular expression it would match only itself).
    """
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be a str, got {type(pattern).__name__}")
    steps = PATTERNS.get(pattern)
    if steps is None:
        if pattern.replace(".", "").replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"pattern must be a regular expression or one of {', '.join(PATTERNS)}, got {pattern!r}")
        steps = pattern
    return tuple(Split(step, gaps) for step in ((steps,) if isinstance(steps, str) else steps))


def _sniff(data: bytes) -> tuple[str, Any]:
    """The format, and the parsed value where that had to be made to know it."""
    if data.startswith(MAGIC):
        return "fbpe", None
    if data.lstrip().startswith((b"{", b"[", b"\xef\xbb\xbf")):
        return _sniff_json(parse_json(data))
    if tiktoken.looks_like(data):
        return "tiktoken", None
    kinds = {b"GGUF": "a GGUF file", b"\n": "a SentencePiece model", b"minbpe": "a minbpe model", b"\x80": "a pickle"}
    for start, kind in kinds.items():
        if data.startswith(start):
            raise UnsupportedError(f"looks like {kind}, which is not supported: convert it to tokenizer.json")
    if data.startswith(b"#version") or _is_merge(data):
        return "gpt2", None
    raise VocabularyError(f"{'not of a known format' if data else 'the file is empty'} ({', '.join(FORMATS)})")


def _sniff_json(value: Any) -> tuple[str, Any]:
    if isinstance(value, dict) and "model" in value and not isinstance(value["model"], int):
        return "tokenizer.json", value
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        raise UnsupportedError("looks like tekken.json, which is not supported")
    if isinstance(value, dict) and all(isinstance(id, int) for id in value.values()):
        return "gpt2", None
    raise VocabularyError("is JSON, but neither a tokenizer.json (no model) nor a vocab.json (not only integers)")


def _is_merge(data: bytes) -> bool:
    """Whether the first line is two words of which the second is no rank."""
    words = data[:1024].partition(b"\n")[0].split()
    return len(words) == 2 and not words[1].isdigit()


def _pair(data: bytes, path: str | None) -> tuple[bytes, bytes]:
    """vocab.json and merges.txt, one of which is data; the other lies beside it."""
    if path is None:
        raise VocabularyError("vocab.json and merges.txt are read together: pass the path of one of them")
    is_vocab = data.lstrip().startswith(b"{")
    folder, name = os.path.split(path)
    others = [pair[is_vocab] for pair in _PAIRS if name == pair[not is_vocab]]
    others = others or [pair[is_vocab] for pair in _PAIRS]
    other = next((other for other in others if os.path.isfile(os.path.join(folder, other))), None)
    if other is None:
        raise VocabularyError(f"read together with {' or '.join(others)}, which does not lie beside it")
    beside = _read_regular(os.path.join(folder, other))
    return (data, beside) if is_vocab else (beside, data)


def _read_regular(path: str) -> bytes:
    """The bytes of a regular file; a pipe or device is never opened, as that could block."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise VocabularyError("not a regular file", path=path)
    if status.st_size > MAX_FILE:
        raise LimitError(f"{status.st_size} bytes are more than {MAX_FILE}", path=path)
    return Path(path).read_bytes()


def _check_published(data: bytes, path: str | None) -> None:
    """Refuse a file with a published name and other content: cut files are read as other vocabularies otherwise."""
    name = "" if path is None else os.path.basename(path)
    if name in SOURCES and hashlib.sha256(data).hexdigest() != SOURCES[name]:
        raise VocabularyError(f"not the published {name}: cut or changed; rename it to read it as another vocabulary")
