"""Texts for the proofs: samples, corpora of a folder, hostile shapes.

A corpus is a UTF-8 file of documents separated by lines `<|endoftext|>`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import NOVEL, ROOT, read_documents, sample_folder

SEPARATOR = b"<|endoftext|>\n"


def sample_corpora() -> dict[str, list[str]]:
    """Return the novel, and the samples where there are any."""
    corpora = {"novel": read_documents(NOVEL)}
    folder = sample_folder()
    for path in sorted(folder.glob("*.txt.xz")) if folder else []:
        corpora[f"sample:{path.name.removesuffix('.txt.xz')}"] = read_documents(path)
    return corpora


def corpus_files(folder: Path) -> list[Path]:
    """Return the corpora of a folder, or of its folder `corpora`."""
    return sorted(path for place in (folder, folder / "corpora") for path in place.glob("*.txt"))


def documents(path: Path) -> Iterator[str]:
    """Yield the documents of a corpus, reading a block at a time."""
    held = b""
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            *whole, held = (held + block).split(SEPARATOR)
            yield from (document.decode() for document in whole if document)
    if held:
        yield held.decode()


def hostile_shapes() -> dict[str, Any]:
    """Return shape -> function of a size: the shared generator where it lies beside the checkout, else our own."""
    path = ROOT.parent / "shared" / "data" / "adversarial.py"
    if not path.is_file():
        from tests.hostile import SHAPES

        return dict(SHAPES)
    spec = importlib.util.spec_from_file_location("adversarial", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["adversarial"] = module
    spec.loader.exec_module(module)
    return {name: shape.make for name, shape in module.SHAPES.items()}


def shape_text(value: bytes | str) -> str:
    """Return a hostile shape as text that every library takes: what is not text becomes U+FFFD."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
