"""Merging: one pretoken by its length, where time must grow in proportion; unseen words by length and script.

Oracle: tiktoken, for a single piece and for the text of all words.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import regex

import fastbpe
from benchmarks.data import read_documents
from fastbpe import core
from fastbpe.tokenizer import make_splitter
from tests.conftest import read_documents as read_sample
from tests.conftest import sample_folder
from tests.hostile import SHAPES
from tests.reference import tiktoken_of

LENGTHS = [4, 16, 64, 256, 4096, 65536]
SCRIPTS = {"Latin": "german", "Cyrillic": "russian", "Han": "chinese", "Thai": "thai"}  # and the sample of each
BYTES = [(2, 8), (9, 31), (32, 256)]  # as the encoder tells keys apart: short, long, remembered elsewhere
WORDS = 300


@pytest.fixture(scope="module")
def gpt2():
    return fastbpe.get_encoding("gpt2")


@pytest.fixture(scope="module")
def o200k():
    return fastbpe.get_encoding("o200k_base")


@pytest.fixture(scope="module")
def merger(o200k):
    return core.Merger(o200k.vocab, o200k.merges, o200k.spec.whole)


@pytest.fixture(scope="module")
def reference(gpt2):
    pytest.importorskip("tiktoken")
    return tiktoken_of(gpt2)


@pytest.fixture(scope="module", params=SCRIPTS)
def runs(request):
    """Runs of letters of a script, as they come in its sample; without one, those of the bundled text."""
    sample = (sample_folder() or Path()) / f"{SCRIPTS[request.param]}.txt.xz"
    if not sample.is_file() and request.param != "Latin":
        pytest.skip("FASTBPE_SAMPLES names no folder with a sample of this script")
    texts = read_sample(sample) if sample.is_file() else read_documents()
    return regex.findall(rf"\p{{{request.param}}}{{2,}}", "\n".join(texts).lower())


def words(runs, shortest, longest, vocab):
    """Words of so many bytes that are no tokens: runs as they are, or where those are few, joined and cut to fit."""
    made, held = [], ""
    for run in runs:
        held += run
        if len(held.encode()) >= shortest:
            made.append(held.encode()[:longest].decode(errors="ignore"))
            held = ""
    natural, made = (
        [
            word
            for word in dict.fromkeys(each)
            if shortest <= len(word.encode()) <= longest and word.encode() not in vocab
        ]
        for each in (runs, made)
    )
    return (natural if len(natural) >= WORDS else made)[:WORDS]


@pytest.mark.parametrize("shape", ["random_letters", "one_letter"])
@pytest.mark.parametrize("length", LENGTHS)
def test_merge(benchmark, gpt2, reference, shape, length):
    merger = core.Merger(gpt2.vocab, gpt2.merges, True)
    piece = SHAPES[shape](length)
    assert list(merger.merge(piece)) == reference._encode_single_piece(piece)
    benchmark(merger.merge, piece)


@pytest.mark.benchmark(group="merge words")
@pytest.mark.parametrize("size", BYTES, ids=lambda size: f"{size[0]}-{size[1]}")
def test_merge_words(benchmark, o200k, merger, runs, size):
    """An encoder that has seen nothing, so that each word is merged."""
    pytest.importorskip("tiktoken")
    data = "\n".join(words(runs, *size, o200k.vocab)).encode()
    splitter = make_splitter(o200k.spec.splits)

    def encoder():
        return (core.Encoder(splitter, merger).encode,), {}

    (encode,), _ = encoder()
    assert encode(data).tolist() == tiktoken_of(o200k).encode_ordinary(data.decode())
    benchmark.extra_info["bytes"] = len(data)
    benchmark.pedantic(lambda encode: encode(data), setup=encoder, rounds=20)
