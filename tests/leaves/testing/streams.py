"""Byte streams for the tests of the proxy's wires, built by the rules of the protocols' documentation."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from polysession.testing.proxy import Direction
from polysession.testing.proxy.wire import Seen, Wire

__all__ = ["CLIENT", "SERVER", "Talk", "auth_ok", "feed", "greeting", "log_in", "ok", "packet", "pg", "pg_start", "rfq"]

SERVER, CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT
Talk = Sequence[tuple[Direction, bytes]]


def feed(wire: Wire, talk: Talk, step: int = 1 << 30) -> list[tuple[Direction, Seen]]:
    """What `wire` sees in `talk` when every read brings `step` bytes at most."""
    return [
        (direction, seen)
        for direction, data in talk
        for at in range(0, len(data), step)
        for seen in wire.feed(direction, data[at : at + step])
    ]


def pg(letter: str, body: bytes = b"") -> bytes:
    """A message of PostgreSQL."""
    return letter.encode() + struct.pack("!i", len(body) + 4) + body


def pg_start(code: int = 196608, body: bytes = b"user\0app\0\0") -> bytes:
    """A client's first message."""
    return struct.pack("!ii", len(body) + 8, code) + body


def auth_ok() -> bytes:
    """The answer to a client that needs no password."""
    return pg("R", struct.pack("!i", 0)) + pg("S", b"TimeZone\0UTC\0") + pg("K", bytes(8)) + rfq()


def rfq(status: str = "I") -> bytes:
    """ReadyForQuery."""
    return pg("Z", status.encode())


def packet(payload: bytes, number: int = 0) -> bytes:
    """A message of MySQL, in as many packets as it takes."""
    parts = []
    while True:
        part, payload = payload[:0xFFFFFF], payload[0xFFFFFF:]
        parts.append(len(part).to_bytes(3, "little") + bytes([number % 256]) + part)
        number += 1
        if len(part) < 0xFFFFFF:
            return b"".join(parts)


def ok(status: int = 0x0002, *, header: int = 0x00) -> bytes:
    """An OK packet."""
    return packet(struct.pack("<BBBHH", header, 0, 0, status, 0), 1)


def greeting() -> bytes:
    """A server's first packet."""
    return packet(b"\x0a5.5.5-10.11.6-MariaDB\0" + bytes(4) + b"abcdefgh\0" + bytes(20))


def log_in(abilities: int = 1 << 9, extended: int = 0) -> bytes:
    """A client's answer to it."""
    return packet(struct.pack("<IIB19xI", abilities, 1 << 24, 45, extended) + b"app\0\0", 1)
