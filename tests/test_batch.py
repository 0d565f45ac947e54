"""Batches on threads, and one text on several.  Oracle: encode() of each text."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest

import fastbpe
from fastbpe import batch
from tests.corpora import shape_text
from tests.hard_text import hard_strings
from tests.hostile import SHAPES

ENCODINGS = ["gpt2", "cl100k_base", "o200k_base"]


def long_texts(size):
    """Texts of all kinds of characters, with runs in which there is no place to cut."""
    rng = random.Random(size)
    strings = list(hard_strings(400, seed=size))
    yield "".join(rng.choices(strings, k=size // 10))
    pieces = [" ", "a", "ab", "é", "中文", "\n", "1", " the", "😀"]
    yield "".join(rng.choice(pieces) * rng.randint(1, 40) for _ in range(size // 20))
    yield "naïve café " * (size // 11)
    yield "plain ASCII text, and more of it\n" * (size // 33)
    yield "x" * size


def check(tok, texts, threads):
    expected = [tok.encode_ordinary(text) for text in texts]
    assert tok.encode_batch(texts, disallowed_special=(), threads=threads) == expected
    ids, offsets = tok.encode_batch_to_numpy(texts, disallowed_special=(), threads=threads)
    assert ids.dtype == np.uint32 and ids.flags.owndata and ids.flags.writeable
    assert [ids[a:b].tolist() for a, b in zip(offsets, offsets[1:])] == expected


@pytest.fixture
def small_jobs(monkeypatch):
    """Everything is cut, into jobs of a few thousand characters."""
    monkeypatch.setattr(batch, "SHORT_BATCH", 0)
    monkeypatch.setattr(batch, "SMALLEST_JOB", 1000)
    monkeypatch.setattr(batch, "GREATEST_JOB", 3000)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_one_text_on_several_threads(small_jobs, name, threads):
    tok = fastbpe.get_encoding(name)
    size = 40_000 if fastbpe.backend() == "native" else 4000
    for text in long_texts(size):
        check(tok, [text], threads)
    check(tok, ["", *long_texts(size), "", "short", ""], threads)
    check(tok, [], threads)


@pytest.mark.parametrize("name", ENCODINGS)
def test_hostile_shapes_on_several_threads(small_jobs, name):
    tok = fastbpe.get_encoding(name)
    size = 12_000 if fastbpe.backend() == "native" else 1500
    check(tok, [shape_text(shape(size)) for shape in SHAPES.values()], 2)


@pytest.mark.native_only
def test_spans_that_are_none():
    if fastbpe.backend() != "native":
        pytest.skip("the Python backend checks as Python does")
    encoder = fastbpe.get_encoding("gpt2")._encoder
    text = "hello world é"
    for row in [[1, 0, -1], [-1, 0, -1], [1 << 40, 0, -1], [0, 3, 2], [0, -1, 2], [0, 0, 99], [0, 99, -1], [0, 0]]:
        with pytest.raises(ValueError, match="spans must"):
            encoder.encode_texts([text], np.array([row], dtype=np.int64))
    assert encoder.cut(text, (1 << 63) - 1) == encoder.cut("hello " * 10, (1 << 63) - 200) == []
    with pytest.raises(ValueError, match="size must be positive"):
        encoder.cut(text, 0)


@pytest.mark.parametrize("text", ["hello world", "hello world é", "hello world " * 200])
def test_an_empty_span_has_no_ids(text):
    encoder = fastbpe.get_encoding("gpt2")._encoder
    for place in (0, 5, len(text)):
        ids, counts = encoder.encode_texts([text], np.array([[0, place, place]], dtype=np.int64))
        assert len(ids) == 0 and counts.tolist() == [0]


def test_a_text_that_is_cut_and_has_a_lone_surrogate(small_jobs):
    tok = fastbpe.get_encoding("cl100k_base")
    texts = ["some words é " * 1000, "some words é " * 600 + "\ud800 and" + " more of them" * 400, "the end"]
    check(tok, texts, 2)


def test_special_tokens_in_texts_that_would_be_cut(small_jobs):
    tok = fastbpe.get_encoding("cl100k_base")
    texts = ["word " * 2000, "word " * 900 + "<|endoftext|>" + " word" * 900, "word " * 1500]
    expected = [tok.encode(text, allowed_special="all") for text in texts]
    assert tok.encode_batch(texts, allowed_special="all", threads=2) == expected
    with pytest.raises(fastbpe.SpecialTokenError) as error:
        tok.encode_batch(texts, threads=2)
    assert error.value.position == 4500


@pytest.mark.native_only
@pytest.mark.parametrize("name", ENCODINGS)
def test_cuts_are_where_texts_part(name):
    """What is left of a cut, with what follows, and what is right of it give the ids of the whole."""
    if fastbpe.backend() != "native":
        pytest.skip("the Python backend uses one thread and never cuts")
    tok = fastbpe.get_encoding(name)
    found = 0
    for text in long_texts(5000):
        for place in tok._encoder.cut(text, 300):
            pretokens = tok._encoder.splitter.split(text.encode())
            assert len(text[:place].encode()) in pretokens[:, 0]
            right = tok.encode_ordinary(text[place:])
            assert tok.encode_ordinary(text)[-len(right) :] == right
            found += 1
    assert found > 30


@pytest.mark.native_only
def test_a_batch_goes_to_arrow_without_a_copy():
    if fastbpe.backend() != "native":
        pytest.skip("native code alone makes Arrow's structs")
    nanoarrow = pytest.importorskip("nanoarrow")
    tok = fastbpe.get_encoding("gpt2")
    for dtype in [np.uint16, np.uint32]:
        batch = tok.encode_batch_to_numpy(["hello world", "", "naïve"], dtype=dtype)
        ids, offsets = batch
        assert ids.dtype == dtype and offsets.tolist() == [0, 2, 2, len(ids)]
        array = nanoarrow.c_array(batch)
        assert array.length == 3 and array.schema.format == "+L"
        assert array.child(0).buffers[1] == ids.ctypes.data
        assert nanoarrow.Array(batch).to_pylist() == tok.encode_batch(["hello world", "", "naïve"])
        assert nanoarrow.Array(tok.encode_batch_to_numpy([], dtype=dtype)).to_pylist() == []
        kept = nanoarrow.Array(tok.encode_batch_to_numpy(["hello world"], dtype=dtype))  # the arrays live in it alone
        assert kept.to_pylist() == [[31373, 995]]


@pytest.mark.native_only
def test_capsules_give_the_arrays_back():
    if fastbpe.backend() != "native":
        pytest.skip("native code alone makes Arrow's structs")
    batch = fastbpe.get_encoding("gpt2").encode_batch_to_numpy(["hello world"])
    before = [sys.getrefcount(array) for array in batch]
    for _ in range(5):
        schema, array = batch.__arrow_c_array__()
        assert [sys.getrefcount(each) for each in batch] == [count + 1 for count in before]
        del schema, array
        with pytest.raises(ZeroDivisionError):  # they die while the exception is on its way
            print(batch.__arrow_c_array__(), 1 / 0)
    assert [sys.getrefcount(array) for array in batch] == before


@pytest.mark.native_only
def test_capsules_outlive_the_interpreter():
    if fastbpe.backend() != "native":
        pytest.skip("native code alone makes Arrow's structs")
    code = """
