"""Options of training: ids, lengths, a vocabulary to go on from, checkpoints, reports.

Oracle: the quadratic definition, and one training in the place of two.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import fastbpe
from fastbpe import checkpoint as checkpoints
from fastbpe.core import train_python
from fastbpe.counts_file import checked_splits
from tests.bpe_definition import quadratic_merges
from tests.test_train_merges import RULES, random_counts

EOT = "<|endoftext|>"


@pytest.fixture(scope="module")
def text(novel) -> str:
    return "".join(novel)[:300_000]


def counted(text: str, pattern: str = "gpt2", special=(), **options) -> fastbpe.PretokenCounts:
    splits = checked_splits("", pattern)
    return fastbpe.counting.count_texts([text], splits, special, None, **options)


# --- ids, lengths ---------------------------------------------------------------------------------------------------


def test_special_tokens_at_chosen_ids(text):
    plain = fastbpe.train_from_iterator([text], 300)
    tok = fastbpe.train_from_iterator([text], 303, special_tokens={"<b>": 260, EOT: 0, "<far>": 900})
    assert tok.special_tokens == {EOT: 0, "<b>": 260, "<far>": 900}
    assert tok.merges == plain.merges and len(tok.vocab) == 300
    ordinary = [id for id in range(302) if id not in (0, 260)]
    assert dict(tok.vocab) == dict(zip(plain.vocab, ordinary))
    assert tok.decode(tok.encode("whale " + EOT, allowed_special="all")) == "whale " + EOT


def test_ids_as_those_of_the_trainer_of_tokenizers(text):
    tokenizers = pytest.importorskip("tokenizers")
    from tests.reference import byte_letters, huggingface_trained

    byte_of = byte_letters()
    theirs: tokenizers.Tokenizer = huggingface_trained([text], 700)
    expected = {bytes(map(byte_of.__getitem__, token)): id for token, id in theirs.get_vocab().items()}
    ours = fastbpe.train_from_iterator([text], 700, tie_break="huggingface", byte_ids="huggingface")
    assert dict(ours.vocab) == expected
    assert ours.encode(text[:9000]) == theirs.encode(text[:9000]).ids
    moved = fastbpe.train_from_iterator([text], 701, special_tokens={EOT: 0}, byte_ids="huggingface")
    assert moved.vocab[b"!"] == 1 and moved.special_tokens == {EOT: 0}


@pytest.mark.parametrize(
    ("special", "error", "message"),
    [
        ({EOT: -1}, ValueError, "ids of 0 or more, got -1"),
        ({EOT: 1.5}, TypeError, "the id of special token .* must be an int"),
        ({EOT: 3, "<b>": 3}, ValueError, "different ids"),
        ({"": 3}, ValueError, "empty text"),
        ({3: 3}, TypeError, "must hold str"),
        ({EOT: 2**30}, fastbpe.LimitError, "exceeds"),
    ],
)
def test_wrong_ids_of_special_tokens(special, error, message):
    with pytest.raises(error, match=message):
        fastbpe.train("no such file", 300, special_tokens=special)


@pytest.mark.parametrize("unit", ["bytes", "characters"])
@pytest.mark.parametrize("longest", [1, 2, 5])
def test_max_token_length(core, monkeypatch, unit, longest):
    for seed in range(40):
        counts, rule = random_counts(seed), RULES[seed % 4]
        firsts = np.arange(len(counts), dtype=np.uint64)
        merges = core.train_merges(
            list(counts), list(counts.values()), 60, rule, 1,
            firsts=firsts, max_length=longest, in_characters=unit == "characters",
        )  # fmt: skip
        assert merges == quadratic_merges(counts, 60, rule, 1, longest, unit == "characters")
    tok = fastbpe.train_from_iterator(["ééé eé " * 9], 290, max_token_length=longest, length_unit=unit)
    lengths = [len(a + b) if unit == "bytes" else len((a + b).decode(errors="ignore")) for a, b in tok.merges]
    assert max(lengths, default=0) <= longest


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_token_length": 0}, ValueError, "max_token_length must be at least 1"),
        ({"max_token_length": "4"}, TypeError, "max_token_length must be an int"),
        ({"length_unit": "words"}, ValueError, "length_unit must be one of bytes, characters"),
        ({"byte_ids": "x"}, ValueError, "byte_ids must be one of value, huggingface"),
        (
            {"byte_ids": "huggingface", "init": fastbpe.get_encoding("gpt2")},
            ValueError,
            "byte_ids must be 'value' with",
        ),
        ({"threads": 0}, ValueError, "threads must be 1 to 1024"),
        ({"report": {}}, TypeError, "report must be a TrainingReport"),
        ({"init": "gpt2"}, TypeError, "init must be a Tokenizer"),
        ({"tie_break": "first"}, ValueError, "tie_break must be one of"),
        ({"checkpoint": "/no/such/folder/x"}, OSError, "/no/such/folder"),
    ],
)
def test_wrong_options_are_found_before_anything_is_read(options, error, message):
    with pytest.raises(error, match=message):
        fastbpe.train("no such file", 300, **options)


# --- ties -----------------------------------------------------------------------------------------------------------


def test_first_seen_is_max_over_pairs_as_they_are_found(text):
    """The rule of minbpe and of tiktoken's educational trainer: max(stats, key=stats.get) over all pretokens."""
    import regex

    text = text[:12_000]
    words = [[bytes([byte]) for byte in word.encode()] for word in regex.findall(fastbpe.patterns["gpt2"], text)]
    merges = []
    for _ in range(150):
        stats: dict[tuple[bytes, bytes], int] = {}
        for word in words:
            for pair in zip(word, word[1:]):
                stats[pair] = stats.get(pair, 0) + 1
        best = max(stats, key=stats.__getitem__)
        merges.append(best)
        for index, word in enumerate(words):
            joined, at = [], 0
            while at < len(word):
                if at + 1 < len(word) and (word[at], word[at + 1]) == best:
                    joined.append(word[at] + word[at + 1])
                    at += 2
                else:
                    joined.append(word[at])
                    at += 1
            words[index] = joined
    assert fastbpe.train_from_iterator([text], 406, tie_break="first_seen").merges == tuple(merges)


