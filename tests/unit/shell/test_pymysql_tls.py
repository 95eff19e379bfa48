"""The context of PyMySQL's TLS is made once, where nothing is asked of it."""

from __future__ import annotations

import ssl
from typing import Any

import pymysql.connections
import pytest

from polysession._shell import pymysql_tls
from polysession._shell.pymysql_tls import sharing


def opened(cls: Any, **asked: Any) -> Any:
    """A connection that is not connected."""
    return cls(defer_connect=True, **asked)


def test_one_context_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control makes one each time. If this fails, PyMySQL makes its contexts elsewhere, which must be looked at."""
    plain = pymysql.connections.Connection
    assert opened(plain).ctx is not opened(plain).ctx
    monkeypatch.setattr(pymysql_tls, "_shared", [])
    first = opened(sharing(plain))
    assert first.ctx is opened(sharing(plain)).ctx
    assert (first.ctx.verify_mode, first.ssl, first._ssl_required) == (ssl.CERT_NONE, True, False)


def test_what_is_asked_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options make a context of their own; one of the caller's is used as it is; without TLS there is none."""
    cls = sharing(pymysql.connections.Connection)
    given = ssl.create_default_context()
    assert opened(cls, ssl=given).ctx is given
    checking = opened(cls, ssl_verify_cert=True, ssl_verify_identity=True)
    assert checking.ctx is not opened(cls).ctx
    assert checking.ctx.check_hostname or checking.ctx.verify_mode is not ssl.CERT_NONE
    assert not opened(cls, ssl_disabled=True).ssl


def test_one_that_checks_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no options come to mean that certificates are checked, each connection has its own again."""
    monkeypatch.setattr(pymysql_tls, "_shared", [])

    class Checking(pymysql.connections.Connection):  # type: ignore[misc]  # the driver has no types
        def _create_ssl_ctx(self, options: Any) -> Any:
            return ssl.create_default_context()

    assert opened(sharing(Checking)).ctx is not opened(sharing(Checking)).ctx
