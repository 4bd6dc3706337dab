"""The last known state: each field by its own stamp, with its age."""

from typing import Final

import msgspec
import pytest

from bridge.instant import Instant
from bridge.presence import SILENCE_MS
from bridge.sampling import sampled
from bridge.twin import Field, Stamp, Twin, advance, age_ms, is_stale, values_of_bits
from bridge.vehicle import VehicleState
from protocol.codes import Bits, FrameClass, Suite
from protocol.frame import Header
from protocol.identity import VehicleId, session_id
from protocol.telemetry import Telemetry
from tests.bridge.car import sample

NOW: Final = 1_800_000_000_000


def test_an_older_word_that_comes_later_changes_nothing() -> None:
    known: Twin = {"energy_pct": Field(60, NOW, NOW, Stamp(2, 500))}

    older = advance(
        known,
        {"energy_pct": 90, "washer_pct": 10},
        stamp=Stamp(1, 900),
        observed_ms=NOW - 9_000,
        received_ms=NOW + 5_000,
    )

    assert older["energy_pct"].value == 60
    assert older["washer_pct"] == Field(10, NOW - 9_000, NOW + 5_000, Stamp(1, 900))


@pytest.mark.parametrize(
    ("name", "age", "is_online", "expected"),
    [
        ("latitude_deg", SILENCE_MS, True, False),
        ("latitude_deg", SILENCE_MS + 1, True, True),
        ("locked", SILENCE_MS + 1, True, True),
        ("mode", 10 * SILENCE_MS, True, False),
        ("light", 10 * SILENCE_MS, True, False),
        ("mode", 0, False, True),
        ("latitude_deg", 0, False, True),
    ],
)
def test_a_field_is_stale_when_it_may_be_otherwise_by_now(
    name: str, age: int, is_online: bool, expected: bool
) -> None:
    field = Field(1, NOW - age, NOW, Stamp(1, 1))

    assert is_stale(name, field, is_online=is_online, now=NOW) is expected


def test_an_age_is_that_of_the_observation_and_never_below_nothing() -> None:
    observed = Field(1, NOW - 7_000, NOW - 1_000, Stamp(1, 1))
    unknown = Field(1, None, NOW - 1_000, Stamp(1, 1))
    ahead = Field(1, NOW + 9_000, NOW, Stamp(1, 1))

    ages = [age_ms(field, now=NOW) for field in (observed, unknown, ahead)]

    assert ages == [7_000, 1_000, 0]


SESSION: Final = session_id(1, bytes(12))


def header_at(mono_ms: int) -> Header:
    return Header(
        Suite.ED25519,
        FrameClass.EVENT,
        *(0, 0, 1, 0),
        VehicleId(bytes(16)),
        bytes(8),
        SESSION,
        *(1, mono_ms, NOW),
        bytes(16),
    )


def after_sample(
    known: VehicleState, mono_ms: int, *, energy_pct: int | None, at: Instant
) -> VehicleState:
    telemetry = Telemetry((sample(energy_pct=energy_pct, age_ds=0),))
    return sampled(known, header_at(mono_ms), telemetry, at=at)


@pytest.mark.parametrize("mono_ms", [900, 999, 1_000, 1_001, 1_100])
@pytest.mark.parametrize("later_ms", [950, 1_000, 1_050, 1_100, 1_200])
def test_an_event_beside_a_sample_leaves_what_it_would_leave_after_the_sample_is_spread(
    mono_ms: int, later_ms: int
) -> None:
    at = Instant(NOW, 5_000, "machine")
    known = VehicleState(session_id=SESSION)
    known = after_sample(known, 1_000, energy_pct=50, at=at)
    spread = msgspec.structs.replace(known, fields=known.twin, latest=None)
    values, other = {"energy_pct": 40, "locked": True}, {"mode": "parked"}

    kept, plain = (
        after_sample(
            one.observed(header_at(mono_ms), values, at=at),
            later_ms,
            energy_pct=30,
            at=at,
        ).observed(header_at(later_ms + 25), other, at=at)
        for one in (known, spread)
    )

    assert kept.twin == plain.twin
    assert kept.energy_pct == kept.twin["energy_pct"].value


def test_bits_are_spread_once_for_each_number_of_them() -> None:
    bits = Bits.LOCKED | Bits.ENGINE_RUNNING

    assert values_of_bits(bits) is values_of_bits(Bits.ENGINE_RUNNING | Bits.LOCKED)
    assert [name for name, is_set in values_of_bits(bits).items() if is_set] == [
        "locked",
        "engine_running",
    ]


def test_a_level_that_no_sample_measured_stays_what_an_event_told() -> None:
    at = Instant(NOW, 5_000, "machine")
    known = VehicleState(session_id=SESSION)
    assert known.energy_pct is None

    known = known.observed(header_at(900), {"energy_pct": 40}, at=at)
    known = after_sample(known, 1_000, energy_pct=None, at=at)

    assert known.energy_pct == known.twin["energy_pct"].value == 40
