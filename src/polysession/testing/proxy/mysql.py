"""The protocol of MySQL and MariaDB as far as a proxy needs it: packets, commands and their answers, SQL, status.

The server answers commands in order, so each of its packets belongs to the oldest command that is not answered; where
an answer ends is known from its packets (see `mysql_answers`). After an agreed TLS or compression only bytes are seen.
Query attributes with values (CLIENT_QUERY_ATTRIBUTES) are not understood: such a query has no text and no verbs.

Sources: MariaDB manual, "Client/Server Protocol": "0 - Packet", "1 - Connecting", "Text Protocol", "Binary Protocol";
MySQL source documentation, "Capabilities Flags", "COM_QUERY".
"""

from __future__ import annotations

from collections import deque

from .events import Direction
from .mysql_answers import Answer, Command, Packet, read_answer
from .statements import verbs_of
from .wire import ProtocolError, Seen, Wire

__all__ = ["MySQLWire"]

_LARGEST = 0xFFFFFF
_COMPRESS = 1 << 5
_SSL = 1 << 11
_DEPRECATE_EOF = 1 << 24
_QUERY_ATTRIBUTES = 1 << 27
_ZSTD = 1 << 26
_MYSQL = 1 << 0
_CACHE_METADATA = 1 << (36 - 32)
_PROGRESS = b"\xff\xff\xff"
_COMMANDS = {
    0x01: "COM_QUIT", 0x02: "COM_INIT_DB", 0x03: "COM_QUERY", 0x04: "COM_FIELD_LIST", 0x05: "COM_CREATE_DB",
    0x06: "COM_DROP_DB", 0x07: "COM_REFRESH", 0x08: "COM_SHUTDOWN", 0x09: "COM_STATISTICS", 0x0A: "COM_PROCESS_INFO",
    0x0C: "COM_PROCESS_KILL", 0x0D: "COM_DEBUG", 0x0E: "COM_PING", 0x11: "COM_CHANGE_USER", 0x12: "COM_BINLOG_DUMP",
    0x15: "COM_REGISTER_SLAVE", 0x16: "COM_STMT_PREPARE", 0x17: "COM_STMT_EXECUTE", 0x18: "COM_STMT_SEND_LONG_DATA",
    0x19: "COM_STMT_CLOSE", 0x1A: "COM_STMT_RESET", 0x1B: "COM_SET_OPTION", 0x1C: "COM_STMT_FETCH",
    0x1E: "COM_BINLOG_DUMP_GTID", 0x1F: "COM_RESET_CONNECTION", 0xFA: "COM_STMT_BULK_EXECUTE",
}  # fmt: skip
_AUTHENTICATION = {0x00: "OK", 0x01: "AuthMoreData", 0xFE: "AuthSwitchRequest"}
_LAST_PREPARED = 0xFFFFFFFF  # MariaDB: the statement that was prepared last


