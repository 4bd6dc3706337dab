"""One car's mind on a stage: devices that do as told, a clock that tests move.

Everything goes through `handle` and `next_deadline`; nothing of the core is replaced.
After every step the invariants of `tests.gateway.core.invariants` are checked.
"""

from dataclasses import replace
from enum import Enum, unique
from itertools import count
from typing import Final, TypeVar

from gateway.core.actions import Action, AllowEngine, CheckPin, DriveLocks, SendRefusal
from gateway.core.events import (
    AgentStarted,
    BoardLost,
    BoardRefusal,
    BoardRefused,
    BoardReported,
    CardPresented,
    CommandReceived,
    DeadlineReached,
    Event,
    MenuChosen,
    PinChecked,
    PinEntered,
    PinVerdict,
)
from gateway.core.moment import Moment
from gateway.core.prompts import Choice, PromptKey
from gateway.core.reading import Reading
from gateway.core.state import Rental, State
from gateway.core.turn import Decision
from gateway.core.vehicle import handle, next_deadline
from gateway.storage.state_codec import decode_state, encode_state
from protocol.codes import (
    CancelReason,
    ClockQuality,
    EnergyKind,
    HoldReason,
    LockDefault,
    LockMode,
    ModeRequest,
    RentalMode,
)
from protocol.command import (
    ANY_VERSION,
    COMMANDS,
    OPCODE_OF,
    CancelReservation,
    Command,
    EngineHold,
    EngineRelease,
    Lock,
    Reserve,
    SetMode,
    Unlock,
)
from protocol.event import EventBody
from protocol.identity import card_digest
from protocol.rental_codes import GrantAction, Rights
from protocol.rental_command import Grant
from protocol.result import Result
from tests.gateway.core.invariants import require_lawful, results_of

RENTAL: Final = bytes.fromhex("11" * 16)
OTHER_RENTAL: Final = bytes.fromhex("22" * 16)
CARD: Final = bytes.fromhex("04a1b2c3d4e5f6")
"""The customer's card."""
SECOND_CARD: Final = bytes.fromhex("04a1b2c3")
"""Of the customer too."""
STRANGER: Final = bytes.fromhex("0badc0de")
"""A card that no rental knows."""
PIN: Final = "2580"
WRONG_PIN: Final = "1111"
SEALED: Final = b"sealed for the vault of this test"
START_BOOT_MS: Final = 1_000_000
START_WALL_MS: Final = 1_767_261_600_000
"""2026-01-01T10:00:00Z."""
RESERVED_S: Final = 900.0
"""N1: 15 minutes."""
FIRMWARE: Final = bytes([0, 1, 0, 0])
RESTING: Final = Reading(
    locked=True,
    door_open=False,
    boot_open=False,
    window_open=False,
    engine_running=False,
    engine_released=False,
    ignition_on=False,
    lights_on=False,
    hazards_on=False,
    key_present=True,
    fuel_card_present=True,
    energy_kind=EnergyKind.FUEL,
    speed_dkmh=0,
    odometer_m=12_345_000,
    energy_pct=80,
    washer_pct=60,
    range_km=400,
    supply_mv=12_600,
)
"""A car that waits for a customer."""

Entry = TypeVar("Entry", bound=EventBody | Result)
Done = TypeVar("Done", bound=Action)


@unique
class BoardMood(Enum):
    """What the board does with an order."""

    OBEYS = "moves, and reports the new state at once"
    DEAF = "nothing moves and nothing is said"
    REFUSES = "refuses"


