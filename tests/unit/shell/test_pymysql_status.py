"""How a connection of PyMySQL notices that a function has switched its access mode."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa
from tests.engines.mariadb import MariaDB
from tests.engines.targets import FreshDatabase

from polysession._shell.pymysql_status import noticing_packets, noticing_result, reads_results_as_known

TRACKS = 1 << 23
"""CLIENT_SESSION_TRACK."""
SWITCHES = "create function switches() returns integer deterministic begin set session tx_read_only = 1; return 1; end"


def test_this_version_is_known() -> None:
    """The shorter way is taken: if this fails, PyMySQL has changed inside, and `noticing_result` must be looked at."""
    assert reads_results_as_known()


@pytest.mark.mariadb
@pytest.mark.parametrize("noticing", [noticing_packets, noticing_result])
@pytest.mark.parametrize("unbuffered", [False, True])
def test_both_ways_notice(
    fresh_database: Callable[[str], FreshDatabase], noticing: Callable[[Any], Any], unbuffered: bool
) -> None:
    """The status behind the rows of a SELECT whose function has switched; an error makes the connection unsure."""
    import pymysql.connections
    import pymysql.cursors

    class Connection(noticing(pymysql.connections.Connection)):  # type: ignore[misc]  # made by the argument
        _is_changed = _is_unsure = False

    database = fresh_database("mariadb")
    assert isinstance(database.server, MariaDB)
    database.server.ask(SWITCHES, database=database.name)  # nobody else may make one where there is a binary log
    url = sa.make_url(database.url("pymysql"))
    where = {"host": url.host, "port": url.port, "database": url.database}
    connection = Connection(**where, user=url.username, password=url.password, client_flag=TRACKS)
    with closing(connection), connection.cursor(pymysql.cursors.SSCursor if unbuffered else None) as cursor:
        cursor.execute("set session session_track_system_variables = 'tx_read_only'")
        assert connection._is_changed is False
        cursor.execute("select 1 union select 2")
        assert list(cursor.fetchall()) == [(1,), (2,)]
        assert (connection._is_changed, connection._is_unsure) == (False, False)
        cursor.execute("select switches() union select 2")
        assert list(cursor.fetchall()) == [(1,), (2,)]
        assert (connection._is_changed, connection._is_unsure) == (True, False)
        with pytest.raises(pymysql.err.MySQLError):
            cursor.execute("select no_such_column")
        assert connection._is_unsure
