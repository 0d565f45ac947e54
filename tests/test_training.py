"""Texts to a tokenizer: the edge cases. Oracle: the regex module, collections.Counter and the quadratic definition."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest
import regex

import fastbpe
from fastbpe.pattern.named import GPT2, PATTERNS
from tests.bpe_definition import quadratic_merges

EOT = "<|endoftext|>"


def expected_counts(documents, special=()) -> dict[bytes, int]:
    """The pretokens of str documents: cut at special tokens, the longest first, then split by regex."""
    counts: Counter[bytes] = Counter()
    cut = re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")
    for document in documents:
        for segment in cut.split(document):
            counts.update(piece.encode() for piece in regex.findall(GPT2, segment))
    return dict(counts)


def write(folder: Path, *contents: bytes) -> list[Path]:
    paths = [folder / f"{index}.txt" for index in range(len(contents))]
    for path, content in zip(paths, contents):
        path.write_bytes(content)
    return paths


def learnt(documents, n_merges=20, special=(), **options) -> tuple[tuple[bytes, bytes], ...]:
    size = 256 + len(special) + n_merges
    return fastbpe.train_from_iterator(documents, size, special_tokens=special, **options).merges


@pytest.mark.parametrize("rule", ["lexicographic", "huggingface", "smallest_id"])
def test_every_way_to_train_gives_the_same(tmp_path, novel, rule):
    documents = [document[:5000] for document in novel[:6]]
    paths = write(tmp_path, *(document.encode() for document in documents))
    expected = tuple(quadratic_merges(expected_counts(documents), 60, rule))
    counts = fastbpe.count_pretokens(paths)
    assert dict(counts) == expected_counts(documents)
    assert (counts.n_documents, counts.n_bytes) == (6, sum(len(document.encode()) for document in documents))
    for tokenizer in (
        fastbpe.train(paths, 316, tie_break=rule),
        fastbpe.train([str(path) for path in reversed(paths)], 316, tie_break=rule),
        fastbpe.train_from_iterator(documents, 316, tie_break=rule),
        fastbpe.train_from_iterator((document.encode() for document in documents), 316, tie_break=rule),
        fastbpe.train_from_counts(counts, 316, tie_break=rule),
        fastbpe.train_from_counts(dict(counts), 316, tie_break=rule),
    ):
        assert tokenizer.merges == expected
    assert fastbpe.train(paths[0], 270) == fastbpe.train(str(paths[0]), 270)


def test_the_course_rule_is_max_over_pairs_of_bytes():
    """The example of CS336's handout: of (A, B), (A, C), (B, ZZ), (BA, A), all as frequent, (BA, A) is the greatest."""
    assert max([("A", "B"), ("A", "C"), ("B", "ZZ"), ("BA", "A")]) == ("BA", "A")
    # ZZ and BA are merged first; then those four pairs stand at a count of 2 each.
    counts = {b"ZZ": 9, b"BA": 8, b"AB": 2, b"AC": 2, b"BZZ": 2, b"BAA": 2}
    merges = fastbpe.train_from_counts(counts, 260).merges
    assert merges == ((b"Z", b"Z"), (b"B", b"A"), (b"BA", b"A"), (b"B", b"ZZ"))


def test_ids_are_bytes_then_merges_then_special_tokens():
    tokenizer = fastbpe.train_from_iterator(["low lower lowest"], 260, special_tokens=[EOT, "<pad>"])
    assert len(tokenizer.merges) == 2 and tokenizer.n_vocab == 260
    assert [token for token, _ in sorted(tokenizer.vocab.items(), key=lambda item: item[1])] == [
        *(bytes([value]) for value in range(256)),
        *(left + right for left, right in tokenizer.merges),
    ]
    assert tokenizer.special_tokens == {EOT: 258, "<pad>": 259}
    assert not tokenizer.spec.whole and tokenizer.decode(tokenizer.encode("lowest " + EOT, allowed_special="all"))


