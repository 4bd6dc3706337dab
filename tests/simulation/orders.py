"""What operators and apps order of one car, and what they promise by it.

Each order that gives somebody a right is noted in `Promises` before it leaves:
the oracle compares what cars do with that, and never with what they say they were told.
"""

import json
from dataclasses import dataclass, field
from random import Random
from typing import Final

from bridge.bound_orders import (
    GrantOrder,
    HandoverOfferOrder,
    HandoverRequestOrder,
    MeetingPoint,
    Pins,
    ReserveOrder,
    ServiceOrder,
)
from bridge.orders import Order
from firmware_emulator.car import Car
from firmware_emulator.reader import Card
from gateway.core.state import State
from protocol.codes import (
    CancelReason,
    EnergyKind,
    HoldReason,
    LockDefault,
    LockMode,
    ModeRequest,
)
from protocol.command import (
    ANY_VERSION,
    CancelReservation,
    EngineHold,
    EngineRelease,
    Explain,
    FlashHazards,
    Lock,
    LockAndDisable,
    Ping,
    Reboot,
    RequestSnapshot,
    Restart,
    RotateKey,
    SetMode,
    ShowMessage,
    Unlock,
    UnlockAndEnable,
)
from protocol.diagnosis import ExplainSubject
from protocol.identity import ID_SIZE
from protocol.rental_codes import (
    Component,
    GrantAction,
    PaymentOutcome,
    Rights,
    ServiceRequest,
)
from protocol.rental_command import PaymentDecision, SetDefaultMode
from protocol.snapshot import NO_RENTAL
from protocol.station_list import RADIUS_LIMIT_M, Station, build_station_list
from tests.simulation.promises import PromisedGrant, Promises

PIN: Final = "2468"
FUEL_CARD_PIN: Final = "4711"

SECOND_PIN: Final = "1357"
"""Of who takes the car over."""

ANY: Final = ANY_VERSION


