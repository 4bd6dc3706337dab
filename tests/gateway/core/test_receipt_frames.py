"""Which frames count as receipts of the fleet (protocol-design.md 1.2, 4)."""

from dataclasses import replace
from typing import Final

import pytest

from gateway.core.acceptance import open_receipt
from gateway.core.authentication import Dropped
from gateway.core.moment import Moment
from protocol.codes import (
    ClockQuality,
    Code,
    FrameClass,
    FrameType,
    Role,
)
from protocol.receipt import RECEIPT, Receipt
from protocol.signing import sign_frame
from tests.gateway.core.desk import (
    BUNDLE,
    DAY_MS,
    HEADER,
    NOW,
    OLD_SESSION,
    RECEIPTS_KEY,
    RENTAL_KEY,
    SESSION,
    FrontDesk,
    told,
    trusted,
)
from tools.published_keys import (
    CAR_B,
    FLEET_ID,
)

EMPTY: Final = Receipt(bytes(8), 0, bytes(32), 16, (), ())


def _receipt_frame(**changes: object) -> bytes:
    fields: dict[str, object] = {
        "frame_class": FrameClass.RECEIPT,
        "type": FrameType.RECEIPT,
        "key_id": RECEIPTS_KEY.key_id,
        "lane": 0,
    }
    key = RECEIPTS_KEY if "key_id" not in changes else RENTAL_KEY
    header = replace(HEADER, **(fields | changes))  # type: ignore[arg-type] # by name
    return sign_frame(header, RECEIPT.build(EMPTY), fleet_id=FLEET_ID, key=key)


def test_a_receipt_is_opened_by_its_key() -> None:
    assert open_receipt(_receipt_frame(), FrontDesk().desk, now=NOW) == EMPTY


def test_a_command_key_signs_no_receipts() -> None:
    # FF-RCP-04.
    # I-22
    data = _receipt_frame(key_id=RENTAL_KEY.key_id)

    opened = open_receipt(data, FrontDesk().desk, now=NOW)

    assert isinstance(opened, Dropped)
    assert opened.code is Code.ROLE_FORBIDDEN


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"vehicle_id": CAR_B}, Code.WRONG_VEHICLE),
        ({"frame_class": FrameClass.CMD}, Code.WRONG_DIRECTION),
        ({"type": 0x0002}, Code.UNKNOWN_OPCODE),
        ({"schema": 2}, Code.UNSUPPORTED_SCHEMA),
    ],
)
def test_a_receipt_that_is_not_meant_so_is_dropped(
    changes: dict[str, object], code: Code
) -> None:
    # FF-RCP-06, FF-AUTH-12.
    opened = open_receipt(_receipt_frame(**changes), FrontDesk().desk, now=NOW)

    assert isinstance(opened, Dropped)
    assert opened.code is code


@pytest.mark.parametrize(
    "wall_ms", [NOW.wall_ms + DAY_MS + 1, NOW.wall_ms - DAY_MS - 1]
)
def test_a_receipt_key_expires_by_the_time_that_the_fleet_has_told(
    wall_ms: int,
) -> None:
    # FF-RCP-05, I-22, FF-TIM-01: an old key must not free evidence.
    desk = FrontDesk(time=told(wall_ms)).desk

    opened = open_receipt(_receipt_frame(), desk, now=NOW)

    assert isinstance(opened, Dropped)
    assert opened.code is Code.KEY_EXPIRED


@pytest.mark.parametrize("quality", list(ClockQuality), ids=lambda q: q.name)
@pytest.mark.parametrize("years", [-10, 10])
def test_wall_clock_plus_minus_10y_stops_no_receipt(
    years: int, quality: ClockQuality
) -> None:
    # I-29: else a full ledger would stop a car whose clock is wrong.
    now = Moment(NOW.boot_ms, NOW.wall_ms + years * 365 * DAY_MS, quality)

    assert open_receipt(_receipt_frame(), FrontDesk().desk, now=now) == EMPTY


def test_a_receipt_key_of_another_group_frees_nothing() -> None:
    keys = (trusted(RECEIPTS_KEY, Role.RECEIPT, group=9),)
    desk = FrontDesk(bundle=replace(BUNDLE, keys=keys))

    strange = open_receipt(_receipt_frame(), desk.desk, now=NOW)
    own = open_receipt(_receipt_frame(), replace(desk, group=9).desk, now=NOW)

    assert isinstance(strange, Dropped)
    assert strange.code is Code.GROUP_MISMATCH
    assert own == EMPTY


def test_a_receipt_of_another_session_counts() -> None:
    # It names entries, not sessions; a replay frees nothing more.
    data = _receipt_frame(session_id=OLD_SESSION)

    assert open_receipt(data, FrontDesk(session_id=SESSION).desk, now=NOW) == EMPTY


def test_a_receipt_with_a_flipped_bit_is_dropped() -> None:
    # FF-AUTH-12.
    data = bytearray(_receipt_frame())
    data[100] ^= 1

    opened = open_receipt(bytes(data), FrontDesk().desk, now=NOW)

    assert isinstance(opened, Dropped)
    assert opened.code is Code.BAD_SIGNATURE
