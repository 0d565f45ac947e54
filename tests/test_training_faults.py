"""What can go wrong while training reads and writes: a clear error, nothing half written, no temporary file left.

Damaged counts files are in test_counts, damaged checkpoints and a killed training in test_train_options, wrong
arguments beside what they are given to.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import fastbpe
from tests.test_counting import words, write

posix = pytest.mark.skipif(os.name != "posix", reason="needs limits, signals and fork")

SPILL_OFTEN = """
import os, sys, fastbpe
from fastbpe import counting, spill
spill.LEAST_TABLE, spill.THREAD, counting.BLOCK, counting.RANGE, counting.PROGRESS_SECONDS = 1, 1 << 40, 5000, 20_000, 0
"""
# Writing more to a file fails, as on a full disk; the kernel's word is "File too large".
LIMITED = (
    SPILL_OFTEN
    + """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
source, spilled, out = sys.argv[1:4]
try:
    eval(sys.argv[4])
except OSError as error:
    print(type(error).__name__, error)
print(os.listdir(spilled), os.listdir(out), len(os.listdir("/proc/self/fd")) - N_OPEN if os.path.exists("/proc") else 0)
"""
)


def python(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True)


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path, Path]:
    """A source of many distinct words, and two empty folders: of temporary files, and for the result."""
    source = write(tmp_path, words(1, 150_000))[0]
    for name in ("spilled", "out"):
        (tmp_path / name).mkdir()
    return source, tmp_path / "spilled", tmp_path / "out"


@posix
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "fastbpe.count_pretokens(source, max_memory=16 << 20, temp_dir=spilled, output=out + '/a.fbc', threads=1)",
            "File too large, while counts were spilled: '{spilled}'",
        ),
        ("fastbpe.train(source, 300, max_memory=16 << 20, temp_dir=spilled, threads=1)", "spilled: '{spilled}'"),
        ("fastbpe.count_pretokens(source, output=out + '/a.fbc', threads=2)", "File too large: '{out}/a.fbc'"),
        ("fastbpe.merge_counts([fastbpe.count_pretokens(source, threads=2)], out + '/a.fbc')", "'{out}/a.fbc'"),
    ],
)
def test_no_room(folders, call, message):
    source, spilled, out = folders
    opened = 'N_OPEN = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc") else 0\n'
    code = LIMITED.replace("try:", opened + "try:", 1)
    done = python(code, source, spilled, out, call)
    assert (done.returncode, done.stderr) == (0, "")
    first, last = done.stdout.splitlines()
    assert first.startswith("OSError [Errno 27]") and message.format(spilled=spilled, out=out) in first
    assert last == "[] [] 0"


@posix
def test_no_room_for_a_checkpoint(folders):
    """What fitted stays, and the training can go on from it."""
    source, _, out = folders
    call = "fastbpe.train(source, 3000, checkpoint=out + '/c')"
    done = python(LIMITED.replace("N_OPEN", "0"), source, folders[1], out, call)
    assert f"OSError [Errno 27] File too large: '{out}/c'" in done.stdout, done.stderr
    report = fastbpe.TrainingReport()
    tokenizer = fastbpe.train(source, 3000, checkpoint=out / "c", report=report)
    assert 1000 < report.n_resumed < report.n_merges
    assert tokenizer.merges == fastbpe.train(source, 3000).merges


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_while_spilling_leaves_nothing(folders, number):
    source, spilled, out = folders
    code = SPILL_OFTEN + (
        "def kill(stage, done, total):\n    if done > total // 2: os.kill(os.getpid(), int(sys.argv[4]))\n"
        "fastbpe.count_pretokens(sys.argv[1], max_memory=16 << 20, temp_dir=sys.argv[2], output=sys.argv[3] + '/a',"
        " progress=kill)"
    )
    assert python(code, source, spilled, out, number.value).returncode == -number
    assert os.listdir(spilled) == os.listdir(out) == []


@posix
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_fork_while_counting_is_safe(folders):
    """The child can count; the parent's threads go on."""
    source = folders[0]
    expected = fastbpe.count_pretokens(source)
    children = []

    def fork(stage, done, total):
        if len(children) < 3:
            child = os.fork()
            if not child:
                same = False
                try:
                    signal.alarm(60)
                    same = fastbpe.count_pretokens(source, threads=2) == expected
                finally:
                    os._exit(0 if same else 1)
            children.append(child)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastbpe.counting.PROGRESS_SECONDS", 0)
        patch.setattr("fastbpe.counting.RANGE", 20_000)
        patch.setattr("fastbpe.counting.BLOCK", 5000)
        assert fastbpe.count_pretokens(source, threads=3, progress=fork) == expected
    assert children and [os.waitpid(child, 0)[1] for child in children] == [0] * len(children)


class Broken(Exception):
    pass


@pytest.mark.parametrize("what", ["text", "weight", "type"])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_iterable_that_fails_late(folders, monkeypatch, what, threads):
    """Not at the first item but amid jobs and spills."""
    _, spilled, out = folders
    monkeypatch.setattr("fastbpe.spill.LEAST_TABLE", 1)
    monkeypatch.setattr("fastbpe.spill.THREAD", 1 << 40)
    monkeypatch.setattr("fastbpe.counting.RANGE", 3000)
    broken, before = Broken("as it was"), set(threading.enumerate())

    def texts():
        for at in range(200):
            if at == 150 and what == "text":
                raise broken
            yield 3.5 if at == 150 and what == "type" else words(at, 1000)

    def weights():
        yield from [1] * 150
        if what == "weight":
            raise broken
        yield from [1] * 50

    options = {"weights": weights(), "threads": threads, "max_memory": 16 << 20, "temp_dir": spilled}
    for call in (
        lambda: fastbpe.count_pretokens_from_iterator(texts(), output=out / "a.fbc", **options),
        lambda: fastbpe.train_from_iterator(texts(), 300, **{**options, "weights": weights()}),
    ):
        with pytest.raises(TypeError if what == "type" else Broken) as caught:
            call()
        if what == "type":
            assert "texts must hold str or bytes, got float 3.5 at index 150" in str(caught.value)
        else:
            assert caught.value is broken
        assert os.listdir(spilled) == os.listdir(out) == [] and set(threading.enumerate()) == before


