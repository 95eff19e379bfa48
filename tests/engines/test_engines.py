"""The test kit itself: its servers start, answer, are counted and end; what is missing is said."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.engines import finders, process, targets
from tests.engines.mariadb import MariaDB
from tests.engines.postgres import Postgres
from tests.engines.process import is_alive, wait_until
from tests.engines.server import Server, UnknownDriver
from tests.engines.sqlite import SQLite
from tests.engines.targets import TARGETS, FreshDatabase, Servers

Fresh = Callable[[str], FreshDatabase]
Private = Callable[[str], Server]


@pytest.mark.parametrize("target", TARGETS)
def test_a_fresh_database_answers_and_its_connections_are_counted(database: FreshDatabase) -> None:
    """A connection is in the census while it is open and not after."""
    engine = sa.create_engine(database.url(), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("create table t (a integer)"))
        connection.execute(sa.text("insert into t values (1)"))
        assert len(database.census()) == 1
    wait_until(lambda: not database.census(), what="the census is empty")
    with engine.connect() as connection:
        assert connection.scalar(sa.text("select a from t")) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_databases_are_apart_and_gone_after_the_test(target: str, servers: Servers) -> None:
    """Two fresh databases share nothing, and dropping works while a connection is open."""
    one, two = servers.fresh(target), servers.fresh(target)
    assert one.name != two.name
    engine = sa.create_engine(one.url(), poolclass=sa.NullPool)
    connection = engine.connect()
    try:
        connection.execute(sa.text("create table t (a integer)"))
        assert not two.census()
        servers.drop(one)
        assert not one.census() or isinstance(one.server, SQLite)
    finally:
        connection.invalidate()
        connection.close()
        servers.drop(two)


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "sqlite"])
def test_cut_ends_connections_from_the_servers_side(database: FreshDatabase) -> None:
    """The client's next statement fails, and a new connection works."""
    engine = sa.create_engine(database.url(), poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.text("select 1"))
        database.cut()
        with pytest.raises(sa.exc.OperationalError):
            connection.execute(sa.text("select 1"))
    with engine.connect() as connection:
        assert connection.scalar(sa.text("select 1")) == 1


@pytest.mark.parametrize("target", ["pg15", "pg18", "mariadb", "pgbouncer"])
@pytest.mark.parametrize("immediate", [True, False])
def test_a_private_server_restarts_on_its_port(target: str, immediate: bool, servers: Servers) -> None:
    """Address and data outlive a restart; when its block ends, no process and no file is left."""
    with servers.private(target) as server:
        assert isinstance(server, Server)
        server.create_database("kept")
        url = server.url("kept")
        server.restart(immediate=immediate)
        assert server.url("kept") == url
        engine = sa.create_engine(url, poolclass=sa.NullPool)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("select 1")) == 1
        server.drop_database("kept")
        family = server.process.family()  # type: ignore[attr-defined] # each of these has one process
        assert is_alive(family[0])
    assert not any(map(is_alive, family))
    assert not server.folder.exists()


@pytest.mark.parametrize("target", ["pg18", "mariadb"])
def test_a_killed_server_leaves_no_process(target: str, private_server: Private) -> None:
    """`kill` returns when the server and the children it had are gone, and the data survive it."""
    server = private_server(target)
    assert isinstance(server, Postgres | MariaDB)
    server.create_database("kept")
    engine = sa.create_engine(server.url("kept"), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("create table t (a integer)"))
    family = server.process.family()
    server.kill()
    assert not any(map(is_alive, family))
    server.start()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from t")) == 0


