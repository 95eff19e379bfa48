"""The reference tables and diagrams say what the code says."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

import polysession
from polysession import AsyncSessions, Sessions
from polysession._core.states import CHANGES
from polysession.config import DRIVERS, from_mapping
from polysession.config.reading import _DATABASE, _DEFAULTS, _TOP
from polysession.config.values import POOL
from polysession.errors import MissingExtra
from polysession.topology import PoolOptions

from .pages import DOCS, PROJECT, Page, pages

CONFIGURATION = Page(DOCS / "howto" / "configuration.md")
ARCHITECTURE = Page(DOCS / "architecture.md")


def bare(cell: str) -> str:
    """A cell without its backquotes."""
    return cell.strip("`")


def keys() -> list[list[str]]:
    """The rows of the table of keys."""
    return CONFIGURATION.table("Every key")


@pytest.mark.parametrize("row", keys(), ids=lambda row: bare(row[0]))
def test_keys_are_accepted(row: list[str]) -> None:
    """Every key of the reference is accepted with the value that its row shows."""
    key, value = bare(row[0]), bare(row[2])
    path = key.replace("NAME", "orders").replace("ARGUMENT", "application_name").split(".")
    url = "postgresql://db1/orders" if key.endswith(".pooler") else "sqlite:///orders.db"
    given: dict[str, Any] = {"databases": {"orders": {"url": url}}}
    if key == "databases.NAME":
        given["databases"] = {}
    if ".tenants." in key:
        given["databases"]["orders"] = {}
    table = given
    for part in path[:-1]:
        table = table.setdefault(part, {})
    table[path[-1]] = tomllib.loads(f"value = {value}")["value"]
    from_mapping(given, environ={})


def test_no_key_is_left_out() -> None:
    """Every key that the configuration knows is in the reference, with its default."""
    shown = {bare(row[0]): bare(row[3]) for row in keys()}
    known = {f"databases.NAME.{key}" for key in _DATABASE if key not in ("pool", "connect", "tenants")}
    known |= {f"databases.NAME.pool.{key}" for key in POOL} | {f"defaults.pool.{key}" for key in POOL}
    known |= {"databases.NAME", "databases.NAME.connect.ARGUMENT", "databases.NAME.tenants.TENANT"}
    assert set(shown) == known
    assert set(_TOP) == {"databases", "defaults"}
    assert set(_DEFAULTS) == {"pool"}
    for key in POOL:
        default = getattr(PoolOptions(), key)
        assert type(default)(shown[f"defaults.pool.{key}"]) == default


def test_drivers_are_listed() -> None:
    """The table of drivers is the one that the configuration chooses from."""
    shown = [[bare(cell) for cell in row] for row in CONFIGURATION.table("Drivers")]
    known = []
    for driver in DRIVERS:
        doors = [
            door
            for door, serves in (("Sessions", driver.synchronous), ("AsyncSessions", driver.asynchronous))
            if serves
        ]
        known.append([f"{driver.scheme}://", ", ".join(doors), driver.install or "comes with Python"])
    assert [[row[0], row[1].replace("`", ""), row[2]] for row in shown] == known


def test_the_diagram_of_states_is_the_table_of_the_core() -> None:
    """The diagram shows every legal change of a unit's state, and no other."""
    (diagram,) = [block.text for block in ARCHITECTURE.blocks if block.text.startswith("stateDiagram")]
    shown = {tuple(line.split(" --> ")) for line in map(str.strip, diagram.splitlines()) if " --> " in line}
    name = {state: str(state).replace(" ", "_") for state in CHANGES}
    changes = {(name[now], name[then]) for now, later in CHANGES.items() for then in later}
    ends = {(name[now], "[*]") for now, later in CHANGES.items() if not later}
    assert shown == changes | ends | {("[*]", name[next(iter(CHANGES))])}


def test_every_room_is_on_the_map() -> None:
    """The architecture page names every module and package of the house, and the order of the import contract."""
    package = PROJECT / "src" / "polysession"
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    text = ARCHITECTURE.path.read_text("utf-8")
    assert not [room for room in sorted(rooms - {"__init__"}) if f"`{room}" not in text]
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    written = [re.findall(r"`(\w+)`", row[0]) for row in ARCHITECTURE.table("The rooms")]
    contract = [[room.strip().removeprefix("polysession.") for room in layer.split("|")] for layer in layers]
    there = [[room for room in layer if room in rooms] for layer in contract]
    assert [sorted(set(row) & rooms) for row in written] == [sorted(layer) for layer in there if layer]


def test_commands_exist() -> None:
    """Every `make` command that a page names is in the Makefile."""
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = {name for page in pages() for name in re.findall(r"(?:`|\$ )make ([a-z]+)", page.path.read_text("utf-8"))}
    assert named >= {"demo", "test"}
    assert named <= targets


@pytest.mark.parametrize("door", [Sessions, AsyncSessions])
def test_every_verb_is_told(door: type) -> None:
    """The start page has every public verb of the doors."""
    verbs = {name for name in dir(door) if not name.startswith("_") and callable(getattr(door, name))}
    text = (DOCS / "index.md").read_text("utf-8")
    assert not [verb for verb in sorted(verbs) if f"`{verb}" not in text]
    assert not [name for name in polysession.__all__ if f"`{name}" not in text]


def test_missing_drivers_are_refused_with_a_command() -> None:
    """What the reference says of a missing driver holds for every driver that is not here."""
    for driver in DRIVERS:
        if driver.importable:
            continue
        with pytest.raises(MissingExtra, match="pip install"):
            from_mapping({"databases": {"orders": f"{driver.scheme}://db1/orders"}}, environ={})
