"""PostgreSQL's protocol, read by the proxy."""

from __future__ import annotations

import struct

import pytest

from polysession.testing.proxy import ProtocolError, Transaction
from polysession.testing.proxy.postgresql import PostgresWire

from .streams import CLIENT, SERVER, Talk, auth_ok, feed, pg, pg_start, rfq

START: Talk = [(SERVER, pg_start(80877103)), (CLIENT, b"N"), (SERVER, pg_start()), (CLIENT, auth_ok())]
EXTENDED = (
    pg("P", b"\0insert into t values ($1)\0" + bytes(2))
    + pg("B", b"\0\0" + bytes(6))
    + pg("D", b"P\0")
    + pg("E", b"\0" + bytes(4))
)
DONE = pg("1") + pg("2") + pg("n") + pg("C", b"INSERT 0 1\0")
TALK: Talk = [
    *START,
    (SERVER, pg("Q", b"BEGIN\0")),
    (CLIENT, pg("C", b"BEGIN\0") + rfq("T")),
    (SERVER, EXTENDED + pg("S")),
    (CLIENT, DONE + rfq("T")),
    (SERVER, pg("P", b"s\0COMMIT\0" + bytes(2)) + pg("B", b"p\0s\0" + bytes(6)) + pg("E", b"p\0" + bytes(4)) + pg("S")),
    (CLIENT, pg("1") + pg("2") + pg("C", b"COMMIT\0") + rfq()),
    (SERVER, pg("Q", b"select repeat('x', 300)\0")),
    (CLIENT, pg("T", bytes(30)) + pg("D", b"x" * 300) * 3 + pg("C", b"SELECT 3\0") + rfq()),
    (SERVER, pg("Q", b"nonsense\0")),
    (CLIENT, pg("E", b"SERROR\0C42601\0Msyntax error\0\0") + rfq("E")),
    (CLIENT, pg("A", bytes(10))),
    (SERVER, pg("X")),
]


@pytest.mark.parametrize("step", [*range(1, 40), 64, 1000])
def test_a_split_changes_nothing(step: int) -> None:
    """However the bytes are split, the same messages are seen, and together they are the bytes."""
    whole = feed(PostgresWire(), TALK)
    assert feed(PostgresWire(), TALK, step) == whole
    for direction in (SERVER, CLIENT):
        sent = b"".join(data for way, data in TALK if way is direction)
        assert b"".join(seen.data for way, seen in whole if way is direction) == sent


def test_every_two_parts() -> None:
    """A stream that is read in two parts, cut anywhere, gives the same messages."""
    for number, (direction, data) in enumerate(TALK):
        for at in range(len(data) + 1):
            talk = [*TALK[:number], (direction, data[:at]), (direction, data[at:]), *TALK[number + 1 :]]
            assert len(feed(PostgresWire(), talk)) == len(feed(PostgresWire(), TALK))


def test_kinds() -> None:
    """Messages have the names of the documentation, in both directions."""
    kinds = [seen.kind for _, seen in feed(PostgresWire(), TALK)]
    assert kinds[:8] == [
        "SSLRequest",
        "EncryptionResponse",
        "StartupMessage",
        "AuthenticationOk",
        "ParameterStatus",
        "BackendKeyData",
        "ReadyForQuery",
        "Query",
    ]
    assert kinds[10:15] == ["Parse", "Bind", "Describe", "Execute", "Sync"]
    assert kinds[-2:] == ["NotificationResponse", "Terminate"]


def test_requests_and_answers() -> None:
    """A request ends with Query or Sync, an answer with ReadyForQuery; what was not asked for belongs to none."""
    seen = feed(PostgresWire(), TALK)
    sizes: dict[int | None, list[int]] = {}
    for direction, one in seen:
        sizes.setdefault(one.exchange, [0, 0])[direction is CLIENT] += len(one.data)
    assert sizes[1] == [11, 11 + 6]
    assert sizes[2] == [len(EXTENDED) + 5, len(DONE) + 6]
    assert list(sizes) == [0, 1, 2, 3, 4, 5, None]
    assert [one.kind for _, one in seen if one.ends].count("ReadyForQuery") == 6
    assert [one.kind for way, one in seen if one.ends and way is SERVER] == ["Query", "Sync", "Sync", "Query", "Query"]
    assert [one.kind for _, one in seen if not one.asks] == ["Terminate"]


def test_what_requests_do() -> None:
    """The verbs stand at Query and at Execute, whatever the names of the statement and the portal are."""
    verbs = [(one.kind, one.verbs) for _, one in feed(PostgresWire(), TALK) if one.verbs]
    assert verbs == [
        ("Query", ("BEGIN",)),
        ("Execute", ("INSERT",)),
        ("Execute", ("COMMIT",)),
        ("Query", ("SELECT",)),
        ("Query", ("NONSENSE",)),
    ]


