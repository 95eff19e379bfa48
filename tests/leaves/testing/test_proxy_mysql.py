"""The protocol of MySQL and MariaDB, read by the proxy."""

from __future__ import annotations

import struct

import pytest

from polysession.testing.proxy import ProtocolError, Transaction
from polysession.testing.proxy.mysql import MySQLWire

from .streams import CLIENT, SERVER, Talk, feed, greeting, log_in, ok, packet

DEPRECATE_EOF, QUERY_ATTRIBUTES, IN_TRANSACTION, MORE = 1 << 24, 1 << 27, 0x0001, 0x0008
COLUMN = packet(b"\x03def\x00\x00\x00\x01n\x01n\x0c" + bytes(12))


def start(abilities: int = 1 << 9, extended: int = 0) -> Talk:
    """The log-in."""
    return [(CLIENT, greeting()), (SERVER, log_in(abilities, extended)), (CLIENT, ok())]


def query(sql: str) -> bytes:
    """COM_QUERY."""
    return packet(b"\x03" + sql.encode())


def eof(status: int = 0x0002) -> bytes:
    """An EOF packet."""
    return packet(struct.pack("<BHH", 0xFE, 0, status))


def table(rows: int, *, columns: int = 2, status: int = 2, without_eof: bool = False) -> bytes:
    """A result set of text rows."""
    middle, end = (b"", ok(status, header=0xFE)) if without_eof else (eof(status), eof(status))
    return packet(bytes([columns])) + COLUMN * columns + middle + packet(b"\x011" * columns) * rows + end


def talk(*, without_eof: bool) -> Talk:
    """A session with every kind of answer."""

    def answer(rows: int, status: int = 2) -> bytes:
        return table(rows, status=status, without_eof=without_eof)

    between = b"" if without_eof else eof()
    prepared = packet(b"\x00" + struct.pack("<IHHBH", 7, 1, 2, 0, 0)) + COLUMN * 2 + between + COLUMN + between
    return [
        *start(DEPRECATE_EOF if without_eof else 1 << 9),
        (SERVER, packet(b"\x0e")),
        (CLIENT, ok()),
        (SERVER, query("begin")),
        (CLIENT, ok(IN_TRANSACTION)),
        (SERVER, query("select * from t")),
        (CLIENT, answer(3, IN_TRANSACTION)),
        (SERVER, packet(b"\x16update t set n = ? where m = ?")),
        (CLIENT, prepared),
        (SERVER, packet(b"\x18" + struct.pack("<IH", 7, 0) + b"long")),
        (SERVER, packet(b"\x17" + struct.pack("<IBI", 7, 0, 1) + bytes(9))),
        (CLIENT, ok(IN_TRANSACTION)),
        (SERVER, packet(b"\x19" + struct.pack("<I", 7))),
        (SERVER, query("call p(); commit")),
        (CLIENT, answer(1, MORE) + ok(MORE) + packet(b"\xff\xff\xff\x01progress") + ok()),
        (SERVER, query("nonsense")),
        (CLIENT, packet(b"\xff" + struct.pack("<H", 1064) + b"#42000syntax")),
        (SERVER, packet(b"\x09")),
        (CLIENT, packet(b"Uptime: 1")),
        (SERVER, query("load data local infile 'x' into table t")),
        (CLIENT, packet(b"\xfbx")),
        (SERVER, packet(b"1\n") + packet(b"")),
        (CLIENT, ok()),
        (SERVER, packet(b"\x11app\0")),
        (CLIENT, packet(b"\xfemysql_native_password\0" + bytes(20))),
        (SERVER, packet(bytes(20))),
        (CLIENT, ok()),
        (SERVER, query("select " + "1," * 200 + "1")),
        (CLIENT, answer(0)),
        (SERVER, packet(b"\x01")),
    ]


@pytest.mark.parametrize("without_eof", [False, True])
@pytest.mark.parametrize("step", [*range(1, 40), 64, 1000])
def test_a_split_changes_nothing(step: int, without_eof: bool) -> None:
    """However the bytes are split, the same messages are seen, and together they are the bytes."""
    said = talk(without_eof=without_eof)
    whole = feed(MySQLWire(), said)
    assert feed(MySQLWire(), said, step) == whole
    for direction in (SERVER, CLIENT):
        sent = b"".join(data for way, data in said if way is direction)
        assert b"".join(seen.data for way, seen in whole if way is direction) == sent


@pytest.mark.parametrize("without_eof", [False, True])
def test_requests_and_answers(without_eof: bool) -> None:
    """Each command has one answer, and each answer ends with its last packet."""
    seen = feed(MySQLWire(), talk(without_eof=without_eof))
    asked = [(one.exchange, one.kind) for way, one in seen if way is SERVER and one.ends]
    answered = [(one.exchange, one.kind) for way, one in seen if way is CLIENT and one.ends]
    last = "OK" if without_eof else "EOF"
    assert answered == [
        (0, "OK"),
        (1, "OK"),
        (2, "OK"),
        (3, last),
        (4, "ColumnDefinition" if without_eof else "EOF"),
        (5, "OK"),
        (6, "OK"),
        (7, "ERR"),
        (8, "Statistics"),
        (9, "OK"),
        (10, "OK"),
        (11, last),
    ]
    assert [number for number, _ in asked] == list(range(1, 12))
    unasked = [one.kind for way, one in seen if way is SERVER and one.exchange is None]
    assert unasked == ["COM_STMT_SEND_LONG_DATA", "COM_STMT_CLOSE", "COM_QUIT"]


