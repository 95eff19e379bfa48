"""Tenants"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, foreign, make_transient, registry, relationship

from polysession import AsyncSessions, Outcome, outcome_of, unit_id_of
from polysession.errors import (
    AlreadyCommitted,
    CommitUnknown,
    ConfigError,
    DeadlineExceeded,
    JoinRefused,
    PolysessionError,
    RequestRefused,
    SessionMisuse,
    UnknownTenant,
)
from polysession.testing.proxy import Cut, Fault, FaultProxy, answer

from .cells import Cell, Refused
from .doors import real
from .schema import Invoice, Item, Part, Witness
from .test_exact_outcome import NO_LINK

ACME, GLOBEX = "acme", "globex"
_NONE_OR_GLOBEX: tuple[dict[str, Any], ...] = ({}, {"tenant": GLOBEX})
_NONE_OR_NOBODY: tuple[dict[str, Any], ...] = ({}, {"tenant": "nobody"})
_numbers = itertools.count(1)


def table(cell: Cell, **keys: Any) -> dict[str, Any]:
    """A database of two tenants, each with a database on the cell's server."""
    beside = {key: value for key, value in cell.table().items() if key != "url"}
    return {"tenants": {ACME: cell.url, GLOBEX: cell.other_url}, **beside, **keys}


@pytest.fixture
def app(cell: Cell) -> AsyncSessions:
    """A door over one database of two tenants."""
    return cell.door({"app": table(cell)})


def item(tenant: str) -> Item:
    """A row that carries its tenant."""
    number = next(_numbers)
    return Item(id=number, name=f"{tenant}-{number}")


def tenants_in(witness: Witness) -> list[str]:
    """Whose rows are in a database."""
    return [name.partition("-")[0] for (name,) in witness.ask("select name from item order by id")]


async def test_each_verb_goes_to_its_tenant(app: AsyncSessions, cell: Cell) -> None:
    """Every verb that opens a unit or session works in the database of the tenant that it was given, and in no other
    one: the pool, the row of held() and the facts have the name of that endpoint."""

    async def write(session: AsyncSession) -> None:
        session.add(item(GLOBEX))
        await session.flush()

    def write_sync(session: Session) -> None:
        session.add(item(GLOBEX))
        session.flush()

    async def whose(session: AsyncSession) -> list[str]:
        return [name.partition("-")[0] for name in (await session.scalars(sa.select(Item.name))).all()]

    async with app.begin("app", tenant=GLOBEX) as session:
        await write(session)
        (row,) = app.held()
        assert (row.databases, row.endpoints, row.tenant) == (("app",), ("app/tenant-globex",), GLOBEX)
    await app.run(write, "app", tenant=GLOBEX)
    await app.run_sync(write_sync, "app", tenant=GLOBEX)
    await app.unit("app", tenant=GLOBEX)(write)()
    await app.task(write, "app", tenant=GLOBEX)()
    for attempt in app.attempts("app", tenant=GLOBEX):
        async with attempt as session:
            await write(session)
    session = app.open("app", tenant=GLOBEX)
    assert app.held()[0].tenant == GLOBEX
    await write(session)
    await session.commit()
    await session.close()
    async with app.sessionmaker("app", tenant=GLOBEX)() as session:
        await write(session)
        await session.commit()
    assert tenants_in(cell.witness) == []
    assert tenants_in(cell.other_witness) == [GLOBEX] * 8
    async with app.read("app", tenant=GLOBEX) as session:
        assert await whose(session) == [GLOBEX] * 8
    async with app.read("app", tenant=ACME, snapshot=True) as session:
        assert await whose(session) == []
    assert await app.gather(whose, whose, database="app", tenant=ACME) == [[], []]
    assert await app.gather(whose, database="app", tenant=GLOBEX) == [[GLOBEX] * 8]
    assert {row.endpoint for row in app.stats()} == {"app/tenant-acme", "app/tenant-globex"}
    assert app.tenants("app") == (ACME, GLOBEX)


