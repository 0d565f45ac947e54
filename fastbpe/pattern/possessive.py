"""Possessive quantifiers, where they give what greedy ones give."""

from __future__ import annotations

from dataclasses import dataclass

from fastbpe.pattern.parse import Alt, Chars, End, Node, NotAhead, OutsideSubset, Repeat, Seq, parse_with_edits
from fastbpe.pattern.unicode import CharSet


def to_greedy(pattern: str) -> str:
    r"""Return an equal pattern without possessive quantifiers and with `\z` for the end of the text.

    Engines that read `{1,3}+` as a nested repetition and `$` as a line end give this form the same meaning.

    Raises:
        PatternError: no equal form is known.
    """
    node, edits = parse_with_edits(pattern)
    check_possessive(node)
    for start, end, replacement in reversed(edits):
        pattern = pattern[:start] + replacement + pattern[end:]
    return pattern


@dataclass(frozen=True)
class _Follow:
    """What may come after a place: the first characters, and whether the match may simply be over."""

    chars: CharSet
    free: bool  # nothing more has to match
    asserts: tuple[CharSet, ...] = ()  # look-aheads that must hold first


def check_possessive(node: Node) -> None:
    """Raise OutsideSubset unless each possessive quantifier gives what the greedy one gives.

    It does when giving back a character cannot help: what follows never starts with one of the repeated set, or may be
    nothing at all, so that the longest repetition already succeeds.
    """
    _check(node, _Follow(CharSet(), True))


def _check(node: Node, follow: _Follow) -> _Follow:
    """Check `node` before `follow`; return the same description for the place before `node`."""
    if isinstance(node, Chars):
        return _Follow(node.chars, False)
    if isinstance(node, End):
        # After giving back a character one of the repeated set comes next, so this is no end.
        return _Follow(CharSet(), False)
    if isinstance(node, NotAhead):
        return _Follow(follow.chars & ~node.chars, False, (*follow.asserts, node.chars)) if follow.free else follow
    if isinstance(node, Seq):
        for item in reversed(node.items):
            follow = _check(item, follow)
        return follow
    if isinstance(node, Alt):
        return _union([_check(branch, follow) for branch in node.branches])
    if node.possessive:
        _check_repeat(node, follow)
    inside = follow
    if node.most is None or node.most > 1:
        inside = _union([follow, _check(node.item, _Follow(CharSet(), True))])
    before = _check(node.item, inside)
    return _union([before, follow]) if node.least == 0 else before


def _check_repeat(node: Repeat, follow: _Follow) -> None:
    if not isinstance(node.item, Chars):
        raise OutsideSubset("pattern: a possessive group does not compile")
    repeated = node.item.chars
    helped = not follow.free and not follow.chars.isdisjoint(repeated)
    # "not followed by S" may turn true when a character is given back, unless that character is in S.
    helped = helped or any((repeated & ~chars).ranges != () for chars in follow.asserts)
    if helped:
        raise OutsideSubset("pattern: a possessive quantifier that differs from the greedy one does not compile")


def _union(parts: list[_Follow]) -> _Follow:
    chars = CharSet(item for part in parts for item in part.chars.ranges)
    return _Follow(chars, any(part.free for part in parts), tuple(s for part in parts for s in part.asserts))