def test_first_seen_needs_positions(text):
    counts = counted(text[:1000])
    with pytest.raises(ValueError, match="positions=True"):
        fastbpe.train_from_counts(counts, 300, tie_break="first_seen")
    with pytest.raises(ValueError, match="positions=True"):
        fastbpe.train_from_counts({b"ab": 1}, 300, tie_break="first_seen")


def test_where_two_rules_part(text):
    counts = counted(text, positions=True)
    parted = 0
    learned = {rule: fastbpe.train_from_counts(counts, 900, tie_break=rule).merges for rule in RULES}
    for first in RULES:
        for second in RULES:
            found = fastbpe.first_tie_difference(counts, first, second, 900)
            pairs = enumerate(zip(learned[first], learned[second]))
            expected = next(((at, x, y) for at, (x, y) in pairs if x != y), None)
            assert found == expected
            parted += found is not None
    assert parted == 12  # each two different ones do
    with pytest.raises(ValueError, match="tie_break"):
        fastbpe.first_tie_difference(counts, "lexicographic", "x", 300)
    with pytest.raises(TypeError, match="PretokenCounts"):
        fastbpe.first_tie_difference({}, "lexicographic", "huggingface", 300)


# --- threads, thresholds --------------------------------------------------------------------------------------------


@pytest.mark.native_only
@pytest.mark.parametrize("seed", range(60))
def test_threads_thresholds_and_widths_change_nothing(monkeypatch, seed):
    from fastbpe.core import train_native

    r = random.Random(seed)
    counts, rule = random_counts(seed), RULES[seed % 4]
    firsts = np.arange(len(counts), dtype=np.uint64) + 3
    for _ in range(6):
        monkeypatch.setattr(train_native, "PART_PLACES", r.choice([1, 20]))
        monkeypatch.setattr(train_native, "LONG_LIST", r.choice([0, 3, 4096]))
        monkeypatch.setattr(train_native, "MOST_HITS", r.choice([1, 70, 1 << 14]))
        monkeypatch.setattr(train_native, "WIDE_FROM", r.choice([1, 258, 261, 280, 65535]))
        monkeypatch.setattr(train_native, "SAFETY", r.choice([1, 2, 50, 10**9]))
        merges = train_native.train_merges(
            list(counts), list(counts.values()), 80, rule, 1, firsts=firsts, threads=r.choice([1, 2, 5])
        )
        assert merges == quadratic_merges(counts, 80, rule)


