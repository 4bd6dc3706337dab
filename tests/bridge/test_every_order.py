"""Whatever the protocol can order, the API can order, and so can the command line."""

from typing import Any, Final, get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import TypeAdapter

from bridge.api.bodies import CommandBody
from bridge.bound_orders import KnownCar
from bridge.orders import KINDS, complete, digest_of, opcode_of
from protocol.codes import Opcode
from protocol.command import ANY_VERSION, COMMAND_SCHEMA, Command, parse_command
from protocol.identity import VehicleId, card_digest
from protocol.sealing import pin_matches, unseal
from tests.bridge.car import RENTAL
from tools.send import send

HEX: Final = "ab" * 16
CARD: Final = "04a1b2c3"
MEETING: Final = {"latitude_deg": 48.1, "longitude_deg": -11.5, "for_s": 600}
IN_RENTAL: Final = {"rental_id": RENTAL.hex()}

BODIES: Final[dict[str, dict[str, Any]]] = {
    "reserve": {**IN_RENTAL, "hold_s": 60, "cards": [CARD], "pin": "4711"},
    "cancel": IN_RENTAL,
    "unlock": IN_RENTAL,
    "lock": IN_RENTAL,
    "unlock_and_enable": IN_RENTAL,
    "lock_and_disable": IN_RENTAL,
    "engine_release": IN_RENTAL,
    "engine_hold": IN_RENTAL,
    "set_mode": {**IN_RENTAL, "mode": "park"},
    "set_default_mode": {**IN_RENTAL, "lock_default": "park"},
    "payment_decision": {
        **IN_RENTAL,
        "payment_id": HEX,
        "decision": "paid",
        "currency": "EUR",
        "amount_minor": 4_250,
    },
    "handover_offer": {
        **IN_RENTAL,
        **MEETING,
        "offer_id": HEX,
        "cards": [CARD],
        "pin": "4711",
    },
    "handover_request": {
        **IN_RENTAL,
        **MEETING,
        "request_id": HEX,
        "distance_m": 300,
        "name": "Zoë",
    },
    "grant": {
        **IN_RENTAL,
        "grant_id": HEX,
        "card": CARD,
        "not_before": "2027-01-15T08:00:00Z",
        "not_after": "2027-01-15T10:00:00+01:00",
        "rights": ["unlock", "drive"],
        "pin": "4711",
    },
    "service": {"request": "on"},
    "flash_hazards": {},
    "show_message": {"text_key": 7, "arguments": ["Main Street"]},
    "ping": {},
    "snapshot": {},
    "explain": {"subject": "tap"},
    "restart": {"component": "reader"},
    "reboot": {},
    "rotate_key": {},
}
"""The least that each kind of order needs."""

SEALING = X25519PrivateKey.from_private_bytes(bytes(range(32)))
CAR = KnownCar(
    vehicle_id=VehicleId(bytes(range(16))),
    fleet_id=bytes(16),
    sealing_key=SEALING.public_key(),
    car_now_ms=1_000_000,
    random_bytes=bytes,
)

ADAPTER: Final[TypeAdapter[Any]] = TypeAdapter(CommandBody)


def ordered(kind: str, **changes: object) -> Command:
    """Read an order as the API does, and the command as the car does."""
    order = ADAPTER.validate_python({"kind": kind, **BODIES[kind], **changes}).to_order(
        bytes
    )
    return parse_command(opcode_of(order), COMMAND_SCHEMA, complete(order, CAR))


def test_every_opcode_of_the_protocol_is_an_order_of_the_api() -> None:
    # I-33, O17: an opcode that is new in the protocol fails here until it is ordered
    union, *_rest = get_args(CommandBody)
    kinds = {
        get_args(model.model_fields["kind"].annotation)[0] for model in get_args(union)
    }

    assert set(KINDS) == set(Opcode)
    assert kinds == set(KINDS.values()) == set(BODIES)


@pytest.mark.parametrize("opcode", KINDS)
def test_an_order_becomes_a_command_of_its_opcode(opcode: Opcode) -> None:
    kind = KINDS[opcode]
    order = ADAPTER.validate_python({"kind": kind, **BODIES[kind]}).to_order(bytes)

    assert opcode_of(order) is opcode
    parse_command(opcode, COMMAND_SCHEMA, complete(order, CAR))
    assert digest_of(order) == digest_of(order)