def test_what_requests_do() -> None:
    """The verbs stand at the queries, and at the execution of what was prepared."""
    seen = [one for _, one in feed(MySQLWire(), talk(without_eof=False)) if one.verbs]
    assert [(one.kind, one.verbs) for one in seen][:4] == [
        ("COM_QUERY", ("BEGIN",)),
        ("COM_QUERY", ("SELECT",)),
        ("COM_STMT_EXECUTE", ("UPDATE",)),
        ("COM_QUERY", ("CALL", "COMMIT")),
    ]


def test_what_the_server_says() -> None:
    """Error numbers and the state of the transaction are read."""
    seen = [one for way, one in feed(MySQLWire(), talk(without_eof=False)) if way is CLIENT]
    assert [one.text for one in seen if one.kind == "ERR"] == ["1064"]
    states = [one.transaction for one in seen if one.kind == "OK" and one.exchange in {1, 2, 5, 6}]
    idle, open_ = Transaction.IDLE, Transaction.OPEN
    assert states == [idle, open_, open_, idle, idle]


def test_rows() -> None:
    """Rows are told from the packets that frame them, in text and binary, empty or long."""
    said = [*start(), (SERVER, query("select x")), (CLIENT, table(2, columns=1) + ok())]
    kinds = [one.kind for way, one in feed(MySQLWire(), said) if way is CLIENT][2:]
    assert kinds == ["ColumnCount", "ColumnDefinition", "EOF", "Row", "Row", "EOF", "Unknown"]
    long = packet(b"\xfe" + (1 << 24).to_bytes(8, "little") + bytes(1 << 24))
    said = [*start(), (SERVER, query("select x")), (CLIENT, packet(b"\x01") + COLUMN + eof() + long + eof())]
    seen = feed(MySQLWire(), said, 1 << 16)
    assert [one.kind for _, one in seen][-2:] == ["Row", "EOF"]
    assert seen[-2][1].data == long


def test_a_command_longer_than_a_packet() -> None:
    """A command in several packets is one message, with its whole text."""
    sql = "insert into t values ('" + "x" * (1 << 24) + "'); commit"
    seen = feed(MySQLWire(), [*start(), (SERVER, query(sql))], 1 << 16)
    assert len(seen) == 4
    assert seen[-1][1].verbs == ("INSERT", "COMMIT")
    assert seen[-1][1].text == sql


def test_cached_metadata() -> None:
    """MariaDB leaves column definitions out when both sides agreed to remember them."""
    said = [
        *start(extended=1 << 4),
        (SERVER, packet(b"\x17" + struct.pack("<IBI", 1, 0, 1))),
        (CLIENT, packet(b"\x01\x00") + eof() + packet(b"\x00\x00\x01") + eof()),
    ]
    kinds = [one.kind for _, one in feed(MySQLWire(), said)][-4:]
    assert kinds == ["ColumnCount", "EOF", "Row", "EOF"]


def test_execution_sent_with_its_preparation() -> None:
    """MariaDB's "the statement that was prepared last" finds its text before the preparation is answered."""
    run = packet(b"\x17" + struct.pack("<IBI", 0xFFFFFFFF, 0, 1))
    seen = feed(MySQLWire(), [*start(), (SERVER, packet(b"\x16commit") + run)])
    assert seen[-1][1].verbs == ("COMMIT",)


def test_query_attributes() -> None:
    """MySQL's queries without attributes are read; with attributes they are passed on unread."""
    said = [*start(QUERY_ATTRIBUTES), (SERVER, packet(b"\x03\x00\x01commit")), (CLIENT, ok())]
    assert feed(MySQLWire(), said)[3][1].verbs == ("COMMIT",)
    said = [*start(QUERY_ATTRIBUTES), (SERVER, packet(b"\x03\x01\x01\x00\x01" + b"xcommit"))]
    assert feed(MySQLWire(), said)[3][1].text == ""


def test_replication_has_no_end() -> None:
    """The answer to a replica's request for the log never ends."""
    said = [*start(), (SERVER, packet(b"\x12" + bytes(10))), (CLIENT, packet(b"\x00" + bytes(30)) * 3)]
    seen = [one for _, one in feed(MySQLWire(), said)][-3:]
    assert [(one.kind, one.ends) for one in seen] == [("BinlogEvent", False)] * 3


@pytest.mark.parametrize("abilities", [1 << 11, 1 << 5])
def test_encryption_and_compression_leave_bytes(abilities: int) -> None:
    """After TLS or compression was agreed only bytes are seen."""
    first = packet(struct.pack("<IIB23x", abilities, 1 << 24, 45), 1) if abilities == 1 << 11 else log_in(abilities)
    said: Talk = [(CLIENT, greeting()), (SERVER, first)]
    said = [*said, (CLIENT, ok())] if abilities == 1 << 5 else said
    seen = feed(MySQLWire(), [*said, (SERVER, b"\x16\x03"), (CLIENT, b"\x17")])
    assert [(one.kind, one.data) for _, one in seen[-2:]] == [("Bytes", b"\x16\x03"), ("Bytes", b"\x17")]


def test_a_server_that_refuses() -> None:
    """A server with too many connections greets with an error."""
    ((_, seen),) = feed(MySQLWire(), [(CLIENT, packet(b"\xff" + struct.pack("<H", 1040) + b"Too many connections"))])
    assert (seen.kind, seen.text, seen.ends) == ("ERR", "1040", True)


def test_another_protocol_is_refused() -> None:
    """Bytes that cannot be MySQL's are refused with a sentence."""
    with pytest.raises(ProtocolError, match="no server of MySQL greets"):
        feed(MySQLWire(), [(CLIENT, packet(b"HTTP/1.1 200 OK"))])
