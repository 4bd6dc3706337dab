"""Orders that become a command only when a car's key and clock are known.

They hold PINs in clear, cards by their UID, or a span of time from now on. A car knows
cards by their digest under one rental, secrets sealed to its own key, and instants of
its own boot clock; so each order is bound to the car here (H1, H6). Secrets live in
these records alone, are sealed here, and are in no log, no store, no digest and no
`repr`.
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from bridge.clock import span_ms
from bridge.ports import RandomBytes
from protocol.codes import LockDefault
from protocol.command import Command, Reserve
from protocol.identity import ID_SIZE, VehicleId, card_digest
from protocol.rental_codes import GrantAction, Rights, ServiceRequest
from protocol.rental_command import Grant, HandoverOffer, HandoverRequest, Service
from protocol.sealing import make_secrets, seal


@dataclass(frozen=True, slots=True)
class KnownCar:
    """What of a car its orders are bound to."""

    vehicle_id: VehicleId
    """Which car."""
    fleet_id: bytes
    """16 bytes; binds the sealed secrets."""
    sealing_key: X25519PublicKey
    """The car's."""
    car_now_ms: int
    """Its boot clock, at or behind the truth, so that the car never holds anything
    longer than the caller thinks (H1)."""
    random_bytes: RandomBytes
    """Makes the salt."""

    def until_ms(self, seconds: int) -> int:
        """Return the instant of the car's clock that is so many seconds away."""
        return self.car_now_ms + span_ms(seconds)


@dataclass(frozen=True, slots=True)
class Pins:
    """A driver's secrets in clear; all of it sealed for one rental or nothing."""

    pin: str = field(default="", repr=False)
    """What the driver types before the engine starts, 4 to 8 digits; empty for none."""
    fuel_card_pin: str = field(default="", repr=False)
    """The fuel card's PIN, 1 to 8 digits; empty for none."""

    def sealed(self, car: KnownCar, rental_id: bytes) -> bytes:
        """Return them sealed to a car; takes tens of milliseconds unless empty."""
        if not self.pin:
            return b""
        secrets = make_secrets(
            self.pin, self.fuel_card_pin, salt=car.random_bytes(ID_SIZE)
        )
        return seal(
            secrets,
            car.sealing_key,
            fleet_id=car.fleet_id,
            vehicle_id=car.vehicle_id,
            rental_id=rental_id,
        )

    def told(self) -> tuple[str, ...]:
        """Return what may be known of them: whether they are there."""
        return (str(bool(self.pin)), str(bool(self.fuel_card_pin)))


@dataclass(frozen=True, slots=True)
class ReserveOrder:
    """Keep a car for one customer for a while (H1)."""

    rental_id: bytes
    """16 bytes, made by the fleet service."""
    expected_version: int
    """State version the caller saw, or `ANY_VERSION`."""
    hold_s: int
    """How long from now, in seconds."""
    cards: tuple[bytes, ...]
    """UIDs of the cards that open it."""
    lock_default: LockDefault
    """The customer's default mode on locking (C28)."""
    language: bytes
    """Two lower-case letters."""
    pins: Pins
    """The customer's."""

    def bound(self, car: KnownCar) -> Command:
        """Return the command."""
        return Reserve(
            rental_id=self.rental_id,
            expected_version=self.expected_version,
            reserved_until_ms=car.until_ms(self.hold_s),
            lock_default=self.lock_default,
            language=self.language,
            cards=_digests(self.rental_id, self.cards),
            sealed=self.pins.sealed(car, self.rental_id),
        )

    def told(self) -> tuple[str, ...]:
        """Return what tells it from another order."""
        cards = tuple(digest.hex() for digest in _digests(self.rental_id, self.cards))
        return (
            "reserve",
            self.rental_id.hex(),
            str(self.expected_version),
            str(self.hold_s),
            str(cards),
            str(self.lock_default),
            self.language.hex(),
            *self.pins.told(),
        )


@dataclass(frozen=True, slots=True)
class GrantOrder:
    """Give a card rights for a time with no network needed, or take them (H14)."""

    rental_id: bytes
    """16 bytes: the rental that the grant can start."""
    expected_version: int
    """State version the caller saw, or `ANY_VERSION`."""
    action: GrantAction
    """Add or withdraw."""
    grant_id: bytes
    """16 bytes."""
    card: bytes
    """UID of the card."""
    not_before_ms: int
    """UTC ms."""
    not_after_ms: int
    """UTC ms."""
    rights: Rights
    """What its holder may do."""
    lock_default: LockDefault
    """The customer's default mode on locking (C28)."""
    language: bytes
    """Two lower-case letters."""
    pins: Pins
    """The customer's."""

    def bound(self, car: KnownCar) -> Command:
        """Return the command."""
        return Grant(
            rental_id=self.rental_id,
            expected_version=self.expected_version,
            action=self.action,
            grant_id=self.grant_id,
            card=card_digest(self.rental_id, self.card),
            not_before_wall_ms=self.not_before_ms,
            not_after_wall_ms=self.not_after_ms,
            rights=self.rights,
            lock_default=self.lock_default,
            language=self.language,
            sealed=self.pins.sealed(car, self.rental_id),
        )

    def told(self) -> tuple[str, ...]:
        """Return what tells it from another order."""
        return (
            "grant",
            self.rental_id.hex(),
            str(self.expected_version),
            str(self.action),
            self.grant_id.hex(),
            card_digest(self.rental_id, self.card).hex(),
            str(self.not_before_ms),
            str(self.not_after_ms),
            str(int(self.rights)),
            str(self.lock_default),
            self.language.hex(),
            *self.pins.told(),
        )


