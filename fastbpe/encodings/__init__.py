"""The bundled vocabularies of OpenAI's tiktoken and the names they go by; see LICENSES.md.

`python -m fastbpe.encodings.build DIR` makes the data files from the published .tiktoken files.  Each is a zlib stream
of little-endian arrays, so that loading makes no object for a token:

    u32 number of tokens | u32 number of runs of ids | u32 pairs: first id and length of each run
    | u8 length of each token, in the order of ids | u8 length of its left part (PackedVocab.lefts) | all tokens, joined
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from fastbpe.core.packed import PackedVocab
from fastbpe.errors import VocabularyError
from fastbpe.pattern.named import CL100K, O200K, R50K
from fastbpe.spec import AddedToken, Split, TokenizerSpec

# sha256 of the published files, as tiktoken 0.14 checks them.
SOURCES: Mapping[str, str] = MappingProxyType(
    {
        "r50k_base.tiktoken": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
        "p50k_base.tiktoken": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
        "cl100k_base.tiktoken": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        "o200k_base.tiktoken": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    }
)

# Data file: bytes and sha256 once decompressed (the compressed bytes depend on the zlib that made them).
_DATA = {
    "r50k_base": (421342, "a9256dbef3aaed5d0383d080cacc92b1f5c060c3f0bed067463263fd6eb6237f"),
    "p50k_base": (421722, "ca9987e1dabc1a551a9867a5a6760f0f4524ba652a5399bc66877bcb3e854838"),
    "cl100k_base": (844358, "b9c2cd96f18b05f6c3d5505996b601679c8a3bf4c40019d33899edc0ac5c7955"),
    "o200k_base": (1797682, "2e910909cb8d588e5f70d28ffac0ff3db4ddca5b90b1f9e33e1e646848c07423"),
}

_ENDOFTEXT = "<|endoftext|>"
_FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
_ENDOFPROMPT = "<|endofprompt|>"


class _Encoding(NamedTuple):
    data: str
    pattern: str
    special_tokens: dict[str, int]


def _harmony_tokens() -> dict[str, int]:
    """o200k_harmony's; the id 200018 has two names, of which decoding gives the first."""
    named = {
        "<|startoftext|>": 199998,
        _ENDOFTEXT: 199999,
        "<|return|>": 200002,
        "<|constrain|>": 200003,
        "<|channel|>": 200005,
        "<|start|>": 200006,
        "<|end|>": 200007,
        "<|message|>": 200008,
        "<|call|>": 200012,
    }
    reserved = (id for id in range(200000, 201088) if id not in named.values())
    return named | {_ENDOFPROMPT: 200018} | {f"<|reserved_{id}|>": id for id in reserved}


_ENCODINGS = {
    "gpt2": _Encoding("r50k_base", R50K, {_ENDOFTEXT: 50256}),
    "r50k_base": _Encoding("r50k_base", R50K, {_ENDOFTEXT: 50256}),
    "p50k_base": _Encoding("p50k_base", R50K, {_ENDOFTEXT: 50256}),
    "p50k_edit": _Encoding("p50k_base", R50K, {_ENDOFTEXT: 50256, **dict(zip(_FIM, range(50281, 50284)))}),
    "cl100k_base": _Encoding(
        "cl100k_base", CL100K, {_ENDOFTEXT: 100257, **dict(zip(_FIM, range(100258, 100261))), _ENDOFPROMPT: 100276}
    ),
    "o200k_base": _Encoding("o200k_base", O200K, {_ENDOFTEXT: 199999, _ENDOFPROMPT: 200018}),
    "o200k_harmony": _Encoding("o200k_base", O200K, _harmony_tokens()),
}

NAMES = tuple(_ENCODINGS)

# tiktoken 0.14's tables.  The first matching prefix counts.
MODEL_PREFIX_TO_ENCODING: Mapping[str, str] = MappingProxyType(
    {
        "o1-": "o200k_base",
        "o3-": "o200k_base",
        "o4-mini-": "o200k_base",
        "gpt-5": "o200k_base",
        "gpt-4.5-": "o200k_base",
        "gpt-4.1-": "o200k_base",
        "chatgpt-4o-": "o200k_base",
        "gpt-4o-": "o200k_base",
        "gpt-4-": "cl100k_base",
        "gpt-3.5-turbo-": "cl100k_base",
        "gpt-35-turbo-": "cl100k_base",
        "gpt-oss-": "o200k_harmony",
        "ft:gpt-4o": "o200k_base",
        "ft:gpt-4": "cl100k_base",
        "ft:gpt-3.5-turbo": "cl100k_base",
        "ft:davinci-002": "cl100k_base",
        "ft:babbage-002": "cl100k_base",
    }
)

