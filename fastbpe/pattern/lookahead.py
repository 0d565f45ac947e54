"""How far a pattern looks ahead: whether splitting takes linear time for every text.

The automaton finds the end of a pretoken only when it dies, possibly far behind that end, and the next pretoken is
read from there again.  That is linear as long as a text cannot hold unboundedly many pretokens whose look-aheads all go
on at once, as every `a` of a run does with `a*b|a`.

To find out, guess the boundaries instead of computing them (scan the text once, with all possible guesses): a
configuration is the state of the pretoken being read and the set of states in which ended pretokens still look ahead.
Follow one such pretoken: a cycle on which it never stops looking ahead, while others end and begin to, is a text that
may take quadratic time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastbpe.pattern.parse import OutsideSubset

MAX_CONFIGURATIONS = 4096  # the patterns in use have under 100
_MAY_END, _DEAD, _START = 0x8000, 0, 1

Configuration = tuple[int, frozenset[int]]
Step = tuple[Configuration, int, bool]  # where to, on which character class, and whether a look-ahead begins
Followed = tuple[Configuration, int]


def check_linear(dfa: NDArray[np.uint16]) -> None:
    """Raise OutsideSubset if some text takes more than linear time, or if that cannot be excluded."""
    rows: list[list[int]] = dfa.tolist()
    start: Configuration = (_START, frozenset())
    edges: dict[Configuration, list[Step]] = {}
    todo = [start]
    while todo:
        here = todo.pop()
        if here in edges:
            continue
        if len(edges) >= MAX_CONFIGURATIONS:
            raise OutsideSubset("pattern: its look-ahead is too complicated to compile")
        edges[here] = _steps(rows, here)
        todo += [there for there, _, _ in edges[here]]
    right = _right_guesses(rows, edges)
    graph: dict[Followed, list[tuple[Followed, bool]]] = {}
    for here in right:
        for one in here[1]:
            steps = [(there, rows[one][column], begins) for there, column, begins in edges[here] if there in right]
            graph[here, one] = [((there, after), begins) for there, after, begins in steps if after != _DEAD]
    component = _components(graph)
    for followed, onward in graph.items():
        if any(begins and component[followed] == component[there] for there, begins in onward):
            raise OutsideSubset("pattern: its look-ahead can grow with the text for many pretokens at once")


def _steps(rows: list[list[int]], here: Configuration) -> list[Step]:
    """Return the configurations after each character class, for each guess."""
    state, ahead = here
    found = []
    for column in range(len(rows[0]) - 1):
        cells = [rows[other][column] for other in ahead]
        if any(cell & _MAY_END for cell in cells):
            continue  # an ended pretoken would have gone on: the guess was wrong
        still = frozenset(cell for cell in cells if cell != _DEAD)
        cell = rows[state][column]
        after = cell & ~_MAY_END
        if after != _DEAD:
            found.append(((after, still), column, False))
        if cell & _MAY_END:
            begun = rows[_START][column] & ~_MAY_END
            wider = still | {after} if after != _DEAD else still
            # A character that nothing matches is passed over, and the next one starts anew.
            found.append(((begun if begun != _DEAD else _START, wider), column, after != _DEAD))
        elif after == _DEAD and state == _START:
            found.append(((_START, still), column, False))
    return found


def _right_guesses(rows: list[list[int]], edges: dict[Configuration, list[Step]]) -> set[Configuration]:
    """Return the configurations from which some text ends with all guesses confirmed."""
    before: dict[Configuration, list[Configuration]] = {here: [] for here in edges}
    for here, steps in edges.items():
        for there, _, _ in steps:
            before[there].append(here)
    todo = [
        (state, ahead)
        for state, ahead in edges
        if (state == _START or rows[state][-1] & _MAY_END) and not any(rows[other][-1] & _MAY_END for other in ahead)
    ]
    right: set[Configuration] = set()
    while todo:
        here = todo.pop()
        if here not in right:
            right.add(here)
            todo += before[here]
    return right


def _components(graph: dict[Followed, list[tuple[Followed, bool]]]) -> dict[Followed, int]:
    """Return the strongly connected component of each node (Kosaraju)."""
    order: list[Followed] = []
    seen: set[Followed] = set()
    for root in graph:
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack += [(there, False) for there, _ in graph[node]]
    backward: dict[Followed, list[Followed]] = {node: [] for node in graph}
    for node, steps in graph.items():
        for there, _ in steps:
            backward[there].append(node)
    component: dict[Followed, int] = {}
    for number, root in enumerate(reversed(order)):
        todo = [root]
        while todo:
            node = todo.pop()
            if node not in component:
                component[node] = number
                todo += backward[node]
    return component
