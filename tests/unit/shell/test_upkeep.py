"""What is done with new connections and with those that come back, by one listener for all pools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from polysession import Sessions
from polysession._shell import known


def test_this_sqlalchemy_is_known() -> None:
    """Its `create_engine` was read. For another version: compare `first_connect` there with `upkeep._initialize`, and
    what is listened for beside it with `Upkeep.connected`; then add it to `known.VERSIONS`."""
    assert known.IS_KNOWN


@pytest.mark.parametrize("is_known", [True, False])
def test_what_a_new_connection_is_told(tmp_path: Path, is_known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with an SQLAlchemy that is not known, which listens itself; the engine's own settings go first."""
    if not is_known:
        monkeypatch.setattr(known, "IS_KNOWN", False)
    with Sessions({"default": {"url": f"sqlite:///{tmp_path / 'new.db'}"}}) as door:
        with door.begin() as session:
            session.execute(sa.text("create table item (name text)"))
            session.execute(sa.text("insert into item values ('Anna')"))
            assert session.execute(sa.text("pragma foreign_keys")).scalar() == 1
            engine: Any = session.connection().engine
        with door.read() as session:
            assert session.execute(sa.text("pragma query_only")).scalar() == 1
            # a function that SQLAlchemy's dialect gives each new connection
            assert session.execute(sa.text("select name regexp '^A' from item")).scalar() == 1
        assert engine.dialect.server_version_info >= (3,)
        listeners = len(list(engine.pool.dispatch.connect.listeners)) if engine.pool.dispatch.connect else 0
        assert listeners == (0 if is_known else 3)


def test_listeners_of_an_application_are_heard(tmp_path: Path) -> None:
    """On an engine of ours, for each event, with each connection that is taken from then on."""
    heard: list[str] = []
    with Sessions(f"sqlite:///{tmp_path / 'heard.db'}") as door:
        with door.begin() as session:
            engine = session.connection().engine
            for name in ("connect", "checkout", "reset", "checkin"):
                event.listen(engine, name, lambda *_, name=name: heard.append(name))
        engine.dispose()
        with door.begin() as session:
            session.execute(sa.text("select 1"))
    # of the connection that was out when it was asked for, and of one from then on
    assert heard == ["reset", "checkin", "connect", "checkout", "reset", "checkin"]
