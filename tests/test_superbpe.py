"""SuperBPE: two stages of training. Oracle: the quadratic definition, the regex module and tokenizers."""

from __future__ import annotations

import os
import random
from collections import Counter

import numpy as np
import pytest
import regex
from click.testing import CliRunner

import fastbpe
from fastbpe import superbpe
from fastbpe.cli import main
from fastbpe.core.train_python import Start, count_words
from fastbpe.pattern.named import O200K
from fastbpe.superbpe import SUPERWORDS
from tests.bpe_definition import is_superword, join_everywhere, quadratic_merges
from tests.test_train_merges import RULES

EOT = "<|endoftext|>"
WORDS = [
    "the",
    "of",
    "a",
    "to",
    "whale",
    "sea",
    "Note:",
    "re:",
    "it",
    "x",
    "12345",
    "1",
    "--",
    "...",
    "é",
    "鯨",
    ":",
    "!",
]
GAPS = [" ", " ", " ", " ", "  ", "\n", ", ", ": ", "", EOT]


def random_text(r: random.Random) -> str:
    words = r.sample(WORDS, r.randrange(2, len(WORDS)))
    gaps = r.sample(GAPS, r.randrange(1, len(GAPS)))
    return "".join(r.choice(words) + r.choice(gaps) for _ in range(r.choice([0, 3, 30, 150])))


def pieces(text: str, pattern: str) -> list[str]:
    """What a pattern matches, and what is between."""
    found, at = [], 0
    for match in regex.finditer(pattern, text):
        found += [text[at : match.start()], match[0]]
        at = match.end()
    return [piece for piece in [*found, text[at:]] if piece]


def counted(documents: list[str], pattern: str) -> dict[bytes, int]:
    segments = (segment for document in documents for segment in document.split(EOT))
    return dict(Counter(piece.encode() for segment in segments for piece in pieces(segment, pattern)))


def write(folder, documents: list[str]) -> list[str]:
    for index, document in enumerate(documents):
        (folder / f"{index}.txt").write_bytes(document.encode())
    return [str(folder / f"{index}.txt") for index in range(len(documents))]


def definition(documents: list[str], n_first: int, n_merges: int, rule: str, max_words: int = 4):
    first = quadratic_merges(counted(documents, O200K), n_first, rule)
    pieces = counted(documents, SUPERWORDS)
    return first, quadratic_merges(pieces, n_merges - len(first), rule, max_words=max_words, first=first)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(25))
def test_equal_to_the_definition(tmp_path, rule, seed):
    r = random.Random(seed)
    documents = [random_text(r) for _ in range(r.choice([1, 3]))] + ["x"]  # without any text it is an error
    n_first, n_merges, max_words = r.choice([0, 5, 30]), r.choice([30, 31, 80, 300]), r.choice([1, 2, 4])
    first, second = definition(documents, n_first, n_merges, rule, max_words)
    tok = fastbpe.train_superbpe(
        write(tmp_path, documents), 257 + n_merges, transition_size=257 + n_first, max_words=max_words,
        special_tokens=[EOT], tie_break=rule,
    )  # fmt: skip
    assert list(tok.merges) == first + second
    assert [*tok.vocab][256:] == [left + right for left, right in first + second]
    assert tok.special_tokens == {EOT: 256 + len(tok.merges)}
    for piece in pieces("the sea: the whale of it 12345 -- 鯨 x!", SUPERWORDS):
        words = [([bytes([value]) for value in piece.encode()], 1)]
        for pair in tok.merges:
            join_everywhere(words, pair)
        assert [tok.vocab[token] for token in words[0][0]] == tok.encode(piece)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(60))
def test_both_backends_keep_to_the_words(core, rule, seed):
    r = random.Random(f"{rule} {seed}")
    texts = ["".join(r.choices("ab: é", weights=[4, 2, 1, 3, 1], k=r.choice([1, 4, 30]))) for _ in range(20)]
    counts = {text.encode(): r.choice([1, 2, 9, 2**33]) for text in texts}
    bytes_only = {word: count for text, count in counts.items() for word in text.split()}  # the first stage
    first = quadratic_merges(bytes_only, 6, rule)
    max_words = r.choice([1, 2, 3])
    words = [([bytes([value]) for value in word], 1) for word in counts]
    for pair in first:
        join_everywhere(words, pair)
    order = core_bytes(rule) + [left + right for left, right in first]
    numbers = [order.index(token) for tokens, _ in words for token in tokens]
    offsets = np.cumsum([0, *(len(tokens) for tokens, _ in words)])
    merges = core.train_merges(
        list(counts), list(counts.values()), 40, rule, 1, max_words=max_words, threads=2,
        firsts=np.arange(len(counts), dtype=np.uint64), start=Start(order, offsets, np.array(numbers, np.uint32)),
    )  # fmt: skip
    assert merges == quadratic_merges(counts, 40, rule, max_words=max_words, first=first)
    assert all(is_superword(left + right, max_words) for left, right in merges)


