"""`python -m fastbpe`: the command line."""

from __future__ import annotations

from fastbpe.cli import main

if __name__ == "__main__":
    main()