async def test_there_is_no_tenant_by_default(cell: Cell) -> None:
    """Without a tenant, with one that is not known, with one for a database that has none, and with one that is no
    text, every verb is refused before anything is connected."""
    door = cell.door({"app": table(cell), "shared": {"url": cell.url}})

    async def never(session: AsyncSession) -> None:
        raise AssertionError

    async def enter(unit: Any) -> None:
        async with unit:
            raise AssertionError

    async def attempt(name: str, asked: dict[str, Any]) -> None:
        for turn in door.attempts(name, **asked):
            await enter(turn)

    async def at_once(call: Callable[..., Any], name: str, asked: dict[str, Any]) -> None:
        call(name, **asked)

    verbs: dict[str, Callable[[str, dict[str, Any]], Awaitable[Any]]] = {
        "begin": lambda name, asked: enter(door.begin(name, **asked)),
        "read": lambda name, asked: enter(door.read(name, **asked)),
        "run": lambda name, asked: door.run(never, name, **asked),
        "run_sync": lambda name, asked: door.run_sync(lambda _: 1, name, **asked),
        "unit": lambda name, asked: door.unit(name, **asked)(never)(),
        "task": lambda name, asked: door.task(never, name, **asked)(),
        "attempts": attempt,
        "gather": lambda name, asked: door.gather(never, database=name, **asked),
        "open": lambda name, asked: at_once(door.open, name, asked),
        "sessionmaker": lambda name, asked: at_once(door.sessionmaker, name, asked),
        "outcome": lambda name, asked: door.outcome(key="k", database=name, **asked),
    }
    wrong: tuple[tuple[str, dict[str, Any], type[PolysessionError], str], ...] = (
        ("app", {}, UnknownTenant, "no tenant was named"),
        ("app", {"tenant": "acne"}, UnknownTenant, "say tenant='acme', if that is meant"),
        ("app", {"tenant": "ACME"}, UnknownTenant, "'app' has no tenant 'ACME'"),
        ("app", {"tenant": ""}, UnknownTenant, "'app' has no tenant ''"),
        ("app", {"tenant": "acme "}, UnknownTenant, "'app' has no tenant 'acme '"),
        ("shared", {"tenant": ACME}, RequestRefused, "'shared' has no tenants"),
        ("app", {"tenant": 1}, RequestRefused, "named by int"),
        ("app", {"tenant": [ACME]}, RequestRefused, "named by list"),
        ("app", {"tenant": ACME.encode()}, RequestRefused, "named by bytes"),
    )
    for verb, call in verbs.items():
        for name, asked, error, said in wrong:
            with pytest.raises(error) as raised:
                await call(name, asked)
            assert said in str(raised.value), (verb, asked)
    for mode in ("requires_new", "never", "supports", "not_supported", "nested"):
        with pytest.raises(UnknownTenant):
            await enter(door.begin("app", propagation=mode))
    with pytest.raises(RequestRefused, match="has no replica"):
        await enter(door.read("app", role="replica"))
    with pytest.raises(RequestRefused, match="has no replica"):
        await enter(door.read("app", role="replica", tenant=ACME))
    assert door.held() == ()
    assert door.stats() == ()


async def test_a_unit_inside_of_one(app: AsyncSessions, cell: Cell) -> None:
    """What joins an open unit, or is put behind a savepoint, has its tenant and may say so; another tenant is refused.
    A unit of its own inherits none."""
    async with app.begin("app", tenant=GLOBEX) as outer:
        for asked in _NONE_OR_GLOBEX:
            async with app.begin("app", **asked) as inner:
                assert real(inner) is real(outer)
                inner.add(item(GLOBEX))
            async with app.begin("app", propagation="nested", **asked) as inner:
                assert real(inner) is real(outer)
                inner.add(item(GLOBEX))
                async with app.begin("app", propagation="mandatory") as innermost:
                    assert real(innermost) is real(outer)
        for mode in ("required", "nested", "mandatory", "supports"):
            with pytest.raises(JoinRefused, match="its tenant differs"):
                async with app.begin("app", tenant=ACME, propagation=mode):
                    raise AssertionError
        for mode in ("requires_new", "not_supported"):
            with pytest.raises(UnknownTenant):
                async with app.begin("app", propagation=mode):
                    raise AssertionError
        async with app.begin("app", tenant=ACME, propagation="requires_new") as other:
            other.add(item(ACME))
            async with app.begin("app") as inner:
                assert real(inner) is real(other)
            with pytest.raises(JoinRefused, match="asked for 'globex'; the open unit has 'acme'"):
                async with app.begin("app", tenant=GLOBEX):
                    raise AssertionError
        async with app.begin("app") as inner:
            assert real(inner) is real(outer)
    assert tenants_in(cell.witness) == [ACME]
    assert tenants_in(cell.other_witness) == [GLOBEX] * 4


