"""`polysession explain`: which shorter ways are gone at each endpoint, what they need, and what is done if not.

It makes the engines of the configuration and asks them; it connects to nothing.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import msgspec

from .._shell.engines import EngineRoom
from .._shell.shortcuts import Way, ways
from ..errors import PolysessionError
from ..topology import Endpoint, Topology
from .source import is_asynchronous, read

__all__ = ["explain"]


class _Told(msgspec.Struct, frozen=True):
    endpoint: str
    address: str
    shortcut: str
    used: bool
    needs: str
    instead: str


def explain(config: str | None = None, *, json: bool = False) -> int:
    """Say which shorter ways polysession goes at each database of a configuration. Connects to nothing.

    Exit code: 0, or 2 if the configuration is wrong.

    Parameters
    ----------
    config
        A configuration file, or the URL of one database. By default $POLYSESSION_CONFIG, else polysession.toml.
    json
        Print one JSON document instead of text.
    """
    try:
        told = _told(read(config, "polysession explain FILE-OR-URL"))
    except PolysessionError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if json:
        sys.stdout.write(f"{msgspec.json.format(msgspec.json.encode(told), indent=2).decode()}\n")
    else:
        for line in _lines(told):
            sys.stdout.write(f"{line}\n")
    return 0


def _told(topology: Topology) -> list[_Told]:
    return [
        _Told(
            endpoint.name,
            endpoint.address.shown if endpoint.address is not None else "",
            way.shortcut.name,
            way.is_used,
            way.shortcut.needs,
            way.shortcut.instead,
        )
        for database in topology.databases.values()
        for endpoint in database.endpoints
        for way in _ways(topology, endpoint)
    ]


def _ways(topology: Topology, endpoint: Endpoint) -> list[Way]:
    async def within() -> list[Way]:
        room = EngineRoom(topology, asynchronous=True)
        found = ways(room, endpoint)
        await room.dispose_async()
        return found

    if is_asynchronous(endpoint):
        return asyncio.run(within())
    room = EngineRoom(topology, asynchronous=False)
    found = ways(room, endpoint)
    room.dispose()
    return found


def _lines(told: list[_Told]) -> Iterator[str]:
    shown = ""
    for one in told:
        if one.endpoint != shown:
            if shown:
                yield ""
            shown = one.endpoint
            yield f"{one.endpoint}  {one.address}"
        if one.used:
            yield f"  in use       {one.shortcut}: {one.needs}"
        else:
            yield f"  not here     {one.shortcut}: it needs {one.needs}; instead {one.instead}"
