"""Tokenizer: every way in gives the same ids, and the arguments mean what they mean in tiktoken.  Oracle: tiktoken."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import os
import pickle
import random
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbpe
from tests.hard_text import hard_strings
from tests.hostile import INVALID, SHAPES
from tests.reference import tiktoken_encoding

NAMES = ["gpt2", "cl100k_base", "o200k_base"]
ALL = sorted(fastbpe.list_encoding_names())
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


def text_of(shape, size):
    value = SHAPES[shape](size)
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@pytest.mark.parametrize("name", ALL)
def test_hard_strings_equal_tiktoken(name):
    ours, theirs = fastbpe.get_encoding(name), tiktoken_encoding(name)
    for text in hard_strings(2000, seed=17):
        assert ours.encode_ordinary(text) == theirs.encode_ordinary(text), repr(text)


@pytest.mark.parametrize("name", NAMES)
def test_samples_equal_tiktoken(name, samples):
    ours, theirs = fastbpe.get_encoding(name), tiktoken_encoding(name)
    native = fastbpe.backend() == "native"
    for language, documents in samples.items():
        for document in documents if native else documents[:1]:
            text = document if native else document[:20_000]
            assert ours.encode_ordinary(text) == theirs.encode_ordinary(text), language


@pytest.mark.parametrize("shape", SHAPES)
def test_hostile_shapes_equal_tiktoken(shape):
    for name in NAMES:
        ours, theirs = fastbpe.get_encoding(name), tiktoken_encoding(name)
        text = text_of(shape, 5_000)
        ids = ours.encode_ordinary(text)
        assert ids == theirs.encode_ordinary(text)
        value = SHAPES[shape](5_000)
        if isinstance(value, bytes):
            assert ours.decode_bytes(ours.encode_bytes(value)) == value


@settings(max_examples=200, deadline=None)
@given(ANY_TEXT, st.sampled_from(NAMES))
def test_every_way_in_gives_the_same_ids(text, name):
    tok = fastbpe.get_encoding(name)
    ids = tok.encode_ordinary(text)
    array = tok.encode_to_numpy(text, disallowed_special=())
    assert array.dtype == np.uint32 and array.flags.writeable and array.flags.c_contiguous
    assert ids == array.tolist() == tok.encode(text, disallowed_special=()) == tok.encode_bytes(text.encode())
    assert ids == list(tok.iter_encode(list(text), disallowed_special=()))
    assert tok.encode_batch([text, "", text], disallowed_special=()) == [ids, [], ids]
    assert tok.count(text) == len(ids)
    assert tok.decode(ids) == tok.decode(array) == text
    assert tok.decode_batch([ids, []]) == [text, ""]


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_bytes_come_back(data):
    tok = fastbpe.get_encoding("cl100k_base")
    ids = tok.encode_bytes(data)
    assert tok.decode_bytes(ids) == data
    assert list(tok.iter_encode([data[i : i + 1] for i in range(len(data))])) == ids


def test_invalid_runs_are_pretokens():
    """A run ends the text before it as the end of text would; the text after it begins afresh."""
    tok = fastbpe.get_encoding("cl100k_base")
    expected = tok.encode_ordinary("x  ") + tok._encoder.merger.merge(b"\xff\xfe") + tok.encode_ordinary("  y")
    assert tok.encode_bytes(b"x  \xff\xfe  y") == expected


@pytest.mark.parametrize("value", [SHAPES[name](3_000) for name in INVALID])
def test_invalid_bytes_in_any_chunking(value):
    tok = fastbpe.get_encoding("o200k_base")
    ids = tok.encode_bytes(value)
    rng = random.Random(1)
    for _ in range(5):
        cuts = [0, *sorted(rng.sample(range(len(value)), 40)), len(value)]
        assert list(tok.iter_encode(value[a:b] for a, b in zip(cuts, cuts[1:]))) == ids


@pytest.mark.parametrize("name", ALL)
def test_special_tokens_as_in_tiktoken(name):
    ours, theirs = fastbpe.get_encoding(name), tiktoken_encoding(name)
    special = list(ours.special_tokens)[:4]
    text = "a " + " b".join(special) + "<|endof" + special[0] + "text|>"
    for allowed in ["all", set(), {special[0]}, set(special), {"unknown"}]:
        for disallowed in ["all", (), {"zzz"}]:
            try:
                expected = theirs.encode(text, allowed_special=allowed, disallowed_special=disallowed)
            except ValueError:
                with pytest.raises(fastbpe.SpecialTokenError):
                    ours.encode(text, allowed_special=allowed, disallowed_special=disallowed)
                continue
            assert ours.encode(text, allowed_special=allowed, disallowed_special=disallowed) == expected
    assert ours.encode_ordinary(text) == theirs.encode_ordinary(text)
    assert ours.decode(ours.encode(text, allowed_special="all")) == text


def test_special_token_error_names_token_and_place():
    tok = fastbpe.get_encoding("gpt2")
    with pytest.raises(fastbpe.SpecialTokenError) as caught:
        tok.encode("né <|endoftext|>")
    assert (caught.value.token, caught.value.position) == ("<|endoftext|>", 3)
    assert "allowed_special" in str(caught.value) and "encode_ordinary" in str(caught.value)
    with pytest.raises(fastbpe.SpecialTokenError) as caught:
        list(tok.iter_encode(["né", " <|endof", "text|>"]))
    assert (caught.value.token, caught.value.position) == ("<|endoftext|>", 3)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.token, again.position) == (str(caught.value), "<|endoftext|>", 3)


def test_a_token_inside_a_longer_one_loses():
    spec = fastbpe.TokenizerSpec(
        splits=(fastbpe.Split(fastbpe.patterns["gpt2"]),),
        vocab={bytes([value]): value for value in range(256)},
        added_tokens=(fastbpe.AddedToken("<e>", 256), fastbpe.AddedToken("<e><e>", 257)),
    )
    tok = fastbpe.Tokenizer(spec)
    assert tok.encode("a<e><e><e>", allowed_special="all") == [97, 257, 256]
    for cut in range(10):
        text = "a<e><e><e>"
        assert list(tok.iter_encode([text[:cut], text[cut:]], allowed_special="all")) == [97, 257, 256]


@pytest.mark.parametrize(
    "text", ["\ud800", "a\udfff", "\ud83d\ude00", "\ud83d x \ude00", "\ude00\ud83d", "é\ud800\ud800\udc00", "x\ud83d"]
)
def test_surrogates_as_in_tiktoken(text):
    tok = fastbpe.get_encoding("cl100k_base")
    expected = tiktoken_encoding("cl100k_base").encode_ordinary(text)
    assert tok.encode_ordinary(text) == tok.encode(text) == tok.encode_to_numpy(text).tolist() == expected
    assert tok.encode_batch([text]) == [expected]
    for cut in range(len(text) + 1):
        assert list(tok.iter_encode([text[:cut], text[cut:]])) == expected


def test_str_subclass_behaves_as_its_text():
    class Loud(str):
        def encode(self, *args):
            raise AssertionError("an overridden method was called")

        __str__ = __iter__ = __getitem__ = encode

    tok = fastbpe.get_encoding("gpt2")
    assert tok.encode(Loud("hello world")) == [31373, 995]


def test_batches_on_threads_equal_one_by_one():
    tok = fastbpe.get_encoding("cl100k_base")
    rng = random.Random(3)
    words = [f"{rng.getrandbits(40):x} word{n} é中" for n in range(3000)]
    longest = 3000 if fastbpe.backend() == "native" else 100  # the Python backend uses one thread anyway
    texts = [" ".join(rng.choices(words, k=rng.choice([0, 1, 30, longest]))) for _ in range(60)]
    expected = [tok.encode(text) for text in texts]
    for threads in [1, 2, 8, None]:
        assert tok.encode_batch(texts, threads=threads) == expected
        ids, offsets = tok.encode_batch_to_numpy(iter(texts), threads=threads)
        assert ids.dtype == np.uint32 and offsets.dtype == np.int64 and len(offsets) == len(texts) + 1
        assert [ids[a:b].tolist() for a, b in zip(offsets, offsets[1:])] == expected
    ids, offsets = tok.encode_batch_to_numpy([])
    assert len(ids) == 0 and offsets.tolist() == [0]


def test_an_error_in_one_text_of_a_batch():
    tok = fastbpe.get_encoding("cl100k_base")
    with pytest.raises(fastbpe.SpecialTokenError):
        tok.encode_batch(["word " * 100_000] * 8 + ["<|endoftext|>"], threads=4)
    assert tok.encode("hello world") == [15339, 1917]


def test_threads_share_one_tokenizer():
    tok = fastbpe.get_encoding("o200k_base")
    texts = list(hard_strings(300, seed=23))
    expected = [tok.encode_ordinary(text) for text in texts]
    wrong = []

    def work(seed):
        order = list(range(len(texts)))
        random.Random(seed).shuffle(order)
        for at in order:
            if tok.encode_ordinary(texts[at]) != expected[at] or tok.decode(expected[at]) != texts[at]:
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _encode_in_child(tok, text, expected):
    os._exit(0 if tok.encode_batch([text] * 3, threads=2) == [expected] * 3 else 1)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes(method):
    tok = fastbpe.get_encoding("gpt2")
    text = "multi process " * 50_000
    expected = tok.encode(text)
    tok.encode_batch([text] * 4, threads=2)
    child = multiprocessing.get_context(method).Process(target=_encode_in_child, args=(tok, text, expected))
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_what_is_disallowed_need_not_be_a_special_token():
    """Then nobody is told to allow it."""
    tok = fastbpe.get_encoding("gpt2")
    for call in (tok.encode, lambda text, **policy: tok.encode_batch([text], **policy),
                 lambda text, **policy: list(tok.iter_encode([text], **policy))):
        for token, known in (("foo", False), ("<|endoftext|>", True)):
            with pytest.raises(fastbpe.SpecialTokenError) as caught:
                call(f"a {token}", disallowed_special={token})
            again = pickle.loads(pickle.dumps(caught.value))
            assert again.known == caught.value.known == known and again.position == 2
            assert ("allowed_special={" in str(again)) == ("the special token" in str(again)) == known


def test_a_tokenizer_that_nobody_has_is_gone():
    """At once: the collector counts objects, not the megabytes of a vocabulary."""
    tok = fastbpe.Tokenizer(fastbpe.get_encoding("gpt2").spec)
    tok.encode("hello", allowed_special={"<|endoftext|>"})
    seen = weakref.ref(tok)
    gc.disable()
    try:
        del tok
        assert seen() is None
    finally:
        gc.enable()


def test_equality_hash_pickle_copy():
    gpt2, r50k, cl100k = (fastbpe.get_encoding(name) for name in ["gpt2", "r50k_base", "cl100k_base"])
    assert gpt2 == r50k and hash(gpt2) == hash(r50k)  # one definition under two names
    assert gpt2 != cl100k and gpt2 != "gpt2"
    restored = fastbpe.Tokenizer.from_bytes(gpt2.to_bytes())
    own = fastbpe.Tokenizer(gpt2.spec, cache_bytes=0)
    assert pickle.loads(pickle.dumps(gpt2)) is gpt2 and len(pickle.dumps(gpt2)) < 200  # by its name
    assert pickle.loads(pickle.dumps(own)) is not gpt2
    for copied in [pickle.loads(pickle.dumps(own)), copy.deepcopy(own), restored]:
        assert copied == gpt2 and copied.fingerprint == gpt2.fingerprint and copied.name == "gpt2"
        assert copied.encode("hello world") == [31373, 995]
    assert pickle.dumps(own) == pickle.dumps(own)


@pytest.mark.parametrize(
    ("function", "arguments", "error", "words"),
    [
        ("encode", (b"x",), TypeError, "encode_bytes"),
        ("encode", (None,), TypeError, "text must be a str, got NoneType"),
        ("encode_ordinary", (1,), TypeError, "encode_ordinary(): text"),
        ("encode_to_numpy", (["a"],), TypeError, "text must be a str"),
        ("encode_bytes", ("x",), TypeError, "data must be bytes"),
        ("encode_batch", ("abc",), TypeError, "texts"),
        ("encode_batch", ([b"a"],), TypeError, "index 0"),
        ("encode_batch", (["a", None],), TypeError, "index 1"),
        ("encode_batch_to_numpy", (3,), TypeError, "texts"),
        ("iter_encode", (3,), TypeError, "chunks"),
        ("decode", ("ab",), TypeError, "ids"),
        ("decode", (b"ab",), TypeError, "ids"),
        ("decode", ([1.0],), TypeError, "float 1.0 at index 0"),
        ("decode", ([1, None],), TypeError, "at index 1"),
        ("decode", (5,), TypeError, "ids"),
        ("decode", ([1, -1],), OverflowError, "int -1 at index 1"),
        ("decode", ([2**32],), OverflowError, "at index 0"),
        ("decode", ([2**70],), OverflowError, "at index 0"),
        ("decode", ([0, 50257],), KeyError, "50257 at index 1"),
        ("decode_bytes", (np.zeros((2, 2), int),), TypeError, "1-D"),
        ("decode_bytes", (np.zeros(2),), TypeError, "float64"),
        ("decode_bytes", (np.array(3),), TypeError, "0-D"),
        ("decode_batch", ("ab",), TypeError, "batch"),
        ("decode", ([0], "nope"), None, ""),
        ("decode", ([250], "nope"), LookupError, "nope"),
    ],
)
def test_misuse(function, arguments, error, words):
    tok = fastbpe.get_encoding("gpt2")
    if error is None:
        getattr(tok, function)(*arguments)
        return
    with pytest.raises(error) as caught:
        getattr(tok, function)(*arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert tok.encode("hello world") == [31373, 995]


@pytest.mark.parametrize("value", ["x", b"x", 3, [1], [""]])
def test_special_arguments(value):
    tok = fastbpe.get_encoding("gpt2")
    for argument in ["allowed_special", "disallowed_special"]:
        with pytest.raises((TypeError, ValueError), match=argument):
            tok.encode("a", **{argument: value})


@pytest.mark.parametrize("threads", [0, -1, 1025, 1.5, True, "2"])
def test_threads_argument(threads):
    with pytest.raises(ValueError, match="threads"):
        fastbpe.get_encoding("gpt2").encode_batch(["a"], threads=threads)


def test_integers_of_every_kind_are_ids():
    tok = fastbpe.get_encoding("gpt2")
    for dtype in ["uint16", "uint32", "uint64", "int16", "int32", "int64", ">u4", ">i8"]:
        assert tok.decode(np.array([31373, 995], dtype=dtype)[::1]) == "hello world"
    assert tok.decode(np.array([31373, 0, 995, 0], dtype=np.int64)[::2]) == "hello world"
    assert tok.decode((np.int64(31373), 995)) == "hello world"
    assert tok.decode([True]) == tok.decode([1])
    assert tok.decode([]) == "" and tok.decode_bytes(np.array([], dtype=int)) == b""


def test_unknown_names():
    with pytest.raises(ValueError, match="gpt2"):
        fastbpe.get_encoding("gpt-9")
    with pytest.raises(KeyError):
        fastbpe.encoding_for_model("no-such-model")
    assert fastbpe.encoding_for_model("gpt-4o").name == "o200k_base"


def test_allow_regex_false_refuses():
    spec = fastbpe.TokenizerSpec(
        splits=(fastbpe.Split(r"(?=a)a|[^a]+"),), vocab={bytes([value]): value for value in range(256)}
    )
    assert fastbpe.Tokenizer(spec).encode("aab") == [97, 97, 98]
    with pytest.raises(fastbpe.PatternError, match="allow_regex"):
        fastbpe.Tokenizer(spec, allow_regex=False)


@pytest.mark.native_only
def test_ids_that_another_thread_writes_to():
    """The array is the caller's and is read without the GIL: other ids, an error, but never a read outside."""
    tok, stop = fastbpe.get_encoding("gpt2"), threading.Event()
    ids = np.full(1_000_000, 11, dtype=np.uint32)

    def write():
        while not stop.is_set():
            ids[-1000:] = 4_000_000_000
            ids[-1000:] = 50256
            ids[-1000:] = 11

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(60):
            try:
                tok.decode_bytes(ids)
            except (fastbpe.TokenIdError, RuntimeError) as error:
                assert "ids" in str(error)
    finally:
        stop.set()
        thread.join()
