"""The enrolment service's HTTP paths: JSON in, the desk's decision out.

EST (RFC 7030) in what it does: cacerts, enroll, reenroll; JSON instead of CMS, because
a car has no CMS library, and with a path for cars whose certificate has ended. Bodies
are bounded, declared and decoded before anything is decided. Members that are not
declared are ignored, so that a newer car can speak to an older service.
"""

import asyncio
import base64
import binascii
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from certs.challenge import NONCE_LIFETIME
from certs.desk import Anchors, Answer, Asker, EnrolmentDesk
from certs.enrolment import Claim
from certs.errors import BusyError, FleetError
from certs.refusal import Reason, RefusedError
from keystore.errors import KeystoreError
from protocol.enrolment import GRACE_NONCE_SIZE, ROTATIONS_LIMIT
from protocol.errors import DecodeError
from protocol.identity import VehicleId
from protocol.keys import SIGNATURE_SIZE

LOG: Final = logging.getLogger(__name__)

FORMAT: Final = 1
"""Revision of every body."""

BODY_LIMIT: Final = 65_536
"""Bytes of a request's body."""

BODY_WAIT_S: Final = 10.0
"""How long a body may take to arrive."""

CLIENT_CERTIFICATE: Final = "freefloat.client_certificate"
"""Where the connection's verified client certificate (DER) stands in an ASGI scope."""

STATUS: Final = {
    Reason.MALFORMED: 400,
    Reason.KEY_REUSED: 400,
    Reason.REQUEST_REFUSED: 400,
    Reason.CERTIFICATE_REQUIRED: 401,
    Reason.NONCE_INVALID: 401,
    Reason.NOT_PROVED: 401,
    Reason.CLAIM_INVALID: 401,
    Reason.REVOKED: 403,
    Reason.NOT_REGISTERED: 403,
    Reason.GRACE_OVER: 403,
    Reason.UNKNOWN_PATH: 404,
    Reason.METHOD: 405,
    Reason.REGISTERED_ALREADY: 409,
    Reason.TOO_LARGE: 413,
    Reason.TOO_OFTEN: 429,
    Reason.INTERNAL: 500,
    Reason.UNAVAILABLE: 503,
}
"""HTTP status of each word."""

