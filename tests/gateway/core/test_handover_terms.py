"""What the second driver speaks, and what locking means afterwards (C28, H8, H11)."""

from dataclasses import replace

from gateway.core.prompts import Choice, PromptKey
from gateway.core.state import State
from protocol.codes import Code, LockDefault, RentalMode
from protocol.rental_event import HandoverDone
from tests.gateway.core.scene import PIN, Scene
from tests.gateway.core.two_drivers import BOB, SECOND, agreed


def granted(scene: Scene) -> None:
    """The fleet tells what Bob speaks and that he would rather park."""
    answer = scene.grant(
        BOB, rental_id=SECOND, lock_default=LockDefault.PARK, language=b"ru"
    )
    assert answer.code is Code.OK


def with_language(scene: Scene, language: bytes) -> State:
    """Let the first driver speak another language."""
    reservation = replace(scene.rental.reservation, language=language)
    return replace(scene.state, rental=replace(scene.rental, reservation=reservation))


def test_the_second_rental_has_its_own_drivers_language_and_default() -> None:
    # C28, H11: they come in the grant for the rental that begins
    scene = agreed()
    granted(scene)

    scene.tap(BOB)
    asked = scene.state.shown_prompt
    scene.type_pin(PIN)
    reservation = scene.rental.reservation

    assert (asked.key, asked.language) == (PromptKey.HANDOVER_PIN, b"ru")
    assert scene.one(HandoverDone).new_rental_id == SECOND
    assert reservation.rental_id == SECOND
    assert reservation.language == b"ru"
    assert reservation.lock_default is LockDefault.PARK
    assert scene.state.grants == ()


def test_who_speaks_what_nobody_said_is_not_spoken_to_like_the_first_driver() -> None:
    scene = agreed()
    scene.state = with_language(scene, b"de")

    scene.tap(BOB)
    asked = scene.state.shown_prompt
    scene.type_pin(PIN)

    assert asked.language == b"en"
    assert scene.rental.reservation.language == b"en"
    assert scene.rental.reservation.lock_default is LockDefault.END


def test_the_first_driver_is_spoken_to_as_before_until_the_second_comes() -> None:
    scene = agreed()
    scene.state = with_language(scene, b"de")
    granted(scene)

    scene.advance(1)
    before = scene.state.shown_prompt.language
    scene.tap(BOB)
    scene.choose(Choice.DECLINE_HANDOVER)

    assert before == b"de"
    assert scene.state.shown_prompt.language == b"de"


def test_the_second_drivers_default_counts_from_the_first_lock_on() -> None:
    # H8
    scene = agreed()
    granted(scene)
    scene.tap(BOB)
    scene.type_pin(PIN)
    scene.drive()

    scene.tap_later(BOB)

    assert scene.mode is RentalMode.PARKED
