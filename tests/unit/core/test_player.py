"""The scripted player: answers, errors, the record, and that every generator is drained."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import Any

import pytest

from polysession.testing import Played, Unscripted, play


class Ask:
    """A step."""

    def __init__(self, word: str = "") -> None:
        self.word = word


class Tidy:
    """A step of the clean-up."""


def asking(times: int = 2) -> Generator[Any, Any, list[Any]]:
    """Asks, and tidies up when something goes wrong."""
    answers = []
    try:
        for number in range(times):
            answers.append((yield Ask(str(number))))
    except BaseException:
        yield Tidy()
        raise
    return answers


def test_one_answer_for_every_step_of_a_kind() -> None:
    """A value is sent each time."""
    played = play(asking(), {Ask: 7})
    assert played.value() == [7, 7]
    assert played.names == "Ask Ask"
    assert [said.answer for said in played.said] == [7, 7]


def test_a_list_of_answers_is_used_up() -> None:
    """Each step takes the next one; errors may be among them."""
    assert play(asking(3), {Ask: [1, 2, lambda step: step.word]}).value() == [1, 2, "2"]
    played = play(asking(3), {Ask: [1, ValueError("no")], Tidy: None})
    assert played.names == "Ask Ask! Tidy"
    with pytest.raises(ValueError, match="no"):
        played.value()


def test_a_function_performs_every_step() -> None:
    """What it returns is sent, what it raises is thrown."""
    assert play(asking(), lambda step: step.word).value() == ["0", "1"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit(), ValueError("instance")])
def test_an_error_is_part_of_the_play(error: Any) -> None:
    """Nothing is raised until the result is asked for; the generator was drained."""
    steps = asking()
    played = play(steps, {Ask: error, Tidy: None})
    assert isinstance(played.error, error if isinstance(error, type) else type(error))
    assert played.steps[-1].__class__ is Tidy
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED


def test_a_step_without_an_answer_is_a_mistake_of_the_script() -> None:
    """It is raised when the generator has been drained, also where the list is used up."""
    scripts: list[dict[type, Any]] = [{Tidy: None}, {Ask: [1], Tidy: None}]
    for script in scripts:
        steps = asking()
        with pytest.raises(Unscripted, match="Ask object"):
            play(steps, script)
        assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED


def test_a_generator_that_swallows_is_still_drained() -> None:
    """Also if it goes on asking for a while after the script has ended."""

    def stubborn() -> Generator[Any, Any, str]:
        for _ in range(5):
            try:
                yield Ask()
            except Unscripted:
                continue
        return "done"

    with pytest.raises(Unscripted):
        play(stubborn(), {})


def test_a_generator_without_end_is_ended() -> None:
    """A loop in the core fails the test instead of hanging it."""

    def endless(swallows: bool) -> Generator[Any, Any, None]:
        while True:
            try:
                yield Ask()
            except Unscripted:
                if not swallows:
                    raise

    with pytest.raises(Unscripted, match="more than 50 steps"):
        play(endless(swallows=False), {Ask: 1}, most=50)
    with pytest.raises(Unscripted, match="does not end"):
        play(endless(swallows=True), {Ask: 1}, most=50)


def test_the_record_has_every_exchange() -> None:
    """The step, and its answer or its error."""
    error = ValueError("no")
    played: Played[Any] = play(asking(), {Ask: [1, error], Tidy: "tidied"})
    assert [(type(said.step), said.answer, said.error) for said in played.said] == [
        (Ask, 1, None),
        (Ask, None, error),
        (Tidy, "tidied", None),
    ]
    assert played.error is error
