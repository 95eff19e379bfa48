"""Rows stay out of SQLAlchemy's log, as parameters do.

With its logger at DEBUG SQLAlchemy logs each row that it fetches; `hide_parameters` is for parameters only. An engine
with a name (`logging_name`) has a logger of its own below `sqlalchemy.engine` (SQLAlchemy documentation, "Engine
Configuration", "Setting the Logging Name"), and a filter of a logger is asked about its own records only (Python
documentation, "Filter Objects"). So engines that the application made log as they did.
"""

from __future__ import annotations

import logging
from typing import Final

from sqlalchemy.engine import Engine

__all__ = ["hide_rows"]

_ROW: Final = "Row %r"
"""How SQLAlchemy's record of a row begins (`sqlalchemy/engine/cursor.py`); before it may stand the name of a token."""
_HIDDEN: Final = "[row hidden, as parameters are]"


def hide_rows(engine: Engine) -> None:
    """Have the rows of a named engine replaced in its log."""
    logging.getLogger(f"sqlalchemy.engine.Engine.{engine.logging_name}").addFilter(
        _without_rows
    )  # a second time it does nothing


def _without_rows(record: logging.LogRecord) -> bool:
    if isinstance(record.msg, str) and record.msg.endswith(_ROW) and record.args:
        record.msg, record.args = record.msg.removesuffix(_ROW) + _HIDDEN, ()
    return True
