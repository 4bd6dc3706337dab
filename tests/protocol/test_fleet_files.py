"""The files by which the PKI, the gateway and the bridge know one fleet."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import DecodeError
from protocol.fleet import (
    FILE_LIMIT,
    Fleet,
    VehicleIdentity,
    build_fleet,
    build_trust_roots,
    build_vehicle,
    parse_fleet,
    parse_trust_roots,
    parse_vehicle,
)
from protocol.identity import VehicleId
from protocol.keys import Ed25519SigningKey, P256SigningKey
from protocol.trust import TrustRoots

FLEET = Fleet(bytes(range(16)), "Pilot", datetime(2026, 3, 1, 12, tzinfo=UTC))
VEHICLE = VehicleIdentity(VehicleId(bytes(range(16, 32))), FLEET.fleet_id)
KEYS = tuple(
    Ed25519SigningKey.from_seed(bytes([seed]) * 32).verify_key for seed in (1, 2, 3)
)
ROOTS = TrustRoots(KEYS, 2)

FLEET_FILE: dict[str, Any] = {
    "format": 1,
    "fleet_id": "000102030405060708090a0b0c0d0e0f",
    "name": "Pilot",
    "created": "2026-03-01T12:00:00Z",
}
VEHICLE_FILE: dict[str, Any] = {
    "format": 1,
    "vehicle_id": "CAIREEYUCULBOGAZDINRYHI6D4",
    "fleet_id": "000102030405060708090a0b0c0d0e0f",
    "group": 0,
}
ROOTS_FILE: dict[str, Any] = {
    "format": 1,
    "threshold": 2,
    "roots": [key.raw.hex() for key in KEYS],
}


def test_the_files_are_what_is_documented() -> None:
    assert json.loads(build_fleet(FLEET)) == FLEET_FILE
    assert json.loads(build_vehicle(VEHICLE)) == VEHICLE_FILE
    assert json.loads(build_trust_roots(ROOTS)) == ROOTS_FILE


def test_what_is_written_is_read_back() -> None:
    assert parse_fleet(build_fleet(FLEET)) == FLEET
    assert parse_vehicle(build_vehicle(VEHICLE)) == VEHICLE
    assert parse_trust_roots(build_trust_roots(ROOTS)) == ROOTS


def test_a_trust_root_may_be_of_p256() -> None:
    mixed = TrustRoots((*KEYS, P256SigningKey.from_seed(b"\4" * 32).verify_key), 3)

    assert parse_trust_roots(build_trust_roots(mixed)) == mixed


def test_another_time_zone_is_the_same_moment() -> None:
    zone = timezone(timedelta(hours=1))
    fleet = Fleet(FLEET.fleet_id, "Pilot", datetime(2026, 3, 1, 13, tzinfo=zone))

    assert parse_fleet(build_fleet(fleet)) == FLEET


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "format 2, this reads 1"),
        ({"extra": 1}, "extra"),
        ({"name": ""}, "name"),
        ({"name": "x" * 33}, "name"),
        ({"name": None}, "name"),
        ({"created": "2026-03-01T12:00:00"}, "timezone"),
        ({"created": "yesterday"}, "created"),
        ({"fleet_id": "00"}, "32 lower-case"),
        ({"fleet_id": "g" * 32}, "not hexadecimal"),
        ({"fleet_id": "000102030405060708090A0B0C0D0E0F"}, "lower-case"),
    ],
)
def test_a_wrong_fleet_file_names_the_field(
    change: dict[str, Any], reason: str
) -> None:
    data = json.dumps(FLEET_FILE | change).encode()

    with pytest.raises(DecodeError, match=reason):
        parse_fleet(data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vehicle_id": "CAR1/cmd"}, "canonical base32"),
        ({"vehicle_id": "caireeyuculbogazdinryhi6d4"}, "canonical base32"),
        ({"fleet_id": ""}, "32 lower-case"),
    ],
)
def test_a_wrong_vehicle_file_names_the_field(
    change: dict[str, Any], reason: str
) -> None:
    data = json.dumps(VEHICLE_FILE | change).encode()

    with pytest.raises(DecodeError, match=reason):
        parse_vehicle(data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"threshold": 0}, "between 1 and 3"),
        ({"threshold": 4}, "between 1 and 3"),
        ({"roots": []}, "roots"),
        ({"roots": ["00" * 32] * 9}, "roots"),
        # One signature of a root that is listed twice must never count as two.
        ({"roots": [KEYS[0].raw.hex()] * 2}, "twice"),
        ({"roots": [KEYS[0].raw.hex(), KEYS[0].raw.hex().upper()]}, "lower-case"),
        ({"roots": ["01" + "00" * 31, KEYS[0].raw.hex()]}, "small order"),
        ({"roots": [KEYS[0].raw.hex()[:-2]] * 2}, "64 lower-case"),
    ],
)
def test_wrong_trust_roots_name_what_is_wrong(
    change: dict[str, Any], reason: str
) -> None:
    data = json.dumps(ROOTS_FILE | change).encode()

    with pytest.raises(DecodeError, match=reason):
        parse_trust_roots(data)


def test_a_file_beyond_the_limit_is_not_even_parsed() -> None:
    with pytest.raises(DecodeError, match="limit 8192"):
        parse_fleet(b" " * (FILE_LIMIT + 1))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_a_decode_error(data: bytes) -> None:
    for parse in (parse_fleet, parse_vehicle, parse_trust_roots):
        with pytest.raises(DecodeError):
            parse(data)
