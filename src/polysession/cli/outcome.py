"""`polysession outcome`: asks what came of a unit whose answer to COMMIT was lost."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from .._core.outcome import Verdict, asked_steps
from .._core.steps import Steps
from ..config import Parts, split
from ..errors import PolysessionError, RequestRefused
from ..facts import Outcome
from ..sessions import Sessions
from ..sessions_async import AsyncSessions
from ..topology import Endpoint
from .source import read, within

__all__ = ["outcome"]

_CODES = {Outcome.COMMITTED: 0, Outcome.ROLLED_BACK: 1, Outcome.LOST: 2}
_UNKNOWN = 3
_WRONG = 4


def outcome(
    unit_id: str | None = None,
    *,
    key: str | None = None,
    config: str | None = None,
    database: str | None = None,
    tenant: str | None = None,
    timeout: float = 10.0,
) -> int:
    """Say whether a unit of work with an exact outcome committed. A unit that has not committed by now never will.

    Exit code: 0 committed, 1 rolled back, 2 lost in a failover, 3 it cannot be known yet, 4 wrong words.

    Parameters
    ----------
    unit_id
        The id of the unit, as it stands in the text of CommitUnknown.
    key
        The key of the unit, instead of its id.
    config
        A configuration file, or the URL of one database. By default $POLYSESSION_CONFIG, else polysession.toml.
    database
        The database of the unit, if there are several.
    tenant
        The tenant in whose database the unit ran, where there is one for each. In another one the unit is not.
    timeout
        Seconds within which the database must have answered.
    """
    try:
        topology = read(config, "--config FILE-OR-URL")
        (name,) = topology.resolve((database,) if database is not None else ())
        endpoint = topology.databases[name].writable(tenant)
        _check(endpoint, unit_id, key, timeout)
        verdict = within(endpoint, lambda door: _ask(door, unit_id, endpoint, key, timeout))
    except PolysessionError as error:
        sys.stderr.write(f"{error}\n")
        return _WRONG
    except Exception as error:
        sys.stderr.write(f"{name}: {error}\n")
        return _UNKNOWN
    assert isinstance(verdict, Verdict)
    sys.stdout.write(f"{verdict.outcome}: {verdict.reason}\n")
    return _CODES.get(verdict.outcome, _UNKNOWN)


def _check(endpoint: Endpoint, unit_id: str | None, key: str | None, timeout: float) -> None:
    """Raise `RequestRefused` for a question that cannot be asked, or whose answer would mean nothing."""
    if (unit_id is None) == (key is None):
        raise RequestRefused(
            "expected the id of a unit or its key, and not both",
            do=("give the id that stands in the text of CommitUnknown", "give --key"),
            attribute="unit_id",
        )
    if not 0 < timeout < math.inf:
        raise RequestRefused(f"--timeout: expected seconds above 0, found {timeout:g}", attribute="timeout")
    assert endpoint.address is not None  # there are no engines in a file
    parts = split(endpoint.address.reveal())
    assert isinstance(parts, Parts)  # it was read
    if parts.backend != "sqlite" or (parts.database or "").startswith("file:"):
        return
    if parts.in_memory or not Path(parts.database or "").exists():
        raise RequestRefused(
            f"there is no database at {endpoint.address.shown}",
            why="it would be made for the question, and the answer would be that the unit is not there",
            do=("give the path of the file that the unit wrote to",),
            attribute="config",
        )


def _ask(
    door: Sessions | AsyncSessions, unit_id: str | None, endpoint: Endpoint, key: str | None, timeout: float
) -> Steps[Verdict]:
    name, marked = door._question(unit_id, endpoint.database, key, timeout, endpoint.tenant)
    return (yield from asked_steps(marked, name))
