"""What the connections for reads judge with (`raw`): the judge of a text, and methods that ask it or refuse."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .. import dialects
from .readonly import refused
from .verdicts import Verdicts

__all__ = ["judge_of", "judging", "refusing"]


def judge_of(backend: str, *, from_driver: bool) -> Callable[[Any], None]:
    """Raises for a text that must not be sent."""
    reads = dialects.of(backend).reads
    verdicts = Verdicts(lambda text: reads.refusal(text, from_driver=from_driver))

    def judge(text: Any) -> None:
        if isinstance(text, bytes | bytearray):
            text = text.decode(errors="replace")
        what = verdicts[text] if isinstance(text, str) else "a text that cannot be judged"
        if what is not None:
            raise refused(what, None)

    return judge


def refusing(*names: str) -> dict[str, Callable[..., Any]]:
    """Methods that refuse."""

    def named(name: str) -> Callable[..., Any]:
        def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
            raise refused(f"{name}()", None)

        return refuse

    return {name: named(name) for name in names}


def judging(base: type, judge: Callable[[Any, Any], None], *names: str) -> dict[str, Callable[..., Any]]:
    """Methods of `base` that judge their first argument; coroutine functions are as before."""

    def named(name: str) -> Callable[..., Any]:
        method = getattr(base, name)

        @functools.wraps(method)
        def judged(self: Any, text: Any, *args: Any, **kwargs: Any) -> Any:
            judge(self, text)
            return method(self, text, *args, **kwargs)

        return judged

    return {name: named(name) for name in names}
