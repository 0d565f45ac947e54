"""Native twin of match_python."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

class Matcher:
    def __init__(self, tokens: Sequence[tuple[bytes, int]]) -> None: ...
    def find(self, data: bytes, final: bool = True) -> tuple[NDArray[np.int64], int]: ...
