"""The native modules under AddressSanitizer and UBSan: `make sanitize` builds and runs it.

Every kind of vectors, streams, decoding, hostile sizes and bytes, random vocabularies.  A fault ends the process with a
report; equality is checked on the way.
"""

from __future__ import annotations

import random
import sys

import numpy as np

import fastbpe
from fastbpe import core
from fastbpe.pattern.automaton import compile_split
from tests import test_merge
from tests.corpora import sample_corpora
from tests.hard_text import hard_strings
from tests.test_remember import all_lengths

SIZES = (1, 2, 15, 16, 31, 32, 33, 63, 64, 65, 100, 4095, 4096, 4097, 9000)


def splitters(pattern: str) -> list[core.Splitter]:
    """Return a splitter for each kind of vectors that this processor has, and one without."""
    tables = compile_split(pattern, False)
    found = [core.Splitter(tables, vectors="none")]
    for kind in ("avx512", "avx2", "ssse3", "neon"):
        try:
            found.append(core.Splitter(tables, vectors=kind))
        except ValueError as error:
            print(error)
    return found


def encoders(tok: fastbpe.Tokenizer) -> list[core.Encoder]:
    """Return an encoder for each kind of vectors that this processor has."""
    found = []
    for kind in ("plain", "avx2"):
        try:
            merger = core.Merger(tok.spec.vocab, tok.spec.merges, tok.spec.whole, vectors=kind)
            found.append(core.Encoder(tok._encoder.splitter, merger, vectors=kind))
        except ValueError as error:
            print(error)
    return found


def check(name: str) -> None:
    """Run one encoding over real and hostile text."""
    rng = random.Random(name)
    tok = fastbpe.get_encoding(name)
    ways = splitters(str(tok.pattern))
    sinks = encoders(tok)
    for text in all_lengths(1):
        ids = sinks[0].encode_text(text, None, True)
        assert tok.decode(ids) == text
        for sink in sinks * 2:  # the second time it remembers
            assert sink.encode_text(text, None, True) == ids
    for texts in sample_corpora().values():
        text = "".join(texts)[:100_000]
        data = text.encode()
        first = ways[0].split(data)
        assert all(np.array_equal(first, way.split(data)) for way in ways[1:])
        ids = tok.encode_to_numpy(text, disallowed_special=())
        assert tok.decode_bytes(ids) == data
        step = rng.randint(1, 3000)
        chunks = [text[at : at + step] for at in range(0, len(text), step)]
        streamed = [*tok.iter_encode_batches(chunks, disallowed_special=())]
        assert np.array_equal(np.concatenate(streamed), ids)
    for text in hard_strings(200, seed=3, longest=3000):
        data = text.encode()
        first = ways[0].split(data)
        assert all(np.array_equal(first, way.split(data)) for way in ways[1:])
        assert tok.decode_bytes(tok.encode_ordinary(text)) == data
    for size in SIZES:
        for way in ways:  # what is no UTF-8 gives nonsense, but reads and writes where it may
            for data in (rng.randbytes(size), b"a" * (size - 1) + b"\xf7", b"\xe4" * size):
                way.split(data)
        for text in ("x" * size, "中" * size, "é" * size, "ก" * size):
            assert tok.decode(tok.encode_ordinary(text)) == text
        data = rng.randbytes(size)
        assert tok.decode_bytes(tok.encode_bytes(data)) == data
    print(f"{name}: clean", flush=True)


def main() -> int:
    for name in ("gpt2", "cl100k_base", "o200k_base"):
        check(name)
    backend = core.backend_modules("native")
    for seed in range(5):
        for semantics in ("ranks", "merges", "merges, whole first"):
            test_merge.test_merging_equals_the_definition(backend, semantics, seed)
            test_merge.test_wide_characters_and_parts_of_them(backend, semantics, seed)
        for semantics in ("ranks", "merges", "wide ranks", "wide merges"):
            test_merge.test_words_of_a_text(backend, semantics, seed)
    print("random vocabularies: clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
