"""Which entries have a place, and what of it the entry keeps (K25, FF-PLC)."""

from typing import Final

import pytest

from gateway.core.ledger import LedgerHead, Signatory, seal_entry
from gateway.core.places import committed, has_place, place_of
from gateway.core.reading import Position
from gateway.core.state import Request, State
from gateway.core.turn import result_of
from protocol.codes import AccessMeans, Code, Executed
from protocol.content import parse_content
from protocol.entry import GENESIS
from protocol.event import EventBody, Parked, PinAccepted
from protocol.frame import parse_frame
from protocol.place import EVENT_PLACE, NO_PLACE, EventPlace, Place, commitment_of
from protocol.result import Result
from tests.gateway.core.desk import NOW, RENTAL, SESSION
from tools.published_keys import CAR_A, CAR_A_KEY, FLEET_ID, LEDGER

FIX: Final = Position(481_371_540, 115_761_240, 35, 270, age_ms=1_290)
SALT: Final = bytes(range(16))
SIGNATORY: Final = Signatory(CAR_A, FLEET_ID, SESSION, CAR_A_KEY.key)
HEAD: Final = LedgerHead(LEDGER, 6, GENESIS)
PARKED: Final = Parked(RENTAL, AccessMeans.CARD, 1)
RESULT: Final = result_of(State(), Request(bytes(16), bytes(32)), Code.OK, Executed.YES)


def test_an_entry_commits_to_its_place_and_keeps_it_beside_itself() -> None:
    # FF-PLC-01, FF-PLC-08
    entry, _ = seal_entry(PARKED, HEAD, SIGNATORY, now=NOW, fix=(FIX, SALT))

    assert entry.place is not None
    told = EVENT_PLACE.parse(entry.place)
    assert told == EventPlace(LEDGER, 7, SALT, Place(481_371_540, 115_761_240, 35, 12))
    body = parse_content(parse_frame(entry.frame)).body
    assert isinstance(body, Parked)
    assert body.place_commitment == commitment_of(CAR_A, told)
    assert SALT not in entry.frame
    assert FIX.latitude_e7.to_bytes(4, "big") not in entry.frame


def test_an_entry_without_a_fix_has_no_place() -> None:
    # FF-PLC-02
    entry, _ = seal_entry(PARKED, HEAD, SIGNATORY, now=NOW)

    body = parse_content(parse_frame(entry.frame)).body
    assert isinstance(body, Parked)
    assert (entry.place, body.place_commitment) == (None, NO_PLACE)


@pytest.mark.parametrize("body", [PinAccepted(RENTAL), RESULT], ids=["event", "result"])
def test_what_is_no_billing_point_tells_no_place(body: EventBody | Result) -> None:
    # K25
    told = EventPlace(LEDGER, 7, SALT, Place(0, 0, None, 0))

    assert not has_place(body)
    assert committed(body, told, CAR_A) == body


@pytest.mark.parametrize(
    ("accuracy_dm", "told_dm"), [(0, 0), (0xFFFE, 0xFFFE), (0xFFFF, None), (1e6, None)]
)
def test_an_accuracy_that_does_not_fit_is_none(
    accuracy_dm: int, told_dm: int | None
) -> None:
    fix = Position(0, 0, int(accuracy_dm), None, age_ms=10**9)

    told = place_of(fix, ledger_id=LEDGER, seq=1, salt=SALT)

    assert told.place == Place(0, 0, told_dm, 0xFFFF)