class Scene:
    """A car and everybody around it.

    Args:
        reading: what the board reads at first.
        quality: of the wall clock.
        state: continue from here instead of a new car.
    """

    def __init__(
        self,
        reading: Reading = RESTING,
        *,
        quality: ClockQuality = ClockQuality.NTP,
        state: State | None = None,
    ) -> None:
        self.state = State() if state is None else state
        self.committed = encode_state(self.state)
        self.boot_ms = START_BOOT_MS
        self.wall_ms = START_WALL_MS
        self.quality = quality
        self.is_told_the_time = True
        self.reading = reading
        self.mood = BoardMood.OBEYS
        self.refusal = BoardRefusal.FAULT
        self.vault_answers = True
        self.decisions: list[Decision] = []
        self.open_requests: set[bytes] = set()
        self._ids = count(1)
        if state is None:
            self.start()
            self.report()

    # --- what is ---------------------------------------------------------------------

    @property
    def now(self) -> Moment:
        is_trusted = self.quality.trusted and self.is_told_the_time
        trusted_ms = self.wall_ms if is_trusted else None
        return Moment(self.boot_ms, self.wall_ms, self.quality, trusted_ms)

    @property
    def mode(self) -> RentalMode:
        return self.state.mode

    @property
    def rental(self) -> Rental:
        assert self.state.rental is not None
        return self.state.rental

    @property
    def prompt(self) -> PromptKey:
        return self.state.shown_prompt.key

    @property
    def light(self) -> str:
        """As a passer-by would say it."""
        blinking = "blinking " if self.state.shown_blinking else ""
        return f"{blinking}{self.state.shown_light.name.lower()}"

    def told(self, kind: type[Entry]) -> list[Entry]:
        """Return all ledger entries of one kind so far."""
        return [
            entry
            for decision in self.decisions
            for entry in decision.entries
            if isinstance(entry, kind)
        ]

    def one(self, kind: type[Entry]) -> Entry:
        """Return the only ledger entry of that kind so far."""
        [entry] = self.told(kind)
        return entry

    def done(self, kind: type[Done]) -> list[Done]:
        """Return all actions of one kind so far."""
        return [
            action
            for decision in self.decisions
            for action in decision.actions
            if isinstance(action, kind)
        ]

    def forget(self) -> None:
        """Let `told` and `done` count from here."""
        self.decisions.clear()

    # --- what happens ----------------------------------------------------------------

    def happen(self, event: Event) -> Decision:
        """Let one thing happen, check every invariant, perform what is decided."""
        before, now = self.state, self.now
        decision = handle(before, event, now=now)
        require_lawful(before, event, decision, now=now)
        self._require_one_answer(event, decision)
        self.decisions.append(decision)
        changed = decision.state.essence() != before.essence()
        if decision.entries or decision.accepted is not None or changed:
            self.committed = encode_state(decision.state)
        self.state = decision.state
        self._perform(decision)
        return decision

    def start(self, *, boot_counter: int = 1, same_boot: bool = False) -> Decision:
        """Let the agent begin to run with the state as it stands."""
        return self.happen(AgentStarted(boot_counter, FIRMWARE, same_boot))

    def restart(
        self, *, off_s: float | None = None, wall_s: float | None = None
    ) -> Decision:
        """Restart the agent with what the store kept.

        With `off_s` the machine was off for so long.

        Args:
            off_s: None for a restart of the agent alone.
            wall_s: what the wall clock makes of the time off, if not the same.
        """
        self.state = decode_state(self.committed)
        if off_s is None:
            return self.start(boot_counter=2, same_boot=True)
        self.boot_ms = 5_000
        self.wall_ms += int((off_s if wall_s is None else wall_s) * 1000)
        return self.start(boot_counter=2, same_boot=False)

    def advance(self, seconds: float, *, board_reports: bool = True) -> None:
        """Let time pass; every deadline is met when it is due, one by one.

        The board reports once when it is over, so that its reading is fresh.
        """
        until_ms = self.boot_ms + int(seconds * 1000)
        for _ in range(100):
            due_ms = next_deadline(self.state)
            if due_ms is None or due_ms > until_ms:
                break
            self._pass_to(due_ms)
            self.happen(DeadlineReached())
        else:
            raise AssertionError("one hundred deadlines in a row: a busy loop")
        self._pass_to(until_ms)
        if board_reports:
            self.report()

    def _pass_to(self, boot_ms: int) -> None:
        self.wall_ms += max(0, boot_ms - self.boot_ms)
        self.boot_ms = max(self.boot_ms, boot_ms)

    def tap(self, uid: bytes = CARD) -> Decision:
        return self.happen(CardPresented(uid))

    def tap_later(self, uid: bytes = CARD) -> Decision:
        """Tap when every debounce and every boarding is over."""
        self.advance(6)
        return self.tap(uid)

    def order(self, command: Command) -> Decision:
        """Let a command arrive that passed the acceptance pipeline."""
        opcode = OPCODE_OF[type(command)]
        number = next(self._ids)
        return self.happen(
            CommandReceived(
                command=command,
                msg_id=number.to_bytes(16, "big"),
                request_hash=number.to_bytes(32, "big"),
                key_id=bytes(8),
                lane=COMMANDS[opcode].lane,
                seq=number,
            )
        )

    def answer(self, command: Command) -> Result:
        """Order, and return the one answer that comes at once."""
        decision = self.order(command)
        answers = results_of(decision) + [
            action.result
            for action in decision.actions
            if isinstance(action, SendRefusal)
        ]
        [result] = answers or self.told(Result)[-1:]
        return result

    def report(self) -> Decision:
        """Let the board report what it reads."""
        return self.happen(BoardReported(self.reading))

    def board(self, **changes: object) -> Decision:
        """Change what the board reads, and let it report."""
        self.reading = replace(self.reading, **changes)  # type: ignore[arg-type] # by name
        return self.report()

    def lose_board(self) -> Decision:
        return self.happen(BoardLost())

    def refuse(self, refusal: BoardRefusal, *, of_engine: bool = False) -> Decision:
        return self.happen(BoardRefused(refusal, of_engine))

    def type_pin(self, pin: str = PIN) -> Decision:
        return self.happen(PinEntered(pin))

    def check(self, verdict: PinVerdict, rental_id: bytes = RENTAL) -> Decision:
        return self.happen(PinChecked(rental_id, verdict))

    def choose(self, choice: Choice) -> Decision:
        return self.happen(MenuChosen(choice))

    def grant(self, uid: bytes = CARD, **changes: object) -> Result:
        """Let the fleet give a card rights."""
        return self.answer(grant_of(self, uid, **changes))

    # --- what the devices do ---------------------------------------------------------

    def _perform(self, decision: Decision) -> None:
        moved = False
        for action in decision.actions:
            if isinstance(action, CheckPin) and self.vault_answers:
                right = action.pin == PIN
                verdict = PinVerdict.RIGHT if right else PinVerdict.WRONG
                self.check(verdict, action.rental_id)
            elif isinstance(action, DriveLocks):
                moved |= self._obey(locked=action.locked)
            elif isinstance(action, AllowEngine):
                moved |= self._obey(engine_released=action.released)
        if moved:
            self.report()

    def _obey(self, **changes: bool) -> bool:
        if self.mood is BoardMood.REFUSES:
            self.refuse(self.refusal, of_engine="engine_released" in changes)
        if self.mood is not BoardMood.OBEYS:
            return False
        self.reading = replace(self.reading, **changes)  # type: ignore[arg-type] # by name
        return True

    def _require_one_answer(self, event: Event, decision: Decision) -> None:
        """I-10: accepted is answered once, refused consumes nothing."""
        refusals = [a for a in decision.actions if isinstance(a, SendRefusal)]
        if isinstance(event, CommandReceived):
            assert len(refusals) == (0 if decision.accepted is event else 1)
        else:
            assert decision.accepted is None
            assert refusals == []
        if decision.accepted is not None:
            assert decision.accepted.msg_id not in self.open_requests
            self.open_requests.add(decision.accepted.msg_id)
        for result in results_of(decision):
            self.open_requests.remove(result.request_id)
        pending = decision.state.pending
        request = pending.request if pending is not None else None
        assert self.open_requests == ({request.msg_id} if request else set())

    # --- whole chapters --------------------------------------------------------------

    def reserve(
        self,
        *,
        lock_default: LockDefault = LockDefault.END,
        cards: tuple[bytes, ...] = (CARD, SECOND_CARD),
        seconds: float = RESERVED_S,
    ) -> Result:
        return self.answer(
            reserve(
                self.boot_ms + int(seconds * 1000),
                lock_default=lock_default,
                cards=cards,
            )
        )

    def rent(self, *, lock_default: LockDefault = LockDefault.END) -> None:
        """Reserve, open by card and look around: rented, the PIN is asked for."""
        self.reserve(lock_default=lock_default)
        self.tap()
        self.look_around()
        assert self.mode is RentalMode.STOPPED

    def look_around(self) -> None:
        """Pass by the questions of the inspection."""
        self.choose(Choice.CONTINUE)
        self.choose(Choice.CONTINUE)

    def rent_and_release(self, *, lock_default: LockDefault = LockDefault.END) -> None:
        """Rent and type the PIN: the engine may start."""
        self.rent(lock_default=lock_default)
        self.type_pin()
        assert self.reading.engine_released

    def drive(self, *, seconds: float = 60, metres: int = 500) -> None:
        """Start the engine, drive, stop it."""
        self.drive_off()
        self.advance(seconds)
        odometer_m = self.reading.odometer_m
        self.board(
            engine_running=False,
            ignition_on=False,
            speed_dkmh=0,
            odometer_m=None if odometer_m is None else odometer_m + metres,
        )

    def drive_off(self) -> None:
        """Start the engine and go."""
        self.board(engine_running=True, ignition_on=True, speed_dkmh=300)

    def be(self, mode: RentalMode) -> None:
        """Bring a new car into a mode by what leads there."""
        match mode:
            case RentalMode.AVAILABLE:
                pass
            case RentalMode.RESERVED:
                self.reserve()
            case RentalMode.STOPPED:
                self.rent_and_release()
            case RentalMode.DRIVING:
                self.rent_and_release()
                self.drive_off()
            case RentalMode.PARKED:
                self.rent_and_release()
                self.choose(Choice.PARK)
                self.tap_later()
            case RentalMode.REFUELLING:
                self.rent_and_release()
                self.choose(Choice.REFUEL)
        assert self.mode is mode


