"""What the command line says of an order that failed."""

import pytest

from bridge.twin import values_of_snapshot
from protocol.codes import Bits, Condition, EnergyKind, Light, RentalMode
from protocol.snapshot import Snapshot
from tools.ordering import _tell, stand_of


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (
            Bits.BOOT_OPEN | Bits.ENGINE_RELEASED | Bits.FUEL_CARD_PRESENT,
            (
                "bolts open, doors closed, boot open, stands, engine off, "
                "engine released, key not in its holder"
            ),
        ),
        (
            Bits.LOCKED
            | Bits.DOOR_OPEN
            | Bits.MOVING
            | Bits.ENGINE_RUNNING
            | Bits.IGNITION_ON
            | Bits.KEY_PRESENT,
            (
                "bolts closed, a door open, boot closed, moves or speed unknown, "
                "engine on, ignition on, engine held, fuel card not in its holder"
            ),
        ),
    ],
)
def test_a_failed_lock_names_everything_that_stands_in_its_way(
    bits: Bits, words: str
) -> None:
    # C26, H20, I-11: one code names the first hindrance only
    snapshot = Snapshot(
        mode=RentalMode.STOPPED,
        condition=Condition.OK,
        light=Light.RED,
        energy_kind=EnergyKind.FUEL,
        state_version=1,
        rental_id=b"rental----------",
        bits=bits,
        energy_pct=None,
        washer_pct=None,
        range_km=None,
        supply_mv=None,
        odometer_m=None,
    )

    assert stand_of(values_of_snapshot(snapshot)) == words


def test_a_part_that_was_not_sent_is_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = {"kind": "lock", "state": "rejected", "meaning": "refused by the vehicle"}
    absent = {"kind": "engine_hold", "state": None, "meaning": "not sent: why"}
    known = {"kind": "lock_and_disable", "state": "rejected", "meaning": "", "id": "0"}
    rest = dict.fromkeys(("code", "executed", "retry", "rental_id", "snapshot"))

    _tell("A", {**known, **rest, "parts": [done, absent], "trail": []})

    said = capsys.readouterr().out
    assert "part 1, lock         rejected: refused by the vehicle" in said
    assert "part 2, engine_hold  not sent: why" in said
