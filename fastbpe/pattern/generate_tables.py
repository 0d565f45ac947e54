"""Write named_tables.bin: the named patterns compiled, each with the smallest cover of some searches.

python -m fastbpe.pattern.generate_tables [SEARCHES]
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path

from fastbpe.pattern.automaton import SplitTables
from fastbpe.pattern.boxes import Boxes, find_boxes
from fastbpe.pattern.named import PATTERNS
from fastbpe.pattern.sequence import compiled_sequence
from fastbpe.pattern.shipped import NAMES, pack


def smallest(tables: SplitTables, searches: int) -> Boxes:
    """Return the cover of the fewest rules, of those of the fewest boxes."""
    found = [find_boxes(tables.dfa, tables.class_of(), seed) for seed in range(searches)]
    covers = [boxes for boxes in found if boxes is not None]
    return min(covers, key=lambda boxes: (len(boxes.rules), int(boxes.rules.any(axis=1).sum())))


def main(searches: int = 6) -> None:
    """Compile, search and write."""
    parts = []
    for name in NAMES:
        pattern = PATTERNS[name]
        steps = (pattern,) if isinstance(pattern, str) else pattern
        tables = compiled_sequence(tuple((step, True) for step in steps))
        boxes = smallest(tables, searches)
        rules = boxes.rules.reshape(len(boxes.rules), -1)
        print(f"{name}: {len(tables.dfa)} states, {len(rules)} rules", file=sys.stderr)
        cover = [boxes.coarse, rules, boxes.unsure, boxes.tails, boxes.periods]
        parts.append(pack([tables.stage1, tables.stage2, tables.dfa, *cover]))
    Path(__file__).with_name("named_tables.bin").write_bytes(zlib.compress(b"".join(parts), 9))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
