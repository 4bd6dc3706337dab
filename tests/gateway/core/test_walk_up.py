"""A known card at a free car: the fleet has five seconds to speak for it (H19)."""

from gateway.core.actions import DriveLocks
from protocol.codes import CardRefusal, Code, RentalMode
from protocol.event import AccessGranted, CardRefused, RentalStarted
from protocol.identity import card_digest
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.scene import CARD, RENTAL, SECOND_CARD, STRANGER, Scene, reserve


def test_the_fleet_hears_of_the_card_at_once_and_nothing_opens() -> None:
    # H19
    scene = Scene()

    scene.tap()

    refused = scene.one(CardRefused)
    assert refused.reason is CardRefusal.NO_RESERVATION
    assert refused.card == card_digest(NO_RENTAL, CARD)
    assert scene.done(DriveLocks) == []
    assert scene.light == "green"


def test_a_reservation_within_five_seconds_opens_without_a_second_tap() -> None:
    # H19
    scene = Scene()
    scene.tap()
    scene.advance(4.9)

    assert scene.reserve().code is Code.OK

    assert scene.mode is RentalMode.STOPPED
    assert scene.one(AccessGranted).authority == card_digest(RENTAL, CARD)
    assert scene.one(RentalStarted).rental_id == RENTAL


def test_without_the_fleets_word_the_light_blinks_red_after_five_seconds() -> None:
    # H19
    scene = Scene()
    scene.tap()

    scene.advance(4.9)
    assert scene.light == "green"
    scene.advance(0.1)

    assert scene.light == "blinking red"
    scene.reserve()
    assert scene.mode is RentalMode.RESERVED
    assert scene.reading.locked


def test_a_reservation_for_another_card_does_not_open_for_this_one() -> None:
    # I-12
    scene = Scene()
    scene.tap(STRANGER)

    scene.reserve(cards=(CARD, SECOND_CARD))

    assert scene.mode is RentalMode.RESERVED
    assert scene.done(DriveLocks) == []


def test_a_refused_reservation_leaves_the_card_waiting() -> None:
    scene = Scene()
    scene.tap()

    assert scene.answer(reserve(scene.boot_ms - 1)).code is Code.EXPIRED
    assert scene.reading.locked
    scene.reserve()

    assert scene.mode is RentalMode.STOPPED


def test_a_second_card_within_half_a_minute_is_refused_at_once() -> None:
    # I-20: its tap would need an entry of its own
    scene = Scene()
    scene.tap()
    scene.advance(6)

    scene.tap(SECOND_CARD)

    assert scene.light == "blinking red"
    assert len(scene.told(CardRefused)) == 1


def test_a_restart_forgets_the_card_that_waited() -> None:
    # I-14
    scene = Scene()
    scene.tap()
    scene.restart()
    scene.report()

    scene.reserve()

    assert scene.mode is RentalMode.RESERVED


def test_the_uid_of_a_waiting_card_is_not_stored() -> None:
    scene = Scene()
    scene.tap()
    assert scene.state.walk_up is not None

    assert scene.state.kept().walk_up is None
