"""Opening a PKCS#11 token, finding a key in it, making one.

Rule 1: a key counts only if the token says that it is sensitive and not extractable,
and never was otherwise (K2). Rule 2: one login for each token and process, because
PKCS#11 knows no other; sessions are shared under a lock. Rule 3: `python-pkcs11` is
imported when a token is asked for, so that nobody else needs it.
"""

import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from keystore.errors import TokenError, UnfitKeyError
from keystore.token_keys import TokenEd25519Key, TokenP256Key
from keystore.uri import TokenUri
from protocol.codes import Suite

if TYPE_CHECKING:
    import pkcs11

TokenKey = TokenEd25519Key | TokenP256Key
"""A key that signs in its token."""

PIN_LIMIT: Final = 256
"""Bytes of a PIN file."""

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_OCTET_STRING: Final = 0x04
_P256: Final = bytes.fromhex("06082a8648ce3d030107")
_ED25519: Final = frozenset({bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519"})
"""Ed25519 as CKA_EC_PARAMS: the OID, or its name as PKCS#11 2.40 drafts had it."""


@dataclass(slots=True)
class _Login:
    """One session with a token; the lock is held while it is used."""

    session: "pkcs11.Session"
    lock: threading.Lock = field(default_factory=threading.Lock)


_LOGINS: dict[tuple[str, str, str], _Login] = {}
_LOGINS_LOCK: Final = threading.Lock()


def load_token_key(uri: TokenUri) -> TokenKey:
    """Find a key in its token.

    Raises:
        TokenError: module, token or PIN does not work, or `python-pkcs11` is missing.
        UnfitKeyError: no such key, several, one that does not sign here, or one that
            can be taken out of the token.
    """
    login = _login(uri)
    with login.lock, _explained(uri):
        return _load(login, uri)


def generate_token_key(uri: TokenUri, suite: Suite) -> TokenKey:
    """Make a key in the token that never leaves it.

    Raises:
        TokenError: as `load_token_key`.
        UnfitKeyError: a key of that label or id is there already; it is untouched.
    """
    import pkcs11  # noqa: PLC0415 - rule 3
    from pkcs11.util.ec import (  # noqa: PLC0415 - rule 3
        encode_named_curve_parameters,
    )

    login = _login(uri)
    kind, curve, mechanism = (
        (pkcs11.KeyType.EC, "secp256r1", pkcs11.Mechanism.EC_KEY_PAIR_GEN)
        if suite is Suite.P256
        else (
            pkcs11.KeyType.EC_EDWARDS,
            "1.3.101.112",
            pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
        )
    )
    with login.lock, _explained(uri):
        if _find(login, uri, pkcs11.ObjectClass.PRIVATE_KEY):
            raise UnfitKeyError(
                f"the token has a key {_name(uri)} already; it is untouched",
                "choose another label, or use the key that is there",
            )
        parameters = login.session.create_domain_parameters(
            kind,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)},
            local=True,
        )
        parameters.generate_keypair(
            mechanism=mechanism,
            store=True,
            label=uri.label,
            id=uri.object_id or uri.label.encode(),
            capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
            private_template={
                pkcs11.Attribute.SENSITIVE: True,
                pkcs11.Attribute.EXTRACTABLE: False,
            },
        )
        return _load(login, uri)


def _load(login: _Login, uri: TokenUri) -> TokenKey:
    import pkcs11  # noqa: PLC0415 - rule 3

    found = _find(login, uri, pkcs11.ObjectClass.PRIVATE_KEY)
    if len(found) != 1:
        raise UnfitKeyError(
            f"the token has {len(found)} private keys {_name(uri)}, not one",
            "check object and id of the URI; `pkcs11-tool --list-objects` shows them",
        )
    key = found[0]
    if (
        not key[pkcs11.Attribute.SENSITIVE]
        or key[pkcs11.Attribute.EXTRACTABLE]
        or not key[pkcs11.Attribute.NEVER_EXTRACTABLE]
    ):
        raise UnfitKeyError(
            f"key {_name(uri)} can or could be taken out of its token",
            "make a new one with `freefloat certs new-key`: sensitive, not extractable",
        )
    public = _find(login, uri, pkcs11.ObjectClass.PUBLIC_KEY)
    if len(public) != 1:
        raise UnfitKeyError(
            f"the token has {len(public)} public keys {_name(uri)}, not one",
            "keep the public key beside the private one, with the same label and id",
        )
    parameters = public[0][pkcs11.Attribute.EC_PARAMS]
    point = _point(public[0][pkcs11.Attribute.EC_POINT])

    def sign(message: bytes, mechanism: "pkcs11.Mechanism") -> bytes:
        with login.lock, _explained(uri):
            return bytes(key.sign(message, mechanism=mechanism))

    try:
        if parameters == _P256:
            return TokenP256Key(
                ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point),
                lambda digest: sign(digest, pkcs11.Mechanism.ECDSA),
            )
        if parameters in _ED25519:
            return TokenEd25519Key(
                Ed25519PublicKey.from_public_bytes(point),
                lambda message: sign(message, pkcs11.Mechanism.EDDSA),
            )
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise UnfitKeyError(
        f"key {_name(uri)} is neither P-256 nor Ed25519",
        "make one with `freefloat certs new-key`",
    )


