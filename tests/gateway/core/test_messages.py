"""Texts of the fleet at the display (SHOW_MESSAGE)."""

import pytest

from gateway.core.messages import MESSAGES
from gateway.core.prompts import PromptKey
from gateway.core.screens import SCREENS
from protocol.codes import Code
from protocol.command import ANY_VERSION, ShowMessage
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.scene import RENTAL, Scene


def message(key: int, *words: str, seconds: int = 10) -> ShowMessage:
    return ShowMessage(NO_RENTAL, ANY_VERSION, key, words, seconds)


def test_a_text_stands_for_as_long_as_the_fleet_says_and_then_the_screen() -> None:
    """Issue 4, point 3: in the driver's language, and nothing of the screen is lost."""
    scene = Scene()
    scene.rent()
    before = scene.prompt

    answer = scene.answer(message(4, "12 min", seconds=20))
    shown = scene.state.shown_prompt
    scene.advance(19)
    still = scene.prompt
    scene.advance(2)

    assert answer.code is Code.OK
    assert (shown.key, shown.words) == (PromptKey.MESSAGE_HELP_COMES, ("12 min",))
    assert shown.language == b"en"
    assert still is PromptKey.MESSAGE_HELP_COMES
    assert scene.prompt is before


@pytest.mark.parametrize("key", MESSAGES)
def test_every_text_takes_its_places_and_no_others(key: int) -> None:
    places = SCREENS[MESSAGES[key]].words

    assert Scene().answer(message(key, *["x"] * places)).code is Code.OK
    assert Scene().answer(message(key, *["x"] * (places + 1))).code is Code.BAD_PARAM


def test_an_unknown_text_and_another_rental_are_refused() -> None:
    scene = Scene()

    assert scene.answer(message(7)).code is Code.BAD_PARAM
    stranger = ShowMessage(RENTAL, ANY_VERSION, 1, (), 10)
    assert scene.answer(stranger).code is Code.WRONG_RENTAL
