"""Boundaries from five characters: what a vector unit can decide without running the automaton.

Whether a pretoken begins at a character follows, nearly always, from the classes of five characters: the three before
it, itself, and the one behind it.  All ways through the guessing automaton (guesses.py) that pass such a *window* are
followed; where all agree, the window decides, in every text.  Where they differ the automaton itself has to run.

The windows with a boundary are covered by *boxes*, products of five sets of classes, found by greedy search.  Eight
boxes are five byte shuffles and four ands for as many characters as a register holds bytes.  Nothing rests on the
search: `check` proves a cover window by window.

Most windows that stay open are in a run of one class: white space at the beginning of a line, which belongs to what is
before it where another line end follows, and digits, of which three go together.  What is behind the run (`tails`) and
how far its beginning is (`periods`) decide them; that is computed from the ways too, when the cover is known.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cache, reduce

import numpy as np
from numpy.typing import NDArray

from fastbpe.pattern.guesses import BEGIN, DEAD, MAY_END, START, ends_right, guess, unmatched
from fastbpe.pattern.unicode import named

AXES = 5  # the classes of the characters at -3, -2, -1, 0 and +1; a boundary is before 0
MAX_CLASSES = 16  # that a shuffle tells apart, the beginning and the end of the text among them
MAX_RULES = 8  # of eight boxes each
PackedBoxes = tuple[str, str, str]
OFF, ON = 1, 2  # what a window allows; both: the automaton decides; none: no text has it
TRIES = 40
_SMALL = 16  # letters in a class that contractions make; the ASCII letters (DeepSeek) are no such class
_NEAR = 6  # states in which such a class may differ from the class of the other letters


@dataclass(frozen=True)
class Boxes:
    """A cover of the windows of one pattern.

    Attributes:
        coarse: uint8 [classes of the automaton]; the class of a window that each belongs to.  The two numbers behind
            the greatest are the beginning and the end of the text.
        rules: uint8 [n, 5, 16]; bit b of `rules[s, axis, class]`: the class is in that axis of box 8 * s + b.
        unsure: uint8 [n]; bit b: the windows of box 8 * s + b are for the automaton, whatever other boxes say.
        tails: uint8 [16, 16]; OFF or ON for the unsure windows with a run of two or more characters of the first class
            from 0 on and one of the second class behind it; otherwise these are for the automaton.
        periods: uint8 [16]; n where a run of this class that begins with a pretoken has one every n characters, as far
            as the run goes on; 0 where that is not known.
    """

    coarse: NDArray[np.uint8]
    rules: NDArray[np.uint8]
    unsure: NDArray[np.uint8]
    tails: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((MAX_CLASSES, MAX_CLASSES), np.uint8))
    periods: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(MAX_CLASSES, np.uint8))


def find_boxes(dfa: NDArray[np.uint16], class_of: NDArray[np.uint8], seed: int = 0) -> Boxes | None:
    """Return a cover, or None where the pattern has none that pays: text that it passes over, too many classes.

    Args:
        dfa: the automaton of SplitTables.
        class_of: uint8 [0x110000], the class of each code point.
        seed: of the search; the cover depends on it, what it says does not.
    """
    if 0 in unmatched(dfa):
        return None
    coarse = coarse_classes(dfa, class_of)
    if int(coarse.max()) + 3 > MAX_CLASSES:
        return None
    allowed = windows(dfa, coarse)
    rules, unsure = _cover(allowed, random.Random(seed))
    if len(rules) > MAX_RULES:
        return None
    boxes = Boxes(coarse, rules, unsure)
    check(boxes, allowed)
    return with_runs(boxes, dfa)


def fitting(boxes: Boxes, dfa: NDArray[np.uint16]) -> Boxes | None:
    """Return the boxes, whoever made them, with what runs tell, if they say of every text what the automaton says."""
    if len(boxes.coarse) != dfa.shape[1] - 1 or 0 in unmatched(dfa):
        return None
    try:
        check(boxes, windows(dfa, boxes.coarse))
    except ValueError:
        return None
    return with_runs(boxes, dfa)


def with_runs(boxes: Boxes, dfa: NDArray[np.uint16]) -> Boxes:
    """Return the boxes with what runs of one class tell where the boxes do not."""
    return replace(boxes, tails=_tails(boxes, dfa), periods=_periods(dfa, boxes.coarse))


def packed(boxes: Boxes) -> PackedBoxes:
    """Return the fields of the cover in hexadecimal; unpacked() reads them."""
    return boxes.coarse.tobytes().hex(), boxes.rules.tobytes().hex(), boxes.unsure.tobytes().hex()


def unpacked(texts: PackedBoxes) -> Boxes:
    """Return the boxes of three texts as packed() gives them; of another pattern they may be, see fitting().

    Raises:
        ValueError: other texts.
    """
    coarse, rules, unsure = (np.frombuffer(bytes.fromhex(text), dtype=np.uint8) for text in texts)
    whole = len(rules) == len(unsure) * AXES * MAX_CLASSES and 1 <= len(unsure) <= MAX_RULES
    if not whole or not len(coarse) or int(coarse.max()) + 3 > MAX_CLASSES:
        raise ValueError("the lengths or the classes are impossible")
    boxes = Boxes(coarse, rules.reshape(-1, AXES, MAX_CLASSES), unsure)
    if packed(boxes) != texts:
        raise ValueError("must be in lower-case hexadecimal")
    return boxes


def coarse_classes(dfa: NDArray[np.uint16], class_of: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the class of a window for each class of the automaton.

    The letters of contractions (`'s`, `'ll`) are classes of their own in the automaton, but behave as the other letters
    everywhere else: they join the class that they differ from in the fewest states.
    """
    n_classes = dfa.shape[1] - 1
    sizes = np.bincount(class_of, minlength=n_classes)
    letters = np.zeros(len(class_of), dtype=bool)
    for first, last in named("L").ranges:
        letters[first : last + 1] = True
    n_letters = np.bincount(class_of[letters], minlength=n_classes)
    small = [c for c in range(n_classes) if n_letters[c] == sizes[c] <= _SMALL]
    kept = [c for c in range(n_classes) if c not in small]
    joins = {}
    for one in small:
        distance = {other: int((dfa[:, one] != dfa[:, other]).sum()) for other in kept}
        nearest = min(distance, key=lambda other: (distance[other], other)) if kept else one
        if kept and distance[nearest] <= _NEAR:
            joins[one] = nearest
    kept = [c for c in range(n_classes) if c not in joins]
    return np.array([kept.index(joins.get(c, c)) for c in range(n_classes)], dtype=np.uint8)


