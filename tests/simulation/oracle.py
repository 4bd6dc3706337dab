"""What must hold at every step of a seed, each under its number in reliability.md.

It believes nobody: commands are those that the bridge's link carried, deeds are
those of the car's body, entries are those of committed steps, and what the bridge has
is what its database says to another connection.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from firmware_emulator.car import Car
from gateway.core.actions import SendRefusal
from gateway.core.events import AgentStarted, CardPresented, CommandReceived
from gateway.core.state import State
from gateway.runtime.step import Step
from gateway.storage.identity import Identity
from protocol import event as entries
from protocol.codes import AccessMeans, Code, FrameClass, Lane, Opcode
from protocol.command import parse_command
from protocol.errors import DecodeError
from protocol.frame import parse_frame
from protocol.result import Result
from protocol.topic import parse_topic
from tests.bridge.world import NOW_MS
from tests.gateway.core.authority import require_all
from tests.simulation.broker import BRIDGE
from tests.simulation.positions import judge_position
from tests.simulation.promises import Kept, Promises
from tests.simulation.told import Told
from tests.simulation.trace import Trace
from tests.simulation.violation import Violation
from tests.simulation.watched_car import WatchedCar

if TYPE_CHECKING:
    from tests.simulation.car import SimulatedCar

TOLERANCE_MS: Final = 2_000
"""How far a report may be from the world's time: bolts move and reports wait."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A command that left the bridge."""

    client: str
    session_id: bytes
    not_after_ms: int
    opcode: Opcode
    rental_id: bytes
    """Zeros for an operator's."""


@dataclass
class Watched:
    """What is known of one car."""

    car: "SimulatedCar"
    told: Told
    kept: Kept = field(default_factory=Kept)
    """What it has shown of its promises."""
    state: State = field(default_factory=State)
    """After the last step."""
    accepted: dict[bytes, CommandReceived] = field(default_factory=dict)
    newest: dict[tuple[bytes, bytes, Lane], int] = field(default_factory=dict)
    """The highest sequence of a session, a key and a lane."""
    opened: int = 0
    taps: int = 0
    deaths: int = 0
    in_doubt: set[bytes] = field(default_factory=set)
    """Commands without a result when the car died."""