async def test_tenants_side_by_side(cell: Cell) -> None:
    """Units of two tenants that run side by side, that join, fail and nest, never see or write a row of the other."""
    door = cell.door({"app": table(cell, pool={"size": 8})})
    committed: dict[str, int] = {ACME: 0, GLOBEX: 0}

    async def see(session: AsyncSession, tenant: str) -> None:
        for name in (await session.scalars(sa.select(Item.name))).all():
            assert name.startswith(f"{tenant}-")

    async def work(tenant: str, other: str) -> None:
        for turn in range(12):
            try:
                async with door.begin("app", tenant=tenant) as session:
                    session.add(item(tenant))
                    await session.flush()
                    async with door.begin("app") as joined:
                        await see(joined, tenant)
                    async with door.read("app", tenant=other, propagation="requires_new") as apart:
                        await see(apart, other)
                    await see(session, tenant)
                    if turn % 4 == 3:
                        raise Refused
            except Refused:
                pass
            else:
                committed[tenant] += 1
            async with door.read("app", tenant=tenant, snapshot=turn % 2 == 0) as session:
                await see(session, tenant)

    pairs = ((ACME, GLOBEX), (GLOBEX, ACME)) * 3
    ends = await cell.together(*(lambda pair=pair: work(*pair) for pair in pairs))
    assert ends == [None] * len(pairs)
    assert tenants_in(cell.witness) == [ACME] * committed[ACME]
    assert tenants_in(cell.other_witness) == [GLOBEX] * committed[GLOBEX]
    assert committed == {ACME: 27, GLOBEX: 27}


async def test_outcomes_of_tenants(app: AsyncSessions, cell: Cell) -> None:
    """The row of an exact outcome is in the tenant's own database, where it is asked for; a key is its tenant's."""
    there = "select count(*) from polysession_commit"

    def rows(witness: Witness) -> int:
        return int(witness.ask(there)[0][0]) if "polysession_commit" in witness.tables() else 0

    before = rows(cell.witness), rows(cell.other_witness)
    key = f"once {next(_numbers)} {before}"
    async with app.begin("app", tenant=GLOBEX, key=key) as session:
        session.add(item(GLOBEX))
    assert (rows(cell.witness), rows(cell.other_witness)) == (before[0], before[1] + 1)
    with pytest.raises(AlreadyCommitted):
        async with app.begin("app", tenant=GLOBEX, key=key):
            raise AssertionError
    assert await app.outcome(key=key, database="app", tenant=GLOBEX) is Outcome.COMMITTED
    assert await app.outcome(key=key, database="app", tenant=ACME) is Outcome.ROLLED_BACK
    with pytest.raises(UnknownTenant):
        await app.outcome(key=key, database="app")
    async with app.begin("app", tenant=ACME, key=key) as session:
        session.add(item(ACME))
    assert tenants_in(cell.witness) == [ACME]
    assert tenants_in(cell.other_witness) == [GLOBEX]


