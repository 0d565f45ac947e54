"""All boundaries of a text at once: an automaton that guesses them instead of computing them.

The automaton of a pattern finds the end of a pretoken only when it dies, possibly far behind that end.  Read a text
once and guess at each character whether a pretoken begins there.  A *configuration* is the state of the pretoken being
read (in a stretch that nothing matches, which counts as a pretoken, the start), and the set of states in which
pretokens that were guessed to have ended still look ahead: none of them may match again, or the guess was wrong.  Each
text has exactly one way through that survives to its end, the true boundaries.

What all ways through the configurations have in common is true of every text: that is how a look at five characters
can tell a boundary (boxes.py), and how a pattern shows that it takes linear time (lookahead.py).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastbpe.pattern.parse import OutsideSubset

MAX_CONFIGURATIONS = 4096  # the patterns in use have under 100
MAY_END = 0x8000  # flag of a cell: the pretoken may end before this character
DEAD, START = 0, 1

Configuration = tuple[int, frozenset[int]]  # state of the pretoken being read, states that look ahead

BEGIN: Configuration = (START, frozenset())


class Step(NamedTuple):
    """Where one character leads.

    Attributes:
        column: the class of the character.
        boundary: whether a pretoken is guessed to begin with it; of no meaning for the first character of a text.
        after: the configuration behind it.
        looks: whether the pretoken that ended before it goes on to look ahead.
    """

    column: int
    boundary: bool
    after: Configuration
    looks: bool


def guess(dfa: NDArray[np.uint16]) -> dict[Configuration, list[Step]]:
    """Return the configurations that some text can reach and leave to a right end, with their steps.

    Raises:
        OutsideSubset: there are too many.
    """
    rows: list[list[int]] = dfa.tolist()
    steps: dict[Configuration, list[Step]] = {}
    todo = [BEGIN]
    while todo:
        here = todo.pop()
        if here in steps:
            continue
        if len(steps) >= MAX_CONFIGURATIONS:
            raise OutsideSubset("pattern: its look-ahead is too complicated to compile")
        steps[here] = _steps(rows, here)
        todo += [step.after for step in steps[here]]
    right = _right(rows, steps)
    return {here: [step for step in steps[here] if step.after in right] for here in right}


def _steps(rows: list[list[int]], here: Configuration) -> list[Step]:
    """Return the steps on each character class, for each guess."""
    state, ahead = here
    found = []
    for column in range(len(rows[0]) - 1):
        cells = [rows[other][column] for other in ahead]
        if any(cell & MAY_END for cell in cells):
            continue  # an ended pretoken would have gone on: the guess was wrong
        still = frozenset(cell for cell in cells if cell != DEAD)
        cell = rows[state][column]
        after = cell & ~MAY_END
        if after != DEAD:
            found.append(Step(column, state == START, (after, still), False))
        if state == START:
            found.append(_passed(column, False, after, still, False))
        if cell & MAY_END:
            begun = rows[START][column] & ~MAY_END
            looks = after != DEAD
            wider = still | {after} if looks else still
            if begun != DEAD:
                found.append(Step(column, True, (begun, wider), looks))
            found.append(_passed(column, True, begun, wider, looks))
    return found


def _passed(column: int, boundary: bool, begun: int, ahead: frozenset[int], looks: bool) -> Step:
    """Return the step where no match begins at the character: the run that began with it must never match."""
    if begun == DEAD:
        return Step(column, boundary, (START, ahead), looks)
    return Step(column, boundary, (START, ahead | {begun}), True)


def ends_right(rows: list[list[int]], here: Configuration) -> bool:
    """Return whether the text may end here with all guesses confirmed."""
    state, ahead = here
    may_end = state == START or rows[state][-1] & MAY_END
    return bool(may_end) and not any(rows[other][-1] & MAY_END for other in ahead)


def _right(rows: list[list[int]], steps: dict[Configuration, list[Step]]) -> set[Configuration]:
    """Return the configurations from which some text ends with all guesses confirmed."""
    before: dict[Configuration, list[Configuration]] = {here: [] for here in steps}
    for here, found in steps.items():
        for step in found:
            before[step.after].append(here)
    todo = [here for here in steps if ends_right(rows, here)]
    right: set[Configuration] = set()
    while todo:
        here = todo.pop()
        if here not in right:
            right.add(here)
            todo += before[here]
    return right


def unmatched(dfa: NDArray[np.uint16]) -> dict[int, set[int]]:
    """Return the states without a match so far, each with the states behind it that have none either.

    State 0 among them means that the automaton may die without a match: a character may be passed over.
    """
    rows: list[list[int]] = dfa.tolist()
    edges: dict[int, set[int]] = {}
    todo = [cell & ~MAY_END for cell in rows[START][:-1]]
    while todo:
        state = todo.pop()
        if state in edges:
            continue
        # Where the text ends, all states are dead.
        edges[state] = {cell for cell in rows[state] if not cell & MAY_END} if state != DEAD else set()
        todo += edges[state]
    return edges
