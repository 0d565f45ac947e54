"""Native twin of train_python.

Memory beside the arguments, in bytes: 5 a byte of unique pretoken (4 for its symbol, and a word's separator),
4 an occurrence of a pair above the threshold, 32 a pair in the table and 24 in the queue, 8 an occurrence of the
pair that is being merged.  Nothing is allocated by the number of merges asked for.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

def train_merges(
    words: Sequence[bytes],
    counts: npt.NDArray[np.int64] | Sequence[int],
    n_merges: int,
    tie_break: str,
    min_frequency: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[bytes, bytes]]: ...
