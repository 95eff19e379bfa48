"""A shop's web application: FastAPI with both doors of polysession over one database.

    pip install "polysession[postgres]" fastapi uvicorn
    SHOP_CONFIG=shop.toml uvicorn webshop:app

`shop.toml` has the database: `databases.shop = "postgresql://shop@localhost/shop"`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import ForeignKey, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from polysession import AsyncSessions, Sessions, config
from polysession.errors import CheckoutTimeout, CommitUnknown, DeadlineExceeded

sessions = Sessions()  # for `def` endpoints, which FastAPI runs in threads
async_sessions = AsyncSessions()  # for `async def` endpoints
log = logging.getLogger("webshop")


class Base(DeclarativeBase):
    """What the mapped classes have in common."""


class Item(Base):
    """What the shop sells."""

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    stock: Mapped[int]


class Order(Base):
    """Who bought what. The foreign key is checked at COMMIT."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("items.id", deferrable=True, initially="DEFERRED"))
    number: Mapped[int]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """The doors get their databases when the application starts, and are closed when it ends."""
    topology = config.load_toml(os.environ.get("SHOP_CONFIG", "shop.toml"))
    sessions.configure(topology)
    async_sessions.configure(topology)
    async with async_sessions.begin() as session:
        await session.run_sync(lambda sync: Base.metadata.create_all(sync.connection()))
    yield
    await async_sessions.close()
    await asyncio.to_thread(sessions.close)


app = FastAPI(lifespan=lifespan)


# -- `async def`: the request is one unit of work, as a dependency


async def unit() -> AsyncIterator[AsyncSession]:
    """A unit that commits when the endpoint has returned, or rolls back if it raised."""
    async with async_sessions.begin(deadline=2.0) as session:
        yield session


# scope="function" ends the dependency before the answer is sent; without it, COMMIT comes after the answer.
Unit = Annotated[AsyncSession, Depends(unit, scope="function")]


class NewItem(BaseModel):
    """What is sent to make an item."""

    id: int
    stock: int = Field(ge=0)


@app.post("/items", status_code=201)
async def add_item(item: NewItem, session: Unit) -> NewItem:
    """Add an item."""
    session.add(Item(id=item.id, stock=item.stock))
    return item


@app.get("/items/{number}")
async def show_item(number: int) -> NewItem:
    """Show an item. Reading needs no transaction, so it is done in a read unit."""
    async with async_sessions.read() as session:
        item = await session.get(Item, number)
        if item is None:
            raise HTTPException(404, "no such item")
        return NewItem(id=item.id, stock=item.stock)


# -- `def`: the work is a function that is repeated where that is safe


class NewOrder(BaseModel):
    """What is sent to place an order."""

    item: int
    number: int = Field(default=1, ge=1)


class Placed(BaseModel):
    """What is answered."""

    id: int
    left: int


@app.post("/orders", status_code=201)
def place_order(order: NewOrder) -> Placed:
    """Place an order. When `place` returns it has committed, so the answer is true."""
    return place(order.item, order.number)


@sessions.unit(retry=20, deadline=5.0)
def place(session: Session, item_id: int, number: int) -> Placed:
    """Take from the stock and note the order: repeated when another request was faster."""
    item = session.get(Item, item_id)
    if item is None:
        raise HTTPException(404, "no such item")
    if item.stock < number:
        raise HTTPException(409, "not enough in stock")
    item.stock -= number
    order = Order(item_id=item_id, number=number)
    session.add(order)
    session.flush()
    sessions.on_commit(log.info, "order %s placed", order.id)  # called if and when it has committed
    return Placed(id=order.id, left=item.stock)


@app.get("/orders")
def list_orders() -> list[int]:
    """The numbers of all orders."""
    with sessions.read() as session:
        return list(session.scalars(select(Order.id).order_by(Order.id)))


# -- what goes wrong, in HTTP's words


@app.exception_handler(CheckoutTimeout)
def overloaded(_: Request, error: CheckoutTimeout) -> JSONResponse:
    """All connections are out: nothing was done, try again. The log has who holds them."""
    log.warning("%s", error)
    return JSONResponse({"detail": "too busy, try again"}, 503, {"Retry-After": "1"})


@app.exception_handler(DeadlineExceeded)
def too_slow(_: Request, error: DeadlineExceeded) -> JSONResponse:
    """It took too long and was rolled back. The log has where the time went."""
    log.warning("%s", error)
    return JSONResponse({"detail": "it took too long and was not done"}, 504)


@app.exception_handler(CommitUnknown)
def unknown(_: Request, error: CommitUnknown) -> JSONResponse:
    """The link broke during COMMIT. Say so: a client that simply repeats could order twice."""
    log.error("%s", error)
    return JSONResponse({"detail": "it is not known whether this was done; look before you repeat it"}, 500)


@app.exception_handler(IntegrityError)
def conflict(_: Request, __: IntegrityError) -> JSONResponse:
    """A key that is there already, or one that is missing; also when COMMIT found it."""
    return JSONResponse({"detail": "this contradicts what is there"}, 409)


# -- for the load balancer and for people


@app.get("/health")
def health() -> JSONResponse:
    """Whether this process can work, from memory alone: a database that is down does not make it unhealthy."""
    ready = sessions.ready() and async_sessions.ready()
    held = [f"{row.name}: {row.state} for {row.age:.1f} s" for row in sessions.held() + async_sessions.held()]
    return JSONResponse({"ready": bool(ready), "held": held}, 200 if ready else 503)
