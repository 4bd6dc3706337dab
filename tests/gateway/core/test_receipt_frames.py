"""Which frames count as receipts of the fleet (protocol-design.md 1.2, 4)."""

from dataclasses import replace
from typing import Final

import pytest

from gateway.core.acceptance import (
    Dropped,
    open_receipt,
)
from gateway.core.moment import Moment
from protocol.codes import (
    ClockQuality,
    Code,
    FrameClass,
    FrameType,
)
from protocol.receipt import RECEIPT, Receipt
from protocol.signing import sign_frame
from tests.gateway.core.desk import (
    DAY_MS,
    HEADER,
    NOW,
    OLD_SESSION,
    RECEIPTS_KEY,
    RENTAL_KEY,
    SESSION,
    FrontDesk,
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


@pytest.mark.parametrize("quality", list(ClockQuality), ids=lambda q: q.name)
@pytest.mark.parametrize(
    "wall_ms", [NOW.wall_ms + DAY_MS + 1, NOW.wall_ms - DAY_MS - 1]
)
def test_a_receipt_key_expires_by_a_trusted_clock_only(
    wall_ms: int, quality: ClockQuality
) -> None:
    # FF-RCP-05.
    # I-22, protocol-design.md 1.2 step 4: an old key must not free evidence.
    opened = open_receipt(
        _receipt_frame(),
        FrontDesk().desk,
        now=Moment(NOW.boot_ms, wall_ms, quality),
    )

    assert isinstance(opened, Dropped) is quality.trusted
    if isinstance(opened, Dropped):
        assert opened.code is Code.KEY_EXPIRED


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
