"""The enrolment service over HTTPS, by the standard library alone.

It is asked once in weeks, in a thread of its own, so what counts is that nothing is
added to a car for it. Paths and bodies: docs/operations.md, section on the service.
"""

import base64
import binascii
import contextlib
import http.client
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from gateway.ports import TrustedTime
from gateway.uplink.enrolment import EnrolmentError, Issued
from protocol.enrolment import GRACE_NONCE_SIZE
from protocol.identity import VehicleId
from transport.tls import TlsIdentity, explain_tls_error, floored_client_context

TIMEOUT_S: Final = 20.0
"""For each step of the exchange; a poor link needs a few seconds for 4 KiB."""

BODY_LIMIT: Final = 64 * 1024
"""Bytes of an answer; the largest, eight roots, takes about 16,000."""

FORMAT: Final = 1
"""Revision of the bodies."""

_SERVER: Final = "enrolment service"
_Members = dict[str, str | list[str]]
_SHOWN: Final = 200
"""Characters of a service's own sentence in a message of ours."""
_RETRY_LIMIT_S: Final = 24 * 3600
_FOR_GOOD: Final = (400, 403, 404, 405)


class _Body(msgspec.Struct, frozen=True):
    format: int


class _IssuedBody(_Body, frozen=True):
    certificate: str
    chain: list[str]
    anchors: list[str] = []
    links: list[str] = []


class _NonceBody(_Body, frozen=True):
    nonce: str


class _RecertifiedBody(_Body, frozen=True):
    signing_certificate: str


class _ProblemBody(_Body, frozen=True):
    error: str
    detail: str = ""
    advice: str = ""


B = TypeVar("B", _IssuedBody, _NonceBody, _RecertifiedBody, _ProblemBody)


