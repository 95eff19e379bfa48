"""A background worker: threads take jobs from one database, do them, and write the results to another.

    pip install "polysession[postgres]"
    JOBS_URL=postgresql://... RESULTS_URL=postgresql://... python dispatcher.py

A job is done at least once, and its result is there exactly once: it is committed before the job is noted as done,
and its key is the job's. A worker that dies leaves its job to the others.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from polysession import Sessions, is_transient
from polysession.errors import CommitUnknown

log = logging.getLogger("dispatcher")
LEASE = timedelta(minutes=1)
"""How long a worker may take for a job before another takes it."""


class JobsBase(DeclarativeBase):
    """Classes that live in the database of jobs."""

    __database__ = "jobs"


class ResultsBase(DeclarativeBase):
    """Classes that live in the database of results."""

    __database__ = "results"


class Job(JobsBase):
    """What is to be done."""

    __tablename__ = "jobs"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    taken_until: Mapped[datetime | None]
    done: Mapped[bool] = mapped_column(default=False, index=True)


class Result(ResultsBase):
    """What came out. The key is the job's, so that a job that is done twice has one result."""

    __tablename__ = "results"

    job_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    words: Mapped[int]


class Dispatcher:
    """Takes jobs in some threads until it is stopped."""

    def __init__(self, sessions: Sessions, *, threads: int = 4, idle: float = 1.0) -> None:
        self.sessions = sessions
        self.stopped = threading.Event()
        self._threads = threads
        self._idle = idle

    def create_tables(self) -> None:
        """Make the tables that are missing, each in its database."""
        for base in (JobsBase, ResultsBase):
            with self.sessions.begin(base.__database__) as session:
                base.metadata.create_all(session.connection())

    def run(self, *, until_empty: bool = False) -> int:
        """Do jobs until `stopped` is set, or, if asked for, until there are none; how many were done."""
        with ThreadPoolExecutor(self._threads, "dispatcher") as pool:
            done = [pool.submit(self._work, until_empty=until_empty) for _ in range(self._threads)]
            return sum(each.result() for each in done)

    def _work(self, *, until_empty: bool) -> int:
        done = 0
        while not self.stopped.is_set():
            try:
                did = self.one()
            except Exception as error:
                # Each step may be done twice, so an unknown outcome is no harm: the job is taken again after its lease.
                if not is_transient(error) and not isinstance(error, CommitUnknown):
                    raise
                log.warning("trying again after %s", error)
                self.stopped.wait(self._idle)
                continue
            done += did
            if not did:
                if until_empty:
                    break
                self.stopped.wait(self._idle)
        return done

    def one(self) -> bool:
        """Do one job, if there is one. Three units of work, none of which is held while the work is done."""
        taken = self.sessions.run(take, "jobs")
        if taken is None:
            return False
        number, text = taken
        words = len(text.split())  # the work: here nothing is held, however long it takes
        self.sessions.run(lambda session: session.merge(Result(job_id=number, words=words)), "results")
        self.sessions.run(lambda session: finish(session, number), "jobs")
        return True


def take(session: Session) -> tuple[int, str] | None:
    """Lease the oldest job that is not done and not taken. Two threads that want one are told apart by the unit."""
    now = datetime.now(UTC).replace(tzinfo=None)
    free = or_(Job.taken_until.is_(None), Job.taken_until < now)
    oldest = select(Job).where(~Job.done, free).order_by(Job.id).limit(1).with_for_update(skip_locked=True)
    job = session.scalars(oldest).one_or_none()
    if job is None:
        return None
    job.taken_until = now + LEASE
    return job.id, job.text


def finish(session: Session, number: int) -> None:
    """Note that a job is done."""
    session.get_one(Job, number).done = True


def main() -> None:
    """Work until SIGTERM or Ctrl-C; then finish the jobs at hand and close."""
    logging.basicConfig(level=logging.INFO)
    with Sessions({"jobs": os.environ["JOBS_URL"], "results": os.environ["RESULTS_URL"]}) as sessions:
        dispatcher = Dispatcher(sessions)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: dispatcher.stopped.set())
        dispatcher.create_tables()
        log.info("%d jobs were done", dispatcher.run())


if __name__ == "__main__":
    main()