class MySQLWire(Wire):
    """One connection to MySQL or MariaDB."""

    def __init__(self) -> None:
        super().__init__()
        self._greeted = False
        self._logging_in: int | None = 0  # the exchange that authenticates, while one does
        self._abilities = 0
        self._caches_metadata = False
        self._sending_file = False
        self._last = 0
        self._unanswered: deque[tuple[int, Answer, str]] = deque()
        self._statements: dict[int, str] = {}

    def _size(self, direction: Direction, data: bytes, at: int) -> int:
        """A packet of the largest size is continued in the next one; together they are one message."""
        end = at
        while True:
            if len(data) < end + 4:
                return 0
            length = int.from_bytes(data[end : end + 3], "little")
            end += 4 + length
            if length < _LARGEST:
                return end - at

    def _see(self, direction: Direction, data: bytes) -> Seen:
        if direction is Direction.TO_SERVER:
            if self._logging_in is not None:
                return self._see_log_in(data)
            if self._sending_file:
                self._sending_file = len(data) > 4
                return Seen(data, "LocalInfileData", self._oldest(), asks=not self._sending_file)
            return self._see_command(data)
        payload = data[4:]
        if not payload:
            raise ProtocolError("a server of MySQL sends no empty packets")
        if payload[:3] == _PROGRESS:
            return Seen(data, "Progress", self._oldest())
        return self._see_log_in_answer(data) if self._logging_in is not None else self._see_answer(data, payload)

    def _see_log_in(self, data: bytes) -> Seen:
        payload = data[4:]
        if self._abilities:
            return Seen(data, "AuthResponse", self._logging_in)
        self._abilities = int.from_bytes(payload[:4], "little")
        if not self._abilities & _MYSQL:
            extended = int.from_bytes(payload[28:32], "little")
            self._caches_metadata = bool(extended & _CACHE_METADATA)
        if self._abilities & _SSL and len(payload) == 32:
            self._turn_opaque(0)
            return Seen(data, "SSLRequest")
        return Seen(data, "HandshakeResponse")

    def _see_log_in_answer(self, data: bytes) -> Seen:
        exchange = self._logging_in
        if data[4] == 0xFF:
            self._logging_in = None
            return Seen(data, "ERR", exchange, str(int.from_bytes(data[5:7], "little")), ends=True)
        if not self._greeted:
            if data[4] != 10:
                raise ProtocolError(f"no server of MySQL greets with {data[:8]!r}")
            self._greeted = True
            return Seen(data, "Handshake")
        kind = _AUTHENTICATION.get(data[4], "Unknown")
        if kind == "OK":
            self._logging_in = None
            if self._abilities & (_COMPRESS | _ZSTD):
                self._turn_opaque(self._last)
        return Seen(data, kind, exchange, ends=kind == "OK")

    def _see_command(self, data: bytes) -> Seen:
        command = data[4] if len(data) > 4 else 0
        kind = _COMMANDS.get(command, "Unknown")
        if command in Command.UNANSWERED:
            return Seen(data, kind, None, asks=False)
        self._last += 1
        text = self._text(command, data)
        if command == Command.CHANGE_USER:
            self._logging_in = self._last
        else:
            reader = read_answer(
                command,
                without_eof=bool(self._abilities & _DEPRECATE_EOF),
                caches_metadata=self._caches_metadata,
            )
            self._unanswered.append((self._last, reader, text))
        verbs = () if command == Command.STMT_PREPARE else verbs_of(text, mysql=True)
        return Seen(data, kind, self._last, text, verbs, ends=True)

    def _text(self, command: int, data: bytes) -> str:
        if command in {Command.STMT_EXECUTE, Command.STMT_BULK_EXECUTE}:
            number = int.from_bytes(data[5:9], "little")
            if number == _LAST_PREPARED and self._unanswered:
                return self._unanswered[-1][2]
            return self._statements.get(number, "")
        if command not in {Command.QUERY, Command.STMT_PREPARE}:
            return ""
        sql = data[5:]
        if len(data) > _LARGEST:
            sql = _joined(data)[1:]
        if command == Command.QUERY and self._abilities & _QUERY_ATTRIBUTES:
            sql = sql[2:] if sql[:1] == b"\0" else b""
        return sql.decode("utf-8", "replace")

    def _see_answer(self, data: bytes, payload: bytes) -> Seen:
        exchange = self._oldest()
        if exchange is None:
            return Seen(data, "ERR" if payload[0] == 0xFF else "Unknown", None)
        _, reader, text = self._unanswered[0]
        if payload[0] == 0xFF:
            packet = Packet("ERR", True, str(int.from_bytes(payload[1:3], "little")))
        else:
            packet = reader.send(payload)
        if packet.statement is not None:
            self._statements[packet.statement] = text
        if packet.kind == "LocalInfileRequest":
            self._sending_file = True
        if packet.ends:
            self._unanswered.popleft()
        return Seen(data, packet.kind, exchange, packet.text, (), packet.transaction, ends=packet.ends)

    def _oldest(self) -> int | None:
        return self._unanswered[0][0] if self._unanswered else self._logging_in


def _joined(data: bytes) -> bytes:
    """The payload of a message of several packets."""
    parts, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 3], "little")
        parts.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return b"".join(parts)
