"""Grants: what a card may do with no network at all (H14, I-12, I-18, I-19)."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.actions import DriveLocks
from gateway.core.events import DiskFailed, ReaderLost, UpdateBegan
from gateway.core.grants import GRANTS_LIMIT, SPAN_LIMIT_MS
from gateway.core.prompts import PromptKey
from protocol.codes import (
    AccessMeans,
    CardRefusal,
    ClockQuality,
    Code,
    LockDefault,
    LockMode,
    RentalMode,
)
from protocol.event import (
    AccessGranted,
    CardRefused,
    RentalEnded,
    RentalStarted,
    ReservationExpired,
    ReservationStarted,
)
from protocol.identity import card_digest
from protocol.rental_codes import GrantAction, Rights
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import GrantChanged
from tests.gateway.core.scene import (
    CARD,
    OTHER_RENTAL,
    RENTAL,
    SECOND_CARD,
    STRANGER,
    BoardMood,
    Scene,
    grant_of,
    lock,
)

HOUR_MS = 3_600_000


def granted(**changes: object) -> Scene:
    scene = Scene()
    assert scene.grant(CARD, **changes).code is Code.OK
    return scene


def number(grant: int) -> bytes:
    return grant.to_bytes(16, "big")


def test_a_card_with_a_grant_opens_and_starts_without_any_command() -> None:
    # H14, H19, K20
    scene = granted()

    scene.tap()

    assert scene.mode is RentalMode.STOPPED
    assert not scene.reading.locked
    assert scene.one(ReservationStarted).rental_id == RENTAL
    assert scene.one(AccessGranted).authority == card_digest(RENTAL, CARD)
    started = scene.one(RentalStarted)
    assert (started.rental_id, started.means) == (RENTAL, AccessMeans.CARD)
    assert scene.light == "red"


def test_language_default_and_pin_come_with_the_grant() -> None:
    # H14, C11, C28
    scene = granted(lock_default=LockDefault.PARK)
    scene.tap()

    assert scene.state.shown_prompt.language == b"de"
    scene.type_pin()
    assert scene.reading.engine_released
    scene.tap_later()
    assert scene.mode is RentalMode.PARKED


def test_a_grant_is_told_and_starts_one_rental_only() -> None:
    # I-14
    scene = granted()
    assert scene.one(GrantChanged) == GrantChanged(b"a" * 16, GrantAction.ADD)
    scene.tap()
    scene.tap_later()
    assert scene.one(RentalEnded).rental_id == RENTAL

    scene.tap_later()
    scene.advance(6)

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.state.grants == ()
    assert len(scene.told(RentalStarted)) == 1


def test_when_the_doors_do_not_open_the_card_may_try_again_for_a_minute() -> None:
    scene = granted()
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.advance(4)
    assert scene.state.mode.name == "RESERVED"
    scene.mood = BoardMood.OBEYS

    scene.tap()

    assert scene.mode is RentalMode.STOPPED


def test_a_car_whose_doors_never_opened_is_free_again_and_keeps_the_grant() -> None:
    scene = granted()
    scene.mood = BoardMood.REFUSES
    scene.tap()

    scene.advance(61)

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.one(ReservationExpired).rental_id == RENTAL
    assert len(scene.state.grants) == 1


@pytest.mark.parametrize(
    ("before_s", "opens"), [(-1, False), (0, True), (3_599, True), (3_600, False)]
)
def test_a_grant_counts_from_its_begin_to_before_its_end(
    before_s: int, *, opens: bool
) -> None:
    # I-12
    scene = Scene()
    begin_ms = scene.wall_ms + 10_000
    scene.grant(not_before_wall_ms=begin_ms, not_after_wall_ms=begin_ms + HOUR_MS)
    scene.advance(10 + before_s)

    scene.tap()

    assert (scene.mode is RentalMode.STOPPED) is opens


@pytest.mark.parametrize("quality", list(ClockQuality))
def test_without_trusted_time_no_new_grant_starts(quality: ClockQuality) -> None:
    # H14, I-19: fail-secure for a new renter
    scene = granted()
    scene.quality = quality

    scene.tap()

    assert (scene.mode is RentalMode.STOPPED) is quality.trusted


def test_a_wall_clock_that_jumps_into_the_span_opens_nothing() -> None:
    # I-29: only what the fleet has told counts
    scene = Scene()
    begin_ms = scene.wall_ms + HOUR_MS
    scene.grant(not_before_wall_ms=begin_ms, not_after_wall_ms=begin_ms + HOUR_MS)
    scene.quality = ClockQuality.RTC
    scene.wall_ms = begin_ms + 1

    scene.tap()
    scene.advance(6)

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.done(DriveLocks) == []


FLAWS = (
    "another's card",
    "a stranger's card",
    "over",
    "to begin later",
    "no right to open",
    "no right to drive or serve",
    "no trusted time",
    "withdrawn",
    "never given",
)
"""What can be wrong with a grant, the card and the time that it is judged by."""


def give_flawed(scene: Scene, wrong: set[str], right: Rights) -> None:
    """Give the card an hour that has begun, but for what is wrong with it."""
    rights = Rights(0)
    if "no right to open" not in wrong:
        rights |= Rights.UNLOCK
    if "no right to drive or serve" not in wrong:
        rights |= right
    shift_ms = 2 * HOUR_MS if "to begin later" in wrong else 0
    grant = grant_of(
        scene,
        CARD,
        rental_id=OTHER_RENTAL,
        not_before_wall_ms=scene.wall_ms + shift_ms - 60_000,
        not_after_wall_ms=scene.wall_ms + shift_ms + HOUR_MS,
        rights=rights,
    )
    scene.order(grant)
    assert grant in scene.state.grants
    if "withdrawn" in wrong:
        scene.order(replace(grant, action=GrantAction.WITHDRAW))


@settings(deadline=None, max_examples=150)
@given(
    mode=st.sampled_from([*RentalMode, *[RentalMode.AVAILABLE] * 6]),
    flaws=st.sets(st.sampled_from(FLAWS), max_size=3),
    right=st.sampled_from([Rights.DRIVE, Rights.SERVICE]),
    quality=st.sampled_from(ClockQuality),
)
@pytest.mark.parametrize("flaw", [None, *FLAWS])
def test_no_card_opens_without_a_right_to_it_whatever_the_state(
    *,
    flaw: str | None,
    mode: RentalMode,
    flaws: set[str],
    right: Rights,
    quality: ClockQuality,
) -> None:
    # I-12 (P) over card, state and grant; whose grant is withdrawn is blocked.
    wrong = flaws if flaw is None else flaws | {flaw}
    scene = Scene()
    scene.be(mode)
    if "never given" not in wrong:
        give_flawed(scene, wrong, right)
    if "over" in wrong:
        scene.advance(3 * HOUR_MS / 1_000)
    if "no trusted time" in wrong:
        scene.quality = ClockQuality.UNSET
    elif quality.trusted:
        scene.quality = quality
    scene.advance(10)
    scene.forget()
    before = scene.mode
    uid = CARD
    if "a stranger's card" in wrong:
        uid = STRANGER
    elif "another's card" in wrong:
        uid = SECOND_CARD

    scene.tap(uid)

    own = before is not RentalMode.AVAILABLE and uid != STRANGER
    by_grant = before is RentalMode.AVAILABLE and not wrong
    opened = DriveLocks(locked=False) in scene.done(DriveLocks)
    assert not opened or own or by_grant
    assert not by_grant or opened
    if not (own or by_grant):
        assert scene.mode is before
        assert not scene.told(AccessGranted)


def test_a_withdrawn_card_opens_nothing() -> None:
    # I-12: blocked
    scene = granted()
    result = scene.answer(replace(grant_of(scene), action=GrantAction.WITHDRAW))
    assert result.code is Code.OK
    assert scene.told(GrantChanged)[-1].action is GrantAction.WITHDRAW

    scene.tap()
    scene.advance(6)

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.one(CardRefused).reason is CardRefusal.NO_RESERVATION


@pytest.mark.parametrize("mode", [RentalMode.RESERVED, RentalMode.PARKED])
def test_a_card_that_is_stolen_while_its_rental_runs_can_be_blocked(
    mode: RentalMode,
) -> None:
    # I-12: blocked; I-19: the other card and the app open as before.
    scene = Scene()
    scene.be(mode)
    blocked = replace(grant_of(scene), action=GrantAction.WITHDRAW)
    assert scene.answer(blocked).code is Code.OK
    assert scene.one(GrantChanged).action is GrantAction.WITHDRAW
    scene.forget()

    scene.tap_later()

    assert scene.mode is mode
    assert scene.one(CardRefused).reason is CardRefusal.NOT_FOR_THIS_RENTAL
    assert scene.answer(blocked).code is Code.ALREADY_IN_STATE
    scene.tap_later(SECOND_CARD)
    assert scene.mode is RentalMode.STOPPED


def test_a_withdrawal_for_another_rental_takes_no_card_from_this_one() -> None:
    # I-12
    scene = Scene()
    scene.reserve()
    other = grant_of(scene, rental_id=b"\x77" * 16, action=GrantAction.WITHDRAW)

    assert scene.answer(other).code is Code.ALREADY_IN_STATE
    scene.tap()

    assert scene.mode is RentalMode.STOPPED


def test_a_withdrawal_of_what_is_not_there_is_already_so() -> None:
    scene = Scene()

    result = scene.answer(replace(grant_of(scene), action=GrantAction.WITHDRAW))

    assert result.code is Code.ALREADY_IN_STATE
    assert scene.told(GrantChanged) == []


def test_the_same_grant_again_is_already_so_and_another_content_takes_its_place() -> (
    None
):
    scene = granted()
    assert scene.answer(scene.state.grants[0]).code is Code.ALREADY_IN_STATE

    scene.grant(SECOND_CARD)

    [grant] = scene.state.grants
    assert grant.card == card_digest(RENTAL, SECOND_CARD)


def test_a_car_keeps_sixteen_grants_and_refuses_more() -> None:
    # H14, I-18
    scene = Scene()
    for each in range(GRANTS_LIMIT):
        assert scene.grant(grant_id=number(each + 1)).code is Code.OK

    assert scene.grant(grant_id=number(99)).code is Code.QUEUE_FULL
    assert len(scene.state.grants) == GRANTS_LIMIT == 16


def test_grants_that_are_over_make_room() -> None:
    scene = Scene()
    for each in range(GRANTS_LIMIT):
        scene.grant(grant_id=number(each + 1))
    scene.advance(3_600)

    assert scene.grant(grant_id=number(99)).code is Code.OK
    assert [grant.grant_id for grant in scene.state.grants] == [number(99)]


def test_without_trusted_time_nothing_counts_as_over() -> None:
    scene = Scene()
    scene.quality = ClockQuality.UNSET
    for each in range(GRANTS_LIMIT):
        assert scene.grant(grant_id=number(each + 1)).code is Code.OK

    assert scene.grant(grant_id=number(99)).code is Code.QUEUE_FULL


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"rental_id": NO_RENTAL}, Code.BAD_PARAM),
        ({"not_after_wall_ms": 0}, Code.BAD_PARAM),
        ({"not_before_wall_ms": 0}, Code.BAD_PARAM),
        ({"not_before_wall_ms": 1, "not_after_wall_ms": 2}, Code.EXPIRED),
    ],
)
def test_a_grant_that_makes_no_sense_is_refused(
    changes: dict[str, object], code: Code
) -> None:
    # I-18: nor one whose span is longer than a car without a network should believe
    scene = Scene()

    assert scene.grant(CARD, **changes).code is code
    assert scene.state.grants == ()


def test_grants_survive_a_power_cut() -> None:
    # I-28, H14
    scene = granted()
    scene.restart(off_s=60)
    scene.report()

    scene.tap()

    assert scene.mode is RentalMode.STOPPED


def test_a_grant_of_another_rental_opens_no_reserved_car() -> None:
    # I-12
    scene = Scene()
    scene.reserve(cards=(SECOND_CARD,))
    scene.grant(rental_id=OTHER_RENTAL)

    scene.tap()

    assert scene.one(CardRefused).reason is CardRefusal.NOT_FOR_THIS_RENTAL
    assert scene.mode is RentalMode.RESERVED


@pytest.mark.parametrize("event", [DiskFailed(), ReaderLost(), UpdateBegan()])
def test_a_car_that_cannot_be_rented_refuses_a_grant_as_not_ready(
    event: DiskFailed | ReaderLost | UpdateBegan,
) -> None:
    # H15, I-20
    scene = granted()
    scene.happen(event)

    scene.tap()

    assert scene.one(CardRefused).reason is CardRefusal.NOT_READY
    assert scene.mode is RentalMode.AVAILABLE
    assert scene.light == "blinking red"
    assert scene.prompt is PromptKey.NONE


@pytest.mark.parametrize("rights", [Rights(0), Rights.UNLOCK, Rights.DRIVE])
def test_a_grant_without_the_rights_to_open_and_drive_starts_nothing(
    rights: Rights,
) -> None:
    scene = granted(rights=rights)

    scene.tap()
    scene.advance(6)

    assert scene.mode is RentalMode.AVAILABLE


def test_thirty_days_without_a_network_end_all_authority_but_the_renters() -> None:
    # I-18, I-19: over 30 virtual days
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.PARK)
    for each in range(GRANTS_LIMIT):
        begin_ms = scene.wall_ms + each * HOUR_MS
        scene.grant(
            SECOND_CARD,
            grant_id=number(each + 1),
            rental_id=number(each + 100),
            not_before_wall_ms=begin_ms,
            not_after_wall_ms=begin_ms + SPAN_LIMIT_MS,
        )
    scene.tap_later()
    for _ in range(31):
        scene.advance(24 * 3_600)
        scene.tap()
        assert not scene.reading.locked
        scene.advance(6)
        scene.tap()
        assert scene.mode is RentalMode.PARKED

    assert scene.answer(lock(LockMode.END)).code is Code.OK
    scene.tap_later(SECOND_CARD)
    scene.advance(6)

    assert scene.mode is RentalMode.AVAILABLE
    assert len(scene.told(RentalStarted)) == 1


@pytest.mark.parametrize("quality", list(ClockQuality))
@pytest.mark.parametrize("event", [DiskFailed(), UpdateBegan(), None])
def test_the_active_renter_is_locked_out_by_no_failure(
    event: DiskFailed | UpdateBegan | None, quality: ClockQuality
) -> None:
    # I-19: fail-operational for who has the car
    scene = Scene()
    scene.be(RentalMode.PARKED)
    scene.quality = quality
    if event is not None:
        scene.happen(event)

    scene.tap_later()
    assert not scene.reading.locked
    scene.type_pin()
    assert scene.reading.engine_released
    scene.tap_later()

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.told(RentalEnded)
