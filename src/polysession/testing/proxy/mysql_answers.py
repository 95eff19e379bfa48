"""How the answers to MySQL's commands are built, so that the last packet of each is known. One object per command.

Sources: MariaDB manual, "Client/Server Protocol": "OK_Packet", "ERR_Packet" (progress reports), "EOF_Packet", "Result
Set Packets", "COM_STMT_PREPARE"; MySQL source documentation, "Command Phase".
"""

from __future__ import annotations

from collections.abc import Generator
from struct import Struct
from typing import NamedTuple

from .events import Transaction

__all__ = ["Answer", "Command", "Packet", "read_answer"]

_STATUS = Struct("<H")
_IN_TRANSACTION = 0x0001
_MORE_RESULTS = 0x0008
_CURSOR_EXISTS = 0x0040
_LARGEST = 0xFFFFFF


class Command:
    """The first byte of a command. Commands that are not named here are answered by one packet."""

    QUIT = 0x01
    QUERY = 0x03
    FIELD_LIST = 0x04
    STATISTICS = 0x09
    PROCESS_INFO = 0x0A
    CHANGE_USER = 0x11
    BINLOG_DUMP = 0x12
    STMT_PREPARE = 0x16
    STMT_EXECUTE = 0x17
    STMT_SEND_LONG_DATA = 0x18
    STMT_CLOSE = 0x19
    STMT_FETCH = 0x1C
    BINLOG_DUMP_GTID = 0x1E
    STMT_BULK_EXECUTE = 0xFA

    UNANSWERED = frozenset({QUIT, STMT_SEND_LONG_DATA, STMT_CLOSE})
    RESULTS = frozenset({QUERY, PROCESS_INFO, STMT_EXECUTE, STMT_BULK_EXECUTE})
    ENDLESS = frozenset({BINLOG_DUMP, BINLOG_DUMP_GTID})


class Packet(NamedTuple):
    """What a packet of the server is."""

    kind: str
    ends: bool = False
    """The answer ends with it."""
    text: str = ""
    transaction: Transaction | None = None
    statement: int | None = None
    """The number of the statement that was prepared."""


Answer = Generator[Packet, bytes, None]
"""Is sent the payload of each packet of an answer but ERR, which ends every answer, and says what it is."""
_BEGIN = Packet("")


def read_answer(command: int, *, without_eof: bool, caches_metadata: bool) -> Answer:
    """The reader of the answer to `command`, ready for its first packet.

    `without_eof`: CLIENT_DEPRECATE_EOF was agreed. `caches_metadata`: MARIADB_CLIENT_CACHE_METADATA was agreed.
    """
    reader = _reader(command, without_eof, caches_metadata)
    next(reader)
    return reader


def _reader(command: int, without_eof: bool, caches_metadata: bool) -> Answer:
    if command in Command.RESULTS:
        return _results(without_eof, caches_metadata)
    if command == Command.STMT_PREPARE:
        return _prepared(without_eof)
    if command in {Command.FIELD_LIST, Command.STMT_FETCH}:
        return _rows("ColumnDefinition" if command == Command.FIELD_LIST else "Row")
    if command in Command.ENDLESS:
        return _endless()
    return _single("Statistics" if command == Command.STATISTICS else "OK")


def _results(without_eof: bool, caches_metadata: bool) -> Answer:
    """Results one after another, each an OK or a table, while the last packet says that more follow."""
    said = _BEGIN
    while True:
        payload = yield said
        if payload[0] == 0x00:
            said = _ok(payload)
            continue
        if payload[0] == 0xFB:
            said = Packet("LocalInfileRequest")
            continue
        columns, at = _number(payload, 0)
        skipped = caches_metadata and payload[at : at + 1] == b"\0"
        said = Packet("ColumnCount")
        for _ in range(0 if skipped else columns):
            yield said
            said = Packet("ColumnDefinition")
        if not without_eof:
            payload = yield said
            said = _eof(payload, ends=False)
            if _status(payload, 3) & _CURSOR_EXISTS:
                said = said._replace(ends=True)  # the rows come by COM_STMT_FETCH
                continue
        while not _is_end(payload := (yield said)):
            said = Packet("Row")
        said = _eof(payload)


def _rows(kind: str) -> Answer:
    said = _BEGIN
    while not _is_end(payload := (yield said)):
        said = Packet(kind)
    yield _eof(payload)


def _prepared(without_eof: bool) -> Answer:
    payload = yield _BEGIN
    statement = int.from_bytes(payload[1:5], "little")
    columns, parameters = _STATUS.unpack_from(payload, 5)[0], _STATUS.unpack_from(payload, 7)[0]
    follow = []
    for number in (parameters, columns):
        follow += ["ColumnDefinition"] * number + (["EOF"] if number and not without_eof else [])
    said = Packet("StmtPrepareOK", not follow, statement=statement)
    while follow:
        payload = yield said
        said = Packet(follow.pop(0))
        said = _eof(payload, ends=not follow) if said.kind == "EOF" else said._replace(ends=not follow)
    yield said


def _single(kind: str) -> Answer:
    payload = yield _BEGIN
    if kind == "Statistics":
        yield Packet(kind, True)
    else:
        yield _ok(payload) if payload[0] == 0x00 else _eof(payload)


def _endless() -> Answer:
    said = _BEGIN
    while True:
        yield said
        said = Packet("BinlogEvent")


def _is_end(payload: bytes) -> bool:
    """A text row can begin with 0xFE too, but only if it is longer than the longest packet."""
    return payload[0] == 0xFE and len(payload) < _LARGEST


def _ok(payload: bytes) -> Packet:
    _, at = _number(payload, 1)
    _, at = _number(payload, at)
    return _judged("OK", _status(payload, at))


def _eof(payload: bytes, *, ends: bool | None = None) -> Packet:
    """An EOF packet, or the OK packet that stands in its place."""
    said = _judged("EOF", _status(payload, 3)) if len(payload) < 7 else _ok(payload)
    return said if ends is None else said._replace(ends=ends)


def _judged(kind: str, status: int) -> Packet:
    transaction = Transaction.OPEN if status & _IN_TRANSACTION else Transaction.IDLE
    return Packet(kind, not status & _MORE_RESULTS, transaction=transaction)


def _status(payload: bytes, at: int) -> int:
    return int.from_bytes(payload[at : at + 2], "little")


def _number(payload: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer and the place after it (MariaDB manual, "Protocol Data Types")."""
    first = payload[at] if at < len(payload) else 0
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    return (int.from_bytes(payload[at + 1 : at + 1 + size], "little") if size else first), at + 1 + size
