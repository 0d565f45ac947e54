"""Text that arrives in parts: what may be given out yet.

A chunk may be cut anywhere: inside a character, a surrogate pair, a special token, a run of spaces.  Each stage passes
on what no later text can change and keeps the rest:

    chunks -> UTF-8 and invalid runs -> special tokens cut it into segments -> normalizer -> sink (splits, encodes)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from fastbpe.errors import PretokenTooLongError
from fastbpe.normalize import nfc, settled

SLICE = 1 << 18  # characters or bytes of a chunk handled at once
_INVALID = re.compile("[\udc80-\udcff]+")
_TAILS = (0xC0, 0xE0, 0xF0)  # a lead byte from here on wants 1, 2, 3 bytes more


class Sink(Protocol):
    """What takes the segments of a text: EncodeStream gives ids, Counter counts."""

    @property
    def held(self) -> int:
        """The bytes that it holds back."""

    def push(self, data: bytes) -> Any:
        """Take more text of the segment."""

    def finish(self) -> Any:
        """End the segment."""

    def raw(self, data: bytes) -> Any:
        """Take one pretoken as it is, between two segments."""


class Matcher(Protocol):
    """Finds special and added tokens (core.Matcher)."""

    def find(self, data: bytes, final: bool = True) -> tuple[Any, int]:
        """Return rows of (start, end, number), and where the decided text ends."""


def to_utf8(text: str) -> bytes:
    """Return the UTF-8 of a str: surrogate pairs joined, lone surrogates as U+FFFD (tiktoken's rule)."""
    try:
        return str.encode(text)
    except UnicodeEncodeError:
        return str.encode(text, "utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def runs(data: bytes) -> Iterator[tuple[bool, bytes]]:
    """Cut bytes into stretches: (True, valid UTF-8) and (False, a maximal run of invalid bytes)."""
    text = data.decode("utf-8", "surrogateescape")
    position = 0
    for found in _INVALID.finditer(text):
        if found.start() > position:
            yield True, text[position : found.start()].encode()
        yield False, found[0].encode("utf-8", "surrogateescape")
        position = found.end()
    if position < len(text):
        yield True, text[position:].encode()


def _unfinished(data: bytes) -> int:
    """Return how many bytes at the end may be the beginning of a character: 0 to 3."""
    for back in (1, 2, 3):
        if len(data) < back or data[-back] < 0x80:
            return 0
        if data[-back] >= 0xC0:
            return back if data[-back] >= _TAILS[back - 1] else 0
    return 0


def feed(
    chunks: Iterable[str | bytes],
    sink: Sink,
    *,
    matcher: Matcher | None = None,
    on_match: Callable[[int, int], Any] | None = None,
    normalizer: str | None = None,
    max_held: int | None = None,
    name: str = "feed()",
) -> Iterator[Any]:
    """Drive a sink with a text in chunks; yield what it returns, but for None.

    Args:
        chunks: all str, or all bytes-like (UTF-8; invalid runs become pretokens of their own).
        matcher: finds the tokens that cut the text.
        on_match: called with the number of each match and its position in characters; what it returns is yielded, what
            it raises ends the stream.
        normalizer: None or "NFC", for the text between matches.
        max_held: bytes that may be held back at most.
        name: the public function, for messages.

    Raises:
        TypeError: a chunk that is neither, or both kinds; it names the index.
        PretokenTooLongError: more than `max_held` bytes wait for a decision.
    """
    stages = _Stages(sink, matcher, on_match, normalizer, max_held, name)
    kind: type | None = None
    for index, chunk in enumerate(chunks):
        this = str if isinstance(chunk, str) else bytes
        if this is bytes and not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise TypeError(f"{name}: chunks must be str or bytes, got {type(chunk).__name__} at index {index}")
        if kind not in (None, this):
            raise TypeError(f"{name}: chunks must be all str or all bytes, got {type(chunk).__name__} at index {index}")
        kind = this
        if isinstance(chunk, str):
            chunk = str.__str__(chunk)  # a subclass is its text, whatever it overrides
        elif type(chunk) is not bytes:
            chunk = memoryview(chunk).tobytes()
        for start in range(0, len(chunk), SLICE):
            part = chunk[start : start + SLICE]
            yield from stages.push_text(part) if isinstance(part, str) else stages.push_bytes(part)
    yield from stages.finish()


class _Stages:
    """The stages of one stream."""

    def __init__(
        self,
        sink: Sink,
        matcher: Matcher | None,
        on_match: Callable[[int, int], Any] | None,
        normalizer: str | None,
        max_held: int | None,
        name: str,
    ) -> None:
        self._sink, self._matcher, self._on_match = sink, matcher, on_match
        self._normalizes, self._max_held, self._name = normalizer is not None, max_held, name
        self._surrogate = ""  # a high surrogate at the end of the last chunk
        self._tail = b""  # the beginning of a character
        self._invalid = bytearray()  # a run of invalid bytes that may go on
        self._undecided = b""  # text that may begin a match
        self._unsettled: list[str] = []  # text that normalization may still change
        self._unsettled_size = 0
        self._characters = 0  # of the text taken so far

    def push_text(self, text: str) -> Iterator[Any]:
        text = self._surrogate + text
        self._surrogate = ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._surrogate = text[:-1], text[-1]
        data = to_utf8(text)
        yield from self._text(data, len(text) if len(data) == len(text) else len(data.decode()))
        self._check_held()

    def push_bytes(self, data: bytes) -> Iterator[Any]:
        data = self._tail + data
        cut = len(data) - _unfinished(data)
        data, self._tail = data[:cut], data[cut:]
        yield from self._bytes(data)
        self._check_held()

    def finish(self) -> Iterator[Any]:
        if self._surrogate:
            yield from self._text(to_utf8(self._surrogate), 1)
        yield from self._bytes(self._tail)
        yield from self._end_invalid()
        yield from self._end_text()

    def _bytes(self, data: bytes) -> Iterator[Any]:
        try:
            characters = len(data.decode())
        except UnicodeDecodeError:
            for valid, part in runs(data):
                if valid:
                    yield from self._text(part, len(part.decode()))
                else:
                    yield from self._end_text()
                    self._invalid += part
                    self._characters += len(part)
            return
        yield from self._text(data, characters)

    def _end_invalid(self) -> Iterator[Any]:
        if self._invalid:
            yield from _given(self._sink.raw(bytes(self._invalid)))
            self._invalid.clear()

    def _text(self, data: bytes, characters: int) -> Iterator[Any]:
        """Take valid text: pass on what holds no unfinished match."""
        if not data:
            return
        yield from self._end_invalid()
        self._characters += characters
        if self._matcher is None:
            yield from self._segment(data)
        else:
            yield from self._match(self._undecided + data, final=False)

    def _match(self, data: bytes, final: bool) -> Iterator[Any]:
        assert self._matcher is not None
        matches, decided = self._matcher.find(data, final)
        position = 0
        for start, end, number in matches.tolist() if len(matches) else ():
            if start > position:
                yield from self._segment(data[position:start])
            yield from self._end_segment()
            if self._on_match is not None:
                yield from _given(self._on_match(number, self._characters - len(data[start:].decode())))
            position = end
        if decided > position:
            yield from self._segment(data[position:decided])
        self._undecided = data[decided:]

    def _end_text(self) -> Iterator[Any]:
        """The text ends here: at the end of the stream, or before invalid bytes."""
        if self._undecided:
            yield from self._match(self._undecided, final=True)
        yield from self._end_segment()

    def _segment(self, data: bytes) -> Iterator[Any]:
        """Take text between two matches: pass on what normalization cannot change any more."""
        if not self._normalizes:
            yield from _given(self._sink.push(data))
            return
        text = data.decode()
        # A leading "a" settles itself, so 1 says that the part begins with a character that settles what stands before.
        at = settled("a" + text) - 1
        if at < 0:
            self._hold(text)
            return
        ready = nfc("".join([*self._unsettled, text[:at]]))
        self._unsettled, self._unsettled_size = [], 0
        self._hold(text[at:])
        if ready:
            yield from _given(self._sink.push(ready.encode()))

    def _hold(self, text: str) -> None:
        self._unsettled.append(text)
        self._unsettled_size += len(text.encode())

    def _end_segment(self) -> Iterator[Any]:
        if self._unsettled:
            text = nfc("".join(self._unsettled))
            self._unsettled, self._unsettled_size = [], 0
            yield from _given(self._sink.push(text.encode()))
        yield from _given(self._sink.finish())

    def _check_held(self) -> None:
        if self._max_held is None:
            return
        held = self._sink.held + self._unsettled_size + len(self._undecided) + len(self._invalid)
        if held > self._max_held:
            raise PretokenTooLongError(
                f"{self._name}: a pretoken of over {self._max_held} bytes has no end yet ({held} bytes wait); "
                f"pass a greater max_pretoken_bytes, or cut the text into documents"
            )


def _given(result: Any) -> tuple[Any, ...]:
    return () if result is None else (result,)
