"""The command line.  Oracle: the library's own calls on the same documents."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

import fastbpe
from fastbpe.cli import documents, main

TEXTS = ["Call me Ishmael.\n", "\nSome years ago—never mind how long", " precisely 1851 \U0001f40b"]
EOT = 50256
PROGRAM = [sys.executable, "-m", "fastbpe"]


@pytest.fixture(scope="module")
def gpt2():
    return fastbpe.get_encoding("gpt2")


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("<|endoftext|>".join(TEXTS), encoding="utf-8")
    return str(path)


def run(*args, stdin=None, code=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def expected(gpt2, append=EOT):
    return [id for text in TEXTS for id in [*gpt2.encode_ordinary(text), append]]


def test_encode_prints_one_document_a_line(gpt2, corpus):
    lines = run("encode", "-t", "gpt2", corpus).stdout.splitlines()
    assert [[int(word) for word in line.split()] for line in lines] == [gpt2.encode_ordinary(text) for text in TEXTS]


@pytest.mark.parametrize("block", [1, 10, 1 << 20])
def test_documents_longer_than_a_block(monkeypatch, gpt2, corpus, block):
    monkeypatch.setattr(documents, "BLOCK", block)
    lines = run("encode", "-t", "gpt2", corpus, "--eot", "append").stdout.splitlines()
    assert [[int(word) for word in line.split()] for line in lines] == [
        [*gpt2.encode_ordinary(text), EOT] for text in TEXTS
    ]


@pytest.mark.parametrize("block", [10, 1 << 20])
@pytest.mark.parametrize("eot", ["append", "prepend", "none"])
@pytest.mark.parametrize("suffix", ["bin", "npy"])
def test_encode_to_a_file(monkeypatch, gpt2, corpus, tmp_path, suffix, eot, block):
    monkeypatch.setattr(documents, "BLOCK", block)
    out = tmp_path / f"ids.{suffix}"
    run("encode", "-t", "gpt2", corpus, "-o", out, "--eot", eot)
    found = np.load(out) if suffix == "npy" else np.fromfile(out, "<u2")
    documents_ids = [gpt2.encode_ordinary(text) for text in TEXTS]
    around = {"append": lambda ids: [*ids, EOT], "prepend": lambda ids: [EOT, *ids], "none": lambda ids: ids}[eot]
    assert found.dtype == np.uint16
    assert found.tolist() == [id for ids in documents_ids for id in around(ids)]
    assert os.listdir(tmp_path) == sorted(["corpus.txt", out.name])


def test_a_large_vocabulary_gets_uint32(corpus, tmp_path):
    encoding = fastbpe.get_encoding("cl100k_base")
    out = tmp_path / "ids.bin"
    run("encode", "-t", "cl100k_base", corpus, "-o", out)
    eot = encoding.special_tokens["<|endoftext|>"]
    wanted = [id for text in TEXTS for id in [*encoding.encode_ordinary(text), eot]]
    assert np.fromfile(out, "<u4").tolist() == wanted


def test_an_existing_file_stays_unless_overwritten(gpt2, corpus, tmp_path):
    out = tmp_path / "ids.bin"
    out.write_bytes(b"mine")
    assert "--overwrite" in run("encode", "-t", "gpt2", corpus, "-o", out, code=1).stderr
    assert out.read_bytes() == b"mine"
    run("encode", "-t", "gpt2", corpus, "-o", out, "--overwrite")
    assert np.fromfile(out, "<u2").tolist() == expected(gpt2)


def test_a_failure_leaves_nothing(corpus, tmp_path):
    out = tmp_path / "ids.bin"
    run("encode", "-t", "gpt2", corpus, tmp_path / "absent.txt", "-o", out, code=1)
    run("encode", "-t", "gpt2", corpus, tmp_path, "-o", out, code=1)
    assert "no such folder" in run("encode", "-t", "gpt2", corpus, "-o", tmp_path / "no" / "x.bin", code=1).stderr
    assert os.listdir(tmp_path) == ["corpus.txt"]


@pytest.mark.parametrize(
    "args",
    [
        ["encode", "-t", "gpt2", "-o", "folder/"],
        ["encode", "-t", "gpt2", "-o", "ids.txt"],
        ["encode", "-t", "gpt2", "-o", "x.bin", "--eot-token", "<|absent|>"],
        ["encode", "-t", "gpt2", "--allow-special", "<|absent|>"],
        ["encode", "-t", "no-such-encoding"],
        ["encode"],
        ["count", "-t", "gpt2", "--no-such-option"],
        ["train", "--vocab-size", "300", "-o", "x.fbpe"],
        ["train", "FILE", "--vocab-size", "300", "-o", "x.txt"],
        ["count-pretokens", "FILE", "-o", "nosuffix"],
        ["merge-counts", "a.fbc", "-o", "merged"],
        ["nonsense"],
    ],
)
def test_usage_errors_are_one_line_and_exit_2(args):
    result = run(*args, stdin="text", code=2)
    assert result.stdout == ""
    assert result.stderr.startswith("fastbpe: ")
    assert result.stderr.count("\n") == 1


def test_special_text_is_text_unless_allowed(gpt2):
    text = "a<|endoftext|>b"
    common = ["encode", "-t", "gpt2", "--separator", ""]
    assert run(*common, stdin=text).stdout.split() == [str(id) for id in gpt2.encode_ordinary(text)]
    for name in ("all", "<|endoftext|>"):
        assert str(EOT) in run(*common, "--allow-special", name, stdin=text).stdout.split()


def test_invalid_utf8_is_encoded_as_it_is(gpt2):
    data = b"caf\xe9 \xff\xfe<|endoftext|>fine"
    lines = run("encode", "-t", "gpt2", stdin=data).stdout.splitlines()
    assert [int(word) for word in lines[0].split()] == gpt2.encode_bytes(data[:7])
    assert run("decode", "-t", "gpt2", stdin="\n".join(lines)).stdout_bytes == data


@pytest.mark.parametrize("name", ["ids.bin", "ids.npy"])
def test_decode_gives_the_documents_back(corpus, tmp_path, name):
    run("encode", "-t", "gpt2", corpus, "-o", tmp_path / name)
    joined = "".join(f"{text}<|endoftext|>" for text in TEXTS)
    assert run("decode", "-t", "gpt2", tmp_path / name).stdout_bytes == joined.encode()


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_decode_reads_lines_in_blocks(monkeypatch, corpus, block):
    printed = run("encode", "-t", "gpt2", corpus).stdout
    monkeypatch.setattr(documents, "BLOCK", block)
    assert run("decode", "-t", "gpt2", stdin=printed).stdout_bytes == "<|endoftext|>".join(TEXTS).encode()


@pytest.mark.parametrize(("text", "says"), [("12 x7", "x7"), ("-1", "-1"), ("99999999", "99999999")])
def test_decode_names_a_wrong_id(text, says):
    assert says in run("decode", "-t", "gpt2", stdin=text, code=1).stderr


def test_decode_refuses_a_cut_file(tmp_path):
    (tmp_path / "odd.bin").write_bytes(b"123")
    assert "multiple of 2" in run("decode", "-t", "gpt2", tmp_path / "odd.bin", code=1).stderr


def test_count(gpt2, corpus):
    tokens = sum(len(gpt2.encode_ordinary(text)) for text in TEXTS)
    size = os.path.getsize(corpus)
    assert run("count", "-t", "gpt2", corpus).stdout.split() == [str(tokens), str(size), corpus]
    found = json.loads(run("count", "-t", "gpt2", "--json", corpus, corpus).stdout)
    assert found["total"] == {"tokens": 2 * tokens, "bytes": 2 * size, "documents": 6}
    assert [row["name"] for row in found["files"]] == [corpus, corpus]


def test_info(gpt2):
    facts = json.loads(run("info", "gpt2", "--json").stdout)
    assert (facts["n_vocab"], facts["fingerprint"]) == (50257, gpt2.fingerprint)
    assert facts["special_tokens"] == {"<|endoftext|>": EOT}
    assert facts["backend"] == fastbpe.backend()
    assert "50257" in run("info", "gpt2").stdout


def test_train_then_use(tmp_path):
    (tmp_path / "text").write_text("low lower lowest newer wider " * 50)
    out = tmp_path / "my.fbpe"
    run("train", tmp_path / "text", "--vocab-size", 270, "-o", out, "--special", "<|endoftext|>")
    wanted = fastbpe.train([tmp_path / "text"], 270, special_tokens=["<|endoftext|>"])
    assert fastbpe.load(out) == wanted
    printed = run("encode", "-t", out, stdin="lowest").stdout.split()
    assert [int(word) for word in printed] == wanted.encode("lowest")
    assert run("info", out, "--json").exit_code == 0


def test_train_takes_another_field(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"body": "one two one two"}\n')
    common = ["train", path, "--vocab-size", 260, "--overwrite", "-o", tmp_path / "my.fbpe"]
    assert "--text-field" in run(*common, code=1).stderr
    for options in ([], ["--transition-size", 260]):
        run(*common, *options, "--text-field", "body")
        assert fastbpe.load(tmp_path / "my.fbpe").n_vocab == 260


@pytest.fixture
def counts(tmp_path):
    """Two texts, and a file of counts of each; the third has no special token."""
    paths = [str(tmp_path / name) for name in ("a", "b", "a.fbc", "b.FBC", "c.fbc")]
    for text, path, to in zip(("low lower lowest <|e|>" * 20, "newer wider " * 20), paths[:2], paths[2:4]):
        (tmp_path / path).write_text(text)
        fastbpe.count_pretokens(path, pattern="cl100k", special_tokens=["<|e|>"], unit="line").save(to)
    fastbpe.count_pretokens(paths[0], pattern="cl100k").save(paths[4])
    return paths


@pytest.mark.parametrize("n_files", [1, 2])
def test_train_from_counts(tmp_path, counts, n_files):
    out = tmp_path / "my.fbpe"
    base = fastbpe.train_from_counts(fastbpe.PretokenCounts.load(counts[2]), 260)
    base.save(tmp_path / "base.fbpe")
    run("train", *counts[2 : 2 + n_files], "--vocab-size", 268, "-o", out, "--init", tmp_path / "base.fbpe")
    assert fastbpe.load(out) == fastbpe.train(counts[:n_files], 268, unit="line", init=base)
    for options in ([], ["--pattern", "cl100k", "--special", "<|e|>"], ["--special-at", "<|e|>=256"]):
        run("train", *counts[2 : 2 + n_files], "--vocab-size", 268, "-o", out, "--overwrite", *options)
        wanted = fastbpe.train(
            counts[:n_files], 268, pattern="cl100k", unit="line",
            special_tokens={"<|e|>": 256} if "--special-at" in options else ["<|e|>"],
        )  # fmt: skip
        assert fastbpe.load(out) == wanted


@pytest.mark.parametrize(
    ("inputs", "options", "says"),
    [
        ((0, 2), [], "a and "),
        *(
            ((2,), [option, value], f"{option} does not go with counts, got ")
            for option, value in [
                ("--unit", "document"),
                ("--text-field", "text"),
                ("--transition-size", "300"),
                ("--max-memory", "20000000"),
                ("--temp-dir", "."),
            ]
        ),
    ],
)
def test_what_does_not_go_with_counts(tmp_path, counts, inputs, options, says):
    files = [counts[at] for at in inputs]
    result = run("train", *files, "--vocab-size", 300, "-o", tmp_path / "my.fbpe", *options, code=2)
    assert says in result.stderr and "a.fbc" in result.stderr


@pytest.mark.parametrize(
    ("inputs", "options", "says"),
    [
        ((2,), ["--pattern", "gpt2"], "counts were made with the pattern 'cl100k'"),
        ((2,), ["--special", "<|x|>"], "counts were made with the special_tokens ['<|e|>']"),
        ((2, 4), [], "special_tokens must be equal"),
    ],
)
def test_counts_that_are_others(tmp_path, counts, inputs, options, says):
    files = [counts[at] for at in inputs]
    assert says in run("train", *files, "--vocab-size", 300, "-o", tmp_path / "my.fbpe", *options, code=1).stderr


def test_commands_of_counts_say_what_they_wrote(tmp_path, counts):
    text, out = counts[0], tmp_path / "out.fbc"
    options = ["--special", "<|e|>", "--pattern", "cl100k", "--unit", "line", "--overwrite", "-o", out]
    said = run("count-pretokens", text, *options).stderr
    assert said == f"fastbpe: {out}: 4 pretokens, 80 in all, 1 documents\n"
    said = run("merge-counts", *counts[2:4], "-o", out, "--overwrite").stderr
    assert said == f"fastbpe: {out}: 7 pretokens, 121 in all, 2 documents\n"
    run("merge-counts", *counts[2:4], "-o", out, "--overwrite", "--min-count", 20)
    assert fastbpe.PretokenCounts.load(out) == fastbpe.merge_counts(counts[2:4], min_count=20)
    for args in (["count-pretokens", text, *options], ["merge-counts", *counts[2:4], "-o", out, "--overwrite"]):
        assert run(*args, "-q").stderr == ""


def test_info_of_counts(counts):
    facts = json.loads(run("info", counts[2], "--json").stdout)
    value = fastbpe.PretokenCounts.load(counts[2])
    assert facts == {
        "pattern": [split.pattern for split in value.splits],
        "special_tokens": ["<|e|>"],
        "unit": "line",
        "documents": 1,
        "bytes": value.n_bytes,
        "pretokens": len(value),
        "total": value.total,
        "positions": False,
    }
    lines = run("info", counts[2]).stdout.splitlines()
    assert [line.split() for line in lines][1:3] == [["special_tokens", "<|e|>"], ["unit", "line"]]
    lines = run("info", counts[4]).stdout.splitlines()
    assert lines[1].split() == ["special_tokens", "-"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["--special", "a"], "my.json"),
        (["--special-at", "a=256"], "my.json"),
        (["--special", "a", "--transition-size", "257"], "my.json"),
        (["--pattern", r"\S++|(?#c)\s+"], "my.json"),
        (["--init", "base.fbpe"], "my.tiktoken"),
        (["counts.fbc", "--special", "a"], "my.json"),
    ],
)
def test_a_format_is_tried_before_anything_is_read(tmp_path, monkeypatch, options, name):
    monkeypatch.chdir(tmp_path)
    base = fastbpe.train_from_counts({b"abab": 9}, 258).spec
    added = fastbpe.spec.AddedToken("<a>", 258, special=False)
    fastbpe.Tokenizer(dataclasses.replace(base, added_tokens=(added,))).save("base.fbpe")
    fastbpe.count_pretokens_from_iterator(["b c d"], special_tokens=["a"], output="counts.fbc")
    read = []
    for function in ("train", "train_superbpe", "PretokenCounts.load"):
        monkeypatch.setattr(f"fastbpe.{function}", lambda *given, **options: read.append(given))
    files = [] if options[0].endswith(".fbc") else ["absent.txt"]
    result = run("train", *files, *options, "--vocab-size", 400, "-o", name, code=1)
    assert "not" in result.stderr and not read and sorted(os.listdir()) == ["base.fbpe", "counts.fbc"]


def test_convert_round_trip(gpt2, tmp_path):
    for name in ("a.json", "a.fbpe"):
        run("convert", "gpt2", tmp_path / name)
        assert fastbpe.load(tmp_path / name).encode("hello world") == gpt2.encode("hello world")
    run("convert", tmp_path / "a.json", tmp_path / "a.fbpe", code=1)
    run("convert", tmp_path / "a.json", tmp_path / "a.fbpe", "--overwrite")


def test_a_rank_file_needs_its_pattern_and_specials(gpt2, tmp_path):
    ranks = tmp_path / "gpt2.tiktoken"
    gpt2.save(ranks)
    assert "pattern" in run("encode", "-t", ranks, stdin="hi", code=1).stderr
    options = ["--pattern", "gpt2", "--special", f"<|endoftext|>={EOT}", "--eot", "append"]
    assert run("encode", "-t", ranks, *options, stdin="hello").stdout.split() == ["31373", str(EOT)]


@pytest.mark.parametrize("command", ["train", "convert"])
@pytest.mark.parametrize("pattern", ["cl100k", r"[^ ]+| +"])
def test_what_a_rank_file_does_not_hold_is_said(tmp_path, command, pattern):
    text, out = tmp_path / "text", tmp_path / "my.tiktoken"
    text.write_text("low lower lowest newer wider " * 50)
    tokenizer = fastbpe.train(text, 270, pattern=pattern, special_tokens=["<|e|>", "it's"])
    tokenizer.save(tmp_path / "my.fbpe")
    options = ["--vocab-size", 270, "--pattern", pattern, "--special", "<|e|>", "--special", "it's"]
    args = ["train", text, *options, "-o", out] if command == "train" else ["convert", tmp_path / "my.fbpe", out]
    said = run(*args).stderr.splitlines()
    assert said[0] == f"fastbpe: {out}: 268 ids" and "holds no pattern and no special tokens" in said[1]
    assert ("dropped" in said[1]) == (pattern != "cl100k")
    printed = shlex.split(said[1].partition("load it with ")[2].partition(" (what")[0])
    run("convert", out, tmp_path / "again.fbpe", *printed)
    again = fastbpe.load(tmp_path / "again.fbpe")
    assert again.encode("lowest") == tokenizer.encode("lowest") and again.special_tokens == tokenizer.special_tokens
    assert run(*args, "--overwrite", "-q").stderr == ""


def test_many_special_tokens_are_not_all_said(tmp_path):
    said = run("convert", "o200k_harmony", tmp_path / "x.tiktoken").stderr
    assert "(1091 in all)" in said and len(said) < 1000


@pytest.mark.parametrize("command", [[], ["train"], ["encode"], ["decode"], ["count"], ["info"], ["convert"]])
def test_help_has_examples(command):
    assert "fastbpe" in run(*command, "--help").stdout.split("\n\n", 1)[1]


def test_version():
    assert run("--version").stdout.split()[-1] == fastbpe.__version__


def test_debug_shows_a_traceback(tmp_path):
    absent = tmp_path / "absent"
    assert "Traceback" not in run("count", "-t", "gpt2", absent, code=1).stderr
    assert "Traceback" in run("count", "-t", "gpt2", absent, "--debug", code=1).stderr


def test_a_closed_pipe_is_no_error(tmp_path):
    (tmp_path / "text").write_text("word " * 200_000)
    command = subprocess.Popen(
        [*PROGRAM, "encode", "-t", "gpt2", str(tmp_path / "text")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    command.stdout.read(1)
    command.stdout.close()
    assert (command.stderr.read(), command.wait(60)) == (b"", 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line():
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*PROGRAM, "info", "gpt2"], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"No space left" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing(tmp_path, number, code):
    command = subprocess.Popen(
        [*PROGRAM, "encode", "-t", "gpt2", "-o", str(tmp_path / "ids.bin")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell without job control starts what runs in its background with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not os.listdir(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    command.send_signal(number)
    assert command.wait(60) == code, command.stderr.read()
    assert os.listdir(tmp_path) == []
    command.stdin.close()
    assert command.stderr.read().count(b"\n") == 1
    command.stderr.close()
