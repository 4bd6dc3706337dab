"""Faults that are put in so that the simulation shows that it finds them.

Each is a fault that somebody could make in one line of the product. `number` is the
invariant that must complain.

    python -m tests.simulation.planted   # how many seeds each takes, from the first on
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final
from unittest import mock

from sqlalchemy import Connection, select

from bridge import commands, composer, compound, schema
from bridge.commands import CommandRecord, CommandState
from bridge.compound import Send, Step
from bridge.errors import StoreError
from bridge.instant import Instant
from bridge.relay import Relay
from bridge.rows.configurations import Configuration
from bridge.rows.outbox import OutboxRow
from bridge.store import Store
from bridge.vehicle import VehicleState
from firmware_emulator.boards import EmulatedBoard
from gateway.core import acceptance, access, handover, orders, payment, telemetry
from gateway.core.acceptance import Verdict
from gateway.core.actions import AllowEngine
from gateway.core.authentication import Desk, Dropped
from gateway.core.configuration import Active, Configurations
from gateway.core.events import (
    CardPresented,
    CommandReceived,
    Event,
    PinChecked,
    RoomChanged,
)
from gateway.core.moment import Moment
from gateway.core.reading import Position
from gateway.core.repertoire import KnownCommand
from gateway.core.room import Room
from gateway.core.state import Request, State
from gateway.core.turn import Turn
from gateway.runtime import committer, foreknowledge, intake, telemetry_feed
from gateway.runtime.configurator import Configurator
from gateway.runtime.foreknowledge import Foreknowledge
from protocol.codes import Code, ConfigKind, Light
from protocol.errors import DecodeError
from protocol.frame import parse_frame
from protocol.identity import VehicleId, card_digest
from protocol.receipt import RECEIPT, Receipt
from protocol.rental_codes import PaymentOutcome, Rights
from protocol.rental_command import HandoverOffer, PaymentDecision
from protocol.telemetry import Sample
from tests.simulation.bridge import MortalDatabase
from tests.simulation.car import SimulatedCar
from tests.simulation.clock import WallClock
from tests.simulation.habits import (
    asking,
    editing,
    handing_over,
    paying,
    refusing,
    stepping,
)
from tests.simulation.promises import LOOKING
from tests.simulation.seed_run import made_fleet, run_seed

LIFE: Final = 0.6
"""Of the worlds in which faults are looked for."""

MOST_SEEDS: Final = 60


@dataclass(frozen=True, slots=True)
class Planted:
    """One fault."""

    name: str
    number: str
    """Invariants of which one must complain; a pattern."""
    plant: Callable[[], AbstractContextManager[object]]
    seed: int
    """The first from 1 on that finds it, in its worlds."""
    habit: Callable[[], AbstractContextManager[object]] = nullcontext
    """Of the people of these worlds."""
    life: float = LIFE
    """Of these worlds."""


def _twice() -> AbstractContextManager[object]:
    real = acceptance.judge

    def judge(data: bytes, *, retained: bool, desk: Desk, now: Moment) -> Verdict:
        forgetful = replace(desk, journal=lambda _msg_id: None, lanes={})
        return real(data, retained=retained, desk=forgetful, now=now)

    return mock.patch.object(intake, "judge", judge)


def _late() -> AbstractContextManager[object]:
    """Ask neither for the expiry nor for what came since."""
    real = acceptance._why_not
    forgiven = {Code.EXPIRED, Code.SUPERSEDED}

    def why_not(*args: Any, **parts: Any) -> Code | None:
        code = real(*args, **parts)
        return None if code in forgiven else code

    return mock.patch.object(acceptance, "_why_not", why_not)


def _credulous() -> AbstractContextManager[object]:
    def open_receipt(data: bytes, desk: Desk, *, now: Moment) -> Receipt | Dropped:
        del desk, now
        try:
            return RECEIPT.parse(parse_frame(data).payload)
        except DecodeError as error:
            return Dropped(error.code, error.detail)

    return mock.patch.object(intake, "open_receipt", open_receipt)


def _hasty() -> AbstractContextManager[object]:
    """Acknowledge and receipt every eighth batch without its commit."""
    real, calls = MortalDatabase.transact, 0

    def transact(
        self: MortalDatabase, work: Callable[[Connection], Any], *, writes: bool
    ) -> Any:
        nonlocal calls
        kept: list[Any] = []

        def undone(connection: Connection) -> None:
            kept.append(work(connection))
            raise StoreError("undone")

        if "commit_batch" in work.__qualname__:
            calls += 1
            if calls % 8 == 0:
                try:
                    real(self, undone, writes=writes)
                except StoreError:
                    if kept:
                        return kept[0]
                    raise
        return real(self, work, writes=writes)

    return mock.patch.object(MortalDatabase, "transact", transact)


def _dark() -> AbstractContextManager[object]:
    async def show_light(self: EmulatedBoard, light: Light, *, blinking: bool) -> None:
        if light is not Light.YELLOW:
            await real(self, light, blinking=blinking)

    real = EmulatedBoard.show_light
    return mock.patch.object(EmulatedBoard, "show_light", show_light)


def _hopeful() -> AbstractContextManager[object]:
    """Take silence for success."""

    def timed_out(record: CommandRecord, *, now: int) -> CommandRecord:
        del now
        return replace(record, state=CommandState.SUCCEEDED, version=record.version + 1)

    return mock.patch.object(commands, "timed_out", timed_out)


def _over_time() -> AbstractContextManager[object]:
    """Let a stored grant open whenever its card comes."""

    def find_grant(state: State, uid: bytes, rights: Rights, now: Moment) -> Any:
        del now
        for grant in state.grants:
            mine = card_digest(grant.rental_id, uid) == grant.card
            if mine and rights in grant.rights:
                return grant
        return None

    return mock.patch.object(access, "find_grant", find_grant)


def _hurried() -> AbstractContextManager[object]:
    """Sign the second part of a compound order without waiting for the first."""
    real = compound.next_step

    def next_step(
        whole: CommandRecord, known: Mapping[bytes, CommandRecord], *, now: int
    ) -> Step:
        first, second = (part.command_id for part in whole.parts)
        if first in known and second not in known:
            return Send(1)
        return real(whole, known, now=now)

    return mock.patch.object(composer, "next_step", next_step)


def _abreast() -> AbstractContextManager[object]:
    """Deliver all that waits of a car at once, whatever comes first."""

    async def deliver(
        self: Relay, vehicle_id: VehicleId, queue: deque[OutboxRow]
    ) -> None:
        while queue:
            rows = [queue.popleft() for _ in range(len(queue))]
            await asyncio.gather(*(self._deliver_one(row) for row in rows))
            self._open.difference_update(row.position for row in rows)
        del self._queues[vehicle_id]
        self._wake.set()

    return mock.patch.object(Relay, "_deliver_in_order", deliver)


def _rash() -> AbstractContextManager[object]:
    """Count as taken by a consumer what was read for it."""
    return mock.patch.object(Relay, "_settled", property(lambda relay: relay._read))


def _shadowing() -> AbstractContextManager[object]:
    """Tell where the car is in every sample, whoever drives."""
    real = telemetry.sample_of

    def sample_of(state: State, position: Position | None, *, age_ms: int) -> Sample:
        sample = real(state, position, age_ms=age_ms)
        if position is None:
            return sample
        return replace(
            sample,
            latitude_e7=position.latitude_e7,
            longitude_e7=position.longitude_e7,
        )

    return mock.patch.object(telemetry_feed, "sample_of", sample_of)


def _talkative() -> AbstractContextManager[object]:
    """Tell where every entry was written."""
    return mock.patch.object(committer, "has_place", return_value=True)


CROWDED_KIB: Final = 100
"""Too little for a new rental, enough for one that was promised."""


def crowded() -> AbstractContextManager[object]:
    """Let others fill the disk of every car from the first second on."""
    real = SimulatedCar.start

    def start(self: SimulatedCar) -> None:
        real(self)
        self.fill_disk(CROWDED_KIB)

    return mock.patch.object(SimulatedCar, "start", start)


@contextmanager
def _blind() -> Iterator[None]:
    """Believe in room on every disk, where there is none."""
    blindness = mock.patch.object(foreknowledge, "room_of", return_value=Room.ANOTHER)
    with crowded(), blindness:
        yield


@contextmanager
def _obedient() -> Iterator[None]:
    """Ask for room where the fleet orders, but not where a card or a PIN comes."""
    real = Foreknowledge.before

    def before(
        self: Foreknowledge, event: Event, state: State, *, now: Moment
    ) -> Event | None:
        if not isinstance(event, CardPresented | PinChecked):
            return real(self, event, state, now=now)
        return None if state.room.takes_rental else RoomChanged(Room.ANOTHER)

    with crowded(), mock.patch.object(Foreknowledge, "before", before):
        yield


def _paid_again() -> AbstractContextManager[object]:
    """Write down each word of the fleet about a payment, whatever was said before."""
    real = payment.decide

    def decide(turn: Turn, command: PaymentDecision) -> Code:
        rental = turn.state.rental
        if rental is not None and rental.payment is not None:
            turn.change_rental(payment=replace(rental.payment, decision=None))
        return real(turn, command)

    return mock.patch.object(payment, "decide", decide)


def _generous() -> AbstractContextManager[object]:
    """Take every word of the fleet about a payment for its permission."""
    real = payment.decide

    def decide(turn: Turn, command: PaymentDecision) -> Code:
        return real(turn, replace(command, decision=PaymentOutcome.PAID))

    return mock.patch.object(payment, "decide", decide)


def _one_number() -> AbstractContextManager[object]:
    """Give every payment of a rental the same id."""
    real = payment.payment_id_of
    return mock.patch.object(
        payment, "payment_id_of", lambda rental_id, _number: real(rental_id, 1)
    )


def _insatiable() -> AbstractContextManager[object]:
    """Forget that a visit to a station has asked the fleet to pay."""
    real = payment._request

    def request(turn: Turn, pump: int) -> None:
        real(turn, pump)
        turn.change_rental(refuelling=replace(turn.visit, online=False))

    return mock.patch.object(payment, "_request", request)


@contextmanager
def _forgetful() -> Iterator[None]:
    """Forget at every start by what the car acts, and let the fleet bring it again."""
    real = Configurator.start

    def start(self: Configurator, active: tuple[Active, ...]) -> None:
        del active
        real(self, ())

    forgetting = mock.patch.object(Configurator, "start", start)
    bringing = mock.patch.object(Store, "wanted_configurations", Store.configurations)
    with forgetting, bringing:
        yield


@contextmanager
def _relapsing() -> Iterator[None]:
    """Offer a car again what it had first, and let it take that.

    Both ends are at fault: each alone catches what the other does wrong.
    """
    real, real_why_not = Store.wanted_configurations, Configurations._why_not
    first: dict[tuple[Store, VehicleId, ConfigKind], Configuration] = {}

    async def wanted(self: Store, vehicle_id: VehicleId) -> list[Configuration]:
        found = await real(self, vehicle_id)
        for one in found:
            first.setdefault((self, vehicle_id, one.kind), one)
        return found or [
            one for (*whose, _), one in first.items() if whose == [self, vehicle_id]
        ]

    def why_not(self: Configurations, offered: Active, length: int) -> Code | None:
        code = real_why_not(self, offered, length)
        return None if code is Code.SUPERSEDED else code

    offering = mock.patch.object(Store, "wanted_configurations", wanted)
    lacking = mock.patch.object(VehicleState, "config_version", return_value=0)
    taking = mock.patch.object(Configurations, "_why_not", why_not)
    with offering, lacking, taking:
        yield


def _patient() -> AbstractContextManager[object]:
    """Let an offer to hand the car over stand for ever."""
    return mock.patch.multiple(
        handover, pass_time=lambda _turn: None, next_due_ms=lambda _state: None
    )


def _any_rental() -> AbstractContextManager[object]:
    """Take an offer that was made for another rental."""
    real = orders._require_fitting

    def require_fitting(turn: Turn, command: KnownCommand) -> None:
        if not isinstance(command, HandoverOffer):
            real(turn, command)

    return mock.patch.object(orders, "_require_fitting", require_fitting)


def _neighbours() -> AbstractContextManager[object]:
    """Send a car what is wanted of any car."""

    async def wanted(self: Store, vehicle_id: VehicleId) -> list[Configuration]:
        query = select(schema.configurations.c.vehicle_id).distinct()
        everybody = await self._read(lambda c: c.execute(query).scalars().all())
        found = [
            one
            for car in everybody
            for one in await real(self, VehicleId.from_text(car))
        ]
        return [replace(one, vehicle_id=vehicle_id) for one in found]

    real = Store.wanted_configurations
    return mock.patch.object(Store, "wanted_configurations", wanted)


def _restless() -> AbstractContextManager[object]:
    """Release the engine of a rental once more when somebody only asks."""
    real = orders._done

    def done(turn: Turn, event: CommandReceived, request: Request, code: Code) -> None:
        real(turn, event, request, code)
        rental = turn.state.rental
        if not isinstance(event.command, LOOKING) or rental is None:
            return
        if rental.pin_accepted and not payment.holds(rental):
            turn.act(AllowEngine(released=True))

    return mock.patch.object(orders, "_done", done)


def _by_the_wall() -> AbstractContextManager[object]:
    """Reckon cars' clocks on the bridge's wall clock."""

    def instant(self: WallClock) -> Instant:
        return Instant(self(), self(), "wall")

    return mock.patch.object(WallClock, "instant", instant)


PLANTED: Final = (
    Planted("a car forgets what it has carried out", "I-5|I-8|I-10", _twice, 1),
    Planted("a car obeys whenever a command comes", "I-6|I-8", _late, 40),
    Planted("a car believes a receipt without its signature", "I-22", _credulous, 2),
    Planted("a bridge acknowledges before it commits", "I-22|I-23", _hasty, 2),
    Planted("a car forgets to show that it is reserved", "I-16", _dark, 7),
    Planted("a bridge takes silence for success", "I-11", _hopeful, 1),
    Planted("a stored grant opens out of its time", "I-12", _over_time, 11),
    Planted("a relay hands out events side by side", "I-25", _abreast, 1),
    Planted("a relay counts as taken what it read", "I-26", _rash, 1, refusing),
    Planted("a car tells where its customer drives", "K25", _shadowing, 1),
    Planted("a car tells where every entry was written", "K25", _talkative, 1),
    Planted("a car begins rentals on a full disk", "I-20", _blind, 1),
    Planted("a stored grant begins a rental on a full disk", "I-20", _obedient, 4),
    Planted("a second part is sent before the first is done", "I-11", _hurried, 112),
    Planted("a payment is decided twice", "H3.*decided", _paid_again, 2, paying, 1.5),
    Planted("a refused payment is taken for paid", "C21", _generous, 2, paying, 1.5),
    Planted("one payment is asked for twice", "H3.*asked", _one_number, 7, paying, 1.5),
    Planted("a visit is paid twice", "H3.*visit", _insatiable, 2, paying, 1.5),
    Planted("a car forgets its configurations", "I-8", _forgetful, 1, editing),
    Planted("a car goes back to a configuration", "I-8", _relapsing, 1, editing),
    Planted("an offer of a handover has no end", "H11", _patient, 1, handing_over, 1.5),
    Planted(
        "a handover is by another rental's offer", "I-7", _any_rental, 14, handing_over
    ),
    Planted("a car gets another car's configuration", "I-7", _neighbours, 7),
    Planted("clocks are reckoned by walls", "not settled", _by_the_wall, 3, stepping),
    Planted("a car that is only asked moves", "I-33", _restless, 2, asking),
)


def search(planted: Planted, first: int = 1) -> Iterator[tuple[int, str]]:
    """Yield each seed and its complaint, up to the first one that complains."""
    with made_fleet() as fleet, planted.habit(), planted.plant():
        for seed in range(first, first + MOST_SEEDS):
            outcome = run_seed(seed, fleet, life=planted.life)
            yield seed, str(outcome.violation or "")
            if outcome.violation is not None:
                return


def main() -> None:
    """Tell how many seeds each fault takes."""
    logging.disable(logging.CRITICAL)
    for planted in PLANTED:
        found = list(search(planted))
        print(f"{len(found):3} seeds: {planted.name}: {found[-1][1]}", flush=True)


if __name__ == "__main__":
    main()
