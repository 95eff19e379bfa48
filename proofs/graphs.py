"""Cycles among transactions, by the kinds of their edges. Pure; knows nothing of lists or databases.

Of each strongly connected part of the graph the gravest cycle is answered, with a witness that is as short as can be:
the kinds are asked for in the order of `Cycle`, each in the parts in which no graver one was found. Cycles of two rw
edges (write skew) are answered as well, whatever else is wrong with their part.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Cycle", "Edge", "Graph", "cycles", "parts"]


class Cycle(StrEnum):
    """The kinds of cycles, the gravest first."""

    WW = "ww edges only"
    WR = "ww and wr edges"
    SINGLE = "one rw edge"
    NONADJACENT = "several rw edges, no two in a row"
    ADJACENT = "two rw edges in a row"


class Edge(NamedTuple):
    """`source` comes before `target`."""

    source: int
    kind: str
    """`ww`, `wr` or `rw`."""
    target: int


class Graph:
    """Edges by their source; those from a node to itself say nothing and are left out."""

    def __init__(self, edges: Iterable[Edge]) -> None:
        self.out: dict[int, set[Edge]] = defaultdict(set)
        for edge in edges:
            if edge.source != edge.target:
                self.out[edge.source].add(edge)

    def only(self, kinds: Iterable[str], nodes: set[int] | None = None) -> dict[int, list[Edge]]:
        """The edges of some kinds, between some nodes."""
        wanted = set(kinds)
        chosen: dict[int, list[Edge]] = {}
        for source, edges in self.out.items():
            if nodes is None or source in nodes:
                kept = sorted(e for e in edges if e.kind in wanted and (nodes is None or e.target in nodes))
                if kept:
                    chosen[source] = kept
        return chosen


def cycles(graph: Graph) -> Iterator[tuple[Cycle, list[Edge]]]:
    """The gravest cycle of each part, and the write skews."""
    for part in parts({source: [edge.target for edge in edges] for source, edges in graph.out.items()}):
        found = _gravest(graph, part)
        yield found
        if found[0] is not Cycle.ADJACENT:
            yield from _skews(graph, part)


def _gravest(graph: Graph, part: set[int]) -> tuple[Cycle, list[Edge]]:
    for kind, kinds in ((Cycle.WW, ("ww",)), (Cycle.WR, ("ww", "wr"))):
        edges = graph.only(kinds, part)
        inner = parts({source: [edge.target for edge in each] for source, each in edges.items()})
        for first in (edge for each in inner for node in sorted(each) for edge in edges.get(node, ())):
            back = _path(edges, first.target, first.source)
            if back is not None:
                return kind, [first, *back]
    return _with_antidependencies(graph, part)


def _with_antidependencies(graph: Graph, part: set[int]) -> tuple[Cycle, list[Edge]]:
    firm = graph.only(("ww", "wr"), part)
    loose = [edge for edges in graph.only(("rw",), part).values() for edge in edges]
    for first in loose:
        back = _path(firm, first.target, first.source)
        if back is not None:
            return Cycle.SINGLE, [first, *back]
    every = graph.only(("ww", "wr", "rw"), part)
    for first in loose:
        back = _path_apart(every, first.target, first.source)
        if back is not None:
            return Cycle.NONADJACENT, [first, *back]
    for first in loose:
        back = _path(every, first.target, first.source)
        if back is not None:
            return Cycle.ADJACENT, [first, *back]
    raise AssertionError("a part without a cycle")


def _skews(graph: Graph, part: set[int]) -> Iterator[tuple[Cycle, list[Edge]]]:
    loose = graph.only(("rw",), part)
    for source, edges in loose.items():
        for edge in edges:
            back = Edge(edge.target, "rw", source)
            if source < edge.target and back in loose.get(edge.target, ()):
                yield Cycle.ADJACENT, [edge, back]


def _path(edges: dict[int, list[Edge]], start: int, end: int) -> list[Edge] | None:
    """The shortest way; breadth first."""
    came: dict[int, Edge | None] = {start: None}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        if node == end:
            return _back(came, node)
        for edge in edges.get(node, ()):
            if edge.target not in came:
                came[edge.target] = edge
                queue.append(edge.target)
    return None


def _back(came: dict[int, Edge | None], node: int) -> list[Edge]:
    way: list[Edge] = []
    while (edge := came[node]) is not None:
        way.append(edge)
        node = edge.source
    return way[::-1]


def _path_apart(edges: dict[int, list[Edge]], start: int, end: int) -> list[Edge] | None:
    """The shortest way from behind an rw edge to before it, with no two rw edges in a row, the one around included."""
    first = (start, True)
    came: dict[tuple[int, bool], tuple[Edge, tuple[int, bool]] | None] = {first: None}
    queue = deque([first])
    while queue:
        here = queue.popleft()
        node, after_loose = here
        if node == end and not after_loose:
            way: list[Edge] = []
            while (step := came[here]) is not None:
                edge, here = step
                way.append(edge)
            return way[::-1]
        for edge in edges.get(node, ()):
            loose = edge.kind == "rw"
            there = (edge.target, loose)
            if not (loose and after_loose) and there not in came:
                came[there] = (edge, here)
                queue.append(there)
    return None


def parts(out: dict[int, Sequence[int]] | dict[int, list[int]]) -> list[set[int]]:
    """The strongly connected parts of more than one node (Tarjan, "Depth-first search and linear graph algorithms",
    SIAM J. Comput. 1972), without recursion."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[set[int]] = []
    for root in sorted(out):
        if root in index:
            continue
        work = [(root, iter(out.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, rest = work[-1]
            target = next(rest, None)
            if target is None:
                work.pop()
                if work:
                    above = work[-1][0]
                    low[above] = min(low[above], low[node])
                if low[node] == index[node]:
                    part: set[int] = set()
                    while node not in part:
                        member = stack.pop()
                        on_stack.discard(member)
                        part.add(member)
                    if len(part) > 1:
                        found.append(part)
            elif target not in index:
                index[target] = low[target] = len(index)
                stack.append(target)
                on_stack.add(target)
                work.append((target, iter(out.get(target, ()))))
            elif target in on_stack:
                low[node] = min(low[node], index[target])
    return found
