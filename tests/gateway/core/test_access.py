"""Cards at the windscreen: what a tap opens, closes and never does (C8, I-12, I-14)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.access import DEBOUNCE_MS
from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.prompts import Choice, PromptKey
from protocol.codes import (
    AccessMeans,
    CardRefusal,
    EndReason,
    LockDefault,
    RentalMode,
)
from protocol.event import (
    AccessGranted,
    CardRefused,
    Parked,
    RentalEnded,
    RentalStarted,
    Resumed,
)
from protocol.identity import card_digest
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.scene import (
    CARD,
    RENTAL,
    SECOND_CARD,
    STRANGER,
    BoardMood,
    Scene,
)


def test_the_customers_card_opens_and_starts_the_rental() -> None:
    # C8, C12: distance, levels and time count from the open door.
    scene = Scene()
    scene.reserve()

    scene.tap()

    assert scene.mode is RentalMode.STOPPED
    assert scene.done(DriveLocks) == [DriveLocks(locked=False)]
    granted, started = scene.one(AccessGranted), scene.one(RentalStarted)
    assert (granted.rental_id, granted.means) == (RENTAL, AccessMeans.CARD)
    assert granted.authority == card_digest(RENTAL, CARD)
    assert (started.odometer_m, started.energy_pct) == (12_345_000, 80)
    assert (started.washer_pct, started.range_km) == (60, 400)
    assert (scene.light, scene.prompt) == ("red", PromptKey.NO_KNOWN_DAMAGE)


def test_nothing_has_started_before_the_bolts_are_read_back_open() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF

    scene.tap()

    assert scene.mode is RentalMode.RESERVED
    assert scene.light == "yellow"
    assert scene.told(RentalStarted) == []


def test_every_card_of_the_reservation_opens() -> None:
    scene = Scene()
    scene.reserve(cards=(CARD, SECOND_CARD))

    scene.tap(SECOND_CARD)

    assert scene.mode is RentalMode.STOPPED


@pytest.mark.parametrize("mode", list(RentalMode))
def test_a_strangers_card_moves_nothing_in_any_mode(mode: RentalMode) -> None:
    # S3: before the doors.
    # I-12
    scene = Scene()
    scene.be(mode)
    scene.forget()

    scene.tap(STRANGER)
    if mode is RentalMode.AVAILABLE:
        scene.advance(5)

    assert scene.mode is mode
    assert scene.done(DriveLocks) == []
    assert scene.done(AllowEngine) == []
    assert scene.light == "blinking red"
    refused = scene.one(CardRefused)
    if mode is RentalMode.AVAILABLE:
        assert refused.reason is CardRefusal.NO_RESERVATION
        assert refused.rental_id == NO_RENTAL
    else:
        assert refused.reason is CardRefusal.NOT_FOR_THIS_RENTAL
        assert refused.rental_id == RENTAL
    in_rental = mode not in {RentalMode.AVAILABLE, RentalMode.RESERVED}
    assert scene.prompt is (PromptKey.OTHER_CARD if in_rental else PromptKey.NONE)


def test_tap_cannot_enroll_however_often_a_strangers_card_is_held_there() -> None:
    # I-14: protocol-design.md 4, abuse of the NFC window.
    scene = Scene()
    scene.reserve()
    promised = scene.state.reservation

    for _ in range(50):
        scene.tap(STRANGER)
        scene.advance(3)

    assert scene.state.reservation == promised
    assert scene.done(DriveLocks) == []


def test_a_refusal_blinks_red_for_two_seconds() -> None:
    # H15
    scene = Scene()
    scene.reserve()
    scene.tap(STRANGER)

    scene.advance(1.999)
    assert scene.light == "blinking red"
    scene.advance(0.001)

    assert scene.light == "yellow"


def test_the_ledger_names_no_uid() -> None:
    scene = Scene()

    scene.tap(STRANGER)

    assert scene.one(CardRefused).card == card_digest(NO_RENTAL, STRANGER)


def test_a_worthless_card_fills_no_disk() -> None:
    # I-20: told at most once in 30 s, refused every time.
    scene = Scene()
    scene.tap(STRANGER)
    scene.advance(6)
    for _ in range(12):
        scene.tap(STRANGER)
        assert scene.light == "blinking red"
        scene.advance(2)
    assert len(scene.told(CardRefused)) == 1

    scene.tap(STRANGER)

    assert len(scene.told(CardRefused)) == 2


def test_the_card_of_one_rental_does_not_open_the_next() -> None:
    scene = Scene()
    scene.rent()
    scene.tap_later()
    scene.reserve(cards=(SECOND_CARD,))
    scene.advance(6)

    scene.tap(CARD)

    assert scene.mode is RentalMode.RESERVED
    assert scene.told(CardRefused)[-1].reason is CardRefusal.NOT_FOR_THIS_RENTAL


@pytest.mark.parametrize("uid", [b"", b"\x04", bytes(5), bytes(11), bytes(4_000)])
def test_a_uid_of_an_impossible_size_is_refused(uid: bytes) -> None:
    scene = Scene()
    scene.reserve()

    scene.tap(uid)

    assert scene.mode is RentalMode.RESERVED
    refused = scene.one(CardRefused)
    assert refused.reason is CardRefusal.UNSUPPORTED_CARD
    assert refused.card == card_digest(RENTAL, uid[:10])


def test_a_uid_of_an_impossible_size_is_refused_by_a_car_that_nobody_has() -> None:
    scene = Scene()

    scene.tap(bytes(5))

    assert scene.one(CardRefused).rental_id == NO_RENTAL


def test_a_card_read_again_within_the_same_tap_is_no_second_tap() -> None:
    # I-14
    scene = Scene()
    scene.tap(STRANGER)
    scene.advance(1.4)
    scene.forget()

    decision = scene.tap(STRANGER)

    assert decision.actions == ()
    assert decision.entries == ()


def test_a_card_held_still_before_a_flickering_reader_stays_one_tap() -> None:
    # I-14: the reader loses and finds it each second; the rental must not end by it.
    scene = Scene()
    scene.reserve()

    for _ in range(20):
        scene.tap()
        scene.advance(1)

    assert scene.mode is RentalMode.STOPPED
    assert scene.told(RentalEnded) == []


@settings(deadline=None, max_examples=100)
@given(
    mode=st.sampled_from(RentalMode),
    reads=st.lists(
        st.tuples(
            st.sampled_from([CARD, CARD, SECOND_CARD, STRANGER]),
            st.sampled_from([0.0, 0.3, 1.499, 1.5, 6.0]),
        ),
        max_size=25,
    ),
)
def test_no_sequence_of_reads_decides_twice_for_a_tap_or_enrols_or_rents_anew(
    mode: RentalMode, reads: list[tuple[bytes, float]]
) -> None:
    # I-14 (P): as long as the same card is found again within 1.5 s, it is one tap.
    scene = Scene()
    scene.be(mode)
    had = cards_of(scene)
    scene.advance(10)
    last, since_s = b"", 0.0
    for uid, gap_s in reads:
        scene.advance(gap_s)
        since_s += gap_s
        is_same_tap = uid == last and since_s < DEBOUNCE_MS / 1_000
        last, since_s = uid, 0.0

        decision = scene.tap(uid)

        decided = [
            entry
            for entry in decision.entries
            if isinstance(entry, AccessGranted | CardRefused)
        ]
        assert len(decided) <= (0 if is_same_tap else 1)
        assert not (is_same_tap and decision.actions)
    assert cards_of(scene) in {had, ()}
    assert scene.state.rental_id in {RENTAL, None}
    assert len(scene.told(RentalStarted)) <= 1


def cards_of(scene: Scene) -> tuple[bytes, ...]:
    """Return who may open the car."""
    state = scene.state
    held = state.reservation if state.rental is None else state.rental.reservation
    return () if held is None else held.cards


def test_a_second_tap_while_boarding_ends_nothing() -> None:
    # I-14: the doors took a moment, and the customer tapped again.
    scene = Scene()
    scene.rent()
    scene.advance(2)

    decision = scene.tap()

    assert decision.actions == ()
    assert scene.mode is RentalMode.STOPPED


def test_another_card_of_the_customer_while_boarding_ends_nothing_either() -> None:
    scene = Scene()
    scene.rent()
    scene.advance(0.2)

    scene.tap(SECOND_CARD)

    assert scene.mode is RentalMode.STOPPED


@pytest.mark.parametrize(
    ("choice", "mode"),
    [(Choice.END, RentalMode.AVAILABLE), (Choice.PARK, RentalMode.PARKED)],
)
def test_a_choice_at_the_display_means_the_tap_while_boarding_too(
    choice: Choice, mode: RentalMode
) -> None:
    # C24, C26: who opens, chooses and leaves must not walk away from an open car.
    scene = Scene()
    scene.rent()
    scene.advance(2)

    scene.choose(choice)
    scene.tap()

    assert scene.mode is mode
    assert scene.reading.locked


def test_after_boarding_a_tap_locks_and_ends() -> None:
    # C26: a customer who leaves without having driven.
    scene = Scene()
    scene.rent()
    scene.advance(5)

    scene.tap()

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.light == "green"
    assert scene.prompt is PromptKey.RENTAL_ENDED
    ended = scene.one(RentalEnded)
    assert ended.reason is EndReason.CARD
    assert ended.authority == card_digest(RENTAL, CARD) + bytes(16)


def test_a_short_drive_within_the_boarding_time_can_be_ended_at_once() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.drive(seconds=2, metres=10)

    scene.tap()

    assert scene.mode is RentalMode.AVAILABLE


def test_a_tap_while_the_bolts_move_is_nothing() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.advance(2, board_reports=False)

    decision = scene.tap()

    assert decision.actions == ()
    assert decision.entries == ()


def test_a_tap_while_driving_is_refused() -> None:
    scene = Scene()
    scene.be(RentalMode.DRIVING)
    scene.forget()

    scene.tap_later()

    assert scene.one(CardRefused).reason is CardRefusal.ENGINE_RUNNING
    assert scene.done(DriveLocks) == []


def test_a_parked_car_opens_and_asks_for_the_pin_again() -> None:
    # C24
    scene = Scene()
    scene.be(RentalMode.PARKED)

    scene.tap_later()

    assert scene.mode is RentalMode.STOPPED
    assert scene.one(Resumed).means is AccessMeans.CARD
    assert scene.one(Resumed).parked_ms == 6_000
    assert scene.prompt is PromptKey.ENTER_PIN
    assert not scene.reading.engine_released


def test_at_the_station_a_tap_only_locks_and_unlocks() -> None:
    # C17: paying takes a while, and the car stands open otherwise.
    scene = Scene()
    scene.be(RentalMode.REFUELLING)

    scene.tap_later()
    locked = scene.reading.locked
    scene.tap_later()

    assert locked
    assert not scene.reading.locked
    assert scene.reading.engine_released
    assert scene.mode is RentalMode.REFUELLING


def test_a_tap_at_a_locked_car_lets_the_customer_in_and_ends_nothing() -> None:
    # The bolts closed without us; whoever stands outside wants in (I-19).
    scene = Scene()
    scene.rent_and_release()
    scene.drive()
    scene.board(locked=True)
    scene.tap_later()
    assert not scene.reading.locked

    scene.advance(2)
    scene.tap()

    assert scene.mode is RentalMode.STOPPED
    assert scene.told(RentalEnded) == []


def test_the_choice_wins_over_the_default() -> None:
    # C26, C28, H8
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.END)
    scene.drive()
    scene.choose(Choice.PARK)
    assert scene.prompt is PromptKey.LOCK_TO_PARK

    scene.tap_later()

    assert scene.mode is RentalMode.PARKED
    assert scene.one(Parked).means is AccessMeans.CARD
    assert scene.light == "red"


def test_a_choice_to_end_wins_over_a_default_to_park() -> None:
    # H8
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.PARK)
    scene.drive()
    scene.choose(Choice.END)
    assert scene.prompt is PromptKey.LOCK_TO_END

    scene.tap_later()

    assert scene.mode is RentalMode.AVAILABLE


def test_without_a_choice_the_default_says_what_locking_means() -> None:
    # C28
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.PARK)
    scene.drive()

    scene.tap_later()

    assert scene.mode is RentalMode.PARKED


def test_a_choice_is_forgotten_once_it_was_carried_out() -> None:
    # H8: it was for the next lock.
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.END)
    scene.choose(Choice.PARK)
    scene.tap_later()
    scene.tap_later()

    scene.tap_later()

    assert scene.mode is RentalMode.AVAILABLE


def test_a_choice_is_forgotten_when_the_driver_drives_on() -> None:
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.END)
    scene.drive()
    scene.choose(Choice.PARK)
    scene.drive()

    scene.tap_later()

    assert scene.mode is RentalMode.AVAILABLE


def test_the_same_card_after_a_second_and_a_half_is_a_new_tap() -> None:
    scene = Scene()
    scene.tap(STRANGER)
    scene.advance(1.5)

    scene.tap(STRANGER)

    assert scene.state.refusing_until_ms == scene.boot_ms + 2_000


def test_a_driver_who_comes_back_is_told_to_start_and_not_asked_what_next() -> None:
    # C16 is for an engine that was switched off, not for one that was parked.
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.PARK)
    scene.drive()
    scene.tap_later()
    scene.tap_later()

    scene.type_pin()

    assert scene.prompt is PromptKey.MAY_START
