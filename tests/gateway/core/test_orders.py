"""Commands against the car's state: what fits, what does not, and what it costs."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.core.actions import FlashHazards, SendRefusal
from gateway.core.prompts import Choice
from protocol import command as orders
from protocol.codes import Code, Executed, LockMode, ModeRequest, RentalMode, Retry
from protocol.command import ANY_VERSION, Command, Ping
from protocol.result import Result
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.invariants import results_of
from tests.gateway.core.scene import (
    OTHER_RENTAL,
    RENTAL,
    BoardMood,
    Scene,
    cancel,
    hold,
    lock,
    release,
    reserve,
    set_mode,
    unlock,
)

BOUND: dict[str, Callable[[bytes, int], Command]] = {
    "unlock": unlock,
    "lock": lambda rental, version: lock(LockMode.DEFAULT, rental, version),
    "release": release,
    "hold": hold,
    "cancel": cancel,
    "set mode": lambda rental, version: set_mode(ModeRequest.PARK, rental, version),
    "hazards": lambda rental, version: orders.FlashHazards(rental, version, 5),
}
"""Commands that belong to a rental."""

HELD = [mode for mode in RentalMode if mode is not RentalMode.AVAILABLE]


@pytest.mark.parametrize("mode", HELD)
@pytest.mark.parametrize("name", BOUND)
def test_a_command_for_another_rental_is_refused(name: str, mode: RentalMode) -> None:
    # FF-CMD-04, FF-RES-02.
    # I-12
    scene = Scene()
    scene.be(mode)
    before = scene.state

    result = scene.answer(BOUND[name](OTHER_RENTAL, ANY_VERSION))

    assert (result.code, result.executed) == (Code.WRONG_RENTAL, Executed.NO)
    assert result.retry is Retry.AFTER_RESYNC
    assert scene.state.essence() == before.essence()


@pytest.mark.parametrize("name", [name for name in BOUND if name != "cancel"])
def test_a_free_car_takes_no_command_of_any_rental(name: str) -> None:
    # FF-CMD-04.
    scene = Scene()

    result = scene.answer(BOUND[name](OTHER_RENTAL, ANY_VERSION))

    assert result.code is Code.WRONG_RENTAL


@pytest.mark.parametrize("mode", HELD)
@pytest.mark.parametrize("name", BOUND)
def test_a_command_for_a_state_that_has_changed_is_refused(
    name: str, mode: RentalMode
) -> None:
    # FF-CMD-05.
    scene = Scene()
    scene.be(mode)

    result = scene.answer(BOUND[name](RENTAL, scene.state.version - 1))

    assert (result.code, result.retry) == (Code.STATE_VERSION, Retry.AFTER_RESYNC)
    assert result.snapshot.state_version == scene.state.version


def test_a_command_that_names_the_present_version_fits() -> None:
    # FF-CMD-05.
    scene = Scene()
    scene.reserve()

    result = scene.answer(unlock(version=scene.state.version))

    assert result.code is Code.OK


def test_the_version_rises_with_every_change_of_mode() -> None:
    # FF-RES-07.
    scene = Scene()
    versions = [scene.state.version]
    for mode_change in (
        scene.reserve,
        scene.tap,
        scene.type_pin,
        scene.drive,
        scene.tap_later,
    ):
        mode_change()
        versions.append(scene.state.version)

    assert versions == [0, 1, 2, 2, 4, 5]


def test_the_version_never_says_any() -> None:
    scene = Scene()
    scene.state = replace(scene.state, version=ANY_VERSION - 1)

    scene.reserve()

    assert scene.state.version == 0


@pytest.mark.parametrize("mode", list(RentalMode))
def test_a_ping_is_answered_in_every_mode(mode: RentalMode) -> None:
    scene = Scene()
    scene.be(mode)

    result = scene.answer(Ping(NO_RENTAL, ANY_VERSION, bytes(16)))

    assert (result.code, result.executed) == (Code.OK, Executed.YES)
    assert result.snapshot.mode is mode


@pytest.mark.parametrize("rental_id", [NO_RENTAL, RENTAL])
def test_hazards_blink_for_the_customer_or_the_operator(rental_id: bytes) -> None:
    # C6, C7, F5
    scene = Scene()
    scene.reserve()

    result = scene.answer(orders.FlashHazards(rental_id, ANY_VERSION, 5))

    assert result.code is Code.OK
    assert scene.done(FlashHazards) == [FlashHazards(5)]


def test_hazards_of_a_free_car_are_the_operators() -> None:
    scene = Scene()

    result = scene.answer(orders.FlashHazards(NO_RENTAL, ANY_VERSION, 30))

    assert result.code is Code.OK


@pytest.mark.parametrize(
    ("reading", "code"),
    [
        ({"speed_dkmh": 1}, Code.VEHICLE_MOVING),
        ({"speed_dkmh": None}, Code.VEHICLE_MOVING),
        ({"engine_running": True}, Code.IGNITION_ON),
    ],
)
def test_hazards_do_not_blink_while_driving(
    reading: dict[str, object], code: Code
) -> None:
    # H16
    scene = Scene()
    scene.rent_and_release()
    scene.board(**reading)

    result = scene.answer(orders.FlashHazards(RENTAL, ANY_VERSION, 5))

    assert result.code is code
    assert scene.done(FlashHazards) == []


def test_hazards_do_not_blink_when_nobody_knows_whether_it_drives() -> None:
    # I-2, H16: unknown counts as moving, and is called what it is.
    scene = Scene()
    scene.lose_board()

    result = scene.answer(orders.FlashHazards(NO_RENTAL, ANY_VERSION, 5))

    assert result.code is Code.BUS_ERROR
    assert scene.done(FlashHazards) == []


@pytest.mark.parametrize(
    "mode", [RentalMode.RESERVED, RentalMode.DRIVING, RentalMode.PARKED]
)
def test_an_engine_is_released_only_for_somebody_in_the_car(mode: RentalMode) -> None:
    scene = Scene()
    scene.be(mode)

    result = scene.answer(release())

    assert result.code is Code.WRONG_MODE


def test_a_reserved_car_has_no_engine_to_hold() -> None:
    scene = Scene()
    scene.reserve()

    assert scene.answer(hold()).code is Code.WRONG_MODE


@pytest.mark.parametrize(
    "request_", [ModeRequest.PARK, ModeRequest.END, ModeRequest.REFUEL]
)
@pytest.mark.parametrize("mode", [RentalMode.DRIVING, RentalMode.PARKED])
def test_a_mode_is_chosen_with_the_engine_off_only(
    mode: RentalMode, request_: ModeRequest
) -> None:
    scene = Scene()
    scene.be(mode)

    assert scene.answer(set_mode(request_)).code is Code.WRONG_MODE


def test_a_mode_is_not_chosen_under_bolts_that_move() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.tap()

    result = scene.answer(set_mode(ModeRequest.REFUEL))

    assert result.code is Code.BUSY
    assert scene.mode is RentalMode.STOPPED


def test_a_choice_at_the_display_under_bolts_that_move_is_nothing() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.tap()

    scene.choose(Choice.REFUEL)

    assert scene.mode is RentalMode.STOPPED


def test_a_refused_command_consumes_nothing() -> None:
    # FF-CMD-14.
    # I-10: no journal, no ledger, no state; only the answer.
    scene = Scene()
    scene.reserve()
    before = scene.state

    decision = scene.order(lock())

    assert decision.accepted is None
    assert decision.entries == ()
    assert decision.state.essence() == before.essence()
    [refusal] = decision.actions
    assert isinstance(refusal, SendRefusal)
    assert refusal.result.request_id == (2).to_bytes(16, "big")


def test_a_refusal_keeps_what_time_has_done() -> None:
    # The reservation is over when the command comes, and stays over.
    scene = Scene()
    scene.reserve(seconds=10)
    scene.boot_ms += 10_000

    result = scene.answer(unlock())

    assert result.code is Code.WRONG_RENTAL
    assert scene.mode is RentalMode.AVAILABLE
    assert result.snapshot.mode is RentalMode.AVAILABLE


def test_an_accepted_command_is_journalled_with_what_it_causes() -> None:
    # FF-RES-01, FF-LED-05.
    # I-5
    scene = Scene()

    decision = scene.order(reserve(scene.boot_ms + 60_000))

    assert decision.accepted is not None
    assert decision.accepted.lane.name == "RENTAL"
    [result] = results_of(decision)
    assert result.request_hash == decision.accepted.request_hash
    assert decision.entries[-1] == result


def test_a_result_carries_the_state_that_it_leads_to() -> None:
    # FF-RES-06.
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)

    scene.order(lock(LockMode.END))

    result = scene.told(Result)[-1]
    assert result.snapshot.mode is RentalMode.AVAILABLE
    assert result.snapshot.rental_id == NO_RENTAL
    assert result.snapshot.light.name == "GREEN"


def test_a_parked_car_that_stands_open_is_locked_again() -> None:
    scene = Scene()
    scene.be(RentalMode.PARKED)
    scene.board(locked=False)

    result = scene.answer(lock(LockMode.DEFAULT))

    assert (result.code, result.executed) == (Code.OK, Executed.YES)
    assert scene.reading.locked
    assert scene.mode is RentalMode.PARKED
