"""Structs of msgspec whose attributes are set as those of any object with slots.

msgspec sets an attribute of a struct by a function of its own, which begins to track the struct for the garbage
collector if it has not done so; Python then looks for that attribute anew at each store, which takes ten times as long
as one that it has adapted itself to. What is tracked from its beginning needs none of that.
"""

from __future__ import annotations

from typing import Any, TypeVar

__all__ = ["stored_plainly"]

T = TypeVar("T")


def stored_plainly(struct: type[T]) -> type[T]:
    """The struct, whose instances must be tracked from their beginning: made with something that is."""
    changed: Any = struct
    changed.__setattr__, changed.__delattr__ = object.__setattr__, object.__delattr__
    return struct
