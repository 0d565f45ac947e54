"""Which release this is."""

from __future__ import annotations


def version() -> str:
    """Return the installed version; reading the metadata takes longer than importing the package, so it waits."""
    from importlib import metadata

    try:
        return metadata.version("fastbpe-cython")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"
