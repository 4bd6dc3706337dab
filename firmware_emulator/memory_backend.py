"""The backend port on a fleet in memory, and a car's way to it that can be cut."""

import itertools
from typing import Final, Self

from firmware_emulator.backend import Fields
from firmware_emulator.customer import Customer
from firmware_emulator.errors import DemandError
from firmware_emulator.frames_seen import FrameNote
from firmware_emulator.memory_fleet import NOW, MemoryFleet
from protocol.codes import (
    CancelReason,
    ConfigKind,
    HoldReason,
    LockDefault,
    LockMode,
    ModeRequest,
)
from protocol.command import (
    ANY_VERSION,
    CancelReservation,
    Command,
    EngineHold,
    EngineRelease,
    FlashHazards,
    Lock,
    Ping,
    Restart,
    SetMode,
    Unlock,
)
from protocol.identity import ID_SIZE, VehicleId, card_digest
from protocol.place import E7
from protocol.rental_codes import (
    Component,
    GrantAction,
    PaymentOutcome,
    Rights,
    ServiceRequest,
)
from protocol.rental_command import (
    Grant,
    HandoverOffer,
    HandoverRequest,
    PaymentDecision,
    Service,
    SetDefaultMode,
)
from protocol.rental_event import HandoverOffered, PaymentRequested

NO_RENTAL: Final = bytes(ID_SIZE)
"""Of an order that belongs to no rental."""

FUEL_CARD_PIN: Final = "4711"
"""Of the emulated fuel card."""

SERVICE_MS: Final = 3_600_000
"""Service by command lasts an hour at the longest."""

GRANT_MS: Final = 3_600_000
"""A grant counts for an hour, and did for the hour before."""

FRAMES_KEPT: Final = 100_000
"""Frames that are remembered; a scenario makes a few hundred."""


class MemoryWay:
    """A car's way to its fleet in memory: cut and restored as a TCP connection is."""

    def __init__(self, fleet: MemoryFleet, vehicle_id: VehicleId) -> None:
        """Lead from a car to its fleet."""
        self._fleet = fleet
        self._vehicle_id = vehicle_id

    async def __aenter__(self) -> Self:
        """Do nothing: there is no socket."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Do nothing: there is no socket."""

    @property
    def is_cut(self) -> bool:
        """Whether no connection comes up."""
        return self._fleet.accounts[self._vehicle_id].is_cut

    def cut(self) -> None:
        """Reset the connection and let none come up."""
        self._fleet.cut(self._vehicle_id)

    def restore(self) -> None:
        """Let connections through again."""
        self._fleet.restore(self._vehicle_id)

    def stall(self) -> None:
        """Cut it: in memory nothing is under way that could stall."""
        self.cut()