STARTS_AND_WAITS = """
import sys
from tests.engines.targets import Servers
server = Servers().shared(sys.argv[1])
print(server.process.pid, server.folder.parent, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("target", ["pg18", "mariadb"])
def test_a_killed_test_run_leaves_no_server(target: str, private_server: Private) -> None:
    """The kernel ends the servers of a process that was killed; the next run removes its files."""
    private_server(target)  # skips where the engine is missing
    run = subprocess.Popen(
        [sys.executable, "-c", STARTS_AND_WAITS, target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=finders.PROJECT,
        text=True,
    )
    with run:
        assert run.stdout is not None
        pid, folder = run.stdout.readline().split()
        assert is_alive(int(pid))
        run.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(int(pid)), what="the server has ended")
    assert Path(folder).exists()
    subprocess.run(
        [sys.executable, "-c", "from tests.engines.folders import *; base_folder(); remove_base_folder()"],
        cwd=finders.PROJECT,
        check=True,
    )
    assert not Path(folder).exists()


@pytest.mark.pg
def test_a_taken_port_is_given_up(monkeypatch: pytest.MonkeyPatch, servers: Servers) -> None:
    """Whoever is faster keeps the port; the server takes another."""
    real = process.free_port
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        taken = stranger.getsockname()[1]
        offers = iter([taken])
        monkeypatch.setattr(process, "free_port", lambda: next(offers, None) or real())
        with servers.private("pg18") as server:
            assert isinstance(server, Postgres)
            assert server.port != taken
            assert server.ask("select 1") == [(1,)]


@pytest.mark.pg
def test_a_strangers_answer_is_not_ours(private_server: Private) -> None:
    """A server that answers on our port is taken for ours only if it has our data folder."""
    one, two = private_server("pg18"), private_server("pg18")
    assert isinstance(one, Postgres)
    assert isinstance(two, Postgres)
    assert one._answers(one.port)
    assert not one._answers(two.port)


@pytest.mark.pg
def test_a_server_that_cannot_start_shows_its_log(servers: Servers) -> None:
    """The error holds what the server said."""
    server = Postgres(servers.shared("pg18").engine, settings={"shared_buffers": "'much'"})
    with pytest.raises(process.ServerFailed, match="shared_buffers"):
        server.__enter__()
    assert not server.folder.exists()


@pytest.mark.pg
def test_app_is_no_superuser_on_postgres(fresh_database: Fresh) -> None:
    """What a test does as "app", an application can do."""
    engine = sa.create_engine(fresh_database("pg18").url(), poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("select current_setting('is_superuser')")) == "off"


@pytest.mark.mariadb
def test_app_cannot_write_to_a_read_only_mariadb(private_server: Private) -> None:
    """Error 1290 binds "app": it holds neither SUPER nor READ ONLY ADMIN."""
    server = private_server("mariadb")
    assert isinstance(server, MariaDB)
    server.create_database("d")
    server.ask("set global read_only = 1")
    engine = sa.create_engine(server.url("d"), poolclass=sa.NullPool)
    with engine.connect() as connection, pytest.raises(sa.exc.OperationalError, match="1290"):
        connection.execute(sa.text("create table t (a integer)"))


@pytest.fixture
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any engine."""

    def find(engine: str) -> finders.Binaries:
        raise finders.EngineMissing(finders.missing(engine))

    for module in ("postgres", "mariadb", "galera", "pgbouncer", "making"):
        monkeypatch.setattr(f"tests.engines.{module}.find", find)


@pytest.mark.usefixtures("nothing_here")
@pytest.mark.parametrize("engine", ["pg15", "pg18", "mariadb", "galera", "pgbouncer"])
class TestMissing:
    """An engine that is not here."""

    def test_skips_and_says_what_brings_it(self, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without POLYSESSION_REQUIRE the test is skipped with the command."""
        monkeypatch.delenv("POLYSESSION_REQUIRE", raising=False)
        with pytest.raises(pytest.skip.Exception, match=rf"{engine} is not on this machine; get it: python "):
            Servers().private(engine)

    def test_fails_if_required(self, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Named there, or covered by the mark "pg", it fails the test."""
        for words in (f"sqlite, {engine}", "pg,mariadb,galera,pgbouncer"):
            monkeypatch.setenv("POLYSESSION_REQUIRE", words)
            with pytest.raises(pytest.fail.Exception, match=f"POLYSESSION_REQUIRE demands {engine}"):
                Servers().private(engine)


def test_a_word_that_demands_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in POLYSESSION_REQUIRE must not let a run pass by skipping."""
    monkeypatch.setenv("POLYSESSION_REQUIRE", "pg,mariadbb")
    with pytest.raises(ValueError, match="no target is called 'mariadbb'"):
        targets.required()


@pytest.mark.parametrize("target", TARGETS)
def test_tests_carry_the_mark_of_their_target(target: str, request: pytest.FixtureRequest) -> None:
    """`-m "not pg"` leaves out every test that is parametrized with a PostgreSQL."""
    marks = {mark.name for mark in request.node.iter_markers()} & targets.MARKS
    assert marks == {targets.mark_of(target)} - {"sqlite"}


def test_a_folder_named_by_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """POLYSESSION_PG_BIN wins over the wheel and PATH."""
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.99'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("POLYSESSION_PG_BIN", os.pathsep.join(["/nowhere", str(tmp_path)]))
    finders.forget()
    try:
        assert finders.find("pg18").folder == tmp_path
        assert finders.find("pg18").version == "18.99"
    finally:
        monkeypatch.undo()
        finders.forget()


def test_an_unknown_driver_is_refused(fresh_database: Fresh) -> None:
    """A driver of another engine is a slip of the test, said at once."""
    with pytest.raises(UnknownDriver, match="sqlite is reached by pysqlite, aiosqlite, not by 'psycopg'"):
        fresh_database("sqlite").url("psycopg")


def test_waiting_ends_with_a_sentence() -> None:
    """`wait_until` returns what it waited for, or says what it did not see."""
    answers = iter([0, 0, 7])
    assert wait_until(lambda: next(answers)) == 7
    with pytest.raises(TimeoutError, match=r"not so within 0\.0 s: the sky falls"):
        wait_until(lambda: False, 0.0, what="the sky falls")
