"""The wheel in new environments: without an extra, and with each alone, it does what it says it does."""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.pages import Page
from tests.engines.finders import PROJECT
from tests.engines.targets import FreshDatabase

from .installing import Environment, build, install

EXTRAS = tuple(tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])

SYNCHRONOUS = """
import sys
from sqlalchemy import text
from polysession import Sessions
with Sessions(sys.argv[1]) as sessions:
    with sessions.begin() as session:
        session.execute(text("create table t (x int)"))
        session.execute(text("insert into t values (7)"))
    with sessions.read() as session:
        print(session.scalar(text("select x from t")))
    with sessions.begin() as session:
        session.execute(text("drop table t"))
    assert not sessions.held()
"""
ASYNCHRONOUS = """
import asyncio, sys
from sqlalchemy import text
from polysession import AsyncSessions
async def main():
    async with AsyncSessions(sys.argv[1]) as sessions:
        async with sessions.begin() as session:
            await session.execute(text("create table t (x int)"))
            await session.execute(text("insert into t values (7)"))
        async with sessions.read() as session:
            print(await session.scalar(text("select x from t")))
        async with sessions.begin() as session:
            await session.execute(text("drop table t"))
        assert not sessions.held()
asyncio.run(main())
"""
REFUSED = """
import sys
import polysession
from polysession.errors import MissingExtra
try:
    getattr(polysession, sys.argv[1])(sys.argv[2])
except MissingExtra as error:
    print(error)
"""
MODULES = """
import importlib, pkgutil
import polysession
failed = []
for module in pkgutil.walk_packages(polysession.__path__, "polysession."):
    try:
        importlib.import_module(module.name)
    except ImportError as error:
        failed.append(f"{module.name} needs {error.name}")
print("; ".join(failed))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built for the tests of this module."""
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def environments(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    """`environments("postgres")`: one with the wheel and that extra alone, made when it is first asked for."""
    made: dict[str, Environment] = {}

    def with_extra(extra: str) -> Environment:
        if extra not in made:
            made[extra] = install(wheel, tmp_path_factory.mktemp(extra or "bare") / "venv", extra)
        return made[extra]

    return with_extra


@pytest.fixture
def bare(environments: Callable[[str], Environment]) -> Environment:
    """One with what is needed at any rate, and no extra."""
    return environments("")


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    """Every module of `src`, the mark that it is typed, the licence; no test, no example, no tool."""
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    source = PROJECT / "src"
    ours = {path.relative_to(source).as_posix() for path in source.rglob("*.py")} | {"polysession/py.typed"}
    assert {name for name in names if not name.startswith("polysession-")} == ours
    assert {name.split("/", 1)[1] for name in names - ours} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }


@pytest.mark.parametrize("extra", ["", "mysql", "demo"])
def test_what_is_declared_is_there(environments: Callable[[str], Environment], extra: str) -> None:
    """The control of the tests below: pip finds nothing missing, and what is imported is the wheel."""
    environment = environments(extra)
    checked = environment.pip("check")
    assert (checked.returncode, checked.stdout.strip()) == (0, "No broken requirements found.")
    assert environment.python_says("import polysession; print(polysession.__file__)").startswith(
        str(environment.folder)
    )


def test_pip_would_find_what_is_missing(wheel: Path, tmp_path: Path) -> None:
    """And with one package taken away it says which."""
    environment = install(wheel, tmp_path / "venv")
    (folder,) = environment.packages.glob("msgspec-*.dist-info")
    folder.rename(folder.with_name("gone"))
    checked = environment.pip("check")
    assert checked.returncode == 1
    assert "polysession 0.1.0 requires msgspec, which is not installed." in checked.stdout


