"""The hot part, in two twins: native (Cython) and Python.  This module alone decides which one runs.

`FASTBPE_BACKEND=native|python` decides; without it the native one runs where it is built.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType, SimpleNamespace

from fastbpe.core.split_python import RegexSplitter as RegexSplitter

_ROOMS = {
    "split": ("Splitter",),
    "merge": ("Merger",),
    "encode": ("Encoder", "EncodeStream"),
    "decode": ("Decoder",),
    "match": ("Matcher",),
    "count": ("Counter",),
    "counts": ("decode_block", "encode_block", "gather", "sort_order", "starts"),
    "train": ("train_merges",),
    "arrow": ("schema_capsule", "array_capsule"),
}


def _import(room: str, backend: str) -> ModuleType:
    return importlib.import_module(f"fastbpe.core.{room}_{backend}")


def backend_modules(backend: str) -> SimpleNamespace:
    """Return the classes and functions of one backend by name.

    Raises:
        ImportError: the native backend is not built.
    """
    names = {name: getattr(_import(room, backend), name) for room, names in _ROOMS.items() for name in names}
    return SimpleNamespace(RegexSplitter=RegexSplitter, **names)


def _choose() -> tuple[str, SimpleNamespace]:
    asked = os.environ.get("FASTBPE_BACKEND", "")
    if asked not in ("", "native", "python"):
        raise ImportError(f"FASTBPE_BACKEND must be 'native' or 'python', got {asked!r}")
    if asked != "python":
        try:
            return "native", backend_modules("native")
        except ImportError as error:
            if asked == "native":
                raise ImportError(
                    "FASTBPE_BACKEND=native, but the native modules are not built: "
                    f"install with a C compiler, or use FASTBPE_BACKEND=python ({error})"
                ) from error
    return "python", backend_modules("python")


BACKEND, _chosen = _choose()
Splitter = _chosen.Splitter
Merger = _chosen.Merger
Encoder = _chosen.Encoder
EncodeStream = _chosen.EncodeStream
Decoder = _chosen.Decoder
Matcher = _chosen.Matcher
Counter = _chosen.Counter
decode_block = _chosen.decode_block
encode_block = _chosen.encode_block
gather = _chosen.gather
sort_order = _chosen.sort_order
starts = _chosen.starts
train_merges = _chosen.train_merges
schema_capsule = _chosen.schema_capsule
array_capsule = _chosen.array_capsule