async def test_a_lost_answer_of_a_tenant(cell: Cell) -> None:
    """If the answer to COMMIT is lost the tenant's own database is asked; an error that leaves it open says whose it
    was."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    with FaultProxy.before(cell.other_url) as proxy:
        door = cell.door({"app": table(cell, tenants={ACME: cell.url, GLOBEX: proxy.url})})
        for outcome in ("plain", "exact"):
            async with door.begin("app", tenant=GLOBEX, outcome=outcome) as session:
                await session.execute(sa.select(Item.id))
        proxy.plan(Fault(Cut(), answer("COMMIT")))
        async with door.begin("app", tenant=GLOBEX, outcome="exact") as session:
            session.add(item(GLOBEX))
            await session.flush()
        assert tenants_in(cell.other_witness) == [GLOBEX]
        proxy.plan(Fault(Cut(), answer("COMMIT")))
        with pytest.raises(CommitUnknown) as raised:
            async with door.begin("app", tenant=GLOBEX, outcome="plain") as session:
                session.add(item(GLOBEX))
                await session.flush()
        assert raised.value.facts["tenant"] == GLOBEX
        assert "'app' of tenant 'globex'" in str(raised.value)
        assert outcome_of(raised.value) is Outcome.UNKNOWN
        assert unit_id_of(raised.value) is None
    assert tenants_in(cell.witness) == []


async def test_steering_tenants(cell: Cell) -> None:
    """What is said of a database holds for the pools of all its tenants; with a tenant, for that one's alone."""
    door = cell.door({"app": table(cell, pool={"size": 3}), "shared": {"url": cell.url}})

    async def reach(tenant: str, deadline: float | None = None) -> None:
        async with door.read("app", tenant=tenant, deadline=deadline) as session:
            await session.execute(sa.text("select 1"))

    door.resize("app", 2, tenant=GLOBEX)  # before there is a pool
    await reach(ACME)
    await reach(GLOBEX)
    assert {row.endpoint: row.size for row in door.stats()} == {"app/tenant-acme": 3, "app/tenant-globex": 2}
    door.resize("app", 4)
    assert [row.size for row in door.stats()] == [4, 4]
    door.pause(tenant=GLOBEX)
    await reach(ACME)
    with pytest.raises(DeadlineExceeded, match="while it waited" if cell.is_async else "waiting for a connection"):
        await reach(GLOBEX, deadline=0.05)
    door.resume("app")
    await reach(GLOBEX)
    drained: Any = door.drain("app", tenant=ACME)
    assert (await drained if cell.is_async else drained) == 0
    assert {row.endpoint: row.idle for row in door.stats()} == {"app/tenant-acme": 0, "app/tenant-globex": 1}
    door.resume("app", tenant=ACME)
    door.renew("app", tenant=GLOBEX)
    await reach(ACME)
    await reach(GLOBEX)
    for steer in (door.pause, door.resume, door.renew):
        with pytest.raises(UnknownTenant):
            steer("app", tenant="nobody")
        with pytest.raises(RequestRefused, match="has no tenants"):
            steer("shared", tenant=ACME)
        with pytest.raises(RequestRefused, match="named by int"):
            steer("app", tenant=1)  # type: ignore[arg-type]  # it is refused
    with pytest.raises(UnknownTenant):
        door.resize("app", 3, tenant="nobody")
    assert door.ready()


async def test_a_tenant_among_several_databases(cell: Cell) -> None:
    """In a unit over several databases the tenant is that of those which have tenants; one of them must."""
    door = cell.door({"app": table(cell), "shared": {**cell.table(), "url": cell.other_url}, "more": cell.table()})
    door.bind(Item, "app")
    async with door.begin("shared", "app", tenant=ACME, atomic=False) as session:
        assert door.held()[0].endpoints == ("shared/primary", "app/tenant-acme")
        session.add(item(ACME))
        async with door.begin("shared", atomic=False) as joined:
            assert real(joined) is real(session)
    assert tenants_in(cell.witness) == [ACME]
    assert tenants_in(cell.other_witness) == []
    with pytest.raises(RequestRefused, match="has no tenants"):
        async with door.begin("shared", "more", tenant=ACME, atomic=False):
            raise AssertionError
    for asked in _NONE_OR_NOBODY:
        with pytest.raises(UnknownTenant):
            async with door.begin("shared", "app", atomic=False, **asked):
                raise AssertionError

    async def count(session: AsyncSession) -> int:
        return int(await session.scalar(sa.text("select count(*) from item")) or 0)

    assert await door.gather(count, databases=("app", "shared"), tenant=ACME) == [1, 0]
    with pytest.raises(RequestRefused, match="has no tenants"):
        await door.gather(count, databases=("more", "shared"), tenant=ACME)


