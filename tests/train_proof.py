"""`make train-proof`: training against the quadratic definition and against the owners of its rules, merge for merge.

`huggingface`: tokenizers, fed documents.  `smallest_id`: rustbpe and bpeasy, where installed (their tokens, as they
give no merges).  `first_seen`: the educational trainer of tiktoken, which is quadratic, on the beginning of each text.
And what 32-bit counts make of a pair that occurs more often than they hold.

    python -m tests.train_proof [--data FOLDER] [--corpora N]
    python -m tests.train_proof --overflow

Prints documents, bytes, merges and differences; exits 1 if there is one.  FOLDER holds texts (*.txt, *.txt.xz, their
documents separated by lines `<|endoftext|>`); without it the bundled novel is taken.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import random
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import tokenizers

import fastbpe
from fastbpe import core
from fastbpe.core.train_python import Start, byte_order
from fastbpe.pattern.named import GPT2
from tests.bpe_definition import join_everywhere, quadratic_merges
from tests.conftest import NOVEL, read_documents
from tests.reference import byte_letters, huggingface_trained

RULES = ("lexicographic", "huggingface", "smallest_id", "first_seen")
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
        firsts = np.arange(len(counts), dtype=np.uint64)
        longest, in_characters = r.choice([None, None, 1, 3, 9]), r.random() < 0.5
        expected = quadratic_merges(counts, wanted, rule, least, longest, in_characters)
        found = train_merges(
            list(counts), list(counts.values()), wanted, rule, least,
            firsts=firsts, max_length=longest, in_characters=in_characters, threads=2,
        )  # fmt: skip
        different += found != expected
        n_words, n_bytes = n_words + len(counts), n_bytes + sum(map(len, counts))
        n_merges += len(expected)
    print(
        f"definition, {backend}, {rule}: {n_corpora:,} random corpora, {n_words:,} pretokens, {n_bytes:,} bytes, "
        f"{n_merges:,} merges: {different} differences",
        flush=True,
    )
    return different


def superwords_against_the_definition(backend: str, rule: str, n_corpora: int) -> int:
    """Train second stages of SuperBPE on random texts; return the number of differing ones."""
    train_merges = core.backend_modules(backend).train_merges
    r = random.Random(f"superwords, {rule} of {backend}")
    n_bytes = n_merges = different = 0
    for _ in range(n_corpora):
        weights = [r.randrange(1, 6) for _ in "ab: \n\xe9"]
        texts = ["".join(r.choices("ab: \n\xe9", weights, k=r.choice([1, 3, 9, 60]))) for _ in range(r.randrange(25))]
        counts = {text.encode(): r.randrange(r.choice([2, 9, 2**20])) for text in texts}
        words = {word: count for text, count in counts.items() for word in text.split()}
        first = quadratic_merges(words, r.choice([0, 2, 10]), rule)
        tokens = [bytes([value]) for value in byte_order(rule)] + [left + right for left, right in first]
        sentences = [([bytes([value]) for value in text], 1) for text in counts]
        for pair in first:
            join_everywhere(sentences, pair)
        numbers = [tokens.index(token) for sentence, _ in sentences for token in sentence]
        offsets = np.cumsum([0, *(len(sentence) for sentence, _ in sentences)])
        wanted, max_words = r.choice([3, 40, 200]), r.choice([1, 2, 4])
        found = train_merges(
            list(counts), list(counts.values()), wanted, rule, 1, max_words=max_words, threads=2,
            start=Start(tokens, offsets, np.array(numbers, dtype=np.uint32)),
            firsts=np.arange(len(counts), dtype=np.uint64),
        )  # fmt: skip
        expected = quadratic_merges(counts, wanted, rule, max_words=max_words, first=first)
        different += found != expected
        n_bytes, n_merges = n_bytes + sum(map(len, counts)), n_merges + len(expected)
    print(
        f"superwords, {backend}, {rule}: {n_corpora:,} random corpora, {n_bytes:,} bytes, {n_merges:,} merges after "
        f"those of the first stage: {different} differences",
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


def against_smallest_id(name: str, documents: list[str], vocab_size: int) -> int:
    """Train rustbpe and bpeasy as well; return the number of tokens that differ."""
    ours = fastbpe.train_from_iterator(documents, vocab_size, tie_break="smallest_id")
    expected = list(ours.vocab)
    different = 0
    for peer in ("rustbpe", "bpeasy"):
        if find_spec(peer) is None:
            print(f"{peer} is not installed")
            continue
        module = importlib.import_module(peer)
        if peer == "rustbpe":
            trained = module.Tokenizer()
            trained.train_from_iterator(iter(documents), vocab_size, pattern=GPT2)
            ranks = {bytes(token): rank for token, rank in trained.get_mergeable_ranks()}
        else:
            ranks = module.train_bpe(iter(documents), GPT2, 1 << 16, vocab_size)
        theirs = sorted(ranks, key=ranks.__getitem__)
        wrong = sum(x != y for x, y in zip(expected, theirs)) + abs(len(expected) - len(theirs))
        print(f"{peer}, {name}: {len(theirs):,} tokens: {wrong} differences", flush=True)
        different += wrong
    return different


def against_first_seen(name: str, documents: list[str]) -> int:
    """Train the educational trainer of tiktoken as well; return the number of tokens that differ."""
    from tiktoken._educational import bpe_train

    text = "".join(documents)[:60_000]
    theirs = list(bpe_train(text, 556, GPT2, visualise=None))
    ours = list(fastbpe.train_from_iterator([text], 556, tie_break="first_seen").vocab)
    wrong = sum(x != y for x, y in zip(ours, theirs)) + abs(len(ours) - len(theirs))
    print(f"tiktoken's educational trainer, {name}: {len(theirs):,} tokens: {wrong} differences", flush=True)
    return wrong


def past_32_bits() -> int:
    """A pair that occurs 2**32 + 1 times is the most frequent; to a 32-bit counter it would occur once."""
    counts = {b"ab": 2**32 + 1, b"cd": 1000, b"abcd": 3}
    merges = fastbpe.train_from_counts(counts, 258, tie_break="huggingface").merges
    wrapped = {word: count % 2**32 for word, count in counts.items()}
    print(
        f"2**32 + 1 times 'ab': first merge {merges[0]}; with 32-bit counts {quadratic_merges(wrapped, 1, RULES[1])[0]}"
    )
    return merges != ((b"a", b"b"), (b"c", b"d"))


def more_pairs_than_31_bits() -> int:
    """Feed `tokenizers` and fastbpe 2.1 GB in which one pair occurs 2**31 times and more."""
    text = (" " + "a" * 65_535) * 16
    n = 2**31 // (16 * 65_534) + 1
    ours = fastbpe.count_pretokens_from_iterator([text], weights=[n], pattern="gpt2")
    mine = fastbpe.train_from_counts(ours, 257, tie_break="huggingface").merges
    theirs = tokenizers_merges(itertools.repeat(text, n), 257)
    print(f"'aa' {n * 16 * 65_534} times, ' a' {n * 16} times: first merge {mine[0]}; tokenizers: {theirs[0]}")
    return mine != ((b"a", b"a"),)


def tokenizers_merges(documents: Iterable[str], vocab_size: int) -> Merges:
    """Return the merges that `tokenizers` learns, fed documents, with all bytes in its alphabet."""
    byte_of = byte_letters()
    merges = json.loads(huggingface_trained(documents, vocab_size).to_str())["model"]["merges"]
    return [(bytes(map(byte_of.__getitem__, left)), bytes(map(byte_of.__getitem__, right))) for left, right in merges]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.train_proof", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of *.txt or *.txt.xz; default: the bundled novel")
    parser.add_argument("--corpora", type=int, default=2000, help="random corpora for each rule and backend")
    parser.add_argument("--vocab-size", type=int, default=8000)
    parser.add_argument("--overflow", action="store_true", help="only: 2**31 pairs of a kind, to both; some minutes")
    options = parser.parse_args(arguments)
    if options.overflow:
        return more_pairs_than_31_bits()
    files = [NOVEL] if options.data is None else sorted({*options.data.glob("*.txt"), *options.data.glob("*.txt.xz")})
    if not files:
        parser.error(f"--data: {options.data} has no *.txt and no *.txt.xz")
    different = 0
    for backend in dict.fromkeys([fastbpe.backend(), "python"]):
        for rule in RULES:
            different += against_the_definition(backend, rule, options.corpora)
            different += superwords_against_the_definition(backend, rule, options.corpora)
    for file in files:
        documents = read_documents(file)
        different += against_tokenizers(file.name, documents, options.vocab_size)
        different += against_smallest_id(file.name, documents, options.vocab_size)
        different += against_first_seen(file.name, documents)
    different += past_32_bits()
    print(f"{different} differences")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
