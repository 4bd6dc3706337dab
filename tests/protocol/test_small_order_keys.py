"""A key of small order gets in nowhere (protocol-design.md 4, 14_small_order_keys).

Enrolment: tests/certs/test_enrolment.py and test_enrolment_service.py.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from protocol.anchors import build_anchors, parse_anchors
from protocol.codes import Role
from protocol.errors import AuthenticationError, DecodeError
from protocol.fleet import parse_trust_roots
from protocol.keys import VerifyKey
from protocol.rotation import verify_rotation
from protocol.succession import succeed
from protocol.trust import TrustBundle, TrustedKey, open_bundle, sign_bundle
from protocol.vehicle_event import KeyRotated
from tests.fuzz.exhibit import ANCHORS
from tests.protocol.test_keys import SMALL_ORDER
from tools.published_keys import (
    CAR_A,
    CAR_A_KEY,
    FLEET_ID,
    LEDGER,
    ROOT_KEYS,
    trust_roots,
)
from tools.vector_trust import TRUST_BUNDLE

SIGNERS: Final = tuple(root.key for root in ROOT_KEYS[:2])
NEXT: Final = replace(TRUST_BUNDLE, version=2)


def _bundle_of(bundle: TrustBundle) -> bytes:
    return sign_bundle(bundle, SIGNERS)


def _with_key(raw: bytes) -> TrustBundle:
    key: TrustedKey = replace(TRUST_BUNDLE.keys[0], public_key=raw, role=Role.RENTAL)
    return replace(NEXT, keys=(*NEXT.keys, key))


def _anchors(raw: bytes) -> bytes:
    file = json.loads(build_anchors(ANCHORS))
    file["trust_roots"][0] = raw.hex()
    return json.dumps(file).encode()


def _trust_roots(raw: bytes) -> bytes:
    roots = [raw.hex(), *(root.key.verify_key.raw.hex() for root in ROOT_KEYS[1:])]
    return json.dumps({"format": 1, "threshold": 2, "roots": roots}).encode()


ENTRANCES: Final[dict[str, Callable[[bytes], object]]] = {
    "load": VerifyKey.load,
    "a signer of a bundle": lambda raw: open_bundle(
        _bundle_of(_with_key(raw)), trust_roots(), fleet_id=FLEET_ID
    ),
    "a root of the next bundle": lambda raw: succeed(
        TRUST_BUNDLE,
        _bundle_of(replace(NEXT, roots=(*NEXT.roots, raw))),
        fleet_id=FLEET_ID,
    ),
    "a root of a new car": lambda raw: parse_trust_roots(_trust_roots(raw)),
    "a root of a verifier": lambda raw: parse_anchors(_anchors(raw)),
    "a car's next key": lambda raw: verify_rotation(
        KeyRotated(raw, bytes([1]) + bytes(63)),
        fleet_id=FLEET_ID,
        vehicle_id=CAR_A,
        old_key=CAR_A_KEY.key.verify_key,
        ledger_id=LEDGER,
        seq=1,
    ),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_14_small_order_keys_get_in_nowhere(entrance: str) -> None:
    """FF-KEY-03, FF-KEY-04, FF-KEY-10, FF-ENR-04, K11."""
    assert len(set(SMALL_ORDER)) == 14
    for raw in SMALL_ORDER:
        with pytest.raises(
            (AuthenticationError, DecodeError), match=r"small order|not canonical"
        ):
            ENTRANCES[entrance](raw)


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_strong_key_is_not_refused_for_its_order(entrance: str) -> None:
    # Else the test above would show nothing.
    raw = CAR_A_KEY.key.verify_key.raw
    try:
        ENTRANCES[entrance](raw)
    except (AuthenticationError, DecodeError) as error:
        assert "order" not in str(error)  # noqa: PT017 - a proof that does not hold
        assert "canonical" not in str(error)  # noqa: PT017 - likewise
