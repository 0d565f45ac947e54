r"""A split pattern as a syntax tree over sets of code points.

The dialect is what published split patterns use, read as tiktoken's engine (Rust) reads it: alternation, groups,
`(?i:...)`, classes with ranges, negation, nesting and `&&`, `\p{..}`, `\s`, `\d`, greedy and possessive quantifiers,
`(?!X)` with one class X, and `$` or `\z` for the end of the text.  Everything else raises OutsideSubset, which tells
the caller to run the pattern on the `regex` module instead (`regex_source` prepares it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fastbpe.errors import PatternError
from fastbpe.pattern import unicode
from fastbpe.pattern.unicode import CharSet

MAX_PATTERN = 16 * 1024  # characters; the longest pattern in use has under 700
MAX_REPEAT = 1000
MAX_DEPTH = 100


class OutsideSubset(PatternError):
    """A pattern that may be valid, but that does not compile to an automaton with equal results."""


@dataclass(frozen=True)
class Chars:
    """One character of a set."""

    chars: CharSet


@dataclass(frozen=True)
class NotAhead:
    """No character of a set comes next; the end of the text satisfies it."""

    chars: CharSet


@dataclass(frozen=True)
class End:
    """The end of the text."""


@dataclass(frozen=True)
class Seq:
    """One item after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True)
class Alt:
    """The first branch that leads to a match."""

    branches: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    """As many repetitions as lead to a match, from `most` (None: no limit) down to `least`."""

    item: Node
    least: int
    most: int | None
    possessive: bool


Node = Chars | NotAhead | End | Seq | Alt | Repeat

_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b", "0": "\0"}
_QUANTIFIER = re.compile(r"\{(\d+)(,?)(\d*)\}")
_PROPERTY = re.compile(r"([pP])(?:\{(\^?)([A-Za-z_= ]+)\}|([LMNPSZC]))")
_HEX = re.compile(r"x([0-9A-Fa-f]{2})|x\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}")


def class_escape(text: str, position: int) -> tuple[CharSet, int] | None:
    r"""Read `p{..}`, `s` and their like after a backslash; None when `position` holds no class."""
    found = _PROPERTY.match(text, position)
    if found:
        name = found[3] or found[4]
        try:
            chars = unicode.named(name.replace(" ", ""))
        except KeyError:
            raise PatternError(f"pattern: \\p{{{name}}} is not a class that fastbpe knows") from None
        return (~chars if (found[1] == "P") != bool(found[2]) else chars), found.end()
    letter = text[position : position + 1]
    if letter and letter in "sSdD":
        chars = unicode.named("White_Space" if letter in "sS" else "Nd")
        return (~chars if letter in "SD" else chars), position + 1
    return None


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.position, self.depth = text, 0, 0
        self.edits: list[tuple[int, int, str]] = []  # what to_greedy replaces

    def error(self, reason: str) -> OutsideSubset:
        return OutsideSubset(f"pattern: {reason} at character {self.position} of {self.text[:80]!r}")

    def peek(self, count: int = 1) -> str:
        return self.text[self.position : self.position + count]

    def take(self, literal: str) -> bool:
        if self.text.startswith(literal, self.position):
            self.position += len(literal)
            return True
        return False

    def alternation(self, fold: bool) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("groups are nested too deeply")
        branches = [self.sequence(fold)]
        while self.take("|"):
            branches.append(self.sequence(fold))
        self.depth -= 1
        return branches[0] if len(branches) == 1 else Alt(tuple(branches))

    def sequence(self, fold: bool) -> Node:
        items: list[Node] = []
        while self.position < len(self.text) and self.peek() not in "|)":
            items.append(self.quantified(self.atom(fold)))
        return items[0] if len(items) == 1 else Seq(tuple(items))

    def quantified(self, item: Node) -> Node:
        found = _QUANTIFIER.match(self.text, self.position)
        if found:
            least = int(found[1])
            most = int(found[3]) if found[3] else None if found[2] else least
            if (most is not None and most < least) or max(least, most or 0) > MAX_REPEAT:
                raise self.error(f"the quantifier {found[0]} is out of order or over {MAX_REPEAT}")
            self.position = found.end()
        elif self.peek() and self.peek() in "?*+":
            least, most = {"?": (0, 1), "*": (0, None), "+": (1, None)}[self.peek()]
            self.position += 1
        else:
            return item
        if isinstance(item, (NotAhead, End)):
            raise self.error("a quantifier after an assertion")
        if self.peek() == "?":
            raise self.error("lazy quantifiers do not compile")
        possessive = self.take("+")
        if possessive:
            self.edits.append((self.position - 1, self.position, ""))
        if self.peek() and self.peek() in "?*+{":
            raise self.error("a quantifier after a quantifier")
        return Repeat(item, least, most, possessive)

    def atom(self, fold: bool) -> Node:
        char = self.peek()
        if char == "(":
            return self.group(fold)
        if char == "[":
            return Chars(self.char_class(fold))
        if char == "$" or self.peek(2) == "\\z":
            self.edits.append((self.position, self.position + (1 if char == "$" else 2), "\\z"))
            self.position = self.edits[-1][1]
            return End()
        if char == ".":
            self.position += 1
            return Chars(~CharSet.of("\n"))
        if char in "^?*+" or _QUANTIFIER.match(self.text, self.position):
            raise self.error(f"{char!r} does not compile here")
        return Chars(self.fold(self.char_or_class(), fold))

    def fold(self, chars: CharSet, fold: bool) -> CharSet:
        return unicode.case_closure(chars) if fold else chars

    def group(self, fold: bool) -> Node:
        if self.take("(?!"):
            body = self.alternation(fold)
            if not isinstance(body, Chars):
                raise self.error("a negative look-ahead of more than one class does not compile")
            node: Node = NotAhead(body.chars)
        elif self.take("(?i:"):
            node = self.alternation(True)
        elif self.take("(?:"):
            node = self.alternation(fold)
        elif self.peek(2) == "(?":
            raise self.error(f"the group {self.peek(4)!r} does not compile")
        else:
            self.position += 1
            node = self.alternation(fold)
        if not self.take(")"):
            raise self.error("a group is not closed")
        return node

    def char_or_class(self) -> CharSet:
        """Read one character or escape."""
        if not self.take("\\"):
            char = self.peek()
            self.position += 1
            return CharSet.of(char)
        escaped = class_escape(self.text, self.position)
        if escaped:
            chars, self.position = escaped
            return chars
        found = _HEX.match(self.text, self.position)
        if found:
            code = int(next(part for part in found.groups() if part), 16)
            if code > unicode.MAX_CODE:
                raise self.error("a code point above U+10FFFF")
            self.position = found.end()
            return CharSet([(code, code)])
        char = self.peek()
        if not char or (char.isalnum() and char not in _SIMPLE):
            raise self.error(f"the escape \\{char} does not compile")
        self.position += 1
        return CharSet.of(_SIMPLE.get(char, char))

    def char_class(self, fold: bool) -> CharSet:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("classes are nested too deeply")
        self.position += 1
        negated = self.take("^")
        parts: list[CharSet] = []  # joined by &&
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self.take("]"):
            if self.position >= len(self.text):
                raise self.error("a class is not closed")
            if self.take("&&"):
                parts.append(self.fold(CharSet(ranges), fold))
                ranges = []
            elif self.peek() == "[":
                if self.peek(2) == "[:":
                    raise self.error("POSIX classes do not compile")
                ranges.extend(self.char_class(fold).ranges)
            else:
                ranges.extend(self.class_item().ranges)
            first = False
        chars = self.fold(CharSet(ranges), fold)
        for part in parts:
            chars = chars & part
        self.depth -= 1
        return ~chars if negated else chars

    def class_item(self) -> CharSet:
        """Read one member of a class: a character, an escape or a range."""
        if self.peek(2) in ("--", "~~"):
            raise self.error(f"the class operator {self.peek(2)!r} does not compile")
        low = self.char_or_class()
        if self.peek() != "-" or self.peek(2) == "-]":
            return low
        if self.peek(2) == "--" or self.peek(2) == "-[":
            raise self.error("a '-' that is no range")
        self.position += 1
        high = self.char_or_class()
        if len(low) != 1 or len(high) != 1 or low.ranges[0][0] > high.ranges[0][0]:
            raise self.error("a range that is out of order or not between characters")
        return CharSet([(low.ranges[0][0], high.ranges[0][0])])


