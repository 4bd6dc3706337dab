"""NATS' authorisation service: who a certificate is, and what that one may do.

Static users cannot confine client ids: any valid car could take the bridge's, throw it
off and erase its queue (embedded-broker.md). nats-server asks this service about every
connection instead (its "auth callout"). It is given the chain that TLS verified, and
admits a client only if its id is the certificate's common name (reliability.md L6, K6).

A vehicle that is withdrawn while it is connected is thrown out: whoever was admitted is
held against the registry again every few seconds (reliability.md K8).

While the service does not answer, new connections are refused after some seconds with
the code of a real refusal, so clients must take a refusal for temporary.
"""

import asyncio
import base64
import binascii
import hashlib
import json
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import nkeys  # type: ignore[import-untyped] # nkeys 0.2 has no annotations
from cryptography import x509
from cryptography.x509.oid import NameOID
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from bridge.broker.access import BrokerAccess, Grant
from bridge.broker.errors import BrokerStartError
from bridge.broker.nats import (
    MESSAGE_STREAM,
    VEHICLE_ACCOUNT,
    NatsServiceIdentity,
    message_stream,
)

_LOG: Final = logging.getLogger(__name__)

_REQUESTS: Final = "$SYS.REQ.USER.AUTH"
_QOS_1_DELIVERIES: Final = "$MQTT.sub.>"
"""Where JetStream delivers to a subscription of QoS 1; NATS refuses it as an MQTT
topic filter (a test sees to that)."""

_CONNECT_TIMEOUT_S: Final = 5

SWEEP_S: Final = 2.0
"""How often those who are connected are held against the registry: 14,000 take 3 ms."""

_KICK_TIMEOUT_S: Final = 5.0
_LARGEST_REQUEST: Final = 256 * 1024
"""Bytes of the largest authorisation request that is parsed; the largest part is the
client's certificate chain."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A client that may connect."""

    name: str
    """Common name of its certificate, which is its client id."""
    grant: Grant
    """Its topics."""
    until: int
    """Unix time at which its certificate ends, and its connection with it."""


@dataclass(frozen=True, slots=True)
class _Session:
    """Where an admitted client is connected."""

    server: str
    """Id of the server."""
    number: int
    """Of the connection at this server."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A client that may not, and why, for the broker's log."""

    reason: str
    """One lower-case sentence without the client's own text."""


def decide(request: dict[str, Any], access: BrokerAccess) -> Admission | Rejection:
    """Judge the ``nats`` claim of one authorisation request."""
    client = request.get("client_info") or {}
    if client.get("type") != "mqtt":
        return Rejection("only MQTT clients are admitted")
    chains = (request.get("client_tls") or {}).get("verified_chains")
    if not chains or not chains[0]:
        return Rejection("no verified client certificate")
    leaf = x509.load_pem_x509_certificate(chains[0][0].encode())
    names = [a.value for a in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if len(names) != 1 or not isinstance(names[0], str):
        return Rejection("the certificate has not exactly one common name")
    name = names[0]
    if request["client_info"].get("mqtt_id") != name:
        return Rejection("the client id is not the certificate's common name")
    grant = access.grant(name)
    if grant is None:
        return Rejection("the certificate's name is not registered")
    return Admission(name, grant, int(leaf.not_valid_after_utc.timestamp()))


def subjects(topic_filters: tuple[str, ...]) -> list[str]:
    """Translate MQTT topic filters into NATS subjects.

    A filter in ``#`` also stands for its parent level (MQTT 3.1.1, 4.7.1.2), for which
    NATS keeps a subject of its own.
    """
    result = []
    for topic_filter in topic_filters:
        subject = topic_filter.replace("/", ".").replace("+", "*")
        if subject.endswith(".#"):
            result += [subject[:-2], subject[:-1] + ">"]
        else:
            result.append(subject)
    return result


def subscriptions(grant: Grant) -> list[str]:
    """Return the subjects that a client may subscribe to."""
    return [*subjects((*grant.subscribe, *grant.wide)), _QOS_1_DELIVERIES]


class KeyPair:
    """An Ed25519 key of NATS, made for one start and never written down."""

    def __init__(self, prefix: int) -> None:
        self._pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))

    @property
    def public(self) -> str:
        """The public key as NATS writes it."""
        return str(self._pair.public_key.decode())

    @property
    def seed(self) -> str:
        """The private key; for nats-py, which signs the server's nonce with it."""
        return str(self._pair.seed.decode())

    def sign(self, data: bytes) -> bytes:
        """Sign."""
        return bytes(self._pair.sign(data))


