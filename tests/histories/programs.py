"""The programs whose histories are enumerated: small pieces of user code with units of work in them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from types import TracebackType
from typing import Self

from polysession.errors import SessionMisuse, UnitFailed
from polysession.options import Propagation

from .invariants import is_interrupt
from .world import NESTED, NEW, BodyFailed, Lost, Refused, Session, World

__all__ = ["ATTEMPTS", "UNITS"]

SWALLOWED = (BodyFailed, Refused, Lost, UnitFailed)


def alone(world: World) -> None:
    """One unit."""
    with world.unit("one") as unit:
        unit.work()


def alone_failing(world: World) -> None:
    """One unit whose body raises."""
    with world.unit("one") as unit:
        unit.work()
        raise BodyFailed


def alone_interrupted(world: World) -> None:
    """One unit whose body is interrupted."""
    with world.unit("one") as unit:
        unit.work()
        raise KeyboardInterrupt


def one_after_the_other(world: World) -> None:
    """The error of a first unit is swallowed; a second one follows."""
    with suppress(*SWALLOWED), world.unit("one") as unit:
        unit.work()
    with world.unit("two") as unit:
        unit.work()


def two_databases(world: World) -> None:
    """One unit that commits two databases one after the other."""
    with world.unit("one", "a", "b", atomic=False) as unit:
        unit.work()


def two_databases_failing(world: World) -> None:
    """The same, and the body raises."""
    with world.unit("one", "a", "b", atomic=False) as unit:
        unit.work()
        raise BodyFailed


def three_databases(world: World) -> None:
    """One unit that commits three databases one after the other."""
    with world.unit("one", "a", "b", "c", atomic=False) as unit:
        unit.work()


def joined(world: World) -> None:
    """A unit joins another."""
    with world.unit("outer") as outer:
        outer.work()
        with world.unit("inner") as inner:
            inner.work()


def joined_failing(world: World) -> None:
    """The joined unit fails and its error passes through."""
    with world.unit("outer") as outer:
        outer.work()
        with world.unit("inner") as inner:
            inner.work()
            raise BodyFailed


def joined_swallowed(world: World) -> None:
    """The joined unit fails and its error is swallowed."""
    with world.unit("outer") as outer:
        with suppress(*SWALLOWED), world.unit("inner") as inner:
            inner.work()
            raise BodyFailed
        outer.work()


def nested(world: World) -> None:
    """A savepoint that is released."""
    with world.unit("outer") as outer:
        outer.work()
        with world.unit("inner", propagation=NESTED) as inner:
            inner.work()


def nested_swallowed(world: World) -> None:
    """A savepoint that is returned to; every error of it is swallowed and the work goes on."""
    with world.unit("outer") as outer:
        outer.work()
        with suppress(*SWALLOWED), world.unit("inner", propagation=NESTED) as inner:
            inner.work()
            raise BodyFailed
        with world.unit("later") as later:
            later.work()


def nested_trouble_swallowed(world: World) -> None:
    """The savepoint's own trouble is swallowed."""
    with world.unit("outer") as outer:
        outer.work()
        with suppress(*SWALLOWED), world.unit("inner", propagation=NESTED) as inner:
            inner.work()


def nested_twice(world: World) -> None:
    """A savepoint in a savepoint; the inner error is swallowed."""
    with world.unit("outer") as outer:
        outer.work()
        with world.unit("middle", propagation=NESTED) as middle:
            middle.work()
            with suppress(*SWALLOWED), world.unit("inner", propagation=NESTED) as inner:
                inner.work()


def joined_in_nested(world: World) -> None:
    """A unit that joined a savepoint fails; both errors are swallowed."""
    with world.unit("outer") as outer:
        outer.work()
        with suppress(*SWALLOWED), world.unit("middle", propagation=NESTED) as middle:
            middle.work()
            with suppress(*SWALLOWED), world.unit("inner") as inner:
                inner.work()
                raise BodyFailed


def nested_failing_outer(world: World) -> None:
    """A savepoint is released, then the unit around it fails."""
    with world.unit("outer") as outer:
        outer.work()
        with world.unit("inner", propagation=NESTED) as inner:
            inner.work()
        raise BodyFailed


def independent(world: World) -> None:
    """An independent unit inside another; its error is swallowed."""
    with world.unit("outer") as outer:
        outer.work()
        with suppress(*SWALLOWED), world.unit("inner", propagation=NEW) as inner:
            inner.work()


def independent_failing_outer(world: World) -> None:
    """An independent unit commits, then the unit around it fails."""
    with world.unit("outer") as outer:
        outer.work()
        with world.unit("inner", propagation=NEW) as inner:
            inner.work()
        raise BodyFailed


def plain(world: World) -> None:
    """A unit without a transaction, which fails after its first statement."""
    with suppress(BodyFailed), world.unit("failing", propagation=Propagation.SUPPORTS) as unit:
        unit.work()
        raise BodyFailed
    with world.unit("fine", propagation=Propagation.SUPPORTS) as unit:
        unit.work()