def windows(dfa: NDArray[np.uint16], coarse: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what each window allows before its fourth character: uint8 [16, 16, 16, 16, 16] of OFF and ON bits."""
    ways = _Ways(dfa, coarse)
    n_classes = ways.n_classes
    allowed = np.zeros((MAX_CLASSES,) * AXES, dtype=np.uint8)
    known: dict[int, NDArray[np.uint8]] = {}
    for before, here in ways.behind().items():
        if here not in known:
            known[here] = np.zeros((MAX_CLASSES, MAX_CLASSES), dtype=np.uint8)
            for column in range(n_classes):
                for guessed in (OFF, ON):
                    there = ways.onward(here, column, guessed)
                    for last in range(n_classes):
                        known[here][column, last] |= guessed if ways.onward(there, last) else 0
                    known[here][column, n_classes + 1] |= guessed if there & ways.right else 0
        allowed[before] = known[here]
    return allowed


def _tails(boxes: Boxes, dfa: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return tails as in Boxes: what all ways through unsure windows and through such a run have in common."""
    ways = _Ways(dfa, boxes.coarse)
    unsure = covered(boxes)[1]
    tails = np.zeros((MAX_CLASSES, MAX_CLASSES), dtype=np.uint8)
    for column in range(ways.n_classes):
        starts = {here for before, here in ways.behind().items() if unsure[(*before, column, column)]}
        for guessed in (OFF, ON):
            there = reduce(int.__or__, (ways.onward(here, column, guessed) for here in starts), 0)
            there = ways.onward(there, column)
            while (longer := there | ways.onward(there, column)) != there:
                there = longer
            for last in range(ways.n_classes):
                tails[column, last] |= guessed if ways.onward(there, last) else 0
    tails[tails == OFF | ON] = 0
    return tails


def _periods(dfa: NDArray[np.uint16], coarse: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return periods as in Boxes."""
    periods = np.zeros(MAX_CLASSES, dtype=np.uint8)
    for number in range(int(coarse.max()) + 1):
        columns = np.flatnonzero(coarse == number)
        state, length = START, 0
        # Classes that the automaton tells apart may die at different places.
        while len(columns) == 1 and length < 256:
            cell = int(dfa[state, columns[0]])
            state = cell & ~MAY_END
            if state == DEAD:
                periods[number] = length if cell & MAY_END and length < 256 else 0
                break
            # A part of a group that falls apart where the run ends has boundaries inside.
            if not _holds(dfa, state):
                break
            length += 1
    return periods


def _holds(dfa: NDArray[np.uint16], state: int) -> bool:
    """Return whether a pretoken has all the characters that led to a state, whatever follows."""
    seen, todo = {DEAD}, [state]
    while todo:
        here = todo.pop()
        open_ends = [int(cell) for cell in dfa[here] if not cell & MAY_END]
        if DEAD in open_ends:  # also where the text ends, which is the last column
            return False
        todo += [cell for cell in open_ends if cell not in seen]
        seen.update(open_ends)
    return True


class _Ways:
    """The ways through the guessing automaton as sets of its configurations, in the bits of an integer."""

    def __init__(self, dfa: NDArray[np.uint16], coarse: NDArray[np.uint8]):
        rows: list[list[int]] = dfa.tolist()
        steps = guess(dfa)
        bit = {here: 1 << number for number, here in enumerate(steps)}
        self.n_classes = int(coarse.max()) + 1
        self.first = bit[BEGIN]
        self.all = (1 << len(bit)) - 1
        self.right = reduce(int.__or__, (bit[here] for here in steps if ends_right(rows, here)), 0)
        after: list[list[tuple[int, int, int]]] = [[] for _ in range(self.n_classes)]  # from, to, guess
        for here, found in steps.items():
            for step in found:
                after[coarse[step.column]].append((bit[here], bit[step.after], ON if step.boundary else OFF))

        @cache
        def onward(ways: int, column: int, guesses: int = OFF | ON) -> int:
            """Return where the ways lead with a character of a class, with such guesses at it."""
            there = (to for here, to, guessed in after[column] if ways & here and guessed & guesses)
            return reduce(int.__or__, there, 0)

        self.onward = onward

    def behind(self) -> dict[tuple[int, ...], int]:
        """Return the ways behind each three classes; where the text begins within them, only one is behind it.

        A window whose third character is the beginning of the text is never asked for, and is not here.
        """
        begin = self.n_classes
        behind: dict[tuple[int, ...], int] = {(): self.all}
        for _ in range(3):
            behind = {
                (*before, column): self.onward(ways, column) if column != begin else self.first
                for before, ways in behind.items()
                for column in range(self.n_classes + 1)
                if column != begin or all(c == begin for c in before)
            }
        return {before: ways for before, ways in behind.items() if before[-1] != begin}


def check(boxes: Boxes, allowed: NDArray[np.uint8]) -> None:
    """Raise ValueError unless the boxes say of every window what it allows, or leave it to the automaton."""
    on, unsure = covered(boxes)
    allowed = allowed[(slice(len(on)),) * AXES]
    wrong = ~unsure & (((allowed & ON) != 0) & ~on | ((allowed & OFF) != 0) & on)
    if wrong.any():
        raise ValueError(f"boxes: {int(wrong.sum())} windows are decided against the pattern")


def covered(boxes: Boxes) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the windows in boxes with a boundary, and those in boxes for the automaton: two arrays of five axes."""
    used = int(boxes.coarse.max()) + 3  # classes; no text has others
    on, unsure = np.zeros((used,) * AXES, dtype=bool), np.zeros((used,) * AXES, dtype=bool)
    for rule, marks in zip(boxes.rules[:, :, :used], boxes.unsure):
        for b in range(8):
            sides = [np.flatnonzero(rule[axis] >> b & 1) for axis in range(AXES)]
            (unsure if marks >> b & 1 else on)[np.ix_(*sides)] = True
    return on, unsure


# ---------------------------------------------------------------- the search


def _cover(allowed: NDArray[np.uint8], chance: random.Random) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return rules and marks as in Boxes."""
    small, kinds = _merge_equal(allowed)
    found = [(sides, False) for sides in _greedy(small == ON, small == OFF, chance)]
    # A doubtful window may lie in any box, if one of these has it.
    found += [(sides, True) for sides in _greedy(small == ON | OFF, (small == ON) | (small == OFF), chance)]
    rules = np.zeros(((len(found) + 7) // 8, AXES, MAX_CLASSES), dtype=np.uint8)
    unsure = np.zeros(len(rules), dtype=np.uint8)
    for number, (sides, doubtful) in enumerate(found):
        for axis in range(AXES):
            inside = np.isin(kinds[axis], np.flatnonzero(sides[axis]))
            rules[number // 8, axis, inside] |= np.uint8(1 << number % 8)
        unsure[number // 8] |= np.uint8(doubtful << number % 8)
    return rules, unsure


def _merge_equal(allowed: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], list[NDArray[np.intp]]]:
    """Merge the classes of each axis that no window tells apart; also return which became which."""
    kinds: list[NDArray[np.intp]] = []
    for axis in range(AXES):
        slabs = [slab.tobytes() for slab in np.moveaxis(allowed, axis, 0)]
        different = sorted(set(slabs))
        allowed = np.take(allowed, [slabs.index(slab) for slab in different], axis=axis)
        kinds.append(np.array([different.index(slab) for slab in slabs]))
    return allowed, kinds


Sides = list[NDArray[np.bool_]]


def _greedy(wanted: NDArray[np.bool_], barred: NDArray[np.bool_], chance: random.Random) -> list[Sides]:
    """Cover the wanted cells with boxes that hold no barred one: the best of some that grew from random cells.

    Where more are needed than Boxes can hold, the search ends early.
    """
    left = wanted.copy()
    found: list[Sides] = []
    while left.any() and len(found) <= 8 * MAX_RULES:
        cells = np.argwhere(left)
        best: Sides = []
        most = 0
        for _ in range(TRIES):
            sides = _grow(barred, cells[chance.randrange(len(cells))], chance)
            gain = int(left[np.ix_(*sides)].sum())
            if gain > most:
                best, most = sides, gain
        left[np.ix_(*best)] = False
        found.append(best)
    return found


def _grow(barred: NDArray[np.bool_], cell: NDArray[np.intp], chance: random.Random) -> Sides:
    """Grow a box from one cell, axis after axis, as far as no barred cell comes in."""
    sides = [np.arange(size) == cell[axis] for axis, size in enumerate(barred.shape)]
    order = list(range(AXES))
    chance.shuffle(order)
    for axis in order:
        across = tuple(other for other in range(AXES) if other != axis)
        free = [sides[other] if other != axis else np.ones(barred.shape[axis], dtype=bool) for other in range(AXES)]
        sides[axis] = ~barred[np.ix_(*free)].any(axis=across)
    return sides
