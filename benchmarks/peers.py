"""Speed next to other libraries: `python -m benchmarks.peers encode|calls|decode|train [--data DIR]`.

encode, calls and decode run each library in a process of its own, in turn, so that none leaves anything to another; the
ids of each are compared with tiktoken's.  Every figure is a median of the rounds, and what counts are the ratios to the
fastest of the others: machines are shared, absolute rates mean little.  A library that is not installed is named and
left out.  benchmarks.rivals says what the columns mean.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fastbpe
from benchmarks.rivals import RIVALS
from tests.corpora import corpus_files, documents, sample_corpora
from tests.reference import huggingface_trained

OURS = "fastbpe-cython"
STAGES = ("start", "first", "next", "again")
SIZES = (10, 100, 1_000, 10_000)  # characters of a call


def installed(names: list[str]) -> dict[str, str]:
    """Return the versions of those that are installed; say which are not."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name == OURS:
                found[name] = fastbpe.__version__  # a checkout on the path
            else:
                print(f"{name} is not installed: left out")
    return found


def head(versions: dict[str, str]) -> None:
    print(
        ", ".join(f"{name} {number}" for name, number in versions.items())
        + f"; backend {fastbpe.backend()}; Python {platform.python_version()}, {os.cpu_count()} cores, {processor()}"
    )


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Workers:
    """Runs tasks of benchmarks.rivals, one process each."""

    def __init__(self, folder: Path, encodings: list[str]) -> None:
        self._folder = folder
        for name in encodings:  # what the libraries read that cannot load an encoding by name
            fastbpe.get_encoding(name).save(folder / f"{name}.tiktoken")
            fastbpe.get_encoding(name).save(folder / f"{name}.json")

    def run(self, rival: str, encoding: str, task: str, texts: list[str]) -> dict[str, Any] | None:
        """Return what the task prints, or None if it failed."""
        job = self._folder / "job"
        job.write_text(
            json.dumps(
                {"rival": rival, "encoding": encoding, "task": task, "texts": texts, "files": str(self._folder)}
            ),
            encoding="utf-8",
        )
        # The idle threads of numpy's algebra would count as CPU time, and so would compiling modules again.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.rivals", str(job)], capture_output=True, text=True, env=environment
        )
        if done.returncode:
            print(f"  {rival}, {encoding}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}", file=sys.stderr)
            return None
        return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def medians(rounds: list[dict[str, Any]]) -> dict[str, float]:
    return {stage: statistics.median(each["seconds"][stage] for each in rounds) for stage in rounds[0]["seconds"]}


def interleaved(
    workers: Workers, rivals: list[str], encoding: str, task: str, texts: list[str], rounds: int
) -> dict[str, list[dict[str, Any]]]:
    """Run a task of all libraries in turn; those that fail are left out."""
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in rivals}
    for _ in range(rounds):
        for name in list(results):
            result = workers.run(name, encoding, task, texts)
            if result is None:
                del results[name]
            else:
                results[name].append(result)
    return results


def against_fastest(ours: float, others: dict[str, float]) -> str:
    """Our speed as a multiple of the fastest other one's."""
    fastest = min(others, key=others.__getitem__, default=None)
    return "alone" if fastest is None else f"{others[fastest] / ours:5.2f} x {fastest}"


def encode(options: argparse.Namespace, versions: dict[str, str], workers: Workers) -> list[dict[str, Any]]:
    """Documents one by one, arrays out: CPU time by stage."""
    rows = []
    for encoding in options.encoding:
        for corpus, texts in chosen(options).items():
            size = sum(len(text.encode()) for text in texts)
            digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
            results = interleaved(workers, list(versions), encoding, "rate", texts, options.rounds)
            expected = {each["sha256"] for each in results.get("tiktoken", [])}
            row: dict[str, Any] = {"encoding": encoding, "corpus": corpus, "bytes": size, "sha256": digest}
            row["rivals"] = {
                name: {
                    **medians(rounds),
                    "megabytes": statistics.median(each["megabytes"] for each in rounds),
                    "equal": not expected or {each["sha256"] for each in rounds} == expected,
                }
                for name, rounds in results.items()
            }
            if not row["rivals"][OURS]["equal"]:
                sys.exit(f"{encoding}, {corpus}: ids differ from tiktoken's")
            rows.append(row)
            print(f"\n{encoding} {corpus}, {size:,} bytes, {len(texts):,} documents, sha256 {digest[:12]}")
            part = {"first": size / 2, "next": size / 2, "again": size}
            for name, each in row["rivals"].items():
                rates = "  ".join(f"{stage} {part[stage] / each[stage] / 1e6:6.1f}" for stage in STAGES[1:])
                unequal = "" if each["equal"] else "  OTHER IDS"
                print(f"  {name:15} start {each['start']:5.2f} s  {rates} MB/s  {each['megabytes']:6.0f} MB{unequal}")
            ours = row["rivals"].pop(OURS)
            for stage in STAGES:
                others = {name: each[stage] for name, each in row["rivals"].items() if each["equal"]}
                print(f"  {stage:6} {against_fastest(ours[stage], others)}", flush=True)
            row["rivals"][OURS] = ours
    return rows