async def test_a_class_of_a_tenant(cell: Cell) -> None:
    """A mapped class lives in the database, whoever's it is: what is bound once holds for all tenants."""
    door = cell.door({"app": table(cell), "shared": {**cell.table(), "url": cell.other_url}})
    door.bind(Item, "app")
    async with door.begin("app", tenant=ACME) as session:
        session.add(item(ACME))
    with pytest.raises(RequestRefused, match="lives in 'app'"):
        async with door.begin("shared") as session:
            session.add(item(ACME))
            await session.flush()


async def test_engines_of_tenants(cell: Cell) -> None:
    """A tenant may be given as an engine; the same one for two tenants is refused."""
    engine = cell.given_engine()
    door = cell.door({"app": {**table(cell), "tenants": {ACME: engine, GLOBEX: cell.other_url}}})
    for tenant in (ACME, GLOBEX):
        async with door.begin("app", tenant=tenant) as session:
            session.add(item(tenant))
    assert (tenants_in(cell.witness), tenants_in(cell.other_witness)) == ([ACME], [GLOBEX])
    with pytest.raises(ConfigError, match="expected a database of its own, found that of"):
        cell.bare_door({"app": {"tenants": {ACME: engine, GLOBEX: engine}}})


async def test_objects_of_another_tenant(app: AsyncSessions, cell: Cell) -> None:
    """An object that came from a unit of another tenant is refused, however it is given: it would change the row with
    its key in this one's database. A new object with its values is let pass, and so is its own tenant's."""
    for witness, tenant in ((cell.witness, ACME), (cell.other_witness, GLOBEX)):
        witness.do("insert into item (id, name, value) values (-1, :name, 1)", name=f"{tenant}-0")
    async with app.read("app", tenant=ACME) as session:
        stranger = (await session.scalars(sa.select(Item))).one()
    stranger.value = 2

    async def add(session: AsyncSession) -> None:
        session.add(stranger)

    async def add_all(session: AsyncSession) -> None:
        session.add_all([stranger])

    async def merge(session: AsyncSession) -> None:
        await session.merge(stranger)

    async def delete(session: AsyncSession) -> None:
        await session.delete(stranger)

    async def bulk(session: AsyncSession) -> None:
        await session.run_sync(lambda sync: sync.bulk_save_objects([stranger]))

    async def past_us(session: AsyncSession) -> None:
        """As by a cascade, at which no verb of the session is called."""
        await session.run_sync(lambda sync: Session.add(sync, stranger))
        await session.flush()

    for give in (add, add_all, merge, delete, bulk, past_us):
        with pytest.raises(SessionMisuse, match="came from tenant 'acme', and was given to tenant 'globex'") as raised:
            async with app.begin("app", tenant=GLOBEX) as session:
                await give(session)
        assert str(raised.value).count(f"{__file__}:") == 2
    async with app.begin("app", tenant=ACME) as session:
        inside = (await session.scalars(sa.select(Item))).one()
        with pytest.raises(SessionMisuse, match="came from tenant 'acme'"):
            async with app.begin("app", tenant=GLOBEX, propagation="requires_new") as other:
                await other.merge(inside)
    assert cell.other_witness.value(-1) == 1
    stranger.value = 2  # what was rolled back with the flush that was refused
    async with app.begin("app", tenant=ACME) as session:
        session.add(stranger)
    assert cell.witness.value(-1) == 2
    async with app.begin("app", tenant=GLOBEX) as session:
        session.add(Item(id=next(_numbers), name=f"{GLOBEX}-copy", value=7))
    async with app.read("app", tenant=ACME) as session:
        copied = (await session.scalars(sa.select(Item))).one()
    make_transient(copied)
    copied.id, copied.name = next(_numbers), f"{GLOBEX}-copied"
    async with app.begin("app", tenant=GLOBEX) as session:
        session.add(copied)
    assert tenants_in(cell.other_witness) == [GLOBEX] * 3


