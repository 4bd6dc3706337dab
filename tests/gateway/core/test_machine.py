"""Everything that can happen, in any order: Hypothesis looks for what we forgot.

`Scene.happen` checks the invariants of `tests.gateway.core.invariants` after each step;
here stand those that need a memory of what went before.
"""

from collections import Counter
from dataclasses import replace
from typing import Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from gateway.core.actions import CheckPin
from gateway.core.events import (
    BoardLost,
    BoardRefusal,
    ConfigurationTold,
    DamageEntered,
    DestinationEntered,
    Event,
    LedgerReplaced,
    PinVerdict,
    PositionFixed,
    PumpEntered,
    RatingEntered,
    ReaderLost,
    ReaderRecovered,
    RoomChanged,
    UpdateBegan,
    UpdateEnded,
    UplinkConnected,
    UplinkLost,
)
from gateway.core.handover import offer_id_of
from gateway.core.payment import payment_id_of
from gateway.core.prompts import Choice
from gateway.core.room import Room
from gateway.core.state import Handover, State
from gateway.core.vehicle import next_deadline
from gateway.storage.state_codec import decode_state, encode_state
from protocol.board.message import Plug
from protocol.codes import (
    ClockQuality,
    ConfigKind,
    LockDefault,
    LockMode,
    ModeRequest,
    RentalMode,
)
from protocol.command import (
    ANY_VERSION,
    Command,
    FlashHazards,
    Ping,
)
from protocol.rental_codes import (
    DamageKind,
    DamagePlace,
    GrantAction,
    PaymentOutcome,
    ResetReason,
    Rights,
    ServiceRequest,
)
from protocol.rental_command import PaymentDecision, Service
from protocol.snapshot import NO_RENTAL
from protocol.station_list import build_station_list
from protocol.vehicle_event import LedgerReset
from tests.depth import UNCOUNTED, times
from tests.gateway.core.scene import (
    CARD,
    OTHER_RENTAL,
    PIN,
    RENTAL,
    SECOND_CARD,
    STRANGER,
    WRONG_PIN,
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
from tests.gateway.core.test_payment import PLACE, STATION
from tests.gateway.core.two_drivers import BOB, offer_of, request_of
from tests.gateway.core.watched_scene import WatchedScene

pytestmark = UNCOUNTED

CARDS: Final = (CARD, SECOND_CARD, STRANGER, bytes(5))
LEVELS: Final = st.none() | st.integers(0, 100)
HOUR_S: Final = 3_600.0
RESET: Final = LedgerReset(bytes(8), 7, bytes(32), ResetReason.CORRUPT)


def handover_of(scene: Scene) -> Handover | None:
    """Return who may take the car over, None for nobody."""
    rental = scene.state.rental
    return None if rental is None else rental.handover


class CoreMachine(RuleBasedStateMachine):
    """A car between customers, fleet, board, clock and power cuts.

    I-2, I-12, I-16, I-17: at each step, by `tests.gateway.core.invariants` too.
    """

    @initialize(mode=st.sampled_from(RentalMode))
    def begin(self, mode: RentalMode) -> None:
        self.scene = WatchedScene()
        self.scene.be(mode)
        self.rentals = 0

    # --- the fleet -------------------------------------------------------------------

    @precondition(lambda self: not self.scene.mode.in_rental)
    @rule(
        seconds=st.floats(-5, 900),
        lock_default=st.sampled_from(LockDefault),
        cards=st.sets(st.sampled_from([CARD, SECOND_CARD])),
    )
    def reserve_for_somebody_new(
        self, seconds: float, lock_default: LockDefault, cards: set[bytes]
    ) -> None:
        self.rentals += 1
        until_ms = max(0, self.scene.boot_ms + int(seconds * 1000))
        self.scene.order(
            reserve(
                until_ms,
                rental_id=b"rental" + self.rentals.to_bytes(10, "big"),
                lock_default=lock_default,
                cards=tuple(sorted(cards)),
            )
        )

    @precondition(lambda self: self.scene.state.rental_id is not None)
    @rule(data=st.data())
    def order_for_the_rental(self, data: st.DataObject) -> None:
        rental_id = data.draw(
            st.sampled_from([self.scene.state.rental_id or RENTAL] * 4 + [OTHER_RENTAL])
        )
        version = data.draw(
            st.sampled_from([ANY_VERSION] * 4 + [self.scene.state.version, 10_000])
        )
        commands: list[Command] = [
            unlock(rental_id, version),
            *(lock(mode, rental_id, version) for mode in LockMode),
            release(rental_id, version),
            hold(rental_id, version),
            cancel(rental_id, version),
            *(set_mode(request, rental_id, version) for request in ModeRequest),
            FlashHazards(rental_id, version, 5),
        ]
        self.scene.order(data.draw(st.sampled_from(commands)))

    @rule(
        uid=st.sampled_from([CARD, SECOND_CARD]),
        starts_in_s=st.sampled_from([-60, 0, 600]),
        lasts_s=st.sampled_from([1, 600, 3_600]),
        rights=st.sampled_from([*Rights, Rights(3), Rights(5), Rights(7)]),
    )
    def grant_somebody(
        self, uid: bytes, starts_in_s: int, lasts_s: int, rights: Rights
    ) -> None:
        self.rentals += 1
        begin_ms = max(0, self.scene.wall_ms + starts_in_s * 1_000)
        self.scene.grant(
            uid,
            rental_id=b"grant\0" + self.rentals.to_bytes(10, "big"),
            grant_id=self.rentals.to_bytes(16, "big"),
            not_before_wall_ms=begin_ms,
            not_after_wall_ms=begin_ms + lasts_s * 1_000,
            rights=rights,
        )

    @precondition(lambda self: self.scene.mode is RentalMode.AVAILABLE)
    @rule(uid=st.sampled_from([CARD, SECOND_CARD]))
    def somebody_comes_when_the_grant_is_over(self, uid: bytes) -> None:
        """I-12: chance alone would seldom come so late, and with that card."""
        self.grant_somebody(uid, 0, 1, Rights(7))
        self.scene.advance(10)
        self.scene.tap(uid)

    @precondition(lambda self: self.scene.state.grants)
    @rule(data=st.data())
    def withdraw_a_grant(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(self.scene.state.grants))
        self.scene.order(replace(grant, action=GrantAction.WITHDRAW))
        assert grant.grant_id not in {g.grant_id for g in self.scene.state.grants}

    @rule(request=st.sampled_from(ServiceRequest), seconds=st.sampled_from([-1, 60]))
    def order_service(self, request: ServiceRequest, seconds: int) -> None:
        until_ms = max(0, self.scene.boot_ms + seconds * 1_000)
        self.scene.order(Service(NO_RENTAL, ANY_VERSION, request, until_ms))

    @rule()
    def lose_the_ledger(self) -> None:
        """I-16: all that the car knew is gone, and it starts with that."""
        lost = self.scene.state.rental_id
        if self.scene.mode.in_rental and lost is not None:
            # Its end is the fleet's to write.
            self.scene.reports[lost] += 1
            self.scene.engine_allowed = False
        self.scene.open_requests.clear()
        self.scene.state = State()
        self.scene.happen(LedgerReplaced(RESET))
        self.scene.start()

    @rule(event=st.sampled_from([UpdateBegan(), UpdateEnded()]))
    def the_program_is_exchanged(self, event: Event) -> None:
        self.scene.happen(event)

    @rule()
    def ping(self) -> None:
        self.scene.order(Ping(NO_RENTAL, ANY_VERSION, bytes(16)))

    # --- customers -------------------------------------------------------------------

    @precondition(lambda self: not self.scene.mode.in_rental)
    @rule(lock_default=st.sampled_from(LockDefault), knows_pin=st.booleans())
    def somebody_rents(self, lock_default: LockDefault, knows_pin: bool) -> None:
        """A whole chapter, without which most runs would never leave AVAILABLE."""
        self.scene.mood = BoardMood.OBEYS
        self.scene.happen(ReaderRecovered())
        self.scene.happen(RoomChanged(Room.ANOTHER))
        self.leave_it_in_order()
        self.scene.advance(10)
        self.scene.happen(UpdateEnded())
        self.order_service(ServiceRequest.OFF, 60)
        if self.scene.mode is RentalMode.AVAILABLE:
            self.reserve_for_somebody_new(60, lock_default, {CARD})
        self.scene.tap()
        if knows_pin:
            self.scene.type_pin()

    @precondition(lambda self: self.scene.mode is RentalMode.STOPPED)
    @rule(choice=st.sampled_from(Choice))
    def choose_and_lock(self, choice: Choice) -> None:
        self.leave_it_in_order()
        self.scene.choose(choice)
        self.scene.tap_later()

    @precondition(lambda self: self.scene.mode is RentalMode.STOPPED)
    @rule(tries=st.integers(1, 4))
    def guess(self, tries: int) -> None:
        for _ in range(tries):
            self.scene.type_pin(WRONG_PIN)

    @rule(stars=st.integers(0, 6), note=st.sampled_from(["", "x" * 201]))
    def fill_in_forms(self, stars: int, note: str) -> None:
        self.scene.happen(RatingEntered(stars, 5))
        self.scene.happen(DamageEntered(DamagePlace.LEFT, DamageKind.DENT, note))

    @rule(uid=st.sampled_from(CARDS))
    def tap(self, uid: bytes) -> None:
        self.scene.tap(uid)

    @rule()
    def tap_in_peace(self) -> None:
        self.scene.tap_later()

    @rule(pin=st.sampled_from([PIN, WRONG_PIN, "letters", ""]))
    def type_pin(self, pin: str) -> None:
        self.scene.type_pin(pin)

    @rule(choice=st.sampled_from(Choice))
    def choose(self, choice: Choice) -> None:
        self.scene.choose(choice)

    @precondition(lambda self: self.scene.reading.engine_released)
    @rule(speed=st.sampled_from([0, 1, 500, None]))
    def drive_off(self, speed: int | None) -> None:
        self.scene.board(engine_running=True, ignition_on=True, speed_dkmh=speed)

    @precondition(lambda self: self.scene.reading.engine_released)
    @rule(
        speed=st.sampled_from([0, 1, 500, None]),
        silent_s=st.sampled_from([0, 0, 3]),
        mode=st.sampled_from(LockMode),
    )
    def somebody_far_away_takes_a_car_that_drives(
        self, speed: int | None, silent_s: int, mode: LockMode
    ) -> None:
        """I-1, I-2: at that moment, or when the board has said nothing for a while."""
        held = self.scene.state.rental_id or b""
        if silent_s:
            self.stand_still(10)
            self.scene.advance(silent_s, board_reports=False)
        else:
            self.drive_off(speed)
        self.scene.order(hold(held))
        self.scene.order(lock(mode, held))

    @rule(metres=st.integers(-10, 10_000))
    def stand_still(self, metres: int) -> None:
        odometer_m = self.scene.reading.odometer_m
        self.scene.board(
            engine_running=False,
            ignition_on=False,
            speed_dkmh=0,
            odometer_m=None if odometer_m is None else odometer_m + metres,
        )

    @rule(
        changes=st.fixed_dictionaries(
            {},
            optional={
                "door_open": st.booleans(),
                "boot_open": st.booleans(),
                "key_present": st.booleans(),
                "ignition_on": st.booleans(),
                "locked": st.booleans(),
                "energy_pct": LEVELS,
                "washer_pct": LEVELS,
                "odometer_m": st.none() | st.integers(0, 10**6),
            },
        ),
        tells=st.booleans(),
    )
    def touch_the_car(self, changes: dict[str, Any], tells: bool) -> None:
        self.scene.reading = replace(self.scene.reading, **changes)
        if tells:
            self.scene.report()

    @rule()
    def leave_it_in_order(self) -> None:
        self.scene.board(
            door_open=False,
            boot_open=False,
            key_present=True,
            ignition_on=False,
            engine_running=False,
            speed_dkmh=0,
        )

    # --- devices ---------------------------------------------------------------------

    @rule(mood=st.sampled_from([*BoardMood, BoardMood.OBEYS, BoardMood.OBEYS]))
    def change_mood(self, mood: BoardMood) -> None:
        self.scene.mood = mood

    @rule(refusal=st.sampled_from(BoardRefusal))
    def refuse(self, refusal: BoardRefusal) -> None:
        self.scene.refusal = refusal
        self.scene.refuse(refusal)

    @rule(locked=st.booleans(), released=st.booleans())
    def board_catches_up(self, locked: bool, released: bool) -> None:
        """A deaf board did something after all, or forgot it."""
        running = self.scene.reading.engine_running
        self.scene.board(locked=locked, engine_released=released or running)

    # --- the pump --------------------------------------------------------------------

    @precondition(lambda self: self.scene.mode.in_rental)
    @rule(is_near=st.booleans(), online=st.booleans())
    def come_to_a_station(self, is_near: bool, online: bool) -> None:
        body = build_station_list((STATION,))
        self.scene.happen(ConfigurationTold(ConfigKind.STATIONS, body))
        self.scene.happen(UplinkConnected() if online else UplinkLost())
        away_e7 = 0 if is_near else 1_000_000
        place = replace(PLACE, latitude_e7=PLACE.latitude_e7 + away_e7)
        self.scene.happen(PositionFixed(place))

    @precondition(lambda self: self.scene.mode is RentalMode.REFUELLING)
    @rule(pump=st.sampled_from([4, 4, 4, 0]), plug=st.sampled_from(Plug))
    def pay_at_the_pump(self, pump: int, plug: Plug) -> None:
        self.scene.board(plug=plug)
        self.scene.choose(Choice.PAY_ONLINE)
        self.scene.happen(PumpEntered(pump))

    @precondition(lambda self: self.scene.mode is RentalMode.STOPPED)
    @rule()
    def a_visit_at_which_the_fleet_pays(self) -> None:
        """A whole chapter too."""
        self.scene.mood = BoardMood.OBEYS
        self.scene.vault_answers = True
        self.leave_it_in_order()
        self.scene.advance(60)
        self.scene.type_pin()
        self.scene.board(engine_running=True, ignition_on=True, speed_dkmh=300)
        self.come_to_a_station(is_near=True, online=True)
        self.leave_it_in_order()
        self.scene.choose(Choice.REFUEL)
        self.pay_at_the_pump(4, Plug.OUT)

    @precondition(lambda self: self.scene.state.rental is not None)
    @rule(outcome=st.sampled_from(PaymentOutcome), number=st.integers(1, 2))
    def the_fleet_decides(self, outcome: PaymentOutcome, number: int) -> None:
        held = self.scene.state.rental_id or b""
        self.scene.order(
            PaymentDecision(
                held, ANY_VERSION, payment_id_of(held, number), outcome, b"EUR", 1
            )
        )

    # --- the next driver -------------------------------------------------------------

    @precondition(lambda self: self.scene.state.rental is not None)
    @rule(seconds=st.sampled_from([-5, 60, 900, 900]), is_answer=st.booleans())
    def the_fleet_names_the_next_driver(self, seconds: int, is_answer: bool) -> None:
        held, offers = self.scene.state.rental_id or b"", self.scene.rental.offers
        self.rentals += 1
        offer_id = b"offer\0" + self.rentals.to_bytes(10, "big")
        if is_answer and offers:
            offer_id = offer_id_of(held, offers)
        command = offer_of(self.scene, seconds=seconds, offer_id=offer_id)
        self.scene.order(replace(command, rental_id=held))

    @precondition(lambda self: self.scene.state.rental is not None)
    @rule(seconds=st.sampled_from([-5, 60]), choice=st.sampled_from(Choice))
    def somebody_asks_for_the_car(self, seconds: int, choice: Choice) -> None:
        command = request_of(self.scene, seconds=seconds)
        held = self.scene.state.rental_id or b""
        self.scene.order(replace(command, rental_id=held))
        self.scene.choose(choice)

    @precondition(lambda self: self.scene.mode is RentalMode.STOPPED)
    @rule(words=st.sampled_from(["Elm Street", "", "a" * 97]))
    def the_driver_types_where_the_way_ends(self, words: str) -> None:
        self.scene.choose(Choice.PLAN_HANDOVER)
        self.scene.happen(DestinationEntered(words))

    @precondition(lambda self: self.scene.mode is RentalMode.STOPPED)
    @rule(by_app=st.booleans())
    def the_car_is_handed_over(self, by_app: bool) -> None:
        """A whole chapter, which chance alone would seldom write."""
        self.scene.mood = BoardMood.OBEYS
        self.scene.vault_answers = True
        self.scene.advance(10)
        self.leave_it_in_order()
        self.the_fleet_names_the_next_driver(900, is_answer=False)
        if handover_of(self.scene) is not None:
            self.the_next_driver_comes(by_app, PIN)

    @precondition(lambda self: handover_of(self.scene) is not None)
    @rule(by_app=st.booleans(), pin=st.sampled_from([PIN, PIN, WRONG_PIN, ""]))
    def the_next_driver_comes(self, by_app: bool, pin: str) -> None:
        handover = handover_of(self.scene)
        assert handover is not None
        if by_app:
            self.scene.order(unlock(handover.offer_id))
        else:
            self.scene.tap(BOB)
        self.scene.type_pin(pin)

    @rule(event=st.sampled_from([BoardLost(), ReaderLost(), ReaderRecovered()]))
    def device_comes_or_goes(self, event: Event) -> None:
        self.scene.happen(event)

    @rule(room=st.sampled_from(Room))
    def others_write_to_the_disk(self, room: Room) -> None:
        """I-20: what that must mean is judged at each step."""
        self.scene.happen(RoomChanged(room))

    @rule(answers=st.booleans())
    def vault_is_slow(self, answers: bool) -> None:
        self.scene.vault_answers = answers

    @precondition(lambda self: self.scene.done(CheckPin))
    @rule(data=st.data())
    def verdict_comes_late(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.scene.done(CheckPin)))
        if data.draw(st.booleans()):
            self.scene.check(PinVerdict.UNREADABLE, asked.rental_id)
        elif asked.pin == PIN:
            self.scene.check(PinVerdict.RIGHT, asked.rental_id)
        else:
            self.scene.check(PinVerdict.WRONG, asked.rental_id)

    # --- time and power --------------------------------------------------------------

    @rule(seconds=st.floats(0, 10) | st.floats(0, HOUR_S), reports=st.booleans())
    def let_time_pass(self, seconds: float, reports: bool) -> None:
        self.scene.advance(seconds, board_reports=reports)

    @rule()
    def wait_for_the_next_deadline(self) -> None:
        due_ms = next_deadline(self.scene.state)
        if due_ms is not None:
            wait_ms = max(0, due_ms - self.scene.boot_ms)
            self.scene.advance(wait_ms / 1000, board_reports=False)

    @rule(years=st.integers(-10, 10), quality=st.sampled_from(ClockQuality))
    def wall_clock_jumps(self, years: int, quality: ClockQuality) -> None:
        jumped_ms = self.scene.wall_ms + years * 365 * 86_400_000
        # Labels are unsigned on the wire, and clocks begin in 1970.
        self.scene.wall_ms = max(0, jumped_ms)
        self.scene.quality = quality

    @rule()
    def restart_the_agent(self) -> None:
        self.scene.restart()

    @rule(off_s=st.floats(0, HOUR_S), wall_s=st.none() | st.just(-2 * HOUR_S))
    def cut_the_power(self, off_s: float, wall_s: float | None) -> None:
        self.scene.wall_ms = max(self.scene.wall_ms, int(2 * HOUR_S * 1000))
        self.scene.restart(off_s=off_s, wall_s=wall_s)

    # --- what always holds -----------------------------------------------------------

    @invariant()
    def every_rental_is_reported_once(self) -> None:
        # I-21: one report for each that has ended, none for the one that runs.
        scene = self.scene
        running = scene.state.rental
        assert max(scene.starts.values(), default=1) == 1
        expected = Counter(scene.starts)
        if running is not None:
            expected[running.reservation.rental_id] -= 1
        assert +expected == scene.reports

    @invariant()
    def the_state_is_what_the_store_gives_back(self) -> None:
        # I-28
        assert decode_state(encode_state(self.scene.state)) == self.scene.state

    def teardown(self) -> None:
        """C13: every rental can be brought to an end by its fleet."""
        scene = self.scene
        scene.mood = BoardMood.OBEYS
        scene.advance(120)
        self.leave_it_in_order()
        if scene.mode is RentalMode.REFUELLING:
            # An open payment is waived by it (H2).
            scene.order(release(scene.state.rental_id or b""))
            scene.order(set_mode(ModeRequest.REFUEL_DONE, scene.state.rental_id or b""))
        if scene.mode.in_rental:
            scene.order(lock(LockMode.END, scene.state.rental_id or b""))
        assert not scene.mode.in_rental
        self.every_rental_is_reported_once()


TestCore = CoreMachine.TestCase
TestCore.settings = settings(
    max_examples=times(100, deep=2_000),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
