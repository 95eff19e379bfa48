"""Hand-made mistakes in the core, as replacements of source text: the control that the invariants must fail on."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from polysession._core import attempts, scope

__all__ = ["MUTANTS", "Mutant", "mutated"]

Mutant = tuple[str, str, str]
"""What is wrong with it, the text that is replaced (in `scope` or `attempts`, where it occurs), the mistake."""

MUTANTS: tuple[Mutant, ...] = (
    (
        "an unknown COMMIT is taken for a rollback",
        "    if not certain:\n        scope.state = change(scope.state, State.UNKNOWN)\n",
        "    if False:\n        scope.state = change(scope.state, State.UNKNOWN)\n",
    ),
    (
        "an error that cannot be classified counts as certain",
        "    certain, reason = False,",
        "    certain, reason = True,",
    ),
    (
        "COMMIT is classified as if nothing had been sent",
        "Classify(raised, Phase.COMMIT_SENT, name, scope.holding)",
        "Classify(raised, Phase.BODY, name, scope.holding)",
    ),
    (
        "the session is left open when the unit fails",
        (
            "        leaves = yield from _close(scope, scope.holding, leaves)\n"
            "        if scope.state is State.RESOLVING:  # its own connection is closed: no fence waits for it\n"
            "            leaves = yield from _find_out(scope, leaves)\n"
            "        finished = True\n"
            "    finally:\n"
            "        if not scope.closed:"
        ),
        (
            "        leaves = leaves or (yield from _close(scope, scope.holding, leaves))\n"
            "        if scope.state is State.RESOLVING:\n"
            "            leaves = yield from _find_out(scope, leaves)\n"
            "        finished = True\n"
            "    finally:\n"
            "        if False:"
        ),
    ),
    (
        "closing is not tried again when it was interrupted",
        "        if not isinstance(raised, Exception):  # it may not even have begun\n",
        "        if False:\n",
    ),
    (
        "a doomed unit commits",
        "    if scope.doom is not None:\n        raise _rolled_back(scope) from scope.doom\n    if scope.parts",
        "    if scope.parts",
    ),
    (
        "the failure of a joined unit is forgotten",
        "        _doom(root, error, scope.origin)  #",
        "        pass  #",
    ),
    (
        "a unit commits while one that joined it is open",
        "    if scope.parts and scope.options.access is Access.WRITE:\n",
        "    if False:\n",
    ),
    (
        "a joined unit is not told that it ended too late",
        "    if error is None and root.ended and scope.outcome is Outcome.ROLLED_BACK:\n",
        "    if False:\n",
    ),
    (
        "a savepoint is released after its unit has ended",
        "    if around.root.ended:  # and the savepoint with it\n",
        "    if False:\n",
    ),
    (
        "a unit joins the one of a suspended generator",
        "    here = [unit for unit in units if unit.home is None or unit.home in depth]\n",
        "    here = list(units)\n",
    ),
    (
        "an interrupt is lost when a generator is closed",
        "    return not isinstance(error, (Exception, GeneratorExit))\n",
        "    return not isinstance(error, Exception)\n",
    ),
    (
        "a joined unit ends the session",
        "    if scope.joined is not None:\n        return _leave_joined",
        "    if False:\n        return _leave_joined",
    ),
    (
        "a savepoint that cannot be returned to is forgotten",
        "        _doom(around, leaves or raised, scope.origin)\n",
        "",
    ),
    (
        "a savepoint that cannot be set is forgotten",
        "        _doom(around, raised, scope.origin)\n",
        "",
    ),
    (
        "a failed savepoint takes the outer session with it",
        "    try:\n        savepoint = yield Savepoint(around.holding)\n",
        "    scope.holding = around.holding\n    try:\n        savepoint = yield Savepoint(around.holding)\n",
    ),
    (
        "a broken connection goes back to the pool",
        "            leaves = _graver(leaves, raised)\n            broken = True\n",
        "            leaves = _graver(leaves, raised)\n",
    ),
    (
        "after an unknown COMMIT the connection goes back to the pool",
        "    broken = scope.state in (State.UNKNOWN, State.RESOLVING)\n",
        "    broken = False\n",
    ),
    (
        "the last error leaves instead of the first",
        "        return later\n    return first\n",
        "        return later\n    return later\n",
    ),
    (
        "an interrupt during the end is swallowed",
        "    if first is None or (_is_interrupt(later) and not _is_interrupt(first)):\n",
        "    if first is None:\n",
    ),
    (
        "the second database is committed after the first refused",
        "            yield from _commit_failed(scope, name, raised)\n",
        "            if scope.committed:\n                yield from _commit_failed(scope, name, raised)\n",
    ),
    (
        "a partial commit is taken for a rollback",
        "    if scope.committed:\n        scope.state = change(scope.state, State.PARTIAL)\n",
        "    if False:\n        scope.state = change(scope.state, State.PARTIAL)\n",
    ),
    (
        "pending work is not sent before COMMIT, but after",
        "    yield Flush(holding)\n",
        "    scope.state = State.COMMITTING\n    yield Flush(holding)\n    scope.state = State.FLUSHING\n",
    ),
    (
        "a released savepoint is reported as committed at once",
        "    scope.joined = around\n    scope.state = change(scope.state, State.HANDED_OVER)\n",
        "    scope.state = State.COMMITTED\n",
    ),
    (
        "a unit without a transaction is reported as rolled back",
        "State.CLOSED if scope.plain else State.ROLLED_BACK",
        "State.ROLLED_BACK",
    ),
    (
        "a unit joins one that has no transaction",
        "    if around is not None and around.plain:\n",
        "    if False:\n",
    ),
    (
        "an error after COMMIT does not say so",
        "        if leaves is None:\n            raised.add_note(",
        "        if False:\n            raised.add_note(",
    ),
    (
        "only a unit of unknown outcome is not repeated",
        "    undone = scope.outcome is Outcome.ROLLED_BACK\n",
        "    undone = scope.outcome is not Outcome.UNKNOWN\n",
    ),
    (
        "a unit is repeated whatever came of it",
        "    undone = scope.outcome is Outcome.ROLLED_BACK\n",
        "    undone = True\n",
    ),
    (
        "a part of another unit is repeated",
        "            if not scope.whole:\n                raise\n",
        "",
    ),
    (
        "a unit that ended stays in the line",
        "        runner.turn.leave()\n",
        "        pass\n",
    ),
    (
        "an attempt that failed is not left with its error",
        "            if scope.holding is not None:\n                yield from leave_steps(scope, error)\n",
        "            if False:\n                yield from leave_steps(scope, error)\n",
    ),
)


@contextmanager
def mutated(before: str, after: str) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Copies of `scope` and `attempts` in which `before` reads `after`; the real ones stay as they are."""
    sources = {module.__name__: inspect.getsource(module) for module in (scope, attempts)}
    places = [name for name, source in sources.items() if before in source]
    assert len(places) == 1, f"the text of this mutant is in {places or 'no module'}: {before!r}"
    assert sources[places[0]].count(before) == 1, f"the text of this mutant is there more than once: {before!r}"
    sources[places[0]] = sources[places[0]].replace(before, after)
    sources[attempts.__name__] = (
        sources[attempts.__name__]
        .replace("from .scope import", "from .scope_mutated import")
        .replace("from .steps import", "from .states import State\nfrom .steps import")
    )
    made = []
    try:
        for name, source in sources.items():
            module = ModuleType(f"{name}_mutated")
            module.__package__ = name.rpartition(".")[0]
            sys.modules[module.__name__] = module
            exec(compile(source, f"<mutated {name}>", "exec"), module.__dict__)  # noqa: S102  # our own source
            made.append(module)
        yield made[0], made[1]
    finally:
        for name in sources:
            sys.modules.pop(f"{name}_mutated", None)