@pytest.mark.native_only
def test_what_the_progress_raises_ends_all_threads(monkeypatch):
    import threading

    from fastbpe.core import train_native

    monkeypatch.setattr(train_native, "PART_PLACES", 1)
    monkeypatch.setattr(train_native, "LONG_LIST", 0)
    monkeypatch.setattr(train_native, "PROGRESS_SECONDS", 0.0)
    words = [random.Random(seed).randbytes(3000) for seed in range(400)]
    before = threading.active_count()

    def fail(done: int, wanted: int) -> None:
        if done > 50:
            raise LookupError("enough")

    for threads in (1, 2, 4):
        with pytest.raises(LookupError, match="enough"):
            train_native.train_merges(words, [1] * 400, 10**5, "lexicographic", 1, fail, threads=threads)
        assert threading.active_count() == before


@pytest.mark.native_only
def test_more_tokens_than_16_bits_hold():
    r = random.Random(4)
    words = [bytes(r.choices(b"abcdefghijklmnop", k=12)) for _ in range(17_000)]
    counts = dict.fromkeys(words, 1)
    merges = fastbpe.train_from_counts(counts, 66_500, threads=2).merges
    assert len(merges) == 66_500 - 256
    part = fastbpe.train_from_counts(counts, 65_000)
    assert fastbpe.train_from_counts(counts, 66_500, init=part).merges == merges  # with 32 bits from the start


# --- going on from a vocabulary -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["lexicographic", "smallest_id", "first_seen"])
def test_two_trainings_are_one(text, rule):
    """Ids of a trained vocabulary are in the order of the rule, so going on is the same as never having stopped."""
    counts = counted(text, positions=True)
    once = fastbpe.train_from_counts(counts, 900, tie_break=rule)
    part = fastbpe.train_from_counts(counts, 500, tie_break=rule)
    assert fastbpe.train_from_counts(counts, 900, tie_break=rule, init=part).merges == once.merges
    assert fastbpe.train_from_counts(counts, 500, tie_break=rule, init=part).merges == part.merges


@pytest.mark.parametrize("name", ["gpt2", "cl100k_base", "o200k_base"])
def test_a_published_vocabulary_keeps_its_ids(name):
    init = fastbpe.get_encoding(name)
    documents = ["xyzzyplugh xyzzyplugh quuxfrob " * 50 + EOT, " xyzzyplugh 한국어사전 " * 40]
    size = init.n_vocab + 12
    tok = fastbpe.train_from_iterator(documents, size, init=init, special_tokens=["<new>"])
    assert tok.n_vocab <= size and tok.pattern == init.pattern
    assert dict(init.vocab).items() <= dict(tok.vocab).items()
    assert init.special_tokens.items() <= tok.special_tokens.items() and "<new>" in tok.special_tokens
    new = {token: id for token, id in tok.vocab.items() if token not in init.vocab}
    assert new and sorted(new.values()) == list(range(init.n_vocab, init.n_vocab + len(new)))
    assert tok.special_tokens["<new>"] == init.n_vocab + len(new)
    for document in documents:
        ids = tok.encode(document, allowed_special="all")
        assert tok.decode(ids) == document
        assert len(ids) < len(init.encode(document, allowed_special="all"))
    other = "An ordinary sentence, which has none of that. Deux mots."
    assert tok.encode(other) == init.encode(other)


def test_the_words_of_init_are_those_it_encodes(text):
    init = fastbpe.get_encoding("gpt2")
    counts = counted(text[:60_000], init.pattern, (EOT,))
    tok = fastbpe.train_from_counts(counts, init.n_vocab + 30, init=init)
    words = [([init.decode_bytes([id]) for id in init.encode_bytes(word)], n) for word, n in counts.items()]
    known, merges = set(init.vocab), []
    while len(merges) < 30:
        pairs: dict[tuple[bytes, bytes], int] = {}
        for word, n in words:
            for pair in zip(word, word[1:]):
                pairs[pair] = pairs.get(pair, 0) + n
        best = max((pair for pair in pairs if pair[0] + pair[1] not in known), key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word, _ in words:
            at = 0
            while at < len(word) - 1:
                if (word[at], word[at + 1]) == best:
                    word[at : at + 2] = [best[0] + best[1]]
                at += 1
    assert [left + right for left, right in merges] == list(tok.vocab)[len(init.vocab) :]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"pattern": "cl100k"}, ValueError, "pattern must be that of init, 'r50k'"),
        ({"special_tokens": {EOT: 7}}, ValueError, "it has 50256"),
        ({"special_tokens": {"<a>": 7}}, ValueError, "which another token has"),
        ({"vocab_size": 50256}, ValueError, "vocab_size must be at least 50257"),
    ],
)
def test_init_is_not_changed(options, error, message):
    options = {"vocab_size": 51_000, **options}
    with pytest.raises(error, match=message):
        fastbpe.train("no such file", init=fastbpe.get_encoding("gpt2"), **options)


