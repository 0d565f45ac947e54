"""One library at work in a process of its own: `python -m benchmarks.rivals JOB`, for benchmarks.peers.

JOB is a JSON file: the library, the encoding, a task and its texts.  Prints JSON.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Rival(NamedTuple):
    """What is called.  Every function takes one text or one list of ids; special tokens are ordinary text."""

    leanest: Callable[[str], Any]  # the cheapest form of ids that the library has
    listed: Callable[[str], list[int]]
    decode: Callable[[list[int]], Any]


def _fastbpe(encoding: str, files: Path) -> Rival:
    import fastbpe

    tok = fastbpe.get_encoding(encoding)
    return Rival(lambda text: tok.encode_to_numpy(text, disallowed_special=()), tok.encode_ordinary, tok.decode)


def _gigatoken(encoding: str, files: Path) -> Rival:
    import gigatoken

    named = "r50k" if encoding in ("gpt2", "r50k_base", "p50k_base") else encoding.removesuffix("_base")
    tok = gigatoken.Tokenizer.from_tiktoken(files / f"{encoding}.tiktoken", pretokenizer=named)
    return Rival(lambda text: tok.encode(text), lambda text: tok.encode(text).tolist(), tok.decode)


def _fastokens(encoding: str, files: Path) -> Rival:
    import fastokens

    tok = fastokens.Tokenizer.from_tiktoken(str(files / f"{encoding}.tiktoken"), encoding=encoding)
    return Rival(tok.encode_ordinary, lambda text: _ids(tok.encode_ordinary(text)), tok.decode)


def _ids(encoded: Any) -> list[int]:
    return getattr(encoded, "ids", encoded)  # type: ignore[no-any-return]


def _quicktok(encoding: str, files: Path) -> Rival:
    import quicktok

    tok = quicktok.get_encoding(encoding)
    return Rival(tok.encode_ordinary, tok.encode_ordinary, tok.decode)


def _toktok(encoding: str, files: Path) -> Rival:
    import toktok

    tok = toktok._encoding(encoding)
    return Rival(lambda text: tok.encode_to_numpy(text, disallowed_special=()), tok.encode_ordinary, tok.decode)


def _splintr(encoding: str, files: Path) -> Rival:
    import splintr

    tok = splintr.Tokenizer.from_pretrained(encoding)
    return Rival(tok.encode_ordinary, tok.encode_ordinary, tok.decode)


def _tuetoken(encoding: str, files: Path) -> Rival:
    import tuetoken

    tok = tuetoken.Tokenizer(str(files / f"{encoding}.json"))
    return Rival(lambda text: tok.encode_ordinary_to_buffer([text], 1)[0], tok.encode_ordinary, tok.decode)


def _tokenizers(encoding: str, files: Path) -> Rival:
    import tokenizers

    tok = tokenizers.Tokenizer.from_file(str(files / f"{encoding}.json"))
    return Rival(tok.encode, lambda text: tok.encode(text).ids, tok.decode)


def _tiktoken(encoding: str, files: Path) -> Rival:
    from tests.reference import tiktoken_encoding

    tok = tiktoken_encoding(encoding)
    return Rival(tok.encode_ordinary, tok.encode_ordinary, tok.decode)


# By the name of the package that is installed.
RIVALS: dict[str, Callable[[str, Path], Rival]] = {
    "fastbpe-cython": _fastbpe,
    "gigatoken": _gigatoken,
    "fastokens": _fastokens,
    "tokenizers": _tokenizers,
    "quicktok-v1": _quicktok,
    "toktok-rs": _toktok,
    "splintr-rs": _splintr,
    "tuetoken": _tuetoken,
    "tiktoken": _tiktoken,
}


def as_bytes(ids: Any) -> bytes:
    """Return ids in any form as little-endian uint32."""
    return ids if isinstance(ids, bytes) else np.asarray(_ids(ids)).astype("<u4").tobytes()


def peak() -> float:
    """The greatest resident size of this process so far, in MB."""
    status = Path("/proc/self/status")  # getrusage() on Linux counts the process before exec as well
    if status.exists():
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def rate(make: Callable[[], Rival], texts: list[str]) -> dict[str, Any]:
    """CPU seconds of *start* (import, load and one short call), *first* (the first half of the texts, right after),
    *next* (the second half, unseen as well), *again* (the better of two more passes); the sha256 of all ids."""
    seconds: dict[str, float] = {}

    def timed(documents: list[str]) -> float:
        begin = time.process_time()
        for text in documents:
            encode(text)
        return time.process_time() - begin

    before, begin = peak(), time.process_time()
    encode = make().leanest
    encode("hello world")
    seconds["start"] = time.process_time() - begin
    half = len(texts) // 2
    seconds["first"] = timed(texts[:half])
    seconds["next"] = timed(texts[half:])
    seconds["again"] = min(timed(texts), timed(texts))
    memory = peak() - before
    digest = hashlib.sha256()
    for text in texts:
        digest.update(as_bytes(encode(text)))
    return {"seconds": seconds, "megabytes": memory, "sha256": digest.hexdigest()}


def latency(make: Callable[[], Rival], texts: list[str]) -> dict[str, Any]:
    """Microseconds of a call that returns a list: one text again and again, and texts that are new."""
    encode = make().listed
    encode("hello world")
    begin = time.perf_counter()
    for text in texts:
        encode(text)
    fresh = (time.perf_counter() - begin) / len(texts)
    text, repeated = texts[0], []
    calls = max(20, 20_000 // max(len(text), 1))
    for _ in range(7):
        begin = time.perf_counter()
        for _ in range(calls):
            encode(text)
        repeated.append((time.perf_counter() - begin) / calls)
    return {"seconds": {"fresh": fresh, "repeated": min(repeated)}}


def decode(make: Callable[[], Rival], texts: list[str]) -> dict[str, Any]:
    """CPU seconds of turning the ids of the texts, as lists, back into text; the best of three passes."""
    rival = make()
    lists = [list(map(int, rival.listed(text))) for text in texts]
    passes = []
    for _ in range(3):
        begin = time.process_time()
        for ids in lists:
            rival.decode(ids)
        passes.append(time.process_time() - begin)
    return {"seconds": {"decode": min(passes)}}


TASKS = {"rate": rate, "latency": latency, "decode": decode}


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    make = RIVALS[job["rival"]]
    print(json.dumps(TASKS[job["task"]](lambda: make(job["encoding"], Path(job["files"])), job["texts"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
