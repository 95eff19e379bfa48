"""The first connections to a new SQLite file, which is told to write ahead."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from polysession import Sessions
from polysession._shell.engines import _write_ahead


class Busy(sqlite3.Cursor):
    """Of a real connection; says so many times that the database is locked."""

    times = 2
    code = sqlite3.SQLITE_BUSY

    def execute(self, *args: Any) -> Any:
        """As the driver's, afterwards."""
        if self.times:
            self.times -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = self.code
            raise error
        return super().execute(*args)


class Raw:
    """Waits for so many seconds."""

    patience = 5.0


def test_it_is_said_once_more(tmp_path: Path) -> None:
    """SQLite answers at once that somebody else changes the file; that lasts for a moment."""
    connection = sqlite3.connect(tmp_path / "new.db")
    cursor = connection.cursor(Busy)
    raw: Any = Raw()
    _write_ahead(cursor, raw)
    assert cursor.execute("pragma journal_mode").fetchone() == ("wal",)
    connection.close()


@pytest.mark.parametrize(("code", "patience"), [(sqlite3.SQLITE_READONLY, 5.0), (sqlite3.SQLITE_BUSY, 0.0)])
def test_what_does_not_pass_is_raised(tmp_path: Path, code: int, patience: float) -> None:
    """Another error, and one that lasts for longer than the connection waits for a lock."""
    connection = sqlite3.connect(tmp_path / "new.db")
    cursor = connection.cursor(Busy)
    cursor.code = code
    raw: Any = Raw()
    raw.patience = patience
    with pytest.raises(sqlite3.OperationalError):
        _write_ahead(cursor, raw)
    assert cursor.times == 1
    connection.close()


def test_many_first_connections_at_once(tmp_path: Path) -> None:
    """None of them is told that the database is locked."""
    failures: list[Exception] = []
    for number in range(60):
        with Sessions(f"sqlite:///{tmp_path / f'{number}.db'}") as door:
            start = threading.Barrier(6)

            def use(write: bool, door: Sessions = door, start: threading.Barrier = start) -> None:
                start.wait(10)
                try:
                    with door.begin() if write else door.read() as session:
                        session.execute(text("select 1"))
                except Exception as error:
                    failures.append(error)

            threads = [threading.Thread(target=use, args=(number == 0,)) for number in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
    assert failures == []
