"""Connections that have died"""

from __future__ import annotations

import socket
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from polysession import AsyncSessions
from polysession._shell import liveness
from polysession._shell.parting import link_of
from polysession.testing.proxy import Fault, FaultProxy, Hole, request

from .cells import Cell
from .schema import Item

ONE = sa.text("select 1")
NO_LINK = "SQLite has no link"

DEMOTED = {
    "pg": "do $$ begin raise sqlstate '25006'; end $$",
    "mariadb": "signal sqlstate 'HY000' set mysql_errno = 1290, message_text = 'running with the --read-only option'",
}
"""What a server that takes no writes any more answers with, said without waiting for one."""


async def driver(session: AsyncSession) -> Any:
    """The driver's connection of a session; what this says of its state is not kept."""
    return await session.run_sync(lambda sync: sync.connection().connection.driver_connection)


async def out(door: AsyncSessions, number: int) -> None:
    """Have so many connections opened, and idle."""
    sessions = [door.open() for _ in range(number)]
    for session in sessions:
        await session.execute(ONE)
    for session in sessions:
        await session.close()


def numbers(cell: Cell) -> set[int]:
    """Which connections the server counts."""
    return {backend.id for backend in cell.database.census()}


async def test_closed_by_the_server(cell: Cell) -> None:
    """Connections that the server has closed while they were idle cost nobody an error: all of them are replaced."""
    door = cell.door(pool={"size": 3})
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    await out(door, 3)
    cell.database.cut()
    await cell.until(lambda: not cell.database.census(), "the connections are gone")
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
    async with door.read() as session:
        assert await session.scalar(sa.select(sa.func.count(Item.id))) == 1
    assert cell.witness.items() == [1]
    (endpoint,) = door.ready().endpoints
    assert endpoint.idle == 2  # one for each kind of use; the dead ones are not kept


async def test_no_message_is_added(cell: Cell) -> None:
    """That a connection is alive is found without a message to the server; one is sent after long idleness only."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    messages = []
    for after in ("1h", "0.001ms"):
        with FaultProxy.before(cell.url) as proxy:
            door = cell.door({"default": cell.table(url=proxy.url, pool={"ping_after": after})})
            await out(door, 1)
            with proxy.counting() as count:
                async with door.open() as session:
                    await session.execute(ONE)
            messages.append(count.round_trips)
            await door.close()
    assert messages[1] == messages[0] + 1


async def test_an_idle_connection_that_leads_nowhere(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer on an idle connection is waited for a bounded time; then all idle connections are
    replaced, without an error for anybody."""
    if cell.engine in ("sqlite", "pgbouncer"):
        cell.differs(NO_LINK if cell.engine == "sqlite" else "the server's connections are the pooler's")
        return
    monkeypatch.setattr("polysession._shell.pool.PING", 0.2)
    with FaultProxy.before(cell.url) as proxy:
        door = cell.door({"default": cell.table(url=proxy.url, pool={"size": 3, "ping_after": "0.001ms"})})
        await out(door, 3)
        before = numbers(cell)
        proxy.plan(Fault(Hole(), request()))
        async with door.open() as session:
            await session.execute(ONE)
            # the proxy keeps the one in the hole
            await cell.until(lambda: len(numbers(cell) & before) <= 1, "the others are closed")
        await door.close()


async def test_a_demoted_primary(cell: Cell) -> None:
    """When a server says that it takes no writes any more, all connections to it are replaced: idle ones at once,
    others when they come back."""
    if cell.engine not in DEMOTED:
        cell.differs("no other server takes its place" if cell.engine == "sqlite" else "the pooler's connections stay")
        return
    door = cell.door(pool={"size": 4})
    await out(door, 4)
    async with door.open() as held:
        await held.execute(ONE)
        before = numbers(cell)
        assert len(before) == 4
        with pytest.raises(DBAPIError):
            async with door.begin() as session:
                await session.execute(sa.text(DEMOTED[cell.engine]))
        await cell.until(lambda: len(numbers(cell) & before) == 1, "the idle ones are closed")
        await held.execute(ONE)
    await cell.until(lambda: not numbers(cell) & before, "the last one is closed when it comes back")
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
    assert cell.witness.items() == [1]


async def test_the_system_asks_too(cell: Cell) -> None:
    """TCP's keepalive is on, and what is not acknowledged breaks the link: a dead one is found in a minute."""
    if cell.engine == "sqlite":
        cell.differs(NO_LINK)
        return
    async with cell.door().open() as session:
        link = link_of(await driver(session))
    assert link is not None
    with socket.socket(fileno=link.detach()) as same:
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == liveness.KEEPALIVE
        assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == liveness.KEEPALIVE * 1000
