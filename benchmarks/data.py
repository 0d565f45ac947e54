"""The text that benchmarks and demo run on: the bundled novel, or a file named by FASTBPE_DATA."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

NOVEL = Path(__file__).parent / "data" / "moby_dick.txt.xz"
SEPARATOR = "<|endoftext|>\n"


def read_documents() -> list[str]:
    """The documents of the file, which a line `<|endoftext|>` separates; empty ones left out."""
    path = Path(os.environ.get("FASTBPE_DATA") or NOVEL)
    raw = path.read_bytes()
    text = (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8")
    return [document for document in text.split(SEPARATOR) if document]
