"""The PIN before the engine (C11, H6)."""

import pytest

from gateway.core.actions import AllowEngine, CheckPin
from gateway.core.events import PinVerdict
from gateway.core.prompts import Choice, Prompt, PromptKey
from protocol.codes import AccessMeans, Code, RentalMode
from protocol.event import EngineReleased, PinAccepted, PinBlocked
from tests.gateway.core.scene import (
    OTHER_RENTAL,
    PIN,
    RENTAL,
    SEALED,
    WRONG_PIN,
    BoardMood,
    Scene,
    release,
)


def test_the_right_pin_releases_the_engine() -> None:
    # S3: before the engine.
    # C11
    scene = Scene()
    scene.rent()
    assert scene.state.shown_prompt == Prompt(PromptKey.ENTER_PIN, (3,))

    scene.type_pin()

    assert scene.reading.engine_released
    assert scene.one(PinAccepted).rental_id == RENTAL
    assert scene.one(EngineReleased).means is AccessMeans.CARD
    assert scene.prompt is PromptKey.MAY_START


def test_a_pin_is_compared_with_the_sealed_secrets_of_this_rental() -> None:
    scene = Scene()
    scene.rent()

    scene.type_pin()

    assert scene.done(CheckPin) == [CheckPin(RENTAL, SEALED, PIN)]


def test_the_engine_is_not_promised_before_it_is_read_back_released() -> None:
    scene = Scene()
    scene.rent()
    scene.mood = BoardMood.DEAF

    scene.type_pin()

    assert scene.prompt is PromptKey.WAIT
    assert scene.told(EngineReleased) == []


@pytest.mark.parametrize("passed_by", [0, 1])
def test_three_wrong_pins_under_a_question_show_the_block(passed_by: int) -> None:
    # H6, C9: a PIN typed there would be taken and not compared
    scene = Scene()
    scene.reserve()
    scene.tap()
    for _ in range(passed_by):
        scene.choose(Choice.CONTINUE)
    question = scene.prompt

    for _ in range(3):
        scene.type_pin(WRONG_PIN)
    blocked = scene.prompt
    scene.advance(60)

    assert blocked is PromptKey.PIN_BLOCKED
    assert scene.prompt is question


def test_three_wrong_pins_say_so_also_to_who_has_chosen_to_park() -> None:
    # H6
    scene = Scene()
    scene.rent()
    scene.choose(Choice.PARK)

    for _ in range(3):
        scene.type_pin(WRONG_PIN)
    blocked = scene.prompt
    scene.advance(6)

    assert blocked is PromptKey.PIN_BLOCKED
    assert scene.prompt is PromptKey.LOCK_TO_PARK


def test_a_wrong_pin_says_how_many_are_left() -> None:
    scene = Scene()
    scene.rent()

    scene.type_pin(WRONG_PIN)
    first = scene.state.shown_prompt
    scene.advance(5)

    assert first == Prompt(PromptKey.PIN_WRONG, (2,))
    assert scene.state.shown_prompt == Prompt(PromptKey.ENTER_PIN, (2,))
    assert not scene.reading.engine_released


def test_a_right_pin_forgives_the_wrong_ones() -> None:
    scene = Scene()
    scene.rent()
    scene.type_pin(WRONG_PIN)
    scene.type_pin(WRONG_PIN)

    scene.type_pin()

    assert scene.rental.pin.wrong == 0
    assert scene.prompt is PromptKey.MAY_START


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "123",
        "123456789",
        "abcd",
        "12a4",
        "\uff11\uff12\uff13\uff14",
        "-123",
        "12 4",
    ],
)
def test_what_cannot_be_a_pin_costs_no_attempt(typed: str) -> None:
    # A PIN of letters is a slip, and says nothing about knowing the PIN.
    scene = Scene()
    scene.rent()

    scene.type_pin(typed)

    assert scene.state.shown_prompt == Prompt(PromptKey.PIN_MALFORMED, (4, 8))
    assert scene.done(CheckPin) == []
    assert scene.rental.pin.wrong == 0


def test_three_wrong_pins_block_for_a_minute() -> None:
    # FF-SEC-04.
    # H6
    scene = Scene()
    scene.rent()
    for _ in range(3):
        scene.type_pin(WRONG_PIN)
    assert scene.one(PinBlocked).block == 1
    scene.forget()

    scene.advance(59.999)
    scene.type_pin()
    blocked = scene.prompt
    scene.advance(0.001)
    scene.type_pin()

    assert blocked is PromptKey.PIN_BLOCKED
    assert len(scene.done(CheckPin)) == 1
    assert scene.reading.engine_released