import sys, fastbpe
sys.kept = fastbpe.get_encoding("gpt2").encode_batch_to_numpy(["hello world"]).__arrow_c_array__()
class Cycle: pass
cycle = Cycle()
cycle.me, cycle.kept = cycle, sys.kept
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_batch_put_together_wrongly():
    ids, offsets = np.zeros(3, np.uint32), np.array([0, 3], np.int64)
    wrong = [
        (ids.astype(np.int64), offsets),
        (ids.astype(">u4"), offsets),
        (ids.astype(np.float32), offsets),
        (ids.reshape(1, 3), offsets),
        ([1, 2, 3], offsets),
        (ids, offsets.astype(np.int32)),
        (ids, offsets[:0]),
        (ids, np.array([0, 4])),
        (ids, np.array([2, 1, 3])),
        (ids, np.array([-1, 3])),
    ]
    for parts in wrong:
        with pytest.raises(ValueError, match="TokenBatch: (ids|offsets) must"):
            fastbpe.TokenBatch(*parts).__arrow_c_array__()


def test_a_batch_while_the_interpreter_ends():
    code = """
import atexit, fastbpe
tok = fastbpe.get_encoding("gpt2")
text = "the quick brown fox " * 20_000
expected = tok.encode(text)
atexit.register(lambda: print(tok.encode_batch([text] * 4, threads=2) == [expected] * 4))
"""
    if fastbpe.backend() == "python":
        code = code.replace("20_000", "20")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_during_the_first_batch():
    code = """
import os, sys, threading, time, warnings, fastbpe
warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of fork in a process with threads
tok = fastbpe.get_encoding("gpt2")
texts = ["The quick brown fox " * 9000] * 4 if fastbpe.backend() == "native" else ["The quick brown fox"] * 4
threading.Thread(target=lambda: tok.encode_batch(texts, threads=2)).start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if child == 0:
    os._exit(0 if tok.encode_batch(texts, threads=2) == [tok.encode(texts[0])] * 4 else 1)
sys.exit(os.waitpid(child, 0)[1])
"""
    for wait in range(8):
        subprocess.run([sys.executable, "-c", code, str(wait / 1000)], check=True, timeout=60)


