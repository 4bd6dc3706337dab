"""Which SYNC frames count (FF-SYN; protocol-design.md 1.2)."""

from dataclasses import replace
from typing import Any, Final

import pytest

from gateway.core.authentication import Dropped
from gateway.core.synchronisation import SyncReceived, judge_sync
from protocol.codes import ClockQuality, Code, FrameClass, Lane, Role, SyncType
from protocol.keys import SigningKey
from protocol.signing import sign_frame
from protocol.sync import (
    SYNC_TTL_LIMIT_MS,
    SYNC_TYPE_OF,
    Challenge,
    FleetTime,
    Resend,
    SyncBody,
    build_sync,
)
from protocol.trust import TrustedKey
from tests.gateway.core.desk import (
    DAY_MS,
    HAZARD_KEY,
    HEADER,
    MONITOR_KEY,
    NOW,
    OLD_SESSION,
    RECEIPTS_KEY,
    RENTAL_KEY,
    FrontDesk,
    told,
    trusted,
)
from tools.published_keys import CAR_B, FLEET_ID

CHALLENGE: Final = Challenge(b"a nonce of today")


def sync_frame(
    body: SyncBody = CHALLENGE, *, key: SigningKey = RENTAL_KEY, **changes: Any
) -> bytes:
    """Sign a SYNC frame; whatever is not given is as a car accepts it."""
    fields: dict[str, object] = {
        "frame_class": FrameClass.SYNC,
        "type": SYNC_TYPE_OF[type(body)],
        "lane": Lane.TRUST,
        "key_id": key.key_id,
        "suite": key.suite,
    }
    header = replace(HEADER, **(fields | changes))  # type: ignore[arg-type] # by name
    return sign_frame(header, build_sync(body), fleet_id=FLEET_ID, key=key)


def fate(data: bytes, desk: FrontDesk | None = None, *, retained: bool = False) -> Code:
    """Return why a frame is dropped, OK if it is not."""
    desk = FrontDesk() if desk is None else desk
    judged = judge_sync(data, retained=retained, desk=desk.desk, now=NOW)
    return judged.code if isinstance(judged, Dropped) else Code.OK


def test_an_honest_frame_is_taken_with_its_place_and_its_time() -> None:
    judged = judge_sync(sync_frame(), retained=False, desk=FrontDesk().desk, now=NOW)

    assert judged == SyncReceived(
        CHALLENGE, RENTAL_KEY.key_id, HEADER.seq, HEADER.wall_ms
    )


@pytest.mark.parametrize(
    "body", [Resend(bytes(8), 1, 9), CHALLENGE, FleetTime(ClockQuality.NTP)]
)
def test_every_type_is_read(body: SyncBody) -> None:
    judged = judge_sync(
        sync_frame(body), retained=False, desk=FrontDesk().desk, now=NOW
    )

    assert isinstance(judged, SyncReceived)
    assert judged.body == body


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"vehicle_id": CAR_B}, Code.WRONG_VEHICLE),
        ({"frame_class": FrameClass.CMD}, Code.WRONG_DIRECTION),
        ({"session_id": OLD_SESSION}, Code.SESSION_STALE),
        ({"lane": Lane.ACCESS}, Code.BAD_PARAM),
        ({"mono_ms": 0}, Code.EXPIRED),
        ({"mono_ms": NOW.boot_ms}, Code.EXPIRED),
        ({"mono_ms": NOW.boot_ms + SYNC_TTL_LIMIT_MS + 1}, Code.TTL_TOO_LONG),
        ({"seq": 0}, Code.SUPERSEDED),
        ({"schema": 2}, Code.UNSUPPORTED_SCHEMA),
        ({"type": 0x0401}, Code.UNKNOWN_OPCODE),
        ({"type": 0x0499}, Code.OPCODE_FORBIDDEN),
    ],
)
def test_what_is_not_as_it_must_be_is_dropped(
    changes: dict[str, Any], code: Code
) -> None:
    # FF-SYN-01, FF-SYN-02, FF-SYN-03, FF-SYN-04, FF-SYN-06.
    assert fate(sync_frame(**changes)) is code


def test_a_retained_frame_is_dropped() -> None:
    # L9: what a broker kept is never fresh.
    assert fate(sync_frame(), retained=True) is Code.RETAINED


def test_replay_asks_for_nothing_twice() -> None:
    # FF-SYN-03: the number is shared with the commands of the lane.
    data = sync_frame(seq=7)
    desk = FrontDesk(lanes={(RENTAL_KEY.key_id, Lane.TRUST): 7})

    assert fate(data, desk) is Code.SUPERSEDED
    assert fate(sync_frame(seq=8), desk) is Code.OK


@pytest.mark.parametrize("key", [RECEIPTS_KEY, MONITOR_KEY])
def test_keys_that_sign_no_commands_sign_no_sync(key: SigningKey) -> None:
    # FF-SYN-04.
    assert fate(sync_frame(key=key)) is Code.ROLE_FORBIDDEN


def test_a_revoke_key_signs_no_sync() -> None:
    # FF-SYN-04.
    desk = FrontDesk().with_key(trusted(HAZARD_KEY, Role.REVOKE))

    assert fate(sync_frame(key=HAZARD_KEY), desk) is Code.ROLE_FORBIDDEN


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (trusted(HAZARD_KEY, opcodes=(SyncType.TIME,)), Code.OPCODE_FORBIDDEN),
        (trusted(HAZARD_KEY, lanes=(Lane.ACCESS,)), Code.OPCODE_FORBIDDEN),
        (trusted(HAZARD_KEY, max_ttl_ms=1_000), Code.TTL_TOO_LONG),
        (trusted(HAZARD_KEY, group=9), Code.GROUP_MISMATCH),
        (trusted(HAZARD_KEY, opcodes=(SyncType.CHALLENGE,)), Code.OK),
    ],
)
def test_rights_of_the_key_bound_it(key: TrustedKey, code: Code) -> None:
    # FF-SYN-04.
    assert fate(sync_frame(key=HAZARD_KEY), FrontDesk().with_key(key)) is code


def test_a_key_out_of_its_dates_is_dropped() -> None:
    late = FrontDesk(time=told(NOW.wall_ms + DAY_MS + 1))

    assert fate(sync_frame(), late) is Code.KEY_EXPIRED


def test_a_flipped_bit_is_dropped() -> None:
    # FF-AUTH-12.
    data = bytearray(sync_frame())
    data[100] ^= 1

    assert fate(bytes(data)) is Code.BAD_SIGNATURE
