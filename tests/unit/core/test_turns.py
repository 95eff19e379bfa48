"""Lines of units that clash: who comes first, who is called, and that nothing depends on who was lost."""

from __future__ import annotations

import threading

import pytest

from polysession._core.turns import Turn, Turns


def line(number: int, key: str = "hot") -> list[Turn]:
    """So many units that clashed over one thing, in this order."""
    turns = Turns()
    made = [Turn(turns, key) for _ in range(number)]
    assert [turn.clashed() for turn in made] == [1, *[0] * (number - 1)]
    return made


def test_the_order_is_that_of_the_first_clash() -> None:
    """Who clashes again keeps its place; each that leaves makes the next one the first."""
    made = line(3)
    assert made[2].clashed() == 0
    assert made[0].clashed() == 2
    for number, turn in enumerate(made):
        assert [one.is_first for one in made[number:]] == [True, *[False] * (2 - number)]
        turn.leave()
    assert made[0].turns.lines == {}


def test_the_next_one_is_called() -> None:
    """Once, and nobody else; who leaves from the middle calls the one that is first, which only looks again."""
    made = line(3)
    called: list[int] = []
    assert not made[0].await_call(lambda: called.append(0))
    assert made[1].await_call(lambda: called.append(1))
    assert made[2].await_call(lambda: called.append(2))
    made[0].leave()
    made[0].leave()
    assert called == [1]
    made[2].leave()
    assert called == [1, 1]


def test_the_line_is_seen_to_move() -> None:
    """`moved` grows with each that leaves, so that who waits knows that waiting is worth it."""
    made = line(3)
    before = made[2].moved
    made[1].clashed()
    assert made[2].moved == before
    made[0].leave()
    assert made[2].moved == before + 1


def test_the_pace_is_that_of_the_last_few() -> None:
    """The seconds of an attempt, averaged, so that patience fits units of any length."""
    turns = Turns()
    one, two = Turn(turns, "hot"), Turn(turns, "hot")
    assert one.pace == 0
    one.clashed(2.0)
    assert two.pace == 2.0
    two.clashed(6.0)
    assert one.pace == 3.0
    for _ in range(50):
        two.clashed(1.0)
    assert one.pace == pytest.approx(1.0, rel=0.01)
    one.leave()
    two.leave()
    assert one.pace == 0


def test_other_things_have_other_lines() -> None:
    """Units of another name or on other databases neither wait nor are waited for."""
    made = line(2)
    other = Turn(made[0].turns, "cold")
    assert other.is_first
    assert not other.queue()
    assert other.clashed() == 1
    assert set(made[0].turns.lines) == {"hot", "cold"}


def test_new_ones_queue_only_behind_one_that_was_beaten_again() -> None:
    """A single clash keeps nobody new from trying."""
    made = line(2)
    new = Turn(made[0].turns, "hot")
    assert not new.queue()
    made[0].clashed()
    assert new.queue()
    made[0].leave()
    made[1].leave()
    assert new.is_first
    new.leave()
    assert new.turns.lines == {}


def test_who_was_lost_is_not_waited_for() -> None:
    """A unit that nobody holds any more has no place, at the head or in the middle."""
    made = line(4)
    last = made[3]
    del made[1]
    del made[0]
    assert made[0].is_first
    made.clear()
    assert last.is_first
    last.leave()
    assert last.turns.lines == {}


def test_leaving_without_a_place() -> None:
    """Does nothing."""
    made = line(1)
    Turn(made[0].turns, "hot").leave()
    Turn(made[0].turns, "cold").leave()
    assert made[0].is_first
    assert made[0].moved == 0


@pytest.mark.parametrize("workers", [8])
def test_many_threads(workers: int) -> None:
    """Whoever waits is called, whatever the others do meanwhile; nobody is left behind."""
    turns = Turns()
    done: list[int] = []
    together = threading.Barrier(workers)

    def work(number: int) -> None:
        together.wait()
        for _ in range(200):
            turn = Turn(turns, "hot")
            turn.clashed()
            called = threading.Event()
            if turn.await_call(called.set):
                assert called.wait(30)
            assert turn.is_first
            turn.leave()
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(workers))
    assert turns.lines == {}
