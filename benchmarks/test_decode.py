"""Decoding from a list and from an array.  Oracle: the text that was encoded."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("kind", ["list", "uint16", "uint32"])
def test_decode(benchmark, tokenizer, text, kind):
    if kind == "uint16" and tokenizer.n_vocab > 1 << 16:
        pytest.skip("ids do not fit uint16")
    ids = tokenizer.encode_to_numpy(text)
    given = ids.tolist() if kind == "list" else ids.astype(kind)
    assert tokenizer.decode_bytes(given) == text.encode()
    benchmark.extra_info["bytes"] = len(text.encode())
    benchmark(tokenizer.decode_bytes, given)