def parse_with_edits(pattern: str) -> tuple[Node, list[tuple[int, int, str]]]:
    """Return the syntax tree, and the (start, end, replacement) edits that make the pattern greedy."""
    if not isinstance(pattern, str):
        raise TypeError(f"pattern must be a str, got {type(pattern).__name__}")
    if not pattern or len(pattern) > MAX_PATTERN:
        raise PatternError(f"pattern must have 1 to {MAX_PATTERN} characters, got {len(pattern)}")
    parser = _Parser(pattern)
    node = parser.alternation(False)
    if parser.position < len(pattern):
        raise parser.error("an unbalanced ')'")
    return node, parser.edits


def parse(pattern: str) -> Node:
    """Return the syntax tree of a pattern.

    Raises:
        OutsideSubset: the pattern is malformed or uses what does not compile.
        PatternError: it is empty, too long, or names an unknown property.
    """
    return parse_with_edits(pattern)[0]


def regex_source(pattern: str) -> str:
    r"""Rewrite a pattern for the `regex` module: our Unicode classes spelled out, `$` and `\z` as its `\Z`.

    Raises:
        PatternError: the pattern depends on something that `regex` defines by its own Unicode version or differently.
    """
    out: list[str] = []
    position, depth = 0, 0
    while position < len(pattern):
        char = pattern[position]
        if char == "\\":
            text, position = _regex_escape(pattern, position + 1, depth)
            out.append(text)
            continue
        if char == "[":
            if pattern.startswith("[:", position) and depth:
                raise PatternError("pattern: POSIX classes are not supported, name a property as in \\p{L}")
            depth += 1
            if pattern.startswith("[]", position) or pattern.startswith("[^]", position):
                raise PatternError("pattern: escape a ']' that stands first in a class")
        elif char == "]" and depth:
            depth -= 1
        elif char == "$" and not depth:
            char = "\\Z"
        elif char == "(" and not depth:
            flags = re.match(r"\(\?([A-Za-z-]+)[:)]", pattern[position : position + 16])
            if flags and flags[1] != "i":
                raise PatternError(f"pattern: the flags in {flags[0]!r} are not supported; (?i:...) is")
        out.append(char)
        position += 1
    return "".join(out)


def _regex_escape(pattern: str, position: int, depth: int) -> tuple[str, int]:
    escaped = class_escape(pattern, position)
    if escaped:
        chars, position = escaped
        spelled = "".join(f"\\U{a:08x}" if a == b else f"\\U{a:08x}-\\U{b:08x}" for a, b in chars.ranges)
        return (spelled if depth else f"[{spelled}]"), position
    char = pattern[position : position + 1]
    if char == "z" and not depth:
        return "\\Z", position + 1
    found = _HEX.match(pattern, position)
    if found:
        code = int(next(part for part in found.groups() if part), 16)
        return f"\\U{code:08x}", found.end()
    if not char or (char.isalpha() and char not in _SIMPLE):
        raise PatternError(f"pattern: the escape \\{char} is not supported")
    return "\\" + char, position + 1
