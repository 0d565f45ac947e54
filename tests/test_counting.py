"""Counting of files and texts: the same counts for every number of threads, range and block.

Oracle: the Python counter on whole documents, which is held against `regex` and collections.Counter in test_counts.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

import fastbpe
from fastbpe.core import backend_modules
from fastbpe.core.count_python import Counter as PythonCounter
from fastbpe.core.packed import PackedBytes
from fastbpe.formats import named_splits
from fastbpe.pattern.automaton import compile_split
from fastbpe.pattern.named import GPT2
from fastbpe.spill import Spill
from fastbpe.tokenizer import make_splitter

EOT = "<|endoftext|>"
SPECIALS = ((), (EOT,), ("<e>", "<e><e>", "ab", "\n\n", " <é>"))
# fmt: off
PIECES = [
    "the", " of", " and", "ing", "  ", "   ", "\n", "\n\n", "\r\n", " \t", "\u3000", "\u00a0", "1", "1234", "'s", "'",
    "!?", " .", "é", "漢字", "漢", "ქ", "שלום", "🙂", "a\u0301", "\0", "<e>", "<e><e>", EOT, "<|endof", " <é>", "ab",
    "x" * 70, " " * 50, "日本語" * 9,
]
# fmt: on
INVALID = [*map(bytes.fromhex, ("ff", "fffe", "80", "e4b8", "c3", "f09f99", "eda080", "c080", "f4908080"))]


def hostile(seed: int, size: int) -> bytes:
    """Text in many scripts with special tokens and long runs; odd seeds have bytes that are not UTF-8."""
    r = random.Random(seed)
    parts: list[bytes] = []
    total = 0
    while total < size:
        kind = r.random()
        if kind < 0.02 and seed % 2:
            part = r.choice(INVALID) * r.choice((1, 1, 2, 40))
        elif kind < 0.04:
            part = r.choice(PIECES).encode() * r.choice((1, 5, 300))
        else:
            part = "".join(r.choices(PIECES, k=12)).encode()
        parts.append(part)
        total += len(part)
    return b"".join(parts)


def words(seed: int, size: int) -> bytes:
    """Text in which new words keep coming."""
    r = random.Random(seed)
    return b" ".join(r.randbytes(r.randrange(1, 12)).hex().encode() for _ in range(size // 13))


def expected(documents, pattern="gpt2", special=(), lines=False) -> dict[bytes, tuple[int, int]]:
    native = backend_modules("python")
    matcher = native.Matcher([(text.encode(), at) for at, text in enumerate(special)]) if special else None
    counter = PythonCounter(make_splitter(named_splits(pattern, gaps=True)), matcher, positions=True, lines=lines)
    for document in documents:
        counter.take(document, True)
    return as_dict(*counter.items())


def as_dict(pretokens, counts, firsts) -> dict[bytes, tuple[int, int]]:
    assert len(set(pretokens)) == len(pretokens) == len(counts) == len(firsts)
    return dict(zip(pretokens, zip(counts.tolist(), firsts.tolist())))


def write(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"{index}.txt" for index in range(len(contents))]
    for path, content in zip(paths, contents):
        path.write_bytes(content)
    return paths


@pytest.fixture
def small_ranges(monkeypatch):
    def to(size: int, block: int, window: int = 4096) -> None:
        monkeypatch.setattr("fastbpe.counting.RANGE", size)
        monkeypatch.setattr("fastbpe.counting.BLOCK", block)
        monkeypatch.setattr("fastbpe.counting.WINDOW", window)

    return to


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("special", SPECIALS)
def test_threads_and_ranges_do_not_matter(tmp_path, small_ranges, seed, special):
    documents = [hostile(seed, 60_000), b"", hostile(seed + 100, 5_000), b" " * 9000 + b"a" * 9000]
    paths = write(tmp_path, *documents)
    r = random.Random(seed)
    for pattern in ("gpt2", "cl100k", "o200k"):
        for unit in ("document", "line"):
            oracle = expected(documents, pattern, special, unit == "line")
            for _ in range(3):
                small_ranges(r.choice((97, 1000, 7919)), r.choice((61, 500, 1 << 18)), r.choice((100, 512, 4096)))
                options = {"pattern": pattern, "special_tokens": special, "unit": unit, "threads": r.choice((1, 2, 5))}
                counts = fastbpe.count_pretokens(paths, positions=True, **options)
                assert as_dict(*counts.arrays()) == oracle
                assert (counts.n_documents, counts.n_bytes) == (4, sum(map(len, documents)))


@pytest.mark.parametrize("pattern", ["llama3", "qwen2", "deepseek", r"\S+|\s+", r"[a-z]+(?=x)|."])
def test_every_pattern_is_counted_the_same(tmp_path, small_ranges, pattern):
    """Also those that have no place for a cut, and those that only `regex` can run."""
    documents = [hostile(seed, 20_000) for seed in range(3)]
    small_ranges(2000, 700)
    counts = fastbpe.count_pretokens(write(tmp_path, *documents), pattern=pattern, positions=True, threads=3)
    assert as_dict(*counts.arrays()) == expected(documents, pattern)


def test_two_hash_seeds_and_processes_give_the_same(tmp_path):
    """The secrets of the tables are drawn when they are imported."""
    path = write(tmp_path, hostile(4, 300_000))[0]
    code = "import sys, fastbpe; fastbpe.count_pretokens(sys.argv[1], threads=2, positions=True).save(sys.argv[2])"
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, path, tmp_path / name], check=True)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("cut", [1, 3, 17, 1000])
@pytest.mark.parametrize("lines", [False, True])
def test_the_native_counter_is_its_twin_however_it_is_fed(core, cut, lines):
    documents = [hostile(seed, 3000) for seed in range(6)] + [b"", b"\n", b"\xc3", b"a\n"]
    special = SPECIALS[2]
    counter = core.Counter(
        make_splitter_of(core), core.Matcher([(text.encode(), 0) for text in special]), positions=True, lines=lines
    )
    for document in documents:
        for at in range(0, len(document), cut):
            counter.take(document[at : at + cut])
        counter.take(b"", True)
    assert as_dict(*counter.items()) == expected(documents, special=special, lines=lines)


def make_splitter_of(core):
    return core.Splitter(compile_split(GPT2, gaps=True))


def test_weights_add_up_past_32_and_to_63_bits(core):
    counter = core.Counter(make_splitter_of(core), positions=True)
    for at, weight in ((9, 2**31), (5, 2**32), (7, 1), (8, 2**62)):
        counter.begin(at, weight)
        counter.take(b"word anotherlongerthanfifteenbytes", True)
    total = 2**31 + 2**32 + 1 + 2**62
    counts = as_dict(*counter.items())
    assert counts[b"word"] == (total, 5) and all(count == total for count, _ in counts.values())
    for _ in range(2):
        counter.begin(0, 2**62)
        if _ == 0:
            counter.take(b"a", True)
    with pytest.raises(fastbpe.TrainingError, match=r"2\*\*63"):
        counter.take(b"a", True)
        counter.items()
    with pytest.raises(ValueError, match="weight"):
        counter.begin(0, 0)


def test_heavy_weights_are_not_added_to_what_a_thread_holds(core):
    counter = core.Counter(make_splitter_of(core))
    for weight in (1, 2**62, 1, 2**61):
        counter.begin(0, weight)
        counter.take(b"a", True)
    assert dict(zip(*counter.items()[:2])) == {b"a": 2**62 + 2**61 + 2}
    for weight in (1, 2**63 - 1):
        counter.begin(0, weight)
        if weight == 1:
            counter.take(b"a", True)
    with pytest.raises(fastbpe.TrainingError, match=r"2\*\*63"):
        counter.take(b"a", True)
        counter.items()


@pytest.mark.parametrize("threads", [1, 3])
def test_texts_and_files_are_counted_the_same(tmp_path, monkeypatch, threads):
    monkeypatch.setattr("fastbpe.counting.RANGE", 4000)
    documents = [hostile(seed, 2000) for seed in range(20)]
    from_files = fastbpe.count_pretokens(write(tmp_path, *documents), positions=True, threads=threads)
    from_texts = fastbpe.count_pretokens_from_iterator(iter(documents), positions=True, threads=threads)
    assert from_files == from_texts
    weights = [at % 4 for at in range(20)]
    weighted = fastbpe.count_pretokens_from_iterator(documents, weights=weights, threads=threads)
    repeated = [document for document, weight in zip(documents, weights) for _ in range(weight)]
    assert dict(weighted) == dict(fastbpe.count_pretokens_from_iterator(repeated))
    assert (weighted.n_documents, weighted.n_bytes) == (20, sum(map(len, documents)))


def test_min_count_leaves_out_what_is_rarer():
    counts = fastbpe.count_pretokens_from_iterator(["a a a b b c"], min_count=2)
    assert dict(counts) == {b" a": 2, b" b": 2}
    assert counts.total == 4


def test_lines_are_the_texts_of_tokenizers_train(tmp_path):
    """Oracle: the merges that `Tokenizer.train(files)` learns, until all pairs are used up."""
    tokenizers = pytest.importorskip("tokenizers")
    text = "def f(x):\n    return x\n\n\n    # two  \n\tthree\r\n" * 30 + hostile(2, 20_000).decode() + "end"
    path = write(tmp_path, text.encode())[0]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    theirs.train([str(path)], trainer)
    theirs.save(str(tmp_path / "tokenizer.json"))
    merges = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))["model"]["merges"]
    characters = {character: byte for byte, character in enumerate(gpt2_characters())}
    wanted = tuple(tuple(bytes(map(characters.__getitem__, token)) for token in pair) for pair in merges)
    counts = fastbpe.count_pretokens(path, unit="line")
    assert fastbpe.train_from_counts(counts, 256 + len(wanted), tie_break="huggingface").merges == wanted
    whole = fastbpe.count_pretokens(path)
    assert fastbpe.train_from_counts(whole, 256 + len(wanted), tie_break="huggingface").merges != wanted


def gpt2_characters() -> list[str]:
    """The printable character that stands for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