MODEL_TO_ENCODING: Mapping[str, str] = MappingProxyType(
    {
        "o1": "o200k_base",
        "o3": "o200k_base",
        "o4-mini": "o200k_base",
        "gpt-5": "o200k_base",
        "gpt-4.1": "o200k_base",
        "gpt-4o": "o200k_base",
        "gpt-4": "cl100k_base",
        "gpt-3.5-turbo": "cl100k_base",
        "gpt-3.5": "cl100k_base",
        "gpt-35-turbo": "cl100k_base",
        "davinci-002": "cl100k_base",
        "babbage-002": "cl100k_base",
        "text-embedding-ada-002": "cl100k_base",
        "text-embedding-3-small": "cl100k_base",
        "text-embedding-3-large": "cl100k_base",
        "text-davinci-003": "p50k_base",
        "text-davinci-002": "p50k_base",
        "text-davinci-001": "r50k_base",
        "text-curie-001": "r50k_base",
        "text-babbage-001": "r50k_base",
        "text-ada-001": "r50k_base",
        "davinci": "r50k_base",
        "curie": "r50k_base",
        "babbage": "r50k_base",
        "ada": "r50k_base",
        "code-davinci-002": "p50k_base",
        "code-davinci-001": "p50k_base",
        "code-cushman-002": "p50k_base",
        "code-cushman-001": "p50k_base",
        "davinci-codex": "p50k_base",
        "cushman-codex": "p50k_base",
        "text-davinci-edit-001": "p50k_edit",
        "code-davinci-edit-001": "p50k_edit",
        "text-similarity-davinci-001": "r50k_base",
        "text-similarity-curie-001": "r50k_base",
        "text-similarity-babbage-001": "r50k_base",
        "text-similarity-ada-001": "r50k_base",
        "text-search-davinci-doc-001": "r50k_base",
        "text-search-curie-doc-001": "r50k_base",
        "text-search-babbage-doc-001": "r50k_base",
        "text-search-ada-doc-001": "r50k_base",
        "code-search-babbage-code-001": "r50k_base",
        "code-search-ada-code-001": "r50k_base",
        "gpt2": "gpt2",
        "gpt-2": "gpt2",
    }
)


@cache
def spec(name: str) -> TokenizerSpec:
    """Return the definition of a bundled encoding; made once for each name.

    Raises:
        ValueError: no encoding has this name.
        VocabularyError: a data file of the installation is damaged.
    """
    encoding = _ENCODINGS.get(name)
    if encoding is None:
        raise ValueError(f"get_encoding(): name must be one of {', '.join(NAMES)}, got {name!r}")
    return TokenizerSpec(
        name=name,
        splits=(Split(encoding.pattern, gaps=False),),
        vocab=_vocab(encoding.data),
        added_tokens=tuple(AddedToken(content, id) for content, id in encoding.special_tokens.items()),
    )


@cache
def _vocab(data: str) -> PackedVocab:
    path = Path(__file__).with_name(f"{data}.bin")
    size, sha256 = _DATA[data]
    try:
        unpacked = zlib.decompressobj().decompress(path.read_bytes(), size + 1)
    except zlib.error as error:
        raise VocabularyError(f"damaged, install fastbpe again: {error}", path=str(path)) from None
    if len(unpacked) != size or hashlib.sha256(unpacked).hexdigest() != sha256:
        raise VocabularyError("not the content that was published, install fastbpe again", path=str(path))
    n_tokens, n_runs = np.frombuffer(unpacked, "<u4", 2).tolist()
    runs = np.frombuffer(unpacked, "<u4", 2 * n_runs, 8).reshape(-1, 2).tolist()
    place = 8 + 8 * n_runs
    offsets = np.zeros(n_tokens + 1, dtype=np.uint32)
    np.cumsum(np.frombuffer(unpacked, np.uint8, n_tokens, place), out=offsets[1:])
    lefts = np.frombuffer(unpacked, np.uint8, n_tokens, place + n_tokens)
    ids = np.concatenate([np.arange(first, first + length, dtype=np.uint32) for first, length in runs])
    return PackedVocab(ids, offsets, unpacked[place + 2 * n_tokens :], lefts)


def name_for_model(model: str) -> str:
    """Return the name of the encoding that a model uses.

    Raises:
        KeyError: neither the name nor a known beginning of it is in tiktoken's tables.
    """
    if model in MODEL_TO_ENCODING:
        return MODEL_TO_ENCODING[model]
    for prefix, name in MODEL_PREFIX_TO_ENCODING.items():
        if model.startswith(prefix):
            return name
    raise KeyError(f"no encoding is known for the model {model!r}: name the encoding, one of {', '.join(NAMES)}")
