"""`${NAME}` in texts: replaced by the environment's value, and remembered so that this value is never shown. Pure.

The forms are those of the POSIX shell (IEEE Std 1003.1-2017, XCU 2.6.2): `${NAME}`, and `${NAME:-default}` for a
variable that is unset or empty. Unlike in the shell an unset `${NAME}` is a problem, not an empty text. `$${` stands
for a literal `${`; a lone `$` is itself. What was put in is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from .problems import Problem, show

__all__ = ["Text", "expand"]

_PLACE = re.compile(
    r"(?P<literal>\$\$\{)|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(?P<instead>[^}]*))?\}|(?P<bad>\$\{)"
)


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A text as it is used, and as it may be shown: with `${NAME}` in place of what came from the environment."""

    value: str
    template: str
    names: tuple[str, ...] = ()
    """The variables in it."""

    @property
    def found(self) -> str:
        """What an error may say of it, for keys that hold no secret: the plain text, or only the variables."""
        shown = show(self.template)
        return f"{shown} with {self.variables}" if self.names and not shown.startswith('"') else shown

    @property
    def variables(self) -> str:
        """`${A} and ${B}`."""
        return " and ".join(f"${{{name}}}" for name in self.names)


def expand(text: str, environ: Mapping[str, str] | None, *, path: str) -> Text | tuple[Problem, ...]:
    """`text` with its variables replaced, or one problem for each that is not set; as it is if `environ` is None."""
    if environ is None or "${" not in text:
        return Text(value=text, template=text)
    value: list[str] = []
    template: list[str] = []
    names: list[str] = []
    problems: list[Problem] = []
    end = 0
    for place in _PLACE.finditer(text):
        before = text[end : place.start()]
        end = place.end()
        name = place["name"]
        if place["literal"]:
            put, shown = "${", "${"
        elif not name:
            problems.append(
                Problem(
                    path=path,
                    expected="${NAME} or ${NAME:-default}",
                    found='a "${" that begins neither',
                    do=("close the brace and use letters, digits and _ in NAME", "write $${ for a literal ${"),
                )
            )
            continue
        else:
            names.append(name)
            shown = f"${{{name}}}"
            put = environ.get(name, "")
            if place["default"]:
                put = put or place["instead"]
            elif name not in environ:
                problems.append(
                    Problem(
                        path=path,
                        expected=f"the environment variable {name}",
                        found="no such variable",
                        do=(f"set {name}", f"give a default: ${{{name}:-...}}"),
                    )
                )
        value += before, put
        template += before, shown
    if problems:
        return tuple(problems)
    rest = text[end:]
    return Text(value="".join((*value, rest)), template="".join((*template, rest)), names=tuple(dict.fromkeys(names)))
