"""Brings database engines for the tests into `.engines/`, without root, and says which are here.

    python tools/engines.py list                 what is found, where, which version, how to get what is missing
    python tools/engines.py fetch [--optional]   unpack what is missing: MariaDB, Galera, pgbouncer, PostgreSQL 15

`fetch` asks apt for the Debian (or Ubuntu) packages of this machine's own release, with private package lists, checks
them as apt does, and unpacks them into `.engines/root`. It installs nothing, starts nothing, needs no root, and
leaves the system as it is. Once all is here it needs no network. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from tests.engines import finders  # noqa: E402 - one finder for the tests and for this command

STORE = PROJECT / ".engines"
STAMP = STORE / "stamp.json"
PACKAGES = {
    "mariadb": ("mariadb-server-core", "mariadb-server", "mariadb-client-core", "mariadb-client"),
    "galera": ("galera-4", "rsync", "socat"),
    "pgbouncer": ("pgbouncer",),
    "pg15": ("postgresql-15", "postgresql-client-15"),
}
NEEDLESS = re.compile(r"perl|-dev$|^libllvm")  # scripts and the JIT compiler: no test uses them


class FetchFailed(RuntimeError):
    """Packages could not be brought; the text is one sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Database engines for the tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print which engines are found, where, and how to get the others")
    fetch_parser = commands.add_parser("fetch", help="unpack the missing engines into .engines/, without root")
    fetch_parser.add_argument("--optional", action="store_true", help="exit 0 even if they cannot be brought")
    fetch_parser.add_argument("--again", action="store_true", help="try anew what this machine's packages lacked")
    options = parser.parse_args(argv)
    if options.command == "list":
        show()
        return 0
    try:
        refused = fetch(again=options.again)
    except FetchFailed as error:
        refused = [str(error)]
    for sentence in refused:
        print(sentence, file=sys.stderr)
    return 1 if refused and not options.optional else 0


def show() -> None:
    """Print one line for each engine the tests can use."""
    postgres = [pg.engine for pg in finders.find_all_postgres()]
    for engine in [*sorted({"pg15", "pg18", *postgres}), "mariadb", "galera", "pgbouncer"]:
        try:
            found = finders.find(engine)
        except finders.EngineMissing as error:
            print(f"{engine:<10} missing     {error}")
        else:
            print(f"{engine:<10} {found.version or 'found':<11} {found.folder}  ({found.source})")


def fetch(*, again: bool = False) -> list[str]:
    """Unpack every engine that is missing; returns a sentence for each that this machine's packages do not have.

    Does nothing, and needs no network, when all are here or known to be unobtainable. Raises `FetchFailed`.
    """
    STORE.mkdir(exist_ok=True)
    with _alone():
        known = _read_stamp()
        absent = [engine for engine in PACKAGES if not _is_found(engine)]
        todo = [engine for engine in absent if again or engine not in known]
        if todo:
            unpacked_before = [e for e in PACKAGES if _is_found(e) and finders.find(e).root is not None]
            print(f"fetching {', '.join(todo)} into {STORE.name}/ (nothing is installed)")
            known = {**known, **_bring([*unpacked_before, *todo])}
            known = {engine: why for engine, why in known.items() if engine in absent}
            STAMP.write_text(json.dumps({"unobtainable": known}, indent=1) + "\n")
            finders.forget()
        return [f"{engine} is not obtainable here: {why}" for engine, why in known.items() if not _is_found(engine)]


def _bring(engines: Sequence[str]) -> dict[str, str]:
    """Download and unpack `engines` in place of the old tree; returns why, for those that have no packages."""
    lacking = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(name) is None]
    if lacking:
        raise FetchFailed(
            f"{lacking[0]} is not on this machine, so packages of Debian cannot be unpacked; "
            "tests that need MariaDB, Galera, pgbouncer or PostgreSQL 15 will be skipped"
        )
    unobtainable: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=STORE, prefix="fetch-") as scratch:
        apt = _Apt(Path(scratch))
        said = apt.run("apt-get", "-q", "update")
        wanted: list[str] = []
        for engine in engines:
            lost = [package for package in PACKAGES[engine] if not apt.knows(package)]
            if lost:
                unobtainable[engine] = f"apt knows no package {lost[0]!r}"
            else:
                wanted += PACKAGES[engine]
        if unobtainable.keys() >= set(engines):
            raise FetchFailed(f"apt found none of the packages; `apt-get update` said: {_end(said)}")
        fresh = Path(scratch) / "root"
        for archive in apt.download(wanted):
            subprocess.run(["dpkg-deb", "--extract", str(archive), str(fresh)], check=True)
        _replace(finders.UNPACKED, fresh)
    return unobtainable


class _Apt:
    """apt with lists, cache and locks of its own below `scratch`, and with this machine's sources and keys."""

    def __init__(self, scratch: Path) -> None:
        self.archives = scratch / "archives"
        for folder in (scratch / "lists" / "partial", scratch / "cache" / "archives" / "partial", self.archives):
            folder.mkdir(parents=True)
        settings = {
            "Dir::State": scratch,
            "Dir::State::Lists": scratch / "lists",
            "Dir::State::status": "/var/lib/dpkg/status",
            "Dir::Cache": scratch / "cache",
            "APT::Sandbox::User": "",  # root's downloads stay root's: the other account cannot enter our folder
            "Debug::NoLocking": "true",
            "Acquire::Languages": "none",
            "Acquire::http::Timeout": "30",
        }
        self._options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]

    def run(self, program: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *self._options, *arguments], cwd=cwd, capture_output=True, text=True, check=False
        )

    def knows(self, package: str) -> bool:
        return bool(self.run("apt-cache", "--quiet", "show", "--no-all-versions", package).stdout)

    def download(self, packages: Sequence[str]) -> list[Path]:
        """Fetch `packages` and the libraries that they need and this machine lacks. Raises `FetchFailed`."""
        plan = self.run("apt-get", "-q", "--yes", "--no-install-recommends", "--print-uris", "install", *packages)
        if plan.returncode != 0:
            raise FetchFailed(f"apt cannot say which libraries the packages need: {_end(plan)}")
        needed = {line.split()[1].split("_")[0] for line in plan.stdout.splitlines() if line.startswith("'")}
        libraries = {name for name in needed if name.startswith("lib") and not NEEDLESS.search(name)}
        done = self.run("apt-get", "-q", "download", *sorted(libraries.union(packages)), cwd=self.archives)
        if done.returncode != 0:
            raise FetchFailed(f"apt could not download the packages: {_end(done)}")
        return sorted(self.archives.glob("*.deb"))


def _replace(target: Path, fresh: Path) -> None:
    """Put the finished tree in place by renaming, so that nobody ever sees half of it."""
    old = fresh.with_name("old")
    if target.exists():
        target.rename(old)
    fresh.rename(target)


def _end(said: subprocess.CompletedProcess[str]) -> str:
    lines = (said.stderr or said.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit code {said.returncode}"


def _is_found(engine: str) -> bool:
    try:
        finders.find(engine)
    except finders.EngineMissing:
        return False
    return True


def _read_stamp() -> dict[str, str]:
    return dict(json.loads(STAMP.read_text())["unobtainable"]) if STAMP.exists() else {}


@contextmanager
def _alone() -> Iterator[None]:
    """One fetch at a time in this project folder."""
    with (STORE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
