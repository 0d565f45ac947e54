"""Ctrl-C ends a long call and leaves the tokenizer usable; other threads run meanwhile.

No time is asserted but a generous bound on a call that would otherwise take much longer.
"""

from __future__ import annotations

import signal
import threading
import time

import pytest

import fastbpe

SIZE = 60_000_000 if fastbpe.backend() == "native" else 6_000_000


def long_calls():
    tok = fastbpe.get_encoding("cl100k_base")
    words = "the quick brown fox jumps " * (SIZE // 26)
    one_piece = "ab" * (SIZE // 2)
    return {
        "encode words": lambda: tok.encode_to_numpy(words),
        "encode one pretoken": lambda: tok.encode_to_numpy(one_piece),
        "encode_batch": lambda: tok.encode_batch([words, words], threads=2),
        "iter_encode": lambda: sum(1 for _ in tok.iter_encode([words])),
        "train": lambda: fastbpe.train_from_iterator([words, one_piece], 300),
    }


@pytest.mark.parametrize("name", ["encode words", "encode one pretoken", "encode_batch", "iter_encode", "train"])
def test_ctrl_c_ends_a_call(name):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started us with SIGINT ignored
    call = long_calls()[name]
    sent = []

    def interrupt():
        time.sleep(0.03)  # the quickest call takes a tenth of a second where nothing else runs
        sent.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    with pytest.raises(KeyboardInterrupt):
        thread.start()
        call()
        pytest.fail("the call ended before the interrupt: make SIZE greater")
    took = time.perf_counter() - sent[0]
    thread.join()
    print(f"{name}: {took:.3f} s after the interrupt")
    assert took < 5  # the promise is 0.5 s; a shared machine may stop us for a while
    assert fastbpe.get_encoding("cl100k_base").encode("hello world") == [15339, 1917]


@pytest.mark.native_only
def test_other_threads_run_during_a_call():
    if fastbpe.backend() != "native":
        pytest.skip("the Python backend holds the interpreter lock as all Python code does")
    tok = fastbpe.get_encoding("cl100k_base")
    done = threading.Event()
    thread = threading.Thread(target=lambda: (tok.encode_to_numpy("ab" * 5_000_000), done.set()))
    thread.start()
    wakes = 0
    while not done.is_set():
        time.sleep(0.001)
        wakes += 1
    thread.join()
    assert wakes > 20
