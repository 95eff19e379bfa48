"""The kinds of use for which an endpoint has an engine of its own, besides reading and writing (`options.Access`)."""

from __future__ import annotations

from typing import Final

__all__ = ["ASKING", "FREE", "REPEAT"]

FREE: Final = "free"
"""The kind of use of a session that its owner ends: nothing is known of what it will do."""
REPEAT: Final = "repeat"
"""The kind of use of a repeatable unit: on MariaDB its connections are told to refuse lost updates."""
ASKING: Final = "asking"
"""The kind of use of a connection that asks for an outcome."""
