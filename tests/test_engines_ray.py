"""Counting on a local Ray of two workers.  Oracle: counting on one machine, byte for byte."""

from __future__ import annotations

import gzip
import json
import os
import signal
import sys
import threading
import time

import pytest

import fastbpe
from fastbpe.engines.ray import count_pretokens
from tests.test_counting import EOT, hostile, words, write

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="the extra ray is not installed")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


def both(tmp_path, sources, folder, **options) -> tuple[bytes, bytes]:
    """The counts files of one machine and of the cluster; nothing else is left in the folder."""
    extra = {name: options.pop(name) for name in ("part_bytes", "progress") if name in options}
    fastbpe.count_pretokens(sources, output=tmp_path / "one.fbc", **options)
    count_pretokens(sources, output=tmp_path / "ray.fbc", folder=folder, **extra, **options)
    assert folder is None or not os.listdir(folder)
    return (tmp_path / "one.fbc").read_bytes(), (tmp_path / "ray.fbc").read_bytes()


@pytest.mark.parametrize("shared", [False, True])
def test_any_split_of_the_input_gives_the_same(tmp_path, cluster, shared):
    """More parts than are added up at once; a file without places for cuts; files that are not cut."""
    size = 100_000 if fastbpe.backend() == "native" else 5000
    documents = [hostile(1, 7 * size), b"", b"a" * 3 * size + b" b", hostile(2, 9 * size), words(3, size)]
    sources = write(tmp_path, *documents)
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("one two", "", "three" + EOT))
    for name, content in (("a.jsonl", lines.encode()), ("b.txt.gz", gzip.compress(documents[3]))):
        (tmp_path / name).write_bytes(content)
        sources.insert(2, tmp_path / name)
    folder = tmp_path / "shared" if shared else None
    if folder:
        folder.mkdir()
    for options in (
        {"special_tokens": [EOT], "positions": True, "max_memory": 16 << 20},
        {"unit": "line", "min_count": 3, "pattern": "cl100k", "threads": 2},
    ):
        one, other = both(tmp_path, sources, folder, part_bytes=1 << 16, **options)
        assert one == other
    assert count_pretokens(sources[:2]) == fastbpe.count_pretokens(sources[:2])
    assert count_pretokens([]) == fastbpe.count_pretokens([])


@pytest.mark.parametrize("shared", [False, True])
def test_a_worker_killed_in_mid_run_changes_nothing(tmp_path, cluster, shared):
    psutil = pytest.importorskip("psutil")
    native = fastbpe.backend() == "native"
    sources = write(tmp_path, *[hostile(seed, 5000) * (1000 if native else 12) for seed in range(8)])
    folder = tmp_path / "shared" if shared else None
    if folder:
        folder.mkdir()
    killed, ended = [], threading.Event()

    def kill_one():
        while not ended.is_set() and not killed:
            for process in psutil.Process().children(recursive=True):
                try:
                    if process.name().startswith("ray::_count"):
                        process.suspend()
                        # Now it cannot end its task before it is killed.
                        if process.cmdline()[0].startswith("ray::_count"):
                            killed.append(process.pid)
                        os.kill(process.pid, signal.SIGKILL if killed else signal.SIGCONT)
                        break
                except (psutil.Error, ProcessLookupError, IndexError):
                    continue
            time.sleep(0.002)

    killer = threading.Thread(target=kill_one)
    seen = []
    killer.start()
    try:
        progress = lambda *report: seen.append(report)  # noqa: E731
        one, other = both(tmp_path, sources, folder, part_bytes=1 << 20, progress=progress)
    finally:
        ended.set()
        killer.join()
    assert one == other and killed
    total = sum(os.path.getsize(path) for path in sources)
    assert seen[-1] == ("count", total, total)
    print(f"killed worker {killed[0]}, which was counting; {len(one)} equal bytes")


def test_errors_are_those_of_one_machine(tmp_path, cluster):
    (tmp_path / "bad.jsonl").write_bytes(b'{"text": "a"}\n{\n')
    folder = tmp_path / "shared"
    folder.mkdir()
    with pytest.raises(fastbpe.TrainingError, match=r"bad\.jsonl:2: not a line of JSON"):
        count_pretokens([*write(tmp_path, b"text"), tmp_path / "bad.jsonl"], folder=folder, output=tmp_path / "out.fbc")
    assert not os.listdir(folder) and not (tmp_path / "out.fbc").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"part_bytes": 5}, ValueError, "part_bytes must be an int of at least 65536, got int 5"),
        ({"unit": "file"}, ValueError, "unit must be one of document, line, got str 'file'"),
        ({"text_field": 1}, TypeError, "text_field must be a str, got int 1"),
        ({"pattern": "("}, fastbpe.PatternError, "pattern"),
        ({}, FileNotFoundError, "absent"),
    ],
)
def test_wrong_arguments_are_found_before_ray_is_asked(monkeypatch, options, error, message):
    monkeypatch.setitem(sys.modules, "ray", object())
    with pytest.raises(error, match=message):
        count_pretokens("absent", **options)


def test_a_missing_ray_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"ray is needed: pip install 'fastbpe-cython\[ray\]'"):
        count_pretokens([])
