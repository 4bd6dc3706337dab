"""Every receiver judges a signature at an edge alike: two libraries, two codecs.

And both schemes in plain numbers, which share no code with any of them.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import nacl.bindings
import nacl.exceptions
import pytest

from bridge import verification
from protocol import frame as declared
from protocol import signing
from protocol.codes import Suite
from protocol.errors import AuthenticationError
from protocol.frame import Frame
from protocol.keys import VerifyKey
from protocol.packed import frame as packed
from tests.edge import plain_ed25519
from tests.edge.__main__ import DIRECTORY, generate
from tests.edge.case import Verdict
from tests.edge.plain_ed25519 import IDENTITY, encode
from tests.protocol import plain_p256
from tools.published_keys import FLEET_ID

CASES: Final[dict[str, dict[str, Any]]] = {
    f"{document['suite']}: {case['name']}": case | {"suite": document["suite"]}
    for path in sorted(DIRECTORY.glob("*.json"))
    for document in [json.loads(path.read_text(encoding="utf-8"))]
    for case in document["cases"]
}
WITH_FRAME: Final = [name for name, case in CASES.items() if "frame" in case]
STRONG: Final = [
    name for name, case in CASES.items() if case["expected"] != Verdict.REFUSE_KEY
]

Parse = Callable[[bytes], Frame]
Verify = Callable[..., None]


def _bytes(name: str, field: str) -> bytes:
    return bytes.fromhex(CASES[name][field])


def _verdict(public: bytes, verify: Callable[[VerifyKey], None]) -> Verdict:
    try:
        key = VerifyKey.load(public)
    except AuthenticationError:
        return Verdict.REFUSE_KEY
    try:
        verify(key)
    except AuthenticationError:
        return Verdict.REFUSE_SIGNATURE
    return Verdict.ACCEPT


def test_the_command_makes_the_same_files_byte_for_byte() -> None:
    # FF-EVO-04
    assert generate() == {
        path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.iterdir()
    }


def test_no_name_says_two_things_and_every_verdict_is_there() -> None:
    assert len(CASES) == 173
    for suite in Suite:
        found = {c["expected"] for c in CASES.values() if c["suite"] == suite.name}
        assert found == set(Verdict)


@pytest.mark.parametrize("name", CASES)
def test_a_key_judges_as_expected(name: str) -> None:
    """FF-SIG-09, FF-SIG-12, FF-SIG-13, FF-SIG-17, FF-KEY-02 to FF-KEY-08, K11."""
    signature, message = _bytes(name, "signature"), _bytes(name, "message")

    verdict = _verdict(
        _bytes(name, "public"), lambda key: key.verify(signature, message)
    )

    assert verdict == CASES[name]["expected"]


@pytest.mark.parametrize("name", WITH_FRAME)
@pytest.mark.parametrize("parse", [declared.parse_frame, packed.parse_frame])
@pytest.mark.parametrize("verify", [signing.verify_frame, verification.verify_frame])
def test_every_receiver_of_frames_judges_as_expected(
    name: str, parse: Parse, verify: Verify
) -> None:
    """K11: both codecs, by OpenSSL alone and by vodozemac first."""
    frame = parse(_bytes(name, "frame"))

    verdict = _verdict(
        _bytes(name, "public"), lambda key: verify(frame, fleet_id=FLEET_ID, key=key)
    )

    assert verdict == CASES[name]["expected"]


@pytest.mark.parametrize("name", STRONG)
def test_plain_numbers_judge_as_expected(name: str) -> None:
    """FF-SIG-17: another team that computes as the specification says agrees."""
    is_ed25519 = CASES[name]["suite"] == Suite.ED25519.name
    holds = (plain_ed25519 if is_ed25519 else plain_p256).holds

    held = holds(
        _bytes(name, "public"), _bytes(name, "signature"), _bytes(name, "message")
    )

    assert held == (CASES[name]["expected"] == Verdict.ACCEPT)


@pytest.mark.parametrize("library", ["vodozemac", "libsodium"])
def test_a_library_alone_differs_where_r_is_the_identity_and_nowhere_else(
    library: str,
) -> None:
    # Why the bridge may let vodozemac say yes, but not no (bridge.verification).
    alone = _vodozemac_holds if library == "vodozemac" else _sodium_holds
    different = [
        name
        for name in STRONG
        if CASES[name]["suite"] == Suite.ED25519.name
        and alone(name) != (CASES[name]["expected"] == Verdict.ACCEPT)
    ]

    assert different == [f"ED25519: r small {encode(IDENTITY).hex()}"]


def _vodozemac_holds(name: str) -> bool:
    parts = [_bytes(name, field) for field in ("public", "signature", "message")]
    return verification.holds(verification.Claim(*parts))


def _sodium_holds(name: str) -> bool:
    data = _bytes(name, "signature") + _bytes(name, "message")
    try:
        nacl.bindings.crypto_sign_open(data, _bytes(name, "public"))
    except (nacl.exceptions.CryptoError, ValueError):
        return False
    # What is cut or extended may be read as another message.
    return len(_bytes(name, "signature")) == 64


def test_the_cases_with_torsion_hold_with_the_cofactor_only() -> None:
    # Else they would show nothing: they are where libraries differ (eprint 2020/823).
    twisted = [name for name in STRONG if "r plus torsion" in name]

    assert len(twisted) == 7
    for name in twisted:
        parts = [_bytes(name, field) for field in ("public", "signature", "message")]
        assert plain_ed25519.holds_times_8(*parts)
        assert not plain_ed25519.holds(*parts)