# --- checkpoints ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("begin", "rule"), [*(("bytes", rule) for rule in RULES), ("init", "first_seen")])
def test_a_checkpoint_cut_anywhere_gives_the_same(tmp_path, text, begin, rule):
    init = fastbpe.get_encoding("gpt2") if begin == "init" else None
    special = () if init is None else (EOT,)
    counts = counted(text[:100_000], "gpt2" if init is None else "r50k", special, positions=True)
    options = {"tie_break": rule, "init": init}
    size = (256 if begin == "bytes" else 50_257) + 300
    path = tmp_path / "c"
    whole = fastbpe.train_from_counts(counts, size, checkpoint=path, **options)
    assert whole == fastbpe.train_from_counts(counts, size, **options)
    data = path.read_bytes()
    start = len(data) - 300 * 12
    cuts = (start, start + 5, start + 12 * 17, start + 12 * 150 + 11, len(data) - 1, len(data))
    for cut in cuts if init is None else cuts[3:5]:
        path.write_bytes(data[:cut])
        report = fastbpe.TrainingReport()
        assert fastbpe.train_from_counts(counts, size, checkpoint=path, report=report, **options) == whole
        assert report.n_resumed == (cut - start) // 12 and report.n_merges == 300
        assert path.read_bytes() == data
    for other in (size - 200, size + 50):
        again = fastbpe.train_from_counts(counts, other, checkpoint=path, **options)
        assert again == fastbpe.train_from_counts(counts, other, **options)


def test_the_order_of_counts_does_not_matter_to_a_checkpoint(tmp_path, text):
    counts = dict(counted(text[:50_000]))
    fastbpe.train_from_counts(counts, 300, checkpoint=tmp_path / "c")
    report = fastbpe.TrainingReport()
    turned = dict(reversed(counts.items()))
    fastbpe.train_from_counts(turned, 300, checkpoint=tmp_path / "c", report=report)
    assert report.n_resumed == 44


def test_a_checkpoint_of_another_training_is_refused(tmp_path, text):
    counts = dict(counted(text[:50_000]))
    path = tmp_path / "c"
    fastbpe.train_from_counts(counts, 300, checkpoint=path)
    data = path.read_bytes()
    for options, name in (
        ({"tie_break": "smallest_id"}, "tie_break"),
        ({"min_frequency": 2}, "min_frequency"),
        ({"max_token_length": 9}, "max_token_length"),
        ({"init": fastbpe.get_encoding("gpt2"), "vocab_size": 51_000}, "init"),
    ):
        with pytest.raises(
            fastbpe.TrainingError, match=f"c: the checkpoint belongs to another training: {name} differ"
        ):
            fastbpe.train_from_counts(counts, **{"vocab_size": 300, "checkpoint": path, **options})
    with pytest.raises(fastbpe.TrainingError, match="counts differ"):
        fastbpe.train_from_counts({**counts, b" the": 3}, 300, checkpoint=path)
    assert path.read_bytes() == data


@pytest.mark.skipif(os.name != "posix", reason="the lock is one of POSIX")
def test_a_checkpoint_has_one_writer(tmp_path, text):
    import fcntl

    path = tmp_path / "c"
    whole = fastbpe.train_from_iterator([text[:50_000]], 280, checkpoint=path)
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(fastbpe.TrainingError, match="c: the checkpoint is in use by another training"):
            fastbpe.train_from_iterator([text[:50_000]], 290, checkpoint=path)
    assert fastbpe.train_from_iterator([text[:50_000]], 280, checkpoint=path) == whole


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "c"
    counts = {b"abcabdabe": 5, b"cde": 3}
    fastbpe.train_from_counts(counts, 262, checkpoint=path)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(fastbpe.TrainingError, match="c: .*checkpoint"):
            fastbpe.train_from_counts(counts, 262, checkpoint=path)
    gone = len(data) - 24  # a record from the middle
    for wrong in (data[:gone] + data[gone + 12 :], b"", b"hello", data[:20]):
        path.write_bytes(wrong)
        with pytest.raises(fastbpe.TrainingError, match="c: .*checkpoint"):
            fastbpe.train_from_counts(counts, 262, checkpoint=path)
        assert path.read_bytes() == wrong


