"""`polysession init-db`: makes the table of outcomes in every database of a configuration, or shows how it is made."""

from __future__ import annotations

import functools
import sys

from .. import dialects
from .._core.outcome import ready_steps
from .._core.steps import Steps
from ..errors import PolysessionError
from ..topology import Database, Endpoint
from .source import read, within

__all__ = ["init_db"]


def init_db(config: str | None = None, *, database: str | None = None, print: bool = False) -> int:  # the option's name
    """Make the table in which units with an exact outcome leave their rows. A second run changes nothing.

    Exit code: 0 it is there, 1 it could not be made, 2 the configuration is wrong.

    Parameters
    ----------
    config
        A configuration file, or the URL of one database. By default $POLYSESSION_CONFIG, else polysession.toml.
    database
        Only this database of the configuration; by default all. Where it is one for each tenant, all of them.
    print
        Show the SQL for your migrations, and change nothing.
    """
    try:
        topology = read(config, "polysession init-db FILE-OR-URL")
        names = topology.resolve((database,)) if database is not None else tuple(topology.databases)
    except PolysessionError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    code = 0
    for endpoint in [each for name in names for each in _writable(topology.databases[name])]:
        shown = endpoint.database if endpoint.tenant is None else endpoint.name
        if print:
            sys.stdout.write(_sql(endpoint, shown))
            continue
        try:
            within(endpoint, functools.partial(_ready, endpoint))
        except PolysessionError as error:
            sys.stderr.write(f"{shown}: {error}\n")
            code = 1
        except Exception as error:
            said = getattr(error, "orig", None) or error  # the driver's words, without the library's around them
            sys.stderr.write(f"{shown}: {said}\n  do:  see what is wrong there: polysession check\n")
            code = 1
        else:
            sys.stdout.write(f"{shown}: the table polysession_commit is there\n")
    return code


def _writable(database: Database) -> tuple[Endpoint, ...]:
    """Where its write units go."""
    return (*database.tenants.values(),) if database.primary is None else (database.primary,)


def _ready(endpoint: Endpoint, _: object) -> Steps[None]:
    return ready_steps(endpoint.database, endpoint.tenant)


def _sql(endpoint: Endpoint, shown: str) -> str:
    assert endpoint.address is not None
    backend = endpoint.address.shown.partition("://")[0].partition("+")[0]
    return f"-- {shown}, {backend}\n{dialects.of(backend).marker.create};\n"
