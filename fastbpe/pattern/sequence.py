"""A sequence of splits as one automaton: each step splits the pieces that the step before it left.

To a step, a piece of the step before is a whole text: its look-ahead and `$` see the end of the piece as the end of the
text.  So the guesses (guesses.py) of two steps have a product: where the first guesses a boundary, the second must be
able to end, and begins afresh.  A pretoken begins where either says so.  A stretch that a step does not match is one
piece, like a match.

The product guesses; what runs must know.  `_determined` follows all guesses at once, apart those by which the first
pretoken has ended at the last place where it may, and those by which it goes on.  This is an automaton like that of a
pattern if there are never two places left at which the pretoken may have ended, and if a text goes on behind a boundary
as a text begins.  The second is not assumed: `_prove` leads the product and the guesses of the new automaton through
every text side by side, and a sequence on which they could ever differ does not compile.

Three steps and more are joined one after the other.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastbpe.pattern.automaton import (
    SplitTables,
    automata,
    compile_split,
    compiled,
    minimize,
    packed_tables,
)
from fastbpe.pattern.boxes import PackedBoxes, find_boxes, fitting, packed, unpacked
from fastbpe.pattern.guesses import BEGIN, DEAD, MAY_END, START, ends_right, guess, unmatched
from fastbpe.pattern.lookahead import check_linear
from fastbpe.pattern.parse import OutsideSubset
from fastbpe.pattern.shipped import shipped

MAX_STEPS = 16  # the longest sequence in use has 7
MAX_PLACES = 1024  # of a graph, and states of an automaton; the sequences in use need under 60


Steps = tuple[tuple[str, bool], ...]


class Graph(NamedTuple):
    """Guesses about a text, character by character; place 0 is its beginning.

    Attributes:
        moves: for each place and each character class, the guesses: whether a pretoken begins with the character, and
            the place behind it.  Each leads on to an end.
        ends: the places at which a text may end with all guesses confirmed.
    """

    moves: list[list[list[tuple[bool, int]]]]
    ends: set[int]


@lru_cache(maxsize=64)
def compile_sequence(steps: Steps, boxes: PackedBoxes | None = None) -> SplitTables:
    """Return the tables of a sequence of splits, each a pattern and whether text that it does not match is kept.

    Args:
        steps: one or more.
        boxes: a cover that search_boxes() may have found once.  It is proved against the automaton, which takes up to
            0.1 s, and is of no effect if it does not fit.

    Raises:
        OutsideSubset, PatternError: as compile_split(); also a sequence with no equal automaton here.
    """
    if boxes is not None:
        tables = compile_sequence(steps)
        return tables if tables.boxes else replace(tables, boxes=fitting(unpacked(boxes), tables.dfa))
    if len(steps) == 1:
        return compile_split(*steps[0])
    patterns = tuple(pattern for pattern, _ in steps)
    known = shipped(patterns) if all(gaps for _, gaps in steps) else None
    return compiled_sequence(steps) if known is None else SplitTables(patterns, True, *known)


@lru_cache(maxsize=64)
def search_boxes(steps: Steps) -> PackedBoxes | None:
    """Return a cover for a sequence that compiles; None where none is found.  It may take seconds."""
    tables = compile_sequence(steps)
    found = find_boxes(tables.dfa, tables.class_of())
    return None if found is None else packed(found)


def compiled_sequence(steps: Steps) -> SplitTables:
    """Compile a sequence, without boxes; otherwise as compile_sequence()."""
    if len(steps) == 1:
        return compiled(*steps[0])
    if len(steps) > MAX_STEPS:
        raise OutsideSubset(f"pattern: a sequence of over {MAX_STEPS} splits")
    patterns = tuple(pattern for pattern, _ in steps)
    class_of, dfas = automata(patterns)
    for dfa, (_, gaps) in zip(dfas, steps):
        if not gaps and DEAD in unmatched(dfa):
            raise OutsideSubset("pattern: a step of a sequence that drops text does not compile")
    whole = dfas[0]
    for dfa in dfas[1:]:
        whole = _join(whole, dfa)
    # What only one step tells apart, where the others leave it nothing to tell, is one class.
    kinds, same = np.unique(whole[:, :-1], axis=1, return_inverse=True)
    whole = np.ascontiguousarray(np.column_stack([kinds, whole[:, -1]]))
    check_linear(whole)
    return packed_tables(patterns, True, same.reshape(-1)[class_of], whole)


def _join(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return the automaton of two steps from theirs, which have the same classes."""
    both = _side_by_side(_guesses(first), _guesses(second), nested=True)
    dfa = minimize(_determined(both))
    _prove(both, dfa)
    return dfa