def test_provenance_says_how():
    tokenizer = fastbpe.train_from_iterator(["aé a", b"b"], 300, tie_break="huggingface", min_frequency=2)
    provenance = dict(tokenizer.spec.provenance)
    assert provenance.pop("fastbpe")
    assert provenance == {
        "pattern": "gpt2", "vocab_size": 300, "tie_break": "huggingface", "min_frequency": 2,
        "documents": 2, "bytes": 6, "pretokens": 3, "unique_pretokens": 3,
    }  # fmt: skip


@pytest.mark.parametrize("documents", [[], [""], [b""], ["", EOT], [EOT * 3]])
def test_no_text_to_learn_from(documents):
    with pytest.raises(fastbpe.TrainingError, match=f"no text to learn from in {len(documents)} documents"):
        fastbpe.train_from_iterator(documents, 1000, special_tokens=[EOT])
    assert fastbpe.train_from_iterator(documents, 257, special_tokens=[EOT]).merges == ()  # nothing is wanted
    with pytest.raises(fastbpe.TrainingError, match="no text"):
        fastbpe.train([], 300)


def test_vocab_size_is_checked_before_anything_is_read():
    def unread():
        raise AssertionError("read")
        yield

    for special, least in (([], 256), ([EOT], 257)):
        with pytest.raises(ValueError, match=f"vocab_size must be at least {least} .* got {least - 1}"):
            fastbpe.train_from_iterator(unread(), least - 1, special_tokens=special)
        with pytest.raises(ValueError, match="vocab_size"):
            fastbpe.train("no such file", least - 1, special_tokens=special)
        assert fastbpe.train_from_iterator(["aaaa"], least, special_tokens=special).merges == ()


def test_a_small_corpus_gives_a_small_vocabulary():
    tokenizer = fastbpe.train_from_iterator(["abc"], 2**40, special_tokens=[EOT])
    assert tokenizer.merges == ((b"b", b"c"), (b"a", b"bc"))
    assert tokenizer.special_tokens == {EOT: 258}


def test_a_prefix_of_a_larger_training_is_the_smaller_one(novel):
    whole = learnt(novel[:8], 300)
    assert learnt(novel[:8], 40) == whole[:40]


def test_min_frequency():
    assert learnt(["ab ab ab cd cd"], min_frequency=3) == ((b"a", b"b"),)


def test_counts_past_32_bits():
    counts = {b"ab": 2**32 + 1, b"cd": 2**32 + 2, b" ab": 2**58}
    assert fastbpe.train_from_counts(counts, 259).merges == tuple(quadratic_merges(counts, 3, "lexicographic"))
    with pytest.raises(fastbpe.TrainingError, match=r"2\*\*63"):
        fastbpe.train_from_counts({b"a": 2**62, b"b": 2**62}, 257)


def test_short_and_long_pretokens():
    long = "xyz" * 30_000
    counts = expected_counts(["a", long, "b"])
    assert max(map(len, counts)) == 90_000
    assert learnt(["a", long, "b"], 4) == tuple(quadratic_merges(counts, 4, "lexicographic"))


@pytest.mark.parametrize(
    ("special", "document"),
    [
        ([EOT], f"one two{EOT}three  {EOT}  four {EOT}"),
        (["<e>", "<e><e>"], "a<e><e><e>b <e>c <e><e>d"),
        (["<a b>", " <", "\n\n"], "x <a b> y\n\n\nz <a  b>"),
        (["a"], "banana bandana"),
    ],
)
def test_special_tokens_are_boundaries_and_never_counted(tmp_path, special, document):
    counts = fastbpe.count_pretokens(write(tmp_path, document.encode()), special_tokens=special)
    assert dict(counts) == expected_counts([document], special)
    expected = tuple(quadratic_merges(counts, 20, "lexicographic"))
    assert learnt([document], special=special) == expected
    assert not any(text.encode() in left + right for left, right in expected for text in special)


