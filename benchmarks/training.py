"""Trainers side by side: `python -m benchmarks.peers train`.

Each training runs in a process of its own, the libraries in turn, from the path of a UTF-8 file to a usable result:
wall seconds, CPU seconds, and the peak of resident memory beyond what the imports took.  Libraries with the same rule
for ties and the same unit of text must give the same merges as fastbpe does with these, or the run fails; the
ratio to each is that of equal work.

    rule         unit      who
    huggingface  document  gigatoken, tokenizers fed documents
    huggingface  line      gigabpe: it sees single lines, and makes tokens of such bytes only as occur
    smallest_id  document  rustbpe, bpeasy, ffbpe: fed records that are cut where no pretoken can be

A document is a whole file.  `all` is all corpora, one behind the other; `heaps` is made text (benchmarks.heaps).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.heaps import write_text
from benchmarks.machine import chart_file, head, installed, processor
from benchmarks.trainers import MB, OURS, TRAINERS, Row
from tests.conftest import NOVEL, read_documents
from tests.corpora import corpus_files


def run_apart(name: str, rule: str, unit: str, path: Path, vocab_size: int, threads: int) -> Row:
    """Train in a new process; {"error": reason} if that fails."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": str(threads)}
    job = [name, rule, unit, str(path), str(vocab_size), str(threads)]
    command = [sys.executable, "-m", "benchmarks.trainers", *job]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


# ---------------------------------------------------------------- the table


def middle(rows: list[Row]) -> Row:
    """The medians; the digest of all rounds if it is one."""
    digests = {row["sha256"] for row in rows}
    found = {key: statistics.median(row[key] for row in rows) for key in ("seconds", "cpu", "megabytes", "merges")}
    return {**found, "sha256": digests.pop() if len(digests) == 1 else "differs between rounds"}


def compare(path: Path, title: str, vocab_size: int, options: argparse.Namespace) -> list[Row]:
    """Train with all libraries in turn; print a line for each."""
    peers = {name: TRAINERS[name] for name in options.peer if path.stat().st_size <= options.largest.get(name, 1 << 62)}
    kinds = list(dict.fromkeys((peer.rule, peer.unit) for peer in peers.values())) or [("huggingface", "document")]
    jobs = [(OURS, *kind) for kind in kinds] + [(name, peer.rule, peer.unit) for name, peer in peers.items()]
    found: dict[tuple[str, str, str], list[Row]] = {job: [] for job in jobs}
    for start in range(options.rounds):
        order = list(found)
        for job in order[start % len(order) :] + order[: start % len(order)]:  # who follows whom matters
            row = run_apart(*job, path, vocab_size, options.threads)
            if "error" in row:
                print(f"{title}: {job[0]} left out ({row['error'][:150]})")
                del found[job]
            else:
                found[job].append(row)
    medians = {job: middle(rows) for job, rows in found.items()}
    print(f"\n{title}, {path.stat().st_size:,} bytes, {vocab_size:,} tokens, {options.threads} threads")
    rows = []
    for (name, rule, unit), row in medians.items():
        took = f"{row['seconds']:7.2f} s  {row['cpu']:7.2f} s CPU {row['megabytes']:7.0f} MB"
        line = f"  {name:14} {rule:11} {unit:8} {took}"
        mine = medians.get((OURS, rule, unit))
        if mine is None:
            sys.exit(f"{title}: {OURS} failed")
        if name != OURS:
            wall, cpu, space = (row[key] / max(mine[key], 0.001) for key in ("seconds", "cpu", "megabytes"))
            line += f"   {wall:5.2f} times our time ({cpu:.2f} of CPU), {space:5.2f} times our memory"
            if (row["merges"], row["sha256"]) != (mine["merges"], mine["sha256"]):
                sys.exit(f"{line}\n{title}: the merges of {name} and {OURS} differ ({rule}, {unit})")
        print(line, flush=True)
        rows.append({"text": title, "bytes": path.stat().st_size, "vocab_size": vocab_size, "name": name, **row})
        rows[-1] |= {"rule": rule, "unit": unit, "threads": options.threads}
    return rows