def lines_of(n: int) -> bytes:
    r = random.Random(n)
    return b"".join(json.dumps({"text": r.randbytes(30).hex()}).encode() + b"\n" for _ in range(n))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz", "a.txt.zst", "a.parquet"])
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_a_source_that_shrinks(tmp_path, monkeypatch, name, kept):
    """Also one that is cut where a line ends, and so is no less sound than before."""
    path, content = tmp_path / name, lines_of(8000)
    if name.endswith(".gz"):
        content = gzip.compress(content, 1)
    elif name.endswith(".zst"):
        content = pytest.importorskip("zstandard").ZstdCompressor().compress(content)
    if name.endswith(".parquet"):
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        texts = [json.loads(line)["text"] for line in content.splitlines()]
        parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=2000)
        content = path.read_bytes()
    path.write_bytes(content)
    half = content[: int(len(content) * kept)]
    half = half[: half.rfind(b"\n") + 1] if name.endswith("jsonl") else half

    def shrink(stage, done, total):
        os.truncate(path, len(half))

    for setting, value in (("PROGRESS_SECONDS", 0), ("BLOCK", 1 << 16), ("RANGE", 1 << 16)):
        monkeypatch.setattr(f"fastbpe.counting.{setting}", value)
    (tmp_path / "out").mkdir()
    with pytest.raises(fastbpe.TrainingError, match=rf"{name}: had {len(content)} bytes when it was opened and gave"):
        # By one thread: of two the other may have read it all before the first call of `shrink`.
        fastbpe.count_pretokens(path, output=tmp_path / "out" / "a.fbc", progress=shrink, threads=1)
    assert not os.listdir(tmp_path / "out")


@pytest.mark.parametrize("cut", [1, 5, 1000, -9, -1])
def test_a_cut_zst_is_an_error(tmp_path, cut):
    """Its library takes the part that is there for the whole."""
    zstandard = pytest.importorskip("zstandard")
    content = zstandard.ZstdCompressor().compress(lines_of(2000))
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(content + content[:cut])
    with pytest.raises(fastbpe.TrainingError, match=r"a\.jsonl\.zst: cannot be decompressed: the file ended within"):
        fastbpe.count_pretokens(path)


# A Ctrl-C at the start of the first helper: before it, within it, or behind it; alone, or with another one soon after.
INTERRUPTED = """
import faulthandler, os, signal, sys, threading, time
import fastbpe
faulthandler.dump_traceback_later(30, exit=True)
source, what, place, more = sys.argv[1:]
start, begun = threading.Thread.start, []
def interrupted(thread):
    begun.append(thread)
    if place == "before" and len(begun) == 1: signal.raise_signal(signal.SIGINT)
    if place == "within" and len(begun) == 2: signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.02 * int(more))
    start(thread)
    if place == "behind" and len(begun) == 1: signal.raise_signal(signal.SIGINT)
def alarm(*_):
    alarms.append(1)
    if len(alarms) == 3: signal.setitimer(signal.ITIMER_REAL, 0)
    raise KeyboardInterrupt
alarms = []
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGALRM, alarm)
threading.Thread.start = interrupted
texts = ("hello world %d " % at * 20000 for at in range(20000))
try:
    if what == "texts": fastbpe.count_pretokens_from_iterator(texts, threads=50)
    else: fastbpe.count_pretokens(source, threads=50)
except KeyboardInterrupt:
    print("KeyboardInterrupt", threading.active_count())
    signal.setitimer(signal.ITIMER_REAL, 0)
"""


@pytest.mark.native_only  # plain Python counts by one thread, and would take minutes
@posix
@pytest.mark.parametrize("what", ["texts", "files"])
@pytest.mark.parametrize(("place", "more"), [("before", 0), ("behind", 0), ("within", 0), ("within", 1)])
def test_no_thread_outlives_a_call_however_it_ends(tmp_path, what, place, more):
    """It hung, or left a thread that read closed files."""
    source = write(tmp_path, b"hello world " * 5_000_000)[0]
    done = python(INTERRUPTED, source, what, place, more)
    assert (done.returncode, done.stdout) == (0, "KeyboardInterrupt 1\n"), done.stderr


@pytest.mark.native_only  # plain Python counts by one thread
@pytest.mark.parametrize("threads", [1, 4])
def test_only_the_caller_is_told_of_progress_and_it_never_goes_back(tmp_path, monkeypatch, threads):
    monkeypatch.setattr("fastbpe.counting.PROGRESS_SECONDS", 0)
    text = words(1, 2_000_000)
    paths = write(tmp_path, text, text, text, text)
    (tmp_path / "a.gz").write_bytes(gzip.compress(text, 1))
    calls = []

    def progress(stage, done, total):
        calls.append((threading.get_ident(), done))

    fastbpe.count_pretokens([*paths, tmp_path / "a.gz"] * 3, threads=threads, progress=progress)
    fastbpe.count_pretokens(paths, threads=threads, progress=progress)
    ends = [at + 1 for at in range(len(calls) - 1) if calls[at + 1][1] < calls[at][1]]
    assert len(ends) == 1 and {thread for thread, _ in calls} == {threading.get_ident()}