Base64 = Annotated[str, msgspec.Meta(max_length=16_384)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
One = Annotated[int, msgspec.Meta(ge=FORMAT, le=FORMAT)]


class _Enroll(msgspec.Struct, frozen=True):
    format: One
    claim: Word
    vehicle_id: Word
    tls_request: Base64
    signing_key: Base64
    sealing_key: Base64
    proof: Base64
    serial: Annotated[str, msgspec.Meta(max_length=64)] = ""


class _Reenroll(msgspec.Struct, frozen=True):
    format: One
    tls_request: Base64


class _Recertify(msgspec.Struct, frozen=True):
    format: One
    vehicle_id: Word
    rotations: Annotated[
        list[Base64], msgspec.Meta(min_length=1, max_length=ROTATIONS_LIMIT)
    ]


class _Nonce(msgspec.Struct, frozen=True):
    format: One
    vehicle_id: Word


class _Grace(msgspec.Struct, frozen=True):
    format: One
    vehicle_id: Word
    tls_request: Base64
    nonce: Base64
    signature: Base64


B = TypeVar("B", _Enroll, _Reenroll, _Recertify, _Nonce, _Grace)


def enrolment_application(
    desk: EnrolmentDesk, *, clock: Callable[[], datetime]
) -> FastAPI:
    """Return the service as an ASGI application.

    Args:
        desk: decides.
        clock: the time with a time zone; asked once a request.
    """
    app = FastAPI(
        title="freefloat enrolment", docs_url=None, redoc_url=None, openapi_url=None
    )
    counter = _Counter(desk, clock)

    @app.get("/v1/cacerts")
    async def cacerts() -> Response:
        return await _guarded(lambda: asyncio.to_thread(counter.cacerts))

    @app.post("/v1/enroll")
    async def enroll(request: Request) -> Response:
        return await _decided(request, _Enroll, counter.enroll)

    @app.post("/v1/reenroll")
    async def reenroll(request: Request) -> Response:
        return await _decided(request, _Reenroll, counter.reenroll)

    @app.post("/v1/recertify")
    async def recertify(request: Request) -> Response:
        return await _decided(request, _Recertify, counter.recertify)

    @app.post("/v1/grace/nonce")
    async def grace_nonce(request: Request) -> Response:
        return await _decided(request, _Nonce, counter.nonce)

    @app.post("/v1/grace")
    async def grace(request: Request) -> Response:
        return await _decided(request, _Grace, counter.grace)

    app.add_exception_handler(HTTPException, _no_such_path)
    return app


@dataclass(frozen=True, slots=True)
class _Counter:
    """Turns bodies into the desk's values, and its answers into documents."""

    desk: EnrolmentDesk
    clock: Callable[[], datetime]

    def cacerts(self) -> dict[str, object]:
        return _around(self.desk.anchors())

    def enroll(self, body: _Enroll, asker: Asker) -> dict[str, object]:
        claim = Claim(
            _vehicle_id(body.vehicle_id),
            _request(body.tls_request)[0],
            _bytes(body.signing_key, "signing_key"),
            _bytes(body.sealing_key, "sealing_key", 32),
            _bytes(body.proof, "proof", SIGNATURE_SIZE),
        )
        return _issued(
            self.desk.enroll(
                body.claim, claim, serial=body.serial, asker=asker, now=self.clock()
            )
        )

    def reenroll(self, body: _Reenroll, asker: Asker) -> dict[str, object]:
        request = _request(body.tls_request)[0]
        return _issued(self.desk.reenroll(request, asker=asker, now=self.clock()))

    def recertify(self, body: _Recertify, asker: Asker) -> dict[str, object]:
        done = self.desk.recertify(
            _vehicle_id(body.vehicle_id),
            [_bytes(text, "rotations") for text in body.rotations],
            asker=asker,
            now=self.clock(),
        )
        return {
            "format": FORMAT,
            "signing_certificate": _der([done.certificate])[0],
        }

    def nonce(self, body: _Nonce, _asker: Asker) -> dict[str, object]:
        vehicle_id = _vehicle_id(body.vehicle_id)
        nonce = self.desk.give_nonce(vehicle_id, now=self.clock())
        return {
            "format": FORMAT,
            "nonce": base64.b64encode(nonce).decode(),
            "valid_s": int(NONCE_LIFETIME.total_seconds()),
        }

    def grace(self, body: _Grace, asker: Asker) -> dict[str, object]:
        request, der = _request(body.tls_request)
        answer = self.desk.grace(
            _vehicle_id(body.vehicle_id),
            request,
            request_der=der,
            nonce=_bytes(body.nonce, "nonce", GRACE_NONCE_SIZE),
            signature=_bytes(body.signature, "signature", SIGNATURE_SIZE),
            asker=asker,
            now=self.clock(),
        )
        return _issued(answer)


async def _no_such_path(_request: Request, error: Exception) -> Response:
    is_method = isinstance(error, HTTPException) and error.status_code == 405  # noqa: PLR2004 - method not allowed
    return _refused(
        RefusedError(
            Reason.METHOD if is_method else Reason.UNKNOWN_PATH,
            "there is no such path or method here",
            "the paths below /v1 are cacerts, enroll, reenroll, recertify, "
            "grace/nonce and grace",
        )
    )


async def _decided(
    request: Request, kind: type[B], decide: Callable[[B, Asker], dict[str, object]]
) -> Response:
    async def work() -> dict[str, object]:
        body = _decode(await _read(request), kind)
        return await asyncio.to_thread(decide, body, _asker(request))

    return await _guarded(work)


async def _guarded(work: Callable[[], Awaitable[dict[str, object]]]) -> Response:
    """Turn a decision or a failure into an answer; a defect tells nothing outside."""
    try:
        return _json(200, await work())
    except RefusedError as error:
        return _refused(error)
    except BusyError as error:
        return _refused(
            RefusedError(Reason.UNAVAILABLE, str(error), "ask again", retry_after_s=5)
        )
    except (FleetError, KeystoreError, OSError) as error:
        LOG.warning("= the fleet directory does not serve: %s", error)
        return _refused(
            RefusedError(
                Reason.UNAVAILABLE,
                "the authority cannot read or write its files",
                "its operator must look; ask again later",
                retry_after_s=300,
            )
        )
    except ClientDisconnect:
        return _refused(RefusedError(Reason.MALFORMED, "the body ended too early"))
    except Exception:
        LOG.exception("= a defect of the enrolment service")
        return _refused(
            RefusedError(
                Reason.INTERNAL,
                "the authority failed",
                "its operator must report its log",
                retry_after_s=300,
            )
        )


async def _read(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if not length.isascii() or not length.isdigit():
        raise RefusedError(
            Reason.MALFORMED, "the request has no Content-Length", "send one"
        )
    if len(length) > len(str(BODY_LIMIT)) or int(length) > BODY_LIMIT:
        raise RefusedError(
            Reason.TOO_LARGE, f"a body has at most {BODY_LIMIT} bytes", "send less"
        )
    try:
        return await asyncio.wait_for(request.body(), BODY_WAIT_S)
    except TimeoutError:
        raise RefusedError(
            Reason.MALFORMED, f"the body did not arrive within {BODY_WAIT_S:.0f} s"
        ) from None


def _decode(data: bytes, kind: type[B]) -> B:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(
            Reason.MALFORMED,
            f"the body is not understood: {error}",
            "docs/operations.md, section 10, says what a body holds",
        ) from None


def _asker(request: Request) -> Asker:
    der = request.scope.get(CLIENT_CERTIFICATE)
    certificate = None if der is None else x509.load_der_x509_certificate(der)
    return Asker("" if request.client is None else request.client.host, certificate)


def _vehicle_id(text: str) -> VehicleId:
    try:
        return VehicleId.from_text(text)
    except DecodeError as error:
        raise RefusedError(
            Reason.MALFORMED,
            error.detail,
            "a vehicle's name is the canonical base32 of its 16 bytes",
        ) from None


def _request(text: str) -> tuple[x509.CertificateSigningRequest, bytes]:
    der = _bytes(text, "tls_request")
    try:
        return x509.load_der_x509_csr(der), der
    except ValueError:
        raise RefusedError(
            Reason.MALFORMED, "tls_request is no PKCS#10 request in DER"
        ) from None


def _bytes(text: str, name: str, *sizes: int) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise RefusedError(Reason.MALFORMED, f"{name} is not base64") from None
    if sizes and len(data) not in sizes:
        wanted = " or ".join(map(str, sizes))
        raise RefusedError(
            Reason.MALFORMED, f"{name} has {len(data)} bytes, not {wanted}"
        )
    return data


def _der(certificates: Iterable[x509.Certificate]) -> list[str]:
    return [
        base64.b64encode(one.public_bytes(Encoding.DER)).decode()
        for one in certificates
    ]


def _around(anchors: Anchors) -> dict[str, object]:
    return {
        "format": FORMAT,
        "chain": _der(anchors.chain),
        "anchors": _der(anchors.anchors),
        "links": _der(anchors.links),
    }


def _issued(answer: Answer) -> dict[str, object]:
    document = _around(answer.around) | {"certificate": _der([answer.certificate])[0]}
    for name, data in (
        ("record", answer.record),
        ("trust_roots", answer.trust_roots),
        ("trust_bundle", answer.trust_bundle),
    ):
        if data:
            document[name] = base64.b64encode(data).decode()
    return document


def _refused(error: RefusedError) -> Response:
    headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
    return _json(
        STATUS[error.reason],
        {
            "format": FORMAT,
            "error": error.reason.value,
            "detail": str(error),
            "advice": error.advice,
        },
        headers,
    )


def _json(
    status: int, document: dict[str, Any], headers: dict[str, str] | None = None
) -> Response:
    return Response(
        msgspec.json.encode(document),
        status,
        {"Connection": "close", **(headers or {})},
        "application/json",
    )
