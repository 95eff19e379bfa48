"""The ids of units that know their outcome: made from arguments, and what can be read from one. Pure.

An id is a UUID. That of a unit of its own is of version 7 (RFC 9562): 48 bits of time in milliseconds, so rows are
written in the order of the key and old ones are found by it; of the 74 bits that are free there, 30 hold a print of the
server and the database in which the unit ran, and 44 are random. That of a caller's key is of version 8, made of the
key alone, and begins with an `f`, which no time does before the year 9000.
"""

from __future__ import annotations

import hashlib
import uuid

from ..errors import RequestRefused

__all__ = ["ASKED_FOR", "KEPT", "before", "is_key", "key_id", "made_at", "new_id", "parse", "server_of", "server_print"]

KEPT = 86_400.0
"""Seconds, by the server's clock, that the row of a unit is kept at least."""
ASKED_FOR = 82_800.0
"""Seconds, by the asker's clock, for which a unit can be asked for: the clocks of those who make ids, of those who ask
and of the server may differ by up to the rest of an hour."""

_PRINT = (1 << 30) - 1
_RANDOM = 44
_LOW = 32
_VARIANT = 0b10 << 62


def server_print(identity: str) -> int:
    """A number above 0 that stands for the database and the history of its server, as in `identity`; 0 for none."""
    if not identity:
        return 0
    digest = hashlib.sha256(identity.encode()).digest()
    return (int.from_bytes(digest[:4], "big") & _PRINT) or 1


def new_id(now: float, draw: int, server: int) -> str:
    """The id of a unit: made at `now` (seconds since 1970), on `server`; `draw` is a random number of 44 bits."""
    draw &= (1 << _RANDOM) - 1
    high = (int(now * 1000) << 16) | (7 << 12) | (draw >> _LOW)
    low = _VARIANT | (server << _LOW) | (draw & ((1 << _LOW) - 1))
    digits = f"{(high << 64) | low:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def key_id(key: str) -> str:
    """The id that stands for a caller's key; always the same one. Raises `RequestRefused` for an empty key."""
    if not isinstance(key, str) or not key:
        raise RequestRefused(
            f"key={key!r} is not a text of at least one character",
            do=("give a text that names the request, and the same one when it is repeated", "leave it out"),
            attribute="key",
        )
    number = int.from_bytes(hashlib.sha256(b"polysession key\0" + key.encode()).digest()[:16], "big")
    number = number & ~(0xF << 124) | (0xF << 124)
    number = number & ~(0xF << 76) | (8 << 76)
    number = number & ~(0b11 << 62) | _VARIANT
    return str(uuid.UUID(int=number))


def parse(text: object) -> str:
    """`text` in the one spelling of ids. Raises `RequestRefused` if it is none of ours."""
    try:
        found = uuid.UUID(str(text))
    except ValueError:
        found = None
    if found is None or found.version not in (7, 8):
        raise RequestRefused(
            f"{text!r} is not the id of a unit of work",
            why="the id is the part `unit_id` of a CommitUnknown, and stands in its text",
            do=("give the id as it stands there",),
            attribute="unit_id",
        )
    return str(found)


def is_key(unit: str) -> bool:
    """It stands for a caller's key."""
    return unit.startswith("f")


def made_at(unit: str) -> float:
    """When a unit's id was made, in seconds since 1970 by the clock of its maker; not for a key's."""
    return (uuid.UUID(unit).int >> 80) / 1000


def server_of(unit: str) -> int:
    """The print of the server and database in which the unit ran; 0 if that is not known, as for a key's."""
    return 0 if is_key(unit) else (uuid.UUID(unit).int >> _LOW) & _PRINT


def before(now: float, age: float) -> str:
    """A bound: all ids that were made longer than `age` seconds before `now` are below it."""
    return str(uuid.UUID(int=max(0, int((now - age) * 1000)) << 80))
