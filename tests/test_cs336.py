"""The contract of Stanford CS336, assignment 1: one test for each behaviour that its own tests check.

Oracles: tiktoken's gpt2, and the quadratic definition of training with the course's rule (greatest pair of bytes).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter

import pytest

import fastbpe
from fastbpe import core
from fastbpe.compat.cs336 import Tokenizer, train_bpe
from fastbpe.formats.tiktoken import merges_of_ranks
from fastbpe.pattern.automaton import compile_split
from tests.bpe_definition import quadratic_merges
from tests.conftest import ROOT
from tests.reference import tiktoken_encoding

END = "<|endoftext|>"
TEXTS = [
    "",
    "s",
    "🙃",
    "Hello, how are you?",
    "Héllò hôw are ü? 🙃",
    f"Héllò hôw {END}{END} are ü? 🙃{END}",
    "Four score and seven years ago our fathers brought forth, on this continent, a new nation.",
    "Die Leland Stanford Junior University (kurz Stanford University) liegt in Kalifornien. Größe: 33 km².",
    "Once upon a time there was a little boy named Ben.\n\nBen loved to explore.\n  " + END + "\nThe end.\n",
]


def gpt2_parts():
    """GPT-2's vocabulary and merges, as the course hands them over."""
    vocab = fastbpe.get_encoding("gpt2").vocab
    pairs = merges_of_ranks(vocab)
    merges = [pairs[token] for token, _ in sorted(vocab.items(), key=lambda item: item[1]) if len(token) > 1]
    return {number: token for token, number in vocab.items()} | {50256: END.encode()}, merges


@pytest.fixture(scope="module")
def gpt2():
    return Tokenizer(*gpt2_parts(), [END])


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_tiktoken_and_come_back(gpt2, text):
    ids = gpt2.encode(text)
    assert ids == tiktoken_encoding("gpt2").encode(text, allowed_special={END})
    assert gpt2.decode(ids) == text


def test_novel_equals_tiktoken(gpt2, novel):
    for chapter in novel[:3]:
        ids = gpt2.encode(chapter)
        assert ids == tiktoken_encoding("gpt2").encode(chapter)
        assert gpt2.decode(ids) == chapter


def test_without_special_tokens_they_are_text():
    tok = Tokenizer(*gpt2_parts())
    assert tok.encode(END) == tiktoken_encoding("gpt2").encode_ordinary(END)
    assert tok.decode([50256]) == END


def test_special_tokens_stay_whole(gpt2):
    ids = gpt2.encode(TEXTS[5])
    assert [gpt2.decode([number]) for number in ids].count(END) == 3


def test_overlapping_special_tokens():
    tok = Tokenizer(*gpt2_parts(), [END, END + END])
    text = f"Hello, how {END}{END} are you?{END}"
    parts = [tok.decode([number]) for number in tok.encode(text)]
    assert parts.count(END) == 1 and parts.count(END + END) == 1
    assert "".join(parts) == text


def test_special_tokens_the_vocabulary_lacks_are_appended():
    tok = Tokenizer(*gpt2_parts(), ["<|new|>", END])
    assert tok.encode("<|new|>" + END) == [50257, 50256]
    assert tok.vocab[50257] == b"<|new|>"


def test_encode_iterable_over_lines(gpt2, novel, tmp_path):
    """Pretokens may span lines, so the stream carries the undecided tail over."""
    text = "".join(novel[:2]) + "\n \n  x\n\n\n" + END + "\n" + novel[2]
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    with path.open(encoding="utf-8", newline="") as lines:
        ids = list(gpt2.encode_iterable(lines))
    assert ids == tiktoken_encoding("gpt2").encode(text, allowed_special={END})


MEMORY = """
import lzma, resource, sys
from tests.test_cs336 import gpt2_parts, END
from tests.conftest import NOVEL
from fastbpe.compat.cs336 import Tokenizer

text = lzma.decompress(NOVEL.read_bytes()).decode()
path = sys.argv[1]
open(path, "w", encoding="utf-8", newline="").write(text)
tok = Tokenizer(*gpt2_parts(), [END])
expected = len(tok.encode(text))
del text
with open(path, encoding="utf-8", newline="") as lines:
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 1_000_000, resource.RLIM_INFINITY))
    count = sum(1 for _ in tok.encode_iterable(lines))
print(count == expected, count)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the course measures this on Linux alone")
def test_encode_iterable_under_a_memory_limit(tmp_path):
    """The course allows resident size + 1 MB of address space; here the whole address space + 1 MB, and it holds."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "novel.txt")], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "True"


def test_decode_replaces_malformed_bytes(gpt2):
    assert gpt2.decode(gpt2.encode("🙃")[:1]) == "\ufffd"


@pytest.fixture
def corpus(tmp_path, novel):
    """As long as the course's corpus.en."""
    path = tmp_path / "corpus.txt"
    path.write_text("".join(novel)[:133_000], encoding="utf-8", newline="")
    return path


def test_training_time(corpus):
    start = time.process_time()  # the course takes the clock on the wall, which on a shared machine times the others
    train_bpe(corpus, 500, [END])
    assert time.process_time() - start < 1.5  # its limit


def test_trained_merges_and_vocabulary(corpus):
    vocab, merges = train_bpe(corpus, 500, [END])
    assert len(merges) == 243
    splitter = core.Splitter(compile_split(fastbpe.patterns["gpt2"], True))
    data = corpus.read_bytes()
    counts = Counter(data[start:end] for start, end in splitter.split(data).tolist())
    assert merges == quadratic_merges(counts, 243, "lexicographic")
    assert sorted(vocab) == list(range(500))
    assert set(vocab.values()) == {bytes([n]) for n in range(256)} | {a + b for a, b in merges} | {END.encode()}


def test_special_tokens_never_enter_training(tmp_path, novel):
    path = tmp_path / "corpus.txt"
    path.write_text(END.join(chapter[:4000] for chapter in novel[:40]), encoding="utf-8", newline="")
    vocab, _ = train_bpe(str(path), 600, [END], num_workers=2)
    assert [token for token in vocab.values() if b"<|" in token] == [END.encode()]


def test_files(tmp_path, gpt2):
    gpt2.to_files(tmp_path / "vocab.json", tmp_path / "merges.txt")
    again = Tokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt", [END])
    for text in TEXTS:
        assert again.encode(text) == gpt2.encode(text)
    assert again.vocab == gpt2.vocab and again.merges == gpt2.merges


def test_a_special_token_that_the_vocabulary_has_keeps_its_id():
    tok = Tokenizer({value: bytes([value]) for value in range(256)} | {256: b" t"}, [(b" ", b"t")], ["a", " t"])
    assert tok.encode("ab t") == [97, 98, 256]


def test_wrong_arguments():
    vocab = {value: bytes([value]) for value in range(256)}
    with pytest.raises(TypeError, match="special_tokens"):
        Tokenizer(vocab, [], "<|x|>")
    with pytest.raises(fastbpe.VocabularyError):
        Tokenizer({**vocab, 256: b"\xff\xfe"}, [])
