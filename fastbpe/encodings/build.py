"""Make the data files from the published rank files: `python -m fastbpe.encodings.build DIR`.

DIR holds the four .tiktoken files named in SOURCES, whose sha256 is checked.  Prints the table of sizes and hashes
that the package checks at load.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastbpe.encodings import SOURCES
from fastbpe.formats import tiktoken
from fastbpe.pattern.named import GPT2
from fastbpe.spec import Split


def left_part(token: bytes, vocab: Mapping[bytes, int]) -> int:
    """Return the length of the left part of the last merge that makes a token from its bytes; 0 if none does."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        ranks = [vocab.get(left + right, len(vocab)) for left, right in zip(parts, parts[1:])]
        at = ranks.index(min(ranks))
        if ranks[at] == len(vocab):
            return 0
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return len(parts[0]) if len(parts) == 2 else 0


def pack(vocab: Mapping[bytes, int]) -> bytes:
    """Return the content of a data file; `vocab` is in the order of ids."""
    ids = np.array(list(vocab.values()), dtype=np.int64)
    starts = np.flatnonzero(np.diff(ids, prepend=-2) != 1)
    runs = np.column_stack([ids[starts], np.diff(starts, append=len(ids))])
    lengths = np.array([*map(len, vocab)], dtype=np.uint8)
    lefts = np.array([left_part(token, vocab) for token in vocab], dtype=np.uint8)
    head = struct.pack("<II", len(ids), len(runs)) + runs.astype("<u4").tobytes()
    return b"".join([head, lengths.tobytes(), lefts.tobytes(), *vocab])


def main(arguments: list[str]) -> int:
    """Write the data files beside this module."""
    if len(arguments) != 1:
        print("usage: python -m fastbpe.encodings.build DIR", file=sys.stderr)
        return 2
    for name, sha256 in SOURCES.items():
        data = (Path(arguments[0]) / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            print(f"{name}: not the published file (sha256 differs)", file=sys.stderr)
            return 1
        packed = pack(tiktoken.read(data, splits=[Split(GPT2)]).vocab)
        stem = Path(name).stem
        Path(__file__).with_name(f"{stem}.bin").write_bytes(zlib.compress(packed, 9))
        print(f'    "{stem}": ({len(packed)}, "{hashlib.sha256(packed).hexdigest()}"),')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
