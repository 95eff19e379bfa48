"""Why an endpoint could not be reached, as one sentence without the configuration's secrets.

A driver's message is not ours: it may repeat what it was given. So every text of the endpoint's configuration that its
shown address does not have is taken out, whether it is called a secret or not. Connects to nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import make_url

from .. import dialects
from ..dialects.rows import ErrorSigns
from ..errors import ConfigError
from ..failures import Kind, Phase
from ..topology import Endpoint
from .signs import driver_error, signs_of

__all__ = ["CURES", "explain"]

_LONGEST: Final = 300
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
_SHORT: Final = 6
"""Secrets with fewer characters are looked for as whole words, so that a message is not riddled with stars."""

_WHATEVER_IT_NAMES: Final = ("correct the database, the user or the driver's argument, whichever the message names",)

CURES: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.AUTH: ("correct the user or the password, or let this account in from this host",),
    Kind.PRIVILEGE: ("grant this account the right to connect",),
    Kind.CONNECT_FAILED: ("see that the server runs and that host and port are right and not blocked",),
    Kind.CONNECTION_LOST: ("see that a database server of this kind listens at this host and port",),
    Kind.TOO_MANY: ("end connections that are not needed, or raise the server's limit",),
    Kind.NOT_READY: ("wait until the server is up",),
    Kind.SHUTDOWN: ("wait until the server is up again",),
    Kind.PROGRAMMING: _WHATEVER_IT_NAMES,
    Kind.OTHER: _WHATEVER_IT_NAMES,
}
"""What to do, by what the error means."""


def explain(error: Exception, endpoint: Endpoint) -> tuple[Kind, str]:
    """What an error at connect means, and its message as one sentence of bounded length without secrets."""
    assert endpoint.address is not None
    found = driver_error(error) or error
    signs = signs_of(error) or ErrorSigns(
        class_names=tuple(cls.__name__ for cls in type(found).__mro__), message=str(found)
    )
    backend = endpoint.address.shown.partition("://")[0].partition("+")[0]
    kind = dialects.of(backend).classify(signs, Phase.NOTHING_SENT).kind
    words = [part for part in found.args if isinstance(part, str)]
    text = words[-1] if words else str(found)
    if isinstance(found, ConfigError):
        text = f"{found.what}; {found.why}"
    # libpq tells one line for each address that it tried, and asks a question after it
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.rstrip().endswith("?")]
    text = _with_cause("; ".join(lines) or type(found).__name__, found)
    for secret in sorted(_secrets(endpoint), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)" if len(secret) < _SHORT else re.escape(secret), "***", text)
    return kind, text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _with_cause(text: str, error: BaseException) -> str:
    """`text`, and what the number of the operating system in it means: asyncio's own text does not say it."""
    number = _ERRNO.search(text)
    code = int(number[1]) if number else (error.errno or 0) if isinstance(error, OSError) else 0
    cause = os.strerror(code) if code > 0 else ""
    return f"{text}: {cause}" if cause and cause not in text else text


def _secrets(endpoint: Endpoint) -> set[str]:
    """Every text of the endpoint's configuration that its shown address does not have, in the forms it may take."""
    assert endpoint.address is not None
    url = make_url(endpoint.address.reveal())
    given = {str(url.password or ""), *_texts(url.query), *_texts(endpoint.connect)}
    hidden = {text for text in given if text and text not in endpoint.address.shown}
    return {form for text in hidden for form in (text, quote(text, safe=""), quote_plus(text), repr(text)[1:-1])}


def _texts(given: Any) -> set[str]:
    """All texts in nested tables and lists."""
    match given:
        case str():
            return {given}
        case Mapping():
            return {text for value in given.values() for text in _texts(value)}
        case list() | tuple():
            return {text for value in given for text in _texts(value)}
        case _:
            return set()
