"""`make train-proof`: training against the quadratic definition and against `tokenizers`, merge for merge.

    python -m tests.train_proof [--data FOLDER] [--corpora N]

Prints documents, bytes, merges and differences; exits 1 if there is one.  FOLDER holds texts (*.txt, *.txt.xz, their
documents separated by lines `<|endoftext|>`); without it the bundled novel is taken.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import tokenizers

import fastbpe
from fastbpe import core
from tests.bpe_definition import quadratic_merges
from tests.conftest import NOVEL, read_documents
from tests.reference import byte_letters, huggingface_trained

RULES = ("lexicographic", "huggingface", "smallest_id")
Merges = Sequence[tuple[bytes, bytes]]


def random_counts(r: random.Random) -> dict[bytes, int]:
    """A corpus of few letters and widely differing counts, so that ties, overlaps and rebuilds abound."""
    letters = bytes(r.sample(r.choice([b"\0\xff", b"abcdefgh", bytes(range(256))]), r.choice([1, 2])))
    letters += bytes(r.choices(range(256), k=r.choice([0, 0, 1, 2, 6, 250])))
    heaviest = r.choice([2, 3, 10, 1000, 2**17, 2**40])
    lengths = [1, 2, 3, 5, 8, 13, r.randrange(80)]
    return {bytes(r.choices(letters, k=r.choice(lengths))): r.randrange(heaviest) for _ in range(r.randrange(30))}


def against_the_definition(backend: str, rule: str, n_corpora: int) -> int:
    """Train on random corpora; return the number of differing ones."""
    train_merges = core.backend_modules(backend).train_merges
    r = random.Random(f"{rule} of {backend}")
    n_words = n_bytes = n_merges = different = 0
    for _ in range(n_corpora):
        counts = random_counts(r)
        wanted, least = r.choice([1, 3, 10, 40, 200]), r.choice([1, 1, 1, 2, 50])
        expected = quadratic_merges(counts, wanted, rule, least)
        different += train_merges(list(counts), list(counts.values()), wanted, rule, least) != expected
        n_words, n_bytes = n_words + len(counts), n_bytes + sum(map(len, counts))
        n_merges += len(expected)
    print(
        f"definition, {backend}, {rule}: {n_corpora:,} random corpora, {n_words:,} pretokens, {n_bytes:,} bytes, "
        f"{n_merges:,} merges: {different} differences",
        flush=True,
    )
    return different


def against_tokenizers(name: str, documents: list[str], vocab_size: int) -> int:
    """Train both on the documents; return the number of differing places in the merge lists."""
    start = time.perf_counter()
    ours: Merges = fastbpe.train_from_iterator(documents, vocab_size, tie_break="huggingface").merges or ()
    middle = time.perf_counter()
    theirs = tokenizers_merges(documents, vocab_size)
    end = time.perf_counter()
    different = sum(x != y for x, y in zip(ours, theirs)) + abs(len(ours) - len(theirs))
    first = next((index for index, (x, y) in enumerate(zip(ours, theirs)) if x != y), None)
    print(
        f"tokenizers {tokenizers.__version__}, {name}: {len(documents):,} documents, "
        f"{sum(len(text.encode()) for text in documents):,} bytes, {len(ours):,} merges: {different} differences"
        f"{'' if first is None else f', the first at {first}'} ({middle - start:.2f} s against {end - middle:.2f} s)",
        flush=True,
    )
    return different


def tokenizers_merges(documents: list[str], vocab_size: int) -> Merges:
    """Return the merges that `tokenizers` learns, fed documents, with all bytes in its alphabet."""
    byte_of = byte_letters()
    merges = json.loads(huggingface_trained(documents, vocab_size).to_str())["model"]["merges"]
    return [(bytes(map(byte_of.__getitem__, left)), bytes(map(byte_of.__getitem__, right))) for left, right in merges]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.train_proof", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of *.txt or *.txt.xz; default: the bundled novel")
    parser.add_argument("--corpora", type=int, default=2000, help="random corpora for each rule and backend")
    parser.add_argument("--vocab-size", type=int, default=8000)
    options = parser.parse_args(arguments)
    files = [NOVEL] if options.data is None else sorted({*options.data.glob("*.txt"), *options.data.glob("*.txt.xz")})
    if not files:
        parser.error(f"--data: {options.data} has no *.txt and no *.txt.xz")
    different = 0
    for backend in dict.fromkeys([fastbpe.backend(), "python"]):
        for rule in RULES:
            different += against_the_definition(backend, rule, options.corpora)
    for file in files:
        different += against_tokenizers(file.name, read_documents(file), options.vocab_size)
    print(f"{different} differences")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