@pytest.mark.parametrize("name", ["cl100k_base"])
def test_the_error_of_the_first_text_is_raised(small_jobs, name):
    tok = fastbpe.get_encoding(name)
    texts = ["word " * 900, "words <|endoftext|>", *["word " * 900] * 10, "<|endoftext|>"]
    for _ in range(20):
        with pytest.raises(fastbpe.SpecialTokenError) as error:
            tok.encode_batch(texts, threads=3)
        assert error.value.position == 6 and error.value.index == 1
        assert "the text at index 1 holds" in str(error.value)


def test_ids_of_two_bytes():
    tok = fastbpe.get_encoding("gpt2")
    ids = tok.encode_to_numpy("hello world", dtype="uint16")
    assert ids.dtype == np.uint16 and ids.tolist() == [31373, 995]
    with pytest.raises(ValueError, match=r"encode_to_numpy\(\): 100277 ids|encode_to_numpy\(\): 1002\d\d ids"):
        fastbpe.get_encoding("cl100k_base").encode_to_numpy("hello", dtype=np.uint16)
    with pytest.raises(ValueError, match="dtype must be uint32 or uint16, got int64"):
        tok.encode_batch_to_numpy(["hello"], dtype=np.int64)


def test_ids_into_a_buffer(tmp_path):
    tok = fastbpe.get_encoding("gpt2")
    texts = ["hello world", "", "naïve text", "the end"]
    file = np.memmap(tmp_path / "ids.bin", dtype=np.uint16, mode="w+", shape=(100,))
    position = 3
    for text in texts:
        position = tok.encode_into(text, file, position)
    file.flush()
    expected = [number for text in texts for number in tok.encode(text)]
    assert np.fromfile(tmp_path / "ids.bin", dtype=np.uint16)[3:position].tolist() == expected
    small = np.full(2, 7, dtype=np.uint32)
    assert tok.encode_into("hello world", small) == 2
    small[:] = 7
    with pytest.raises(ValueError, match="room for 2 ids, got 1"):
        tok.encode_into("hello world", small, 1)
    assert small.tolist() == [7, 7]
    with pytest.raises(fastbpe.SpecialTokenError):
        tok.encode_into("<|endoftext|>", small)
    locked = np.zeros(4, np.uint32)
    locked.flags.writeable = False
    square = np.zeros((2, 2), np.uint32)
    for buffer, position in [(np.zeros(4), 0), (square, 0), (locked, 0), (small, 3), (small, -1), (small, "1")]:
        with pytest.raises(ValueError, match=r"encode_into\(\)"):
            tok.encode_into("a", buffer, position)
    with pytest.raises(TypeError, match="buffer must be a numpy array, got list"):
        tok.encode_into("a", [0, 0])
    assert tok.encode_into("hello", small, np.int64(1)) == 2
    with pytest.raises(ValueError, match="do not fit into uint16"):
        fastbpe.get_encoding("cl100k_base").encode_into("a", file)