def test_every_kind_of_order_has_a_verb_at_the_command_line() -> None:
    verbs = {name.replace("-", "_") for name in send.commands}
    names = {"payment_decision": "payment"}

    assert {names.get(kind, kind) for kind in KINDS.values()} <= verbs


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("set_default_mode", "lock_default", "later"),
        ("payment_decision", "currency", "eur"),
        ("payment_decision", "amount_minor", 2**32),
        ("payment_decision", "payment_id", "ab"),
        ("handover_offer", "latitude_deg", 90.1),
        ("handover_offer", "longitude_deg", float("nan")),
        ("handover_offer", "longitude_deg", "11.5"),
        ("handover_request", "latitude_deg", True),
        ("handover_offer", "for_s", 86_401),
        ("handover_offer", "offer_id", "0"),
        ("handover_request", "distance_m", 65_536),
        ("handover_request", "name", "a\x07b"),
        ("grant", "not_before", "2027-01-15T08:00:00"),
        ("grant", "not_before", 1_800_000_000),
        ("grant", "not_before", "1800000000"),
        ("grant", "not_after", 1_800_000_000_000),
        ("grant", "not_after", "2027-01-15T08:59:60Z"),
        ("grant", "rights", []),
        ("grant", "rights", ["fly"]),
        ("grant", "card", "04"),
        ("service", "request", "maybe"),
        ("show_message", "text_key", 65_536),
        ("show_message", "seconds", 0),
        ("restart", "component", "engine"),
        ("unlock", "expected_version", ANY_VERSION),
        ("reserve", "expected_version", ANY_VERSION),
        ("grant", "expected_version", ANY_VERSION),
    ],
)
def test_a_value_out_of_its_bounds_names_its_field(
    kind: str, field: str, value: object
) -> None:
    # K19
    with pytest.raises(ValueError, match=field):
        ordered(kind, **{field: value})


@pytest.mark.parametrize(
    ("kind", "changes", "told"),
    [
        ("grant", {"not_after": "2027-01-15T08:00:00Z"}, "after not_before"),
        ("grant", {"not_after": "2027-01-15T08:00:00.0004Z"}, "after not_before"),
        ("grant", {"not_before": "0001-01-01T00:00:00+14:00"}, "after 1970"),
        ("grant", {"not_after": "2027-02-15T08:00:01Z"}, "30 days"),
        ("grant", {"rental_id": "0" * 32}, "no rental"),
        ("grant", {"pin": None, "fuel_card_pin": "1"}, "needs a pin"),
        ("handover_offer", {"offer_id": RENTAL.hex()}, "rental that begins"),
        ("handover_offer", {"offer_id": "0" * 32}, "no rental"),
        ("handover_request", {"name": "ß" * 17}, "32 bytes"),
        ("show_message", {"arguments": ["ß" * 17]}, "32 bytes"),
    ],
)
def test_values_that_contradict_one_another_are_refused(
    kind: str, changes: dict[str, object], told: str
) -> None:
    # K19
    with pytest.raises(ValueError, match=told):
        ordered(kind, **changes)


def test_a_grant_holds_the_cards_digest_and_the_pin_sealed_for_its_rental() -> None:
    # H6, H14
    grant: Any = ordered("grant")

    assert grant.card == card_digest(RENTAL, bytes.fromhex(CARD))
    assert grant.not_after_wall_ms - grant.not_before_wall_ms == 3_600_000
    secrets = unseal(
        grant.sealed,
        SEALING,
        fleet_id=CAR.fleet_id,
        vehicle_id=CAR.vehicle_id,
        rental_id=RENTAL,
    )
    assert pin_matches(secrets, "4711")


def test_a_handover_belongs_to_the_rental_that_begins_by_it() -> None:
    # H11, F14: the second driver's cards and PIN are of the offer's id
    offer: Any = ordered("handover_offer")

    assert offer.cards == (card_digest(bytes.fromhex(HEX), bytes.fromhex(CARD)),)
    assert (offer.latitude_e7, offer.longitude_e7) == (481_000_000, -115_000_000)
    assert 1_000_000 < offer.until_ms <= 1_600_000
    secrets = unseal(
        offer.sealed,
        SEALING,
        fleet_id=CAR.fleet_id,
        vehicle_id=CAR.vehicle_id,
        rental_id=bytes.fromhex(HEX),
    )
    assert pin_matches(secrets, "4711")


@pytest.mark.parametrize("kind", ["reserve", "grant", "handover_offer"])
def test_no_secret_of_an_order_is_in_its_digest_or_its_text(kind: str) -> None:
    # K2
    first, second = (
        ADAPTER.validate_python({"kind": kind, **BODIES[kind], "pin": pin})
        for pin in ("73919264", "58203517")
    )

    assert "73919264" not in repr(first) + repr(first.to_order(bytes))
    assert digest_of(first.to_order(bytes)) == digest_of(second.to_order(bytes))


@pytest.mark.parametrize("kind", ["grant", "handover_offer", "handover_request"])
def test_orders_that_differ_are_told_apart(kind: str) -> None:
    # L10: a repeated idempotency key with another order is refused
    changes: dict[str, dict[str, Any]] = {
        "grant": {"rights": ["unlock"]},
        "handover_offer": {"for_s": 601},
        "handover_request": {"name": "Ben"},
    }
    first, second = (
        ADAPTER.validate_python({"kind": kind, **BODIES[kind], **change})
        for change in (dict[str, Any](), changes[kind])
    )

    assert digest_of(first.to_order(bytes)) != digest_of(second.to_order(bytes))
