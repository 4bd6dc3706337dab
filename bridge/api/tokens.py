"""Bearer tokens of an OpenID provider: checking them, and whose they are (K28).

The attackers considered: who writes a token themselves and tells the bridge how to
check it (``alg`` none, HMAC with a public key as its secret, a key in the token's own
header); who has a token for another service or an old one; who floods with tokens to
be checked; and a provider that is gone, or that answers without end.

Rule 1: a token names its key and no more. How a key is used follows from the key.
Rule 2: tokens are never fetched for: an unknown key id asks the provider at most once
in `AGAIN_S`, however many come.
Rule 3: while the provider is silent, keys that are known count on, for a bounded time.
"""

import asyncio
import contextlib
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeGuard
from urllib.parse import urlsplit

import aiohttp
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from bridge.api.keys import Principal, Role
from bridge.foreign_tls import foreign_client_context
from bridge.ports import WallClock
from bridge.settings import OidcSettings, is_loopback
from bridge.wire import LOG

TOKEN_LIMIT: Final = 8_192
"""Characters of a token; a large one with many groups has 3,000."""

DOCUMENT_LIMIT: Final = 262_144
"""Bytes of what a provider answers."""

KEYS_LIMIT: Final = 64
"""Keys of a provider."""

FETCH_S: Final = 5.0
"""Patience with a provider."""

AGAIN_S: Final = 30.0
"""Between two attempts to get keys because a token names an unknown one."""

FRESH_S: Final = 600.0
"""How old keys may be before they are fetched anew: so soon one that was withdrawn
counts no more."""

STALE_S: Final = 86_400.0
"""How long known keys count on while the provider is silent."""

KNOWN_S: Final = 60.0
"""How long a token that was checked is not checked again."""

LATEST_S: Final = 253_402_300_799
"""The last second of the year 9999, and of any token."""

KNOWN_LIMIT: Final = 1_024
RSA_BITS: Final = 2_048
KID_LIMIT: Final = 256

_PLAIN: Final = re.compile(r"[A-Za-z0-9._@+-]{1,58}")
_STRONGEST: Final = (
    Role.ADMIN,
    Role.OPERATOR,
    Role.SERVICE,
    Role.APPROVER,
    Role.VIEWER,
    Role.AGENCY,
)
"""Which role counts of somebody who has several."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class TokenError(Exception):
    """A token proves nothing; the message is for the caller and repeats none of it."""


class NoRoleError(TokenError):
    """A token proves who calls, and gives them no role here."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Keys of the provider, and when they were got."""

    keys: Mapping[str, tuple[str, PublicKey]]
    """By key id: the one algorithm that it is for, and the key."""
    at_s: float


