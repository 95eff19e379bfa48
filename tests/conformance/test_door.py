"""The door"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from polysession import AsyncSessions
from polysession.errors import ConfigError, DoorClosed, NotConfigured, UnknownDatabase, WrongDoor

from .cells import Cell
from .doors import finish, real
from .schema import Item


async def test_configured_later(cell: Cell) -> None:
    """A door made with nothing raises NotConfigured until configure() gives it its databases; then it works, once."""
    door = cell.keep(cell.bare_door())
    for use in (door.begin, door.read, door.open, door.sessionmaker, door.current, lambda: door.names):
        with pytest.raises(NotConfigured, match="call configure"):
            use()
    assert not door.ready()
    door.configure(cell.url)
    assert door.names == ("default",)
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
    assert cell.witness.items() == [1]
    with pytest.raises(ConfigError, match="has databases already"):
        door.configure(cell.url)


async def test_closed(cell: Cell) -> None:
    """After close() every verb raises DoorClosed; a second close() does nothing; the door is a `with` block too."""

    async def nothing(session: object) -> None:
        raise AssertionError

    door = cell.door()
    maker = door.sessionmaker()
    await door.close()
    await door.close()
    for use in (door.begin, door.read, door.open, maker):
        with pytest.raises(DoorClosed):
            use()
    with pytest.raises(DoorClosed):
        await door.run(nothing)
    with pytest.raises(DoorClosed):
        await door.outcome(key="order-1")
    another = cell.door()
    if cell.is_async:
        async with another as entered:
            assert entered is another
    else:
        with real(another) as entered:
            assert entered is real(another)
    with pytest.raises(DoorClosed):
        another.begin()


async def test_the_other_kind_of_with(door: AsyncSessions, cell: Cell) -> None:
    """`with` on a unit of the asynchronous door, and `async with` on one of the synchronous, raise WrongDoor."""
    unit: Any = real(door).begin()
    with pytest.raises(WrongDoor, match="use Sessions" if cell.is_async else "use AsyncSessions"):
        if cell.is_async:
            with unit:
                pass
        else:
            async with unit:
                pass


async def test_the_wrong_surroundings(door: AsyncSessions, cell: Cell) -> None:
    """The synchronous door in a running event loop, and the asynchronous one outside of any, raise WrongDoor."""
    raised: list[BaseException] = []

    async def use() -> None:
        for verb in (door.begin, door.read, door.open):
            try:
                real(verb)()
            except WrongDoor as error:
                raised.append(error)

    if cell.is_async:
        thread = threading.Thread(target=lambda: finish(use()))
    else:
        thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    thread.join()
    assert len(raised) == 3
    assert ("outside of a running event loop" if cell.is_async else "inside a running event loop") in str(raised[0])


async def test_a_blocking_door_that_is_allowed(cell: Cell) -> None:
    """The synchronous door works in a running loop if in_event_loop="allow" says so."""
    if cell.is_async:
        cell.differs("the asynchronous door has no such option: it belongs into a loop")
        with pytest.raises(TypeError):
            AsyncSessions(cell.url, in_event_loop="allow")  # type: ignore[call-arg]
        return
    door = type(real(cell.bare_door()))(cell.url, in_event_loop="allow")

    async def use() -> int:
        with door.begin() as session:
            return int(session.scalar(sa.text("select 1")))

    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(asyncio.run(use())))
    thread.start()
    thread.join()
    assert answers == [1]
    door.close()


async def test_an_unknown_database(cell: Cell) -> None:
    """A name that is not configured, and no name where there are several, is refused with the names that there are."""
    door = cell.two()
    for use in (door.begin, door.read, door.open, door.sessionmaker, door.current):
        with pytest.raises(UnknownDatabase, match="'orders', 'billing'"):
            use("nowhere")
        with pytest.raises(UnknownDatabase, match="no database was named"):
            use()
    with pytest.raises(UnknownDatabase, match="named twice"):
        door.begin("orders", "orders", atomic=False)


async def test_the_wrong_driver(cell: Cell) -> None:
    """A URL with a driver of the other door is refused when the door is made, with those that would do."""
    other = {
        "pysqlite": "sqlite+aiosqlite",
        "aiosqlite": "sqlite+pysqlite",
        "pymysql": "mysql+asyncmy",
        "asyncmy": "mysql+pymysql",
    }.get(cell.place.driver)
    if other is None:
        other = "postgresql+psycopg2" if cell.is_async else "postgresql+asyncpg"
    url = f"{other}://{cell.url.partition('://')[2]}"
    with pytest.raises(ConfigError) as caught:
        cell.bare_door(url)
    assert "databases.default" in str(caught.value)


async def test_without_a_driver(cell: Cell) -> None:
    """A URL that names no driver gets the door's default one."""
    scheme, _, rest = cell.url.partition("://")
    door = cell.door(f"{scheme.partition('+')[0]}://{rest}")
    async with door.begin() as session:
        session.add(Item(id=1, name="one"))
    assert cell.witness.items() == [1]