async def test_the_engine_of_another_tenant(app: AsyncSessions, cell: Cell) -> None:
    """The engine of another tenant is refused in a unit or session, for a statement and for its connection."""
    async with app.read("app", tenant=GLOBEX) as session:
        engine = await session.run_sync(lambda sync: sync.connection().engine)

    async def refused(session: AsyncSession) -> None:
        for ask in (session.connection, lambda **given: session.execute(sa.text("select 1"), **given)):
            with pytest.raises(RequestRefused, match="was given another engine"):
                await ask(bind_arguments={"bind": engine})

    for open_unit in (app.begin, app.read):
        async with open_unit("app", tenant=ACME) as session:
            await refused(session)
    session = app.open("app", tenant=ACME)
    await refused(session)
    await session.close()


class _Shown(str):
    """A name that is shown as another one, as members of some enumerations are."""

    __slots__ = ()

    def __str__(self) -> str:
        return "Tenant.SOMEBODY"


async def test_a_tenant_by_a_text_of_its_own_kind(app: AsyncSessions, cell: Cell) -> None:
    """A tenant may be named by any kind of text; it counts, and is told, by its characters alone."""
    for witness in (cell.witness, cell.other_witness):
        witness.do("insert into item (id, name, value) values (1, 'one', 1)")
    async with app.read("app", tenant=_Shown(ACME)) as session:
        stranger = (await session.scalars(sa.select(Item))).one()
    with pytest.raises(SessionMisuse, match="came from tenant 'acme', and was given to tenant 'globex'"):
        async with app.begin("app", tenant=_Shown(GLOBEX)) as session:
            assert [type(row.tenant) for row in app.held()] == [str]
            await session.merge(stranger)


class _Bill:
    """A row of `Invoice`, with its parts."""


class _Line:
    """A row of `Part`, with its bill."""


_mapped = registry()
_mapped.map_imperatively(_Bill, Invoice.__table__)
_ITS = Invoice.__table__.c.id == foreign(Part.__table__.c.invoice_id)
_mapped.map_imperatively(
    _Line,
    Part.__table__,
    properties={"bill": relationship(_Bill, primaryjoin=_ITS, backref="lines")},
)


async def test_an_object_of_another_tenant_by_a_cascade(app: AsyncSessions, cell: Cell) -> None:
    """An object that came from a unit of another tenant is refused where an object of the unit is given it: it is not
    found in the unit in place of the row that has its key there, and its key gets into no row."""
    for witness in (cell.witness, cell.other_witness):
        witness.do("insert into invoice (id) values (1)")
        witness.do("insert into part (id, invoice_id) values (1, 1)")
    async with app.read("app", tenant=ACME) as session:
        bill, line = await session.get(_Bill, 1), await session.get(_Line, 1)

    def many_to_one(session: Session) -> None:
        new: Any = _Line()
        new.id = 2
        session.add(new)
        new.bill = bill

    def one_to_many(session: Session) -> None:
        new: Any = _Bill()
        new.id = 2
        session.add(new)
        new.lines.append(line)

    def its_relationships(session: Session) -> None:
        session.enable_relationship_loading(bill)

    for give in (many_to_one, one_to_many, its_relationships):
        async with app.begin("app", tenant=GLOBEX) as session:
            with pytest.raises(SessionMisuse, match="came from tenant 'acme', and was given to tenant 'globex'"):
                await session.run_sync(give)
            session.expunge_all()
            assert await session.get(_Bill, 1) is not bill
            assert await session.get(_Line, 1) is not line
    assert cell.other_witness.ask("select id, invoice_id from part") == [(1, 1)]
