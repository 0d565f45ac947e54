"""Text to pretokens: the automaton run character by character, and patterns that only a regex engine can run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastbpe.errors import PatternError, PatternTimeout
from fastbpe.pattern.automaton import SplitTables
from fastbpe.pattern.guesses import DEAD, MAY_END, START
from fastbpe.pattern.parse import regex_source

TIMEOUT = 10.0  # seconds, and as many again for each megabyte


class _ClassOf(dict[str, int]):
    """Class of a character, looked up in the two-stage table when it is first seen."""

    def __init__(self, tables: SplitTables) -> None:
        super().__init__()
        self._tables = tables

    def __missing__(self, char: str) -> int:
        code = ord(char)
        block = int(self._tables.stage1[code >> 6])
        found = self[char] = int(self._tables.stage2[block * 64 + (code & 63)])
        return found


class Splitter:
    """A compiled split pattern.  Immutable but for a memo of character classes; safe in threads."""

    def __init__(self, tables: SplitTables) -> None:
        self.tables = tables
        self.rows: list[list[int]] = tables.dfa.tolist()
        self.class_of = _ClassOf(tables)

    def split(self, data: bytes) -> NDArray[np.int64]:
        """Return the pretokens of one text, valid UTF-8, as int64 [n, 2] byte positions (start, end)."""
        return self.stream().spans(data)

    def stream(self) -> SplitStream:
        """Return a fresh stream of pretokens."""
        return SplitStream(self)


class SplitStream:
    """The pretokens of a text that arrives in parts.

    A pretoken is given out when no continuation can change it: the automaton has died before the end of what is there.
    The run is kept from part to part, so a growing pretoken is read once.
    """

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter
        self._reset()

    def _reset(self) -> None:
        self._parts: list[str] = []  # the text that is not given out
        self._size = 0  # its characters
        self.held = 0  # its bytes
        self._gap = 0  # where text began that the pattern does not match; the start if there is none
        self._start = 0  # where the run began
        self._end = 0  # the last place where the pretoken may end; the start if none yet
        self._position = 0  # the next character to read
        self._state = START

    def push(self, data: bytes) -> list[bytes]:
        """Take more text; return the pretokens that it decides."""
        part = data.decode()
        base = self._size
        self._parts.append(part)
        self._size += len(part)
        self.held += len(data)
        if not self._run(part, base):
            return []
        text = "".join(self._parts)
        pieces = [text[start:end].encode() for start, end in self._advance(text, final=False)]
        done = self._gap
        self._parts = [text[done:]]
        self.held -= len(text[:done].encode())
        self._size -= done
        self._gap, self._start = 0, self._start - done
        self._end, self._position = self._end - done, self._position - done
        return pieces

    def finish(self) -> list[bytes]:
        """End the text; return the pretokens left.  A new text may follow."""
        text = "".join(self._parts)
        pieces = [text[start:end].encode() for start, end in self._advance(text, final=True)]
        self._reset()
        return pieces

    def spans(self, data: bytes) -> NDArray[np.int64]:
        """Return the pretokens of a whole text as byte positions, int64 [n, 2]."""
        text = data.decode()
        spans = np.array(self._advance(text, final=True), dtype=np.int64).reshape(-1, 2)
        self._reset()
        return _byte_positions(text, spans)

    def _run(self, text: str, base: int) -> bool:
        """Run the automaton to the end of `text`, which stands at `base`; return whether it died."""
        rows, class_of = self._splitter.rows, self._splitter.class_of
        state, position, end = self._state, self._position, self._end
        for char in text[position - base :]:
            cell = rows[state][class_of[char]]
            if cell & MAY_END:
                end = position
            state = cell & ~MAY_END
            if state == DEAD:
                break
            position += 1
        self._state, self._position, self._end = state, position, end
        return state == DEAD

    def _advance(self, text: str, final: bool) -> list[tuple[int, int]]:
        """Go on to the end of `text`; return the spans (in characters) that are decided."""
        size = len(text)
        spans: list[tuple[int, int]] = []
        while self._start < size:
            if self._state != DEAD and not self._run_slice(text):
                if not final:
                    return spans
                if self._splitter.rows[self._state][-1] & MAY_END:
                    self._end = size
            if self._end > self._start:
                spans += self._gap_before(self._start)
                spans.append((self._start, self._end))
                self._gap = self._start = self._end
            else:
                self._start += 1
                if not self._splitter.tables.gaps:  # nobody waits for it
                    self._gap = self._start
            self._position = self._end = self._start
            self._state = START
        if final:
            spans += self._gap_before(size)
        return spans

    def _run_slice(self, text: str) -> bool:
        """Run over `text` in slices that grow, so that a short pretoken in a long text copies little."""
        width = 32
        while self._position < len(text):
            base = self._position
            if self._run(text[base : base + width], base):
                return True
            width *= 2
        return False

    def _gap_before(self, start: int) -> list[tuple[int, int]]:
        return [(self._gap, start)] if self._gap < start and self._splitter.tables.gaps else []


def _byte_positions(text: str, spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn positions in characters into positions in the UTF-8 bytes of the text."""
    if text.isascii():
        return spans
    widths = np.fromiter((len(char.encode()) for char in text), np.int64, len(text))
    positions: NDArray[np.int64] = np.concatenate([[0], np.cumsum(widths)])[spans]
    return positions