def test_text_around_the_borders_of_blocks(tmp_path, monkeypatch):
    """A file is read in blocks: special tokens, characters and runs of spaces lie across their borders."""
    unit = f"word  {EOT}漢字 é\r\n  {EOT}  tail\n\n  "
    document = unit * (600_000 // len(unit.encode()))
    monkeypatch.setattr("fastbpe.counting.BLOCK", 99_991)
    counts = fastbpe.count_pretokens(write(tmp_path, document.encode()), special_tokens=[EOT])
    assert dict(counts) == expected_counts([document], [EOT])


def test_documents_end_texts(tmp_path):
    """Whitespace at the end of a document is one pretoken; nothing spans two documents."""
    documents = ["one  ", "  two\n", "\n three"]
    counts = fastbpe.count_pretokens(write(tmp_path, *(document.encode() for document in documents)))
    assert dict(counts) == expected_counts(documents)
    assert counts[b"  "] == 1 and counts[b"\n"] == 2


def test_bytes_are_taken_as_they_are(tmp_path):
    document = "\ufeffone\r\ntwo\0three\r\n"
    counts = fastbpe.count_pretokens(write(tmp_path, document.encode()))
    assert dict(counts) == expected_counts([document])


def test_invalid_utf8_is_a_pretoken_of_its_own(tmp_path):
    content = b"ab \xff\xfe cd\x80" + "é".encode()[:1]
    counts = fastbpe.count_pretokens(write(tmp_path, content))
    assert dict(counts) == {b"ab": 1, b" ": 1, b"\xff\xfe": 1, b" cd": 1, b"\x80\xc3": 1}
    assert learnt([content] * 2, 1) == ((b"\xff", b"\xfe"),)


def test_surrogates_are_as_in_encoding():
    assert learnt(["\ud83d\ude42" * 3]) == learnt(["🙂" * 3])
    assert learnt(["a\ud800" * 3]) == learnt(["a\ufffd" * 3])


@pytest.mark.parametrize("change", [b"", b"more and more"])
def test_a_file_that_changes_its_size_is_an_error(tmp_path, change):
    path = tmp_path / "changing.txt"
    path.write_bytes(b"abc " * (1 << 17))

    def meddle(stage, done, total):
        path.write_bytes(b"abc " * (1 << 17) + change if change else b"")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastbpe.counting.PROGRESS_SECONDS", 0)
        patch.setattr("fastbpe.counting.BLOCK", 1 << 16)
        with pytest.raises(fastbpe.TrainingError, match=r"changing\.txt: had 524288 bytes"):
            fastbpe.train(path, 300, progress=meddle)


def test_a_missing_file_ends_training_before_the_first_is_read(tmp_path):
    first = write(tmp_path, b"text")[0]
    seen = []
    with pytest.raises(FileNotFoundError):
        fastbpe.train([first, tmp_path / "none"], 300, progress=lambda *report: seen.append(report))
    assert not seen


def test_progress_tells_bytes_and_merges(tmp_path):
    seen = []
    fastbpe.train(write(tmp_path, b"abc abc"), 300, progress=lambda *report: seen.append(report))
    assert seen[0] == ("count", 7, 7) and seen[-1] == ("merge", 3, 44)


def test_what_the_iterator_raises_passes_through():
    class Broken(Exception):
        pass

    broken = Broken("as it was")

    def documents():
        yield "one"
        raise broken

    with pytest.raises(Broken) as caught:
        fastbpe.train_from_iterator(documents(), 300)
    assert caught.value is broken


def test_a_merge_that_spells_a_special_token_is_kept_with_a_warning():
    with pytest.warns(UserWarning, match="special token 'ab' is also spelled by a merge") as caught:
        tokenizer = fastbpe.train_from_counts({b"ab": 3}, 300, special_tokens=["ab"])
    assert caught[0].filename == __file__
    assert tokenizer.vocab[b"ab"] == 256 and tokenizer.special_tokens == {"ab": 257}
    assert tokenizer.decode_bytes([256, 257]) == b"abab"


def test_pattern_by_name_and_by_expression():
    text = ["Hello world, 12345 it's"]
    assert learnt(text, pattern=PATTERNS["gpt2"]) == learnt(text, pattern="gpt2")
    assert learnt(text, pattern=r"\S+|\s+") != learnt(text, pattern="gpt2")
    assert fastbpe.train_from_iterator(text, 300, pattern="deepseek").spec.provenance["pattern"] == "deepseek"
    with pytest.raises(ValueError, match="one of cl100k"):
        learnt(text, pattern="gpt-2")
    with pytest.raises(fastbpe.PatternError):
        fastbpe.train("no such file", 300, pattern="(")


def test_counts_know_their_options():
    counts = fastbpe.count_pretokens_from_iterator(["a b"], pattern="cl100k", special_tokens=[EOT])
    tokenizer = fastbpe.train_from_counts(counts, 300)
    assert tokenizer.pattern == PATTERNS["cl100k"] and EOT in tokenizer.special_tokens
    with pytest.raises(fastbpe.TrainingError, match="made with the pattern 'cl100k', not with .*'gpt2'"):
        fastbpe.train_from_counts(counts, 300, pattern="gpt2")
    with pytest.raises(fastbpe.TrainingError, match="special_tokens"):
        fastbpe.train_from_counts(counts, 300, special_tokens=[])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fastbpe.train(3, 300), TypeError, "sources must be a path or a sequence of paths, got int 3"),
        (lambda: fastbpe.train(b"path", 300), TypeError, "sources must be a path"),
        (lambda: fastbpe.train(["a", 3], 300), TypeError, "sources must hold paths, got int 3 at index 1"),
        (lambda: fastbpe.train([], 300.0), TypeError, "vocab_size must be an int, got float 300.0"),
        (lambda: fastbpe.train([], True), TypeError, "vocab_size must be an int, got bool True"),
        (lambda: fastbpe.train([], 300, tie_break="first"), ValueError, "tie_break must be one of .* got str 'first'"),
        (lambda: fastbpe.train([], 300, min_frequency=0), ValueError, "min_frequency must be at least 1, got 0"),
        (lambda: fastbpe.train([], 300, pattern=b"x"), TypeError, "pattern must be a str"),
        (lambda: fastbpe.train([], 300, special_tokens="<e>"), TypeError, "special_tokens must be a sequence of str"),
        (lambda: fastbpe.train([], 300, special_tokens={"<e>"}), TypeError, "special_tokens must be a sequence of str"),
        (lambda: fastbpe.train([], 300, special_tokens=[""]), ValueError, "must not hold the empty text"),
        (lambda: fastbpe.train([], 300, special_tokens=["a", "a"]), ValueError, "must differ, got str 'a' again"),
        (lambda: fastbpe.train([], 300, special_tokens=["\ud800"]), ValueError, "surrogate"),
        (lambda: fastbpe.train_from_iterator("text", 300), TypeError, "texts must be an iterable of str or bytes"),
        (lambda: fastbpe.train_from_iterator(["a", 7], 300), TypeError, "str or bytes, got int 7 at index 1"),
        (lambda: fastbpe.train_from_iterator(None, 300), TypeError, "texts must be an iterable"),
        (lambda: fastbpe.train_from_counts([b"a"], 300), TypeError, "counts must be PretokenCounts or a mapping"),
        (lambda: fastbpe.train_from_counts({"a": 1}, 300), TypeError, "counts must have bytes as keys, got str 'a'"),
        (lambda: fastbpe.train_from_counts({b"a": -1}, 300), ValueError, "0 or more, got -1"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_a_source_need_not_be_a_regular_file(tmp_path):
    from threading import Thread

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=pipe.write_bytes, args=(b"abab",))
    writer.start()
    assert fastbpe.train(pipe, 257).merges == ((b"a", b"b"),)
    writer.join()
