"""Encoders of other libraries, each timed in its own process: `python -m benchmarks.rivals NAME ENCODING DOCUMENTS`.

DOCUMENTS is a JSON list of texts.  One call a document, `str` in, special tokens as ordinary text, ids out in the
leanest form that the library has.  Prints JSON: CPU seconds of *start* (import, load and a first short call), *first*
(the first half of the documents, unseen, right after), *next* (the second half, unseen), *again* (the second of two
more passes over all), and the sha256 of all ids, taken after the timing.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Encode = Callable[[str], Any]

def _fastbpe(encoding: str, _: Path) -> Encode:
    import fastbpe

    encode = fastbpe.get_encoding(encoding).encode_to_numpy
    return lambda text: encode(text, disallowed_special=())


def _gigatoken(encoding: str, ranks: Path) -> Encode:
    import gigatoken

    named = "r50k" if encoding in ("gpt2", "r50k_base", "p50k_base") else encoding.removesuffix("_base")
    tokenizer = gigatoken.Tokenizer.from_tiktoken(ranks, pretokenizer=named)
    return lambda text: tokenizer.encode(text.encode())


def _fastokens(encoding: str, ranks: Path) -> Encode:
    import fastokens

    encode = fastokens.Tokenizer.from_tiktoken(str(ranks), encoding=encoding).encode_ordinary
    return lambda text: encode(text)


def _quicktok(encoding: str, _: Path) -> Encode:
    import quicktok

    return quicktok.get_encoding(encoding).encode_ordinary  # type: ignore[no-any-return]


def _toktok(encoding: str, _: Path) -> Encode:
    import toktok

    return toktok._encoding(encoding).encode_ordinary  # type: ignore[no-any-return]


def _splintr(encoding: str, _: Path) -> Encode:
    import splintr

    return splintr.Tokenizer.from_pretrained(encoding).encode_ordinary  # type: ignore[no-any-return]


def _tiktoken(encoding: str, _: Path) -> Encode:
    from tests.reference import tiktoken_encoding

    return tiktoken_encoding(encoding).encode_ordinary  # type: ignore[no-any-return]


MAKERS: dict[str, Callable[[str, Path], Encode]] = {
    "fastbpe": _fastbpe,
    "gigatoken": _gigatoken,
    "fastokens": _fastokens,
    "quicktok": _quicktok,
    "toktok": _toktok,
    "splintr": _splintr,
    "tiktoken": _tiktoken,
}


def ids_of(result: Any) -> bytes:
    """Return ids in any form as little-endian uint32."""
    import numpy as np

    if isinstance(result, bytes):
        return result
    return np.asarray(getattr(result, "ids", result)).astype("<u4").tobytes()


def measure(name: str, encoding: str, ranks: Path, texts: list[str]) -> dict[str, Any]:
    """Time one library in this process."""
    seconds: dict[str, float] = {}
    clock = time.process_time

    def timed(stage: str, documents: list[str]) -> None:
        begin = clock()
        for text in documents:
            encode(text)
        seconds[stage] = clock() - begin

    begin = clock()
    encode = MAKERS[name](encoding, ranks)
    encode("hello world")
    seconds["start"] = clock() - begin
    half = len(texts) // 2
    timed("first", texts[:half])
    timed("next", texts[half:])
    timed("again", texts)
    timed("again", texts)
    digest = hashlib.sha256()
    for text in texts:
        digest.update(ids_of(encode(text)))
    return {"seconds": seconds, "sha256": digest.hexdigest()}


def main() -> int:
    name, encoding, documents = sys.argv[1:]
    texts = json.loads(Path(documents).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        ranks = Path(folder) / f"{encoding}.tiktoken"
        if name in ("gigatoken", "fastokens"):  # they read rank files
            import fastbpe

            fastbpe.get_encoding(encoding).save(ranks)
        print(json.dumps(measure(name, encoding, ranks, texts)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
