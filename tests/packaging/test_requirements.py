"""The pinned lists hold what the project declares, with hashes, and nothing of the machine that made them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
LISTS = ("requirements-dev.txt", "requirements-demo.txt", "requirements-bench.txt")
NEEDS_A_COMPILER = "mysqlclient"


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """The project's metadata."""
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())


def pinned(name: str) -> dict[str, str]:
    """Package to version, as the list has them; a line that is neither a pin nor a hash fails the test."""
    found = {}
    for line in (PROJECT / name).read_text().replace("\\\n", " ").splitlines():
        match = re.fullmatch(r"([a-z0-9-]+)==([^ ]+)( ; [^-]+?)?\s+(--hash=sha256:[0-9a-f]{64}\s*)+", line)
        assert match, line[:120]
        found[match[1]] = match[2]
    return found


def declared(requirements: list[Any], pyproject: dict[str, Any]) -> Iterator[str]:
    """The normal names of `requirements`, with the groups and extras of our own that they include."""
    for requirement in requirements:
        if isinstance(requirement, dict):
            yield from declared(pyproject["dependency-groups"][requirement["include-group"]], pyproject)
            continue
        name = re.match(r"[\w.-]+", requirement)
        assert name
        if name[0] == "polysession":
            for extra in re.search(r"\[(.*)]", requirement)[1].split(","):  # type: ignore[index] # it has extras
                yield from declared(pyproject["project"]["optional-dependencies"][extra], pyproject)
        else:
            yield re.sub(r"[-_.]+", "-", name[0]).lower()


def test_the_developers_list_has_every_package_the_project_names(pyproject: dict[str, Any]) -> None:
    """Run-time dependencies, extras and the group "dev" are pinned; only what needs a compiler is not."""
    extras = pyproject["project"]["optional-dependencies"]
    wanted = [
        *pyproject["project"]["dependencies"],
        *pyproject["dependency-groups"]["dev"],
        *(requirement for name, extra in extras.items() if name != NEEDS_A_COMPILER for requirement in extra),
    ]
    assert set(declared(wanted, pyproject)) <= pinned("requirements-dev.txt").keys()


def test_the_demonstrations_list_is_its_extra_and_what_builds_us(pyproject: dict[str, Any]) -> None:
    """`make demo` installs what `polysession[demo]` needs and the build tools."""
    wanted = [
        *pyproject["project"]["dependencies"],
        *pyproject["project"]["optional-dependencies"]["demo"],
        *pyproject["dependency-groups"]["build"],
    ]
    assert set(declared(wanted, pyproject)) <= pinned("requirements-demo.txt").keys()


def test_the_benchmarks_list_has_what_is_compared(pyproject: dict[str, Any]) -> None:
    """`make bench` installs the group "bench" and every driver."""
    extras = pyproject["project"]["optional-dependencies"]
    wanted = [
        *pyproject["project"]["dependencies"],
        *pyproject["dependency-groups"]["bench"],
        *(requirement for name, extra in extras.items() if name != NEEDS_A_COMPILER for requirement in extra),
    ]
    assert set(declared(wanted, pyproject)) <= pinned("requirements-bench.txt").keys()


def test_all_lists_agree() -> None:
    """A package has one version, wherever it is pinned."""
    dev, demo, bench = map(pinned, LISTS)
    assert demo.items() <= dev.items()
    assert {name: bench[name] for name in dev.keys() & bench.keys()}.items() <= dev.items()


@pytest.mark.parametrize("name", LISTS)
def test_a_list_names_no_place_and_not_ourselves(name: str) -> None:
    """Wheels only, from whatever index the machine uses; no address, no path, no compiler needed."""
    text = (PROJECT / name).read_text()
    assert not re.search(r"://|index-url|find-links|file:|^-e|@ ", text, re.MULTILINE)
    assert not {"polysession", NEEDS_A_COMPILER} & pinned(name).keys()
