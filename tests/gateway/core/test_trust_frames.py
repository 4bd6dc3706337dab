"""Which trust bundles take the place of the one in use (FF-TRU)."""

import hashlib
from dataclasses import replace
from typing import Final

import pytest

from gateway.core.authentication import Dropped
from gateway.core.trust_renewal import TrustInUse, judge_trust, newer_trust
from protocol.codes import Code, FrameClass, FrameType, Role
from protocol.keys import Ed25519SigningKey, SigningKey
from protocol.signing import sign_frame
from protocol.trust import SIGNED_BUNDLE, TrustBundle, sign_bundle
from tests.gateway.core.desk import (
    BUNDLE,
    DAY_MS,
    HAZARD_KEY,
    HEADER,
    MONITOR_KEY,
    NOW,
    OLD_SESSION,
    RECEIPTS_KEY,
    RENTAL_KEY,
    UNKNOWN_KEY,
    FrontDesk,
    told,
    trusted,
)
from tools.published_keys import CAR_B, FLEET_ID
from tools.published_keys import ROOT_KEYS as PUBLISHED_ROOTS

ROOT_KEYS: Final = tuple(root.key for root in PUBLISHED_ROOTS)
NEXT: Final = replace(BUNDLE, version=2)
STRANGE_ROOTS: Final = tuple(
    Ed25519SigningKey.from_seed(bytes([0x70 + n]) * 32) for n in range(3)
)


def trust_frame(
    bundle: TrustBundle = NEXT,
    *,
    roots: tuple[SigningKey, ...] = ROOT_KEYS,
    key: SigningKey = RENTAL_KEY,
    payload: bytes | None = None,
    **changes: object,
) -> bytes:
    """Carry a signed bundle; whatever is not given is as a car accepts it."""
    fields: dict[str, object] = {
        "frame_class": FrameClass.TRUST,
        "type": FrameType.TRUST,
        "lane": 0,
        "key_id": key.key_id,
        "suite": key.suite,
    }
    header = replace(HEADER, **(fields | changes))  # type: ignore[arg-type] # by name
    signed = sign_bundle(bundle, roots) if payload is None else payload
    return sign_frame(header, signed, fleet_id=FLEET_ID, key=key)


def fate(data: bytes, desk: FrontDesk | None = None) -> Code:
    """Return why a frame is dropped; OK if it is taken."""
    judged = judge_trust(data, (FrontDesk() if desk is None else desk).desk, now=NOW)
    if isinstance(judged, Dropped):
        return judged.code
    return Code.ALREADY_IN_STATE if judged is None else Code.OK


def test_a_newer_bundle_of_the_roots_is_taken_with_the_hash_of_its_body() -> None:
    # FF-TRU-01, FF-TRU-09, FF-TRU-17.
    signed = sign_bundle(NEXT, ROOT_KEYS)

    judged = judge_trust(trust_frame(), FrontDesk().desk, now=NOW)

    assert judged == TrustInUse(NEXT, signed)
    body = SIGNED_BUNDLE.parse(signed).body
    assert TrustInUse(NEXT, signed).body_hash == hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    "carrier", [RENTAL_KEY, RECEIPTS_KEY, MONITOR_KEY], ids=["rental", "receipt", "mon"]
)
def test_any_key_of_the_bundle_may_carry(carrier: SigningKey) -> None:
    # FF-TRU-22: the signatures inside decide.
    assert fate(trust_frame(key=carrier)) is Code.OK


def test_a_key_out_of_its_dates_and_of_another_session_may_carry() -> None:
    # FF-TRU-22: a car that was away for a year must still be reached.
    late = FrontDesk(time=told(NOW.wall_ms + 400 * DAY_MS), session_id=OLD_SESSION)

    assert fate(trust_frame(mono_ms=0, seq=0), late) is Code.OK


def test_a_revoked_key_carries_nothing() -> None:
    # FF-TRU-22.
    desk = FrontDesk(bundle=replace(BUNDLE, revoked=(RENTAL_KEY.key_id,)))

    assert fate(trust_frame(replace(NEXT, revoked=())), desk) is Code.REVOKED


