"""The libraries, each at work in a process of its own: `python -m benchmarks.rivals RIVAL ENCODING FILES`.

benchmarks.workers starts it and writes jobs to its standard input, a line of JSON each: a task, the file of its texts,
options.  Every job is answered by a line of JSON.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import json
import os
import resource
import sys
import time
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

OURS = "fastbpe-cython"
FAMILIES = ("llama3", "qwen3")  # encodings whose files the user gives


class Rival(NamedTuple):
    """What is called.  Special tokens are ordinary text throughout."""

    listed: Callable[[str], list[int]]
    leanest: Callable[[str], Any]  # the cheapest form of ids that the library has
    array: Callable[[str], Any] | None  # a numpy array, or bytes that hold one
    decode: Callable[[list[int]], Any]
    batch: Callable[[list[str], int], Any]  # texts and threads; where it takes none, RAYON_NUM_THREADS is set


def _fastbpe(encoding: str, files: Path) -> Rival:
    import fastbpe

    tok = fastbpe.load(files / f"{encoding}.json") if encoding in FAMILIES else fastbpe.get_encoding(encoding)

    def array(text: str) -> Any:
        return tok.encode_to_numpy(text, disallowed_special=())

    def batch(texts: list[str], threads: int) -> Any:
        return tok.encode_batch_to_numpy(texts, threads=threads, disallowed_special=())

    return Rival(tok.encode_ordinary, array, array, tok.decode, batch)


def _gigatoken(encoding: str, files: Path) -> Rival:
    import gigatoken

    if encoding in FAMILIES:
        tok = gigatoken.Tokenizer(files / f"{encoding}.json")
    else:
        named = "r50k" if encoding in ("gpt2", "r50k_base", "p50k_base") else encoding.removesuffix("_base")
        tok = gigatoken.Tokenizer.from_tiktoken(files / f"{encoding}.tiktoken", pretokenizer=named)
    return Rival(
        lambda text: tok.encode(text).tolist(),
        tok.encode,
        tok.encode,
        tok.decode,
        lambda texts, threads: tok.encode_batch(texts, parallel=threads > 1),
    )


def _fastokens(encoding: str, files: Path) -> Rival:
    import fastokens

    if encoding in ("cl100k_base", "o200k_base"):
        tok = fastokens.Tokenizer.from_tiktoken(str(files / f"{encoding}.tiktoken"), encoding=encoding)
    else:
        tok = fastokens.Tokenizer.from_file(str(files / f"{encoding}.json"))

    def batch(texts: list[str], threads: int) -> Any:
        return tok.encode_batch_flat(texts, split_special_tokens=True)

    return Rival(
        lambda text: tok.encode_ordinary(text).ids,
        tok.encode_ordinary,
        lambda text: batch([text], 1)[0],
        tok.decode,
        batch,
    )


def _tokenizers(encoding: str, files: Path) -> Rival:
    import tokenizers

    tok = tokenizers.Tokenizer.from_file(str(files / f"{encoding}.json"))
    tok.encode_special_tokens = True
    return Rival(
        lambda text: tok.encode(text, add_special_tokens=False).ids,
        lambda text: tok.encode(text, add_special_tokens=False),
        None,
        tok.decode,
        lambda texts, threads: tok.encode_batch_fast(texts, add_special_tokens=False),
    )


def _tokenizers_rc(encoding: str, files: Path) -> Rival:
    import tokenizers

    tok = tokenizers.Tokenizer.from_file(str(files / f"{encoding}.json"))
    ordinary = {"add_special_tokens": False, "encode_special_tokens": True}
    return Rival(
        lambda text: tok.encode(text, **ordinary).ids,
        lambda text: tok.encode(text, **ordinary),
        lambda text: tok.encode(text, **ordinary).ids_array,
        tok.decode,
        lambda texts, threads: tok.encode_batch(texts, **ordinary),
    )


def _quicktok(encoding: str, files: Path) -> Rival:
    import quicktok

    tok = quicktok.get_encoding(encoding)

    def array(text: str) -> Any:
        return tok.encode_batch([text], 1)[0]

    return Rival(tok.encode_ordinary, array, array, tok.decode, tok.encode_batch)


def _toktok(encoding: str, files: Path) -> Rival:
    import toktok

    tok = toktok._encoding(encoding)
    return Rival(
        tok.encode_ordinary,
        lambda text: tok.encode_to_buffer(text, disallowed_special=()),
        lambda text: tok.encode_to_numpy(text, disallowed_special=()),
        tok.decode,
        tok.encode_batch_to_numpy,
    )


def _splintr(encoding: str, files: Path) -> Rival:
    import splintr

    if encoding in ("gpt2", "qwen3"):  # the one it does not have, the other it does not normalize
        tok = splintr.from_json(str(files / f"{encoding}.json"))
    else:
        tok = splintr.Tokenizer.from_pretrained(encoding)
    return Rival(
        tok.encode_ordinary,
        tok.encode_flat,
        tok.encode_flat,
        tok.decode,
        lambda texts, threads: tok.encode_batch_flat(texts),
    )


def _tuetoken(encoding: str, files: Path) -> Rival:
    import tuetoken

    tok = tuetoken.Tokenizer(str(files / f"{encoding}.json"))
    return Rival(
        tok.encode_ordinary,
        tok.encode_to_bytes,
        tok.encode_to_bytes,
        tok.decode,
        lambda texts, threads: tok.encode_ordinary_to_buffer(texts, threads)["data"],
    )


def _tiktoken(encoding: str, files: Path) -> Rival:
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    extra = json.loads((files / f"{encoding}.extra.json").read_text(encoding="utf-8"))
    tok = tiktoken.Encoding(
        encoding,
        pat_str=extra["pattern"],
        mergeable_ranks=load_tiktoken_bpe(str(files / f"{encoding}.tiktoken")),
        special_tokens=extra["special_tokens"],
    )
    if extra["nfc"]:  # as the authors of that model do around tiktoken
        return Rival(
            lambda text: tok.encode_ordinary(_nfc(text)),
            lambda text: tok.encode_ordinary(_nfc(text)),
            lambda text: tok.encode_to_numpy(_nfc(text), disallowed_special=()),
            tok.decode,
            lambda texts, threads: tok.encode_ordinary_batch(list(map(_nfc, texts)), num_threads=threads),
        )
    return Rival(
        tok.encode_ordinary,
        tok.encode_ordinary,
        lambda text: tok.encode_to_numpy(text, disallowed_special=()),
        tok.decode,
        lambda texts, threads: tok.encode_ordinary_batch(texts, num_threads=threads),
    )


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# By the name of the package that is installed: its module, and how it is loaded.
RIVALS: dict[str, tuple[str, Callable[[str, Path], Rival]]] = {
    OURS: ("fastbpe", _fastbpe),
    "gigatoken": ("gigatoken", _gigatoken),
    "fastokens": ("fastokens", _fastokens),
    "tokenizers": ("tokenizers", _tokenizers),
    "tokenizers-rc": ("tokenizers", _tokenizers_rc),  # from a folder of its own
    "quicktok-v1": ("quicktok", _quicktok),
    "toktok-rs": ("toktok", _toktok),
    "splintr-rs": ("splintr", _splintr),
    "tuetoken": ("tuetoken", _tuetoken),
    "tiktoken": ("tiktoken", _tiktoken),
}


def reference(encoding: str) -> str:
    """The library whose ids are right."""
    return "tokenizers" if encoding in FAMILIES else "tiktoken"


def as_bytes(ids: Any) -> bytes:
    """Return the ids of a text or of a batch, in any form, as little-endian uint32."""
    if isinstance(ids, bytes):
        return ids
    if isinstance(ids, tuple):  # flat ids and offsets
        return as_bytes(ids[0])
    if hasattr(ids, "layout"):  # awkward.Array
        ids = ids.layout.content.data
    ids = getattr(ids, "ids", ids)
    if isinstance(ids, list) and ids and not isinstance(ids[0], int):
        return b"".join(map(as_bytes, ids))
    return np.asarray(ids).astype("<u4").tobytes()


def sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def resident(field: str = "VmRSS") -> float:
    """The resident size of this process in MB, without what malloc keeps; VmHWM for the greatest so far."""
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    status = Path("/proc/self/status")  # getrusage() on Linux counts the process before exec as well
    if status.exists():
        return int(status.read_text(encoding="ascii").split(f"{field}:")[1].split()[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


Make = Callable[[], Rival]
Answer = dict[str, Any]


def encoder(rival: Rival, output: str) -> Callable[[str], Any]:
    encode: Callable[[str], Any] | None = getattr(rival, {"list": "listed"}.get(output, output))
    if encode is None:
        raise LookupError(f"has no {output} output")
    return encode


def load(make: Make, texts: list[str], call: bool = True) -> Answer:
    """Load and encode a short text; the resident size then."""
    rival = make()
    if call:
        rival.leanest("hello world")
    return {"resident": resident()}


def ids(make: Make, texts: list[str]) -> Answer:
    """The sha256 of the ids of all texts, from lists."""
    return {"sha256": sha256(as_bytes(make().listed(text)) for text in texts)}


def rate(make: Make, texts: list[str], half: int, output: str = "leanest", threads: int = 0) -> Answer:
    """Seconds of *start* (import, load and one short call), *first* (the first `half` texts, right after),
    *next* (the others, unseen as well), *again* (the better of two more passes over all); the sha256 of all ids.

    Without `threads` one call a text, CPU time; with them one call a part, wall time.
    """
    seconds: dict[str, float] = {}
    clock = time.perf_counter if threads else time.process_time

    def timed(documents: list[str]) -> float:
        begin = clock()
        if threads:
            batch(documents, threads)
        else:
            for text in documents:
                encode(text)
        return clock() - begin

    before, begin = resident("VmHWM"), clock()
    rival = make()
    batch, encode = rival.batch, encoder(rival, output)
    timed(["hello world"])
    seconds["start"] = clock() - begin
    seconds["first"] = timed(texts[:half])
    seconds["next"] = timed(texts[half:])
    seconds["again"] = min(timed(texts), timed(texts))
    memory = resident("VmHWM") - before
    found = [as_bytes(batch(texts, threads))] if threads else (as_bytes(encode(text)) for text in texts)
    return {"seconds": seconds, "megabytes": memory, "sha256": sha256(found)}


def latency(make: Make, texts: list[str], output: str) -> Answer:
    """Seconds of a call: texts that are new, and one text again and again."""
    encode = encoder(make(), output)
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
    return {
        "seconds": {"fresh": fresh, "repeated": min(repeated)},
        "sha256": sha256(as_bytes(encode(text)) for text in texts),
    }


def decode(make: Make, texts: list[str]) -> Answer:
    """CPU seconds of turning the ids of the texts, as lists, back into text, the best of three passes; the sha256
    of what came."""
    rival = make()
    lists = [list(map(int, rival.listed(text))) for text in texts]
    passes = []
    for _ in range(3):
        begin = time.process_time()
        for each in lists:
            rival.decode(each)
        passes.append(time.process_time() - begin)
    found = map(rival.decode, lists)
    return {
        "seconds": {"decode": min(passes)},
        "sha256": sha256(each.encode() if isinstance(each, str) else each for each in found),
    }


def hostile(make: Make, texts: list[str]) -> Answer:
    """CPU seconds of the first call on a text, and of the best of up to 20 more within a fifth of a second."""
    encode, text = make().leanest, texts[0]
    begin = time.process_time()
    found = encode(text)
    new = again = time.process_time() - begin
    spent, calls = 0.0, 0
    while not calls or (spent < 0.2 and calls < 20):
        begin = time.process_time()
        encode(text)
        again = min(again, time.process_time() - begin)
        spent += time.process_time() - begin
        calls += 1
    return {"seconds": {"new": new, "again": again}, "sha256": sha256([as_bytes(found)])}


def import_only(make: Make, texts: list[str]) -> Answer:
    importlib.import_module(RIVALS[sys.argv[1]][0])
    return {"resident": resident()}


def nothing(make: Make, texts: list[str]) -> Answer:
    return {"resident": resident()}


def a_pass(make: Make, texts: list[str]) -> Answer:
    """CPU seconds of one pass, and the sha256 of all ids."""
    encode, seconds, digest = make().leanest, 0.0, hashlib.sha256()
    for text in texts:
        begin = time.process_time()
        found = encode(text)
        seconds += time.process_time() - begin
        digest.update(as_bytes(found))
    return {"seconds": seconds, "sha256": digest.hexdigest()}


def scale(make: Make, texts: list[str], file: str, size: int, skip: int) -> Answer:
    """CPU seconds of texts of `size` bytes each, together 10 MB at least, from a file after its first `skip` bytes,
    which the tokenizer has seen; the bytes read and written."""
    encode, seconds, read, written = make().leanest, 0.0, 0, 0
    with open(file, "rb") as source:
        encode(source.read(skip).decode(errors="ignore"))
        for _ in range(max(1, 10_000_000 // size)):
            text = source.read(size).decode(errors="ignore")  # a character cut at an end is left out
            begin = time.process_time()
            found = encode(text)
            seconds += time.process_time() - begin
            read += size
            written += found.nbytes
    return {"seconds": seconds, "read": read, "written": written}


def copy(make: Make, texts: list[str]) -> Answer:
    """Seconds of copying an array of 256 MB, the best of five."""
    source = np.ones(1 << 25)
    target, passes = np.zeros_like(source), []
    for _ in range(5):
        begin = time.process_time()
        np.copyto(target, source)
        passes.append(time.process_time() - begin)
    return {"seconds": min(passes), "read": source.nbytes, "written": target.nbytes}


TASKS: dict[str, Callable[..., Answer]] = {
    "load": load,
    "ids": ids,
    "rate": rate,
    "latency": latency,
    "decode": decode,
    "hostile": hostile,
    "nothing": nothing,
    "import": import_only,
    "pass": a_pass,
    "scale": scale,
    "copy": copy,
}


def main() -> int:
    rival, encoding, files = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    make = cache(lambda: RIVALS[rival][1](encoding, files))
    for line in sys.stdin:
        job = json.loads(line)
        file = job.pop("texts", None)
        texts = json.loads(Path(file).read_text(encoding="utf-8")) if file else []
        try:
            answer = TASKS[job.pop("task")](make, texts, **job)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        del texts
        print(json.dumps(answer), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