class RegexSplitter:
    """A split pattern, or a sequence of them, run by the `regex` module with fastbpe's Unicode classes.

    It gives the same results as a backtracking engine and is slower.  In a stream nothing is decided before the end of
    the text, because such an engine does not tell what more text could change.
    """

    def __init__(self, steps: tuple[tuple[str, bool], ...]) -> None:
        import regex

        self._steps: list[tuple[Any, bool]] = []
        for pattern, gaps in steps:
            try:
                # V1: nested classes and `&&`.  Full case folding is off: the owners' engines fold single characters.
                compiled = regex.compile(f"(?-f:{regex_source(pattern)})", regex.VERSION1)
            except regex.error as error:
                raise PatternError(f"pattern: {error} in {pattern[:80]!r}") from None
            if compiled.match("") is not None:
                raise PatternError("pattern matches the empty text; each match must have a character")
            self._steps.append((compiled, gaps))

    def split(self, data: bytes) -> NDArray[np.int64]:
        """Return the pretokens of one text, valid UTF-8, as int64 [n, 2] byte positions (start, end).

        Raises:
            PatternTimeout: the pattern took over 10 s and 10 s a MB.
        """
        text = data.decode()
        pieces = [(0, len(text))] if text else []
        for compiled, gaps in self._steps:
            pieces = [span for start, end in pieces for span in _step(compiled, gaps, text, start, end)]
        return _byte_positions(text, np.array(pieces, dtype=np.int64).reshape(-1, 2))

    def stream(self) -> RegexStream:
        """Return a fresh stream of pretokens."""
        return RegexStream(self)


class RegexStream:
    """Text held to its end, then split."""

    def __init__(self, splitter: RegexSplitter) -> None:
        self._splitter = splitter
        self._data = bytearray()

    @property
    def held(self) -> int:
        """The bytes that are not given out yet."""
        return len(self._data)

    def push(self, data: bytes) -> list[bytes]:
        """Take more text; nothing is decided yet."""
        self._data += data
        return []

    def finish(self) -> list[bytes]:
        """End the text; return its pretokens."""
        data = bytes(self._data)
        self._data.clear()
        return [data[start:end] for start, end in self._splitter.split(data).tolist()]


def _step(compiled: Any, gaps: bool, text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Split one piece; to the pattern it is a whole text."""
    spans: list[tuple[int, int]] = []
    position = 0
    piece = text[start:end]
    try:
        for found in compiled.finditer(piece, timeout=TIMEOUT * (1 + len(piece) / 1e6)):
            first, last = found.span()
            if first == last:
                raise PatternError(f"pattern matches the empty text at character {start + first}")
            if gaps and first > position:
                spans.append((start + position, start + first))
            spans.append((start + first, start + last))
            position = last
    except TimeoutError:
        raise PatternTimeout(f"the split pattern took too long on {len(piece)} characters") from None
    if gaps and position < len(piece):
        spans.append((start + position, end))
    return spans