def test_a_strange_key_carries_nothing() -> None:
    assert fate(trust_frame(key=UNKNOWN_KEY)) is Code.UNKNOWN_KEY


def test_trust_rollback_an_older_bundle_is_refused() -> None:
    # FF-TRU-07, I-12.
    newer = FrontDesk(bundle=replace(BUNDLE, version=3))

    assert fate(trust_frame(NEXT), newer) is Code.TRUST_TOO_OLD


def test_trust_rollback_another_bundle_of_the_same_version_is_refused() -> None:
    # FF-TRU-07.
    other = replace(BUNDLE, revoked=(RECEIPTS_KEY.key_id,))

    assert fate(trust_frame(other)) is Code.TRUST_TOO_OLD


def test_the_same_bundle_again_changes_nothing() -> None:
    # FF-TRU-08.
    assert fate(trust_frame(BUNDLE)) is Code.ALREADY_IN_STATE


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (trust_frame(vehicle_id=CAR_B), Code.WRONG_VEHICLE),
        (trust_frame(frame_class=FrameClass.SYNC, payload=b"x"), Code.WRONG_DIRECTION),
        (trust_frame(type=0x0006), Code.UNKNOWN_OPCODE),
        (trust_frame(schema=2), Code.UNSUPPORTED_SCHEMA),
        (trust_frame(roots=ROOT_KEYS[:1]), Code.UNKNOWN_KEY),
        (trust_frame(roots=STRANGE_ROOTS), Code.UNKNOWN_KEY),
        (trust_frame(replace(NEXT, fleet_id=bytes(16))), Code.GROUP_MISMATCH),
    ],
)
def test_what_is_not_as_it_must_be_is_dropped(frame: bytes, code: Code) -> None:
    # FF-TRU-01, FF-TRU-02, FF-TRU-04, FF-TRU-23.
    assert fate(frame) is code


def test_bytes_that_are_no_bundle_are_dropped() -> None:
    judged = judge_trust(trust_frame(payload=b"\xff"), FrontDesk().desk, now=NOW)

    assert isinstance(judged, Dropped)


def _with_revoke_key() -> FrontDesk:
    return FrontDesk().with_key(trusted(HAZARD_KEY, Role.REVOKE))


def test_a_revoke_key_may_shrink_the_bundle() -> None:
    # FF-TRU-11: a stolen signer is out without the offline roots.
    desk = _with_revoke_key()
    smaller = replace(desk.bundle, version=2, revoked=(RENTAL_KEY.key_id,))

    assert fate(trust_frame(smaller, roots=(HAZARD_KEY,)), desk) is Code.OK


def test_a_revoke_key_may_do_nothing_else() -> None:
    # FF-TRU-12.
    desk = _with_revoke_key()
    larger = replace(
        desk.bundle, version=2, keys=(*desk.bundle.keys, trusted(UNKNOWN_KEY))
    )

    frame = trust_frame(larger, roots=(HAZARD_KEY,))
    assert fate(frame, desk) is Code.ROLE_FORBIDDEN


def test_a_revoke_key_out_of_its_dates_shrinks_nothing() -> None:
    # FF-TRU-13.
    desk = replace(_with_revoke_key(), time=told(NOW.wall_ms + 2 * DAY_MS))
    smaller = replace(desk.bundle, version=2, revoked=(RENTAL_KEY.key_id,))

    frame = trust_frame(smaller, roots=(HAZARD_KEY,))
    assert fate(frame, desk) is Code.KEY_EXPIRED


@pytest.mark.parametrize(
    ("found", "kept", "begun"), [(2, None, 2), (2, 1, 2), (1, 2, 2), (2, 2, 2)]
)
def test_trust_rollback_a_start_begins_with_the_newer_bundle(
    found: int, kept: int | None, begun: int
) -> None:
    # FF-TRU-14: a directory that was copied back brings no old keys back.
    def version(number: int) -> TrustInUse:
        return TrustInUse(replace(BUNDLE, version=number), b"")

    chosen = newer_trust(version(found), None if kept is None else version(kept))

    assert chosen.bundle.version == begun