def calls(options: argparse.Namespace, versions: dict[str, str], workers: Workers) -> list[dict[str, Any]]:
    """Lists out: the time of one call by the size of its text."""
    rows = []
    for encoding in options.encoding:
        for corpus, texts in chosen(options).items():
            whole = "\n".join(texts)
            for size in SIZES:
                parts = [whole[at : at + size] for at in range(0, min(len(whole) - size, 400 * size), size)]
                results = interleaved(workers, list(versions), encoding, "latency", parts, options.rounds)
                micros = {name: {k: v * 1e6 for k, v in medians(each).items()} for name, each in results.items()}
                rows.append({"encoding": encoding, "corpus": corpus, "characters": size, "microseconds": micros})
                print(f"\n{encoding} {corpus}, {size:,} characters a call, {len(parts):,} texts")
                for name, each in micros.items():
                    print(f"  {name:15} fresh {each['fresh']:8.2f}  repeated {each['repeated']:8.2f} microseconds")
                for kind in ("fresh", "repeated"):
                    others = {name: each[kind] for name, each in micros.items() if name != OURS}
                    print(f"  {kind:8} {against_fastest(micros[OURS][kind], others)}", flush=True)
    return rows


def decode(options: argparse.Namespace, versions: dict[str, str], workers: Workers) -> list[dict[str, Any]]:
    """Lists of ids to text, document by document: CPU time."""
    rows = []
    for encoding in options.encoding:
        for corpus, texts in chosen(options).items():
            size = sum(len(text.encode()) for text in texts)
            results = interleaved(workers, list(versions), encoding, "decode", texts, options.rounds)
            seconds = {name: medians(each)["decode"] for name, each in results.items()}
            rows.append({"encoding": encoding, "corpus": corpus, "bytes": size, "seconds": seconds})
            print(f"\n{encoding} {corpus}, {size:,} bytes")
            for name, each in seconds.items():
                print(f"  {name:15} {size / each / 1e6:7.1f} MB/s")
            others = {name: each for name, each in seconds.items() if name != OURS}
            print(f"  decode {against_fastest(seconds[OURS], others)}", flush=True)
    return rows


def chosen(options: argparse.Namespace) -> dict[str, list[str]]:
    """The corpora of a run."""
    found = corpora(options.data, options.megabytes * 1_000_000)
    unknown = set(options.only or []) - set(found)
    if unknown:
        sys.exit(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    return {name: texts for name, texts in found.items() if not options.only or name in options.only}


def corpora(data: Path | None, limit: int) -> dict[str, list[str]]:
    """The samples and the novel, and the first `limit` bytes of each corpus of a folder."""
    found = sample_corpora()
    for path in corpus_files(data) if data else []:
        texts, size = [], 0
        for text in documents(path):
            texts.append(text)
            size += len(text.encode())
            if size >= limit:
                break
        found[path.stem] = texts
    return found


def train(options: argparse.Namespace) -> None:
    """Compare training on each corpus with tokenizers' trainer, merge for merge."""
    for corpus, texts in chosen(options).items():
        size = sum(len(text.encode()) for text in texts)
        times: dict[str, list[float]] = {"ours": [], "tokenizers": []}
        for _ in range(options.rounds):
            start = time.perf_counter()
            ours = fastbpe.train_from_iterator(texts, options.vocab_size, tie_break="huggingface")
            middle = time.perf_counter()
            theirs = huggingface_trained(texts, options.vocab_size)
            times["ours"].append(middle - start)
            times["tokenizers"].append(time.perf_counter() - middle)
        merges = fastbpe.load(theirs.to_str().encode()).merges
        if merges != ours.merges:
            sys.exit(f"{corpus}: merges differ from tokenizers'")
        medians = {kind: statistics.median(values) for kind, values in times.items()}
        print(
            f"{corpus:22} {size:>11,} bytes, {len(ours.merges or ()):,} merges: "
            f"{medians['tokenizers'] / medians['ours']:5.2f} times tokenizers "
            f"({medians['ours']:.2f} s against {medians['tokenizers']:.2f} s)",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["encode", "calls", "decode", "train"])
    parser.add_argument("--data", type=Path, help="folder of corpora (*.txt); without it the samples and the novel")
    parser.add_argument("--only", action="append", help="this corpus alone; may be repeated")
    parser.add_argument("--encoding", action="append", help="default: gpt2, cl100k_base, o200k_base")
    parser.add_argument("--peer", action="append", choices=[*RIVALS][1:], help="default: all")
    parser.add_argument("--megabytes", type=int, default=8, help="of each corpus of the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--vocab-size", type=int, default=32_000)
    options = parser.parse_args()
    options.encoding = options.encoding or ["gpt2", "cl100k_base", "o200k_base"]
    if options.what == "train":
        head(installed([OURS, "tokenizers"]))
        train(options)
        return 0
    versions = installed([OURS, *(options.peer or (name for name in RIVALS if name != OURS))])
    head(versions)
    with tempfile.TemporaryDirectory() as folder:
        workers = Workers(Path(folder), options.encoding)
        rows = {"encode": encode, "calls": calls, "decode": decode}[options.what](options, versions, workers)
    if options.json:
        report = {"task": options.what, "versions": versions, "python": platform.python_version(), "rows": rows}
        options.json.write_text(json.dumps(report | {"processor": processor()}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