@pytest.mark.native_only  # plain Python remembers nothing
@pytest.mark.parametrize("cache_bytes", [0, 1 << 19, 3 << 20, 200 << 20])
def test_ids_do_not_depend_on_the_cache(cache_bytes):
    spec = fastbpe.get_encoding("o200k_base").spec
    tok = fastbpe.Tokenizer(spec, cache_bytes=cache_bytes)
    rng = random.Random(cache_bytes)
    words = [f"{rng.getrandbits(40):x}é{'中' * rng.randint(1, 80)}{rng.getrandbits(99)}" for _ in range(3000)]
    expected = fastbpe.get_encoding("o200k_base").encode_batch(words, threads=1)
    for _ in range(2):
        assert [tok.encode(word) for word in words[:300]] == expected[:300]
        assert tok.encode(" ".join(words)) == fastbpe.get_encoding("o200k_base").encode(" ".join(words))
        assert tok.encode_batch(words, threads=2) == expected
    assert pickle.loads(pickle.dumps(tok))._cache_bytes == cache_bytes


@pytest.mark.parametrize("cache_bytes", [-1, 1, (1 << 19) - 1, 1 << 40, 1e6, True, None])
def test_cache_bytes_argument(cache_bytes):
    spec = fastbpe.get_encoding("gpt2").spec
    with pytest.raises(ValueError, match="cache_bytes must be 0 or 524288 to"):
        fastbpe.Tokenizer(spec, cache_bytes=cache_bytes)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ENCODINGS)
def test_special_tokens_in_batches(small_jobs, name, threads):
    """Oracle: the ids of the texts between the tokens, by encode_ordinary(), which sees none of them."""
    tok, rng = fastbpe.get_encoding(name), random.Random(threads)
    special = sorted(tok.special_tokens)
    strings = [text for text in hard_strings(300, seed=4, longest=90) if text.isprintable() or text.isascii()]
    texts, expected = [], []
    for size in [0, 1, 2, 3, 5, 9] * 8 + [200]:
        texts.append("")
        expected.append([])
        for _ in range(size):
            part, token = rng.choice([*strings, "", "plain text "]), rng.choice(special)
            texts[-1] += part + token
            expected[-1] += [*tok.encode_ordinary(part), tok.special_tokens[token]]
    assert tok.encode_batch(texts, allowed_special="all", threads=threads) == expected
    assert tok.encode_batch(texts, allowed_special=set(special), threads=threads) == expected
    assert [tok.encode(text, allowed_special="all") for text in texts] == expected
    assert [tok.encode_to_numpy(text, allowed_special=set(special)).tolist() for text in texts] == expected
    bad = [*texts[:20], "naïve " + special[0], *texts]
    with pytest.raises(fastbpe.SpecialTokenError) as raised:
        tok.encode_batch(bad, allowed_special=set(special[1:]), threads=threads)
    index = next(at for at, text in enumerate(bad) if special[0] in text)
    assert (raised.value.token, raised.value.index, raised.value.position) == (
        special[0], index, bad[index].index(special[0])
    )
    lone = "\ud800" + special[0] + "é"
    assert tok.encode_batch([lone, *texts], allowed_special="all", threads=threads) == [
        [*tok.encode_ordinary("\ud800"), tok.special_tokens[special[0]], *tok.encode_ordinary("é")], *expected
    ]


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_batch_comes_back(name):
    tok = fastbpe.get_encoding(name)
    texts = ["Call me Ishmael.", "", "Some years ago", "never mind 中文 😀"]
    for dtype in ("uint32", "uint16") if tok.n_vocab <= 1 << 16 else ("uint32",):
        assert tok.decode_batch(tok.encode_batch_to_numpy(texts, dtype=dtype)) == texts
    assert tok.decode_batch(tok.encode_batch_to_numpy([])) == []