def _find(login: _Login, uri: TokenUri, kind: "pkcs11.ObjectClass") -> list[Any]:
    import pkcs11  # noqa: PLC0415 - rule 3

    wanted: dict[pkcs11.Attribute, object] = {pkcs11.Attribute.CLASS: kind}
    if uri.label:
        wanted[pkcs11.Attribute.LABEL] = uri.label
    if uri.object_id:
        wanted[pkcs11.Attribute.ID] = uri.object_id
    return list(login.session.get_objects(wanted))


def _point(value: bytes) -> bytes:
    """Return a point without its OCTET STRING, which some tokens leave out."""
    if len(value) > 2 and value[0] == _OCTET_STRING and value[1] == len(value) - 2:  # noqa: PLR2004 - tag and length
        return value[2:]
    return value


def _login(uri: TokenUri) -> _Login:
    where = (uri.module_path, uri.token, uri.serial)
    with _LOGINS_LOCK:
        if where not in _LOGINS:
            _LOGINS[where] = _Login(_open(uri))
        return _LOGINS[where]


def _open(uri: TokenUri) -> "pkcs11.Session":
    try:
        import pkcs11  # noqa: PLC0415 - rule 3
    except ModuleNotFoundError:
        raise TokenError(
            "a key in a token needs python-pkcs11, which is not installed",
            "install the optional part: pip install 'freefloat[hsm]'",
        ) from None
    if not Path(uri.module_path).is_file():
        raise TokenError(
            f"PKCS#11 module {uri.module_path} does not exist",
            "install the token's library and name it by module-path",
        )
    pin = _read_pin(uri.pin_source) if uri.pin_source else None
    with _explained(uri):
        token = pkcs11.lib(uri.module_path).get_token(
            token_label=uri.token or None,
            token_serial=uri.serial.encode() or None,
        )
        return token.open(rw=True, user_pin=pin)


def _read_pin(source: str) -> str:
    path = Path(source)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open("rb") as file:
            data = file.read(PIN_LIMIT + 1)
    except OSError as error:
        raise TokenError(
            f"PIN file {path} cannot be read ({error.strerror})",
            "write the token's PIN into it, mode 0600",
        ) from None
    if mode & _OPEN_TO_OTHERS:
        raise TokenError(
            f"PIN file {path} can be read by others (mode {mode:04o})",
            f"chmod 600 {path}, and change the PIN if others had access",
        )
    if len(data) > PIN_LIMIT:
        raise TokenError(f"PIN file {path} has more than {PIN_LIMIT} bytes")
    return data.decode("utf-8", "replace").strip()


def _name(uri: TokenUri) -> str:
    return repr(uri.label) if uri.label else f"of id {uri.object_id.hex()}"


@contextmanager
def _explained(uri: TokenUri) -> Iterator[None]:
    """Turn what the token says into a sentence with a next step."""
    import pkcs11  # noqa: PLC0415 - rule 3

    try:
        yield
    except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange):
        raise TokenError(
            f"token {uri.token or uri.serial!r} refuses the PIN in {uri.pin_source}",
            "correct the file before trying again: tokens lock after a few attempts",
        ) from None
    except pkcs11.UserNotLoggedIn:
        raise TokenError(
            f"token {uri.token or uri.serial!r} wants a PIN",
            "name a file of mode 0600 that holds it by pin-source",
        ) from None
    except (pkcs11.NoSuchToken, pkcs11.MultipleTokensReturned) as error:
        many = "several" if isinstance(error, pkcs11.MultipleTokensReturned) else "no"
        raise TokenError(
            f"module {uri.module_path} has {many} token {uri.token or uri.serial!r}",
            "check token and serial of the URI, and that the token is plugged in",
        ) from None
    except pkcs11.PKCS11Error as error:
        raise TokenError(
            f"token {uri.token or uri.serial!r} failed: {type(error).__name__} {error}",
            "check the token with its maker's tool, then start again",
        ) from None
    except RuntimeError as error:  # the library's own, of loading a module
        raise TokenError(
            f"PKCS#11 module {uri.module_path} cannot be used: {error}",
            "name the token's library by module-path",
        ) from None
