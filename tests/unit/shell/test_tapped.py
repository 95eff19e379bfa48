"""What stands before asyncpg's protocol while COMMIT is on its way: what passes and what is kept, however it is cut."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from polysession._shell.tapped import Tap, fields


def message(kind: str, body: bytes = b"") -> bytes:
    """One of the server's."""
    return kind.encode() + (len(body) + 4).to_bytes(4) + body


READY, LAST = message("Z", b"T"), message("Z", b"I")
FAILED = message("Z", b"E")
ROW, TAG = message("D", bytes(40)), message("C", b"INSERT 0 1\0")
NOTICE, NOTIFICATION = message("N", b"SNOTICE\0\0"), message("A", bytes(8))
ERROR = message("E", b"SERROR\0C23505\0Mno\0R_bt_check_unique\0\0")
OF_A_POOLER = message("E", b"SFATAL\0C08P01\0Mno server\0\0")
COMMITTED = message("C", b"COMMIT\0")
REFUSED = message("E", b"SERROR\0C23503\0Mlate\0D\0\0")


class Inner(asyncio.Protocol):
    """Stands for asyncpg's."""

    def __init__(self) -> None:
        self.heard = b""
        self.told: list[Any] = []

    def data_received(self, data: bytes) -> None:
        assert data
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(exc)

    def eof_received(self) -> bool | None:
        self.told.append("eof")
        return None

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")


class Transport(asyncio.Transport):
    """Remembers who hears."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Inner()
        self.hears: Any = self.inner

    def set_protocol(self, protocol: Any) -> None:
        self.hears = protocol

    def get_protocol(self) -> Any:
        return self.hears


@pytest.mark.parametrize(
    ("sent", "heard", "failed", "refused"),
    [
        ([TAG, READY, COMMITTED, LAST], [TAG, LAST], False, None),
        ([ROW, ROW, TAG, READY, COMMITTED, LAST], [ROW, ROW, TAG, LAST], False, None),
        ([ERROR, FAILED, message("C", b"ROLLBACK\0"), LAST], [ERROR, LAST], True, None),
        ([OF_A_POOLER, FAILED, COMMITTED, LAST], [OF_A_POOLER, LAST], True, None),
        ([TAG, READY, REFUSED, LAST], [TAG, LAST], False, "23503"),
        ([NOTICE, TAG, NOTICE, READY, NOTIFICATION, COMMITTED, NOTICE, LAST, NOTICE, LAST],
         [NOTICE, TAG, NOTICE, NOTIFICATION, NOTICE, LAST, NOTICE, LAST], False, None),
    ],
)  # fmt: skip
def test_what_passes(sent: list[bytes], heard: list[bytes], failed: bool, refused: str | None) -> None:
    """All but the first ReadyForQuery and what answers COMMIT, cut at any two bytes; then asyncpg's own one hears."""
    data = b"".join(sent)
    for first, second in itertools.combinations_with_replacement(range(len(data) + 1), 2):
        transport = Transport()
        tap = Tap(transport, transport.inner)
        tap.stand_between()
        for part in (data[:first], data[first:second], data[second:]):
            if part:
                transport.hears.data_received(part)
        assert transport.inner.heard == b"".join(heard)
        assert transport.hears is transport.inner
        assert (tap.is_over, tap.failed) == (True, failed)
        assert (tap.refused or {}).get("C") == refused


def test_what_passes_is_not_gathered() -> None:
    """A row that is long passes as it comes."""
    transport = Transport()
    tap = Tap(transport, transport.inner)
    row = message("D", bytes(10_000))
    for at in range(0, len(row), 100):
        tap.data_received(row[at : at + 100])
        assert len(transport.inner.heard) == min(at + 100, len(row))


@pytest.mark.parametrize(
    ("sent", "heard", "failed"),
    [
        (ERROR, ERROR, True),  # the server's last word
        (OF_A_POOLER, OF_A_POOLER, False),  # which does not know
        (TAG + READY + REFUSED, TAG + REFUSED, False),  # asyncpg says why
        (TAG + READY, TAG, False),
    ],
)
def test_a_link_that_is_lost(sent: bytes, heard: bytes, failed: bool) -> None:
    """asyncpg is told, and what is known of the statement is known."""
    transport = Transport()
    tap = Tap(transport, transport.inner)
    tap.stand_between()
    tap.data_received(sent)
    lost = ConnectionResetError()
    tap.connection_lost(lost)
    assert transport.inner.heard == heard
    assert transport.inner.told == [lost]
    assert (tap.is_over, tap.failed) == (False, failed)


def test_what_else_is_told() -> None:
    """The transport's word passes."""
    transport = Transport()
    tap = Tap(transport, transport.inner)
    tap.pause_writing()
    tap.resume_writing()
    assert tap.eof_received() is None
    assert transport.inner.told == ["pause", "resume", "eof"]


def test_stepping_aside() -> None:
    """Whoever stands there by now is left there."""
    transport = Transport()
    tap, other = Tap(transport, transport.inner), Inner()
    tap.stand_between()
    tap.step_aside()
    assert transport.hears is transport.inner
    transport.hears = other
    tap.step_aside()
    assert transport.hears is other


def test_fields() -> None:
    """By their letters, also empty ones, in whatever bytes."""
    assert fields(b"SERROR\0D\0M\xff\0\0") == {"S": "ERROR", "D": "", "M": "�"}
