"""Commands about a rental's payment, handover, service and grants.

They are part of the catalogue in `protocol.command` and begin as all commands do.
"""

from dataclasses import dataclass
from typing import Final

from protocol.codes import LockDefault
from protocol.command_field import CARDS_LIMIT, LANGUAGE, SEALED_LIMIT, for_rental
from protocol.layout import (
    ID,
    U8,
    U16,
    U32,
    U64,
    Layout,
    bytes_up_to,
    code_of,
    flags_of,
    letters,
    reserved,
    sequence_of,
    text_up_to,
)
from protocol.place import LATITUDE_E7, LONGITUDE_E7
from protocol.rental_codes import (
    KNOWN_RIGHTS,
    GrantAction,
    PaymentOutcome,
    Rights,
    ServiceRequest,
)

NAME_LIMIT: Final = 32
"""Bytes of a name in UTF-8 that the display shows to the driver."""


@dataclass(frozen=True, slots=True)
class SetDefaultMode:
    """Change what locking means when the driver chose nothing (C28)."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `protocol.command.ANY_VERSION`."""
    lock_default: LockDefault
    """End or park."""


@dataclass(frozen=True, slots=True)
class PaymentDecision:
    """Say how a payment ended that the car asked for (C21)."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `protocol.command.ANY_VERSION`."""
    payment_id: bytes
    """16 bytes, made by the car (H3)."""
    decision: PaymentOutcome
    """Paid or refused."""
    currency: bytes
    """Three capital letters of ISO 4217."""
    amount_minor: int
    """What was paid, in the smallest unit of the currency."""


@dataclass(frozen=True, slots=True)
class HandoverOffer:
    """Tell the car that its rental is offered to a second driver (F14)."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `protocol.command.ANY_VERSION`."""
    offer_id: bytes
    """16 bytes."""
    until_ms: int
    """The car's boot clock in this session, ms."""
    latitude_e7: int
    """Where to meet: degrees times 10^7, WGS 84."""
    longitude_e7: int
    """Degrees times 10^7, WGS 84."""
    cards: tuple[bytes, ...]
    """Up to 4 card digests of the second driver."""
    sealed: bytes
    """The second driver's secrets, sealed to the car; may be empty."""


@dataclass(frozen=True, slots=True)
class HandoverRequest:
    """Ask the driver whether somebody near may take the car over (F16)."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `protocol.command.ANY_VERSION`."""
    request_id: bytes
    """16 bytes."""
    until_ms: int
    """The car's boot clock in this session, ms."""
    latitude_e7: int
    """Where the other waits: degrees times 10^7, WGS 84."""
    longitude_e7: int
    """Degrees times 10^7, WGS 84."""
    distance_m: int
    """How far that is, m."""
    name: str
    """What the other wants to be called; up to 32 bytes."""


@dataclass(frozen=True, slots=True)
class Service:
    """Take the car out of the fleet's use for service, or give it back."""

    rental_id: bytes
    """16 bytes."""
    expected_version: int
    """State version the sender saw, or `protocol.command.ANY_VERSION`."""
    request: ServiceRequest
    """On or off."""
    until_ms: int
    """The car's boot clock in this session, ms; service mode ends by itself then."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Give a card rights for a time, with no network needed, or take them (H14)."""

    rental_id: bytes
    """16 bytes: the rental that the grant can start."""
    expected_version: int
    """State version the sender saw, or `protocol.command.ANY_VERSION`."""
    action: GrantAction
    """Add or withdraw; a withdrawal repeats the grant."""
    grant_id: bytes
    """16 bytes."""
    card: bytes
    """16 bytes: the card's digest under `rental_id`."""
    not_before_wall_ms: int
    """UTC ms, judged by trusted time."""
    not_after_wall_ms: int
    """UTC ms, judged by trusted time."""
    rights: Rights
    """What its holder may do."""
    lock_default: LockDefault
    """End or park."""
    language: bytes
    """Two lower-case letters of ISO 639-1."""
    sealed: bytes
    """`protocol.sealing.Secrets`, sealed to the car; may be empty."""


SET_DEFAULT_MODE: Final = Layout(
    SetDefaultMode,
    *for_rental(),
    "lock_default" / code_of(U8, LockDefault),
    reserved(3),
)
PAYMENT_DECISION: Final = Layout(
    PaymentDecision,
    *for_rental(),
    "payment_id" / ID,
    "decision" / code_of(U8, PaymentOutcome),
    "currency" / letters(3, upper=True),
    "amount_minor" / U32,
)
HANDOVER_OFFER: Final = Layout(
    HandoverOffer,
    *for_rental(),
    "offer_id" / ID,
    "until_ms" / U64,
    "latitude_e7" / LATITUDE_E7,
    "longitude_e7" / LONGITUDE_E7,
    "cards" / sequence_of(ID, CARDS_LIMIT),
    "sealed" / bytes_up_to(SEALED_LIMIT),
)
HANDOVER_REQUEST: Final = Layout(
    HandoverRequest,
    *for_rental(),
    "request_id" / ID,
    "until_ms" / U64,
    "latitude_e7" / LATITUDE_E7,
    "longitude_e7" / LONGITUDE_E7,
    "distance_m" / U16,
    "name" / text_up_to(NAME_LIMIT),
)
SERVICE: Final = Layout(
    Service,
    *for_rental(),
    "request" / code_of(U8, ServiceRequest),
    reserved(3),
    "until_ms" / U64,
)
GRANT: Final = Layout(
    Grant,
    *for_rental(),
    "action" / code_of(U8, GrantAction),
    reserved(3),
    "grant_id" / ID,
    "card" / ID,
    "not_before_wall_ms" / U64,
    "not_after_wall_ms" / U64,
    "rights" / flags_of(U16, Rights, KNOWN_RIGHTS),
    "lock_default" / code_of(U8, LockDefault),
    "language" / LANGUAGE,
    "sealed" / bytes_up_to(SEALED_LIMIT),
)
