"""The web application, called as a server calls it: both doors, the answer after COMMIT, errors, and its end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from fastapi import Depends

from polysession.errors import CommitUnknown, DoorClosed
from tests.engines.process import wait_until
from tests.engines.targets import FreshDatabase

from .conftest import Load

Start = Callable[[str], Any]


class Watched:
    """The application as a server sees it; notes what the database has at the moment when an answer begins."""

    def __init__(self, app: Any, look: Callable[[], Any]) -> None:
        self._app = app
        self._look = look
        self.seen: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""

        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.seen.append(self._look())
            await send(message)

        await self._app(scope, receive, watched)


@pytest.fixture
def shop(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with a configuration of its own: two connections, and little patience."""
    (tmp_path / "shop.toml").write_text(
        '[databases.default]\nurl = "sqlite:///shop.db"\npool = { size = 2, checkout_timeout = 0.2 }\n'
    )
    monkeypatch.delenv("SHOP_CONFIG", raising=False)
    return load("webshop")


@asynccontextmanager
async def client(shop: ModuleType, app: Any = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running application; nothing is held when it ends, and then its doors are closed."""
    async with shop.app.router.lifespan_context(shop.app):
        transport = httpx.ASGITransport(app or shop.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as found:
            yield found
        assert shop.sessions.held() == shop.async_sessions.held() == ()
    for door in (shop.sessions, shop.async_sessions):
        with pytest.raises(DoorClosed):
            door.begin()


def rows(table: str) -> Callable[[], int]:
    """What another program finds in the database now."""

    def count() -> int:
        with sqlite3.connect("shop.db") as connection:
            found: int = connection.execute(f"select count(*) from {table}").fetchone()[0]
        connection.close()
        return found

    return count


@pytest.mark.asyncio
async def test_items_and_orders(shop: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """Both kinds of endpoints work on one database; a refused order changes nothing."""
    caplog.set_level("INFO", "webshop")
    async with client(shop) as http:
        assert (await http.post("/items", json={"id": 1, "stock": 3})).status_code == 201
        placed = await http.post("/orders", json={"item": 1, "number": 2})
        assert (placed.status_code, placed.json()) == (201, {"id": 1, "left": 1})
        assert (await http.post("/orders", json={"item": 1, "number": 2})).status_code == 409
        assert (await http.post("/orders", json={"item": 2})).status_code == 404
        assert (await http.get("/items/1")).json() == {"id": 1, "stock": 1}
        assert (await http.get("/items/2")).status_code == 404
        assert (await http.get("/orders")).json() == [1]
        assert [record.message for record in caplog.records if record.name == "webshop"] == ["order 1 placed"]
        health = await http.get("/health")
        assert (health.status_code, health.json()) == (200, {"ready": True, "held": []})


@pytest.mark.asyncio
async def test_nothing_is_oversold(shop: ModuleType) -> None:
    """Thirty orders at once for an item of which there are twenty."""
    async with client(shop) as http:
        await http.post("/items", json={"id": 1, "stock": 20})
        answers = await asyncio.gather(*(http.post("/orders", json={"item": 1}) for _ in range(30)))
        codes = [answer.status_code for answer in answers]
        assert set(codes) <= {201, 409, 503}
        assert codes.count(201) == len((await http.get("/orders")).json()) <= 20
        assert (await http.get("/items/1")).json()["stock"] == 20 - codes.count(201)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "body", "table"),
    [("/items", {"id": 7, "stock": 1}, "items"), ("/orders", {"item": 1}, "orders")],
)
async def test_the_answer_comes_after_commit(shop: ModuleType, path: str, body: Any, table: str) -> None:
    """When the first byte of the answer is sent, another program finds the row."""
    before = 1 if table == "items" else 0
    watched = Watched(shop.app, rows(table))
    async with client(shop, watched) as http:
        await http.post("/items", json={"id": 1, "stock": 3})
        watched.seen.clear()
        assert (await http.post(path, json=body)).status_code == 201
        assert watched.seen == [before + 1]


@pytest.mark.asyncio
async def test_without_the_scope_the_answer_comes_before(shop: ModuleType) -> None:
    """The control: the same dependency with FastAPI's usual scope commits when the answer has been sent."""
    usual = Depends(shop.unit)

    async def late(session: Any = usual) -> None:
        session.add(shop.Item(id=7, stock=1))

    shop.app.post("/late", status_code=201)(late)
    watched = Watched(shop.app, rows("items"))
    async with client(shop, watched) as http:
        assert (await http.post("/late")).status_code == 201
        assert watched.seen == [0]
        assert rows("items")() == 1


@pytest.mark.asyncio
async def test_what_the_database_refuses(shop: ModuleType) -> None:
    """A key that is there already is a conflict; so is what only COMMIT finds. Nothing is left of either."""
    at_once = Depends(shop.unit, scope="function")
    async with client(shop) as http:
        for code in (201, 409):
            assert (await http.post("/items", json={"id": 1, "stock": 3})).status_code == code

        async def lost(session: Any = at_once) -> str:
            session.add(shop.Order(id=1, item_id=99, number=1))
            await session.flush()
            return "done"

        shop.app.post("/lost")(lost)
        answer = await http.post("/lost")
        assert (answer.status_code, answer.json()) == (409, {"detail": "this contradicts what is there"})
        assert rows("orders")() == 0


@pytest.mark.asyncio
async def test_all_connections_are_out(shop: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """Too many at once: 503 and when to come back; the log has who holds, and health shows it."""
    async with client(shop) as http:
        async with shop.async_sessions.read(name="report", snapshot=True) as one:
            await one.get(shop.Item, 1)
            async with shop.async_sessions.read(name="export", snapshot=True, propagation="requires_new") as two:
                await two.get(shop.Item, 1)
                answer = await asyncio.create_task(http.get("/items/1"))  # a server has a task for each request
                health = (await http.get("/health")).json()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "no connection to default/primary" in caplog.text
        assert "report" in caplog.text
        assert [line.split(":")[0] for line in health["held"]] == ["report", "export"]
        assert (await http.get("/items/1")).status_code == 404


@pytest.mark.asyncio
async def test_a_unit_that_takes_too_long(shop: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is locked by another program for longer than the unit may take: 504, and nothing was done."""
    begin = shop.async_sessions.begin
    monkeypatch.setattr(shop.async_sessions, "begin", lambda deadline=None: begin(deadline=deadline and 0.3))
    async with client(shop) as http:
        other = sqlite3.connect("shop.db", isolation_level=None)
        other.execute("begin immediate")
        answer = await http.post("/items", json={"id": 1, "stock": 3})
        other.execute("rollback")
        other.close()
        assert (answer.status_code, answer.json()["detail"]) == (504, "it took too long and was not done")
        assert rows("items")() == 0


@pytest.mark.asyncio
async def test_an_outcome_that_is_not_known(shop: ModuleType) -> None:
    """The client is told that nobody knows."""
    async with client(shop) as http:

        def doubt() -> None:
            raise CommitUnknown("the link was lost")

        shop.app.post("/doubt")(doubt)
        answer = await http.post("/doubt")
        assert answer.status_code == 500
        assert "not known" in answer.json()["detail"]


@pytest.mark.pg
@pytest.mark.asyncio
async def test_on_a_server(
    load: Load,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fresh_database: Callable[[str], FreshDatabase],
) -> None:
    """The same on PostgreSQL: orders at once, none lost, and no connection left at the server."""
    database = fresh_database("pg18")
    (tmp_path / "pg.toml").write_text(f'[databases]\ndefault = "{database.url()}"\n')
    monkeypatch.setenv("SHOP_CONFIG", "pg.toml")
    shop = load("webshop")
    async with client(shop) as http:
        await http.post("/items", json={"id": 1, "stock": 12})
        answers = await asyncio.gather(*(http.post("/orders", json={"item": 1}) for _ in range(16)))
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [201] * 12 + [409] * 4
        assert (await http.get("/items/1")).json()["stock"] == 0
    wait_until(lambda: not database.census(), what="the server counts no connection")
