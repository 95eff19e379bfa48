"""What a history of transactions that append to lists says about isolation and about what their callers were told.

Pure, and independent of polysession and of every database: a history is plain data. Each transaction reads whole lists
and appends values of which no two are alike, so the lists that were read show in which order the appends took effect
(Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", VLDB 2020). From the order
of versions follow three kinds of dependency: *ww*, two appends one after the other; *wr*, a version and who read it;
*rw*, who read a version and who wrote the next one. A cycle among transactions that took effect is an anomaly, named
after Adya, "Weak Consistency", MIT 1999. One with two or more rw edges of which no two follow one another cannot come
about under snapshot isolation either (Fekete et al., "Making Snapshot Isolation Serializable", TODS 2005).

What the callers were told is taken at its word, and what does not fit is a finding: a transaction of which it is not
known whether it committed may have taken effect or not, but wholly.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from proofs import graphs
from proofs.graphs import Edge, Graph

__all__ = ["Anomaly", "Append", "Finding", "Op", "Read", "Told", "Transaction", "check"]


class Told(StrEnum):
    """What the caller of a transaction was told."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"


class Append(NamedTuple):
    """A value was put at the end of a list."""

    key: int
    value: int


class Read(NamedTuple):
    """A list was read, and this is what was in it."""

    key: int
    values: tuple[int, ...]


