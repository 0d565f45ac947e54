"""Speed next to other libraries: `python -m benchmarks.peers encode|calls|decode|hostile|memory|scale|train`.

Each library runs in a process of its own, in turn, so that none leaves anything to another.  Its ids are compared with
tiktoken's, or for the files of --vocabs with those of tokenizers; a library whose ids differ is shown, and does not
count as the fastest.  Every figure is a median of the rounds, and what counts are the ratios to the fastest of the
others: machines are shared, absolute rates mean little.  A library that is not installed, or does not load an encoding,
is named and left out.  benchmarks.rivals says what the columns mean, benchmarks.extremes has hostile, memory and scale.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import extremes, training
from benchmarks.extremes import Corpora, Rows
from benchmarks.machine import chart_file, head, installed, processor
from benchmarks.rivals import FAMILIES, OURS, RIVALS, reference, sha256
from benchmarks.workers import Answer, Workers, against_fastest
from tests.corpora import corpus_files, documents, hostile_shapes, sample_corpora

BUNDLED = ("gpt2", "cl100k_base", "o200k_base")
SIZES = (10, 100, 1_000, 10_000)  # characters of a call


def show(title: str, rivals: dict[str, Answer], expected: str | None, line: Callable[[Answer], str]) -> dict[str, Any]:
    """Print what each library took and our ratios to the fastest that gives the expected ids; return the row."""
    print(f"\n{title}" + ("" if expected else "; NOTHING TO COMPARE WITH"))
    for name, each in rivals.items():
        each["equal"] = expected is None or each.pop("sha256") == expected
        print(f"  {name:15} {line(each)}{'' if each['equal'] else '  OTHER IDS'}")
    if OURS not in rivals or not rivals[OURS]["equal"]:
        sys.exit(f"{title}: {OURS} failed, or its ids differ")
    fastest = {}
    for stage in rivals[OURS]["seconds"]:
        fastest[stage] = against_fastest({n: each["seconds"][stage] for n, each in rivals.items() if each["equal"]})
        print(f"  {stage:8} {fastest[stage]}", flush=True)
    return {"rivals": rivals, "against": fastest}


def megabytes_per_second(answer: Answer, sizes: dict[str, int]) -> str:
    rates = (f"{stage} {size / answer['seconds'][stage] / 1e6:6.1f}" for stage, size in sizes.items())
    return "  ".join(rates) + " MB/s"


def encode(options: argparse.Namespace, encoding: str, rivals: list[str], workers: Workers, corpora: Corpora) -> Rows:
    """Documents one by one, CPU time by stage; with --threads all in one call, wall time."""
    rows = []
    output = options.output or "leanest"
    for corpus, texts in corpora.items():
        ends = list(itertools.accumulate(len(text.encode()) for text in texts))
        size = ends[-1]
        half = min(bisect.bisect_left(ends, size / 2) + 1, len(texts) - 1)
        first = ends[half - 1] if half else 0
        sizes = {"first": first, "next": size - first, "again": size}
        expected = workers.expected(encoding, "ids", texts)
        found = workers.interleaved(
            rivals, encoding, "rate", texts, options.rounds, half=half, threads=options.threads, output=output
        )
        how = f"{options.threads} threads" if options.threads else output
        row = show(
            f"{encoding} {corpus}, {size:,} bytes, {len(texts):,} documents, {how}",
            found,
            expected,
            lambda each, sizes=sizes: (  # type: ignore[misc]
                f"start {each['seconds']['start']:5.2f} s  {megabytes_per_second(each, sizes)}"
                f"  {each['megabytes']:6.0f} MB"
            ),
        )
        rows.append({"corpus": corpus, "bytes": size, "output": how, **row})
    return rows


def calls(options: argparse.Namespace, encoding: str, rivals: list[str], workers: Workers, corpora: Corpora) -> Rows:
    """The time of one call by the size of its text."""
    rows = []
    output = options.output or "list"
    for corpus, texts in corpora.items():
        whole = "\n".join(texts)
        for size in SIZES:
            parts = [whole[at : at + size] for at in range(0, min(len(whole) - size, 400 * size), size)]
            expected = workers.expected(encoding, "ids", parts)
            found = workers.interleaved(rivals, encoding, "latency", parts, options.rounds, output=output)
            row = show(
                f"{encoding} {corpus}, {size:,} characters a call, {len(parts):,} texts, {output}",
                found,
                expected,
                lambda each: "  ".join(f"{stage} {s * 1e6:8.2f}" for stage, s in each["seconds"].items()) + " us",
            )
            rows.append({"corpus": corpus, "characters": size, "output": output, **row})
    return rows


def decode(options: argparse.Namespace, encoding: str, rivals: list[str], workers: Workers, corpora: Corpora) -> Rows:
    """Lists of ids to text, document by document: CPU time."""
    rows = []
    for corpus, texts in corpora.items():
        size = sum(len(text.encode()) for text in texts)
        expected = workers.expected(encoding, "decode", texts)
        found = workers.interleaved(rivals, encoding, "decode", texts, options.rounds)
        row = show(
            f"{encoding} {corpus}, {size:,} bytes",
            found,
            expected,
            lambda each, size=size: megabytes_per_second(each, {"decode": size}),  # type: ignore[misc]
        )
        rows.append({"corpus": corpus, "bytes": size, **row})
    return rows


def only(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    """Those that --only names."""
    unknown = set(options.only or []) - set(found)
    if unknown:
        sys.exit(f"--only: there is no {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    return {name: each for name, each in found.items() if not options.only or name in options.only}


def chosen(options: argparse.Namespace) -> dict[str, list[str]]:
    """The corpora of a run: the samples and the novel, and the first --megabytes of each corpus of a folder."""
    found: dict[str, Any] = dict(sample_corpora())
    found.update({path.stem: path for path in (corpus_files(options.data) if options.data else [])})
    return {
        name: beginning(each, options.megabytes * 1_000_000) if isinstance(each, Path) else each
        for name, each in only(options, found).items()
    }


def hashes(corpora: Corpora) -> dict[str, str]:
    """Print and return what the texts were: two runs over other bytes cannot be compared."""
    found = {name: sha256(["\0".join(texts).encode()]) for name, texts in corpora.items()}
    print("sha256: " + ", ".join(f"{name} {digest[:12]}" for name, digest in found.items()))
    return found


def beginning(path: Path, limit: int) -> list[str]:
    texts, size = [], 0
    for text in documents(path):
        texts.append(text)
        size += len(text.encode())
        if size >= limit:
            break
    return texts


def has_file(vocabs: Path | None, name: str) -> bool:
    return vocabs is not None and (vocabs / name / "tokenizer.json").is_file()


def main() -> int:
    if sys.argv[1:2] == ["train"]:
        return training.main(sys.argv[2:])
    tasks = {"encode": encode, "calls": calls, "decode": decode}
    tasks |= {"hostile": extremes.hostile, "memory": extremes.memory, "scale": extremes.scale}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*tasks, "train"], help="train has options of its own: train --help")
    parser.add_argument("--data", type=Path, help="folder of corpora (*.txt), besides the samples and the novel")
    parser.add_argument("--only", action="append", help="this corpus or hostile shape alone; may be repeated")
    parser.add_argument("--vocabs", type=Path, help=f"folder with NAME/tokenizer.json of {', '.join(FAMILIES)}")
    parser.add_argument(
        "--encoding",
        action="append",
        help=f"may be repeated; default: {', '.join(BUNDLED)} and those of --vocabs; o200k_base alone for hostile, "
        "memory and scale",
    )
    parser.add_argument("--peer", action="append", choices=[*RIVALS][1:], help="may be repeated; default: all")
    parser.add_argument("--tokenizers-rc", type=Path, help="folder of a tokenizers 1.0 (pip install --target)")
    parser.add_argument("--megabytes", type=int, default=8, help="of each corpus of the folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--output", choices=["leanest", "list", "array"], help="encode (leanest), calls (list)")
    parser.add_argument("--threads", type=int, default=0, help="encode: batches on so many threads, leanest, wall time")
    parser.add_argument("--large", action="store_true", help="hostile: 64 MB as well")
    parser.add_argument("--limit", type=float, default=20.0, help="hostile: seconds after which a call is given up")
    parser.add_argument("--largest", type=int, default=1000, help="scale: megabytes of the longest text")
    parser.add_argument("--chart", type=chart_file, help="scale: draw the table to this file")
    options = parser.parse_args()
    if options.data and not options.data.is_dir():
        parser.error(f"--data must be a folder, got {str(options.data)!r}")
    if unknown := [name for name in options.encoding or () if name not in (*BUNDLED, *FAMILIES)]:
        parser.error(f"--encoding must be one of {', '.join([*BUNDLED, *FAMILIES])}, got {unknown[0]!r}")
    if options.threads and (options.what != "encode" or options.output):
        parser.error("--threads is for encode, without --output")
    names = options.encoding or [*BUNDLED, *(FAMILIES if options.vocabs else ())]
    if not options.encoding and options.what in ("hostile", "memory", "scale"):
        names = ["o200k_base"]
    if missing := [name for name in names if name in FAMILIES and not has_file(options.vocabs, name)]:
        parser.error(f"--vocabs must be a folder with {missing[0]}/tokenizer.json")
    peers = options.peer or [name for name in RIVALS if name != OURS]
    peers = [] if options.what == "scale" else peers
    if options.what in ("hostile", "memory"):  # all of one worker's ids are compared with another's
        peers = list(dict.fromkeys([*peers, *map(reference, names)]))
    versions = installed([OURS, *peers], options.tokenizers_rc)
    head(versions)
    given = only(options, hostile_shapes()) if options.what == "hostile" else chosen(options)
    report: dict[str, Any] = {"task": options.what, "python": platform.python_version(), "processor": processor()}
    report |= {"versions": versions, "corpora": hashes(given) if options.what != "hostile" else {}, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        workers = Workers(Path(folder), names, options.vocabs, options.tokenizers_rc)
        for encoding in names:
            rows = tasks[options.what](options, encoding, workers.able(list(versions), encoding), workers, given)
            report["rows"] += [{"encoding": encoding, **row} for row in rows]
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
