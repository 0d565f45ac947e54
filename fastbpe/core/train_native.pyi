"""Native twin of train_python.

Memory beside the arguments, in bytes: 2 a byte of unique pretoken and a word (4 where there are more than 65,000
tokens), 4 an occurrence of a pair above the threshold, 24 a pair in the table and 24 in the queue, 32 a token for each
thread, 8 an occurrence of the pair that is being merged.  Nothing is allocated by the number of merges asked for.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fastbpe.core.packed import Merges
from fastbpe.core.train_python import Progress, Record, Start

PART_PLACES: int
LONG_LIST: int
WIDE_FROM: int
SAFETY: int

def train_merges(
    words: Sequence[bytes],
    counts: npt.NDArray[np.int64] | Sequence[int],
    n_merges: int,
    tie_break: str,
    min_frequency: int,
    progress: Progress | None = None,
    *,
    firsts: npt.NDArray[np.uint64] | None = None,
    max_length: int | None = None,
    in_characters: bool = False,
    max_words: int | None = None,
    start: Start | None = None,
    record: Record | None = None,
    threads: int = 1,
    seconds: dict[str, float] | None = None,
    consume: bool = False,
) -> Merges: ...
