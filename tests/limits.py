"""Show that no input is slower than linear: `python -m tests.limits`.

Each hostile shape at 1 MB and at 8 MB, the least of a few runs, each by a tokenizer that has seen nothing; the ratio of
times is printed and none may exceed 12.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import fastbpe
from tests.corpora import hostile_shapes

LIMIT = 12.0
LOOKS = 3  # more, where the limit is exceeded


Call = Callable[[bytes | str], object]
Make = Callable[[], Call]


def least(make: Make, value: bytes | str, runs: int) -> float:
    seconds = []
    for _ in range(runs):
        call = make()
        start = time.perf_counter()
        call(value)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def measure(make: Make, shape: Callable[[int], bytes | str], size: int) -> tuple[float, float]:
    """Return the seconds at `size` and at 8 times `size`."""
    return least(make, shape(size), 3), least(make, shape(8 * size), 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=None, help="bytes of the smaller input (native 1 MB, python 20 KB)")
    parser.add_argument("--shape", action="append", help="this shape alone; may be repeated")
    options = parser.parse_args()
    native = fastbpe.backend() == "native"
    size = options.size or (1_000_000 if native else 20_000)
    print(f"fastbpe {fastbpe.__version__} ({fastbpe.backend()}); {size:,} and {8 * size:,} bytes; limit {LIMIT}")

    def fresh(name: str) -> fastbpe.Tokenizer:
        return fastbpe.Tokenizer(fastbpe.get_encoding(name).spec)

    def encode(name: str) -> Call:
        tok = fresh(name)
        return lambda value: tok.encode_bytes(value) if isinstance(value, bytes) else tok.encode_ordinary(value)

    def special() -> Call:
        tok = fresh("cl100k_base")
        return lambda value: tok.encode(
            value.decode("utf-8", "replace") if isinstance(value, bytes) else value, allowed_special="all"
        )

    def stream() -> Call:
        tok = fresh("cl100k_base")
        return lambda value: sum(1 for _ in tok.iter_encode([value], disallowed_special=()))

    makes: dict[str, Make] = {
        "cl100k": lambda: encode("cl100k_base"),
        "o200k": lambda: encode("o200k_base"),
        "special": special,
        "stream": stream,
        "train": lambda: lambda value: fastbpe.train_from_iterator([value], 300),
    }
    worst, over = 0.0, []
    shapes = hostile_shapes()
    for name in options.shape or shapes:
        cells = []
        for what, make in makes.items():
            small, large = measure(make, shapes[name], size)
            for _ in range(LOOKS):
                if large / small <= LIMIT:
                    break
                again = measure(make, shapes[name], size)  # a neighbour on the machine may have disturbed one of them
                small, large = min(small, again[0]), min(large, again[1])
            ratio = large / small
            worst = max(worst, ratio)
            if ratio > LIMIT:
                over.append((name, what))
            cells.append(f"{what} {ratio:5.1f} ({8 * size / large / 1e6:6.1f} MB/s)")
        print(f"{name:24} " + "  ".join(cells), flush=True)
    print(f"worst ratio {worst:.1f}; over {LIMIT}: {over or 'none'}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
