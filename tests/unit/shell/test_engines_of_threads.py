"""The engines of a door that several threads use first, or last, at the same time."""

from __future__ import annotations

import itertools
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from polysession import Sessions

ONE = text("select 1")
LONG = 10.0


class Lock:
    """One that waits, before it is taken."""

    def __init__(self, wait: Callable[[], object]) -> None:
        self.wait = wait
        self.lock = threading.RLock()

    def __enter__(self) -> None:
        self.wait()
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_threads_that_come_first_have_the_same_engines(tmp_path: Path) -> None:
    """Both have seen that there are none yet: else there would be two pools, and twice as many connections."""
    with Sessions(f"sqlite:///{tmp_path / 'x.db'}") as door:
        engines: Any = door._ready_engines
        usual, engines._lock = engines._lock, Lock(threading.Barrier(2, timeout=LONG).wait)
        found: list[object] = []
        threads = [threading.Thread(target=lambda: found.append(engines._here())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        engines._lock = usual
        assert found[0] is found[1]
        assert len(engines._sets) == 1


def test_an_engine_that_is_made_while_the_door_is_closed(tmp_path: Path) -> None:
    """A unit that was begun before needs it; the door closes, and what comes back to that engine is closed too."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    begun, made = threading.Event(), threading.Event()
    with door.begin() as session:
        session.execute(ONE)
        writing: Any = session.get_bind()
    engines: Any = door._ready_engines
    main = threading.get_ident()
    engines._lock = Lock(lambda: threading.get_ident() == main or begun.wait(LONG))
    failed: list[BaseException] = []

    def close(*_: object) -> None:
        begun.set()
        made.wait(LONG)

    event.listen(writing, "close", close)
    unit = door.read()
    pools: list[Any] = []

    def read() -> None:
        try:
            with unit as session:
                made.set()
                session.execute(ONE)
                pools.append(session.get_bind().engine.pool)
        except BaseException as error:
            failed.append(error)

    other = threading.Thread(target=read)
    other.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the unit may be open still
        door.close()
    other.join(LONG)
    assert failed == []
    (pool,) = pools
    assert pool.checkedin() == 0


@pytest.mark.parametrize("verb", ["begin", "read"])
def test_a_unit_that_was_made_before_the_door_was_closed(tmp_path: Path, verb: str) -> None:
    """It is done, and leaves no connection behind that nobody would close."""
    door = Sessions(f"sqlite:///{tmp_path / 'x.db'}")
    unit = getattr(door, verb)()
    door.close()
    with unit as session:
        assert session.scalar(ONE) == 1
        pool = session.get_bind().pool
    assert pool.checkedin() == pool.checkedout() == 0


def test_a_handler_of_a_signal_closes_a_door_that_is_being_closed(tmp_path: Path) -> None:
    """Wherever it comes, also where the door's own lock is taken: the thread does not wait for itself."""
    file = Sessions._begin_close.__code__.co_filename
    done: list[int] = []

    def close(number: int) -> None:
        door, left = Sessions(f"sqlite:///{tmp_path / 'x.db'}"), number

        def trace(frame: Any, now: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename != file:
                return None
            if now == "line":
                left -= 1
                if left == 0:
                    sys.settrace(None)
                    door.close()
                    done.append(number)
            return trace

        sys.settrace(trace)
        try:
            door.close()
        finally:
            sys.settrace(None)

    for number in itertools.count(1):
        thread = threading.Thread(target=close, args=(number,), daemon=True)
        thread.start()
        thread.join(LONG)
        assert not thread.is_alive(), f"it waits for itself at line {number}"
        if number not in done:
            break
    assert len(done) >= 4