@dataclass(frozen=True, slots=True)
class MeetingPoint:
    """Where two drivers meet: degrees times 10^7, WGS 84."""

    latitude_e7: int
    """-90 to 90 degrees."""
    longitude_e7: int
    """-180 to 180 degrees."""


@dataclass(frozen=True, slots=True)
class HandoverOfferOrder:
    """Tell a car who takes it over next (H11)."""

    rental_id: bytes
    """16 bytes: the rental that ends by it."""
    expected_version: int
    """State version the caller saw, or `ANY_VERSION`."""
    offer_id: bytes
    """16 bytes: the rental that begins by it."""
    for_s: int
    """How long from now, in seconds."""
    meeting: MeetingPoint
    """Where."""
    cards: tuple[bytes, ...]
    """UIDs of the second driver's cards."""
    pins: Pins
    """The second driver's."""

    def bound(self, car: KnownCar) -> Command:
        """Return the command; cards and secrets belong to the rental that begins."""
        return HandoverOffer(
            rental_id=self.rental_id,
            expected_version=self.expected_version,
            offer_id=self.offer_id,
            until_ms=car.until_ms(self.for_s),
            latitude_e7=self.meeting.latitude_e7,
            longitude_e7=self.meeting.longitude_e7,
            cards=_digests(self.offer_id, self.cards),
            sealed=self.pins.sealed(car, self.offer_id),
        )

    def told(self) -> tuple[str, ...]:
        """Return what tells it from another order."""
        cards = tuple(digest.hex() for digest in _digests(self.offer_id, self.cards))
        return (
            "handover_offer",
            self.rental_id.hex(),
            str(self.expected_version),
            self.offer_id.hex(),
            str(self.for_s),
            str(self.meeting.latitude_e7),
            str(self.meeting.longitude_e7),
            str(cards),
            *self.pins.told(),
        )


@dataclass(frozen=True, slots=True)
class HandoverRequestOrder:
    """Ask a driver whether somebody near may take the car over (C33)."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the caller saw, or `ANY_VERSION`."""
    request_id: bytes
    """16 bytes."""
    for_s: int
    """How long from now, in seconds."""
    meeting: MeetingPoint
    """Where the other waits."""
    distance_m: int
    """How far that is."""
    name: str
    """What the other wants to be called."""

    def bound(self, car: KnownCar) -> Command:
        """Return the command."""
        return HandoverRequest(
            rental_id=self.rental_id,
            expected_version=self.expected_version,
            request_id=self.request_id,
            until_ms=car.until_ms(self.for_s),
            latitude_e7=self.meeting.latitude_e7,
            longitude_e7=self.meeting.longitude_e7,
            distance_m=self.distance_m,
            name=self.name,
        )

    def told(self) -> tuple[str, ...]:
        """Return what tells it from another order."""
        return (
            "handover_request",
            self.rental_id.hex(),
            str(self.expected_version),
            self.request_id.hex(),
            str(self.for_s),
            str(self.meeting.latitude_e7),
            str(self.meeting.longitude_e7),
            str(self.distance_m),
            self.name,
        )


@dataclass(frozen=True, slots=True)
class ServiceOrder:
    """Take a car out of the fleet's use for service, or give it back (I-17)."""

    rental_id: bytes
    """Zeros: only a car that nobody has can be serviced."""
    expected_version: int
    """State version the caller saw, or `ANY_VERSION`."""
    request: ServiceRequest
    """On or off."""
    for_s: int
    """Service ends by itself so many seconds from now; means nothing for off."""

    def bound(self, car: KnownCar) -> Command:
        """Return the command."""
        return Service(
            rental_id=self.rental_id,
            expected_version=self.expected_version,
            request=self.request,
            until_ms=car.until_ms(self.for_s),
        )

    def told(self) -> tuple[str, ...]:
        """Return what tells it from another order."""
        return (
            "service",
            self.rental_id.hex(),
            str(self.expected_version),
            str(self.request),
            str(self.for_s),
        )


def _digests(rental_id: bytes, cards: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(card_digest(rental_id, uid) for uid in cards)
