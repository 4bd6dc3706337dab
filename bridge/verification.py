"""Whether a car signed a frame, asked of libsodium first, which answers sooner.

The attacker considered: a car that signs so that two libraries disagree, and with it
the bridge and whoever examines the entry years later. Libraries differ at the edges of
Ed25519: libsodium refuses an R of small order that OpenSSL takes, and some multiply by
the cofactor, which makes more signatures hold (eprint 2020/823).

Rule: libsodium can only say yes. Whatever it does not hold `protocol.signing` judges,
as it does everywhere else, and so every frame of a P-256 key. What it does hold,
OpenSSL holds too: the tests sign with every kind of odd point and fail with a libsodium
for which that is no longer so.
"""

from typing import Final

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from protocol import signing
from protocol.codes import Suite
from protocol.frame import Frame
from protocol.keys import SIGNATURE_SIZE, VerifyKey

# A member of an enumeration is a property in Python 3.11, which takes its time.
_ED25519: Final = Suite.ED25519


def verify_frame(frame: Frame, *, fleet_id: bytes, key: VerifyKey) -> None:
    """Return if `key` signed this frame for this fleet.

    Raises:
        AuthenticationError: as `protocol.signing.verify_frame` raises it.
    """
    header = frame.header
    is_ed25519 = header.suite is _ED25519 and key.suite is _ED25519
    if is_ed25519 and header.key_id == key.key_id:
        unsigned = frame.data[:-SIGNATURE_SIZE]
        message = signing.to_be_signed(header.frame_class, fleet_id, unsigned)
        if holds(frame.signature, message, key):
            return
    signing.verify_frame(frame, fleet_id=fleet_id, key=key)


def holds(signature: bytes, message: bytes, key: VerifyKey) -> bool:
    """Return whether libsodium says that the signature holds.

    False is no refusal: the signature may hold all the same.
    """
    try:
        crypto_sign_open(signature + message, key.raw)
    except BadSignatureError:
        return False
    return True
