"""The background worker over two databases."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from polysession import Sessions
from tests.engines.finders import PROJECT
from tests.engines.targets import FreshDatabase

from .conftest import Load

JOBS = 40


@pytest.fixture
def worker(load: Load) -> ModuleType:
    """The module."""
    return load("dispatcher")


@pytest.fixture(params=["sqlite", pytest.param("pg18", marks=pytest.mark.pg)])
def sessions(request: pytest.FixtureRequest, fresh_database: Callable[[str], FreshDatabase]) -> Iterator[Sessions]:
    """A door over two fresh databases; nothing is held when the test has ended."""
    with Sessions({name: fresh_database(request.param).url() for name in ("jobs", "results")}) as door:
        yield door
        assert door.held() == ()


def add_jobs(worker: ModuleType, sessions: Sessions) -> None:
    """`JOBS` jobs; the text of each has as many words as its number."""
    with sessions.begin("jobs") as session:
        session.add_all([worker.Job(id=number, text="word " * number) for number in range(1, JOBS + 1)])


def results(worker: ModuleType, sessions: Sessions) -> dict[int, int]:
    """The words of each job."""
    with sessions.read("results") as session:
        return {row.job_id: row.words for row in session.scalars(sa.select(worker.Result))}


def left(worker: ModuleType, sessions: Sessions) -> int:
    """How many jobs are not done."""
    with sessions.read("jobs") as session:
        return session.scalars(sa.select(sa.func.count()).select_from(worker.Job).where(~worker.Job.done)).one()


WANTED = {number: number for number in range(1, JOBS + 1)}


def test_all_jobs_are_done_once(worker: ModuleType, sessions: Sessions) -> None:
    """Eight threads share the jobs: each is done, by one of them, and has its result."""
    dispatcher = worker.Dispatcher(sessions, threads=8)
    dispatcher.create_tables()
    dispatcher.create_tables()
    add_jobs(worker, sessions)
    assert dispatcher.run(until_empty=True) == JOBS
    assert results(worker, sessions) == WANTED
    assert left(worker, sessions) == 0


def test_a_worker_that_died_leaves_its_job_to_the_others(
    worker: ModuleType, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was taken, and even has its result, is done again when its time is over; there is one result."""
    dispatcher = worker.Dispatcher(sessions, threads=2)
    dispatcher.create_tables()
    add_jobs(worker, sessions)
    monkeypatch.setattr(worker, "finish", lambda *_: pytest.fail("the worker dies here"))
    with pytest.raises(pytest.fail.Exception):
        dispatcher.one()
    monkeypatch.undo()
    assert results(worker, sessions) == {1: 1}
    assert dispatcher.run(until_empty=True) == JOBS - 1  # the lease of the first is not over
    assert left(worker, sessions) == 1
    with sessions.begin("jobs") as session:
        session.execute(sa.update(worker.Job).values(taken_until=sa.null()))
    assert dispatcher.run(until_empty=True) == 1
    assert results(worker, sessions) == WANTED
    assert left(worker, sessions) == 0


@pytest.mark.pg
def test_a_database_that_goes_away_for_a_moment(
    worker: ModuleType, fresh_database: Callable[[str], FreshDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Links that the server cuts in the middle cost nothing but another try."""
    databases = {name: fresh_database("pg18") for name in ("jobs", "results")}
    with Sessions({name: database.url() for name, database in databases.items()}) as sessions:
        dispatcher = worker.Dispatcher(sessions, threads=4, idle=0.01)
        dispatcher.create_tables()
        add_jobs(worker, sessions)
        done, one, lock = 0, dispatcher.one, threading.Lock()

        def cutting() -> Any:
            nonlocal done
            with lock:
                done += 1
                if done % 7 == 0:
                    for database in databases.values():
                        database.cut()
            return one()

        monkeypatch.setattr(dispatcher, "one", cutting)
        dispatcher.run(until_empty=True)
        with sessions.begin("jobs") as session:  # a job whose end was lost is taken again
            session.execute(sa.update(worker.Job).values(taken_until=sa.null()))
        dispatcher.run(until_empty=True)
        assert results(worker, sessions) == WANTED
        assert left(worker, sessions) == 0
        assert sessions.held() == ()


def test_an_error_that_does_not_vanish_ends_it(worker: ModuleType, sessions: Sessions) -> None:
    """Without tables the threads do not try for ever."""
    with pytest.raises((OperationalError, sa.exc.ProgrammingError)):
        worker.Dispatcher(sessions, threads=2).run(until_empty=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_a_program_that_ends_when_it_is_told(tmp_path: Path, worker: ModuleType, number: signal.Signals) -> None:
    """It does what is there, and ends in peace by a signal."""
    urls = {name: f"sqlite:///{tmp_path / name}.db" for name in ("jobs", "results")}
    with Sessions(urls) as sessions:
        worker.Dispatcher(sessions).create_tables()
        add_jobs(worker, sessions)
        environment = {**os.environ, "JOBS_URL": urls["jobs"], "RESULTS_URL": urls["results"]}
        with subprocess.Popen(
            [sys.executable, "-W", "error", PROJECT / "examples" / "dispatcher.py"],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            pause = threading.Event()
            while process.poll() is None and left(worker, sessions):
                pause.wait(0.05)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, f"INFO:dispatcher:{JOBS} jobs were done\n")
        assert results(worker, sessions) == WANTED
