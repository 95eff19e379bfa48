"""Closing a connection is over when the server has closed its end too: only then may another one take its seat.

A driver says good-bye and closes its socket; the server's session lives on until it has read that, longer if it is in
the middle of a statement. A pool that connects again at once has more sessions at the server than it may have. So a
second descriptor of the socket is kept, and after the driver's close the end of the stream is awaited on it, for a
bounded time. For drivers whose socket can be reached (psycopg, PyMySQL, asyncmy); asyncpg waits by itself.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat
from typing import Any, Final, TypeAlias, cast

__all__ = ["PARTING", "Link", "gone", "link_of", "parting"]

Link: TypeAlias = socket.SocketType
"""The class in C below Python's `socket.socket`."""
PARTING: Final = 1.0
"""Seconds in which the server should have closed its end."""


def parting(end: Callable[[Any], None]) -> Callable[[Any], None]:
    """`end(connection)`, a method of a dialect for threads, that returns when the server has closed its end."""

    def ended(connection: Any) -> None:
        link = None
        try:
            link = link_of(getattr(connection, "driver_connection", connection))
            end(connection)
            if link is not None:
                _await_end(link)
        except BaseException as error:
            if not isinstance(error, Exception):  # an interrupt ended the wait, or came before it
                if link is None:
                    link = link_of(getattr(connection, "driver_connection", connection))
                if link is not None:
                    _await_end(link)
            raise
        finally:
            if link is not None:
                link.close()

    return ended


def link_of(driver: Any) -> Link | None:
    """Another descriptor of the socket of a driver's connection; None for one that is closed or cannot be asked."""
    with suppress(Exception):
        known = getattr(driver, "polysession_link", None)
        if known is not None:
            driver.polysession_link = None
            return cast("Link", known)
        number = _number_of(driver)
        if number >= 0 and hasattr(socket, "MSG_DONTWAIT"):
            # in one go, without a Python instruction between the two: an interrupt there would leave the number behind,
            # and with it the connection
            return next(map(Link, repeat(-1), repeat(-1), repeat(-1), map(os.dup, (number,))))
    return None


def _number_of(driver: Any) -> int:
    for name in ("_transport", "_writer"):  # asyncpg and asyncmy; aiomysql
        carrier = getattr(driver, name, None)
        if carrier is not None:
            return int(carrier.get_extra_info("socket").fileno())
    sock = getattr(driver, "_sock", None)  # PyMySQL's connection has no fileno()
    return int((sock if sock is not None else driver).fileno())


def _await_end(link: Link) -> None:
    _say_end(link)
    until = time.monotonic() + PARTING
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        while not _has_ended(link):
            left = until - time.monotonic()
            if left <= 0 or not selector.select(left):
                return


async def gone(link: Link) -> None:
    """Return when the other side has closed its end of `link`, or when the time is up."""
    _say_end(link)
    loop = asyncio.get_running_loop()
    until = loop.time() + PARTING
    while not _has_ended(link) and loop.time() < until:
        readable = loop.create_future()
        loop.add_reader(link, _set, readable)
        timer = loop.call_at(until, _set, readable)
        try:
            await readable
        finally:
            timer.cancel()
            loop.remove_reader(link)


def _say_end(link: Link) -> None:
    """Nothing more is sent. The driver's close does not say so as long as there is another descriptor."""
    with suppress(OSError):
        link.shutdown(socket.SHUT_WR)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _has_ended(link: Link) -> bool:
    """Read what is there, without waiting; whether that was all that will ever come."""
    try:
        while link.recv(65536, socket.MSG_DONTWAIT):
            continue
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
