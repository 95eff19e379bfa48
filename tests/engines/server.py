"""What every server of the test kit can do, whatever its engine: one base, and what its census counts."""

from __future__ import annotations

import itertools
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from .folders import base_folder, make_folder

__all__ = ["Backend", "Server", "UnknownDriver", "driver_url"]

_number = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Backend:
    """One connection as the server sees it."""

    id: int
    """What the server's `terminate` takes, where it has one; for SQLite the file descriptor."""
    state: str
    """The server's own word: "idle", "idle in transaction", "Sleep", "open" ..."""
    query: str
    """The statement that runs, or ran last, where the server tells."""


class UnknownDriver(ValueError):
    """A driver that cannot reach this engine."""


class Server(ABC):
    """`with` starts it in a folder of its own; the end of the block stops it and removes the folder."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.folder = base_folder() / f"{engine}-{next(_number)}"

    def __enter__(self) -> Self:
        make_folder(self.folder)
        try:
            self._begin()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._end()

    def _end(self) -> None:
        self._discard()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _discard(self) -> None:
        """End its processes in the quickest way that leaves nothing in the system; the data are not needed again."""
        self.kill()

    @abstractmethod
    def _begin(self) -> None:
        """Make the data, start the processes, make the account "app"."""

    @abstractmethod
    def url(self, database: str, driver: str | None = None) -> str:
        """SQLAlchemy's URL of `database` for the account "app"; by the engine's first driver unless told."""

    @abstractmethod
    def create_database(self, name: str) -> None:
        """Make an empty database that "app" may do everything with."""

    @abstractmethod
    def drop_database(self, name: str) -> None:
        """Remove it, ending the connections that are still open to it."""

    @abstractmethod
    def census(self, database: str) -> list[Backend]:
        """The client connections that the server holds to `database` now."""

    @abstractmethod
    def cut(self, database: str) -> None:
        """End every client connection to `database` from the server's side."""

    @abstractmethod
    def kill(self) -> None:
        """End its processes as a crash would; a second call does nothing."""

    @abstractmethod
    def restart(self, *, immediate: bool = True) -> None:
        """Stop it and start it on the same port; `immediate` breaks connections as a crash does."""

    @abstractmethod
    def tail(self) -> str:
        """The last lines of its log."""


def driver_url(dialect: str, drivers: tuple[str, ...], driver: str | None, rest: str) -> str:
    """`dialect+driver` followed by `rest`. Raises `UnknownDriver`."""
    chosen = driver or drivers[0]
    if chosen not in drivers:
        raise UnknownDriver(f"{dialect} is reached by {', '.join(drivers)}, not by {chosen!r}")
    return f"{dialect}+{chosen}{rest}"