def test_a_killed_training_goes_on(tmp_path):
    """A process is killed while it merges; the merges it wrote, and the rest, are those of one that was not."""
    path, folder = tmp_path / "c", Path(__file__).resolve().parent.parent
    code = (
        "import random, fastbpe, time\n"
        "r = random.Random(5)\n"
        "counts = {bytes(r.choices(b'abcdefgh', k=9)): r.randrange(1, 9) for _ in range(3000)}\n"
        "slow = lambda *args: time.sleep(0.02)\n"
        "import fastbpe.core.train_native as n, fastbpe.core.train_python as p, fastbpe.checkpoint as c\n"
        "n.PROGRESS_SECONDS = p.PROGRESS_SECONDS = c.SYNC_SECONDS = 0.0\n"
        "fastbpe.core.train_merges = p.train_merges\n"
        f"tok = fastbpe.train_from_counts(counts, 1256, checkpoint={str(path)!r}, progress=slow)\n"
        "print(tok.fingerprint)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=folder)
    while not path.exists() or path.stat().st_size < 700:
        time.sleep(0.02)
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    size = path.stat().st_size
    r = random.Random(5)
    counts = {bytes(r.choices(b"abcdefgh", k=9)): r.randrange(1, 9) for _ in range(3000)}
    report = fastbpe.TrainingReport()
    resumed = fastbpe.train_from_counts(counts, 1256, checkpoint=path, report=report)
    assert 0 < report.n_resumed < 1000 and path.stat().st_size > size
    assert resumed == fastbpe.train_from_counts(counts, 1256)


def test_merges_are_synced_while_training_goes_on(tmp_path, monkeypatch, core):
    monkeypatch.setattr(checkpoints, "SYNC_SECONDS", 0.0)
    path = tmp_path / "c"
    with checkpoints.Checkpoint(path, {"a": 1}) as file:
        header = path.stat().st_size
        file.append(0, np.array([[1, 2], [3, 4]], dtype=np.uint32))
        assert path.stat().st_size == header + 24
    with checkpoints.Checkpoint(path, {"a": 1}) as file:
        assert file.merges.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("at", range(7))
def test_merges_that_come_again_after_an_error_are_written_once(tmp_path, monkeypatch, error, at):
    """An error falls into any of the calls that writing makes; what was passed on then comes again, with more."""
    pairs = np.arange(20, dtype=np.uint32).reshape(10, 2)
    with checkpoints.Checkpoint(tmp_path / "whole", {}) as file:
        file.append(0, pairs)
    calls = iter(range(10**6))

    def failing(call):
        def wrapper(*args):
            result = call(*args)
            if next(calls) == at:
                raise error
            return result

        return wrapper

    monkeypatch.setattr(checkpoints, "SYNC_SECONDS", 0.0)
    with checkpoints.Checkpoint(tmp_path / "c", {}) as file:
        file.append(0, pairs[:2])
    with checkpoints.Checkpoint(tmp_path / "c", {}) as file:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints.os, "fsync", failing(os.fsync))
            patch.setattr(checkpoints.zlib, "crc32", failing(checkpoints.zlib.crc32))
            with pytest.raises(type(error)):
                file.append(0, pairs[2:5])
                file.append(3, pairs[5:8])
        file.append(0, pairs[2:8])
        file.append(6, pairs[8:])
    assert (tmp_path / "c").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_training_stopped_while_it_syncs_goes_on(tmp_path, monkeypatch):
    r = random.Random(3)
    counts = {bytes(r.choices(b"abcdefgh", k=20)): r.randrange(1, 9) for _ in range(3000)}
    monkeypatch.setattr(f"{fastbpe.core.train_merges.__module__}.PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "SYNC_SECONDS", 0.0)
    whole = fastbpe.train_from_counts(counts, 900)
    calls, sync = iter(range(10**6)), checkpoints.Checkpoint._sync

    def interrupted(checkpoint):
        sync(checkpoint)
        if next(calls) == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Checkpoint, "_sync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fastbpe.train_from_counts(counts, 900, checkpoint=tmp_path / "c")
    report = fastbpe.TrainingReport()
    assert fastbpe.train_from_counts(counts, 900, checkpoint=tmp_path / "c", report=report) == whole
    assert 0 < report.n_resumed < 644


def crafted(path: Path, header: bytes | None = None, records: list[tuple[int, int]] | None = None) -> None:
    """Put another header or other records into a checkpoint, with checksums as they should be."""
    data = path.read_bytes()
    size = int.from_bytes(data[8:12], "little")
    text = data[12 : 12 + size] if header is None else header
    whole = data[:8] + len(text).to_bytes(4, "little") + text
    whole += checkpoints.zlib.crc32(whole).to_bytes(4, "little")
    checksum = 0
    for left, right in records or []:
        pair = left.to_bytes(4, "little") + right.to_bytes(4, "little")
        checksum = checkpoints.zlib.crc32(pair, checksum)
        whole += pair + checksum.to_bytes(4, "little")
    path.write_bytes(whole)


def test_crafted_checkpoints_are_refused(tmp_path):
    path = tmp_path / "c"
    counts = {b"aaaa bcbc": 5}
    fastbpe.train_from_counts(counts, 256, checkpoint=path)
    whole = path.read_bytes()
    for header in (b"[]", b"null", b'"x"', b"", b"{", b"\xff", b"[" * 100_000):
        crafted(path, header)
        with pytest.raises(fastbpe.TrainingError, match="the header of the checkpoint is damaged"):
            fastbpe.train_from_counts(counts, 300, checkpoint=path)
    a = 255 - ord("a")  # a byte's number, by the rule for ties
    for records, words in (
        ([(a, a), (a, a)], "merge 1 of the checkpoint makes a token that is there already"),
        ([(a, a), (a, 256), (256, a)], "merge 2 of the checkpoint makes a token that is there already"),
        ([(a, a), *((n, n) for n in range(256, 296))], "merge 16 of the checkpoint makes a token of more than 65536"),
        ([(a, 256)], "merge 0 of the checkpoint joins a token that is not there yet"),
    ):
        path.write_bytes(whole)
        crafted(path, None, records)
        with pytest.raises(fastbpe.TrainingError, match=words):
            fastbpe.train_from_counts(counts, 400, checkpoint=path)


def test_a_checkpoint_of_more_bytes_than_a_vocabulary_holds(tmp_path, monkeypatch):
    counts = {b"aaaa bcbc": 5}
    fastbpe.train_from_counts(counts, 260, checkpoint=tmp_path / "c")
    monkeypatch.setattr("fastbpe.merging.MAX_VOCAB_BYTES", 256 + 5)
    with pytest.raises(fastbpe.TrainingError, match="merge 2 of the checkpoint makes tokens of more than 261 bytes"):
        fastbpe.train_from_counts(counts, 260, checkpoint=tmp_path / "c")


def test_a_wrong_checkpoint_is_refused_before_anything_is_read(tmp_path):
    path = tmp_path / "c"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(fastbpe.TrainingError, match="not a checkpoint"):
        fastbpe.train("no such file", 300, checkpoint=path)
    path.unlink()
    fastbpe.train_from_counts({b"ab": 2}, 257, checkpoint=path)
    with pytest.raises(fastbpe.TrainingError, match="another training: min_frequency differ"):
        fastbpe.train("no such file", 300, checkpoint=path, min_frequency=2)
    with pytest.raises(IsADirectoryError):
        fastbpe.train("no such file", 300, checkpoint=tmp_path)
    with pytest.raises(TypeError, match="checkpoint must be a path or None, got int 3"):
        fastbpe.train("no such file", 300, checkpoint=3)


@pytest.mark.parametrize(
    ("rule", "byte_ids"),
    # By smallest_id ties go by the ids of init, and these are other ones than without it with huggingface's.
    [
        (rule, ids)
        for rule in RULES
        for ids in ("value", "huggingface")
        if (rule, ids) != ("smallest_id", "huggingface")
    ],
)
def test_going_on_is_training_to_the_greater_size(text, rule, byte_ids):
    begun = fastbpe.train_from_iterator([text[:60_000]], 300, tie_break=rule, byte_ids=byte_ids)
    whole = fastbpe.train_from_iterator([text[:60_000]], 500, tie_break=rule, byte_ids=byte_ids)
    assert fastbpe.train_from_iterator([text[:60_000]], 500, tie_break=rule, init=begun).vocab == whole.vocab


# --- the report -----------------------------------------------------------------------------------------------------


def test_the_report(tmp_path, text):
    path = tmp_path / "t"
    path.write_text(text)
    report = fastbpe.TrainingReport()
    tok = fastbpe.train(path, 600, report=report)
    assert (report.n_documents, report.n_bytes, report.n_merges) == (1, len(text.encode()), 344)
    assert report.stopped == "vocab_size" and report.n_unique_pretokens == len(counted(text))
    assert set(report.seconds) == {"count", "load", "build", "merge", "tokenizer"}
    assert len(report.longest_tokens[0]) == max(map(len, tok.vocab)) and len(report.longest_tokens) == 10
    assert "344" in str(report) and "vocab_size is reached" in str(report)
    small = fastbpe.TrainingReport()
    fastbpe.train_from_counts({b"ab": 3}, 600, report=small)
    assert small.stopped == "min_frequency" and small.n_merges == 1 and "count" not in small.seconds


# --- shrinking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("special", [(), ("<a>", EOT), {EOT: 0}])
def test_shrink_is_training_to_that_size(text, special):
    whole = fastbpe.train_from_iterator([text], 900, special_tokens=special)
    for size in (256 + len(special), 500, 899, 900):
        assert whole.shrink(size) == fastbpe.train_from_iterator([text], size, special_tokens=special)


def test_shrink_of_a_published_vocabulary():
    gpt2 = fastbpe.get_encoding("gpt2")
    small = gpt2.shrink(10_001)
    assert small.n_vocab == 10_001 and small.special_tokens == {EOT: 10_000}
    assert dict(small.vocab) == {token: id for token, id in gpt2.vocab.items() if id < 10_000}
    text = "Call me Ishmael. Some years ago\n\n"
    assert small.decode(small.encode(text)) == text and len(small.encode(text)) >= len(gpt2.encode(text))
    for wrong in (256, 50_258, -1):
        with pytest.raises(ValueError, match=f"shrink.*vocab_size must be 257 to 50257, got {wrong}"):
            gpt2.shrink(wrong)
    with pytest.raises(TypeError, match="int"):
        gpt2.shrink("9")


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command(tmp_path, text):
    from click.testing import CliRunner

    from fastbpe.cli.train import train

    (tmp_path / "t").write_text(text[:50_000])
    paths = [str(tmp_path / name) for name in ("t", "one.fbpe", "two.fbpe", "c")]
    one = [paths[0], "--vocab-size", "400", "-o", paths[1], "--special-at", f"{EOT}=0", "--threads", "1"]
    done = CliRunner().invoke(train, [*one, "--max-token-length", "6", "--report", "--checkpoint", paths[3]])
    assert done.exit_code == 0 and "longest:" in done.output and "merges:    143" in done.output
    tok = fastbpe.load(paths[1])
    expected = fastbpe.train(paths[0], 400, special_tokens={EOT: 0}, max_token_length=6)
    assert tok == expected
    done = CliRunner().invoke(train, [paths[0], "--vocab-size", "450", "-o", paths[2], "--init", paths[1]])
    assert done.exit_code == 0
    assert fastbpe.load(paths[2]) == fastbpe.train(paths[0], 450, init=expected)
    lines = ["--unit", "line", "--byte-ids", "huggingface", "--tie-break", "first_seen", "--overwrite"]
    memory = ["--max-memory", str(16 << 20), "--temp-dir", str(tmp_path)]
    done = CliRunner().invoke(train, [paths[0], "--vocab-size", "450", "-o", paths[2], *lines, *memory])
    assert done.exit_code == 0
    expected = fastbpe.train(paths[0], 450, unit="line", byte_ids="huggingface", tie_break="first_seen")
    assert fastbpe.load(paths[2]) == expected
    done = CliRunner().invoke(train, [*one[:-2], "--special", "x", "--overwrite"])
    assert done.exit_code == 2 and "not both" in done.output


def test_the_help_of_the_command_has_headings_and_every_option_once():
    from click.testing import CliRunner

    from fastbpe.cli.train import GROUPS, train

    done = CliRunner().invoke(train, ["--help"])
    assert done.exit_code == 0
    for heading in (*GROUPS, "Options"):
        assert f"\n{heading}:\n" in done.output
    for param in train.params:
        if param.param_type_name == "option":
            assert len(re.findall(rf"^  (?:-\w, )?{param.opts[-1]}\b(?!-)", done.output, re.M)) == 1, param.opts


# --- what counting is given -----------------------------------------------------------------------------------------


def test_weights_are_repetitions(text):
    documents = [text[at : at + 2000] for at in range(0, 20_000, 2000)]
    repeated = [document for at, document in enumerate(documents) for _ in range(at % 3)]
    weighted = fastbpe.train_from_iterator(documents, 400, weights=(at % 3 for at in range(10)), threads=2)
    assert weighted.merges == fastbpe.train_from_iterator(repeated, 400).merges
    with pytest.raises(ValueError, match=r"train_from_iterator\(\): weights must be as many .*more than 10"):
        fastbpe.train_from_iterator(documents, 400, weights=[1] * 11)
    with pytest.raises(TypeError, match=r"train_from_iterator\(\): weights must be an iterable of int, got int 3"):
        fastbpe.train_from_iterator(documents, 400, weights=3)


def test_memory_changes_nothing(tmp_path, monkeypatch, text):
    for setting, value in (("spill.LEAST_TABLE", 1), ("spill.THREAD", 1 << 40), ("counting.BLOCK", 5000)):
        monkeypatch.setattr(f"fastbpe.{setting}", value)
    path = tmp_path / "text"
    path.write_text(text[:50_000], "utf-8")
    (tmp_path / "temp").mkdir()
    expected = fastbpe.train(path, 400, tie_break="first_seen")
    options = {"tie_break": "first_seen", "max_memory": 16 << 20, "temp_dir": tmp_path / "temp", "threads": 2}
    assert fastbpe.train(path, 400, **options) == expected
    assert fastbpe.train_from_iterator([text[:50_000]], 400, **options) == expected
    assert os.listdir(tmp_path / "temp") == []
    for call in (fastbpe.train, fastbpe.train_from_iterator):
        with pytest.raises(FileNotFoundError, match="nowhere"):  # before anything is read
            call([], 400, **{**options, "temp_dir": tmp_path / "nowhere"})
        with pytest.raises(ValueError, match=rf"{call.__name__}\(\): max_memory must be at least 16777216"):
            call([], 400, max_memory=5)


@pytest.mark.native_only
def test_gaps_of_every_size():
    from fastbpe.core import words_native

    gaps = [0, 1, 2, 0xEFFF, 0xF000, 0xF001, 0xFFFF, 0x10000, 0x0FFEFFFF, 0x0FFF0000, 0x10000001, 0x7FFFFFFF]
    random.Random(3).shuffle(gaps)
    numbers = np.cumsum(gaps, dtype=np.uint64)
    assert numbers[-1] < 2**32
    numbers = numbers.astype(np.uint32)
    assert np.array_equal(words_native._through_gaps(numbers), numbers)
    assert words_native._through_gaps(np.array([2**32 - 1], dtype=np.uint32)) == [2**32 - 1]


@pytest.mark.native_only
@pytest.mark.parametrize(("rule", "most_hits"), [("huggingface", 100), ("first_seen", 100), ("first_seen", 1 << 14)])
def test_rare_pairs_of_a_long_text_and_frequent_ones(monkeypatch, rule, most_hits):
    """Gaps of more than 16 bits, and more places of a pair than are remembered."""
    from fastbpe.core import train_native

    monkeypatch.setattr(train_native, "MOST_HITS", most_hits)
    r = random.Random(5)
    counts = {bytes(r.choices(b"abcdefghijklmnop", k=2 + r.randrange(9))): r.randrange(1, 40) for _ in range(30_000)}
    for at in range(60):
        counts[b"#%d#" % (at % 12) + bytes(r.choices(b"ab", k=9))] = r.randrange(1, 40)
    words, weights = list(counts), list(counts.values())
    firsts = np.arange(len(words), dtype=np.uint64)
    expected = train_python.train_merges(words, weights, 700, rule, 1, firsts=firsts)
    for threads in (1, 2):
        assert train_native.train_merges(words, weights, 700, rule, 1, firsts=firsts, threads=threads) == expected
