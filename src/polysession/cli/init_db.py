"""`polysession init-db`: makes the table of outcomes in every database of a configuration, or shows how it is made."""

from __future__ import annotations

import sys

from .. import dialects
from .._core.outcome import ready_steps
from ..errors import PolysessionError
from ..topology import Database
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
        Only this database of the configuration; by default all.
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
    for name in names:
        if print:
            sys.stdout.write(_sql(topology.databases[name]))
            continue
        try:
            within(topology, name, lambda _, name=name: ready_steps(name))  # type: ignore[misc]  # bound in this turn
        except Exception as error:
            sys.stderr.write(f"{name}: {error}\n")
            code = 1
        else:
            sys.stdout.write(f"{name}: the table polysession_commit is there\n")
    return code


def _sql(database: Database) -> str:
    assert database.primary.address is not None
    backend = database.primary.address.shown.partition("://")[0].partition("+")[0]
    return f"-- {database.name}, {backend}\n{dialects.of(backend).marker.create};\n"
