"""Where the commands that use a database find it: the configuration, and a door for one of its databases."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from .. import config
from .._core.steps import Steps
from .._shell.arguments import path_of_url
from .._shell.drive import drive
from .._shell.drive_async import drive_async
from ..config import resolve_driver
from ..errors import ConfigError
from ..sessions import Sessions
from ..sessions_async import AsyncSessions
from ..topology import DEFAULT, Database, Endpoint, Topology

__all__ = ["ENVIRONMENT", "FILE", "is_asynchronous", "read", "within"]

ENVIRONMENT = "POLYSESSION_CONFIG"
FILE = "polysession.toml"


def read(source: str | None, word: str) -> Topology:
    """The databases of a file, of the URL of one database, or of the usual places. Raises `ConfigError` or its like.

    `word` is how the command is told another source.
    """
    found = source or os.environ.get(ENVIRONMENT) or FILE
    try:
        if "://" in found:
            return config.from_mapping({"databases": {DEFAULT: found}})
        return config.load_toml(found)
    except ConfigError as error:
        if not error.do and not error.facts["path"]:  # it is the file
            error.do = ("correct the path",) if source else (f"name it: {word}", f"set {ENVIRONMENT}")
        raise


def within(endpoint: Endpoint, steps: Callable[[Sessions | AsyncSessions], Steps[object]]) -> object:
    """The result of steps over one database, or that of one tenant, performed by the door that its driver fits."""
    name, tenant = endpoint.database, endpoint.tenant
    alone = Topology(
        {
            name: Database(name=name, primary=endpoint)
            if tenant is None
            else Database(name=name, primary=None, tenants={tenant: endpoint})
        }
    )
    if is_asynchronous(endpoint):
        return asyncio.run(_within_loop(alone, steps))
    with Sessions(alone) as door:  # type: ignore[arg-type]  # a topology is taken, too
        return drive(steps(door), door._perform)


async def _within_loop(topology: Topology, steps: Callable[[Sessions | AsyncSessions], Steps[object]]) -> object:
    async with AsyncSessions(topology) as door:  # type: ignore[arg-type]  # as above
        return await drive_async(steps(door), door._perform)


def is_asynchronous(endpoint: Endpoint) -> bool:
    """Whether the driver that the URL names serves the asynchronous door only."""
    address = endpoint.address
    assert address is not None  # there are no engines in a file
    backend, _, driver = address.shown.partition("://")[0].partition("+")
    try:
        resolve_driver(backend, driver or None, asynchronous=False, path=path_of_url(endpoint))
    except ConfigError:
        return True
    return False
