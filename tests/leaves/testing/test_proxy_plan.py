"""Places of faults: which bytes pass before they strike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polysession.testing.proxy import (
    BOTH_SIDES,
    Cut,
    Delay,
    Direction,
    Fault,
    Hole,
    Message,
    Place,
    answer,
    commit_exchange_bytes,
    message,
    request,
    stream,
)
from polysession.testing.proxy.faults import Span
from polysession.testing.proxy.plan import Course, Planned

SERVER, CLIENT = Direction.TO_SERVER, Direction.TO_CLIENT


def said(
    kind: str, size: int, exchange: int | None, *verbs: str, direction: Direction = SERVER, ends: bool = False
) -> tuple[Message, bool]:
    """A message, and whether it is the last of its request or answer."""
    return Message(1, 0.0, 1, direction, kind, size, exchange, "", verbs, None), ends


COMMIT = [
    said("Parse", 20, 2),
    said("Execute", 10, 2, "INSERT"),
    said("Execute", 10, 2, "COMMIT"),
    said("Sync", 5, 2, ends=True),
]
DONE = [
    said("CommandComplete", 12, 2, direction=CLIENT),
    said("ReadyForQuery", 6, 2, direction=CLIENT, ends=True),
]


def offsets(course: Course, direction: Direction, train: list[tuple[Message, bool]]) -> list[int]:
    """After how many bytes of `train` something strikes."""
    return [strike.offset for strike in course.strikes(direction, train)]


def course(*places: Place, connection: int = 1) -> Course:
    """A connection with faults at `places`."""
    return Course([Planned(Fault(Cut(), place)) for place in places], connection)


@pytest.mark.parametrize(("passed", "offset"), [(0, 0), (1, 1), (20, 20), (44, 44), (45, 45), ("all", 45), (99, 45)])
def test_in_a_request(passed: int, offset: int) -> None:
    """A place in a request counts from its first message, and beyond its end is at its end."""
    assert offsets(course(request("commit", passed=passed)), SERVER, COMMIT) == [offset]


@pytest.mark.parametrize(("passed", "offset"), [(0, 0), (1, 1), (12, 12), (18, 18), ("all", 18), (99, 18)])
def test_in_an_answer(passed: int, offset: int) -> None:
    """A place in an answer is armed by its request and counts from its first byte."""
    on = course(answer("COMMIT", passed=passed))
    assert offsets(on, CLIENT, [said("ReadyForQuery", 6, 1, direction=CLIENT, ends=True)]) == []
    assert offsets(on, SERVER, COMMIT) == []
    assert offsets(on, CLIENT, DONE) == [offset]
    assert on.idle


@given(st.integers(0, 20), st.integers(0, 3))
def test_in_an_answer_that_comes_in_parts(passed: int, split: int) -> None:
    """It does not matter how the answer was read: the same bytes pass."""
    whole = [*DONE[:1], said("NoticeResponse", 7, 2, direction=CLIENT), *DONE[1:]]
    on = course(answer("COMMIT", passed=passed))
    on.strikes(SERVER, COMMIT)
    first = offsets(on, CLIENT, whole[:split])
    second = offsets(on, CLIENT, whole[split:])
    begin = sum(one.size for one, _ in whole[:split])
    assert first + [begin + offset for offset in second] == [passed]
    assert bool(first) == (split > 0 and passed <= begin)  # nothing waits for bytes that may never come


def test_the_verb_decides() -> None:
    """Another request, the log-in and what belongs to no request are left alone."""
    on = course(request("COMMIT"), answer("COMMIT"))
    assert offsets(on, SERVER, [said("Query", 10, 1, "COMMIT PREPARED", ends=True)]) == []
    assert offsets(on, SERVER, [said("PasswordMessage", 10, 0, "COMMIT")]) == []
    assert offsets(on, SERVER, [said("Terminate", 5, None, "COMMIT")]) == []
    assert offsets(on, SERVER, [said("Query", 30, 2, "INSERT", "COMMIT", ends=True)]) == [0]


def test_requests_in_one_flight() -> None:
    """Of several requests that are read at once, the right one is struck."""
    flight = [said("Query", 10, 1, "INSERT", ends=True), said("Query", 12, 2, "COMMIT", ends=True)]
    assert offsets(course(request("COMMIT", passed=3)), SERVER, flight) == [13]
    assert offsets(course(request(nth=2, passed="all")), SERVER, flight) == [22]


def test_a_request_that_comes_in_parts_matches_once() -> None:
    """A request that comes in parts is counted once; what should have struck in an earlier part strikes at once."""
    on = course(request(nth=2), request("COMMIT", passed=3), request("COMMIT", passed=43))
    assert offsets(on, SERVER, COMMIT[:2]) == []
    assert offsets(on, SERVER, COMMIT[2:]) == [0, 13]
    assert offsets(on, SERVER, [said("Query", 10, 3, "INSERT", ends=True)]) == [0]


@pytest.mark.parametrize(("passed", "offset"), [(0, 20), (1, 21), ("all", 30), (99, 30)])
def test_in_a_message(passed: int, offset: int) -> None:
    """A place in a message counts from its own first byte."""
    assert offsets(course(message("Execute", SERVER, passed=passed)), SERVER, COMMIT) == [offset]
    assert offsets(course(message("Execute", CLIENT, passed=passed)), SERVER, COMMIT) == []


def test_a_predicate_decides() -> None:
    """`when` is asked about the messages, for all kinds of places."""
    commits: Callable[[Message], bool] = lambda one: "COMMIT" in one.verbs  # noqa: E731  # a lambda is what users write
    assert offsets(course(message(None, SERVER, when=commits)), SERVER, COMMIT) == [30]
    assert offsets(course(request(when=commits)), SERVER, COMMIT) == [0]
    on = course(answer(when=commits))
    on.strikes(SERVER, COMMIT)
    assert offsets(on, CLIENT, DONE) == [0]


def test_in_the_stream() -> None:
    """A place in the stream counts from the first byte of the connection, through all that is read."""
    on = course(stream(SERVER, passed=50), stream(CLIENT, passed=3))
    assert on.at_once() == []
    assert offsets(on, SERVER, COMMIT) == []
    assert offsets(on, SERVER, [said("Query", 10, 3, ends=True)]) == [5]
    assert [strike.offset for strike in on.skip(CLIENT, 4)] == [3]
    assert len(course(stream(SERVER)).at_once()) == 1


def test_nth_and_times() -> None:
    """Matches are counted over connections; a fault fires from the nth on, as often as it may."""
    planned = Planned(Fault(Cut(), request("COMMIT", nth=2), times=2))
    strikes = [Course([planned], connection).strikes(SERVER, COMMIT) for connection in (1, 2, 3, 4)]
    assert [len(each) for each in strikes] == [0, 1, 1, 0]
    assert planned.spent
    planned = Planned(Fault(Cut(), request("COMMIT"), times=None, connection=2))
    strikes = [Course([planned], connection).strikes(SERVER, COMMIT) for connection in (1, 2, 2, 3)]
    assert [len(each) for each in strikes] == [0, 1, 1, 0]


def test_probability_does_not_depend_on_the_order() -> None:
    """Whether a match strikes depends on the seed, the connection and the match there, not on other connections."""

    def struck(order: list[int], seed: int) -> dict[int, list[bool]]:
        planned = Planned(Fault(Cut(), request(), times=None, probability=0.3, seed=seed))
        result: dict[int, list[bool]] = {}
        for connection in order:
            result.setdefault(connection, []).append(planned.takes(connection))
        return result

    one = struck([1] * 500 + [2] * 500, 7)
    assert one == struck([1, 2] * 500, 7)
    assert one != struck([1, 2] * 500, 8)
    assert one[1] != one[2]
    assert 230 < sum(map(sum, one.values())) < 370


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Cut(sides=frozenset()), "needs a side"),
        (lambda: Hole(frozenset()), "needs a direction"),
        (lambda: Delay(0), "takes time"),
        (lambda: request(passed=-1), "from 0 or 'all'"),
        (lambda: request(nth=0), "number 1"),
        (lambda: Place(Span.STREAM, SERVER, "all"), "no end"),
        (lambda: Fault(Cut(), request(), times=0), "at least once"),
        (lambda: Fault(Cut(), request(), probability=0.0), "above 0"),
    ],
)
def test_nonsense_is_refused(make: Callable[[], object], text: str) -> None:
    """A fault that cannot be is refused with a sentence when it is made."""
    with pytest.raises(ValueError, match=text):
        make()


def test_bytes_of_an_exchange() -> None:
    """The newest COMMIT and its answer are measured, with what travels in the same request."""
    log = [one for one, _ in [*COMMIT, *DONE]]
    sizes = commit_exchange_bytes(log)
    assert (sizes.to_server, sizes.to_client) == (45, 18)
    places = list(sizes.places())
    assert len(places) == 65
    assert places[0] == request("COMMIT")
    assert places[46] == answer("COMMIT")
    with pytest.raises(LookupError, match="XA COMMIT"):
        commit_exchange_bytes(log, "XA COMMIT")
    with pytest.raises(ValueError, match="was not answered"):
        commit_exchange_bytes(log[:4])


def test_a_fault_reads_as_a_sentence() -> None:
    """The text of a fault says what, after how many bytes of what, and where to."""
    fault = Fault(Cut(sides=BOTH_SIDES), request("commit", passed=3, nth=2))
    assert str(fault).endswith("after 3 bytes of request for COMMIT number 2 to server")
