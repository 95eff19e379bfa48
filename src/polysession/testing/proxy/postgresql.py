"""PostgreSQL's protocol, version 3, as far as a proxy needs it: messages, requests and their answers, SQL, status.

A request ends with Query, FunctionCall or Sync, and its answer with ReadyForQuery; the server answers in order, so
each message of the server belongs to the oldest request that is not answered. After an agreed TLS or GSS encryption
only bytes are seen.

Sources: PostgreSQL manual, chapter "Frontend/Backend Protocol": "Message Formats", "Message Flow" (extended query: an
error skips to Sync; COPY: Sync is ignored in copy-in mode), "Pipelining". The largest start-up packet is
MAX_STARTUP_PACKET_LENGTH of src/include/libpq/pqcomm.h.
"""

from __future__ import annotations

from collections import deque
from struct import Struct

from .events import Direction, Transaction
from .statements import verbs_of
from .wire import ProtocolError, Seen, Wire

__all__ = ["PostgresWire"]

_INT = Struct("!i")
_START_UP = {80877102: "CancelRequest", 80877103: "SSLRequest", 80877104: "GSSENCRequest"}
_LARGEST_START_UP = 10000
_TLS_HANDSHAKE = 0x16  # the first byte of a client that begins with TLS at once (RFC 8446, section 5.1)
_CLIENT = {
    "B": "Bind", "C": "Close", "D": "Describe", "E": "Execute", "F": "FunctionCall", "H": "Flush", "P": "Parse",
    "Q": "Query", "S": "Sync", "X": "Terminate", "c": "CopyDone", "d": "CopyData", "f": "CopyFail",
    "p": "PasswordMessage",  # the SASL and GSS responses have the same letter
}  # fmt: skip
_SERVER = {
    "1": "ParseComplete", "2": "BindComplete", "3": "CloseComplete", "A": "NotificationResponse",
    "C": "CommandComplete", "D": "DataRow", "E": "ErrorResponse", "G": "CopyInResponse", "H": "CopyOutResponse",
    "I": "EmptyQueryResponse", "K": "BackendKeyData", "N": "NoticeResponse", "R": "Authentication",
    "S": "ParameterStatus", "T": "RowDescription", "V": "FunctionCallResponse", "W": "CopyBothResponse",
    "Z": "ReadyForQuery", "c": "CopyDone", "d": "CopyData", "n": "NoData", "s": "PortalSuspended",
    "t": "ParameterDescription", "v": "NegotiateProtocolVersion",
}  # fmt: skip
_CLIENT_KINDS = {ord(letter): kind for letter, kind in _CLIENT.items()}
_SERVER_KINDS = {ord(letter): kind for letter, kind in _SERVER.items()}
_AUTHENTICATION = {
    0: "AuthenticationOk", 2: "AuthenticationKerberosV5", 3: "AuthenticationCleartextPassword",
    5: "AuthenticationMD5Password", 7: "AuthenticationGSS", 8: "AuthenticationGSSContinue", 9: "AuthenticationSSPI",
    10: "AuthenticationSASL", 11: "AuthenticationSASLContinue", 12: "AuthenticationSASLFinal",
}  # fmt: skip
_STATUS = {ord("I"): Transaction.IDLE, ord("T"): Transaction.OPEN, ord("E"): Transaction.FAILED}
_EXTENDED = frozenset({"Parse", "Bind", "Describe", "Execute", "Close"})
_COPY = frozenset({"CopyData", "CopyDone", "CopyFail"})