class AuthorisationService:
    """Answers nats-server's questions on a connection of its own."""

    def __init__(self, access: BrokerAccess, *, clock: Callable[[], datetime]) -> None:
        self._access = access
        self._clock = clock
        self._issuer = KeyPair(nkeys.PREFIX_BYTE_ACCOUNT)
        self._callout = KeyPair(nkeys.PREFIX_BYTE_USER)
        self._steward = KeyPair(nkeys.PREFIX_BYTE_USER)
        self._warden = KeyPair(nkeys.PREFIX_BYTE_USER)
        self._client: NatsClient | None = None
        self._kicker: NatsClient | None = None
        self._sessions: dict[str, _Session] = {}
        self._sweep: asyncio.Task[None] | None = None
        self.closed = asyncio.Event()
        """Set when the connection to the server has ended."""

    @property
    def public_keys(self) -> tuple[str, str, str, str]:
        """Issuer, service, steward and warden, for `NatsServiceIdentity`."""
        return (
            self._issuer.public,
            self._callout.public,
            self._steward.public,
            self._warden.public,
        )

    async def start(self, port: int, service: NatsServiceIdentity) -> None:
        """Bound the message stream, then begin to answer.

        Raises:
            BrokerStartError: the server does not let us in or refuses the stream.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(service.certificate)
        context.load_cert_chain(service.certificate, service.key)
        try:
            await self._bound_stream(port, context)
            self._kicker = await _connect(port, context, self._warden, self._on_closed)
            self._client = await _connect(port, context, self._callout, self._on_closed)
            await self._client.subscribe(_REQUESTS, cb=self._answer)
            await self._client.flush(_CONNECT_TIMEOUT_S)
        except (NatsError, OSError, TimeoutError) as error:
            await self.stop()
            raise BrokerStartError(
                f"the authorisation service cannot reach nats-server ({error})"
            ) from error
        self._sweep = asyncio.create_task(self._keep_out(), name="nats warden")

    async def stop(self) -> None:
        """Close the connections; the server then refuses whoever connects."""
        if self._sweep is not None:
            sweep, self._sweep = self._sweep, None
            sweep.cancel()
            await asyncio.wait([sweep])
        clients = [c for c in (self._client, self._kicker) if c is not None]
        self._client = self._kicker = None
        for client in clients:
            await client.close()

    async def expel_withdrawn(self) -> list[str]:
        """End the connections of who is not admitted any more; return their names.

        One that could not be ended stays noted and is tried again.
        """
        expelled = []
        for name, session in list(self._sessions.items()):
            if self._access.grant(name) is not None:
                continue
            if await self._kick(name, session):
                expelled.append(name)
                # It may have connected anew meanwhile, and been refused.
                if self._sessions.get(name) == session:
                    del self._sessions[name]
        return expelled

    async def _keep_out(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            await self.expel_withdrawn()

    async def _kick(self, name: str, session: _Session) -> bool:
        if self._kicker is None:
            return False
        try:
            await self._kicker.request(
                f"$SYS.REQ.SERVER.{session.server}.KICK",
                json.dumps({"cid": session.number}).encode(),
                timeout=_KICK_TIMEOUT_S,
            )
        except (NatsError, TimeoutError) as error:
            _LOG.error(
                "= withdrawn vehicle %s could not be thrown out of the broker (%r); "
                "tried again in %g s",
                name,
                error,
                SWEEP_S,
            )
            return False
        _LOG.warning("= withdrawn vehicle %s was thrown out of the broker", name)
        return True

    async def _on_closed(self) -> None:
        self.closed.set()

    async def _bound_stream(self, port: int, context: ssl.SSLContext) -> None:
        steward = await _connect(port, context, self._steward, None)
        try:
            answer = await steward.request(
                f"$JS.API.STREAM.CREATE.{MESSAGE_STREAM}",
                message_stream(),
                timeout=_CONNECT_TIMEOUT_S,
            )
        finally:
            await steward.close()
        error = json.loads(answer.data).get("error")
        if error:
            raise BrokerStartError(
                "nats-server refuses the bound on its message store: "
                f"{error.get('description')}"
            )

    async def _answer(self, message: Msg) -> None:
        now = int(self._clock().timestamp())
        try:
            request = json.loads(_decode_claims(message.data))["nats"]
            verdict = decide(request, self._access)
            if isinstance(verdict, Admission):
                self._sessions[verdict.name] = _Session(
                    request["server_id"]["id"], request["client_info"]["id"]
                )
            response = {
                "type": "authorization_response",
                "version": 2,
                **self._response(request, verdict, now=now),
            }
            claims = {
                "aud": request["server_id"]["id"],
                "sub": request["user_nkey"],
                "nats": response,
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # no answer is a refusal
        await message.respond(self._token(claims, now=now))

    def _response(
        self, request: dict[str, Any], verdict: Admission | Rejection, *, now: int
    ) -> dict[str, str]:
        if isinstance(verdict, Rejection):
            return {"error": verdict.reason}
        user = {
            "aud": VEHICLE_ACCOUNT,
            "sub": request["user_nkey"],
            "name": verdict.name,
            "exp": verdict.until,
            "nats": {
                "type": "user",
                "version": 2,
                "pub": _permission(subjects(verdict.grant.publish)),
                "sub": _permission(subscriptions(verdict.grant)),
                "subs": -1,
                "data": -1,
                "payload": -1,
                "allowed_connection_types": ["MQTT"],
            },
        }
        return {"jwt": self._token(user, now=now).decode()}

    def _token(self, claims: dict[str, Any], *, now: int) -> bytes:
        """Sign claims as a JSON Web Token in NATS' dialect (ed25519-nkey)."""
        body = {**claims, "iss": self._issuer.public, "iat": now}
        digest = hashlib.sha256(json.dumps(body).encode()).digest()
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        header = _encoded({"typ": "JWT", "alg": "ed25519-nkey"})
        signed = header + b"." + _encoded(body)
        signature = base64.urlsafe_b64encode(self._issuer.sign(signed))
        return signed + b"." + signature.rstrip(b"=")


