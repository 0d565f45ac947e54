"""Native twin of decode_python."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

class Decoder:
    def __init__(self, vocab: Mapping[bytes, int], others: Mapping[int, bytes]) -> None: ...
    def decode(self, ids: NDArray[np.uint32]) -> bytes: ...
    def decode_list(self, ids: list[int]) -> bytes | None: ...
