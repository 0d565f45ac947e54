"""Encoding a stream, by the size of its chunks.  Oracle: encoding the whole text at once."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize("size", [100, 10_000, 1_000_000])
def test_stream(benchmark, tokenizer, text, size):
    chunks = [text[start : start + size] for start in range(0, len(text), size)]

    def stream():
        return np.concatenate(list(tokenizer.iter_encode_batches(chunks)))

    assert np.array_equal(stream(), tokenizer.encode_to_numpy(text))
    benchmark.extra_info["bytes"] = len(text.encode())
    benchmark(stream)
