"""Vectors of acceptance: what a car refuses for what it knows itself (section 8)."""

from typing import Any, Final

import pytest

from gateway.core.acceptance import Refused, judge
from gateway.core.authentication import Desk, Dropped, JournalRecord
from gateway.core.events import CommandReceived
from gateway.core.known_time import KnownTime
from gateway.core.moment import Moment
from protocol.codes import ClockQuality, Code, Lane
from protocol.identity import VehicleId
from protocol.trust import BUNDLE
from tests.protocol.vector_file import VECTORS, frame_of

ARRIVALS: Final = [
    name for name, vector in VECTORS.items() if vector["kind"] == "arrival"
]


def _desk(vector: dict[str, Any]) -> Desk:
    receiver = vector["receiver"]
    journal = {
        bytes.fromhex(record["msg_id"]): JournalRecord(
            bytes.fromhex(record["msg_id"]),
            bytes.fromhex(record["request_hash"]),
            None,
            Code.IN_PROGRESS,
        )
        for record in receiver["journal"]
    }
    return Desk(
        vehicle_id=VehicleId(bytes.fromhex(receiver["vehicle_id"])),
        fleet_id=bytes.fromhex(vector["fleet_id"]),
        session_id=bytes.fromhex(receiver["session_id"]),
        bundle=BUNDLE.parse(bytes.fromhex(receiver["bundle"])),
        lanes={
            (bytes.fromhex(last["key_id"]), Lane(last["lane"])): last["seq"]
            for last in receiver["last_seqs"]
        },
        journal=journal.get,
        journal_is_complete=True,
        group=receiver["group"],
        time=KnownTime(receiver["known_ms"], receiver["boot_ms"], ClockQuality.SYNC),
    )


@pytest.mark.parametrize("name", ARRIVALS)
def test_a_frame_arrives_and_fares_as_expected(name: str) -> None:
    """I-7 (P), I-9 (P), K11, FF-AUTH-02, FF-AUTH-12, FF-EVO-04."""
    vector = VECTORS[name]
    receiver = vector["receiver"]
    # A wall clock decides nothing: this one is wrong by decades.
    now = Moment(receiver["boot_ms"], 0, ClockQuality.UNSET)

    verdict = judge(
        frame_of(name), retained=receiver["retained"], desk=_desk(vector), now=now
    )

    match verdict:
        case CommandReceived():
            fared: dict[str, Any] = {"result": "accept"}
        case Dropped(code=code):
            fared = {"result": "refuse", "code": code.name, "answer": None}
        case Refused(code=code, executed=executed):
            fared = {
                "result": "refuse",
                "code": code.name,
                "answer": "signed",
                "executed": executed.name,
            }
        case _:
            pytest.fail(f"{name} was repeated")
    assert fared == vector["expected"]


def test_what_is_refused_differs_from_what_is_accepted_in_one_thing() -> None:
    # Else a refusal would not show that its own reason caused it.
    good = VECTORS["arrival_accepted"]
    for name in ARRIVALS:
        vector = VECTORS[name]
        changed = [
            field
            for field in ("fleet_id", "frame", "receiver")
            if vector[field] != good[field]
        ]
        assert changed in ([], ["frame"], ["receiver"], ["frame", "receiver"])
        if changed == ["frame", "receiver"]:
            assert vector["key"] != good["key"]