def texts(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """The files to train on: corpora, their beginnings, all of them, made text."""
    corpora = corpus_files(options.data) if options.data else []
    if not corpora:
        novel = folder / "novel.txt"
        novel.write_text("".join(read_documents(NOVEL)), encoding="utf-8")
        corpora = [novel]
    names = options.only or [path.stem for path in corpora]
    for name in names:
        path = folder / "text.txt"
        if name == "heaps":
            sizes = options.megabytes or [1000]
            for size in sizes:
                write_text(path, size * MB, seed=1)
                yield f"heaps {size} MB", path
            continue
        chosen = corpora if name == "all" else [each for each in corpora if each.stem == name]
        if not chosen:
            sys.exit(f"--only: there is no {name}; there are {', '.join(each.stem for each in corpora)}, all, heaps")
        total = sum(each.stat().st_size for each in chosen)
        for size in options.megabytes or [0]:
            if size * MB > total:
                continue
            copy(chosen, path, size * MB or total, turns=name == "all" and size)
            yield f"{name} {size} MB" if size else name, path


def copy(sources: list[Path], target: Path, size: int, turns: bool) -> None:
    """Write `size` bytes of files, one behind the other, or the same share of each; whole characters."""
    total = sum(source.stat().st_size for source in sources)
    with target.open("wb") as file:
        for source in sources:
            wanted = size * source.stat().st_size // total if turns else size - file.tell()
            with source.open("rb") as data:
                while wanted > 0 and (block := data.read(min(wanted, 1 << 24))):
                    wanted -= len(block)
                    file.write(block if wanted else block.decode(errors="ignore").encode())


def chart(path: Path, rows: list[Row]) -> None:
    """Draw time and memory against the size of the text, a line for each library and vocabulary."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(7, 7))
    for key in dict.fromkeys((row["name"], row["rule"], row["unit"], row["vocab_size"]) for row in rows):
        line = [row for row in rows if (row["name"], row["rule"], row["unit"], row["vocab_size"]) == key]
        label = f"{key[0]}, {key[1]}, {key[2]}, {key[3]:,}"
        above.plot([row["bytes"] for row in line], [row["seconds"] for row in line], "o-", label=label)
        below.plot([row["bytes"] for row in line], [row["megabytes"] for row in line], "o-")
    above.set(xscale="log", yscale="log", ylabel="seconds")
    below.set(xscale="log", yscale="log", ylabel="MB beyond the imports", xlabel="bytes of text")
    above.legend(fontsize="small")
    figure.savefig(path, bbox_inches="tight")
    print(f"chart: {path}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="peers.py train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of corpora (*.txt); default: the novel")
    parser.add_argument("--only", action="append", help="this corpus, all, or heaps; may be repeated")
    parser.add_argument("--megabytes", type=int, action="append", help="the beginning of each; may be repeated")
    parser.add_argument("--vocab-size", type=int, action="append", help="may be repeated; default: 32000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer", action="append", choices=[*TRAINERS], help="may be repeated; default: all installed")
    parser.add_argument("--small-only", action="append", choices=[*TRAINERS], default=[], help="only up to 100 MB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--chart", type=chart_file, help="draw time and memory by size to this file")
    options = parser.parse_args(arguments)
    versions = installed([OURS, *(options.peer or TRAINERS)])
    options.peer = [name for name in versions if name != OURS]
    options.largest = dict.fromkeys(options.small_only, 100 * MB)
    head(versions)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for title, path in texts(options, Path(folder)):
            for vocab_size in options.vocab_size or [32_000]:
                rows += compare(path, title, vocab_size, options)
    report = {"task": "train", "python": platform.python_version(), "processor": processor(), "versions": versions}
    if options.json:
        options.json.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    if options.chart:
        chart(options.chart, rows)
    return 0
