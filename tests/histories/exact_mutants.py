"""Hand-made mistakes in how the outcome of a lost COMMIT is found out: the control that `wrongs` must fail on."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from polysession._core import attempts, outcome, scope

__all__ = ["EXACT_MUTANTS", "Mutant", "mutated_exact"]

Mutant = tuple[str, str, str]
"""What is wrong with it, the text that is replaced (in `outcome`, `scope` or `attempts`), the mistake."""

_ABSENT = "    if marked.server not in (0, link.server):\n"
_REASON = "it is not in this database, but ran in another one or on another server"
_LOSS = f'        return Verdict(Outcome.LOST, "{_REASON}")\n'
_FOUND = '            return Verdict(Outcome.COMMITTED, "its row is there")\n'

EXACT_MUTANTS: tuple[Mutant, ...] = (
    # what a row says
    (
        "a fence's own row is taken for the unit's",
        "        case (verdict, _) if verdict == ABORTED:\n            return _absent(link, marked)\n",
        f"        case (verdict, _) if verdict == ABORTED:\n{_FOUND}",
    ),
    (
        "any row of the id is the unit's",
        "    row = yield ReadVerdict(link, marked.unit)\n",
        "    return Verdict(Outcome.COMMITTED, '')\n    row = yield ReadVerdict(link, marked.unit)\n",
    ),
    (
        "the unit's row is taken for a fence's",
        _FOUND,
        "            return _absent(link, marked)\n",
    ),
    (
        "another unit's claim of the key is taken for this one's",
        '            if marked.attempt in ("", attempt):\n',
        "            if True:\n",
    ),
    (
        "the unit's own claim is taken for another one's",
        '            if marked.attempt in ("", attempt):\n',
        "            if False:\n",
    ),
    (
        "a duplicate is taken for a rollback",
        "            return (yield from _read(link, marked))\n",
        "            return _absent(link, marked)\n",
    ),
    (
        "a duplicate says nothing",
        "        if failure.kind is Kind.DUPLICATE:\n",
        "        if False:\n",
    ),
    # what a fence proves
    (
        "a fence that was not committed proves something",
        "    if not unit_ids.is_key(marked.unit):\n        yield Seal(link)\n",
        "",
    ),
    (
        "the fence of a key is committed",
        "    if not unit_ids.is_key(marked.unit):\n        yield Seal(link)\n",
        "    yield Seal(link)\n",
    ),
    (
        "the row is read without a fence",
        "        yield Fence(link, marked.unit, wait)\n    except Exception as error:\n",
        (
            "        if (yield ReadVerdict(link, marked.unit)) is None:\n"
            "            return _absent(link, marked)\n"
            "        yield Fence(link, marked.unit, wait)\n"
            "    except Exception as error:\n"
        ),
    ),
    (
        "no fence is written, only the row is read",
        "        yield Fence(link, marked.unit, wait)\n    except Exception as error:\n",
        (
            "        row = yield ReadVerdict(link, marked.unit)\n"
            "        return _absent(link, marked) if row is None else (yield from _read(link, marked))\n"
            "    except Exception as error:\n"
        ),
    ),
    (
        "a fence that failed proves a rollback",
        '        return _Again(f"the fence failed: {failure.reason}")\n',
        "        return _absent(link, marked)\n",
    ),
    (
        "a fence that failed proves a commit",
        '        return _Again(f"the fence failed: {failure.reason}")\n',
        '        return Verdict(Outcome.COMMITTED, "")\n',
    ),
    (
        "a fence that had no lock proves a rollback",
        "            return (yield from _blocked(link, marked, earlier))\n",
        "            return _absent(link, marked)\n",
    ),
    (
        "a fence that had no lock proves a commit",
        "            return (yield from _blocked(link, marked, earlier))\n",
        '            return Verdict(Outcome.COMMITTED, "")\n',
    ),
    (
        "a fence that succeeded proves a commit",
        "        yield Seal(link)\n    return _absent(link, marked)\n",
        '        yield Seal(link)\n    return Verdict(Outcome.COMMITTED, "")\n',
    ),
    # the history of the server
    ("a failover is not noticed", _ABSENT, "    if False:\n"),
    ("every absence is a loss", _ABSENT, "    if True:\n"),
    (
        "a server that is not the unit's proves a rollback",
        _LOSS,
        '        return Verdict(Outcome.ROLLED_BACK, "")\n',
    ),
    (
        "a loss is reported as a commit",
        _LOSS,
        '        return Verdict(Outcome.COMMITTED, "")\n',
    ),
    # what keeps a fence waiting
    (
        "an idle connection is waited for until time is over",
        "    if doing is Doing.IDLE:\n        yield Evict(link, marked.backend)\n",
        "    if doing is Doing.IDLE:\n",
    ),
    (
        "a connection that works is ended",
        "    if doing is Doing.IDLE:\n",
        "    if doing in (Doing.IDLE, Doing.RUNNING):\n",
    ),
    (
        "a connection that waits for a standby is ended",
        "    if doing is Doing.REPLICATING:\n        return _Again(\n",
        "    if doing is Doing.REPLICATING:\n        yield Evict(link, marked.backend)\n        return _Again(\n",
    ),
    (
        "who ended an idle connection takes it for a rollback at once, and for whoever else has the id",
        '        return _Again("its connection was idle, and had to be ended")\n',
        '        return Verdict(Outcome.COMMITTED, "")\n',
    ),
    (
        "an earlier fence that was left behind is never ended",
        "    for backend in earlier:\n",
        "    for backend in ():\n",
    ),
    (
        "earlier fences are forgotten",
        "    earlier.append(link.backend)\n",
        "",
    ),
    (
        "a commit that no standby has is not told",
        "        if left <= 0:\n            return last.local or Verdict(",
        "        if left <= 0:\n            return Verdict(",
    ),
    (
        "replication is reported as confirmed",
        ", unreplicated=True),\n",
        "),\n",
    ),
    (
        "a wait for a standby is remembered when the server is gone",
        "        last = found\n",
        "        last = last if last.local is not None else found\n",
    ),
    # asking
    (
        "the first failure to connect ends the asking",
        '        return _Again(f"no connection was had for asking: {type(error).__name__}")\n',
        '        return Verdict(Outcome.UNKNOWN, "")\n',
    ),
    (
        "no connection proves a rollback",
        '        return _Again(f"no connection was had for asking: {type(error).__name__}")\n',
        '        return Verdict(Outcome.ROLLED_BACK, "")\n',
    ),
    (
        "an error while asking ends the asking",
        '        found = _Again(f"asking failed: {type(error).__name__}")\n',
        '        found = Verdict(Outcome.UNKNOWN, "")\n',
    ),
    (
        "an error while asking proves a rollback",
        '        found = _Again(f"asking failed: {type(error).__name__}")\n',
        '        found = Verdict(Outcome.ROLLED_BACK, "")\n',
    ),
    (
        "when time is over it was rolled back",
        "            return last.local or Verdict(Outcome.UNKNOWN, last.reason)\n",
        "            return last.local or Verdict(Outcome.ROLLED_BACK, last.reason)\n",
    ),
    (
        "links are left open",
        "    later = yield from _hang_up(link)\n",
        "    later = None\n",
    ),
    (
        "an interrupt while asking is swallowed",
        "    interrupt = interrupt or later\n",
        "    interrupt = later\n",
    ),
    (
        "an interrupt while hanging up is swallowed",
        "    interrupt = interrupt or later\n",
        "",
    ),
    # the unit around it
    (
        "the database is asked before the unit's connection is closed",
        "        scope.state = change(scope.state, State.RESOLVING)\n        raise raised\n",
        (
            "        scope.state = change(scope.state, State.RESOLVING)\n"
            "        left = yield from _find_out(scope, raised)\n"
            "        if left is None:\n"
            "            return\n"
            "        raise left\n"
        ),
    ),
    (
        "an unknown COMMIT of an exact unit is not asked for",
        "    if not certain and scope.options.exact:\n",
        "    if False:\n",
    ),
    (
        "a certain refusal is taken for a lost answer, and a lost answer for a certain refusal",
        "    if not certain and scope.options.exact:\n",
        "    if certain and scope.options.exact:\n",
    ),
    (
        "an exact unit whose COMMIT was interrupted is not asked for",
        "State.RESOLVING if scope.options.exact else State.UNKNOWN",
        "State.UNKNOWN",
    ),
    (
        "the connection of a lost COMMIT goes back to the pool and stays open",
        "    broken = scope.state in (State.UNKNOWN, State.RESOLVING)\n",
        "    broken = scope.state is State.UNKNOWN\n",
    ),
    (
        "a unit that has committed leaves with the error of its link",
        "        case Outcome.COMMITTED:\n            return None\n",
        "        case Outcome.COMMITTED:\n            return leaves\n",
    ),
    (
        "a unit that was rolled back leaves without an error",
        "            return leaves\n        case Outcome.LOST:\n",
        "            return None\n        case Outcome.LOST:\n",
    ),
    (
        "a lost unit is taken for rolled back, and repeated",
        "    Outcome.LOST: State.LOST,\n",
        "    Outcome.LOST: State.ROLLED_BACK,\n",
    ),
    (
        "an unknown unit is taken for rolled back, and repeated",
        "    Outcome.UNKNOWN: State.UNKNOWN,\n}",
        "    Outcome.UNKNOWN: State.ROLLED_BACK,\n}",
    ),
    (
        "asking that is interrupted ends in a rollback",
        '        verdict = Verdict(Outcome.UNKNOWN, f"asking ended in {type(raised).__name__}")\n',
        '        verdict = Verdict(Outcome.ROLLED_BACK, f"asking ended in {type(raised).__name__}")\n',
    ),
    (
        "a COMMIT that was never sent is taken for done",
        '            verdict = Verdict(Outcome.ROLLED_BACK, "COMMIT was not sent, or there was nothing to commit")\n',
        '            verdict = Verdict(Outcome.COMMITTED, "")\n',
    ),
    (
        "nobody sees to it that there is a table",
        "            if transaction and scope.options.exact:\n",
        "            if False:\n",
    ),
    (
        "a key is not claimed",
        "            if scope.options.key is not None:\n",
        "            if False:\n",
    ),
    (
        "the error does not have the unit's id",
        "f\"the unit's id is {unit or 'not known'}; it was opened at {scope.origin}\"",
        "'it was opened'",
    ),
    (
        "a unit is repeated though it has committed",
        "    undone = scope.outcome is Outcome.ROLLED_BACK\n",
        "    undone = scope.outcome is not Outcome.COMMITTED\n",
    ),
)


@contextmanager
def mutated_exact(before: str, after: str) -> Iterator[tuple[ModuleType, ModuleType]]:
    """Copies of `scope` and `attempts`, over one of `outcome`, in which `before` reads `after`."""
    sources = {module.__name__: inspect.getsource(module) for module in (outcome, scope, attempts)}
    places = [name for name, source in sources.items() if before in source]
    assert len(places) == 1, f"the text of this mutant is in {places or 'no module'}: {before!r}"
    assert sources[places[0]].count(before) == 1, f"the text of this mutant is there more than once: {before!r}"
    sources[places[0]] = sources[places[0]].replace(before, after)
    sources[scope.__name__] = sources[scope.__name__].replace("from .outcome import", "from .outcome_mutated import")
    sources[attempts.__name__] = sources[attempts.__name__].replace("from .scope import", "from .scope_mutated import")
    made = []
    try:
        for name, source in sources.items():
            module = ModuleType(f"{name}_mutated")
            module.__package__ = name.rpartition(".")[0]
            sys.modules[module.__name__] = module
            made.append(module)
            exec(compile(source, f"<mutated {name}>", "exec"), module.__dict__)  # noqa: S102  # our own source
        yield made[1], made[2]
    finally:
        for module in made:
            sys.modules.pop(module.__name__, None)