async def _connect(
    port: int,
    context: ssl.SSLContext,
    key: KeyPair,
    closed: Callable[[], Any] | None,
) -> NatsClient:
    client = NatsClient()
    await client.connect(
        f"tls://127.0.0.1:{port}",
        tls=context,
        tls_hostname="127.0.0.1",
        tls_handshake_first=True,
        nkeys_seed_str=key.seed,
        allow_reconnect=False,  # the server is ours: when it is gone, so are we
        connect_timeout=_CONNECT_TIMEOUT_S,
        closed_cb=closed,
        error_cb=_ignore,
        name="freefloat authorisation service",
    )
    _mark_as_tls(client)
    return client


def _mark_as_tls(client: NatsClient) -> None:
    """Tell asyncio's stream that it runs over TLS.

    nats-py 2.16 wraps the transport and leaves the stream's protocol unaware, which
    then logs a warning at every close ("returning true from eof_received()"), in the
    middle of whatever a person is reading. Remove when nats-py opens TLS at once.
    """
    writer = getattr(client._transport, "_io_writer", None)  # noqa: SLF001 - no public way
    if writer is not None:
        writer.transport.get_protocol()._over_ssl = True  # noqa: SLF001 - as asyncio's own StreamWriter.start_tls does


async def _ignore(error: Exception) -> None:
    """Leave it to `closed`; nats-py would print a traceback."""


def _permission(allowed: list[str]) -> dict[str, list[str]]:
    """Return a permission; in NATS an empty list of allowances allows everything."""
    return {"allow": allowed} if allowed else {"deny": [">"]}


def _encoded(value: dict[str, Any]) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def _decode_claims(token: bytes) -> bytes:
    """Return the claims of a token that only nats-server can have sent here."""
    parts = token.split(b".")
    if len(token) > _LARGEST_REQUEST or len(parts) != 3:  # noqa: PLR2004 - RFC 7519
        raise ValueError("not a JSON Web Token")
    try:
        return base64.urlsafe_b64decode(parts[1] + b"=" * (-len(parts[1]) % 4))
    except binascii.Error as error:
        raise ValueError("not base64") from error
