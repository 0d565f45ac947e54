"""Show that no input is slower than linear: `python -m tests.limits`.

Each hostile shape at 1 MB and at 8 MB, the least of a few runs; the ratio of times is printed and none may exceed 12.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import fastbpe
from tests.corpora import hostile_shapes

LIMIT = 12.0


def least(call: Callable[[], object], runs: int) -> float:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


Call = Callable[[bytes | str], object]


def measure(call: Call, make: Callable[[int], bytes | str], size: int) -> tuple[float, float]:
    """Return the seconds at `size` and at 8 times `size`."""
    small, large = make(size), make(8 * size)
    return least(lambda: call(small), 3), least(lambda: call(large), 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=None, help="bytes of the smaller input (native 1 MB, python 20 KB)")
    parser.add_argument("--shape", action="append", help="this shape alone; may be repeated")
    options = parser.parse_args()
    native = fastbpe.backend() == "native"
    size = options.size or (1_000_000 if native else 20_000)
    print(f"fastbpe {fastbpe.__version__} ({fastbpe.backend()}); {size:,} and {8 * size:,} bytes; limit {LIMIT}")
    cl100k, o200k = fastbpe.get_encoding("cl100k_base"), fastbpe.get_encoding("o200k_base")

    def encode(tok: fastbpe.Tokenizer) -> Call:
        return lambda value: tok.encode_bytes(value) if isinstance(value, bytes) else tok.encode_ordinary(value)

    calls: dict[str, Call] = {
        "cl100k": encode(cl100k),
        "o200k": encode(o200k),
        "special": lambda value: cl100k.encode(
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value, allowed_special="all"
        ),
        "stream": lambda value: sum(1 for _ in cl100k.iter_encode([value], disallowed_special=())),
        "train": lambda value: fastbpe.train_from_iterator([value], 300),
    }
    worst, over = 0.0, []
    shapes = hostile_shapes()
    for name in options.shape or shapes:
        cells = []
        for what, call in calls.items():
            small, large = measure(call, shapes[name], size)
            ratio = large / small
            if ratio > LIMIT:  # a neighbour on the machine may have disturbed one of them: look again
                small, large = measure(call, shapes[name], size)
                ratio = min(ratio, large / small)
            worst = max(worst, ratio)
            if ratio > LIMIT:
                over.append((name, what))
            cells.append(f"{what} {ratio:5.1f} ({8 * size / large / 1e6:6.1f} MB/s)")
        print(f"{name:24} " + "  ".join(cells), flush=True)
    print(f"worst ratio {worst:.1f}; over {LIMIT}: {over or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