class TestWithoutExtras:
    """`pip install polysession`, and no more."""

    def test_threads_on_sqlite_work(self, bare: Environment) -> None:
        """The driver comes with Python."""
        assert bare.python_says(SYNCHRONOUS, "sqlite:///shop.db") == "7\n"

    @pytest.mark.parametrize(
        ("door", "url", "extra"),
        [
            ("AsyncSessions", "sqlite:///shop.db", "sqlite"),
            ("Sessions", "postgresql://u@h/d", "postgres"),
            ("AsyncSessions", "postgresql://u@h/d", "postgres"),
            ("AsyncSessions", "postgresql+asyncpg://u@h/d", "asyncpg"),
            ("Sessions", "mysql://u@h/d", "mysql"),
            ("AsyncSessions", "mariadb://u@h/d", "mysql"),
            ("Sessions", "mysql+mysqldb://u@h/d", "mysqlclient"),
        ],
    )
    def test_what_else_is_needed_is_named(self, bare: Environment, door: str, url: str, extra: str) -> None:
        """Each database and door without its driver says which command brings it, and that extra exists."""
        said = bare.python_says(REFUSED, door, url)
        assert said.startswith("[missing-extra]")
        assert f'do:  pip install "polysession[{extra}]"' in said
        assert extra in EXTRAS

    @pytest.mark.parametrize("words", [["--help"], ["--version"], ["check"], ["demo"]])
    def test_the_command_line_names_its_extra(self, bare: Environment, words: list[str]) -> None:
        """`polysession` is there, and says what to install; no traceback."""
        done = bare.run("polysession", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith('install it: pip install "polysession[cli]"\n')
        assert done.stderr.count("\n") == 1

    def test_modules_need_no_extra_before_they_are_used(self, bare: Environment) -> None:
        """Every module of the package can be imported."""
        assert bare.python_says(MODULES) == "\n"


class TestWithOneExtra:
    """`pip install "polysession[<extra>]"`: what the extra is for works."""

    def test_sqlite(self, environments: Callable[[str], Environment]) -> None:
        """asyncio on SQLite."""
        assert environments("sqlite").python_says(ASYNCHRONOUS, "sqlite:///shop.db") == "7\n"

    def test_the_readme_as_a_new_user_follows_it(self, environments: Callable[[str], Environment]) -> None:
        """Its examples, in order, in an environment that has what it says: they print what it shows."""
        blocks = [block for block in Page(PROJECT / "README.md").blocks if block.language == "python"]
        code = "\n\n".join(block.text for block in blocks)
        shown = [block.output for block in blocks if block.output]
        assert len(shown) >= 3
        for file in (environments("sqlite").folder / "here").glob("*.db*"):
            file.unlink()
        assert environments("sqlite").python_says(code).splitlines() == "\n".join(shown).splitlines()

    @pytest.mark.pg
    @pytest.mark.parametrize("code", [SYNCHRONOUS, ASYNCHRONOUS], ids=["threads", "asyncio"])
    def test_postgres(
        self,
        environments: Callable[[str], Environment],
        fresh_database: Callable[[str], FreshDatabase],
        code: str,
    ) -> None:
        """Threads and asyncio on PostgreSQL; the URL names no driver."""
        url = re.sub(r"^postgresql\+\w+", "postgresql", fresh_database("pg18").url())
        assert environments("postgres").python_says(code, url) == "7\n"

    @pytest.mark.pg
    def test_asyncpg(
        self, environments: Callable[[str], Environment], fresh_database: Callable[[str], FreshDatabase]
    ) -> None:
        """asyncio on PostgreSQL; threads are told what they need."""
        environment = environments("asyncpg")
        assert environment.python_says(ASYNCHRONOUS, fresh_database("pg18").url("asyncpg")) == "7\n"
        assert 'pip install "polysession[postgres]"' in environment.python_says(REFUSED, "Sessions", "postgresql://h/d")

    @pytest.mark.mariadb
    @pytest.mark.parametrize("code", [SYNCHRONOUS, ASYNCHRONOUS], ids=["threads", "asyncio"])
    def test_mysql(
        self,
        environments: Callable[[str], Environment],
        fresh_database: Callable[[str], FreshDatabase],
        code: str,
    ) -> None:
        """Threads and asyncio on MariaDB; the URL names no driver."""
        url = re.sub(r"^(mysql|mariadb)\+\w+", r"\1", fresh_database("mariadb").url())
        assert environments("mysql").python_says(code, url) == "7\n"

    def test_cli(self, environments: Callable[[str], Environment]) -> None:
        """Help, version and `check`; the demo runs on SQLite, and on PostgreSQL says what it needs."""
        environment = environments("cli")
        for words, text in ((["--help"], "check"), (["--version"], "0.1.0"), (["check", "sqlite:///shop.db"], "ok:")):
            done = environment.run("polysession", *words)
            assert (done.returncode, done.stderr) == (0, "")
            assert text in done.stdout
        done = environment.run("polysession", "demo", "--seconds", "0.2", "--scale", "0.001", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)
        refused = environment.run("polysession", "demo", "--engine", "postgres")
        assert refused.returncode == 2
        assert 'pip install "polysession[demo]"' in refused.stderr
        assert "Traceback" not in refused.stderr
        refused = environment.run("polysession", "demo", "--async")
        assert refused.returncode == 2
        assert 'pip install "polysession[sqlite]"' in refused.stderr
        assert "Traceback" not in refused.stderr

    @pytest.mark.parametrize("words", [[], ["--async"]], ids=["threads", "asyncio"])
    @pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
    def test_demo(self, environments: Callable[[str], Environment], engine: str, words: list[str]) -> None:
        """The demonstration, on files and on a server of its own, through both doors."""
        small = ["--seconds", "0.5", "--scale", "0.001", "--sessions", "4", "--databases", "2", "--json"]
        done = environments("demo").run("polysession", "demo", "--engine", engine, *small, *words)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)
