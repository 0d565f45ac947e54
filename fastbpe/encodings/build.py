"""Make the data files from the published rank files: `python -m fastbpe.encodings.build DIR`.

DIR holds the four .tiktoken files named in SOURCES, whose sha256 is checked.  Prints the table of sizes and hashes
that the package checks at load.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from pathlib import Path

from fastbpe.encodings import SOURCES
from fastbpe.formats import tiktoken
from fastbpe.pattern.named import GPT2
from fastbpe.spec import Split, pack_vocab


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
        packed = pack_vocab(tiktoken.read(data, splits=[Split(GPT2)]).vocab)
        stem = Path(name).stem
        Path(__file__).with_name(f"{stem}.bin").write_bytes(zlib.compress(packed, 9))
        print(f'    "{stem}": ({len(packed)}, "{hashlib.sha256(packed).hexdigest()}"),')
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
