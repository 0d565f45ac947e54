"""The exceptions of fastbpe.

Error
├── VocabularyError (ValueError)       a vocabulary file or definition that is not exactly understood
│   ├── LimitError                     ... because it exceeds a stated limit
│   └── UnsupportedError               ... because it asks for something fastbpe does not do
├── PatternError (ValueError)          a split pattern that cannot be used
│   └── PatternTimeout (TimeoutError)  a pattern run by the regex module that took too long
├── SpecialTokenError (ValueError)     the text spells a special token that the call did not allow
├── TokenIdError (KeyError, ValueError)   an id that the vocabulary does not have
│   └── TokenIdRangeError (OverflowError) ... and that no vocabulary can have
├── PretokenTooLongError (ValueError)  a stream holds a pretoken longer than the caller's limit
└── TrainingError (ValueError)         training cannot give a vocabulary from this input

Each class derives from the builtin a caller would already catch.  A wrong type is a plain
TypeError, invalid UTF-8 a plain UnicodeDecodeError, a missing file a plain OSError.
"""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """The base of all fastbpe exceptions."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The attributes that a subclass adds travel as state, so pickling needs no constructor arguments.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


def _rebuild(cls: type[Error], args: tuple[Any, ...], state: dict[str, Any]) -> Error:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class VocabularyError(Error, ValueError):
    """A vocabulary that is not exactly understood; nothing is repaired silently.

    Attributes:
        reason: what is wrong, without the place.
        path: the file, or None.
        line: the line in the file, from 1, or None.
        key: the JSON path or field, or None.
    """

    def __init__(
        self, reason: str, *, path: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        self.reason, self.path, self.line, self.key = reason, path, line, key
        super().__init__(self._message())

    def _message(self) -> str:
        place = [str(part) for part in (self.path, self.line, self.key) if part is not None]
        return f"{':'.join(place)}: {self.reason}" if place else self.reason

    def at(self, path: str) -> VocabularyError:
        """Return this error with the path of the file it came from."""
        error = type(self)(self.reason, path=self.path or path, line=self.line, key=self.key)
        return error


class LimitError(VocabularyError):
    """A vocabulary that exceeds a stated limit."""


class UnsupportedError(VocabularyError):
    """A vocabulary that asks for something fastbpe does not do; nothing is ignored."""


class PatternError(Error, ValueError):
    """A split pattern that cannot be used."""


class PatternTimeout(PatternError, TimeoutError):
    """A pattern run by the regex module took longer than its limit."""


class SpecialTokenError(Error, ValueError):
    """The text spells a special token that the call did not allow.

    Attributes:
        token: the special token.
        position: characters from the start of the text (of the stream).
        index: of the text in a batch; None for a single text.
        known: whether it is a special token of the vocabulary; disallowed_special may name any text.
    """

    def __init__(self, token: str, position: int, index: int | None = None, known: bool = True) -> None:
        self.token, self.position, self.index, self.known = token, position, index, known
        text = "the text" if index is None else f"the text at index {index}"
        what = "the special token " if known else ""
        allow = f"allowed_special={{{token!r}}} to encode it as that token, " if known else ""
        super().__init__(
            f"{text} holds {what}{token!r} at character {position}: pass {allow}disallowed_special=() to encode it "
            f"as text, or call encode_ordinary()"
        )


class TokenIdError(Error, KeyError, ValueError):
    """An id that the vocabulary does not have."""

    def __str__(self) -> str:
        # KeyError would show the repr of the message.
        return str(self.args[0]) if self.args else ""


class TokenIdRangeError(TokenIdError, OverflowError):
    """An id outside 0..2**32-1, which no vocabulary can have."""


class PretokenTooLongError(Error, ValueError):
    """A stream holds a pretoken longer than the caller's limit; other ids are never given instead."""


class TrainingError(Error, ValueError):
    """Training cannot give a vocabulary from this input."""