class TokenCheck:
    """Checks tokens of one provider.

    Args:
        settings: which provider, for whom tokens must be, who has which role.
        now: UTC ms.
        clock_s: a clock that nobody sets, in seconds.
    """

    def __init__(
        self, settings: OidcSettings, *, now: WallClock, clock_s: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._now = now
        self._clock_s = clock_s
        self._found: _Found | None = None
        self._tried_s: float | None = None
        self._fetching = asyncio.Lock()
        self._known: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self.last_error = ""
        """Why the provider gave no keys at the last attempt; empty if it did."""

    def known(self, token: str) -> Principal | None:
        """Return whose token it is if it was checked a moment ago."""
        found = self._known.get(_digest(token))
        if found is None or found[1] <= self._clock_s():
            return None
        return found[0]

    async def check(self, token: str) -> Principal:
        """Return whose token it is.

        Raises:
            NoRoleError: somebody without a role here.
            TokenError: it proves nothing.
        """
        if len(token) > TOKEN_LIMIT:
            raise TokenError(f"a token has at most {TOKEN_LIMIT} characters")
        kid = _key_id(token)
        algorithm, key = await self._key(kid)
        claims = self._claims(token, algorithm, key)
        principal = self._principal(claims)
        left_s = min(claims["exp"] - self._now() / 1000, KNOWN_S)
        self._known[_digest(token)] = (principal, self._clock_s() + left_s)
        if len(self._known) > KNOWN_LIMIT:
            self._known.popitem(last=False)
        return principal

    async def run(self) -> None:
        """Fetch keys anew before they are old, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(AGAIN_S if self.last_error else FRESH_S)

    async def refresh(self) -> None:
        """Fetch the keys; what is known stays if the provider gives none."""
        async with self._fetching:
            await self._fetch()

    async def _key(self, kid: str) -> tuple[str, PublicKey]:
        found = self._current()
        if found is None or kid not in found.keys:
            async with self._fetching:
                # Somebody may have fetched while we waited for the lock.
                found = self._current()
                is_due = (
                    self._tried_s is None or self._clock_s() - self._tried_s >= AGAIN_S
                )
                if (found is None or kid not in found.keys) and is_due:
                    await self._fetch()
                    found = self._current()
        if found is None:
            raise TokenError("the provider's keys cannot be got now; try again later")
        key = found.keys.get(kid)
        if key is None:
            raise TokenError("the token names a key that the provider does not have")
        return key

    def _current(self) -> _Found | None:
        found = self._found
        if found is None or self._clock_s() - found.at_s > STALE_S:
            return None
        return found

    async def _fetch(self) -> None:
        self._tried_s = self._clock_s()
        try:
            connector = aiohttp.TCPConnector(ssl=foreign_client_context())
            async with (
                asyncio.timeout(FETCH_S),
                aiohttp.ClientSession(connector=connector) as session,
            ):
                base = self._settings.issuer.rstrip("/")
                url = f"{base}/.well-known/openid-configuration"
                about = await _get(session, url)
                place = _place_of_keys(about, self._settings.issuer)
                keys = keys_of(await _get(session, place))
        except (aiohttp.ClientError, OSError, TimeoutError, TokenError) as error:
            said = str(error) or type(error).__name__
            if said != self.last_error:
                LOG.warning("= oidc: no keys of %s: %s", self._settings.issuer, said)
            self.last_error = said
            return
        self.last_error = ""
        if self._found is None or set(self._found.keys) != set(keys):
            # A key that was withdrawn counts no more, cached tokens of it neither.
            self._known.clear()
        self._found = _Found(keys, self._clock_s())

    def _claims(self, token: str, algorithm: str, key: PublicKey) -> dict[str, Any]:
        settings = self._settings
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key=key,
                algorithms=[algorithm],
                audience=settings.audience,
                issuer=settings.issuer,
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    # By our own clock, below.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidAudienceError:
            raise TokenError("the token is for somebody else") from None
        except jwt.InvalidIssuerError:
            raise TokenError("the token is of another provider") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise TokenError("the token does not hold") from None
        now_s = self._now() / 1000
        if not _number(claims["exp"]) or now_s >= claims["exp"] + settings.leeway_s:
            raise TokenError("the token is over")
        for name in ("nbf", "iat"):
            value = claims.get(name, 0)
            if not _number(value) or value > now_s + settings.leeway_s:
                raise TokenError("the token does not count yet; check both clocks")
        return claims

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        given: Any = claims
        for part in self._settings.role_claim.split("."):
            given = given.get(part) if isinstance(given, Mapping) else None
        names = [given] if isinstance(given, str) else given
        names = names if isinstance(names, list) else []
        roles = {
            Role(self._settings.roles[name])
            for name in names
            if isinstance(name, str) and name in self._settings.roles
        }
        subject = str(claims["sub"])
        for role in _STRONGEST:
            if role in roles:
                return Principal(name_of(subject), role)
        raise NoRoleError(
            f"no value of the claim {self._settings.role_claim} has a role here"
        )


def name_of(subject: str) -> str:
    """Return how the audit trail calls a subject; no API key can have such a name."""
    if _PLAIN.fullmatch(subject):
        return f"oidc:{subject}"
    raw = subject.encode("utf-8", "surrogatepass")
    return f"oidc:{hashlib.sha256(raw).hexdigest()[:32]}"


def keys_of(document: Mapping[str, Any]) -> dict[str, tuple[str, PublicKey]]:
    """Return the signing keys of a JWKS by their id; others are left out."""
    listed = document.get("keys")
    found: dict[str, tuple[str, PublicKey]] = {}
    for raw in (listed if isinstance(listed, list) else [])[:KEYS_LIMIT]:
        if not isinstance(raw, dict) or raw.get("use", "sig") != "sig":
            continue
        kid = raw.get("kid")
        if not isinstance(kid, str) or not 0 < len(kid) <= KID_LIMIT or "d" in raw:
            continue
        with contextlib.suppress(jwt.PyJWTError, ValueError, TypeError, KeyError):
            key = jwt.PyJWK(raw).key
            algorithm = _algorithm_of(key)
            if algorithm is not None and raw.get("alg", algorithm) == algorithm:
                found[kid] = (algorithm, key)
    return found


def is_safe_url(url: str) -> bool:
    """Return whether an address is https, or plain on this machine alone."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def _place_of_keys(about: Mapping[str, Any], issuer: str) -> str:
    if about.get("issuer") != issuer:
        raise TokenError("its document names another issuer")
    place = about.get("jwks_uri")
    if not isinstance(place, str) or not is_safe_url(place):
        raise TokenError("its document names no https address of keys")
    return place


def _algorithm_of(key: object) -> str | None:
    """Return the one algorithm that a key is for: a token has no say in it."""
    match key:
        case RSAPublicKey() if key.key_size >= RSA_BITS:
            return "RS256"
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return "ES256"
        case Ed25519PublicKey():
            return "EdDSA"
        case _:
            return None


def _key_id(token: str) -> str:
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenError("this is no token") from None
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= KID_LIMIT:
        raise TokenError("the token names no key")
    if "crit" in header:
        raise TokenError("the token wants what this bridge does not know")
    return kid


async def _get(session: aiohttp.ClientSession, url: str) -> Mapping[str, Any]:
    async with session.get(url, allow_redirects=False) as answer:
        if answer.status != 200:  # noqa: PLR2004 - OK
            raise TokenError(f"{urlsplit(url).path} answers {answer.status}")
        data = await answer.content.read(DOCUMENT_LIMIT + 1)
        while len(data) <= DOCUMENT_LIMIT:
            more = await answer.content.read(DOCUMENT_LIMIT + 1 - len(data))
            if not more:
                break
            data += more
    if len(data) > DOCUMENT_LIMIT:
        raise TokenError(f"{urlsplit(url).path} answers without end")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise TokenError(f"{urlsplit(url).path} answers no JSON object")
    return document


def _number(value: object) -> TypeGuard[float]:
    """Return whether it is an instant: what is no number is never in the past."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LATEST_S


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
