"""A small OpenID provider on loopback, and tokens of every kind."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.bridge.world import NOW_MS

AUDIENCE = "freefloat-bridge"
RSA = rsa.generate_private_key(65_537, 2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGE = ec.generate_private_key(ec.SECP256R1())

KEYS: dict[str, tuple[str, Any]] = {
    "r": ("RS256", RSA),
    "e": ("ES256", EC),
    "d": ("EdDSA", ED),
}
"""By key id: algorithm and private key."""


def jwk_of(kid: str) -> dict[str, Any]:
    algorithm, key = KEYS[kid]
    maker: Any = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
    text = maker[algorithm].to_jwk(key.public_key())
    return {**json.loads(text), "kid": kid, "use": "sig"}


class Issuer:
    """What the provider answers; a test changes it."""

    def __init__(self) -> None:
        self.url = ""
        self.kids = ["r", "e", "d"]
        self.more: list[dict[str, Any]] = []
        self.is_silent = False
        self.is_endless = False
        self.fetches = 0

    async def about(self, _request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def keys(self, _request: web.Request) -> web.Response:
        self.fetches += 1
        if self.is_silent:
            raise web.HTTPServiceUnavailable
        if self.is_endless:
            return web.Response(body=b" " * 1_000_000)
        return web.json_response({"keys": [*map(jwk_of, self.kids), *self.more]})

    def claims(self, **changes: Any) -> dict[str, Any]:
        now_s = NOW_MS // 1000
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "anna",
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + 600,
            "realm": {"roles": ["staff", "fleet"]},
        }
        return {n: v for n, v in {**claims, **changes}.items() if v is not None}

    def token(
        self,
        kid: str = "e",
        *,
        key: Any = None,
        algorithm: str | None = None,
        headers: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        known = KEYS.get(kid, ("ES256", EC))
        return jwt.encode(
            self.claims(**changes),
            known[1] if key is None else key,
            algorithm=algorithm or known[0],
            headers={"kid": kid, **(headers or {})},
        )


@contextlib.asynccontextmanager
async def running_issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", issuer.about)
    app.router.add_get("/keys", issuer.keys)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        issuer.url = f"http://{host}:{port}"
        yield issuer
    finally:
        await runner.cleanup()