class PostgresWire(Wire):
    """One connection to PostgreSQL."""

    def __init__(self) -> None:
        super().__init__()
        self._starting = True  # the client's next message has no letter
        self._negotiating = False  # the server's next message may be one byte
        self._last = 0
        self._unanswered = deque([0])
        self._building: int | None = None  # the request that waits for its Sync
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}

    def _size(self, direction: Direction, data: bytes, at: int) -> int:
        left = len(data) - at
        if direction is Direction.TO_SERVER and self._starting:
            if data[at] == _TLS_HANDSHAKE:
                return left
            if left < 4:
                return 0
            (size,) = _INT.unpack_from(data, at)
            if not 8 <= size <= _LARGEST_START_UP:
                raise ProtocolError(f"no client of PostgreSQL starts with {data[at : at + 8]!r}")
            return int(size)
        if direction is Direction.TO_CLIENT and self._negotiating and data[at] != ord("E"):
            return 1
        if left < 5:
            return 0
        (size,) = _INT.unpack_from(data, at + 1)
        if size < 4:
            raise ProtocolError(f"PostgreSQL has no message {data[at : at + 5]!r} {direction}")
        return int(size) + 1

    def _see(self, direction: Direction, data: bytes) -> Seen:
        if direction is Direction.TO_CLIENT:
            return self._see_server(data)
        return self._see_start_up(data) if self._starting else self._see_client(data)

    def _see_start_up(self, data: bytes) -> Seen:
        if data[0] == _TLS_HANDSHAKE:
            self._turn_opaque(0)
            return Seen(data, "Bytes")
        kind = _START_UP.get(_INT.unpack_from(data, 4)[0], "StartupMessage")
        self._negotiating = kind in {"SSLRequest", "GSSENCRequest"}
        self._starting = self._negotiating
        return Seen(data, kind)

    def _see_client(self, data: bytes) -> Seen:
        kind = _CLIENT_KINDS.get(data[0], "Unknown")
        if kind in _EXTENDED:
            text, verbs = self._note(kind, data)
            return Seen(data, kind, self._request(), text, verbs, hold=True)
        if kind in {"Query", "FunctionCall", "Sync"}:
            exchange = self._request()
            self._building = None
            if kind != "Query":
                return Seen(data, kind, exchange, ends=True)
            text = _text(data[5:-1])
            return Seen(data, kind, exchange, text, verbs_of(text), ends=True)
        if kind == "Flush":
            return Seen(data, kind, self._request())
        if kind in _COPY or self._unanswered == deque([0]):
            return Seen(data, kind, self._oldest(), asks=kind != "CopyData")
        return Seen(data, kind, None, asks=kind != "Terminate")

    def _see_server(self, data: bytes) -> Seen:
        if self._negotiating and len(data) == 1:
            self._negotiating = False
            if data in b"SG":
                self._turn_opaque(0)
            return Seen(data, "EncryptionResponse", 0, data.decode())
        kind = _SERVER_KINDS.get(data[0], "Unknown")
        exchange = self._unanswered[0] if self._unanswered else None
        if kind == "DataRow":
            return Seen(data, kind, exchange)
        if kind == "ReadyForQuery":
            if self._unanswered:
                self._unanswered.popleft()
            return Seen(data, kind, exchange, transaction=_STATUS.get(data[5]), ends=True)
        text = ""
        if kind == "CommandComplete":
            text = _text(data[5:-1])
        elif kind in {"ErrorResponse", "NoticeResponse"}:
            text = next((_text(field[1:]) for field in data[5:].split(b"\0") if field[:1] == b"C"), "")
        elif kind == "Authentication":
            kind = _AUTHENTICATION.get(_INT.unpack_from(data, 5)[0], kind)
        elif kind == "CopyInResponse" and self._building is None and self._extended == exchange:
            self._building = exchange  # the Sync that came with Execute is ignored; the one after CopyDone counts
        return Seen(data, kind, exchange, text)

    _extended: int | None = None  # the last request made of Parse, Bind, Execute

    def _request(self) -> int:
        """The request that the client is building; a new one if it builds none."""
        if self._building is None:
            self._last += 1
            self._building = self._last
            self._unanswered.append(self._last)
        return self._building

    def _oldest(self) -> int | None:
        return self._unanswered[0] if self._unanswered else None

    def _note(self, kind: str, data: bytes) -> tuple[str, tuple[str, ...]]:
        """Remember which SQL a statement and a portal have; what Execute will run."""
        self._extended = self._request()
        if kind == "Parse":
            name, sql, _ = data[5:].split(b"\0", 2)
            self._statements[name] = _text(sql)
            return self._statements[name], ()
        if kind == "Bind":
            portal, statement, _ = data[5:].split(b"\0", 2)
            self._portals[portal] = self._statements.get(statement, "")
        elif kind == "Execute":
            text = self._portals.get(data[5 : data.index(0, 5)], "")
            return text, verbs_of(text)
        return "", ()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