Op: TypeAlias = Append | Read


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one transaction did, in order, and what its caller was told. Numbers are unique in a history."""

    number: int
    ops: tuple[Op, ...]
    told: Told


class Anomaly(StrEnum):
    """What can be wrong with a history."""

    LOST = "told committed, and it is not there"
    DENIED = "told rolled back, and it is there"
    TORN = "a part of a transaction is there"
    DUPLICATE = "a value is in a list twice"
    NOBODYS = "a value that nobody appended"
    INTERNAL = "a transaction does not see its own append"
    ORDERS = "two lists that cannot both have been"
    G0 = "G0, dirty write"
    G1A = "G1a, aborted read"
    G1B = "G1b, intermediate read"
    G1C = "G1c, circular information flow"
    FUZZY = "P2, a list changed between two reads"
    LOST_UPDATE = "P4, lost update"
    G_SINGLE = "G-single, read skew"
    G_NONADJACENT = "G-nonadjacent, no snapshot"
    G2_ITEM = "G2-item, write skew"


class Finding(NamedTuple):
    """One anomaly, and who had a part in it."""

    anomaly: Anomaly
    what: str
    transactions: tuple[int, ...]


def check(history: Sequence[Transaction], final: Mapping[int, tuple[int, ...]]) -> list[Finding]:
    """All findings of a history. `final` is what was in each list when all had ended; a list that is missing was empty.

    Raises `ValueError` for a history in which two appends have one value: it says nothing.
    """
    return list(_Check(history, final).findings())


class _Writer(NamedTuple):
    transaction: Transaction
    key: int
    last: bool
    """Its transaction appended nothing to this list later."""


class _Base(NamedTuple):
    """A list as a transaction read it, without what it had appended itself."""

    reader: Transaction
    key: int
    values: tuple[int, ...]


class _Check:
    """The tables of one history."""

    def __init__(self, history: Sequence[Transaction], final: Mapping[int, tuple[int, ...]]) -> None:
        self.history = history
        self.final = final
        self.writers: dict[int, _Writer] = {}
        for transaction in history:
            for value, writer in _written(transaction):
                if value in self.writers:
                    raise ValueError(f"the value {value} was appended twice")
                self.writers[value] = writer
        self.in_the_end = {value for values in final.values() for value in values}
        self.bases = [base for transaction in history for base in _bases(transaction)]
        self.took_effect = self._took_effect()

    def findings(self) -> Iterator[Finding]:
        yield from self._of_lists()
        yield from self._of_outcomes()
        yield from self._of_reads()
        yield from self._inside()
        yield from self._of_cycles()

    def _took_effect(self) -> set[int]:
        """Those that are there: told so, or seen by others or in the end though their callers do not know.

        One that only read, and of which it is not known whether it committed, need not have been right.
        """
        seen = set(self.in_the_end)
        for base in self.bases:
            seen.update(base.values)
        return {
            transaction.number
            for transaction in self.history
            if transaction.told is Told.COMMITTED
            or any(
                isinstance(op, Append) and op.value in (seen if transaction.told is Told.UNKNOWN else self.in_the_end)
                for op in transaction.ops
            )
        }

    # -- lists by themselves

    def _of_lists(self) -> Iterator[Finding]:
        reads = [(op.key, op.values, (one.number,)) for one in self.history for op in one.ops if isinstance(op, Read)]
        for key, values, who in (*reads, *((key, values, ()) for key, values in self.final.items())):
            if len(set(values)) < len(values):
                yield Finding(Anomaly.DUPLICATE, f"list {key}: {values}", who)
            for value in values:
                writer = self.writers.get(value)
                if writer is None or writer.key != key:
                    yield Finding(Anomaly.NOBODYS, f"{value} in list {key}", who)
        for base in self.bases:
            order = self.final.get(base.key, ())
            if order[: len(base.values)] != base.values and not self._has_aborted(base):
                what = f"list {base.key}: {base.values} was read, and in the end it is {order}"
                yield Finding(Anomaly.ORDERS, what, (base.reader.number,))

    def _has_aborted(self, base: _Base) -> bool:
        return any(self._is_aborted(value) for value in base.values)

    def _is_aborted(self, value: int) -> bool:
        writer = self.writers.get(value)
        return writer is not None and writer.transaction.told is Told.ROLLED_BACK and value not in self.in_the_end

    # -- what was told

    def _of_outcomes(self) -> Iterator[Finding]:
        for transaction in self.history:
            appended = [op for op in transaction.ops if isinstance(op, Append)]
            there = [op for op in appended if op.value in self.in_the_end]
            missing = [op for op in appended if op.value not in self.in_the_end]
            number = transaction.number
            if transaction.told is Told.ROLLED_BACK and there:
                yield Finding(Anomaly.DENIED, f"{there}", (number,))
            if transaction.told is Told.ROLLED_BACK or number not in self.took_effect:
                continue
            for op in missing:
                over = self._overwrote(transaction, op)
                if over is not None:
                    what = f"{op} was overwritten by one that had not seen it"
                    yield Finding(Anomaly.LOST_UPDATE, what, (number, over.number))
                elif transaction.told is Told.UNKNOWN:
                    yield Finding(Anomaly.TORN, f"{op} is missing, {there} is there", (number,))
                else:
                    yield Finding(Anomaly.LOST, f"{op}", (number,))

    def _overwrote(self, lost: Transaction, op: Append) -> Transaction | None:
        """Who wrote the list anew from a read that lacked `op`. To which version `op` was appended is not known: what
        its transaction had read may have been older, so where updates may be lost this is all that can be said."""
        order = self.final.get(op.key, ())
        for index, value in enumerate(order):
            writer = self.writers.get(value)
            if writer is None or writer.transaction is lost:
                continue
            if order[:index] in _bases_of(writer.transaction, op.key):
                return writer.transaction
        return None

    # -- what was read

    def _of_reads(self) -> Iterator[Finding]:
        for base in self.bases:
            reader = base.reader.number
            for value in base.values:
                if self._is_aborted(value):
                    writer = self.writers[value].transaction
                    what = f"{value} in list {base.key}, of a transaction that was rolled back"
                    yield Finding(Anomaly.G1A, what, (reader, writer.number))
            if base.values and (last := self.writers.get(base.values[-1])) and not last.last:
                what = f"{base.values[-1]} in list {base.key}, to which its transaction appended more"
                yield Finding(Anomaly.G1B, what, (reader, last.transaction.number))

    def _inside(self) -> Iterator[Finding]:
        """Of each transaction by itself."""
        for transaction in self.history:
            known: dict[int, tuple[int, ...]] = {}
            own: dict[int, list[int]] = defaultdict(list)
            for op in transaction.ops:
                if isinstance(op, Append):
                    own[op.key].append(op.value)
                    if op.key in known:
                        known[op.key] += (op.value,)
                    continue
                mine = own[op.key]
                if mine and list(op.values[-len(mine) :]) != mine:
                    what = f"list {op.key}: {op.values} was read after {mine} had been appended"
                    yield Finding(Anomaly.INTERNAL, what, (transaction.number,))
                elif op.key in known and known[op.key] != op.values:
                    what = f"list {op.key}: {known[op.key]}, then {op.values}"
                    yield Finding(Anomaly.FUZZY, what, (transaction.number,))
                known[op.key] = op.values

    # -- cycles

    def _of_cycles(self) -> Iterator[Finding]:
        graph = Graph(self._edges())
        for kind, cycle in graphs.cycles(graph):
            what = " ".join(f"{edge.source} {edge.kind}>" for edge in cycle) + f" {cycle[0].source}"
            yield Finding(_CYCLES[kind], what, tuple(edge.source for edge in cycle))

    def _edges(self) -> Iterator[Edge]:
        for values in self.final.values():
            numbers = [self.writers[value].transaction.number for value in values if value in self.writers]
            for before, after in itertools.pairwise(numbers):
                yield Edge(before, "ww", after)
        for base in self.bases:
            order = self.final.get(base.key, ())
            reader = base.reader.number
            if reader not in self.took_effect or order[: len(base.values)] != base.values:
                continue
            if base.values and base.values[-1] in self.writers:
                yield Edge(self.writers[base.values[-1]].transaction.number, "wr", reader)
            following = self.writers.get(order[len(base.values)]) if len(order) > len(base.values) else None
            if following is not None:
                yield Edge(reader, "rw", following.transaction.number)


_CYCLES: Mapping[graphs.Cycle, Anomaly] = {
    graphs.Cycle.WW: Anomaly.G0,
    graphs.Cycle.WR: Anomaly.G1C,
    graphs.Cycle.SINGLE: Anomaly.G_SINGLE,
    graphs.Cycle.NONADJACENT: Anomaly.G_NONADJACENT,
    graphs.Cycle.ADJACENT: Anomaly.G2_ITEM,
}


def _written(transaction: Transaction) -> Iterator[tuple[int, _Writer]]:
    appended = [op for op in transaction.ops if isinstance(op, Append)]
    for number, op in enumerate(appended):
        last = all(later.key != op.key for later in appended[number + 1 :])
        yield op.value, _Writer(transaction, op.key, last)


def _bases(transaction: Transaction) -> Iterator[_Base]:
    own: set[int] = set()
    for op in transaction.ops:
        if isinstance(op, Append):
            own.add(op.value)
        else:
            yield _Base(transaction, op.key, _without(op.values, own))


def _bases_of(transaction: Transaction, key: int) -> list[tuple[int, ...]]:
    return [base.values for base in _bases(transaction) if base.key == key]


def _without(values: Iterable[int], own: set[int]) -> tuple[int, ...]:
    return tuple(value for value in values if value not in own)
