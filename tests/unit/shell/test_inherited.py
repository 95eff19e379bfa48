"""What a forked child inherits is its parent's: the child closes its door and ends without a word of it."""

from __future__ import annotations

import gc
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from polysession import Sessions
from polysession._shell import threads

ONE = text("select 1")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def in_child(work: Callable[[], object]) -> list[str]:
    """The warnings that `work` gives in a forked child; and the error, if it raises one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told: list[str] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                work()
                gc.collect()
            told = [str(warning.message) for warning in caught]
        except BaseException as error:
            told = [repr(error)]
        finally:
            os.write(writing, "\n".join(told).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        told = pipe.read().splitlines()
    os.waitpid(child, 0)
    return told


def test_a_child_that_closes_its_door(tmp_path: Path) -> None:
    """Units and sessions of the parent are not named, and go on; a session of the child's own is."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    maker = door.sessionmaker()

    def own() -> None:
        session = door.open()
        door.close()
        session.close()

    with door.begin(name="parents") as unit, maker() as session:
        unit.execute(ONE)
        session.execute(ONE)
        assert in_child(door.close) == []
        (named,) = in_child(own)
        assert "the door was closed while 1 units or sessions were open: 'test_a_child" in named
        assert "parents" not in named
        assert unit.scalar(ONE) == session.scalar(ONE) == 1
    door.close()


def test_a_child_that_drops_what_it_inherited(tmp_path: Path) -> None:
    """A session and a unit that the child's copy of the program forgets are forgotten by nobody."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    kept: list[Any] = [door.sessionmaker()(), opened(door)]
    session: Session = kept[0]
    session.execute(ONE)
    assert next(kept[1]) == 1
    del session
    assert in_child(kept.clear) == []
    kept[0].close()
    kept[1].close()
    assert not door.held()
    door.close()


def opened(door: Sessions) -> Iterator[int]:
    """A generator in a unit."""
    with door.begin() as unit:
        yield from unit.scalars(ONE)


def test_threads_that_a_child_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a forked child the other threads of its parent are gone, and nobody takes back what they held: no thread is
    begun there before the child's own life begins."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    begun, may_end = threading.Event(), threading.Event()

    def unit() -> None:
        with door.begin() as session:
            session.execute(ONE)
            begun.set()
            assert may_end.wait(30)

    def begin_none(_: object, name: str) -> None:
        started.append(name)

    def look() -> None:
        assert started == []

    started: list[str] = []
    other = threading.Thread(target=unit)
    other.start()
    assert begun.wait(30)
    monkeypatch.setattr(threads, "start", begin_none)
    assert in_child(look) == []
    may_end.set()
    other.join()
    assert started == []
    door.close()


def test_locks_that_others_had(tmp_path: Path) -> None:
    """A thread that was in the middle of something when its process forked stops nobody in the child."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    taken, may_end = threading.Event(), threading.Event()
    rooms: Any = door._engines

    def hold() -> None:
        with door._live._lock, door._turns.lock, rooms._lock, door._lock:
            taken.set()
            assert may_end.wait(30)

    def unit() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        door.run(lambda session: session.scalar(ONE))
        door.pause()
        door.resume()
        door.counts()
        door.close()
        warnings.warn("done", stacklevel=1)

    other = threading.Thread(target=hold)
    other.start()
    assert taken.wait(30)
    assert in_child(unit) == ["done"]
    may_end.set()
    other.join()
    door.run(lambda session: session.scalar(ONE))
    door.close()
