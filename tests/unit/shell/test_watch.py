"""What is looked at before a statement is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from polysession import Sessions
from polysession._shell.watch import Watch
from polysession.errors import DeadlineExceeded


def test_telling_the_server_takes_time_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A unit whose deadline passes while the server is told of it sends nothing more."""

    def slow(watch: Watch, *_: Any) -> None:
        watch.deadline_at = 0.0

    monkeypatch.setattr(Watch, "_limit_statements", slow)
    with Sessions(f"sqlite:///{tmp_path / 'watch.db'}") as door:
        unit = door.begin(deadline=60)
        session: Any = unit.__enter__()
        with pytest.raises(DeadlineExceeded) as caught:
            session.execute(text("select 1"))
        assert session._polysession_holding.seen.statements == 0
        unit.__exit__(caught.type, caught.value, caught.tb)