def _guesses(dfa: NDArray[np.uint16]) -> Graph:
    rows: list[list[int]] = dfa.tolist()
    steps = guess(dfa)
    number = {here: at for at, here in enumerate([BEGIN, *(here for here in steps if here != BEGIN)])}
    moves: list[list[list[tuple[bool, int]]]] = [[[] for _ in rows[0][:-1]] for _ in number]
    for here, found in steps.items():
        for step in found:
            moves[number[here]][step.column].append((step.boundary, number[step.after]))
    return Graph(moves, {number[here] for here in steps if ends_right(rows, here)})


def _side_by_side(first: Graph, second: Graph, nested: bool) -> Graph:
    """Lead two graphs through the same texts.

    Args:
        first: one graph.
        second: the other, over the same classes.
        nested: whether the second reads the pieces of the first, or the text.  Then its moves say whether either
            has a boundary, otherwise whether one has and the other has not.

    Raises:
        OutsideSubset: there are too many pairs of places.
    """
    number = {(0, 0): 0}
    order = [(0, 0)]
    moves: list[list[list[tuple[bool, int]]]] = []
    for one, other in order:
        row: list[list[tuple[bool, int]]] = [[] for _ in first.moves[0]]
        for column, guesses in enumerate(first.moves[one]):
            for cut, after in guesses:
                afresh = nested and cut
                if afresh and other not in second.ends:
                    continue
                for boundary, there in second.moves[0 if afresh else other][column]:
                    if (after, there) not in number:
                        if len(number) >= MAX_PLACES:
                            raise OutsideSubset("pattern: the sequence is too complicated to compile")
                        number[after, there] = len(number)
                        order.append((after, there))
                    row[column].append((cut or boundary if nested else cut != boundary, number[after, there]))
        moves.append(row)
    ends = {at for at, (one, other) in enumerate(order) if one in first.ends and other in second.ends}
    return Graph(_leading_on(moves, ends), ends)


def _leading_on(moves: list[list[list[tuple[bool, int]]]], ends: set[int]) -> list[list[list[tuple[bool, int]]]]:
    """Return the moves to places from which an end is reached."""
    before: list[list[int]] = [[] for _ in moves]
    for here, row in enumerate(moves):
        for guesses in row:
            for _, after in guesses:
                before[after].append(here)
    right: set[int] = set()
    todo = list(ends)
    while todo:
        here = todo.pop()
        if here not in right:
            right.add(here)
            todo += before[here]
    return [[[move for move in guesses if move[1] in right] for guesses in row] for row in moves]


State = tuple[frozenset[int], frozenset[int]]  # places with no boundary so far, and with the last one that there was


def _determined(graph: Graph) -> NDArray[np.uint16]:
    """Return the automaton of the first pretoken, not minimized.

    Raises:
        OutsideSubset: the pretoken may have ended at two places, and only the text behind tells at which.
    """
    n_classes = len(graph.moves[0])
    number: dict[State | None, int] = {None: START}  # None: the beginning of the text, no end of a pretoken
    order: list[State | None] = [None]
    rows = [[DEAD] * (n_classes + 1)]
    for state in order:
        going, ended = state or (frozenset({0}), frozenset())
        row = []
        for column in range(n_classes):
            moves = [move for place in going for move in graph.moves[place][column]]
            on = frozenset(after for boundary, after in moves if not boundary or state is None)
            ends = frozenset(after for boundary, after in moves if boundary and state is not None)
            still = frozenset(after for place in ended for _, after in graph.moves[place][column])
            if ends and still:
                raise OutsideSubset("pattern: the look-ahead of a sequence leaves two ends open")
            after = (on, ends or still)
            if on and after not in number:
                if len(order) >= MAX_PLACES:
                    raise OutsideSubset("pattern: the sequence is too complicated to compile")
                number[after] = len(number) + START
                order.append(after)
            row.append((number[after] if on else DEAD) | (MAY_END if ends else 0))
        row.append(MAY_END if state and going & graph.ends else 0)
        rows.append(row)
    return np.array(rows, dtype=np.uint16)


def _prove(graph: Graph, dfa: NDArray[np.uint16]) -> None:
    """Raise OutsideSubset unless the automaton finds the boundaries of the graph in every text, one after the other."""
    differ = _side_by_side(graph, _guesses(dfa), nested=False)
    # Each text has one way through both.  The first moves are of no meaning, and nothing leads back to the beginning.
    if DEAD in unmatched(dfa) or any(move[0] for row in differ.moves[1:] for guesses in row for move in guesses):
        raise OutsideSubset("pattern: a step of the sequence goes on where the whole begins afresh")