def test_what_the_server_says() -> None:
    """Tags, SQLSTATE and the state of the transaction are read."""
    seen = [one for way, one in feed(PostgresWire(), TALK) if way is CLIENT]
    assert [one.text for one in seen if one.kind == "CommandComplete"] == ["BEGIN", "INSERT 0 1", "COMMIT", "SELECT 3"]
    assert [one.text for one in seen if one.kind == "ErrorResponse"] == ["42601"]
    states = [one.transaction for one in seen if one.kind == "ReadyForQuery"]
    idle, open_, failed = Transaction.IDLE, Transaction.OPEN, Transaction.FAILED
    assert states == [idle, open_, open_, idle, idle, failed]


def test_pipelined_requests_are_answered_in_order() -> None:
    """Two requests in one flight: each message of the server belongs to the oldest that is not answered."""
    talk: Talk = [*START, (SERVER, EXTENDED + pg("S") + pg("Q", b"COMMIT\0")), (CLIENT, (DONE + rfq("T")) * 2)]
    seen = feed(PostgresWire(), talk)[len(feed(PostgresWire(), START)) :]
    assert [one.exchange for way, one in seen if way is SERVER] == [1] * 5 + [2]
    assert [one.exchange for way, one in seen if way is CLIENT] == [1] * 5 + [2] * 5


def test_flush_lets_go() -> None:
    """What comes before Flush is answered before Sync, in the same request."""
    talk: Talk = [*START, (SERVER, EXTENDED + pg("H")), (CLIENT, DONE), (SERVER, pg("S")), (CLIENT, rfq())]
    seen = feed(PostgresWire(), talk)[len(feed(PostgresWire(), START)) :]
    assert {one.exchange for _, one in seen} == {1}
    assert [one.kind for _, one in seen if one.hold] == ["Parse", "Bind", "Describe", "Execute"]
    assert [one.kind for _, one in seen if one.ends] == ["Sync", "ReadyForQuery"]


@pytest.mark.parametrize("extended", [True, False])
def test_copy_in_is_one_request(extended: bool) -> None:
    """COPY FROM STDIN has one answer, also where the Sync before the data is ignored by the server."""
    ask, end = (EXTENDED + pg("S"), pg("S")) if extended else (pg("Q", b"copy t from stdin\0"), b"")
    talk: Talk = [
        *START,
        (SERVER, ask),
        (CLIENT, pg("G", bytes(7))),
        (SERVER, pg("d", b"1\n") * 2 + pg("c") + end),
        (CLIENT, pg("C", b"COPY 2\0") + rfq()),
        (SERVER, pg("Q", b"COMMIT\0")),
        (CLIENT, pg("C", b"COMMIT\0") + rfq()),
    ]
    seen = feed(PostgresWire(), talk)[len(feed(PostgresWire(), START)) :]
    commit = [(way, one) for way, one in seen if one.exchange == 2]
    assert [one.kind for _, one in commit] == ["Query", "CommandComplete", "ReadyForQuery"]
    assert {one.exchange for _, one in seen} == {1, 2}


@pytest.mark.parametrize("first", [[(SERVER, pg_start(80877103)), (CLIENT, b"S")], [(SERVER, b"\x16\x03\x01")]])
def test_encryption_leaves_bytes(first: Talk) -> None:
    """After TLS was agreed, or begun at once, only bytes are seen; every flight of the client is a request."""
    talk: Talk = [*first, (SERVER, b"\x16\x03abc"), (CLIENT, b"\x17\x03"), (CLIENT, b"x"), (SERVER, b"Q")]
    seen = [one for _, one in feed(PostgresWire(), talk)][-4:]
    assert [(one.kind, one.data) for one in seen] == [
        ("Bytes", b"\x16\x03abc"),
        ("Bytes", b"\x17\x03"),
        ("Bytes", b"x"),
        ("Bytes", b"Q"),
    ]
    assert [one.exchange for one in seen] == [1, 1, 1, 2]


def test_the_rest_is_kept() -> None:
    """What is not a whole message is given back when its sender has ended."""
    wire = PostgresWire()
    feed(wire, START)
    assert wire.feed(SERVER, pg("Q", b"COMMIT\0")[:9]) == []
    assert wire.rest(SERVER) == pg("Q", b"COMMIT\0")[:9]
    assert wire.rest(SERVER) == wire.rest(CLIENT) == b""


@pytest.mark.parametrize(
    ("talk", "text"),
    [
        ([(SERVER, b"GET / HTTP/1.1\r\n")], "no client of PostgreSQL"),
        ([(SERVER, pg_start()), (CLIENT, b"\x4a\x00\x00\x00\x02\x0a")], "no message"),
    ],
)
def test_another_protocol_is_refused(talk: Talk, text: str) -> None:
    """Bytes that cannot be PostgreSQL's are refused with a sentence."""
    with pytest.raises(ProtocolError, match=text):
        feed(PostgresWire(), talk)


def test_a_cancel_request_is_seen() -> None:
    """The message that cancels a statement of another connection has its name."""
    ((_, seen),) = feed(PostgresWire(), [(SERVER, pg_start(80877102, struct.pack("!ii", 1, 2)))])
    assert (seen.kind, seen.exchange) == ("CancelRequest", 0)