@dataclass
class RandomOrders:
    """Orders for one car, as its state suggests them and as nobody should give them."""

    rng: Random
    promises: Promises
    client: str
    """The car."""
    card: Card = field(init=False)
    """The customer's."""
    second: Card = field(init=False)
    """Of who takes the car over."""
    technician: Card = field(init=False)
    rental_id: bytes = NO_RENTAL
    """The newest that was ordered."""
    grants: list[GrantOrder] = field(default_factory=list)
    payments: list[PaymentDecision] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.card = Card.random(self.rng)
        self.second = Card.random(self.rng)
        self.technician = Card.random(self.rng)

    @property
    def _pins(self) -> Pins:
        return Pins(PIN, FUEL_CARD_PIN)

    @property
    def _lock_default(self) -> LockDefault:
        return self.rng.choice((LockDefault.END, LockDefault.END, LockDefault.PARK))

    # -- while nobody has the car --------------------------------------------------

    def for_free_car(self) -> Order:
        """Return a reservation most of the time, else what needs a free car."""
        chance = self.rng.random()
        if chance < 0.72:
            return self.reservation()
        if chance < 0.88:
            return self.grant()
        if chance < 0.94:
            return self._service()
        return self.anything(None)

    def reservation(self) -> ReserveOrder:
        rental_id = self.rental_id = self.rng.randbytes(ID_SIZE)
        self.promises.cards[rental_id] = self.card.uid
        return ReserveOrder(
            rental_id=rental_id,
            expected_version=ANY,
            hold_s=self.rng.choice((20, 120, 900)),
            cards=(self.card.uid,),
            lock_default=self._lock_default,
            language=b"en",
            pins=self._pins,
        )

    def grant(self) -> GrantOrder:
        """Return a right for a time: a new one, or the end of one that was given."""
        rng = self.rng
        if self.grants and rng.random() < 0.3:
            given = rng.choice(self.grants)
            return _withdrawal(given)
        rental_id, grant_id = rng.randbytes(ID_SIZE), rng.randbytes(ID_SIZE)
        is_service = rng.random() < 0.25
        rights = Rights.UNLOCK | (Rights.SERVICE if is_service else Rights.DRIVE)
        card = self.technician if is_service else self.card
        begins_ms = self.promises.true_ms() + rng.choice((-60_000, -60_000, 0, 15_000))
        ends_ms = begins_ms + rng.choice((75_000, 120_000, 900_000))
        order = GrantOrder(
            rental_id=rental_id,
            expected_version=ANY,
            action=GrantAction.ADD,
            grant_id=grant_id,
            card=card.uid,
            not_before_ms=begins_ms,
            not_after_ms=ends_ms,
            rights=rights,
            lock_default=self._lock_default,
            language=b"de",
            pins=self._pins,
        )
        self.grants.append(order)
        self.promises.cards[rental_id] = card.uid
        self.promises.grants[rental_id] = PromisedGrant(
            self.client, grant_id, begins_ms, ends_ms
        )
        return order

    def _service(self) -> ServiceOrder:
        return ServiceOrder(
            rental_id=NO_RENTAL,
            expected_version=ANY,
            request=self.rng.choice(tuple(ServiceRequest)),
            for_s=self.rng.choice((5, 20)),
        )

    # -- while somebody has it -----------------------------------------------------

    def payment(self, state: State | None) -> PaymentDecision | None:
        """Return the fleet's word about a payment that is open, or was."""
        rental = None if state is None else state.rental
        payment = None if rental is None else rental.payment
        if rental is None or payment is None:
            return None
        order = PaymentDecision(
            rental.reservation.rental_id,
            ANY,
            payment.payment_id,
            self.rng.choice(tuple(PaymentOutcome)),
            b"EUR",
            self.rng.randrange(10_000),
        )
        self.payments.append(order)
        return order

    def offer(self, rental_id: bytes, place: MeetingPoint) -> HandoverOfferOrder:
        """Return the word that the second driver comes (F14)."""
        offer_id = self.rng.randbytes(ID_SIZE)
        self.promises.cards[offer_id] = self.second.uid
        self.promises.offers[offer_id] = (self.client, rental_id)
        return HandoverOfferOrder(
            rental_id=rental_id,
            expected_version=ANY,
            offer_id=offer_id,
            for_s=self.rng.choice((5, 60, 900)),
            meeting=place,
            cards=(self.second.uid,),
            pins=Pins(SECOND_PIN),
        )

    def anything(self, state: State | None) -> Order:
        """Return any order, most of them for the rental that there is."""
        rng, rental = self.rng, self.rental_id
        if state is not None and state.rental_id and rng.random() < 0.9:
            rental = state.rental_id
        here = MeetingPoint(481_000_000, 115_000_000)
        if self.payments and rng.random() < 0.1:
            return rng.choice(self.payments)
        return rng.choices(
            (
                lambda: Unlock(rental, ANY),
                lambda: Lock(rental, ANY, rng.choice(tuple(LockMode))),
                lambda: CancelReservation(rental, ANY, CancelReason.CUSTOMER),
                lambda: EngineRelease(rental, ANY, HoldReason.RENTAL),
                lambda: EngineHold(rental, ANY, HoldReason.RENTAL),
                lambda: SetMode(rental, ANY, rng.choice(tuple(ModeRequest))),
                lambda: FlashHazards(NO_RENTAL, ANY, rng.randrange(1, 6)),
                lambda: Ping(NO_RENTAL, ANY, bytes(ID_SIZE)),
                lambda: RotateKey(NO_RENTAL, ANY),
                lambda: UnlockAndEnable(rental, ANY),
                lambda: LockAndDisable(rental, ANY, rng.choice(tuple(LockMode))),
                lambda: SetDefaultMode(rental, ANY, rng.choice(tuple(LockDefault))),
                lambda: self.offer(rental, here),
                lambda: HandoverRequestOrder(
                    rental, ANY, rng.randbytes(ID_SIZE), 60, here, 300, "Ben"
                ),
                lambda: ShowMessage(rental, ANY, rng.randrange(1, 7), (), 5),
                lambda: RequestSnapshot(NO_RENTAL, ANY),
                lambda: Explain(
                    NO_RENTAL, ANY, rng.choice(tuple(ExplainSubject)), bytes(ID_SIZE)
                ),
                lambda: Restart(NO_RENTAL, ANY, rng.choice(tuple(Component))),
                lambda: Reboot(NO_RENTAL, ANY),
                self.grant,
                self._service,
            ),
            weights=(
                *(5, 4, 2, 2, 2, 2, 2, 1, 0.3),
                *(2, 2, 1, 4, 1, 0.5, 1, 1, 1, 0.5, 1, 0.3),
            ),
        )[0]()


def _withdrawal(given: GrantOrder) -> GrantOrder:
    return GrantOrder(
        rental_id=given.rental_id,
        expected_version=ANY,
        action=GrantAction.WITHDRAW,
        grant_id=given.grant_id,
        card=given.card,
        not_before_ms=given.not_before_ms,
        not_after_ms=given.not_after_ms,
        rights=given.rights,
        lock_default=given.lock_default,
        language=given.language,
        pins=given.pins,
    )


def stations_near(car: Car, number: int) -> bytes:
    """Return a list with one partner where the car stands, and where can be paid."""
    latitude_e7, longitude_e7 = car.city.coordinates(car.place)
    kind: EnergyKind = car.model.energy_kind
    station = Station(
        number, "Partner", latitude_e7, longitude_e7, kind, RADIUS_LIMIT_M, True
    )
    return build_station_list((station,))


def damage_list(number: int) -> bytes:
    """Return a list of known damage that tells its number."""
    damage = [{"place": "rear", "kind": "dent", "note": f"dent {number}"}]
    return json.dumps({"format": 1, "damage": damage}).encode()
