"""The tables of benchmarks.peers that are not about documents: hostile texts, resident size, texts of any length."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from benchmarks.rivals import OURS, reference
from benchmarks.workers import Answer, Worker, Workers, against_fastest, middle
from tests.corpora import shape_text

Corpora = dict[str, list[str]]
Rows = list[dict[str, Any]]
MB = 1_000_000


def hostile(
    options: argparse.Namespace,
    encoding: str,
    rivals: list[str],
    workers: Workers,
    shapes: dict[str, Callable[[int], bytes | str]],
) -> Rows:
    """Shapes by size: one worker a library, shape and round sees a shape from its smallest size to its largest.

    Shapes share pretokens (a run of one letter), and a library that keeps whole pretokens would find those of another
    shape.  A call over the limit is given up, and the larger sizes with it.
    """
    sizes = [1 << 10, 1 << 16, 1 << 20] + [1 << 26] * options.large
    cells = [(size, shape) for size in sizes for shape in shapes]
    answers: dict[tuple[int, str], dict[str, list[Answer]]] = {cell: {name: [] for name in rivals} for cell in cells}
    given_up: set[tuple[str, str]] = set()  # in later rounds too
    for number in range(options.rounds):
        for shape, make in shapes.items():
            with contextlib.ExitStack() as stack:
                running = {name: stack.enter_context(workers.start(name, encoding)) for name in rivals}
                for worker in running.values():
                    worker.ask("load")
                for size in sizes:
                    path = workers.write([shape_text(make(size))])
                    for name, worker in running.items():
                        if (name, shape) not in given_up:
                            answer = worker.ask("hostile", path, options.limit)
                            answers[size, shape][name].append(answer)
                            if "error" in answer:
                                given_up.add((name, shape))
            if sys.stderr.isatty():
                print(f"\rround {number + 1}: {shape:24}", end="", file=sys.stderr)
    rows = [_hostile_row(cell, found, reference(encoding)) for cell, found in answers.items()]
    for size in sizes:
        print(f"\n{encoding}, {size:,} bytes: times the fastest of the others, times tiktoken; nanoseconds a byte")
        for row in rows:
            if row["bytes"] == size:
                print("  " + _hostile_line(row))
    _hostile_summary(rows)
    if any(row.get("failed") == "OTHER IDS" for row in rows):
        sys.exit(f"{OURS}: other ids")
    return rows


def _hostile_row(cell: tuple[int, str], found: dict[str, list[Answer]], right: str) -> dict[str, Any]:
    rivals: dict[str, Answer] = {}
    for name, each in found.items():
        errors = [answer for answer in each if "error" in answer]
        if each:
            rivals[name] = errors[0] if errors else middle(each)
    expected = rivals.get(right, {}).get("sha256")
    for each in rivals.values():
        each["equal"] = "sha256" in each and (expected is None or each.pop("sha256") == expected)
    row: dict[str, Any] = {"bytes": cell[0], "shape": cell[1], "checked": expected is not None}
    row |= {"rivals": rivals, "ratios": {}}
    if not rivals.get(OURS, {}).get("equal"):
        return row | {"failed": rivals.get(OURS, {"error": "given up"}).get("error", "OTHER IDS")}
    for stage, ours in rivals[OURS]["seconds"].items():
        others = {name: each["seconds"][stage] for name, each in rivals.items() if each["equal"] and name != OURS}
        row["ratios"][stage] = {name: seconds / ours for name, seconds in others.items()}
    return row


def _hostile_line(row: dict[str, Any]) -> str:
    parts = [f"{row['shape']:22}", *([row["failed"]] if "failed" in row else [])]
    for stage, ratios in row["ratios"].items():
        fastest = min(ratios, key=ratios.__getitem__, default="")
        tiktoken = f"{ratios['tiktoken']:8.2f}" if "tiktoken" in ratios else f"{'-':>8}"
        ours = row["rivals"][OURS]["seconds"][stage] / row["bytes"] * 1e9
        parts.append(f"{stage} {ratios.get(fastest, float('nan')):6.2f} {fastest:13} {tiktoken} {ours:7.1f}")
    return "  ".join(parts) + ("" if row["checked"] else "  NOTHING TO COMPARE WITH")


def _hostile_summary(rows: Rows) -> None:
    """The rows where another library is faster, and what the others could not do."""
    print("\nslower than another:")
    slower = 0
    for row in rows:
        for stage, ratios in row["ratios"].items():
            ahead = {name: f"{ratio:.2f} x {name}" for name, ratio in sorted(ratios.items()) if ratio < 1}
            slower += bool(ahead)
            if ahead:
                print(f"  {row['bytes']:>10,} {row['shape']:22} {stage:6} {', '.join(ahead.values())}")
    print(f"  {slower} of {sum(len(row['ratios']) for row in rows)}")
    for name in rows[0]["rivals"]:
        met = [row for row in rows if name in row["rivals"]]
        errors = [(row, row["rivals"][name]["error"]) for row in met if "error" in row["rivals"][name]]
        unequal = [row for row in met if "seconds" in row["rivals"][name] and not row["rivals"][name]["equal"]]
        for row, error in errors:
            print(f"{name}: no answer on {row['shape']} from {row['bytes']:,} bytes on: {error[:80]}")
        if unequal:
            shapes = ", ".join(sorted({row["shape"] for row in unequal}))
            print(f"{name}: other ids on {len(unequal)} of {len(met)}: {shapes}")


def memory(options: argparse.Namespace, encoding: str, rivals: list[str], workers: Workers, corpora: Corpora) -> Rows:
    """One pass over all corpora with one tokenizer: resident size on the way, without texts and ids, and CPU time."""
    bunches = list(_bunches(chain.from_iterable(corpora.values())))
    sizes = [sum(len(text.encode()) for text in bunch) for bunch in bunches]
    found: dict[str, list[Answer]] = {name: [] for name in rivals}
    for _ in range(options.rounds):
        for name in list(found):
            with workers.start(name, encoding) as fresh:
                loaded = _loaded(fresh)
            with workers.start(name, encoding) as worker:
                answer = _one_pass(worker, workers, bunches, sizes, loaded)
            if "error" in answer:
                print(f"{encoding}: {name} left out ({answer['error'][:110]})")
                del found[name]
            else:
                found[name].append(answer)
    total = sum(sizes)
    print(f"\n{encoding}, one pass over {len(corpora)} corpora, {total:,} bytes; resident MB, beyond import")
    rows = {name: middle(each) for name, each in found.items()}
    expected = rows.get(reference(encoding), {}).get("sha256")
    if expected is None:
        print("  NOTHING TO COMPARE WITH")
    for name, row in rows.items():
        row["equal"] = expected is None or row.pop("sha256") == expected
        imported, bare = row["resident"]["import"], row["resident"]["bare"]
        later = [f"{at} {size - imported:4.0f}" for at, size in row["resident"].items() if at not in ("import", "bare")]
        print(
            f"  {name:15} import {imported - bare:4.0f}  {'  '.join(later)}  "
            f"{total / row['seconds'] / 1e6:6.1f} MB/s{'' if row['equal'] else '  OTHER IDS'}"
        )
    print(f"  one pass {against_fastest({n: row['seconds'] for n, row in rows.items() if row['equal']})}")
    return [{"bytes": total, "rivals": rows}]


def _bunches(texts: Iterator[str]) -> Iterator[list[str]]:
    """Cut after 1 MB and after every 10 MB."""
    bunch, size, end = [], 0, MB
    for text in texts:
        bunch.append(text)
        size += len(text.encode())
        if size >= end:
            yield bunch
            bunch, end = [], 10 * MB * (size // (10 * MB) + 1)
    if bunch:
        yield bunch


def _loaded(worker: Worker) -> dict[str, float]:
    """What loading adds, and a short call: in a process that has read no text, whose memory both could use."""
    imported = worker.ask("import")["resident"]
    load, call = worker.ask("load", call=False)["resident"], worker.ask("load")["resident"]
    return {"load": load - imported, "call": call - imported}


def _one_pass(
    worker: Worker, workers: Workers, bunches: list[list[str]], sizes: list[int], loaded: dict[str, float]
) -> Answer:
    # What reading texts leaves behind must not count: the first reading is before the import.
    worker.ask("nothing", workers.write(max(bunches, key=len)))
    resident = {"bare": worker.ask("nothing")["resident"]}
    resident["import"] = worker.ask("import")["resident"]
    resident |= {at: resident["import"] + size for at, size in loaded.items()}
    seconds, digests, done = 0.0, [], 0
    for bunch, size in zip(bunches, sizes):
        answer = worker.ask("pass", workers.write(bunch))
        if "error" in answer:
            return answer
        seconds += answer["seconds"]
        digests.append(answer["sha256"])
        done += size
        for point in (1, 10, 100):
            if done >= point * MB and f"{point} MB" not in resident:
                resident[f"{point} MB"] = worker.ask("nothing")["resident"]  # texts and ids are gone
    resident["all"] = worker.ask("nothing")["resident"]
    return {"resident": resident, "seconds": seconds, "sha256": " ".join(digests)}


def scale(options: argparse.Namespace, encoding: str, rivals: list[str], workers: Workers, corpora: Corpora) -> Rows:
    """CPU time a byte of fastbpe by the length of the text, after 8 MB of other text, and of a plain copy.

    The text is documents of all corpora in turn, joined by line ends; where they end, they begin anew.
    """
    skip = 8 * MB
    path, once = workers.write_long(_turns(corpora), skip + max(options.largest, 10) * MB)
    sizes = [10**power for power in range(3, 10) if 10**power <= options.largest * MB]
    found: dict[int, list[Answer]] = {size: [] for size in sizes}
    copies = []
    for _ in range(options.rounds):
        for size in sizes:
            with workers.start(OURS, encoding) as worker:
                found[size].append(worker.ask("scale", file=str(path), size=size, skip=skip))
                if "error" in found[size][-1]:
                    sys.exit(f"{size:,} bytes: {found[size][-1]['error']}")
        with workers.start(OURS, encoding) as worker:
            copies.append(worker.ask("copy"))
    copied = middle(copies)
    bandwidth = (copied["read"] + copied["written"]) / copied["seconds"]
    print(f"\n{encoding}: {len(corpora)} corpora in turn, {once:,} bytes before the first repeats")
    print(f"a plain copy reads and writes {bandwidth / 1e9:.2f} GB/s")
    rows = []
    for size, each in found.items():
        row = {"bytes": size, **middle(each)}
        moved = (row["read"] + row["written"]) / row["seconds"]
        nanoseconds = row["seconds"] / row["read"] * 1e9
        spread = statistics.pstdev([answer["seconds"] / answer["read"] * 1e9 for answer in each])
        print(
            f"  {size:>13,} bytes  {nanoseconds:6.2f} ns a byte (+- {spread:.2f})  {1e3 / nanoseconds:6.1f} MB/s  "
            f"reads and writes {moved / 1e9:6.3f} GB/s, 1/{bandwidth / moved:.0f} of a copy"
        )
        rows.append({**row, "nanoseconds": nanoseconds, "moved": moved, "copy": bandwidth})
    if options.chart:
        _draw(options.chart, encoding, rows, bandwidth)
    return rows


def _turns(corpora: Corpora) -> Iterator[str]:
    """A document of each corpus in turn."""
    return (text for turn in zip_longest(*corpora.values()) for text in turn if text)


def _draw(path: Path, encoding: str, rows: Rows, bandwidth: float) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot([row["bytes"] for row in rows], [row["nanoseconds"] for row in rows], "o-", label=f"fastbpe, {encoding}")
    axes.axhline(2e9 / bandwidth, linestyle="--", color="grey", label="plain copy")
    axes.set(xscale="log", yscale="log", xlabel="bytes of a text", ylabel="nanoseconds a byte")
    axes.legend()
    figure.savefig(path, bbox_inches="tight")
    print(f"chart: {path}")
