"""Write box_tables.py: the covers of the named patterns, the smallest of some searches.

    python -m fastbpe.pattern.generate_boxes [SEARCHES]
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastbpe.pattern.automaton import compile_split
from fastbpe.pattern.boxes import Boxes, find_boxes
from fastbpe.pattern.named import PATTERNS

HEAD = '''"""Covers of the named patterns for boxes.py.  Written by generate_boxes.py; a test proves each of them."""

# Name: classes of windows, rules, marks; the fields of Boxes in hexadecimal.
COVERS = {
'''


def smallest(pattern: str, searches: int) -> Boxes | None:
    """Return the cover of the fewest rules, of those of the fewest boxes."""
    tables = compile_split(pattern, False)
    found = [find_boxes(tables.dfa, tables.class_of(), seed) for seed in range(searches)]
    covers = [boxes for boxes in found if boxes is not None]
    return min(covers, key=lambda boxes: (len(boxes.rules), int(boxes.rules.any(axis=1).sum())), default=None)


def main(searches: int = 12) -> None:
    """Search and write."""
    lines = [HEAD]
    for name, pattern in PATTERNS.items():
        boxes = smallest(pattern, searches) if isinstance(pattern, str) else None
        if boxes is not None:
            print(f"{name}: {len(boxes.rules)} rules", file=sys.stderr)
            text = boxes.rules.tobytes().hex()
            lines.append(f'    "{name}": (\n        "{boxes.coarse.tobytes().hex()}",\n')
            lines += [f'        "{text[at : at + 100]}"\n' for at in range(0, len(text), 100)]
            lines.append(f'        "",\n        "{boxes.unsure.tobytes().hex()}",\n    ),\n')
    lines.append("}\n")
    Path(__file__).with_name("box_tables.py").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
