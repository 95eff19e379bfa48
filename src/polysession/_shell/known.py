"""Whether the SQLAlchemy that is here is one that was read.

What is not public in it is used only then; everything that uses some of it has another way, and asks here. A test
beside each fails where the code that was read for it is another one.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy

__all__ = ["IS_KNOWN", "VERSIONS"]

VERSIONS: Final = frozenset(("2.1.7", "2.1.8", "2.1.9"))
"""Those that were read: what is used of them is the same, letter by letter. Before them the attributes of a connection
are others (2.1.6, `Connection._has_events`); one that comes after them is used in its own ways until it was read."""
IS_KNOWN: Final = sqlalchemy.__version__ in VERSIONS
"""This is one of them."""