class HttpsEnrolment:
    """Implements `gateway.uplink.enrolment.Enrolment`.

    Args:
        host: the service, by a name that its certificate has.
        port: its port.
        time: by whose floor its certificate is judged.
    """

    def __init__(self, host: str, port: int, *, time: TrustedTime) -> None:
        self._host = host
        self._port = port
        self._time = time
        self._handle: socket.socket | None = None
        self._is_aborted = False

    def abort(self) -> None:
        """Break a call that is under way in another thread, and refuse further ones."""
        self._is_aborted = True
        handle = self._handle
        if handle is not None:
            with contextlib.suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)

    def reenroll(self, tls: TlsIdentity, request: bytes) -> Issued:
        """Ask over mutual TLS."""
        body: _Members = {"tls_request": _text(request)}
        return _issued(self._post(tls, "/v1/reenroll", body, _IssuedBody))

    def recertify(
        self, tls: TlsIdentity, vehicle_id: VehicleId, rotations: Sequence[bytes]
    ) -> bytes:
        """Show our rotations without showing a certificate."""
        body: _Members = {
            "vehicle_id": str(vehicle_id),
            "rotations": [_text(one) for one in rotations],
        }
        answer = self._post(
            tls, "/v1/recertify", body, _RecertifiedBody, with_certificate=False
        )
        return _bytes(answer.signing_certificate)

    def grace_nonce(self, tls: TlsIdentity, vehicle_id: VehicleId) -> bytes:
        """Ask for a nonce without showing a certificate."""
        answer = self._post(
            tls,
            "/v1/grace/nonce",
            {"vehicle_id": str(vehicle_id)},
            _NonceBody,
            with_certificate=False,
        )
        nonce = _bytes(answer.nonce)
        if len(nonce) != GRACE_NONCE_SIZE:
            raise _bad(f"a nonce of {len(nonce)} bytes, not {GRACE_NONCE_SIZE}")
        return nonce

    def grace(
        self,
        tls: TlsIdentity,
        vehicle_id: VehicleId,
        request: bytes,
        *,
        nonce: bytes,
        signature: bytes,
    ) -> Issued:
        """Ask by a signature, without showing a certificate."""
        body: _Members = {
            "vehicle_id": str(vehicle_id),
            "tls_request": _text(request),
            "nonce": _text(nonce),
            "signature": _text(signature),
        }
        return _issued(
            self._post(tls, "/v1/grace", body, _IssuedBody, with_certificate=False)
        )

    def _post(
        self,
        tls: TlsIdentity,
        path: str,
        body: _Members,
        kind: type[B],
        *,
        with_certificate: bool = True,
    ) -> B:
        context = floored_client_context(
            tls, floor=self._floor, with_certificate=with_certificate
        )
        connection = http.client.HTTPConnection(self._host, self._port)
        where = f"{self._host}:{self._port}"
        try:
            connection.sock = self._connect(context)
            connection.request(
                "POST",
                path,
                body=msgspec.json.encode({"format": FORMAT, **body}),
                headers={"Content-Type": "application/json", "Connection": "close"},
            )
            response = connection.getresponse()
            data = response.read(BODY_LIMIT + 1)
        except ssl.SSLError as error:
            sentence = explain_tls_error(error, host=self._host, server=_SERVER)
            raise EnrolmentError(sentence, code="tls") from error
        except (ConnectionResetError, BrokenPipeError) as error:
            # RemoteDisconnected is one of them: in TLS 1.3 a server refuses our
            # certificate after its own handshake, and its alert may be lost.
            raise EnrolmentError(
                f"the enrolment service at {where} closed the connection: usually it "
                "does not accept our certificate; its log says why",
                code="tls",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise EnrolmentError(
                f"the enrolment service at {where} cannot be reached ({error}): check "
                "enrolment.host and enrolment.port in the settings, and the network",
                code="unreachable",
            ) from error
        finally:
            connection.close()
            if self._handle is not None:
                self._handle.close()
                self._handle = None
        if len(data) > BODY_LIMIT:
            raise _bad(f"it has more than {BODY_LIMIT} bytes")
        if response.status != http.HTTPStatus.OK:
            raise _refusal(response.status, response.getheader("Retry-After"), data)
        return _decode(data, kind)

    def _connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        if self._is_aborted:
            raise EnrolmentError("the gateway is ending", code="aborted")
        plain = socket.create_connection((self._host, self._port), TIMEOUT_S)
        # TLS takes the socket over; this second handle lets `abort` end its handshake.
        self._handle = plain.dup()
        return context.wrap_socket(plain, server_hostname=self._host)

    def _floor(self) -> datetime:
        return datetime.fromtimestamp(self._time.trusted_floor_ms() / 1000, UTC)


def _issued(body: _IssuedBody) -> Issued:
    return Issued(
        certificate=_bytes(body.certificate),
        chain=tuple(map(_bytes, body.chain)),
        anchors=tuple(map(_bytes, body.anchors)),
        links=tuple(map(_bytes, body.links)),
    )


def _refusal(status: int, retry_after: str | None, data: bytes) -> EnrolmentError:
    try:
        problem = _decode(data, _ProblemBody)
    except EnrolmentError:
        problem = _ProblemBody(FORMAT, error=f"status {status}")
    wait_s = int(retry_after) if retry_after and retry_after.isdecimal() else 0
    said = "; ".join(part for part in (problem.detail, problem.advice) if part)
    return EnrolmentError(
        f"the enrolment service refuses ({status} {problem.error[:40]}): "
        f"{said[:_SHOWN] or 'it does not say why; look at its log'}",
        code=problem.error,
        retryable=status not in _FOR_GOOD,
        retry_after_s=min(wait_s, _RETRY_LIMIT_S),
    )


def _decode(data: bytes, kind: type[B]) -> B:
    try:
        body = msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise _bad(str(error)[:_SHOWN]) from None
    if body.format != FORMAT:
        raise _bad(f"its format is {body.format}, this program knows {FORMAT}")
    return body


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _bad("a value is not base64") from None


def _bad(detail: str) -> EnrolmentError:
    return EnrolmentError(
        f"the enrolment service's answer cannot be used ({detail}): check that "
        "enrolment.host and enrolment.port name a `freefloat certs serve` of this "
        "version",
        code="bad_answer",
    )
