"""How far a pattern looks ahead: whether splitting takes linear time for every text.

The automaton finds the end of a pretoken only when it dies, possibly far behind that end, and the next pretoken is
read from there again.  That is linear as long as a text cannot hold unboundedly many pretokens whose look-aheads all go
on at once, as every `a` of a run does with `a*b|a`.  In the terms of guesses.py: follow one pretoken that looks ahead;
a cycle on which it never stops, while others end and begin to, is a text that may take quadratic time.

A character that nothing matches is passed over, and counts as a pretoken that ended and looks ahead as far as the run
from it reads, as every `a` of a run does with `a*b`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fastbpe.pattern.guesses import DEAD, Configuration, guess
from fastbpe.pattern.parse import OutsideSubset

Followed = tuple[Configuration, int]
Node = TypeVar("Node", bound=Hashable)


def check_linear(dfa: NDArray[np.uint16]) -> None:
    """Raise OutsideSubset if some text takes more than linear time, or if that cannot be excluded."""
    rows: list[list[int]] = dfa.tolist()
    graph: dict[Followed, list[tuple[Followed, bool]]] = {}
    for here, steps in guess(dfa).items():
        for one in here[1]:
            ahead = [(step, rows[one][step.column]) for step in steps]
            graph[here, one] = [((step.after, state), step.looks) for step, state in ahead if state != DEAD]
    component = _components({one: [there for there, _ in onward] for one, onward in graph.items()})
    for followed, onward in graph.items():
        if any(looks and component[followed] == component[there] for there, looks in onward):
            raise OutsideSubset("pattern: its look-ahead can grow with the text for many pretokens at once")


def _components(graph: dict[Node, list[Node]]) -> dict[Node, int]:
    """Return the strongly connected component of each node (Kosaraju)."""
    order: list[Node] = []
    seen: set[Node] = set()
    for root in graph:
        stack = [(root, False)]
        while stack:
            node, done = stack.pop()
            if done:
                order.append(node)
            elif node not in seen:
                seen.add(node)
                stack.append((node, True))
                stack += [(there, False) for there in graph[node]]
    backward: dict[Node, list[Node]] = {node: [] for node in graph}
    for node, onward in graph.items():
        for there in onward:
            backward[there].append(node)
    component: dict[Node, int] = {}
    for number, root in enumerate(reversed(order)):
        todo = [root]
        while todo:
            node = todo.pop()
            if node not in component:
                component[node] = number
                todo += backward[node]
    return component
