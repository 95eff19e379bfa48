"""Why an endpoint cannot be reached, as a sentence: whatever a driver says, no secret is in it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from polysession._shell.reasons import explain
from polysession.failures import Kind
from polysession.topology import Address, Arguments, Endpoint

ENDPOINT = Endpoint(
    database="orders",
    address=Address("postgresql://app:p%40ss word@db1/orders?sslpassword=k3y-f1le&sslmode=require"),
    connect=Arguments({"options": "-c role=app", "nested": {"list": ["s3cret-one", 5]}, "flag": "on"}),
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("connection refused", "connection refused"),
        ("bad password 'p@ss word'", "bad password '***'"),
        ("postgresql://app:p%40ss%20word@db1", "postgresql://app:***@db1"),
        ("postgresql://app:p%40ss+word@db1", "postgresql://app:***@db1"),
        ("cannot read k3y-f1le for sslmode require at db1", "cannot read *** for sslmode require at db1"),
        ("unknown: s3cret-one", "unknown: ***"),
        ("the connection is on", "the connection is ***"),
        ("first failed: no\n\tIs the server running?\nsecond failed: no\n", "first failed: no; second failed: no"),
        ("", "ValueError"),
        ("x" * 400, "x" * 300 + " ..."),
    ],
)
def test_the_sentence(message: str, expected: str) -> None:
    """Secrets in every spelling are hidden, what the shown address has is not, and a long story is cut."""
    assert explain(ValueError(message), ENDPOINT) == (Kind.OTHER, expected)


def test_a_short_secret_is_hidden_as_a_word() -> None:
    """A password of one letter does not take this letter out of every word."""
    endpoint = Endpoint(database="x", address=Address("mysql://app:e@h/x"))
    assert explain(ValueError("the key e is wrong"), endpoint)[1] == "the key *** is wrong"


@pytest.mark.parametrize(
    ("error", "kind", "expected"),
    [
        (
            ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"),
            Kind.CONNECT_FAILED,
            "Connection refused",
        ),
        (OSError("no such host"), Kind.CONNECT_FAILED, "no such host"),
        (TypeError("unexpected keyword argument 'passwrd'"), Kind.OTHER, "'passwrd'"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the numbers of errors are those of Linux")
def test_what_no_driver_wrapped(error: Exception, kind: Kind, expected: str) -> None:
    """Errors of the operating system and of the call are understood too."""
    found: Any = explain(error, ENDPOINT)
    assert found[0] is kind
    assert found[1].endswith(expected)