@pytest.fixture
def little_memory(monkeypatch):
    """Spill often: after each block."""
    monkeypatch.setattr("fastbpe.spill.LEAST_TABLE", 1)
    monkeypatch.setattr("fastbpe.spill.THREAD", 1 << 40)
    monkeypatch.setattr("fastbpe.counting.BLOCK", 5000)
    monkeypatch.setattr("fastbpe.counting.RANGE", 20_000)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("positions", [False, True])
def test_spilling_changes_nothing(tmp_path, little_memory, monkeypatch, threads, positions):
    paths = write(tmp_path, *(hostile(seed, 30_000) + words(seed, 45_000) for seed in range(6)))
    options = {"positions": positions, "threads": threads}
    whole = fastbpe.count_pretokens(paths, **options)
    folder, runs = tmp_path / "spill", []
    folder.mkdir()
    write_run = Spill._write
    monkeypatch.setattr(Spill, "_write", lambda self, *blocks: (runs.append(1), write_run(self, *blocks)))
    spilt = {"max_memory": 16 << 20, "temp_dir": folder}
    assert fastbpe.count_pretokens(paths, **options, **spilt) == whole
    assert len(runs) > 3
    whole.save(tmp_path / "whole.fbc")
    fastbpe.count_pretokens(paths, output=tmp_path / "out.fbc", **options, **spilt)
    assert (tmp_path / "out.fbc").read_bytes() == (tmp_path / "whole.fbc").read_bytes()
    whole.at_least(3).save(tmp_path / "whole.fbc")
    fastbpe.count_pretokens(paths, output=tmp_path / "out.fbc", min_count=3, **options, **spilt)
    assert (tmp_path / "out.fbc").read_bytes() == (tmp_path / "whole.fbc").read_bytes()
    assert not [*folder.iterdir()]


