"""Service mode: what runs may end, and nothing new begins (L13, row 4)."""

import pytest

from gateway.core.actions import ShowPrompt
from gateway.core.appearance import condition_of
from gateway.core.events import DiskFailed, DiskRecovered
from gateway.core.prompts import PromptKey
from protocol.codes import (
    CardRefusal,
    Code,
    Condition,
    Executed,
    FaultKind,
    LockMode,
    RentalMode,
)
from protocol.command import ANY_VERSION, Command, FlashHazards, Ping
from protocol.event import (
    CardRefused,
    FaultCleared,
    FaultRaised,
    RentalEnded,
    RentalStarted,
)
from protocol.rental_codes import ServiceModeReason
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import ServiceModeChanged
from tests.gateway.core.scene import (
    START_BOOT_MS,
    Scene,
    cancel,
    hold,
    lock,
    release,
    reserve,
    unlock,
)


def test_service_mode_is_told_once_and_shows_no_green() -> None:
    scene = Scene()

    scene.happen(DiskFailed())
    scene.happen(DiskFailed())

    assert scene.told(ServiceModeChanged) == [
        ServiceModeChanged(on=True, reason=ServiceModeReason.STORAGE)
    ]
    assert scene.one(FaultRaised).kind is FaultKind.STORAGE_FAILED
    assert condition_of(scene.state) is Condition.SERVICE
    assert scene.light == "blinking fault_pattern"

    scene.happen(DiskRecovered())
    scene.happen(DiskRecovered())

    assert [told.on for told in scene.told(ServiceModeChanged)] == [True, False]
    assert scene.one(FaultCleared).kind is FaultKind.STORAGE_FAILED
    assert scene.light == "green"


def test_no_rental_begins_in_service_mode() -> None:
    # I-20: neither reserved nor, where it was, opened.
    scene = Scene()
    scene.happen(DiskFailed())
    refused = scene.answer(reserve(START_BOOT_MS + 900_000))
    assert (refused.code, refused.executed) == (Code.STORAGE_CORRUPT, Executed.NO)

    scene = Scene()
    scene.be(RentalMode.RESERVED)
    scene.happen(DiskFailed())
    scene.tap_later()

    assert scene.one(CardRefused).reason is CardRefusal.NOT_READY
    assert scene.told(RentalStarted) == []
    scene.happen(DiskRecovered())
    scene.tap_later()
    assert scene.mode is RentalMode.STOPPED


@pytest.mark.parametrize("command", [unlock(), release()], ids=["unlock", "release"])
def test_no_remote_command_opens_or_releases_in_service_mode(command: Command) -> None:
    # I-5: only the journal could tell that it was done before.
    scene = Scene()
    scene.rent()
    scene.happen(DiskFailed())

    assert scene.answer(command).code is Code.STORAGE_CORRUPT


def test_a_rental_ends_by_card_in_service_mode() -> None:
    scene = Scene()
    scene.rent()
    scene.happen(DiskFailed())

    scene.advance(10)
    scene.tap_later()
    scene.advance(1)

    assert scene.mode is RentalMode.AVAILABLE
    assert len(scene.told(RentalEnded)) == 1
    assert scene.light == "blinking fault_pattern"


def test_a_driver_is_not_told_of_an_end_that_the_disk_has_not_taken() -> None:
    # H21
    scene = Scene()
    scene.rent_and_release()
    scene.happen(DiskFailed())

    scene.tap_later()

    assert scene.told(RentalEnded)
    assert scene.prompt is PromptKey.END_NOT_STORED
    assert PromptKey.RENTAL_ENDED not in {p.prompt.key for p in scene.done(ShowPrompt)}


def test_a_rental_ends_by_command_in_service_mode() -> None:
    # Row 4: rental end still by remote.
    scene = Scene()
    scene.rent()
    scene.happen(DiskFailed())
    scene.advance(10)

    scene.order(lock(LockMode.END))
    scene.advance(1)

    assert scene.mode is RentalMode.AVAILABLE
    assert len(scene.told(RentalEnded)) == 1


def test_a_parked_customer_gets_at_what_lies_in_the_car() -> None:
    scene = Scene()
    scene.be(RentalMode.PARKED)
    scene.happen(DiskFailed())

    scene.tap_later()
    scene.advance(1)

    assert scene.mode is RentalMode.STOPPED


@pytest.mark.parametrize(
    ("mode", "command"),
    [
        (RentalMode.STOPPED, hold()),
        (RentalMode.RESERVED, cancel()),
        (RentalMode.STOPPED, FlashHazards(NO_RENTAL, ANY_VERSION, 5)),
        (RentalMode.STOPPED, Ping(NO_RENTAL, ANY_VERSION, bytes(16))),
    ],
    ids=["hold", "cancel", "hazards", "ping"],
)
def test_what_closes_or_asks_is_still_done(mode: RentalMode, command: Command) -> None:
    scene = Scene()
    scene.be(mode)
    scene.happen(DiskFailed())

    assert scene.answer(command).code in {Code.OK, Code.ALREADY_IN_STATE}


def test_a_start_leaves_service_mode_until_the_disk_fails_again() -> None:
    scene = Scene()
    scene.happen(DiskFailed())

    scene.restart()

    assert [told.on for told in scene.told(ServiceModeChanged)] == [True, False]
    assert FaultKind.STORAGE_FAILED not in scene.state.faults