def core_bytes(rule: str) -> list[bytes]:
    from fastbpe.core.train_python import byte_order

    return [bytes([value]) for value in byte_order(rule)]


@pytest.mark.parametrize("token", [b"", b" ", b"a", b" a", b"a ", b" a  b ", b"a b c d", b":", b": ", b"a: b", b":\n "])
def test_words_are_runs_between_spaces(token):
    assert all((count_words(token) <= limit) == is_superword(token, limit) for limit in range(1, 6))


@pytest.fixture(scope="module")
def novel_file(novel, tmp_path_factory):
    path = tmp_path_factory.mktemp("superbpe") / "novel.txt"
    path.write_text("".join(novel)[:600_000], encoding="utf-8", newline="")
    return path


@pytest.fixture(scope="module")
def part_file(novel_file):
    """A third of it, for what does not depend on the size."""
    path = novel_file.with_name("part.txt")
    path.write_bytes(novel_file.read_bytes()[:200_000])
    return path


def test_ids_equal_those_of_tokenizers(novel, novel_file, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tok = fastbpe.train_superbpe(novel_file, 3001, transition_size=2001, special_tokens=[EOT], tie_break="huggingface")
    assert sum(b" " in token.strip() for token in tok.vocab) > 400
    assert {b" of the", b" it was"} <= set(tok.vocab)
    tok.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    texts = [
        *"".join(novel)[600_000:700_000].split("\n\n"),
        f"a: b{EOT} c  d\t--...\n\n/ 123456 x1",
        "".join(novel)[-20_000:],
    ]
    for text in texts:
        assert tok.encode(text, allowed_special="all") == theirs.encode(text).ids
    plain = fastbpe.train(novel_file, 3001, special_tokens=[EOT], pattern="o200k", tie_break="huggingface")
    assert plain.merges[:1744] == tok.merges[:1744]
    assert tok.count(texts[-1]) < 0.95 * plain.count(texts[-1])
    assert fastbpe.load(tmp_path / "tokenizer.json") == tok


def test_the_first_stage_is_that_of_tokenizers(novel_file, tmp_path):
    """With its lines and its ties, as the published implementation trains; it splits in the second as `pieces` does."""
    tokenizers = pytest.importorskip("tokenizers")
    pre = tokenizers.pre_tokenizers
    lines = novel_file.read_text("utf-8")[:100_000].splitlines(keepends=True)
    steps = {p: pre.Split(tokenizers.Regex(p), "isolated") for p in (O200K, SUPERWORDS)}
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = pre.Sequence([steps[O200K], pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    model.train_from_iterator(lines, tokenizers.trainers.BpeTrainer(
        vocab_size=800, initial_alphabet=pre.ByteLevel.alphabet(), show_progress=False))  # fmt: skip
    path = write(tmp_path, ["".join(lines)])[0]
    tok = fastbpe.train_superbpe(path, 830, transition_size=800, unit="line", tie_break="huggingface",
                                 byte_ids="huggingface")  # fmt: skip
    first = sorted(model.get_vocab().values())
    assert [*tok.vocab.values()][:800] == first
    from tests.reference import byte_letters

    byte_of = byte_letters()
    theirs = {bytes(map(byte_of.__getitem__, token)): id for token, id in model.get_vocab().items()}
    assert theirs.items() <= tok.vocab.items()
    split = [piece.encode() for line in lines for piece, _ in steps[SUPERWORDS].pre_tokenize_str(line)]
    second = quadratic_merges(Counter(split), 30, "huggingface", max_words=4, first=tok.merges[:544])
    assert list(tok.merges[544:]) == second


def test_the_result_depends_on_no_thread_and_no_memory(part_file):
    options = {"transition_size": 600, "tie_break": "first_seen"}
    tok = fastbpe.train_superbpe(part_file, 900, threads=1, **options)
    assert tok == fastbpe.train_superbpe([part_file], 900, threads=3, max_memory=10**9, **options)
    assert tok.spec.provenance["superbpe"]["transition_size"] == 600


@pytest.mark.native_only  # the bound is that of the native trainer; plain Python takes gigabytes
def test_memory_is_said_and_kept_to(novel_file):
    calls = []
    report = fastbpe.TrainingReport()
    text = b"and the whale of the sea. " * 800_000
    big = novel_file.with_name("big.txt")
    big.write_bytes(text)
    with pytest.raises(
        fastbpe.TrainingError, match=r"may need \d+ bytes .* max_memory, 50000000, .* sample of about 1\d MB"
    ):
        fastbpe.train_superbpe(
            big, 300, transition_size=280, max_memory=50_000_000, report=report, progress=lambda *c: calls.append(c)
        )
    assert calls[-1] == ("memory", report.memory_needed, 50_000_000) and report.memory_needed > 50_000_000
    assert [call[0] for call in calls].count("memory") == 1
    tok = fastbpe.train_superbpe(big, 300, transition_size=280, max_memory=report.memory_needed, report=report)
    assert tok.n_vocab <= 300 and report.n_bytes == len(text) and "first stage" in report.seconds
    with pytest.raises(fastbpe.TrainingError, match="ask for fewer merges or allow more"):
        fastbpe.train_superbpe(novel_file, 300, transition_size=280, max_memory=1 << 24)


def test_more_tokens_than_places(novel_file, monkeypatch):
    monkeypatch.setattr(superbpe, "PLACES", 50_000)
    with pytest.raises(fastbpe.TrainingError, match="more than 50000 tokens allows"):
        fastbpe.train_superbpe(novel_file, 300, transition_size=280, threads=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"transition_size": 255}, r"transition_size must be 256 \(256 bytes"),
        ({"transition_size": 301}, "to vocab_size, 300, got 301"),
        ({"transition_size": 256, "special_tokens": [EOT]}, "must be 257"),
        ({"transition_size": 300, "max_words": 0}, "max_words must be at least 1"),
        ({"transition_size": 300, "tie_break": "x"}, "tie_break"),
        ({"transition_size": 300, "max_memory": 5}, "max_memory must be at least"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=words):
        fastbpe.train_superbpe("no such file", 300, **options)


def test_on_the_command_line(part_file, tmp_path, capsys):
    out = tmp_path / "super.json"
    options = ["--vocab-size", "700", "-o", str(out), "--special", EOT, "-T", "1"]
    result = CliRunner().invoke(main, ["train", str(part_file), *options, "--transition-size", "500", "--report"])
    assert result.exit_code == 0, result.output
    assert "the second stage may need" in result.stderr and "first stage" in result.stderr
    assert fastbpe.load(out) == fastbpe.train_superbpe(part_file, 700, transition_size=500, special_tokens=[EOT])
    for wrong in (["--temp-dir", "x"], ["--checkpoint", "x"], ["--unit", "line"]):
        wrong += ["--transition-size", "500"]
        result = CliRunner().invoke(main, ["train", str(part_file), *options, "--overwrite", *wrong])
        assert result.exit_code == 2 and "transition-size" in result.stderr
    result = CliRunner().invoke(
        main,
        ["train", str(part_file), *options, "--overwrite", "--transition-size", "500", "--max-memory", "16800000"],
    )
    assert result.exit_code == 1 and "max_memory, 16800000, allows" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes with names are of POSIX")
def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="sources are read twice, and .*pipe is a pipe"):
        fastbpe.train_superbpe(tmp_path / "pipe", 300, transition_size=280)


def test_a_wrong_type():
    with pytest.raises(TypeError, match="transition_size must be an int, got float"):
        fastbpe.train_superbpe("no such file", 300, transition_size=280.0)


def test_nothing_to_learn(tmp_path):
    path = write(tmp_path, [""])[0]
    with pytest.raises(fastbpe.TrainingError, match="no text"):
        fastbpe.train_superbpe(path, 400, transition_size=300)
    path = write(tmp_path, ["a b"])[0]
    tok = fastbpe.train_superbpe(path, 400, transition_size=256, max_words=1)
    assert tok.merges == ((b"a", b" "),)
    assert fastbpe.train_superbpe(path, 400, transition_size=256).encode("a b") == [257]


def test_a_file_that_changes_between_the_stages(tmp_path):
    path = write(tmp_path, ["a b c " * 100])[0]

    def grow(phase, done, total):
        if phase == "memory":
            write(tmp_path, ["a b c " * 101])

    with pytest.raises(fastbpe.TrainingError, match="600 bytes in the first stage and 606 in the second"):
        fastbpe.train_superbpe(path, 300, transition_size=257, progress=grow)