def reserve(
    until_ms: int,
    *,
    rental_id: bytes = RENTAL,
    lock_default: LockDefault = LockDefault.END,
    cards: tuple[bytes, ...] = (CARD, SECOND_CARD),
    version: int = ANY_VERSION,
) -> Reserve:
    return Reserve(
        rental_id=rental_id,
        expected_version=version,
        reserved_until_ms=until_ms,
        lock_default=lock_default,
        language=b"en",
        cards=tuple(card_digest(rental_id, uid) for uid in cards),
        sealed=SEALED,
    )


def grant_of(scene: Scene, uid: bytes = CARD, **changes: object) -> Grant:
    """Return a grant that lets a card rent for an hour from now on."""
    rental_id = changes.get("rental_id", RENTAL)
    assert isinstance(rental_id, bytes)
    grant = Grant(
        rental_id=rental_id,
        expected_version=ANY_VERSION,
        action=GrantAction.ADD,
        grant_id=b"\x61" * 16,
        card=card_digest(rental_id, uid),
        not_before_wall_ms=scene.wall_ms,
        not_after_wall_ms=scene.wall_ms + 3_600_000,
        rights=Rights.UNLOCK | Rights.DRIVE,
        lock_default=LockDefault.END,
        language=b"de",
        sealed=SEALED,
    )
    return replace(grant, **changes)  # type: ignore[arg-type] # by name


def unlock(rental_id: bytes = RENTAL, version: int = ANY_VERSION) -> Unlock:
    return Unlock(rental_id, version)


def lock(
    lock_mode: LockMode = LockMode.DEFAULT,
    rental_id: bytes = RENTAL,
    version: int = ANY_VERSION,
) -> Lock:
    return Lock(rental_id, version, lock_mode)


def release(rental_id: bytes = RENTAL, version: int = ANY_VERSION) -> EngineRelease:
    return EngineRelease(rental_id, version, HoldReason.RENTAL)


def hold(rental_id: bytes = RENTAL, version: int = ANY_VERSION) -> EngineHold:
    return EngineHold(rental_id, version, HoldReason.OPERATOR)


def cancel(rental_id: bytes = RENTAL, version: int = ANY_VERSION) -> CancelReservation:
    return CancelReservation(rental_id, version, CancelReason.CUSTOMER)


def set_mode(
    request: ModeRequest, rental_id: bytes = RENTAL, version: int = ANY_VERSION
) -> SetMode:
    return SetMode(rental_id, version, request)
