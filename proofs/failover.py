"""A failover that loses commits: no unit is told that it committed if the new primary does not have it.

A primary and a standby that follows it asynchronously. Units commit on the primary and never hear the answer; the link
between the two servers is cut meanwhile, so that the standby has the first of them and not the others. Then the primary
is killed, the standby is promoted, and the address of the database leads to it. What each unit says is compared with
the rows of the new primary: "committed" for those that it has, and "lost" or "unknown" for the others, never
"committed" and never "rolled back".

The control asks the new primary for the state of the lost transactions by their numbers (`pg_xact_status`), after as
many unrelated writes as were lost: it answers "committed" of transactions that are not there.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session
from tests.engines.folders import copy_folder
from tests.engines.postgres import Postgres
from tests.engines.process import wait_until

from polysession import Outcome, Sessions, outcome_of
from polysession.testing.proxy import Fault, FaultProxy, Hole, answer
from proofs.results import Profile, Result, Row

__all__ = ["NAME", "run", "run_failovers"]

NAME: Final = "failover"
_ENGINE: Final = "pg18"
_KEPT: Final = 5
_LOST: Final = 10
"""Units of each failover: those that the standby has, and those that it lacks."""
_PATIENCE: Final = 30.0
_DATABASE: Final = "shop"


class _Copied(Postgres):
    """A server over a copy of data; a standby if it has a primary."""

    def __init__(self, engine: str, golden: Path, primary: int | None = None) -> None:
        super().__init__(engine)
        self._golden = golden
        self._primary = primary

    def _begin(self) -> None:
        copy_folder(self._golden, self.data)
        if self._primary is not None:
            (self.data / "standby.signal").touch()
            with (self.data / "postgresql.conf").open("a") as conf:
                conf.write(f"primary_conninfo = 'host=127.0.0.1 port={self._primary} user=postgres'\n")
        self.start()


def run(profile: Profile, seed: int) -> Result:
    """Failovers until enough commits were lost."""
    lost = 200 if profile.name == "full" else 20
    return _judged(run_failovers(-(-lost // _LOST), profile), seed, profile.name)


def run_failovers(failovers: int, profile: Profile) -> tuple[Row, Row]:
    """So many; the figures, and those of the control."""
    said: Counter[str] = Counter()
    false_answers = asked = 0
    with Postgres(_ENGINE) as first:
        first.create_database(_DATABASE)
        first.ask("create table work (id int primary key)", database=_DATABASE)
        first.ask("grant all on work to app", database=_DATABASE)
        with Sessions(first.url(_DATABASE)) as door, door.begin(outcome="exact"):
            pass  # the table of outcomes is made
        first.stop(immediate=False)
        golden = first.folder / "golden"
        copy_folder(first.data, golden)
        for number in range(failovers):
            heard, numbers = _fail_over(golden)
            said.update(heard)
            asked += len(numbers)
            false_answers += sum(1 for state in numbers if state == "committed")
            profile.say(f"failover {number + 1}: {dict(heard)}, by number: {dict(Counter(numbers))}")
    mine = {
        "where": f"{_ENGINE} sync psycopg",
        "failovers": failovers,
        "lost": failovers * _LOST,
        "kept": failovers * _KEPT,
        "lost, said lost": said["lost: lost"],
        "lost, said unknown": said["lost: unknown"],
        "lost, said committed": said["lost: committed"],
        "lost, said rolled back": said["lost: rolled back"],
        "kept, said committed": said["kept: committed"],
        "kept, said unknown": said["kept: unknown"],
        "kept, said otherwise": said["kept: lost"] + said["kept: rolled back"],
    }
    control = {"where": "pg_xact_status", "lost": asked, "lost, said committed": false_answers}
    return mine, control


def _judged(rows: tuple[Row, Row], seed: int, profile: str) -> Result:
    mine, control = rows
    wrong = mine["lost, said committed"] + mine["lost, said rolled back"] + mine["kept, said otherwise"]
    told = mine["lost, said lost"] > 0
    harmless = not control["lost, said committed"]
    return Result(
        name=NAME,
        seed=seed,
        profile=profile,
        counts={key: value for key, value in mine.items() if isinstance(value, int)},
        cells=(mine,),
        control=(control,),
        passed=not wrong and told and not harmless,
        why=(
            f"{wrong} units were told wrongly"
            if wrong
            else "the control gave no false answer"
            if harmless
            else "no lost unit was told that it committed or was rolled back"
        ),
    )


def _fail_over(golden: Path) -> tuple[Counter[str], list[str | None]]:
    """One: what the units said, and what the new primary says of the numbers of those that were lost."""
    with (
        _Copied(_ENGINE, golden) as primary,
        FaultProxy(("127.0.0.1", primary.port), "raw") as stream,
        _Copied(_ENGINE, golden, stream.port) as standby,
    ):
        wait_until(
            lambda: primary.ask("select 1 from pg_stat_replication"), what="the standby follows", timeout=_PATIENCE
        )
        way = FaultProxy.before(primary.url(_DATABASE))
        pool = {"size": _KEPT + _LOST}
        door = Sessions.from_mapping({"databases": {"main": {"url": way.url, "outcome": "exact", "pool": pool}}})
        try:
            return _course(primary, standby, stream, way, door)
        finally:
            door.close()


def _course(
    primary: Postgres, standby: Postgres, stream: FaultProxy, way: FaultProxy, door: Sessions
) -> tuple[Counter[str], list[str | None]]:
    numbers: dict[int, str] = {}
    ready = threading.Barrier(_KEPT + _LOST + 1, timeout=_PATIENCE)
    kept_may, lost_may = threading.Event(), threading.Event()

    def unit(number: int) -> Outcome | None:
        may = kept_may if number < _KEPT else lost_may

        def work(session: Session) -> None:
            session.execute(sa.text("select 1"))
            ready.wait()
            may.wait(
                _PATIENCE
            )  # so that the numbers of the lost ones are given out when the standby hears nothing more
            session.execute(sa.text("insert into work values (:number)"), {"number": number})
            numbers[number] = str(session.scalar(sa.text("select cast(pg_current_xact_id() as text)")))

        try:
            door.run(work, retry=1, name=str(number))
        except Exception as error:
            return outcome_of(error)
        return Outcome.COMMITTED

    def rows(server: Postgres, wanted: int) -> bool:
        return server.ask("select count(*) from work", database=_DATABASE) == [(wanted,)]

    with ThreadPoolExecutor(_KEPT + _LOST) as pool:
        ends = [pool.submit(unit, number) for number in range(_KEPT + _LOST)]
        ready.wait()
        way.plan(Fault(Hole(), answer("COMMIT"), times=None))
        way.refuse()  # nobody can ask before the failover is over
        kept_may.set()
        wait_until(lambda: rows(standby, _KEPT), what="the standby has the first units", timeout=_PATIENCE)
        stream.freeze()
        lost_may.set()
        wait_until(lambda: rows(primary, _KEPT + _LOST), what="the primary has all units", timeout=_PATIENCE)
        primary.kill()
        stream.sever()
        standby.ask("select pg_promote(wait => true)")
        address = way.address
        way.clear()
        way.close()
        new = FaultProxy(("127.0.0.1", standby.port), "postgresql", port=address[1])
        try:
            said = [end.result() for end in ends]
        finally:
            new.close()
    there = {number for (number,) in standby.ask("select id from work", database=_DATABASE)}
    assert there == set(range(_KEPT)), there
    heard = Counter(
        f"{'kept' if number in there else 'lost'}: {said[number] or Outcome.UNKNOWN}" for number in range(_KEPT + _LOST)
    )
    for number in range(_LOST + 5):
        standby.ask(f"insert into work values ({1000 + number})", database=_DATABASE)
    return heard, [_state(standby, numbers[number]) for number in range(_KEPT, _KEPT + _LOST)]


def _state(server: Postgres, number: str) -> str | None:
    """What the server says of a transaction by its number; None if it does not know the number."""
    try:
        ((state,),) = server.ask("select pg_xact_status(%s::xid8)", number)
    except Exception:
        return None
    return str(state)
