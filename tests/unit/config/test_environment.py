"""`${NAME}` in texts."""

from __future__ import annotations

import pytest

from polysession.config.environment import Text, expand

ENVIRON = {"HOST": "db1", "EMPTY": "", "NESTED": "${HOST}"}


@pytest.mark.parametrize(
    ("text", "value", "template", "names"),
    [
        ("plain", "plain", "plain", ()),
        ("${HOST}", "db1", "${HOST}", ("HOST",)),
        ("a-${HOST}-${HOST}-b", "a-db1-db1-b", "a-${HOST}-${HOST}-b", ("HOST",)),
        ("${GONE:-there}", "there", "${GONE}", ("GONE",)),
        ("${GONE:-}", "", "${GONE}", ("GONE",)),
        ("${EMPTY:-there}", "there", "${EMPTY}", ("EMPTY",)),
        ("${EMPTY}", "", "${EMPTY}", ("EMPTY",)),
        ("${HOST:-other}", "db1", "${HOST}", ("HOST",)),
        ("${NESTED}", "${HOST}", "${NESTED}", ("NESTED",)),
        ("$${HOST}", "${HOST}", "${HOST}", ()),
        ("$HOST $ $$ cost", "$HOST $ $$ cost", "$HOST $ $$ cost", ()),
    ],
)
def test_variables_are_replaced_once(text: str, value: str, template: str, names: tuple[str, ...]) -> None:
    """Each variable is replaced by its value, which is not looked at again; the template shows names only."""
    assert expand(text, ENVIRON, path="key") == Text(value=value, template=template, names=names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${GONE}", ["the environment variable GONE"]),
        ("${GONE}${HOST}${LOST}", ["the environment variable GONE", "the environment variable LOST"]),
        ("${}", ["${NAME} or ${NAME:-default}"]),
        ("${HOST", ["${NAME} or ${NAME:-default}"]),
        ("${1ST}", ["${NAME} or ${NAME:-default}"]),
        ("${HOST-x}", ["${NAME} or ${NAME:-default}"]),
    ],
)
def test_what_cannot_be_replaced_is_a_problem(text: str, expected: list[str]) -> None:
    """An unset variable and a malformed place are problems with the key's path, each by itself."""
    problems = expand(text, ENVIRON, path="databases.orders.url")
    assert isinstance(problems, tuple)
    assert [problem.expected for problem in problems] == expected
    assert {problem.path for problem in problems} == {"databases.orders.url"}


def test_without_an_environment_texts_are_left_alone() -> None:
    """Where there is no environment to look in, the text is taken as it is."""
    assert expand("${HOST", None, path="key") == Text(value="${HOST", template="${HOST")
