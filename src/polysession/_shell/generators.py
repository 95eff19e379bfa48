"""In the body of which generator a unit is opened, and which of those run now. Looks at frames; decides nothing.

A generator shares the context variables of whoever runs it, so a unit that is open in its body would be open for the
code beside it too, while it is suspended (PEP 567, "Generators"; what PEP 568 would have changed). That code would work
in a transaction that ends when somebody drops the generator. So a unit has a *home*: the generator in whose body it was
opened. It is open for what runs inside of its home.

The body of a context manager is no home: `@contextmanager` suspends the generator while the block runs, and the block
is where the unit is wanted. The same goes for the generators that a framework runs as set-up and tear-down.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR, CO_ITERABLE_COROUTINE
from types import CodeType, FrameType
from typing import Final

from greenlet import getcurrent

__all__ = ["Home", "home", "is_left_in_time", "running", "stack"]


class Home:
    """A generator, by its frame. Equal to another look at the same one.

    The frame itself would keep alive what the body holds, and cannot be referred to weakly. Its number is unique as
    long as the generator has not ended; a unit that outlives its generator, because it was entered by hand, may be
    taken for one of a later call of the same function.
    """

    __slots__ = ("code", "frame")

    def __init__(self, frame: FrameType) -> None:
        self.frame = id(frame)
        self.code = frame.f_code

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Home) and self.frame == other.frame and self.code is other.code

    def __hash__(self) -> int:
        return self.frame


_ENTERS: Final = frozenset({"__enter__", "__aenter__", "enter_context", "enter_async_context"})
"""Functions that return while what they entered stays open: context managers, and the stacks of `contextlib`."""
_GENERATES: Final = CO_GENERATOR | CO_ASYNC_GENERATOR
_SETS_UP: Final = frozenset(
    {
        ("_pytest.fixtures", "call_fixture_func"),  # pytest 9, src/_pytest/fixtures.py
        ("anyio._backends._asyncio", "_run_tests_and_fixtures"),  # anyio 4, src/anyio/_backends/_asyncio.py
        ("litestar._kwargs.dependencies", "resolve_dependency"),  # litestar 2, litestar/_kwargs/dependencies.py
        ("litestar.utils.compat", "async_next"),  # litestar 2, the same for asynchronous generators
    }
)
"""Functions of frameworks that advance a generator to its one `yield`, and end it when the work around is done."""


def home(opener: FrameType) -> Home | None:
    """The generator in whose body the code of `opener` opens a unit; None if no generator can be suspended there.

    Only looked for where the unit can outlive the call of `opener`: in a function that enters for its caller, and in a
    generator itself. A `with` block of any other function has ended before what called it can be suspended.
    """
    if is_left_in_time(opener.f_code):
        return None
    frame: FrameType | None = opener
    while frame is not None:
        if _is_generator(frame.f_code) and not _is_set_up(frame) and not _is_delegated_to(frame):
            return Home(frame)
        frame = frame.f_back
    return None


def is_left_in_time(code: CodeType) -> bool:
    """A block in it is left before what calls it can be suspended: it is no generator and enters nothing for others."""
    return not (code.co_flags & _GENERATES and _is_generator(code)) and code.co_name not in _ENTERS


def running(homes: Iterable[Home]) -> tuple[Home, ...]:
    """Those of `homes` that are on the stack of this thread or task, the innermost first."""
    wanted = {each.frame: each for each in homes}
    found = []
    for frame in stack(sys._getframe(1)):
        each = wanted.get(id(frame))
        if each is not None and each.code is frame.f_code:
            found.append(each)
    return tuple(found)


def stack(top: FrameType) -> Iterator[FrameType]:
    """The frames of what runs in this thread or task, from `top` on, the innermost first."""
    frame: FrameType | None = top
    greenlet = None
    while frame is not None:
        yield frame
        above = frame.f_back
        if above is None:
            # SQLAlchemy's asyncio code runs below a greenlet: the frames above are those of its parent
            greenlet = (greenlet or getcurrent()).parent
            above = greenlet.gr_frame if greenlet is not None else None
        frame = above


def _is_generator(code: CodeType) -> bool:
    return bool(code.co_flags & _GENERATES) and not code.co_flags & CO_ITERABLE_COROUTINE


def _is_set_up(frame: FrameType) -> bool:
    """Its caller runs it as the body of a context manager, or as set-up and tear-down."""
    caller = frame.f_back
    if caller is None:
        return False
    name = caller.f_code.co_name
    return name in _ENTERS or (caller.f_globals.get("__name__"), name) in _SETS_UP


def _is_delegated_to(frame: FrameType) -> bool:
    """A generator above it says `yield from`: the two are suspended together, and the upper one counts."""
    caller = frame.f_back
    if caller is None or not _is_generator(caller.f_code):
        return False
    from opcode import opmap  # imported when a generator runs in a generator

    code, at = caller.f_code.co_code, caller.f_lasti
    while code[at] == opmap["CACHE"] and at > 0:  # Python 3.12 points behind SEND, at the room that it has for itself
        at -= 2
    return code[at] == opmap["SEND"]