class Oracle:
    """Judges; the first violation ends the seed."""

    def __init__(
        self,
        trace: Trace,
        database: Path,
        *,
        seconds: Callable[[], float],
        began_ms: int = NOW_MS,
    ) -> None:
        self.trace = trace
        self.began_ms = began_ms
        self._database = database
        self._reading: sqlite3.Connection | None = None
        self.cars: dict[str, Watched] = {}
        self.signed: dict[bytes, Signed] = {}
        """Every command that the bridge sent, by its id."""
        self.promises = Promises(lambda: began_ms + round(seconds() * 1_000))
        self._seconds = seconds
        self.failure: Violation | None = None
        self.failed = asyncio.Event()

    def fail(self, complaint: str, cause: BaseException | None = None) -> None:
        """Note the first violation; the seed ends as soon as it can."""
        if self.failure is None:
            self.failure = Violation(complaint)
            self.failure.__cause__ = cause
            self.failed.set()

    def close(self) -> None:
        if self._reading is not None:
            self._reading.close()

    # -- the car's side ------------------------------------------------------------

    def add_car(self, identity: Identity, car: "SimulatedCar") -> None:
        self.cars[str(identity.vehicle_id)] = Watched(car, Told(car.name))

    def watched(self, body: Car, name: str) -> WatchedCar:
        """Return a body that tells the oracle what is moved in it."""
        car = WatchedCar.of(body)

        def bolts(locked: bool) -> None:
            if locked:
                self._require_at_rest(car, name, "closed the bolts", ignition_too=True)
            else:
                self._require_let_in(name)

        def starter(released: bool) -> None:
            if not released:
                self._require_at_rest(car, name, "held the engine", ignition_too=False)

        car.on_bolts, car.on_starter = bolts, starter
        return car

    def _require_at_rest(
        self, car: Car, name: str, deed: str, *, ignition_too: bool
    ) -> None:
        moving = car.engine_running or car.speed_mm_per_s > 0
        open_too = ignition_too and (
            car.ignition_on or bool(car.open_leaves) or car.boot_open
        )
        if moving or open_too:
            number = "I-1" if ignition_too else "I-2"
            self.fail(f"{number}: {name} {deed} while it drives or stands open")

    def _require_let_in(self, name: str) -> None:
        watched = next(w for w in self.cars.values() if w.car.name == name)
        watched.opened += 1
        if watched.opened > watched.told.grants:
            self.fail(f"I-12: {name} opened without a durable grant")

    def tapped(self, client: str) -> None:
        self.cars[client].taps += 1

    def car_died(self, client: str) -> None:
        """Note what a death leaves open."""
        watched = self.cars[client]
        watched.deaths += 1
        known = {*watched.told.results}
        sent = {i for i, signed in self.signed.items() if signed.client == client}
        watched.in_doubt |= sent - known

    def stepped(self, client: str, step: Step) -> None:
        """Judge one committed step of a car."""
        watched = self.cars[client]
        try:
            self._judge(watched, client, step)
        except Violation as violation:
            self.fail(str(violation))
        except AssertionError as error:
            event = type(step.event).__name__
            self.fail(f"{watched.car.name} at {event}: {error}", error)

    def _judge(self, watched: Watched, client: str, step: Step) -> None:
        decision, name = step.decision, watched.car.name
        fresh = isinstance(step.event, AgentStarted)
        before = decision.state if fresh else watched.state
        # I-1, I-2, I-12, I-16, I-17 as far as the mind is concerned.
        require_all(before, step.event, decision, now=step.now)
        earlier, watched.state = watched.state, decision.state
        self.promises.taken(watched, step)
        bodies = [watched.told.take(entry) for entry in step.entries]
        for body in bodies:
            self._take(watched, name, body)
        self.promises.judge(
            watched,
            client,
            earlier,
            step,
            bodies,
            now_s=self._seconds(),
        )
        for action in decision.actions:
            if isinstance(action, SendRefusal):
                answers = watched.told.refusals
                answers.setdefault(action.result.request_id, []).append(action.result)
                self._require_served(watched, action.result)
        if decision.accepted is not None:
            self._judge_command(watched, client, decision.accepted, step)
        if isinstance(step.event, CardPresented):
            self.trace.count("taps")
            grants = [
                b for b in decision.entries if isinstance(b, entries.AccessGranted)
            ]
            if len(grants) > 1:
                raise Violation(f"I-14: one tap at {name} let in twice")
        if watched.told.card_grants > watched.taps:
            raise Violation(
                f"I-14: {name} let in more often than cards were held to it"
            )

    def _require_served(self, watched: Watched, result: Result) -> None:
        """I-20: the rental under way is served however full the disk is.

        A reservation is served too, but not opened where nothing else could be kept.
        """
        signed = self.signed.get(result.request_id)
        if signed is None or result.code is not Code.STORAGE_FULL:
            return
        self.trace.count("orders refused for want of room")
        state = watched.state
        is_opening = signed.opcode is Opcode.UNLOCK and state.rental is None
        if is_opening and not state.room.keeps_promise:
            return
        may_refuse = signed.opcode is Opcode.RESERVE
        if not may_refuse and signed.rental_id == state.rental_id:
            raise Violation(
                f"I-20: {watched.car.name} has no room for {signed.opcode.name} of its "
                "own rental"
            )

    def _take(self, watched: Watched, name: str, body: object) -> None:
        told = watched.told
        kind = type(body).__name__
        match body:
            case Result():
                told.conclude(body)
                doubtful = body.code is Code.INDETERMINATE_AFTER_REBOOT
                if doubtful and body.request_id not in watched.in_doubt:
                    raise Violation(f"I-10: {name} is in doubt without a crash")
                kind = f"Result {body.code.name}"
            case entries.AccessGranted():
                self._take_access(watched, name, body)
            case entries.RentalStarted():
                self._take_start(watched, name, body)
            case entries.RentalEnded():
                if body.rental_id in told.ended:
                    raise Violation(f"I-21: {name} reported a rental twice")
                told.ended[body.rental_id] = body
                self._require_true_report(watched, body)
            case _:
                pass
        self.trace.note(name, f"writes {kind}", kind=f"entry {kind}")

    def _take_access(
        self, watched: Watched, name: str, body: entries.AccessGranted
    ) -> None:
        """I-12: only a card that was named for it opens."""
        watched.told.grants += 1
        if body.means is AccessMeans.CARD:
            watched.told.card_grants += 1
            if not self.promises.is_named(body):
                raise Violation(f"I-12: {name} let in a card that nobody named")

    def _take_start(
        self, watched: Watched, name: str, body: entries.RentalStarted
    ) -> None:
        told = watched.told
        if body.rental_id in told.started:
            raise Violation(f"I-21: {name} started a rental twice")
        if body.rental_id in self.promises.grants:
            self.trace.count("by grant")
        at_ms = watched.car.clock.elapsed_ms
        told.started[body.rental_id] = (at_ms, watched.deaths)

    def _require_true_report(self, watched: Watched, body: entries.RentalEnded) -> None:
        """I-29: what is billed is the world's time, whatever clocks showed."""
        at_ms, deaths = watched.told.started.get(body.rental_id, (None, 0))
        if at_ms is None or body.estimated or deaths != watched.deaths:
            return
        true_ms = watched.car.clock.elapsed_ms - at_ms
        if abs(body.total_ms - true_ms) > TOLERANCE_MS:
            raise Violation(
                f"I-29: {watched.car.name} bills {body.total_ms} ms of {true_ms:.0f} ms"
            )

    def _judge_command(
        self, watched: Watched, client: str, command: CommandReceived, step: Step
    ) -> None:
        name, kind = watched.car.name, type(command.command).__name__
        signed = self.signed.get(command.msg_id)
        if signed is None:
            raise Violation(f"I-9: {name} obeyed a {kind} that nobody signed")
        if signed.client != client:
            raise Violation(f"I-7: {name} obeyed a {kind} for another car")
        if command.msg_id in watched.accepted or command.msg_id in watched.told.results:
            answered_now = any(
                isinstance(body, Result) and body.request_id == command.msg_id
                for body in step.decision.entries
            )
            if command.msg_id in watched.accepted or not answered_now:
                raise Violation(f"I-5: {name} carried out a {kind} twice")
        if step.now.boot_ms >= signed.not_after_ms:
            raise Violation(f"I-6: {name} carried out a {kind} after its expiry")
        sessions = {parse_frame(e.frame).header.session_id for e in step.entries}
        if not sessions <= {signed.session_id}:
            raise Violation(f"I-6: {name} carried out a {kind} of another session")
        lane = (signed.session_id, command.key_id, command.lane)
        if command.seq <= watched.newest.get(lane, 0):
            raise Violation(f"I-8: at {name} an older {kind} overtook a newer command")
        watched.newest[lane] = command.seq
        watched.accepted[command.msg_id] = command
        self.trace.note(name, f"obeys {kind}", kind=f"accepted {kind}")

    # -- the link ------------------------------------------------------------------

    def published(self, client: str, topic: str, payload: bytes) -> None:
        """Note what a client sent, before anything is done to it."""
        if client != BRIDGE:
            try:
                judge_position(self.cars[client], payload, self.trace)
            except Violation as violation:
                self.fail(str(violation))
            return
        try:
            route = parse_topic(topic)
        except DecodeError:
            return
        if route.frame_class is FrameClass.CMD:
            frame = parse_frame(payload)
            header = frame.header
            command = parse_command(header.type, header.schema, frame.payload)
            self.signed.setdefault(
                header.msg_id,
                Signed(
                    str(route.vehicle_id),
                    header.session_id,
                    header.mono_ms,
                    Opcode(header.type),
                    command.rental_id,
                ),
            )

    def acknowledged(self, payload: bytes) -> None:
        """I-23, I-24: an entry that the bridge acknowledges is in its database.

        One that cannot be verified yet, as its key is named by an entry that comes
        later, lies among the dead letters.
        """
        try:
            seq = parse_frame(payload).header.seq
        except DecodeError:
            return
        for client, watched in self.cars.items():
            if watched.told.frames.get(seq) != payload:
                continue
            kept = self.kept(client, watched.told.ledger_id, seq, seq)
            if kept != [payload] and not self._is_dead_letter(payload):
                self.fail(f"I-23: entry {seq} is acknowledged, and the bridge lost it")

    def _is_dead_letter(self, payload: bytes) -> bool:
        query = "select count(*) from dead_letters where data = ?"
        return bool(self.reading.execute(query, (payload,)).fetchone()[0])

    # -- the bridge's side ---------------------------------------------------------

    def kept(self, client: str, ledger_id: bytes, first: int, last: int) -> list[bytes]:
        """Return the entries that are durable at the bridge, in their order."""
        query = (
            "select data from frames where vehicle_id = ? and ledger_id = ? "
            "and seq between ? and ? order by seq"
        )
        rows = self.reading.execute(query, (client, ledger_id, first, last))
        return [row[0] for row in rows]

    @property
    def reading(self) -> sqlite3.Connection:
        """A connection of its own to the bridge's file."""
        if self._reading is None:
            self._reading = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)
        return self._reading

    def require_receipted(self, client: str, ledger_id: bytes, upto: int) -> None:
        """I-22: a car lets go only of what the bridge has, byte for byte."""
        told = self.cars[client].told
        kept = self.kept(client, ledger_id, 1, upto)
        wanted = [told.frames.get(seq) for seq in range(1, upto + 1)]
        right = len(kept) == upto and all(
            one is None or one == other for one, other in zip(wanted, kept, strict=True)
        )
        if not right:
            self.fail(
                f"I-22: {told.name} let go of entries up to {upto}; the bridge has "
                f"{len(kept)}"
            )
