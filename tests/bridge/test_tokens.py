"""Bearer tokens of an OpenID provider open the API, and nothing that looks like one
does (K28)."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from bridge.api.keys import Principal, Role
from bridge.api.tokens import (
    AGAIN_S,
    STALE_S,
    TOKEN_LIMIT,
    NoRoleError,
    TokenCheck,
    TokenError,
    name_of,
)
from bridge.errors import SettingsError
from bridge.settings import ApiSettings, OidcSettings, RateSettings, check_settings
from certs.fleet import FleetDirectory
from tests.bridge.issuer import AUDIENCE, EC, RSA, STRANGE, Issuer, running_issuer
from tests.bridge.running import running_bridge
from tests.bridge.test_roles import bridge_with_roles
from tests.bridge.world import NOW_MS
from tests.tools.command_line import freefloat, require_clear_failure
from tools.api_key import headers_of
from tools.bridge_settings import local_settings
from tools.errors import OperatorError

pytestmark = pytest.mark.broker


class Clock:
    def __init__(self) -> None:
        self.at_s = 0.0

    def __call__(self) -> float:
        return self.at_s

    def now(self) -> int:
        return NOW_MS + round(self.at_s * 1000)


def settings_of(issuer: Issuer) -> OidcSettings:
    return OidcSettings(
        issuer=issuer.url,
        audience=AUDIENCE,
        roles={"fleet": "operator", "look": "viewer", "second": "approver"},
        role_claim="realm.roles",
    )


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with running_issuer() as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(issuer: Issuer, clock: Clock) -> TokenCheck:
    return TokenCheck(settings_of(issuer), now=clock.now, clock_s=clock)


@pytest.mark.parametrize("kid", ["r", "e", "d"])
async def test_a_token_of_each_algorithm_says_who_calls_and_what_they_may(
    issuer: Issuer, tokens: TokenCheck, kid: str
) -> None:
    token = issuer.token(kid)

    found = await tokens.check(token)

    assert found == Principal("oidc:anna", Role.OPERATOR)
    assert tokens.known(token) == found
    viewer = issuer.token(kid, realm={"roles": "look"})
    assert (await tokens.check(viewer)).role is Role.VIEWER


async def test_somebody_whom_nobody_gave_a_role_has_none(
    issuer: Issuer, tokens: TokenCheck
) -> None:
    for given in (None, {}, {"roles": ["staff", 7]}, {"roles": None}, "fleet"):
        with pytest.raises(NoRoleError):
            await tokens.check(issuer.token(realm=given))


def part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsigned(issuer: Issuer, algorithm: str) -> str:
    head = {"alg": algorithm, "kid": "e", "typ": "JWT"}
    return f"{part(head)}.{part(issuer.claims())}."


def keyed_with_the_public_key(issuer: Issuer) -> str:
    public = RSA.public_key().public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    head = {"alg": "HS256", "kid": "r", "typ": "JWT"}
    text = f"{part(head)}.{part(issuer.claims())}"
    return f"{text}.{part(hmac.digest(public, text.encode(), hashlib.sha256))}"


def own_key_in_the_header(issuer: Issuer) -> str:
    own = rsa.generate_private_key(65_537, 2_048)
    jwk = json.loads(RSAAlgorithm.to_jwk(own.public_key()))
    more = {"jwk": jwk, "jku": f"{issuer.url}/keys", "x5u": issuer.url}
    return issuer.token("r", key=own, headers=more)


def changed_afterwards(issuer: Issuer) -> str:
    head, _, signature = issuer.token().split(".")
    return f"{head}.{part(issuer.claims(sub='otto'))}.{signature}"


ATTACKS: dict[str, Callable[[Issuer], str]] = {
    "alg none": lambda i: unsigned(i, "none"),
    "alg None": lambda i: unsigned(i, "None"),
    "alg of a signature, and none there": lambda i: unsigned(i, "ES256"),
    "HMAC with the public key": keyed_with_the_public_key,
    "the key of another algorithm": lambda i: i.token("r", key=EC, algorithm="ES256"),
    "a stronger hash than the key is for": lambda i: i.token("r", algorithm="RS512"),
    "a strange key under a known name": lambda i: i.token("e", key=STRANGE),
    "its own key in the header": own_key_in_the_header,
    "changed afterwards": changed_afterwards,
    "an unknown key": lambda i: i.token("x", key=STRANGE),
    "a path as key id": lambda i: i.token("../../etc/passwd", key=STRANGE),
    "SQL as key id": lambda i: i.token("' OR 1=1 --", key=STRANGE),
    "a long key id": lambda i: i.token("e" * 1_000),
    "a key id that is no text": lambda i: i.token(headers={"kid": ""}),
    "an extension that must be known": lambda i: i.token(
        headers={"crit": ["x"], "x": 1}
    ),
    "another audience": lambda i: i.token(aud="billing"),
    "no audience": lambda i: i.token(aud=None),
    "another issuer": lambda i: i.token(iss="https://evil.example"),
    "over": lambda i: i.token(exp=NOW_MS // 1000 - 31),
    "without an end": lambda i: i.token(exp=None),
    "with an end that never comes": lambda i: i.token(exp=float("nan")),
    "with an end beyond all numbers": lambda i: i.token(exp=float("inf")),
    "with an end of too many digits": lambda i: i.token(exp=10**400),
    "with a beginning that is no number": lambda i: i.token(nbf=float("nan")),
    "not yet": lambda i: i.token(nbf=NOW_MS // 1000 + 31),
    "of the future": lambda i: i.token(iat=NOW_MS // 1000 + 31),
    "no subject": lambda i: i.token(sub=None),
    "oversized": lambda i: i.token(more="x" * TOKEN_LIMIT),
    "deep": lambda _: f"{part(b'[' * 3_000)}.{part({})}.",
    "nothing": lambda _: "..",
    "not base64": lambda _: "a.b.c",
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_what_proves_nothing_opens_nothing(
    issuer: Issuer, tokens: TokenCheck, name: str
) -> None:
    # K28
    token = ATTACKS[name](issuer)

    with pytest.raises(TokenError) as refused:
        await tokens.check(token)

    assert not isinstance(refused.value, NoRoleError)
    assert tokens.known(token) is None
    assert "otto" not in str(refused.value)


async def test_a_subject_that_is_no_unicode_is_told_by_its_digest(
    issuer: Issuer, tokens: TokenCheck
) -> None:
    # K19: half a surrogate pair is JSON, and no name that could be written down
    found = await tokens.check(issuer.token(sub="\ud800"))

    assert re.fullmatch(r"oidc:[0-9a-f]{32}", found.name)


async def test_clocks_may_differ_by_the_leeway(
    issuer: Issuer, tokens: TokenCheck
) -> None:
    now_s = NOW_MS // 1000
    await tokens.check(issuer.token(exp=now_s - 29, nbf=now_s + 30, iat=now_s + 30))


async def test_a_new_key_is_found_and_a_withdrawn_one_counts_no_more(
    issuer: Issuer, tokens: TokenCheck, clock: Clock
) -> None:
    issuer.kids = ["e"]
    old, new = issuer.token("e"), issuer.token("d")
    await tokens.check(old)

    issuer.kids = ["d"]
    with pytest.raises(TokenError):
        await tokens.check(new)
    clock.at_s += AGAIN_S
    assert (await tokens.check(new)).role is Role.OPERATOR
    assert tokens.known(old) is None
    with pytest.raises(TokenError, match="does not have"):
        await tokens.check(old)


async def test_unknown_keys_make_nobody_ask_the_provider_again_and_again(
    issuer: Issuer, tokens: TokenCheck
) -> None:
    for number in range(20):
        with pytest.raises(TokenError):
            await tokens.check(issuer.token(f"x{number}", key=STRANGE))

    assert issuer.fetches == 1


async def test_known_keys_count_on_for_a_day_while_the_provider_is_silent(
    issuer: Issuer, tokens: TokenCheck, clock: Clock
) -> None:
    await tokens.refresh()
    issuer.is_silent = True
    clock.at_s = STALE_S - 1
    await tokens.refresh()
    assert "503" in tokens.last_error

    at = clock.now() // 1000
    fresh: dict[str, Any] = {"iat": at, "nbf": at, "exp": at + 60}
    assert (await tokens.check(issuer.token(**fresh))).role is Role.OPERATOR
    clock.at_s = STALE_S + 1
    with pytest.raises(TokenError, match="cannot be got"):
        await tokens.check(issuer.token(sub="otto", **fresh))


async def test_a_provider_that_answers_without_end_or_weak_keys_gives_none(
    issuer: Issuer, tokens: TokenCheck
) -> None:
    issuer.is_endless = True
    await tokens.refresh()
    assert "without end" in tokens.last_error

    issuer.is_endless = False
    weak = rsa.generate_private_key(65_537, 1_024)  # noqa: S505 - that is the point
    issuer.more = [
        {**json.loads(RSAAlgorithm.to_jwk(weak.public_key())), "kid": "w"},
        {"kty": "oct", "k": part(b"secret"), "kid": "h", "alg": "HS256"},
        {"kty": "EC", "kid": "b"},
    ]
    await tokens.refresh()
    found: Any = tokens._found
    assert sorted(found.keys) == ["d", "e", "r"]


def test_names_of_subjects_fit_the_trail_and_no_api_key_has_one() -> None:
    for subject in ("anna", "x" * 500, "a b", "zoë", "auth0|5f7c"):
        assert name_of(subject).startswith("oidc:")
        assert len(name_of(subject)) <= 64
    assert len({name_of(s) for s in ("a b", "a  b", "a\nb")}) == 3


async def test_the_api_takes_tokens_beside_keys_and_writes_down_whose(
    issuer: Issuer, fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    rates = RateSettings(failures=3)
    async with bridge_with_roles(
        fleet, tmp_path, oidc=settings_of(issuer), rates=rates
    ) as running:
        url = running.bridge.api_url

        async def ask(token: str, method: str, path: str) -> tuple[int, str]:
            headers = {"X-Api-Key": "", "Authorization": f"Bearer {token}"}
            async with running.client.request(
                method, url + path, headers=headers
            ) as answer:
                document = await answer.json(content_type=None)
                return answer.status, str(document.get("type", "")).rpartition(":")[2]

        judged = "/v1/dead-letters/9/judge"
        operator = issuer.token("r")
        assert await ask(operator, "POST", judged) == (404, "unknown-letter")
        viewer = issuer.token("d", realm={"roles": ["look"]})
        assert (await ask(viewer, "GET", "/v1/sinks"))[0] == 200
        assert await ask(viewer, "POST", judged) == (403, "role-forbids")
        nobody = issuer.token("d", realm={})
        assert await ask(nobody, "GET", "/v1/sinks") == (403, "role-forbids")
        forged = [
            await ask(issuer.token("e", key=STRANGE), "GET", "/v1/sinks")
            for _ in range(5)
        ]
        assert forged[:3] == [(401, "token-refused")] * 3
        assert forged[3:] == [(429, "too-many-requests")] * 2
        # A token that was checked before needs no check.
        assert (await ask(viewer, "GET", "/v1/sinks"))[0] == 200
        rows, _ = await running.bridge.store.audit_after(0, 10)
        headers = {"X-Api-Key": "", "Authorization": f"Bearer {viewer}"}
        async with running.client.get(url + "/openapi.json", headers=headers) as answer:
            described = await answer.json()

    assert {row.entry.who for row in rows} == {"oidc:anna"}
    assert described["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


async def test_commands_take_a_token_of_a_file_or_the_environment(
    issuer: Issuer, fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28: never as an argument, which every user of the machine sees.
    token = issuer.token("r")
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(token + "\n")
    async with bridge_with_roles(fleet, tmp_path, oidc=settings_of(issuer)) as running:
        to = ("bridge", "sinks", "--api", running.bridge.api_url)
        by_variable = await asyncio.to_thread(freefloat, *to, FREEFLOAT_TOKEN=token)
        by_file = await asyncio.to_thread(freefloat, *to, "--api-key-file", path)
        forged = issuer.token("e", key=STRANGE)
        refused = await asyncio.to_thread(freefloat, *to, FREEFLOAT_TOKEN=forged)

    assert (by_variable.returncode, by_file.returncode) == (0, 0), by_variable.stderr
    require_clear_failure(refused, "FREEFLOAT_TOKEN")
    assert forged not in refused.stderr


def test_what_opens_the_api_is_told_apart_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.touch(mode=0o600)
    path.write_text(f"anna:operator:{'k' * 40}\n")
    held = {"FREEFLOAT_TOKEN": "eyJh.eyJi.c2ln"}

    assert headers_of(path, held) == {"X-Api-Key": "k" * 40}
    assert headers_of(None, held) == {"Authorization": "Bearer eyJh.eyJi.c2ln"}
    assert headers_of(None, {}) == {}
    with pytest.raises(OperatorError) as told:
        headers_of(None, {"FREEFLOAT_TOKEN": "secret"})
    assert "secret" not in str(told.value)


async def test_a_bridge_with_a_provider_and_no_keys_is_not_open(
    issuer: Issuer, fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    settings = local_settings(
        fleet.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    settings = msgspec.structs.replace(
        settings, api=ApiSettings(port=0), oidc=settings_of(issuer)
    )
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        status, _ = await running.get("/v1/sinks")
    assert status == 401

    for changes, about in (
        ({"api": ApiSettings(without_key=True)}, "without_key"),
        (
            {"oidc": OidcSettings("http://id.example", AUDIENCE, {"a": "viewer"})},
            "plain http",
        ),
    ):
        wrong = msgspec.structs.replace(settings, **changes)
        with pytest.raises(SettingsError, match=about):
            check_settings(wrong)
