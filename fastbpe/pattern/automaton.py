"""From a syntax tree to the tables that split text: character classes and a leftmost-first automaton.

A backtracking engine tries the alternatives in order and takes the first that leads to a match.  The same result comes
from running all of them at once with the threads kept in order of preference, and dropping the threads behind one that
has matched (Pike's construction; Cox, "Regular Expression Matching: the Virtual Machine Approach", 2009).  A state of
the automaton is the ordered list of threads, so the run needs no list at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastbpe.errors import PatternError
from fastbpe.pattern.boxes import Boxes
from fastbpe.pattern.guesses import DEAD, MAY_END, START
from fastbpe.pattern.lookahead import check_linear
from fastbpe.pattern.parse import Alt, Chars, End, Node, NotAhead, OutsideSubset, Repeat, Seq, parse
from fastbpe.pattern.possessive import check_possessive
from fastbpe.pattern.shipped import shipped
from fastbpe.pattern.unicode import MAX_CODE, CharSet

MAX_PROGRAM = 4096  # instructions; the patterns in use need under 150
MAX_STATES = 2048  # the patterns in use have 12 to 21
MAX_CLASSES = 255


@dataclass(frozen=True)
class SplitTables:
    """What a compiled pattern consists of; plain arrays, so that both twins take it as it is.

    Attributes:
        pattern: where the tables come from; a tuple for a sequence of splits (sequence.py).
        gaps: whether text that the pattern does not match is kept, each stretch as one piece.
        stage1: uint16 [17408]; block of a code point, by its upper bits (`code >> 6`).
        stage2: uint8 [blocks * 64]; class of a code point, by `block * 64 + (code & 63)`.
        dfa: uint16 [states, classes + 1]; next state, with MAY_END where the pretoken may end before this character.
            State 0 is dead, 1 the start; the last column is the end of the text.
        boxes: how to find most boundaries without the automaton, or None.
    """

    pattern: str | tuple[str, ...]
    gaps: bool
    stage1: NDArray[np.uint16]
    stage2: NDArray[np.uint8]
    dfa: NDArray[np.uint16]
    boxes: Boxes | None

    @property
    def n_classes(self) -> int:
        """The number of character classes."""
        return int(self.dfa.shape[1]) - 1

    def class_of(self) -> NDArray[np.uint8]:
        """Return the class of each code point, uint8 [0x110000]."""
        return self.stage2.reshape(-1, 64)[self.stage1].reshape(-1)


@lru_cache(maxsize=64)
def compile_split(pattern: str, gaps: bool) -> SplitTables:
    """Return the tables of a split pattern; those of the named patterns are shipped.

    Raises:
        OutsideSubset: the pattern may be valid but has no equal automaton here.
        PatternError: the pattern is refused whatever runs it, for example because it matches the empty text.
    """
    packed = shipped(pattern)
    return compiled(pattern, gaps) if packed is None else SplitTables(pattern, gaps, *packed)


def compiled(pattern: str, gaps: bool) -> SplitTables:
    """Compile a pattern; otherwise as compile_split()."""
    class_of, (dfa,) = automata((pattern,))
    check_linear(dfa)
    return packed_tables(pattern, gaps, class_of, dfa)


def automata(patterns: tuple[str, ...]) -> tuple[NDArray[np.intp], list[NDArray[np.uint16]]]:
    """Return the class of each code point, and the automaton of each pattern over these classes, as in SplitTables.

    Raises:
        OutsideSubset, PatternError: as compile_split(), but for the look-ahead that takes more than linear time.
    """
    nodes = [parse(pattern) for pattern in patterns]
    sets: dict[CharSet, int] = {}
    for node in nodes:
        check_possessive(node)
        _collect(node, sets)
    class_of, members = _partition(list(sets))
    if len(members) > MAX_CLASSES:
        raise OutsideSubset(f"pattern: over {MAX_CLASSES} character classes")
    return class_of, [_automaton(node, sets, members) for node in nodes]


def _automaton(node: Node, sets: dict[CharSet, int], members: list[frozenset[int]]) -> NDArray[np.uint16]:
    program: list[_Op] = []
    _emit(node, program, sets)
    program.append(_Op("match"))
    if len(program) > MAX_PROGRAM:
        raise OutsideSubset(f"pattern: over {MAX_PROGRAM} instructions")
    dfa = minimize(_determinize(program, members))
    if len(dfa) <= START:
        raise OutsideSubset("pattern: it never matches")
    return dfa


def packed_tables(
    pattern: str | tuple[str, ...], gaps: bool, class_of: NDArray[np.intp], dfa: NDArray[np.uint16]
) -> SplitTables:
    """Return tables without boxes."""
    stage1, stage2 = _two_stage(class_of)
    for array in (stage1, stage2, dfa):
        array.setflags(write=False)
    return SplitTables(pattern, gaps, stage1, stage2, dfa, None)


# ---------------------------------------------------------------- character classes


def _collect(node: Node, sets: dict[CharSet, int]) -> None:
    if isinstance(node, (Chars, NotAhead)):
        sets.setdefault(node.chars, len(sets))
    elif isinstance(node, Seq):
        for item in node.items:
            _collect(item, sets)
    elif isinstance(node, Alt):
        for branch in node.branches:
            _collect(branch, sets)
    elif isinstance(node, Repeat):
        _collect(node.item, sets)


def _partition(sets: list[CharSet]) -> tuple[NDArray[np.intp], list[frozenset[int]]]:
    """Return the class of each code point, and for each class the sets that it lies in.

    Two code points are in one class when they are in the same sets.
    """
    edges = {0, MAX_CODE + 1}
    for chars in sets:
        for first, last in chars.ranges:
            edges.update((first, last + 1))
    bounds = np.array(sorted(edges))
    inside = np.zeros((len(sets), len(bounds) - 1), dtype=np.int8)
    for row, chars in enumerate(sets):
        for first, last in chars.ranges:
            inside[row, np.searchsorted(bounds, first) : np.searchsorted(bounds, last + 1)] = 1
    columns, which = np.unique(inside, axis=1, return_inverse=True)
    members = [frozenset(np.flatnonzero(column).tolist()) for column in columns.T]
    return np.repeat(which.reshape(-1), np.diff(bounds)), members


def _two_stage(class_of: NDArray[np.intp]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    data = class_of.astype(np.uint8).tobytes()
    blocks: dict[bytes, int] = {}
    stage1 = [blocks.setdefault(data[at : at + 64], len(blocks)) for at in range(0, len(data), 64)]
    return np.array(stage1, dtype=np.uint16), np.frombuffer(b"".join(blocks), dtype=np.uint8)


# ---------------------------------------------------------------- program and automaton


class _Op(NamedTuple):
    """One instruction: char SET, not_ahead SET, end, split FIRST SECOND (prefers the first), jump TO, match."""

    kind: str
    a: int = 0
    b: int = 0


def _emit(node: Node, program: list[_Op], sets: dict[CharSet, int]) -> None:
    """Append the instructions of `node`."""
    if len(program) > MAX_PROGRAM:
        raise OutsideSubset(f"pattern: over {MAX_PROGRAM} instructions")
    if isinstance(node, Chars):
        program.append(_Op("char", sets[node.chars]))
    elif isinstance(node, NotAhead):
        program.append(_Op("not_ahead", sets[node.chars]))
    elif isinstance(node, End):
        program.append(_Op("end"))
    elif isinstance(node, Seq):
        for item in node.items:
            _emit(item, program, sets)
    elif isinstance(node, Alt):
        jumps = []
        for branch in node.branches[:-1]:
            split = len(program)
            program.append(_Op("split"))
            _emit(branch, program, sets)
            jumps.append(len(program))
            program.append(_Op("jump"))
            program[split] = _Op("split", split + 1, len(program))
        _emit(node.branches[-1], program, sets)
        for jump in jumps:
            program[jump] = _Op("jump", len(program))
    else:
        _emit_repeat(node, program, sets)


def _may_be_empty(node: Node) -> bool:
    if isinstance(node, Seq):
        return all(map(_may_be_empty, node.items))
    if isinstance(node, Alt):
        return any(map(_may_be_empty, node.branches))
    if isinstance(node, Repeat):
        return node.least == 0 or _may_be_empty(node.item)
    return not isinstance(node, Chars)


def _emit_repeat(node: Repeat, program: list[_Op], sets: dict[CharSet, int]) -> None:
    if node.most is None and _may_be_empty(node.item):
        # A backtracking engine leaves the loop after an empty round; dropped threads would try what comes after it.
        raise OutsideSubset("pattern: an unbounded repetition of what may be empty does not compile")
    for _ in range(node.least):
        _emit(node.item, program, sets)
    if node.most is None:
        split = len(program)
        program.append(_Op("split"))
        _emit(node.item, program, sets)
        program.append(_Op("jump", split))
        program[split] = _Op("split", split + 1, len(program))
        return
    splits = []
    for _ in range(node.most - node.least):
        splits.append(len(program))
        program.append(_Op("split"))
        _emit(node.item, program, sets)
    for split in splits:
        program[split] = _Op("split", split + 1, len(program))


def _step(program: list[_Op], state: tuple[int, ...], inside: frozenset[int] | None) -> tuple[bool, tuple[int, ...]]:
    """Run the ordered threads of `state` over one character, or over the end of the text (`inside` None).

    Returns whether a match may end before the character, and the ordered threads after it.
    """
    after: list[int] = []
    seen: set[int] = set()
    stack = list(reversed(state))
    while stack:
        index = stack.pop()
        if index in seen:
            continue
        seen.add(index)
        op = program[index]
        if op.kind == "match":
            return True, tuple(after)  # the threads behind this one are less preferred: dropped
        if op.kind == "split":
            stack.append(op.b)
            stack.append(op.a)
        elif op.kind == "jump":
            stack.append(op.a)
        elif op.kind == "end":
            if inside is None:
                stack.append(index + 1)
        elif op.kind == "not_ahead":
            if inside is None or op.a not in inside:
                stack.append(index + 1)
        elif inside is not None and op.a in inside and index + 1 not in after:
            after.append(index + 1)
    return False, tuple(after)


def _determinize(program: list[_Op], members: list[frozenset[int]]) -> NDArray[np.uint16]:
    states: dict[tuple[int, ...], int] = {(): DEAD, (0,): START}
    rows: list[list[int]] = [[DEAD] * (len(members) + 1)]
    todo: list[tuple[int, ...]] = [(0,)]
    for state in todo:
        row = []
        for inside in [*members, None]:
            may_end, after = _step(program, state, inside)
            if after not in states:
                if len(states) >= MAX_STATES:
                    raise OutsideSubset(f"pattern: over {MAX_STATES} automaton states")
                states[after] = len(states)
                todo.append(after)
            row.append(states[after] | (MAY_END if may_end else 0))
        if state == (0,) and any(cell & MAY_END for cell in row):
            raise PatternError("pattern matches the empty text; each match must have a character")
        rows.append(row)
    return np.array(rows, dtype=np.uint16)


def minimize(dfa: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Merge states that behave alike (Moore's algorithm), keeping 0 dead and 1 the start."""
    flags, after = dfa & MAY_END, dfa & ~np.uint16(MAY_END)
    _, group = np.unique(flags, axis=0, return_inverse=True)
    group = group.reshape(-1)
    while True:
        signature = np.column_stack([group, group[after]])
        _, refined = np.unique(np.column_stack([signature, flags]), axis=0, return_inverse=True)
        refined = refined.reshape(-1)
        if refined.max() == group.max():
            break
        group = refined
    order: dict[int, int] = {}  # one group for both of the first where no match is possible
    for state in [DEAD, START, *range(len(dfa))]:
        order.setdefault(int(group[state]), len(order))
    kept = [int(np.flatnonzero(group == g)[0]) for g in order]
    number = np.array([order[int(g)] for g in group], dtype=np.uint16)
    return np.ascontiguousarray(number[after[kept]] | flags[kept])
