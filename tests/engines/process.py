"""One server process: started on a free loopback port, known to answer, stopped with nothing left.

Also the one place that knows how to wait. It signals only processes that it started, and their children. The thread
that starts a server must live as long as the server: the kernel ends a server when that thread ends (`setpriv
--pdeathsig`), so that a killed test run leaves none behind. Not safe for use by several threads at once.

Sources: prctl(2) PR_SET_PDEATHSIG; setpriv(1); proc(5).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Protocol, TypeVar

from .folders import runs, unprivileged

__all__ = ["Process", "ServerFailed", "free_port", "is_alive", "run_tool", "wait_until"]

T = TypeVar("T")
_BUSY = "Address already in use"


class ServerFailed(RuntimeError):
    """A server did not start, answer or stop; the text ends with the last lines of its log."""


class Launch(Protocol):
    """What `Process.start` asks for its command: given a port, the words to execute."""

    def __call__(self, port: int) -> Sequence[str]: ...


def wait_until(predicate: Callable[[], T], timeout: float = 10.0, *, what: str = "", every: float = 0.01) -> T:
    """Ask `predicate` until it says something true, and return that.

    Raises `TimeoutError` naming `what` (else the predicate) after `timeout` seconds, with the last answer.
    """
    end = time.monotonic() + timeout
    while True:
        answer = predicate()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise TimeoutError(f"not so within {timeout} s: {what or predicate}; the last answer was {answer!r}")
        time.sleep(every)


def free_port() -> int:
    """A loopback port that is free now; another process may take it before you do, so be ready to ask again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def _dies_with_us(name: str) -> tuple[str, ...]:
    prefix = ("setpriv", "--pdeathsig", name, "--")
    return prefix if runs(prefix) else ()


def run_tool(command: Sequence[str], *, env: Mapping[str, str], timeout: float = 120.0) -> str:
    """Run a tool of an engine without root, to its end, and return what it printed. Raises `ServerFailed`."""
    done = subprocess.run(
        [*unprivileged(), *command], env=env, cwd="/", capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode != 0:
        raise ServerFailed(f"{command[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


class Process:
    """A server process and its log. `port` is the port it listens on, known once it was started."""

    def __init__(self, name: str, *, log: Path, env: Mapping[str, str], death_signal: str) -> None:
        self.name = name
        self.log = log
        self.port = 0
        self._env = dict(env)
        self._death_signal = death_signal
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process's id; 0 when none runs."""
        return self._popen.pid if self._popen is not None else 0

    @property
    def is_running(self) -> bool:
        """Whether the process that was started last still runs."""
        return self._popen is not None and self._popen.poll() is None

    def start(self, launch: Launch, answers: Callable[[int], bool], *, timeout: float = 60.0, tries: int = 5) -> None:
        """Start it and return when `answers(port)` is true: it must tell our server from a stranger on that port.

        The port of an earlier start is kept; else a free one is taken, and another if somebody else was faster.
        Raises `ServerFailed` with the log when it ends, or does not answer within `timeout` seconds.
        """
        for attempt in range(1, tries + 1):
            port = self.port or free_port()
            seen = self.log.stat().st_size if self.log.exists() else 0
            self._spawn(launch(port))
            if self._is_answering(partial(answers, port), timeout):
                self.port = port
                return
            said = self.log.read_bytes()[seen:].decode(errors="replace")
            if _BUSY not in said or self.port or attempt == tries:
                raise self._failed("ended while it started")

    def _is_answering(self, answers: Callable[[], bool], timeout: float) -> bool:
        """True when it answers, False when it has ended; raises when neither happens in time."""
        try:
            wait_until(lambda: not self.is_running or answers(), timeout, what=f"{self.name} answers")
        except TimeoutError as error:
            self.kill()
            raise self._failed(f"did not answer within {timeout} s") from error
        return self.is_running

    def _spawn(self, command: Sequence[str]) -> None:
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*unprivileged(), *_dies_with_us(self._death_signal), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                cwd="/",
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server process; nothing happens if it has ended."""
        if self.is_running and self._popen is not None:
            self._popen.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout: float = 20.0) -> None:
        """Ask it to end, and kill it if it has not ended after `timeout` seconds; a second call does nothing."""
        family = self.family()
        self.send(number)
        if self._popen is not None:
            try:
                self._popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        self._await_end(family)
        self._popen = None

    def kill(self) -> None:
        """End it at once, with its children, as a crash would; returns when all are gone."""
        family = self.family()
        for pid in family:
            _signal(pid, signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait(10)
        self._await_end(family)
        self._popen = None

    def family(self) -> list[int]:
        """The pids of the process and of all processes below it: servers give theirs sessions of their own."""
        family = [self.pid] if self.is_running else []
        below = _children()
        for pid in family:
            family += below.get(pid, ())
        return family

    def _await_end(self, family: Sequence[int]) -> None:
        try:
            wait_until(lambda: not any(is_alive(pid) for pid in family), 10.0, what=f"{self.name} has ended")
        except TimeoutError as error:
            raise self._failed(f"left processes behind: {[pid for pid in family if is_alive(pid)]}") from error

    def tail(self, lines: int = 30) -> str:
        """The last lines of its log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else "(no log)"
        code = self._popen.poll() if self._popen is not None else None
        end = [] if code is None else [f"({self.name} has ended with code {code})"]
        return "\n".join([*text.splitlines()[-lines:], *end])

    def _failed(self, what: str) -> ServerFailed:
        return ServerFailed(f"{self.name} {what}; its log {self.log} ends with:\n{self.tail()}")


def is_alive(pid: int) -> bool:
    """Whether `pid` runs; a zombie, which waits for its parent only, does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def _children() -> dict[int, list[int]]:
    """The children of every process on this machine, by the pid of the parent."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        below.setdefault(parent, []).append(int(path.parent.name))
    return below


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