def test_the_third_block_is_lifted_by_the_fleet_only() -> None:
    # FF-SEC-04.
    # H6
    scene = Scene()
    scene.rent()
    for _ in range(2):
        for _ in range(3):
            scene.type_pin(WRONG_PIN)
        scene.advance(61)
    for _ in range(3):
        scene.type_pin(WRONG_PIN)
    assert scene.rental.pin.blocked_until_ms is None
    assert [told.block for told in scene.told(PinBlocked)] == [1, 2, 3]
    blocked = scene.prompt
    scene.advance(100_000)
    scene.forget()
    scene.type_pin()
    assert scene.done(CheckPin) == []

    result = scene.answer(release())

    assert blocked is PromptKey.PIN_BLOCKED_FOR_GOOD
    assert result.code is Code.OK
    assert scene.one(EngineReleased).means is AccessMeans.COMMAND
    assert scene.prompt is PromptKey.MAY_START
    assert scene.rental.pin.blocks == 0


def test_pulling_the_plug_wins_no_attempts() -> None:
    # FF-SEC-05.
    # H6: the count survives restarts of agent and machine.
    scene = Scene()
    scene.rent()
    scene.type_pin(WRONG_PIN)
    scene.type_pin(WRONG_PIN)
    scene.restart(off_s=10)
    scene.report()

    scene.type_pin(WRONG_PIN)

    assert scene.one(PinBlocked).block == 1
    assert scene.prompt is PromptKey.PIN_BLOCKED


def test_a_reboot_does_not_shorten_a_block() -> None:
    # FF-SEC-05.
    scene = Scene()
    scene.rent()
    for _ in range(3):
        scene.type_pin(WRONG_PIN)
    scene.advance(30)

    scene.restart(off_s=3_600)
    scene.report()

    assert scene.rental.pin.blocked_until_ms == scene.boot_ms + 60_000
    assert scene.prompt is PromptKey.PIN_BLOCKED


def test_secrets_that_do_not_open_cost_no_attempt_and_send_to_the_fleet() -> None:
    scene = Scene()
    scene.rent()
    scene.vault_answers = False
    scene.type_pin()

    scene.check(PinVerdict.UNREADABLE)

    assert scene.prompt is PromptKey.PIN_BLOCKED_FOR_GOOD
    assert scene.rental.pin.wrong == 0
    assert not scene.reading.engine_released


def test_a_verdict_that_comes_after_the_end_changes_nothing() -> None:
    scene = Scene()
    scene.rent()
    scene.vault_answers = False
    scene.type_pin()
    scene.tap_later()
    assert scene.mode is RentalMode.AVAILABLE
    scene.forget()

    scene.check(PinVerdict.RIGHT)

    assert scene.done(AllowEngine) == []
    assert scene.told(PinAccepted) == []


def test_a_verdict_on_another_rental_changes_nothing() -> None:
    scene = Scene()
    scene.rent()

    scene.check(PinVerdict.RIGHT, rental_id=OTHER_RENTAL)
    scene.check(PinVerdict.WRONG, rental_id=OTHER_RENTAL)

    assert not scene.reading.engine_released
    assert scene.rental.pin.wrong == 0


def test_verdicts_that_come_after_the_block_do_not_count() -> None:
    # Many PINs typed while the first is still being compared win nothing.
    scene = Scene()
    scene.rent()
    scene.vault_answers = False
    for _ in range(5):
        scene.type_pin()
    for _ in range(3):
        scene.check(PinVerdict.WRONG)

    scene.check(PinVerdict.RIGHT)

    assert not scene.reading.engine_released
    assert scene.prompt is PromptKey.PIN_BLOCKED


@pytest.mark.parametrize(
    "mode", [mode for mode in RentalMode if mode is not RentalMode.STOPPED]
)
def test_a_pin_is_taken_only_where_it_is_asked_for(mode: RentalMode) -> None:
    scene = Scene()
    scene.be(mode)
    scene.forget()

    scene.type_pin()
    scene.check(PinVerdict.RIGHT)

    assert scene.done(CheckPin) == []
    assert scene.done(AllowEngine) == []


def test_a_pin_that_was_right_is_not_asked_for_again() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.forget()

    scene.type_pin(WRONG_PIN)

    assert scene.done(CheckPin) == []
    assert scene.prompt is PromptKey.MAY_START


def test_an_engine_that_is_not_released_asks_for_the_pin_again() -> None:
    scene = Scene()
    scene.rent()
    scene.mood = BoardMood.DEAF
    scene.type_pin()

    scene.advance(9)

    assert scene.prompt is PromptKey.ENTER_PIN
    assert not scene.rental.pin_accepted


def test_parking_wants_the_pin_again() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.choose(Choice.PARK)
    scene.tap_later()
    assert not scene.reading.engine_released
    scene.tap_later()
    assert scene.prompt is PromptKey.ENTER_PIN

    scene.type_pin()

    assert scene.reading.engine_released


def test_neither_pin_shows_in_a_log() -> None:
    scene = Scene()
    scene.rent()

    scene.type_pin("13579")

    assert "13579" not in repr(scene.done(CheckPin))


def test_a_choice_made_before_the_pin_is_confirmed_and_the_pin_still_counts() -> None:
    # C16, C26: a customer who came back and wants to end need not type a PIN first.
    scene = Scene()
    scene.rent()

    scene.choose(Choice.END)
    confirmed = scene.prompt
    scene.type_pin()

    assert confirmed is PromptKey.LOCK_TO_END
    assert scene.rental.pin_accepted
