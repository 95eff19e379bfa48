"""SQLite as a target of the tests: no server, a file for each database, and a census of open files."""

from __future__ import annotations

from pathlib import Path

from .server import Backend, Server, driver_url

__all__ = ["SQLite"]

DRIVERS = ("pysqlite", "aiosqlite")


class SQLite(Server):
    """Databases as files of one folder. There is no process, so nothing can be cut, killed or restarted."""

    def __init__(self) -> None:
        super().__init__("sqlite")

    def _begin(self) -> None:
        """Nothing is to be started."""

    def path(self, database: str) -> Path:
        """The file of `database`; SQLite makes it when it is first opened."""
        return self.folder / f"{database}.db"

    def url(self, database: str, driver: str | None = None) -> str:
        """SQLAlchemy's URL of the file, by "pysqlite" (the default) or "aiosqlite"."""
        return driver_url("sqlite", DRIVERS, driver, f":///{self.path(database)}")

    def create_database(self, name: str) -> None:
        """Nothing: the first connection makes the file."""

    def drop_database(self, name: str) -> None:
        """Remove the file and its companions (`-wal`, `-shm`, `-journal`)."""
        for path in self.folder.glob(f"{name}.db*"):
            path.unlink()

    def census(self, database: str) -> list[Backend]:
        """The descriptors this process holds open on the file: one for each connection (Linux only)."""
        found = []
        for entry in Path("/proc/self/fd").iterdir():
            try:
                target = entry.readlink()
            except FileNotFoundError:
                continue  # the descriptor that lists this folder
            if target == self.path(database):
                found.append(Backend(int(entry.name), "open", ""))
        return found

    def cut(self, database: str) -> None:
        """Nothing: there is no other side."""

    def kill(self) -> None:
        """Nothing: there is no process."""

    def restart(self, *, immediate: bool = True) -> None:
        """Nothing: there is no process."""

    def tail(self) -> str:
        """Nothing is logged."""
        return ""