@pytest.mark.native_only  # the plain Python counter knows its memory another way
@pytest.mark.parametrize("threads", [1, 8])
def test_any_number_of_runs_is_merged_few_at_a_time(tmp_path, little_memory, monkeypatch, threads):
    """With hundreds at once the memory and the open files grew with them."""
    # A thread hands on a long pretoken at once, so that each block makes a run.
    text = b" ".join((chr(97 + at % 26) + chr(97 + at // 26)).encode() * 600 for at in range(200))
    paths = write(tmp_path, text + words(1, 100_000), text * 2)
    whole = fastbpe.count_pretokens(paths, positions=True)
    runs, at_once, working, merged = [], [], set(), fastbpe.spill.merged
    write_run = Spill._write

    def write_one(self, *arguments):
        write_run(self, *arguments)
        working.add(threading.get_ident())
        runs.append(len(self._runs))

    monkeypatch.setattr(Spill, "_write", write_one)
    monkeypatch.setattr("fastbpe.spill.merged", lambda sources: (at_once.append(len(sources)), merged(sources))[1])
    options = {"positions": True, "threads": threads, "max_memory": 16 << 20}
    assert fastbpe.count_pretokens(paths, **options) == whole
    assert len(runs) > 30 and max(runs) <= 3 * 8 and max(at_once) == 8 and len(working) <= 2


def test_blocks_of_runs_are_small_whatever_pretokens_share(little_memory, monkeypatch):
    """A block of a counts file may stand for 64 times its bytes."""
    blocks = []
    monkeypatch.setattr("fastbpe.spill.merged", lambda sources: (blocks.extend(map(list, sources)), iter(()))[1])
    texts = ["".join("x" * 250 + f"{chr(97 + at % 26)}{chr(97 + at // 26 % 26)} " for at in range(676)) * 3] * 9
    fastbpe.count_pretokens_from_iterator([text + chr(97 + at) for at, text in enumerate(texts)], max_memory=16 << 20)
    sizes = [len(block.pretokens.blob) for run in blocks for block in run]
    assert len(sizes) > 2 and 10_000 < max(sizes) < 140_000


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_spill_that_fails_leaves_nothing(tmp_path, little_memory, monkeypatch, error):
    paths = write(tmp_path, *(words(seed, 70_000) for seed in range(6)))
    folder = tmp_path / "spill"
    folder.mkdir()
    calls = []

    def encode(*arguments):
        calls.append(1)
        if len(calls) > 3:
            raise error
        return encode_block(*arguments)

    encode_block = fastbpe.core.encode_block
    monkeypatch.setattr("fastbpe.core.encode_block", encode)
    message = f"No space left on device, while counts were spilled: '{folder}'" if isinstance(error, OSError) else None
    with pytest.raises(type(error), match=message):
        fastbpe.count_pretokens(paths, max_memory=16 << 20, temp_dir=folder, output=tmp_path / "out", threads=1)
    assert not [*folder.iterdir()] and not (tmp_path / "out").exists()
    with pytest.raises(OSError, match="nowhere"):
        fastbpe.count_pretokens(paths, max_memory=16 << 20, temp_dir=tmp_path / "nowhere", threads=2)


def test_nothing_is_alive_after_an_interrupt(tmp_path):
    path = write(tmp_path, hostile(2, 200_000) * 60)[0]
    before = set(threading.enumerate())
    opened = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    def interrupt(stage, done, total):
        if done > 3_000_000:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastbpe.counting.PROGRESS_SECONDS", 0)
        with pytest.raises(KeyboardInterrupt):
            fastbpe.count_pretokens(path, threads=4, progress=interrupt)
    assert set(threading.enumerate()) == before
    assert opened == (len(os.listdir("/proc/self/fd")) if opened else 0)


def test_json_lines_and_parquet_and_what_is_compressed(tmp_path):
    documents = ["one  two\n", "", "漢字 \ud83d\ude42", "\u2028 a", "x" * 100_000]
    lines = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in documents) + '{"text": null}\n\n'
    expected_counts = fastbpe.count_pretokens_from_iterator(documents)
    plain = "\n\n".join(documents).encode("utf-8", "surrogatepass")
    (tmp_path / "a.jsonl").write_text(lines, "utf-8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()[:50]) + gzip.compress(lines.encode()[50:]))
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(plain))
    for name in ("a.jsonl", "b.jsonl.gz"):
        assert fastbpe.count_pretokens(tmp_path / name) == expected_counts
    assert dict(fastbpe.count_pretokens(tmp_path / "c.txt.gz")) == dict(fastbpe.count_pretokens_from_iterator([plain]))
    both = fastbpe.count_pretokens([tmp_path / "a.jsonl", tmp_path / "c.txt.gz"], positions=True)
    assert both == fastbpe.count_pretokens_from_iterator([*documents, plain], positions=True)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    documents = ["one  two", None, "漢字"] * 2000
    parquet.write_table(pyarrow.table({"body": documents, "n": [*range(6000)]}), tmp_path / "a.parquet")
    kept = [text for text in documents if text is not None]
    counts = fastbpe.count_pretokens(tmp_path / "a.parquet", text_field="body", threads=2)
    assert counts == fastbpe.count_pretokens_from_iterator(kept)
    with pytest.raises(fastbpe.TrainingError, match=r"a\.parquet: has no column 'text'; it has body, n"):
        fastbpe.count_pretokens(tmp_path / "a.parquet")
    with pytest.raises(fastbpe.TrainingError, match="column 'n' must hold texts, it holds int64"):
        fastbpe.count_pretokens(tmp_path / "a.parquet", text_field="n")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(fastbpe.TrainingError, match=r"b\.parquet: cannot be read as Parquet"):
        fastbpe.count_pretokens(tmp_path / "b.parquet")


def test_zst(tmp_path):
    zstandard = pytest.importorskip("zstandard")
    whole = zstandard.ZstdCompressor().compress(b"one two " * 9000)
    (tmp_path / "a.txt.zst").write_bytes(whole * 2)
    assert fastbpe.count_pretokens(tmp_path / "a.txt.zst")[b" two"] == 18_000
    (tmp_path / "b.txt.zst").write_bytes(b"no" + whole)
    with pytest.raises(fastbpe.TrainingError, match=r"b\.txt\.zst: cannot be decompressed"):
        fastbpe.count_pretokens(tmp_path / "b.txt.zst")


@pytest.mark.parametrize(("name", "package"), [("a.parquet", "pyarrow"), ("a.txt.zst", "zstandard")])
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        ImportError, match=rf"{name}: {package} is needed to read it: pip install 'fastbpe-cython\[data\]'"
    ):
        fastbpe.count_pretokens(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "not a line of JSON"),
        (b"[1]", "expected an object with the field 'text', got list"),
        (b'{"body": "x"}', "expected an object with the field 'text'"),
        (b'{"text": 3}', "the field 'text' must be a text, got int 3"),
        (b"\xff", "not a line of JSON"),
        (b"[" * 100_000, "not a line of JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x"}\n' + line + b"\n")
    with pytest.raises(fastbpe.TrainingError, match=rf"a\.jsonl:2: {message}"):
        fastbpe.count_pretokens(tmp_path / "a.jsonl")


def test_a_damaged_gz_is_named(tmp_path):
    whole = gzip.compress(b"one two three " * 1000)
    for content in (whole[:-9], b"no gzip", whole[:30] + b"\0\0\0" + whole[33:]):
        (tmp_path / "a.gz").write_bytes(content)
        with pytest.raises(fastbpe.TrainingError, match=r"a\.gz: cannot be decompressed"):
            fastbpe.count_pretokens(tmp_path / "a.gz")


def test_training_takes_another_field(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "one two one two"}\n')
    wanted = fastbpe.train_from_iterator(["one two one two"], 260, pattern="o200k")
    assert fastbpe.train(path, 260, text_field="body", pattern="o200k") == wanted
    superwords = fastbpe.train_superbpe(path, 260, transition_size=260, text_field="body")
    assert superwords.merges == wanted.merges
    for call in (fastbpe.train, partial(fastbpe.train_superbpe, transition_size=260)):
        with pytest.raises(fastbpe.TrainingError, match=r"field 'text', got dict .*: text_field .* names another"):
            call(path, 260)
        with pytest.raises(TypeError, match="text_field must be a str, got int 1"):
            call(path, 260, text_field=1)


def test_endings_count_without_case(tmp_path):
    line = b'{"text": "one two"}\n'
    (tmp_path / "a.JSONL").write_bytes(line)
    (tmp_path / "b.jsonl.GZ").write_bytes(gzip.compress(line))
    (tmp_path / "c.TXT.Gz").write_bytes(gzip.compress(b"one two"))
    counts = [dict(fastbpe.count_pretokens(path)) for path in sorted(tmp_path.iterdir())]
    assert counts == [{b"one": 1, b" two": 1}] * 3


NO_TEXTS = {
    "gzip data, .* end its name with .gz": gzip.compress(b"one two"),
    "Zstandard data, .* end its name with .zst": bytes.fromhex("28b52ffd") + b"rest",
    "xz data, .* decompress it": lzma.compress(b"one two"),
    "bzip2 data, .* decompress it": bz2.compress(b"one two"),
    "bzip2 data": bz2.compress(b""),
    "a zip archive, .* unpack it": b"PK\x03\x04rest",
    "a Parquet file, .* end its name with .parquet": b"PAR1\x15\x04",
    "pretoken counts, .* train_from_counts": None,
}


@pytest.mark.parametrize("message", NO_TEXTS)
def test_what_is_no_text_is_refused_before_counting(tmp_path, monkeypatch, message):
    monkeypatch.setattr("fastbpe.counting.PROGRESS_SECONDS", 0)
    first, wrong = write(tmp_path, b"one two", NO_TEXTS[message] or b"")
    if not NO_TEXTS[message]:
        fastbpe.count_pretokens(first).save(wrong)
    seen: list[object] = []
    for call in (fastbpe.count_pretokens, lambda paths, **options: fastbpe.train(paths, 257, **options)):
        with pytest.raises(fastbpe.TrainingError, match=rf"1\.txt: looks like {message}"):
            call([first, wrong], progress=lambda *now: seen.append(now))
    assert seen == []


@pytest.mark.parametrize("text", [b"", b"\x1f", b"BZh9 is a text", b"PK", b"FBPECNT"])
def test_what_may_be_a_text_is_counted(tmp_path, text):
    assert fastbpe.count_pretokens(write(tmp_path, text)).n_bytes == len(text)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe")
def test_nothing_is_taken_from_a_pipe_beforehand(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"one two"))
    thread.start()
    assert dict(fastbpe.count_pretokens(tmp_path / "pipe")) == {b"one": 1, b" two": 1}
    thread.join()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fastbpe.count_pretokens([], unit="file"), ValueError, "unit must be one of document, line, got str"),
        (lambda: fastbpe.count_pretokens([], threads=0), ValueError, "threads must be 1 to 1024 or None, got int 0"),
        (lambda: fastbpe.count_pretokens([], max_memory=5), ValueError, "max_memory must be at least 16777216 bytes"),
        (
            lambda: fastbpe.count_pretokens([], min_count=0),
            ValueError,
            "min_count must be an int of at least 1, got int 0",
        ),
        (lambda: fastbpe.count_pretokens([], text_field=1), TypeError, "text_field must be a str, got int 1"),
        (lambda: fastbpe.count_pretokens_from_iterator("ab"), TypeError, "texts must be an iterable of str or bytes"),
        (lambda: fastbpe.count_pretokens_from_iterator(["a", 1]), TypeError, "texts must hold .* got int 1 at index 1"),
        (lambda: fastbpe.count_pretokens_from_iterator(["a"], weights=3), TypeError, "weights must be an iterable"),
        (
            lambda: fastbpe.count_pretokens_from_iterator(["a"], weights=[1.0]),
            TypeError,
            "must hold int, got float 1.0 at",
        ),
        (lambda: fastbpe.count_pretokens_from_iterator(["a"], weights=[-1]), ValueError, "got -1 at index 0"),
        (lambda: fastbpe.count_pretokens_from_iterator(["a", "b"], weights=[1]), ValueError, "as many as texts, got 1"),
        (lambda: fastbpe.count_pretokens_from_iterator(["a"], weights=[1, 2]), ValueError, "got more than 1"),
        (lambda: fastbpe.count_pretokens_from_iterator(["a b"], weights=[2**62]), fastbpe.TrainingError, "add up to"),
        (
            lambda: fastbpe.count_pretokens_from_iterator(["a"] * 2, weights=[2**62] * 2),
            fastbpe.TrainingError,
            r"2\*\*63",
        ),
        (lambda: fastbpe.count_pretokens("."), IsADirectoryError, r"'\.'"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


class Index:
    def __index__(self):
        return 1 << 24


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"output": "nowhere/a.fbc"}, FileNotFoundError, "nowhere/a.fbc"),
        ({"output": "."}, IsADirectoryError, r"'\.'"),
        ({"output": 3}, TypeError, "output must be a path or None, got int 3"),
        ({"temp_dir": "nowhere"}, FileNotFoundError, "nowhere"),
        ({"temp_dir": "a.txt"}, NotADirectoryError, "a.txt"),
        ({"temp_dir": 3}, TypeError, "temp_dir must be a path or None, got int 3"),
        ({"max_memory": 1e9}, TypeError, "max_memory must be an int or None, got float 1000000000.0"),
        ({"max_memory": True}, TypeError, "max_memory must be an int or None, got bool True"),
        ({"progress": 3}, TypeError, "progress must be callable or None, got int 3"),
    ],
)
def test_wrong_options_are_found_before_anything_is_read(tmp_path, monkeypatch, options, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("a")

    def texts():
        raise AssertionError("read")
        yield "a"

    with pytest.raises(error, match=message):
        fastbpe.count_pretokens_from_iterator(texts(), **options)
    with pytest.raises(error, match=message):
        fastbpe.count_pretokens("missing.txt", **options)


def test_integers_of_any_kind():
    counts = fastbpe.count_pretokens_from_iterator(["a"], weights=[Index()], max_memory=Index())
    assert dict(counts) == {b"a": 1 << 24}
    with pytest.raises(TypeError, match="weights must hold int, got NoneType None at index 1"):
        fastbpe.count_pretokens_from_iterator(["a", "b"], weights=[1, None])


def test_an_overflow_of_the_caller_passes_through():
    def texts():
        yield "a"
        raise OverflowError("mine")

    with pytest.raises(OverflowError, match="mine"):
        fastbpe.count_pretokens_from_iterator(texts())


def test_the_commands_count_and_merge(tmp_path):
    paths = write(tmp_path, b"one two  ", b"two <|e|>three")
    run = [sys.executable, "-m", "fastbpe"]
    for at, path in enumerate(paths):
        subprocess.run([*run, "count-pretokens", path, "-o", tmp_path / f"{at}.fbc", "--special", "<|e|>"], check=True)
    merge = [*run, "merge-counts", tmp_path / "0.fbc", tmp_path / "1.fbc", "-o", tmp_path / "all.fbc"]
    subprocess.run(merge, check=True)
    counts = fastbpe.PretokenCounts.load(tmp_path / "all.fbc")
    assert counts == fastbpe.count_pretokens(paths, special_tokens=["<|e|>"])
    again = subprocess.run(merge, capture_output=True, text=True)
    assert again.returncode and "all.fbc" in again.stderr


def test_a_long_run_of_invalid_bytes_is_read_once(core):
    """It took time that grew with its square."""
    counter = core.Counter(make_splitter_of(core))
    begun = time.process_time()
    for _ in range(2000):
        counter.take(b"\xff" * 5000)
    counter.take(b"", True)
    assert [*map(len, counter.items()[0])] == [10_000_000] and time.process_time() - begun < 5


@pytest.mark.native_only
def test_ctrl_c_ends_sorting():
    """Sorting may take seconds, in native code."""
    strings = PackedBytes.of(r.to_bytes(4, "little") for r in range(3_000_000))
    timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        while True:
            backend_modules("native").sort_order(strings)