def set_aside(world: World) -> None:
    """A unit without a transaction inside another, and in it one with a transaction of its own, which fails."""
    with world.unit("outer") as outer:
        outer.work()
        with world.unit("plain", propagation=Propagation.NOT_SUPPORTED) as aside:
            aside.work()
            with suppress(*SWALLOWED), world.unit("inner") as inner:
                inner.work()
                raise BodyFailed


class Rows:
    """A generator that has a unit open at its `yield`. It is run by `advance`, and closed at the end of the block."""

    def __init__(self, world: World, propagation: Propagation = Propagation.REQUIRED) -> None:
        self.world = world
        self.propagation = propagation
        self.generator = self._rows()

    def _rows(self) -> Generator[None, None, None]:
        with self.world.unit("rows", propagation=self.propagation, home="rows") as unit:
            unit.work()
            yield
            with self.world.unit("in rows", home="rows") as inner:
                inner.work()
                assert inner.scope.decides == unit.scope.root.ended

    def advance(self) -> None:
        """Run it to its `yield`, or to its end."""
        with self.world.inside("rows"):
            next(self.generator, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            with self.world.inside("rows"):
                self.generator.close()
        except BaseException:
            if not is_interrupt(error):
                raise


def beside_a_generator(world: World) -> None:
    """A unit is open in a generator that is suspended, and another one beside it, inside of which the first ends."""
    with Rows(world) as rows:
        rows.advance()
        with world.unit("beside") as beside:
            assert beside.scope.whole
            beside.work()
            rows.advance()


def generator_closed(world: World) -> None:
    """A generator is closed before its end, while the unit in which it opened one of its own goes on."""
    with world.unit("around") as around:
        around.work()
        with suppress(*SWALLOWED), Rows(world, NEW) as rows:
            rows.advance()
        with world.unit("inner") as inner:
            assert inner.scope.root is around.scope
            inner.work()


def joined_in_a_generator(world: World) -> None:
    """A unit in a generator has joined, and is still open when the unit around it ends; then it ends as well."""
    with Rows(world) as rows:
        with suppress(*SWALLOWED, SessionMisuse), world.unit("around") as around:
            around.work()
            rows.advance()
        rows.advance()


def nested_in_a_generator(world: World) -> None:
    """The same with a savepoint, and the unit around it fails."""
    with Rows(world, NESTED) as rows:
        with suppress(*SWALLOWED), world.unit("around") as around:
            around.work()
            rows.advance()
            raise BodyFailed
        rows.advance()


def nested_and_forgotten(world: World) -> None:
    """A savepoint in a generator is still open when the unit around it is to commit."""
    with Rows(world, NESTED) as rows, suppress(*SWALLOWED), world.unit("around") as around:
        around.work()
        rows.advance()


UNITS: tuple[Callable[[World], None], ...] = (
    alone,
    alone_failing,
    alone_interrupted,
    one_after_the_other,
    two_databases,
    two_databases_failing,
    three_databases,
    joined,
    joined_failing,
    joined_swallowed,
    nested,
    nested_swallowed,
    nested_trouble_swallowed,
    nested_twice,
    joined_in_nested,
    nested_failing_outer,
    independent,
    independent_failing_outer,
    plain,
    set_aside,
    beside_a_generator,
    generator_closed,
    joined_in_a_generator,
    nested_in_a_generator,
    nested_and_forgotten,
)


def repeated(world: World) -> None:
    """A repeatable unit."""

    def body(session: Session) -> str:
        world.work(session, "one")
        return "done"

    assert world.run("one", body) == "done"


def repeated_failing_once(world: World) -> None:
    """A repeatable unit whose first attempt meets a transient error."""
    calls: list[Session] = []

    def body(session: Session) -> None:
        calls.append(session)
        world.work(session, "one")
        if len(calls) == 1:
            raise Refused

    world.run("one", body)


def repeated_failing_always(world: World) -> None:
    """A repeatable unit whose body never succeeds."""

    def body(session: Session) -> None:
        world.work(session, "one")
        raise BodyFailed

    world.run("one", body)


def repeated_plain(world: World) -> None:
    """A repeatable unit without a transaction: what it did before the error stays."""

    def body(session: Session) -> None:
        world.work(session, "one")
        raise Refused

    world.run("one", body, propagation=Propagation.NOT_SUPPORTED)


def repeated_inside(world: World) -> None:
    """A repeatable unit that joins another one is not repeated by itself."""

    def body(session: Session) -> None:
        world.work(session, "one")
        raise Refused

    with world.unit("outer") as outer:
        outer.work()
        with suppress(*SWALLOWED):
            world.run("one", body)


def repeated_nested(world: World) -> None:
    """A repeatable unit in a savepoint is not repeated by itself."""

    def body(session: Session) -> None:
        world.work(session, "one")
        raise Refused

    with world.unit("outer") as outer:
        outer.work()
        with suppress(*SWALLOWED):
            world.run("one", body, propagation=NESTED)


ATTEMPTS: tuple[Callable[[World], None], ...] = (
    repeated,
    repeated_failing_once,
    repeated_failing_always,
    repeated_plain,
    repeated_inside,
    repeated_nested,
)