class MemoryBackend:
    """Implements `firmware_emulator.backend.Backend` for one car."""

    def __init__(self, fleet: MemoryFleet, vehicle_id: VehicleId) -> None:
        """Take a car of a fleet; the fleet's observer is set."""
        self._fleet = fleet
        self._vehicle_id = vehicle_id
        self._rental_id = NO_RENTAL
        self._numbers = itertools.count(1)
        self.frames: list[FrameNote] = []
        fleet.observe = self._note

    async def reserve(self, customer: Customer, fields: Fields) -> str:
        """Reserve; see the port."""
        self._rental_id = next(self._numbers).to_bytes(ID_SIZE, "big")
        lock_default = LockDefault[str(fields.get("lock_default", "end")).upper()]
        try:
            result = await self._fleet.reserve(
                self._vehicle_id,
                rental_id=self._rental_id,
                card_uid=customer.card.uid,
                pin=customer.pin,
                fuel_card_pin=FUEL_CARD_PIN,
                lock_default=lock_default,
                language=str(fields.get("language", "en")),
                reserved_ms=int(fields.get("hold_s", 900)) * 1_000,
            )
        except TimeoutError:
            raise DemandError("the car did not answer the reservation") from None
        return result.code.name.lower()

    async def order(self, kind: str, fields: Fields) -> str:
        """Order; see the port."""
        command = self._command(kind, fields)
        try:
            result = await self._fleet.order(self._vehicle_id, command)
        except TimeoutError:
            raise DemandError(f"the car did not answer the order {kind}") from None
        return result.code.name.lower()

    async def configure(self, kind: ConfigKind, body: bytes) -> None:
        """Bring a configuration; see the port."""
        number = next(self._numbers)
        self._fleet.configure(self._vehicle_id, kind, number, body)

    def _command(self, kind: str, fields: Fields) -> Command:  # noqa: C901, PLR0911, PLR0912 - one return for each kind
        rental, version = self._rental_id, ANY_VERSION

        def word(name: str, default: str) -> str:
            return str(fields.get(name, default)).upper()

        match kind:
            case "flash_hazards":
                return FlashHazards(NO_RENTAL, version, int(fields["seconds"]))
            case "ping":
                return Ping(NO_RENTAL, version, bytes(ID_SIZE))
            case "cancel":
                reason = CancelReason[word("reason", "customer")]
                return CancelReservation(rental, version, reason)
            case "unlock":
                return Unlock(rental, version)
            case "lock":
                return Lock(rental, version, LockMode[word("mode", "default")])
            case "engine_release":
                reason_of = HoldReason[word("reason", "rental")]
                return EngineRelease(rental, version, reason_of)
            case "engine_hold":
                return EngineHold(rental, version, HoldReason[word("reason", "rental")])
            case "set_mode":
                return SetMode(rental, version, ModeRequest[word("mode", "end")])
            case "set_default_mode":
                default = LockDefault[word("lock_default", "end")]
                return SetDefaultMode(rental, version, default)
            case "grant":
                return self._grant(fields)
            case "service":
                request = ServiceRequest[word("request", "on")]
                until_ms = self._fleet.clock_of(self._vehicle_id) + SERVICE_MS
                return Service(NO_RENTAL, version, request, until_ms)
            case "payment_decision":
                return self._payment(fields)
            case "handover_offer":
                return self._handover_offer(fields)
            case "handover_request":
                return self._handover_request(fields)
            case "restart":
                part = Component[word("component", "reader")]
                return Restart(NO_RENTAL, version, part)
            case _:
                raise DemandError(f"a fleet in memory has no order {kind}")

    def _payment(self, fields: Fields) -> PaymentDecision:
        account = self._fleet.accounts[self._vehicle_id]
        asked = account.of_kind(PaymentRequested)
        if not asked:
            raise DemandError("the car has asked for no payment")
        return PaymentDecision(
            rental_id=self._rental_id,
            expected_version=ANY_VERSION,
            payment_id=asked[-1].payment_id,  # type: ignore[union-attr] # of that kind
            decision=PaymentOutcome[str(fields["decision"]).upper()],
            currency=b"EUR",
            amount_minor=int(fields["amount_minor"]),
        )

    def _handover_offer(self, fields: Fields) -> HandoverOffer:
        """Name the second driver for the driver's newest offer, else for a new one."""
        account = self._fleet.accounts[self._vehicle_id]
        offered = [
            told.offer_id
            for told in account.of_kind(HandoverOffered)
            if isinstance(told, HandoverOffered) and told.rental_id == self._rental_id
        ]
        offer_id = offered[-1] if offered else next(self._numbers).to_bytes(ID_SIZE)
        return HandoverOffer(
            rental_id=self._rental_id,
            expected_version=ANY_VERSION,
            offer_id=offer_id,
            until_ms=self._until_ms(fields),
            latitude_e7=round(float(fields["latitude_deg"]) * E7),
            longitude_e7=round(float(fields["longitude_deg"]) * E7),
            cards=(card_digest(offer_id, bytes.fromhex(str(fields["card"]))),),
            sealed=self._fleet.sealed_for(
                self._vehicle_id,
                rental_id=offer_id,
                pin=str(fields["pin"]),
                fuel_card_pin=FUEL_CARD_PIN,
            ),
        )

    def _handover_request(self, fields: Fields) -> HandoverRequest:
        return HandoverRequest(
            rental_id=self._rental_id,
            expected_version=ANY_VERSION,
            request_id=next(self._numbers).to_bytes(ID_SIZE),
            until_ms=self._until_ms(fields),
            latitude_e7=round(float(fields["latitude_deg"]) * E7),
            longitude_e7=round(float(fields["longitude_deg"]) * E7),
            distance_m=int(fields["distance_m"]),
            name=str(fields["name"]),
        )

    def _until_ms(self, fields: Fields) -> int:
        for_ms = int(fields["for_s"]) * 1_000
        return self._fleet.clock_of(self._vehicle_id) + for_ms

    def _grant(self, fields: Fields) -> Grant:
        rental_id = next(self._numbers).to_bytes(ID_SIZE, "big")
        wall_ms = round(NOW.timestamp() * 1_000)
        is_service = fields["rights"] == "service"
        rights = Rights.UNLOCK | (Rights.SERVICE if is_service else Rights.DRIVE)
        return Grant(
            rental_id=rental_id,
            expected_version=ANY_VERSION,
            action=GrantAction.ADD,
            grant_id=rental_id,
            card=card_digest(rental_id, bytes.fromhex(str(fields["card"]))),
            not_before_wall_ms=wall_ms - GRANT_MS,
            not_after_wall_ms=wall_ms + GRANT_MS,
            rights=rights,
            lock_default=LockDefault.END,
            language=str(fields.get("language", "en")).encode(),
            sealed=self._fleet.sealed_for(
                self._vehicle_id,
                rental_id=rental_id,
                pin=str(fields["pin"]),
                fuel_card_pin=FUEL_CARD_PIN,
            ),
        )

    def _note(self, note: FrameNote) -> None:
        self.frames.append(note)
        del self.frames[:-FRAMES_KEPT]
